"""The job waits for what may still come, within one budget, and gives up at once on what will not get better."""

import contextlib
import http.server
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from migrator.databases import Identity, clickhouse, mysql
from migrator.errors import WrongServer
from migrator.settings import read_settings
from tests.conftest import Database
from tests.databases.conftest import Steps
from tests.job import Job, JobResult
from tests.rights import EXACT, OWN
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import ENGINES, MySQLServer
from tests.servers.process import HOST, canary, free_port
from tests.servers.tls import in_background, pass_on

BUDGET = 3.0
Port = Callable[[], int]


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[tuple[int, list[Any]]]:
    """A TCP server on a port; `handler` may append to the list what it sees."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = allow_reuse_address = True
        seen: list[Any] = []  # noqa: RUF012  one class for each call

        def handle_error(self, *_: object) -> None:
            """The job hangs up when it has seen enough."""

    with Server((HOST, 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1], server.seen
        server.shutdown()


class Hanging(socketserver.BaseRequestHandler):
    """Accepts and says nothing."""

    def handle(self) -> None:
        self.server.seen.append(time.monotonic())  # type: ignore[attr-defined]
        self.request.recv(100_000)
        time.sleep(60)


class Closing(socketserver.BaseRequestHandler):
    """Accepts and hangs up, as a proxy without a backend does."""

    def handle(self) -> None:
        self.server.seen.append(time.monotonic())  # type: ignore[attr-defined]


class Banner(socketserver.BaseRequestHandler):
    """Speaks, but another protocol."""

    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
        self.request.recv(1000)


class Busy(socketserver.BaseRequestHandler):
    """MySQL with too many connections."""

    def handle(self) -> None:
        self.request.sendall(packet(0, b"\xff" + struct.pack("<H", 1040) + b"Too many connections"))


def web(status: int, body: bytes = b"<html>hello</html>") -> type[http.server.BaseHTTPRequestHandler]:
    """A web server that gives one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/login")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def both(steps: Steps) -> Steps:
    """One step for each database."""
    steps.write(n0001_a__clickhouse__sql="SELECT 1", n0002_b__mysql__sql="SELECT 1")
    return steps


def start(steps: Steps, *args: str, **environ: str) -> Job:
    return Job(*args, env=steps.environ | {"MIGRATE_WAIT_TIMEOUT": f"{BUDGET:g}"} | environ)


def check_budget(result: JobResult, budget: float = BUDGET) -> None:
    """The budget is kept, counted from when the drivers are loaded, and the last line says why it was not enough."""
    assert result.code == 3, result.stdout
    first = result.events("waiting")[0]
    waited = at(result.report) - at(first) + budget - first["seconds_left"]
    assert abs(waited - budget) < max(0.25, 0.02 * budget)
    assert f"did not answer within {budget:g} s" in result.report["error"]


