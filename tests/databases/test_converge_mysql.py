"""Convergence of MySQL and MariaDB, from every form of the schema that is known to be out there."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from migrator.catalogs import Catalog, Object
from migrator.converge import Change
from migrator.converge import mysql as converge
from migrator.databases import Identity, mysql
from migrator.errors import StatementRefused, StepFileError, WouldLoseData
from migrator.settings import read_settings
from migrator.statements import split
from tests.conftest import Database
from tests.databases import mysql_shapes as shapes

STEPS = (shapes.STEP_6, shapes.STEP_7)


class Killed(BaseException):
    """Stands for kill -9: nothing of ours may catch it."""


@dataclass
class Session:
    """A step's session that remembers what was sent; it can be killed when so many statements are done."""

    database: mysql.MySQL
    sent: list[str] = field(default_factory=list)
    lives: int = 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    def execute(self, sql: str) -> None:
        if not self.lives:
            raise Killed
        self.sent.append(sql)
        self.database.execute(sql)
        self.lives -= 1

    def run(self, script: str) -> None:
        """A script, statement by statement, as a person's client sends it."""
        for statement in split(script, "mysql"):
            self.database.execute(statement.text)

    def converge(self, *definitions: str) -> None:
        for text in definitions:
            converge.converge(self, text)

    def changes(self, *definitions: str) -> list[Change]:
        return [change for text in definitions for change in converge.changes(self, text)]

    def everything(self) -> Catalog:
        return self.database.catalog([])

    def rows(self, columns: dict[str, list[str]] | None = None) -> dict[str, list[tuple[Any, ...]]]:
        """Every row as text, without the columns that are not asked for."""
        return {
            table: self.query(
                f"SELECT {', '.join(f'CAST({name} AS CHAR)' for name in names)} FROM `{table}` ORDER BY 1, 2"
            )
            for table, names in (columns or self.columns()).items()
        }

    def columns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for item in self.everything():
            if item.kind == "column":
                found.setdefault(item.table, []).append(f"`{item.name}`")
        return found


@contextlib.contextmanager
def connected(database: Database) -> Iterator[Session]:
    settings = read_settings([], {"MYSQL_URL": database.url, "MIGRATE_TARGETS": "mysql"})
    identity = Identity("run", "host", "image")
    connection = mysql.connect(settings.address("mysql"), settings, identity, timeout=5, writes=True)
    try:
        yield Session(connection)
    finally:
        connection.close()


@pytest.fixture
def session(fresh_mysql: Database) -> Iterator[Session]:
    """A session on an empty database of each dialect."""
    with connected(fresh_mysql) as made:
        yield made


FRESH: dict[str, Catalog] = {}


def fresh(session: Session, database: Database) -> Catalog:
    """What a fresh install holds, on the server of the session."""
    if session.dialect not in FRESH:
        other = Database(database.server, f"fresh_{secrets.token_hex(4)}")
        database.server.create_database(other.name)
        with connected(other) as there:
            there.run(shapes.BASE)
            there.converge(*STEPS)
            FRESH[session.dialect] = there.everything()
        database.server.query(f"DROP DATABASE {other.name}")
    return FRESH[session.dialect]


def compare(found: Catalog, wanted: Catalog) -> None:
    """Equal, and if not, only what differs is shown."""
    assert {item: found[item] for item in found if found[item] != wanted.get(item)} == {
        item: wanted[item] for item in wanted if wanted[item] != found.get(item)
    }


def build(session: Session, shape: str) -> None:
    sql = (shapes.SHAPES | shapes.ONLY_MYSQL)[shape]
    if shape in shapes.ONLY_MYSQL and session.dialect != "mysql":
        sql = sql.replace(shapes.FUNCTIONAL, "")  # what MySQL alone has
    session.run(sql)


EVERY_SHAPE = pytest.mark.parametrize("shape", [*shapes.SHAPES, *shapes.ONLY_MYSQL])


