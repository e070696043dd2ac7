"""A manifest is sent as the text that its signature saw."""

from __future__ import annotations

import hashlib
import hmac
import json
import unittest
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List

import source_path  # noqa: F401
from shapes import BareResourceSpec, Manifest, NetworkPolicy, ResourceSpec, new_manifest

from sandbox_orchestrator_client import InvalidManifest, manifest_body

#: What the controller signed: name, secret, signature and the raw body, a case a line.
VECTORS = Path(__file__).with_name("signed_manifests.jsonl")


class NumberText(str):
    """A number as the body spells it."""


def dataclasses_of(body: str) -> Manifest:
    """The controller's objects from which the body was written."""
    document: Dict[str, Any] = json.loads(body)
    limits = document["resources"]
    policy = limits.get("network_policy")
    resources: Any
    if policy is None:
        resources = BareResourceSpec(limits["cpu_limit"], limits["memory_limit_mb"])
    else:
        resources = ResourceSpec(limits["cpu_limit"], limits["memory_limit_mb"], NetworkPolicy(**policy))
    issued_at = datetime.fromisoformat(document["issued_at"])
    return Manifest(**{**document, "issued_at": issued_at, "resources": resources})


def signed_text(body: bytes) -> str:
    """The signing string, from the text of a body alone: its numbers and times as they are spelt there."""
    document = json.loads(body)
    spelt = json.loads(body, parse_int=NumberText, parse_float=NumberText)
    limits, policy = spelt["resources"], spelt["resources"].get("network_policy", {})
    state = json.dumps(document["state_snapshot"], sort_keys=True, separators=(",", ":"))
    values = [
        spelt["worker_id"],
        spelt["parent_id"],
        spelt["depth"],
        spelt["issued_at"],
        state,
        limits["cpu_limit"],
        limits["memory_limit_mb"],
        policy.get("allow_controller", True),
        policy.get("allow_external", False),
    ]
    return ":".join(str(value) for value in values)


def signature_of(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Vectors(unittest.TestCase):
    def test_each_vector_is_written_as_it_was_signed(self) -> None:
        vectors: List[Dict[str, str]] = [json.loads(line) for line in VECTORS.read_text("utf-8").splitlines()]
        self.assertGreater(len(vectors), 10)
        for vector in vectors:
            with self.subTest(vector["name"]):
                body = manifest_body(dataclasses_of(vector["body"]))
                self.assertEqual(signature_of(vector["secret"], signed_text(body)), vector["signature"])
                self.assertEqual(body.decode(), vector["body"])


class Texts(unittest.TestCase):
    def test_numbers_are_spelt_as_python_prints_them(self) -> None:
        for number, text in ((1.0, "1.0"), (2, "2"), (0.1, "0.1"), (1e-05, "1e-05"), (1e16, "1e+16")):
            body = manifest_body(new_manifest(resources=ResourceSpec(number, 512)))
            self.assertIn(f'"cpu_limit": {text},'.encode(), body)
            self.assertEqual(f"{number}", text)

    def test_a_time_is_its_isoformat(self) -> None:
        offset = timezone(timedelta(hours=5, minutes=30))
        for time in (
            datetime(2026, 1, 6, 9, 30, tzinfo=timezone.utc),
            datetime(2026, 1, 6, 9, 30, 0, 120000, tzinfo=offset),
        ):
            self.assertIn(f'"issued_at": "{time.isoformat()}"'.encode(), manifest_body(new_manifest(issued_at=time)))

    def test_what_is_missing_is_not_sent(self) -> None:
        body = json.loads(manifest_body(new_manifest(resources=BareResourceSpec(0.5, 64))))
        self.assertEqual(body["resources"], {"cpu_limit": 0.5, "memory_limit_mb": 64})

    def test_a_naive_time_is_an_error_that_says_what_would_be_right(self) -> None:
        with self.assertRaisesRegex(InvalidManifest, r"has no offset.*datetime\.now\(timezone\.utc\)"):
            manifest_body(new_manifest(issued_at=datetime(2026, 1, 6)))
        with self.assertRaisesRegex(InvalidManifest, "must be a datetime"):
            manifest_body(new_manifest(issued_at="2026-01-06T00:00:00Z"))

    def test_what_json_cannot_hold_is_an_error(self) -> None:
        for state in ({"x": float("nan")}, {"x": {1, 2}}, {"x": datetime.now()}):
            with self.assertRaisesRegex(InvalidManifest, "JSON cannot hold it"):
                manifest_body(new_manifest(state_snapshot=state))
        with self.assertRaises(InvalidManifest):
            manifest_body(new_manifest(resources=ResourceSpec(Decimal("0.5"), 512)))  # type: ignore[arg-type]
        with self.assertRaises(ValueError):
            manifest_body(new_manifest(resources=ResourceSpec(float("inf"), 512)))


if __name__ == "__main__":
    unittest.main()