def at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def test_every_way_of_not_being_up_yet_is_waited_for(both: Steps) -> None:
    """Each for one budget, with both databases' reasons and the time left in the log, and a moderate number of tries."""
    refused = f"{HOST}:{free_port()}"
    with ExitStack() as stack:
        hanging, closing, busy, down = (f"{HOST}:{stack.enter_context(serving(kind))[0]}" for kind in (
            Hanging, Closing, Busy, web(503)))
        ways = [  # ClickHouse's address and reason, MySQL's address and reason
            (refused, "refused", hanging, "no answer|timed out"),
            (hanging, "no answer|timed out", "no-such-host.invalid:3306", "no-such-host.invalid does not resolve"),
            ("no-such-host.invalid:8123", "no-such-host.invalid does not resolve", refused, "refused"),
            (down, "503", busy, "Too many connections"),
            (closing, "closed|reset|disconnected|EOF", closing, "(?i)lost|reset|closed|EOF"),
        ]  # fmt: skip
        jobs = [start(both, CLICKHOUSE_URL=f"http://me:k4narie-wait@{ch}/", MYSQL_URL=f"mysql://me:k4narie-wait@{my}/d") for ch, _, my, _ in ways]
        results = [job.wait(20) for job in jobs]

    for (ch, ch_reason, my, my_reason), result in zip(ways, results, strict=True):
        check_budget(result)
        for target, address, reason in [("clickhouse", ch, ch_reason), ("mysql", my, my_reason)]:
            tries = [line for line in result.events("waiting") if line["target"] == target]
            assert re.search(reason, result.report["error"]), (reason, result.report["error"])
            assert address in result.report["error"]
            left = [line["seconds_left"] for line in tries]
            assert left == sorted(left, reverse=True)
            if address == hanging:  # its first try takes as long as the budget: which of the two ends first is chance
                first, *ends = [(line["reason"], round(line["seconds_left"])) for line in tries]
                assert (first, ends or [("timed out", 0)]) == (("no answer yet", BUDGET - 2), [("timed out", 0)])
            else:
                assert 3 <= len(tries) <= 15
                assert not [line["reason"] for line in tries if not re.search(reason, line["reason"])]


@pytest.mark.parametrize("budget", [0.5, 7.0])
def test_budget_is_kept_however_long(both: Steps, budget: float) -> None:
    """A hanging try is cut off when the budget ends."""
    with serving(Hanging) as (port, _):
        result = start(both, MIGRATE_WAIT_TIMEOUT=f"{budget:g}", CLICKHOUSE_URL=f"http://me:k4narie-wait@{HOST}:{port}/",
                       MYSQL_URL=f"mysql://me:k4narie-wait@{HOST}:{free_port()}/d").wait(20)

    check_budget(result, budget)


def test_no_server_is_hammered(both: Steps) -> None:
    """Tries come with growing pauses: about two a second at most."""
    with serving(Closing) as (ch, at_clickhouse), serving(Closing) as (my, at_mysql):
        start(both, CLICKHOUSE_URL=f"http://me:k4narie-wait@{HOST}:{ch}/", MYSQL_URL=f"mysql://me:k4narie-wait@{HOST}:{my}/d").wait(20)

    assert 3 <= len(at_clickhouse) <= 15
    assert 3 <= len(at_mysql) <= 15


@pytest.mark.parametrize("engine", ENGINES)
def test_late_servers_are_noticed_within_a_second(both: Steps, engine: str) -> None:
    """Both start while the job waits; it goes on as soon as the later of the two answers a query."""
    password = canary()
    with ClickHouseServer(password=password, grants=EXACT + OWN) as clickhouse, ENGINES[engine](password=password) as mysql:
        mysql.create_database("shop")
        clickhouse.stop(), mysql.stop()
        job = start(both, MIGRATE_WAIT_TIMEOUT="60", CLICKHOUSE_URL=clickhouse.url(), MYSQL_URL=mysql.url("shop"))
        job.until("waiting", target="clickhouse"), job.until("waiting", target="mysql")
        clickhouse.start()
        began = time.monotonic()
        job.until("ready", target="clickhouse")
        assert time.monotonic() - began < 1
        assert job.process.poll() is None
        mysql.start()
        began = time.monotonic()
        job.until("ready", target="mysql")
        assert time.monotonic() - began < 1

        assert job.wait().code == 0


def test_open_port_is_not_up(both: Steps, fresh_clickhouse: ClickHouseServer, mysql_servers: Callable[[str], MySQLServer]) -> None:
    """A frozen server's port is open; only the answer to an authenticated query counts."""
    mysql = mysql_servers("mariadb")
    clickhouse = fresh_clickhouse
    mysql.start()
    mysql.create_database("frozen")
    try:
        clickhouse.pause(), mysql.pause()
        job = start(both, MIGRATE_WAIT_TIMEOUT="30", CLICKHOUSE_URL=clickhouse.url(), MYSQL_URL=mysql.url("frozen"))
        time.sleep(2)
        assert not {"ready", "report"} & {line["event"] for line in job.lines}
        clickhouse.resume(), mysql.resume()
        began = time.monotonic()
        result = job.wait()
    finally:
        clickhouse.resume(), mysql.resume()
        mysql.drop_database("frozen")
        clickhouse.clean()

    assert result.code == 0
    assert time.monotonic() - began < 4


