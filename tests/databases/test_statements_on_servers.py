"""The splitter and the classifier against those who know: the servers' own parsers, and the mariadb client."""

import contextlib
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mysql.connector import Error as MySQLError
from mysql.connector.constants import ClientFlag

from migrator.statements import StatementError, scan, split, tokens, unquote
from tests.conftest import FIGURES, Database
from tests.databases.grammar import Grammar
from tests.servers import engines
from tests.servers.clickhouse import ClickHouseError, ClickHouseServer
from tests.servers.mysql import MySQLServer
from tests.unit.statements import Case, cases
from tests.unit.test_kinds import NEEDY
from tests.unit.test_statements import FRAGMENTS

FEW, MANY = 400, 20_000  # random texts: in each run, and in `make test-full` (the client takes 10 minutes for them)
# ClickHouse stops reading at these and says nothing about what follows; `\G` is no part of one statement.
STOPS = ("1.5e3", ".", "é", "😀", "’", "”", "#", "/*!", "/*!50001 ", "/*M!", "\\", "\\'", "\\N", "\\g", "\\G", "`\\`")
MARK = re.compile("z[bcdfg]{3}|;")


TRIVIA = {
    "clickhouse": [" ", "\n", "\u00a0", " -- it's; x\n", " // \"q;\n", "\t# don't;\n", " /* ; ' ` $$ */ ", " /* a /* b; */ c */ ", "/**/"],
    "mysql": [" ", "\n", " -- it's; x\n", " --\t;//$$\n", " # don't;\n", " /* ; ' \" ` */ ", " /* DELIMITER |\n; */ ", "/**/"],
}


def one_statement(clickhouse: ClickHouseServer, texts: list[str]) -> list[bool]:
    """Is each text exactly one statement to the server's own parser?"""
    return [text is not None for text in formatted(clickhouse, texts)]


def random_text(source: random.Random, fragments: list[str], *, marked: bool = False) -> str:
    """Fragments in a row; `marked`: with words between them that show whether they are code."""
    pieces = []
    for _ in range(source.randint(1, source.choice([3, 8, 20]))):
        pieces.append(source.choice(fragments))
        if marked and source.random() < 0.7:
            pieces.append(source.choice([" z{} ", " z{}", "z{} "]).format("".join(source.choices("bcdfg", k=3))))
    return "".join(pieces)


def formatted(clickhouse: ClickHouseServer, texts: list[str]) -> list[str | None]:
    """Each text as the server writes it, None if it is not exactly one statement."""
    array = ", ".join(f"unhex('{text.encode().hex()}')" for text in texts)
    rows = clickhouse.query(f"SELECT formatQuerySingleLineOrNull(arrayJoin([{array}]))", max_query_size=1 << 28)
    return [row[0] for row in rows]


def dressed(source: random.Random, statement: str, dialect: str) -> str:
    """The statement with other blanks, and with comments, where it has a blank."""
    return "".join(
        source.choice(TRIVIA[dialect]) if token.kind == "space" and "\n" not in token.text else token.text
        for token in tokens(statement, dialect)
    )


@pytest.mark.parametrize("case", [case for case in cases("clickhouse") if case.statements], ids=lambda case: case.name)
def test_clickhouse_takes_each_piece_as_one_statement(clickhouse: ClickHouseServer, case: Case) -> None:
    """Exactly those that it should; and it refuses the file as a whole, so the cut was needed."""
    pieces = [statement.text for statement in split(case.text, "clickhouse")]

    taken = one_statement(clickhouse, pieces)

    assert {n for n, ok in enumerate(taken) if not ok} == case.refused
    # What follows the rows of an INSERT is passed over in silence: see the next test.
    if len(pieces) > 1 and not re.match(r"(?i)INSERT\b.*\bVALUES", pieces[0], re.S):
        assert one_statement(clickhouse, [case.text]) == [False]


@pytest.mark.parametrize("case", [case for case in cases("clickhouse") if case.error], ids=lambda case: case.name)
def test_clickhouse_refuses_what_cannot_be_split(clickhouse: ClickHouseServer, case: Case) -> None:
    """All of it, but for the cases that say why we are stricter."""
    assert one_statement(clickhouse, [case.text]) == [case.stricter]


