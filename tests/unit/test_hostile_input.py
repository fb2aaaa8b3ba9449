"""Hostile input, given to the program as its users would: one line, exit 2, nothing waited for and nothing changed.

The tables are those of the tests of settings, steps and expected schemas; here stands what is no text: files of all kinds.
"""

import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from migrator.logs import UNSEEN
from tests.conftest import FIGURES
from tests.job import JobResult, run_job
from tests.unit.test_expected import BAD_DOCUMENTS
from tests.unit.test_settings import WRONG_COMMANDS, WRONG_VARIABLES
from tests.unit.test_steps import BAD_NAMES, BAD_TEXTS

STEP, VERIFY, EXPECTED = "0001_s.mysql.sql", "0001_s.mysql.verify.sql", "expected.mysql.json"
URL = {"MYSQL_URL": "mysql://me:k4narie-hostile@127.0.0.1:1/shop"}
# Root reads whatever it wants, as long as it has its capabilities.
POWERLESS = """import ctypes
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
"""


class Case(NamedTuple):
    """`make` fills the steps directory, which is empty but for a good step; the refusal has `named` in it."""

    name: str
    named: str
    make: Callable[[Path], object] = lambda steps: None
    argv: tuple[str, ...] = ()
    environ: dict[str, str] = URL


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda steps: Path(steps, name).write_bytes(content)


def linked(name: str, target: str) -> Callable[[Path], object]:
    """`name` as a link to `target`, in the place of whatever is there."""

    def make(steps: Path) -> None:
        (steps / name).unlink(missing_ok=True)
        (steps / name).symlink_to(target)

    return make


def sized(name: str, size: int) -> Callable[[Path], object]:
    return lambda steps: os.truncate(os.open(steps / name, os.O_CREAT | os.O_RDWR), size)


def special(kind: str, name: str) -> Callable[[Path], object]:
    """Something that is no file, in the place of whatever is there."""

    def make(steps: Path) -> None:
        path = steps / name
        path.unlink(missing_ok=True)
        if kind == "socket":
            here = os.open(steps, os.O_RDONLY)  # a socket's path may have 107 bytes only
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"/proc/self/fd/{here}/{name}")
            os.close(here)
        else:
            {"directory": os.mkdir, "pipe": os.mkfifo}[kind](path)

    return make


def closed(name: str) -> Callable[[Path], object]:
    """`name` (the directory itself, if it is empty) without the right to read it."""

    def make(steps: Path) -> None:
        (steps.parent / "sitecustomize.py").write_text(POWERLESS)
        (steps / name).touch()
        (steps / name).chmod(0)

    return make


def replaced_by(kind: str, content: bytes = b"") -> Callable[[Path], object]:
    """Something else in the place of the steps directory."""

    def make(steps: Path) -> None:
        shutil.rmtree(steps)
        if kind == "loop":
            steps.symlink_to(steps.name)
        elif kind == "pipe":
            os.mkfifo(steps)
        else:
            steps.write_bytes(content)

    return make


def secret(kind: str) -> Case:
    return Case(f"secret that is a {kind}", "MYSQL_PASSWORD_FILE", special(kind, "../secret"),
                environ=URL | {"MYSQL_PASSWORD_FILE": "{}/secret"})


FILES = [
    *(Case(f"{kind} as {name}", f"{name}: not a regular file", special(kind, name))
      for kind in ("directory", "pipe", "socket") for name in (STEP, VERIFY, EXPECTED)),
    *(Case(f"{name} linked to {target}", f"{name}: {why}", linked(name, target)) for name in (STEP, VERIFY, EXPECTED)
      for target, why in (("/dev/zero", "a link out"), ("../outside", "a link out"), (name, "cannot be read"),
                          ("nowhere", "cannot be read"), ("/etc/passwd", "a link out"))),
    *(Case(f"{name} that may not be read", f"{name}: cannot be read: Permission denied", closed(name))
      for name in (STEP, VERIFY, EXPECTED)),
    *(Case(f"{name} of 300 MiB", f"{name}: larger than 256 MiB", sized(name, 300 << 20)) for name in (STEP, VERIFY, EXPECTED)),
    Case("directory that may not be read", "the steps directory", closed("")),
    Case("directory that is a file", "the steps directory", replaced_by("file", b"SELECT 1")),
    Case("directory that is a pipe", "the steps directory", replaced_by("pipe")),
    Case("directory that is a link to itself", "the steps directory", replaced_by("loop")),
    Case("directory that is empty", "no steps in", lambda steps: (steps / STEP).unlink()),
    Case("number twice", "number 0001 is already taken", written("0001_t.clickhouse.sql", b"SELECT 1")),
    Case("step twice, as SQL and Python", "number 0001 is already taken", written("0001_s.mysql.py", b"")),
    Case("verification alone", "0002_t.mysql.verify.sql: no step of that name", written("0002_t.mysql.verify.sql", b"SELECT 1")),
    Case("verification of a Python step's name", "0001_s.clickhouse.verify.sql", written("0001_s.clickhouse.verify.sql", b"")),
    Case("no expected schema", f"{EXPECTED} is missing", lambda steps: None),
    *map(secret, ("directory", "pipe", "socket")),
    *(Case(f"no directory but {name!r}", named, environ=URL | {"MIGRATE_STEPS_DIR": name}) for name, named in (
        ("/dev/null", "the steps directory /dev/null"), ("/no\n/such", r"the steps directory '/no\n/such'"), (".", "not a step's name"),
        ("/no\x1b[31m", "the steps directory '/no"), ("x" * 5000, "the steps directory"), ("/", "not a step's name"),
        ("/no/../no/such", "the steps directory"), ("\u2028", "the steps directory"))),
]  # fmt: skip


