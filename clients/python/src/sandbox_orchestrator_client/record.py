"""What is known of one worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Mapping, Optional

from .manifest import Manifest, ManifestShape, NetworkPolicy, ResourceSpec, ResourcesShape

#: Statuses of a worker that is dead. Any other, also one that this version does not know, may live.
ENDED = frozenset({"killed", "exited", "failed"})

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


@dataclass
class ContainerRecord:
    """As the in-process class keeps it.

    `status`: `running`, or `killing` where a kill was asked for and is not confirmed. `started_at`: None where it is
    not known yet. `reason`: of the kill that was asked for.
    """

    manifest: ManifestShape
    resources: ResourcesShape
    status: str
    started_at: Optional[datetime]
    reason: Optional[str] = None

    @property
    def worker_id(self) -> str:
        return self.manifest.worker_id


def launched_record(manifest: ManifestShape, wire: Mapping[str, Any]) -> ContainerRecord:
    """The record of a launch, with the caller's own manifest."""
    started_at = parse_time(wire.get("started_at"))
    return ContainerRecord(manifest, manifest.resources, str(wire.get("status")), started_at)


def wire_worker_id(wire: Mapping[str, Any]) -> Optional[str]:
    """Whose record it is; None where it is none."""
    manifest = wire.get("manifest")
    worker_id = manifest.get("worker_id") if isinstance(manifest, dict) else None
    return worker_id if isinstance(worker_id, str) else None


def wire_record(wire: Mapping[str, Any]) -> ContainerRecord:
    """A record as the service tells it. Raises KeyError, TypeError or ValueError where it is none."""
    manifest, limits = wire["manifest"], wire["resources"]
    network = limits["network_policy"]
    resources = ResourceSpec(
        cpu_limit=manifest["resources"]["cpu_limit"],
        memory_limit_mb=manifest["resources"]["memory_limit_mb"],
        network_policy=NetworkPolicy(network["allow_controller"], network["allow_external"]),
    )
    issued_at = parse_time(manifest["issued_at"])
    if issued_at is None:
        raise ValueError(f"issued_at is no time: {manifest['issued_at']!r}")
    return ContainerRecord(
        manifest=Manifest(
            worker_id=manifest["worker_id"],
            parent_id=manifest["parent_id"],
            depth=manifest["depth"],
            state_snapshot=manifest["state_snapshot"],
            issued_at=issued_at,
            resources=resources,
            signature=manifest["signature"],
        ),
        resources=resources,
        status=str(wire["status"]),
        started_at=parse_time(wire["started_at"]),
        reason=wire["reason"],
    )


def parse_time(text: object) -> Optional[datetime]:
    """RFC 3339 as a datetime; None where it is none. Python 3.9 reads neither `Z` nor every fraction by itself."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    seconds, fraction, offset = found.groups()
    try:
        moment = f"{seconds}.{(fraction or '0')[:6].ljust(6, '0')}{'+00:00' if offset == 'Z' else offset}"
        return datetime.fromisoformat(moment)
    except ValueError:
        return None