def test_clickhouse_passes_over_what_follows_rows(fresh_clickhouse: ClickHouseServer) -> None:
    """Sent as a whole, the second statement is lost without an error; sent in pieces, both are executed."""
    fresh_clickhouse.query("CREATE DATABASE d")
    fresh_clickhouse.query("CREATE TABLE d.t (a String) ENGINE = Memory")
    text = "INSERT INTO d.t VALUES ('a;b'); INSERT INTO d.t VALUES ('c'), /* two; */ ('d') -- end\n;"
    fresh_clickhouse.query(text)
    alone = fresh_clickhouse.query("SELECT a FROM d.t ORDER BY a")

    for statement in split(text, "clickhouse"):
        fresh_clickhouse.query(statement.text)

    assert alone == [("a;b",)]
    assert fresh_clickhouse.query("SELECT a FROM d.t ORDER BY a") == [("a;b",), ("a;b",), ("c",), ("d",)]


@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.full)])
def test_clickhouse_reads_the_same_statements_whatever_stands_between(clickhouse: ClickHouseServer, number: int) -> None:
    """Statements of all cases, shuffled into files, with comments of all kinds between their words and between them."""
    source = random.Random(number)
    texts = [text.text for case in cases("clickhouse") for n, text in enumerate(case.statements) if n not in case.refused]
    known = [text for text in texts if "{a:" not in text]  # a parameter's type is kept as it was written
    meaning = dict(zip(known, formatted(clickhouse, known), strict=True))
    for _ in range(0, number, 20):
        chosen, pieces = [source.choice(known) for _ in range(20)], list[str]()
        for statements in (chosen[n : n + 4] for n in range(0, 20, 4)):
            separators = [source.choice(TRIVIA["clickhouse"]) + ";" + source.choice(TRIVIA["clickhouse"]) for _ in range(4)]
            text = "".join(dressed(source, one, "clickhouse") + end for one, end in zip(statements, separators, strict=True))
            pieces += [statement.text for statement in split(text, "clickhouse")]

        assert formatted(clickhouse, pieces) == [meaning[statement] for statement in chosen]


@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.full)])
def test_clickhouse_sees_the_same_code_in_random_texts(clickhouse: ClickHouseServer, number: int) -> None:
    """normalizeQuery drops what the server's lexer takes for a string or comment; names and semicolons stay."""
    source, compared = random.Random(number), 0
    fragments = [fragment for fragment in FRAGMENTS if fragment not in STOPS]
    for _ in range(0, number, FEW):
        texts = [random_text(source, fragments, marked=True) for _ in range(FEW)]
        array = ", ".join(f"unhex('{text.encode().hex()}')" for text in texts)
        rows = clickhouse.query(f"SELECT normalizeQueryKeepNames(arrayJoin([{array}]))", max_query_size=1 << 28)
        for text, (normal,) in zip(texts, rows, strict=True):
            code, closed = words_of(text)
            if closed:
                names = r'"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`|“[^”]*”'
                assert code == MARK.findall(re.sub(f"(?s){names}", " ", normal)), text
                compared += 1

    assert compared > number / 2


@pytest.mark.parametrize("number", [FEW * 10, pytest.param(MANY * 5, marks=pytest.mark.full)])
def test_clickhouse_takes_each_statement_of_a_generated_file(clickhouse: ClickHouseServer, number: int) -> None:
    """The splitter finds the statements that the files were made of, and the server's parser takes each for exactly one."""
    grammar, wrong = Grammar("clickhouse", random.Random(number)), list[str]()
    for _ in range(0, number, 100):
        text, statements = grammar.file(100)
        assert [piece.text for piece in split(text, "clickhouse")] == statements
        wrong += [statement for statement, taken in zip(statements, one_statement(clickhouse, statements), strict=True) if not taken]
    FIGURES.append(f"splitter: {number} generated statements of clickhouse, {len(wrong)} refused by its parser")

    assert wrong == []


def words_of(text: str) -> tuple[list[str], bool]:
    """The marks that are code to our lexer, up to a quote that is not closed; and False where we are stricter."""
    stricter, found = False, list[str]()
    try:
        split(text, "clickhouse")
    except StatementError as error:
        stricter = "heredoc" in str(error) or "is not closed" not in str(error)
    with contextlib.suppress(StatementError):
        for token in tokens(text, "clickhouse"):
            found += MARK.findall(token.text) if token.kind in ("word", "punct") else []
    return found, not stricter


