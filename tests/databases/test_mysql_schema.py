"""The MySQL schema does what the seed documents want of it, on MySQL and on MariaDB.

That its columns, keys and foreign keys are the stated ones is the business of sql/expected.mysql.json.
"""

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mysql.connector
import pytest
from mysql.connector.abstracts import MySQLConnectionAbstract

from migrator.statements import split
from tests.conftest import Database
from tests.job import JobResult, run_job
from tests.servers.mysql import MySQLServer

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SQL_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
SQL_MODES = ("DEFAULT", "''", f"'{SQL_MODE}'", "'ANSI,ONLY_FULL_GROUP_BY,STRICT_ALL_TABLES'")
VIEWS = {
    "v_active_replicas",
    "v_data_quality_metrics",
    "v_pool_reliability_ranking",
    "v_switch_history_with_prices",
}
PRICE_TABLES = (
    "pricing_submissions_raw", "pricing_snapshots_clean", "pricing_snapshots_interpolated",
    "pricing_snapshots_ml", "pricing_corrections",
)  # fmt: skip
APPLICATION = ("SELECT", "INSERT", "UPDATE", "DELETE", "DROP", "EXECUTE")  # DROP is for TRUNCATE
ZONES = ("+00:00", "+05:30", "-05:00", "+13:00", "SYSTEM", "Test/London")
TODAY = datetime(2026, 3, 10, 12, 20, tzinfo=UTC)
POOL_1A, POOL_1B, POOL_M5 = "t3.medium.us-east-1a", "t3.medium.us-east-1b", "m5.large.us-east-1a"
Query = Callable[[str], list[tuple[Any, ...]]]


@dataclass
class Session:
    """A connection of one user; a call runs one statement and gives the rows of its last result."""

    connection: MySQLConnectionAbstract

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for result in self.connection.cmd_query_iter(sql):
            if "columns" in result:
                rows = self.connection.get_rows()[0]
        return rows


@contextlib.contextmanager
def session(
    db: Database, *, zone: str = "+00:00", at: datetime | None = None, user: str = "root", password: str = ""
) -> Iterator[Session]:
    """A session in a time zone, at a moment if one is given (`NOW()` stands still there)."""
    with contextlib.closing(db.server.connect(db.name, user=user, password=password)) as connection:
        run = Session(connection)
        run(f"SET time_zone = '{zone}'")
        if at:
            run(f"SET timestamp = {at.timestamp():.0f}")
        yield run


def install(db: Database, **environ: str) -> JobResult:
    """Bring an empty database to the full schema, by the job."""
    result = run_job("--target", "mysql", env={"MYSQL_URL": db.url} | environ)
    assert result.code == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def schema(mysql_server: MySQLServer) -> Iterator[Database]:
    """A database with the full schema, on each dialect; a test that writes asks for `empty`."""
    db = Database(mysql_server, f"schema_{secrets.token_hex(4)}")
    mysql_server.create_database(db.name)
    install(db)
    yield db
    mysql_server.query(f"DROP DATABASE `{db.name}`")


@pytest.fixture
def empty(schema: Database) -> Database:
    """The full schema without a row."""
    tables = schema.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        " AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'schema_migrations%'"
    )
    schema.query("SET foreign_key_checks = 0; " + "; ".join(f"DELETE FROM {table}" for (table,) in tables))
    return schema


@pytest.fixture
def sample(empty: Database) -> Database:
    """The full schema with the rows of tests/data/mysql_sample_rows.sql."""
    empty.query((DATA / "mysql_sample_rows.sql").read_text())
    return empty


@pytest.fixture(scope="module")
def zones(mysql_server: MySQLServer) -> None:
    """The server knows a zone in which 01:00 to 02:00 happens twice on 2026-10-25, as in London."""
    mysql_server.query("""
        REPLACE INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (1, 'N');
        REPLACE INTO mysql.time_zone_name (Name, Time_zone_id) VALUES ('Test/London', 1);
        REPLACE INTO mysql.time_zone_transition (Time_zone_id, Transition_time, Transition_type_id)
            VALUES (1, -2147483648, 0), (1, UNIX_TIMESTAMP('2026-03-29 01:00:00'), 1),
                   (1, UNIX_TIMESTAMP('2026-10-25 01:00:00'), 0);
        REPLACE INTO mysql.time_zone_transition_type
            (Time_zone_id, Transition_type_id, `Offset`, Is_DST, Abbreviation)
            VALUES (1, 0, 0, 0, 'GMT'), (1, 1, 3600, 1, 'BST')
    """)


@contextlib.contextmanager
def user(db: Database, *privileges: str) -> Iterator[tuple[str, str]]:
    """A user with these privileges on this database alone; gone afterwards, if it is still there."""
    name, password = f"u_{secrets.token_hex(4)}", secrets.token_hex(8)
    schema = db.name.replace("_", r"\_")
    db.server.create_user(name, password, [f"{', '.join(privileges)} ON `{schema}`.*"])
    yield name, password
    db.server.query(f"DROP USER IF EXISTS '{name}'@'%'")


def refused(run: Query, sql: str) -> int:
    """The number of the error that the statement ends in."""
    with pytest.raises(mysql.connector.Error) as error:
        run(sql)
    return error.value.errno


def shown(rows: list[tuple[Any, ...]]) -> list[str]:
    """Each row as one line, exact to the last digit of a decimal."""
    return [" | ".join("NULL" if value is None else str(value) for value in row) for row in rows]


