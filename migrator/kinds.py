"""What one statement does, and to which objects: read from its tokens, without a server, and never with an error.

The dry run follows the tables that statements create, drop and need; the journal asks the catalog about the object and
the clauses. So a name is given only where the grammar leaves no doubt, and what is unclear is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from migrator.statements import IGNORED, StatementError, Token, tokens, unquote


class Name(NamedTuple):
    """An object's name without its quotes; `database` is None where the statement does not say."""

    database: str | None
    name: str


class Clause(NamedTuple):
    """One part of an ALTER TABLE. `action` is upper case with its object: ADD COLUMN, RENAME COLUMN, UPDATE, …

    KEY and UNIQUE are INDEX; ADD CONSTRAINT is ADD FOREIGN KEY, ADD CHECK or ADD INDEX where MySQL's is one; and the
    COLUMN that MySQL lets one leave out is there. `name` is None where the clause has none or the server makes it up.
    """

    action: str
    name: str | None
    to: str | None  # the new name of RENAME and CHANGE
    guarded: bool  # IF [NOT] EXISTS
    text: str  # as written, without the brackets that ClickHouse puts around it


class Kind(NamedTuple):
    """`creates`, `drops` and `needs` (has to exist before) hold tables, views and dictionaries only, net of renames."""

    verb: str  # the first word, upper case
    object_type: str = ""  # TABLE, VIEW, MATERIALIZED VIEW, DATABASE, DICTIONARY, INDEX, PROCEDURE, TRIGGER, …
    name: Name | None = None  # the object's; of a list, the first
    table: Name | None = None  # what an index or trigger is on, what a materialized view writes to
    guarded: bool = False  # IF [NOT] EXISTS
    replaces: bool = False  # OR REPLACE
    temporary: bool = False
    fills: bool = False  # CREATE TABLE … AS SELECT, CREATE TABLE … CLONE AS, CREATE MATERIALIZED VIEW … POPULATE
    creates: tuple[Name, ...] = ()
    drops: tuple[Name, ...] = ()
    needs: tuple[Name, ...] = ()
    renames: tuple[tuple[Name, Name], ...] = ()  # RENAME: old and new; EXCHANGE: the two
    clauses: tuple[Clause, ...] = ()  # of ALTER TABLE
    unfinished: bool = False  # a stored program without its END: its file lacks DELIMITER lines


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_OBJECTS = {word: word for word in _words(
    "TABLE VIEW DATABASE DICTIONARY FUNCTION PROCEDURE TRIGGER EVENT INDEX USER ROLE QUOTA POLICY PROFILE COLLECTION"
    " SERVER TABLESPACE SEQUENCE PACKAGE WORKLOAD RESOURCE"
)} | {"SCHEMA": "DATABASE", "TABLES": "TABLE", "DICTIONARIES": "DICTIONARY"}  # fmt: skip
_ADJECTIVES = ("MATERIALIZED", "LIVE", "WINDOW", "ROW", "SETTINGS", "NAMED")
_RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "LIVE VIEW", "WINDOW VIEW", "DICTIONARY")
_ROUTINES = ("FUNCTION", "PROCEDURE", "TRIGGER", "EVENT", "PACKAGE")
_SIMPLE = {  # verb: what it is about, and the words that may stand before the name
    "CALL": ("PROCEDURE", ""),
    "USE": ("DATABASE", ""),
    "UPDATE": ("TABLE", "LOW_PRIORITY IGNORE"),
    "TRUNCATE": ("TABLE", "TEMPORARY TABLE"),
    "OPTIMIZE": ("TABLE", "NO_WRITE_TO_BINLOG LOCAL TABLE"),
    "DELETE": ("TABLE", "LOW_PRIORITY QUICK IGNORE FROM"),
    "INSERT": ("TABLE", "LOW_PRIORITY DELAYED HIGH_PRIORITY IGNORE OVERWRITE INTO TABLE"),
    "REPLACE": ("TABLE", "LOW_PRIORITY DELAYED INTO"),
}
_ACTIONS = _words(  # that a further clause of ALTER TABLE may begin with
    "ADD ALGORITHM ALTER APPLY ATTACH CHANGE CLEAR COALESCE COMMENT CONVERT DELETE DETACH DISABLE DISCARD DROP ENABLE"
    " EXCHANGE FETCH FORCE FORGET FREEZE IMPORT LOCK MATERIALIZE MODIFY MOVE REMOVE RENAME REORGANIZE REPLACE RESET"
    " TRUNCATE UNFREEZE UPDATE"
)
_ORIGIN = re.compile(r"(?i)\b(LIKE|AS|SELECT)\b")  # without these words nothing is made from anything else
_PAIRS = ("PRIMARY KEY", "FOREIGN KEY", "ORDER BY", "SAMPLE BY", "SQL SECURITY")
_NAMED = ("COLUMN", "INDEX", "PROJECTION", "CONSTRAINT", "CHECK", "STATISTICS", "FOREIGN KEY")
_PARTS = {
    "mysql": _words("COLUMN CONSTRAINT CHECK PARTITION"),
    "clickhouse": _words(
        "COLUMN CONSTRAINT PROJECTION STATISTICS PARTITION PART TTL SETTING QUERY COMMENT DETACHED REFRESH"
    ),
}
_END = Token("end", "", 0)
_Fields = dict[str, Any]


