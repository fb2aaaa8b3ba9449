"""The private Docker engine of the tests: it works beside any other, and leaves this machine as it was."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.image.engine import CGROUPS, PREFIX, ROOT, as_root, docker, install_tools, private_engine


def traces() -> Counter[str]:
    """Everything of this machine that an engine could leave behind, a line each."""
    lines = [
        *os.listdir("/sys/class/net"),
        *CGROUPS.rglob(PREFIX + "*"),
        *Path(tempfile.gettempdir()).glob(PREFIX + "*"),
    ]
    for name in ("self/mounts", "net/route", "net/ipv6_route", "sys/net/ipv4/ip_forward"):
        lines += Path("/proc", name).read_text().splitlines()
    firewall = subprocess.run([*as_root(), "iptables-save"], capture_output=True, text=True, check=True).stdout
    lines += [line for line in firewall.splitlines() if not line.startswith(("#", ":"))]
    engine = ("dockerd", "containerd", "docker-proxy", "slirp4netns")
    return Counter(str(line) for line in [*lines, *(name for name in commands() if name.startswith(engine))])


def commands() -> list[str]:
    """The name of every process."""
    names = []
    for file in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            names.append(file.read_text().strip())
    return names


def test_a_private_engine_leaves_no_trace() -> None:
    """Links, routes, firewall, sysctl, mounts, control groups, directories and processes are as before it ran."""
    install_tools()
    before = traces()
    with private_engine() as environ:
        assert "Storage Driver: overlay2" in docker(environ, "info")
        assert traces() != before
    assert traces() == before


def test_an_engine_whose_tests_were_killed_ends_by_itself() -> None:
    """kill -9 of the process that asked for it leaves no trace either, a few seconds later."""
    install_tools()
    before = traces()
    command = [sys.executable, "-m", "tests.image.engine", "--private", "sh", "-c", "echo up; read line"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout.readline() == "up\n"
        runner.kill()
    wait_until(lambda: traces() == before)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.2)
