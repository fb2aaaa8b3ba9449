"""The views that turn what the collector inserts into rows of NodeMetrics, PodMetrics, GPUMetrics and ClusterMetrics.

    otel_metrics_gauge -feed_samples-> metric_samples -note_*-> noted_* -mv_populate_*-> the four tables

Why it takes three views where the seed has one: a view that runs with an INSERT sees the inserted block alone, but a
scrape arrives in many blocks, late ones and copies among them. Each block would write a row of its own, and the last
one would win. So whole rows are derived anew from all samples of a minute, as soon as any of them arrives:

* `feed_samples` copies and does nothing else. It alone runs inside the collector's INSERT, so nothing that computes
  can make one slow or fail. metric_samples is sorted by minute, whatever form the source has, so a minute costs the same
  to read however much is stored. It keeps samples for three days: what comes later than that after the rest of its
  minute is derived alone.
* `note_*` run every three seconds, outside of any INSERT. They go by arrival, not by the samples' times: the
  projection counts what arrived in each second for which minute, and what is not yet noted with the same count is
  pending. No clock has to be trusted, and a sample that becomes visible late is not missed.
* `mv_populate_*` run with the INSERT of the notes, and derive the rows that the noted samples bear on, others not: most
  readers omit FINAL. Nothing reads the four tables: the server lets nobody drop or change a column that a view reads,
  and a look into them would cost more as they grow. When one fails, the refresh has failed: each note holds the last
  success when it was written, and counts only once there was a later one. Until then, and after a restart of the server
  in between, the same is derived again.

What the figures are:

* A series is one cluster, metric and complete set of labels. Of two samples of a series with the same time, to the
  millisecond, the one that came first counts. Points without a cluster_id, or whose value is no finite number or whose
  time is not within 2000 to 2099, are left out; of the others ClusterMetrics has every one.
* A rate belongs to the minute of its later samples: the growth since the sample before, in this minute or an earlier
  one, added up over the minute and divided by the time it took. A counter that went down has not grown. After more than
  five minutes without a sample, as for the very first, there is no rate, which is 0: so one sample a minute is enough,
  and where samples fall in a minute makes no difference.
* Within a minute: the mean for loads, memory in use by containers, and what GPUs report; the maximum for the rest.
  Where a metric that a figure needs is missing, the figure is 0.
* node_name is the label node, else the host of instance; for GPUs hostname or Hostname come in between. CPU in percent
  is what is not idle. A file system counts once for each mountpoint. Network adds up all interfaces of all cgroups
  except those that contain another one, since these count its traffic again.
* A pod has one row for each container, with the pod's phase; without any container it has none, since a row for ''
  could not be taken back when the first one comes. Restarts beyond Int32 stay at its maximum.
* A GPU is a node and an index (label gpu, else the number in device). The instances of a split GPU are added up.
"""

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

GAP = 300  # seconds: two samples of a series that are further apart have no rate between them
REACH = GAP // 60  # minutes: how far back a rate looks for the earlier sample, so how far on a late sample is felt
PORTION = 1_000_000  # samples: what one refresh takes on at most, so that a backlog is worked off in bounded memory

# How points become samples, for the feed and the backfill. No sum or product of values below 1e100 is infinite.
SAMPLES = """
SELECT nowInBlock() AS arrived, toStartOfMinute(TimeUnix) AS minute, ResourceAttributes['cluster_id'] AS cluster_id,
    ResourceAttributes['cluster_name'] AS cluster_name, ResourceAttributes['cluster_platform'] AS cluster_platform,
    toDateTime(0) AS backfill, MetricName AS metric, CAST(mapSort(Attributes), 'Map(String, String)') AS labels, cityHash64(labels) AS series,
    toDateTime64(TimeUnix, 3) AS ts, Value AS value
FROM metrics.otel_metrics_gauge
WHERE ResourceAttributes['cluster_id'] != '' AND abs(Value) < 1e100
    AND TimeUnix >= toDateTime('2000-01-01 00:00:00') AND TimeUnix < toDateTime('2100-01-01 00:00:00')"""

