"""README.md's rights: enough for a whole job, and each that is missing is named before anything is written."""

from collections.abc import Iterator

import pytest

from migrator.statements import split
from tests import job
from tests.conftest import Database, Servers
from tests.databases import mysql_shapes as shapes
from tests.rights import AFTER_ROOT, CLICKHOUSE, EXACT, MYSQL, OWN, Right, named
from tests.servers.clickhouse import ClickHouseServer, User
from tests.servers.process import canary

PASSWORD = canary()


WIDER = {"everything": ["ALL ON *.*"],
         "wildcards": ["ALL ON migrate.*", "ALL ON m*.*", "TABLE ENGINE ON *", "SELECT ON system.*"]}  # fmt: skip


def each_of(grants: list[Right]) -> pytest.MarkDecorator:
    """The test for the number of each of these rights; by default for every third."""
    return pytest.mark.parametrize("number", [
        pytest.param(number, id=" ON ".join(right), marks=[pytest.mark.full] * bool(number % 3))
        for number, right in enumerate(grants)])  # fmt: skip


@pytest.fixture(scope="module")
def limited() -> Iterator[ClickHouseServer]:
    """A ClickHouse with a user for README.md's rights, and one for each of them left out."""
    users = [User("exact", PASSWORD, EXACT)]
    users += [User(f"without_{number}", PASSWORD, named(CLICKHOUSE, number)) for number in range(len(CLICKHOUSE))]
    users += [User(name, PASSWORD, grants) for name, grants in (WIDER | {"own": OWN}).items()]
    with ClickHouseServer(users=users) as server:
        yield server


def run(server: ClickHouseServer, user: str, *args: str) -> job.JobResult:
    """A job on ClickHouse alone."""
    address = server.url(user=user, password=PASSWORD)
    return job.run_job(*args, env={"CLICKHOUSE_URL": address, "MIGRATE_TARGETS": "clickhouse"})


def made(server: ClickHouseServer) -> list[str]:
    names = server.query("SELECT name FROM system.databases WHERE name IN ('migrate', 'metrics')")
    return [name for (name,) in names]


def test_the_suite_runs_as_this_user(limited: ClickHouseServer, servers: Servers) -> None:
    """With these rights, and on ClickHouse in its tests' own databases, and nothing else."""
    held = {user: set(server.query(f"SELECT access_type, database, table FROM system.grants WHERE user_name = '{user}'"))
            for server, user in [(limited, "exact"), (limited, "own"), (servers.clickhouse, servers.user)]}
    assert held["migrate"] == held["exact"] | held["own"]
    assert not {database for _, database, _ in held["own"]} & {"migrate", "metrics", "system"}

    mysql, user = servers.mysql, f"'{servers.mysql.server.user}'@'%'"
    granted = mysql.query("SELECT privilege_type FROM information_schema.schema_privileges WHERE"
                          f' grantee = "{user}" AND REPLACE(table_schema, "\\\\", "") = DATABASE()')
    assert sorted(right for (right,) in granted) == sorted(right for right, _ in MYSQL)
    assert mysql.query(f'SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = "{user}"') == [("USAGE",)]


def test_these_rights_are_enough_on_clickhouse(limited: ClickHouseServer) -> None:
    """From nothing, after a damage that a rebuild mends keeping the rows, and to verify; the lock is freed each time."""
    limited.clean()
    assert run(limited, "exact").code == 0
    limited.query("INSERT INTO metrics.NodeMetrics (ts, cluster_id, node_name) VALUES (now(), 'c', 'n')")
    limited.query("CREATE TABLE metrics.other ENGINE = MergeTree ORDER BY ts AS SELECT * FROM metrics.NodeMetrics")
    limited.query("EXCHANGE TABLES metrics.other AND metrics.NodeMetrics")
    limited.query("DROP TABLE metrics.other SYNC")
    limited.query("TRUNCATE TABLE migrate.schema_migrations")
    assert run(limited, "exact").code == 0
    assert limited.query("SELECT count() FROM metrics.NodeMetrics") == [(1,)]
    assert run(limited, "exact", "verify").code == 0
    assert limited.query("SELECT name FROM system.tables WHERE database = 'migrate' AND name LIKE '%lock%'") == []


def test_settings_that_nobody_may_set_are_left_alone() -> None:
    """What only makes rows of the ledger quicker is no reason to fail."""
    with ClickHouseServer(users=[User("exact", PASSWORD, EXACT)], profile={"max_threads": 2}, fixed=["max_threads"]) as server:
        assert run(server, "exact").code == 0


