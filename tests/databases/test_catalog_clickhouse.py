"""The catalog of ClickHouse sees every kind of change, as what it is, and nothing where nothing was changed."""

import os

from migrator.catalogs import Catalog, clickhouse as catalogs, differences
from tests.conftest import FIGURES
from tests.servers.clickhouse import ClickHouseServer

SCHEMA = (
    "CREATE DATABASE d",
    "CREATE TABLE d.source (ts DateTime, k LowCardinality(String), n UInt32) ENGINE = Null",
    "CREATE TABLE d.t (ts DateTime CODEC(Delta(4), ZSTD(1)), k LowCardinality(String), n UInt32 DEFAULT 1,"
    " m UInt32 MATERIALIZED n * 2, old UInt32 TTL ts + INTERVAL 1 YEAR, INDEX by_n n TYPE minmax GRANULARITY 1,"
    " PROJECTION sums (SELECT k, sum(n) GROUP BY k), CONSTRAINT small CHECK n < 1000)"
    " ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (k, ts) TTL ts + INTERVAL 30 DAY"
    " SETTINGS merge_with_ttl_timeout = 3600",
    "CREATE TABLE d.other (ts DateTime, k LowCardinality(String), n UInt32) ENGINE = MergeTree ORDER BY ts",
    "CREATE TABLE d.replacing (k String, v UInt32) ENGINE = ReplacingMergeTree(v) ORDER BY k",
    "CREATE MATERIALIZED VIEW d.mv TO d.t AS SELECT ts, k, n FROM d.source",
    "CREATE MATERIALIZED VIEW d.fresh REFRESH EVERY 1 HOUR APPEND TO d.other AS SELECT ts, k, n FROM d.t",
    "CREATE VIEW d.v AS SELECT k, n FROM d.t",
)
DRIFTS = {  # what somebody does behind the job's back, and the differences that it makes
    "type": ("ALTER TABLE d.t MODIFY COLUMN old UInt64", "different column d.t.old"),
    "default": ("ALTER TABLE d.t MODIFY COLUMN n UInt32 DEFAULT 2", "different column d.t.n"),
    "no default": ("ALTER TABLE d.t MODIFY COLUMN n REMOVE DEFAULT", "different column d.t.n"),
    "materialized expression": ("ALTER TABLE d.t MODIFY COLUMN m UInt32 MATERIALIZED n * 3", "different column d.t.m"),
    "kind of default": ("ALTER TABLE d.t MODIFY COLUMN m UInt32 DEFAULT n * 2", "different column d.t.m"),
    "nullable": ("ALTER TABLE d.t MODIFY COLUMN old Nullable(UInt32)", "different column d.t.old"),
    "low cardinality": ("ALTER TABLE d.replacing MODIFY COLUMN k LowCardinality(String)", "different column d.replacing.k"),
    "codec": ("ALTER TABLE d.t MODIFY COLUMN ts CODEC(ZSTD(3))", "different column d.t.ts"),
    "no codec": ("ALTER TABLE d.t MODIFY COLUMN ts REMOVE CODEC", "different column d.t.ts"),
    "new codec": ("ALTER TABLE d.t MODIFY COLUMN n CODEC(T64, LZ4)", "different column d.t.n"),
    "column that empties itself": ("ALTER TABLE d.t MODIFY COLUMN n UInt32 TTL ts + INTERVAL 1 DAY", "different column d.t.n"),
    "TTL of a column": ("ALTER TABLE d.t MODIFY COLUMN old UInt32 TTL ts + INTERVAL 1 DAY", "different column d.t.old"),
    "no TTL of a column": ("ALTER TABLE d.t MODIFY COLUMN old REMOVE TTL", "different column d.t.old"),
    "new column": ("ALTER TABLE d.t ADD COLUMN more String", "unexpected column d.t.more"),
    "lost column": ("ALTER TABLE d.t DROP COLUMN old", "missing column d.t.old"),
    "renamed column": ("ALTER TABLE d.t RENAME COLUMN old TO older", "missing column d.t.old; unexpected column d.t.older"),
    "TTL": ("ALTER TABLE d.t MODIFY TTL ts + INTERVAL 1 DAY", "different table d.t"),
    "no TTL": ("ALTER TABLE d.t REMOVE TTL", "different table d.t"),
    "TTL that only some rows obey": ("ALTER TABLE d.t MODIFY TTL ts + INTERVAL 30 DAY DELETE WHERE n > 1", "different table d.t"),
    "setting": ("ALTER TABLE d.t MODIFY SETTING merge_with_ttl_timeout = 60", "different table d.t"),
    "new setting": ("ALTER TABLE d.t MODIFY SETTING parts_to_throw_insert = 10", "different table d.t"),
    "no setting": ("ALTER TABLE d.t RESET SETTING merge_with_ttl_timeout", "different table d.t"),
    "longer sorting key": ("ALTER TABLE d.t ADD COLUMN z UInt8, MODIFY ORDER BY (k, ts, z)",
                           "different table d.t; unexpected column d.t.z"),
    "index expression": ("ALTER TABLE d.t DROP INDEX by_n, ADD INDEX by_n (n, ts) TYPE minmax", "different index d.t.by_n"),
    "index type": ("ALTER TABLE d.t DROP INDEX by_n, ADD INDEX by_n n TYPE set(10) GRANULARITY 1", "different index d.t.by_n"),
    "index granularity": ("ALTER TABLE d.t DROP INDEX by_n, ADD INDEX by_n n TYPE minmax GRANULARITY 4",
                          "different index d.t.by_n"),
    "lost index": ("ALTER TABLE d.t DROP INDEX by_n", "missing index d.t.by_n"),
    "new index": ("ALTER TABLE d.t ADD INDEX more k TYPE bloom_filter", "unexpected index d.t.more"),
    "projection query": ("ALTER TABLE d.t DROP PROJECTION sums; ALTER TABLE d.t ADD PROJECTION sums (SELECT k, max(n) GROUP BY k)",
                         "different projection d.t.sums"),
    "lost projection": ("ALTER TABLE d.t DROP PROJECTION sums", "missing projection d.t.sums"),
    "new projection": ("ALTER TABLE d.t ADD PROJECTION more (SELECT k, count() GROUP BY k)", "unexpected projection d.t.more"),
    "constraint": ("ALTER TABLE d.t DROP CONSTRAINT small, ADD CONSTRAINT small CHECK n < 10", "different check d.t.small"),
    "lost constraint": ("ALTER TABLE d.t DROP CONSTRAINT small", "missing check d.t.small"),
    "new constraint": ("ALTER TABLE d.t ADD CONSTRAINT more CHECK k != ''", "unexpected check d.t.more"),
    "constraint that is assumed": ("ALTER TABLE d.t DROP CONSTRAINT small, ADD CONSTRAINT small ASSUME n < 1000",
                                   "different check d.t.small"),
    "engine": ("DROP TABLE d.other SYNC; CREATE TABLE d.other (ts DateTime, k LowCardinality(String), n UInt32)"
               " ENGINE = ReplacingMergeTree ORDER BY ts", "different table d.other"),
    "parameter of the engine": ("DROP TABLE d.replacing SYNC; CREATE TABLE d.replacing (k String, v UInt32)"
                                " ENGINE = ReplacingMergeTree ORDER BY k", "different table d.replacing"),
    "sorting key": ("DROP TABLE d.other SYNC; CREATE TABLE d.other (ts DateTime, k LowCardinality(String), n UInt32)"
                    " ENGINE = MergeTree ORDER BY (k, ts)", "different table d.other"),
    "primary key": ("DROP TABLE d.other SYNC; CREATE TABLE d.other (ts DateTime, k LowCardinality(String), n UInt32)"
                    " ENGINE = MergeTree ORDER BY (ts, k) PRIMARY KEY ts", "different table d.other"),
    "partition": ("DROP TABLE d.other SYNC; CREATE TABLE d.other (ts DateTime, k LowCardinality(String), n UInt32)"
                  " ENGINE = MergeTree PARTITION BY toDate(ts) ORDER BY ts", "different table d.other"),
    "granularity": ("DROP TABLE d.other SYNC; CREATE TABLE d.other (ts DateTime, k LowCardinality(String), n UInt32)"
                    " ENGINE = MergeTree ORDER BY ts SETTINGS index_granularity = 64", "different table d.other"),
    "query of a materialized view": ("ALTER TABLE d.mv MODIFY QUERY SELECT ts, k, toUInt32(n + 1) AS n FROM d.source", "different view d.mv"),
    "source of a view": ("CREATE TABLE d.second AS d.source; ALTER TABLE d.mv MODIFY QUERY SELECT ts, k, n FROM d.second",
                         "different view d.mv"),
    "target": ("DROP VIEW d.mv SYNC; CREATE MATERIALIZED VIEW d.mv TO d.other AS SELECT ts, k, n FROM d.source",
               "different view d.mv"),
    "rows of its own": ("DROP VIEW d.mv SYNC; CREATE MATERIALIZED VIEW d.mv ENGINE = MergeTree ORDER BY ts AS SELECT ts, k, n"
                        " FROM d.source", "different view d.mv"),
    "no refresh": ("DROP VIEW d.fresh SYNC; CREATE MATERIALIZED VIEW d.fresh TO d.other AS SELECT ts, k, n FROM d.t",
                   "different view d.fresh"),
    "refresh": ("ALTER TABLE d.fresh MODIFY REFRESH EVERY 2 HOUR APPEND", "different view d.fresh"),
    "refresh that replaces": ("DROP VIEW d.fresh SYNC; CREATE MATERIALIZED VIEW d.fresh REFRESH EVERY 1 HOUR TO d.other AS SELECT"
                              " ts, k, n FROM d.t", "different view d.fresh"),
    "query of a view": ("CREATE OR REPLACE VIEW d.v AS SELECT k, n FROM d.t WHERE n > 1", "different view d.v"),
    "columns of a view": ("CREATE OR REPLACE VIEW d.v AS SELECT k FROM d.t", "different view d.v; missing output d.v.n"),
    "view that became a table": ("DROP VIEW d.v SYNC; CREATE TABLE d.v (k String, n UInt32) ENGINE = Memory", "different view d.v"),
    "lost view": ("DROP VIEW d.v SYNC", "missing view d.v"),
    "lost materialized view": ("DROP VIEW d.mv SYNC", "missing view d.mv"),
    "lost table": ("DROP TABLE d.other SYNC", "missing table d.other"),
    "detached table": ("DETACH TABLE d.other", "missing table d.other"),
    "renamed table": ("RENAME TABLE d.other TO d.another", "missing table d.other"),
    "exchanged tables": ("CREATE TABLE d.empty (a UInt8) ENGINE = Memory; EXCHANGE TABLES d.empty AND d.replacing",
                         "different table d.replacing; missing column d.replacing.k; missing column d.replacing.v;"
                         " unexpected column d.replacing.a"),
    "lost database": ("DROP DATABASE d SYNC", "missing table d.other; missing table d.replacing; missing table d.source;"
                      " missing table d.t; missing view d.fresh; missing view d.mv; missing view d.v"),
}  # fmt: skip


