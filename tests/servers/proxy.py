"""A proxy that counts the commands on the way to a server, and lets its client die at one of them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

from tests.servers.process import HOST

MYSQL_COMMANDS = {0x02, 0x03, 0x16, 0x17}  # INIT_DB, QUERY, STMT_PREPARE, STMT_EXECUTE; each begins a packet of number 0
SWALLOW_SECONDS = 0.03  # how long the client lives on after the reply that it never gets


class Gone(Exception):
    """The client has closed its side."""


class Proxy:
    """Listens on `port` and passes everything on to a server, until command number `fatal` (from 0), if one is given.

    `pre`: that command is not forwarded. `post`: it is, and its reply is swallowed. In both cases `kill` is called then,
    and every connection is refused from there on. `hit` tells whether that came to pass.
    """

    def __init__(self, upstream: int, scheme: str, kill: Callable[[], None] = lambda: None, *, fatal: int | None = None,
                 mode: str = "pre") -> None:
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
                if self.hit:
                    client.close()
                    continue
                server = socket.create_connection((HOST, self._upstream))
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                doomed = threading.Event()
                threading.Thread(target=self._forward, args=(client, server, doomed), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, doomed), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
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
                server.sendall(data)
        if not doomed.is_set():
            _shut(server)

    def _answer(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if doomed.is_set():
                    time.sleep(SWALLOW_SECONDS)
                    self._kill()
                    break
                client.sendall(data)
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
