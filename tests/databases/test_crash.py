"""What a run leaves behind when it is killed, and what the next one makes of it. docs/reliability.md has the figures.

The matrix kills a run at commands on the wire, before they are sent and after they are carried out with the reply lost.
By default it is a sample, evenly spread; MIGRATE_TEST_FULL=1 takes every command, but of the shipped steps on MariaDB.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FIGURES, Servers
from tests.databases.conftest import Steps, ledger, listening, one_dialect
from tests.databases.crash import FIXTURE, ClickHouseTarget, Crashes, Figures, MySQLTarget, Target
from tests.databases.test_matrix import CLICKHOUSE, MYSQL
from tests.job import Job, JobResult, run_job
from tests.rights import EXACT, OWN, WATCHFUL
from tests.servers.clickhouse import ClickHouseServer, User
from tests.servers.mysql import ENGINES, MySQLServer
from tests.servers.proxy import Fault, Proxy, http_error, mysql_error

FULL = bool(os.environ.get("MIGRATE_TEST_FULL"))
DATA = Path(__file__).parents[1] / "data" / "crash"
SHIPPED = Path(__file__).parents[2] / "sql"
OLD_MYSQL, OLD_CLICKHOUSE = MYSQL["M-7 006 by hand, int, other collation"], CLICKHOUSE["C, views V1"]
TRUSTED = ["--log-bin-trust-function-creators=1"]  # else MySQL wants SUPER for a trigger
# What is killed, its target, and how many points by default and in full (0: every one).
SCENARIOS: dict[str, tuple[str, str, int, int]] = {
    "fixture on mysql": ("mysql", "fixture", 4, 0),
    "fixture on mariadb": ("mariadb", "fixture", 3, 0),
    "fixture on clickhouse": ("clickhouse", "fixture", 4, 0),
    "shipped steps on mysql": ("mysql", "fresh", 1, 0),
    "shipped steps on mysql, old": ("mysql", "old", 1, 0),
    "shipped steps on mariadb, old": ("mariadb", "old", 0, 20),
    "shipped steps on clickhouse": ("clickhouse", "fresh", 1, 0),
    "shipped steps on clickhouse, old": ("clickhouse", "old", 1, 0),
    "fixture, mysql killed": ("mysql", "fixture", 1, 50),
    "fixture, mariadb killed": ("mariadb", "fixture", 0, 20),
    "fixture, clickhouse killed": ("clickhouse", "fixture", 1, 50),
}


@pytest.fixture(scope="module", params=["mysql", "mariadb", "clickhouse"])
def victim(request: pytest.FixtureRequest) -> Iterator[MySQLServer | ClickHouseServer]:
    """A server of its own, for it is killed as well."""
    server: MySQLServer | ClickHouseServer = (
        ClickHouseServer(grants=EXACT + OWN) if request.param == "clickhouse" else ENGINES[request.param](options=TRUSTED))
    with server:
        yield server


def target(server: MySQLServer | ClickHouseServer, what: str) -> Target:
    if isinstance(server, ClickHouseServer):
        return ClickHouseTarget(server, OLD_CLICKHOUSE.build if what == "old" else None)
    return MySQLTarget(server, OLD_MYSQL if what == "old" else "", FIXTURE if what == "fixture" else ())


@pytest.mark.parametrize(("victim", "scenario"), [(engine, name) for name, (engine, *_) in SCENARIOS.items()],
                         indirect=["victim"])  # fmt: skip
def test_a_killed_run_is_completed_by_the_next(victim: MySQLServer | ClickHouseServer, scenario: str) -> None:
    """The same end as without a crash, nothing lost, nothing applied twice."""
    engine, what, few, many = SCENARIOS[scenario]
    steps = DATA / ("clickhouse" if engine == "clickhouse" else "mysql") if what == "fixture" else SHIPPED
    points = many if FULL else few
    if not points and not FULL:
        return
    crashes = Crashes(target(victim, what), steps, MIGRATE_VERIFY="steps" if what == "fixture" else "full")
    figures = Figures()
    every = [(command, mode) for command in range(crashes.commands) for mode in ("pre", "post")]
    for command, mode in every[len(every) // points // 2 :: len(every) // points] if points else every:
        crashes.point(command, mode, figures, server_dies="killed" in scenario)
    FIGURES.append(f"killed at commands: {scenario:33}{figures}")
    assert (figures.wrong, figures.stopped) == ([], 0)
    assert figures.recovered


# Steps that take turns on both databases, some of them in a batch: its intents are one write for each, and so are its rows.

BOTH = DATA / "both"
BATCH = ["0010_visits.clickhouse", "0011_visits.mysql", "0012_count.clickhouse", "0013_both.mysql", "0014_who.clickhouse"]


@pytest.mark.parametrize("killed_at", ["clickhouse", "mysql"])
def test_a_killed_run_is_completed_on_both(
    killed_at: str, fresh_clickhouse: ClickHouseServer, mysql_servers: Callable[[str], MySQLServer]
) -> None:
    """Whatever the other one was at, in a batch and outside."""
    mysql = mysql_servers("mysql").start()
    both = {"clickhouse": ClickHouseTarget(fresh_clickhouse), "mysql": MySQLTarget(mysql)}
    try:
        crashes = Crashes(both.pop(killed_at), BOTH, both.popitem()[1], MIGRATE_VERIFY="steps")
        figures = Figures()
        for command in range(crashes.commands)[:: 1 if FULL else 7]:
            for mode in ("pre", "post"):
                crashes.point(command, mode, figures)
    finally:
        fresh_clickhouse.clean()
        mysql.drop_database("crash")
    FIGURES.append(f"killed at commands: {'both, at those to ' + killed_at:33}{figures}")
    assert (figures.wrong, figures.stopped) == ([], 0)
    assert figures.recovered


LOST_REPLY = {"mysql": mysql_error(2013), "clickhouse": http_error(500, 210, "network")}


def run_behind(fault: Fault, servers: Servers, steps: Steps, target: str = "clickhouse") -> JobResult:
    """A run whose connection to one of the servers has this fault."""
    server: Any = servers.clickhouse if target == "clickhouse" else servers.mysql.server
    if target == "clickhouse":
        url = server.url()
    else:
        server.connect(user=server.user, password=server.password).close()  # over TLS, so that the proxy need not speak it
        url = server.url(servers.mysql.name, ssl_mode="DISABLED")
    with Proxy(server.port, "http" if target == "clickhouse" else "mysql", faults=[fault]) as proxy:
        return steps.run(servers, **{f"{target.upper()}_URL": url.replace(f":{server.port}", f":{proxy.port}")})


def copied(steps: Steps) -> Steps:
    steps.add({path.name: path.read_text() for path in BOTH.iterdir()})
    return steps


def applied_at(result: JobResult) -> list[str]:
    """In the order of the log: the numbers of steps that began, and with a + of those that were recorded."""
    return ["+" * (line["event"] == "step_applied") + line["step"][:4] for line in result.lines
            if line["event"] in ("step_started", "step_applied")]


def test_a_batch_is_announced_and_recorded_in_one_write_for_each_database(servers: Servers, steps: Steps) -> None:
    """A row is there, and said to be, behind the last step of its batch; the journal is empty then."""
    with listening(servers) as sent:
        result = copied(steps).run(servers)
    about = [text for text in sent.mysql if re.search("00(11_visits|13_both)", text)]
    together = "SELECT count(DISTINCT recorded_at) FROM migrate.schema_migrations WHERE version IN (10, 12, 14)"

    assert (result.code, result.report["applied"][9:14], result.report["failed"]) == (0, BATCH, None)
    assert applied_at(result)[18:28] == [stem[:4] for stem in BATCH] + ["+" + stem[:4] for stem in BATCH]
    assert [(text.split()[0], text.count("'intent'"), text.count("'00")) for text in about] == [
        ("REPLACE", 2, 2), ("INSERT", 0, 2)]
    assert servers.clickhouse.query(together) == [(1,)]
    for query, journal in ((servers.clickhouse.query, "migrate."), (servers.mysql.query, "")):
        assert query(f"SELECT COUNT(*) FROM {journal}schema_migrations_journal WHERE version > 0") == [(0,)]


@one_dialect
def test_a_row_that_is_refused(servers: Servers, steps: Steps) -> None:
    """The run ends and names its step, which the next run sends nothing of again; and so with the rows of a batch."""
    refuse = Fault(b"INSERT INTO migrate.schema_migrations (version, description, name, checksum, image, host, run, seconds)"
                   b" VALUES (10,", http_error(500, 241, "no memory"))
    refused = run_behind(refuse, servers, copied(steps))
    result = steps.run(servers)

    assert (refused.code, refused.report["failed"], refused.report["applied"][9:]) == (6, BATCH[0], [])
    skipped = [line["step"][:4] for line in result.events("statement") if line.get("skipped")]
    assert (result.code, result.report["applied"][:5]) == (0, BATCH)
    assert skipped == ["0010", "0011", "0012", "0013", "0014"]


@one_dialect
def test_a_statement_that_is_refused_in_a_batch(servers: Servers, steps: Steps) -> None:
    """The steps before it are recorded, and what comes behind was never announced: it is refused if it is there by then."""
    copied(steps).write(n0012_count__clickhouse__sql="CREATE VIEW own.count AS SELECT nothing FROM own.visits")
    refused = steps.run(servers)
    assert (refused.code, refused.report["failed"], refused.report["applied"][9:]) == (6, BATCH[2], BATCH[:2])
    assert "0012_count.clickhouse.sql:1: statement 1 of 1 was refused: " in refused.report["error"]
    assert (10 in ledger(servers), 11 in ledger(servers), 12 in ledger(servers)) == (True, True, False)

    steps.write(n0012_count__clickhouse__sql="CREATE VIEW own.who AS SELECT 1 AS other")
    taken = steps.run(servers)
    assert (taken.code, taken.report["failed"], taken.report["applied"]) == (6, BATCH[4], [*BATCH[2:4]])

    servers.clickhouse.query("DROP VIEW own.who SYNC")
    assert steps.run(servers).code == 0
    assert servers.clickhouse.query("SELECT id FROM own.who") == [(1,)]


@one_dialect
def test_a_name_that_is_taken_is_refused_as_ever(servers: Servers, steps: Steps) -> None:
    """Of somebody's own table no run says that a step has made it."""
    copied(steps)
    servers.mysql.query("CREATE TABLE Visits (n INT)" if servers.mysql.query("SELECT @@lower_case_table_names") != [(0,)]
                        else "CREATE TABLE visits (n INT)")
    for applied in (10, 0):
        result = steps.run(servers)
        assert (result.code, result.report["failed"], len(result.report["applied"])) == (6, BATCH[1], applied)
        assert "already exists" in result.report["error"]


