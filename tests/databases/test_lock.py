"""One run at a time over both databases, whatever dies when. Many at once are in test_rivals.py."""

import re
import signal
import socket
import time
from collections import Counter

from tests.conftest import Servers
from tests.databases.conftest import STEMS, Steps, ledger, listening, one_dialect
from tests.job import JobResult

OURS = '{"host": "elsewhere", "run": "abcdef"}'
LOCK = "CREATE TABLE migrate.schema_migrations_lock (beat DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY tuple()" \
       f" COMMENT '{OURS}'"  # fmt: skip


def once_each(results: list[JobResult], stems: list[str]) -> None:
    """Every run ended well, and each step was applied by exactly one of them."""
    assert [result.code for result in results] == [0] * len(results), "\n".join(r.stdout for r in results if r.code)
    applied = Counter(line["step"] for result in results for line in result.events("step_applied"))
    assert applied == Counter(stems)


def test_rivals_adopt_a_ledger_together(servers: Servers, sample: Steps) -> None:
    """The columns that an older ledger lacks are added once, whoever is faster."""
    servers.mysql.query("CREATE TABLE schema_migrations (version INT PRIMARY KEY, description VARCHAR(255),"
                        " applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP); INSERT INTO schema_migrations VALUES (2, 'x', NOW())")
    jobs = [sample.start(servers) for _ in range(4)]

    once_each([job.wait() for job in jobs], STEMS)


def test_lock_held_too_long_ends_in_four(servers: Servers, sample: Steps) -> None:
    """The line names who has it; nothing but the empty ledgers was made; and afterwards the run goes through."""
    # The name of the lock is the job's secret: ask a job that has it.
    sample.write(n0005_slow__mysql__sql="SELECT SLEEP(20)")
    holder = sample.start(servers)
    holder.until("step_started", step="0005_slow.mysql")
    began = time.monotonic()
    blocked = sample.run(servers, MIGRATE_LOCK_TIMEOUT="1.5")
    took = time.monotonic() - began
    holder.process.send_signal(signal.SIGTERM)
    assert holder.wait(10).code == 143

    assert blocked.code == 4
    assert 1.5 < took < 5
    assert "mysql lock" in blocked.report["error"]
    run = holder.lines[0]["run"]
    assert re.search(rf"\(run {run} on {socket.gethostname()} since 20\S+Z, connection \d+\)", blocked.report["error"])
    waiting = blocked.events("lock")
    assert waiting[0]["state"] == "waiting"
    assert waiting[0]["owner"] in blocked.report["error"]
    sample.write(n0005_slow__mysql__sql="SELECT 1")
    assert sample.run(servers, MIGRATE_LOCK_TIMEOUT="1").code == 0


@one_dialect
def test_lock_of_a_live_owner_on_clickhouse_is_respected(servers: Servers, sample: Steps) -> None:
    """As long as it beats. The waiting line names host and run."""
    servers.clickhouse.query("CREATE DATABASE migrate")
    servers.clickhouse.query(LOCK)
    servers.clickhouse.query("INSERT INTO migrate.schema_migrations_lock SELECT now64(3) + 5")
    blocked = sample.run(servers, MIGRATE_LOCK_TIMEOUT="1")

    assert blocked.code == 4
    assert "run abcdef on elsewhere since 20" in blocked.report["error"]
    assert blocked.report["applied"] == []
    assert ledger(servers) == {}
    assert servers.clickhouse.query("SELECT comment FROM system.tables WHERE name = 'schema_migrations_lock'") == [(OURS,)]


@one_dialect
def test_lock_of_a_dead_owner_is_taken_over_by_one_of_many(servers: Servers, sample: Steps) -> None:
    """Its heartbeat is too old: of all who see that, one wins, and still each step runs once."""
    servers.clickhouse.query("CREATE DATABASE migrate")
    servers.clickhouse.query(LOCK)
    servers.clickhouse.query("INSERT INTO migrate.schema_migrations_lock SELECT now64(3) - 11")
    sample.remove("0002", "0004")
    sample.write(n0003_totals__clickhouse__py="def apply(run):\n    pass\n", n0002_more__clickhouse__sql="CREATE TABLE shop.more (n Int) ENGINE = Memory")
    jobs = [sample.start(servers, "--target", "clickhouse") for _ in range(4)]
    results = [job.wait() for job in jobs]

    once_each(results, ["0001_events.clickhouse", "0002_more.clickhouse", "0003_totals.clickhouse"])
    assert all(result.seconds < 9 for result in results)


