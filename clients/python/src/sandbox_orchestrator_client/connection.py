"""One HTTP/1.1 connection on which no step outlives a deadline, whatever the other side does."""

from __future__ import annotations

import http.client
import io
import selectors
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Union, cast
from urllib.parse import urlsplit

from .answer import Answer
from .deadline import Deadline

#: The largest answer that is read, in bytes: a report of a kill-all over 100,000 workers is an eighth of it.
MAX_ANSWER_BYTES = 128 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What is sent. Every request of this package is safe to send again."""

    method: str
    target: str
    body: Optional[bytes] = None


@dataclass(frozen=True)
class Endpoint:
    """Where the service is: from `http://host:port/prefix` or `https://…`."""

    host: str
    port: int
    prefix: str
    tls: Optional[ssl.SSLContext]

    @classmethod
    def of(cls, url: str, tls: Optional[ssl.SSLContext]) -> "Endpoint":
        """Raises ValueError where the URL names no service. `tls` stands for the default where it is None."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be http://host[:port] or https://host[:port], not {url!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("url must hold neither a user, a query nor a fragment: a token is a parameter of its own")
        secure = parts.scheme == "https"
        context = (tls or ssl.create_default_context()) if secure else None
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname, port, parts.path.rstrip("/"), context)


class Connection:
    """Kept alive between requests; for one thread at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._http = _HttpConnection(endpoint)
        self._idle_since = time.monotonic()

    def open(self, deadline: Deadline) -> None:
        """Connects. Raises OSError; nothing was sent then. The name's resolution is not bounded: Python cannot."""
        self._http.deadline = deadline
        self._http.connect()

    def exchange(self, request: Request, headers: Mapping[str, str], deadline: Deadline) -> Answer:
        """Sends and reads the whole answer. Raises OSError or HTTPException; the connection is of no use then."""
        self._http.deadline = deadline
        target = self._endpoint.prefix + request.target
        self._http.request(request.method, target, body=request.body, headers=dict(headers))
        response = self._http.getresponse()
        try:
            body = _read_all(response)
        finally:
            response.close()
        self._idle_since = time.monotonic()
        return Answer(
            status=response.status,
            body=body,
            retry_after_s=_whole_number(response.getheader("retry-after")),
        )

    def is_usable(self, longest_idle_s: float) -> bool:
        """Whether it is open, was not idle for long, and the other side has sent nothing since: no end, no rubbish."""
        sock = self._http.sock
        if sock is None or time.monotonic() - self._idle_since > longest_idle_s:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            return not selector.select(0)

    def close(self) -> None:
        self._http.close()


class _HttpConnection(http.client.HTTPConnection):
    """http.client over a socket that looks at the deadline before each step."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self._endpoint = endpoint
        self.deadline = Deadline(0)

    def connect(self) -> None:
        connected = _connected(self._endpoint, self.deadline)
        # http.client needs these methods of a socket and no other.
        self.sock = cast("socket.socket", _BoundedSocket(connected, self))


class _BoundedSocket:
    """What http.client needs of a socket. A timeout of a socket is for one step: one byte a second would evade it."""

    def __init__(self, connected: socket.socket, owner: _HttpConnection) -> None:
        self._socket = connected
        self._owner = owner
        self._readers = 0
        self._closed = False

    def sendall(self, data: Union[bytes, memoryview]) -> None:
        rest = memoryview(data)
        while len(rest) > 0:
            self._socket.settimeout(self._owner.deadline.remaining())
            rest = rest[self._socket.send(rest) :]

    def receive_into(self, buffer: Any) -> int:
        self._socket.settimeout(self._owner.deadline.remaining())
        return self._socket.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Incoming(self))

    def reader_closed(self) -> None:
        self._readers -= 1
        self._close_if_unused()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """As a socket does: what reads from it reads on. http.client closes before it has read the last answer."""
        self._closed = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and self._readers == 0:
            self._socket.close()


class _Incoming(io.RawIOBase):
    def __init__(self, source: _BoundedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.receive_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.reader_closed()


def _connected(endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    """The first address that answers. Raises the last one's OSError."""
    trouble: Optional[OSError] = None
    for family, kind, protocol, _name, address in socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM
    ):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(deadline.remaining())
            plain.connect(address)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _secured(plain, endpoint, deadline)
        except OSError as error:
            plain.close()
            trouble = error
    raise trouble or OSError(f"{endpoint.host} has no address")


def _secured(plain: socket.socket, endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    if endpoint.tls is None:
        return plain
    plain.settimeout(deadline.remaining())
    return endpoint.tls.wrap_socket(plain, server_hostname=endpoint.host)


def _read_all(response: http.client.HTTPResponse) -> bytes:
    chunks: List[bytes] = []
    size = 0
    while True:
        chunk = response.read(_CHUNK_BYTES)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise http.client.HTTPException(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(chunks)


def _whole_number(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
