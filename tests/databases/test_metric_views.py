"""The four metric tables hold the right numbers, however the samples arrive, and no view ever stops the collector.

What is right is computed from the inserted points by tests/scrapes.py, which knows nothing of the views.
"""

import itertools
import math
import os
import random
import re
import runpy
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from migrator.statements import split
from tests.conftest import FIGURES
from tests.rights import EXACT
from tests.scrapes import COLUMNS, MINUTE, Point, expected, insert, moment, scrape
from tests.servers.clickhouse import ClickHouseError, ClickHouseServer, User

STEPS = Path(__file__).parents[2] / "sql"
# The columns that tell a row of each table from the others.
KEYS = {"NodeMetrics": (0, 1, 3), "PodMetrics": (0, 1, 3, 4, 5), "GPUMetrics": (0, 1, 3, 4),
        "ClusterMetrics": (0, 1, 4, 6)}
VIEWS = ("note_nodes", "note_pods", "note_gpus", "note_points")
DAY = 1440 * MINUTE
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


def create(server: ClickHouseServer, generation: str = "B", every: str = "3 SECOND") -> ClickHouseServer:
    """The schema of steps 0001 to 0004 beside a source table of this generation."""
    server.clean()
    server.query("CREATE DATABASE metrics")
    if GENERATIONS[generation]:
        server.query(GENERATIONS[generation])
    for step in ("0001", "0002", "0003", "0004"):
        for statement in statements(step):
            server.query(statement.replace("REFRESH EVERY 3 SECOND", f"REFRESH EVERY {every}"), user=server.user)
    return server


@pytest.fixture(scope="module")
def metrics_schema() -> Iterator[ClickHouseServer]:
    """The schema on a server of its own, where views refresh only when settle() tells them to.

    Each test of this module uses clusters of its own.
    """
    with ClickHouseServer(grants=EXACT) as server:
        yield create(server, every="1 YEAR")


def settle(server: ClickHouseServer) -> None:
    """Have the views take in all that has arrived."""
    for _ in range(100):
        # A view looks for its last success, which the server notes in whole seconds.
        until(lambda: server.query("SELECT count() FROM system.view_refreshes WHERE status = 'Running'"
                                   " OR last_success_time >= toStartOfSecond(now64(3))") == [(0,)], 60)
        for word in ("REFRESH", "WAIT"):
            for view in VIEWS:
                server.query(f"SYSTEM {word} VIEW metrics.{view}")
        if not any(pending(server, view) for view in VIEWS):
            return
    raise AssertionError([pending(server, view) for view in VIEWS])


def merges(server: ClickHouseServer, word: str) -> None:
    """STOP or START the merges of the four tables."""
    for table in KEYS:
        server.query(f"SYSTEM {word} MERGES metrics.{table}")


def pending(server: ClickHouseServer, view: str) -> Rows:
    """The arrivals that a view has not yet taken in."""
    return server.query(
        "SELECT arrived, minute, cluster_id, count() AS samples FROM metrics.metric_samples GROUP BY ALL"
        f" EXCEPT SELECT arrived, minute, cluster_id, samples FROM metrics.{view.replace('note', 'noted')}")


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


def moved(points: Iterable[Point], to: str) -> list[Point]:
    """The same points as another cluster's."""
    return [replace(point, cluster=to) for point in points]


def send(server: ClickHouseServer, batches: Iterable[Sequence[Point]], writers: int = 1) -> None:
    """Insert the batches, each in one INSERT, by this many writers at once."""
    work, failures = list(batches)[::-1], []

    def write() -> None:
        while work and not failures:
            try:
                server.query(insert(work.pop()))
            except (ClickHouseError, IndexError) as error:
                failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait, without helping, until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def complete(server: ClickHouseServer, points: Iterable[Point], cluster: str) -> Callable[[], bool]:
    """Whether the tables hold what they should; says nothing of why not."""
    def check() -> bool:
        try:
            verify(server, points, cluster)
        except AssertionError:
            return False
        return True
    return check


# In real time, without asking any view to hurry.

@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_scrape_in_one_insert_is_in_all_four_tables_within_ten_seconds(
        fresh_clickhouse: ClickHouseServer, generation: str) -> None:
    """In each form of the source table; two scrapes in one INSERT, so that there are rates."""
    server = create(fresh_clickhouse, generation)
    points = scrape(RECENT + 10_000, nodes=3) + scrape(RECENT + 40_000, nodes=3)
    server.query(insert(points))
    until(lambda: all(len(rows(server, table, "c1")) == len(wanted) for table, wanted in expected(points).items()), 10)
    verify(server, points, "c1")


def test_a_scrape_in_shuffled_pieces_from_eight_writers_is_right_within_a_minute(
        fresh_clickhouse: ClickHouseServer) -> None:
    """Copies of every fifth point among them; the rows are those of one INSERT in order, to the last bit."""
    server = create(fresh_clickhouse)
    whole, pieces = cluster(), cluster()
    points = [point for minute in range(3) for half in (10_000, 40_000)
              for point in scrape(RECENT + minute * MINUTE + half, nodes=4, cpus=4)]
    server.query(insert(moved(points, whole)))
    parts = moved(points + points[::5], pieces)
    random.Random(3).shuffle(parts)
    send(server, [parts[start:start + 97] for start in range(0, len(parts), 97)], writers=8)
    until(complete(server, moved(points, pieces), pieces), 60)
    until(complete(server, moved(points, whole), whole), 60)
    for table in KEYS:
        assert replaced(rows(server, table, pieces), whole) == rows(server, table, whole)


