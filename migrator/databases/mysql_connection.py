"""A connection to MySQL or MariaDB: how it comes about, what it refuses to say in clear, and why it does not come about."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
from typing import Any

import mysql.connector
from mysql.connector.authentication import MySQLAuthenticator
from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag, ServerFlag
from mysql.connector.network import MAX_PAYLOAD_LENGTH, NetworkBrokerPlain

from migrator.databases import NotYet, tls
from migrator.errors import AccessDenied, WrongServer
from migrator.settings import Address
from migrator.statements import PIECE, encoded, encoded_size

READ_BYTES = 64 * 1024
SILENCE_SECONDS = 1  # after which a server that does not greet is asked whether it is another kind

# What an error code says at login.
NOT_YET = {2002, 2003, 2005, 1040, 1203, 1226, 3032, 1053, 2013, 2006, 2055, 3024}  # 3024: the driver's timeout
LOGIN = {1045, 1044, 1698, 3118, 4151, 1130, 1524, 1820, 1862, 2059, 2061, 1251, 3159}


class Guard(MySQLAuthenticator):
    """Refuses to answer with the password itself on a connection that is not encrypted.

    The pure driver would: its caching_sha2_password sends it in clear when the server asks for full authentication,
    its clear and sha256 plugins always do, and a server (or whoever sits before it) chooses the plugin.
    """

    HASHED = ("mysql_native_password", "caching_sha2_password")

    def authenticate(self, sock: Any, handshake: Any, *args: Any, **options: Any) -> Any:
        if not self.ssl_enabled and handshake["auth_plugin"] not in self.HASHED:
            raise AccessDenied(self._refusal(handshake["auth_plugin"]))
        return super().authenticate(sock, handshake, *args, **options)

    def _switch_auth_strategy(self, new_strategy_name: str, *args: Any, **options: Any) -> None:
        if not self.ssl_enabled and new_strategy_name not in self.HASHED:
            raise AccessDenied(self._refusal(new_strategy_name))
        super()._switch_auth_strategy(new_strategy_name, *args, **options)

    def _handle_server_response(self, sock: Any, pkt: bytes) -> Any:
        if not self.ssl_enabled:
            sock = _Watched(sock, self._refusal("caching_sha2_password"))
            sock.look(pkt)
        return super()._handle_server_response(sock, pkt)

    @staticmethod
    def _refusal(plugin: str) -> str:
        return (f"the server asks for the password itself ({plugin}) on a connection without TLS; use ssl-mode=PREFERRED"
                " or better, and a server with TLS")


class _Watched:
    """A socket that raises as soon as the server asks for full authentication (a packet `01 04`)."""

    def __init__(self, sock: Any, refusal: str):
        self._sock, self._refusal = sock, refusal

    def recv(self, *args: Any) -> Any:
        packet = self._sock.recv(*args)
        self.look(bytes(packet))
        return packet

    def look(self, packet: bytes) -> None:
        if packet[4:6] == b"\x01\x04":
            raise AccessDenied(self._refusal)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Packets(NetworkBrokerPlain):
    """The driver's packets. One read takes what is there, up to `ahead` bytes, where the driver makes two for each row.

    Behind the next payload `text` goes out in pieces: the driver itself copies a big one five times. To one of `too_many`
    bytes the server would hang up in the middle, and not be heard.
    """

    text, too_many = "", 0
    ahead = 0  # until the login is over: what is read in clear must not count as said under TLS

    def __init__(self) -> None:
        super().__init__()
        self.unread = bytearray()

    def _recv_chunk(self, sock: Any, size: int = 0) -> bytearray:
        while (missing := size - len(self.unread)) > 0:
            if not (more := sock.recv(max(missing, self.ahead))):
                raise mysql.connector.InterfaceError(errno=2013)
            self.unread += more
        chunk = self.unread[:size]
        del self.unread[:size]
        return chunk

    def send(self, sock: Any, address: str, payload: bytes, *args: Any, **numbers: Any) -> None:
        if not self.text:
            super().send(sock, address, payload, *args, **numbers)
            return
        size, sent = len(payload) + encoded_size(self.text), 0
        if size >= self.too_many:
            raise mysql.connector.OperationalError(f"{size} bytes; the server takes less than max_allowed_packet, which is"
                                                   f" {self.too_many}", 1153)

        def head() -> bytes:  # where a packet begins; behind a full one comes another, be it an empty one
            number, inside = divmod(sent, MAX_PAYLOAD_LENGTH)
            return b"" if inside else min(size - sent, MAX_PAYLOAD_LENGTH).to_bytes(3, "little") + bytes([number % 256])

        for piece in itertools.chain([payload], encoded(self.text)):
            while piece:
                part = piece[: MAX_PAYLOAD_LENGTH - sent % MAX_PAYLOAD_LENGTH]
                self._send_pkt(sock, address, head() + part)
                sent, piece = sent + len(part), piece[len(part) :]
        self._send_pkt(sock, address, head())


class Connection(MySQLConnection):
    """The driver's pure connection, which insists on the guard where there is no TLS."""

    def __init__(self, **options: Any):
        self.autocommits = True
        super().__init__(**options)
        self._packets.ahead = READ_BYTES

    def _handle_server_status(self, flags: int) -> None:
        """Note whether the next statement would be a transaction of its own."""
        super()._handle_server_status(flags)
        self.autocommits = bool(flags & ServerFlag.STATUS_AUTOCOMMIT) and not flags & ServerFlag.STATUS_IN_TRANS

    def _do_handshake(self) -> None:
        self._authenticator, self._packets = Guard(), Packets()
        connection: Any = self._socket
        connection._netbroker = self._packets
        self._await_greeting()
        super()._do_handshake()

    def cmd_query_iter(self, statements: Any, **options: Any) -> Any:
        try:
            if len(statements) > PIECE:
                limit: Any = self.info_query("SELECT @@max_allowed_packet")
                (self._packets.too_many,) = limit
                self._packets.text, statements = statements, ""
            yield from super().cmd_query_iter(statements, **options)
        finally:
            self._packets.text = ""

    def is_silent(self) -> bool:
        """Whether the server has said nothing. It says nothing unasked, but when it ends the connection."""
        connection: Any = self._socket
        try:
            return not self._packets.unread and not select.select([connection.sock], [], [], 0)[0]
        except (AttributeError, OSError, TypeError, ValueError):  # closed by the driver; a question will say so
            return False

    def _await_greeting(self) -> None:
        """Look at the first bytes: the driver takes any for a length, and waits for the rest of what is no packet."""
        connection: Any = self._socket
        sock = connection.sock
        patience = sock.gettimeout()
        sock.settimeout(min(SILENCE_SECONDS, patience))
        try:
            head = sock.recv(5, socket.MSG_PEEK)
        except TimeoutError:
            if _speaks_http(sock.getpeername()):
                raise WrongServer("speaks HTTP; is it ClickHouse's port?") from None
            sock.settimeout(patience)
            head = sock.recv(5, socket.MSG_PEEK)
        sock.settimeout(patience)
        if len(head) == 5 and not (head[3] == 0 and head[4] in (10, 255)):
            raise WrongServer("does not speak the MySQL protocol")