@pytest.mark.parametrize("target", ["mysql", "clickhouse"])
def test_a_name_that_is_taken_is_no_effect_of_a_lost_statement(servers: Servers, steps: Steps, target: str) -> None:
    """Nothing is announced of a step that would meet somebody's table."""
    query = servers.mysql.query if target == "mysql" else servers.clickhouse.query
    servers.clickhouse.query("CREATE DATABASE d")
    a, b = (TABLE.format(f"d.{name}", " ENGINE = Memory") if target == "clickhouse" else TABLE.format(name, "") for name in "ab")
    query(b)
    steps.add({f"0001_a.{target}.sql": a, f"0002_b.{target}.sql": b})
    lost = run_behind(Fault(b.encode(), LOST_REPLY[target]), servers, steps, target)
    result = steps.run(servers)

    assert (lost.code, result.code, result.report["failed"]) == (3, 6, f"0002_b.{target}")


TABLE = "CREATE TABLE {} (n INT){}"


@pytest.mark.parametrize("target", ["mysql", "clickhouse"])
@pytest.mark.parametrize(("before", "statement", "remedy"), [
    (TABLE, TABLE, "DROP TABLE {}"),
    (TABLE, "CREATE VIEW {} AS SELECT 1 AS n", "DROP TABLE {}"),
    (TABLE.replace("INT)", "INT, m INT)"), "ALTER TABLE {} ADD COLUMN m INT", "ALTER TABLE {} DROP COLUMN m"),
    (TABLE, "ALTER TABLE {} DROP COLUMN m", "ALTER TABLE {} ADD COLUMN m INT"),
    (TABLE, "ALTER TABLE {0} DROP COLUMN m, ADD COLUMN k INT", "ALTER TABLE {} ADD COLUMN m INT"),
    ("SELECT 1", "DROP TABLE {}", TABLE),
    ("SELECT 1", "RENAME TABLE {0} TO {0}2", TABLE),
])  # fmt: skip
def test_what_was_refused_is_sent_when_a_person_has_made_way(
    servers: Servers, steps: Steps, target: str, before: str, statement: str, remedy: str
) -> None:
    """A change of what it is about, made since it was refused, is not its effect."""
    query = servers.mysql.query if target == "mysql" else servers.clickhouse.query
    name, engine = ("t", "") if target == "mysql" else ("d.t", " ENGINE = MergeTree ORDER BY n")
    servers.clickhouse.query("CREATE DATABASE d")
    query(before.format(name, engine))
    steps.add({f"0001_a.{target}.sql": statement.format(name, engine)})
    assert steps.run(servers).code == 6
    query(remedy.format(name, engine))
    result = steps.run(servers)

    assert (result.code, [line.get("skipped") for line in result.events("statement")]) == (0, [None])