def replaced(found: Rows, cluster: str) -> Rows:
    return [(row[0], cluster, *row[2:]) for row in found]


# Any arrival: hypothesis chooses the world, the scrapes, and how they come in.

@st.composite
def worlds(draw: st.DrawFn) -> list[Point]:
    """The points of a few minutes of one cluster: random counters that restart, metrics that are missing, gaps."""
    luck = draw(st.randoms(use_true_random=False))
    size = {"nodes": draw(st.integers(1, 2)), "cpus": draw(st.sampled_from([1, 2, 3, 64])),
            "pods": draw(st.integers(0, 2)), "containers": draw(st.integers(1, 5)), "gpus": draw(st.integers(0, 3))}
    interval = draw(st.sampled_from([30_000, 60_000]))
    start = RECENT - draw(st.integers(0, 3)) * 86_400_000 + draw(st.integers(0, 59)) * 1000
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 7, 12]), min_size=1, max_size=5))
    missing = draw(st.sets(st.sampled_from(sorted({point.metric for point in scrape(0)})), max_size=3))
    counters: dict[Point, float] = {}
    points = []
    for step in itertools.accumulate(steps):
        for point in scrape(start + step * interval, **size):
            if point.metric in missing or luck.random() < 0.02:
                continue
            if point.metric.endswith("_total"):
                series = replace(point, at=0, value=0)
                restarted = luck.random() < 0.05
                counters[series] = 0 if restarted else counters.get(series, luck.randrange(10**6))
                counters[series] += luck.choice([0, 1, luck.random() * 100])
                point = replace(point, value=counters[series])
            elif point.metric != "kube_pod_status_phase":
                point = replace(point, value=luck.choice([0, point.value, point.value * luck.random()]))
            elif luck.random() < 0.3:
                point = replace(point, value=1 - point.value)
            points.append(point)
    return points


@st.composite
def arrivals(draw: st.DrawFn, size: int) -> list[list[int]]:
    """Batches of indexes into `size` points: any split, any order, copies, each point at least once."""
    luck = draw(st.randoms(use_true_random=False))
    order = list(range(size)) + [luck.randrange(size) for _ in range(draw(st.integers(0, 40)) if size else 0)]
    if draw(st.booleans()):
        luck.shuffle(order)
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=6)))
    return [batch for start, end in itertools.pairwise([0, *cuts, len(order)]) if (batch := order[start:end])]


EXAMPLES = int(os.environ.get("MIGRATE_TEST_EXAMPLES", "12"))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 12, phases=[Phase.explicit, Phase.generate],
          suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_rows_do_not_depend_on_how_the_samples_arrive(metrics_schema: ClickHouseServer, data: st.DataObject) -> None:
    """Whole and in order, or split, shuffled, copied, late and from several writers: the same rows, the model's."""
    points = data.draw(worlds())
    whole, pieces = cluster(), cluster()
    batches = [moved((points[index] for index in batch), pieces) for batch in data.draw(arrivals(len(points)))]
    early = data.draw(st.integers(0, len(batches)))
    if points:
        metrics_schema.query(insert(moved(points, whole)))
    send(metrics_schema, batches[:early])
    settle(metrics_schema)  # so that rows are derived from a part, and have to be corrected
    send(metrics_schema, batches[early:], writers=data.draw(st.integers(1, 8)))
    settle(metrics_schema)
    verify(metrics_schema, moved(points, whole), whole)
    for table in KEYS:
        found = rows(metrics_schema, table, whole)
        assert rows(metrics_schema, table, whole, final="") == found, "a row was written twice"
        assert replaced(rows(metrics_schema, table, pieces), whole) == found
        assert not [value for row in found for value in row if isinstance(value, float) and (value != value or value < 0)]


# The source table.

@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_source_table_of_any_generation_is_accepted_as_it_is(fresh_clickhouse: ClickHouseServer, generation: str) -> None:
    """Step 0001 changes nothing about a table that a collector made, and finds nothing wrong with it."""
    server = create(fresh_clickhouse, generation)
    before = server.query("SHOW CREATE TABLE metrics.otel_metrics_gauge")
    for statement in statements("0001"):
        server.query(statement)
    assert server.query("SHOW CREATE TABLE metrics.otel_metrics_gauge") == before
    assert faults(server) == []


