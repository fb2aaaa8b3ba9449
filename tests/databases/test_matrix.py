"""Every state in which the job may find the databases, by the real job: plain, and killed at random points.

Converging states end in the catalog of a fresh install with every row kept, and new scrapes give the rows that they
give on a fresh one; states that would lose or invent data end in exit 2 with nothing changed. A sample by default.
"""

import itertools
import os
import queue
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from migrator.catalogs import Catalog
from migrator.catalogs.clickhouse import read_catalog
from tests.conftest import Database, Servers
from tests.databases import clickhouse_shapes as old, mysql_shapes
from tests.databases.conftest import everything
from tests.databases.mysql_session import connected
from tests.databases.test_metric_views import GENERATIONS, RECENT, complete, verify
from tests.job import Job, JobResult
from tests.rights import EXACT
from tests.scrapes import MINUTE, insert, scrape
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MySQLServer

FULL = bool(os.environ.get("MIGRATE_TEST_FULL"))
KILLS = 5 if FULL else 2
WORKERS = 4 if FULL else 3  # mostly they wait for the lock of a killed run to go stale
Tables = Mapping[str, Mapping[str, Any]]


# What may be there on ClickHouse.

@dataclass(frozen=True)
class Metrics:
    """A state of the database `metrics`: a form for each table, then statements; `source` is a collector's table."""

    tables: Tables
    then: tuple[str, ...] = ()
    source: bool = True
    database: str = "metrics"

    def build(self, server: ClickHouseServer) -> None:
        for name in {"metrics", self.database} if self.source or self.tables else ():
            server.query(f"CREATE DATABASE {name}")
        if self.source:
            server.query(GENERATIONS["A"])
        for table, form in self.tables.items():
            server.query(old.create(table, form, self.database))
            old.fill(server, table, database=self.database)
        for sql in self.then:
            server.query(sql, async_insert=0)


def all_in(name: str) -> Tables:
    return dict.fromkeys(old.COLUMNS, old.SHAPES[name])


def mixture(seed: int) -> Metrics:
    """Each table in a form of its own, sometimes missing, with or without views of any kind."""
    rng = random.Random(seed)
    forms = {table: {name: rng.choice(values) for name, values in old.INGREDIENTS.items()} for table in old.COLUMNS}
    views = old.views("V0") if rng.random() < 0.5 else []
    if not views:
        del forms[rng.choice(sorted(forms))]
    return Metrics(forms, (*views, *old.UNMANAGED[: rng.randrange(3)]))


