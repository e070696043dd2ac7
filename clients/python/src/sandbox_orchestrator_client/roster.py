"""Reading the service's own list of workers."""

from __future__ import annotations

from typing import Any, Iterator, Mapping
from urllib.parse import quote

from .answer import Answer
from .connection import Request
from .deadline import Deadline
from .errors import ServiceUnreachable, refusal_of
from .event_log import EventLog
from .fleet import Fleet
from .pursuit import Pursuit
from .record import ENDED, ContainerRecord, wire_record
from .transport import Transport, TransportError

#: The order in which a worker goes through them: read so, none that lives throughout is missed.
_LIVE_STATUSES = ("pending", "running", "killing")
_PAGE = 1000


class Roster:
    """Asks the service, each request for `seconds` at most."""

    def __init__(self, transport: Transport, fleet: Fleet, events: EventLog, pursuit: Pursuit, seconds: float) -> None:
        self._transport = transport
        self._fleet = fleet
        self._events = events
        self._pursuit = pursuit
        self._seconds = seconds

    def ask(self, request: Request) -> Answer:
        """Raises ServiceUnreachable."""
        try:
            return self._transport.send(request, Deadline(self._seconds))
        except TransportError as error:
            raise ServiceUnreachable(str(error)) from error

    def refresh(self, adopt: bool) -> None:
        """Brings the fleet up to date; live workers that it does not know come in where `adopt`."""
        refresh = self._fleet.begin_refresh()
        try:
            listed = set()
            for record in self._live_workers():
                listed.add(record.worker_id)
                self._fleet.take_in(refresh, record, adopt)
            for worker_id, record in refresh.before.items():
                if worker_id not in listed:
                    self.look_up(worker_id, record)
        finally:
            self._fleet.end_refresh(refresh)

    def look_up(self, worker_id: str, record: ContainerRecord) -> None:
        """Takes the worker out where it has ended, with the event that the service had for that."""
        answer = self.ask(Request("GET", f"/workers/{segment(worker_id)}"))
        if answer.status == 404 and (answer.problem or {}).get("code") == "worker_not_found":
            wire: Mapping[str, Any] = {"status": "exited", "cause": "lost", "exit_code": None}
        else:
            wire = _object_of(answer)
        if wire.get("status") not in ENDED:
            return
        self._pursuit.confirm(worker_id)
        if not self._fleet.bury(worker_id, record):
            return
        if wire.get("status") == "killed":
            self._events.log("container_killed", worker_id=worker_id, reason=wire.get("reason"))
        else:
            fields = {"exit_code": wire.get("exit_code"), "cause": wire.get("cause")}
            self._events.log("container_exited", worker_id=worker_id, **fields)

    def _live_workers(self) -> Iterator[ContainerRecord]:
        for status in _LIVE_STATUSES:
            for wire in self._items(f"/workers?status={status}&limit={_PAGE}"):
                try:
                    yield wire_record(wire)
                except (KeyError, TypeError, ValueError) as error:
                    raise ServiceUnreachable(f"a listed worker cannot be read: {error!r}") from error

    def _items(self, first: str) -> Iterator[Mapping[str, Any]]:
        target = first
        while True:
            page = _object_of(self.ask(Request("GET", target)))
            items = page.get("items")
            yield from items if isinstance(items, list) else []
            cursor = page.get("next_cursor")
            if not isinstance(cursor, str):
                return
            target = f"{first}&cursor={segment(cursor)}"


def segment(text: str) -> str:
    """One segment of a path, or one value of a query."""
    return quote(text, safe="", errors="surrogatepass")


def _object_of(answer: Answer) -> Mapping[str, Any]:
    if answer.status != 200:
        raise refusal_of(answer)
    value = answer.json_object()
    if value is None:
        raise ServiceUnreachable(f"an answer that is not the service's: {answer.text(100)}")
    return value
