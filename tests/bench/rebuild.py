"""What the rebuild of a table costs, beside a plain INSERT … SELECT of the same rows on the same server.

`python -m tests.bench rebuild`: 1 million rows of PodMetrics in their oldest form, 20 million with MIGRATE_TEST_FULL=1.
The copy is timed by the job's own progress lines; the whole step also compares both tables row by row.
"""

import os
import re
import time
from datetime import datetime
from pathlib import Path

import clickhouse_connect

from tests.databases.clickhouse_shapes import COLUMNS, SHAPES, STRINGS, create
from tests.job import Job, JobResult
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.process import HOST

ROWS = 20_000_000 if os.environ.get("MIGRATE_TEST_FULL") else 1_000_000
KEPT = "metrics.PodMetrics__before_0002"


def main() -> None:
    with ClickHouseServer() as server:
        server.query("CREATE DATABASE metrics")
        server.query(create("PodMetrics", SHAPES["A"]))
        fill(server)
        result, memory = run(server)
        assert result.code == 0, result.report
        assert server.query(f"SELECT count() FROM {KEPT}") == [(ROWS,)]
        plain = insert_select(server)
    copying = [datetime.fromisoformat(line["time"]) for line in result.events("progress") if line["unit"] == "rows"]
    copied = (copying[-1] - copying[0]).total_seconds()
    step = next(line["seconds"] for line in result.events("step_applied") if line["step"].startswith("0002"))
    print(f"{ROWS:,} rows: plain INSERT … SELECT {plain:.1f} s; copied by the rebuild in {copied:.1f} s, {copied / plain:.2f}"
          f" times that; the whole step {step:.1f} s; peak memory of the job {memory:.0f} MB")


def fill(server: ClickHouseServer) -> None:
    """Rows of some 2,000 containers, a minute apart, within the last 26 days, in INSERTs of a million."""
    names = ["ts", *COLUMNS["PodMetrics"].split()]
    values = {"ts": "toDateTime64(toDate(now()) - 26, 3) + toIntervalMinute(intDiv(number, 2000) % 37000)"}
    values |= {name: f"concat('{name}-', toString(number % 2000))" for name in STRINGS}
    values |= {"restarts": "number % 7", "status": "'Running'", "cluster_name": "'name'"}
    found = ", ".join(values.get(name, f"cityHash64(number, '{name}') % 1000000 / 1000") for name in names)
    for start in range(0, ROWS, 1_000_000):
        server.query(f"INSERT INTO metrics.PodMetrics SELECT {found} FROM numbers({start}, 1000000)", async_insert=0)
    while server.query("SELECT count() FROM system.merges")[0][0]:
        time.sleep(1)


def run(server: ClickHouseServer) -> tuple[JobResult, float]:
    """The job to its end, and its peak memory in MB."""
    job, peak = Job("--target", "clickhouse", env={"CLICKHOUSE_URL": server.url()}), 0
    while job.process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{job.process.pid}/status").read_text())
        peak = max(peak, int(found[1])) if found else peak
        time.sleep(0.2)
    return job.wait(), peak / 1024


def insert_select(server: ClickHouseServer) -> float:
    """Seconds of copying the old rows into a new, empty table of the same form as the rebuilt one; the better of two."""
    client = clickhouse_connect.get_client(host=HOST, port=server.port, username=server.user, password=server.password,
                                           send_receive_timeout=7200)  # fmt: skip
    names, seconds = ", ".join(["ts", *COLUMNS["PodMetrics"].split()]), []
    for turn in (1, 2):
        server.query(f"CREATE TABLE metrics.plain{turn} AS metrics.PodMetrics")
        began = time.monotonic()
        client.command(f"INSERT INTO metrics.plain{turn} ({names}) SELECT {names} FROM {KEPT}", settings={"async_insert": 0})
        seconds.append(time.monotonic() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
