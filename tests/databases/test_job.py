"""The job from end to end: what it does, says and leaves behind, and how it ends when it cannot finish."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.conftest import Servers
from tests.databases.conftest import STEMS, Sent, Steps, everything, ledger, listening, one_dialect
from tests.job import Job, JobResult
from tests.rights import EXACT, OWN
from tests.servers.clickhouse import ClickHouseError, ClickHouseServer

# The fields that the contract promises for each event, beside time, level, event and run.
FIELDS = {
    "ready": {"target", "dialect", "server", "address", "encrypted", "seconds"},
    "lock": {"state", "targets"},
    "plan": {"applied", "pending"},
    "step_started": {"step", "target"},
    "statement": {"step", "n", "of", "line", "seconds"},
    "progress": {"done", "total", "unit"},
    "step_applied": {"step", "target", "seconds"},
    "report": {"exit_code", "outcome", "applied", "repaired", "pending", "failed", "findings", "seconds", "version"},
}


def check_log(result: JobResult) -> None:
    """What holds for every log: an id, a time, a level, a known event; the report last, once, and telling the truth."""
    assert [line["event"] for line in result.lines].index("report") == len(result.lines) - 1
    assert result.report["exit_code"] == result.code
    assert len({line["run"] for line in result.lines}) == 1
    assert [line["time"] for line in result.lines] == sorted(line["time"] for line in result.lines)
    for line in result.lines:
        assert {"time", "level", "event", "run"} <= line.keys()
    assert result.stderr == ""


def test_fresh_servers_get_every_step_in_order(servers: Servers, sample: Steps) -> None:
    """One order over both databases, each step logged, verified, recorded, and reported; the lock is free afterwards."""
    result = sample.run(servers)
    check_log(result)

    assert result.code == 0, result.stdout
    assert [line["step"] for line in result.events("step_applied")] == STEMS
    assert (result.report["applied"], result.report["pending"], result.report["failed"]) == (STEMS, [], None)
    assert ledger(servers) == dict(enumerate(STEMS, 1))
    assert servers.clickhouse.query("SELECT name, n FROM shop.totals") == [("people", 2)]
    assert servers.mysql.query("SELECT name FROM people ORDER BY id") == [("a;b",), ("c",)]
    assert {line["dialect"] for line in result.events("ready")} == {"clickhouse", servers.mysql.dialect}
    for event, fields in FIELDS.items():
        assert result.events(event), event
        assert all(fields <= line.keys() for line in result.events(event)), event
    assert [(s["n"], s["of"], s["line"]) for s in result.events("statement") if s["step"] == STEMS[1]] == [
        (1, 2, 2), (2, 2, 3)]
    assert servers.clickhouse.query("SELECT name FROM system.tables WHERE database = 'migrate' ORDER BY 1") == [
        ("schema_migrations",), ("schema_migrations_journal",)]


def test_second_run_writes_nothing(servers: Servers, sample: Steps) -> None:
    """The servers' own logs show not one statement that does more than read, no lock included; and it is quick."""
    assert sample.run(servers).code == 0
    before = everything(servers)
    with listening(servers) as sent:
        result = sample.run(servers)
    check_log(result)

    assert result.code == 0
    assert (sent.writes, len(sent.mysql) < 30, len(sent.clickhouse) < 30) == ([], True, True)
    assert sent.mysql
    assert sent.clickhouse
    assert everything(servers) == before
    assert result.events("lock") == []
    assert result.report["applied"] == []


@one_dialect
def test_listening_sees_what_is_written(servers: Servers, sample: Steps) -> None:
    """The proof of the test before: the same look at a first run shows its writes on both servers."""
    with listening(servers) as sent:
        sample.run(servers)

    for word in ("CREATE TABLE IF NOT EXISTS people", "CREATE TABLE IF NOT EXISTS shop.events", "INSERT INTO"):
        assert any(word in text for text in sent.writes), word