class _Unclear(Exception):
    """Not the grammar that is expected here; what was read so far stands."""


class _Reader:
    """Takes the significant tokens of a text one by one, and reads no further than it has to."""

    def __init__(self, text: str, dialect: str) -> None:
        self._source = (token for token in tokens(text, dialect) if token.kind not in IGNORED)
        self._ahead: list[Token] = []
        self.text, self.dialect = text, dialect

    def peek(self, distance: int = 0) -> Token:
        while len(self._ahead) <= distance:
            self._ahead.append(next(self._source, _END))
        return self._ahead[distance]

    def __iter__(self) -> Iterator[Token]:
        while self.peek() is not _END:
            yield self._ahead.pop(0)

    def at(self, *words: str) -> bool:
        """Does one of these words come next?"""
        return _word(self.peek()) in words

    def accept(self, phrase: str) -> bool:
        """Take these words if they come next."""
        words = phrase.split()
        found = all(_word(self.peek(number)) == word for number, word in enumerate(words))
        del self._ahead[: len(words) if found else 0]
        return found

    def skip(self, *words: str) -> None:
        while self.at(*words):
            self._ahead.pop(0)

    def skip_to(self, *words: str) -> str:
        """Take everything up to and with the first of these words that is outside of brackets."""
        depth = 0
        for token in self:
            depth += _nesting(token)
            if depth == 0 and _word(token) in words:
                return _word(token)
        raise _Unclear

    def guard(self) -> bool:
        return self.accept("IF NOT EXISTS") or self.accept("IF EXISTS")

    def part(self) -> str:
        token = next(iter(self), _END)
        if token.kind not in ("word", "quoted", "number", "string"):
            raise _Unclear
        return unquote(token.text, self.dialect)

    def name(self) -> Name:
        first = self.part()
        return Name(first, self.part()) if self.accept(".") else Name(None, first)

    def names(self) -> tuple[Name, ...]:
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        return tuple(found)


def _word(token: Token) -> str:
    return token.text.upper() if token.kind in ("word", "punct") else ""


def _nesting(token: Token) -> int:
    return (token.text == "(") - (token.text == ")")


def classify(statement: str, dialect: str) -> Kind:
    """What the statement does; of one that is not known, only its first word."""
    verb, fields = "", _Fields()
    try:
        reader = _Reader(statement, dialect)
        verb = next((_word(token) for token in reader if token.kind == "word"), "")
        if verb == "REPLACE" and reader.at("TABLE", "DICTIONARY"):  # ClickHouse: CREATE OR REPLACE
            fields["replaces"] = True
            _create(reader, fields)
        elif verb in _SIMPLE:
            _simple(reader, fields, verb)
        elif verb in _VERBS:
            _VERBS[verb](reader, fields)
    except (_Unclear, StatementError):
        pass
    return Kind(verb, **fields)


def _simple(reader: _Reader, fields: _Fields, verb: str) -> None:
    kind, words = _SIMPLE[verb]
    reader.skip(*_words(words))
    fields["guarded"] = reader.guard()
    if reader.at("FUNCTION", "DATABASE", "ALL", "TABLES"):
        raise _Unclear
    name = reader.name()
    if verb == "DELETE" and reader.accept("FROM"):  # DELETE alias FROM table AS alias
        name = reader.name()
    if verb == "DELETE" and reader.at("USING", ","):
        raise _Unclear  # the name may be an alias
    fields |= {"object_type": kind, "name": name, "needs": (name,) if kind == "TABLE" and not fields["guarded"] else ()}
    if verb in ("INSERT", "REPLACE"):
        word = reader.skip_to("VALUES", "VALUE", "SET", "FORMAT", "SELECT", "WITH")
        if word in ("SELECT", "WITH"):
            fields["needs"] = (name, *_sources(reader, beside_with=word == "WITH"))


