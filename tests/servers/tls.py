"""Certificates, good and bad, and a proxy that speaks TLS in front of a server that does not."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.servers.process import HOST

# For each server's certificate its further names, its days, and who has signed it.
SERVERS = {"good": (f"IP:{HOST}", 2, "ca"), "wrong-host": ("DNS:elsewhere.example", 2, "ca"),
           "expired": (f"IP:{HOST}", -1, "ca"), "self-signed": (f"IP:{HOST}", 2, "self-signed")}  # fmt: skip
CLIENTS = {"client": "ca", "stranger": "other-ca"}


def make_certificates(folder: Path) -> None:
    """Two CAs; each certificate as NAME.pem and NAME.key, those of clients also in one file, NAME.both."""
    for ca in ("ca", "other-ca"):
        _make(folder, ca, f"/CN={ca}", ["-x509", "-days", "2"])
    for name, (names, days, signer) in SERVERS.items():
        extra = ["-x509", "-addext", f"subjectAltName={names}"] if signer == name else ["-addext", f"subjectAltName={names}"]
        _make(folder, name, "/CN=server", extra)
        _sign(folder, name, signer, days)
    for name, signer in CLIENTS.items():
        _make(folder, name, f"/CN={name}", [])
        _sign(folder, name, signer, 2)
        (folder / f"{name}.both").write_bytes((folder / f"{name}.pem").read_bytes() + (folder / f"{name}.key").read_bytes())


def _make(folder: Path, name: str, subject: str, extra: list[str]) -> None:
    _openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", f"{name}.key",
             "-out", f"{name}.{'pem' if '-x509' in extra else 'csr'}", *extra)  # fmt: skip


def _sign(folder: Path, name: str, signer: str, days: int) -> None:
    if signer != name:
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key",
                 "-CAcreateserial", "-days", str(days), "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def put(folder: Path, name: str, into: Path) -> None:
    """A server's certificate under the names that MySQLServer gives its own."""
    for file, source in (("ca.pem", "ca.pem"), ("server-cert.pem", f"{name}.pem"), ("server-key.pem", f"{name}.key")):
        shutil.copy(folder / source, into / file)


class TLSProxy:
    """Ends TLS on `port` and passes what is inside on to a server.

    `clients` is a CA whose certificates it requires; an `old` one speaks nothing newer than TLS 1.1.
    """

    def __init__(self, upstream: int, certificate: Path, *, clients: Path | None = None, old: bool = False) -> None:
        self._upstream = upstream
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        if old:
            self._context.set_ciphers("DEFAULT@SECLEVEL=0")  # else OpenSSL speaks none so old
            with warnings.catch_warnings(action="ignore"):
                self._context.minimum_version, self._context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        if clients:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        in_background(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            in_background(lambda client=client: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            inside = self._context.wrap_socket(client, server_side=True)
        except ssl.SSLError:
            client.shutdown(socket.SHUT_WR)  # what the client still sends is read, or it would not see why
            while client.recv(1 << 16):
                continue
            return
        with inside, socket.create_connection((HOST, self._upstream)) as server:
            in_background(lambda: pass_on(server, inside))
            pass_on(inside, server)


def in_background(work: Callable[[], None]) -> None:
    """A thread that ends with its connections."""

    def quietly() -> None:
        with contextlib.suppress(OSError):
            work()

    threading.Thread(target=quietly, daemon=True).start()


def pass_on(source: socket.socket, to: socket.socket) -> None:
    """Until one side closes; then close both, also for a thread that is reading the other way."""
    while data := source.recv(1 << 16):
        to.sendall(data)
    to.shutdown(socket.SHUT_RDWR)
