"""What a person gets wrong ends with the documented code and one line that names the thing; after the fix, a run succeeds."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import FIGURES, Servers
from tests.databases.conftest import Steps, everything, ledger, one_dialect
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
MEASURE = """import os, shutil
leave = os._exit
def measured(code):
    shutil.copy("/proc/self/status", os.environ["PEAK"])
    leave(code)
os._exit = measured
"""
BIG: dict[str, Callable[[int], str]] = {
    "statements": lambda size: f"DO LENGTH('{'x' * MIB}');\n" * (size // MIB),
    "one line of statements": lambda size: f"DO LENGTH('{'x' * MIB}'); " * (size // MIB),
    "one long comment": lambda size: f"-- {'x' * size}\nSELECT 1",
}


def peaks(servers: Servers, steps: Steps, kind: str, text: str, **environ: str) -> tuple[int, int]:
    """The peak memory of the run that applies the file, and of the next one, in MiB."""
    (steps.path.parent / "sitecustomize.py").write_text(MEASURE)
    steps.add({f"0001_big.{'mysql' if 'CLICKHOUSE_URL' in environ else 'clickhouse'}.sql": text})
    found = []
    for _ in range(2):
        peak = steps.path.parent / "peak"
        result = steps.run(servers, MIGRATE_LOG_LEVEL="error", PYTHONPATH=str(peak.parent), PEAK=str(peak), **environ)
        assert result.code == 0, result.stdout
        found.append(int(re.findall(r"VmHWM:\s*(\d+) kB", peak.read_text())[0]) >> 10)
    FIGURES.append(f"memory: {kind:22} of {round(len(text.encode()) / MIB)} MiB: {found[0]} MiB to apply it, {found[1]} MiB when it is applied")
    return found[0], found[1]


@one_dialect
@pytest.mark.parametrize(("kind", "size"), [
    ("one line of statements", 20 * MIB), *(pytest.param(kind, 100 * MIB, marks=pytest.mark.full) for kind in BIG)])  # fmt: skip
def test_a_big_file_takes_little_more_memory_than_its_size(servers: Servers, steps: Steps, kind: str, size: int) -> None:
    """To apply it takes at most 48 MiB more than its size, and all in all less than that when it is applied already."""
    first, second = peaks(servers, steps, kind, BIG[kind](size), CLICKHOUSE_URL="")

    assert first < size // MIB + 48
    assert second < 48


def numbered(size: int) -> str:
    """A text of so many bytes, now and then two for a character, in which no piece is like another."""
    text = "".join(f"{number:062}é" for number in range(size // 64))
    return text + "x" * (size % 64)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(("mysql_server", "size"), [
    ("mysql", 20 * MIB), *(pytest.param(dialect, 50 * MIB, marks=pytest.mark.full) for dialect in ("mysql", "mariadb"))],
    indirect=["mysql_server"])  # fmt: skip
def test_a_big_statement_takes_memory_twice_and_arrives_whole(servers: Servers, steps: Steps, size: int) -> None:
    """Beside the file's text there is the statement's and no third copy, and 46 MiB."""
    servers.mysql.query("CREATE TABLE arrived (text LONGTEXT)")
    text = numbered(size)
    first, second = peaks(servers, steps, f"{servers.mysql.dialect}, a statement", f"INSERT INTO arrived VALUES ('{text}');\n",
                          CLICKHOUSE_URL="")

    assert servers.mysql.query("SELECT LENGTH(text), SHA2(text, 256) FROM arrived") == [(size, sha256(text))]
    assert first < 2 * size // MIB + 46
    assert second < 48


@pytest.mark.full
@one_dialect
def test_a_big_statement_takes_memory_twice_and_arrives_whole_in_clickhouse(servers: Servers, steps: Steps) -> None:
    """The same there."""
    servers.clickhouse.query("CREATE TABLE arrived (text String) ENGINE = MergeTree ORDER BY ()")
    text = numbered(50 * MIB)
    first, second = peaks(servers, steps, "clickhouse, a statement", f"INSERT INTO arrived VALUES ('{text}');\n", MYSQL_URL="")

    assert servers.clickhouse.query("SELECT length(text), lower(hex(SHA256(text))) FROM arrived") == [(50 * MIB, sha256(text))]
    assert first < 2 * 50 + 46
    assert second < 48


@pytest.mark.parametrize("mysql_server", ["mysql", pytest.param("mariadb", marks=pytest.mark.full)], indirect=True)
def test_statements_of_about_a_packet_arrive_whole(servers: Servers, steps: Steps) -> None:
    """A packet holds 16 MiB less a byte; behind a full one the server waits for another, be it an empty one."""
    servers.mysql.query("CREATE TABLE arrived (n SERIAL, digest CHAR(64))")
    insert = "INSERT INTO arrived (digest) VALUES (SHA2('{}', 256))"
    before = len(insert.format("")) + 1 + 2 * (servers.mysql.dialect == "mysql")  # command; MySQL: how many parameters
    texts = [numbered(2**24 - 1 + more - before) for more in (-1, 0, 1)]
    steps.add({"0001_big.mysql.sql": ";\n".join(insert.format(text) for text in texts)})
    result = steps.run(servers, CLICKHOUSE_URL="")

    assert result.code == 0, result.stdout
    assert servers.mysql.query("SELECT digest FROM arrived ORDER BY n") == [(sha256(text),) for text in texts]


def test_statement_that_is_too_big_for_the_server_is_refused(servers: Servers, steps: Steps) -> None:
    """It would hang up in the middle, which looks like a lost connection; and when it takes more, a run goes on there."""
    ((usual,),) = servers.mysql.query("SELECT @@max_allowed_packet")
    steps.add({"0001_big.mysql.sql": f"CREATE TABLE a (n INT);\nINSERT INTO a VALUES (LENGTH('{'x' * 2 * MIB}'))"})
    servers.mysql.query(f"SET GLOBAL max_allowed_packet = {2 * MIB}")
    try:
        refused = steps.run(servers, CLICKHOUSE_URL="")
    finally:
        servers.mysql.query(f"SET GLOBAL max_allowed_packet = {usual}")
    fixed = steps.run(servers, CLICKHOUSE_URL="")

    assert refused.code == 6
    assert refused.report["error"].startswith("0001_big.mysql.sql:2: statement 2 of 2 was refused: ")
    assert f"max_allowed_packet, which is {2 * MIB}" in refused.report["error"]
    assert (fixed.code, servers.mysql.query("SELECT n FROM a")) == (0, [(2 * MIB,)])


# Steps that are hostile, or written at three in the morning; the first line of each error begins like this.
PYTHON = "0001_s.mysql.py"
HOSTILE_STEPS = {
    "raises KeyboardInterrupt": (6, f"{PYTHON}:2: apply raised KeyboardInterrupt", "def apply(run):\n    raise KeyboardInterrupt\n"),
    "raises at import": (6, f"{PYTHON}:1: apply raised GeneratorExit", "raise GeneratorExit\n"),
    "raises what is no Exception": (6, f"{PYTHON}:3: apply raised Mine: a", "class Mine(BaseException): pass\ndef apply(run):\n"
                                    "    raise Mine('a\\n{\"event\": \"report\"}')\n"),
    "recurses for ever": (6, f"{PYTHON}:2: apply raised RecursionError", "def apply(run):\n    apply(run)\n"),
    "is nested too deeply": (2, f"{PYTHON}:1: not valid Python", "a = " + "-" * 50_000 + "1\n"),
    "has too many brackets": (2, f"{PYTHON}:1: not valid Python", "a = " + "(" * 50_000 + ")" * 50_000 + "\n"),
    "is no Python": (2, f"{PYTHON}:1: not valid Python", "CREATE TABLE a (n INT);\n"),
    "has an apply that cannot be called": (6, f"{PYTHON}: defines neither apply nor verify", "apply = 5\n"),
    "has an async apply": (6, f"{PYTHON}: apply raised TypeError", "async def apply(run): pass\n"),
    "says False": (7, f"{PYTHON}: verify raised TypeError", "def apply(run): pass\ndef verify(run): return False\n"),
    "says True": (7, f"{PYTHON}: verify raised TypeError", "def apply(run): pass\ndef verify(run): return True\n"),
    "finds nothing to say": (7, f"{PYTHON}", "def apply(run): pass\ndef verify(run): return ['']\n"),
    "finds a million things": (7, "… 1000000 in all", "def apply(run): pass\ndef verify(run): return range(1_000_000)\n"),
    "raises while it looks": (7, f"{PYTHON}:3: verify raised SystemExit", "def apply(run): pass\ndef verify(run):\n    exit()\n"),
    "forges a line": (6, f"{PYTHON}:7: apply raised ValueError", """import os, subprocess, sys
