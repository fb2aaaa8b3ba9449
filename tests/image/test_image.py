"""The image as its users get it: small, nothing in it but the program, and fit for the strictest runtime settings."""

import json
import re
import subprocess
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.containers import Docker, python
from tests.image.engine import ROOT

HARDENED = ("--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
UNREACHABLE = {"CLICKHOUSE_URL": "http://migrate@nowhere.invalid/", "MYSQL_URL": "mysql://migrate@nowhere.invalid/app"}
# Every module below /app/lib and of the program, by name, with the error that importing it gives or null.
IMPORT_ALL = """
import importlib, json, pkgutil, warnings
warnings.simplefilter("ignore")
result = {}
for module in pkgutil.walk_packages(["/app", "/app/lib"], onerror=lambda name: None):
    name = module.name
    if name.endswith("__main__") or name.startswith("lib."):
        continue
    try:
        importlib.import_module(name)
        result[name] = None
    except Exception as error:
        result[name] = f"{type(error).__name__}: {error}"
print(json.dumps(result))
"""


def test_the_image_is_small(docker: Docker, image: str) -> None:
    """At most 60 MB on disk, at most 22 MB to download."""
    assert docker.inspect(image)["Size"] <= 60_000_000
    save = subprocess.Popen(["docker", "save", image], env=docker.environ, stdout=subprocess.PIPE)
    packer = zlib.compressobj(6)
    chunks: Iterator[bytes] = iter(lambda: save.stdout.read(1 << 20), b"")
    assert sum(len(packer.compress(chunk)) for chunk in chunks) + len(packer.flush()) <= 22_000_000
    assert save.wait() == 0


def test_python_is_the_only_program_in_the_image(files: dict[str, tarfile.TarInfo]) -> None:
    """No shell, package manager or compiler: every executable is the interpreter, or a library that it loads."""
    programs = {path for path, entry in files.items() if entry.isfile() and entry.mode & 0o111 and ".so" not in path}
    assert {re.sub(r"\d+\.\d+$", "", Path(path).name) for path in programs} == {"python"}


def test_no_part_of_a_test_or_an_installer_is_in_the_image(files: dict[str, tarfile.TarInfo]) -> None:
    """Neither test engines and their data, nor pip, nor what only a build needs."""
    unwanted = re.compile(
        r"_chdb\.|/(chdb|pip|setuptools|ensurepip|wheel|pytest|unittest|tests?|\.git|\.cache|compose|dpkg)(/|$)"
    )
    assert not [path for path in files if unwanted.search(path)]


def test_the_installed_packages_are_the_locked_ones(docker: Docker, image: str) -> None:
    """Name and version of every distribution stand in requirements.lock, and the other way round."""
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    code = "import json, importlib.metadata as m; print(json.dumps([[d.name, d.version] for d in m.distributions()]))"
    installed = json.loads(python(docker, image, code))
    canonical = {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in installed}
    assert canonical == {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in locked}


def test_nothing_in_the_image_can_be_changed_or_raises_privileges(files: dict[str, tarfile.TarInfo]) -> None:
    """Only root may write, only to the temporary directory may others; all may read; no set-uid bit."""
    entries = {path: entry for path, entry in files.items() if not entry.issym() and not entry.islnk()}
    modes = {path: entry.mode for path, entry in entries.items()}
    assert {path for path, mode in modes.items() if mode & 0o022} == {"/tmp"}
    assert not [path for path, mode in modes.items() if mode & 0o6000 or not mode & 0o004]
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}


def test_every_module_is_compiled(files: dict[str, tarfile.TarInfo]) -> None:
    """A user who cannot write would compile the sources anew at each start."""
    sources = [Path(path) for path in files if path.endswith(".py") and not path.startswith("/app/sql/")]
    compiled = {path.rsplit(".", 2)[0] for path in files if path.endswith(".pyc")}
    assert sources and not [
        source for source in sources if f"{source.parent}/__pycache__/{source.stem}" not in compiled
    ]