@pytest.mark.parametrize(("column", "type_", "fault"), [
    ("Attributes", "JSON", "metrics.otel_metrics_gauge.Attributes is of type JSON, but the views need a map of strings:"
                           " set `json: false` in the exporter"),
    ("Value", "Float32", "metrics.otel_metrics_gauge.Value is of type Float32, but the views need Float64"),
    ("TimeUnix", "UInt64", "metrics.otel_metrics_gauge.TimeUnix is of type UInt64, but the views need a time"),
    ("MetricName", "", "metrics.otel_metrics_gauge has no column MetricName, but the views need a string"),
])
def test_a_source_table_that_the_views_cannot_read_is_named(
        fresh_clickhouse: ClickHouseServer, column: str, type_: str, fault: str) -> None:
    """A type that does not fit, the exporter's JSON variant, a missing column: one line each."""
    columns = {"ResourceAttributes": "Map(LowCardinality(String), String)", "MetricName": "LowCardinality(String)",
               "Attributes": "Map(String, String)", "TimeUnix": "DateTime64(9, 'UTC')", "Value": "Float64"} | {column: type_}
    fresh_clickhouse.query("CREATE DATABASE metrics")
    fresh_clickhouse.query("CREATE TABLE metrics.otel_metrics_gauge (other UInt8, "
                           + ", ".join(f"{name} {kind}" for name, kind in columns.items() if kind) + ") ORDER BY ()")
    assert faults(fresh_clickhouse) == [fault]


def test_a_source_that_nobody_can_insert_into_is_named(fresh_clickhouse: ClickHouseServer) -> None:
    """A view of that name."""
    fresh_clickhouse.query("CREATE DATABASE metrics")
    fresh_clickhouse.query("CREATE VIEW metrics.otel_metrics_gauge AS SELECT map('', '') AS ResourceAttributes, '' AS MetricName,"
                           " map('', '') AS Attributes, now() AS TimeUnix, 1. AS Value")
    assert faults(fresh_clickhouse) == ["metrics.otel_metrics_gauge is a View, but the views need a table that rows are inserted into"]


def faults(server: ClickHouseServer) -> list[str]:
    """What step 0001's own verification says."""
    text = next(STEPS.glob("0001_*.verify.sql")).read_text(encoding="utf-8")
    return [row[0] for statement in split(text, "clickhouse") for row in server.query(statement.text)]


# One rule at a time, with the numbers worked out by hand.

def point(cluster: str, metric: str, at: int, value: float, **labels: str) -> Point:
    return Point(cluster, metric, tuple(sorted(labels.items())), at, value)


def node(server: ClickHouseServer, cluster: str, *columns: str) -> Rows:
    """These columns of a cluster's NodeMetrics, in the order of nodes and minutes."""
    return server.query(f"SELECT {', '.join(columns)} FROM metrics.NodeMetrics FINAL WHERE cluster_id = '{cluster}'"
                        " ORDER BY node_name, ts")


def test_a_nodes_figures_are_these(metrics_schema: ClickHouseServer) -> None:
    """CPU from rates, memory and disk used and in percent, load averaged, network over interfaces; no rate at first."""
    name, host = cluster(), {"instance": "10.0.0.7:9100"}
    points = []
    for at, grown in ((RECENT + 5_000, 0.0), (RECENT + 35_000, 30.0), (RECENT + 65_000, 60.0)):
        for cpu in "01":
            points += [point(name, "node_cpu_seconds_total", at, 500 + grown * share, cpu=cpu, mode=mode, **host)
                       for mode, share in (("idle", 0.75), ("user", 0.2), ("system", 0.05))]
        points += [
            point(name, "node_memory_MemTotal_bytes", at, 8e9, **host),
            point(name, "node_memory_MemAvailable_bytes", at, 2e9, **host),
            point(name, "node_load1", at, 1 + grown / 30, **host),
            *(point(name, f"node_filesystem_{what}_bytes", at, size, mountpoint=place, fstype=fstype, device=device, **host)
              for place, fstype, device, total, avail in (("/", "ext4", "a", 100e9, 40e9), ("/data", "xfs", "b", 300e9, 60e9),
                                                          ("/", "ext4", "again", 100e9, 40e9), ("/run", "tmpfs", "t", 9e9, 0))
              for what, size in (("size", total), ("avail", avail))),
            *(point(name, "container_network_receive_bytes_total", at, 7000 + grown * rate, id=group, interface=interface,
                    instance="10.0.0.7:10250")
              for group, interface, rate in (("/", "eth0", 5000), ("/pods/a", "eth0", 100), ("/pods/a", "lo", 7),
                                             ("/pods/ab", "eth0", 20), ("/pods", "eth0", 127))),
        ]
    metrics_schema.query(insert(points))
    settle(metrics_schema)
    used = 60e9 + 240e9
    same = (2, 25.0, 8e9, 6e9, 75.0, 400e9, used, used / 400e9 * 100)
    assert node(metrics_schema, name, "ts", "node_name", "cpu_cores", "cpu_usage_percent", "memory_total_bytes",
                "memory_used_bytes", "memory_usage_percent", "disk_total_bytes", "disk_used_bytes", "disk_usage_percent",
                "load_1", "load_5", "network_receive_bytes_per_sec", "network_transmit_bytes_per_sec") == [
        (moment(RECENT) + ".000", "10.0.0.7", *same, 1.5, 0, 127, 0),
        (moment(RECENT + MINUTE) + ".000", "10.0.0.7", *same, 3, 0, 127, 0)]
    verify(metrics_schema, points, name)