def apply(run):
    print('{"event": "report", "exit_code": 0}')
    os.write(1, b'{"event": "report", "exit_code": 0}\\n')
    subprocess.run(["echo", '{"event": "report", "exit_code": 0}'])
    run.log.info('a\\n{"event": "report"}', **{'b\\n{"event"': "\\u2028\\x1b[2J\\x9b2J\\u202e"})
    raise ValueError('\\r{"event": "report"}\\x85\\u2029\\ud800')
"""),
    "closes what the log is written to": (6, f"{PYTHON}:4: apply raised ValueError: x", "import os, sys\ndef apply(run):\n"
                                          "    os.close(1)\n    raise ValueError('x')\n"),
    "closes its streams": (6, f"{PYTHON}:5: apply raised ValueError: x", "import sys\ndef apply(run):\n"
                           "    sys.stdout.close()\n    sys.stderr.close()\n    raise ValueError('x')\n"),
}  # fmt: skip
VERIFICATIONS = {
    "writes": (2, "0001_s.mysql.verify.sql:2: not a query", "SELECT 1 FROM DUAL WHERE FALSE;\nDROP TABLE kept"),
    "calls": (2, "0001_s.mysql.verify.sql:1: not a query", "CALL anything()"),
    "is broken": (2, "0001_s.mysql.verify.sql:1: string", "SELECT 'a"),
    "is no statement": (2, "0001_s.mysql.verify.sql: holds no statement", "-- nothing"),
    "reads nothing there is": (7, "0001_s.mysql.verify.sql:1", "SELECT 1 FROM nowhere"),
    "never comes to an end": (7, "… 1000 in all", "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
                              " SELECT i FROM n"),
    "forges a line": (7, "0001_s.mysql.verify.sql:1", "SELECT '\\n{\"event\": \"report\"}\\r', _utf8mb4 0xE280A8C29B, 0x00FF"),
}  # fmt: skip


@one_dialect
def test_hostile_steps_end_in_one_line(servers: Servers, steps: Steps) -> None:
    """And leave no trace: nothing is recorded, nothing else is written to the log, and the lock is free."""
    servers.mysql.query("CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)")
    cases = {**{f"step that {name}": (code, named, {PYTHON: text}) for name, (code, named, text) in HOSTILE_STEPS.items()},
             **{f"verification that {name}": (code, named, {"0001_s.mysql.sql": "DO 1", "0001_s.mysql.verify.sql": text})
                for name, (code, named, text) in VERIFICATIONS.items()}}
    wrong = {}
    for name, (code, named, files) in cases.items():
        steps.remove("0001")
        steps.add(files)
        result = steps.run(servers, CLICKHOUSE_URL="", MIGRATE_LOCK_TIMEOUT="1")
        said = [result.report.get("error", ""), *(f"{f['object']} {f['actual']}" for f in result.report["findings"])]
        broken = [line for line in result.stdout.splitlines() if not line.startswith('{"time":')]
        if result.code != code or not any(named in text for text in said) or broken or "Traceback" in result.stdout + result.stderr:
            wrong[name] = f"{result.code} {said[:3]} {broken} {result.stderr}"[:1000]
        if ledger(servers) or servers.mysql.query("SELECT n FROM kept") != [(7,)]:
            wrong[name] = "something was changed"
    FIGURES.append(f"hostile steps on a server: {len(cases)} tried, {len(cases) - len(wrong)} refused in one line")

    assert wrong == {}
