"""Calls in threads of their own, and waiting for what they bring about."""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterable, Optional


class Calling:
    """A call that is under way."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._error: Optional[Exception] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def error(self) -> Optional[Exception]:
        """What it raised, once it is over."""
        self._thread.join(30)
        if self._thread.is_alive():
            raise AssertionError("the call does not end")
        return self._error

    def _run(self) -> None:
        try:
            self._call()
        except Exception as error:
            self._error = error


def run_together(calls: Iterable[Callable[[], object]]) -> None:
    """Raises the first error, once all are over."""
    errors = [calling.error() for calling in [Calling(call) for call in calls]]
    for error in errors:
        if error is not None:
            raise error


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end:
            raise AssertionError("it does not come to be")
        time.sleep(0.005)