def utc(text: str) -> int:
    """Unix seconds of a UTC time written as MySQL writes it."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_0005_creates_the_tables_that_are_missing_and_touches_no_other(fresh_mysql: Database) -> None:
    """A table that is there keeps its columns and rows; an older base that lacks cost_records gets it."""
    statements = split((ROOT / "sql" / "0005_base_tables.mysql.sql").read_text(), "mysql")
    with session(fresh_mysql) as run:
        for statement in statements:
            run(statement.text)
        tables = run("SHOW TABLES")
        run("ALTER TABLE clients ADD COLUMN colour varchar(20) DEFAULT 'red', DROP KEY idx_clients_token")
        run("INSERT INTO clients (id, name, email, client_token) VALUES ('c-1', 'Acme', 'a@acme', 't')")
        run("DROP TABLE cost_records")
        clients = run("SHOW CREATE TABLE clients")
        for statement in statements:
            run(statement.text)

        assert len(tables) == 8
        assert run("SHOW TABLES") == tables
        assert run("SHOW CREATE TABLE clients") == clients
        assert run("SELECT id, colour FROM clients") == [("c-1", "red")]


# The verification commands of the seed document


def test_describe_agents_shows_the_replica_columns(schema: Database) -> None:
    """The seed's first command: agents has the columns whose absence broke the Replicas tab."""
    described = {row[0]: (row[1], row[2]) for row in schema.query("DESCRIBE agents")}

    added = {
        name: (re.sub(r"^int\(\d+\)", "int", kind), null)
        for name, (kind, null) in described.items()
        if re.search("replica_|interruption|failover|current_replica", name) and name != "replica_count"
    }
    assert added == {
        "replica_enabled": ("tinyint(1)", "YES"),
        "manual_replica_enabled": ("tinyint(1)", "YES"),
        "current_replica_id": ("varchar(255)", "YES"),
        "last_interruption_signal": ("timestamp", "YES"),
        "interruption_handled_count": ("int", "YES"),
        "last_failover_at": ("timestamp", "YES"),
        "auto_replica_enabled": ("tinyint(1)", "YES"),
    }


def test_the_other_commands_list_tables_views_procedures_and_migrations(schema: Database) -> None:
    """The seed's SHOW commands and its query of the tracking table show exactly what it promises."""
    assert schema.query("SHOW TABLES LIKE 'replica%'") == [("replica_instances",)]
    assert schema.query("SHOW TABLES LIKE 'pricing_snapshots_clean'") == [("pricing_snapshots_clean",)]
    assert {row[0] for row in schema.query("SHOW FULL TABLES WHERE Table_type = 'VIEW'")} == VIEWS
    procedures = schema.query("SHOW PROCEDURE STATUS WHERE Db = DATABASE()")
    assert [row[1] for row in procedures] == ["compute_daily_savings", "compute_pool_reliability"]
    tracked = schema.query("SELECT * FROM schema_migrations ORDER BY version DESC")
    assert [row[:2] for row in tracked] == [
        (7, "schema completion"),
        (6, "replica management"),
        (5, "base tables"),
    ]


def test_every_view_can_be_read_under_every_sql_mode(empty: Database) -> None:
    """A view that is merely listed may be broken: each is read, by strict and by lax sessions."""
    for sql_mode in SQL_MODES:
        with session(empty) as run:
            run(f"SET sql_mode = {sql_mode}")
            assert [run(f"SELECT * FROM {view}") for view in VIEWS] == [[]] * 4


def test_the_procedure_calls_of_the_seed_work_as_written(empty: Database) -> None:
    """The seed's three CALLs succeed for an ordinary session of either server, whatever its sql_mode."""
    empty.query((DATA / "mysql_application_writes.sql").read_text())
    for sql_mode in SQL_MODES:
        with session(empty) as run:
            run(f"SET sql_mode = {sql_mode}")
            run("CALL compute_daily_savings(CURDATE())")
            run("CALL compute_daily_savings(DATE_SUB(CURDATE(), INTERVAL 1 DAY))")
            run("CALL compute_pool_reliability(24)")

    assert empty.query("SELECT COUNT(*) FROM client_savings_daily") == [(2,)]
    assert empty.query("SELECT COUNT(*) FROM pool_reliability_metrics") == [(1,)]


# What the application writes


def test_every_write_of_the_application_succeeds(empty: Database) -> None:
    """Each INSERT, UPDATE and TRUNCATE that the application sends changes rows and raises no warning."""
    with user(empty, *APPLICATION) as (name, password), session(empty, user=name, password=password) as run:
        for statement in split((DATA / "mysql_application_writes.sql").read_text(), "mysql"):
            (result,) = run.connection.cmd_query_iter(statement.text)
            assert result["warning_count"] == 0, (statement.text, run("SHOW WARNINGS"))
            if not statement.text.startswith(("SET", "TRUNCATE")):
                assert result["affected_rows"] > 0, statement.text

        refreshed = run("SELECT hour_of_day, day_of_week, month, year, spot_price FROM pricing_snapshots_ml")
        assert shown(refreshed) == ["8 | 2 | 3 | 2026 | 0.012500", "8 | 2 | 3 | 2026 | 0.012600"]
        assert run("SELECT current_replica_id, interruption_handled_count FROM agents") == [("r-1", 1)]
        run("TRUNCATE TABLE pricing_snapshots_ml")  # no foreign key may point to it
        assert run("SELECT COUNT(*) FROM pricing_snapshots_ml") == [(0,)]


def test_deleting_follows_the_foreign_keys_around_the_cycle_of_agents_and_replicas(empty: Database) -> None:
    """A deleted pool or replica is forgotten, a deleted client takes its agents and replicas along."""
    empty.query((DATA / "mysql_application_writes.sql").read_text())
    empty.query("DELETE FROM spot_pools")
    assert empty.query("SELECT DISTINCT pool_id FROM replica_instances") == [(None,)]
    assert empty.query("SELECT pool_id, replica_id FROM spot_interruption_events") == [(None, "r-1")]
    for table in PRICE_TABLES:
        assert empty.query(f"SELECT COUNT(*) FROM {table}") == [(0,)]

    empty.query("DELETE FROM replica_instances WHERE id = 'r-1'")
    assert empty.query("SELECT current_replica_id FROM agents") == [(None,)]
    assert empty.query("SELECT replica_id FROM spot_interruption_events") == [(None,)]

    empty.query("UPDATE agents SET current_replica_id = 'r-2'")
    empty.query("DELETE FROM clients")
    for table in ("agents", "replica_instances", "spot_interruption_events", "cost_records"):
        assert empty.query(f"SELECT COUNT(*) FROM {table}") == [(0,)]