# The columns of each table, in its order.
NODE = """ts, cluster_id, cluster_name, node_name, cpu_cores, cpu_usage_percent,
    memory_total_bytes, memory_used_bytes, memory_usage_percent, disk_total_bytes, disk_used_bytes, disk_usage_percent,
    load_1, load_5, load_15, network_receive_bytes_per_sec, network_transmit_bytes_per_sec"""
POD = """ts, cluster_id, cluster_name, namespace, pod_name, container_name, cpu_requests, cpu_limits, cpu_usage,
    memory_requests_bytes, memory_limits_bytes, memory_usage_bytes, restarts, status"""
GPU = """ts, cluster_id, cluster_name, node_name, gpu_index, gpu_model, utilization_percent,
    memory_used_bytes, memory_total_bytes, temperature_celsius, power_watts"""
POINT = "ts, cluster_id, cluster_name, cluster_platform, metric_name, value, labels"

HOST = "replaceRegexpOne(labels['instance'], ':[0-9]+$', '')"


def notes(name: str) -> str:
    """What a view has taken in, and the view that says so: which arrivals, and how many samples they held then.

    A note written when the last success was `success` counts once there was a later success.
    """
    return f"""
CREATE TABLE metrics.noted_{name} (
    arrived DateTime,
    minute DateTime,
    cluster_id String,
    samples UInt64,
    success DateTime
) ENGINE = MergeTree
PARTITION BY toDate(arrived)
ORDER BY (arrived, minute, cluster_id)
TTL arrived + toIntervalDay(4)
SETTINGS index_granularity = 512, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW metrics.note_{name} REFRESH EVERY 3 SECOND APPEND TO metrics.noted_{name} AS
WITH
    (SELECT max(last_success_time) FROM system.view_refreshes
     WHERE database = 'metrics' AND view = 'note_{name}') AS succeeded,
    (SELECT max(success) FROM (
        SELECT success FROM metrics.noted_{name} WHERE succeeded IS NULL ORDER BY arrived DESC LIMIT 1)) AS remembered,
    coalesce(succeeded, remembered, toDateTime(0)) AS known,
    (SELECT max(arrived) FROM (
        SELECT arrived FROM metrics.noted_{name} WHERE success < known ORDER BY arrived DESC LIMIT 1)) AS reached,
    toDateTime(greatest(toUnixTimestamp(least(reached, now())), 600) - 600) AS since
SELECT arrived, minute, cluster_id, count() AS samples, known AS success
FROM metrics.metric_samples
WHERE arrived >= since
GROUP BY arrived, minute, cluster_id
HAVING (arrived, minute, cluster_id, samples) NOT IN (
    SELECT arrived, minute, cluster_id, samples FROM metrics.noted_{name} WHERE arrived >= since AND success < known)
QUALIFY sum(samples) OVER (ORDER BY arrived, minute, cluster_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    < {PORTION};
"""


def populate(view: str, target: str, name: str, reach: int, rows: str, columns: str) -> str:
    """The view that derives rows for the minutes `changed`: those just noted, and `reach` minutes after them.

    Every mention of noted_* in it is the block that is being inserted there. The first one decides what it runs with.
    """
    return f"""
CREATE MATERIALIZED VIEW metrics.{view} TO metrics.{target} AS
WITH
    noted AS (SELECT arrived, minute, cluster_id FROM metrics.noted_{name}),
    changed AS (SELECT DISTINCT minute + toIntervalMinute(n) AS minute, cluster_id FROM noted ARRAY JOIN range({reach + 1}) AS n),
    {rows}
SELECT {columns}
FROM (SELECT DISTINCT 1 FROM noted) AS block CROSS JOIN rows
WHERE touched;
"""


def total(values: str) -> str:
    """A sum whose bits do not depend on the order in which the samples arrived."""
    return f"arraySum(arraySort({values}))"


def mean(values: str) -> str:
    """A mean whose bits do not depend on the order in which the samples arrived; 0 of nothing."""
    return f"if(empty({values}), 0, arrayAvg(arraySort({values})))"


def innermost(pairs: str) -> str:
    """The sum of (cgroup, rate) pairs without the cgroups that contain another one: they count its traffic again."""
    names = f"arraySort(arrayDistinct({pairs}.1))"
    containing = f"arrayFilter((name, next) -> startsWith(next, name), {names}, arrayShiftLeft({names}, 1))"
    return total(f"arrayMap(pair -> pair.2, arrayFilter(pair -> NOT has({containing}, pair.1), {pairs}))")


