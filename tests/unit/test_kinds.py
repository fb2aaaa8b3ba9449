"""What a statement does, as far as the dry run and the journal ask: the object, the tables before and after, the clauses."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from migrator.kinds import Clause, Kind, Name, classify
from migrator.statements import split
from tests.unit.test_statements import CASES, TEXTS


def n(name: str) -> Name:
    """`db.table` or `table`."""
    database, _, rest = name.rpartition(".")
    return Name(database or None, rest)


def kind(verb: str, object_type: str = "", name: str = "", **fields: Any) -> Kind:
    """A Kind with names as texts."""
    for field in ("creates", "drops", "needs"):
        fields[field] = tuple(n(text) for text in fields.get(field, "").split())
    fields["renames"] = tuple((n(old), n(new)) for old, new in fields.get("renames", ()))
    if "table" in fields:
        fields["table"] = n(fields["table"])
    return Kind(verb, object_type, n(name) if name else None, **fields)


def clause(action: str, name: str | None, text: str, *, to: str | None = None, guarded: bool = False) -> Clause:
    return Clause(action, name, to, guarded, text)


CLICKHOUSE: dict[str, Kind] = {
    "CREATE DATABASE IF NOT EXISTS metrics": kind("CREATE", "DATABASE", "metrics", guarded=True),
    "CREATE TABLE IF NOT EXISTS d.`a b` (x Int8) ENGINE = MergeTree ORDER BY x TTL x TO VOLUME 'slow'": Kind(
        "CREATE", "TABLE", Name("d", "a b"), guarded=True, creates=(Name("d", "a b"),)
    ),
    "CREATE OR REPLACE TABLE t ON CLUSTER c (x Int8) ENGINE = Memory": kind("CREATE", "TABLE", "t", replaces=True, creates="t"),
    "REPLACE TABLE t AS d.u": kind("REPLACE", "TABLE", "t", replaces=True, creates="t", needs="d.u"),
    "CREATE TEMPORARY TABLE t (x Int8)": kind("CREATE", "TABLE", "t", temporary=True, creates="t"),
    "CREATE TABLE d.t AS d.u ENGINE = Memory": kind("CREATE", "TABLE", "d.t", creates="d.t", needs="d.u"),
    "CREATE TABLE t AS numbers(10)": kind("CREATE", "TABLE", "t", creates="t"),
    "CREATE TABLE t ENGINE = Memory AS SELECT * FROM d.u": kind("CREATE", "TABLE", "t", creates="t", needs="d.u", fills=True),
    "CREATE TABLE t CLONE AS d.u": kind("CREATE", "TABLE", "t", creates="t", needs="d.u", fills=True),
    "CREATE TABLE t ENGINE = Memory EMPTY AS SELECT * FROM d.u": kind("CREATE", "TABLE", "t", creates="t", needs="d.u"),
    "CREATE MATERIALIZED VIEW d.mv ENGINE = Memory POPULATE AS SELECT a FROM d.src": kind(
        "CREATE", "MATERIALIZED VIEW", "d.mv", creates="d.mv", needs="d.src", fills=True),
    "CREATE MATERIALIZED VIEW IF NOT EXISTS d.mv TO d.t AS SELECT a FROM d.src": kind(
        "CREATE", "MATERIALIZED VIEW", "d.mv", table="d.t", guarded=True, creates="d.mv", needs="d.t d.src"
    ),
    "CREATE MATERIALIZED VIEW mv REFRESH EVERY 1 DAY DEPENDS ON x TO d.t (a Int8) DEFINER = CURRENT_USER SQL SECURITY DEFINER AS "
    "SELECT a FROM (SELECT a FROM d.src) AS s LEFT ARRAY JOIN b WHERE EXTRACT(YEAR FROM c) = 1": kind(
        "CREATE", "MATERIALIZED VIEW", "mv", table="d.t", creates="mv", needs="d.t d.src"
    ),
    "CREATE MATERIALIZED VIEW mv ENGINE = Memory TTL a TO DISK 'x' AS SELECT 1 AS a": kind(
        "CREATE", "MATERIALIZED VIEW", "mv", creates="mv"
    ),
    "CREATE VIEW v AS WITH x AS (SELECT 1 AS a) SELECT a FROM x JOIN d.y ON x.a IS NOT DISTINCT FROM y.a": kind(
        "CREATE", "VIEW", "v", creates="v", needs="d.y"
    ),
    "CREATE VIEW v (a Int8) AS SELECT a FROM not_looked_at": kind("CREATE", "VIEW", "v", creates="v"),
    "CREATE VIEW v AS SELECT number FROM numbers(3)": kind("CREATE", "VIEW", "v", creates="v"),
    "CREATE DICTIONARY d.x (a UInt64) PRIMARY KEY a SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)": kind(
        "CREATE", "DICTIONARY", "d.x", creates="d.x"
    ),
    "CREATE FUNCTION IF NOT EXISTS f AS (x) -> x + 1": kind("CREATE", "FUNCTION", "f", guarded=True),
    "CREATE INDEX IF NOT EXISTS i ON d.t (a) TYPE minmax": kind(
        "CREATE", "INDEX", "i", table="d.t", guarded=True, needs="d.t"
    ),
    "DROP INDEX i ON d.t": kind("DROP", "INDEX", "i", table="d.t", needs="d.t"),
    "DROP TABLE d.t, u SYNC": kind("DROP", "TABLE", "d.t", drops="d.t u", needs="d.t u"),
    "DROP TABLE IF EXISTS t": kind("DROP", "TABLE", "t", guarded=True, drops="t"),
    "DROP VIEW v": kind("DROP", "VIEW", "v", drops="v", needs="v"),
    "DROP DATABASE IF EXISTS d": kind("DROP", "DATABASE", "d", guarded=True),
    "DETACH TABLE t PERMANENTLY": kind("DETACH", "TABLE", "t", drops="t", needs="t"),
    "RENAME TABLE a TO b, d.c TO d.e": kind(
        "RENAME", "TABLE", "a", renames=[("a", "b"), ("d.c", "d.e")], creates="b d.e", drops="a d.c", needs="a d.c"
    ),
    "RENAME TABLE a TO old, b TO a": kind(
        "RENAME", "TABLE", "a", renames=[("a", "old"), ("b", "a")], creates="old a", drops="b", needs="a b"
    ),
    "RENAME TABLE a TO x, b TO a, x TO b": kind(
        "RENAME", "TABLE", "a", renames=[("a", "x"), ("b", "a"), ("x", "b")], creates="a b", needs="a b"
    ),
    "RENAME DATABASE a TO b": kind("RENAME", "DATABASE", "a", renames=[("a", "b")]),
    "EXCHANGE TABLES d.a AND d.b": kind("EXCHANGE", "TABLE", "d.a", renames=[("d.a", "d.b")], needs="d.a d.b"),
    "TRUNCATE TABLE IF EXISTS t": kind("TRUNCATE", "TABLE", "t", guarded=True),
    "TRUNCATE t": kind("TRUNCATE", "TABLE", "t", needs="t"),
    "TRUNCATE ALL TABLES FROM d": kind("TRUNCATE"),
    "OPTIMIZE TABLE d.t FINAL": kind("OPTIMIZE", "TABLE", "d.t", needs="d.t"),
    "INSERT INTO d.t (a, b) VALUES (1, 'SELECT x FROM y')": kind("INSERT", "TABLE", "d.t", needs="d.t"),
    "INSERT INTO TABLE t SELECT a FROM u": kind("INSERT", "TABLE", "t", needs="t u"),
    "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x": kind("INSERT", "TABLE", "t", needs="t"),
    "INSERT INTO FUNCTION null('a Int8') SELECT 1": kind("INSERT"),
    "DELETE FROM d.t WHERE a = 1": kind("DELETE", "TABLE", "d.t", needs="d.t"),
    "UPDATE t SET a = 1 WHERE b = 2": kind("UPDATE", "TABLE", "t", needs="t"),
    "ALTER TABLE IF EXISTS t MODIFY COMMENT 'x'": kind(
        "ALTER", "TABLE", "t", guarded=True, clauses=(clause("MODIFY COMMENT", None, "MODIFY COMMENT 'x'"),)
    ),
    "ALTER TABLE {t:Identifier} DROP COLUMN a": kind("ALTER", "TABLE"),
    "SYSTEM FLUSH LOGS": kind("SYSTEM"),
    "(SELECT 1) UNION ALL (SELECT 2)": kind("SELECT"),
    "": kind(""),
    "CREATE": kind("CREATE"),
    "CREATE TABLE": kind("CREATE", "TABLE"),
    "ALTER TABLE t DROP COLUMN a": kind(
        "ALTER", "TABLE", "t", needs="t", clauses=(clause("DROP COLUMN", "a", "DROP COLUMN a"),)
    ),
    "DROP TABLE 'not closed": kind("DROP"),
}
MYSQL: dict[str, Kind] = {
    "CREATE TABLE IF NOT EXISTS `a``b` (id INT, CONSTRAINT x FOREIGN KEY (id) REFERENCES p (id))": kind(
        "CREATE", "TABLE", "a`b", guarded=True, creates="a`b"
    ),
    "CREATE TABLE t LIKE d.u": kind("CREATE", "TABLE", "t", creates="t", needs="d.u"),
    "CREATE TABLE t (LIKE u)": kind("CREATE", "TABLE", "t", creates="t", needs="u"),
    "CREATE TABLE t (a INT) SELECT b.x FROM u AS b STRAIGHT_JOIN c": kind("CREATE", "TABLE", "t", creates="t", needs="u",
                                                                          fills=True),
    "/*!50001 CREATE OR REPLACE ALGORITHM=MERGE DEFINER=`root`@`%` SQL SECURITY INVOKER */ VIEW v (a) AS "
    "select extract(year from x) from t join d.u on 1 where trim(both 'a' from b) = 'c'": kind(
        "CREATE", "VIEW", "v", replaces=True, creates="v", needs="t d.u"
    ),
    "CREATE VIEW v AS SELECT 1 FROM DUAL": kind("CREATE", "VIEW", "v", creates="v"),
    "CREATE DEFINER=event@localhost PROCEDURE IF NOT EXISTS d.p(IN a INT) BEGIN SELECT 1; END": kind(
        "CREATE", "PROCEDURE", "d.p", guarded=True
    ),
    "CREATE PROCEDURE p() l: BEGIN SELECT 1; END l": kind("CREATE", "PROCEDURE", "p"),
    "CREATE PROCEDURE p() BEGIN SELECT 1": kind("CREATE", "PROCEDURE", "p", unfinished=True),
    "CREATE TRIGGER tr BEFORE INSERT ON d.t FOR EACH ROW SET NEW.a = 1": kind(
        "CREATE", "TRIGGER", "tr", table="d.t", needs="d.t"
    ),
    "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t": kind("CREATE", "EVENT", "e"),
    "CREATE UNIQUE INDEX i USING BTREE ON t (a)": kind("CREATE", "INDEX", "i", table="t", needs="t"),
    "DROP INDEX i ON t": kind("DROP", "INDEX", "i", table="t", needs="t"),
    "DROP PROCEDURE IF EXISTS p": kind("DROP", "PROCEDURE", "p", guarded=True),
    "DROP TABLE a, d.b": kind("DROP", "TABLE", "a", drops="a d.b", needs="a d.b"),
    "RENAME TABLE a TO b": kind("RENAME", "TABLE", "a", renames=[("a", "b")], creates="b", drops="a", needs="a"),
    "ALTER TABLE a RENAME TO d.b": kind(
        "ALTER", "TABLE", "a", renames=[("a", "d.b")], creates="d.b", drops="a", needs="a",
        clauses=(clause("RENAME TABLE", None, "RENAME TO d.b", to="b"),),
    ),
    "INSERT IGNORE INTO t SET a = 1": kind("INSERT", "TABLE", "t", needs="t"),
    "INSERT t VALUES (1) ON DUPLICATE KEY UPDATE a = VALUES(a)": kind("INSERT", "TABLE", "t", needs="t"),
    "REPLACE INTO t SELECT * FROM u": kind("REPLACE", "TABLE", "t", needs="t u"),
    "UPDATE LOW_PRIORITY d.t SET a = 1": kind("UPDATE", "TABLE", "d.t", needs="d.t"),
    "DELETE QUICK FROM t WHERE 1": kind("DELETE", "TABLE", "t", needs="t"),
    "DELETE a FROM t AS a JOIN u": kind("DELETE", "TABLE", "t", needs="t"),
    "DELETE FROM a USING t AS a JOIN u": kind("DELETE", guarded=False),
    "TRUNCATE TABLE t": kind("TRUNCATE", "TABLE", "t", needs="t"),
    "CALL d.p(1)": kind("CALL", "PROCEDURE", "d.p"),
    "USE shop": kind("USE", "DATABASE", "shop"),
    "SET @a = 1": kind("SET"),
    "WITH x AS (SELECT 1) SELECT * FROM x": kind("WITH"),
}  # fmt: skip
KINDS = {"clickhouse": CLICKHOUSE, "mysql": MYSQL}
# Those that a server without any table has to refuse; see the tests on servers.
NEEDY = {dialect: [statement for statement, expected in known.items() if expected.needs] for dialect, known in KINDS.items()}

CLAUSES: dict[str, list[tuple[str, tuple[Clause, ...]]]] = {
    "clickhouse": [
        ("(ADD COLUMN IF NOT EXISTS `a b` Int8 DEFAULT (1, 2).1 AFTER c), (DROP COLUMN d), (UPDATE x = 1, drop = 2 WHERE 1)", (
            clause("ADD COLUMN", "a b", "ADD COLUMN IF NOT EXISTS `a b` Int8 DEFAULT (1, 2).1 AFTER c", guarded=True),
            clause("DROP COLUMN", "d", "DROP COLUMN d"), clause("UPDATE", None, "UPDATE x = 1, drop = 2 WHERE 1"))),
        ("MODIFY SETTING a = 1, b = 2, ADD INDEX IF NOT EXISTS i x TYPE minmax, RENAME COLUMN IF EXISTS a TO b", (
            clause("MODIFY SETTING", None, "MODIFY SETTING a = 1, b = 2"),
            clause("ADD INDEX", "i", "ADD INDEX IF NOT EXISTS i x TYPE minmax", guarded=True),
            clause("RENAME COLUMN", "a", "RENAME COLUMN IF EXISTS a TO b", to="b", guarded=True))),
        ("MODIFY COLUMN c Int16 CODEC(Delta(2), ZSTD(1)), COMMENT COLUMN c 'x, ADD', MATERIALIZE INDEX i, CLEAR COLUMN d", (
            clause("MODIFY COLUMN", "c", "MODIFY COLUMN c Int16 CODEC(Delta(2), ZSTD(1))"),
            clause("COMMENT COLUMN", "c", "COMMENT COLUMN c 'x, ADD'"), clause("MATERIALIZE INDEX", "i", "MATERIALIZE INDEX i"),
            clause("CLEAR COLUMN", "d", "CLEAR COLUMN d"))),
        ("MODIFY ORDER BY (a, b), MODIFY TTL a + INTERVAL 1 DAY, b + INTERVAL 2 DAY, DELETE WHERE a = 1", (
            clause("MODIFY ORDER BY", None, "MODIFY ORDER BY (a, b)"),
            clause("MODIFY TTL", None, "MODIFY TTL a + INTERVAL 1 DAY, b + INTERVAL 2 DAY"),
            clause("DELETE", None, "DELETE WHERE a = 1"))),
        ("ADD PROJECTION p (SELECT a ORDER BY b), DROP PROJECTION q, ADD CONSTRAINT c CHECK a > 1, DROP CONSTRAINT d", (
            clause("ADD PROJECTION", "p", "ADD PROJECTION p (SELECT a ORDER BY b)"),
            clause("DROP PROJECTION", "q", "DROP PROJECTION q"), clause("ADD CONSTRAINT", "c", "ADD CONSTRAINT c CHECK a > 1"),
            clause("DROP CONSTRAINT", "d", "DROP CONSTRAINT d"))),
        ("UPDATE comment = 'x', b = 1 WHERE 1, ADD COLUMN d Int8", (
            clause("UPDATE", None, "UPDATE comment = 'x', b = 1 WHERE 1"), clause("ADD COLUMN", "d", "ADD COLUMN d Int8"))),
        ("DROP PARTITION '2024', MODIFY QUERY SELECT a, b FROM t, u", (
            clause("DROP PARTITION", None, "DROP PARTITION '2024'"),
            clause("MODIFY QUERY", None, "MODIFY QUERY SELECT a, b FROM t, u"))),
    ],
    "mysql": [
        ("ADD x INT, ADD COLUMN IF NOT EXISTS y INT COMMENT 'a, b', DROP z, MODIFY comment TEXT, CHANGE a b INT", (
            clause("ADD COLUMN", "x", "ADD x INT"),
            clause("ADD COLUMN", "y", "ADD COLUMN IF NOT EXISTS y INT COMMENT 'a, b'", guarded=True),
            clause("DROP COLUMN", "z", "DROP z"), clause("MODIFY COLUMN", "comment", "MODIFY comment TEXT"),
            clause("CHANGE COLUMN", "a", "CHANGE a b INT", to="b"))),
        ("ADD UNIQUE KEY k (a, b), ADD KEY (c), ADD FULLTEXT f (d), DROP KEY g, RENAME KEY h TO i, ALTER INDEX j INVISIBLE", (
            clause("ADD INDEX", "k", "ADD UNIQUE KEY k (a, b)"), clause("ADD INDEX", None, "ADD KEY (c)"),
            clause("ADD INDEX", "f", "ADD FULLTEXT f (d)"), clause("DROP INDEX", "g", "DROP KEY g"),
            clause("RENAME INDEX", "h", "RENAME KEY h TO i", to="i"), clause("ALTER INDEX", "j", "ALTER INDEX j INVISIBLE"))),
        ("ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p (b), DROP FOREIGN KEY f, ADD CONSTRAINT CHECK (a > 1), DROP CHECK c", (
            clause("ADD FOREIGN KEY", "fk", "ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p (b)"),
            clause("DROP FOREIGN KEY", "f", "DROP FOREIGN KEY f"),
            clause("ADD CHECK", None, "ADD CONSTRAINT CHECK (a > 1)"), clause("DROP CHECK", "c", "DROP CHECK c"))),
        ("ADD CONSTRAINT u UNIQUE (a), DROP PRIMARY KEY, ADD PRIMARY KEY (b), ALTER x SET DEFAULT 1, RENAME COLUMN c TO d", (
            clause("ADD INDEX", "u", "ADD CONSTRAINT u UNIQUE (a)"), clause("DROP PRIMARY KEY", None, "DROP PRIMARY KEY"),
            clause("ADD PRIMARY KEY", None, "ADD PRIMARY KEY (b)"), clause("ALTER COLUMN", "x", "ALTER x SET DEFAULT 1"),
            clause("RENAME COLUMN", "c", "RENAME COLUMN c TO d", to="d"))),
        ("ADD vector VECTOR(3), ADD VECTOR INDEX v (vector), MODIFY COLUMN x INT FIRST", (
            clause("ADD COLUMN", "vector", "ADD vector VECTOR(3)"), clause("ADD INDEX", "v", "ADD VECTOR INDEX v (vector)"),
            clause("MODIFY COLUMN", "x", "MODIFY COLUMN x INT FIRST"))),
        ("ENGINE=InnoDB, COMMENT='x', ADD COLUMN (y INT, z INT), DROP PARTITION p", (
            clause("ENGINE", None, "ENGINE=InnoDB, COMMENT='x'"), clause("ADD COLUMN", "y", "ADD COLUMN (y INT, z INT)"),
            clause("DROP PARTITION", None, "DROP PARTITION p"))),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "statement", "expected"),
    [(dialect, statement, expected) for dialect, known in KINDS.items() for statement, expected in known.items()],
)
def test_a_statement_is_known_by_its_tokens(dialect: str, statement: str, expected: Kind) -> None:
    """All fields, so that nothing is claimed which is not so."""
    assert classify(statement, dialect)._asdict() == expected._asdict()


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [(dialect, text, expected) for dialect, known in CLAUSES.items() for text, expected in known],
)
def test_an_alter_is_known_by_its_clauses(dialect: str, text: str, expected: tuple[Clause, ...]) -> None:
    """Each with what it changes, as it was written."""
    found = classify(f"ALTER TABLE d.t ON CLUSTER c {text}", dialect)

    assert (found.name, found.clauses) == (n("d.t"), expected)


def test_comments_and_case_change_nothing() -> None:
    """Only names keep their case."""
    plain, odd = "ALTER TABLE T ADD COLUMN A Int8", "alter /* x; */ table -- y\n T add\n# z\n column A Int8"

    assert classify(odd, "mysql").clauses[0][:4] == classify(plain, "mysql").clauses[0][:4]
    assert classify(odd, "mysql").name == classify(plain, "mysql").name == Name(None, "T")


@pytest.mark.parametrize("dialect", KINDS)
@given(st.one_of(TEXTS, st.sampled_from([*CLICKHOUSE, *MYSQL]).flatmap(
    lambda text: st.integers(0, len(text)).map(lambda end: text[:end]))))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_no_text_makes_it_fail(dialect: str, text: str) -> None:
    """Statements cut off anywhere included: what is not understood is left out."""
    assert isinstance(classify(text, dialect), Kind)


@pytest.mark.parametrize("case", [case for case in CASES if case.statements], ids=lambda case: f"{case.dialect} {case.name}")
def test_what_the_splitter_yields_has_a_verb(case: object) -> None:
    """The cases of the splitter are statements of many kinds."""
    for number, statement in enumerate(split(case.text, case.dialect)):  # type: ignore[attr-defined]
        found = classify(statement.text, case.dialect)  # type: ignore[attr-defined]
        assert found.verb.isalpha() or number in case.refused or statement.text.startswith("/*!")  # type: ignore[attr-defined]