def test_a_deleted_submission_is_forgotten_by_its_duplicate_and_its_snapshot(empty: Database) -> None:
    """Deleting raw prices neither fails nor takes clean ones along; a correction outlives its snapshot."""
    empty.query((DATA / "mysql_application_writes.sql").read_text())
    empty.query("DELETE FROM pricing_submissions_raw WHERE submission_id = 's-1'")
    assert empty.query("SELECT submission_id, duplicate_of FROM pricing_submissions_raw") == [("s-2", None)]
    assert empty.query("SELECT source_submission_id FROM pricing_snapshots_clean") == [(None,), (None,)]

    empty.query("DELETE FROM pricing_snapshots_clean")
    assert empty.query("SELECT original_snapshot_id, status FROM pricing_corrections") == [(None, "pending")]


def test_a_row_for_an_unknown_pool_agent_or_client_is_refused(sample: Database) -> None:
    """The foreign keys that only 006 had are in force."""
    for sql in (
        "UPDATE replica_instances SET pool_id = '1'",
        "UPDATE replica_instances SET agent_id = '1'",
        "UPDATE spot_interruption_events SET replica_id = '1'",
        "UPDATE pricing_snapshots_clean SET pool_id = '0'",
        "UPDATE agents SET current_replica_id = '1'",
        "INSERT INTO client_savings_daily (client_id, date) VALUES ('nobody', '2026-03-10')",
    ):
        assert refused(sample.query, sql) == 1452, sql


# What each table enables: one query for each feature of the seed document's tables


def test_replicas_tab(sample: Database) -> None:
    """Active replicas with agent, client and pool; one without a pool is there, inactive ones are not."""
    rows = sample.query(
        "SELECT id, replica_type, status, sync_status, sync_latency_ms, hourly_cost, logical_agent_id,"
        " agent_hostname, agent_status, client_name, pool_name, instance_type, region, az"
        " FROM v_active_replicas ORDER BY created_at"
    )

    assert shown(rows) == [
        "r-ready | manual | ready | synced | 12 | 0.012500 | web-1 | ip-10-0-0-1 | online | Acme"
        " | t3.medium (us-east-1b) | t3.medium | us-east-1 | us-east-1b",
        "r-nowhere | automatic-rebalance | syncing | syncing | NULL | NULL | job-1 | ip-10-0-0-3 | online"
        " | Globex | NULL | NULL | NULL | NULL",
    ]


def test_multi_pool_price_chart_of_seven_days(sample: Database) -> None:
    """Average price of each pool for each of the last seven days; the older price is not in it."""
    with session(sample) as run:
        rows = run(
            "SELECT pool_id, DATE(time_bucket) AS day, ROUND(AVG(spot_price), 6), COUNT(*)"
            " FROM pricing_snapshots_clean WHERE time_bucket >= '2026-03-10 12:00:00' - INTERVAL 7 DAY"
            " GROUP BY pool_id, day ORDER BY pool_id, day"
        )

    assert shown(rows) == [
        "t3.medium.us-east-1a | 2026-03-09 | 0.012000 | 1",
        "t3.medium.us-east-1a | 2026-03-10 | 0.012000 | 2",
        "t3.medium.us-east-1b | 2026-03-10 | 0.021000 | 2",
    ]


def test_emergency_failover_tracking(sample: Database) -> None:
    """How an agent's interruptions of a day were answered, and how fast."""
    with session(sample) as run:
        rows = run(
            "SELECT detected_at, signal_type, response_action, replica_id, failover_completed,"
            " failover_time_ms, success FROM spot_interruption_events"
            " WHERE agent_id = 'a-web' AND detected_at >= '2026-03-10' AND detected_at < '2026-03-10 13:00:00' ORDER BY detected_at"
        )

    assert shown(rows) == [
        "2026-03-10 08:00:00 | termination-notice | promoted-existing-replica | r-ready | 1 | 4200 | 1",
        "2026-03-10 12:10:00 | termination-notice | emergency-snapshot | NULL | 0 | NULL | 0",
    ]


def test_daily_and_weekly_savings_graphs(sample: Database) -> None:
    """Savings of each day and of the week, for one client."""
    with session(sample, at=TODAY) as run:
        for day in ("2026-03-09", "2026-03-10", "2026-03-11"):
            run(f"CALL compute_daily_savings('{day}')")
        of_acme = "FROM client_savings_daily WHERE client_id = 'acme'"
        daily = run(f"SELECT date, savings, savings_percentage {of_acme} ORDER BY date")
        weekly = run(
            "SELECT YEARWEEK(date, 3) AS week, SUM(baseline_cost), SUM(actual_cost), SUM(savings)"
            f" {of_acme} GROUP BY week"
        )

    assert shown(daily) == [
        "2026-03-09 | 1.0000 | 33.33",
        "2026-03-10 | 11.0000 | 55.00",
        "2026-03-11 | 0.0000 | 0.00",
    ]
    assert shown(weekly) == ["202611 | 73.0000 | 61.0000 | 12.0000"]


