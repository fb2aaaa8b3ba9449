"""Convergence on a real ClickHouse: whatever form a table has, it ends as defined, with every row."""

import contextlib
import itertools
import re
import runpy
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from migrator.catalogs import Catalog
from migrator.catalogs.clickhouse import read_catalog
from migrator.catalogs.clickhouse_rights import READS, RIGHTS
from migrator.converge import clickhouse_rebuild
from migrator.converge.clickhouse import Comparison, changes, converge
from migrator.errors import AccessDenied, MigrateError, StatementRefused, StepFailed, WouldLoseData, WrongServer
from tests.databases.clickhouse_shapes import COLUMNS, INGREDIENTS, KEYS, SHAPES, create, fill, rows
from tests.rights import EXACT, OWN
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
    """What a step is given, on a real server; remembers what it sent, and dies after statement `last`, a number or text.

    `meanwhile` are statements of others, sent just before ours that match a pattern, each once.
    """

    step, patience = STEP, 20.0

    def __init__(self, server: ClickHouseServer, last: int | str = 0, meanwhile: Mapping[str, str] = {}) -> None:
        self.server, self.last, self.meanwhile = server, last, dict(meanwhile)
        self.sent: list[str] = []
        self.reports: list[dict[str, Any]] = []

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self.server.query(sql, user=self.server.user)
        except ClickHouseError as error:
            raise StatementRefused(str(error)) from None

    def execute(self, sql: str) -> None:
        for pattern in [p for p in self.meanwhile if re.search(p, sql)]:
            for other in self.meanwhile.pop(pattern).split(";"):
                self.server.query(other, async_insert=0)
        self.sent.append(sql)
        try:
            self.server.query(sql, user=self.server.user, async_insert=0, mutations_sync=2, alter_sync=2, wait_end_of_query=1)
        except ClickHouseError as error:
            raise StatementRefused(str(error)) from None
        if len(self.sent) == self.last or (isinstance(self.last, str) and sql.startswith(self.last)):
            raise Killed

    def progress(self, **fields: Any) -> None:
        self.reports.append(fields)
        if len(self.reports) == 1:
            self.begun()

    def begun(self) -> None:
        """What happens elsewhere when long work begins."""


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


def definition(table: str) -> str:
    """The part of TABLES that is about one table."""
    statements = [text for text in TABLES.split(";") if re.search(rf"\.{table}\b|DATABASE", text)]
    return ";".join(statements)


def make(server: ClickHouseServer, table: str, old: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    server.query("CREATE DATABASE IF NOT EXISTS metrics")
    server.query(create(table, old))
    fill(server, table)
    return rows(server, table)


def assert_converged(server: ClickHouseServer, fresh: Catalog, definitions: str = TABLES) -> None:
    assert catalog(server) == fresh
    assert run(server, definitions).sent == []


def sample(table: str, name: str) -> Any:
    """All shapes of one table, and the main ones of the others; the rest in `make test-full`."""
    marks = () if table == "NodeMetrics" or name in ("A with another key", "E") else (pytest.mark.full,)
    return pytest.param(table, name, marks=marks, id=f"{table} {name}")


@pytest.mark.parametrize(("table", "name"), [sample(*case) for case in itertools.product(COLUMNS, SHAPES)])
def test_a_table_in_an_old_shape_ends_as_a_new_one_with_every_row(
    server: ClickHouseServer, fresh: Catalog, table: str, name: str
) -> None:
    """Each old shape of each table, beside missing ones."""
    before = make(server, table, SHAPES[name])
    run(server)

    assert rows(server, table) == before
    assert_converged(server, fresh)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(table=st.sampled_from(sorted(COLUMNS)),
       old=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in INGREDIENTS.items()}))
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


@pytest.mark.parametrize(("table", "name"), [
    ("NodeMetrics", "A"), pytest.param("GPUMetrics", "C", marks=pytest.mark.full),
    pytest.param("PodMetrics", "A with another key", marks=pytest.mark.full)])  # fmt: skip
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

def small(engine: str, order: str = "k", partition: str = "k % 2") -> str:
    return (f"CREATE DATABASE d; CREATE TABLE d.t (k UInt64, v Int64) ENGINE = {engine} PARTITION BY {partition}"
            f" ORDER BY {order} SETTINGS index_granularity = 8192")  # fmt: skip


LAST_WINS, KEEPS_ALL = small("ReplacingMergeTree"), small("MergeTree", "(k, v)")
OTHER_PARTITIONS = small("MergeTree", "(k, v)", "intDiv(k, 5)")


@pytest.fixture
def table(server: ClickHouseServer) -> ClickHouseServer:
    """d.t with rows of key 0 to 9, in an old form."""
    server.query("CREATE DATABASE d")
    server.query("CREATE TABLE d.t (k UInt64, v Int32) ENGINE = MergeTree PARTITION BY k % 2 ORDER BY v")
    server.query("INSERT INTO d.t SELECT number, 0 FROM numbers(10)", async_insert=0)
    return server