@one_dialect
def test_target_restricts_the_run(servers: Servers, sample: Steps) -> None:
    """Only that database's steps are planned, and only it is contacted; the rest follows later, in order."""
    sample.remove("0003")  # uses both
    mysql_only = {"MYSQL_URL": servers.mysql.url, **sample.environ}
    first = servers.run("--target", "mysql", **mysql_only, CLICKHOUSE_URL="")
    second = sample.run(servers)

    assert (first.code, first.report["applied"]) == (0, [STEMS[1], STEMS[3]])
    assert {line.get("target") for line in first.lines} <= {"mysql", None}
    assert (second.code, second.report["applied"]) == (0, [STEMS[0]])


@one_dialect
def test_step_that_needs_the_other_database_says_so(servers: Servers, sample: Steps) -> None:
    """A Python step cannot reach what --target leaves out."""
    result = sample.run(servers, "--target", "clickhouse")

    assert result.code == 2
    assert "0003_totals.clickhouse.py uses mysql" in result.report["error"]
    assert result.report["applied"] == [STEMS[0]]


@pytest.mark.parametrize("target", ["clickhouse", "mysql"])
def test_failing_statement_stops_the_run_where_it_is(servers: Servers, sample: Steps, target: str) -> None:
    """File, line and the server's own words; what was applied stays, and after the fix the rest follows."""
    good = "CREATE TABLE IF NOT EXISTS {}a (n Int) ENGINE = {};\n-- ; \n{}"
    name, engine = ("shop.", "Memory") if target == "clickhouse" else ("", "InnoDB")
    step = f"0005_more.{target}"
    sample.add({f"{step}.sql": good.format(name, engine, "CREATE TABEL b (n Int);\nSELECT 1")})
    result = sample.run(servers)
    check_log(result)

    assert result.code == 6
    assert f"{step}.sql:3: statement 2 of 3 was refused" in result.report["error"]
    assert "TABEL" in result.report["error"]
    assert (result.report["applied"], result.report["failed"], result.report["pending"]) == (STEMS, step, [step])
    assert [line["n"] for line in result.events("statement") if line["step"] == step] == [1]
    assert 5 not in ledger(servers)

    sample.add({f"{step}.sql": good.format(name, engine, f"CREATE TABLE {name}b (n Int) ENGINE = {engine}")})
    again = sample.run(servers)

    assert (again.code, again.report["applied"]) == (0, [step])


@one_dialect
def test_step_whose_own_verification_fails_is_not_recorded(servers: Servers, sample: Steps) -> None:
    """Exit 7 with what the query returned; the next run starts the step again, and completes once the data is right."""
    sample.write(n0005_check__mysql__sql="CREATE TABLE IF NOT EXISTS checked (n INT)",
                 n0005_check__mysql__verify__sql="SELECT CONCAT('person ', id), name FROM people WHERE id > 2;\n"
                                                 "SELECT 1 FROM no_such_table")
    assert sample.run(servers).code == 7
    servers.mysql.query("INSERT INTO people VALUES (3, 'x'); CREATE TABLE no_such_table (n INT)")
    result = sample.run(servers)
    check_log(result)

    assert (result.code, result.report["failed"]) == (7, "0005_check.mysql")
    assert [(f["object"], f["actual"]) for f in result.report["findings"]] == [
        ("0005_check.mysql.verify.sql:1", "person 3 | x")]
    assert 5 not in ledger(servers)

    servers.mysql.query("DELETE FROM people WHERE id = 3")
    assert sample.run(servers).report["applied"] == ["0005_check.mysql"]


@one_dialect
def test_verification_runs_on_every_run(servers: Servers, sample: Steps) -> None:
    """Data that went wrong after its step was applied blocks the dependents; a Python step's verify likewise."""
    assert sample.run(servers).code == 0
    servers.mysql.query("UPDATE people SET name = '' WHERE id = 1")
    servers.clickhouse.query("INSERT INTO shop.totals VALUES ('people', 5)")
    result = sample.run(servers)
    check_log(result)

    assert result.code == 7
    assert [(f["object"], f["actual"]) for f in result.report["findings"]] == [
        ("0002_people.mysql.verify.sql:1", "no name for 1"),
        ("0003_totals.clickhouse.py", "shop.totals does not count the people")]
    assert all(f["remedy"] and f["expected"] for f in result.events("finding"))
    assert sample.run(servers, "verify").code == 7