def test_pool_health_and_safest_pool(sample: Database) -> None:
    """One row for each pool, active or not, the safest and cheapest first; old periods do not count."""
    with session(sample) as run:
        run(
            "INSERT INTO pool_reliability_metrics (pool_id, period_start, period_end, interruption_count,"
            " uptime_percentage, reliability_score, avg_price) VALUES"
            f" ('{POOL_1A}', NOW() - INTERVAL 2 DAY, NOW(), 3, 85, 85, 0.010),"
            f" ('{POOL_1A}', NOW() - INTERVAL 1 DAY, NOW(), 1, 95, 95, 0.014),"
            f" ('{POOL_1A}', NOW() - INTERVAL 40 DAY, NOW(), 20, 0, 0, 9.9),"
            f" ('{POOL_1B}', NOW() - INTERVAL 1 DAY, NOW(), 0, 100, 100, 0.021)"
        )
        rows = run(
            "SELECT pool_id, pool_name, instance_type, region, az, ROUND(avg_reliability_score, 2),"
            " total_interruptions, ROUND(avg_uptime_percentage, 2), ROUND(avg_price, 6), data_points"
            " FROM v_pool_reliability_ranking"
        )

    us = "us-east-1 | us-east-1"
    assert shown(rows) == [
        f"{POOL_M5} | m5.large (us-east-1a) | m5.large | {us}a | 100.00 | 0 | 100.00 | 0.000000 | 0",
        f"{POOL_1B} | t3.medium (us-east-1b) | t3.medium | {us}b | 100.00 | 0 | 100.00 | 0.021000 | 1",
        f"{POOL_1A} | Blue pool | t3.medium | {us}a | 90.00 | 4 | 90.00 | 0.012000 | 2",
    ]


def test_real_time_monitoring(sample: Database) -> None:
    """The newest measurement of each instance."""
    rows = sample.query(
        "SELECT instance_id, cpu_utilization, response_time_ms FROM instance_metrics AS m WHERE recorded_at ="
        " (SELECT MAX(n.recorded_at) FROM instance_metrics AS n WHERE n.instance_id = m.instance_id)"
        " ORDER BY instance_id"
    )

    assert shown(rows) == ["i-1 | 97.75 | 250.00", "i-2 | 12.00 | 8.25"]


def test_manual_replica_mode_in_the_agent_configuration(sample: Database) -> None:
    """Manual replicas are off by default and can be switched on in place of automatic switching."""
    modes = sample.query("SELECT DISTINCT manual_replica_enabled, auto_replica_enabled FROM agents")
    sample.query("UPDATE agents SET manual_replica_enabled = 1, auto_switch_enabled = 0 WHERE id = 'a-web'")
    manual = sample.query("SELECT id FROM agents WHERE manual_replica_enabled = 1 AND replica_count > 0")

    assert (modes, manual) == ([(0, 0)], [("a-web",)])


def test_switch_history_with_full_details(sample: Database) -> None:
    """Switches with prices and pools of both sides, the newest first; a vanished instance leaves a gap."""
    rows = sample.query(
        "SELECT old_instance_id, new_instance_id, old_instance_price, new_instance_price, ondemand_baseline,"
        " estimated_savings, savings_confidence, logical_agent_id, client_name, old_pool_name,"
        " old_instance_type, new_pool_name, new_instance_type FROM v_switch_history_with_prices"
    )

    assert shown(rows) == [
        "i-1 | i-2 | 0.010000 | 0.020000 | 0.040000 | 0.0200 | high | web-1 | Acme | Blue pool | t3.medium"
        " | t3.medium (us-east-1b) | t3.medium",
        "i-0 | i-1 | NULL | 0.012000 | 0.040000 | NULL | high | web-1 | Acme | NULL | NULL | Blue pool | t3.medium",
    ]


def test_data_quality_counts_by_day_of_the_reader(sample: Database) -> None:
    """Measured, interpolated and doubtful prices of each day in the reader's time zone."""
    sql = (
        "SELECT date, instance_type, region, total_snapshots, measured_count, interpolated_count,"
        " ROUND(avg_confidence, 4), min_confidence, high_confidence_count, low_confidence_count"
        " FROM v_data_quality_metrics ORDER BY date"
    )
    with session(sample) as run:
        in_utc = run(sql)
    with session(sample, zone="-11:00") as run:
        in_samoa = run(sql)

    assert shown(in_utc) == [
        "2026-03-01 | t3.medium | us-east-1 | 1 | 1 | 0 | 1.0000 | 1.00 | 1 | 0",
        "2026-03-09 | t3.medium | us-east-1 | 1 | 1 | 0 | 1.0000 | 1.00 | 1 | 0",
        "2026-03-10 | t3.medium | us-east-1 | 4 | 2 | 2 | 0.8425 | 0.60 | 2 | 1",
    ]
    assert [(str(row[0]), row[3]) for row in in_samoa] == [
        ("2026-02-28", 1), ("2026-03-08", 1), ("2026-03-09", 3), ("2026-03-10", 1),
    ]  # fmt: skip


# compute_daily_savings

DAILY = (
    "SELECT client_id, date, baseline_cost, actual_cost, savings, savings_percentage, switch_count,"
    " instance_count, online_agent_count FROM client_savings_daily ORDER BY client_id, date"
)
ACME_TODAY = "acme | 2026-03-10 | 20.0000 | 9.0000 | 11.0000 | 55.00 | 2 | 2 | 1"
GLOBEX_TODAY = "globex | 2026-03-10 | 0.0000 | 1.2500 | -1.2500 | NULL | 0 | 0 | 1"


@pytest.mark.parametrize("zone", ZONES)
def test_daily_savings_are_right_to_the_cent_in_any_time_zone(sample: Database, zones: None, zone: str) -> None:
    """A day is a UTC day; a second call gives the same rows; inactive clients have none."""
    with session(sample, zone=zone, at=TODAY) as run:
        run("CALL compute_daily_savings('2026-03-10')")
        first, ids = run(DAILY), run("SELECT id FROM client_savings_daily ORDER BY id")
        run("CALL compute_daily_savings('2026-03-10')")

        assert shown(first) == [ACME_TODAY, GLOBEX_TODAY]
        assert run(DAILY) == first
        assert run("SELECT id FROM client_savings_daily ORDER BY id") == ids
        computed = run("SELECT DISTINCT UNIX_TIMESTAMP(computed_at) FROM client_savings_daily")
        assert computed == [(int(TODAY.timestamp()),)]
        assert run("SELECT @@session.time_zone") == [(zone,)]


