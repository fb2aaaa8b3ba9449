"""A dry run says what a run would do, checked as far as the servers allow, and changes nothing at all."""

import mysql.connector
import pytest

from tests.conftest import Servers
from tests.databases.conftest import SAMPLE, STEMS, Steps, everything, ledger, listening
from tests.job import JobResult
from tests.servers.clickhouse import ClickHouseError

# Of a bad step of each dialect: its text, and what the line must say, beside file and line.
BAD = {
    "typo.clickhouse": ("CREATE TABEL shop.b (n Int) ENGINE = Memory", "TABEL"),
    "unfinished.clickhouse": ("ALTER TABLE shop.events ADD COLUMN", "Syntax error"),
    "two.clickhouse": ("SELECT 1 SELECT 2", "Syntax error"),
    "stranger.clickhouse": ("ALTER TABLE shop.nowhere ADD COLUMN n Int", "shop.nowhere does not exist"),
    "database.clickhouse": ("ALTER TABLE nowhere.events ADD COLUMN n Int", "nowhere.events does not exist"),
    "insert.clickhouse": ("INSERT INTO shop.nowhere VALUES (1)", "shop.nowhere does not exist"),
    "typo.mysql": ("CREATE TABEL b (n INT)", "TABEL"),
    "unfinished.mysql": ("ALTER TABLE people ADD COLUMN", "syntax"),
    "two.mysql": ("SELECT 1 SELECT 2", "syntax"),
    "stranger.mysql": ("ALTER TABLE nowhere ADD COLUMN n INT", "nowhere does not exist"),
    "index.mysql": ("CREATE INDEX i ON nowhere (n)", "nowhere does not exist"),
    "insert.mysql": ("INSERT INTO nowhere VALUES (1)", "nowhere does not exist"),
    "dropped.mysql": ("DROP TABLE people;\nALTER TABLE people ADD COLUMN n INT", "people does not exist"),
}
# What an earlier pending step creates is there for the later ones.
GOOD = {
    "0005_made.clickhouse.sql": "CREATE DATABASE d;\nCREATE TABLE d.a (n Int) ENGINE = Memory;\nRENAME TABLE d.a TO d.b",
    "0006_used.clickhouse.sql": "ALTER TABLE d.b ADD COLUMN m Int;\nINSERT INTO d.b VALUES (1, 2);\nDROP TABLE d.b",
    "0007_made.mysql.sql": "CREATE TABLE a (n INT);\nRENAME TABLE a TO b;\nCREATE VIEW v AS SELECT * FROM b",
    "0008_used.mysql.sql": "ALTER TABLE b ADD COLUMN m INT;\nCREATE INDEX i ON b (m);\nINSERT INTO b VALUES (1, 2);\n"
                           "DELIMITER //\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END//\nDELIMITER ;\nDROP VIEW v",
}  # fmt: skip


def dry(servers: Servers, steps: Steps, **environ: str) -> JobResult:
    """A dry run, which must leave both servers as they are and send nothing that writes."""
    before = everything(servers)
    with listening(servers) as sent:
        result = steps.run(servers, "--dry-run", **environ)
    assert everything(servers) == before
    assert [text for text in sent.writes if not text.startswith(("PREPARE", "DEALLOCATE"))] == []
    return result


def named(result: JobResult) -> list[tuple[str, int]]:
    """Step and number of every statement that would be sent."""
    return [(line["step"], line["n"]) for line in result.events("statement") if "n" in line]


def test_dry_run_on_empty_half_migrated_drifted_and_finished_servers(servers: Servers, sample: Steps) -> None:
    """It names every statement that is still to come, in order, and nothing is there afterwards that was not before."""
    everything_named = [(STEMS[0], 1), (STEMS[0], 2), (STEMS[1], 1), (STEMS[1], 2), (STEMS[2], 1), (STEMS[3], 1)]
    empty = dry(servers, sample)
    assert (empty.code, named(empty)) == (0, everything_named)
    assert empty.report["pending"] == STEMS
    assert ledger(servers) == {}
    assert ("migrate",) not in servers.clickhouse.query("SHOW DATABASES")
    assert servers.mysql.query("SHOW TABLES") == []
    assert empty.events("statement")[0]["would"] == "CREATE DATABASE shop"
    assert [line.get("line") for line in empty.events("statement")] == [1, 2, 2, 3, None, 1]

    assert sample.run(servers, "snapshot").code == 0  # half migrated: as if two steps had come later
    servers.clickhouse.query("ALTER TABLE migrate.schema_migrations DELETE WHERE version = 3 SETTINGS mutations_sync = 2")
    servers.mysql.query("DELETE FROM schema_migrations WHERE version = 4; DROP TABLE orders")
    half = dry(servers, sample)
    assert (half.code, named(half)) == (0, everything_named[4:])

    servers.clickhouse.query("ALTER TABLE shop.events DROP COLUMN n")
    drifted = dry(servers, sample)
    assert (drifted.code, named(drifted)) == (0, everything_named[4:])
    assert "restore column shop.events.n" in [line.get("would") for line in drifted.lines]
    assert dry(servers, sample, MIGRATE_REPAIR="none").code == 7
    servers.mysql.query("ALTER TABLE people MODIFY name VARCHAR(60) NOT NULL")
    blocked = dry(servers, sample)
    assert blocked.code == 7
    assert {f["object"] for f in blocked.report["findings"]} == {"column people.name", "column shop.events.n"}

    servers.mysql.query("ALTER TABLE people MODIFY name VARCHAR(50) NOT NULL")
    servers.clickhouse.query("ALTER TABLE shop.events ADD COLUMN n UInt32")
    assert sample.run(servers).code == 0
    finished = dry(servers, sample)
    assert (finished.code, finished.events("statement"), finished.report["pending"]) == (0, [], [])


