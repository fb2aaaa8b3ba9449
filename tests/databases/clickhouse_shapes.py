"""Old forms of the four metric tables and their views, as earlier scripts left them, with rows.

The letters A to F are those of the schema's known histories.
"""

import re
from collections.abc import Mapping
from typing import Any

from tests.servers.clickhouse import ClickHouseServer

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
NAMES = {"NodeMetrics": "idx_cluster_node_time", "PodMetrics": "idx_cluster_ns_pod_time",
         "GPUMetrics": "idx_cluster_gpu_time", "ClusterMetrics": "idx_cluster_metric_time"}  # fmt: skip
OLD_NAMES = {"NodeMetrics": "idx_cluster_time", "GPUMetrics": "idx_cluster_gpu"}  # no more are known
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
    columns += [f"INDEX {index} TYPE minmax GRANULARITY 1" for index in indexes(table, shape)]
    ttl = f" TTL toDateTime(ts) + INTERVAL {shape['ttl']} DAY" if shape["ttl"] else ""
    return (f"CREATE TABLE {database}.{table} ({', '.join(columns)}) ENGINE = {shape['engine']}"
            f" PARTITION BY toYYYYMM(ts) ORDER BY ({key}){ttl}")  # fmt: skip


def indexes(table: str, shape: Mapping[str, Any]) -> list[str]:
    """Names and columns: the new ones, their like under another name, what the oldest form had, of the network too."""
    found = {"new": [f"{NAMES[table]} ({KEYS[table]})"], "renamed": [f"idx_other ({KEYS[table]})"],
             "old": [f"{OLD_NAMES[table]} (cluster_id, ts)"] if table in OLD_NAMES else []}.get(shape["index"], [])  # fmt: skip
    network = [("idx_network_receive", NETWORK[0]), ("idx_network_transmit", NETWORK[1])] if shape["network_indexes"] else []
    return found + [f"{name} ({column})" for name, column in network if table == "NodeMetrics"]


def shape(**more: Any) -> dict[str, Any]:
    return {"engine": "ReplacingMergeTree", "low": False, "narrow": False, "codecs": True, "key": "seed", "network": 2,
            "index": "new", "network_indexes": False, "ttl": 30} | more  # fmt: skip


OLDEST = shape(engine="MergeTree", low=True, narrow=True, codecs=False, network=0, index="old", ttl=None)
SHAPES = {
    "A": OLDEST,
    "A with another key": OLDEST | {"index": "renamed", "key": "other"},
    "B": shape(engine="MergeTree", codecs=False, network=0, ttl=90),
    "C": shape(engine="MergeTree", codecs=False, ttl=90, network_indexes=True),
    "E": shape(),
    "E for a year": shape(ttl=365),
    "F": shape(network=1),
    "without index": shape(index="none", network=0),
    "types only": shape(low=True, narrow=True, key="extended"),
}

INGREDIENTS: dict[str, list[Any]] = {  # of any mixture
    "engine": ["MergeTree", "ReplacingMergeTree", "ReplacingMergeTree()"], "low": [False, True], "narrow": [False, True],
    "codecs": [False, True], "key": ["seed", "extended", "other"], "network": [0, 1, 2],
    "index": ["new", "renamed", "old", "none"], "network_indexes": [False], "ttl": [None, 30, 90, 365],
}  # fmt: skip


def fill(server: ClickHouseServer, table: str, count: int = 300, database: str = "metrics") -> None:
    """Rows in three inserts and at least two months, each with a sorting key of its own, under any key."""
    numbers = [name for name in COLUMNS[table].split() if name not in STRINGS | {"gpu_index", "labels"}]
    values = {"ts": "toDateTime64(toDate(now()) - 26, 3) + toIntervalMinute(number * 60 + {batch})",
              "gpu_index": "number % 4", "cluster_name": "'name'"} | dict.fromkeys(numbers, "(number % 8 + {batch}) / 8")  # fmt: skip
    names = [*KEYS[table].split(", "), "cluster_name", *numbers]
    for batch in range(3):
        found = (values.get(name, f"concat('{name}-', toString(number % 3))").format(batch=batch) for name in names)
        server.query(f"INSERT INTO {database}.{table} ({', '.join(names)}) SELECT {', '.join(found)}"
                     f" FROM numbers({count // 3}) SETTINGS async_insert = 0")  # fmt: skip


def rows(server: ClickHouseServer, table: str, database: str = "metrics") -> list[str]:
    """Its rows, as texts, without what older forms do not have."""
    names = ", ".join(["ts", *COLUMNS[table].split()])
    return sorted(map(repr, server.query(f"SELECT {names} FROM {database}.{table} WHERE cluster_name = 'name'")))