def test_step_cannot_change_the_session_of_what_comes_after_it(servers: Servers, sample: Steps) -> None:
    """Files written for a client end with a USE, modes and an open transaction: the ledger and the next step are safe."""
    sample.write(n0005_dump__mysql__sql="SET NAMES latin1; SET sql_mode = ''; SET time_zone = '+05:00'; SET autocommit = 0;"
                 " SET foreign_key_checks = 0; START TRANSACTION; INSERT INTO orders VALUES (1, 1); USE information_schema",
                 n0006_next__mysql__sql="CREATE TABLE IF NOT EXISTS next (modes int, zone text, commits int, checks int, name int);"
                 " INSERT INTO next SELECT @@sql_mode <> '', @@time_zone, @@autocommit, @@foreign_key_checks, HEX('é') = 'C3A9'")
    assert (result := sample.run(servers)).code == 0, result.report["error"]
    assert list(ledger(servers)) == [1, 2, 3, 4, 5, 6]
    assert servers.mysql.query("SELECT id FROM orders") == [(1,)]
    assert servers.mysql.query("SELECT * FROM next") == [(1, "+00:00", 1, 1, 1)]


@one_dialect
def test_statements_of_a_clickhouse_file_share_a_session(servers: Servers, sample: Steps) -> None:
    """USE, SET and temporary tables hold until the step's end, as in the server's own client, and no longer."""
    sample.write(n0005_session__clickhouse__sql="USE shop; CREATE TEMPORARY TABLE some (n UInt8); SET max_threads = 3;"
                 " INSERT INTO some SELECT getSetting('max_threads'); CREATE TABLE IF NOT EXISTS taken ENGINE = Log AS SELECT * FROM some",
                 n0006_next__clickhouse__sql="CREATE TABLE IF NOT EXISTS nowhere ENGINE = Log AS SELECT getSetting('max_threads') != 3 AS ok")
    dry = sample.run(servers, "--dry-run")
    assert dry.code == 0, dry.report["error"]
    assert (result := sample.run(servers)).code == 0, result.report["error"]
    assert servers.clickhouse.query("SELECT n FROM shop.taken") == [(3,)]
    assert servers.clickhouse.query("SELECT ok FROM default.nowhere") == [(1,)]
    servers.clickhouse.query("DROP TABLE default.nowhere SYNC")


@one_dialect
def test_text_format_says_the_same_in_words(servers: Servers, sample: Steps) -> None:
    """For people at a terminal."""
    result = sample.run(servers, "--log-format", "text")

    assert result.code == 0
    assert result.stdout.count("step_applied") == 4
    assert result.stdout.splitlines()[-1].split()[2:4] == ["report", "exit_code=0"]


@one_dialect
def test_quiet_level_still_reports(servers: Servers, sample: Steps) -> None:
    """MIGRATE_LOG_LEVEL hides all but the last line when nothing is wrong."""
    result = sample.run(servers, MIGRATE_LOG_LEVEL="error")

    assert [line["event"] for line in result.lines] == ["report"]


# What stops a run in the middle.


