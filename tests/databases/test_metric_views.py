"""The four metric tables hold the right numbers, however the samples arrive, and no view ever stops the collector.

What is right is computed from the inserted points by tests/scrapes.py, which knows nothing of the views.
"""

import itertools
import math
import re
import runpy
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from migrator.statements import split
from tests.scrapes import MINUTE, PHASES, Point, expected, insert, moment, scrape
from tests.servers.clickhouse import ClickHouseError, ClickHouseServer

STEPS = Path(__file__).parents[2] / "sql"
# The columns that tell a row of each table from the others.
KEYS = {"NodeMetrics": (0, 1, 3), "PodMetrics": (0, 1, 3, 4, 5), "GPUMetrics": (0, 1, 3, 4),
        "ClusterMetrics": (0, 1, 4, 6)}
VIEWS = ("derive_nodes", "derive_pods", "derive_gpus", "derive_points")
RECENT = int(time.time() * 1000) // MINUTE * MINUTE - 90 * MINUTE

_SOURCE = """CREATE TABLE metrics.otel_metrics_gauge (
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), {service} MetricName {name} CODEC(ZSTD(1)),
    Attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), StartTimeUnix {time} CODEC(Delta, ZSTD(1)),
    TimeUnix {time} CODEC(Delta, ZSTD(1)), Value Float64 CODEC(ZSTD(1)), Flags UInt32 CODEC(ZSTD(1))
) ENGINE = MergeTree PARTITION BY toDate(TimeUnix) ORDER BY ({order}) SETTINGS ttl_only_drop_parts = 1"""
_SERVICE = "ServiceName LowCardinality(String) CODEC(ZSTD(1)),"
GENERATIONS = {  # the forms in which collectors have made the source table, with what differs between them
    "A": _SOURCE.format(service="", name="String", time="DateTime64(9)",
                        order="MetricName, Attributes, toUnixTimestamp64Nano(TimeUnix)"),
    "B": "",  # the one that step 0001 makes
    "C": _SOURCE.format(service=_SERVICE, name="LowCardinality(String)", time="DateTime",
                        order="ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix"),
}
Rows = list[tuple[Any, ...]]


def statements(step: str) -> Iterator[str]:
    """The statements of one shipped step; of a Python step, its definitions."""
    path = next(STEPS.glob(f"{step}_*.clickhouse.[ps]*"))
    text = path.read_text(encoding="utf-8") if path.suffix == ".sql" else runpy.run_path(str(path))["DEFINITIONS"]
    yield from (statement.text for statement in split(text, "clickhouse"))


def create(server: ClickHouseServer, generation: str = "B") -> ClickHouseServer:
    """The schema of steps 0001 to 0004 beside a source table of this generation."""
    server.clean()
    server.query("CREATE DATABASE metrics")
    if GENERATIONS[generation]:
        server.query(GENERATIONS[generation])
    for step in ("0001", "0002", "0003", "0004"):
        for statement in statements(step):
            server.query(statement)
    return server


@pytest.fixture(scope="module")
def metrics_schema(clickhouse: ClickHouseServer) -> ClickHouseServer:
    """The schema on the session's server; each test of this module uses clusters of its own."""
    return create(clickhouse.start())


def settle(server: ClickHouseServer) -> None:
    """Have the views take in all that has arrived, without waiting for their next turn."""
    for view in VIEWS:
        for _ in range(100):
            server.query(f"SYSTEM REFRESH VIEW metrics.{view}")
            server.query(f"SYSTEM WAIT VIEW metrics.{view}")
            if not pending(server, view):
                break
        else:
            raise AssertionError(f"{view} does not take in {pending(server, view)}")


def pending(server: ClickHouseServer, view: str) -> Rows:
    """The arrivals that a view has not yet taken in."""
    return server.query(
        "SELECT arrived, minute, cluster_id, count() AS samples FROM metrics.metric_samples GROUP BY ALL"
        f" EXCEPT SELECT arrived, minute, cluster_id, samples FROM metrics.{view.replace('derive', 'derived')}")


def rows(server: ClickHouseServer, table: str, cluster: str, final: str = "FINAL") -> Rows:
    """A cluster's rows in one of the four tables, comparable with the model's."""
    found = server.query(f"SELECT * FROM metrics.{table} {final} WHERE cluster_id = '{cluster}' ORDER BY ALL")
    return sorted(tuple(
        tuple(sorted(value.items())) if isinstance(value, dict) else re.sub(r"(:\d\d)\.000$", r"\1", value)
        if isinstance(value, str) else value for value in row) for row in found)


def verify(server: ClickHouseServer, points: Iterable[Point], cluster: str) -> None:
    """Every table holds exactly the rows that the model derives from these points."""
    for table, wanted in expected(points).items():
        found, key = rows(server, table, cluster), KEYS[table]
        assert sorted(_pick(row, key) for row in found) == sorted(_pick(row, key) for row in wanted), table
        for one, other in zip(sorted(found, key=lambda row: _pick(row, key)),
                              sorted(wanted, key=lambda row: _pick(row, key)), strict=True):
            assert all(map(_same, one, other)), f"{table}: found {one}, expected {other}"


def _pick(row: Sequence[Any], columns: Iterable[int]) -> tuple[Any, ...]:
    return tuple(row[column] for column in columns)


def _same(one: Any, other: Any) -> bool:
    """Equal; of numbers, to the last digits, which the order of additions in Python and C++ may change."""
    return one == other or (isinstance(other, int | float) and math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-9))


def cluster() -> str:
    return f"cluster-{secrets.token_hex(4)}"


# The promise, in real time.

def until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until the condition held; fails if it does not in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_scrape_in_one_insert_is_in_all_four_tables_within_ten_seconds(
        fresh_clickhouse: ClickHouseServer, generation: str) -> None:
    """Nobody asks a view to refresh; two scrapes in one INSERT, so that there are rates."""
    server = create(fresh_clickhouse, generation)
    points = scrape(RECENT + 10_000, nodes=3) + scrape(RECENT + 40_000, nodes=3)
    server.query(insert(points))
    until(lambda: all(len(rows(server, table, "c1")) == len(wanted) for table, wanted in expected(points).items()), 10)
    verify(server, points, "c1")
