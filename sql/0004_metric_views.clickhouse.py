"""The views that turn what the collector inserts into rows of NodeMetrics, PodMetrics, GPUMetrics and ClusterMetrics.

(docstring: follows)
"""

from typing import Any

# One row of metric_samples for each usable point of the source. The feed and the backfill both use it.
SAMPLES = """SELECT
    nowInBlock() AS arrived,
    toStartOfMinute(TimeUnix) AS minute,
    ResourceAttributes['cluster_id'] AS cluster_id,
    ResourceAttributes['cluster_name'] AS cluster_name,
    ResourceAttributes['cluster_platform'] AS cluster_platform,
    MetricName AS metric,
    CAST(mapSort(Attributes), 'Map(String, String)') AS labels,
    cityHash64(labels) AS series,
    toDateTime64(TimeUnix, 3) AS ts,
    Value AS value
FROM metrics.otel_metrics_gauge
WHERE (ResourceAttributes['cluster_id'] != '') AND isFinite(Value)
  AND (TimeUnix >= toDateTime('2000-01-01 00:00:00')) AND (TimeUnix < toDateTime('2100-01-01 00:00:00'))"""

GAP = 300  # seconds: two samples of a series that are further apart have no rate between them
REACH = GAP // 60  # minutes: how far back a rate looks for the earlier sample, and how far on a late sample is felt

NODE = "coalesce(nullIf(labels['node'], ''), replaceRegexpOne(labels['instance'], ':[0-9]+$', ''))"
GPU_NODE = ("coalesce(nullIf(labels['node'], ''), nullIf(labels['hostname'], ''), nullIf(labels['Hostname'], ''),"
            " replaceRegexpOne(labels['instance'], ':[0-9]+$', ''))")
GPU_INDEX = "toUInt8OrZero(if(labels['gpu'] != '', labels['gpu'], extract(labels['device'], '[0-9]+$')))"

NODE_METRICS = """metric IN (
            'node_cpu_seconds_total', 'node_memory_MemTotal_bytes', 'node_memory_MemAvailable_bytes',
            'node_filesystem_size_bytes', 'node_filesystem_avail_bytes', 'node_load1', 'node_load5', 'node_load15',
            'container_network_receive_bytes_total', 'container_network_transmit_bytes_total')"""
POD_METRICS = """metric IN (
            'kube_pod_container_resource_requests', 'kube_pod_container_resource_limits', 'kube_pod_status_phase',
            'kube_pod_container_status_restarts_total', 'container_cpu_usage_seconds_total',
            'container_memory_working_set_bytes')"""
GPU_METRICS = """metric IN (
            'DCGM_FI_DEV_GPU_UTIL', 'DCGM_FI_DEV_FB_USED', 'DCGM_FI_DEV_FB_FREE', 'DCGM_FI_DEV_GPU_TEMP',
            'DCGM_FI_DEV_POWER_USAGE')"""

NODE_ROW = """ts, cluster_id, cluster_name, node_name, cpu_cores, cpu_usage_percent,
    memory_total_bytes, memory_used_bytes, memory_usage_percent, disk_total_bytes, disk_used_bytes, disk_usage_percent,
    load_1, load_5, load_15, network_receive_bytes_per_sec, network_transmit_bytes_per_sec"""
POD_ROW = """ts, cluster_id, cluster_name, namespace, pod_name, container_name, cpu_requests, cpu_limits, cpu_usage,
    memory_requests_bytes, memory_limits_bytes, memory_usage_bytes, restarts, status"""
GPU_ROW = """ts, cluster_id, cluster_name, node_name, gpu_index, gpu_model, utilization_percent, memory_used_bytes,
    memory_total_bytes, temperature_celsius, power_watts"""
CLUSTER_ROW = "ts, cluster_id, cluster_name, cluster_platform, metric_name, value, labels"

NODE_KEY = "cityHash64(node_name)"
POD_KEY = "cityHash64(namespace, pod_name, container_name)"
GPU_KEY = "cityHash64(node_name, gpu_index)"
CLUSTER_KEY = "cityHash64(metric_name, ts, labels)"


