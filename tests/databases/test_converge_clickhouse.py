"""Convergence on a real ClickHouse: whatever form a table has, it ends as defined, with every row."""

import contextlib
import itertools
import re
import runpy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.catalogs import Catalog
from migrator.catalogs.clickhouse import read_catalog
from migrator.converge import clickhouse_rebuild
from migrator.converge.clickhouse import changes, converge
from migrator.errors import AccessDenied, MigrateError, StatementRefused, StepFailed, WouldLoseData, WrongServer
from tests.servers.clickhouse import ClickHouseError, ClickHouseServer, User

SQL = Path(__file__).parents[2] / "sql"
TABLES = (
    "CREATE DATABASE metrics;"
    + runpy.run_path(str(SQL / "0002_metric_tables.clickhouse.py"))["DEFINITIONS"]
    + """ALTER TABLE metrics.NodeMetrics ADD COLUMN network_receive_bytes_per_sec Float64 DEFAULT 0,
         ADD COLUMN network_transmit_bytes_per_sec Float64 DEFAULT 0;"""
)
STEP = "0002_metric_tables.clickhouse"


class Killed(BaseException):
    """The run is gone, as by kill -9."""


class Session:
    """What a step is given, on a real server; remembers what it sent, and dies after statement `last`.

    `meanwhile` are statements of others, sent just before ours that match a pattern, each once.
    """

    step = STEP

    def __init__(self, server: ClickHouseServer, last: int = 10**6, meanwhile: Mapping[str, str] = {}) -> None:  # noqa: B006
        self.server, self.last, self.meanwhile = server, last, dict(meanwhile)
        self.sent: list[str] = []
        self.reports: list[dict[str, Any]] = []

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self.server.query(sql)
        except ClickHouseError as error:
            raise StatementRefused(str(error)) from None

    def execute(self, sql: str) -> None:
        for pattern in [p for p in self.meanwhile if re.search(p, sql)]:
            self.server.query(self.meanwhile.pop(pattern), async_insert=0)
        self.sent.append(sql)
        try:
            self.server.query(sql, async_insert=0, mutations_sync=2, alter_sync=2, wait_end_of_query=1)
        except ClickHouseError as error:
            raise StatementRefused(str(error)) from None
        if len(self.sent) == self.last:
            raise Killed

    def progress(self, **fields: Any) -> None:
        self.reports.append(fields)


def run(server: ClickHouseServer, definitions: str = TABLES, **options: Any) -> Session:
    session = Session(server, **options)
    with contextlib.suppress(Killed):
        converge(session, definitions)
    return session


def catalog(server: ClickHouseServer, *databases: str) -> Catalog:
    """The catalog without the old tables that were kept."""
    found = read_catalog(server.query, databases or ("metrics",))
    return {item: attributes for item, attributes in found.items() if "__before_" not in item.table}


@pytest.fixture(scope="module")
def fresh(clickhouse: ClickHouseServer) -> Catalog:
    """What a new installation has."""
    clickhouse.clean()
    run(clickhouse)
    return catalog(clickhouse)


@pytest.fixture
def server(fresh: Catalog, fresh_clickhouse: ClickHouseServer) -> ClickHouseServer:
    return fresh_clickhouse


# Old shapes, as ingredients of a CREATE TABLE.

STRINGS = {"cluster_id", "cluster_name", "node_name", "namespace", "pod_name", "container_name", "status", "gpu_model",
           "cluster_platform", "metric_name"}  # fmt: skip