CORRECTED = "ALTER TABLE d.t UPDATE s = '7' WHERE s = 'x'"


@one_dialect
@pytest.mark.parametrize(("remedies", "code"), [
    ([], 2), (["KILL MUTATION WHERE table = 't'"], 6),
    (["KILL MUTATION WHERE table = 't'", "ALTER TABLE d.t MODIFY COLUMN s String", CORRECTED], 0),
    (["KILL MUTATION WHERE table = 't'", "TRUNCATE TABLE d.t"], 0),
])  # fmt: skip
def test_a_column_whose_rows_would_not_change(servers: Servers, steps: Steps, remedies: list[str], code: int) -> None:
    """The catalog shows the new type though the mutation failed, and also when it was killed; the parts do not."""
    for sql in ("CREATE DATABASE d", "CREATE TABLE d.t (n UInt8, s String) ENGINE = MergeTree ORDER BY n",
                "INSERT INTO d.t VALUES (1, '5'), (2, 'x')"):
        servers.clickhouse.query(sql)
    steps.write(n0001_type__clickhouse__sql="ALTER TABLE d.t MODIFY COLUMN s UInt8")
    assert steps.run(servers).code == 6
    for remedy in remedies:
        servers.clickhouse.query(remedy, mutations_sync=1)
    result = steps.run(servers)

    assert result.code == code, result.stdout
    assert (code == 6) == ("cannot tell whether it took effect" in result.report.get("error", ""))
    if not code:
        assert servers.clickhouse.query("SELECT s FROM d.t ORDER BY n") == ([(5,), (7,)] if CORRECTED in remedies else [])


@one_dialect
@pytest.mark.parametrize("statement", ["ALTER TABLE d.t MODIFY COLUMN e Enum8('a' = 1, 'b' = 2)", "ALTER TABLE d.t MODIFY COLUMN n UInt16",
                                       "ALTER TABLE d.t RENAME COLUMN e TO f", "ALTER TABLE d.t DROP COLUMN e"])