def samples(metrics: str, columns: str) -> str:
    """The samples of the minutes to derive, each once: of copies the one that came first."""
    return f"""samples AS (
        SELECT minute, cluster_id, cluster_name, metric, series, ts, value, {columns},
            (arrived, minute, cluster_id) IN noted AS touched
        FROM metrics.metric_samples
        WHERE {metrics} AND (minute, cluster_id) IN changed
        ORDER BY minute, cluster_id, metric, series, ts, backfill DESC, arrived, value
        LIMIT 1 BY minute, cluster_id, metric, series, ts)"""


def rates(counters: str) -> str:
    """The rate of each counter in each minute, at the time of the minute's last sample."""
    return f"""counted AS (
        SELECT minute, cluster_id, metric, series, ts, value, (arrived, minute, cluster_id) IN noted AS touched
        FROM metrics.metric_samples
        WHERE {counters} AND (minute, cluster_id) IN (
            SELECT minute - toIntervalMinute(n), cluster_id FROM changed ARRAY JOIN range({REACH + 1}) AS n)
        ORDER BY minute, cluster_id, metric, series, ts, backfill DESC, arrived, value
        LIMIT 1 BY minute, cluster_id, metric, series, ts),
    steps AS (
        SELECT minute, cluster_id, metric, series, ts,
            toUnixTimestamp64Milli(ts) - toUnixTimestamp64Milli(lagInFrame(ts) OVER earlier) AS gap,
            if(gap <= {GAP}000, gap / 1000, 0) AS seconds,
            if(gap <= {GAP}000, greatest(value - lagInFrame(value) OVER earlier, 0), 0) AS increase,
            lagInFrame(touched) OVER earlier AS touched_earlier
        FROM counted
        WINDOW earlier AS (PARTITION BY cluster_id, metric, series ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)),
    rates AS (
        SELECT minute, cluster_id, metric, series, max(ts) AS ts, max(touched_earlier) AS touched_earlier,
            {total('groupArray(increase)')} / greatest(sum(seconds), 0.001) AS rate
        FROM steps
        WHERE (minute, cluster_id) IN changed
        GROUP BY minute, cluster_id, metric, series)"""


STORE = """
CREATE TABLE metrics.metric_samples (
    arrived DateTime CODEC(Delta(4), ZSTD(1)),
    minute DateTime CODEC(Delta(4), ZSTD(1)),
    cluster_id String,
    cluster_name String,
    cluster_platform String,
    backfill DateTime CODEC(Delta(4), ZSTD(1)),
    metric LowCardinality(String),
    labels Map(String, String) CODEC(ZSTD(1)),
    series UInt64,
    ts DateTime64(3) CODEC(Delta(8), ZSTD(1)),
    value Float64 CODEC(ZSTD(1)),
    PROJECTION arrivals (SELECT arrived, minute, cluster_id, count() GROUP BY arrived, minute, cluster_id)
) ENGINE = MergeTree
PARTITION BY toDate(arrived)
ORDER BY (minute, cluster_id, metric, series, ts)
TTL arrived + toIntervalDay(3)
SETTINGS index_granularity = 512, ttl_only_drop_parts = 1;
"""

NODE_COUNTERS = ("'node_cpu_seconds_total', 'container_network_receive_bytes_total',"
                 " 'container_network_transmit_bytes_total'")
NODE_METRICS = (f"{NODE_COUNTERS}, 'node_memory_MemTotal_bytes', 'node_memory_MemAvailable_bytes',"
                " 'node_filesystem_size_bytes', 'node_filesystem_avail_bytes', 'node_load1', 'node_load5', 'node_load15'")
NODE_LABELS = f"""
            coalesce(nullIf(labels['node'], ''), {HOST}) AS node_name, labels['cpu'] AS cpu, labels['mode'] AS mode,
            if(labels['fstype'] IN ('tmpfs', 'devtmpfs', 'overlay'), '', labels['mountpoint']) AS mountpoint,
            concat(if(labels['id'] = '', '-', trimRight(labels['id'], '/')), '/') AS cgroup"""
