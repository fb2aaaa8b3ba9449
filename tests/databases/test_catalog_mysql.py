"""The catalog of MySQL and MariaDB says the same of the same schema, and sees every kind of change."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from migrator.catalogs import Catalog, Object, differences, mysql as catalogs
from migrator.databases.mysql import SQL_MODE
from migrator.errors import StatementRefused
from migrator.statements import split
from tests.conftest import FIGURES, Database
from tests.databases import mysql_shapes as shapes
from tests.databases.mysql_session import Session, connected
from tests.servers.mysql import ENGINES, MySQLServer

UNICODE = shapes.UNICODE
AWKWARD = rf"""
CREATE TABLE numbers (
    id bigint(20) unsigned NOT NULL AUTO_INCREMENT, a tinyint(1) DEFAULT 1, b tinyint(4) NOT NULL, c int(11) DEFAULT -7,
    d decimal(10,2) NOT NULL DEFAULT 0.00, e decimal(10,0) DEFAULT 1000, f float DEFAULT 1.5, g double DEFAULT '2.50',
    h bit(3) DEFAULT b'101', i year DEFAULT 2026, j int(5) unsigned zerofill DEFAULT 0, k smallint DEFAULT NULL,
    l boolean NOT NULL DEFAULT TRUE, m int DEFAULT (1 + 2),
    PRIMARY KEY (id), UNIQUE KEY by_c (c), KEY by_d (d DESC, b)) {UNICODE} COMMENT='all; kinds, of ''numbers''';
CREATE TABLE texts (
    a char(36) NOT NULL DEFAULT (UUID()), b varchar(20) DEFAULT 'it''s', c varchar(20) DEFAULT 'NULL',
    d varchar(20) DEFAULT 'now()', e varchar(20) DEFAULT '', f varchar(20) NOT NULL DEFAULT 'a\\b"c', g text,
    h longtext COLLATE utf8mb4_bin, i enum('a','B','it''s') DEFAULT 'B', j set('x','y') DEFAULT 'x,y', k json,
    l varbinary(9) DEFAULT 'x', m blob, n varchar(9) DEFAULT '007', o varchar(9) CHARACTER SET latin1 DEFAULT 'l',
    p char(3) CHARACTER SET ascii COLLATE ascii_bin, q varchar(40) DEFAULT (CONCAT('A', 'b')),
    r varchar(40) DEFAULT 'current_timestamp', KEY by_g (g(10)), FULLTEXT KEY words (g)) {UNICODE};
CREATE TABLE times (
    a timestamp NULL, b timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    c timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    d datetime(3) DEFAULT NOW(3) ON UPDATE NOW(3), e datetime DEFAULT '2026-01-02 03:04:05', f date DEFAULT '2026-01-02',
    g time(2) DEFAULT '01:02:03', h datetime(6)) {UNICODE};
CREATE TABLE made (
    a int, b varchar(20), c int GENERATED ALWAYS AS (a * 2) VIRTUAL, d int AS (a + 1) STORED COMMENT 'kept',
    e varchar(40) AS (CONCAT(b, 'x')) VIRTUAL, CONSTRAINT small CHECK (a < 100),
    CONSTRAINT word CHECK (b <> 'no''t')) {UNICODE};
CREATE TABLE parts (id int NOT NULL, PRIMARY KEY (id)) {UNICODE} PARTITION BY HASH (id) PARTITIONS 2;
CREATE TABLE `odd ``name` (`select` int, `a b` int, `Größe` int, `100%` int, KEY `a, b` (`a b`)) {UNICODE} COMMENT='ü';
CREATE TABLE parent (a int NOT NULL, b varchar(9) NOT NULL, PRIMARY KEY (a, b)) {UNICODE};
CREATE TABLE child (
    id int PRIMARY KEY, a int, b varchar(9), self int, KEY by_ab (a, b), KEY self (self),
    CONSTRAINT one FOREIGN KEY (a, b) REFERENCES parent (a, b) ON DELETE CASCADE ON UPDATE RESTRICT,
    FOREIGN KEY (self) REFERENCES child (id) ON DELETE SET NULL) {UNICODE};
