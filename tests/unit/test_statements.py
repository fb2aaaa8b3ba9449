"""Splitting: what is written in a file becomes the statements that its reader would have sent, or nothing at all."""

import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from migrator.statements import IGNORED, StatementError, each, scan, split, tokens, unquote
from tests.unit.statements import Case, cases

DIALECTS = ("clickhouse", "mysql")
CASES = [case for dialect in DIALECTS for case in cases(dialect)]
MIB = 1 << 20

# Pieces that texts are made of: all that opens, closes, escapes or ends something in either dialect.
FRAGMENTS = [
    "a", "SELECT 1", "1.5e3", "x'41'", "$a", "a$$", "{p:String}", "é", "😀", " ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\ufeff",
    ";", ";;", "//", "$$", "|", "\\G", "\\g", "\\N", "\\", "\\'", "(", ")", ",", ".", "-", "--", "-- ", "--\n", "#", "# ", "#!",
    "/", "*", "/*", "*/", "/*!", "/*!50001 ", "/*M!", "/*+", "'", '"', "`", "‘", "’", "“", "”", "'a;b'", '"c;d"', "`e;f`", "''",
    "'it''s'", "'it\\'s'", "'\\\\'", "`\\`", "-- it's; x\n", "# don't;\n", "/* ; ' */", "/* a /* b */ c */", "$t$ ; $t$", "$t$",
    "\nDELIMITER //\n", "\ndelimiter $$\n", "\nDELIMITER ;\n", "\nDELIMITER 'ab'\n", "ab", "\nUSE db\n", "INSERT INTO t FORMAT CSV ",
    "INSERT INTO t VALUES (1)", "BEGIN", "END", "SET sql_mode='NO_BACKSLASH_ESCAPES';", "SET sql_mode='';",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=25).map("".join)


@pytest.mark.parametrize("case", [case for case in CASES if not case.error], ids=lambda case: f"{case.dialect} {case.name}")
def test_a_file_becomes_its_statements(case: Case) -> None:
    """Each with the line that it begins in, without delimiter and without comments around it."""
    assert split(case.text, case.dialect) == case.statements


@pytest.mark.parametrize("case", [case for case in CASES if case.error], ids=lambda case: f"{case.dialect} {case.name}")
def test_a_file_that_cannot_be_split_safely_is_refused(case: Case) -> None:
    """With the line and the reason, before anything of it is sent."""
    with pytest.raises(StatementError) as error:
        split(case.text, case.dialect)

    assert (error.value.line, str(error.value)) == case.error


@pytest.mark.parametrize("dialect", DIALECTS)
def test_there_are_many_awkward_cases(dialect: str) -> None:
    """At least 60 for each dialect; none is there twice."""
    names = [case.name for case in CASES if case.dialect == dialect]

    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("dialect", DIALECTS)
@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_pieces_and_separators_add_up_to_the_file(dialect: str, text: str) -> None:
    """Up to where a text cannot be split, nothing is lost, doubled or moved; and what is sent stands in its line."""
    seen = ""
    try:
        for piece in scan(text, dialect):
            assert piece.offset == len(seen)
            seen += piece.text
        statements = split(text, dialect)
    except StatementError as error:
        assert text.startswith(seen)
        assert 1 <= error.line <= text.count("\n") + 1
        return
    assert seen == text
    lines = text.split("\n")
    for statement in statements:
        assert statement.text == statement.text.strip(" \t\n\v\f\r") != ""
        assert statement.text.split("\n")[0] in lines[statement.line - 1]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_tokens_add_up_to_their_statement(dialect: str, text: str) -> None:
    """For whatever text, a broken one included; and a delimiter is nothing special inside one statement."""
    seen = ""
    try:
        for token in tokens(text, dialect):
            assert token.offset == len(seen)
            assert token.kind in {"word", "quoted", "string", "number", "punct"} | IGNORED
            assert len(token.text) == 1 or token.kind != "punct"
            seen += token.text
    except StatementError:
        assert text.startswith(seen)
        return
    assert seen == text


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_statement_of_clickhouse_is_one_statement(text: str) -> None:
    """What was split once stays whole when it is split again: no delimiter is left in it."""
    try:
        statements = split(text, "clickhouse")
    except StatementError:
        return

    assert [split(statement.text, "clickhouse") for statement in statements] == [
        (type(statement)(statement.text, 1),) for statement in statements
    ]


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        ("clickhouse", "a.`b` = 'c' AND 1.5 > x'41'", "word a,punct .,quoted `b`,punct =,string 'c',word AND,number 1.5,punct >,string x'41'"),
        ("clickhouse", "t.1 .5 0x1F 1_0 1e-3 1a $x a$b", "word t,punct .,number 1,number .5,number 0x1F,number 1_0,number 1e-3,word 1a,word $x,word a$b"),
        ("clickhouse", "“n” ‘s’ \"m\" $$h$$ {p:T}", "quoted “n”,string ‘s’,quoted \"m\",string $$h$$,punct {,word p,punct :,word T,punct }"),
        ("mysql", "a.`b` = \"c\" AND N'd' || @e", "word a,punct .,quoted `b`,punct =,string \"c\",word AND,string N'd',punct |,punct |,punct @,word e"),
        ("mysql", "/*!50001 CREATE*/ größe 1.5 -1 _utf8'x'", "word CREATE,word größe,number 1.5,punct -,number 1,word _utf8,string 'x'"),
        ("mysql", "a; b -- c\n# d\n/* e */ 'f''g' 3*/* h */4", "word a,punct ;,word b,string 'f''g',number 3,punct *,number 4"),
    ],
)  # fmt: skip
def test_tokens_have_their_kinds(dialect: str, text: str, expected: str) -> None:
    """Comments, blanks and the marks of version comments can be left out by their kind."""
    assert ",".join(f"{token.kind} {token.text}" for token in tokens(text, dialect) if token.kind not in IGNORED) == expected


