"""Python steps: given sessions and a log and nothing hidden, with the same ledger, dry run and exit codes as SQL steps."""

import io
import json
import re

import pytest

from migrator import session
from migrator.logs import open_log
from migrator.steps import discover
from tests.conftest import Database, Servers
from tests.databases.conftest import Steps, everything, ledger, listening, one_dialect
from tests.databases.mysql_session import connected
from tests.job import ROOT, JobResult

STEP = "0001_step.mysql"


def run(servers: Servers, steps: Steps, text: str, *args: str, **environ: str) -> JobResult:
    """Run with one Python step of this text; no traceback may show, whatever it does."""
    steps.add({f"{STEP}.py": text})
    result = steps.run(servers, *args, **environ)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def test_step_gets_both_databases_a_log_and_the_settings(servers: Servers, steps: Steps) -> None:
    """Statements are counted, timed and logged like those of an SQL step; rows are tuples."""
    result = run(servers, steps, """
def apply(run):
    run.mysql.execute("CREATE TABLE IF NOT EXISTS t (n INT, s TEXT)")
    run.mysql.execute("INSERT INTO t VALUES (1, 'a;b')")
    rows = run.mysql.query("SELECT n, s FROM t")
    run.clickhouse.execute("CREATE DATABASE IF NOT EXISTS d")
    assert rows == [(1, "a;b")] and run.clickhouse.query("SELECT 1, 'x'") == [(1, "x")]
    run.log.info("progress", done=1, total=2, unit="rows", dialects=[run.mysql.dialect, run.clickhouse.dialect])
    for done in (0, 1):
        run.clickhouse.progress(done=done, total=4, unit="rows", size=100)
    assert run.settings.repair == "missing"
    print("for a person")
""")

    assert (result.code, ledger(servers)) == (0, {1: STEP})
    assert [(s["target"], s["n"]) for s in result.events("statement")] == [
        ("mysql", 1), ("mysql", 2), ("clickhouse", 1)]
    assert result.events("progress")[0]["dialects"] == [servers.mysql.dialect, "clickhouse"]
    last = result.events("progress")[-1]
    assert [last[name] for name in ("done", "total", "bytes_done", "bytes_total")] == [1, 4, 25, 100]
    assert last["eta_seconds"] < 60
    assert result.stderr == "for a person\n"


@one_dialect
@pytest.mark.parametrize(("text", "named"), [
    ("def apply(run):\n\n    1 / 0\n", "0001_step.mysql.py:3: apply raised ZeroDivisionError: division by zero"),
    ("def apply(run):\n    run.mysql.execute('CREATE TABEL t (n INT)')\n",
     "0001_step.mysql.py:2: apply: a statement was refused: You have an error"),
    ("def apply(run):\n    run.clickhouse.query('SELECT * FROM nowhere.t')\n", "0001_step.mysql.py:2: apply: a statement"),
    ("import no_such_module\n", "0001_step.mysql.py:1: apply raised ModuleNotFoundError"),
    ("def apply(run):\n    raise SystemExit(0)\n", "0001_step.mysql.py:2: apply raised SystemExit"),
    ("import sys\nsys.exit()\n", "0001_step.mysql.py:2: apply raised SystemExit"),
    ("def apply(run):\n    yield\n    raise ValueError('a\\nb')\n", "0001_step.mysql.py:3: apply raised ValueError"),
    ("def apply():\n    pass\n", "0001_step.mysql.py: apply raised TypeError"),
    ("def aply(run):\n    pass\n", "0001_step.mysql.py: defines neither apply nor verify"),
])  # fmt: skip
def test_step_that_raises_ends_in_six(servers: Servers, steps: Steps, text: str, named: str) -> None:
    """File and line in one line, no traceback, nothing recorded, and the run can be repeated."""
    result = run(servers, steps, text)

    assert result.code == 6
    assert result.report["error"].startswith(named)
    assert result.report["failed"] == STEP
    assert ledger(servers) == {}
    assert run(servers, steps, "def apply(run): pass\n").code == 0


@one_dialect
def test_syntax_error_is_found_before_anything_is_written(servers: Servers, steps: Steps) -> None:
    """In whichever step: exit 2, and not even a ledger."""
    steps.write(n0000_first__clickhouse__sql="CREATE DATABASE d")
    before = everything(servers)
    result = run(servers, steps, "def apply(run):\n  return (\n")

    assert result.code == 2
    assert result.report["error"].startswith("0001_step.mysql.py:2: not valid Python")
    assert everything(servers) == before