def test_killed_run_keeps_its_lock_on_mysql_as_long_as_its_statement(servers: Servers, sample: Steps) -> None:
    """kill -9 in the middle of it: nothing begins beside an orphan. Of ClickHouse's lock see test_rivals.py."""
    sample.add({"0005_slow.mysql.sql": "SELECT SLEEP(2)"})
    first = sample.start(servers, "--target", "mysql")
    first.until("step_started", step="0005_slow.mysql")
    time.sleep(0.3)
    first.process.kill()
    first.wait()
    result = sample.run(servers, "--target", "mysql")

    assert (result.code, result.report["applied"]) == (0, ["0005_slow.mysql"])
    waiting = result.events("lock")[0]
    assert (waiting["state"], waiting["owner"].split()[1]) == ("waiting", first.lines[0]["run"])


def test_run_whose_mysql_lock_is_lost_sends_nothing_more(servers: Servers, sample: Steps) -> None:
    """KILL of its connection, as a failover or a proxy does it: exit 3, and not one further statement, on either server."""
    sample.write(n0005_pause__clickhouse__py="import time\n\ndef apply(run):\n    run.log.info('progress', done=0, total=1,"
                                             " unit='naps')\n    time.sleep(1.5)\n",
                 n0006_after__clickhouse__sql="CREATE TABLE shop.after (n Int) ENGINE = Memory")
    job = sample.start(servers)
    job.until("progress", unit="naps")
    ((connection,),) = servers.mysql.query("SELECT id FROM information_schema.processlist WHERE user = 'migrate'")
    servers.mysql.query(f"KILL {connection}")
    with listening(servers) as sent:
        result = job.wait(10)

    assert result.code == 3
    assert (result.report["applied"], result.report["failed"]) == (STEMS, "0005_pause.clickhouse")
    assert (5 in ledger(servers), 6 in ledger(servers)) == (False, False)
    assert [text for text in sent.writes if "schema_migrations_lock" not in text] == []
    assert sample.run(servers).code == 0


def test_the_end_of_the_connection_is_noticed_at_once(servers: Servers, steps: Steps) -> None:
    """Though the server is asked for the lock only now and then: what ends its connection shows without a question."""
    steps.write(n0001_many__clickhouse__py="""def apply(run):
    run.clickhouse.execute("CREATE TABLE default.many (n UInt64) ENGINE = Memory")
    for n in range(100_000):
        run.clickhouse.execute(f"INSERT INTO default.many VALUES ({n})")
""")
    job = steps.start(servers)
    job.until("step_started")
    while not servers.clickhouse.query("EXISTS default.many")[0][0] or not servers.clickhouse.query(
            "SELECT count() FROM default.many")[0][0]:
        time.sleep(0.01)
    ((connection,),) = servers.mysql.query("SELECT id FROM information_schema.processlist WHERE user = 'migrate'")
    servers.mysql.query(f"KILL {connection}")
    before = servers.clickhouse.query("SELECT count() FROM default.many")[0][0]
    result = job.wait(10)

    assert (result.code, "mysql" in result.report["error"]) == (3, True)
    assert servers.clickhouse.query("SELECT count() FROM default.many")[0][0] <= before + 1


def test_a_connection_that_the_driver_has_closed_holds_no_lock(servers: Servers, steps: Steps) -> None:
    """As a driver does with one that is lost; a step that goes on all the same sends nothing more."""
    steps.write(n0001_deaf__mysql__py="""def apply(run):
    run.mysql.execute("CREATE TABLE a (n INT)")
    run.mysql._database._connection.close()
    run.clickhouse.execute("CREATE TABLE default.after_it (n UInt64) ENGINE = Memory")
""")
    result = steps.run(servers)

    assert (result.code, "lost" in result.report["error"]) == (3, True)
    assert servers.clickhouse.query("EXISTS default.after_it") == [(0,)]


def test_a_step_that_frees_the_lock_itself_sends_nothing_more(servers: Servers, steps: Steps) -> None:
    """The check before its next statement finds that out."""
    steps.write(n0001_free__mysql__sql="DO RELEASE_ALL_LOCKS(); CREATE TABLE after_it (n INT)")
    result = steps.run(servers)

    assert (result.code, "mysql lock was lost" in result.report["error"]) == (3, True)
    assert servers.mysql.query("SHOW TABLES LIKE 'after_it'") == []