def sleeping(servers: Servers, steps: Steps, target: str) -> tuple[str, Callable[[], int]]:
    """Write a step of a slow statement; its stem, and how many such statements run on the server now."""
    if target == "clickhouse":
        text = "CREATE TABLE IF NOT EXISTS shop.slow (n Int) ENGINE = Memory;\nINSERT INTO shop.slow" \
               " SELECT sleepEachRow(1) FROM numbers(8) SETTINGS max_block_size = 1"  # fmt: skip
        look = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO shop.slow%'"
        count: Callable[[], int] = lambda: servers.clickhouse.query(look)[0][0]  # noqa: E731
    else:
        text = "CREATE TABLE IF NOT EXISTS slow AS SELECT SLEEP(8) AS n"
        look = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(8)%' AND info NOT LIKE '%info%'"
        count = lambda: servers.mysql.query(look)[0][0]  # noqa: E731
    steps.add({f"0005_slow.{target}.sql": text})
    return f"0005_slow.{target}", count


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("target", "number", "code"), [("clickhouse", signal.SIGTERM, 143), ("mysql", signal.SIGINT, 130)])
def test_signal_gives_up_the_running_statement(
    servers: Servers, sample: Steps, target: str, number: signal.Signals, code: int
) -> None:
    """Within two seconds: nothing runs on any more, the report is written, the lock is free, and the next run completes."""
    stem, running = sleeping(servers, sample, target)
    job = sample.start(servers)
    until(running)
    began = time.monotonic()
    job.process.send_signal(number)
    result = job.wait(10)
    took = time.monotonic() - began
    check_log(result)

    assert result.code == code
    assert took < 2.5
    assert (result.report["applied"], result.report["failed"], result.report["outcome"]) == (STEMS, stem, "stopped")
    until(lambda: not running(), 1)
    sample.add({f"{stem}.sql": "SELECT 1"})
    again = sample.run(servers, MIGRATE_LOCK_TIMEOUT="1")
    assert (again.code, again.report["applied"]) == (0, [stem])


@one_dialect
def test_deadline_stops_the_run_like_a_signal(servers: Servers, sample: Steps) -> None:
    """With exit 3, so that a supervisor tries again."""
    stem, running = sleeping(servers, sample, "mysql")
    result = sample.run(servers, MIGRATE_DEADLINE="2.5")
    check_log(result)

    assert result.code == 3
    assert "MIGRATE_DEADLINE" in result.report["error"]
    assert result.seconds < 5.5
    assert result.report["failed"] == stem
    until(lambda: not running(), 1)


@pytest.mark.parametrize("target", ["clickhouse", "mysql"])
def test_lost_server_ends_in_three_and_the_next_run_continues(servers: Servers, sample: Steps, target: str) -> None:
    """kill -9 of the server in the middle of a statement: what was applied is in the ledger, and stays there."""
    stem, running = sleeping(servers, sample, target)
    job = sample.start(servers)
    until(running)
    server = servers.clickhouse if target == "clickhouse" else servers.mysql.server
    server.kill()
    result = job.wait(20)
    check_log(result)
    server.start()

    assert result.code == 3
    assert "lost" in result.report["error"]
    assert (result.report["applied"], result.report["failed"]) == (STEMS, stem)
    sample.add({f"{stem}.sql": "SELECT 1"})
    again = sample.run(servers)
    assert (again.code, again.report["applied"]) == (0, [stem])


# The other commands.


def test_status_writes_nothing_and_names_every_state(servers: Servers, sample: Steps) -> None:
    """Without a ledger all is pending, and that is no failure; a disagreement is."""
    empty = everything(servers)
    with listening(servers) as sent:
        first = sample.run(servers, "status")
    assert (first.code, sent.writes) == (0, [])
    assert {step["state"] for step in first.events("plan")[0]["steps"]} == {"pending"}
    assert everything(servers) == empty

    assert sample.run(servers).code == 0
    sample.write(n0005_more__mysql__sql="SELECT 1")
    servers.mysql.query("CREATE TABLE people__before_0002 (n INT)")
    servers.clickhouse.query("CREATE TABLE shop.events__before_0001 ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a")
    second = sample.run(servers, "status")
    plan = second.events("plan")[0]
    assert second.code == 0
    assert [step["state"] for step in plan["steps"]] == ["applied"] * 4 + ["pending"]
    assert {old["table"]: old["bytes"] > 0 for old in plan["kept"]} == {
        "people__before_0002": True, "shop.events__before_0001": True}

    sample.write(n0001_events__clickhouse__sql="SELECT 1")
    sample.remove("0003")
    third = sample.run(servers, "status")
    check_log(third)
    assert third.code == 5
    assert [step["state"] for step in third.events("plan")[0]["steps"]] == [
        "changed", "applied", "missing", "applied", "pending"]