@pytest.mark.parametrize("zone", ZONES)
def test_a_past_day_keeps_its_counts_and_gets_its_new_costs(sample: Database, zones: None, zone: str) -> None:
    """Late costs are counted; how many instances there are today says nothing of a past day."""
    with session(sample, zone=zone, at=TODAY) as run:
        run("CALL compute_daily_savings('2026-03-10')")
        run("UPDATE instances SET is_active = 0")
        run("UPDATE agents SET status = 'offline'")
        run("DELETE FROM cost_records WHERE agent_id = 'a-db'")
        run(f"SET timestamp = {utc('2026-03-11 00:00:00')}")
        run("CALL compute_daily_savings('2026-03-10')")

        acme = shown(run(DAILY))[0]
        assert acme == "acme | 2026-03-10 | 12.0000 | 5.5000 | 6.5000 | 54.17 | 2 | 2 | 1"


@pytest.mark.parametrize("zone", ZONES)
def test_a_past_day_never_counted_has_unknown_counts(sample: Database, zones: None, zone: str) -> None:
    """NULL, not today's numbers and not 0; a percentage that its column cannot hold is NULL too."""
    with session(sample, zone=zone, at=TODAY) as run:
        for _ in range(2):
            run("CALL compute_daily_savings('2026-03-09')")

            assert shown(run(DAILY)) == [
                "acme | 2026-03-09 | 3.0000 | 2.0000 | 1.0000 | 33.33 | 1 | NULL | NULL",
                "globex | 2026-03-09 | 0.1000 | 5.1000 | -5.0000 | NULL | 0 | NULL | NULL",
            ]


def test_the_day_that_has_begun_counts_what_is_there_now(sample: Database) -> None:
    """On the day itself a later call counts anew."""
    with session(sample, at=TODAY) as run:
        run("CALL compute_daily_savings('2026-03-10')")
        run("UPDATE instances SET is_active = 0 WHERE id = 'i-1'")
        run("UPDATE agents SET status = 'online'")
        run("CALL compute_daily_savings('2026-03-10')")

        assert shown(run(DAILY))[0] == ACME_TODAY.removesuffix("2 | 1") + "1 | 2"


def test_no_day_is_an_error(sample: Database) -> None:
    """compute_daily_savings(NULL) is refused, and writes nothing."""
    assert refused(sample.query, "CALL compute_daily_savings(NULL)") == 1048
    assert sample.query("SELECT COUNT(*) FROM client_savings_daily") == [(0,)]


# compute_pool_reliability

RELIABILITY = (
    "SELECT pool_id, UNIX_TIMESTAMP(period_start), UNIX_TIMESTAMP(period_end), interruption_count,"
    " rebalance_count, termination_count, uptime_percentage, reliability_score, price_volatility, avg_price,"
    " min_price, max_price FROM pool_reliability_metrics ORDER BY pool_id, period_start"
)


def periods(run: Session, pool: str = POOL_1A) -> list[tuple[str, str]]:
    """Beginning and end, in UTC, of each row of the pool."""
    return [
        (f"{datetime.fromtimestamp(row[1], UTC):%F %T}", f"{datetime.fromtimestamp(row[2], UTC):%F %T}")
        for row in run(RELIABILITY)
        if row[0] == pool
    ]


@pytest.mark.parametrize("zone", ZONES)
def test_pool_reliability_of_known_rows_in_any_time_zone(sample: Database, zones: None, zone: str) -> None:
    """Three interruptions give 85; only the window counts; a second call in the hour changes nothing."""
    with session(sample, zone=zone, at=TODAY) as run:
        run("CALL compute_pool_reliability(24)")
        first, ids = run(RELIABILITY), run("SELECT id FROM pool_reliability_metrics ORDER BY id")
        run(f"SET timestamp = {utc('2026-03-10 12:59:59')}")
        run("CALL compute_pool_reliability(24)")

        window = f"{utc('2026-03-09 12:00:00')} | {utc('2026-03-10 13:00:00')}"
        assert shown(first) == [
            f"{POOL_M5} | {window} | 0 | 0 | 0 | 100.00 | 100.00 | 0.000000 | 0.000000 | 0.000000 | 0.000000",
            f"{POOL_1A} | {window} | 3 | 1 | 2 | 85.00 | 85.00 | 0.002000 | 0.012000 | 0.010000 | 0.014000",
            f"{POOL_1B} | {window} | 0 | 0 | 0 | 100.00 | 100.00 | 0.001000 | 0.021000 | 0.020000 | 0.022000",
        ]
        assert run(RELIABILITY) == first
        assert run("SELECT id FROM pool_reliability_metrics ORDER BY id") == ids
        assert run("SELECT @@session.time_zone") == [(zone,)]


def test_the_next_hour_has_rows_of_its_own(sample: Database) -> None:
    """History grows by a row an hour for each pool."""
    with session(sample, at=TODAY) as run:
        run("CALL compute_pool_reliability(24)")
        run(f"SET timestamp = {utc('2026-03-10 13:00:00')}")
        run("CALL compute_pool_reliability(24)")

        assert periods(run) == [
            ("2026-03-09 12:00:00", "2026-03-10 13:00:00"),
            ("2026-03-09 13:00:00", "2026-03-10 14:00:00"),
        ]