def test_a_column_whose_rows_changed(servers: Servers, steps: Steps, statement: str) -> None:
    """And what changes the definition alone, which no part shows."""
    for sql in ("CREATE DATABASE d", "CREATE TABLE d.t (k UInt8, n UInt8, e Enum8('a' = 1)) ENGINE = MergeTree ORDER BY k",
                "INSERT INTO d.t VALUES (1, 2, 'a')"):
        servers.clickhouse.query(sql)
    steps.write(n0001_type__clickhouse__sql=statement)
    assert run_behind(Fault(statement.encode(), LOST_REPLY["clickhouse"], carried_out=True), servers, steps).code == 3

    assert steps.run(servers).code == 0


# What nobody can tell.

@pytest.fixture
def watched(servers: Servers) -> Servers:
    """Both databases, for a user who may read ClickHouse's query log."""
    return replace(servers, user=WATCHFUL.name)


HALF = """CREATE TABLE people (n INT);
DELIMITER //
CREATE PROCEDURE slow() BEGIN INSERT INTO people VALUES (1); COMMIT; DO SLEEP(1); INSERT INTO people VALUES (2); END//
DELIMITER ;
CALL slow();
CREATE TABLE after_it (n INT);
"""
SLEEP = "SELECT number FROM numbers(3) WHERE sleepEachRow(1) = 0 SETTINGS max_block_size = 1"


def killed(servers: Servers, steps: Steps, condition: Callable[[], object]) -> None:
    """A run that is killed as soon as this holds; its lock is free then."""
    job = steps.start(servers)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, job.stdout
        time.sleep(0.02)
    job.process.kill()
    job.wait()
    servers.clickhouse.query("DROP TABLE IF EXISTS migrate.schema_migrations_lock SYNC")


def exists(servers: Servers, name: str) -> bool:
    return bool(servers.mysql.query(f"SHOW TABLES LIKE '{name}'"))


def half(servers: Servers, steps: Steps) -> None:
    steps.write(n0001_half__mysql__sql=HALF)
    killed(servers, steps, lambda: exists(servers, "people") and servers.mysql.query("SELECT 1 FROM people"))


@pytest.mark.parametrize(("remedy", "rows"), [(1, [1, 1, 2, 2]), (2, [1, 2])])
def test_what_nobody_can_tell_stops_with_both_remedies(servers: Servers, steps: Steps, remedy: int, rows: list[int]) -> None:
    """A procedure that commits by itself; a person looks, and pastes one of two statements."""
    half(servers, steps)
    result = steps.run(servers)

    assert result.code == 6
    error = result.report["error"]
    assert "0001_half.mysql.sql:5: statement 3 of 4 was sent by run " in error
    assert not exists(servers, "after_it")
    assert steps.run(servers).code == 6
    time.sleep(1)  # the orphan goes on to its end, as the server always does
    remedies = re.search(r"send it again: (.+); or skip it: (.+)", error)
    assert remedies
    servers.mysql.query(remedies[remedy])
    assert steps.run(servers).code == 0
    assert sorted(n for (n,) in servers.mysql.query("SELECT n FROM people")) == rows
    assert exists(servers, "after_it")


@one_dialect
def test_a_step_that_says_it_is_idempotent_goes_on(servers: Servers, steps: Steps) -> None:
    """The author knows better than any server."""
    steps.write(n0001_half__mysql__sql="-- migrate: idempotent\n" + HALF)
    killed(servers, steps, lambda: exists(servers, "people") and servers.mysql.query("SELECT 1 FROM people"))

    assert steps.run(servers).code == 0


# What an INSERT reads, what is beside its table, what is lost of its rows, and whether they can be told where no query log tells.
ROWS = "(SELECT number FROM numbers(3) WHERE sleepEachRow(0.5) = 0) AS made SETTINGS max_block_size = 1"
THREE, ONCE = f"SELECT number FROM {ROWS}", "SELECT number FROM numbers(3) WHERE sleep(1.5) = 0"
VIEW = "CREATE MATERIALIZED VIEW d.v ENGINE = MergeTree ORDER BY tuple() AS SELECT n FROM d.t"
BESIDE = ("CREATE TABLE d.u (t String, m UInt64, k UInt8 DEFAULT 3) ENGINE = MergeTree ORDER BY m;"
          " CREATE MATERIALIZED VIEW d.x TO d.u AS WITH 7 AS x SELECT n + x AS m, toString(n) AS t FROM d.t WHERE n != 1;")
