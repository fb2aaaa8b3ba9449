"""Convergence of MySQL and MariaDB, from every form of the schema that is known to be out there."""

import os
import secrets
import time
from collections.abc import Iterator

import pytest

from migrator.catalogs import Catalog, Object
from migrator.converge import mysql as converge
from migrator.converge.mysql_definitions import parse
from migrator.errors import StatementRefused, StepFileError, VerificationFailed, WouldLoseData
from migrator.statements import split
from tests.conftest import Database
from tests.databases import mysql_shapes as shapes
from tests.databases.mysql_session import Killed, Session, connected

STEPS = (shapes.STEP_6, shapes.STEP_7)


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


@pytest.mark.parametrize("shape", [*shapes.SHAPES, *shapes.ONLY_MYSQL])
def test_every_old_form_ends_like_a_fresh_install(session: Session, fresh_mysql: Database, shape: str) -> None:
    """The plan changes nothing; the run sends what it names; catalog and rows are right; the next run sends nothing."""
    build(session, shape)
    columns = session.columns()
    before = session.rows(columns)
    session.run(shapes.BASE)  # step 0005, which creates what is missing of the application's tables
    for definitions in STEPS:
        untouched = session.everything(), session.rows()
        plan = session.changes(definitions)
        assert (session.everything(), session.rows()) == untouched
        assert all(change.reason for change in plan)
        session.sent.clear()
        session.converge(definitions)
        assert list(dict.fromkeys(plain(sql) for sql in session.sent)) == [plain(change.sql) for change in plan]
    compare(session.everything(), fresh(session, fresh_mysql))
    assert session.rows(columns) == before
    session.sent.clear()
    session.converge(*STEPS)
    assert session.sent == []


def plain(sql: str) -> str:
    """The statement without the way in which it is to be carried out."""
    return sql.removesuffix(converge.INSTANT).removesuffix(converge.ONLINE)


