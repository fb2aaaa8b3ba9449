"""The throwaway servers are what they claim to be: a failure here explains failures everywhere else.

The ClickHouse tests are the canary for the pinned chdb-core: on a red one keep the old version.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import clickhouse_connect
import mysql.connector
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests import job
from tests.conftest import Database, Servers
from tests.servers import engines
from tests.servers.clickhouse import PINNED_ENGINE, ClickHouseError, ClickHouseServer, User
from tests.servers.mysql import ENGINES, MariaDBServer, MySQLServer
from tests.servers.process import StartError, canary

Kind = type[ClickHouseServer] | type[MySQLServer]
KINDS: dict[str, Kind] = {"clickhouse": ClickHouseServer, **ENGINES}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())

ENTRYPOINT = """
import base64, json, os, sys, time, urllib.parse
def say(**line): print(json.dumps(line), flush=True)
"""


def test_clickhouse_is_the_pinned_engine(clickhouse: ClickHouseServer) -> None:
    """The wheel's number and the engine's differ; the engine's is the one that counts."""
    assert clickhouse.version().startswith(PINNED_ENGINE)


@pytest.mark.parametrize(
    ("statement", "code"),
    [("CREAT TABLE x (a Int8)", 62), ("SELECT 1; SELECT 2", 62), ("1 + 1", 62), ("SELECT * FROM none", 60)],
)
def test_clickhouse_refuses_as_a_server(clickhouse: ClickHouseServer, statement: str, code: int) -> None:
    """The listener parses as a server does, not as clickhouse-local, through the driver that the job uses."""
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=clickhouse.port, username="root", password=clickhouse.password
    )
    with pytest.raises(DatabaseError) as refusal:
        client.command(statement)
    client.close()

    assert refusal.value.code == code


def test_clickhouse_user_has_the_grants_it_was_given() -> None:
    """A limited user may do what its grants say and nothing else, and `default` may do nothing."""
    limited = User("limited", canary(), ["SELECT ON metrics.*"])
    with ClickHouseServer(users=[limited]) as server:
        server.query("CREATE DATABASE metrics")
        server.query("CREATE TABLE metrics.a (n UInt64) ENGINE = Memory")
        assert server.query("SELECT * FROM metrics.a", user="limited", password=limited.password) == []

        for user, password in [("limited", limited.password), ("default", "")]:
            with pytest.raises(ClickHouseError) as refusal:
                server.query("DROP TABLE metrics.a", user=user, password=password)
            assert refusal.value.code == 497


def test_clickhouse_takes_settings_and_configuration() -> None:
    """`profile` reaches every session but root's, and `config` the server."""
    config = "<mark_cache_size>12345678</mark_cache_size>"
    with ClickHouseServer(profile={"max_threads": 1}, config=config) as server:
        threads = server.query("SELECT value FROM system.settings WHERE name = 'max_threads'", user=server.user)
        cache = server.query("SELECT value FROM system.server_settings WHERE name = 'mark_cache_size'")

    assert (threads, cache) == ([("1",)], [("12345678",)])


def test_clickhouse_logs_its_queries(clickhouse: ClickHouseServer) -> None:
    """Tests can count what the job has sent."""
    clickhouse.query("SELECT 1234567")
    clickhouse.query("SYSTEM FLUSH LOGS")

    assert clickhouse.query("SELECT type FROM system.query_log WHERE query = 'SELECT 1234567'") != []


def test_servers_say_who_they_are(mysql_server: MySQLServer) -> None:
    """A MariaDB run is never reported as MySQL, nor the other way round."""
    name, version = mysql_server.dialect, mysql_server.version()

    assert version.startswith({"mysql": "9.7.", "mariadb": "10.11."}[name])
    assert ("MariaDB" in version) == (name == "mariadb")


def test_migrate_owns_its_database_and_nothing_else(fresh_mysql: Database) -> None:
    """The job's user logs in over TCP with an awkward password and has rights on its schema only."""
    server = fresh_mysql.server
    connection = server.connect(fresh_mysql.name, user=server.user, password=server.password)
    connection.cmd_query("CREATE TABLE a (n INT PRIMARY KEY)")
    with pytest.raises(mysql.connector.Error) as refusal:
        connection.cmd_query("CREATE DATABASE other")
    connection.close()

    assert refusal.value.errno == 1044
    assert fresh_mysql.query("SELECT @@collation_database") == [("utf8mb4_unicode_ci",)]


