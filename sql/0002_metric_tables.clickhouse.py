"""The four tables that dashboards read: nodes, pods, GPUs, and every point as it came.

SQL alone would not do: they exist in many older forms, so each is brought to its one definition below, keeping every
row. Where the definition goes beyond the seed, and why:

* A sorting key is what ReplacingMergeTree takes for "the same row". The seed's tuples stay as primary keys, but alone
  they merge the containers of a pod, and all series of a metric, into one row: so PodMetrics is sorted by the
  container too, ClusterMetrics by its labels. These are hashed, because a map is no sorting key, and sorted first,
  because the same labels may arrive in another order. The hash is an expression, so SELECT * shows the seed's columns.
* GPUMetrics needs no more: one row is one physical GPU. MIG instances are added up in it (0004).
* TTLs use toDateTime(ts): servers before 25.7 refuse a DateTime64 there.
* The skip indexes are the seed's. They repeat the primary key and speed nothing up. Those that older forms had under
  other names, on whatever columns, must be gone; one that nobody knows stays, and is a finding.
* NodeMetrics lacks the two network columns: 0003 adds them.
"""

from typing import Any

DEFINITIONS = """
CREATE TABLE metrics.NodeMetrics (
    ts DateTime64(3) CODEC(Delta(8), ZSTD(1)),
    cluster_id String,
    cluster_name String,
    node_name String,
    cpu_cores Float64,
    cpu_usage_percent Float64 CODEC(Gorilla(8)),
    memory_total_bytes Float64,
    memory_used_bytes Float64,
    memory_usage_percent Float64 CODEC(Gorilla(8)),
    disk_total_bytes Float64,
    disk_used_bytes Float64,
    disk_usage_percent Float64 CODEC(Gorilla(8)),
    load_1 Float64,
    load_5 Float64,
    load_15 Float64,
    INDEX idx_cluster_node_time (cluster_id, node_name, ts) TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ts)
PRIMARY KEY (cluster_id, node_name, ts)
ORDER BY (cluster_id, node_name, ts)
TTL toDateTime(ts) + toIntervalDay(90)
SETTINGS index_granularity = 8192;

CREATE TABLE metrics.PodMetrics (
    ts DateTime64(3) CODEC(Delta(8), ZSTD(1)),
    cluster_id String,
    cluster_name String,
    namespace String,
    pod_name String,
    container_name String,
    cpu_requests Float64,
    cpu_limits Float64,
    cpu_usage Float64 CODEC(Gorilla(8)),
    memory_requests_bytes Float64,
    memory_limits_bytes Float64,
    memory_usage_bytes Float64,
    restarts Int32,
    status String,
    INDEX idx_cluster_ns_pod_time (cluster_id, namespace, pod_name, ts) TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ts)
PRIMARY KEY (cluster_id, namespace, pod_name, ts)
ORDER BY (cluster_id, namespace, pod_name, ts, container_name)
TTL toDateTime(ts) + toIntervalDay(30)
SETTINGS index_granularity = 8192;

CREATE TABLE metrics.GPUMetrics (
    ts DateTime64(3) CODEC(Delta(8), ZSTD(1)),
    cluster_id String,
    cluster_name String,
    node_name String,
    gpu_index UInt8,
    gpu_model String,
    utilization_percent Float64 CODEC(Gorilla(8)),
    memory_used_bytes Float64,
    memory_total_bytes Float64,
    temperature_celsius Float64,
    power_watts Float64,
    INDEX idx_cluster_gpu_time (cluster_id, node_name, gpu_index, ts) TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ts)
PRIMARY KEY (cluster_id, node_name, gpu_index, ts)
ORDER BY (cluster_id, node_name, gpu_index, ts)
TTL toDateTime(ts) + toIntervalDay(30)
SETTINGS index_granularity = 8192;

CREATE TABLE metrics.ClusterMetrics (
    ts DateTime64(3) CODEC(Delta(8), ZSTD(1)),
    cluster_id String,
    cluster_name String,
    cluster_platform String,
    metric_name String,
    value Float64 CODEC(Gorilla(8), ZSTD(1)),
    labels Map(String, String),
    INDEX idx_cluster_metric_time (cluster_id, metric_name, ts) TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ts)
PRIMARY KEY (cluster_id, metric_name, ts)
ORDER BY (cluster_id, metric_name, ts, cityHash64(mapSort(labels)))
TTL toDateTime(ts) + toIntervalDay(90)
SETTINGS index_granularity = 8192;

ALTER TABLE metrics.NodeMetrics
    DROP INDEX IF EXISTS idx_cluster_time,
    DROP INDEX IF EXISTS idx_network_receive,
    DROP INDEX IF EXISTS idx_network_transmit;

ALTER TABLE metrics.GPUMetrics
    DROP INDEX IF EXISTS idx_cluster_gpu;
"""


def plan(run: Any) -> list[Any]:
    return run.clickhouse.changes(DEFINITIONS)  # type: ignore[no-any-return]


def apply(run: Any) -> None:
    run.clickhouse.converge(DEFINITIONS)
