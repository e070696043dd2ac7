"""Kills: bounded, never raising, and never forgotten before they are confirmed."""

from __future__ import annotations

import sys
from typing import Callable, Dict, Mapping, Optional

from .deadline import Deadline, Patience
from .event_log import EventLog
from .fleet import Fleet
from .kill_order import FLEET, KillOrder, Verdict, no_verdict, verdict_of
from .pursuit import Pursuit, UnconfirmedKill
from .record import ContainerRecord
from .transport import Transport, TransportError

#: The reason with which the controller's kill switch kills each worker.
KILL_SWITCH = "kill_switch"
#: How long an attempt in the background may take: longer than the service takes to call a kill unconfirmed.
_PURSUIT_S = 15.0


class Kills:
    """Carries out kill orders. No method raises, but for what ends the program (Ctrl-C)."""

    def __init__(
        self,
        transport: Transport,
        fleet: Fleet,
        events: EventLog,
        patience: Patience,
        owns_fleet: bool,
        on_unconfirmed: Optional[Callable[[UnconfirmedKill], None]],
    ) -> None:
        self._transport = transport
        self._fleet = fleet
        self._events = events
        self._patience = patience
        self._owns_fleet = owns_fleet
        self._on_unconfirmed = on_unconfirmed
        self.pursuit = Pursuit(self._pursue)

    def kill(self, order: KillOrder) -> None:
        """Kills one worker, or one and its descendants."""
        if sys.is_finalizing():
            self._kill_at_the_end(order)
            return
        self._guarded(order, lambda: self._kill(order))

    def kill_all(self, reason: str, seconds: float) -> None:
        """By one kill-all of `seconds` at most where the fleet is owned; else, or where that is refused, one by one."""
        if self._owns_fleet:
            order = KillOrder(FLEET, reason)
            if sys.is_finalizing():
                self._kill_at_the_end(order)
                return
            confirmed = self._guarded(order, lambda: self._attempt(order, Deadline(seconds)))
            if confirmed or FLEET in self.pursuit.unconfirmed():
                return
        for worker_id in self._fleet.ids_and_launches():
            self.kill(KillOrder(worker_id, reason))

    def leave_unconfirmed(self, order: KillOrder, why: str) -> None:
        """Keeps the order, tries it in the background, and tells of it once."""
        told = self.pursuit.add(order, why)
        if told is None:
            return
        self._events.log("kill_unconfirmed", worker_id=told.worker_id, reason=told.reason, detail=told.why)
        if self._on_unconfirmed is not None:
            try:
                self._on_unconfirmed(told)
            except Exception as error:
                self._events.log("on_unconfirmed_failed", worker_id=told.worker_id, detail=repr(error))

    def _kill_at_the_end(self, order: KillOrder) -> None:
        """The interpreter ends: the other threads are frozen where they stood, perhaps with a lock that this would wait
        for without end, and a new one would never start. So: one sending, no book-keeping."""
        try:
            self._transport.send_apart(order.request(), self._patience.next())
        except Exception:
            return  # nobody is left to tell

    def _guarded(self, order: KillOrder, kill: Callable[[], bool]) -> bool:
        """What `kill` returns. The one place where the failures of a kill end."""
        try:
            return kill()
        except Exception as error:
            self.leave_unconfirmed(order, f"{type(error).__name__}: {error}")
            return False
        except BaseException:
            self.leave_unconfirmed(order, "the kill was interrupted")
            raise

    def _kill(self, order: KillOrder) -> bool:
        deadline = self._patience.next()
        if self._owns_fleet and order.reason == KILL_SWITCH:
            if self._fleet.is_dead_by_kill_all(order.worker_id):
                return True
            if self._kill_all_helps():
                self._attempt(KillOrder(FLEET, order.reason), deadline)
                if self._fleet.is_dead_by_kill_all(order.worker_id):
                    return True
                if deadline.left() <= 0:
                    self.leave_unconfirmed(order, "the kill-all took all the time")
                    return False
        return self._attempt(order, deadline)

    def _kill_all_helps(self) -> bool:
        """Not where one is pursued already, or nothing was launched since the last one."""
        return self._fleet.launched_since_kill_all and FLEET not in self.pursuit.unconfirmed()

    def _pursue(self, order: KillOrder) -> None:
        self._guarded(order, lambda: self._attempt(order, Deadline(_PURSUIT_S), in_background=True))

    def _attempt(self, order: KillOrder, deadline: Deadline, in_background: bool = False) -> bool:
        """Sends the order once; whether all that it covers is dead."""
        covered = self._fleet.cover(order)
        repeated = True
        try:
            answer = self._transport.send(order.request(), deadline)
        except TransportError as error:
            verdict = no_verdict(str(error))
        else:
            repeated, verdict = answer.repeated, verdict_of(order, answer)
        if not in_background:
            self._patience.learn(deadline)
        elif not verdict.complete and order.worker_id not in self.pursuit.unconfirmed():
            # Another kill has confirmed it meanwhile: what this answer doubts is out of date.
            return True
        self._draw_conclusions(order, covered, verdict, repeated)
        return verdict.complete

    def _draw_conclusions(
        self, order: KillOrder, covered: Dict[str, ContainerRecord], verdict: Verdict, repeated: bool
    ) -> None:
        """`repeated`: an earlier sending may have been the one that killed."""
        for worker_id in verdict.killed:
            self._bury(worker_id, covered.get(worker_id), order, killed=True)
        for worker_id in verdict.already_ended:
            self._bury(worker_id, covered.get(worker_id), order, killed=repeated)
        if verdict.absent and not self.pursuit.absent(order):
            self.leave_unconfirmed(order, "not known to the service, but its launch may still be on its way")
        elif verdict.complete:
            self._conclude(order, covered, verdict, repeated)
        elif not (order.is_fleet and verdict.refused):
            # A kill-all that is refused is not pursued: whoever asked for it kills one by one instead.
            self._leave_rest_unconfirmed(order, covered, verdict)

    def _conclude(
        self, order: KillOrder, covered: Dict[str, ContainerRecord], verdict: Verdict, repeated: bool
    ) -> None:
        """All that the order covers is dead; what the report does not name had ended before."""
        for worker_id, record in covered.items():
            self._bury(worker_id, record, order, killed=repeated and not verdict.absent)
        if order.is_fleet:
            self._fleet.killed_all([*covered, *verdict.killed])
        self.pursuit.confirm(order.worker_id, with_descent=order.cascade or order.is_fleet or verdict.absent)

    def _bury(self, worker_id: str, record: Optional[ContainerRecord], order: KillOrder, killed: bool) -> None:
        """The worker is dead: tells of it once, also where two kills learn of it."""
        was_unconfirmed = self.pursuit.confirm(worker_id)
        was_live = self._fleet.bury(worker_id, record)
        if killed and record is None:
            self._events.log("container_killed", worker_id=worker_id, reason=order.reason)
        elif was_live and record is not None and (killed or was_unconfirmed):
            self._events.log("container_killed", worker_id=worker_id, reason=record.reason or order.reason)
        elif was_live:
            skipped = f"had ended before (kill reason: {order.reason})"
            self._events.log("container_kill_skipped", worker_id=worker_id, reason=skipped)

    def _leave_rest_unconfirmed(
        self, order: KillOrder, covered: Mapping[str, ContainerRecord], verdict: Verdict
    ) -> None:
        dead = {*verdict.killed, *verdict.already_ended}
        if order.worker_id not in dead:
            self.leave_unconfirmed(order, verdict.why)
        # What a kill-all names besides may be the name of a sandbox: the kill-all itself is pursued for that.
        others = () if order.is_fleet else verdict.failed
        for worker_id in dict.fromkeys([*covered, *others]):
            confirmed = worker_id in covered and self._fleet.get(worker_id) is not covered[worker_id]
            if worker_id != order.worker_id and worker_id not in dead and not confirmed:
                self.leave_unconfirmed(KillOrder(worker_id, order.reason), verdict.why)
