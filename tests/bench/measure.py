"""What all measurements share: programs run in turns, their seconds, CPU and memory, and a table of medians."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TURNS = int(os.environ.get("BENCH_TURNS", "11"))
JOB = [sys.executable, str(ROOT / "entrypoint.py")]


class Spent(NamedTuple):
    """One run: seconds by the clock, seconds of its own CPU, and its peak memory in MB."""

    wall: float
    cpu: float
    peak: float


def run(command: list[str], environ: Mapping[str, str] | None = None, cwd: Path = ROOT, code: int = 0) -> Spent:
    """Run a program to its end. Raises RuntimeError, with its output, when it does not exit with `code`."""
    clean = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen(command, env=clean | dict(environ or {}), cwd=cwd, stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out)  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            out.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{out.read()[-3000:].decode(errors='replace')}")
    return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def in_turns(turns: int, subjects: Mapping[str, Callable[[], Spent]]) -> dict[str, Spent]:
    """The median of each subject, measured one after the other in every turn; the first turn warms up."""
    spent: dict[str, list[Spent]] = {name: [] for name in subjects}
    for turn in range(turns + 1):
        for name, subject in subjects.items():
            once = subject()
            if turn:
                spent[name].append(once)
    return {name: Spent(*map(statistics.median, zip(*all_of, strict=True))) for name, all_of in spent.items()}


def table(medians: Mapping[str, Spent], base: str) -> None:
    """Print the medians, and each one's ratio to that of `base`."""
    print(f"   {'':44}{'wall ms':>10}{'ratio':>7}{'CPU ms':>10}{'ratio':>7}{'peak MB':>9}")
    for name, spent in medians.items():
        print(f"   {name:44}{spent.wall * 1000:10.1f}{spent.wall / medians[base].wall:7.2f}{spent.cpu * 1000:10.1f}"
              f"{spent.cpu / medians[base].cpu:7.2f}{spent.peak:9.1f}", flush=True)