def _speaks_http(address: Any) -> bool:
    """Whether a server that says nothing was waiting for a request; asked on a connection of its own."""
    with contextlib.suppress(OSError), socket.create_connection(address[:2], SILENCE_SECONDS) as probe:
        probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return probe.recv(5, socket.MSG_WAITALL) == b"HTTP/"
    return False


def open_connection(address: Address, timeout: float) -> Connection:
    """A connection that is logged in. Raises the driver's errors, NotYet, AccessDenied or WrongServer."""
    options, mode = address.options, address.options["ssl-mode"]
    try:
        socket.getaddrinfo(address.host, address.port)  # the driver's own error for this names no host
    except (OSError, UnicodeError):
        raise NotYet(f"the host name {address.host} does not resolve") from None
    encryption: dict[str, Any] = {"ssl_disabled": True} if mode == "DISABLED" else {
        "ssl_disabled": False, "ssl_ca": options.get("ssl-ca"), "ssl_cert": options.get("ssl-cert"),
        "ssl_key": options.get("ssl-key"), "ssl_verify_cert": mode.startswith("VERIFY_"),
        "ssl_verify_identity": mode == "VERIFY_IDENTITY"}
    return Connection(
        host=address.host, port=address.port, user=address.user,
        password=address.password, database=address.database, connection_timeout=max(1, round(timeout)),
        # Every DDL commits anyway. Without the flag off, a broken second statement of a text would go unseen.
        autocommit=True, client_flags=[-ClientFlag.MULTI_STATEMENTS], charset="utf8mb4",
        collation="utf8mb4_unicode_ci", **{key: value for key, value in encryption.items() if value is not None})


def refused_at_login(error: mysql.connector.Error, address: Address) -> Exception:
    """What became of a login: AccessDenied and WrongServer for good, NotYet for what is waited for."""
    text = message(error)
    if error.errno == 1049:
        return NotYet(f"the database {address.database} does not exist; create it", WrongServer)
    if failed := tls.failure(text):
        return AccessDenied(f"{address}: {failed}")
    if error.errno in LOGIN:
        wanted = "a client certificate (ssl-cert, ssl-key)" if address.secure else "TLS"
        hint = f"; or the account requires {wanted}" * (error.errno == 1045 and "ssl-cert" not in address.options)
        return AccessDenied(f"{address} refused user {address.user}: {text}{hint}")
    if error.errno in NOT_YET or error.errno == -1:
        return NotYet(text)
    return WrongServer(f"{address}: {text}")


def message(error: mysql.connector.Error) -> str:
    """The server's own sentence and code, in one line."""
    return " ".join(str(error.msg or error).split())[:2000] + (f" ({error.errno})" if (error.errno or 0) > 0 else "")