@each_of(CLICKHOUSE)
def test_each_right_that_is_missing_on_clickhouse_is_named(limited: ClickHouseServer, number: int) -> None:
    """Exit 2 before the first write."""
    limited.clean()
    done = run(limited, f"without_{number}")
    right, on = CLICKHOUSE[number]
    missing = [f"GRANT {right} ON {on} TO without_{number}"]
    if on == "*":
        missing = [missing[0].replace("*", engine) for engine in ("Atomic", "MergeTree", "ReplacingMergeTree")]
    assert (done.code, made(limited)) == (2, []), done.report
    assert done.report["error"] == f"rights are missing, nothing was changed: {'; '.join(missing)}"


def test_a_verification_that_may_not_look_is_exit_2(limited: ClickHouseServer) -> None:
    """Nothing is pending, so nobody asked for rights."""
    assert run(limited, "exact").code == 0
    blind = CLICKHOUSE.index(("SELECT", "system.projections"))
    done = run(limited, f"without_{blind}")
    assert (done.code, "SELECT" in done.report["error"], "system.projections" in done.report["error"]) == (2, True, True)


@pytest.mark.parametrize("user", WIDER)
def test_wider_rights_are_no_false_alarm_on_clickhouse(limited: ClickHouseServer, user: str) -> None:
    """Nobody has to grant what a wider right includes."""
    limited.clean()
    assert run(limited, user).code == 0


def limited_run(database: Database, grants: list[str], *, role: bool = False) -> job.JobResult:
    """A job on MySQL or MariaDB alone, as a user who has these rights, perhaps through a role."""
    server, name = database.server, f"u_{database.name}"
    server.query(f"DROP USER IF EXISTS {name}")
    if role:
        server.query(f"DROP ROLE IF EXISTS r_{name}")
        server.query(f"CREATE ROLE r_{name}")
        for grant in grants:
            server.query(f"GRANT {grant} TO r_{name}")
        server.create_user(name, PASSWORD, [])
        server.query(f"GRANT r_{name} TO {name}")
        server.query(f"SET DEFAULT ROLE r_{name} {'TO' if database.dialect == 'mysql' else 'FOR'} {name}")
    else:
        server.create_user(name, PASSWORD, grants)
    url = server.url(database.name, user=name, password=PASSWORD)
    done = job.run_job(env={"MYSQL_URL": url, "MIGRATE_TARGETS": "mysql"})
    server.query(f"DROP USER {name}")
    return done


def on(database: Database, grants: list[str]) -> list[str]:
    return [grant.replace(" ON app.*", f" ON `{database.name}`.*") for grant in grants]


def tables(database: Database) -> list[tuple[str, ...]]:
    return database.query("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() UNION ALL"
                          " SELECT routine_name FROM information_schema.routines WHERE routine_schema = DATABASE()")  # fmt: skip


@pytest.mark.parametrize("shape", ["nothing", "M-8 006 then 007"])
def test_these_rights_are_enough_on_mysql(fresh_mysql: Database, shape: str) -> None:
    """From nothing, and on tables, views and procedures that root has made."""
    grants = on(fresh_mysql, named(MYSQL))
    if shape != "nothing":
        grants += named(AFTER_ROOT) if fresh_mysql.dialect == "mysql" else []
        for statement in split(shapes.SHAPES[shape], "mysql"):
            fresh_mysql.query(statement.text)
    done = limited_run(fresh_mysql, grants)
    assert (done.code, len(done.report["applied"])) == (0, 3), done.report


@each_of(MYSQL)
def test_each_right_that_is_missing_on_mysql_is_named(fresh_mysql: Database, number: int) -> None:
    """Exit 2 before the first write. MariaDB asks for no REFERENCES."""
    done = limited_run(fresh_mysql, on(fresh_mysql, named(MYSQL, number)))
    right = MYSQL[number][0]
    if (fresh_mysql.dialect, right) == ("mariadb", "REFERENCES"):
        assert done.code == 0, done.report
        return
    assert (done.code, tables(fresh_mysql)) == (2, []), done.report
    grant = f"GRANT {right} ON `{fresh_mysql.name}`.* TO u_{fresh_mysql.name}"
    assert done.report["error"] == f"rights are missing, nothing was changed: {grant}"


@pytest.mark.parametrize("way", ["pattern", "role", *(pytest.param(way, marks=pytest.mark.full) for way in ("everything", "ALL"))])
def test_wider_rights_are_no_false_alarm_on_mysql(fresh_mysql: Database, way: str) -> None:
    """Nobody has to grant what a wider right includes."""
    pattern = f"`{fresh_mysql.name[:-4].replace('_', chr(92) + '_')}%`"
    grants = {"everything": ["ALL ON *.*"], "ALL": on(fresh_mysql, ["ALL ON app.*"]),
              "pattern": [f"ALL ON {pattern}.*"], "role": on(fresh_mysql, named(MYSQL))}[way]  # fmt: skip
    assert limited_run(fresh_mysql, grants, role=way == "role").code == 0