def test_the_configuration_is_that_of_a_hardened_job(docker: Docker, image: str) -> None:
    """A numeric user, no shell around the program, no health, and labels that say what it is."""
    config = docker.inspect(image)["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python3", "/app/entrypoint.py"]
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    assert {"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "LANG=C.UTF-8"} <= set(config["Env"])
    assert config["Labels"]["org.opencontainers.image.title"] == "migrate"
    assert config["Labels"]["org.opencontainers.image.base.name"] == "python:3.13-slim"


@pytest.mark.parametrize("user", ["65532:65532", "12345:0", "1000770000:0", "0:0"])
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_it_runs_as_any_user_on_a_read_only_root_without_rights(
    docker: Docker, image: str, user: str, option: str
) -> None:
    """Every restriction that a runtime can impose at once, for users that the image does not know too."""
    done = docker("run", *HARDENED, "--user", user, image, option)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_restrictions_are_in_force(docker: Docker, image: str) -> None:
    """The switches used above do restrict: no capability, no new privileges, a filter on system calls, no writing."""
    code = """
try:
    open("/app/x", "w")
except OSError as error:
    print("errno", error.errno)
print(open("/proc/self/status").read())
"""
    status = python(docker, image, code, *HARDENED[1:], "--user", "0:0")
    assert "errno 30\n" in status  # EROFS
    assert re.search(r"CapEff:\s0+\n", status)
    assert re.search(r"NoNewPrivs:\s1\nSeccomp:\s2\n", status)


def test_every_module_can_be_imported(docker: Docker, image: str, slim: str) -> None:
    """What can be imported where nothing was left out can be imported in the image, but for what it drops by name."""
    results = {}
    for name in (image, slim):
        done = docker("run", *HARDENED, "--entrypoint", "python3", name, "-c", IMPORT_ALL, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    dropped = ("certifi.tests", "clickhouse_connect.cc_sqlalchemy", "mysql.ai", "mysql.connector.aio",
               "mysql.connector.django")  # fmt: skip
    working = {name for name, error in results[slim].items() if not error and not name.startswith(dropped)}
    assert {name: results[image].get(name, "is missing") for name in working if results[image].get(name, "?")} == {}
    assert {"clickhouse_connect.driver.httpclient", "mysql.connector.plugins.caching_sha2_password"} <= working
    ours = {name: error for name, error in results[image].items() if name.partition(".")[0] == "migrator"}
    sources = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "migrator").rglob("*.py"))
    assert ours == {".".join(path.parts).removesuffix(".__init__"): None for path in sources}


def test_the_pure_mysql_driver_is_the_one_installed(docker: Docker, image: str) -> None:
    """The C extension would behave differently from one base image to the next."""
    assert python(docker, image, "import mysql.connector; print(mysql.connector.HAVE_CEXT)") == "False"


def test_all_time_zones_and_certificate_authorities_are_there(docker: Docker, image: str) -> None:
    """A column DateTime('Europe/Berlin') can be read, and an https server be verified."""
    code = "import ssl, zoneinfo; print(len(zoneinfo.available_timezones()), zoneinfo.ZoneInfo('Europe/Berlin'), "
    code += "len(ssl.create_default_context().get_ca_certs()))"
    zones, berlin, authorities = python(docker, image, code).split()
    assert (int(zones) > 400, berlin, int(authorities) > 100) == (True, "Europe/Berlin", True)


def test_a_thread_can_be_ended_from_outside(docker: Docker, image: str) -> None:
    """libc loads a library for that which no program names; Python ends waiting threads so when it exits."""
    code = "import ctypes, threading; end = ctypes.CDLL(None).pthread_exit; "
    code += (
        "threading.Thread(target=end, args=(None,), daemon=True).start(); threading.Event().wait(0.2); print('alive')"
    )
    assert python(docker, image, code) == "alive"


def test_sigterm_ends_it_at_once_with_143(docker: Docker, image: str) -> None:
    """As process 1 it would ignore the signal if it had no handler, and be killed after the grace time."""
    settings = [word for name, value in UNREACHABLE.items() for word in ("--env", f"{name}={value}")]
    container = docker("run", "--detach", *HARDENED[1:], *settings, image, check=True).stdout.strip()
    try:
        wait_for_log(docker, container, '"waiting"')
        began = time.monotonic()
        docker("stop", "--time", "20", container, check=True)
        assert time.monotonic() - began < 3
        assert docker.inspect(container)["State"]["ExitCode"] == 143
        last = json.loads(docker("logs", container, check=True).stdout.splitlines()[-1])
        assert (last["event"], last["exit_code"]) == ("report", 143)
    finally:
        docker("rm", "--force", container, check=True)


def wait_for_log(docker: Docker, container: str, text: str, seconds: float = 20) -> None:
    """Return when a container has logged `text`."""
    end = time.monotonic() + seconds
    while text not in (log := docker("logs", container, check=True).stdout):
        assert time.monotonic() < end, log
        time.sleep(0.1)


def test_it_starts_almost_as_fast_as_python(docker: Docker, image: str) -> None:
    """--version takes at most 0.2 s more than an empty program: of the processor, which other people's load leaves."""
    code = """
import resource, subprocess, sys
def seconds(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(min(seconds("/app/entrypoint.py", "--version") - seconds("-c", "pass") for _ in range(5)))
"""
    assert 0 < float(python(docker, image, code, *HARDENED[1:])) <= 0.2


def test_a_wrong_setting_is_a_report_and_exit_2(docker: Docker, image: str) -> None:
    """docker run gives the job's own exit code, and every line on stdout is JSON."""
    done = docker("run", *HARDENED, image)
    assert done.code == 2
    assert (done.lines[-1]["event"], done.lines[-1]["exit_code"]) == ("report", 2)