def _object(reader: _Reader, fields: _Fields) -> str:
    """Take the words up to the object's type, and its guard."""
    before = ""
    for token in reader:
        word = _word(token)
        if word in _OBJECTS and before not in ("=", "@"):  # DEFINER = event@localhost
            kind = f"{before} {word}" if before in _ADJECTIVES else _OBJECTS[word]
            fields |= {"object_type": kind, "guarded": reader.guard()}
            return kind
        if word in ("REPLACE", "TEMPORARY"):
            fields["replaces" if word == "REPLACE" else "temporary"] = True
        before = word
    raise _Unclear


def _create(reader: _Reader, fields: _Fields) -> None:
    kind = _object(reader, fields)
    fields["name"] = name = Name(None, reader.part()) if kind == "INDEX" else reader.name()
    if kind in ("INDEX", "TRIGGER"):
        _on(reader, fields)
    if kind in _RELATIONS:
        fields["creates"] = (name,)
        _origin(reader, fields, kind)
    if kind in _ROUTINES:
        words = [_word(token) for token in reader]
        fields["unfinished"] = "BEGIN" in words and "END" not in words[-2:]  # a label may follow END


def _on(reader: _Reader, fields: _Fields) -> None:
    reader.skip_to("ON")
    reader.skip("TABLE")
    fields["table"] = table = reader.name()
    fields["needs"] = (table,)


def _origin(reader: _Reader, fields: _Fields, kind: str) -> None:
    """What a new table or view is made from: LIKE table, TO table, AS table, AS SELECT … FROM table."""
    if not _ORIGIN.search(reader.text):
        return
    if reader.accept("LIKE") or reader.accept("( LIKE"):
        fields["needs"] = (reader.name(),)
        return
    if kind == "DICTIONARY" or (kind == "VIEW" and reader.at("(") and reader.dialect == "clickhouse"):
        return  # ClickHouse does not look at the source of a view that names its columns
    words = []
    while (word := reader.skip_to("TO", "EMPTY", "POPULATE", "CLONE", "AS", "SELECT")) not in ("AS", "SELECT"):
        words.append(word)
        if word == "TO" and kind == "MATERIALIZED VIEW" and not reader.at("VOLUME", "DISK"):
            fields["table"] = table = reader.name()
            fields["needs"] = (table,)
    if word == "AS" and kind == "TABLE" and not reader.at("(", "SELECT", "WITH"):
        source = reader.name()
        fields |= {"needs": () if reader.at("(") else (source,), "fills": "CLONE" in words}  # with a bracket: a table function
    else:
        fields["fills"] = "POPULATE" in words or (kind == "TABLE" and "EMPTY" not in words)
        fields["needs"] = (*fields.get("needs", ()), *_sources(reader))


def _sources(reader: _Reader, *, beside_with: bool = False) -> list[Name]:
    """The tables behind FROM and JOIN. Beside a WITH only full names count: a bare one may be that of a subquery."""
    found: dict[Name, None] = {}
    queries, before = [True], ""
    for token in reader:
        word = _word(token)
        beside_with = beside_with or word == "WITH"
        if word == "(":
            queries.append(reader.at("SELECT", "WITH"))  # else a function: EXTRACT(YEAR FROM x)
        elif word == ")":
            queries = queries[:-1] or [False]
        elif (
            (queries[-1] and word in ("FROM", "JOIN") and before not in ("DISTINCT", "ARRAY"))
            and reader.peek().kind in ("word", "quoted")
            and not reader.at("DUAL")
        ):
            name = reader.name()
            found |= {} if reader.at("(") else {name: None}  # with a bracket: a table function
        before = word
    return [name for name in found if name.database or not beside_with]


def _drop(reader: _Reader, fields: _Fields) -> None:
    kind = _object(reader, fields)
    reader.accept("IF EMPTY")
    names = reader.names()
    fields["name"] = names[0]
    if kind == "INDEX":
        _on(reader, fields)
    elif kind in _RELATIONS:
        fields |= {"drops": names, "needs": () if fields["guarded"] else names}


def _rename(reader: _Reader, fields: _Fields) -> None:
    kind = _OBJECTS.get(_word(reader.peek()), "TABLE")
    reader.skip(*_OBJECTS)
    fields |= {"object_type": kind, "guarded": reader.guard()}
    pairs: list[tuple[Name, Name]] = []
    while not pairs or reader.accept(","):
        old = reader.name()
        reader.skip_to("TO")
        pairs.append((old, reader.name()))
    _renamed(fields, pairs)


