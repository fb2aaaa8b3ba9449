"""The ledger: what is written where, which rows of others are adopted, and how disagreements are refused."""

import pytest

from migrator import __version__
from migrator.steps import discover
from tests.conftest import Servers
from tests.databases.conftest import SAMPLE, STEMS, Steps, everything, ledger, listening, one_dialect
from tests.job import Job

HAND_RUN = """CREATE TABLE schema_migrations (version INT PRIMARY KEY, description VARCHAR(255),
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
INSERT INTO schema_migrations VALUES (6, 'Replica management', '2024-02-03 04:05:06'), (7, NULL, '2024-03-04 05:06:07')"""
# What other tools make under this name.
FOREIGN = {
    "dbmate": "version VARCHAR(128) PRIMARY KEY",
    "Rails": "version VARCHAR(255) NOT NULL PRIMARY KEY",
    "golang-migrate": "version BIGINT NOT NULL PRIMARY KEY, dirty BOOLEAN NOT NULL",
    "Ecto": "version BIGINT PRIMARY KEY, inserted_at DATETIME",
    "with our names": "version BIGINT PRIMARY KEY, description TEXT, applied_at TIMESTAMP",
}


def test_row_says_who_applied_what_and_when(servers: Servers, sample: Steps) -> None:
    """Checksum, version of the image, host, run and seconds, in both databases, at the server's time in UTC."""
    result = sample.run(servers)
    sums = {step.version: step.checksum for step in discover(sample.path, ("clickhouse", "mysql"))}
    columns = "version, description, name, checksum, image, run, host <> '', seconds > 0"
    mysql = servers.mysql.query(f"SELECT {columns}, ABS(TIMESTAMPDIFF(SECOND, applied_at, NOW())) < 60"
                                " FROM schema_migrations ORDER BY version")
    clickhouse = servers.clickhouse.query(f"SELECT {columns}, abs(applied_at - now()) < 60"
                                          " FROM migrate.schema_migrations FINAL ORDER BY version")

    assert mysql + clickhouse == [
        (version, title, STEMS[version - 1], sums[version], __version__, result.report["run"], 1, 1, 1)
        for version, title in [(2, "people"), (4, "orders"), (1, "events"), (3, "totals")]]


def test_query_of_the_hand_run_scripts_keeps_working(servers: Servers, sample: Steps) -> None:
    """As they print it at their end: the first three columns are theirs."""
    sample.run(servers)
    rows = servers.mysql.query("SELECT * FROM schema_migrations ORDER BY version DESC")
    columns = servers.mysql.query("SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
                                  " AND table_name = 'schema_migrations' ORDER BY ordinal_position LIMIT 3")

    assert [row[:2] for row in rows] == [(4, "orders"), (2, "people")]
    assert columns == [("version",), ("description",), ("applied_at",)]


def test_rows_of_hand_run_scripts_are_adopted_never_trusted(servers: Servers, steps: Steps) -> None:
    """Their steps run again and are verified; when they were first applied, and as what, stays."""
    servers.mysql.query(HAND_RUN)
    steps.write(n0005_base__mysql__sql="CREATE TABLE IF NOT EXISTS base (n INT)",
                n0006_replicas__mysql__sql="CREATE TABLE IF NOT EXISTS replicas (n INT)",
                n0006_replicas__mysql__verify__sql="SELECT 'not yet' FROM base HAVING COUNT(*) = 0",
                n0007_completion__mysql__sql="CREATE TABLE IF NOT EXISTS completion (n INT)")
    status = steps.run(servers, "status")
    assert [step["state"] for step in status.events("plan")[0]["steps"]] == ["pending"] * 3
    red = steps.run(servers)
    assert (red.code, red.report["applied"], red.report["failed"]) == (7, ["0005_base.mysql"], "0006_replicas.mysql")
    assert servers.mysql.query("SELECT checksum FROM schema_migrations WHERE version = 6") == [(None,)]

    servers.mysql.query("INSERT INTO base VALUES (1)")
    green = steps.run(servers)
    assert green.report["applied"] == ["0006_replicas.mysql", "0007_completion.mysql"]
    assert servers.mysql.query("SELECT version, description, CAST(applied_at AS CHAR), name, LENGTH(checksum)"
                               " FROM schema_migrations WHERE version > 5 ORDER BY version") == [
        (6, "Replica management", "2024-02-03 04:05:06", "0006_replicas.mysql", 64),
        (7, None, "2024-03-04 05:06:07", "0007_completion.mysql", 64)]  # fmt: skip
    assert steps.run(servers).report["applied"] == []