NODES = f"""{rates(f'metric IN ({NODE_COUNTERS})')},
    {samples(f'metric IN ({NODE_METRICS})', NODE_LABELS)},
    nodes AS (
        SELECT minute, cluster_id, node_name, max(cluster_name) AS cluster_name, max(touched OR touched_earlier) AS touched,
            uniqExactIf(cpu, metric = 'node_cpu_seconds_total') AS cpus,
            {total("groupArrayIf(rate, metric = 'node_cpu_seconds_total')")} AS cpu_rate,
            {total("groupArrayIf(rate, metric = 'node_cpu_seconds_total' AND mode = 'idle')")} AS idle_rate,
            maxIf(value, metric = 'node_memory_MemTotal_bytes') AS memory,
            maxIf(value, metric = 'node_memory_MemAvailable_bytes') AS available,
            countIf(metric = 'node_memory_MemAvailable_bytes') > 0 AS available_known,
            maxMapIf(map(mountpoint, value), metric = 'node_filesystem_size_bytes' AND mountpoint != '') AS sizes,
            maxMapIf(map(mountpoint, value), metric = 'node_filesystem_avail_bytes' AND mountpoint != '') AS free,
            groupArrayIf(value, metric = 'node_load1') AS loads_1,
            groupArrayIf(value, metric = 'node_load5') AS loads_5,
            groupArrayIf(value, metric = 'node_load15') AS loads_15,
            groupArrayIf((cgroup, rate), metric = 'container_network_receive_bytes_total') AS received,
            groupArrayIf((cgroup, rate), metric = 'container_network_transmit_bytes_total') AS sent
        FROM samples LEFT JOIN rates USING (minute, cluster_id, metric, series, ts)
        WHERE node_name != ''
        GROUP BY minute, cluster_id, node_name),
    rows AS (
        SELECT toDateTime64(minute, 3) AS ts, cluster_id, cluster_name, node_name, touched,
            toFloat64(cpus) AS cpu_cores,
            if(cpu_rate > 0, least(greatest(round(100 - 100 * idle_rate / greatest(cpu_rate, 0.01), 2), 0), 100), 0)
                AS cpu_usage_percent,
            memory AS memory_total_bytes,
            if(available_known, greatest(memory - available, 0), 0) AS memory_used_bytes,
            if(memory > 0, memory_used_bytes / memory * 100, 0) AS memory_usage_percent,
            arraySum(mapValues(sizes)) AS disk_total_bytes,
            arraySum(arrayMap(place -> if(mapContains(free, place), greatest(sizes[place] - free[place], 0), 0),
                              mapKeys(sizes))) AS disk_used_bytes,
            if(disk_total_bytes > 0, disk_used_bytes / disk_total_bytes * 100, 0) AS disk_usage_percent,
            {mean('loads_1')} AS load_1, {mean('loads_5')} AS load_5, {mean('loads_15')} AS load_15,
            {innermost('received')} AS network_receive_bytes_per_sec,
            {innermost('sent')} AS network_transmit_bytes_per_sec
        FROM nodes)"""

POD_COUNTERS = "'container_cpu_usage_seconds_total'"
POD_METRICS = (f"{POD_COUNTERS}, 'container_memory_working_set_bytes', 'kube_pod_container_resource_requests',"
               " 'kube_pod_container_resource_limits', 'kube_pod_container_status_restarts_total',"
               " 'kube_pod_status_phase'")
POD_LABELS = """
            labels['namespace'] AS namespace, labels['pod'] AS pod_name, labels['resource'] AS resource,
            if(metric = 'kube_pod_status_phase', labels['phase'], '') AS phase,
            if(metric = 'kube_pod_status_phase', '', labels['container']) AS container_name"""
