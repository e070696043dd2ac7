"""The replication package's dataclasses and logger as it writes them; the client must take them by shape."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Tuple


@dataclass
class NetworkPolicy:
    allow_controller: bool = True
    allow_external: bool = False


@dataclass
class ResourceSpec:
    cpu_limit: float
    memory_limit_mb: int
    network_policy: NetworkPolicy = field(default_factory=NetworkPolicy)


@dataclass
class BareResourceSpec:
    """Without a network policy."""

    cpu_limit: float
    memory_limit_mb: int


@dataclass
class Manifest:
    worker_id: str
    parent_id: Optional[str]
    depth: int
    state_snapshot: Dict[str, Any]
    issued_at: datetime
    resources: Any
    signature: str


_numbers = itertools.count(1)


def new_manifest(parent: Optional[Manifest] = None, **changes: Any) -> Manifest:
    """A manifest of a worker id that no other test uses."""
    values: Dict[str, Any] = {
        "worker_id": f"w{next(_numbers)}",
        "parent_id": parent.worker_id if parent is not None else None,
        "depth": parent.depth + 1 if parent is not None else 0,
        "state_snapshot": {"goal": "count"},
        "issued_at": datetime.now(timezone.utc),
        "resources": ResourceSpec(cpu_limit=1.0, memory_limit_mb=512),
        "signature": "signed",
    }
    return Manifest(**{**values, **changes})


class StructuredLogger:
    """Keeps what it is told, with the package's signatures."""

    def __init__(self) -> None:
        self.events: List[Tuple[str, Dict[str, Any]]] = []
        self.metrics: List[Tuple[str, float, Dict[str, Any]]] = []
        self._lock = threading.Lock()

    def log(self, event: str, **fields: Any) -> None:
        with self._lock:
            self.events.append((event, fields))

    def emit_metric(self, name: str, value: float, **labels: Any) -> None:
        with self._lock:
            self.metrics.append((name, value, labels))

    def named(self, event: str) -> List[Dict[str, Any]]:
        with self._lock:
            return [fields for name, fields in self.events if name == event]


class BrokenLogger:
    def log(self, event: str, **fields: Any) -> None:
        raise RuntimeError("the disk is full")

    def emit_metric(self, name: str, value: float, **labels: Any) -> None:
        raise RuntimeError("the disk is full")
