"""A Docker engine for tests: the one that already runs, else a private one made of Debian packages.

    with docker_engine() as environ: subprocess.run(["docker", "build", "."], env=environ)
    python3 -m tests.image.engine COMMAND ...     the same for a shell: runs COMMAND where `docker` works
    python3 -m tests.image.engine --private COMMAND ...     always on an engine of its own, which has no image

The private engine lives in network, mount, process and IPC namespaces of its own and reaches the outside through a
user-mode network. So it changes no firewall rule, link, route, sysctl or mount of this machine, listens on no port,
runs beside any other engine, and is gone with its namespaces even if everything here is killed -9.
Needs root or password-less sudo. What cannot be had is an EngineError: a failed test, never a skipped one.
"""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.servers import engines
from tests.servers.engines import EngineError, made_once

ROOT = Path(__file__).parents[2]
PYTHON_IMAGE = "python:3.13-slim"
SUITE = "trixie"  # the first Debian release whose compose is version 2
BASE_PACKAGES = "python3,python3-venv,ca-certificates,netbase,tzdata"  # what the official Python image has, too
# Unpacked, not installed: an installed containerd would start a service. From $SUITE what needs only an older libc;
# from this machine's own release what is linked to its libraries.
UNPACKED = {SUITE: ("docker.io", "docker-cli", "docker-compose", "docker-buildx"), "": ("containerd", "runc", "tini")}
INSTALLED = {"mmdebstrap": "mmdebstrap", "iptables": "iptables", "slirp4netns": "slirp4netns"}  # program: package
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PREFIX = "migrate-docker-"
ENOUGH_MEMORY = 8 << 30  # then images and containers live in memory: no write to the disk, nothing to delete at the end
CGROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def docker_engine() -> Iterator[dict[str, str]]:
    """Yield an environment in which `docker`, `docker compose` and PYTHON_IMAGE work."""
    if answers(os.environ):
        environ = os.environ | {"DOCKER_BUILDKIT": "1"}
        docker(environ, "compose", "version")
        have = succeeds(environ, "image", "inspect", PYTHON_IMAGE) or succeeds(environ, "pull", PYTHON_IMAGE)
        if not have:
            import_base_image(environ)
        try:
            yield environ
        finally:
            if not have:
                docker(environ, "image", "rm", PYTHON_IMAGE)
    else:
        with private_engine() as environ:
            import_base_image(environ)
            yield environ


@contextlib.contextmanager
def private_engine() -> Iterator[dict[str, str]]:
    """Start an engine without any image, yield its environment, and leave nothing behind."""
    install_tools()
    tree = unpacked_tree()
    guard = subprocess.Popen(
        [*as_root(), sys.executable, "-m", "tests.image.engine", "--guard", str(tree), str(os.getuid()), str(os.getgid())],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        directory = guard.stdout.readline().strip()
        if not directory:
            raise EngineError("the Docker engine did not start; its log stands above")
        yield os.environ | {
            "PATH": f"{tree}/usr/bin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{directory}/docker.sock",
            "DOCKER_CONFIG": f"{directory}/config",
            "DOCKER_BUILDKIT": "1",
        }
    finally:
        guard.stdin.close()
        guard.wait(60)


def docker(environ: Mapping[str, str], *arguments: str) -> str:
    """What a docker command prints; EngineError with its message if it fails."""
    done = subprocess.run(["docker", *arguments], env=environ, capture_output=True, text=True)
    if done.returncode:
        raise EngineError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def succeeds(environ: Mapping[str, str], *arguments: str) -> bool:
    with contextlib.suppress(EngineError):
        docker(environ, *arguments)
        return True
    return False


def answers(environ: Mapping[str, str]) -> bool:
    """Whether a Docker client and an engine behind it are there."""
    return bool(shutil.which("docker", path=environ.get("PATH"))) and succeeds(environ, "version")


def as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def run_as_root(*command: str) -> None:
    try:
        subprocess.run([*as_root(), *command], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"a private Docker engine needs root or sudo -n: {error}") from error


def install_tools() -> None:
    """Install the Debian packages of the tools that are not here yet; none of them brings a service."""
    packages = [name for program, name in INSTALLED.items() if not shutil.which(program, path=SYSTEM_PATH)]
    if packages:
        apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
        run_as_root(*apt, "update")
        run_as_root(*apt, "install", "-y", "--no-install-recommends", *packages)


def unpacked_tree() -> Path:
    """The directory with dockerd, its client, plugins and runtime; filled at the first call."""
    with made_once("docker/engine") as (tree, work):
        if work:
            own = platform.freedesktop_os_release()["VERSION_CODENAME"]
            for suite, packages in UNPACKED.items():
                engines.unpack(work, suite or own, packages)
    return tree


def import_base_image(environ: Mapping[str, str]) -> None:
    """Give a bootstrapped Debian the public name that the Dockerfile asks for: no registry is reachable in CI."""
    with made_once("docker/base") as (base, work):
        if work:
            install_tools()
            bootstrap(work / "root.tar")
    docker(environ, "import", "--change", 'CMD ["python3"]', str(base / "root.tar"), PYTHON_IMAGE)


def bootstrap(archive: Path) -> None:
    """Write a minimal Debian with Python and certificates; half a minute."""
    exclude = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    with archive.open("wb") as output:
        done = subprocess.run(
            [*as_root(), "mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE_PACKAGES}", *exclude,
             '--aptopt=Acquire::Languages "none"', '--customize-hook=ln -s python3 "$1/usr/bin/python"',
             SUITE, "-", engines.source(SUITE)],
            stdin=subprocess.DEVNULL, stdout=output,
        )  # fmt: skip
    if done.returncode:
        raise EngineError("mmdebstrap failed; its message stands above")


def guard(tree: Path, user: int, group: int) -> None:
    """Run dockerd for `user` in namespaces of its own; print its directory when it is up; end it when stdin ends."""
    for stale in Path(tempfile.gettempdir()).glob(PREFIX + "run-*"):
        remove(stale)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX + "run-"))
    with (directory / "lock").open("w") as lock, contextlib.ExitStack() as cleanup:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cleanup.callback(remove, directory, lock)
        directory.chmod(0o711)
        (directory / "config").mkdir()
        (directory / "config/cli-plugins").symlink_to(tree / "usr/libexec/docker/cli-plugins")
        os.chown(directory / "config", user, group)
        inside = start_dockerd(tree, directory, group)
        cleanup.callback(inside.communicate)
        cleanup.callback(inside.kill)
        network = start_network(first_child(inside))
        cleanup.callback(network.communicate)
        cleanup.callback(network.kill)
        if wait_until_up(tree, directory, inside):
            print(directory, flush=True)
            sys.stdin.read()
        else:
            print((directory / "dockerd.log").read_text()[-4000:], file=sys.stderr)