@one_dialect
def test_run_whose_clickhouse_lock_is_lost_sends_nothing_more(servers: Servers, sample: Steps) -> None:
    """Somebody else took it over: the check before each statement finds that out, and theirs is left alone."""
    sample.write(n0005_pause__mysql__py="import time\n\ndef apply(run):\n    run.log.info('progress', done=0, total=1,"
                                        " unit='naps')\n    time.sleep(1)\n    run.mysql.execute('CREATE TABLE never (n INT)')\n")
    job = sample.start(servers)
    job.until("progress", unit="naps")
    servers.clickhouse.query("DROP TABLE migrate.schema_migrations_lock SYNC")
    servers.clickhouse.query(LOCK)
    result = job.wait(10)

    assert result.code == 3
    assert "clickhouse lock was lost" in result.report["error"]
    assert ("never",) not in servers.mysql.query("SHOW TABLES")
    assert 5 not in ledger(servers)
    assert servers.clickhouse.query("SELECT comment FROM system.tables WHERE name = 'schema_migrations_lock'") == [(OURS,)]


@one_dialect
def test_clickhouse_is_asked_for_the_lock_now_and_then(servers: Servers, steps: Steps) -> None:
    """Not before each statement: while the beats arrive nobody may take it over, and a question costs what a statement does."""
    steps.write(n0001_many__clickhouse__sql="SELECT 1;\n" * 100)
    with listening(servers) as sent:
        result = steps.run(servers)
    asked = [text for text in sent.clickhouse if "schema_migrations_lock" in text and "toString(uuid)" in text]

    assert result.code == 0
    assert 1 <= len(asked) <= 2 * result.seconds + 2


@one_dialect
def test_lock_survives_a_long_statement(servers: Servers, sample: Steps) -> None:
    """While one statement runs on MySQL, the heartbeat on ClickHouse goes on, so nobody takes the lock over."""
    sample.write(n0005_slow__mysql__sql="SELECT SLEEP(3)")
    job = sample.start(servers)
    job.until("step_started", step="0005_slow.mysql")
    time.sleep(2.8)
    ((age,),) = servers.clickhouse.query("SELECT toFloat64(now64(3) - max(beat)) FROM migrate.schema_migrations_lock")

    assert age < 2.8
    assert job.wait().code == 0


@one_dialect
def test_signal_while_waiting_for_the_lock(servers: Servers, sample: Steps) -> None:
    """Ends at once; whoever has the lock keeps it."""
    servers.clickhouse.query("CREATE DATABASE migrate")
    servers.clickhouse.query(LOCK)
    servers.clickhouse.query("INSERT INTO migrate.schema_migrations_lock SELECT now64(3) + 20")
    job = sample.start(servers)
    job.until("lock", state="waiting")
    began = time.monotonic()
    job.process.send_signal(signal.SIGTERM)
    result = job.wait(10)

    assert (result.code, result.report["applied"]) == (143, [])
    assert time.monotonic() - began < 2.5
    assert servers.clickhouse.query("SELECT comment FROM system.tables WHERE name = 'schema_migrations_lock'") == [(OURS,)]


@one_dialect
def test_other_ledgers_have_other_locks(servers: Servers, sample: Steps) -> None:
    """Two applications in one database with ledgers of their own do not block each other."""
    sample.write(n0005_slow__mysql__sql="SELECT SLEEP(8)")
    first = sample.start(servers)
    first.until("step_started", step="0005_slow.mysql")
    sample.write(n0005_slow__mysql__sql="SELECT 1")
    second = sample.run(servers, MIGRATE_LEDGER_TABLE="other_migrations", MIGRATE_LOCK_TIMEOUT="1")
    first.process.send_signal(signal.SIGTERM)
    first.wait(10)

    assert second.code == 0


@one_dialect
def test_a_refusal_in_the_middle_of_a_rivals_work_is_none(servers: Servers, steps: Steps) -> None:
    """Before there is a ledger a run looks without the lock: what it sees while another one works proves nothing."""
    steps.write(n0001_a__clickhouse__py="""import os, time
from migrator.errors import WouldLoseData

def plan(run):
    made = lambda: run.mysql.query("SHOW TABLES LIKE 'schema_migrations_journal'")  # the last thing before the lock
    if "SLOW" in os.environ and not made():
        run.log.info("progress", done=0, total=1, unit="rivals")
        while not made():
            time.sleep(0.01)
        raise WouldLoseData("half of a change")

def apply(run):
    pass

def verify(run):
    pass
""")
    first = steps.start(servers, SLOW="1")
    first.until("progress", unit="rivals")
    second = steps.run(servers)

    once_each([first.wait(20), second], ["0001_a.clickhouse"])