BEHIND = BESIDE + VIEW.replace("n FROM d.t", "sum(m) AS s FROM d.u")
TWICE = BESIDE + "CREATE MATERIALIZED VIEW d.y TO d.u AS SELECT n AS m FROM d.t"
UNLOGGED = {
    "rows that can be made again": (THREE, "", "", 0),
    "default values": (THREE, "ALTER TABLE d.t ADD COLUMN m UInt64 DEFAULT n + 1, ADD COLUMN a UInt64 ALIAS n", "", 0),
    "rows of chance": (f"SELECT rand() FROM {ROWS}", "", "", 6),
    "its own rows": (f"SELECT n + number FROM d.t, {ROWS}", "INSERT INTO d.t VALUES (7)", "", 6),
    "a Log": (THREE, "DROP TABLE d.t SYNC; CREATE TABLE d.t (n UInt64) ENGINE = Log; INSERT INTO d.t VALUES (7)", "", 0),
    "a Log that somebody fills": (THREE, "DROP TABLE d.t SYNC; CREATE TABLE d.t (n UInt64) ENGINE = Log", "INSERT INTO d.t VALUES (7)", 6),
    "a view": (THREE, VIEW, "", 0),
    "a view that did not get all": (THREE, BESIDE, "DELETE FROM d.u WHERE m = 9", 6),
    "a view that got nothing": (THREE, VIEW, "TRUNCATE TABLE d.v", 6),
    "a view that takes nothing": (THREE, VIEW + " WHERE n > 9", "", 6),
    "a view of chance": (THREE, VIEW.replace("n FROM", "rand() AS n FROM"), "", 6),
    "a view that he may not see": (THREE, f"CREATE DATABASE hidden; {VIEW.replace('d.v', 'hidden.v')}", "", 6),
    "a view that is another one by now": (THREE, VIEW, f"DROP TABLE d.v SYNC; {VIEW}", 6),
    "two views on one table": (THREE, TWICE, "", 0),
    "two views on one table, one row too few": (THREE, TWICE, "DELETE FROM d.u WHERE m = 9", 6),
    "a view behind a view": (ONCE, BEHIND, "", 0),
    "a view behind a view that got nothing": (ONCE, BEHIND, "TRUNCATE TABLE d.v", 6),
}  # fmt: skip


@one_dialect
@pytest.mark.parametrize("case", UNLOGGED)
def test_an_insert_that_the_query_log_does_not_know(watched: Servers, steps: Steps, case: str) -> None:
    """On ClickHouse: rows came. They are the statement's if it makes just these; else nothing says whose they are."""
    source, before, lost, code = UNLOGGED[case]
    server = watched.clickhouse
    server.query("TRUNCATE TABLE IF EXISTS system.query_log")
    for sql in ["CREATE DATABASE d", "CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n", *filter(None, before.split(";"))]:
        server.query(sql)
    steps.write(n0001_half__clickhouse__sql=f"INSERT /* ( */ INTO d.`t` (n) {source}")
    running = "SELECT 1 FROM system.processes WHERE query LIKE 'INSERT /* ( */ INTO d.%'"
    killed(watched, steps, lambda: server.query(running))
    ended = running.replace("processes", "query_log") + " AND type = 'QueryFinish'"
    server.query("SYSTEM FLUSH LOGS")
    while not server.query(ended):
        time.sleep(0.1)
        server.query("SYSTEM FLUSH LOGS")
    for sql in ["TRUNCATE TABLE system.query_log", *filter(None, lost.split(";"))]:
        server.query(sql)
    rows = server.query("SELECT n FROM d.t ORDER BY n")
    result = steps.run(watched)

    assert result.code == code, result.stdout
    if code:
        assert "0001_half.clickhouse.sql:1: statement 1 of 1" in result.report["error"]
        server.query(result.report["error"].partition("or skip it: ")[2])
        assert steps.run(watched).code == 0
    assert len(rows) >= 3
    assert server.query("SELECT n FROM d.t ORDER BY n") == rows


# What is carried out while its reply is lost, what somebody does then, and the next run's code; nobody may read the query log.
COPY = "CREATE TABLE {} d.u ENGINE = MergeTree ORDER BY n AS WITH 1 AS p SELECT n FROM d.t"
POPULATED = "CREATE MATERIALIZED VIEW {} d.u ENGINE = MergeTree ORDER BY n POPULATE AS SELECT n FROM d.t"
UNANSWERED = {
    "truncated": ("TRUNCATE TABLE d.t", "", 0),
    "truncated and filled again": ("TRUNCATE TABLE d.t", "INSERT INTO d.t VALUES (3, 9)", 6),
    "without a partition": ("ALTER TABLE d.t DROP PARTITION 1", "", 0),
    "without two": ("ALTER TABLE d.t DROP PARTITION 1", "ALTER TABLE d.t DROP PARTITION 2", 0),
    "with a partition again": ("ALTER TABLE d.t DETACH PARTITION 1", "INSERT INTO d.t VALUES (1, 9)", 6),
    "moved": ("ALTER TABLE d.t MOVE PARTITION 1 TO TABLE d.v", "", 6),
    "copied": (COPY.format(""), "", 0),
    "copied with a guard": (COPY.format("IF NOT EXISTS"), "", 0),
    "half copied": (COPY.format(""), "DELETE FROM d.u WHERE n = 2", 6),
    "cloned": ("CREATE TABLE d.u CLONE AS d.t", "", 0),
    "half cloned": ("CREATE TABLE IF NOT EXISTS d.u CLONE AS d.t ENGINE = MergeTree PARTITION BY p ORDER BY n",
                    "ALTER TABLE d.u DROP PARTITION 2", 6),
    "a view that is filled": (POPULATED.format(""), "", 0),
    "a view that is filled, with a guard": (POPULATED.format("IF NOT EXISTS"), "", 0),
    "a view that is half filled": (POPULATED.format(""), "DELETE FROM d.`.inner.u` WHERE n = 2", 6),
    "half copied with a guard": (COPY.format("IF NOT EXISTS"), "DELETE FROM d.u WHERE n = 2", 6),
}