@one_dialect
@pytest.mark.parametrize(("verify", "found"), [
    ("    return ['one', 'two']\n", ["one", "two"]),
    ("    yield 'one'\n    yield ('a', 2)\n", ["one", "('a', 2)"]),
    ("    return 'a text is one finding'\n", ["a text is one finding"]),
    ("    run.mysql.query('SELECT no FROM nowhere')\n", ["0001_step.mysql.py:4: verify: a statement was refused"]),
    ("    yield 'one'\n    {}['key']\n", ["0001_step.mysql.py:5: verify raised KeyError: 'key'"]),
    ("    return []\n", []),
    ("    return None\n", []),
])  # fmt: skip
def test_what_verify_returns_is_wrong(servers: Servers, steps: Steps, verify: str, found: list[str]) -> None:
    """Or yields, or raises: exit 7, one finding each, and the step is not recorded."""
    result = run(servers, steps, f"def apply(run):\n    pass\ndef verify(run):\n{verify}")

    assert result.code == (7 if found else 0)
    assert [f["actual"][: len(text)] for f, text in zip(result.report["findings"], found, strict=True)] == found
    assert ledger(servers) == ({} if found else {1: STEP})


@one_dialect
def test_plan_is_asked_before_the_first_write(servers: Servers, steps: Steps) -> None:
    """A step that refuses in its plan stops the run before any step has written: exit 2."""
    steps.write(n0000_first__clickhouse__sql="CREATE DATABASE d")
    result = run(servers, steps, "from migrator.errors import WouldLoseData\n\ndef plan(run):\n"
                                 "    raise WouldLoseData('3 rows of t do not fit')\n\ndef apply(run): pass\n")

    assert (result.code, result.report["error"], result.report["applied"]) == (2, "3 rows of t do not fit", [])
    assert ("d",) not in servers.clickhouse.query("SHOW DATABASES")


def test_dry_run_prints_the_plan_and_runs_nothing(servers: Servers, steps: Steps) -> None:
    """`plan` alone is called; a step without one is said to be unknown."""
    before = everything(servers)
    steps.write(n0002_silent__clickhouse__py="def apply(run):\n    run.clickhouse.execute('CREATE DATABASE e')\n")
    result = run(servers, steps, """
def plan(run):
    assert run.mysql.query("SELECT 1") == [(1,)]
    yield "CREATE TABLE t (n INT)"
    yield "INSERT INTO t VALUES (1)"

def apply(run):
    run.mysql.execute("CREATE TABLE t (n INT)")
""", "--dry-run")

    assert result.code == 0, result.stdout
    assert [(s["step"], s["would"]) for s in result.events("statement")] == [
        (STEP, "CREATE TABLE t (n INT)"), (STEP, "INSERT INTO t VALUES (1)"),
        ("0002_silent.clickhouse", "unknown: this step has no plan function")]
    assert everything(servers) == before


WRITES = {
    "mysql": ["CREATE TABLE t (n INT)", "INSERT INTO kept VALUES (1)", "DELETE FROM kept", "CALL fill()", "DROP TABLE kept",
              "CREATE VIEW v AS SELECT 1", "DROP PROCEDURE fill", "TRUNCATE kept", "RENAME TABLE kept TO gone"],
    "clickhouse": ["CREATE DATABASE e", "INSERT INTO d.kept VALUES (1)", "DROP TABLE d.kept", "SET readonly = 0",
                   "INSERT INTO d.kept SETTINGS readonly = 0 VALUES (1)", "ALTER TABLE d.kept DELETE WHERE 1",
                   "TRUNCATE TABLE d.kept", "ALTER TABLE d.kept ADD COLUMN m Int", "SYSTEM FLUSH LOGS"],
}  # fmt: skip


def test_plan_that_writes_is_refused_by_the_server(servers: Servers, steps: Steps) -> None:
    """In a dry run the sessions are read-only on the server, so a careless plan cannot change anything."""
    servers.clickhouse.query("CREATE DATABASE d")
    servers.clickhouse.query("CREATE TABLE d.kept (n Int) ENGINE = MergeTree ORDER BY n")
    servers.mysql.query("CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7);"
                        " CREATE PROCEDURE fill() INSERT INTO kept VALUES (8)")
    before = everything(servers)
    every = run(servers, steps, f"""
from migrator.errors import StatementRefused

def plan(run):
    for target, writes in {WRITES}.items():
        for send in (run.session(target).execute, run.session(target).query):
            for sql in writes:
                try:
                    send(sql)
                    yield sql
                except StatementRefused:
                    run.log.info("progress", done=1, total=1, unit="refusals")
""", "--dry-run")
    first = run(servers, steps, "def plan(run):\n    run.mysql.execute('DROP TABLE kept')\n", "--dry-run")

    assert [statement["would"] for statement in every.events("statement") if "would" in statement] == []
    assert len(every.events("progress")) == 2 * sum(map(len, WRITES.values()))
    assert first.code == 6
    assert "0001_step.mysql.py:2: plan: a statement was refused" in first.report["error"]
    assert everything(servers) == before