COLUMNS = {
    "NodeMetrics": "cluster_id cluster_name node_name cpu_cores cpu_usage_percent memory_total_bytes memory_used_bytes"
    " memory_usage_percent disk_total_bytes disk_used_bytes disk_usage_percent load_1 load_5 load_15",
    "PodMetrics": "cluster_id cluster_name namespace pod_name container_name cpu_requests cpu_limits cpu_usage"
    " memory_requests_bytes memory_limits_bytes memory_usage_bytes restarts status",
    "GPUMetrics": "cluster_id cluster_name node_name gpu_index gpu_model utilization_percent memory_used_bytes"
    " memory_total_bytes temperature_celsius power_watts",
    "ClusterMetrics": "cluster_id cluster_name cluster_platform metric_name value labels",
}
KEYS = {
    "NodeMetrics": "cluster_id, node_name, ts",
    "PodMetrics": "cluster_id, namespace, pod_name, ts",
    "GPUMetrics": "cluster_id, node_name, gpu_index, ts",
    "ClusterMetrics": "cluster_id, metric_name, ts",
}
BEYOND = {"PodMetrics": ", container_name", "ClusterMetrics": ", cityHash64(mapSort(labels))"}
INDEXES = {
    "NodeMetrics": "idx_cluster_node_time",
    "PodMetrics": "idx_cluster_ns_pod_time",
    "GPUMetrics": "idx_cluster_gpu_time",
    "ClusterMetrics": "idx_cluster_metric_time",
}
NETWORK = ("network_receive_bytes_per_sec", "network_transmit_bytes_per_sec")


def create(table: str, shape: Mapping[str, Any], database: str = "metrics") -> str:
    """CREATE TABLE in an old form."""

    def column(name: str) -> str:
        if name in STRINGS:
            return f"{name} {'LowCardinality(String)' if shape['low'] else 'String'}"
        types = {"restarts": "UInt32" if shape["narrow"] else "Int32", "gpu_index": "UInt8",
                 "labels": f"Map({'LowCardinality(String)' if shape['low'] else 'String'}, String)"}  # fmt: skip
        narrow = shape["narrow"] and not name.endswith("_bytes")
        return f"{name} {types.get(name) or ('Float32' if narrow else 'Float64')}{' CODEC(Gorilla)' * shape['codecs']}"

    key = {"seed": KEYS[table], "extended": KEYS[table] + BEYOND.get(table, ""), "other": "ts, cluster_id"}[shape["key"]]
    columns = [f"ts DateTime64(3){' CODEC(Delta, ZSTD)' * shape['codecs']}", *map(column, COLUMNS[table].split())]
    columns = [c.replace(" CODEC(Gorilla)", "") if re.match("restarts|gpu_index|labels", c) else c for c in columns]
    columns += [f"{name} Float64 DEFAULT 0" for name in NETWORK[: shape["network"]] if table == "NodeMetrics"]
    name = {"new": INDEXES[table], "old": "idx_old"}.get(shape["index"])
    columns += [f"INDEX {name} ({KEYS[table]}) TYPE minmax GRANULARITY 1"] if name else []
    ttl = f" TTL toDateTime(ts) + INTERVAL {shape['ttl']} DAY" if shape["ttl"] else ""
    return (f"CREATE TABLE {database}.{table} ({', '.join(columns)}) ENGINE = {shape['engine']}"
            f" PARTITION BY toYYYYMM(ts) ORDER BY ({key}){ttl}")  # fmt: skip


def shape(**more: Any) -> dict[str, Any]:
    return {"engine": "ReplacingMergeTree", "low": False, "narrow": False, "codecs": True, "key": "seed", "network": 2,
            "index": "new", "ttl": 30} | more  # fmt: skip


SHAPES = {
    "A": shape(engine="MergeTree", low=True, narrow=True, codecs=False, network=0, index="old", ttl=None),
    "A with another key": shape(engine="MergeTree", low=True, narrow=True, codecs=False, network=0, index="old", key="other"),
    "B": shape(engine="MergeTree", codecs=False, network=0, ttl=90),
    "C": shape(engine="MergeTree", codecs=False, network=2, ttl=90),
    "E": shape(),
    "E for a year": shape(ttl=365),
    "F": shape(network=1),
    "without index": shape(index="none", network=0),
    "types only": shape(low=True, narrow=True, key="extended"),
}


