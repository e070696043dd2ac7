"""Requests over a few connections that are kept open, from any thread."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.client import HTTPException
from typing import Dict, List, Optional

from .answer import Answer
from .connection import Connection, Endpoint, Request
from .deadline import Deadline

#: Connections that are kept open at most; more are opened where more threads ask, and closed after.
MAX_IDLE_CONNECTIONS = 8
#: A connection that was idle for longer is not trusted: something between may have forgotten it without a word.
MAX_IDLE_S = 30.0


class TransportError(Exception):
    """No whole answer came."""


class NotSent(TransportError):
    """No connection: nothing of the request was sent."""


class AnswerLost(TransportError):
    """It may have been carried out."""


class Transport:
    """Sends requests to one service, each within its deadline."""

    def __init__(self, endpoint: Endpoint, token: Optional[str]) -> None:
        self._endpoint = endpoint
        self._headers = _headers(token)
        self._lock = threading.Lock()
        self._idle: List[Connection] = []
        self._keeps = True

    def send(self, request: Request, deadline: Deadline) -> Answer:
        """Raises NotSent or AnswerLost. A kept connection that fails is replaced once by a fresh one: every request
        of this package may be sent again."""
        kept = self._take_idle()
        if kept is None:
            return self._exchange(self._open(deadline), request, deadline)
        try:
            return self._exchange(kept, request, deadline)
        except AnswerLost:
            if deadline.left() <= 0:
                raise
            self._drop_idle()
        try:
            return replace(self._exchange(self._open(deadline), request, deadline), repeated=True)
        except NotSent as error:
            raise AnswerLost(str(error)) from error

    def send_apart(self, request: Request, deadline: Deadline) -> None:
        """Over a connection of its own, and without a lock."""
        connection = Connection(self._endpoint)
        try:
            connection.open(deadline)
            connection.exchange(request, self._headers_for(request), deadline)
        finally:
            connection.close()

    def close(self) -> None:
        """Closes what is idle, and keeps nothing from now on. Requests still work, each on a fresh connection."""
        self._keeps = False
        self._drop_idle()

    def _open(self, deadline: Deadline) -> Connection:
        connection = Connection(self._endpoint)
        try:
            connection.open(deadline)
        except (OSError, ValueError, RuntimeError) as error:
            connection.close()
            raise NotSent(f"no connection to the service: {_words(error)}") from error
        return connection

    def _exchange(self, connection: Connection, request: Request, deadline: Deadline) -> Answer:
        try:
            answer = connection.exchange(request, self._headers_for(request), deadline)
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            raise AnswerLost(f"no whole answer: {_words(error)}") from error
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return answer

    def _headers_for(self, request: Request) -> Dict[str, str]:
        if request.body is None:
            return self._headers
        return {**self._headers, "content-type": "application/json"}

    def _take_idle(self) -> Optional[Connection]:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_usable(MAX_IDLE_S):
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            if self._keeps and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for connection in dropped:
            connection.close()


def _headers(token: Optional[str]) -> Dict[str, str]:
    common = {"accept": "application/json", "user-agent": "sandbox-orchestrator-client"}
    if token is None:
        return common
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("token must be visible ASCII characters without spaces")
    return {**common, "authorization": f"Bearer {token}"}


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