def _renamed(fields: _Fields, pairs: list[tuple[Name, Name]]) -> None:
    fields |= {"name": pairs[0][0], "renames": tuple(pairs)}
    made: dict[Name, None] = {}
    gone: dict[Name, None] = {}
    for old, new in pairs:
        gone |= {} if old in made else {old: None}
        made.pop(old, None)
        made[new] = None
    if fields["object_type"] in _RELATIONS:
        fields |= {"creates": tuple(made), "drops": tuple(name for name in gone if name not in made),
                   "needs": () if fields["guarded"] else tuple(gone)}  # fmt: skip


def _exchange(reader: _Reader, fields: _Fields) -> None:
    _object(reader, fields)
    one = reader.name()
    reader.skip_to("AND")
    pair = (one, reader.name())
    fields |= {"name": one, "renames": (pair,), "needs": pair}


def _alter(reader: _Reader, fields: _Fields) -> None:
    kind = _object(reader, fields)
    fields["name"] = name = reader.name()
    if kind in _RELATIONS:
        fields["needs"] = () if fields["guarded"] else (name,)
    if reader.accept("ON CLUSTER"):
        reader.part()
    if kind == "TABLE":
        fields["clauses"] = tuple(_clause(text, reader.dialect) for text in _clause_texts(reader))
        for clause in fields["clauses"]:
            if clause.action == "RENAME TABLE" and clause.to:
                new = _Reader(clause.text, reader.dialect)
                new.skip("RENAME", "TO", "AS", "=")
                _renamed(fields, [(name, new.name())])


def _clause_texts(reader: _Reader) -> Iterator[str]:
    """A comma ends a clause only before a word that begins another: MODIFY SETTING a = 1, b = 2, ADD COLUMN c Int8."""
    begin = reader.peek().offset
    depth, last = 0, begin
    for token in reader:
        depth += _nesting(token)
        ahead = int(reader.at("("))  # ClickHouse writes (ADD COLUMN …), (DROP COLUMN …)
        begins = _word(reader.peek(ahead)) in _ACTIONS and reader.peek(ahead + 1).text not in ("=", ",")
        if token.text == "," and depth == 0 and begins:
            yield reader.text[begin:last]
            begin = reader.peek().offset
        last = token.offset + len(token.text)
    if last > begin:
        yield reader.text[begin:last]


def _clause(text: str, dialect: str) -> Clause:
    text = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    reader = _Reader(text, dialect)
    action, guarded, name, to = _word(next(iter(reader), _END)), False, None, None
    try:
        part, guarded, name = _subject(reader, action)
        action = f"{action} {part}".strip()
        if action in ("RENAME TABLE", "RENAME COLUMN", "RENAME INDEX", "CHANGE COLUMN"):
            reader.skip("TO", "AS", "=")
            to = reader.name().name
    except _Unclear:
        pass
    return Clause(action, name, to, guarded, text)


def _subject(reader: _Reader, action: str) -> tuple[str, bool, str | None]:
    """What a clause is about, whether that is guarded, and its name."""
    if action in ("UPDATE", "DELETE"):
        return "", False, None
    if action == "RENAME" and not reader.at("COLUMN", "INDEX", "KEY"):
        return "TABLE", False, None
    if action == "ADD" and reader.accept("CONSTRAINT"):
        guarded = reader.guard()
        name = None if reader.at("PRIMARY", "UNIQUE", "FOREIGN", "CHECK") else reader.part()
        return _part(reader) or "CONSTRAINT", guarded, name
    part = _part(reader)
    if not part and reader.dialect == "mysql" and action in ("ADD", "DROP", "MODIFY", "CHANGE", "ALTER"):
        part = "COLUMN"
    guarded = reader.guard()
    if part == "COLUMN":
        reader.skip("(")
    return part, guarded, reader.part() if part in _NAMED and not reader.at("(", "USING") else None


def _part(reader: _Reader) -> str:
    if reader.accept("VECTOR INDEX") or reader.at("UNIQUE", "FULLTEXT", "SPATIAL", "INDEX", "KEY"):
        reader.skip("UNIQUE", "FULLTEXT", "SPATIAL", "INDEX", "KEY")
        return "INDEX"
    return next((part for part in (*_PAIRS, *_PARTS[reader.dialect]) if reader.accept(part)), "")


_VERBS: dict[str, Callable[[_Reader, _Fields], None]] = {
    "CREATE": _create, "ATTACH": _create, "DROP": _drop, "DETACH": _drop, "RENAME": _rename, "EXCHANGE": _exchange,
    "ALTER": _alter}  # fmt: skip