@one_dialect
@pytest.mark.parametrize("tool", FOREIGN)
def test_table_of_another_tool_is_refused_by_name(servers: Servers, sample: Steps, tool: str) -> None:
    """It stays as it is; the message names a way out, and that works."""
    servers.mysql.query(f"CREATE TABLE schema_migrations ({FOREIGN[tool]})")
    before = everything(servers)
    result = sample.run(servers)

    assert result.code == 2
    assert "the table schema_migrations" in result.report["error"]
    assert "MIGRATE_LEDGER_TABLE" in result.report["error"]
    assert everything(servers) == before
    if tool == "dbmate":
        assert sample.run(servers, MIGRATE_LEDGER_TABLE="ours").code == 0
        assert ledger(servers, "ours") == dict(enumerate(STEMS, 1))
        assert servers.mysql.query("SELECT * FROM schema_migrations") == []


@one_dialect
def test_foreign_table_on_clickhouse_is_refused(servers: Servers, sample: Steps) -> None:
    """The job's own database there may hold somebody's table, too."""
    servers.clickhouse.query("CREATE DATABASE migrate")
    servers.clickhouse.query("CREATE TABLE migrate.schema_migrations (version String) ENGINE = Memory")
    result = sample.run(servers)

    assert result.code == 2
    assert "migrate.schema_migrations" in result.report["error"]


@one_dialect
def test_every_disagreement_is_named_and_nothing_is_applied(servers: Servers, sample: Steps) -> None:
    """Edited, deleted and late steps of both databases in one message; after they are put right, the run continues."""
    sample.remove("0003")
    assert sample.run(servers).code == 0
    old = (sample.path / "0001_events.clickhouse.sql").read_text()
    sample.write(n0001_events__clickhouse__sql=old + "-- edited\n", n0003_late__mysql__sql="CREATE TABLE late (n INT)",
                 n0005_new__mysql__sql="CREATE TABLE new (n INT)")
    sample.remove("0002")
    before = everything(servers)
    with listening(servers) as sent:
        result = sample.run(servers)

    assert result.code == 5
    for named in ("0001_events.clickhouse is changed", "0002_people.mysql is missing", "0003_late.mysql is out of order"):
        assert named in result.report["error"]
    assert "0005_new" not in result.report["error"]
    assert "\n" not in result.report["error"]
    assert sent.writes == []
    assert everything(servers) == before
    assert sample.run(servers, "--dry-run").code == 5

    sample.remove("0003")
    sample.add({"0001_events.clickhouse.sql": old, "0002_people.mysql.sql": ""})
    assert sample.run(servers).code == 5  # an empty file is not the one that was applied
    sample.add({"0002_people.mysql.sql": SAMPLE["0002_people.mysql.sql"]})
    assert sample.run(servers).report["applied"] == ["0005_new.mysql"]


@one_dialect
def test_late_step_of_the_other_target_is_no_disagreement(servers: Servers, sample: Steps) -> None:
    """Order is judged for each database by itself."""
    sample.remove("0003")
    assert sample.run(servers).code == 0
    sample.write(n0003_between__clickhouse__sql="CREATE TABLE shop.between (n Int) ENGINE = Memory")

    assert sample.run(servers).report["applied"] == ["0003_between.clickhouse"]


@one_dialect
def test_renamed_step_is_the_same_step(servers: Servers, sample: Steps) -> None:
    """The number and the contents count; line ends may change."""
    assert sample.run(servers).code == 0
    text = (sample.path / "0004_orders.mysql.sql").read_text()
    sample.remove("0004")
    (sample.path / "0004_purchases.mysql.sql").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())

    assert sample.run(servers).report["applied"] == []


def test_ledger_is_written_only_after_the_fact(servers: Servers, sample: Steps) -> None:
    """While a step runs, it is not in the ledger; a run that is killed then goes on where it was."""
    sample.write(n0005_twice__mysql__sql="CREATE TABLE IF NOT EXISTS twice (n INT); INSERT INTO twice VALUES (1);"
                                         " SELECT SLEEP(2)")
    first = Job(env=servers.environ | sample.environ)
    first.until("statement", step="0005_twice.mysql", n=2)
    assert list(ledger(servers)) == [1, 2, 3, 4]
    first.process.kill()
    first.wait()
    servers.clickhouse.query("DROP TABLE migrate.schema_migrations_lock SYNC")  # saves the wait until it is stale

    assert sample.run(servers).report["applied"] == ["0005_twice.mysql"]
    assert servers.mysql.query("SELECT COUNT(*) FROM twice") == [(1,)]