def buckets(view: str, table: str, metrics: str, reach: int) -> str:
    """Which (minute, cluster) to derive anew: `changed`; which ones that takes: `needed`."""
    last = f"(SELECT max(last_success_time) FROM system.view_refreshes WHERE database = 'metrics' AND view = '{view}')"
    return f"""arrivals AS (
        SELECT DISTINCT minute, cluster_id
        FROM metrics.metric_samples
        WHERE {metrics} AND arrived >= coalesce({last} - toIntervalMinute(1), (
            SELECT max(written) - toIntervalHour(1) FROM metrics.metric_rows_written
            WHERE target = '{table}' AND {last} IS NULL))),
    changed AS (
        SELECT DISTINCT minute + toIntervalMinute(n) AS minute, cluster_id
        FROM arrivals ARRAY JOIN range({reach + 1}) AS n),
    needed AS (
        SELECT DISTINCT minute - toIntervalMinute(n) AS minute, cluster_id
        FROM changed ARRAY JOIN range({reach + 1}) AS n)"""


def steps(metrics: str) -> str:
    """Each sample with its distance from the one before it in its series."""
    return f"""SELECT minute, cluster_id, cluster_name, metric, labels, series, ts, value,
            lagInFrame(ts) OVER w AS earlier, lagInFrame(value) OVER w AS earlier_value,
            toUnixTimestamp64Milli(ts) - toUnixTimestamp64Milli(earlier) AS gap,
            if(gap <= {GAP * 1000}, gap / 1000, 0) AS seconds,
            if(gap <= {GAP * 1000}, greatest(value - earlier_value, 0), 0) AS increase
        FROM metrics.metric_samples
        WHERE {metrics} AND (minute, cluster_id) IN (needed)
        WINDOW w AS (PARTITION BY cluster_id, metric, series ORDER BY ts, value ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"""


def unwritten(table: str, row: str, key: str, minute: str) -> str:
    """True for a row that differs from the one last written under its key."""
    return f"""({minute}, cluster_id, {key}, cityHash64({row})) NOT IN (
    SELECT minute, cluster_id, key, argMax(row, written)
    FROM metrics.metric_rows_written
    WHERE target = '{table}' AND (minute, cluster_id) IN (changed)
    GROUP BY minute, cluster_id, key)"""


def written(view: str, table: str, row: str, key: str, minute: str) -> str:
    """The view that notes each row written into a table."""
    return f"""
CREATE MATERIALIZED VIEW metrics.{view} TO metrics.metric_rows_written AS
SELECT '{table}' AS target, {minute} AS minute, cluster_id, {key} AS key, cityHash64({row}) AS row, now64(3) AS written
FROM metrics.{table};
"""


def total(values: str) -> str:
    """A sum whose bits do not depend on the order in which the samples arrived."""
    return f"arraySum(arraySort({values}))"


def mean(values: str) -> str:
    """A mean whose bits do not depend on the order in which the samples arrived; 0 of nothing."""
    return f"if(empty({values}), 0, arrayAvg(arraySort({values})))"


def leaves(pairs: str) -> str:
    """The sum of (cgroup, rate) pairs, without the cgroups that contain another one: their traffic is in it already."""
    names = f"arraySort(arrayDistinct({pairs}.1))"
    containing = f"arrayFilter((name, next) -> startsWith(next, name), {names}, arrayShiftLeft({names}, 1))"
    return total(f"arrayMap(pair -> pair.2, arrayFilter(pair -> NOT has({containing}, pair.1), {pairs}))")


