"""Manifests by shape, and as the text that their signature saw.

The controller signs what Python prints: `1.0` and `1` differ, and a time is `datetime.isoformat()`. So the body is
written by the same `json.dumps`, and the service verifies the text as it came.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Mapping, Optional, Protocol

from .errors import InvalidManifest


class ResourcesShape(Protocol):
    """The package's `ResourceSpec`. A `network_policy` with `allow_controller` and `allow_external` may be missing."""

    @property
    def cpu_limit(self) -> float: ...

    @property
    def memory_limit_mb(self) -> int: ...


class ManifestShape(Protocol):
    """The package's `Manifest`, or anything like it."""

    @property
    def worker_id(self) -> str: ...

    @property
    def parent_id(self) -> Optional[str]: ...

    @property
    def depth(self) -> int: ...

    @property
    def state_snapshot(self) -> Mapping[str, Any]: ...

    @property
    def issued_at(self) -> datetime: ...

    @property
    def resources(self) -> ResourcesShape: ...

    @property
    def signature(self) -> str: ...


@dataclass(frozen=True)
class NetworkPolicy:
    """What a worker may reach."""

    allow_controller: bool = True
    allow_external: bool = False


@dataclass(frozen=True)
class ResourceSpec:
    """Limits of a worker: cores, MiB, network."""

    cpu_limit: float
    memory_limit_mb: int
    network_policy: NetworkPolicy = NetworkPolicy()


@dataclass(frozen=True)
class Manifest:
    """A manifest of this package's own, for callers without the replication package and for what `refresh` finds."""

    worker_id: str
    parent_id: Optional[str]
    depth: int
    state_snapshot: Mapping[str, Any]
    issued_at: datetime
    resources: ResourceSpec
    signature: str


def manifest_body(manifest: ManifestShape) -> bytes:
    """The request body of a launch, every number and time as the signature saw it.

    Raises InvalidManifest where JSON cannot hold a value, or `issued_at` has no offset.
    """
    document = {
        "worker_id": manifest.worker_id,
        "parent_id": manifest.parent_id,
        "depth": manifest.depth,
        "state_snapshot": manifest.state_snapshot,
        "issued_at": _issued_at(manifest),
        "resources": _resources(manifest.resources),
        "signature": manifest.signature,
    }
    try:
        return json.dumps(document, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"manifest of {manifest.worker_id}: JSON cannot hold it: {error}") from error


def allows_external(resources: ResourcesShape) -> bool:
    """Whether the worker may reach the world outside; not, where nothing is said."""
    policy = getattr(resources, "network_policy", None)
    return bool(getattr(policy, "allow_external", False))


def _issued_at(manifest: ManifestShape) -> str:
    issued_at: object = manifest.issued_at
    if not isinstance(issued_at, datetime):
        raise InvalidManifest(f"manifest of {manifest.worker_id}: issued_at must be a datetime, not {issued_at!r}")
    if issued_at.utcoffset() is None:
        raise InvalidManifest(
            f"manifest of {manifest.worker_id}: issued_at {issued_at.isoformat()} has no offset, so it names no moment:"
            " issue it with datetime.now(timezone.utc)"
        )
    return issued_at.isoformat()


def _resources(resources: ResourcesShape) -> Dict[str, Any]:
    limits: Dict[str, Any] = {"cpu_limit": resources.cpu_limit, "memory_limit_mb": resources.memory_limit_mb}
    policy = getattr(resources, "network_policy", None)
    if policy is not None:
        names = ("allow_controller", "allow_external")
        limits["network_policy"] = {name: getattr(policy, name) for name in names if hasattr(policy, name)}
    return limits
