"""From the moment that both servers can answer to the first step, and how often the job knocks until then."""

import statistics
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.measure import TURNS
from tests.bench.work import Servers, servers, write_steps
from tests.job import Job

DOWN_SECONDS = (0.5, 3.0)  # how long the servers stay down after the job began


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        directory = write_steps(Path(folder) / "steps", 1, 1)
        environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory), "MIGRATE_VERIFY": "steps"}
        print(f"   {'down for':>10}{'median s':>10}{'slowest s':>10}{'tries (both)':>14}")
        for down in DOWN_SECONDS:
            found = [once(both, environ, down) for _ in range(turns)]
            late, tries = zip(*found, strict=True)
            print(f"   {down:8.1f} s{statistics.median(late):10.2f}{max(late):10.2f}{statistics.median(tries):14.0f}", flush=True)


def once(both: Servers, environ: dict[str, str], down: float) -> tuple[float, int]:
    """Seconds between the later server's first answer and the first step; how many tries found nobody."""
    both.empty()
    for server in (both.clickhouse, both.mysql):
        server.stop()
    job = Job(env=environ)
    job.until("waiting")
    time.sleep(down)
    up: list[float] = []

    def start(server: object) -> None:
        server.start()  # type: ignore[attr-defined]  # returns when the server answers
        up.append(time.time())

    threads = [threading.Thread(target=start, args=(server,)) for server in (both.clickhouse, both.mysql)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = job.until("step_started")
    result = job.wait()
    assert result.code == 0, result.stdout
    began = time.mktime(time.strptime(first["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(first["time"][19:23])
    return max(0.0, began - max(up)), len(result.events("waiting"))


if __name__ == "__main__":
    main()