FIRST = f"""
CREATE TABLE metrics.metric_samples (
    arrived DateTime CODEC(Delta(4), ZSTD(1)),
    minute DateTime CODEC(Delta(4), ZSTD(1)),
    cluster_id String,
    cluster_name String,
    cluster_platform String,
    metric LowCardinality(String),
    labels Map(String, String) CODEC(ZSTD(1)),
    series UInt64,
    ts DateTime64(3) CODEC(Delta(8), ZSTD(1)),
    value Float64 CODEC(ZSTD(1)),
    INDEX idx_arrived arrived TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(arrived)
ORDER BY (minute, cluster_id, metric, series, ts)
TTL arrived + toIntervalDay(3)
SETTINGS index_granularity = 512, ttl_only_drop_parts = 1;

CREATE TABLE metrics.metric_rows_written (
    target LowCardinality(String),
    minute DateTime CODEC(Delta(4), ZSTD(1)),
    cluster_id String,
    key UInt64,
    row UInt64,
    written DateTime64(3) CODEC(Delta(8), ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toDate(written)
ORDER BY (target, minute, cluster_id, key)
TTL toDateTime(written) + toIntervalDay(1)
SETTINGS index_granularity = 512, ttl_only_drop_parts = 1;
"""

LAST = f"""
CREATE MATERIALIZED VIEW metrics.metric_samples_feed TO metrics.metric_samples AS
{SAMPLES};
"""

NODES = f"""
CREATE MATERIALIZED VIEW metrics.mv_populate_node_metrics REFRESH EVERY 5 SECOND APPEND TO metrics.NodeMetrics AS
WITH
    {buckets('mv_populate_node_metrics', 'NodeMetrics', NODE_METRICS, REACH)},
    steps AS (
        {steps(NODE_METRICS)}),
    series AS (
        SELECT minute, cluster_id, {NODE} AS node_name, max(cluster_name) AS cluster_name, metric,
            labels['cpu'] AS cpu, labels['mode'] AS mode,
            if(labels['fstype'] IN ('tmpfs', 'devtmpfs', 'overlay'), '', labels['mountpoint']) AS mountpoint,
            concat(trimRight(labels['id'], '/'), '/') AS cgroup,
            max(value) AS peak,
            groupArrayIf(value, gap > 0) AS samples,
            {total('groupArray(increase)')} / greatest(sum(seconds), 0.001) AS rate
        FROM steps
        WHERE (minute, cluster_id) IN (changed) AND node_name != ''
        GROUP BY minute, cluster_id, metric, series, labels),
    nodes AS (
        SELECT minute, cluster_id, max(cluster_name) AS cluster_name, node_name,
            uniqExactIf(cpu, metric = 'node_cpu_seconds_total') AS cores,
            {total("groupArrayIf(rate, metric = 'node_cpu_seconds_total')")} AS cpu_rate,
            {total("groupArrayIf(rate, metric = 'node_cpu_seconds_total' AND mode = 'idle')")} AS idle_rate,
            maxIf(peak, metric = 'node_memory_MemTotal_bytes') AS memory_total,
            countIf(metric = 'node_memory_MemAvailable_bytes') > 0 AS memory_known,
            maxIf(peak, metric = 'node_memory_MemAvailable_bytes') AS memory_available,
            maxMapIf(map(mountpoint, peak), mountpoint != '' AND metric = 'node_filesystem_size_bytes') AS sizes,
            maxMapIf(map(mountpoint, peak), mountpoint != '' AND metric = 'node_filesystem_avail_bytes') AS free,
            arraySum(mapValues(sizes)) AS disk_total,
            arraySum(arrayMap((size, place) -> if(mapContains(free, place), size - free[place], 0), mapValues(sizes), mapKeys(sizes))) AS disk_used,
            groupArrayArrayIf(samples, metric = 'node_load1') AS loads_1,
            groupArrayArrayIf(samples, metric = 'node_load5') AS loads_5,
            groupArrayArrayIf(samples, metric = 'node_load15') AS loads_15,
            groupArrayIf((cgroup, rate), metric = 'container_network_receive_bytes_total') AS received,
            groupArrayIf((cgroup, rate), metric = 'container_network_transmit_bytes_total') AS sent
        FROM series
        GROUP BY minute, cluster_id, node_name),
    derived AS (
        SELECT toDateTime64(minute, 3) AS ts, minute, cluster_id, cluster_name, node_name, toFloat64(cores) AS cpu_cores,
            if(cpu_rate > 0, least(greatest(round(100 - 100 * idle_rate / greatest(cpu_rate, 0.01), 2), 0), 100), 0) AS cpu_usage_percent,
            memory_total AS memory_total_bytes,
            if(memory_known, greatest(memory_total - memory_available, 0), 0) AS memory_used_bytes,
            if(memory_total > 0, memory_used_bytes / memory_total * 100, 0) AS memory_usage_percent,
            disk_total AS disk_total_bytes, greatest(disk_used, 0) AS disk_used_bytes,
            if(disk_total > 0, disk_used_bytes / disk_total * 100, 0) AS disk_usage_percent,
            {mean('loads_1')} AS load_1, {mean('loads_5')} AS load_5, {mean('loads_15')} AS load_15,
            {leaves('received')} AS network_receive_bytes_per_sec,
            {leaves('sent')} AS network_transmit_bytes_per_sec
        FROM nodes)
SELECT {NODE_ROW}
FROM derived
WHERE {unwritten('NodeMetrics', NODE_ROW, NODE_KEY, 'minute')};
"""