def test_cleanup_drops_old_tables_only_when_told(servers: Servers, sample: Steps) -> None:
    """And nothing but what a convergence kept: another table of a similar name stays."""
    assert sample.run(servers).code == 0
    servers.mysql.query("CREATE TABLE people__before_0002 (n INT); CREATE TABLE people__before_christmas (n INT);"
                        " CREATE TABLE people__before (n INT)")
    servers.clickhouse.query("CREATE TABLE shop.events__before_0001 (n Int) ENGINE = Memory")
    servers.clickhouse.query("CREATE TABLE shop.events__before_0001_2 (n Int) ENGINE = Memory")
    servers.clickhouse.query("CREATE TABLE shop.events__before_x (n Int) ENGINE = Memory")
    before = everything(servers)
    listed = sample.run(servers, "cleanup")
    check_log(listed)
    assert listed.code == 0
    assert [line["would"] for line in listed.events("statement")] == [
        "DROP TABLE shop.events__before_0001", "DROP TABLE shop.events__before_0001_2", "DROP TABLE people__before_0002"]
    assert everything(servers) == before

    dropped = sample.run(servers, "cleanup", "--yes")
    check_log(dropped)
    assert dropped.code == 0
    assert [line["dropped"] for line in dropped.events("statement")] == [
        "DROP TABLE shop.events__before_0001", "DROP TABLE shop.events__before_0001_2", "DROP TABLE people__before_0002"]
    tables = {name for (name,) in servers.mysql.query("SHOW TABLES")}
    assert tables == {"people", "orders", "schema_migrations", "schema_migrations_journal", "people__before_christmas", "people__before"}
    assert servers.clickhouse.query("SELECT name FROM system.tables WHERE database = 'shop' ORDER BY name") == [
        ("events",), ("events__before_x",), ("totals",)]
    assert sample.run(servers, "cleanup", "--yes").events("statement") == []


def test_cleanup_drops_tables_beyond_the_servers_limit(steps: Steps) -> None:
    """ClickHouse refuses a DROP of more than 50 GB; here of one byte."""
    steps.write(n0001_a__clickhouse__sql="SELECT 1")
    with ClickHouseServer(grants=EXACT + OWN, config="<max_table_size_to_drop>1</max_table_size_to_drop>") as server:
        server.query("CREATE DATABASE shop")
        server.query("CREATE TABLE shop.events__before_0001 ENGINE = MergeTree ORDER BY () AS SELECT 1 AS n")
        with pytest.raises(ClickHouseError, match="TABLE_SIZE_EXCEEDS_MAX_DROP_SIZE_LIMIT"):
            server.query("DROP TABLE shop.events__before_0001")
        result = Job("cleanup", "--yes", env=steps.environ | {"CLICKHOUSE_URL": server.url()}).wait()

        assert [line["dropped"] for line in result.events("statement")] == ["DROP TABLE shop.events__before_0001"]
        assert server.query("SHOW TABLES FROM shop") == []


@one_dialect
def test_verify_command_proves_without_writing(servers: Servers, sample: Steps) -> None:
    """Red before the run, green after it, and not one statement that writes."""
    assert sample.run(servers, "snapshot").code == 0
    assert sample.run(servers, "verify").code == 0
    servers.clickhouse.query("ALTER TABLE shop.events DROP COLUMN n")
    before = everything(servers)
    with listening(servers) as sent:
        result = sample.run(servers, "verify")

    assert result.code == 7
    assert [f["object"] for f in result.report["findings"]] == ["column shop.events.n"]
    assert sent.writes == []
    assert everything(servers) == before


@one_dialect
def test_snapshot_needs_empty_servers(servers: Servers, sample: Steps) -> None:
    """On others it would record what nobody can tell apart; without it, and without saying so, no run passes."""
    refused = sample.run(servers, MIGRATE_VERIFY="full")
    assert refused.code == 2
    assert "expected.clickhouse.json is missing" in refused.report["error"]
    assert "snapshot" in refused.report["error"]
    assert ledger(servers) == {}

    assert sample.run(servers, "snapshot").code == 0
    assert sample.run(servers).report["verified"] == "full"
    assert sample.run(servers, MIGRATE_VERIFY="steps").report["verified"] == "steps"
    again = sample.run(servers, "snapshot")
    assert again.code == 5
    assert "empty" in again.report["error"]