# Views, in the manner of the older scripts: incremental, each from the inserted block alone.

PLACE = "ResourceAttributes['cluster_id'] AS cluster_id, any(ResourceAttributes['cluster_name']) AS cluster_name"
SOURCE = "FROM metrics.otel_metrics_gauge WHERE ResourceAttributes['cluster_id'] IS NOT NULL AND"
HOST = "splitByChar(':', Attributes['instance'])[1] AS node_name"
LOADS = "avgIf(Value, MetricName = 'node_load1') AS load_1, avgIf(Value, MetricName = 'node_load5') AS load_5"
TRAFFIC = ", ".join(f"sumIf(Value, MetricName = 'container_network_{way}_bytes_total') AS network_{way}_bytes_per_sec"
                    for way in ("receive", "transmit"))  # fmt: skip
NODE_VIEWS = {
    "V0": f"SELECT toStartOfMinute(TimeUnix) AS ts, {PLACE}, {HOST}, {LOADS} {SOURCE} Attributes['instance'] != ''"
    " GROUP BY ts, cluster_id, node_name",
    "V1": f"SELECT toStartOfMinute(TimeUnix) AS ts, {PLACE}, {HOST}, {LOADS}, {TRAFFIC} {SOURCE} Attributes['instance'] != ''"
    " GROUP BY ts, cluster_id, node_name",
    "V3": f"""WITH loads AS (SELECT toStartOfMinute(TimeUnix) AS ts, {PLACE}, {HOST}, {LOADS} {SOURCE}
            Attributes['instance'] != '' GROUP BY ts, cluster_id, node_name),
        traffic AS (SELECT toStartOfMinute(TimeUnix) AS ts, ResourceAttributes['cluster_id'] AS cluster_id, {HOST}, {TRAFFIC}
            {SOURCE} Attributes['id'] != '' GROUP BY ts, cluster_id, node_name)
        SELECT CAST(coalesce(loads.ts, traffic.ts), 'DateTime64(3)') AS ts,
            coalesce(loads.cluster_id, traffic.cluster_id) AS cluster_id, cluster_name,
            coalesce(loads.node_name, traffic.node_name) AS node_name, load_1, load_5,
            network_receive_bytes_per_sec, network_transmit_bytes_per_sec
        FROM loads FULL OUTER JOIN traffic USING (ts, cluster_id, node_name)""",
}
OTHER_VIEWS = {
    "pod_metrics TO metrics.PodMetrics": f"SELECT toStartOfMinute(TimeUnix) AS ts, {PLACE}, Attributes['namespace'] AS"
    " namespace, Attributes['pod'] AS pod_name, Attributes['container'] AS container_name, avgIf(Value, MetricName ="
    f" 'container_cpu_usage_seconds_total') AS cpu_usage {SOURCE} Attributes['pod'] != '' GROUP BY ALL",
    "gpu_metrics TO metrics.GPUMetrics": f"SELECT toStartOfMinute(TimeUnix) AS ts, {PLACE}, Attributes['node'] AS node_name,"
    " toUInt8OrZero(Attributes['gpu']) AS gpu_index, avgIf(Value, MetricName = 'DCGM_FI_DEV_GPU_UTIL') AS"
    f" utilization_percent {SOURCE} MetricName LIKE 'DCGM%' GROUP BY ALL",
    "cluster_metrics TO metrics.ClusterMetrics": f"SELECT TimeUnix AS ts, {PLACE}, MetricName AS metric_name, avg(Value) AS"
    f" value, Attributes AS labels {SOURCE} 1 GROUP BY ALL",
}
UNMANAGED = (
    "CREATE VIEW metrics.v_node_metrics AS SELECT TimeUnix, Value FROM metrics.otel_metrics_gauge",
    "CREATE MATERIALIZED VIEW metrics.mv_node_metrics_5m (ts DateTime, cluster_id String, points UInt64) ENGINE ="
    " SummingMergeTree ORDER BY (cluster_id, ts) AS SELECT toStartOfFiveMinutes(TimeUnix) AS ts,"
    " ResourceAttributes['cluster_id'] AS cluster_id, count() AS points FROM metrics.otel_metrics_gauge GROUP BY ALL",
)


def views(body: str) -> list[str]:
    """The four views, that of the nodes with this body."""
    queries = {"node_metrics TO metrics.NodeMetrics": NODE_VIEWS[body]} | OTHER_VIEWS
    return [f"CREATE MATERIALIZED VIEW metrics.mv_populate_{name} AS {query}" for name, query in queries.items()]