def fill(server: ClickHouseServer, table: str, count: int = 300, database: str = "metrics") -> None:
    """Rows in three inserts and at least two months, each with a sorting key of its own, under any key."""
    for batch in range(3):
        server.query(f"""INSERT INTO {database}.{table} ({KEYS[table]}, cluster_name) SELECT
            {', '.join({'ts': "toDateTime64(toDate(now()) - 26, 3) + toIntervalMinute(number * 60 + " + str(batch) + ")",
                        'gpu_index': 'number % 4'}.get(name, f"concat('{name}-', toString(number % 3))")
                       for name in KEYS[table].split(', '))}, 'name'
            FROM numbers({count // 3}) SETTINGS async_insert = 0""")  # fmt: skip


def rows(server: ClickHouseServer, table: str, database: str = "metrics") -> list[tuple[Any, ...]]:
    names = ", ".join(["ts", *COLUMNS[table].split()])
    return sorted(map(repr, server.query(f"SELECT {names} FROM {database}.{table}")))


def definition(table: str) -> str:
    """The part of TABLES that is about one table."""
    statements = [text for text in TABLES.split(";") if re.search(rf"\\.{table}\\b|DATABASE", text)]
    return ";".join(statements)


def make(server: ClickHouseServer, table: str, old: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    server.query("CREATE DATABASE IF NOT EXISTS metrics")
    server.query(create(table, old))
    fill(server, table)
    return rows(server, table)


def assert_converged(server: ClickHouseServer, fresh: Catalog, definitions: str = TABLES) -> None:
    assert catalog(server) == fresh
    assert run(server, definitions).sent == []


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("table", COLUMNS)
def test_a_table_in_an_old_shape_ends_as_a_new_one_with_every_row(
    server: ClickHouseServer, fresh: Catalog, table: str, name: str
) -> None:
    """Each old shape of each table, beside missing ones."""
    before = make(server, table, SHAPES[name])
    run(server)

    assert rows(server, table) == before
    assert_converged(server, fresh)


MIXTURES = st.fixed_dictionaries({
    "engine": st.sampled_from(["MergeTree", "ReplacingMergeTree", "ReplacingMergeTree()"]),
    "low": st.booleans(), "narrow": st.booleans(), "codecs": st.booleans(),
    "key": st.sampled_from(["seed", "extended", "other"]), "network": st.integers(0, 2),
    "index": st.sampled_from(["new", "old", "none"]), "ttl": st.sampled_from([None, 30, 90, 365]),
})  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(table=st.sampled_from(sorted(COLUMNS)), old=MIXTURES)
def test_any_mixture_of_old_shapes_ends_as_a_new_one_with_every_row(
    server: ClickHouseServer, fresh: Catalog, table: str, old: dict[str, Any]
) -> None:
    """Each property is judged on its own."""
    server.clean()
    before = make(server, table, old)
    run(server)

    assert rows(server, table) == before
    assert_converged(server, fresh)


LATE = {
    r"^CREATE TABLE \S+__new": "INSERT INTO metrics.{table} ({key}, cluster_name) SELECT {values}, 'while freezing'",
    r"MODIFY COMMENT.*here": "INSERT INTO metrics.{table} ({key}, cluster_name) SELECT {values}, 'while copying'",
    r"^EXCHANGE": "INSERT INTO metrics.{table} ({key}, cluster_name) SELECT {values}, 'before the exchange'",
    r"^RENAME": "INSERT INTO metrics.{table} ({key}, cluster_name) SELECT {values}, 'after the exchange'",
}


def late(table: str) -> dict[str, str]:
    """Inserts of others at the worst moments, each of one new row."""
    found = {}
    for number, (pattern, sql) in enumerate(LATE.items()):
        values = ", ".join({"ts": f"toDateTime64(toDate(now()), 3) + {number}", "gpu_index": "1"}.get(name, f"'late {number}'")
                           for name in KEYS[table].split(", "))  # fmt: skip
        found[pattern] = sql.format(table=table, key=KEYS[table], values=values)
    return found


@pytest.mark.parametrize("table, name", [("NodeMetrics", "A"), ("GPUMetrics", "C"), ("PodMetrics", "A with another key")])
def test_a_run_that_was_killed_after_any_statement_is_completed_by_the_next(
    server: ClickHouseServer, fresh: Catalog, table: str, name: str
) -> None:
    """With rows that arrive at the worst moments."""
    expected = {item: attributes for item, attributes in fresh.items() if item.table == f"metrics.{table}"}
    for last in itertools.count(1):
        server.clean()
        before = make(server, table, SHAPES[name])
        killed = run(server, definition(table), last=last, meanwhile=late(table))
        done = run(server, definition(table), meanwhile=killed.meanwhile)
        cluster_names = [row[0] for row in server.query(
            f"SELECT cluster_name FROM metrics.{table} FINAL WHERE cluster_name != 'name' ORDER BY 1")]  # fmt: skip

        assert (last, set(before) - set(rows(server, table))) == (last, set())
        assert (last, cluster_names) == (last, ["after the exchange", "before the exchange", "while copying", "while freezing"])
        assert server.query(f"SELECT count() FROM metrics.{table} FINAL") == [(len(before) + 4,)]
        assert_converged(server, expected, definition(table))
        if not done.sent:
            break
    assert last > 15


# A small table, for what happens in between.

def small(engine: str, order: str = "k", extra: str = "") -> str:
    return (f"CREATE DATABASE d; CREATE TABLE d.t (k UInt64, v Int64{extra}) ENGINE = {engine}"
            f" PARTITION BY k % 2 ORDER BY {order} SETTINGS index_granularity = 8192")  # fmt: skip


LAST_WINS, KEEPS_ALL = small("ReplacingMergeTree"), small("MergeTree", "(k, v)")


@pytest.fixture
def table(server: ClickHouseServer) -> ClickHouseServer:
    """d.t with rows of key 0 to 9, in an old form."""
    server.query("CREATE DATABASE d")
    server.query("CREATE TABLE d.t (k UInt64, v Int32) ENGINE = MergeTree PARTITION BY k % 2 ORDER BY v")
    server.query("INSERT INTO d.t SELECT number, 0 FROM numbers(10)", async_insert=0)
    return server


def test_of_rows_with_one_key_the_last_stays_the_last(table: ClickHouseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many inserts, merged parts, and slices that cut through a part."""
    monkeypatch.setattr(clickhouse_rebuild, "CHUNK", 700)
    for value in range(1, 41):
        table.query(f"INSERT INTO d.t SELECT number % 50, {value} FROM numbers(100)", async_insert=0)
    session = run(table, LAST_WINS)

    assert table.query("SELECT groupUniqArray(v) FROM d.t FINAL") == [([40],)]
    assert table.query("SELECT count() FROM d.t__before_0002") == [(4010,)]
    assert any("_part_offset" in sql for sql in session.sent)


def test_a_newer_row_wins_over_a_late_one(table: ClickHouseServer) -> None:
    """Rows written before the exchange and found after it never replace what was written since."""
    run(table, LAST_WINS, meanwhile={
        "^EXCHANGE": "INSERT INTO d.t VALUES (0, 10), (1, 10), (2, 10), (3, 10)",
        "^CREATE TABLE d.t__late": "INSERT INTO d.t VALUES (0, 11), (1, 11)",
        "ATTACH PARTITION ID '0' FROM d.t__late": "INSERT INTO d.t VALUES (2, 12)",
        "^RENAME": "INSERT INTO d.t VALUES (3, 13)",
    })  # fmt: skip

    assert table.query("SELECT k, v FROM d.t FINAL WHERE v > 0 ORDER BY k") == [(0, 11), (1, 11), (2, 12), (3, 13)]
    assert table.query("SELECT count() FROM d.t FINAL") == [(10,)]


@pytest.mark.parametrize("definitions", [LAST_WINS, KEEPS_ALL], ids=["last wins", "keeps all"])
def test_killed_at_any_late_row_it_is_neither_lost_nor_doubled(table: ClickHouseServer, definitions: str) -> None:
    """The exactly-once of rows that reach the old table last."""
    for last in itertools.count(1):
        table.query("TRUNCATE TABLE d.t")
        meanwhile = {"^EXCHANGE": "INSERT INTO d.t SELECT number, 1 FROM numbers(6)"}
        table.query("INSERT INTO d.t SELECT number, 0 FROM numbers(100, 10)", async_insert=0)
        killed = run(table, definitions, last=last, meanwhile=meanwhile)
        done = run(table, definitions, meanwhile=killed.meanwhile)

        assert table.query("SELECT count(), sum(k), sum(v) FROM d.t") == [(16, 1045 + 15, 6)]
        if not done.sent:
            break
        table.query("DROP TABLE d.t")
        table.query("EXCHANGE TABLES d.t__before_0002 AND d.t__before_0002")
        table.query("RENAME TABLE d.t__before_0002 TO d.t")
    assert last > 15


def test_an_insert_that_began_before_the_exchange_arrives(table: ClickHouseServer) -> None:
    """It goes on writing into the old table, and is waited for."""
    slow = threading.Thread(target=lambda: table.query(
        "INSERT INTO d.t SELECT number + 100, sleepEachRow(0.4) FROM numbers(8)",
        async_insert=0, max_block_size=1, min_insert_block_size_rows=1, max_insert_threads=1))  # fmt: skip
    slow.start()
    time.sleep(0.2)
    session = run(table, LAST_WINS)
    slow.join()

    assert table.query("SELECT count() FROM d.t") == [(18,)]
    assert any(report["unit"] == "earlier inserts" for report in session.reports)


def test_views_that_read_or_feed_the_table_go_on_and_see_each_row_once(table: ClickHouseServer) -> None:
    """A copied or late row does not go through a view again."""
    for sql in ("CREATE TABLE d.source (k UInt64, v Int32) ENGINE = Null",
                "CREATE MATERIALIZED VIEW d.feed TO d.t AS SELECT k, v FROM d.source",
                "CREATE TABLE d.seen (k UInt64) ENGINE = MergeTree ORDER BY k",
                "CREATE MATERIALIZED VIEW d.reader TO d.seen AS SELECT k FROM d.t"):  # fmt: skip
        table.query(sql)
    run(table, LAST_WINS, meanwhile={
        "CREATE TABLE d.t__new": "INSERT INTO d.source VALUES (100, 1)",
        "^EXCHANGE": "INSERT INTO d.source VALUES (101, 1)",
        "^RENAME": "INSERT INTO d.source VALUES (102, 1)",
    })  # fmt: skip

    assert table.query("SELECT groupArray(k) FROM (SELECT k FROM d.seen ORDER BY k)") == [([100, 101, 102],)]
    assert table.query("SELECT count() FROM d.t WHERE k >= 100") == [(3,)]


@pytest.mark.parametrize("definitions", [LAST_WINS, KEEPS_ALL], ids=["last wins", "keeps all"])
def test_four_writers_go_on_and_nothing_they_were_promised_is_lost(table: ClickHouseServer, definitions: str) -> None:
    """Each counts up on keys of its own, as fast as it can; no insert fails."""
    table.query("INSERT INTO d.t SELECT 1000 + number % 100000, 0 FROM numbers(1000000)")
    stop, written, errors = threading.Event(), [0] * 4, []

    def write(writer: int) -> None:
        try:
            while not stop.is_set():
                value = written[writer] + 1
                table.query(f"INSERT INTO d.t SELECT {10 + writer * 10} + number, {value} FROM numbers(10)",
                            async_insert=0)  # fmt: skip
                written[writer] = value
        except ClickHouseError as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    try:
        run(table, definitions)
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert errors == []
    assert min(written) > 10
    last = table.query("SELECT intDiv(k, 10) - 1 AS w, min(v), max(v) FROM d.t FINAL WHERE k BETWEEN 10 AND 49 GROUP BY w"
                       " ORDER BY w" if definitions == LAST_WINS else
                       "SELECT intDiv(k, 10) - 1 AS w, count(), uniqExact(k, v) FROM d.t WHERE k BETWEEN 10 AND 49"
                       " GROUP BY w ORDER BY w")  # fmt: skip
    times = 1 if definitions == LAST_WINS else 10
    assert last == [(n, written[n] * times, written[n] * times) for n in range(4)]
    assert table.query("SELECT uniqExact(k) FROM d.t") == [(100050,)]
