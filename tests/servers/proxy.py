"""A proxy that counts the commands on the way to a server, lets its client die at one of them, or answers some itself."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from tests.servers.process import HOST

MYSQL_COMMANDS = {0x02, 0x03, 0x16, 0x17}  # INIT_DB, QUERY, STMT_PREPARE, STMT_EXECUTE; each begins a packet of number 0
SWALLOW_SECONDS = 0.03  # how long the client lives on after the reply that it never gets


class Gone(Exception):
    """The client has closed its side."""


@dataclass
class Fault:
    """An answer of the proxy's own to the first `times` commands with this text; `carried_out` tells whether they go on
    to the server all the same, and their replies get lost."""

    text: bytes
    answer: bytes
    times: int = 1
    carried_out: bool = False
    arrived: int = 0


def mysql_error(code: int, message: str = "said the proxy", number: int = 1) -> bytes:
    """The packet in which a server refuses a command; in place of a greeting its number is 0."""
    state = b"#HY000" if number else b""
    body = b"\xff" + code.to_bytes(2, "little") + state + message.encode()
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def http_error(status: int, code: int = 0, message: str = "said the proxy") -> bytes:
    """How ClickHouse refuses a request, or, without a code, how a gateway does."""
    body = f"Code: {code}. DB::Exception: {message}. (NAME) (version 26.9.2.1)".encode() if code else message.encode()
    head = f"HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"X-ClickHouse-Exception-Code: {code}\r\n" if code else "") + "\r\n").encode() + body


class Proxy:
    """Listens on `port` and passes everything on to a server, until command number `fatal` (from 0), if one is given.

    `pre`: that command is not forwarded. `post`: it is, and its reply is swallowed. In both cases `kill` is called then,
    and every connection is refused from there on. `hit` tells whether that came to pass.

    `faults` are answers of the proxy's own; `greetings` go out to the first connections, one each, which it closes then.
    """

    def __init__(self, upstream: int, scheme: str, kill: Callable[[], None] = lambda: None, *, fatal: int | None = None,
                 mode: str = "pre", faults: Sequence[Fault] = (), greetings: Sequence[bytes] = ()) -> None:
        self._http, self._faults, self._greetings = scheme == "http", faults, [*greetings]
        self._upstream, self._read = upstream, {"mysql": _mysql_packet, "http": _http_request}[scheme]
        self._kill, self._fatal, self._mode = kill, fatal, mode
        self.count, self.hit = 0, False
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._listener, *self._open]:
            _shut(sock)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.hit or self._greetings:
                    client.sendall(self._greetings.pop(0) if self._greetings else b"")
                    client.close()
                    continue
                server = socket.create_connection((HOST, self._upstream))
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                doomed, instead = threading.Event(), list[bytes]()
                for work in (self._forward, self._answer):
                    threading.Thread(target=work, args=(client, server, doomed, instead), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, doomed: threading.Event, instead: list[bytes]) -> None:
        with contextlib.suppress(OSError, Gone):
            while True:
                data, is_command = self._read(client)
                with self._lock:
                    fatal = is_command and self.count == self._fatal
                    self.count += is_command
                    if self.hit:
                        return
                    self.hit = fatal
                if fatal and self._mode == "pre":
                    self._kill()
                    return
                if fatal:
                    doomed.set()
                fault = self._fault(data) if is_command else None
                if fault and fault.carried_out:
                    instead.append(fault.answer)
                if not fault or fault.carried_out:
                    server.sendall(data)
                    continue
                client.sendall(fault.answer)
                if self._http:
                    break
        if not doomed.is_set():
            _shut(server)

    def _fault(self, data: bytes) -> Fault | None:
        """The one that this command meets."""
        with self._lock:
            for fault in self._faults:
                if fault.text in data:
                    fault.arrived += 1
                    return fault if fault.arrived <= fault.times else None
        return None

    def _answer(self, client: socket.socket, server: socket.socket, doomed: threading.Event, instead: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if doomed.is_set():
                    time.sleep(SWALLOW_SECONDS)
                    self._kill()
                    break
                client.sendall(instead.pop() if (lost := bool(instead)) else data)
                if lost and self._http:
                    break
        _shut(client)
        _shut(server)


def _shut(sock: socket.socket) -> None:
    """Close for good, also for a thread that is waiting for data."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise Gone
        data += piece
    return data


def _mysql_packet(sock: socket.socket) -> tuple[bytes, bool]:
    head = _exactly(sock, 4)
    body = _exactly(sock, int.from_bytes(head[:3], "little"))
    return head + body, head[3] == 0 and bool(body) and body[0] in MYSQL_COMMANDS


def _http_request(sock: socket.socket) -> tuple[bytes, bool]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _exactly(sock, 1)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    assert b"transfer-encoding" not in fields, "the driver sends in chunks now"
    return head + _exactly(sock, int(fields.get(b"content-length", b"0"))), True