CREATE SQL SECURITY INVOKER VIEW v AS
    SELECT a AS x, COUNT(*) AS n FROM child GROUP BY x HAVING n > 1 ORDER BY n DESC LIMIT 3;
CREATE VIEW w AS SELECT a FROM child WHERE a > 1 WITH LOCAL CHECK OPTION;
CREATE VIEW u AS SELECT a FROM child UNION SELECT a FROM parent ORDER BY a;
DELIMITER //
CREATE PROCEDURE p(IN a int(11), INOUT b varchar(20), OUT c decimal(10,2)) COMMENT 'x' SQL SECURITY INVOKER
BEGIN
    -- a comment; here
    SELECT 'é';
END//
CREATE PROCEDURE q() BEGIN END//
DELIMITER ;
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2026-01-02 03:04:05' DISABLE DO DELETE FROM child;
CREATE EVENT once ON SCHEDULE AT '2036-01-02 03:04:05' DO DELETE FROM child;
"""
AS_ROOT = """
CREATE FUNCTION f(a bigint(20) unsigned) RETURNS varchar(20) CHARSET utf8mb4 DETERMINISTIC RETURN CONCAT(a, 'é');
CREATE TRIGGER t BEFORE INSERT ON numbers FOR EACH ROW SET NEW.a = 1;
CREATE TRIGGER s AFTER UPDATE ON numbers FOR EACH ROW BEGIN END;
"""


@dataclass
class Side:
    """One of the two servers: a session of the job's user, and the database for what only root may do."""

    session: Session
    database: Database

    def catalog(self) -> Catalog:
        return self.session.everything()

    def run_as_root(self, script: str) -> None:
        for statement in split(script, "mysql"):
            self.database.query(f"SET sql_mode = '{SQL_MODE}'; {statement.text}")

    def differences(self, wanted: Catalog) -> list[tuple[str, Object, str, str]]:
        """What verification would find, if another catalog were the expected schema."""
        return [*differences(wanted, self.session.same_queries(wanted, self.catalog()), {})]


BEYOND = ("EVENT", "TRIGGER", "INDEX")  # README.md's rights: who lacks the first two does not see such objects either


@pytest.fixture
def pair(mysql_servers: Callable[[str], MySQLServer]) -> Iterator[list[Side]]:
    """An empty database on MySQL, and one on MariaDB."""
    with ExitStack() as stack:
        sides = []
        for dialect in ENGINES:
            database = Database(mysql_servers(dialect).start(), f"pair_{secrets.token_hex(4)}")
            database.server.create_database(database.name)
            database.grant(*BEYOND)
            stack.callback(database.server.query, f"DROP DATABASE {database.name}")
            sides.append(Side(stack.enter_context(connected(database)), database))
        yield sides


@pytest.fixture
def session(fresh_mysql: Database) -> Iterator[Session]:
    """A session on an empty database of each dialect."""
    fresh_mysql.grant(*BEYOND)
    with connected(fresh_mysql) as made:
        yield made


def test_the_shipped_schema_is_the_same_on_both_servers(pair: list[Side]) -> None:
    """Whichever server the expected schema was made on, the other one satisfies it, and so does itself."""
    for side in pair:
        side.session.run(shapes.BASE)
        side.session.converge(shapes.STEP_6, shapes.STEP_7)
    catalogs = [side.catalog() for side in pair]
    assert catalogs[0].keys() == catalogs[1].keys()
    assert [side.differences(catalog) for side in pair for catalog in catalogs] == [[], [], [], []]


def test_an_awkward_schema_is_the_same_on_both_servers(pair: list[Side]) -> None:
    """Every kind of type, default, expression, name and object that both servers know."""
    for side in pair:
        side.session.run(AWKWARD)
        side.run_as_root(AS_ROOT)
    catalogs = [side.catalog() for side in pair]
    assert catalogs[0].keys() == catalogs[1].keys()
    assert [side.differences(catalog) for side in pair for catalog in catalogs] == [[], [], [], []]