def execute(server: MySQLServer, database: str, statements: list[str]) -> set[int]:
    """Send each by itself, as the job does, and read its results to the end; the indexes of the refused ones."""
    refused = set()
    connection = server.connect(database, client_flags=[-ClientFlag.MULTI_STATEMENTS])
    try:
        for number, statement in enumerate(statements):
            try:
                for result in connection.cmd_query_iter(statement):
                    if "columns" in result:
                        connection.get_rows()
            except MySQLError:
                refused.add(number)
    finally:
        connection.close()
    return refused


@pytest.mark.parametrize("case", [case for case in cases("mysql") if case.statements], ids=lambda case: case.name)
def test_mysql_and_mariadb_take_each_piece(fresh_mysql: Database, case: Case) -> None:
    """One after the other in a database with a table `t`: all but those that have to be refused."""
    fresh_mysql.query("CREATE TABLE t (a INT, b VARCHAR(100))")

    refused = execute(fresh_mysql.server, fresh_mysql.name, [statement.text for statement in split(case.text, "mysql")])

    assert refused == case.refused


class Client:
    """The mariadb client, and what it sends: the server's general log of a user who may do nothing.

    Nothing of the texts is executed that way, so that the log holds no statement of a stored program.
    """

    def __init__(self, server: MySQLServer, work: Path) -> None:
        self._command = [
            *engines.client("mariadb", "mariadb"),
            *("--no-defaults", "--batch", "--force", "-A", "--default-character-set=utf8mb4"),
            *("--user=nobody", f"--socket={server.socket}"),
        ]
        self._server, self._work = server, work
        server.query("CREATE DATABASE IF NOT EXISTS db; CREATE USER IF NOT EXISTS nobody@localhost")
        server.query("GRANT SELECT ON db.* TO nobody@localhost; SET GLOBAL log_output = 'TABLE', general_log = 1")

    def sent(self, text: str) -> list[str]:
        """The statements that the client makes of a file."""
        self._server.query("TRUNCATE mysql.general_log")
        subprocess.run(self._command, input=text.encode(), cwd=self._work, env={**os.environ, "HOME": str(self._work)},
                       capture_output=True, check=False)  # fmt: skip
        rows = self._server.query(
            "SELECT command_type, CONVERT(argument USING utf8mb4) FROM mysql.general_log"
            " WHERE user_host LIKE 'nobody%' AND command_type IN ('Query', 'Init DB')"
        )
        found: list[str] = []
        for kind, argument in rows:
            if kind == "Init DB":
                found.append(f"USE {argument}")
            # A packet of several statements is logged again from its second statement on.
            elif argument != "SELECT DATABASE()" and not re.search(f";\\s*{re.escape(argument)}$", "".join(found[-1:])):
                found.append(argument)
        return found


