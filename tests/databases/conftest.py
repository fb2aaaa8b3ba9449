"""What the tests of the whole job share: steps directories of their own, and the servers' word for what happened."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers
from tests.job import Job, JobResult

# The least that is worth testing: both targets, SQL and Python, a verification, each idempotent as a whole.
SAMPLE = {
    "0001_events.clickhouse.sql": """CREATE DATABASE IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.events (at DateTime, kind String, n UInt32) ENGINE = MergeTree ORDER BY at;
""",
    "0002_people.mysql.sql": """-- who buys
CREATE TABLE IF NOT EXISTS people (id INT NOT NULL PRIMARY KEY, name VARCHAR(50) NOT NULL) ENGINE=InnoDB;
INSERT INTO people VALUES (1, 'a;b'), (2, 'c') ON DUPLICATE KEY UPDATE name = VALUES(name);
""",
    "0002_people.mysql.verify.sql": "SELECT CONCAT('no name for ', id) FROM people WHERE name = '';\n",
    "0003_totals.clickhouse.py": '''"""The number of people is known to MySQL only."""
TABLE = "CREATE TABLE IF NOT EXISTS shop.totals (name String, n UInt64) ENGINE = MergeTree ORDER BY name"


def plan(run):
    return [TABLE]


def apply(run):
    run.clickhouse.execute(TABLE)
    ((people,),) = run.mysql.query("SELECT COUNT(*) FROM people")
    if not run.clickhouse.query("SELECT 1 FROM shop.totals WHERE name = 'people'"):
        run.clickhouse.execute(f"INSERT INTO shop.totals SELECT 'people', {people}")
    run.log.info("progress", done=1, total=1, unit="tables")


def verify(run):
    if run.clickhouse.query("SELECT n FROM shop.totals WHERE name = 'people'") != [(2,)]:
        yield "shop.totals does not count the people"
''',
    "0004_orders.mysql.sql": """CREATE TABLE IF NOT EXISTS orders (
    id INT NOT NULL PRIMARY KEY, person INT NOT NULL, KEY idx_person (person),
    CONSTRAINT fk_person FOREIGN KEY (person) REFERENCES people (id)) ENGINE=InnoDB;
""",
}
STEMS = [name.rpartition(".")[0] for name in SAMPLE if ".verify." not in name]


# For what no server has a say in: the program's own behaviour needs no second dialect.
one_dialect = pytest.mark.parametrize("mysql_server", ["mysql"], indirect=True)


class Steps:
    """A steps directory that a test fills as it likes. Runs on it check no expected schema unless there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def write(self, **files: str) -> None:
        """Write files; in a keyword, `n` stands before the number and `__` for a dot."""
        self.add({name.removeprefix("n").replace("__", "."): text for name, text in files.items()})

    def add(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.path / name).write_text(text, encoding="utf-8")

    def remove(self, *stems: str) -> None:
        for stem in stems:
            for file in self.path.glob(f"{stem}*"):
                file.unlink()

    @property
    def environ(self) -> dict[str, str]:
        """The settings that make the job use this directory, and give up soon."""
        verify = "full" if list(self.path.glob("expected.*.json")) else "steps"
        return {"MIGRATE_STEPS_DIR": str(self.path), "MIGRATE_VERIFY": verify, "MIGRATE_WAIT_TIMEOUT": "20",
                "MIGRATE_LOCK_TIMEOUT": "20"}  # fmt: skip

    def run(self, servers: Servers, *args: str, **environ: str) -> JobResult:
        return self.start(servers, *args, **environ).wait()

    def start(self, servers: Servers, *args: str, **environ: str) -> Job:
        return Job(*args, env=servers.environ | self.environ | environ)


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    """An empty steps directory."""
    return Steps(tmp_path / "steps")


@pytest.fixture
def sample(steps: Steps) -> Steps:
    """The steps of SAMPLE."""
    steps.add(SAMPLE)
    return steps


