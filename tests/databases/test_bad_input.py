"""What a person gets wrong ends with the documented code and one line that names the thing; after the fix, a run succeeds."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import FIGURES, Servers
from tests.databases.conftest import Steps, everything, one_dialect
from tests.servers.process import free_port

Setup = Callable[[Servers, Steps], dict[str, str]]
EVENTS = "0001_events.clickhouse.sql"


@dataclass(frozen=True)
class Mistake:
    """`make` does what is wrong, and returns settings; the run ends with `code` and a line with `named` in it.

    `applied` says that a run was made before, so that there is a ledger to disagree with.
    """

    code: int
    named: str
    make: Setup
    applied: bool = False
    contacts: bool = False  # whether the servers are asked before it is noticed


def write(**files: str | bytes | None) -> Setup:
    """Write or (None) delete step files; `n` before the number, `__` for a dot."""

    def make(_: Servers, steps: Steps) -> dict[str, str]:
        for name, content in files.items():
            path = steps.path / name.removeprefix("n").replace("__", ".")
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return {}

    return make


def set_to(**environ: str) -> Setup:
    return lambda servers, steps: environ


def closed_port(servers: Servers, steps: Steps) -> dict[str, str]:
    return {"MYSQL_URL": f"mysql://me:k4narie-p@127.0.0.1:{free_port()}/d", "MIGRATE_WAIT_TIMEOUT": "0.5"}


def wrong_password(servers: Servers, steps: Steps) -> dict[str, str]:
    return {"MYSQL_URL": servers.mysql.server.url(servers.mysql.name, password="k4narie-wrong")}


def both(servers: Servers, steps: Steps) -> dict[str, str]:
    file = steps.path.parent / "secret"
    file.write_text("k4narie-file")
    return {"MYSQL_PASSWORD": "k4narie-env", "MYSQL_PASSWORD_FILE": str(file)}


def unreadable(servers: Servers, steps: Steps) -> dict[str, str]:
    (steps.path / EVENTS).unlink()
    (steps.path / EVENTS).symlink_to(steps.path / "gone")  # root reads what its mode forbids, but not this
    return {}


def linked_out(servers: Servers, steps: Steps) -> dict[str, str]:
    (steps.path / EVENTS).rename(steps.path.parent / "outside.sql")
    (steps.path / EVENTS).symlink_to(steps.path.parent / "outside.sql")
    return {}


def directory(servers: Servers, steps: Steps) -> dict[str, str]:
    (steps.path / "0009_more.mysql.sql").mkdir()
    return {}


def emptied(servers: Servers, steps: Steps) -> dict[str, str]:
    for file in steps.path.iterdir():
        file.unlink()
    return {}


MISTAKES = {
    "closed port": Mistake(3, "mysql at 127.0.0.1:", closed_port, contacts=True),
    "wrong password": Mistake(2, "refused user migrate", wrong_password, contacts=True),
    "no address": Mistake(2, "MYSQL_URL is not set", set_to(MYSQL_URL="")),
    "unknown option in the URL": Mistake(2, "CLICKHOUSE_URL: unknown option 'timeout'",
                                         set_to(CLICKHOUSE_URL="http://me:k4narie-p@ch/?timeout=5")),
    "malformed setting": Mistake(2, "MIGRATE_LOCK_TIMEOUT: must be a number", set_to(MIGRATE_LOCK_TIMEOUT="soon")),
    "value and file": Mistake(2, "MYSQL_PASSWORD and MYSQL_PASSWORD_FILE are both set", both),
    "empty directory": Mistake(2, "no steps in", emptied),
    "missing directory": Mistake(2, "/no/such/directory", set_to(MIGRATE_STEPS_DIR="/no/such/directory")),
    "duplicate number": Mistake(2, "0001_other.mysql.sql: number 0001", write(n0001_other__mysql__sql="SELECT 1")),
    "bad name": Mistake(2, "0009-more.mysql.sql: not a step's name", write(**{"0009-more__mysql__sql": "SELECT 1"})),
    "unknown target": Mistake(2, "0009_more.postgres.sql", write(n0009_more__postgres__sql="SELECT 1")),
    "verification alone": Mistake(2, "0009_more.mysql.verify.sql: no step", write(n0009_more__mysql__verify__sql="SELECT 1")),
    "unreadable file": Mistake(2, f"{EVENTS}: cannot be read", unreadable),
    "link out of the directory": Mistake(2, f"{EVENTS}: a link out", linked_out),
    "directory like a step": Mistake(2, "0009_more.mysql.sql: not a regular file", directory),
    "not UTF-8": Mistake(2, "0009_more.mysql.sql: not UTF-8", write(n0009_more__mysql__sql=b"SELECT '\xe9'")),
    "NUL byte": Mistake(2, "0009_more.mysql.sql: holds a NUL byte", write(n0009_more__mysql__sql=b"SELECT 1\0")),
    "empty file": Mistake(2, "0009_more.mysql.sql: holds no statement", write(n0009_more__mysql__sql=""), contacts=True),
    "open quote": Mistake(2, "0009_more.mysql.sql:2: string", write(n0009_more__mysql__sql="SELECT 1;\nSELECT 'x"),
                          contacts=True),
    "open comment": Mistake(2, "0009_more.clickhouse.sql:1: comment", write(n0009_more__clickhouse__sql="/* x"), contacts=True),
    "edited step": Mistake(5, "step 0001_events.clickhouse is changed", write(n0001_events__clickhouse__sql="SELECT 1"),
                           applied=True, contacts=True),
    "deleted step": Mistake(5, "step 0002_people.mysql is missing", write(n0002_people__mysql__sql=None,
                            n0002_people__mysql__verify__sql=None), applied=True, contacts=True),
    "late lower step": Mistake(5, "step 0000_late.mysql is out of order", write(n0000_late__mysql__sql="SELECT 1"),
                               applied=True, contacts=True),
    "missing expected schema": Mistake(2, "expected.clickhouse.json is missing", set_to(MIGRATE_VERIFY="full")),
    "broken expected schema": Mistake(2, "expected.clickhouse.json cannot be read", write(expected__clickhouse__json="{")),
    "failing statement": Mistake(6, "0009_more.mysql.sql:3: statement 2 of 3 was refused", write(
        n0009_more__mysql__sql="CREATE TABLE IF NOT EXISTS a (n INT);\n\nINSERT INTO nowhere VALUES (1);\nSELECT 1"), contacts=True),
}  # fmt: skip


@one_dialect
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_in_one_line_and_can_be_put_right(servers: Servers, sample: Steps, name: str) -> None:
    """The code of the contract, no traceback, nothing changed unless a statement was refused; then a run goes through."""
    mistake = MISTAKES[name]
    sample.remove("0003")
    if mistake.applied:
        assert sample.run(servers).code == 0
    before = everything(servers)
    good = {file: file.read_bytes() for file in sample.path.iterdir()}
    environ = mistake.make(servers, sample)
    result = sample.run(servers, **environ)
    errors = [line for line in result.lines if line["level"] == "error"]

    assert (result.code, result.report["exit_code"]) == (mistake.code, mistake.code), result.stdout
    assert [line["event"] for line in errors] == ["error", "report"]
    assert mistake.named in errors[0]["error"]
    assert mistake.named in result.report["error"]
    assert "\n" not in errors[0]["error"]
    assert "Traceback" not in result.stdout + result.stderr
    assert result.stderr == ""
    assert bool(result.events("ready") or result.events("waiting") or "refused user" in mistake.named) == mistake.contacts
    if mistake.code != 6:
        assert everything(servers) == before

    for file in sample.path.iterdir():
        file.rmdir() if file.is_dir() else file.unlink()
    for file, content in good.items():
        file.write_bytes(content)
    fixed = sample.run(servers)
    assert fixed.code == 0, fixed.stdout


def test_privilege_that_is_missing_is_named(servers: Servers, sample: Steps) -> None:
    """A user that may only read is refused before any step runs; one that lacks a right in a step, there."""
    database, server, password = servers.mysql.name, servers.mysql.server, "k4narie-rights"
    server.create_user("reader", password, [f"SELECT ON `{database}`.*"])
    server.create_user("writer", password, [f"SELECT, INSERT, UPDATE, DELETE, CREATE, REFERENCES ON `{database}`.*"])
    reader = sample.run(servers, MYSQL_URL=server.url(database, user="reader", password=password))
    made = [*servers.mysql.query("SHOW TABLES"), *servers.clickhouse.query("SHOW DATABASES LIKE 'shop'")]
    sample.write(n0009_drop__mysql__sql="DROP TABLE orders")
    writer = sample.run(servers, MYSQL_URL=server.url(database, user="writer", password=password))
    servers.mysql.query("DROP USER 'reader'@'%', 'writer'@'%'")

    assert (reader.code, made) == (2, [])
    assert f"GRANT INSERT, UPDATE, DELETE, CREATE ON `{database}`.* TO reader" in reader.report["error"]
    assert writer.code == 6
    assert "0009_drop.mysql.sql:1" in writer.report["error"]
    assert "DROP command denied to user 'writer'" in writer.report["error"]


MIB = 1 << 20
MEASURE = """import atexit, os, shutil
atexit.register(shutil.copy, "/proc/self/status", os.environ["PEAK"])
"""
BIG: dict[str, Callable[[int], str]] = {
    "statements": lambda size: f"DO LENGTH('{'x' * MIB}');\n" * (size // MIB),
    "one line of statements": lambda size: f"DO LENGTH('{'x' * MIB}'); " * (size // MIB),
    "one long comment": lambda size: f"-- {'x' * size}\nSELECT 1",
}


@one_dialect
@pytest.mark.parametrize("size", [20 * MIB, pytest.param(100 * MIB, marks=pytest.mark.full)], ids="{} bytes".format)
@pytest.mark.parametrize("kind", BIG)
def test_a_big_file_takes_little_more_memory_than_its_size(servers: Servers, steps: Steps, kind: str, size: int) -> None:
    """To apply it takes at most 96 MiB more than its size, and less than that when it is applied already."""
    (steps.path.parent / "sitecustomize.py").write_text(MEASURE)
    steps.add({"0001_big.mysql.sql": BIG[kind](size)})
    peaks = []
    for _ in range(2):
        peak = steps.path.parent / "peak"
        result = steps.run(servers, CLICKHOUSE_URL="", MIGRATE_LOG_LEVEL="error", PYTHONPATH=str(peak.parent), PEAK=str(peak))
        assert result.code == 0, result.stdout
        peaks.append(int(re.findall(r"VmHWM:\s*(\d+) kB", peak.read_text())[0]) >> 10)
    FIGURES.append(f"memory: {kind:22} of {size // MIB} MiB: {peaks[0]} MiB to apply it, {peaks[1]} MiB when it is applied")

    assert peaks[0] < size // MIB + 96
    assert peaks[1] < 96