PODS = f"""
CREATE MATERIALIZED VIEW metrics.mv_populate_pod_metrics REFRESH EVERY 5 SECOND APPEND TO metrics.PodMetrics AS
WITH
    {buckets('mv_populate_pod_metrics', 'PodMetrics', POD_METRICS, REACH)},
    steps AS (
        {steps(POD_METRICS)}),
    series AS (
        SELECT minute, cluster_id, max(cluster_name) AS cluster_name, metric,
            labels['namespace'] AS namespace, labels['pod'] AS pod_name, labels['resource'] AS resource,
            if(metric = 'kube_pod_status_phase', labels['phase'], '') AS phase,
            if(metric = 'kube_pod_status_phase', '', labels['container']) AS container_name,
            max(value) AS peak,
            groupArrayIf(value, gap > 0) AS samples,
            {total('groupArray(increase)')} / greatest(sum(seconds), 0.001) AS rate
        FROM steps
        WHERE (minute, cluster_id) IN (changed) AND pod_name != ''
        GROUP BY minute, cluster_id, metric, series, labels),
    containers AS (
        SELECT minute, cluster_id, max(cluster_name) AS cluster_name, namespace, pod_name, container_name,
            maxIf(peak, metric = 'kube_pod_container_resource_requests' AND resource = 'cpu') AS cpu_requests,
            maxIf(peak, metric = 'kube_pod_container_resource_limits' AND resource = 'cpu') AS cpu_limits,
            {total("groupArrayIf(rate, metric = 'container_cpu_usage_seconds_total')")} AS cpu_usage,
            maxIf(peak, metric = 'kube_pod_container_resource_requests' AND resource = 'memory') AS memory_requests_bytes,
            maxIf(peak, metric = 'kube_pod_container_resource_limits' AND resource = 'memory') AS memory_limits_bytes,
            groupArrayArrayIf(samples, metric = 'container_memory_working_set_bytes') AS memory_samples,
            {mean('memory_samples')} AS memory_usage_bytes,
            toInt32(least(greatest(maxIf(peak, metric = 'kube_pod_container_status_restarts_total'), 0), 2147483647)) AS restarts,
            groupArrayIf(phase, peak = 1) AS phases
        FROM series
        GROUP BY minute, cluster_id, namespace, pod_name, container_name),
    derived AS (
        SELECT toDateTime64(minute, 3) AS ts, *,
            groupArrayArray(phases) OVER (PARTITION BY minute, cluster_id, namespace, pod_name) AS pod_phases,
            multiIf(has(pod_phases, 'Running'), 'Running', has(pod_phases, 'Pending'), 'Pending',
                    has(pod_phases, 'Failed'), 'Failed', has(pod_phases, 'Succeeded'), 'Succeeded', 'Unknown') AS status
        FROM containers)
SELECT {POD_ROW}
FROM derived
WHERE container_name != '' AND {unwritten('PodMetrics', POD_ROW, POD_KEY, 'minute')};
"""