EMPTY = Metrics({}, source=False)
SAME_KEY_VIEW = ("CREATE VIEW metrics.GPUMetrics AS SELECT TimeUnix AS ts FROM metrics.otel_metrics_gauge",)
CLICKHOUSE = {
    "A": Metrics(all_in("A")),
    "A, other keys": Metrics(all_in("A with another key"), tuple(old.views("V0"))),
    "B, plain and obsolete views": Metrics(all_in("B"), old.UNMANAGED),
    "C, views V1": Metrics(all_in("C"), tuple(old.views("V1"))),
    "D, in another database": Metrics(all_in("E"), database="budproxy"),
    "E, views V3": Metrics(all_in("E"), tuple(old.views("V3"))),
    "E, TTL of a year": Metrics(all_in("E for a year"), tuple(old.views("V0"))),
    "F, views V3": Metrics(all_in("E"), (*old.views("V3"), "ALTER TABLE metrics.NodeMetrics DROP COLUMN"
                                         " network_receive_bytes_per_sec, DROP COLUMN network_transmit_bytes_per_sec")),
    "G, neither source nor views": Metrics(all_in("E"), source=False),
    "a view in place of a table": Metrics({t: f for t, f in all_in("B").items() if t != "GPUMetrics"}, SAME_KEY_VIEW),
} | {f"mixture {seed}": mixture(seed) for seed in range(1, 5)}  # fmt: skip
BLOCKED = {  # converged, but somebody's object beside ours keeps the gate closed: the object of the finding
    "an unknown view into NodeMetrics": ("view metrics.mv_stranger", Metrics(all_in("E"), (
        "CREATE MATERIALIZED VIEW metrics.mv_stranger TO metrics.NodeMetrics AS SELECT toDateTime64(TimeUnix, 3) AS ts"
        " FROM metrics.otel_metrics_gauge",))),
    "an unknown index": ("index metrics.PodMetrics.idx_unknown", Metrics(all_in("A"), (
        "ALTER TABLE metrics.PodMetrics ADD INDEX idx_unknown (pod_name, ts) TYPE minmax GRANULARITY 1",))),
}  # fmt: skip
REFUSED = {  # what the line must say
    "restarts beyond Int32": (["1 rows of metrics.PodMetrics", "restarts", "3000000000", "pod-x", "by hand"], Metrics(
        all_in("A"), ("INSERT INTO metrics.PodMetrics (ts, pod_name, restarts) VALUES (now(), 'pod-x', 3000000000)",))),
    "rows beyond the TTL": (["delete 1 rows of metrics.PodMetrics", "ALTER TABLE metrics.PodMetrics MODIFY TTL"], Metrics(
        all_in("E for a year"), ("INSERT INTO metrics.PodMetrics (ts, pod_name) VALUES (now() - INTERVAL 40 DAY, 'old')",))),
    "a table in the way": (["metrics.NodeMetrics__new is in the way", "rename"], Metrics(
        all_in("B"), ("CREATE TABLE metrics.NodeMetrics__new (k UInt8) ENGINE = MergeTree ORDER BY k",))),
    "a running mutation": (["a mutation of metrics.PodMetrics still runs", "run again when it has ended, or KILL"], Metrics(
        all_in("A"), ("SYSTEM STOP MERGES metrics.PodMetrics", "ALTER TABLE metrics.PodMetrics UPDATE restarts = 1 WHERE 1"
                      " SETTINGS mutations_sync = 0"))),
}  # fmt: skip


# What may be there on MySQL and MariaDB.

MYSQL = mysql_shapes.SHAPES | {
    "M-5, with rows 6 and 7": mysql_shapes.SHAPES["M-5 007 forced"]
    + "INSERT INTO schema_migrations VALUES (6, 'Replica', '2025-11-19 10:00:00');",
}
ORPHANS = mysql_shapes.by_hand_7("varchar(128)") + mysql_shapes.POOL_ROWS.replace("agent', 1, 'term", "agent', 'gone', 'term")
MYSQL_REFUSED = {
    "orphan rows": (["1 value(s) point to no row of spot_pools", "(id, pool_id) = (1, 'gone')", "SELECT c.*"], ORPHANS),
    "a base table without a column": (["table spot_pools belongs to the application and lacks region", "0005_base_tables"],
                                      mysql_shapes.base() + "ALTER TABLE spot_pools DROP COLUMN region;"),
    "a view in place of a table": (["instance_metrics should be a table and is a view", "rename or drop it"],
                                   mysql_shapes.base() + "CREATE VIEW instance_metrics AS SELECT 1 AS id;"),
} | {f"M-9 {table}": ([f"table {table} has another form", "RENAME TABLE"], mysql_shapes.base() + sql)
     for table, sql in mysql_shapes.LATER.items()}  # fmt: skip


# The cells of the matrix.

@dataclass(frozen=True, eq=False)
class Case:
    """A state of both databases, and how a run must end; `says` is in its last line."""

    clickhouse: str
    mysql: str
    metrics: Metrics
    sql: str
    code: int = 0
    says: tuple[str, ...] = ()
    dialect: str = "mysql"

    @property
    def title(self) -> str:
        return f"{self.clickhouse} | {self.mysql} | {self.dialect}"


def cases() -> Iterator[Case]:
    functional = mysql_shapes.ONLY_MYSQL
    pairs = itertools.zip_longest(CLICKHOUSE.items(), (MYSQL | functional).items())
    first = "M-1 base", MYSQL["M-1 base"]
    for metrics, database in pairs:
        (name, state), (other, sql) = metrics or ("nothing", EMPTY), database or first
        yield Case(name, other, state, sql)
        if other in MYSQL and database:
            yield Case(name, other, state, sql, dialect="mariadb")
    for name, (found, state) in BLOCKED.items():
        yield Case(name, *first[:1], state, first[1], 7, (found,))
    for name, (said, state) in REFUSED.items():
        yield Case(name, *first[:1], state, first[1], 2, tuple(said))
    for name, (said, sql) in MYSQL_REFUSED.items():
        yield Case("E, views V3", name, CLICKHOUSE["E, views V3"], sql, 2, tuple(said))


