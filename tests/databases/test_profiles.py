"""What a user's profile or a server's defaults say otherwise: no step means anything else by it, and no proof does."""

from collections.abc import Mapping

import pytest

from migrator.databases.clickhouse_profile import CUTS, LIMITS, MEANING
from tests.databases import clickhouse_shapes as shapes
from tests.databases.crash import ClickHouseTarget, MySQLTarget
from tests.databases.test_matrix import CLICKHOUSE, MYSQL
from tests.job import JobResult, run_job
from tests.rights import EXACT, OWN
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import ENGINES

# Nobody can log in with these.
AT_LOGIN = ("limit", "offset", "additional_result_filter", "max_result_rows", "max_result_bytes", "max_temporary_columns",
            "max_temporary_non_const_columns")  # fmt: skip
OTHER = {  # of what is not a number
    "default_table_engine": "Log", "union_default_mode": "DISTINCT", "session_timezone": "Asia/Tokyo",
    "join_default_strictness": "ANY", "additional_table_filters": "{'system.columns': '0', 'metrics.PodMetrics': '0'}",
    "show_create_query_identifier_quoting_rule": "always", "show_create_query_identifier_quoting_style": "DoubleQuotes",
}  # fmt: skip


def odd(settings: Mapping[str, str]) -> dict[str, str]:
    """Each of them as it is not by default; without the analyzer the shipped views fail, and a finding says so."""
    numbers = {name: "5" if name in LIMITS and name.startswith("m") else "1" for name in settings}
    flipped = numbers | {name: "0" for name, value in settings.items() if value == "1"}
    return {name: OTHER.get(name, flipped[name]) for name in settings if name not in (*AT_LOGIN, "enable_analyzer")}


PROFILES = {
    "limits": odd(LIMITS),
    "limits that cut off": odd(LIMITS) | dict.fromkeys(CUTS, "break"),
    "meaning": odd(MEANING) | {"query_cache_nondeterministic_function_handling": "save", "query_cache_system_table_handling": "save"},
}


def run(server: ClickHouseServer, *args: str) -> JobResult:
    return run_job(*args, env={"CLICKHOUSE_URL": server.url(), "MIGRATE_TARGETS": "clickhouse"})


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_changes_nothing(profile: str) -> None:
    """An old deployment is converged and proved, its rows stay, and the next run has nothing to do."""
    with ClickHouseServer(profile=PROFILES[profile], grants=EXACT + OWN) as server:
        ClickHouseTarget(server, CLICKHOUSE["C, views V1"].build).clean()
        before = {table: shapes.rows(server, table) for table in shapes.COLUMNS}
        first, again = run(server), run(server, "verify")

        assert (first.code, again.code, first.report["findings"], again.report["findings"]) == (0, 0, [], [])
        assert {table: shapes.rows(server, table) for table in shapes.COLUMNS} == before
        assert all(before.values())


def test_a_damage_shows_whatever_is_cut_off() -> None:
    """Verification reads all of the catalog."""
    with ClickHouseServer(profile=PROFILES["limits that cut off"], grants=EXACT + OWN) as server:
        assert run(server).code == 0
        server.query("ALTER TABLE metrics.PodMetrics DROP COLUMN status")
        server.query("DROP TABLE metrics.GPUMetrics SYNC")
        assert {finding["object"] for finding in run(server, "verify").report["findings"]} >= {
            "column metrics.PodMetrics.status", "table metrics.GPUMetrics"}  # fmt: skip


@pytest.mark.parametrize(("profile", "fixed", "said"), [
    ({"join_overflow_mode": "break", "final": "1"}, ["join_overflow_mode", "final"],
     "the profile of user migrate fixes join_overflow_mode = break, final = 1"),
    ({"limit": "3"}, [], "the profile of user migrate cuts answers off (limit, offset, max_result_rows): 3 settings were shown"),
    ({"max_result_rows": "3"}, [], "the profile of user migrate does not even let it connect"),
])  # fmt: skip
def test_a_profile_that_cannot_be_taken_back(profile: dict[str, str], fixed: list[str], said: str) -> None:
    """It is refused before the first write, by name."""
    with ClickHouseServer(profile=profile, fixed=fixed) as server:
        result = run(server)
        assert (result.code, said in result.report["error"]) == (2, True), result.report["error"]
        assert server.query("SELECT 1 FROM system.databases WHERE name IN ('migrate', 'metrics')") == []


def test_a_limit_that_stays_is_no_obstacle() -> None:
    """Nor to a rebuild; whoever reaches it is told so by an error."""
    with ClickHouseServer(profile={"max_execution_time": 600}, fixed=["max_execution_time"], grants=EXACT) as server:
        ClickHouseTarget(server, CLICKHOUSE["C, views V1"].build).clean()
        assert run(server).code == 0


SESSION = {
    "mysql": "sql_select_limit = 2, sql_safe_updates = 1, sql_auto_is_null = 1, sql_big_selects = 0, max_join_size = 5,"
             " completion_type = 2, max_execution_time = 1, transaction_isolation = 'READ-UNCOMMITTED', autocommit = 0,"
             " foreign_key_checks = 0",
    "mariadb": "sql_select_limit = 2, sql_safe_updates = 1, sql_auto_is_null = 1, sql_big_selects = 0, max_join_size = 5,"
               " completion_type = 2, max_statement_time = 0.01, tx_isolation = 'READ-UNCOMMITTED', autocommit = 0,"
               " foreign_key_checks = 0, check_constraint_checks = 0, sql_if_exists = 1",
}  # fmt: skip


@pytest.mark.parametrize("dialect", SESSION)
def test_defaults_of_a_server_change_nothing(dialect: str) -> None:
    """Limits, modes and time zone, and TIMESTAMP columns with defaults that nobody stated, as MySQL 5.7 made them."""
    others = ["--explicit-defaults-for-timestamp=OFF", "--default-time-zone=+09:00", "--transaction-isolation=SERIALIZABLE",
              "--default-storage-engine=MyISAM", "--sql-mode=", "--character-set-server=latin1"]
    with ENGINES[dialect](options=[f"--init-connect=SET {SESSION[dialect]}", *others]) as server:
        target = MySQLTarget(server, MYSQL["M-7 006 by hand, int, other collation"])
        target.clean()
        environ = {"MYSQL_URL": target.url(server.port), "MIGRATE_TARGETS": "mysql"}
        count = f"SELECT {', '.join(f'(SELECT COUNT(*) FROM {table})' for table in ('agents', 'spot_pools', 'data_processing_jobs'))}"
        before = server.query(count, "crash")
        first, again = run_job(env=environ), run_job("verify", env=environ)
        server.query("ALTER TABLE instance_metrics COMMENT = 'changed'", "crash")
        damaged = run_job("verify", env=environ)

        assert (first.code, again.code, first.report["findings"]) == (0, 0, []), first.report
        assert (server.query(count, "crash"), min(before[0]) > 0) == (before, True)
        assert [finding["object"] for finding in damaged.report["findings"]] == ["table instance_metrics"]