PODS = f"""{rates(f'metric IN ({POD_COUNTERS})')},
    {samples(f'metric IN ({POD_METRICS})', POD_LABELS)},
    containers AS (
        SELECT minute, cluster_id, namespace, pod_name, container_name, max(cluster_name) AS cluster_name,
            max(touched OR touched_earlier) AS touched_itself,
            maxIf(value, metric = 'kube_pod_container_resource_requests' AND resource = 'cpu') AS cpu_requests,
            maxIf(value, metric = 'kube_pod_container_resource_limits' AND resource = 'cpu') AS cpu_limits,
            {total("groupArrayIf(rate, metric = 'container_cpu_usage_seconds_total')")} AS cpu_usage,
            maxIf(value, metric = 'kube_pod_container_resource_requests' AND resource = 'memory')
                AS memory_requests_bytes,
            maxIf(value, metric = 'kube_pod_container_resource_limits' AND resource = 'memory')
                AS memory_limits_bytes,
            groupArrayIf(value, metric = 'container_memory_working_set_bytes') AS memory_samples,
            maxIf(value, metric = 'kube_pod_container_status_restarts_total') AS restarted,
            groupUniqArrayIf(phase, value = 1) AS phases
        FROM samples LEFT JOIN rates USING (minute, cluster_id, metric, series, ts)
        WHERE pod_name != ''
        GROUP BY minute, cluster_id, namespace, pod_name, container_name),
    pods AS (
        SELECT *, groupArrayArray(phases) OVER pod AS pod_phases,
            touched_itself OR max(touched_itself AND container_name = '') OVER pod AS touched
        FROM containers
        WINDOW pod AS (PARTITION BY minute, cluster_id, namespace, pod_name)),
    rows AS (
        SELECT toDateTime64(minute, 3) AS ts, touched, cluster_id, cluster_name, namespace, pod_name, container_name,
            cpu_requests, cpu_limits, cpu_usage, memory_requests_bytes, memory_limits_bytes,
            {mean('memory_samples')} AS memory_usage_bytes,
            toInt32(least(greatest(restarted, 0), 2147483647)) AS restarts,
            multiIf(has(pod_phases, 'Running'), 'Running', has(pod_phases, 'Pending'), 'Pending',
                    has(pod_phases, 'Failed'), 'Failed', has(pod_phases, 'Succeeded'), 'Succeeded', 'Unknown') AS status
        FROM pods
        WHERE container_name != '')"""

GPU_LABELS = f"""
            coalesce(nullIf(labels['node'], ''), nullIf(labels['hostname'], ''), nullIf(labels['Hostname'], ''), {HOST})
                AS node_name,
            toUInt8OrZero(if(labels['gpu'] != '', labels['gpu'], extract(labels['device'], '[0-9]+$'))) AS gpu_index,
            coalesce(nullIf(labels['gpu_model'], ''), labels['modelName']) AS model,
            map(concat(labels['GPU_I_ID'], '/', labels['UUID']), value) AS instance"""
GPU_METRICS = ("'DCGM_FI_DEV_GPU_UTIL', 'DCGM_FI_DEV_FB_USED', 'DCGM_FI_DEV_FB_FREE', 'DCGM_FI_DEV_GPU_TEMP',"
               " 'DCGM_FI_DEV_POWER_USAGE'")
GPUS = f"""{samples(f'metric IN ({GPU_METRICS})', GPU_LABELS)},
    gpus AS (
        SELECT minute, cluster_id, node_name, gpu_index, max(cluster_name) AS cluster_name, max(touched) AS touched,
            max(model) AS gpu_model,
            groupArrayIf(value, metric = 'DCGM_FI_DEV_GPU_UTIL') AS utilizations,
            groupArrayIf(value, metric = 'DCGM_FI_DEV_GPU_TEMP') AS temperatures,
            groupArrayIf(value, metric = 'DCGM_FI_DEV_POWER_USAGE') AS powers,
            maxMapIf(instance, metric = 'DCGM_FI_DEV_FB_USED') AS used,
            maxMapIf(instance, metric = 'DCGM_FI_DEV_FB_FREE') AS free
        FROM samples
        WHERE node_name != ''
        GROUP BY minute, cluster_id, node_name, gpu_index),
    rows AS (
        SELECT toDateTime64(minute, 3) AS ts, cluster_id, cluster_name, node_name, gpu_index, gpu_model, touched,
            {mean('utilizations')} AS utilization_percent,
            arraySum(mapValues(used)) * 1048576 AS memory_used_bytes,
            if(empty(used) OR empty(free), 0, memory_used_bytes + arraySum(mapValues(free)) * 1048576)
                AS memory_total_bytes,
            {mean('temperatures')} AS temperature_celsius,
            {mean('powers')} AS power_watts
        FROM gpus)"""