def test_user_has_the_grants_it_was_given(fresh_mysql: Database) -> None:
    """A test can make a least-privilege user on either dialect."""
    password = canary()
    fresh_mysql.query("CREATE TABLE a (n INT PRIMARY KEY); INSERT INTO a VALUES (1)")
    fresh_mysql.server.create_user(fresh_mysql.name, password, [f"SELECT ON `{fresh_mysql.name}`.*"])
    connection = fresh_mysql.server.connect(fresh_mysql.name, user=fresh_mysql.name, password=password)
    connection.cmd_query("SELECT n FROM a")
    rows, _ = connection.get_rows()
    with pytest.raises(mysql.connector.Error) as refusal:
        connection.cmd_query("DELETE FROM a")
    connection.close()

    assert (rows, refusal.value.errno) == ([(1,)], 1142)


@pytest.mark.parametrize(("name", "encrypted"), [("mysql", True), ("mariadb", False)])
def test_only_mysql_offers_tls_by_itself(
    mysql_servers: Callable[[str], MySQLServer], name: str, encrypted: bool
) -> None:
    """The job must cope with both, so the servers must differ."""
    assert _is_encrypted(mysql_servers(name)) is encrypted


def test_mariadb_offers_tls_with_given_certificates(mysql_servers: Callable[[str], MySQLServer]) -> None:
    """MySQL makes certificates at its first start; MariaDB can use them."""
    with MariaDBServer(certificates=mysql_servers("mysql").data) as server:
        assert _is_encrypted(server)


def test_server_options_are_passed_on() -> None:
    """A test can have a server that is read-only, or has no binary log, and so on."""
    with MySQLServer(options=["--read-only"]) as server:
        assert server.query("SELECT @@read_only") == [(1,)]


@every_kind
def test_killed_server_comes_back_as_it_was(kind: Kind) -> None:
    """kill() is a crash: what was written stays, and clients find the server where it was."""
    with kind() as server:
        port = server.port
        server.query("CREATE DATABASE kept")
        server.kill()
        assert not server.answers()
        server.start()

        assert server.port == port
        assert ("kept",) in server.query("SHOW DATABASES")


@every_kind
def test_closed_server_leaves_nothing_behind(kind: Kind) -> None:
    """After close() there is neither a process nor a file."""
    server = kind().start()
    pid, base = server.pid, server.base
    began = time.monotonic()
    server.close()

    assert time.monotonic() - began < 10
    assert not _alive(pid)
    assert not base.exists()


@every_kind
def test_paused_server_does_not_answer(kind: Kind) -> None:
    """pause() gives the hanging server that a network fault gives."""
    with kind() as server:
        server.pause()
        assert not server.answers()
        server.resume()
        assert server.answers()


@every_kind
def test_server_dies_with_the_tests(kind: Kind) -> None:
    """Even kill -9 of the test run, with the server paused, leaves no process and no file."""
    code = f"""
import time
from {kind.__module__} import {kind.__name__}
server = {kind.__name__}().start()
server.pause()
print(server.pid, server.base, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=job.ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid, base = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while (_alive(int(pid)) or Path(base).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not _alive(int(pid))
    assert not Path(base).exists()


def test_server_that_cannot_start_shows_its_log() -> None:
    """A wrong option is explained by the server's own words."""
    with pytest.raises(StartError, match="no-such-option"):
        MariaDBServer(options=["--no-such-option"]).start()


def test_missing_engine_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not in the archive fails with apt's words, and leaves no half-made tree."""
    monkeypatch.setenv("MIGRATE_TEST_CACHE", str(tmp_path))
    monkeypatch.setitem(engines.PACKAGES, "nothing", ("bookworm", "no-such-server-core"))
    with pytest.raises(engines.EngineError, match="no-such-server-core"):
        engines.fetch("nothing")

    assert [path.name for path in (tmp_path / "nothing").iterdir()] == ["tree.lock"]


