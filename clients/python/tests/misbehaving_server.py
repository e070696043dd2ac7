"""A server of sockets whose every connection does what a test says."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any, Callable, List

#: Gets one connection; its answer, if any, is its own affair. The connection is closed when it returns.
Behaviour = Callable[[socket.socket], None]


class MisbehavingServer:
    """Calls `behave` for each connection, in a thread of its own, until `stop`."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: List[socket.socket] = []
        #: Set when the test is over: what never answers ends with it.
        self.over = threading.Event()
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._behave(connection)
        except OSError:
            pass
        finally:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    """One whole request; empty where the client has closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return b""
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(status: int, body: Any, media_type: str = "application/json") -> bytes:
    """One whole answer that keeps the connection open. A `body` other than bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Said\r\ncontent-type: {media_type}\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def kill_report(*killed: str) -> Any:
    return {
        "reason": "r",
        "complete": True,
        "killed": list(killed),
        "already_ended": [],
        "failed": [],
        "duration_ms": 1,
    }


def closed_port_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"
