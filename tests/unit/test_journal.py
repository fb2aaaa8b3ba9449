"""What the journal makes of a statement before any server is asked."""

from pathlib import Path

import pytest

from migrator.catalogs import Catalog, Object
from migrator.databases.mysql_probe import took_effect
from migrator.journal import is_repeatable, is_session, mentions
from migrator.kinds import classify
from migrator.repair import restoring
from migrator.steps import Step, discover

SESSION = """SET NAMES utf8mb4; set @a = 1; USE shop; BEGIN; begin work; START TRANSACTION; COMMIT; ROLLBACK; SAVEPOINT s;
LOCK TABLES a WRITE; UNLOCK TABLES; CREATE TEMPORARY TABLE t (n INT); DROP TEMPORARY TABLE t; PREPARE p FROM 'SELECT 1';
DEALLOCATE PREPARE p; SELECT MAX(n) INTO @a FROM t"""
REPEATABLE = """CREATE TABLE IF NOT EXISTS t (n INT); DROP TABLE IF EXISTS t; CREATE OR REPLACE VIEW v AS SELECT 1;
GRANT SELECT ON a.* TO b; OPTIMIZE TABLE t; ANALYZE TABLE t; SHOW TABLES; CREATE OR REPLACE PROCEDURE p() SELECT 1"""
NEITHER = """BEGIN NOT ATOMIC INSERT INTO t VALUES (1) END; SET STATEMENT max_statement_time = 1 FOR INSERT INTO t VALUES (1);
SELECT f(1); INSERT INTO t VALUES (1); CALL p(); EXECUTE p; TRUNCATE TABLE t; CREATE TABLE t (n INT); DROP TABLE t;
CREATE OR REPLACE TABLE t (n INT); ALTER TABLE IF EXISTS t ADD COLUMN m INT; TRUNCATE TABLE IF EXISTS t; RENAME TABLE a TO b;
CREATE TABLE IF NOT EXISTS t AS SELECT 1; UPDATE t SET n = 1; XA START 'x'"""


@pytest.mark.parametrize(("texts", "expected"), [
    (SESSION, (True, False)), (REPEATABLE, (False, True)), (NEITHER, (False, False))])  # fmt: skip
def test_a_statement_belongs_to_its_session_or_may_be_repeated_or_neither(texts: str, expected: tuple[bool, bool]) -> None:
    """What is lost with the connection is sent in every run; what may be repeated needs no proof."""
    for text in map(str.strip, texts.split(";")):
        kind = classify(text, "mysql")
        assert (text, is_session(kind, text), not is_session(kind, text) and is_repeatable(kind)) == (text, *expected)


@pytest.mark.parametrize(("before", "now", "expected"), [
    ("a", "b", True), ("a", "a", False), ("a b", "x y", True), ("a b", "a b", False), ("a b", "a y", None), ("", "", None),
    ("filled", "empty", True), ("empty", "empty", True), ("filled", "filled", None), ("filled", "", None),
])  # fmt: skip
def test_objects_changed_all_or_none_or_nobody_can_tell(before: str, now: str, expected: bool | None) -> None:
    """Half of a list is neither; without an answer there is nothing to compare."""
    assert took_effect(before, now) is expected


def test_a_definition_is_read_where_it_speaks_of_a_name() -> None:
    """So that somebody's other change of the same table decides nothing."""
    definition = "CREATE TABLE `t` (\n  `city` int,\n  `city2` int,\n  KEY `by` (`City`)\n)"

    assert mentions(definition, ["city"]) == "  `city` int,\n  KEY `by` (`City`)"
    assert mentions(definition, ["town", "city2"]) == "  `city2` int,"
    assert mentions(definition, ["town"]) == ""
    assert mentions(definition, []) == definition


STEP = """CREATE TABLE a (n INT); INSERT INTO a VALUES (1);
ALTER TABLE a ADD COLUMN m INT, ADD KEY by_n (n), MODIFY n BIGINT, ADD CONSTRAINT fk FOREIGN KEY (`n`, m) REFERENCES b (n, m);
UPDATE a SET n = 1; DROP TABLE IF EXISTS c; DROP PROCEDURE IF EXISTS p; CREATE PROCEDURE p() SELECT 1; CREATE INDEX i ON a (n);
CREATE TABLE IF NOT EXISTS d (n INT); TRUNCATE TABLE a; RENAME TABLE a TO b; CREATE USER x; USE y"""
FULL: Catalog = {Object(*item): {} for item in [
    ("table", "a"), ("column", "a", "m"), ("index", "a", "by_n"), ("index", "a", "i"), ("procedure", "p"),
    ("foreign key", "a", "(n, m) to b (n, m)")]}  # fmt: skip
ALWAYS = {"DROP PROCEDURE IF EXISTS p", "CREATE PROCEDURE p() SELECT 1", "CREATE TABLE IF NOT EXISTS d (n INT)", "USE y"}


def written(path: Path, text: str) -> Step:
    path.write_text(text, encoding="utf-8")
    return discover(path.parent, ("clickhouse", "mysql"))[0]


@pytest.mark.parametrize(("gone", "sent"), [
    (None, None),
    (("table", "a"), "CREATE TABLE a (n INT)"),
    (("column", "a", "m"), "ALTER TABLE `a` ADD COLUMN m INT"),
    (("index", "a", "by_n"), "ALTER TABLE `a` ADD KEY by_n (n)"),
    (("foreign key", "a", "(n, m) to b (n, m)"),
     "ALTER TABLE `a` ADD CONSTRAINT fk FOREIGN KEY (`n`, m) REFERENCES b (n, m)"),
    (("index", "a", "i"), "CREATE INDEX i ON a (n)"),
    (("procedure", "p"), None),
])  # fmt: skip
def test_repair_sends_what_creates_the_missing(tmp_path: Path, gone: tuple[str, ...] | None, sent: str | None) -> None:
    """And what may be repeated; never rows, never a DROP that takes some along."""
    step = written(tmp_path / "0001_a.mysql.sql", STEP)
    live = {item: attributes for item, attributes in FULL.items() if gone is None or item != Object(*gone)}

    assert {text for text, _ in restoring(step, live)} - ALWAYS == ({sent} if sent else set())
    assert [place["n"] for _, place in restoring(step, FULL)] == [6, 7, 9, 13]


def test_repair_follows_use_on_clickhouse(tmp_path: Path) -> None:
    """A bare name means a table of the database that USE chose."""
    step = written(tmp_path / "0001_a.clickhouse.sql",
                   "CREATE TABLE a (n UInt8) ENGINE = Log; USE shop; CREATE TABLE b (n UInt8) ENGINE = Log")
    live: Catalog = {Object("table", "default.a"): {}, Object("table", "shop.b"): {}}

    assert [text for text, _ in restoring(step, live)] == ["USE shop"]
    assert [text[:14] for text, _ in restoring(step, {})] == ["CREATE TABLE a", "USE shop", "CREATE TABLE b"]