@one_dialect
@pytest.mark.parametrize("case", UNANSWERED)
def test_rows_tell_of_a_statement_without_an_answer(servers: Servers, steps: Steps, case: str) -> None:
    """On ClickHouse: what takes rows away goes out again unless rows came since; a copy is done if it holds its rows."""
    statement, meanwhile, code = UNANSWERED[case]
    for sql in ("CREATE DATABASE d", "CREATE TABLE d.t (p UInt8, n UInt8) ENGINE = MergeTree PARTITION BY p ORDER BY n",
                "CREATE TABLE d.v AS d.t", "INSERT INTO d.t VALUES (1, 1), (2, 2), (3, 3)"):
        servers.clickhouse.query(sql)
    steps.write(n0001_rows__clickhouse__sql=statement)
    assert run_behind(Fault(statement.encode(), LOST_REPLY["clickhouse"], carried_out=True), servers, steps).code == 3
    if meanwhile:
        inner = servers.clickhouse.query("SELECT name FROM system.tables WHERE database = 'd' AND startsWith(name, '.inner')")
        servers.clickhouse.query(meanwhile.replace(".inner.u", inner[0][0] if inner else ""))
    rows = [sorted(servers.clickhouse.query(f"SELECT n FROM d.{name}")) for name in "tv" + "u" * statement.startswith("CREATE")]
    result = steps.run(servers)

    assert result.code == code, result.stdout
    assert (code == 6) == ("cannot tell whether it took effect" in result.report.get("error", ""))
    assert rows == [sorted(servers.clickhouse.query(f"SELECT n FROM d.{name}"))
                    for name in "tv" + "u" * statement.startswith("CREATE")]


@pytest.mark.parametrize(("meanwhile", "code"), [("DO 1", 0), ("INSERT INTO people VALUES (2)", 6)])
def test_an_empty_table_tells_of_a_truncate_without_an_answer(
    servers: Servers, steps: Steps, meanwhile: str, code: int
) -> None:
    """On MySQL, which commits its intent by itself."""
    servers.mysql.query("CREATE TABLE people (n INT)")
    servers.mysql.query("INSERT INTO people VALUES (1)")
    steps.write(n0001_rows__mysql__sql="TRUNCATE TABLE people")
    lost = Fault(b"TRUNCATE TABLE people", LOST_REPLY["mysql"], carried_out=True)
    assert run_behind(lost, servers, steps, "mysql").code == 3
    servers.mysql.query(meanwhile)
    rows = servers.mysql.query("SELECT n FROM people")
    result = steps.run(servers)

    assert (result.code, servers.mysql.query("SELECT n FROM people")) == (code, rows), result.stdout
    assert rows == ([(2,)] if code else [])


# Statements that outlive their run.

@one_dialect
def test_an_orphan_is_waited_for(watched: Servers, steps: Steps) -> None:
    """No second INSERT beside the first; within the lock's timeout, else exit 4 with a line that names it."""
    steps.write(n0001_slow__clickhouse__sql="CREATE DATABASE d; CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n;"
                                            " INSERT INTO d.t " + SLEEP.replace("(3)", "(9)"))
    running = "SELECT query_id FROM system.processes WHERE query LIKE 'INSERT INTO d.t%'"
    killed(watched, steps, lambda: watched.clickhouse.query(running))
    ((name,),) = watched.clickhouse.query(running)
    impatient = steps.run(watched, MIGRATE_LOCK_TIMEOUT="1")
    patient = steps.run(watched)

    assert re.fullmatch(r"migrate-[0-9a-f]{12}-0001_slow\.clickhouse-3-\d+", name)
    assert (impatient.code, f"statement {name}, left by a run that ended" in impatient.report["error"]) == (4, True)
    assert patient.code == 0
    assert name in patient.events("lock")[0]["owner"]
    assert watched.clickhouse.query("SELECT count() FROM d.t") == [(9,)]


@one_dialect
def test_a_mutation_whose_statement_is_gone_is_waited_for(servers: Servers, steps: Steps) -> None:
    """It goes on without the ALTER that waited for it, and it is not begun a second time."""
    steps.write(n0001_slow__clickhouse__sql="CREATE DATABASE d; CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n;"
                                            " INSERT INTO d.t SELECT number FROM numbers(3);"
                                            " ALTER TABLE d.t ADD COLUMN a UInt64; SYSTEM STOP MERGES d.t;"
                                            " ALTER TABLE d.t UPDATE a = a + 1 WHERE 1")
    running = "SELECT query_id FROM system.processes WHERE query LIKE 'ALTER TABLE d.t UPDATE%'"
    killed(servers, steps, lambda: servers.clickhouse.query("SELECT 1 FROM system.mutations WHERE database = 'd'")
           and servers.clickhouse.query(running))
    ((name,),) = servers.clickhouse.query(running)
    servers.clickhouse.query(f"KILL QUERY WHERE query_id = '{name}' ASYNC")
    while servers.clickhouse.query(running):
        time.sleep(0.02)
    impatient = steps.run(servers, MIGRATE_LOCK_TIMEOUT="1")
    patient = steps.start(servers)
    patient.until("waiting", reason="1 mutation(s) of d.t")
    servers.clickhouse.query("SYSTEM START MERGES d.t")

    assert (impatient.code, "1 mutation(s) of d.t did not end" in impatient.report["error"]) == (4, True)
    assert patient.wait().code == 0
    assert servers.clickhouse.query("SELECT DISTINCT a FROM d.t") == [(1,)]