def start_dockerd(tree: Path, directory: Path, group: int) -> subprocess.Popen[bytes]:
    """dockerd under a reaper as the first process of its namespaces: all of them end with it, and with us."""
    (directory / "resolv.conf").write_text("nameserver 10.0.2.3\n")  # slirp4netns forwards it to this machine's own
    dockerd = [
        "dockerd", f"--data-root={directory}/data", f"--exec-root={directory}/exec", f"--pidfile={directory}/pid",
        f"--host=unix://{directory}/docker.sock", f"--group={group}", f"--cgroup-parent={directory.name}",
        "--exec-opt=native.cgroupdriver=cgroupfs", "--userland-proxy=false",
    ]  # fmt: skip
    namespaces = ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    prepare = f"mount --bind {directory}/resolv.conf /etc/resolv.conf"
    if memory_available() >= ENOUGH_MEMORY:
        prepare += f" && mkdir {directory}/data && mount -t tmpfs -o mode=711 tmpfs {directory}/data"
    with (directory / "dockerd.log").open("wb") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *namespaces, "sh", "-ec", f'{prepare}; exec "$@"', "sh",
             "tini-static", "--", *dockerd],
            env={"PATH": f"{tree}/usr/bin:{tree}/usr/sbin:{SYSTEM_PATH}"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def memory_available() -> int:
    """Bytes that can be used without swapping."""
    return int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024


def start_network(pid: int) -> subprocess.Popen[bytes]:
    """A way out of the namespace of process `pid`; not to what listens on this machine's own loopback."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "slirp4netns", "--configure", "--mtu=1500", "--disable-host-loopback",
         str(pid), "tap0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def first_child(parent: subprocess.Popen[bytes]) -> int:
    """The process that `unshare --fork` made, which is the one inside the namespaces."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while parent.poll() is None:
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.01)
    raise EngineError("no namespace could be made")


def wait_until_up(tree: Path, directory: Path, inside: subprocess.Popen[bytes], seconds: float = 60) -> bool:
    environ = {"PATH": f"{tree}/usr/bin:{SYSTEM_PATH}", "DOCKER_HOST": f"unix://{directory}/docker.sock"}
    end = time.monotonic() + seconds
    while time.monotonic() < end and inside.poll() is None:
        if succeeds(environ, "version"):
            return True
        time.sleep(0.1)
    return False


def remove(directory: Path, held: object = None) -> None:
    """Remove an engine's directory and control groups, unless a live guard holds its lock."""
    with contextlib.suppress(OSError), (directory / "lock").open("w") as lock:
        if held is None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for _ in range(100):  # processes that were killed a moment ago leave their groups a moment later
            groups = [path for top in CGROUPS.rglob(directory.name) for path in (top, *top.rglob("*/"))]
            for group in sorted(groups, reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            if not groups:
                break
            time.sleep(0.05)
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--guard"]:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        guard(Path(arguments[1]), int(arguments[2]), int(arguments[3]))
        return 0
    if not arguments:
        print(__doc__)
        return 2
    private = arguments[:1] == ["--private"]
    with private_engine() if private else docker_engine() as environ:
        return subprocess.run(arguments[private:], env=environ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