def test_a_longer_window_with_the_same_beginning_takes_the_row_over(sample: Database) -> None:
    """25 hours, an hour later, begin where 24 hours did: one row, which says where it ends now."""
    with session(sample, at=TODAY) as run:
        run("CALL compute_pool_reliability(24)")
        run(f"SET timestamp = {utc('2026-03-10 13:20:00')}")
        run("CALL compute_pool_reliability(25)")

        assert periods(run) == [("2026-03-09 12:00:00", "2026-03-10 14:00:00")]
        assert run(f"SELECT interruption_count FROM pool_reliability_metrics WHERE pool_id = '{POOL_1A}'") == [(4,)]


def test_the_hour_that_happens_twice_has_two_periods(sample: Database, zones: None) -> None:
    """When clocks go back, two hours have one local name: a caller in that zone still gets a row for each."""
    with session(sample, zone="Test/London") as run:
        for now in ("2026-10-25 02:30:00", "2026-10-25 03:30:00"):
            run(f"SET timestamp = {utc(now)}")
            run("CALL compute_pool_reliability(2)")

        assert periods(run) == [
            ("2026-10-25 00:00:00", "2026-10-25 03:00:00"),
            ("2026-10-25 01:00:00", "2026-10-25 04:00:00"),
        ]


def test_many_prices_and_several_interruptions_do_not_multiply(sample: Database) -> None:
    """200 prices and 25 interruptions of one pool: 25 are counted, and the score stops at 0."""
    sample.query("DELETE FROM spot_interruption_events; DELETE FROM pricing_snapshots_clean")
    with session(sample, at=TODAY) as run:
        run(
            "INSERT INTO pricing_snapshots_clean"
            " (pool_id, instance_type, region, az, spot_price, time_bucket, bucket_start, bucket_end,"
            " source_type)"
            " WITH RECURSIVE bucket (n, at) AS ("
            "  SELECT 0, CAST('2026-03-09 13:00:00' AS datetime)"
            "  UNION ALL SELECT n + 1, at + INTERVAL 5 MINUTE FROM bucket WHERE n < 199)"
            f" SELECT '{POOL_1B}', 't', 'r', 'a', IF(n % 2, 0.01, 0.03), at, at, at, 'primary' FROM bucket"
        )
        kinds = ["rebalance-recommendation"] * 10 + ["termination-notice"] * 15
        events = [f"('i', 'a-web', '{POOL_1B}', '{kind}', '2026-03-10 08:00:00', 'no-action')" for kind in kinds]
        run(
            "INSERT INTO spot_interruption_events (instance_id, agent_id, pool_id, signal_type, detected_at,"
            f" response_action) VALUES {', '.join(events)}"
        )
        run("CALL compute_pool_reliability(24)")

        (row,) = [row[3:] for row in run(RELIABILITY) if row[0] == POOL_1B]
        assert shown([row]) == ["25 | 10 | 15 | 0.00 | 0.00 | 0.010000 | 0.020000 | 0.010000 | 0.030000"]


@pytest.mark.parametrize("hours", ["NULL", "0", "-1", "87601", "2147483647", "-2147483648"])
def test_a_window_without_a_sensible_length_is_refused(sample: Database, hours: str) -> None:
    """The error says what is accepted, nothing is written, the session's time zone stays."""
    with session(sample, zone="+05:30") as run:
        with pytest.raises(mysql.connector.Error, match="p_hours must be from 1 to 87600"):
            run(f"CALL compute_pool_reliability({hours})")

        assert run("SELECT COUNT(*) FROM pool_reliability_metrics") == [(0,)]
        assert run("SELECT @@session.time_zone") == [("+05:30",)]


# Both procedures

CALLS = ("compute_daily_savings('2026-03-10')", "compute_pool_reliability(24)")


@pytest.mark.parametrize("call", CALLS)
def test_a_call_belongs_to_its_callers_transaction(sample: Database, call: str) -> None:
    """What it wrote is gone after ROLLBACK: there is no DDL, and no commit, in it."""
    table = "client_savings_daily" if "daily" in call else "pool_reliability_metrics"
    with session(sample) as run:
        run("START TRANSACTION")
        run(f"CALL {call}")
        assert run(f"SELECT COUNT(*) > 0 FROM {table}") == [(1,)]
        run("ROLLBACK")
        assert run(f"SELECT COUNT(*) FROM {table}") == [(0,)]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_midway_leaves_the_sessions_time_zone_alone(sample: Database, call: str) -> None:
    """Here the caller may not write to the result table: the error is passed on, the zone is what it was."""
    with (
        user(sample, "SELECT", "EXECUTE") as (name, password),
        session(sample, zone="+05:30", user=name, password=password) as run,
    ):
        assert refused(run, f"CALL {call}") == 1142
        assert run("SELECT @@session.time_zone, NOW() > UTC_TIMESTAMP()") == [("+05:30", 1)]


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_call_leaves_the_sessions_time_zone_alone(sample: Database, call: str) -> None:
    """KILL QUERY while the call waits for another's rows: a pooled connection goes on in its own zone."""
    with session(sample, at=TODAY) as blocker, session(sample, zone="+05:30", at=TODAY) as run:
        blocker("START TRANSACTION")
        blocker(f"CALL {call}")
        errors: list[int] = []
        caller = threading.Thread(target=lambda: errors.append(refused(run, f"CALL {call}")))
        caller.start()
        busy = f"SELECT info FROM information_schema.processlist WHERE id = {run.connection.connection_id}"
        deadline = time.monotonic() + 30
        while "INSERT" not in str(blocker(busy)[0][0]).upper():
            assert time.monotonic() < deadline and caller.is_alive(), "the call does not wait"
            time.sleep(0.02)
        blocker(f"KILL QUERY {run.connection.connection_id}")
        caller.join(30)

        assert errors == [1317]
        assert run("SELECT @@session.time_zone, NOW() > UTC_TIMESTAMP()") == [("+05:30", 1)]


# Rights


