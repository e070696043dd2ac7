"""Bounds in time, on the monotonic clock. All values are seconds."""

from __future__ import annotations

import time
from typing import Iterator

#: How long a kill is hurried after one got no answer.
HURRY_S = 30.0


class Deadline:
    """A moment by which something has to be over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; 0 or less where it has passed."""
        return self._end - time.monotonic()

    def remaining(self) -> float:
        """Seconds that are left, for a socket's timeout. Raises TimeoutError where it has passed."""
        left = self.left()
        if left <= 0:
            raise TimeoutError("no time is left")
        return left


class Patience:
    """How long the next kill is waited for.

    A controller kills one by one under its lock. Where the service hangs, 200 workers at five seconds each would hold
    it for a quarter of an hour, and the last kill would be sent after that. So once a kill got no answer in its time,
    the next ones are sent but waited for only briefly, until one is answered or half a minute has passed; the
    background goes on with each.
    """

    def __init__(self, full: float, hurried: float) -> None:
        self._full = full
        self._hurried = min(full, hurried)
        self._hurry_until = 0.0

    def next(self) -> Deadline:
        """The deadline of a kill that starts now."""
        hurries = time.monotonic() < self._hurry_until
        return Deadline(self._hurried if hurries else self._full)

    def learn(self, deadline: Deadline) -> None:
        """A kill that `next` gave this deadline is over: it was answered, or ran out of time."""
        self._hurry_until = time.monotonic() + HURRY_S if deadline.left() <= 0 else 0.0


def growing_pauses(first: float, longest: float) -> Iterator[float]:
    """Pauses that double, for ever."""
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, longest)