@EVERY_SHAPE
def test_every_old_form_ends_like_a_fresh_install(session: Session, fresh_mysql: Database, shape: str) -> None:
    """The catalog is equal, every row is as it was, and a second convergence sends nothing."""
    build(session, shape)
    columns = session.columns()
    before = session.rows(columns)
    session.run(shapes.BASE)  # step 0005, which creates what is missing of the application's tables
    session.converge(*STEPS)
    compare(session.everything(), fresh(session, fresh_mysql))
    assert session.rows(columns) == before
    session.sent.clear()
    session.converge(*STEPS)
    assert session.sent == []


@EVERY_SHAPE
def test_a_plan_names_what_a_run_sends_and_changes_nothing(session: Session, shape: str) -> None:
    """Each change of the plan is sent as announced, or less online where the server says so, in the same order."""
    build(session, shape)
    session.run(shapes.BASE)
    for definitions in STEPS:
        before = session.everything(), session.rows()
        plan = session.changes(definitions)
        assert (session.everything(), session.rows()) == before
        assert all(change.reason for change in plan)
        session.sent.clear()
        session.converge(definitions)
        assert list(dict.fromkeys(plain(sql) for sql in session.sent)) == [plain(change.sql) for change in plan]


def plain(sql: str) -> str:
    """The statement without the way in which it is to be carried out."""
    return sql.removesuffix(converge.INSTANT).removesuffix(converge.ONLINE)


@EVERY_SHAPE
def test_a_run_that_is_killed_after_each_statement_ends_the_same(
    session: Session, fresh_mysql: Database, shape: str
) -> None:
    """Killed after every single statement and started again, it gets to the same end, and no row is lost."""
    build(session, shape)
    columns = session.columns()
    before = session.rows(columns)
    session.run(shapes.BASE)
    kills = 0
    for definitions in STEPS:
        while session.changes(definitions):
            session.lives = 1
            try:
                session.converge(definitions)
            except Killed:
                kills += 1
    assert kills > 10
    compare(session.everything(), fresh(session, fresh_mysql))
    assert session.rows(columns) == before


DEFINITIONS = """
CREATE TABLE parent (id varchar(20) NOT NULL, PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    COLLATE=utf8mb4_unicode_ci;
CREATE TABLE child (
    id int NOT NULL AUTO_INCREMENT,
    parent_id varchar(20) NULL,
    word varchar(5) NOT NULL,
    state enum('new','old') NULL,
    PRIMARY KEY (id),
    UNIQUE KEY word (word),
    KEY parent_id (parent_id),
    CONSTRAINT fk_child_parent FOREIGN KEY (parent_id) REFERENCES parent (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci COMMENT='a child';
CREATE SQL SECURITY INVOKER VIEW words AS SELECT word AS word, id AS number FROM child ORDER BY number;
"""
PARENT, CHILD, VIEW = (statement.text + ";" for statement in split(DEFINITIONS, "mysql"))
LOOSE = CHILD[: CHILD.index(",\n    CONSTRAINT")] + CHILD[CHILD.index("\n) ENGINE") :]  # without the foreign key
NOT_UNIQUE = LOOSE.replace("    UNIQUE KEY word (word),\n", "")