def test_dry_run_finds_what_a_server_would_refuse(servers: Servers, sample: Steps) -> None:
    """Syntax errors, and objects that neither exist nor come from an earlier pending step: all in one run, exit 6."""
    if servers.mysql.dialect == "mariadb":
        sample.remove("0003")
    for number, (name, (text, _)) in enumerate(BAD.items(), 10):
        kind, target = name.split(".")
        sample.add({f"{number:04}_{kind}.{target}.sql": f"SELECT 1;\n{text};\n"})
    result = dry(servers, sample)
    errors = [line["error"] for line in result.events("error") if line.get("step")]

    assert result.code == 6
    for number, (name, (text, says)) in enumerate(BAD.items(), 10):
        kind, target = name.split(".")
        (error,) = [error for error in errors if error.startswith(f"{number:04}_")]
        assert error.startswith(f"{number:04}_{kind}.{target}.sql:{text.count(chr(10)) + 2}: statement ")
        assert says in error
    assert len(errors) == len(BAD)
    assert result.report["error"].startswith(f"{len(BAD)} statement(s) would be refused: 0010_typo")


def test_dry_run_knows_what_pending_steps_create(servers: Servers, sample: Steps) -> None:
    """Tables, views and databases, renamed ones too; and a run then does the same."""
    servers.mysql.grant("INDEX")
    sample.add(GOOD)
    result = dry(servers, sample)

    assert result.code == 0, result.report
    assert len(named(result)) == 6 + 3 + 3 + 3 + 5
    assert sample.run(servers).code == 0


@pytest.mark.parametrize("name", BAD)
def test_dry_run_does_not_cry_wolf(servers: Servers, name: str) -> None:
    """The servers themselves refuse each of these when it is sent for real."""
    target = servers.clickhouse if name.endswith("clickhouse") else servers.mysql
    servers.clickhouse.query("CREATE DATABASE shop")
    servers.clickhouse.query("CREATE TABLE shop.events (n Int) ENGINE = Memory")
    servers.mysql.query("CREATE TABLE people (id INT)")
    *before, last = BAD[name][0].split(";")
    for statement in before:
        target.query(statement)
    with pytest.raises((ClickHouseError, mysql.connector.Error)):
        target.query(last)


def test_dry_run_of_the_shipped_steps(servers: Servers) -> None:
    """On empty servers every object is announced, and nothing is made; the same run afterwards is green."""
    before = everything(servers)
    result = servers.run("--dry-run")
    announced = " ".join(line["would"] for line in result.events("statement"))

    assert result.code == 0, result.report
    assert everything(servers) == before
    for name in ("otel_metrics_gauge", "NodeMetrics", "network_receive_bytes_per_sec", "mv_populate_pod_metrics", "agents",
                 "replica_instances", "v_active_replicas", "compute_daily_savings"):
        assert name in announced, name


def test_dry_run_of_adopted_databases_says_what_would_change_and_why(servers: Servers, sample: Steps) -> None:
    """Rows of hand-run scripts make their steps pending; the ledger is not touched."""
    servers.mysql.query("CREATE TABLE schema_migrations (version INT PRIMARY KEY, description VARCHAR(255), applied_at"
                        " TIMESTAMP DEFAULT CURRENT_TIMESTAMP); INSERT INTO schema_migrations VALUES (2, 'x', NOW());"
                        + SAMPLE["0002_people.mysql.sql"])
    result = dry(servers, sample)

    assert (result.code, result.report["pending"]) == (0, STEMS)