def test_missing_database_is_waited_for_then_refused(steps: Steps, fresh_mysql: Database) -> None:
    """An image's first start makes it late; nobody but the job's user would ever know that it is missing for good."""
    steps.write(n0001_a__mysql__sql="SELECT 1")
    name = f"{fresh_mysql.name}_late"
    fresh_mysql.query(f"GRANT ALL ON {name}.* TO 'migrate'@'%'")
    url = fresh_mysql.server.url(name)
    refused = start(steps, MYSQL_URL=url, MIGRATE_WAIT_TIMEOUT="1").wait()
    assert refused.code == 2
    assert f"the database {name} does not exist" in refused.report["error"]
    assert at(refused.report) - at(refused.events("waiting")[0]) == pytest.approx(1, abs=0.35)
    assert (name,) not in fresh_mysql.query("SHOW DATABASES")

    job = start(steps, MYSQL_URL=url, MIGRATE_WAIT_TIMEOUT="20")
    job.until("waiting")
    fresh_mysql.query(f"CREATE DATABASE {name}")
    assert job.wait().code == 0
    fresh_mysql.server.drop_database(name)


# What will not get better ends at once, with 2.


def refused_at_once(job: Job, *named: str) -> JobResult:
    result = job.wait(20)

    assert result.code == 2, result.stdout
    assert result.report["seconds"] < 3
    assert [text for text in named if text not in result.report["error"]] == [], result.report["error"]
    assert "\n" not in result.report["error"]
    assert "Traceback" not in result.stdout + result.stderr
    assert [line["event"] for line in result.lines][-2:] == ["error", "report"]
    return result


def test_wrong_credentials_end_at_once(both: Steps, clickhouse: ClickHouseServer, mysql_server: MySQLServer) -> None:
    """Wrong password, unknown user, a user without rights on the database: no second try, which could lock an account."""
    clickhouse.start(), mysql_server.start()
    mysql_server.create_database("shop")
    nobody = f"nobody_{mysql_server.dialect}"
    mysql_server.create_user(nobody, password := canary())
    good = {"CLICKHOUSE_URL": clickhouse.url(), "MYSQL_URL": mysql_server.url("shop"), "MIGRATE_WAIT_TIMEOUT": "20"}
    cases = [
        ({"CLICKHOUSE_URL": clickhouse.url(password="wrong")}, "clickhouse at", "user migrate"),
        ({"CLICKHOUSE_URL": clickhouse.url(user="stranger")}, "clickhouse at", "user stranger"),
        ({"MYSQL_URL": mysql_server.url("shop", password="wrong")}, "mysql at", "user migrate"),
        ({"MYSQL_URL": mysql_server.url("shop", user="stranger")}, "mysql at", "user stranger"),
        ({"MYSQL_URL": mysql_server.url("shop", user=nobody, password=password)}, "mysql at", f"user {nobody}", "shop"),
        ({"MYSQL_URL": mysql_server.url("other")}, "mysql at", "user migrate", "other"),
    ]  # fmt: skip
    try:
        for environ, *named in cases:
            result = refused_at_once(start(both, **good | environ), *named)
            assert [line for line in result.events("waiting") if line["target"] in named[0]] == []
    finally:
        mysql_server.query(f"DROP USER '{nobody}'@'%'")
        mysql_server.drop_database("shop")