SAMPLE = {("C, views V1", "plain"), ("mixture 1", "killed"), ("an unknown index", "plain"), ("rows beyond the TTL", "plain")}


def cells() -> Iterator[tuple[Case, str]]:
    for case, how in itertools.product(cases(), ("plain", "killed")):
        once = case.dialect == "mysql" or how == "plain"  # MariaDB: one upgrade of each shape
        if once and (FULL or ((case.clickhouse, how) in SAMPLE and case.dialect == "mysql") or case.mysql == "orphan rows"):
            yield case, how


# One cell.

@dataclass
class Cell:
    """One state, built on servers of its own, and what became of it."""

    case: Case
    servers: Servers
    fresh: Mapping[str, tuple[Catalog, Catalog]]
    kills: int
    rng: random.Random

    def run(self) -> str:
        """How it went, in a few words; AssertionError if it went wrong."""
        self.case.metrics.build(self.servers.clickhouse)
        with connected(self.servers.mysql) as session:
            session.run(self.case.sql)
            self.columns = session.columns()
        self.columns["spot_pools"] = [c for c in self.columns["spot_pools"] if c != "`pool_name`"]  # 0006 fills it
        before, rows = everything(self.servers), self.rows()
        announced = self.dry_run() * (self.case.code != 2)  # a refused run gets to no statement: it is killed by the clock
        killed = sum(self.killed_within(2 * announced // (self.kills + 1)) for _ in range(self.kills))
        result = self.servers.run(timeout=300)
        assert result.code == self.case.code, f"exit {result.code}: {result.report}"
        assert self.rows() == rows, "rows differ"
        if self.case.code == 2:
            error = result.report["error"]
            assert [said for said in self.case.says if said not in error] == [], error
            assert everything(self.servers) == before, "something was changed"
        else:
            self.converged(result)
        return f"exit {result.code}" + (f" after {killed} kills" if self.kills else "")

    def dry_run(self) -> int:
        """What would be done is printed, why, and with sizes; nothing is changed. How many statements it names."""
        before = everything(self.servers)
        result = self.servers.run("--dry-run")
        statements = result.events("statement")
        assert everything(self.servers) == before, "the dry run changed something"
        assert result.code == (2 if self.case.code == 2 else 0), result.report
        assert self.case.code != 2 or all(said in result.report["error"] for said in self.case.says), result.report
        assert self.case.code == 2 or all(line["why"] for line in statements if "rows" in line)
        assert self.case.code == 2 or any(line.get("rows") for line in statements) or not self.case.metrics.tables or (
            self.case.metrics.database != "metrics"), "no size is announced"
        return len(statements)

    def killed_within(self, most: int) -> int:
        """Start the job and kill it at a random point before so many statements are done; 0 if it was done before."""
        job, target = Job(env=self.servers.environ), self.rng.randint(0, most)
        while job.process.poll() is None and job.stdout.count('"statement"') < target:
            time.sleep(0.005)
        time.sleep(self.rng.uniform(0, 0.05 if target else 2))
        job.process.kill()
        return int(job.process.wait() < 0)

    def converged(self, result: JobResult) -> None:
        found, wanted = self.catalogs(), self.fresh[self.case.dialect]
        for live, fresh in zip(found, wanted, strict=True):
            owned = {item.table for item in fresh} - {"metrics.otel_metrics_gauge"}
            of_ours = {item: attributes for item, attributes in live.items() if item.table in owned
                       and str(item) not in self.case.says}
            wanted_here = {item: attributes for item, attributes in fresh.items() if item.table in owned}
            differing = {item for item in of_ours.keys() | wanted_here if of_ours.get(item) != wanted_here.get(item)}
            assert not differing, [(str(i), of_ours.get(i), wanted_here.get(i)) for i in differing]
        assert [finding["object"] for finding in result.report["findings"]] == list(self.case.says)
        before = everything(self.servers)
        again = self.servers.run()
        assert (again.code, again.events("statement")) == (self.case.code, [])
        assert everything(self.servers) == before, "the second run wrote something"
        if not self.case.says:
            self.scraped()

    def scraped(self) -> None:
        """New points give the rows that they give on a fresh install, which the model knows."""
        points = [point for at in (RECENT, RECENT + MINUTE) for point in scrape(at, cluster="new")]
        server = self.servers.clickhouse
        server.query(insert(points))
        deadline = time.monotonic() + 90
        while not complete(server, points, "new")() and time.monotonic() < deadline:
            time.sleep(0.5)
        verify(server, points, "new")

    def catalogs(self) -> tuple[Catalog, Catalog]:
        with connected(self.servers.mysql) as session:
            return read_catalog(self.servers.clickhouse.query, {"metrics"}), session.everything()

    def rows(self) -> list[Any]:
        """All that was there, in the columns that were there; and when hand-run migrations were applied."""
        metrics, server = self.case.metrics, self.servers.clickhouse
        with connected(self.servers.mysql) as session:
            found = session.rows(self.columns)
        ledger = "schema_migrations" in self.case.sql and self.servers.mysql.query(
            "SELECT version, applied_at FROM schema_migrations WHERE applied_at < '2026-01-01' ORDER BY 1")
        return [found, ledger, {table: old.rows(server, table, metrics.database) for table in metrics.tables}]


def test_every_state_ends_as_it_must(
    mysql_servers: Callable[[str], MySQLServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Several at a time, each on a ClickHouse and a MySQL database of its own."""
    seed = int(os.environ.get("MIGRATE_TEST_SEED") or secrets.randbelow(10_000))
    chosen = os.environ.get("MIGRATE_TEST_CASE", "")
    todo = [(case, how) for case, how in cells() if chosen in f"{case.title} | {how}"]
    idle: queue.Queue[ClickHouseServer] = queue.Queue()
    results: dict[tuple[Case, str], str] = {}
    with ExitStack() as stack:
        for _ in range(WORKERS):
            idle.put(stack.enter_context(ClickHouseServer(grants=EXACT)))
        mysql = {dialect: mysql_servers(dialect) for dialect in {case.dialect for case, _ in todo}}
        fresh: dict[str, tuple[Catalog, Catalog]] = {}

        def cell(case: Case, kills: int, number: int) -> str:
            clickhouse, database = idle.get(), Database(mysql[case.dialect], f"matrix_{secrets.token_hex(4)}")
            try:
                clickhouse.clean()
                database.server.create_database(database.name)
                one = Cell(case, Servers(clickhouse, database), fresh, kills, random.Random(seed + number))
                if case.title.startswith("nothing | nothing"):
                    assert one.servers.run().code == 0
                    fresh[case.dialect] = one.catalogs()
                    return "fresh"
                return one.run()
            except Exception as error:
                return f"FAILED: {type(error).__name__}: {error}"
            finally:
                database.server.drop_database(database.name)
                idle.put(clickhouse)

        for dialect in mysql:
            cell(Case("nothing", "nothing", EMPTY, "", dialect=dialect), 0, 0)
        with ThreadPoolExecutor(WORKERS) as pool:
            running = {(case, how): pool.submit(cell, case, KILLS if how == "killed" else 0, number)
                       for number, (case, how) in enumerate(todo)}
            results = {key: future.result() for key, future in running.items()}
    with capsys.disabled():
        print(f"\n\nThe matrix (seed {seed}):\n\n" + "\n".join(matrix(results)))
    assert not [f"{case.title} | {how}: {result}" for (case, how), result in results.items() if "FAILED" in result]


def matrix(results: Mapping[tuple[Case, str], str]) -> Iterator[str]:
    """A line for each state."""
    yield from ("| ClickHouse | MySQL | server | plain | killed |", "|---|---|---|---|---|")
    for case in dict.fromkeys(case for case, _ in results):
        plain, killed = (results.get((case, how), "").split("\n")[0][:300] for how in ("plain", "killed"))
        yield f"| {case.title} | {plain} | {killed} |"