@pytest.mark.parametrize(("values", "rates"), [
    ({0: 100}, [0]),  # the very first sample has none before it
    ({0: 100, 60: 160, 120: 280}, [0, 1, 2]),  # one sample a minute
    ({0: 100, 30: 130, 60: 190, 90: 190}, [1, 1]),  # two: 60 in the minute's 60 s
    ({0: 100, 60: 40, 120: 100}, [0, 0, 1]),  # a restart counts as no growth, never as a negative one
    ({0: 100, 300: 400}, [0, 1]),  # 300 s apart there is still a rate
    ({0: 100, 301: 400}, [0, 0]),  # further apart there is none
], ids=["first", "one-a-minute", "two-a-minute", "restart", "gap", "too-far"])
def test_a_rate_is_growth_per_second_since_the_sample_before(
        metrics_schema: ClickHouseServer, values: dict[int, float], rates: list[float]) -> None:
    """Over consecutive samples of one series, across minutes; it belongs to the minute of the later sample."""
    name = cluster()
    metrics_schema.query(insert(
        point(name, "container_network_transmit_bytes_total", RECENT + second * 1000, value, node="n", id="/a")
        for second, value in values.items()))
    settle(metrics_schema)
    assert node(metrics_schema, name, "network_transmit_bytes_per_sec") == [(rate,) for rate in rates]


def test_a_late_sample_corrects_the_minutes_after_it(metrics_schema: ClickHouseServer) -> None:
    """Minutes 0 and 2 first, minute 1 ten minutes of work later: minute 2's rate is then the growth since minute 1."""
    name = cluster()
    early, late, last = (point(name, "container_network_receive_bytes_total", RECENT + minute * MINUTE, value, node="n")
                         for minute, value in ((0, 0), (1, 600), (2, 720)))
    metrics_schema.query(insert([last]))
    settle(metrics_schema)
    assert node(metrics_schema, name, "network_receive_bytes_per_sec") == [(0,)]
    metrics_schema.query(insert([early]))
    settle(metrics_schema)
    assert node(metrics_schema, name, "network_receive_bytes_per_sec") == [(0,), (6,)]
    metrics_schema.query(insert([late]))
    settle(metrics_schema)
    assert node(metrics_schema, name, "network_receive_bytes_per_sec") == [(0,), (10,), (2,)]


def test_what_is_sent_again_adds_no_row(metrics_schema: ClickHouseServer) -> None:
    """A retried batch, and a later one that changes one node: readers without FINAL see one new row, that node's."""
    name = cluster()
    points = moved(scrape(RECENT, nodes=3) + scrape(RECENT + MINUTE, nodes=3), name)
    metrics_schema.query(insert(points))
    settle(metrics_schema)
    before = {table: rows(metrics_schema, table, name, final="") for table in KEYS}
    time.sleep(1)  # arrivals are told apart by the second: within one, the same rows are derived once more
    metrics_schema.query(insert(points[::2]))
    settle(metrics_schema)
    assert {table: rows(metrics_schema, table, name, final="") for table in KEYS} == before
    late = point(name, "node_load1", RECENT + 30_000, 12, instance="node-1:9100", job="node-exporter")
    merges(metrics_schema, "STOP")  # one would take the older row away
    metrics_schema.query(insert([late]))
    settle(metrics_schema)
    after = {table: len(rows(metrics_schema, table, name, final="")) for table in KEYS}
    merges(metrics_schema, "START")
    for table in KEYS:
        added = after[table] - len(before[table])
        assert added == (table in ("NodeMetrics", "ClusterMetrics")), table
    verify(metrics_schema, [*points, late], name)


def test_a_pod_has_one_row_for_each_container_with_the_pods_phase(metrics_schema: ClickHouseServer) -> None:
    """cpu_usage in cores; a phase without a container makes no row, a scraper's own container label no container."""
    name, pod = cluster(), {"namespace": "shop", "pod": "web-1"}
    points = [point(name, "kube_pod_status_phase", RECENT, value, phase=phase, container="kube-state-metrics", **pod)
              for phase, value in (("Running", 1), ("Pending", 0))]
    points.append(point(name, "kube_pod_status_phase", RECENT, 1, phase="Pending", namespace="shop", pod="new"))
    for container, cores, restarts in (("app", 0.5, 3e9), ("side", 0.25, 2)):
        one = {"container": container, **pod}
        points += [point(name, "container_cpu_usage_seconds_total", RECENT + second * 1000, 5000 + second * cores, **one)
                   for second in (0, 30)]
        points += [point(name, "container_memory_working_set_bytes", RECENT + second * 1000, 1000 + second, **one)
                   for second in (0, 30)]
        points += [point(name, "kube_pod_container_status_restarts_total", RECENT, restarts, **one),
                   point(name, "kube_pod_container_resource_requests", RECENT, 0.1, resource="cpu", **one),
                   point(name, "kube_pod_container_resource_limits", RECENT, 2**30, resource="memory", **one)]
    points.append(point(name, "container_memory_working_set_bytes", RECENT, 9e9, container="", **pod))  # the pod's sum
    metrics_schema.query(insert(points))
    settle(metrics_schema)
    assert rows(metrics_schema, "PodMetrics", name) == [
        (moment(RECENT), name, "Cluster One", "shop", "web-1", container, 0.1, 0, cores, 0, 2**30, 1015, restarts, "Running")
        for container, cores, restarts in (("app", 0.5, 2147483647), ("side", 0.25, 2))]


