"""Kills that are not confirmed, tried again in the background until they are."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Callable, Dict, Iterator, List, Optional

from .deadline import growing_pauses
from .kill_order import KillOrder

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
#: Kills that are tried at the same time: one that hangs must not hold up the others.
PURSUERS = 4
#: How often "not known" has to be the answer before a launch that was given up is taken for never arrived.
ABSENCES_AFTER_LOST_LAUNCH = 3


@dataclass(frozen=True)
class UnconfirmedKill:
    """A kill that may not have been carried out.

    `worker_id`: `"*"` for a kill of the whole fleet. `reason`: the caller's. `why`: what the last attempt came to.
    `since`: when it was first found unconfirmed (UTC).
    """

    worker_id: str
    reason: str
    why: str
    since: datetime


@dataclass
class _Pursued:
    order: KillOrder
    told: UnconfirmedKill
    due: float
    pauses: Iterator[float]
    under_way: bool = False
    absences: int = 0


@dataclass
class _State:
    pursued: Dict[str, _Pursued] = field(default_factory=dict)
    pursuers: int = 0
    stopped: bool = False


class Pursuit:
    """Holds what is unconfirmed. `attempt` tries an order once and hands the outcome back to `add` or `confirm`; it
    must not raise."""

    def __init__(self, attempt: Callable[[KillOrder], None]) -> None:
        self._attempt = attempt
        self._state = _State()
        self._changed = threading.Condition()

    def add(self, order: KillOrder, why: str) -> Optional[UnconfirmedKill]:
        """Keeps an order until it is confirmed. Returns what there is to tell; None where it is known already."""
        with self._changed:
            known = self._state.pursued.get(order.worker_id)
            if known is not None:
                known.told = replace(known.told, why=why)
                if order.cascade and not known.order.cascade:
                    known.order = replace(known.order, cascade=True)
                return None
            told = UnconfirmedKill(order.worker_id, order.reason, why, datetime.now(timezone.utc))
            pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
            due = time.monotonic() + next(pauses)
            self._state.pursued[order.worker_id] = _Pursued(order, told, due, pauses)
            self._changed.notify_all()
        self._start_pursuers()
        return told

    def absent(self, order: KillOrder) -> bool:
        """Counts one more "not known"; whether that is enough to take the worker for never launched."""
        with self._changed:
            known = self._state.pursued.get(order.worker_id)
            if known is None:
                return not order.after_lost_launch
            known.absences += 1
            return not known.order.after_lost_launch or known.absences >= ABSENCES_AFTER_LOST_LAUNCH

    def confirm(self, worker_id: str, with_descent: bool = False) -> bool:
        """The worker is dead; whether it was unconfirmed. An order for its line of descent too is pursued on, unless
        that is dead as well."""
        with self._changed:
            known = self._state.pursued.get(worker_id)
            if known is not None and (with_descent or not known.order.cascade):
                del self._state.pursued[worker_id]
                self._changed.notify_all()
            return known is not None

    def unconfirmed(self) -> Dict[str, UnconfirmedKill]:
        with self._changed:
            return {worker_id: each.told for worker_id, each in self._state.pursued.items()}

    def wait(self, timeout: Optional[float]) -> bool:
        """Waits until nothing is unconfirmed, for `timeout` seconds at most; whether that came to be."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._state.pursued, timeout)

    def stop(self) -> None:
        """Tries nothing any more. What is unconfirmed stays listed."""
        with self._changed:
            self._state.stopped = True
            self._changed.notify_all()

    def _start_pursuers(self) -> None:
        """Where no thread can be started any more, because the interpreter ends, the orders stay listed."""
        with self._changed:
            wanted = min(PURSUERS, len(self._state.pursued)) - self._state.pursuers
            if self._state.stopped or wanted <= 0:
                return
            self._state.pursuers += wanted
        started = 0
        try:
            for _ in range(wanted):
                threading.Thread(target=self._pursue, name="kill-pursuit", daemon=True).start()
                started += 1
        except RuntimeError:
            with self._changed:
                self._state.pursuers -= wanted - started

    def _pursue(self) -> None:
        while True:
            next_one = self._take_due()
            if next_one is None:
                return
            try:
                self._attempt(next_one.order)
            finally:
                self._put_back(next_one)

    def _take_due(self) -> Optional[_Pursued]:
        """Waits for an order that is due and nobody tries; None where this thread is not needed any more."""
        with self._changed:
            while True:
                idle = self._idle()
                if self._state.stopped or not idle:
                    self._state.pursuers -= 1
                    return None
                first = min(idle, key=lambda each: each.due)
                left = first.due - time.monotonic()
                if left <= 0:
                    first.under_way = True
                    return first
                self._changed.wait(left)

    def _put_back(self, pursued: _Pursued) -> None:
        with self._changed:
            pursued.under_way = False
            pursued.due = time.monotonic() + next(pursued.pauses)
            self._changed.notify_all()

    def _idle(self) -> List[_Pursued]:
        return [each for each in self._state.pursued.values() if not each.under_way]