POINTS = f"""{samples('1', 'cluster_platform, labels')},
    rows AS (
        SELECT ts, cluster_id, cluster_name, cluster_platform, toString(metric) AS metric_name, value, labels, touched
        FROM samples)"""

DEFINITIONS = "".join((
    STORE,
    notes("nodes"), notes("pods"), notes("gpus"), notes("points"),
    populate("mv_populate_node_metrics", "NodeMetrics", "nodes", REACH, NODES, NODE),
    populate("mv_populate_pod_metrics", "PodMetrics", "pods", REACH, PODS, POD),
    populate("mv_populate_gpu_metrics", "GPUMetrics", "gpus", 0, GPUS, GPU),
    populate("mv_populate_cluster_metrics", "ClusterMetrics", "points", 0, POINTS, POINT),
    f"\nCREATE MATERIALIZED VIEW metrics.feed_samples TO metrics.metric_samples AS {SAMPLES};\n",
))

VIEWS = ("note_nodes", "note_pods", "note_gpus", "note_points")  # those that refresh by themselves
DERIVING = re.findall(r"CREATE MATERIALIZED VIEW metrics\.((?:note|mv_populate)_\w+)", DEFINITIONS)
ANYONE = re.compile(r"GRANT (.+, )?(ALL|ACCESS MANAGEMENT|ALLOW SQL SECURITY NONE)(,.+)? ON \*\.\*")
BATCH = PORTION // 2  # samples in one INSERT of the backfill: few enough to become one part, which is there or is not
PATIENCE = 600  # seconds in which a view must take in a batch, or have failed


def plan(run: Any) -> list[Any]:
    """The changes of the catalog, then the statements that would free the views from their creator, and backfill."""
    return [*run.clickhouse.changes(DEFINITIONS), *_free(run), *(sql for _, sql in _backfill(run))]


def apply(run: Any) -> None:
    """Converge tables and views, then derive again what the source already holds; stopped anywhere, it goes on."""
    run.clickhouse.converge(DEFINITIONS)
    for statement in _free(run):
        run.clickhouse.execute(statement)
    batches = list(_backfill(run))
    done, total = 0, sum(samples for samples, _ in batches)
    for samples, statement in batches:
        run.clickhouse.execute(statement)
        done += samples
        _wait(run, PORTION if done < total else 0)
        run.clickhouse.progress(done=done, total=total, unit="samples")


def verify(run: Any) -> Iterable[str]:
    """Views that fail or were stopped: what has arrived waits for them, and is derived when they work again.

    A failure is given a few turns to go away by itself: a table may just have been exchanged under the view.
    """
    for _ in range(20):
        found = run.clickhouse.query(
            "SELECT view, status, exception FROM system.view_refreshes WHERE database = 'metrics'"
            f" AND view IN {VIEWS} AND (exception != '' OR status = 'Disabled') ORDER BY view")
        if not found:
            break
        time.sleep(0.5)
    feed = _security(run).get("feed_samples", "")
    return [*(f"metrics.{view} is stopped, its rows wait: SYSTEM START VIEW metrics.{view}" if status == "Disabled" else
              f"metrics.{view} fails, its rows wait: {exception.partition(', Stack trace')[0]}"
              for view, status, exception in found),
            *[f"metrics.feed_samples runs as {feed}: INSERTs into the source would fail without that user;"
              " ALTER TABLE metrics.feed_samples MODIFY SQL SECURITY NONE"] * feed.startswith("DEFINER")]


def _security(run: Any) -> dict[str, str]:
    """The SQL SECURITY clause of each materialized view that has one."""
    return {name: clause for name, clause in run.clickhouse.query(
        "SELECT name, extract(create_table_query, '((?:DEFINER = [^ ]+ )?SQL SECURITY [A-Z]+)') FROM system.tables"
        " WHERE database = 'metrics' AND engine = 'MaterializedView'") if clause}