def test_a_gpu_has_one_row_whatever_its_exporter_calls_things(metrics_schema: ClickHouseServer) -> None:
    """Stock DCGM labels, old ones and relabelled ones; the instances of a split GPU add up, a moving pod does not."""
    name = cluster()

    def gpu(at: int = RECENT, used: float = 100, free: float = 300, **labels: str) -> list[Point]:
        return [point(name, f"DCGM_FI_DEV_{metric}", at, value, **labels) for metric, value in (
            ("GPU_UTIL", 50), ("FB_USED", used), ("FB_FREE", free), ("GPU_TEMP", 60), ("POWER_USAGE", 200.5))]

    points = [*gpu(node="a", gpu="0", gpu_model="A100", modelName="other", hostname="other"),
              *gpu(hostname="b", gpu="1", modelName="H100", UUID="u1"), *gpu(Hostname="c", device="nvidia7", UUID="u2"),
              *gpu(node="d", gpu="0", UUID="u3", GPU_I_ID="1"), *gpu(node="d", gpu="0", UUID="u3", GPU_I_ID="2"),
              *gpu(node="e", gpu="0", UUID="u4", pod="old"), *gpu(RECENT + 30_000, node="e", gpu="0", UUID="u4", pod="new"),
              *gpu(instance="f:9400", gpu="x"), point(name, "DCGM_FI_DEV_FB_USED", RECENT, 100, node="g", gpu="0")]
    metrics_schema.query(insert(points))
    settle(metrics_schema)
    mib = 1048576
    measured = (50, 100 * mib, 400 * mib, 60, 200.5)
    assert [row[3:] for row in rows(metrics_schema, "GPUMetrics", name)] == [
        ("a", 0, "A100", *measured), ("b", 1, "H100", *measured), ("c", 7, "", *measured),
        ("d", 0, "", 50, 200 * mib, 800 * mib, 60, 200.5), ("e", 0, "", *measured), ("f", 0, "", *measured),
        ("g", 0, "", 0, 100 * mib, 0, 0, 0)]
    verify(metrics_schema, points, name)


def test_a_cluster_keeps_every_point_with_its_labels(metrics_schema: ClickHouseServer) -> None:
    """Series of one metric and time stay apart; the same labels in another order are the same series; milliseconds stay."""
    name = cluster()
    points = [point(name, "anything", RECENT + 123, value, mode=mode, cpu="0") for mode, value in (("idle", 1), ("user", -2.5))]
    metrics_schema.query(insert(points))
    values = ", ".join(f"({{'cluster_id': '{name}', 'cluster_name': 'Cluster One', 'cluster_platform': 'kubernetes'}},"
                       f" 'anything', {labels}, '{moment(RECENT + 123)}', 1)"
                       for labels in ("{'cpu': '0', 'mode': 'idle'}", "{'mode': 'idle', 'cpu': '0'}"))
    metrics_schema.query(f"INSERT INTO metrics.otel_metrics_gauge {COLUMNS} VALUES {values}")
    settle(metrics_schema)
    verify(metrics_schema, points, name)
    assert len(rows(metrics_schema, "ClusterMetrics", name, final="")) == 2


def test_what_is_no_number_or_has_no_place_leaves_no_row(metrics_schema: ClickHouseServer) -> None:
    """NaN, infinity, 1970, the year 2200, no cluster, no node, no pod: nothing; and a missing metric is 0."""
    name = cluster()
    values = []
    for identity, value, at in ((name, "nan", moment(RECENT)), (name, "inf", moment(RECENT)), (name, "-inf", moment(RECENT)),
                                (name, "1", "1970-01-01 00:00:00"), (name, "1", "2200-01-01 00:00:00"), ("", "1", moment(RECENT))):
        values += [f"({{'cluster_id': '{identity}'}}, '{metric}', {{'node': 'n', 'pod': 'p', 'container': 'c', 'gpu': '0'}}, '{at}', {value})"
                   for metric in sorted({point.metric for point in scrape(0)})]
    metrics_schema.query(f"INSERT INTO metrics.otel_metrics_gauge {COLUMNS} VALUES {', '.join(values)}")
    metrics_schema.query(f"INSERT INTO metrics.otel_metrics_gauge {COLUMNS} VALUES ({{}}, 'node_load1', {{'node': 'n'}}, now(), 1)")
    lost = [point(name, metric, RECENT, 1) for metric in ("node_load1", "DCGM_FI_DEV_GPU_UTIL", "container_cpu_usage_seconds_total")]
    metrics_schema.query(insert([*lost, point(name, "node_load5", RECENT, 2.5, node="n")]))
    settle(metrics_schema)
    assert rows(metrics_schema, "NodeMetrics", name) == [(moment(RECENT), name, "Cluster One", "n", *[0] * 9, 2.5, 0, 0, 0)]
    assert rows(metrics_schema, "PodMetrics", name) == rows(metrics_schema, "GPUMetrics", name) == []
    assert len(rows(metrics_schema, "ClusterMetrics", name)) == 4
    for table in KEYS:
        assert metrics_schema.query(f"SELECT count() FROM metrics.{table} WHERE ts < '2000-01-01' OR cluster_id = ''") == [(0,)]


# The collector never notices the views, and nothing is lost when one fails.