@pytest.mark.parametrize(
    ("dialect", "text", "value"),
    [
        ("clickhouse", r"'it''s \'\n\q\x'", "it's '\n\\q\\x"),
        ("clickhouse", r"`a``b\`c`", "a`b`c"),
        ("clickhouse", "“a”", "a"),
        ("clickhouse", "plain", "plain"),
        ("mysql", r"'it''s \'\n\q\%'", "it's '\nq\\%"),
        ("mysql", r"`a``b\n`", "a`b\\n"),
        ("mysql", '"a""b"', 'a"b'),
        ("mysql", "", ""),
    ],
)
def test_quotes_are_taken_off(dialect: str, text: str, value: str) -> None:
    """As the server does it: see the test of all escapes on the servers."""
    assert unquote(text, dialect) == value


def test_the_statements_of_a_big_file_come_one_by_one() -> None:
    """The first is there before the last was looked at, even if that one is broken."""
    statements = each("SELECT 1; SELECT 'a", "mysql")

    assert next(statements).text == "SELECT 1"
    with pytest.raises(StatementError):
        next(statements)


HOSTILE: dict[str, Callable[[int], str]] = {
    "one long string": lambda n: "SELECT '" + "a\\'b;" * (n // 5) + "'",
    "many strings": lambda n: "INSERT INTO t VALUES " + "(1,'a;''b'),\n" * (n // 13),
    "many statements": lambda n: "SELECT 1;\n" * (n // 10),
    "only quotes": lambda n: "'" * (n // 2 * 2),
    "an unclosed quote at the end": lambda n: "SELECT 'a' " * (n // 11) + "'",
    "open comments": lambda n: "/* " * (n // 3),
    "nested comments": lambda n: "/*" * (n // 4) + "*/" * (n // 4),
    "version comments": lambda n: "/*! " + "/* b */" * (n // 7),
    "two dashes": lambda n: "--x\n" * (n // 4),
    "dollars": lambda n: "$a " * (n // 3),
    "heredocs": lambda n: "SELECT $$" + "$a $b" * (n // 5) + "$$",
    "backslashes": lambda n: "SELECT '" + "\\" * (n // 2 * 2) + "'",
    "delimiter lines": lambda n: "DELIMITER //\na;//\nDELIMITER ;\nb;\n" * (n // 32),
    "half delimiters": lambda n: "DELIMITER $$\n" + "a$" * (n // 2),
    "USE on one line": lambda n: "use a;" * (n // 6),
    "USE without delimiter": lambda n: "use a\n" * (n // 6),
    "SET": lambda n: "SET " + "a=1, " * (n // 5) + ";",
    "rows in a format": lambda n: "INSERT INTO t FORMAT CSV " + "a," * (n // 2),
    "format as a column": lambda n: "INSERT INTO t SELECT format" + ",a" * (n // 2),
    "blanks": lambda n: "SELECT 1" + " \n" * (n // 2),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(dialect: str, name: str) -> None:
    """Eight times the text takes about eight times as long; a quadratic rule would take sixty-four times."""

    def seconds(size: int) -> float:
        text, begin = HOSTILE[name](size), time.process_time()
        try:
            for _ in each(text, dialect):
                pass
        except StatementError:
            pass
        return time.process_time() - begin

    seconds(MIB // 64)
    assert seconds(MIB // 4) < 25 * max(seconds(MIB // 32), 0.005)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_memory_stays_near_the_size_of_the_file(dialect: str) -> None:
    """A line of 20 MiB that is one statement: the text, the statement's copy of it, and nothing else of that size."""
    script = (
        "import resource, sys; from migrator.statements import split\n"
        "text = 'INSERT INTO t VALUES ' + \"(1,'a;''b'),\" * (20 * 1024 * 1024 // 12) + ';'\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"assert len(split(text, {dialect!r})) == 1\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert int(result.stdout) < 2 * 20


def test_an_unknown_dialect_is_a_bug() -> None:
    """And is not taken for one of the known."""
    with pytest.raises(KeyError, match=re.escape("postgres")):
        split("SELECT 1", "postgres")