def cases() -> Iterator[Case]:
    yield from FILES
    for environ, named in WRONG_VARIABLES:
        yield Case(f"{environ}"[:200], named, environ=environ)
    for argv, named in WRONG_COMMANDS:
        yield Case(f"{argv}"[:200], named, argv=tuple(argv))
    for name in BAD_NAMES:
        yield Case(f"file {name!r}", "expected" if name.startswith("expected") else "", written(name, b"SELECT 1"))
    for name in (STEP, VERIFY, EXPECTED):
        for content, why in BAD_TEXTS:
            yield Case(f"{name} {content[:20]!r}", f"{name}: {why}", written(name, content))
    for document in BAD_DOCUMENTS:
        content = document.encode()
        yield Case(f"expected schema {document[:100]}", f"{EXPECTED} cannot be read", written(EXPECTED, content))


def all_of(directory: Path) -> dict[str, str]:
    """Every file below a directory, and what it is or holds."""
    found = {}
    for folder, names, files in os.walk(directory):
        for path in (Path(folder, name) for name in (*names, *files)):
            status = path.lstat()
            small = path.is_file() and not path.is_symlink() and status.st_size < 1 << 24 and os.access(path, os.R_OK)
            content = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
            found[str(path)] = f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {content}"
    return found


def wrong_with(case: Case, directory: Path) -> str:
    """Run the program on a case; what is not as promised, or nothing."""
    steps = directory / "steps"
    steps.mkdir(parents=True)
    (steps / STEP).write_text("SELECT 1")
    (directory / "outside").write_text("SELECT 1")
    case.make(steps)
    before = all_of(directory)
    defaults = {"MIGRATE_STEPS_DIR": str(steps), "MIGRATE_WAIT_TIMEOUT": "0", "PYTHONPATH": str(directory),
                "PYTHONDONTWRITEBYTECODE": "1"}
    given = {name: value.replace("{}", str(directory)) for name, value in case.environ.items()}
    try:
        wrong = "; ".join(told(run_job(*case.argv, env=defaults | given, timeout=20), case.named))
    except AssertionError as error:
        wrong = str(error)
    after = all_of(directory)
    for path in (steps, *(steps.iterdir() if steps.is_dir() and os.access(steps, os.R_OK) else ())):
        if not path.is_symlink() and path.exists():
            path.chmod(0o700)
    return wrong + "; something was changed" * (before != after)


def told(result: JobResult, named: str) -> Iterator[str]:
    """What is wrong with how a refusal was told."""
    if "Traceback" in result.stdout or result.stderr or result.code != 2:
        yield f"code {result.code}: {result.stdout[-500:]}{result.stderr[-500:]}"
        return
    error = result.lines[0].get("error", "")
    if [line["event"] for line in result.lines] != ["error", "report"] or result.report["exit_code"] != 2:
        yield f"other lines: {result.stdout}"
    elif named not in error or error != result.report["error"]:
        yield f"not named: {error}"
    elif not error.isprintable() or UNSEEN.search(result.stdout) or len(result.stdout.splitlines()) != 2:
        yield f"not one line: {error!r}"


def test_every_hostile_input_is_refused_in_one_line(tmp_path: Path) -> None:
    """With the thing's name, by exit 2, without a traceback; no server is asked, and no file is changed."""
    tried = list(cases())[:: 1 if os.environ.get("MIGRATE_TEST_FULL") else 2]
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        found = list(pool.map(wrong_with, tried, (tmp_path / str(number) for number in range(len(tried)))))
    wrong = {case.name: text for case, text in zip(tried, found, strict=True) if text}
    FIGURES.append(f"hostile inputs: {len(tried)} tried, {len(tried) - len(wrong)} refused in one line")

    assert wrong == {}
    assert len(tried) >= 150