def test_of_rows_with_one_key_the_last_stays_the_last(table: ClickHouseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many inserts, merged parts, and slices that cut through a part; enough rows for a server to use threads."""
    monkeypatch.setattr(clickhouse_rebuild, "CHUNK", 450_000)
    for value in range(1, 21):
        table.query(f"INSERT INTO d.t SELECT number % 50000, {value} FROM numbers(100000)", async_insert=0)
    session = run(table, LAST_WINS)

    assert table.query("SELECT groupUniqArray(v) FROM d.t FINAL") == [([20],)]
    assert table.query("SELECT count() FROM d.t__before_0002") == [(2000010,)]
    copying = [report for report in session.reports if report["unit"] == "rows"]
    assert len(copying) > 4
    assert [copying[0]["done"], copying[-1]["done"]] == [0, 2000010]
    assert {(report["total"], report["size"] > 0) for report in copying} == {(2000010, True)}
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


@pytest.mark.parametrize("definitions", [
    pytest.param(LAST_WINS, id="last wins"), pytest.param(KEEPS_ALL, id="keeps all"),
    pytest.param(OTHER_PARTITIONS, id="other partitions", marks=pytest.mark.full)])  # fmt: skip
def test_killed_at_any_statement_no_row_is_lost_or_doubled(
    table: ClickHouseServer, definitions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of partitions copied in pieces, nor of rows that reach the old table last and are merged there."""
    monkeypatch.setattr(clickhouse_rebuild, "CHUNK", 2)
    for last in itertools.count(1):
        table.query("TRUNCATE TABLE d.t")
        meanwhile = {"MODIFY COMMENT.*here": "INSERT INTO d.t SELECT 200 + number, 1 FROM numbers(4)",
                     "^EXCHANGE": "INSERT INTO d.t SELECT number, 1 FROM numbers(6); OPTIMIZE TABLE d.t FINAL"}  # fmt: skip
        table.query("INSERT INTO d.t SELECT number, 0 FROM numbers(100, 10)", async_insert=0)
        killed = run(table, definitions, last=last, meanwhile=meanwhile)
        done = run(table, definitions, meanwhile=killed.meanwhile)

        assert table.query("SELECT count(), sum(k), sum(v) FROM d.t") == [(20, 1045 + 806 + 15, 10)]
        if not done.sent:
            break
        table.query("DROP TABLE d.t")
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


# The least that is enough.

def tables(server: ClickHouseServer) -> list[tuple[Any, ...]]:
    """Everything that a write would leave a trace in."""
    looks = {"tables": "*", "columns": "*", "parts": "table, name, rows, modification_time, hash_of_all_files, active",
             "mutations": "table, mutation_id, command"}  # fmt: skip
    return [server.query("SELECT name, engine, uuid FROM system.databases ORDER BY ALL")] + [
        server.query(f"SELECT {what} FROM system.{view} WHERE database IN ('d', 'metrics') ORDER BY ALL")
        for view, what in looks.items()]  # fmt: skip


def sent(server: ClickHouseServer, *definitions: str) -> list[str]:
    """What is sent to make the last definition of the first, and nothing the second time."""
    for text in definitions[:-1]:
        run(server, text)
    session = run(server, definitions[-1])
    assert run(server, definitions[-1]).sent == []
    return session.sent


BASE = "CREATE DATABASE d; CREATE TABLE d.t ({}) ENGINE = MergeTree ORDER BY k {};"
COLUMN_CHANGES = {
    "a column between others": ("k UInt8, z String", "k UInt8, y Int8, z String",
                                "ADD COLUMN `y` Int8 AFTER `k`"),
    "a first column": ("k UInt8", "a Int8 DEFAULT 1, k UInt8", "ADD COLUMN `a` Int8 DEFAULT 1 FIRST"),
    "a type, with its codec": ("k UInt8, v Float32 CODEC(Gorilla(4))", "k UInt8, v Float64 CODEC(Gorilla(8))",
                               "MODIFY COLUMN `v` Float64 CODEC(Gorilla(8))"),
    "a default": ("k UInt8, v Int8 DEFAULT 1", "k UInt8, v Int8 DEFAULT 2", "MODIFY COLUMN `v` Int8 DEFAULT 2"),
    "no default": ("k UInt8, v Int8 DEFAULT 1", "k UInt8, v Int8",
                   "MODIFY COLUMN `v` REMOVE DEFAULT, MODIFY COLUMN `v` Int8"),
    "no codec": ("k UInt8, v Int8 CODEC(ZSTD(1))", "k UInt8, v Int8",
                 "MODIFY COLUMN `v` REMOVE CODEC, MODIFY COLUMN `v` Int8"),
    "a codec": ("k UInt8, v Int8", "k UInt8, v Int8 CODEC(ZSTD(1))", "MODIFY COLUMN `v` Int8 CODEC(ZSTD(1))"),
    "two columns at once": ("k UInt8, v Int8, w Int8", "k UInt8, v Int16, w Int16",
                            "MODIFY COLUMN `v` Int16, MODIFY COLUMN `w` Int16"),
    "a key column without LowCardinality": ("k LowCardinality(String)", "k String", "MODIFY COLUMN `k` String"),
    "another column than the key": ("k LowCardinality(String)", "k LowCardinality(String), v Int8", "ADD COLUMN `v` Int8 AFTER `k`"),
    "a new index": ("k UInt8", "k UInt8, INDEX i k TYPE minmax GRANULARITY 1",
                    "ADD INDEX i k TYPE minmax GRANULARITY 1, MATERIALIZE INDEX `i`"),
    "another index": ("k UInt8, v Int8, INDEX i k TYPE minmax GRANULARITY 1",
                      "k UInt8, v Int8, INDEX i v TYPE minmax GRANULARITY 1",
                      "DROP INDEX `i`, ADD INDEX i v TYPE minmax GRANULARITY 1, MATERIALIZE INDEX `i`"),
    "a projection": ("k UInt8", "k UInt8, PROJECTION p (SELECT k, count() GROUP BY k)",
                     "ADD PROJECTION p (SELECT k, count() GROUP BY k), MATERIALIZE PROJECTION `p`"),
}  # fmt: skip


@pytest.mark.parametrize("case", COLUMN_CHANGES)
def test_a_difference_takes_one_alter(server: ClickHouseServer, case: str) -> None:
    """And that changes nothing else."""
    old, new, action = COLUMN_CHANGES[case]
    assert sent(server, BASE.format(old, ""), BASE.format(new, "")) == [f"ALTER TABLE d.t {action}"]


OPTION_CHANGES = {
    "a longer TTL": ("TTL ts + toIntervalDay(30)", "TTL toDateTime(ts) + toIntervalDay(90)",
                     ["MODIFY TTL toDateTime(ts) + toIntervalDay(90) SETTINGS materialize_ttl_after_modify = 0"]),
    "no TTL": ("TTL ts + toIntervalDay(30)", "", ["REMOVE TTL"]),
    "settings": ("SETTINGS ttl_only_drop_parts = 1, max_parts_in_total = 7", "SETTINGS max_parts_in_total = 8",
                 ["MODIFY SETTING max_parts_in_total = 8", "RESET SETTING ttl_only_drop_parts"]),
    "the same TTL in other words": ("TTL ts + INTERVAL 90 DAY", "TTL toDateTime(ts) + toIntervalDay(90)", []),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTION_CHANGES)
def test_options_are_altered_in_place(server: ClickHouseServer, case: str) -> None:
    """TTL and settings."""
    old, new, actions = OPTION_CHANGES[case]
    columns = "k UInt8, ts DateTime64(3)"
    assert sent(server, BASE.format(columns, old), BASE.format(columns, new)) == [f"ALTER TABLE d.t {a}" for a in actions]


REBUILDS = {
    "engine": ("k UInt32, v Int8", "MergeTree ORDER BY k", "ReplacingMergeTree ORDER BY k"),
    "sorting key": ("k UInt32, v Int8", "MergeTree ORDER BY k", "MergeTree ORDER BY (k, v)"),
    "primary key": ("k UInt32, v Int8", "MergeTree ORDER BY (k, v)", "MergeTree PRIMARY KEY k ORDER BY (k, v)"),
    "partition key": ("k UInt32, v Int8", "MergeTree PARTITION BY k ORDER BY k", "MergeTree PARTITION BY v ORDER BY k"),
    "no partition key": ("k UInt32, v Int8", "MergeTree PARTITION BY k ORDER BY k", "MergeTree ORDER BY k"),
    "granularity": ("k UInt32, v Int8", "MergeTree ORDER BY k", "MergeTree ORDER BY k SETTINGS index_granularity = 512"),
    "type of a key column": ("k UInt16, v Int8", "MergeTree ORDER BY k", "MergeTree ORDER BY k"),
    "version": ("k UInt32, v Int8", "ReplacingMergeTree ORDER BY k", "ReplacingMergeTree(v) ORDER BY k"),
    "sums": ("k UInt32, v Int8", "MergeTree ORDER BY k", "SummingMergeTree ORDER BY k"),
}


@pytest.mark.parametrize("case", REBUILDS)
def test_what_no_alter_changes_is_rebuilt(server: ClickHouseServer, case: str) -> None:
    """The old table is kept as it was; columns and indexes beyond the definition go along."""
    columns, old, new = REBUILDS[case]
    mine = "mine String DEFAULT 'x' CODEC(ZSTD(3)), INDEX own (k, mine) TYPE set(10) GRANULARITY 2"
    server.query("CREATE DATABASE d")
    server.query(f"CREATE TABLE d.t ({columns}, {mine}) ENGINE = {old}")
    server.query("INSERT INTO d.t SELECT number, number % 3, toString(number) FROM numbers(200)",
                 max_partitions_per_insert_block=0)
    text = f"CREATE DATABASE d; CREATE TABLE d.t (k UInt32, v Int8) ENGINE = {new}"
    before = server.query("SELECT * FROM d.t ORDER BY k")
    run(server, text, meanwhile={"^EXCHANGE": "INSERT INTO d.t VALUES (1000, 1, 'late')"})

    assert server.query("SELECT k, v, mine FROM d.t ORDER BY k") == [*before, (1000, 1, "late")]
    assert [row for row in server.query("SELECT * FROM d.t__before_0002 ORDER BY k") if row[0] < 1000] == before
    found = server.query("SELECT create_table_query, comment FROM system.tables WHERE database = 'd' AND name = 't'")[0]
    assert "`mine` String DEFAULT 'x' CODEC(ZSTD(3)), INDEX own (k, mine) TYPE set(10) GRANULARITY 2" in found[0]
    assert found[1] == ""
    assert run(server, text).sent == []
    assert server.query("SELECT name FROM system.tables WHERE database = 'd' ORDER BY 1") == [("t",), ("t__before_0002",)]


def test_an_index_under_its_old_name_goes_when_the_new_one_is_there(server: ClickHouseServer) -> None:
    """One that a definition drops goes too; one that nobody knows stays."""
    old = "k UInt8, v Int8, INDEX old k TYPE minmax, INDEX gone v TYPE minmax, INDEX own (k, v) TYPE minmax GRANULARITY 7"
    new = BASE.format("k UInt8, v Int8, INDEX new k TYPE minmax GRANULARITY 1", "") + "ALTER TABLE d.t DROP INDEX gone"
    run(server, BASE.format(old, ""))
    found = run(server, new).sent

    assert found == ["ALTER TABLE d.t ADD INDEX new k TYPE minmax GRANULARITY 1, MATERIALIZE INDEX `new`",
                     "ALTER TABLE d.t DROP INDEX `gone`", "ALTER TABLE d.t DROP INDEX `old`"]  # fmt: skip
    assert server.query("SELECT name FROM system.data_skipping_indices WHERE database = 'd' ORDER BY 1") == [("new",), ("own",)]
    assert run(server, new).sent == []


def test_definitions_may_say_nothing_or_only_that_an_index_must_be_gone(server: ClickHouseServer) -> None:
    """An index of somebody else's table, for instance."""
    run(server, BASE.format("k UInt8, INDEX i k TYPE minmax", ""))

    assert sent(server, "-- nothing") == []
    assert sent(server, "ALTER TABLE d.t DROP INDEX i") == ["ALTER TABLE d.t DROP INDEX `i`"]


def test_columns_are_added_to_a_table_of_another_owner(server: ClickHouseServer) -> None:
    """With nothing else of it being touched."""
    text = "ALTER TABLE d.t ADD COLUMN y Int16 AFTER k"
    server.query("CREATE DATABASE d")
    server.query("CREATE TABLE d.t (k UInt8, x String) ENGINE = MergeTree ORDER BY x")
    assert sent(server, text) == ["ALTER TABLE d.t ADD COLUMN `y` Int16 AFTER k"]


VIEWS = """CREATE DATABASE d; CREATE TABLE d.source (k UInt8, v Int8) ENGINE = Null;
           CREATE TABLE d.t (k UInt8{}) ENGINE = MergeTree ORDER BY k; {};"""
VIEW_CHANGES = {
    "the query": ("CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source",
                  "CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source WHERE v > 0",
                  ["ALTER TABLE d.v MODIFY QUERY SELECT k FROM d.source WHERE v > 0"]),
    "the query, in other words": ("CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source",
                                  "CREATE MATERIALIZED VIEW d.v TO d.t AS select  k from d.source", []),
    "a query of a refreshable view": (
        "CREATE MATERIALIZED VIEW d.v REFRESH EVERY 1 HOUR APPEND TO d.t AS SELECT k FROM d.source",
        "CREATE MATERIALIZED VIEW d.v REFRESH EVERY 1 HOUR APPEND TO d.t AS SELECT k FROM d.source WHERE v > 0",
        ["ALTER TABLE d.v MODIFY QUERY SELECT k FROM d.source WHERE v > 0"]),
    "to refreshable": ("CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source",
                       "CREATE MATERIALIZED VIEW d.v REFRESH EVERY 1 HOUR APPEND TO d.t AS SELECT k FROM d.source",
                       ["DROP VIEW d.v", "CREATE MATERIALIZED VIEW d.v REFRESH EVERY 1 HOUR APPEND TO d.t AS SELECT k FROM d.source"]),
    "the target": ("CREATE MATERIALIZED VIEW d.v TO d.source AS SELECT k FROM d.t",
                   "CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source",
                   ["DROP VIEW d.v", "CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source"]),
    "a plain view": ("CREATE VIEW d.v AS SELECT k FROM d.t", "CREATE VIEW d.v AS SELECT k, v FROM d.source",
                     ["CREATE OR REPLACE VIEW d.v AS SELECT k, v FROM d.source"]),
    "plain to materialized": ("CREATE VIEW d.v AS SELECT k FROM d.t",
                              "CREATE MATERIALIZED VIEW d.v TO d.t AS WITH 1 AS one SELECT k FROM d.source",
                              ["DROP VIEW d.v",
                               "CREATE MATERIALIZED VIEW d.v TO d.t AS WITH 1 AS one SELECT k FROM d.source"]),
}  # fmt: skip


@pytest.mark.parametrize("case", VIEW_CHANGES)
def test_a_view_is_altered_where_that_is_possible(server: ClickHouseServer, case: str) -> None:
    """Else made anew."""
    old, new, statements = VIEW_CHANGES[case]
    assert sent(server, VIEWS.format("", old), VIEWS.format("", new)) == statements


def test_a_new_query_brings_its_columns_along(server: ClickHouseServer) -> None:
    """The view writes a column that its target has got in the same run."""
    view = "CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k{} FROM d.source"
    run(server, VIEWS.format("", view.format("")))
    run(server, VIEWS.format(", v Int8", view.format(", v")))
    server.query("INSERT INTO d.source VALUES (1, 2)")

    assert server.query("SELECT k, v FROM d.t") == [(1, 2)]
    assert server.query("SELECT name FROM system.columns WHERE table = 'v' AND database = 'd'") == [("k",), ("v",)]


def test_a_view_gives_way_to_a_table(server: ClickHouseServer) -> None:
    """It holds no row."""
    server.query("CREATE DATABASE d")
    server.query("CREATE VIEW d.t AS SELECT 1 AS k")
    run(server, LAST_WINS)
    assert server.query("SELECT engine FROM system.tables WHERE database = 'd'") == [("ReplacingMergeTree",)]


# What is refused, before anything is done.

STOPPED = ["CREATE TABLE d.t (k UInt8, v String) ENGINE = MergeTree ORDER BY tuple()", "INSERT INTO d.t VALUES (1, 'x')",
           "SYSTEM STOP MERGES d.t"]  # where no mutation ends
REFUSED: dict[str, tuple[list[str], str, type[MigrateError], str]] = {
    "a number that does not fit, by ALTER": (
        ["CREATE TABLE d.t (k UInt8, v UInt32) ENGINE = MergeTree ORDER BY k", "INSERT INTO d.t VALUES (7, 3000000000), (8, 1)"],
        BASE.format("k UInt8, v Int32, w Int8", ""), WouldLoseData, r"1 rows of d.t hold a v .*Int32.*\(7,3000000000\)"),
    "a number that does not fit, by rebuild": (
        ["CREATE TABLE d.t (k UInt8, v UInt32) ENGINE = MergeTree ORDER BY v", "INSERT INTO d.t VALUES (7, 3000000000), (8, 1)"],
        BASE.format("k UInt8, v Int32", ""), WouldLoseData, r"1 rows of d.t hold a v .*Int32.*3000000000"),
    "a NULL where none may be": (
        ["CREATE TABLE d.t (k UInt8, v Nullable(Int8)) ENGINE = MergeTree ORDER BY k", "INSERT INTO d.t VALUES (7, NULL), (8, 1)"],
        BASE.format("k UInt8, v Int8", ""), WouldLoseData, "1 rows of d.t hold a v"),
    "a number in an array that does not fit": (
        ["CREATE TABLE d.t (k UInt8, v Array(UInt32)) ENGINE = MergeTree ORDER BY k", "INSERT INTO d.t VALUES (7, [3000000000])"],
        BASE.format("k UInt8, v Array(Int32)", ""), WouldLoseData, "d.t.v: .* does not fit"),
    "a fraction that would be rounded": (
        ["CREATE TABLE d.t (k UInt8, v Float64) ENGINE = MergeTree ORDER BY k", "INSERT INTO d.t VALUES (7, 0.1)"],
        BASE.format("k UInt8, v Int32", ""), WouldLoseData, "1 rows of d.t hold a v"),
    "a shorter TTL": (
        ["CREATE TABLE d.t (k UInt8, ts DateTime64(3)) ENGINE = MergeTree ORDER BY k", "INSERT INTO d.t VALUES (1, now() - 864000)"],
        BASE.format("k UInt8, ts DateTime64(3)", "TTL toDateTime(ts) + toIntervalDay(5)"), WouldLoseData,
        r"delete 1 rows of d.t .*by hand: ALTER TABLE d.t MODIFY TTL toDateTime\(ts\) \+ toIntervalDay\(5\)"),
    "a shorter TTL, by rebuild": (
        ["CREATE TABLE d.t (k UInt8, ts DateTime64(3)) ENGINE = MergeTree ORDER BY ts TTL ts + toIntervalDay(30)",
         "INSERT INTO d.t VALUES (1, now() - 864000)"],
        BASE.format("k UInt8, ts DateTime64(3)", "TTL toDateTime(ts) + toIntervalDay(5)"), WouldLoseData, "delete 1 rows"),
    "a table where a view should be": (
        ["CREATE TABLE d.t (k UInt8) ENGINE = MergeTree ORDER BY k"],
        "CREATE VIEW d.t AS SELECT 1 AS k", WouldLoseData, "view d.t: a view expected, a table found.*RENAME"),
    "a view with rows of its own": (
        ["CREATE MATERIALIZED VIEW d.t ENGINE = MergeTree ORDER BY dummy AS SELECT dummy FROM system.one"],
        BASE.format("k UInt8", ""), WouldLoseData, "view d.t keeps rows of its own"),
    "an engine without parts": (
        ["CREATE TABLE d.t (k UInt8) ENGINE = Log"], BASE.format("k UInt8", ""), WrongServer, "d.t is of engine Log"),
    "somebody's table in the way": (
        ["CREATE TABLE d.t (k UInt8) ENGINE = MergeTree ORDER BY tuple()", "CREATE TABLE d.t__new (k UInt8) ENGINE = Log"],
        BASE.format("k UInt8", ""), WrongServer, "d.t__new is in the way"),
    "a failed mutation": (
        ["CREATE TABLE d.t (k UInt8, v String) ENGINE = MergeTree ORDER BY tuple()", "INSERT INTO d.t VALUES (1, 'x')",
         "ALTER TABLE d.t UPDATE v = toString(throwIf(1)) WHERE 1 SETTINGS mutations_sync = 0", "SELECT sleep(1)"],
        BASE.format("k UInt8, v String", ""), WrongServer, "earlier mutation of d.t fails.*KILL MUTATION"),
    "a running mutation": (
        [*STOPPED, "ALTER TABLE d.t UPDATE v = 'y' WHERE 1 SETTINGS mutations_sync = 0"],
        BASE.format("k UInt8, v String", ""), WrongServer,
        r"a mutation of d\.t still runs: .*v = 'y'.*, 1 parts to do; what.*run again when it has ended, or KILL MUTATION"),
    "a running mutation, a new column": (
        [*STOPPED, "ALTER TABLE d.t UPDATE v = 'y' WHERE 1, DELETE WHERE v = 'z' SETTINGS mutations_sync = 0"],
        STOPPED[0].replace("v String", "v String, w String"), WrongServer, r"a mutation of d\.t still runs"),
    "a running lightweight delete": (
        [*STOPPED, "DELETE FROM d.t WHERE k = 1 SETTINGS lightweight_deletes_sync = 0"],
        BASE.format("k UInt8, v String", ""), WrongServer, r"a mutation of d\.t still runs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_is_refused_and_nothing_changed(server: ClickHouseServer, case: str) -> None:
    """The dry run refuses it too."""
    setup, text, error, message = REFUSED[case]
    server.query("CREATE DATABASE d")
    for sql in setup:
        server.query(sql)
    before = tables(server)
    session = Session(server)
    with pytest.raises(error, match=message):
        changes(session.query, text)
    with pytest.raises(error, match=message):
        converge(session, text)

    assert session.sent == []
    assert tables(server) == before or case == "a failed mutation"


def test_a_database_without_exchange_is_refused(server: ClickHouseServer) -> None:
    """Ordinary databases cannot exchange two names."""
    server.query("CREATE DATABASE d ENGINE = Ordinary", allow_deprecated_database_ordinary=1)
    server.query("CREATE TABLE d.t (k UInt8) ENGINE = MergeTree ORDER BY tuple()")
    with pytest.raises(WrongServer, match=r"d\.t must be rebuilt, but its database is of engine Ordinary"):
        converge(Session(server), BASE.format("k UInt8", ""))


def test_a_full_disk_is_noticed_before_the_copy() -> None:
    """What is free, less what the server keeps free, against the bytes to copy."""
    kept = ("<storage_configuration><disks><default><keep_free_space_bytes>100000000000000</keep_free_space_bytes>"
            "</default></disks></storage_configuration>")  # fmt: skip
    with ClickHouseServer(grants=EXACT + OWN) as server:
        server.query("CREATE DATABASE d")
        server.query("CREATE TABLE d.t (k UInt8) ENGINE = MergeTree ORDER BY tuple()")
        server.query("INSERT INTO d.t SELECT 1 FROM numbers(10)")
        server.stop()
        config = server.base / "config.xml"
        config.write_text(config.read_text().replace("</clickhouse>", kept + "</clickhouse>"))
        server.start()
        session = Session(server)
        with pytest.raises(WrongServer, match=r"copies \d+ bytes, but only 0 are free"):
            converge(session, BASE.format("k UInt8", ""))
        assert session.sent == []


def test_each_missing_right_is_named_before_anything_is_changed() -> None:
    """Also in a database that the expected schema does not know of; a user who has them all gets through."""
    catalog = ["SELECT ON system.data_skipping_indices", "SELECT ON system.projections"]  # these fail before
    needed = [f"{right} ON d.*" for right in RIGHTS] + [f"SELECT ON system.{table}" for table in READS]
    needed = [right for right in needed if right not in catalog]
    users = [User(f"u{number}", "pw", [*(right for right in needed if right != missing), *catalog, "TABLE ENGINE ON *"])
             for number, missing in enumerate([*needed, ""])]  # fmt: skip
    with ClickHouseServer(users=users) as server:
        server.query("CREATE DATABASE d")
        server.query("CREATE TABLE d.t (k UInt8) ENGINE = MergeTree ORDER BY tuple()")
        session = Session(server)
        for user, missing in zip(users, needed, strict=False):
            session.query = lambda sql, user=user.name: ask(server, sql, user)  # type: ignore[method-assign,misc]
            with pytest.raises(AccessDenied, match=re.escape(f"rights are missing: GRANT {missing} TO {user.name}")):
                converge(session, BASE.format("k UInt8", ""))
            assert session.sent == []
        session.query = lambda sql: ask(server, sql, users[-1].name)  # type: ignore[method-assign,misc]
        converge(session, BASE.format("k UInt8", ""))
        assert session.sent


def ask(server: ClickHouseServer, sql: str, user: str) -> list[tuple[Any, ...]]:
    try:
        return server.query(sql, user=user, password="pw")
    except ClickHouseError as error:
        raise StatementRefused(str(error)) from None


@pytest.fixture
def rewriting(table: ClickHouseServer) -> ClickHouseServer:
    """With what a killed run's MODIFY COLUMN leaves: the new type in the catalog, the rows still to be rewritten."""
    for sql in ("ALTER TABLE d.t ADD COLUMN w Int8", "ALTER TABLE d.t UPDATE w = 1 WHERE 1 SETTINGS mutations_sync = 2",
                "SYSTEM STOP MERGES d.t", "ALTER TABLE d.t MODIFY COLUMN w Int16 SETTINGS alter_sync = 0, mutations_sync = 0"):
        table.query(sql)
    return table


def test_a_mutation_that_a_run_left_is_waited_for(rewriting: ClickHouseServer) -> None:
    """It would run beside the copy."""
    session = Session(rewriting)
    session.begun = lambda: rewriting.query("SYSTEM START MERGES d.t")  # type: ignore[method-assign]
    converge(session, LAST_WINS)

    assert session.reports[0] == {"done": 0, "total": 2, "unit": "parts of earlier mutations"}
    assert rewriting.query("SELECT count(), sum(w) FROM d.t") == [(10, 10)]


def test_a_mutation_that_does_not_get_on_ends_the_wait(rewriting: ClickHouseServer) -> None:
    """Nothing is sent beside it, and the gate does not stay open to question for ever."""
    before, session = tables(rewriting), Session(rewriting)
    session.patience = 1
    with pytest.raises(WrongServer, match=r"a mutation of d\.t has not got on for 1 s: .*MODIFY COLUMN .*KILL MUTATION"):
        converge(session, LAST_WINS)

    assert (session.sent, tables(rewriting)) == ([], before)


BROKEN = {
    "CREATE TABLE d.t (k UInt8": "line 1 .*Syntax error",
    "\n\nCREATE TABLE t (k UInt8) ENGINE = Log": "line 3 .*t lacks its database name",
    "DROP TABLE d.t": "only CREATE",
    "CREATE TABLE d.t (k UInt8) ENGINE = Log;\nCREATE TABLE d.t (`k UInt8)": "line 2: name is not closed",
    "ALTER TABLE d.t DROP COLUMN k": "may only ADD, or DROP INDEX",
    "CREATE TABLE d.t (k UInt8 TTL now()) ENGINE = Log": "column k: TTL is not supported",
    "CREATE TABLE d.t (k UInt8, CONSTRAINT c CHECK k > 1) ENGINE = Log": "only columns, indexes and projections",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_definition_that_cannot_be_read_is_named(server: ClickHouseServer, text: str) -> None:
    """With its line and the reason."""
    with pytest.raises(StepFailed, match=BROKEN[text]):
        changes(Session(server).query, text)


# Looking.

def test_changes_leaves_the_server_byte_identical_in_every_state(server: ClickHouseServer) -> None:
    """Empty, old, half done at each statement, finished; the server itself refuses writes."""
    text, old = definition("NodeMetrics"), SHAPES["A"]

    def look() -> int:
        before = tables(server)
        found = changes(lambda sql: server.query(sql, readonly=2), text)
        assert tables(server) == before
        assert all(server.query(f"SELECT formatQuerySingleLineOrNull($sql${change.sql}$sql$) IS NULL") == [(0,)]
                   and change.reason for change in found)  # fmt: skip
        return len(found)

    assert look() == 2
    make(server, "NodeMetrics", old)
    assert look() == 5
    for last in itertools.count(4):
        if not run(server, text, last=last).sent:
            break
        look()
    assert look() == 0


def test_the_plan_announces_rows_and_bytes(server: ClickHouseServer) -> None:
    """Of what is copied or rewritten; nothing where parts are linked."""
    make(server, "NodeMetrics", SHAPES["B"])
    make(server, "PodMetrics", SHAPES["A"])
    make(server, "GPUMetrics", SHAPES["types only"])
    found = [change for change in changes(server.query, TABLES) if change.rows]

    assert [(change.sql[:12], change.rows, change.bytes > 0) for change in found] == [
        ("ALTER TABLE ", 300, False), ("INSERT INTO ", 300, True), ("ALTER TABLE ", 300, True)]  # fmt: skip
    assert "ATTACH PARTITION" in found[0].sql


def test_a_table_of_the_same_name_elsewhere_is_left_alone(server: ClickHouseServer, fresh: Catalog) -> None:
    """Shape D: right tables in the wrong database."""
    server.query("CREATE DATABASE budproxy")
    server.query(create("NodeMetrics", SHAPES["A"], "budproxy"))
    fill(server, "NodeMetrics", database="budproxy")
    before = [catalog(server, "budproxy"), rows(server, "NodeMetrics", "budproxy")]
    run(server)

    assert [catalog(server, "budproxy"), rows(server, "NodeMetrics", "budproxy")] == before
    assert_converged(server, fresh)


@pytest.mark.parametrize("last", [5, 8, 10, 12, 14])
def test_a_copy_begun_towards_another_definition_ends_as_the_new_one(table: ClickHouseServer, last: int) -> None:
    """The step was edited, or the image is a newer one."""
    killed = run(table, LAST_WINS, last=last, meanwhile={"^EXCHANGE": "INSERT INTO d.t VALUES (20, 1), (21, 1)"})
    text = KEEPS_ALL.replace("v Int64", "v Int64, w String")
    run(table, text, meanwhile=killed.meanwhile)

    assert table.query("SELECT engine FROM system.tables WHERE database = 'd' AND name = 't'") == [("MergeTree",)]
    assert table.query("SELECT count(), sum(v), groupUniqArray(w) FROM d.t") == [(12, 2, [""])]
    assert run(table, text).sent == []


def test_an_exchanged_table_is_finished_as_it_was_begun_before_it_is_changed(table: ClickHouseServer) -> None:
    """A late row that does not fit the newer definition is brought over first, then refused."""
    run(table, LAST_WINS, last="EXCHANGE", meanwhile={"^EXCHANGE": "INSERT INTO d.t VALUES (20, 300)"})
    with pytest.raises(WouldLoseData, match=r"1 rows of d\.t hold a v"):
        run(table, KEEPS_ALL.replace("Int64)", "Int8)"))

    assert table.query("SELECT count(), max(v) FROM d.t") == [(11, 300)]
    assert not table.query("SELECT name FROM system.tables WHERE database = 'd' AND name LIKE '%late'")


@pytest.mark.parametrize("tampering", [
    "ALTER TABLE d.t__new DROP PARTITION ID '0'",
    "ALTER TABLE d.t__new DROP PARTITION ID '0'; INSERT INTO d.t__new SELECT number * 2, 1 FROM numbers(5)",
], ids=["rows are missing", "rows are other ones"])  # fmt: skip
def test_a_copy_that_differs_is_never_put_in_place(table: ClickHouseServer, tampering: str) -> None:
    """The next run makes a new one."""
    with pytest.raises(StepFailed, match=r"the copy of d\.t differs from the original, which is untouched"):
        run(table, LAST_WINS, meanwhile={"INSERT INTO d.t__new .*'1_": tampering})
    assert table.query("SELECT engine FROM system.tables WHERE database = 'd' AND name = 't'") == [("MergeTree",)]
    run(table, LAST_WINS)

    assert table.query("SELECT count(), sum(v) FROM d.t") == [(10, 0)]


def test_a_straggler_that_no_process_shows_is_found(table: ClickHouseServer) -> None:
    """An insert from the background of the server, after the late rows were taken."""
    run(table, KEEPS_ALL, meanwhile={
        "^EXCHANGE": "INSERT INTO d.t VALUES (20, 1)",
        "ATTACH PARTITION ID '0' FROM d.t__late": "INSERT INTO d.t__new VALUES (22, 1)",
    })  # fmt: skip

    assert table.query("SELECT count(), sum(v) FROM d.t") == [(12, 2)]


def test_a_late_row_that_does_not_fit_is_never_wrapped(table: ClickHouseServer) -> None:
    """The statement fails, the row stays where it is, and the next run says what to do."""
    text = LAST_WINS.replace("Int64)", "Int8)")
    with pytest.raises(StatementRefused):
        run(table, text, meanwhile={"MODIFY COMMENT.*here": "INSERT INTO d.t VALUES (20, 300)"})
    with pytest.raises(WouldLoseData, match=r"1 rows of d\.t hold a v"):
        run(table, text)

    assert table.query("SELECT count(), max(v) FROM d.t") == [(11, 300)]


def test_a_view_whose_columns_stayed_behind_is_made_anew(server: ClickHouseServer) -> None:
    """As MODIFY QUERY is documented to leave them."""
    text = VIEWS.format(", v Int8", "CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source")
    run(server, text)
    session = Session(server)
    Comparison(server.query, text).recreate_unless_right(session, "d.v", "SELECT k, v FROM d.source")
    Comparison(server.query, text).recreate_unless_right(session, "d.v", "SELECT k FROM d.source")

    assert session.sent == ["DROP VIEW d.v", "CREATE MATERIALIZED VIEW d.v TO d.t AS SELECT k FROM d.source"]


def test_a_second_rebuild_keeps_both_old_tables(table: ClickHouseServer) -> None:
    """Under names of their own."""
    run(table, LAST_WINS)
    run(table, KEEPS_ALL)

    assert table.query("SELECT name FROM system.tables WHERE database = 'd' ORDER BY 1") == [
        ("t",), ("t__before_0002",), ("t__before_0002_2",)]  # fmt: skip
    assert table.query("SELECT count() FROM d.t") == [(10,)]


def test_a_server_that_is_killed_in_between_loses_nothing(table: ClickHouseServer) -> None:
    """Its own kill -9, at three states."""
    for last in (5, 9, 11):
        run(table, LAST_WINS, last=last, meanwhile={"^EXCHANGE": "INSERT INTO d.t SELECT number, 1 FROM numbers(6)"})
        table.kill()
        table.start()
    run(table, LAST_WINS, meanwhile={"^EXCHANGE": "INSERT INTO d.t SELECT number, 1 FROM numbers(6)"})

    assert table.query("SELECT count(), sum(v) FROM d.t FINAL") == [(10, 6)]
