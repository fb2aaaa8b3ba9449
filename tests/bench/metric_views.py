"""What one more scrape of 100 nodes costs with an empty store, and with many rows on earlier days, side by side.

`python -m tests.bench.metric_views [ROWS]`, 10 million rows by default. The cost is that of the collector's INSERT and
of all that the views then do for it: rows read and seconds, from the servers' own query logs.
"""

import statistics
import sys
import time
from collections.abc import Iterator

from tests.databases.test_metric_views import RECENT, VIEWS, create, fill, settle
from tests.scrapes import insert, scrape
from tests.servers.clickhouse import ClickHouseServer

SIZE = {"nodes": 100, "cpus": 8, "pods": 5, "containers": 2, "gpus": 1}
TURNS = 10


def main(stored: int) -> None:
    with ClickHouseServer() as empty, ClickHouseServer() as full:
        for server in (empty, full):
            create(server, every="1 YEAR")
            server.query(insert(scrape(RECENT, **SIZE)))
            settle(server)
        began = time.monotonic()
        fill(full, stored, **SIZE)
        count, size = full.query("SELECT count(), formatReadableSize(sum(bytes_on_disk)) FROM system.parts"
                                 " WHERE database = 'metrics' AND active")[0]
        print(f"{stored:,} points of {len(scrape(0, **SIZE)):,} series on two earlier days, stored in"
              f" {time.monotonic() - began:.0f} s; {count} parts, {size}\n")
        found = [(cost(empty, at), cost(full, at)) for at in range(RECENT + 30_000, RECENT + 30_000 * (TURNS + 1), 30_000)]
    print(f"{'median of ' + str(TURNS):34}{'empty':>12}{'full':>12}{'ratio':>8}")
    for name in found[0][0]:
        one, other = (statistics.median(pair[side][name] for pair in found) for side in (0, 1))
        print(f"{name:34}{one:12,.3f}{other:12,.3f}{other / one if one else 1:8.2f}")


def cost(server: ClickHouseServer, at: int) -> dict[str, float]:
    """Rows read and seconds of one scrape's INSERT and of each view's refresh after it."""
    settle(server)
    began = server.query("SELECT toString(now64(6))")[0][0]
    server.query(insert(scrape(at, **SIZE)))
    settle(server)
    server.query("SYSTEM FLUSH LOGS query_log")
    return dict(figures(server, began))


def figures(server: ClickHouseServer, began: str) -> Iterator[tuple[str, float]]:
    totals = [0.0, 0.0]
    for name in ("otel_metrics_gauge", *(view.replace("note", "noted") for view in VIEWS)):
        rows, seconds = server.query(
            "SELECT sum(read_rows), sum(query_duration_ms) / 1000 FROM system.query_log WHERE type = 'QueryFinish'"
            f" AND query_kind = 'Insert' AND event_time_microseconds > '{began}' AND query LIKE 'INSERT INTO metrics.{name} %'")[0]
        yield f"{name}: rows read", rows
        yield f"{name}: seconds", seconds
        totals = [totals[0] + rows, totals[1] + seconds]
    yield from (("all: rows read", totals[0]), ("all: seconds", totals[1]))


if __name__ == "__main__":
    main(int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 10_000_000)