def live(server: ClickHouseServer) -> Catalog:
    return catalogs.read_catalog(server.query, {"d"})


def test_each_drift_is_seen_as_what_it_is(fresh_clickhouse: ClickHouseServer) -> None:
    """Nothing that somebody changes goes unseen, and nothing else is reported beside it."""
    server, wrong = fresh_clickhouse, {}
    tried = [*DRIFTS.items()][:: 1 if os.environ.get("MIGRATE_TEST_FULL") else 3]
    for name, (script, expected) in tried:
        server.clean()
        for sql in SCHEMA:
            server.query(sql)
        wanted = live(server)
        assert [*differences(wanted, live(server), {})] == []
        for sql in script.split("; "):
            server.query(sql)
        found = differences(wanted, catalogs.same_queries(server.query, wanted, live(server)), {})
        shown = {f"{kind} {item}" for kind, item, _, _ in found}
        if shown != {*expected.split("; ")}:
            wrong[name] = shown
    FIGURES.append(f"damage on clickhouse: {len(tried)} of {len(DRIFTS)} kinds tried, {len(tried) - len(wrong)} found and named")
    assert wrong == {}


def test_a_table_of_any_name_is_read(fresh_clickhouse: ClickHouseServer) -> None:
    """What is hidden in a table's declaration is found behind names that look like its grammar."""
    fresh_clickhouse.query("CREATE DATABASE `d'x`")
    fresh_clickhouse.query("CREATE TABLE `d'x`.`a (\n) ENGINE = TTL CONSTRAINT` (`b TTL (` DateTime, c String DEFAULT ' TTL (),'"
                           " TTL `b TTL (` + INTERVAL 1 DAY, CONSTRAINT `x, y` CHECK c != '),') ENGINE = MergeTree ORDER BY ()")
    found = catalogs.read_catalog(fresh_clickhouse.query, {"d'x"})

    assert {(item.kind, item.name): attributes.get("TTL") or attributes.get("clause") for item, attributes in found.items()} == {
        ("table", ""): None, ("column", "b TTL ("): None, ("column", "c"): "`b TTL (` + toIntervalDay(1)",
        ("check", "x, y"): "CHECK c != '),'"}
