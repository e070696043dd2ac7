"""Telling the caller's logger, as the in-process class would."""

from __future__ import annotations

import logging
from typing import Any, Callable, Mapping, Optional, Protocol

_LOG = logging.getLogger("sandbox_orchestrator_client")


class LoggerShape(Protocol):
    """The package's `StructuredLogger`, or anything like it. It is called from the background threads too.

    Called as `log("container_killed", worker_id=…, reason=…)` and `emit_metric("resource_enforced", value=1, …)`.
    """

    @property
    def log(self) -> Callable[..., Any]: ...

    @property
    def emit_metric(self) -> Callable[..., Any]: ...


class StandardLogger:
    """Where no logger is given: lines of Python's `logging`, under `sandbox_orchestrator_client`."""

    def log(self, event: str, **fields: Any) -> None:
        level = logging.WARNING if event == "kill_unconfirmed" else logging.INFO
        _LOG.log(level, "%s %s", event, _shown(fields))

    def emit_metric(self, name: str, *, value: float, **labels: Any) -> None:
        _LOG.info("%s=%s %s", name, value, _shown(labels))


class EventLog:
    """Hands events to a logger whose failures are nobody's: what it tells of has happened already."""

    def __init__(self, logger: Optional[LoggerShape]) -> None:
        self._logger: LoggerShape = logger if logger is not None else StandardLogger()

    def log(self, event: str, **fields: Any) -> None:
        try:
            self._logger.log(event, **fields)
        except Exception:
            _LOG.exception("the logger failed at %s", event)

    def emit_metric(self, name: str, *, value: float, **labels: Any) -> None:
        try:
            self._logger.emit_metric(name, value=value, **labels)
        except Exception:
            _LOG.exception("the logger failed at the metric %s", name)


def _shown(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