@one_dialect
def test_changed_python_step_is_a_disagreement(servers: Servers, steps: Steps) -> None:
    """The checksum is of the file's text, comments included."""
    assert run(servers, steps, "def apply(run): pass\n").code == 0
    assert run(servers, steps, "def apply(run): pass  # now\n").code == 5


def test_statement_of_a_step_is_sent_under_the_lock(servers: Servers, steps: Steps) -> None:
    """Before it the server is asked whose the lock is, unless nothing came since the last time that could have freed it."""
    with listening(servers) as sent:
        run(servers, steps, "def apply(run):\n    run.mysql.execute('CREATE TABLE a (n INT)')\n"
                            "    run.mysql.execute('INSERT INTO a VALUES (1)')\n    run.mysql.execute('CREATE TABLE b (n INT)')\n")
    first, second = (next(n for n, text in enumerate(sent.mysql) if text.startswith(start))
                     for start in ("INSERT INTO a", "CREATE TABLE b"))

    assert any("IS_USED_LOCK" in text for text in sent.mysql[first:second])


@one_dialect
def test_the_examples_for_contributors_run(servers: Servers, steps: Steps) -> None:
    """On tables in an older form, with rows; and again, when there is nothing left to do."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    steps.add(dict(re.findall(r"`sql/(\d+_\w+\.\w+\.py)`.*?^```python\n(.*?)^```", text, re.M | re.S)))
    servers.mysql.query("CREATE TABLE orders (id INT PRIMARY KEY); INSERT INTO orders VALUES (1)")
    for sql in ("CREATE DATABASE metrics", "CREATE TABLE metrics.Alerts (ts DateTime, name LowCardinality(String), value"
                " Float32) ENGINE = MergeTree ORDER BY ts", "INSERT INTO metrics.Alerts VALUES (now(), 'a', 1)"):
        servers.clickhouse.query(sql)
    result = steps.run(servers)

    assert (result.code, result.report["applied"]) == (0, ["0008_orders.mysql", "0009_alerts.clickhouse"])
    assert servers.mysql.query("SELECT country FROM orders") == [("DE",)]
    assert servers.clickhouse.query("SELECT name, value FROM metrics.Alerts") == [("a", 1)]
    assert [line["table"] for line in steps.run(servers, "status").events("plan")[0]["kept"]] == ["metrics.Alerts__before_0009"]
    assert steps.run(servers).events("statement") == []


def test_an_alter_that_copies_says_how_far_it_is(fresh_mysql: Database, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB tells whoever runs it, MySQL whoever may read performance_schema; who may not gets no line, and no error."""
    monkeypatch.setattr(session, "WATCH_SECONDS", 0.03)
    many = {"mysql": 200, "mariadb": 400}[fresh_mysql.dialect]  # squared; that server is the faster one
    steps.write(n0001_a__mysql__sql="SELECT 1")
    fresh_mysql.query("CREATE TABLE big (id INT NOT NULL PRIMARY KEY, n INT NOT NULL, filler CHAR(250) NOT NULL); INSERT INTO big"
                      f" WITH RECURSIVE d AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM d WHERE n < {many})"
                      " SELECT a.n * 1000 + b.n, b.n, 'x' FROM d AS a CROSS JOIN d AS b")
    out, server = io.StringIO(), fresh_mysql.server
    with connected(fresh_mysql) as own:
        run = session.Run(discover(steps.path, ("mysql",))[0], {"mysql": own.database}, own.database.settings,
                          open_log("json", "info", "run", stream=out), lambda: None, session.Watch())  # fmt: skip
        assert own.database.how_far() is None
        if fresh_mysql.dialect == "mysql":
            server.query(f"GRANT SELECT ON performance_schema.* TO {server.user}")
        try:
            run.mysql.execute("ALTER TABLE big MODIFY COLUMN n BIGINT NOT NULL")
        finally:
            if fresh_mysql.dialect == "mysql":
                server.query(f"REVOKE SELECT ON performance_schema.* FROM {server.user}")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    said = [line for line in lines if line["event"] == "progress" and line["unit"] == "copy to tmp table"]
    done = [line["done"] for line in said]

    assert lines[-1]["event"] == "statement"
    assert done
    assert done == sorted(done)
    assert done[-1] > 0
    assert said[0]["total"] in {"mysql": range(25_000, 60_000), "mariadb": [100]}[fresh_mysql.dialect]  # rows, as it guesses
    assert said[0].keys() >= {"step", "rate", "eta_seconds"}
