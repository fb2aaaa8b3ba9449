"""Which pending steps may share the writes of journal and ledger."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from migrator.batch import MOST_STEPS, batches
from migrator.kinds import Name
from migrator.steps import discover

CREATE = "CREATE TABLE {} (n INT)"
GUARDED = "CREATE TABLE IF NOT EXISTS {} (n INT)"


def grouped(path: Path, files: Sequence[tuple[str, str]], *, unfinished: Sequence[int] = (), taken: Sequence[str] = ()) -> list[list[int]]:
    """The numbers of the steps in each batch, for files of these kinds and texts, numbered from 1."""
    for number, (kind, text) in enumerate(files, 1):
        (path / f"{number:04}_s.{kind}").write_text(text, encoding="utf-8")

    def are_free(target: str, names: Sequence[Name]) -> bool:
        return not {name.name for name in names} & {*taken}

    steps = discover(path, ("clickhouse", "mysql"))
    return [[step.version for step in batch.steps] for batch in batches(steps, {*unfinished}, are_free)]


def test_what_only_creates_goes_together_on_both_databases(tmp_path: Path) -> None:
    """In its order, with IF NOT EXISTS and without, tables and views."""
    assert grouped(tmp_path, [
        ("clickhouse.sql", CREATE.format("a")), ("mysql.sql", GUARDED.format("a")),
        ("clickhouse.sql", f"{GUARDED.format('d.b')}; CREATE MATERIALIZED VIEW v TO d.b AS SELECT n FROM a"),
        ("mysql.sql", "-- of a\nCREATE VIEW v AS SELECT n FROM a;"),
        ("clickhouse.sql", "CREATE TABLE c EMPTY AS SELECT 1 AS n"), ("mysql.sql", "CREATE TABLE c LIKE a"),
    ]) == [[1, 2, 3, 4, 5, 6]]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [
    ("mysql.sql", "INSERT INTO t VALUES (1)"), ("mysql.sql", f"{CREATE.format('t')}; INSERT INTO t VALUES (1)"),
    ("mysql.sql", "ALTER TABLE t ADD COLUMN m INT"), ("mysql.sql", "DROP TABLE IF EXISTS t"), ("mysql.sql", "SET @a = 1"),
    ("mysql.sql", "CREATE TABLE t AS SELECT 1"), ("mysql.sql", "CREATE TEMPORARY TABLE t (n INT)"),
    ("mysql.sql", "CREATE OR REPLACE VIEW t AS SELECT 1"), ("mysql.sql", "CREATE PROCEDURE t() SELECT 1"),
    ("mysql.sql", "CREATE INDEX t ON u (n)"), ("mysql.sql", "CREATE TRIGGER t AFTER INSERT ON u FOR EACH ROW SET @a = 1"),
    ("mysql.sql", f"{GUARDED.format('t')}; {GUARDED.format('T')}"), ("mysql.py", "def apply(run): pass"),
    ("clickhouse.sql", "CREATE DATABASE t"), ("clickhouse.sql", "CREATE TABLE t CLONE AS u"),
    ("clickhouse.sql", "CREATE MATERIALIZED VIEW t ENGINE = Log POPULATE AS SELECT 1"),
    ("clickhouse.sql", "CREATE OR REPLACE TABLE t (n INT) ENGINE = Log"), ("clickhouse.sql", "RENAME TABLE t TO u"),
    ("clickhouse.sql", "ATTACH TABLE t"), ("clickhouse.sql", "CREATE TABL t (n INT)"),
])  # fmt: skip
def test_what_does_anything_else_is_alone(tmp_path: Path, kind: str, text: str) -> None:
    """And what stands around it is apart."""
    files = [("clickhouse.sql", CREATE.format("a")), ("mysql.sql", CREATE.format("a")), (kind, text),
             ("clickhouse.sql", CREATE.format("b")), ("mysql.sql", CREATE.format("b"))]  # fmt: skip

    assert grouped(tmp_path, files) == [[1, 2], [3], [4, 5]]


def test_a_step_with_a_verification_is_alone(tmp_path: Path) -> None:
    """It asks for what the steps before it have made, and for no more."""
    (tmp_path / "0002_s.mysql.verify.sql").write_text("SELECT 1 FROM b HAVING 0")

    assert grouped(tmp_path, [("mysql.sql", CREATE.format(name)) for name in "abcd"]) == [[1], [2], [3, 4]]


@pytest.mark.parametrize("again", ["a", "A", "d.a"])
def test_no_name_is_created_twice_in_a_batch(tmp_path: Path, again: str) -> None:
    """It may be the same on this server; a name on the other database is another one."""
    files = [("clickhouse.sql", CREATE.format("a")), ("mysql.sql", GUARDED.format("a")), ("clickhouse.sql", GUARDED.format(again)),
             ("mysql.sql", CREATE.format("b"))]  # fmt: skip

    assert grouped(tmp_path, files) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("guarded", "expected"), [(False, [[1], [2], [3]]), (True, [[1, 2, 3]])])
def test_a_name_that_is_taken_makes_each_step_go_alone(tmp_path: Path, guarded: bool, expected: list[list[int]]) -> None:
    """Unless it may be there: then nobody has to tell who made it."""
    files = [("mysql.sql", CREATE.format("a")), ("mysql.sql", (GUARDED if guarded else CREATE).format("b")),
             ("mysql.sql", CREATE.format("c"))]  # fmt: skip

    assert grouped(tmp_path, files, taken=["b"]) == expected


def test_what_an_earlier_run_began_is_alone(tmp_path: Path) -> None:
    """Its journal is settled statement by statement."""
    files = [("mysql.sql", CREATE.format(name)) for name in "abcde"]

    assert grouped(tmp_path, files, unfinished=[3]) == [[1, 2], [3], [4, 5]]


def test_a_batch_has_an_end(tmp_path: Path) -> None:
    """Its texts are kept until then, and its intents are one statement."""
    files = [("mysql.sql", CREATE.format(f"t{number}")) for number in range(MOST_STEPS + 2)]

    assert [len(versions) for versions in grouped(tmp_path, files)] == [MOST_STEPS, 2]
