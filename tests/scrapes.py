"""What a collector would insert, and what must come of it, both in plain Python: the views are judged by this model.

Nothing here knows the views' SQL. `expected()` says what the four tables hold once everything has arrived.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

MINUTE = 60_000  # milliseconds, as all times here
GAP = 300_000
MIB = 1048576
COLUMNS = "(ResourceAttributes, MetricName, Attributes, TimeUnix, Value)"
PHASES = ("Running", "Pending", "Failed", "Succeeded", "Unknown")
MODES = ("idle", "user", "system", "iowait", "nice", "irq", "softirq", "steal")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """One gauge point; `at` is in milliseconds since 1970."""

    cluster: str
    metric: str
    labels: tuple[tuple[str, str], ...]
    at: int
    value: float
    name: str = "Cluster One"
    platform: str = "kubernetes"

    @property
    def minute(self) -> int:
        return self.at // MINUTE * MINUTE

    def label(self, *names: str) -> str:
        """The first of these labels that is not empty."""
        labels = dict(self.labels)
        return next((labels[name] for name in names if labels.get(name)), "")

    def json(self) -> str:
        resource = {"cluster_id": self.cluster, "cluster_name": self.name, "cluster_platform": self.platform}
        return json.dumps({"ResourceAttributes": resource, "MetricName": self.metric, "Attributes": dict(self.labels),
                           "TimeUnix": moment(self.at), "Value": self.value})


def moment(at: int) -> str:
    """A time as ClickHouse reads and writes it, UTC, with milliseconds only where there are some."""
    text = datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{at % 1000:03}" if at % 1000 else text


def insert(points: Iterable[Point]) -> str:
    """One INSERT of these points, in this order."""
    return f"INSERT INTO metrics.otel_metrics_gauge {COLUMNS} FORMAT JSONEachRow " + "\n".join(p.json() for p in points)


# A scrape: every metric that the views read, of nodes, their containers and their GPUs.

def scrape(at: int, *, cluster: str = "c1", nodes: int = 1, cpus: int = 2, pods: int = 2, containers: int = 2,
           gpus: int = 1, **names: str) -> list[Point]:
    """One scrape at time `at`; counters grow steadily, so two scrapes give the same rates at any distance."""
    points = []
    for number in range(nodes):
        for metric, labels, value in _node(f"node-{number}", at / 1000, cpus, pods, containers, gpus):
            points.append(Point(cluster, metric, tuple(sorted(labels.items())), at, value, **names))
    return points


def _node(node: str, now: float, cpus: int, pods: int, containers: int, gpus: int
          ) -> Iterable[tuple[str, dict[str, str], float]]:
    own = {"instance": f"{node}:9100", "job": "node-exporter"}
    for cpu in range(cpus):
        for mode, share in zip(MODES, (0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.0078125), strict=True):
            yield "node_cpu_seconds_total", own | {"cpu": str(cpu), "mode": mode}, now * share
    yield "node_memory_MemTotal_bytes", own, 16.0 * 2**30
    yield "node_memory_MemAvailable_bytes", own, 4.0 * 2**30
    yield from ((f"node_load{minutes}", own, 4 / minutes) for minutes in (1, 5, 15))
    for mountpoint, fstype, size in (("/", "ext4", 100e9), ("/data", "xfs", 300e9), ("/run", "tmpfs", 5e9)):
        disk = own | {"device": f"/dev/{fstype}", "fstype": fstype, "mountpoint": mountpoint}
        yield "node_filesystem_size_bytes", disk, size
        yield "node_filesystem_avail_bytes", disk, size / 4
    for pod in range(pods):
        yield from _pod(node, f"{node}-pod-{pod}", now, containers)
    for gpu in range(gpus):
        card = {"gpu": str(gpu), "device": f"nvidia{gpu}", "UUID": f"GPU-{node}-{gpu}", "modelName": "NVIDIA A100",
                "Hostname": node}
        for metric, value in (("GPU_UTIL", 40.0 + gpu), ("FB_USED", 1000.0), ("FB_FREE", 3000.0), ("GPU_TEMP", 55.0),
                              ("POWER_USAGE", 250.5)):
            yield f"DCGM_FI_DEV_{metric}", card, value


def _pod(node: str, pod: str, now: float, containers: int) -> Iterable[tuple[str, dict[str, str], float]]:
    place = {"namespace": "shop", "pod": pod, "instance": f"{node}:10250"}
    for interface, rate in (("eth0", 1000), ("lo", 8)):
        sandbox = place | {"id": f"/kubepods/{pod}", "interface": interface}
        yield "container_network_receive_bytes_total", sandbox, now * rate
        yield "container_network_transmit_bytes_total", sandbox, now * rate / 2
    for phase in PHASES:
        yield "kube_pod_status_phase", place | {"phase": phase}, float(phase == "Running")
    for number in range(containers):
        one = place | {"container": f"app-{number}"}
        yield "container_cpu_usage_seconds_total", one | {"cpu": "total", "id": f"/kubepods/{pod}/{number}"}, now / 4
        yield "container_memory_working_set_bytes", one, 1e8 + number
        yield "kube_pod_container_status_restarts_total", one, float(number)
        for metric, factor in (("requests", 1), ("limits", 2)):
            of = f"kube_pod_container_resource_{metric}"
            yield of, one | {"resource": "cpu", "unit": "core"}, 0.5 * factor
            yield of, one | {"resource": "memory", "unit": "byte"}, 2.0**28 * factor


# The model.

def expected(points: Iterable[Point]) -> dict[str, set[Row]]:
    """Table name -> its rows, as FINAL would show them. Copies count once, the order of the points not at all."""
    points = {point for point in points if point.cluster and abs(point.value) < 1e100}
    rates = _rates(points)
    return {
        "NodeMetrics": set(_nodes(points, rates)),
        "PodMetrics": set(_pods(points, rates)),
        "GPUMetrics": set(_gpus(points)),
        "ClusterMetrics": {(moment(p.at), p.cluster, p.name, p.platform, p.metric, p.value, p.labels) for p in points},
    }


def _rates(points: Iterable[Point]) -> dict[tuple[Point, int], float]:
    """(series, minute) -> increase per second over the steps that end in the minute; a step down counts as none."""
    series: dict[Point, list[Point]] = defaultdict(list)
    for point in points:
        series[_series(point)].append(point)
    rates = {}
    for one, samples in series.items():
        samples.sort(key=lambda point: point.at)
        steps: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for before, after in itertools.pairwise(samples):
            if after.at - before.at <= GAP:
                steps[after.minute].append((max(after.value - before.value, 0), (after.at - before.at) / 1000))
        for minute, pairs in steps.items():
            rates[one, minute] = sum(sorted(grown for grown, _ in pairs)) / sum(seconds for _, seconds in pairs)
    return rates


def _series(point: Point) -> Point:
    return replace(point, at=0, value=0)


def _grouped(points: Iterable[Point], key: Callable[[Point], Row]) -> dict[Row, list[Point]]:
    groups: dict[Row, list[Point]] = defaultdict(list)
    for point in points:
        groups[key(point)].append(point)
    return groups


def _host(point: Point) -> str:
    return re.sub(r":[0-9]+$", "", point.label("instance"))


def _nodes(points: Iterable[Point], rates: Mapping[tuple[Point, int], float]) -> Iterable[Row]:
    wanted = re.compile(r"node_(cpu_seconds_total|memory_Mem(Total|Available)_bytes|filesystem_(size|avail)_bytes|"
                        r"load(1|5|15))|container_network_(receive|transmit)_bytes_total")
    mine = [point for point in points if wanted.fullmatch(point.metric) and (point.label("node") or _host(point))]
    for (minute, cluster, node), group in _grouped(
            mine, lambda point: (point.minute, point.cluster, point.label("node") or _host(point))).items():
        by = _by_metric(group)
        cpu = by["node_cpu_seconds_total"]
        total, idle = (sum(rates.get((one, minute), 0) for one in {_series(p) for p in of})
                       for of in (cpu, [p for p in cpu if p.label("mode") == "idle"]))
        busy = min(max(round(100 - 100 * idle / max(total, 0.01), 2), 0), 100) if total > 0 else 0
        memory, available = (_most(by[f"node_memory_Mem{name}_bytes"]) for name in ("Total", "Available"))
        used = max(memory - available, 0) if by["node_memory_MemAvailable_bytes"] else 0
        sizes, free = (_disks(by[f"node_filesystem_{name}_bytes"]) for name in ("size", "avail"))
        disk = sum(sizes.values())
        full = sum(max(sizes[place] - free[place], 0) for place in sizes if place in free)
        yield (moment(minute), cluster, max(p.name for p in group), node, len({p.label("cpu") for p in cpu}), busy,
               memory, used, used / memory * 100 if memory else 0, disk, full, full / disk * 100 if disk else 0,
               *(_average(by[f"node_load{n}"]) for n in (1, 5, 15)),
               *(_traffic(by[f"container_network_{way}_bytes_total"], minute, rates) for way in ("receive", "transmit")))


def _disks(points: Iterable[Point]) -> dict[str, float]:
    places: dict[str, float] = {}
    for point in points:
        place = point.label("mountpoint")
        if place and point.label("fstype") not in ("tmpfs", "devtmpfs", "overlay"):
            places[place] = max(places.get(place, 0), point.value)
    return places


def _traffic(points: Iterable[Point], minute: int, rates: Mapping[tuple[Point, int], float]) -> float:
    series = {_series(point) for point in points}
    paths = {one: one.label("id").rstrip("/") + "/" for one in series if one.label("id")}
    inner = [one for one in series if one not in paths
             or not any(other != paths[one] and other.startswith(paths[one]) for other in paths.values())]
    return sum(rates.get((one, minute), 0) for one in inner)


def _pods(points: Iterable[Point], rates: Mapping[tuple[Point, int], float]) -> Iterable[Row]:
    wanted = re.compile(r"kube_pod_(container_resource_(requests|limits)|container_status_restarts_total)|"
                        r"container_(cpu_usage_seconds_total|memory_working_set_bytes)")
    phases: dict[Row, set[str]] = defaultdict(set)
    for point in points:
        if point.metric == "kube_pod_status_phase" and point.value == 1:
            phases[point.minute, point.cluster, point.label("namespace"), point.label("pod")].add(point.label("phase"))
    mine = [p for p in points if wanted.fullmatch(p.metric) and p.label("pod") and p.label("container")]
    for (minute, cluster, namespace, pod, container), group in _grouped(
            mine, lambda p: (p.minute, p.cluster, p.label("namespace"), p.label("pod"), p.label("container"))).items():
        by = _by_metric(group)
        asked, allowed = ([[p for p in by[f"kube_pod_container_resource_{kind}"] if p.label("resource") == resource]
                           for resource in ("cpu", "memory")] for kind in ("requests", "limits"))
        known = phases[minute, cluster, namespace, pod]
        yield (moment(minute), cluster, max(p.name for p in group), namespace, pod, container,
               _most(asked[0]), _most(allowed[0]),
               sum(rates.get((one, minute), 0) for one in {_series(p) for p in by["container_cpu_usage_seconds_total"]}),
               _most(asked[1]), _most(allowed[1]), _average(by["container_memory_working_set_bytes"]),
               min(max(int(_most(by["kube_pod_container_status_restarts_total"])), 0), 2**31 - 1),
               next((phase for phase in PHASES[:4] if phase in known), "Unknown"))


def _gpus(points: Iterable[Point]) -> Iterable[Row]:
    wanted = re.compile(r"DCGM_FI_DEV_(GPU_UTIL|FB_USED|FB_FREE|GPU_TEMP|POWER_USAGE)")
    place = {p: p.label("node", "hostname", "Hostname") or _host(p) for p in points if wanted.fullmatch(p.metric)}
    for (minute, cluster, node, index), group in _grouped(
            [p for p in place if place[p]], lambda p: (p.minute, p.cluster, place[p], _index(p))).items():
        by = _by_metric(group)
        used, free = (_instances(by[f"DCGM_FI_DEV_FB_{name}"]) for name in ("USED", "FREE"))
        yield (moment(minute), cluster, max(p.name for p in group), node, index,
               max(p.label("gpu_model", "modelName") for p in group), _average(by["DCGM_FI_DEV_GPU_UTIL"]),
               sum(used) * MIB, (sum(used) + sum(free)) * MIB if used and free else 0,
               _average(by["DCGM_FI_DEV_GPU_TEMP"]), _average(by["DCGM_FI_DEV_POWER_USAGE"]))


def _index(point: Point) -> int:
    digits = point.label("gpu") or re.sub(r"^.*?([0-9]*)$", r"\1", point.label("device"))
    return int(digits) if digits.isdecimal() and int(digits) < 256 else 0


def _instances(points: Iterable[Point]) -> list[float]:
    most: dict[Row, float] = {}
    for point in points:
        key = (point.label("UUID"), point.label("GPU_I_ID"))
        most[key] = max(most.get(key, -math.inf), point.value)
    return list(most.values())


def _by_metric(points: Iterable[Point]) -> Mapping[str, list[Point]]:
    by: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by[point.metric].append(point)
    return by


def _most(points: Sequence[Point]) -> float:
    return max((point.value for point in points), default=0)


def _average(points: Sequence[Point]) -> float:
    return sum(sorted(point.value for point in points)) / len(points) if points else 0