@one_dialect
def test_snapshot_is_the_same_every_time(servers: Servers, sample: Steps) -> None:
    """Else a review could not show what changed."""
    assert sample.run(servers, "snapshot").code == 0
    first = [path.read_bytes() for path in sorted(sample.path.glob("expected.*"))]
    servers.clickhouse.clean()
    servers.mysql.server.drop_database(servers.mysql.name)
    servers.mysql.server.create_database(servers.mysql.name)

    assert sample.run(servers, "snapshot", MIGRATE_VERIFY="steps").code == 0
    assert [path.read_bytes() for path in sorted(sample.path.glob("expected.*"))] == first


@one_dialect
def test_steps_newer_than_the_snapshot_are_reported_as_unverified(servers: Servers, sample: Steps) -> None:
    """A user's own step is applied; nothing is promised of it, and the log says so."""
    assert sample.run(servers, "snapshot").code == 0
    sample.write(n0009_mine__mysql__sql="CREATE TABLE IF NOT EXISTS mine (n INT)")
    result = sample.run(servers)

    assert (result.code, result.report["applied"]) == (0, ["0009_mine.mysql"])
    assert result.report["unverified"] == ["0009_mine.mysql"]
    assert any(line["level"] == "warning" and line.get("unverified") for line in result.lines)


@one_dialect
def test_wait_blocks_until_everything_is_applied_and_right(servers: Servers, sample: Steps) -> None:
    """A dependent's gate: it opens by itself when a run has finished, and writes nothing."""
    assert sample.run(servers, "snapshot").code == 0
    sample.write(n0005_more__mysql__sql="CREATE TABLE IF NOT EXISTS more (n INT)")
    with listening(servers) as sent:
        gate = sample.start(servers, "wait")
        gate.until("waiting", reason="1 steps pending, 0 findings")
        assert Sent(mysql=list(sent.mysql)).writes == []
        assert sample.run(servers).code == 0
        began = time.monotonic()
        result = gate.wait(20)

    check_log(result)
    assert result.code == 0
    assert time.monotonic() - began < 3


@one_dialect
def test_wait_ends_with_what_it_waited_for(servers: Servers, sample: Steps) -> None:
    """4 while steps are pending, 7 when they are applied but wrong: both only at the end of the budget."""
    pending = sample.run(servers, "wait", MIGRATE_WAIT_TIMEOUT="4")
    assert (pending.code, pending.report["pending"]) == (4, STEMS)
    assert 3.9 < pending.seconds < 7
    assert everything(servers)["mysql tables"] == []

    assert sample.run(servers).code == 0
    servers.mysql.query("UPDATE people SET name = '' WHERE id = 1")
    wrong = sample.run(servers, "wait", MIGRATE_WAIT_TIMEOUT="4")
    check_log(wrong)
    assert (wrong.code, [f["actual"] for f in wrong.report["findings"]]) == (7, ["no name for 1"])


@one_dialect
def test_wait_survives_a_restart_of_the_server(servers: Servers, sample: Steps) -> None:
    """Within its budget, a server that goes away is waited for like one that has not come yet."""
    gate = sample.start(servers, "wait")
    gate.until("waiting")
    servers.clickhouse.kill()
    gate.until("waiting", target="clickhouse")
    servers.clickhouse.start()
    assert sample.run(servers).code == 0

    assert gate.wait(20).code == 0


@one_dialect
def test_a_step_behind_somebodys_lock_says_whose_it_is(servers: Servers, sample: Steps) -> None:
    """And goes on when it is free."""
    assert sample.run(servers).code == 0
    sample.write(n0005_more__mysql__sql="ALTER TABLE people ADD COLUMN more INT")
    server = servers.mysql.server
    other = server.connect(servers.mysql.name, user=server.user, password=server.password)
    other.cmd_query("START TRANSACTION")
    other.cmd_query("SELECT * FROM people")
    other.get_rows()
    job = sample.start(servers)
    reason = job.until("waiting", target="mysql")["reason"]
    other.cmd_query("COMMIT")

    assert f"(1205): session {other.connection_id} of migrate@" in reason
    assert job.wait().code == 0
    other.close()