def test_wrong_kind_of_server_ends_at_once(
    both: Steps, clickhouse: ClickHouseServer, mysql_servers: Callable[[str], MySQLServer]
) -> None:
    """Each database's address at the other's port, a web server, or something else: retrying would only hide it."""
    clickhouse.start()
    servers = [mysql_servers(engine).start().port for engine in ENGINES]
    login = "me:k4narie-wait"
    with ExitStack() as stack:
        page, missing, moved, banner = (stack.enter_context(serving(kind))[0] for kind in (
            web(200), web(404), web(302), Banner))
        at_clickhouse = [*servers, page, missing, moved, banner]
        at_mysql = [clickhouse.port, page, banner]
        for port in at_clickhouse:
            refused_at_once(start(both, "--target", "clickhouse", MIGRATE_WAIT_TIMEOUT="20",
                                  CLICKHOUSE_URL=f"http://{login}@{HOST}:{port}/"), f"clickhouse at {HOST}:{port}")  # fmt: skip
        for port in at_mysql:
            refused_at_once(start(both, "--target", "mysql", MIGRATE_WAIT_TIMEOUT="20",
                                  MYSQL_URL=f"mysql://{login}@{HOST}:{port}/d"), f"mysql at {HOST}:{port}")  # fmt: skip


@pytest.mark.parametrize("dialect", ["clickhouse", "mysql"])
def test_a_server_that_is_too_old_is_refused(
    fresh_clickhouse: ClickHouseServer, fresh_mysql: Database, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older than what the steps rely on: here a limit that no server reaches yet."""
    connector, url = (clickhouse, fresh_clickhouse.url()) if dialect == "clickhouse" else (mysql, fresh_mysql.url)
    oldest = (99, 1) if dialect == "clickhouse" else dict.fromkeys(ENGINES, (99, 1, 0))
    monkeypatch.setattr(connector, "OLDEST", oldest)
    settings = read_settings([], {f"{dialect.upper()}_URL": url, "MIGRATE_TARGETS": dialect})
    with pytest.raises(WrongServer, match=r" is \w+ [\d.]+.*; at least 99\.1(\.0)? is needed"):
        connector.connect(settings.address(dialect), settings, Identity("run", "host", "image"), timeout=5, writes=True)


# A password itself is never sent over a connection that is not encrypted, whatever the server asks for.


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def greeting(plugin: str) -> bytes:
    """MySQL's first packet, of a server without TLS."""
    capabilities = 0xFFFFFFFF & ~0x800 & ~0x20000000  # all but SSL and compression by zstd
    low, high = capabilities & 0xFFFF, capabilities >> 16
    return packet(0, b"\x0a9.7.4\0" + struct.pack("<I", 7) + b"abcdefgh\0" + struct.pack("<HBHHB", low, 255, 2, high, 21)
                  + bytes(10) + b"ijklmnopqrst\0" + plugin.encode() + b"\0")


def asking(plugin: str, *answers: bytes) -> type[socketserver.BaseRequestHandler]:
    """A server that greets with a plugin, sends these payloads in turn, and keeps all that comes back."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(2)
            self.request.sendall(greeting(plugin))
            number = 2
            try:
                self.receive()
                for answer in answers:
                    self.request.sendall(packet(number, answer))
                    number += 2
                    self.receive()
            except OSError:
                return

        def receive(self) -> None:
            if data := self.request.recv(65536):
                self.server.seen.append(data)  # type: ignore[attr-defined]

    return Handler


FULL = b"\x01\x04"
ASKING = {
    "full authentication": asking("caching_sha2_password", FULL),
    "clear password by default": asking("mysql_clear_password"),
    "sha256 by default": asking("sha256_password"),
    "switch to clear password": asking("mysql_native_password", b"\xfemysql_clear_password\0"),
    "switch to sha256": asking("mysql_native_password", b"\xfesha256_password\0" + b"abcdefghijklmnopqrst\0"),
    "switch, then full": asking("mysql_native_password", b"\xfecaching_sha2_password\0" + b"abcdefghijklmnopqrst\0", FULL),
    "switch to dialog": asking("mysql_native_password", b"\xfedialog\0\x04Password: "),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["PREFERRED", "DISABLED"])
def test_password_is_never_sent_in_clear(steps: Steps, mode: str) -> None:
    """The server, or whoever sits before it, chooses the method; the job refuses each that needs the password itself."""
    steps.write(n0001_a__mysql__sql="SELECT 1")
    password = "k4narieInClear1"
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serving(kind)) for name, kind in ASKING.items()}
        jobs = {name: start(steps, MIGRATE_WAIT_TIMEOUT="20",
                            MYSQL_URL=f"mysql://u:{password}@{HOST}:{port}/d?ssl-mode={mode}")
                for name, (port, _) in ports.items()}  # fmt: skip
        for name, job in jobs.items():
            refused_at_once(job, "mysql at")
            assert all(password.encode() not in data for data in ports[name][1]), name
            assert len(ports[name][1]) <= 2, name  # the first answer, and a hashed one where the plugin hashes


def test_such_a_server_would_get_the_password_from_the_driver(tmp_path: Path) -> None:
    """The proof that the test before can fail: the plain driver sends it."""
    import mysql.connector

    with serving(ASKING["full authentication"]) as (port, seen), pytest.raises(mysql.connector.Error):
        mysql.connector.connect(host=HOST, port=port, user="u", password="k4narieInClear1", use_pure=True,
                                ssl_disabled=True, connection_timeout=2)

    assert any(b"k4narieInClear1" in data for data in seen)


def test_full_authentication_works_over_tls(steps: Steps, mysql_servers: Callable[[str], MySQLServer]) -> None:
    """A new account that the server has not cached yet: fine with TLS, refused with the remedy without."""
    steps.write(n0001_a__mysql__sql="SELECT 1")
    server = mysql_servers("mysql").start()
    server.create_database("tls")
    server.create_user("newcomer", password := canary(), ["ALL ON tls.*"])
    server.query("FLUSH PRIVILEGES")
    url = server.url("tls", user="newcomer", password=password)
    refused_at_once(start(steps, MYSQL_URL=f"{url}?ssl-mode=DISABLED"), "asks for the password itself", "ssl-mode=PREFERRED")
    over_tls = start(steps, MYSQL_URL=url).wait()
    hashed = start(steps, MYSQL_URL=f"{url}?ssl-mode=DISABLED").wait()
    server.query("DROP USER 'newcomer'@'%'")
    server.drop_database("tls")

    assert (over_tls.code, hashed.code) == (0, 0)


def injecting(upstream: int) -> type[socketserver.BaseRequestHandler]:
    """Passes everything on, and in clear a packet of its own, right behind the greeting: "you are logged in"."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, upstream)) as server:
                self.request.sendall(server.recv(65536) + packet(2, b"\0\0\0\2\0\0\0"))
                in_background(lambda: pass_on(server, self.request))
                pass_on(self.request, server)

    return Handler


def test_what_was_said_in_clear_does_not_count_as_said_under_tls(
    steps: Steps, mysql_servers: Callable[[str], MySQLServer]
) -> None:
    """Read ahead, it would be taken for the server's answer to the login, which comes behind the handshake."""
    steps.write(n0001_a__mysql__sql="SELECT 1")
    server = mysql_servers("mysql").start()
    server.create_database("tls")
    with serving(injecting(server.port)) as (port, _):
        url = server.url("tls").replace(f":{server.port}/", f":{port}/")
        refused_at_once(start(steps, MYSQL_URL=url), "mysql at", "TLS failed: the server speaks no TLS")
    server.drop_database("tls")


def test_socket_helpers_close() -> None:
    """The hanging port of these tests really hangs."""
    with serving(Hanging) as (port, seen), socket.create_connection((HOST, port), timeout=0.3) as probe:
        probe.sendall(b"x")
        with pytest.raises(TimeoutError):
            probe.recv(1)

    assert len(seen) == 1
