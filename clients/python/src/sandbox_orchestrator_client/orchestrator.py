"""The stand-in for the in-process SandboxOrchestrator."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, Callable, Dict, Mapping, Optional, Type

from .connection import Endpoint, Request
from .deadline import Patience
from .errors import Closed, refusal_of
from .event_log import EventLog, LoggerShape
from .fleet import Containers, Fleet
from .kill_order import FLEET, KillOrder
from .kills import Kills
from .launches import Launches
from .manifest import ManifestShape, allows_external
from .pursuit import UnconfirmedKill
from .record import ContainerRecord
from .roster import Roster, segment
from .transport import Transport

#: How long a kill is waited for while the service leaves kills without an answer.
_HURRIED_KILL_S = 0.5


class SandboxOrchestrator:
    """Launches, bounds and kills workers through the service, with the methods of the in-process class.

    url: `http://host:port` or `https://…`; a path prefix is kept. token: sent as bearer token.
    logger: the package's StructuredLogger or its like; it is called from background threads too.
    owns_fleet: only this object launches workers at this service. A kill with the reason `kill_switch` may then be sent
    as one kill-all, and so is `kill_all`.
    kill_timeout, launch_timeout, request_timeout: seconds in total that a kill of one worker, a launch, anything else
    may take. The resolution of a host name is not bounded: Python cannot.
    tls: for https, instead of Python's default; a client certificate goes there.
    on_unconfirmed: called with each kill that could not be confirmed, when that is first found, from any thread.

    Attributes: `containers`, a live read-only mapping of the workers that this object launched and that are not known
    to be dead. It costs no request: launches, kills and `refresh` keep it.

    Every method may be called from any thread.
    """

    containers: Mapping[str, ContainerRecord]

    def __init__(
        self,
        url: str,
        token: Optional[str] = None,
        logger: Optional[LoggerShape] = None,
        *,
        owns_fleet: bool = False,
        kill_timeout: float = 5.0,
        launch_timeout: float = 35.0,
        request_timeout: float = 15.0,
        tls: Optional[ssl.SSLContext] = None,
        on_unconfirmed: Optional[Callable[[UnconfirmedKill], None]] = None,
    ) -> None:
        self._events = EventLog(logger)
        self._transport = Transport(Endpoint.of(url, tls), token)
        self._owns_fleet = owns_fleet
        self._request_timeout = request_timeout
        self._closed = False
        self._fleet = Fleet()
        patience = Patience(kill_timeout, _HURRIED_KILL_S)
        self._kills = Kills(self._transport, self._fleet, self._events, patience, owns_fleet, on_unconfirmed)
        self._launches = Launches(self._transport, self._fleet, self._kills, launch_timeout)
        self._roster = Roster(self._transport, self._fleet, self._events, self._kills.pursuit, request_timeout)
        self.containers = Containers(self._fleet)

    def launch_worker(self, manifest: ManifestShape) -> None:
        """Returns when the worker runs inside its limits.

        A launch whose answer was lost is sent again, byte for byte; the service then tells what became of the first.
        One that is not answered within `launch_timeout` is given up and its worker killed.

        Raises, with nothing sent, InvalidManifest, KillPending, Closed, ServiceUnreachable; Refused (KillSwitchEngaged,
        WorkerKilled, WorkerExists, ManifestRefused and others), where the worker does not run; LaunchGivenUp, where
        that is not known and it is being killed.
        """
        if self._closed:
            raise Closed(f"worker {manifest.worker_id} was not launched: this client is closed")
        self._launches.launch(manifest)
        self._events.log(
            "container_launched",
            worker_id=manifest.worker_id,
            parent_id=manifest.parent_id,
            cpu_limit=manifest.resources.cpu_limit,
            memory_limit_mb=manifest.resources.memory_limit_mb,
            allow_external=allows_external(manifest.resources),
        )

    def kill_worker(self, worker_id: str, reason: str, *, cascade: bool = False) -> None:
        """Returns when the worker is dead, or after `kill_timeout` at most. Nothing happens where it is not known.

        Never raises: what could not be confirmed stands in `unconfirmed`, is logged as `kill_unconfirmed`, and is tried
        again in the background until it is. (Ctrl-C passes through, and the kill goes on in the background.)

        After a kill that got no answer in time, those of the next half minute are sent but waited for half a second
        each, until one is answered: a kill switch over many workers must get to its last one.

        cascade: its whole line of descent too.
        """
        if worker_id != FLEET:  # which would stand for all, and is no worker's id
            self._kills.kill(KillOrder(str(worker_id), str(reason), cascade))

    def kill_all(self, reason: str) -> None:
        """Kills every worker of this object, one after the other; where it owns the fleet, every worker of the service
        by one kill-all of `request_timeout` at most. Never raises, as `kill_worker`."""
        self._kills.kill_all(str(reason), self._request_timeout)

    def enforce_resource_bounds(self, worker_id: str) -> bool:
        """Has the service read back what the runtime applies and repair what differs; True where every limit holds now.

        False where the worker is not known, does not run, or its limits could not be held, for which the service kills
        it. Raises Refused (`runtime_unavailable`) and ServiceUnreachable where nobody can say.
        """
        answer = self._roster.ask(Request("POST", f"/workers/{segment(worker_id)}/enforce"))
        if answer.status == 200:
            report = answer.json_object() or {}
            if report.get("enforced") is True:
                self._tell_enforced(worker_id, report)
                return True
        elif (answer.problem or {}).get("code") not in ("worker_not_found", "worker_not_running"):
            raise refusal_of(answer)
        record = self._fleet.get(worker_id)
        if record is not None:
            self._roster.look_up(worker_id, record)
        return False

    def refresh(self) -> None:
        """Asks the service which workers live. Those of `containers` that ended by themselves or by another's kill go,
        logged as the service's events have it; where this object owns the fleet, live ones that it did not know come in
        (after a restart of the controller, say).

        Raises Refused or ServiceUnreachable; what was read until then holds.
        """
        self._roster.refresh(adopt=self._owns_fleet)

    @property
    def unconfirmed(self) -> Dict[str, UnconfirmedKill]:
        """Kills that are not confirmed, by worker id, as of now; under `"*"` a kill of the whole fleet."""
        return self._kills.pursuit.unconfirmed()

    def wait_until_confirmed(self, timeout: Optional[float] = None) -> bool:
        """Waits until no kill is unconfirmed, for `timeout` seconds at most (None: for ever); whether none is."""
        return self._kills.pursuit.wait(timeout)

    def close(self, wait: float = 0.0) -> None:
        """Waits up to `wait` seconds for unconfirmed kills, then tries them no more; they stay listed. No worker is
        touched. Kills still work afterwards, launches do not."""
        self._closed = True
        if wait > 0:
            self.wait_until_confirmed(wait)
        self._kills.pursuit.stop()
        self._transport.close()

    def __enter__(self) -> "SandboxOrchestrator":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _tell_enforced(self, worker_id: str, report: Mapping[str, Any]) -> None:
        """The numbers as the manifest spells them, as the in-process class does; as the service does where unknown."""
        record = self._fleet.get(worker_id)
        given = report.get("limits")
        limits = given if isinstance(given, dict) else {}
        cpu = record.resources.cpu_limit if record is not None else limits.get("cpu_limit")
        memory = record.resources.memory_limit_mb if record is not None else limits.get("memory_limit_mb")
        self._events.emit_metric("resource_enforced", value=1, worker_id=worker_id, cpu=str(cpu), memory=str(memory))
