"""What the document cannot say, so that what is generated as valid is valid. Invalid requests are left as they are."""

from datetime import timezone
from typing import Any

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format(
    "signed-date-time", st.datetimes(timezones=st.just(timezone.utc)).map(lambda time: time.isoformat())
)


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """`default` is for what later versions answer: a status of today that is not in the document is a finding."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("default", None)


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if case.operation.label == "POST /workers" and isinstance(case.body, dict):
        case.body = as_the_rules_want(case.body)
    if case.operation.label == "GET /workers" and case.query:
        # Which cursors were issued. Following pages is left to the tests of the clients.
        case.query.pop("cursor", None)
    return case


def as_the_rules_want(manifest: dict[str, Any]) -> dict[str, Any]:
    """No worker is its own parent; depth 0 goes with no parent, and only with it; integers are written as digits."""
    orphan = manifest["parent_id"] in (None, manifest["worker_id"])
    return {
        **manifest,
        "parent_id": None if orphan else manifest["parent_id"],
        "depth": 0 if orphan else max(1, int(manifest["depth"])),
        "resources": {
            **manifest["resources"],
            "memory_limit_mb": int(manifest["resources"]["memory_limit_mb"]),
        },
    }