def step(number: str = "0004") -> dict[str, Any]:
    """The functions of a Python step."""
    return runpy.run_path(str(next(STEPS.glob(f"{number}_*.clickhouse.py"))))


def run(server: ClickHouseServer, backfill_days: float = 7) -> Any:
    """What the job gives to a step, as far as step 0004 asks for it; the schema is there already."""
    query = partial(server.query, user=server.user)
    session = SimpleNamespace(query=query, execute=query, changes=lambda definitions: [],
                              converge=lambda definitions: None, progress=lambda **figures: None)
    return SimpleNamespace(clickhouse=session, settings=SimpleNamespace(backfill_days=backfill_days))


BROKEN = {
    "throws": "SELECT now64(3) AS ts, throwIf(1, 'broken on purpose')::String AS cluster_id FROM metrics.noted_nodes",
    "slow": f"SELECT now64(3) AS ts, toString({' + '.join(f'sleepEachRow(1.{n})' for n in range(10, 50))}) AS cluster_id"
            " FROM metrics.noted_nodes WHERE cluster_id = ''",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_view_stops_neither_the_collector_nor_the_other_views(fresh_clickhouse: ClickHouseServer, broken: str) -> None:
    """Inserts go on at their speed, verification names the view, and once repaired it derives what had to wait."""
    server, functions = create(fresh_clickhouse), step()
    query = server.query("SELECT as_select FROM system.tables WHERE name = 'mv_populate_node_metrics'")[0][0]
    server.query(f"ALTER TABLE metrics.mv_populate_node_metrics MODIFY QUERY {BROKEN[broken]}")
    points = scrape(RECENT)
    began = time.monotonic()
    server.query(insert(points))
    assert time.monotonic() - began < 2
    until(lambda: len(rows(server, "PodMetrics", "c1")) == 4 and len(rows(server, "GPUMetrics", "c1")) == 1, 30)
    assert rows(server, "NodeMetrics", "c1") == []
    if broken == "throws":
        until(lambda: any(re.search("note_nodes fails.*broken on purpose", fault) for fault in functions["verify"](run(server))), 30)
    server.query(f"ALTER TABLE metrics.mv_populate_node_metrics MODIFY QUERY {query}")
    server.query("SYSTEM CANCEL VIEW metrics.note_nodes")
    until(complete(server, points, "c1"), 30)
    assert functions["verify"](run(server)) == []


def test_rows_wait_for_a_table_that_is_gone_or_cannot_take_them(fresh_clickhouse: ClickHouseServer) -> None:
    """A dropped table, and a view that fails when the arrivals are noted already: all come afterwards.

    Also when the server restarts in the meantime and forgets that the view failed.
    """
    server, functions = create(fresh_clickhouse), step()
    gone = next(text for text in statements("0002") if "metrics.NodeMetrics (" in text)
    delivery = server.query("SELECT as_select FROM system.tables WHERE name = 'mv_populate_pod_metrics'")[0][0]
    server.query("DROP TABLE metrics.NodeMetrics SYNC")
    server.query("ALTER TABLE metrics.mv_populate_pod_metrics MODIFY QUERY "
                 + delivery.replace("restarts, status FROM", "restarts, toString(throwIf(status != '')) AS status FROM"))
    points = scrape(RECENT) + scrape(RECENT + MINUTE)
    server.query(insert(points))
    until(lambda: len(functions["verify"](run(server))) == 2, 30)
    assert server.query("SELECT count() FROM metrics.noted_pods")[0][0] > 0
    server.stop()
    server.start()
    until(lambda: len(functions["verify"](run(server))) == 2, 30)
    server.query(gone)
    for statement in statements("0003"):
        server.query(statement)
    server.query(f"ALTER TABLE metrics.mv_populate_pod_metrics MODIFY QUERY {delivery}")
    until(complete(server, points, "c1"), 30)
    assert functions["verify"](run(server)) == []


def test_nothing_is_lost_or_doubled_when_the_server_is_killed(fresh_clickhouse: ClickHouseServer) -> None:
    """kill -9 at ten moments around inserts and refreshes: every acknowledged point is in all tables afterwards."""
    server, points = create(fresh_clickhouse), []
    for turn in range(10):
        batch = scrape(RECENT + turn * 30_000)
        server.query(insert(batch))
        points += batch
        time.sleep(turn * 0.3)
        server.kill()
        server.start()
    until(complete(server, points, "c1"), 60)


def test_a_restart_repeats_at_most_the_last_refresh(fresh_clickhouse: ClickHouseServer) -> None:
    """Rows that are known to be delivered are not written again, though the server forgets when a view succeeded."""
    server = create(fresh_clickhouse)
    for minute in (0, 10, 20):
        points = scrape(RECENT + minute * MINUTE)
        server.query(insert(points))
        until(lambda minute=minute: all(server.query(
            f"SELECT count() FROM metrics.{table} WHERE ts = '{moment(RECENT + minute * MINUTE)}'")[0][0] for table in KEYS), 30)
    server.stop()
    server.start()
    time.sleep(1)
    until(lambda: server.query("SELECT count() FROM system.view_refreshes WHERE last_success_time > now() - uptime()") == [(4,)], 60)
    settle(server)
    for table in KEYS:
        found = [row for row in rows(server, table, "c1", final="") if row[0] < moment(RECENT + 20 * MINUTE)]
        assert len(found) == len(set(found)) > 0, table


def test_a_stopped_view_is_reported(fresh_clickhouse: ClickHouseServer) -> None:
    """SYSTEM STOP VIEW leaves no exception, and no rows."""
    server, functions = create(fresh_clickhouse), step()
    until(lambda: functions["verify"](run(server)) == [], 30)
    server.query("SYSTEM STOP VIEW metrics.note_gpus")
    until(lambda: functions["verify"](run(server)) == [
        "metrics.note_gpus is stopped, its rows wait: SYSTEM START VIEW metrics.note_gpus"], 30)


def test_a_backlog_is_worked_off_in_portions(fresh_clickhouse: ClickHouseServer) -> None:
    """With portions of 50 samples instead of a million: many refreshes, the same rows."""
    server = create(fresh_clickhouse, every="1 YEAR")
    for view in VIEWS:
        query = server.query(f"SELECT as_select FROM system.tables WHERE name = '{view}'")[0][0]
        assert "< 1000000" in query
        server.query(f"ALTER TABLE metrics.{view} MODIFY QUERY {query.replace('< 1000000', '< 50')}")
    points = [point for minute in range(4) for point in scrape(RECENT + minute * MINUTE)]
    server.query(insert(points))
    settle(server)
    verify(server, points, "c1")
    assert server.query("SELECT uniqExact(success) FROM metrics.noted_nodes")[0][0] > 3


@pytest.mark.parametrize("table", KEYS)
def test_the_views_do_not_tie_the_columns_of_the_tables(metrics_schema: ClickHouseServer, table: str) -> None:
    """A column can be dropped and added again, as the seed's upgrade test does, while the views run."""
    column = {"NodeMetrics": "network_receive_bytes_per_sec", "PodMetrics": "status", "GPUMetrics": "power_watts",
              "ClusterMetrics": "cluster_platform"}[table]
    type_ = metrics_schema.query(f"SELECT type FROM system.columns WHERE table = '{table}' AND name = '{column}'")[0][0]
    metrics_schema.query(f"ALTER TABLE metrics.{table} DROP COLUMN {column}")
    name = cluster()
    metrics_schema.query(insert(moved(scrape(RECENT), name)))
    settle(metrics_schema)
    metrics_schema.query(f"ALTER TABLE metrics.{table} ADD COLUMN {column} {type_}")
    metrics_schema.query(insert(moved(scrape(RECENT + MINUTE), name)))
    settle(metrics_schema)
    columns = [name for name in step()[{"NodeMetrics": "NODE", "PodMetrics": "POD", "GPUMetrics": "GPU",
                                        "ClusterMetrics": "POINT"}[table]].replace("\n", "").split(", ") if name.strip() != column]
    metrics_schema.query(f"ALTER TABLE metrics.{table} MODIFY COLUMN {column} {type_} AFTER {columns[-1]}")
    assert metrics_schema.query(f"SELECT count() > 0 FROM metrics.{table} WHERE cluster_id = '{name}'"
                                f" AND ts >= '{moment(RECENT + MINUTE)}'") == [(1,)]


# Who may do what.

RIGHTS = ["SELECT, INSERT, ALTER, CREATE TABLE, DROP TABLE ON metrics.*", "CREATE DATABASE ON metrics.*",
          "TABLE ENGINE ON *", "SELECT ON system.view_refreshes"]


@pytest.mark.parametrize("free", [True, False])
def test_the_views_outlive_the_user_who_made_them(free: bool) -> None:
    """With the right to free them nobody is needed; else the next user of the job takes over. Inserts go on anyhow."""
    none = ["ALLOW SQL SECURITY NONE ON *.*"] if free else []
    collector = ["INSERT ON metrics.otel_metrics_gauge", *([] if free else ["SELECT ON metrics.otel_metrics_gauge"])]
    users = [User("first", "secret-1", RIGHTS + none), User("second", "secret-2", RIGHTS + none),
             User("collector", "secret-3", collector)]
    with ClickHouseServer(users=users) as server:
        class As:
            """The server for another user."""
            def __init__(self, user: str, password: str) -> None:
                self.user, self.query = user, partial(server.query, password=password)
        first, second = run(As("first", "secret-1")), run(As("second", "secret-2"))  # type: ignore[arg-type]
        for number in ("0001", "0002", "0003", "0004"):
            for statement in statements(number):
                first.clickhouse.query(statement)
        step()["apply"](first)
        server.stop()
        text = (server.base / "users.xml").read_text(encoding="utf-8")
        (server.base / "users.xml").write_text(re.sub("<first>.*</first>", "", text, flags=re.DOTALL), encoding="utf-8")
        server.start()
        time.sleep(1)  # what arrived in the very second of the views' change is derived once more
        points = scrape(RECENT)
        server.query(insert(points), user="collector", password="secret-3")
        if not free:
            assert len([fault for fault in step()["verify"](second) if "There is no user `first`" in fault]) == 4
            step()["apply"](second)
        until(complete(server, points, "c1"), 30)
        assert step()["verify"](second) == []
        assert step()["plan"](second) == []


# What was there before the views.

def test_what_the_source_held_before_is_derived_by_the_step(fresh_clickhouse: ClickHouseServer) -> None:
    """Bounded by its setting, in one go or several, again and again: the same rows; a changed view derives anew."""
    server, functions = create(fresh_clickhouse), step()
    old = [point for day in (1, 3, 6, 9) for minute in range(3) for point in scrape(RECENT - day * 86_400_000 + minute * MINUTE)]
    server.query("DROP VIEW metrics.feed_samples SYNC")
    server.query(insert(old))
    server.query(next(text for text in statements("0004") if "metrics.feed_samples " in text))
    known = [point for point in old if point.at > RECENT - 8 * 86_400_000]

    first, *_ = planned = functions["plan"](run(server))
    assert len(planned) == 3  # days apart, so not in one INSERT
    server.query(first)  # and here an earlier run was killed
    assert functions["plan"](run(server)) == planned[1:]
    functions["apply"](run(server))
    verify(server, known, "c1")
    assert functions["plan"](run(server)) == []
    found = {table: rows(server, table, "c1", final="") for table in KEYS}
    functions["apply"](run(server))
    assert found == {table: rows(server, table, "c1", final="") for table in KEYS}

    query = server.query("SELECT as_select FROM system.tables WHERE name = 'mv_populate_node_metrics'")[0][0]
    time.sleep(1.1)
    server.query("ALTER TABLE metrics.mv_populate_node_metrics MODIFY QUERY " + query.replace("AS load_5,", "+ 1 AS load_5,"))
    functions["apply"](run(server, backfill_days=4))
    changed = server.query(f"SELECT DISTINCT ts > '{moment(RECENT - 5 * 86_400_000)}', load_5 FROM metrics.NodeMetrics FINAL")
    assert sorted(changed) == [(0, 0.8), (1, 1.8)]
    for table in set(KEYS) - {"NodeMetrics"}:
        assert rows(server, table, "c1") == found[table]


def fill(server: ClickHouseServer, stored: int, **size: int) -> None:
    """About so many points on two earlier days: in the source, and what the views keep of them, as if taken in then."""
    points = scrape(RECENT - 2 * DAY, **size)
    scrapes, portion = -(-stored // len(points)), 2_000_000 // len(points)
    server.query("DETACH TABLE metrics.feed_samples SYNC")
    server.query(insert(points))
    for first in range(1, scrapes, portion):
        more = (f"(SELECT * REPLACE (TimeUnix + {2 * DAY // 1000} / {scrapes} * number AS TimeUnix) FROM"
                f" (SELECT * FROM metrics.otel_metrics_gauge WHERE TimeUnix = '{moment(RECENT - 2 * DAY)}') AS one"
                f" CROSS JOIN numbers({first}, {min(portion, scrapes - first)}) AS turns)")
        samples = step()["SAMPLES"].replace("metrics.otel_metrics_gauge", more)
        server.query(f"INSERT INTO metrics.otel_metrics_gauge {COLUMNS} SELECT {COLUMNS.strip('()')} FROM {more}")
        server.query(f"INSERT INTO metrics.metric_samples SELECT * REPLACE minute AS arrived FROM ({samples})"
                     f" WHERE minute < '{moment(RECENT - MINUTE)}'")
    for name in ("node", "pod", "gpu", "cluster"):
        server.query(f"DETACH TABLE metrics.mv_populate_{name}_metrics SYNC")
    for view in VIEWS:
        server.query(f"INSERT INTO metrics.{view.replace('note', 'noted')} SELECT arrived, minute, cluster_id, count(), toDateTime(0)"
                     f" FROM metrics.metric_samples WHERE minute < '{moment(RECENT - MINUTE)}' GROUP BY ALL")
    for name in ("feed_samples", *(f"mv_populate_{name}_metrics" for name in ("node", "pod", "gpu", "cluster"))):
        server.query(f"ATTACH TABLE metrics.{name}")
    until(lambda: server.query("SELECT count() FROM system.merges") == [(0,)], 1800)


def test_the_cost_of_a_scrape_does_not_grow_with_what_is_stored(fresh_clickhouse: ClickHouseServer) -> None:
    """Rows read by the insert and by all that the views do for it, on an empty store and with millions of points.

    The time it takes is measured by tests/bench/metric_views.py, on two servers side by side and nothing else beside them.
    """
    server = create(fresh_clickhouse, every="1 YEAR")

    def cost(at: int) -> int:
        settle(server)
        began = server.query("SELECT toString(now64(6))")[0][0]
        server.query(insert(scrape(at, nodes=100)))
        settle(server)
        server.query("SYSTEM FLUSH LOGS query_log")
        return int(server.query("SELECT sum(read_rows) FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert'"
                                f" AND event_time_microseconds > '{began}' AND has(databases, 'metrics')")[0][0])

    empty = cost(RECENT)
    stored = 100_000_000 if os.environ.get("MIGRATE_TEST_FULL") else 10_000_000
    fill(server, stored, nodes=100)
    full = cost(RECENT + 20 * MINUTE)
    FIGURES.append(f"one scrape of 100 nodes with {stored:,} points stored reads {full / empty:.2f} times the rows that it reads without")
    assert full <= 1.5 * empty
    assert server.query("SELECT count() FROM metrics.metric_samples") > [(9_000_000,)]
