"""The private Docker engine of the tests: it works beside any other, and leaves this machine as it was."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.image.engine import CGROUPS, PREFIX, ROOT, docker, private_engine


def traces() -> Counter[str]:
    """Everything of this machine that an engine could leave behind, a line each."""
    commands = (["ip", "-brief", "link"], ["ip", "route"], ["iptables-save"], ["sysctl", "net.ipv4.ip_forward"])
    lines = [line for command in commands for line in said(command) if not line.startswith("#")]
    lines += Path("/proc/self/mounts").read_text().splitlines()
    lines += [str(path) for path in CGROUPS.rglob(PREFIX + "*")]
    lines += [str(path) for path in Path("/tmp").glob(PREFIX + "*")]
    engine = ("dockerd", "containerd", "docker-proxy", "slirp4netns")
    return Counter(lines + [line for line in said(["ps", "-eo", "comm="]) if line.startswith(engine)])


def said(command: list[str]) -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": path}).stdout.splitlines()


def test_a_private_engine_leaves_no_trace() -> None:
    """Links, routes, firewall, sysctl, mounts, control groups, directories and processes are as before it ran."""
    before = traces()
    with private_engine() as environ:
        assert "Storage Driver: overlay2" in docker(environ, "info")
        assert traces() != before
    assert traces() == before


def test_an_engine_whose_tests_were_killed_ends_by_itself() -> None:
    """kill -9 of the process that asked for it leaves no trace either, a few seconds later."""
    before = traces()
    command = [sys.executable, "-m", "tests.image.engine", "--private", "sleep", "600"]
    runner = subprocess.Popen(command, cwd=ROOT)
    wait_until(lambda: any("sleep" in line for line in said(["ps", "--ppid", str(runner.pid), "-o", "comm="])))
    runner.kill()
    runner.wait()
    wait_until(lambda: traces() == before)


def wait_until(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.2)