def test_developers_can_have_the_servers_for_a_command() -> None:
    """`python -m tests.servers up -- COMMAND` gives the command its settings and returns its exit code."""
    check = "import os, sys; sys.exit(7 * ('CLICKHOUSE_URL' in os.environ and 'MYSQL_URL' in os.environ))"
    command = [sys.executable, "-m", "tests.servers", "up", "--engine", "mariadb", "--"]

    assert subprocess.run([*command, sys.executable, "-c", check], cwd=job.ROOT).returncode == 7


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_gets_empty_databases(servers: Servers, turn: str) -> None:
    """Nothing of an earlier test is there, and the settings point at these very servers."""
    databases = {name.lower() for (name,) in servers.clickhouse.query("SHOW DATABASES")}
    tables = servers.mysql.query("SHOW TABLES")
    servers.clickhouse.query("CREATE DATABASE left_over")
    servers.mysql.query("CREATE TABLE left_over (n INT)")

    assert databases == {"system", "information_schema", "default"}
    assert tables == []
    assert servers.environ["MYSQL_URL"].endswith(f":{servers.mysql.server.port}/{servers.mysql.name}")


def test_job_sees_nothing_of_our_environment(entrypoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has exported cannot change a result; the report is the last line."""
    monkeypatch.setenv("CLICKHOUSE_URL", "http://of-the-developer/")
    entrypoint.write_text(f"{ENTRYPOINT}say(event='report', seen=sorted(os.environ))")
    result = job.run_job(env={"MYSQL_URL": "mysql://x/"})

    assert "CLICKHOUSE_URL" not in result.report["seen"]
    assert {"PATH", "MYSQL_URL", "MIGRATE_LOG_FORMAT"} <= set(result.report["seen"])


def test_job_output_must_be_json(entrypoint: Path) -> None:
    """A stray print or a traceback on stdout fails the test that ran the job."""
    entrypoint.write_text("print('hello')")
    with pytest.raises(AssertionError, match="hello"):
        job.run_job()


def test_job_can_be_watched_and_killed(entrypoint: Path) -> None:
    """until() returns as soon as the line is there, while the program still runs."""
    entrypoint.write_text(f"{ENTRYPOINT}say(event='step_started', step='0001_a.mysql'); time.sleep(60)")
    running = job.Job()
    assert running.until("step_started", step="0001_a.mysql")["event"] == "step_started"
    running.process.kill()

    assert running.wait().code == -signal.SIGKILL


@pytest.mark.parametrize(
    "shown",
    [
        "'p: ' + w",
        "'p: ' + repr(w)",
        "json.dumps([w])",
        "os.environ['MYSQL_URL']",
        "urllib.parse.quote_plus(w)",
        "base64.b64encode(f'u:{w}'.encode()).decode()",
        "base64.b64encode(f'me:{w}'.encode()).decode()",
        "base64.b64encode(f'you:{w}'.encode()).decode()",
        "w.encode().hex()",
        "w.split('@')[0]",
    ],
)
def test_shown_password_is_found_in_any_spelling(entrypoint: Path, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search at the end of the session sees a leak, and names the test."""
    monkeypatch.setattr(job, "RUNS", [])
    monkeypatch.setattr(job, "SECRETS", set())
    entrypoint.write_text(f"{ENTRYPOINT}w = sys.argv[1]\nsay(event='error', message={shown})")
    password = canary()
    job.run_job(password, env={"MYSQL_URL": f"mysql://u:{quote(password, safe='')}@h/d"})

    assert any("test_shown_password" in leak for leak in job.leaks())


def test_silent_job_is_no_leak(entrypoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds nothing where nothing is."""
    monkeypatch.setattr(job, "RUNS", [])
    entrypoint.write_text(f"{ENTRYPOINT}say(event='report', exit_code=0)")
    job.run_job(env={"MYSQL_PASSWORD": canary()})

    assert job.leaks() == []


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the program, to test the helper that runs it."""
    monkeypatch.setattr(job, "ROOT", tmp_path)
    return tmp_path / "entrypoint.py"


def _is_encrypted(server: MySQLServer) -> bool:
    connection = server.connect(user=server.user, password=server.password)
    connection.cmd_query("SHOW STATUS LIKE 'Ssl_cipher'")
    (row,), _ = connection.get_rows()
    connection.close()
    return bool(row[1])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