@dataclass
class Sent:
    """What the job's user sent to each server, in order of arrival; filled at the end of `listening`."""

    clickhouse: list[str] = field(default_factory=list)
    mysql: list[str] = field(default_factory=list)

    @property
    def writes(self) -> list[str]:
        """All that does more than read and set up its own session."""
        reads = ("SELECT", "WITH", "SHOW", "EXPLAIN", "SET SESSION", "SET NAMES", "SET @@SESSION", "USE ", "COMMIT", "UNLOCK TABLES")
        return [text for text in self.clickhouse + self.mysql if not text.upper().startswith(reads)]


@contextlib.contextmanager
def listening(servers: Servers) -> Iterator[Sent]:
    """Both servers' own logs of what the user `migrate` sent meanwhile."""
    sent, clickhouse, mysql = Sent(), servers.clickhouse, servers.mysql
    ((since,),) = clickhouse.query("SELECT toString(now64(6))")
    mysql.query("SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = ON")
    try:
        yield sent
    finally:
        mysql.query("SET GLOBAL general_log = OFF")
        clickhouse.query("SYSTEM FLUSH LOGS")
    sent.clickhouse += [text for (text,) in clickhouse.query(
        f"SELECT trim(query) FROM system.query_log WHERE event_time_microseconds > '{since}' AND type != 'QueryFinish'"
        " AND http_user_agent LIKE '%clickhouse-connect%'"
        " ORDER BY event_time_microseconds")]
    sent.mysql += [bytes(text).decode() if isinstance(text, (bytes, bytearray)) else text for (text,) in mysql.query(
        "SELECT TRIM(argument) FROM mysql.general_log WHERE command_type = 'Query' AND user_host LIKE 'migrate%'"
        " ORDER BY event_time")]


def everything(servers: Servers) -> dict[str, list[tuple[Any, ...]]]:
    """All that a run could change on either server: definitions, when they last changed, and how many rows there are."""
    here = "table_schema = DATABASE()"
    clickhouse = {
        "databases": "SELECT name, engine, uuid FROM system.databases ORDER BY name",
        "tables": "SELECT database, name, uuid, create_table_query, metadata_modification_time, total_rows"
                  " FROM system.tables WHERE database NOT ILIKE '%s%schema' AND database != 'system' ORDER BY 1, 2",
    }  # fmt: skip
    mysql = {
        "tables": f"SELECT table_name, table_type, engine, create_time, create_options, table_collation, table_comment"
                  f" FROM information_schema.tables WHERE {here} ORDER BY 1",
        "columns": f"SELECT * FROM information_schema.columns WHERE {here} ORDER BY table_name, ordinal_position",
        "indexes": f"SELECT table_name, index_name, seq_in_index, column_name, non_unique"
                   f" FROM information_schema.statistics WHERE {here} ORDER BY 1, 2, 3",
        "views": f"SELECT table_name, view_definition FROM information_schema.views WHERE {here} ORDER BY 1",
        "routines": "SELECT routine_name, routine_definition, created, last_altered FROM information_schema.routines"
                    " WHERE routine_schema = DATABASE() ORDER BY 1",
    }  # fmt: skip
    found = {f"clickhouse {name}": servers.clickhouse.query(sql) for name, sql in clickhouse.items()}
    found |= {f"mysql {name}": servers.mysql.query(sql) for name, sql in mysql.items()}
    for (name,) in servers.mysql.query(f"SELECT table_name FROM information_schema.tables WHERE {here}"
                                       " AND table_type = 'BASE TABLE' ORDER BY 1"):
        found[f"mysql rows of {name}"] = servers.mysql.query(f"SELECT COUNT(*) FROM `{name}`")
    return found


def ledger(servers: Servers, table: str = "schema_migrations") -> dict[int, str]:
    """What both ledgers say is applied: number and stem."""
    mysql = servers.mysql.query(f"SELECT version, name FROM {table}") if (table,) in servers.mysql.query("SHOW TABLES") else []
    exists = servers.clickhouse.query(f"SELECT 1 FROM system.tables WHERE database = 'migrate' AND name = '{table}'")
    clickhouse = servers.clickhouse.query(f"SELECT version, name FROM migrate.{table} FINAL") if exists else []
    return dict(sorted([*mysql, *clickhouse]))