@pytest.fixture(scope="module")
def client(mysql_servers: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The client on the session's MariaDB, with the general log on as long as these tests need it."""
    server = mysql_servers("mariadb").start()  # type: ignore[operator]
    yield Client(server, tmp_path_factory.mktemp("client"))
    server.query("SET GLOBAL general_log = 0; TRUNCATE mysql.general_log; DROP USER nobody@localhost; DROP DATABASE db")


def as_sent(text: str) -> list[str]:
    """What our splitter makes of a file, written as the client sends it: without comments. Raises StatementError."""
    split(text, "mysql")
    pieces = [""]
    for piece in scan(text, "mysql"):
        if piece.kind == "end":
            pieces.append("")
        elif piece.kind == "code" or re.match(r"/\*M?!|\*/", piece.text):  # a comment within /*! … */ is a pragma, too
            pieces[-1] += piece.text
    return bare_all(pieces)


def bare_all(statements: list[str]) -> list[str]:
    return [statement for statement in map(bare, statements) if statement]


def bare(statement: str) -> str:
    """A statement without what client and log change: blanks, escaped line ends, `\\-`, a last `;`, letters beyond ASCII, USE."""
    if statement.strip()[:3].upper() == "USE":
        return "USE"
    return re.sub(r"\\\n|\\-|\s|[^\x00-\x7f]|\\x[0-9A-F]{2}|;+\s*$", "", statement)


@pytest.mark.parametrize("case", [case for case in cases("mysql") if case.statements], ids=lambda case: case.name)
def test_the_client_sends_the_same_statements(client: Client, case: Case) -> None:
    """For each awkward case."""
    assert as_sent(case.text) == bare_all(client.sent(case.text))


@pytest.mark.parametrize("number", [FEW // 4, pytest.param(MANY, marks=pytest.mark.full)])
def test_the_client_sends_the_same_statements_of_random_texts(client: Client, number: int) -> None:
    """Whenever we do not refuse the text."""
    source, compared = random.Random(number), 0
    # Quotes that are mostly left open say little; a lone backslash is always refused; the log has no room for an emoji.
    fragments = [fragment for fragment in FRAGMENTS if fragment not in ("'", '"', "`", "\\", "\\'", "/*", "/*+", "😀")]
    for _ in range(number):
        text = random_text(source, fragments)
        if re.search(r"/\*M?!\d*[^*]*;", text):
            continue  # where a statement ends within /*! … */, the client is lost
        with contextlib.suppress(StatementError):
            assert as_sent(text) == bare_all(client.sent(text)), text
            compared += 1

    assert compared > number / 2


@pytest.mark.parametrize("number", [FEW // 8, pytest.param(MANY // 4, marks=pytest.mark.full)])
def test_the_client_sends_the_same_statements_whatever_stands_between(client: Client, number: int) -> None:
    """Statements of all cases, shuffled into files, with comments between their words, under one delimiter after another."""
    source, compared = random.Random(number), 0
    texts = [statement.text for case in cases("mysql") for statement in case.statements if "sql_mode" not in case.text]
    known = [text for text in texts if not text.upper().startswith("USE")]  # whose name the client takes with its line end
    for _ in range(number):
        text = ""
        for _ in range(4):
            end = source.choice([";", "//", "$$", ";;", "|", "END"])
            text += f"\n{source.choice(['DELIMITER', 'delimiter'])} {end}\n"
            text += "".join(dressed(source, source.choice(known), "mysql") + f"\n{end}" for _ in range(3))

        with contextlib.suppress(StatementError):  # a comment within /*! … */ may end it
            assert as_sent(text) == bare_all(client.sent(text)), text
            compared += 1

    assert compared > 0.95 * number


@pytest.mark.parametrize("files", [FEW // 10, pytest.param(MANY // 20, marks=pytest.mark.full)])
def test_the_client_sends_the_statements_of_a_generated_file(client: Client, files: int) -> None:
    """Stored programs of nested blocks under one delimiter after another included."""
    grammar, compared, wrong = Grammar("mysql", random.Random(files)), 0, list[str]()
    for _ in range(files):
        text, statements = grammar.file(50)
        assert [piece.text for piece in split(text, "mysql")] == statements
        compared += len(statements)
        if as_sent(text) != bare_all(client.sent(text)):
            wrong.append(text)
    FIGURES.append(f"splitter: {compared} generated statements of mysql in {files} files, {len(wrong)} files sent otherwise by the client")

    assert wrong == []


def test_quotes_are_taken_off_as_the_servers_do(clickhouse: ClickHouseServer, mysql_server: MySQLServer) -> None:
    """Every character of ASCII behind a backslash, and doubled quotes: the values that the servers read."""
    for char in map(chr, range(1, 127)):
        string, name = f"'a\\{char}''b'", f"`a\\{char}``b`"
        if char != "x":  # takes two digits more, and is left as it is
            assert unquote(string, "clickhouse") == clickhouse.query(f"SELECT {string}")[0][0]
            assert unquote(name, "clickhouse") == clickhouse.query(f"DESCRIBE (SELECT 1 AS {name})")[0][0]
        for text in (string, string.replace("'", '"') if char != "'" else '"\\""'):
            assert unquote(text, "mysql") == mysql_server.query(f"SELECT {text}")[0][0]


@pytest.mark.parametrize("statement", NEEDY["clickhouse"])
def test_what_needs_a_table_is_refused_by_a_clickhouse_without_it(
    fresh_clickhouse: ClickHouseServer, statement: str
) -> None:
    """A false `needs` would make the dry run refuse a sound step, so each kind is tried."""
    fresh_clickhouse.query("CREATE DATABASE empty")

    with pytest.raises(ClickHouseError) as error:
        fresh_clickhouse.query(statement, database="empty")

    assert error.value.code in (60, 81, 390)  # no such table, no such database, no such table to copy


@pytest.mark.parametrize("statement", NEEDY["mysql"])
def test_what_needs_a_table_is_refused_by_a_mysql_without_it(fresh_mysql: Database, statement: str) -> None:
    """The same on MySQL and MariaDB."""
    with pytest.raises(MySQLError) as error:
        fresh_mysql.query(statement)

    assert error.value.errno in (1146, 1051, 1049)  # no such table, nothing to drop, no such database