def test_views_and_procedures_outlive_the_user_that_migrated(fresh_mysql: Database) -> None:
    """Made by a user who is then dropped, used by the application's, replaced by the next migrating one."""
    with user(fresh_mysql, "ALL") as (first, password):
        install(fresh_mysql, MYSQL_URL=fresh_mysql.server.url(fresh_mysql.name, user=first, password=password))
        fresh_mysql.query(f"DROP USER '{first}'@'%'")
    fresh_mysql.query((DATA / "mysql_sample_rows.sql").read_text())

    with (
        user(fresh_mysql, *APPLICATION, "LOCK TABLES") as (name, password),
        session(fresh_mysql, user=name, password=password, at=TODAY) as run,
    ):
        assert [len(run(f"SELECT * FROM {view}")) for view in sorted(VIEWS)] == [2, 3, 3, 2]
        run("CALL compute_daily_savings('2026-03-10')")
        run("CALL compute_pool_reliability(24)")
        assert shown(run(DAILY)) == [ACME_TODAY, GLOBEX_TODAY]
        assert run("SELECT COUNT(*) FROM pool_reliability_metrics") == [(3,)]
        for view in VIEWS:
            run(f"LOCK TABLES {view} READ")  # as a backup does
            run("UNLOCK TABLES")

    with (
        user(fresh_mysql, "ALL") as (name, password),
        session(fresh_mysql, user=name, password=password) as run,
    ):
        for view in VIEWS:
            run(f"SHOW CREATE VIEW {view}")
            run(f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW {view} AS SELECT 1 AS one")
        for procedure in ("compute_daily_savings", "compute_pool_reliability"):
            run(f"DROP PROCEDURE {procedure}")
            run(f"CREATE PROCEDURE {procedure}() SQL SECURITY INVOKER SELECT 1")


def test_views_and_procedures_need_no_more_rights_than_their_tables(schema: Database) -> None:
    """They run with the rights of whoever uses them, and remember the strict sql_mode of the job."""
    views = schema.query(
        "SELECT table_name, security_type FROM information_schema.views WHERE table_schema = DATABASE()"
    )
    assert {row[0] for row in views} == VIEWS and {row[1] for row in views} == {"INVOKER"}
    routines = schema.query(
        "SELECT security_type, sql_data_access, CAST(sql_mode AS char) FROM information_schema.routines"
        " WHERE routine_schema = DATABASE()"
    )
    assert [row[:2] for row in routines] == [("INVOKER", "MODIFIES SQL DATA")] * 2
    assert all({*str(row[2]).split(",")} == {*SQL_MODE.split(",")} for row in routines)


# 0006's rows: names of pools, recent prices


def apply_0006_again(db: Database) -> tuple[list[str], list[int]]:
    """Forget that 0006 was applied and let the job apply it: what it planned and did, and what it said it skipped."""
    db.query("DELETE FROM schema_migrations WHERE version >= 6")
    step = "0006_replica_management.mysql"
    plan = [line["would"] for line in run_statements(db, step, "--dry-run")]
    done = run_statements(db, step)

    assert len([line for line in done if "n" in line]) == len(plan)
    return plan, [line["skipped"] for line in done if "skipped" in line]


def run_statements(db: Database, step: str, *args: str) -> list[dict[str, Any]]:
    """The job's lines about the statements of a step."""
    result = run_job("--target", "mysql", *args, env={"MYSQL_URL": db.url})
    assert result.code == 0, result.stdout + result.stderr
    return [line for line in result.events("statement") if line["step"] == step]


@pytest.fixture
def no_prices(empty: Database) -> Iterator[Database]:
    """The full schema without a row, and without a table pricing_snapshots afterwards."""
    yield empty
    empty.query("DROP TABLE IF EXISTS pricing_snapshots")


def prices(db: Database, *rows: tuple[str | int, str | None, str, str, int], pool_id: str = "varchar(128)") -> None:
    """A table as 006 expected one, with rows of: pool, time, spot and on-demand price, age in days."""
    db.query(
        f"CREATE TABLE pricing_snapshots (pool_id {pool_id}, instance_type varchar(64), region varchar(32),"
        " az varchar(48), spot_price decimal(10,6), ondemand_price decimal(10,6), observed_at timestamp NULL,"
        " instance_id varchar(64), created_at timestamp NULL) COLLATE utf8mb4_general_ci"
    )
    values = ", ".join(
        f"('{pool}', 't3', 'us', 'a', {spot}, {ondemand}, {at!r}, 'i-1', NOW() - INTERVAL {age} DAY)"
        for pool, at, spot, ondemand, age in rows
    )
    values = values.replace("None", "NULL")
    db.query(f"SET time_zone = '+00:00'; INSERT INTO pricing_snapshots VALUES {values}")


CLEAN = (
    "SELECT pool_id, time_bucket, bucket_start, bucket_end, spot_price, savings_percent, source_instance_id,"
    " source_type, confidence_score, data_source FROM pricing_snapshots_clean ORDER BY pool_id, time_bucket"
)
POOLS = "INSERT INTO spot_pools (id, instance_type, region, az, pool_name, updated_at) VALUES"


def test_pools_are_named_once_and_nothing_else_of_them_changes(empty: Database) -> None:
    """A name that is there stays, updated_at stays; the second time there is nothing to do."""
    empty.query(
        f"{POOLS} ('{POOL_1A}', 't3.medium', 'us-east-1', 'us-east-1a', NULL, '2026-01-01'),"
        f" ('{POOL_1B}', 't3.medium', 'us-east-1', 'us-east-1b', 'Blue pool', '2026-01-01')"
    )
    (first,), _ = apply_0006_again(empty)
    second = apply_0006_again(empty)

    assert first.startswith("UPDATE spot_pools SET pool_name")
    assert second == ([], [])
    assert shown(empty.query("SELECT pool_name, updated_at FROM spot_pools ORDER BY id")) == [
        "t3.medium (us-east-1a) | 2026-01-01 00:00:00",
        "Blue pool | 2026-01-01 00:00:00",
    ]


def test_recent_prices_are_copied_into_buckets_and_existing_rows_are_kept(no_prices: Database) -> None:
    """The newest price of five minutes, of known pools, of 30 days; a saving only where it is a number."""
    no_prices.query(
        f"SET time_zone = '+00:00'; {POOLS} ('a', 't3.medium', 'us-east-1', 'us-east-1a', 'A', NOW()),"
        " ('b', 't3.medium', 'us-east-1', 'us-east-1b', 'B', NOW());"
        " INSERT INTO pricing_snapshots_clean (pool_id, instance_type, region, az, spot_price, time_bucket,"
        " bucket_start, bucket_end, source_type) SELECT 'b', 't3', 'us', 'b', 0.5, '2026-03-10 10:05:00',"
        " '2026-03-10 10:05:00', '2026-03-10 10:10:00', 'replica-manual'"
    )
    prices(
        no_prices,
        ("a", "2026-03-10 10:00:00", "0.010", "0.04", 0),
        ("a", "2026-03-10 10:04:59", "0.030", "0.04", 29),
        ("a", "2026-03-10 10:03:00", "0.020", "0.04", 0),
        ("a", "2026-03-10 23:59:59", "0.020", "0", 0),
        ("a", "2026-03-11 00:00:00", "0.020", "0.001", 0),
        ("b", "2026-03-10 10:06:00", "0.020", "0.04", 0),  # there is a row for its bucket
        ("b", "2026-03-10 10:11:00", "0.020", "0.04", 31),  # too old
        ("c", "2026-03-10 10:00:00", "0.020", "0.04", 0),  # no such pool
        ("a", "2026-03-10 11:00:00", "NULL", "0.04", 0),
        ("a", None, "0.020", "0.04", 0),
    )
    with session(no_prices) as run:
        one_for_each_day, skipped = apply_0006_again(no_prices)
        copied = run(CLEAN)
        apply_0006_again(no_prices)

        assert (len(one_for_each_day), skipped) == (2, [3])
        assert run(CLEAN) == copied
    day, rest = "2026-03-10", "i-1 | primary | 1.00 | measured"
    assert shown(copied) == [
        f"a | {day} 10:00:00 | {day} 10:00:00 | {day} 10:04:59 | 0.030000 | 25.00 | {rest}",
        f"a | {day} 23:55:00 | {day} 23:55:00 | {day} 23:59:59 | 0.020000 | NULL | {rest}",
        f"a | 2026-03-11 00:00:00 | 2026-03-11 00:00:00 | 2026-03-11 00:04:59 | 0.020000 | NULL | {rest}",
        f"b | {day} 10:05:00 | {day} 10:05:00 | {day} 10:10:00 | 0.500000 | NULL"
        " | NULL | replica-manual | 1.00 | measured",
    ]


def test_integer_pool_ids_do_not_match_pools_that_begin_with_them(no_prices: Database) -> None:
    """MySQL takes 't3.medium' for 0 beside an integer: such rows must not end in every pool."""
    no_prices.query(
        f"{POOLS} ('t3.medium', 't3', 'us', 'a', 'A', NOW()), ('7', 't4', 'us', 'a', 'B', NOW()),"
        " ('7b', 't5', 'us', 'a', 'C', NOW())"
    )
    at = "2026-03-10 10:00:00"
    prices(no_prices, (0, at, "0.010", "0.04", 0), (7, at, "0.010", "0.04", 0), pool_id="int")
    plan, skipped = apply_0006_again(no_prices)

    assert (len(plan), skipped) == (1, [1])
    assert no_prices.query("SELECT pool_id FROM pricing_snapshots_clean") == [("7",)]


def test_nothing_is_copied_from_a_table_of_another_form(no_prices: Database) -> None:
    """No known version of the application has pricing_snapshots: one without 006's columns is not read."""
    no_prices.query("CREATE TABLE pricing_snapshots (pool_id int, spot_price int, created_at timestamp)")

    assert apply_0006_again(no_prices) == ([], [])


def test_a_plan_on_an_empty_database_reads_no_table_that_is_yet_to_come(fresh_mysql: Database) -> None:
    """Before 0005 ran there is nothing to name and nothing to copy."""
    plan = [line["would"] for line in run_statements(fresh_mysql, "0006_replica_management.mysql", "--dry-run")]

    assert plan
    assert {text.split(" ")[0] for text in plan} == {"CREATE", "ALTER"}


def test_prices_of_an_existing_database_are_in_the_plan_before_there_is_a_table_for_them(
    fresh_mysql: Database,
) -> None:
    """Base tables and prices only: the dry run names the copy, the run makes the tables and copies."""
    with session(fresh_mysql) as run:
        for statement in split((ROOT / "sql" / "0005_base_tables.mysql.sql").read_text(), "mysql"):
            run(statement.text)
        run("INSERT INTO spot_pools (id, instance_type, region, az) VALUES ('a', 't3.medium', 'us', 'us-1a')")
    prices(fresh_mysql, ("a", "2026-03-10 10:01:00", "0.010", "0.04", 0))
    plan = [line["would"] for line in run_statements(fresh_mysql, "0006_replica_management.mysql", "--dry-run")]
    install(fresh_mysql)

    assert [text.split(" ")[:2] for text in plan[-2:]] == [["UPDATE", "spot_pools"], ["INSERT", "INTO"]]
    assert fresh_mysql.query("SELECT pool_name FROM spot_pools") == [("t3.medium (us-1a)",)]
    with session(fresh_mysql) as run:
        assert shown(run("SELECT pool_id, time_bucket, savings_percent FROM pricing_snapshots_clean")) == [
            "a | 2026-03-10 10:00:00 | 75.00"
        ]