# What else goes by the journal.

FIRST, SECOND = "CREATE TABLE a (n INT); INSERT INTO a VALUES (1);\n", "ALTER TABLE a ADD COLUMN m INT;\n"


def test_a_corrected_file_goes_on_where_it_stopped(servers: Servers, steps: Steps) -> None:
    """What is done stays done, wherever it stands; what is new or different is sent; the dry run knows it all."""
    steps.write(n0001_a__mysql__sql=FIRST + "INSERT INTO a VALUES ('x');\n" + SECOND)
    assert steps.run(servers).code == 6
    steps.write(n0001_a__mysql__sql="CREATE TABLE b (n INT);\n" + FIRST + SECOND + "INSERT INTO a VALUES (1, 2);\n"
                                    "INSERT INTO a VALUES (1, 2)")
    dry = steps.run(servers, "--dry-run")
    result = steps.run(servers)

    assert [line["n"] for line in dry.events("statement")] == [1, 4, 5, 6]
    assert (dry.code, result.code) == (0, 0)
    assert [bool(line.get("skipped")) for line in result.events("statement")] == [False, True, True, False, False, False]
    assert servers.mysql.query("SELECT n, m FROM a") == [(1, None), (1, 2), (1, 2)]
    assert exists(servers, "b")
    assert servers.mysql.query("SELECT COUNT(*) FROM schema_migrations_journal WHERE version > 0") == [(0,)]


@pytest.mark.parametrize("target", ["mysql", "clickhouse"])
def test_a_step_whose_ledger_row_was_deleted_runs_from_its_beginning(servers: Servers, steps: Steps, target: str) -> None:
    """As a person who deletes it wants."""
    text = "CREATE TABLE IF NOT EXISTS {} (n Int) ENGINE = {}; INSERT INTO {} VALUES (1)"
    steps.add({f"0001_a.{target}.sql": text.format("t", "InnoDB", "t") if target == "mysql" else
               "CREATE DATABASE IF NOT EXISTS d;" + text.format("d.t", "Memory", "d.t")})  # fmt: skip
    assert steps.run(servers).code == 0
    if target == "mysql":
        servers.mysql.query("DELETE FROM schema_migrations")
    else:
        servers.clickhouse.query("DELETE FROM migrate.schema_migrations WHERE 1")
    assert ledger(servers) == {}
    assert steps.run(servers).code == 0
    query = servers.mysql.query if target == "mysql" else servers.clickhouse.query
    assert query("SELECT COUNT(*) FROM " + ("t" if target == "mysql" else "d.t")) == [(2,)]


@one_dialect
def test_what_a_killed_run_left_of_a_finished_step_is_forgotten(servers: Servers, steps: Steps) -> None:
    """On ClickHouse the row and the end of its journal are two writes; the next run makes up for the second, whatever is pending.

    So a step that a person takes out of the ledger runs from its beginning.
    """
    steps.write(n0001_a__clickhouse__sql="CREATE DATABASE IF NOT EXISTS d; CREATE TABLE IF NOT EXISTS d.t (n Int8) ENGINE = Memory;"
                                         " INSERT INTO d.t VALUES (1)")
    left = "SELECT count() FROM migrate.schema_migrations_journal"
    for expected in (1, 2):
        assert run_behind(Fault(b"DROP PARTITION", LOST_REPLY["clickhouse"]), servers, steps).code == 3
        assert ledger(servers) == {1: "0001_a.clickhouse"}
        assert servers.clickhouse.query(left) != [(0,)]
        assert servers.clickhouse.query("SELECT count() FROM d.t") == [(expected,)]
        if expected == 2:
            steps.write(n0002_b__mysql__sql="SELECT 1")
        assert steps.run(servers).code == 0
        assert servers.clickhouse.query(left) == [(0,)]
        servers.clickhouse.query("DELETE FROM migrate.schema_migrations WHERE version = 1")


@one_dialect
def test_only_what_is_finished_is_forgotten(servers: Servers, steps: Steps) -> None:
    """What the journal has of another step decides still what is sent of that."""
    steps.write(n0001_a__clickhouse__sql="CREATE DATABASE IF NOT EXISTS d; CREATE TABLE IF NOT EXISTS d.t (n Int8) ENGINE = Memory;")
    assert run_behind(Fault(b"DROP PARTITION", LOST_REPLY["clickhouse"]), servers, steps).code == 3
    insert = "INSERT INTO d.t VALUES (1)"
    servers.clickhouse.query("INSERT INTO migrate.schema_migrations_journal (version, statement, nth, state) VALUES"
                             f" (2, '{hashlib.sha256(insert.encode()).hexdigest()}', 1, 'done')")
    for last, code in (("INSERT INTO nowhere VALUES (1)", 6), ("SELECT 1", 0)):
        steps.write(n0002_b__clickhouse__sql=f"{insert}; {insert}; {last}")
        assert steps.run(servers).code == code
        assert servers.clickhouse.query("SELECT count() FROM d.t") == [(1,)]
    assert servers.clickhouse.query("SELECT count() FROM migrate.schema_migrations_journal") == [(0,)]