@pytest.mark.parametrize(
    "shape", [*shapes.SHAPES] if os.environ.get("MIGRATE_TEST_FULL") else ["M-7 006 by hand, int, other collation"]
)
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
KEY = ",\n    CONSTRAINT fk_child_parent FOREIGN KEY (parent_id) REFERENCES parent (id) ON DELETE CASCADE"
LOOSE = CHILD.replace(KEY, "")
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
        ["1 value(s) do not fit column child.word, which has to become `word` varchar(5)", "NOT NULL: (id) = (2)"],
    ),
    "no word at all": (
        PARENT + CHILD.replace("varchar(5) NOT NULL", "varchar(5) NULL")
        + "INSERT INTO child (word) VALUES ('12345'), (NULL);",
        ["1 value(s) do not fit column child.word", "(2)"],
    ),
    "a row 0 that would be numbered anew": (
        PARENT + CHILD.replace(" AUTO_INCREMENT", "") + "INSERT INTO child (id, word) VALUES (0, 'a'), (3, 'b');",
        ["1 value(s) do not fit column child.id, which has to become `id` int NOT NULL AUTO_INCREMENT: (id) = (0)"],
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
        ["table child has another form", "index child.PRIMARY has columns word and should have columns id",
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
    "a key of somebody else on a column to be numbered": (
        PARENT + CHILD.replace(" AUTO_INCREMENT", "") + "CREATE TABLE other (child_id int, CONSTRAINT theirs"
        " FOREIGN KEY (child_id) REFERENCES child (id)) ENGINE=InnoDB;",
        ["(theirs) is not defined here"],
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


@pytest.mark.parametrize("table", shapes.LATER)
def test_a_table_in_the_form_of_a_later_application_is_refused(session: Session, table: str) -> None:
    """M-9: each of the four tables that came back in another form stops step 0006, empty though it is."""
    session.run(shapes.base() + shapes.LATER[table])
    before = session.everything()
    with pytest.raises(WouldLoseData, match=f"table {table} has another form"):
        session.converge(shapes.STEP_6)
    assert session.sent == []
    assert session.everything() == before


def test_a_fresh_install_needs_no_alter_of_its_own_tables(session: Session) -> None:
    """On an empty database the plan is the definitions in their order, and what is added to the application's tables."""
    session.run(shapes.BASE)
    plan = session.changes(shapes.STEP_6)
    assert [change.sql for change in plan if change.sql.startswith("CREATE TABLE")] == [
        made.sql for made in shapes.DEFINED.values() if made.kind == "table" and made.sql in shapes.STEP_6
    ]
    assert {change.sql.split("`")[1] for change in plan if change.sql.startswith("ALTER")} == {"agents", "spot_pools"}


def test_a_plan_can_be_made_before_the_step_that_it_builds_on(session: Session) -> None:
    """On an empty database, where step 0005 is still to come, both steps have a plan of all their objects."""
    plan = session.changes(*STEPS)
    assert all(any(name in change.sql for change in plan) for name in shapes.DEFINED)


OLDER = {  # what the definition says, and what the table is instead
    "type": ("word varchar(5)", "word varchar(3)"),
    "null": ("word varchar(5) NOT NULL", "word varchar(5) NULL"),
    "default": ("state enum('new','old') NULL", "state enum('new','old') NULL DEFAULT 'new'"),
    "order of an enum": ("'new','old'", "'old','new'"),
    "comment of a column": ("state enum('new','old') NULL", "state enum('new','old') NULL COMMENT 'of mind'"),
    "collation of a column": ("word varchar(5)", "word varchar(5) COLLATE utf8mb4_general_ci"),
    "auto_increment": ("id int NOT NULL AUTO_INCREMENT", "id int NOT NULL"),
    "comment of the table": ("COMMENT='a child'", "COMMENT='somebody''s child'"),
    "collation of the table": ("COLLATE=utf8mb4_unicode_ci COMMENT", "COLLATE=utf8mb4_general_ci COMMENT", KEY, ""),
    "character set of the table": ("CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci COMMENT", "CHARSET=latin1 COMMENT", KEY, ""),
    "engine": ("ENGINE=InnoDB", "ENGINE=MyISAM"),
    "a missing column": ("    state enum('new','old') NULL,\n", ""),
    "a missing index": ("UNIQUE KEY word (word),", ""),
    "an index under another name": ("UNIQUE KEY word", "UNIQUE KEY other"),
    "an index of the same name on another column": ("UNIQUE KEY word (word)", "UNIQUE KEY word (id)"),
    "an index in another order": ("KEY parent_id (parent_id)", "KEY parent_id (parent_id DESC)"),
    "an index that is not unique": ("UNIQUE KEY word", "KEY word"),
    "an index twice": ("UNIQUE KEY word (word)", "UNIQUE KEY word (word), UNIQUE KEY again (word)"),
    "another rule of a foreign key": ("ON DELETE CASCADE", "ON DELETE SET NULL"),
    "a missing foreign key": (KEY, ""),
    "a foreign key under another name": ("fk_child_parent", "theirs"),
}  # fmt: skip


@pytest.mark.parametrize("difference", OLDER)
def test_each_difference_of_a_table_is_closed_and_its_rows_stay(session: Session, difference: str) -> None:
    """The catalog becomes that of the definition, and a second convergence sends nothing."""
    child, changes = CHILD, OLDER[difference]
    for new, old in zip(changes[::2], changes[1::2], strict=True):
        assert new in child
        child = child.replace(new, old)
    session.run(f"{PARENT}{CHILD}{VIEW}")
    wanted = session.everything()
    session.run("DROP VIEW words; DROP TABLE child")
    session.run(child)
    session.run("INSERT INTO parent VALUES ('a')")
    session.run("INSERT INTO child (id, parent_id, word) VALUES (1, 'a', 'é'), (2, NULL, 'b')")
    session.converge(DEFINITIONS)
    compare(session.everything(), wanted)
    assert session.query("SELECT id, parent_id, word FROM child ORDER BY id") == [(1, "a", "é"), (2, None, "b")]
    session.sent.clear()
    session.converge(DEFINITIONS)
    assert session.sent == []


LONG = "CREATE TABLE long_ago (id int NOT NULL, word varchar(255) NULL, PRIMARY KEY (id), KEY word (word)){};\n"


@pytest.mark.parametrize("changes", [("KEY word (word)", "KEY word (word(9))"), (", KEY word (word)", ""),
                                     ("varchar(255)", "varchar(100)")])  # fmt: skip
@pytest.mark.parametrize("options", ["ROW_FORMAT=COMPACT", "ROW_FORMAT=REDUNDANT", "ENGINE=MyISAM ROW_FORMAT=FIXED"])
def test_rows_of_an_old_format_are_no_obstacle_to_a_long_index(session: Session, options: str, changes: tuple[str, str]) -> None:
    """Those of MySQL 5.6 and before take 767 bytes."""
    unstated = " DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci COMMENT=''"
    wanted = LONG.format(f" ENGINE=InnoDB{unstated}")
    session.run(LONG.format(f" {options}{unstated}").replace(*changes))
    session.run("INSERT INTO long_ago VALUES (1, 'é')")
    session.converge(wanted)
    assert session.query("SELECT id, word FROM long_ago FORCE INDEX (word) WHERE word = 'é'") == [(1, "é")]
    session.sent.clear()
    session.converge(wanted)
    assert session.sent == []


def test_rows_of_an_old_format_stay_where_nothing_else_changes(session: Session) -> None:
    """To write a table again takes long, and it is no fault."""
    session.run(PARENT + CHILD.replace("ENGINE=InnoDB", "ENGINE=InnoDB ROW_FORMAT=COMPACT") + VIEW)
    session.converge(DEFINITIONS)
    assert session.sent == []


def test_an_index_under_another_name_is_renamed_not_built_again(session: Session) -> None:
    """Renaming costs nothing, whatever the table's size."""
    session.run(PARENT + CHILD.replace("UNIQUE KEY word", "UNIQUE KEY other") + VIEW)
    session.converge(DEFINITIONS)
    assert {plain(sql) for sql in session.sent} == {"ALTER TABLE `child` RENAME INDEX `other` TO `word`"}


def test_the_index_of_a_foreign_key_goes_when_another_takes_its_place(session: Session) -> None:
    """A server makes one where none begins with the column, and a dump makes it last; any other index stays."""
    definitions = DEFINITIONS.replace("KEY parent_id (parent_id)", "KEY by_parent (parent_id, word)")
    session.run(PARENT + CHILD.replace("KEY parent_id", "KEY own (parent_id, state), KEY parent_id") + VIEW)
    session.converge(definitions)
    assert {item.name for item in session.everything() if item.kind == "index" and item.table == "child"} == {
        "PRIMARY", "word", "by_parent", "own"}  # fmt: skip


def test_what_the_definitions_do_not_know_is_left_alone(session: Session) -> None:
    """A column, an index and a foreign key that somebody added, and a table beside: verification tells, not converge."""
    session.run(PARENT + CHILD + VIEW + "ALTER TABLE child ADD COLUMN note text, ADD KEY by_note (note(9), word);"
                " ALTER TABLE child ADD COLUMN next_id int, ADD CONSTRAINT own FOREIGN KEY (next_id) REFERENCES child (id);"
                " CREATE TABLE beside (id int);")  # fmt: skip
    before = session.everything()
    session.converge(DEFINITIONS)
    assert session.sent == []
    assert session.everything() == before


ADDITIONS = """
ALTER TABLE shared ADD COLUMN size int NULL DEFAULT 0 COMMENT 'of it', ADD word varchar(9) NULL,
    ADD COLUMN other varchar(9) COLLATE utf8mb4_unicode_ci NULL, ADD KEY idx_shared_size (size, id);
"""


def test_additions_leave_the_rest_of_the_applications_table_alone(session: Session) -> None:
    """Columns, indexes and collation of the application stay; new text columns are in the table's own collation."""
    session.run("CREATE TABLE shared (id int PRIMARY KEY, own text, twin int, KEY own_size (twin))"
                " DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='not ours'; INSERT INTO shared VALUES (1, 'a', 2)")  # fmt: skip
    before = session.everything()
    session.converge(ADDITIONS)
    after = session.everything()
    assert {item: after[item] for item in before} == before
    assert {item.name for item in after.keys() - before.keys()} == {"size", "word", "other", "idx_shared_size"}
    assert after[Object("column", "shared", "word")]["collation"] == "utf8mb4_bin"
    assert after[Object("column", "shared", "other")]["collation"] == "utf8mb4_unicode_ci"
    assert session.query("SELECT * FROM shared") == [(1, "a", 2, 0, None, None)]
    session.sent.clear()
    session.converge(ADDITIONS)
    assert session.sent == []


def test_a_key_to_a_parent_in_another_collation_is_refused(session: Session) -> None:
    """The parent is the application's, so a person converts it; the server would refuse the key half-way."""
    session.run(PARENT.replace("COLLATE=utf8mb4_unicode_ci", "COLLATE=utf8mb4_general_ci"))
    with pytest.raises(WouldLoseData, match=r"impossible: column parent\.id is utf8mb4_general_ci"):
        session.converge(CHILD)
    session.run(PARENT.replace("TABLE parent", "TABLE shared").replace("COLLATE=utf8mb4_unicode_ci", ""))
    session.run("DROP TABLE parent;" + PARENT)
    with pytest.raises(WouldLoseData, match=r"impossible: column parent\.id is utf8mb4_unicode_ci, column shared\.up is"):
        session.converge("ALTER TABLE shared ADD up varchar(20), ADD KEY up (up), ADD CONSTRAINT up FOREIGN KEY (up)"
                         " REFERENCES parent (id)")  # fmt: skip
    assert session.sent == []


def test_a_key_to_a_parent_without_an_index_is_refused(session: Session) -> None:
    """The server would refuse the key half-way."""
    session.run(PARENT + "ALTER TABLE parent DROP PRIMARY KEY;")
    with pytest.raises(WouldLoseData, match=r"\(parent_id\) to parent \(id\) is impossible: parent has no index on id"):
        session.converge(CHILD)
    assert session.sent == []


VIEWS = {  # a live query, and whether it means the same as the definition's
    "the same": ("SELECT word AS word, id AS number FROM child ORDER BY number", True),
    "in other words": ("select `child`.word `word`, (id) number from child order by `child`.`id` asc", True),
    "another order": ("SELECT word AS word, id AS number FROM child ORDER BY number DESC", False),
    "another column": ("SELECT word AS word, parent_id AS number FROM child ORDER BY number", False),
    "another condition": ("SELECT word AS word, id AS number FROM child WHERE id > 0 ORDER BY number", False),
}


@pytest.mark.parametrize("case", VIEWS)
def test_a_view_is_replaced_when_its_meaning_differs_and_kept_otherwise(session: Session, case: str) -> None:
    """The server itself writes out both queries, so spelling does not count."""
    query, same = VIEWS[case]
    session.run(f"{PARENT}{CHILD}CREATE SQL SECURITY INVOKER VIEW words AS {query}")
    session.converge(DEFINITIONS)
    assert [sql.split(" VIEW")[0] for sql in session.sent] == ([] if same else ["CREATE OR REPLACE SQL SECURITY INVOKER"])
    assert session.changes(DEFINITIONS) == []


def test_a_view_with_other_rights_or_a_lost_column_is_replaced(session: Session) -> None:
    """SQL SECURITY counts as the query does; a view that runs no more comes back after its column has."""
    session.run(PARENT + CHILD + VIEW.replace("INVOKER", "DEFINER"))
    session.converge(DEFINITIONS)
    assert len(session.sent) == 1
    session.run("ALTER TABLE child DROP COLUMN word")
    session.converge(DEFINITIONS)
    assert session.query("SELECT * FROM words") == []
    assert session.changes(DEFINITIONS) == []


PROCEDURE = """
DELIMITER //
CREATE PROCEDURE answer(IN p_question varchar(20), OUT p_answer int(11)) READS SQL DATA SQL SECURITY INVOKER
BEGIN
    -- the question; counts for nothing
    SELECT 42 INTO p_answer;
END//
DELIMITER ;
"""
OLD_PROCEDURES = {
    "body": ("42", "41"),
    "comment in the body": ("-- the question", "-- a question"),
    "parameters": ("varchar(20)", "varchar(21)"),
    "security": ("INVOKER", "DEFINER"),
}


@pytest.mark.parametrize("difference", [*OLD_PROCEDURES, "sql mode"])
def test_a_procedure_is_replaced_when_it_differs_and_kept_otherwise(session: Session, difference: str) -> None:
    """Body, parameters, security and the sql_mode that it keeps from its making; then it is left alone."""
    if difference == "sql mode":
        session.query("SET @mode = @@sql_mode, SESSION sql_mode = ''")
        session.run(PROCEDURE)
        session.query("SET SESSION sql_mode = @mode")
    else:
        session.run(PROCEDURE.replace(*OLD_PROCEDURES[difference]))
    session.converge(PROCEDURE)
    assert [sql.split()[0] for sql in session.sent] == ["DROP", "CREATE"]
    session.query("CALL answer('?', @answer)")
    assert session.query("SELECT @answer") == [(42,)]
    session.converge(PROCEDURE)
    assert len(session.sent) == 2


def test_what_has_to_copy_is_announced_with_rows_and_bytes_and_what_need_not_is_not(session: Session) -> None:
    """Sizes as the server knows them now, not as it did yesterday."""
    session.run(PARENT + LOOSE.replace("varchar(5)", "varchar(3)").replace("    state enum('new','old') NULL,\n", ""))
    assert session.changes(DEFINITIONS)
    session.run("INSERT INTO parent VALUES ('a')")
    values = ", ".join(f"('a', 'w{n}')" for n in range(50))
    session.run(f"INSERT INTO child (parent_id, word) VALUES {values}")
    wanted = {"wordMOD": (50, True), "stateADD": (0, False), "fk_child_parentADD": (50, True)}
    for _ in range(100):  # the server counts rows a moment after they came
        sizes = {change.sql.split("`")[3] + change.sql.split("`child` ")[1][:3]: (change.rows, change.bytes > 0)
                 for change in session.changes(DEFINITIONS) if "`child`" in change.sql}  # fmt: skip
        if sizes == wanted:
            break
        time.sleep(0.2)
    assert sizes == wanted


@pytest.mark.parametrize("rights", [[], ["SELECT ON performance_schema.*", "PROCESS ON *.*"]], ids=["few", "all"])
def test_a_statement_behind_a_lock_says_whose_and_goes_on_when_it_is_free(fresh_mysql: Database, rights: list[str]) -> None:
    """It waits briefly each time, so that readers of the table do not pile up behind it."""
    server, said = fresh_mysql.server, []
    other = server.connect(fresh_mysql.name, **({} if rights else {"user": server.user, "password": server.password}))
    name = f"session {other.connection_id} of "
    for right in rights:
        server.query(f"GRANT {right} TO {server.user}@'%'")
    try:
        with connected(fresh_mysql) as session:
            session.run(PARENT + CHILD.replace("    state enum('new','old') NULL,\n", "") + VIEW)
            other.cmd_query("START TRANSACTION")
            other.cmd_query("SELECT * FROM child")
            other.get_rows()
            session.database.query("SET SESSION lock_wait_timeout = 1")
            session.database.behind = lambda reason: (said.append(reason), len(said) > 1 and other.cmd_query("COMMIT"))
            session.converge(DEFINITIONS)
            assert session.changes(DEFINITIONS) == []
    finally:
        other.close()
        for right in rights:
            server.query(f"REVOKE {right} FROM {server.user}@'%'")
    assert len(said) == 2
    assert all("(1205): session " in reason and name in reason for reason in said), said


def test_a_refused_statement_is_not_tried_in_another_way(session: Session) -> None:
    """Only "not in this way" leads to the next way; anything else is the end, with the server's message."""
    session.run(PARENT + CHILD + VIEW)
    with pytest.raises(StatementRefused, match="1072"):
        session.converge("ALTER TABLE child ADD KEY by_nothing (nothing)")
    assert len(session.sent) == 1


def test_a_server_that_does_not_do_what_it_is_told_is_found_out(session: Session) -> None:
    """Convergence ends in proof, not in hope: what still differs after it is an error that names it."""
    session.run(PARENT)
    session.execute = session.sent.append  # type: ignore[method-assign]
    with pytest.raises(VerificationFailed, match="table child is missing"):
        session.converge(DEFINITIONS)


VALUES = {  # old type, new type, values that fit, values that do not
    "int to text": ("int", "varchar(3)", ["1", "-12"], ["1234"]),
    "text to int": ("varchar(20)", "smallint", ["'12'", "'-32768'"], ["'a'", "''", "'1.5'", "'32768'"]),
    "bigint to int": ("bigint", "int", ["2147483647"], ["2147483648", "-2147483649"]),
    "int to unsigned": ("int", "tinyint unsigned", ["0", "255"], ["-1", "256"]),
    "decimal to int": ("decimal(5,2)", "int", ["7.00"], ["7.10"]),
    "decimal to narrower": ("decimal(9,4)", "decimal(5,2)", ["999.99", "-1.5"], ["1000", "0.001"]),
    "text to decimal": ("varchar(20)", "decimal(5,2)", ["'1.25'", "'-3'"], ["'1.255'", "'x'", "'1000'"]),
    "text to shorter": ("text", "varchar(2)", ["'éü'"], ["'abc'"]),
    "text to enum": ("varchar(9)", "enum('a','b')", ["'a'"], ["'A'", "'c'", "''"]),
    "enum to text": ("enum('a','bc')", "varchar(1)", ["'a'"], ["'bc'"]),
    "longtext to text": ("longtext", "tinytext", ["REPEAT('x', 255)"], ["REPEAT('x', 256)"]),
    "text to json": ("text", "json", ["'{\"a\": 1}'"], ["'{'"]),
    "datetime to timestamp": ("datetime", "timestamp", ["'2026-01-02 03:04:05'"], ["'2039-01-01 00:00:00'"]),
    "timestamp to datetime": ("timestamp", "datetime", ["'2026-01-02 03:04:05'"], []),
    "datetime to less exact": ("datetime(6)", "datetime", [], ["'2026-01-02 03:04:05'"]),
    "datetime to date": ("datetime", "date", [], ["'2026-01-02 03:04:05'"]),
    "date to int": ("date", "int", [], ["'2026-01-02'"]),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_keeps_its_meaning_in_a_new_type_or_stops_the_change(session: Session, case: str) -> None:
    """What fits reads the same afterwards, NULL included; each value that does not fit is refused by name."""
    old, new, fits, others = VALUES[case]
    definition = f"CREATE TABLE t (id int NOT NULL, v {new} NULL, PRIMARY KEY (id)) COLLATE=utf8mb4_unicode_ci"
    session.run(f"CREATE TABLE t (id int NOT NULL, v {old} NULL, PRIMARY KEY (id)) COLLATE=utf8mb4_unicode_ci")
    for number, value in enumerate([*fits, "NULL"]):
        session.run(f"INSERT INTO t VALUES ({number}, {value})")
    for value in others:
        session.run(f"INSERT INTO t VALUES (77, {value})")
        with pytest.raises(WouldLoseData, match=r"1 value\(s\) do not fit column t.v.*\(id\) = \(77\)"):
            session.converge(definition)
        session.run("DELETE FROM t WHERE id = 77")
    before = session.query("SELECT id, CAST(v AS CHAR) + 0, CAST(v AS CHAR) FROM t ORDER BY id")
    session.converge(definition)
    after = session.query("SELECT id, CAST(v AS CHAR) + 0, CAST(v AS CHAR) FROM t ORDER BY id")
    column = 1 if any(word in new for word in ("int", "decimal")) else 2
    assert [row[column] for row in after] == [row[column] for row in before]
    assert session.everything()[Object("column", "t", "v")]["type"] == new


SPELLINGS = [
    "create table `t` (`id` INTEGER(11) PRIMARY KEY, flag BOOLEAN DEFAULT FALSE, `n` NUMERIC(10, 2)"
    " DEFAULT 1.50, w VARCHAR(9) UNIQUE, c CHAR, e ENUM ('a', 'it''s'), at TIMESTAMP NULL DEFAULT now() ON UPDATE"
    " now(), j JSON COMMENT 'a, (b', INDEX i (`n` ASC, w(3) desc)) engine=INNODB default character set = utf8mb4"
    " COLLATE = utf8mb4_unicode_ci comment 'x'",
    "CREATE TABLE t ( -- a comment\n id int NOT NULL, flag tinyint(1) NULL DEFAULT 0, n decimal(10,2)"
    " DEFAULT '1.5', w varchar(9) NULL, c char(1), e enum('a','it\\'s'), at timestamp NULL DEFAULT CURRENT_TIMESTAMP"
    " ON UPDATE CURRENT_TIMESTAMP, j json NULL COMMENT 'a, (b', PRIMARY KEY (id), UNIQUE KEY w (w), KEY i (n, w(3)"
    " DESC)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci COMMENT='x';",
]


@pytest.mark.parametrize("made_by", [0, 1])
def test_a_definition_may_be_spelled_as_people_spell_it(session: Session, made_by: int) -> None:
    """Case, quotes, synonyms and inline keys do not count: what the server made of one is what the other asks for."""
    session.run(SPELLINGS[made_by])
    assert [session.changes(text) for text in SPELLINGS] == [[], []]


NOT_UNDERSTOOD = {
    "CREATE TABLE t (id int, KEY (id)) PARTITION BY HASH (id)": "found 'PARTITION BY",
    "CREATE TABLE IF NOT EXISTS t (id int)": "found 'NOT EXISTS",
    "CREATE TABLE t (id int CHECK (id > 0))": "found 'CHECK",
    "CREATE TABLE t (id int GENERATED ALWAYS AS (1))": "found 'GENERATED",
    "CREATE TABLE t (id money)": "expected a type, found 'money'",
    "CREATE TABLE t (id int": "found the end",
    "CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES p (a))": "CONSTRAINT and a name",
    "CREATE TABLE t (a int, FULLTEXT KEY f (a))": "expected a type",
    "ALTER TABLE t DROP COLUMN a": "expected ADD COLUMN or ADD",
    "CREATE OR REPLACE VIEW v AS SELECT 1": "expected TABLE or VIEW or PROCEDURE",
    "CREATE VIEW v (a) AS SELECT 1": "expected AS",
    "CREATE FUNCTION f() RETURNS int RETURN 1": "expected TABLE or VIEW or PROCEDURE",
    "DROP TABLE t": "expected CREATE",
    "SELECT 'a": "not closed",
}


@pytest.mark.parametrize("text", NOT_UNDERSTOOD)
def test_a_definition_that_is_not_understood_is_an_error_that_names_it(text: str) -> None:
    """Nothing is guessed: the line within the definitions and the place where reading stopped are told."""
    with pytest.raises(StepFileError, match="definitions, line 3") as error:
        parse(f"\nCREATE VIEW fine AS SELECT 1 AS one;\n{text}")
    assert NOT_UNDERSTOOD[text] in str(error.value)