def _free(run: Any) -> Iterator[str]:
    """Statements that free the views from the user who made them; without the right to that, we take their place."""
    found, names = _security(run), re.findall(r"CREATE MATERIALIZED VIEW metrics\.(\w+)", DEFINITIONS)
    if ANYONE.search("\n".join(row[0] for row in run.clickhouse.query("SHOW GRANTS FINAL"))):
        yield from (f"ALTER TABLE metrics.{name} MODIFY SQL SECURITY NONE" for name in names
                    if found.get(name) != "SQL SECURITY NONE")
        return
    us = f"DEFINER = {run.clickhouse.query('SELECT currentUser()')[0][0]} SQL SECURITY DEFINER"
    yield from (f"ALTER TABLE metrics.{name} MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER" for name in VIEWS
                if found.get(name, us).replace("`", "") not in (us, "SQL SECURITY NONE"))


def _backfill(run: Any) -> Iterator[tuple[int, str]]:
    """How many samples, and the INSERT that brings them in, for what came no way since the views were last changed.

    Bounded by `backfill_days`, newest first. A minute is done when as many samples came as the source has points.
    """
    made = dict(run.clickhouse.query("SELECT name, toUnixTimestamp(metadata_modification_time) FROM system.tables"
                                     " WHERE database = 'metrics'"))
    if "otel_metrics_gauge" not in made:
        return  # a plan on an empty server
    changed = max(made.get(view, 0) for view in DERIVING)
    came = "SELECT toDateTime(0) AS minute, 0 AS came"
    if "metric_samples" in made:
        came = ("SELECT minute, count() AS came FROM metrics.metric_samples"
                f" WHERE arrived > toDateTime({changed}) OR backfill = toDateTime({changed}) GROUP BY minute")
    earliest = f"now() - {round(run.settings.backfill_days * 86400)}"
    rows = run.clickhouse.query(f"""
        SELECT toUnixTimestamp(minute), points FROM (
            SELECT minute, count() AS points FROM ({SAMPLES} AND TimeUnix >= {earliest}) GROUP BY minute) AS source
        LEFT JOIN ({came}) AS samples USING minute
        WHERE points > came ORDER BY minute DESC""")
    first, last, batch = 0, 0, 0
    for minute, points in [*rows, (0, 0)]:
        if batch and (minute != first - 60 or batch + points > BATCH):
            yield batch, (f"INSERT INTO metrics.metric_samples SELECT * REPLACE toDateTime({changed}) AS backfill FROM ({SAMPLES}"
                          f"\n    AND TimeUnix >= toDateTime({first}) AND TimeUnix < toDateTime({last + 60}))")
            batch = 0
        first, last, batch = minute, last if batch else minute, batch + points


def _wait(run: Any, most: int = 0) -> None:
    """Until every view has refreshed, and took in all but `most` of the samples there are now. Raises if one fails."""
    now = run.clickhouse.query("SELECT toUnixTimestamp(now())")[0][0]
    for _ in range(PATIENCE):
        if failed := list(verify(run)):
            raise RuntimeError("; ".join(failed))
        fresh = run.clickhouse.query("SELECT count() FROM system.view_refreshes WHERE database = 'metrics'"
                                     f" AND view IN {VIEWS} AND last_success_time IS NULL")[0][0]
        if not fresh and max(_behind(run, view, now) for view in VIEWS) <= most:
            return
        time.sleep(1)
    raise RuntimeError(f"the views have not taken in what came {PATIENCE} s ago")


def _behind(run: Any, view: str, now: int) -> int:
    """How many of the samples that arrived until `now` a view has yet to take in, and to have succeeded with.

    A note is there before the rows that are derived from it.
    """
    return int(run.clickhouse.query(f"""
        SELECT sum(samples) FROM (
            SELECT arrived, minute, cluster_id, count() AS samples FROM metrics.metric_samples
            WHERE arrived <= toDateTime({now}) GROUP BY arrived, minute, cluster_id
            HAVING (arrived, minute, cluster_id, samples) NOT IN (
                SELECT arrived, minute, cluster_id, samples FROM metrics.{view.replace('note', 'noted')}
                WHERE success < (SELECT max(last_success_time) FROM system.view_refreshes
                                 WHERE database = 'metrics' AND view = '{view}')))""")[0][0])