REPAIRED = {
    "0001_a.mysql.sql": "CREATE TABLE a (id INT PRIMARY KEY, n INT); INSERT INTO a VALUES (1, 1);\n"
                        "ALTER TABLE a ADD COLUMN m INT, ADD COLUMN k INT, ADD KEY by_n (n), MODIFY n BIGINT;\n"
                        "UPDATE a SET n = n + 1; CREATE VIEW v AS SELECT n FROM a; DROP TABLE IF EXISTS b;\n"
                        "CREATE TABLE b (n INT, KEY n (n)); CREATE INDEX by_m ON a (m); CREATE PROCEDURE p() SELECT 1",
    "0002_b.clickhouse.sql": "CREATE DATABASE d; CREATE TABLE d.a (n Int32) ENGINE = MergeTree ORDER BY n;\n"
                             "INSERT INTO d.a VALUES (1); ALTER TABLE d.a ADD COLUMN m Int8, ADD INDEX i m TYPE minmax;\n"
                             "CREATE VIEW d.v AS SELECT m FROM d.a; ALTER TABLE d.a UPDATE m = m + 1 WHERE 1",
}  # fmt: skip


def test_repair_brings_back_what_is_missing_and_no_rows(servers: Servers, steps: Steps) -> None:
    """Of a step that is recorded only what creates the missing is sent: no INSERT, no UPDATE, no DROP."""
    servers.mysql.grant("INDEX")
    steps.add(REPAIRED)
    assert steps.run(servers, "snapshot").code == 0
    servers.mysql.query("ALTER TABLE a DROP COLUMN k, DROP KEY by_n; DROP VIEW v; DROP PROCEDURE p; INSERT INTO b VALUES (7);"
                        " ALTER TABLE b DROP KEY n; CREATE INDEX n ON b (n); DROP INDEX by_m ON a")
    servers.clickhouse.query("DROP VIEW d.v SYNC")
    servers.clickhouse.query("ALTER TABLE d.a DROP INDEX i")
    result = steps.run(servers)

    assert result.code == 0, result.stdout
    assert len(result.report["repaired"]) == 7
    assert servers.mysql.query("SELECT id, n FROM a") == [(1, 2)]
    assert servers.mysql.query("SELECT n FROM b") == [(7,)]
    assert servers.clickhouse.query("SELECT n, m FROM d.a") == [(1, 1)]


@one_dialect
def test_a_deadlock_repeats_the_whole_transaction(servers: Servers, steps: Steps) -> None:
    """The server takes one of two back; the job's is sent again, with its journal row, and counts once."""
    servers.mysql.query("CREATE TABLE t (id INT PRIMARY KEY, n INT); INSERT INTO t SELECT 1, 0; INSERT INTO t SELECT 2, 0")
    steps.write(n0001_a__mysql__sql="UPDATE t SET n = n + 1 WHERE id = 1 OR (id = 2 AND SLEEP(1) = 0)")
    server = servers.mysql.server
    other = server.connect(servers.mysql.name)
    try:
        other.cmd_query("BEGIN")
        # The one that changed more rows survives.
        for number in range(10, 60):
            other.cmd_query(f"INSERT INTO t VALUES ({number}, 0)")
        other.cmd_query("UPDATE t SET n = n + 10 WHERE id = 2")
        job: Job = steps.start(servers)
        waits = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        deadline = time.monotonic() + 20
        while not server.query(waits):
            assert time.monotonic() < deadline, job.stdout
            time.sleep(0.3)  # read more often than every 0.1 s, the table stays as it was
        other.cmd_query("UPDATE t SET n = n + 10 WHERE id = 1")
        other.cmd_query("COMMIT")
    finally:
        other.close()
    assert job.wait().code == 0
    assert servers.mysql.query("SELECT n FROM t WHERE id < 3 ORDER BY id") == [(11,), (11,)]


def test_a_user_with_few_rights(steps: Steps) -> None:
    """What may not be read cannot tell anything, which is no error; but orphans must be seen."""
    owned = [f"SELECT, INSERT, ALTER, CREATE TABLE, DROP TABLE ON {name}.*" for name in ("d", "migrate")]
    few = [*owned, "TABLE ENGINE ON *", "CREATE DATABASE ON *.*"]
    steps.write(n0001_a__clickhouse__sql="CREATE DATABASE IF NOT EXISTS d; CREATE TABLE d.t (k UInt8, n UInt8) ENGINE ="
                                         " MergeTree ORDER BY k; INSERT INTO d.t VALUES (1, 1);"
                                         " ALTER TABLE d.t UPDATE n = n + 1 WHERE 1; DROP TABLE d.t")
    password = "few-rights-1234"
    users = [User("blind", password, few), User("seeing", password, [*few, "SELECT ON system.processes"])]
    with ClickHouseServer(users=users) as server:
        blind, seeing = (run_job(env=steps.environ | {"CLICKHOUSE_URL": server.url(user=user.name, password=password)})
                         for user in users)

    assert (blind.code, "GRANT SELECT ON system.processes TO blind" in blind.report["error"]) == (2, True)
    assert seeing.code == 0, seeing.stdout