REFUSED = {
    "a view where a table should be": (
        "CREATE VIEW child AS SELECT 1 AS id;",
        ["child should be a table and is a view"],
    ),
    "a table where a view should be": (
        PARENT + CHILD + "CREATE TABLE words (word int); INSERT INTO words VALUES (1);",
        ["words should be a view and is a table"],
    ),
    "orphans": (
        PARENT + LOOSE + "INSERT INTO child (parent_id, word) VALUES ('b', 'x'), (NULL, 'y'), ('a', 'z');",
        ["2 value(s) point to no row of parent", "(id, parent_id) = (1, 'b'), (3, 'a')", "SELECT c.* FROM `child`"],
    ),
    "orphans of a parent that does not exist": (
        LOOSE + "INSERT INTO child (parent_id, word) VALUES ('b', 'x'), (NULL, 'y');",
        ["1 value(s) point to no row of parent"],
    ),
    "orphans by number": (
        PARENT + LOOSE.replace("parent_id varchar(20)", "parent_id int")
        + "INSERT INTO parent VALUES ('1'), ('a'); INSERT INTO child (parent_id, word) VALUES (1, 'x'), (0, 'y');",
        ["1 value(s) point to no row of parent", "(2, 0)"],
    ),
    "a word too long": (
        PARENT + CHILD.replace("varchar(5)", "varchar(9)") + "INSERT INTO child (word) VALUES ('12345'), ('123456');",
        ["1 value(s) do not fit column child.word, which has to become varchar(5) NOT NULL: (id) = (2)"],
    ),
    "no word at all": (
        PARENT + CHILD.replace("varchar(5) NOT NULL", "varchar(5) NULL")
        + "INSERT INTO child (word) VALUES ('12345'), (NULL);",
        ["1 value(s) do not fit column child.word", "(2)"],
    ),
    "an unknown state": (
        PARENT + CHILD.replace("'new','old'", "'old','other','new'")
        + "INSERT INTO child (word, state) VALUES ('a', 'new'), ('b', 'other'), ('c', NULL);",
        ["1 value(s) do not fit column child.state", "(2)"],
    ),
    "twelve words too long": (
        PARENT + CHILD.replace("varchar(5)", "varchar(9)") + "INSERT INTO child (word) VALUES "
        + ", ".join(f"('long {n}')" for n in range(12)) + ";",
        ["12 value(s) do not fit", "(9), (10), …: correct them"],
    ),
    "a word twice": (
        PARENT + NOT_UNIQUE + "INSERT INTO child (word) VALUES ('a'), ('b'), ('A');",
        ["1 value(s) stand in several rows, which index child.word forbids: (word) = ('a')"],
    ),
    "a word twice under the stated collation": (
        PARENT + CHILD.replace("word varchar(5)", "word varchar(5) COLLATE utf8mb4_bin")
        + "INSERT INTO child (word) VALUES ('a'), ('b'), ('A');",
        ["1 value(s) stand in several rows, which index child.word forbids"],
    ),
    "another primary key": (
        PARENT + CHILD.replace("PRIMARY KEY (id)", "PRIMARY KEY (word), KEY (id)"),
        ["table child has another form", "index child.PRIMARY: columns word, should be columns id",
         "RENAME TABLE child TO child_old"],
    ),
    "a column that every INSERT must give": (
        PARENT + CHILD.replace("PRIMARY KEY", "size int NOT NULL, PRIMARY KEY"),
        ["table child has another form: size must be given in every INSERT"],
    ),
    "rows without a value for a new column": (
        PARENT + NOT_UNIQUE.replace("    word varchar(5) NOT NULL,\n", "") + "INSERT INTO child VALUES (1, NULL, 'old');",
        ["table child has another form: its rows have no value for word"],
    ),
    "other columns": (
        PARENT + CHILD.replace("state enum('new','old')", "status varchar(9)"),
        ["table child has another form: it lacks state and has status"],
    ),
    "a key of somebody else in the way": (
        PARENT.replace("varchar(20)", "varchar(10)") + "CREATE TABLE other (parent_id varchar(10), CONSTRAINT theirs"
        " FOREIGN KEY (parent_id) REFERENCES parent (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
        " COLLATE=utf8mb4_unicode_ci;",
        ["(theirs) is not defined here", "ALTER TABLE other DROP FOREIGN KEY theirs"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_lose_or_invent_data_is_refused_before_the_first_write(session: Session, case: str) -> None:
    """The error names the rows and the remedy; plan and run say the same; nothing was sent."""
    old, fragments = REFUSED[case]
    session.run(old)
    before = session.everything(), session.rows()
    for look in (session.changes, session.converge):
        with pytest.raises(WouldLoseData) as refusal:
            look(DEFINITIONS)
        assert [part for part in fragments if part not in str(refusal.value)] == [], str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert session.sent == []
    assert (session.everything(), session.rows()) == before


def test_all_refusals_of_a_step_are_told_at_once(session: Session) -> None:
    """A person who has to clean up sees everything that there is to do, also what stands in later definitions."""
    session.run(PARENT + NOT_UNIQUE + "INSERT INTO child (word, parent_id) VALUES ('a', 'x'), ('a', NULL);")
    session.run("CREATE TABLE words (word int);")
    with pytest.raises(WouldLoseData) as refusal:
        session.converge(DEFINITIONS)
    assert all(part in str(refusal.value) for part in ("several rows", "point to no row", "words should be a view"))