GPUS = f"""
CREATE MATERIALIZED VIEW metrics.mv_populate_gpu_metrics REFRESH EVERY 5 SECOND APPEND TO metrics.GPUMetrics AS
WITH
    {buckets('mv_populate_gpu_metrics', 'GPUMetrics', GPU_METRICS, 0)},
    samples AS (
        SELECT DISTINCT minute, cluster_id, cluster_name, metric, labels, ts, value
        FROM metrics.metric_samples
        WHERE {GPU_METRICS} AND (minute, cluster_id) IN (changed)),
    gpus AS (
        SELECT minute, cluster_id, max(cluster_name) AS cluster_name, {GPU_NODE} AS node_name, {GPU_INDEX} AS gpu_index,
            max(coalesce(nullIf(labels['gpu_model'], ''), labels['modelName'])) AS gpu_model,
            groupArrayIf(value, metric = 'DCGM_FI_DEV_GPU_UTIL') AS utilizations,
            groupArrayIf(value, metric = 'DCGM_FI_DEV_GPU_TEMP') AS temperatures,
            groupArrayIf(value, metric = 'DCGM_FI_DEV_POWER_USAGE') AS powers,
            maxMapIf(map(concat(labels['GPU_I_ID'], '/', labels['UUID']), value), metric = 'DCGM_FI_DEV_FB_USED') AS used,
            maxMapIf(map(concat(labels['GPU_I_ID'], '/', labels['UUID']), value), metric = 'DCGM_FI_DEV_FB_FREE') AS free
        FROM samples
        WHERE node_name != ''
        GROUP BY minute, cluster_id, node_name, gpu_index),
    derived AS (
        SELECT toDateTime64(minute, 3) AS ts, minute, cluster_id, cluster_name, node_name, gpu_index, gpu_model,
            {mean('utilizations')} AS utilization_percent,
            arraySum(mapValues(used)) * 1048576 AS memory_used_bytes,
            if(empty(used) OR empty(free), 0, (arraySum(mapValues(used)) + arraySum(mapValues(free))) * 1048576) AS memory_total_bytes,
            {mean('temperatures')} AS temperature_celsius,
            {mean('powers')} AS power_watts
        FROM gpus)
SELECT {GPU_ROW}
FROM derived
WHERE {unwritten('GPUMetrics', GPU_ROW, GPU_KEY, 'minute')};
"""

CLUSTERS = f"""
CREATE MATERIALIZED VIEW metrics.mv_populate_cluster_metrics REFRESH EVERY 5 SECOND APPEND TO metrics.ClusterMetrics AS
WITH
    {buckets('mv_populate_cluster_metrics', 'ClusterMetrics', '1', 0)},
    derived AS (
        SELECT ts, minute, cluster_id, max(cluster_name) AS cluster_name, max(cluster_platform) AS cluster_platform,
            toString(metric) AS metric_name, max(value) AS value, labels
        FROM metrics.metric_samples
        WHERE (minute, cluster_id) IN (changed)
        GROUP BY minute, cluster_id, metric, series, ts, labels)
SELECT {CLUSTER_ROW}
FROM derived
WHERE {unwritten('ClusterMetrics', CLUSTER_ROW, CLUSTER_KEY, 'minute')};
"""

DEFINITIONS = FIRST + "".join([
    written("node_rows_written", "NodeMetrics", NODE_ROW, NODE_KEY, "toDateTime(ts)"),
    written("pod_rows_written", "PodMetrics", POD_ROW, POD_KEY, "toDateTime(ts)"),
    written("gpu_rows_written", "GPUMetrics", GPU_ROW, GPU_KEY, "toDateTime(ts)"),
    written("cluster_rows_written", "ClusterMetrics", CLUSTER_ROW, CLUSTER_KEY, "toStartOfMinute(ts)"),
    NODES, PODS, GPUS, CLUSTERS, LAST])


def plan(run: Any) -> list[Any]:
    return run.clickhouse.changes(DEFINITIONS)  # type: ignore[no-any-return]


def apply(run: Any) -> None:
    run.clickhouse.converge(DEFINITIONS)