def test_reading_takes_few_queries_whatever_the_size(session: Session) -> None:
    """The number of queries does not grow with the schema, or every run would get slower with it."""
    asked: list[str] = []
    query = session.database.query

    def count(sql: str) -> list[tuple[Any, ...]]:
        asked.append(sql)
        return query(sql)

    catalogs.read_catalog(count, session.dialect, session.address.database, "schema_migrations")
    empty = len(asked)
    session.run(shapes.BASE)
    session.converge(shapes.STEP_6, shapes.STEP_7)
    asked.clear()
    assert len(catalogs.read_catalog(count, session.dialect, session.address.database, "schema_migrations")) > 500
    assert empty <= len(asked) <= empty + 1 < 15  # whose columns a foreign key has is asked where there is one


def test_ledger_and_journal_are_no_part_of_the_schema(session: Session) -> None:
    """The job's own tables are not judged, nor anything in them."""
    session.run("CREATE TABLE schema_migrations (version int PRIMARY KEY, note varchar(9), KEY (note));"
                "CREATE TABLE schema_migrations_journal (id int PRIMARY KEY, CHECK (id > 0));")  # fmt: skip
    assert session.everything() == {}


SCHEMA = f"""
CREATE TABLE parent (id int NOT NULL, PRIMARY KEY (id)) {UNICODE};
CREATE TABLE t (
    id int NOT NULL AUTO_INCREMENT, parent_id int NULL, word varchar(9) NOT NULL DEFAULT 'a' COMMENT 'c',
    state enum('a','b') NULL, at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id), UNIQUE KEY word (word), KEY by_state (state, at DESC), KEY by_parent (parent_id),
    CONSTRAINT fk FOREIGN KEY (parent_id) REFERENCES parent (id) ON DELETE CASCADE) {UNICODE} COMMENT='t';
CREATE TABLE plain (
    id int NOT NULL, n int NOT NULL DEFAULT 1, twice int AS (n * 2) VIRTUAL, PRIMARY KEY (id),
    CONSTRAINT small CHECK (n < 100)) {UNICODE};
CREATE SQL SECURITY INVOKER VIEW v AS SELECT id AS id, word AS word FROM t WHERE state = 'a';
CREATE PROCEDURE p(IN a int) SQL SECURITY INVOKER SELECT a;
CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM plain;
"""
BY_ROOT = """
CREATE FUNCTION f(a int) RETURNS int DETERMINISTIC SQL SECURITY INVOKER RETURN a;
CREATE TRIGGER fires BEFORE INSERT ON plain FOR EACH ROW SET NEW.n = 1;
"""
DRIFTS = {  # what somebody does behind the job's back, and the one difference that it makes
    "type": ("ALTER TABLE t MODIFY word varchar(10) NOT NULL DEFAULT 'a' COMMENT 'c'", "different column t.word"),
    "null": ("ALTER TABLE t MODIFY word varchar(9) NULL DEFAULT 'a' COMMENT 'c'", "different column t.word"),
    "default": ("ALTER TABLE t MODIFY word varchar(9) NOT NULL DEFAULT 'b' COMMENT 'c'", "different column t.word"),
    "no default": ("ALTER TABLE t ALTER word DROP DEFAULT", "different column t.word"),
    "comment": ("ALTER TABLE t MODIFY word varchar(9) NOT NULL DEFAULT 'a'", "different column t.word"),
    "collation": ("ALTER TABLE t MODIFY word varchar(9) COLLATE utf8mb4_bin NOT NULL DEFAULT 'a' COMMENT 'c'",
                  "different column t.word"),
    "enum": ("ALTER TABLE t MODIFY state enum('a','B') NULL", "different column t.state"),
    "on update": ("ALTER TABLE t MODIFY at timestamp NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
                  "different column t.at"),
    "auto_increment": ("ALTER TABLE t MODIFY id int NOT NULL", "different column t.id"),
    "new column": ("ALTER TABLE t ADD COLUMN more int", "unexpected column t.more"),
    "generated column": ("ALTER TABLE t DROP state, ADD state enum('a','b') AS ('a') STORED; ALTER TABLE t DROP KEY"
                         " by_state, ADD KEY by_state (state, at DESC)", "different column t.state"),
    "lost unique": ("ALTER TABLE t DROP KEY word, ADD KEY word (word)", "different index t.word"),
    "lost index": ("ALTER TABLE t DROP KEY by_state", "missing index t.by_state"),
    "index order": ("ALTER TABLE t DROP KEY by_state, ADD KEY by_state (state, at)", "different index t.by_state"),
    "index part": ("ALTER TABLE t DROP KEY word, ADD UNIQUE KEY word (word(3))", "different index t.word"),
    "new index": ("ALTER TABLE t ADD KEY more (word)", "unexpected index t.more"),
    "lost foreign key": ("ALTER TABLE t DROP FOREIGN KEY fk", "missing foreign key t.(parent_id) to parent (id)"),
    "foreign key rule": ("ALTER TABLE t DROP FOREIGN KEY fk, ADD CONSTRAINT fk2 FOREIGN KEY (parent_id) REFERENCES"
                         " parent (id)", "different foreign key t.(parent_id) to parent (id)"),
    "table comment": ("ALTER TABLE t COMMENT='u'", "different table t"),
    "table collation": ("ALTER TABLE t DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "different table t"),
    "engine": ("ALTER TABLE t DROP FOREIGN KEY fk; ALTER TABLE parent ENGINE=MyISAM",
               "different table parent; missing foreign key t.(parent_id) to parent (id)"),
    "check": ("ALTER TABLE t ADD CONSTRAINT more CHECK (word <> 'b')", "unexpected check t.more"),
    "view query": ("CREATE OR REPLACE SQL SECURITY INVOKER VIEW v AS SELECT id AS id, word AS word FROM t",
                   "different view v"),
    "view security": ("CREATE OR REPLACE SQL SECURITY DEFINER VIEW v AS SELECT id AS id, word AS word FROM t"
                      " WHERE state = 'a'", "different view v"),
    "lost view": ("DROP VIEW v", "missing view v"),
    "table for a view": ("DROP VIEW v; CREATE TABLE v (id int)", "different view v"),
    "procedure body": ("DROP PROCEDURE p; CREATE PROCEDURE p(IN a int) SQL SECURITY INVOKER SELECT a + 1",
                       "different procedure p"),
    "procedure security": ("DROP PROCEDURE p; CREATE PROCEDURE p(IN a int) SELECT a", "different procedure p"),
    "procedure parameters": ("DROP PROCEDURE p; CREATE PROCEDURE p(IN a bigint) SQL SECURITY INVOKER SELECT a",
                             "different procedure p"),
    "lost procedure": ("DROP PROCEDURE p", "missing procedure p"),
    "lost column": ("ALTER TABLE t DROP FOREIGN KEY fk; ALTER TABLE t DROP KEY by_parent; ALTER TABLE t DROP parent_id",
                    "missing column t.parent_id; missing index t.by_parent;"
                    " missing foreign key t.(parent_id) to parent (id)"),
    "lost table": ("DROP VIEW v; DROP TABLE t", "missing table t; missing view v"),
    "renamed table": ("RENAME TABLE plain TO simple", "missing table plain"),
    "renamed column": ("ALTER TABLE plain DROP twice; ALTER TABLE plain DROP CONSTRAINT small; ALTER TABLE plain RENAME COLUMN"
                       " n TO m", "missing check plain.small; missing column plain.n; missing column plain.twice;"
                       " unexpected column plain.m"),
    "sign": ("ALTER TABLE plain MODIFY n int unsigned NOT NULL DEFAULT 1", "different column plain.n"),
    "invisible column": ("ALTER TABLE plain MODIFY n int NOT NULL DEFAULT 1 INVISIBLE", "different column plain.n"),
    "generated expression": ("ALTER TABLE plain DROP twice, ADD twice int AS (n * 3) VIRTUAL", "different column plain.twice"),
    "stored": ("ALTER TABLE plain DROP twice, ADD twice int AS (n * 2) STORED", "different column plain.twice"),
    "no longer generated": ("ALTER TABLE plain DROP twice, ADD twice int", "different column plain.twice"),
    "primary key": ("ALTER TABLE plain DROP PRIMARY KEY, ADD PRIMARY KEY (id, n)", "different index plain.PRIMARY"),
    "lost primary key": ("ALTER TABLE plain DROP PRIMARY KEY", "missing index plain.PRIMARY"),
    "index kind": ("ALTER TABLE t DROP KEY word, ADD FULLTEXT KEY word (word)", "different index t.word"),
    "invisible index": ("ALTER TABLE t ALTER INDEX by_state INVISIBLE", "different index t.by_state"),
    "partitions": ("ALTER TABLE plain PARTITION BY HASH (id) PARTITIONS 2", "different table plain"),
    "check clause": ("ALTER TABLE plain DROP CONSTRAINT small; ALTER TABLE plain ADD CONSTRAINT small CHECK (n < 1000)",
                     "different check plain.small"),
    "lost check": ("ALTER TABLE plain DROP CONSTRAINT small", "missing check plain.small"),
    "foreign key columns": ("ALTER TABLE t DROP FOREIGN KEY fk; ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (parent_id)"
                            " REFERENCES plain (id) ON DELETE CASCADE", "missing foreign key t.(parent_id) to parent (id);"
                            " unexpected foreign key t.(parent_id) to plain (id)"),
    "foreign key on update": ("ALTER TABLE t DROP FOREIGN KEY fk; ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (parent_id)"
                              " REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE",
                              "different foreign key t.(parent_id) to parent (id)"),
    "view check option": ("CREATE OR REPLACE SQL SECURITY INVOKER VIEW v AS SELECT id AS id, word AS word FROM t"
                          " WHERE state = 'a' WITH CHECK OPTION", "different view v"),
    "view that runs no more": ("RENAME TABLE t TO u", "missing table t; different view v"),
    "procedure sql mode": ("SET SESSION sql_mode = ''; DROP PROCEDURE p; CREATE PROCEDURE p(IN a int) SQL SECURITY INVOKER"
                           " SELECT a", "different procedure p"),
    "procedure with another parameter": ("DROP PROCEDURE p; CREATE PROCEDURE p(IN a int, IN b int) SQL SECURITY INVOKER"
                                         " SELECT a", "different procedure p"),
    "event schedule": ("ALTER EVENT e ON SCHEDULE EVERY 2 DAY", "different event e"),
    "event switched on": ("ALTER EVENT e ENABLE", "different event e"),
    "event body": ("ALTER EVENT e DO DELETE FROM t", "different event e"),
    "lost event": ("DROP EVENT e", "missing event e"),
}  # fmt: skip
AS_ROOT_DRIFTS = {  # where the server asks for more than the job has
    "new trigger": ("CREATE TRIGGER more AFTER INSERT ON plain FOR EACH ROW SET @a = 1", "unexpected trigger plain.more"),
    "lost trigger": ("DROP TRIGGER fires", "missing trigger plain.fires"),
    "trigger body": ("DROP TRIGGER fires; CREATE TRIGGER fires BEFORE INSERT ON plain FOR EACH ROW SET NEW.n = 2",
                     "different trigger plain.fires"),
    "trigger event": ("DROP TRIGGER fires; CREATE TRIGGER fires BEFORE UPDATE ON plain FOR EACH ROW SET NEW.n = 1",
                      "different trigger plain.fires"),
    "lost function": ("DROP FUNCTION f", "missing function f"),
    "function type": ("DROP FUNCTION f; CREATE FUNCTION f(a int) RETURNS bigint DETERMINISTIC SQL SECURITY INVOKER RETURN a",
                      "different function f"),
}  # fmt: skip
OWN_DRIFTS = {  # what only one of the two has
    "mysql": {"check not enforced": ("ALTER TABLE plain ALTER CHECK small NOT ENFORCED", "different check plain.small"),
              "index of an expression": ("ALTER TABLE t DROP KEY by_state, ADD KEY by_state ((parent_id + 1))",
                                         "different index t.by_state")},
    "mariadb": {"kept versions": ("ALTER TABLE plain ADD SYSTEM VERSIONING", "different table plain")},
}  # fmt: skip


def test_each_drift_is_seen_as_what_it_is(mysql_server: MySQLServer) -> None:
    """Nothing that somebody changes goes unseen, and nothing else is reported beside it."""
    dialect, wrong = mysql_server.dialect, {}
    drifts = [*(OWN_DRIFTS[dialect] | DRIFTS | AS_ROOT_DRIFTS).items()]
    tried = drifts if os.environ.get("MIGRATE_TEST_FULL") else drifts[dialect == "mariadb":: 2]
    for number, (name, (sql, expected)) in enumerate(tried):
        database = Database(mysql_server.start(), f"drift_{number}")
        mysql_server.create_database(database.name)
        database.grant(*BEYOND)
        with connected(database) as session:
            side = Side(session, database)
            session.run(SCHEMA)
            side.run_as_root(BY_ROOT)
            wanted = session.everything()
            assert side.differences(wanted) == []
            (side.run_as_root if name in AS_ROOT_DRIFTS else session.run)(
                sql.replace("INDEX by_state INVISIBLE", "INDEX by_state IGNORED") if dialect == "mariadb" else sql)
            shown = {f"{kind} {item}" for kind, item, _, _ in side.differences(wanted) if item.kind != "output"}
            if shown != {*expected.split("; ")}:
                wrong[name] = shown
        mysql_server.drop_database(database.name)
    FIGURES.append(f"damage on {dialect}: {len(tried)} of {len(drifts)} kinds tried, {len(tried) - len(wrong)} found and named")
    assert wrong == {}


def test_a_view_that_runs_no_more_says_why(session: Session) -> None:
    """A view outlives its columns; its query is then what the server says of it."""
    session.run(SCHEMA)
    wanted = session.everything()
    session.run("ALTER TABLE t DROP COLUMN word")
    live = session.same_queries(wanted, session.everything())
    assert live[Object("view", "v")]["query"].startswith("(does not run")


def test_a_view_that_cannot_be_judged_now_is_no_drift(session: Session, fresh_mysql: Database) -> None:
    """Behind somebody's lock the answer is the server's error, never "different"."""
    session.run(SCHEMA)
    wanted, live = session.everything(), session.everything()
    wanted[Object("view", "v")] = {**wanted[Object("view", "v")], "query": "SELECT 1 AS id"}
    other = fresh_mysql.server.connect(fresh_mysql.name)
    try:
        other.cmd_query("LOCK TABLES t WRITE")
        session.query("SET SESSION lock_wait_timeout = 1")
        with pytest.raises(StatementRefused, match="1205"):
            session.same_queries(wanted, live)
    finally:
        other.close()


def test_a_body_that_may_not_be_read_is_no_body(fresh_mysql: Database) -> None:
    """A user without the right to see a routine or a view must not take it for an empty one, nor for a broken one."""
    fresh_mysql.query("CREATE PROCEDURE p() BEGIN END; CREATE VIEW v AS SELECT 1 AS n")
    with connected(fresh_mysql) as session:
        found, view = session.everything(), Object("view", "v")
        judged = session.same_queries({view: {"query": "select 1 AS `n`"}}, found)
        assert found[Object("procedure", "p")]["body"] == judged[view]["query"] == catalogs.INVISIBLE


def test_a_trigger_is_seen_by_whoever_may_make_one(fresh_mysql: Database) -> None:
    """README.md's user has not that right; MariaDB shows it to him all the same."""
    fresh_mysql.query("CREATE TABLE t (n INT); CREATE TRIGGER fires BEFORE INSERT ON t FOR EACH ROW SET NEW.n = 1")
    seen = []
    for rights in ("SELECT", "TRIGGER"):
        fresh_mysql.grant(rights)
        with connected(fresh_mysql) as session:
            seen.append([item.name for item in session.everything() if item.kind == "trigger"])
    assert seen == [["fires"] * (fresh_mysql.dialect == "mariadb"), ["fires"]]


def test_a_column_check_is_that_of_its_own_table(session: Session) -> None:
    """On MariaDB it is called by its column, so that other tables have one of the same name."""
    session.run("CREATE TABLE a (n INT CHECK (n > 0)); CREATE TABLE b (n INT CHECK (n > 5)); CREATE TABLE c (n INT CHECK (n > 3))")

    found = {item.table: attributes["clause"] for item, attributes in session.everything().items() if item.kind == "check"}
    assert found == {"a": "n>0", "b": "n>5", "c": "n>3"}
