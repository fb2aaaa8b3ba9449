"""What one statement does, and to which objects: read from its tokens, without a server, and never with an error.

The dry run follows the tables that statements create, drop and need; the journal asks the catalog about the object and
the clauses. So a name is given only where the grammar leaves no doubt, and what is unclear is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from migrator.statements import IGNORED, StatementError, Token, tokens, unquote


class Name(NamedTuple):
    """An object's name without its quotes; `database` is None where the statement does not say."""

    database: str | None
    name: str


class Clause(NamedTuple):
    """One part of an ALTER. `action` is upper case with its object: ADD COLUMN, DROP INDEX, RENAME COLUMN, UPDATE, …

    KEY and UNIQUE are INDEX, a constraint is FOREIGN KEY, CHECK or INDEX where that is known, and the COLUMN that
    MySQL lets one leave out is there. `name` is None where the server makes one up.
    """

    action: str
    name: str | None
    to: str | None  # the new name of RENAME and CHANGE
    guarded: bool  # IF [NOT] EXISTS
    text: str  # as written, without the brackets that ClickHouse puts around it


@dataclass(frozen=True)
class Kind:
    """`creates`, `drops` and `needs` (has to exist before) hold tables, views and dictionaries only, net of renames."""

    verb: str  # the first word, upper case
    object_type: str = ""  # TABLE, VIEW, MATERIALIZED VIEW, DATABASE, DICTIONARY, INDEX, PROCEDURE, TRIGGER, …
    name: Name | None = None  # the object's; of a list, the first
    table: Name | None = None  # what an index or trigger is on, what a materialized view writes to
    guarded: bool = False  # IF [NOT] EXISTS
    replaces: bool = False  # OR REPLACE
    temporary: bool = False
    creates: tuple[Name, ...] = ()
    drops: tuple[Name, ...] = ()
    needs: tuple[Name, ...] = ()
    renames: tuple[tuple[Name, Name], ...] = ()  # RENAME: old and new; EXCHANGE: the two
    clauses: tuple[Clause, ...] = ()  # of ALTER TABLE
    unfinished: bool = False  # a stored program without its END: its file lacks DELIMITER lines


_OBJECTS = {word: word for word in (
    "TABLE VIEW DATABASE DICTIONARY FUNCTION PROCEDURE TRIGGER EVENT INDEX USER ROLE QUOTA POLICY PROFILE COLLECTION"
    " SERVER TABLESPACE SEQUENCE PACKAGE WORKLOAD RESOURCE").split()}  # fmt: skip
_OBJECTS |= {"SCHEMA": "DATABASE", "TABLES": "TABLE", "DICTIONARIES": "DICTIONARY"}
_ADJECTIVES = ("MATERIALIZED", "LIVE", "WINDOW", "ROW", "SETTINGS", "NAMED")
_RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "LIVE VIEW", "WINDOW VIEW", "DICTIONARY")
_ROUTINES = ("FUNCTION", "PROCEDURE", "TRIGGER", "EVENT", "PACKAGE")
_ACTIONS = frozenset(  # that a clause of ALTER TABLE begins with
    "ADD ALGORITHM ALTER APPLY ATTACH CHANGE CLEAR COALESCE COMMENT CONVERT DELETE DETACH DISABLE DISCARD DROP ENABLE"
    " EXCHANGE FETCH FORCE FORGET FREEZE IMPORT LOCK MATERIALIZE MODIFY MOVE REMOVE RENAME REORGANIZE REPLACE RESET"
    " TRUNCATE UNFREEZE UPDATE".split())  # fmt: skip
_INDEX_WORDS = ("UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "INDEX", "KEY")
_PAIRS = ("PRIMARY KEY", "FOREIGN KEY", "ORDER BY", "SAMPLE BY", "SQL SECURITY")
_NAMED = ("COLUMN", "INDEX", "PROJECTION", "CONSTRAINT", "CHECK", "STATISTICS", "FOREIGN KEY")
_PARTS = {"mysql": ("COLUMN", "CONSTRAINT", "CHECK", "PARTITION"),
          "clickhouse": ("COLUMN", "CONSTRAINT", "PROJECTION", "STATISTICS", "PARTITION", "PART", "TTL", "SETTING", "QUERY",
                         "COMMENT", "DETACHED", "REFRESH")}  # fmt: skip
_END = Token("end", "", 0)
_Fields = dict[str, Any]


class _Unclear(Exception):
    """Not the grammar that is expected here; what was read so far stands."""


class _Reader:
    """Takes the significant tokens of a statement one by one, and reads no further than it has to."""

    def __init__(self, text: str, dialect: str, source: Iterable[Token] | None = None) -> None:
        self._source = (token for token in source or tokens(text, dialect) if token.kind not in IGNORED)
        self._ahead: list[Token] = []
        self.text, self.dialect = text, dialect

    def peek(self, distance: int = 0) -> Token:
        while len(self._ahead) <= distance:
            self._ahead.append(next(self._source, _END))
        return self._ahead[distance]

    def take(self) -> Token:
        self.peek()
        return self._ahead.pop(0)

    def __iter__(self) -> Iterator[Token]:
        while self.peek() is not _END:
            yield self.take()

    def at(self, *words: str) -> bool:
        return all(_word(self.peek(number)) == word for number, word in enumerate(words))

    def accept(self, *words: str) -> bool:
        found = self.at(*words)
        del self._ahead[: len(words) if found else 0]
        return found

    def accept_any(self, *words: str) -> bool:
        return any(self.accept(word) for word in words)

    def guard(self) -> bool:
        return self.accept("IF", "NOT", "EXISTS") or self.accept("IF", "EXISTS")

    def part(self) -> str:
        token = self.take()
        if token.kind not in ("word", "quoted", "number", "string"):
            raise _Unclear
        return unquote(token.text, self.dialect)

    def name(self) -> Name:
        first = self.part()
        return Name(first, self.part()) if self.accept(".") else Name(None, first)

    def skip_to(self, *words: str) -> str:
        """Take everything up to and with the first of these words that is outside of brackets."""
        depth = 0
        for token in self:
            depth += _nesting(token)
            if depth == 0 and _word(token) in words:
                return _word(token)
        raise _Unclear


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
        if verb in _VERBS:
            _VERBS[verb](reader, fields)
    except (_Unclear, StatementError):
        pass
    return Kind(verb, **fields)


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


def _names(reader: _Reader) -> tuple[Name, ...]:
    found = [reader.name()]
    while reader.accept(","):
        found.append(reader.name())
    return tuple(found)


def _index(reader: _Reader, fields: _Fields) -> None:
    fields["name"] = Name(None, reader.part())
    reader.skip_to("ON")
    reader.accept("TABLE")
    fields["table"] = table = reader.name()
    fields["needs"] = (table,)


def _create(reader: _Reader, fields: _Fields) -> None:
    kind = _object(reader, fields)
    if kind == "INDEX":
        return _index(reader, fields)
    fields["name"] = name = reader.name()
    if kind in _RELATIONS:
        fields["creates"] = (name,)
        _origin(reader, fields, kind)
    if kind == "TRIGGER":
        reader.skip_to("ON")
        fields["table"] = table = reader.name()
        fields["needs"] = (table,)
    if kind in _ROUTINES:
        words = [_word(token) for token in reader]
        fields["unfinished"] = "BEGIN" in words and "END" not in words[-2:]  # a label may follow END
    return None


def _origin(reader: _Reader, fields: _Fields, kind: str) -> None:
    """What a new table or view is made from: LIKE table, TO table, AS table, AS SELECT … FROM table."""
    if reader.accept("LIKE") or reader.accept("(", "LIKE"):
        fields["needs"] = (reader.name(),)
        return
    if kind == "DICTIONARY" or (kind == "VIEW" and reader.at("(") and reader.dialect == "clickhouse"):
        return  # ClickHouse does not look at the source of a view that names its columns
    while (word := reader.skip_to("TO", "AS", "SELECT")) == "TO":
        if kind == "MATERIALIZED VIEW" and not (reader.at("VOLUME") or reader.at("DISK")):
            fields["table"] = table = reader.name()
            fields["needs"] = (table,)
    if word == "AS" and kind == "TABLE" and not any(reader.at(word) for word in ("(", "SELECT", "WITH")):
        source = reader.name()
        fields["needs"] = () if reader.at("(") else (source,)  # with a bracket: a table function
    else:
        fields["needs"] = (*fields.get("needs", ()), *_sources(reader))


def _sources(reader: _Reader, *, beside_with: bool = False) -> list[Name]:
    """The tables behind FROM and JOIN. Beside a WITH only full names count: a bare one may be that of a subquery."""
    found: dict[Name, None] = {}
    queries, before = [True], ""
    for token in reader:
        word = _word(token)
        beside_with = beside_with or word == "WITH"
        if word == "(":
            queries.append(reader.at("SELECT") or reader.at("WITH"))  # else a function: EXTRACT(YEAR FROM x)
        elif word == ")":
            queries.pop()
        elif queries and queries[-1] and word in ("FROM", "JOIN") and before not in ("DISTINCT", "ARRAY"):
            name = reader.name() if reader.peek().kind in ("word", "quoted") else Name(None, "dual")
            if not reader.at("(") and name != (None, "dual"):
                found[name] = None
        before = word
    return [name for name in found if name.database or not beside_with]


def _drop(reader: _Reader, fields: _Fields) -> None:
    kind = _object(reader, fields)
    if kind == "INDEX":
        return _index(reader, fields)
    reader.accept("IF", "EMPTY")
    names = _names(reader)
    fields["name"] = names[0]
    if kind in _RELATIONS:
        fields |= {"drops": names, "needs": () if fields["guarded"] else names}
    return None


def _rename(reader: _Reader, fields: _Fields) -> None:
    fields["object_type"] = _OBJECTS.get(_word(reader.peek()), "TABLE")
    reader.accept_any("TABLE", "TABLES", "DICTIONARY", "DATABASE", "SCHEMA", "USER", "VIEW")
    fields["guarded"] = reader.guard()
    pairs = []
    while not pairs or reader.accept(","):
        old = reader.name()
        reader.skip_to("TO")
        pairs.append((old, reader.name()))
    _renamed(fields, pairs)


def _renamed(fields: _Fields, pairs: list[tuple[Name, Name]]) -> None:
    fields |= {"name": pairs[0][0], "renames": tuple(pairs)}
    if fields["object_type"] not in _RELATIONS:
        return
    made: dict[Name, None] = {}
    gone: dict[Name, None] = {}
    for old, new in pairs:
        if old not in made:
            gone[old] = None
        made.pop(old, None)
        made[new] = None
    fields |= {"creates": tuple(made), "drops": tuple(name for name in gone if name not in made),
               "needs": () if fields["guarded"] else tuple(gone)}  # fmt: skip


def _exchange(reader: _Reader, fields: _Fields) -> None:
    _object(reader, fields)
    fields["name"] = one = reader.name()
    reader.skip_to("AND")
    fields |= {"renames": ((one, other := reader.name()),), "needs": (one, other)}


def _insert(reader: _Reader, fields: _Fields) -> None:
    while reader.accept_any("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "OVERWRITE", "INTO"):
        pass
    reader.accept("TABLE")
    if reader.at("FUNCTION"):
        raise _Unclear
    fields |= {"object_type": "TABLE", "name": (name := reader.name()), "needs": (name,)}
    word = reader.skip_to("VALUES", "VALUE", "SET", "FORMAT", "SELECT", "WITH")
    if word in ("SELECT", "WITH"):
        fields["needs"] = (name, *_sources(reader, beside_with=word == "WITH"))


def _replace(reader: _Reader, fields: _Fields) -> None:
    if not (reader.at("TABLE") or reader.at("DICTIONARY")):
        return _insert(reader, fields)
    fields["replaces"] = True
    return _create(reader, fields)


def _update(reader: _Reader, fields: _Fields) -> None:
    while reader.accept_any("LOW_PRIORITY", "IGNORE"):
        pass
    fields |= {"object_type": "TABLE", "name": (name := reader.name()), "needs": (name,)}


def _delete(reader: _Reader, fields: _Fields) -> None:
    reader.skip_to("FROM")
    name = reader.name()
    if reader.at("USING") or reader.at(",") or reader.at("."):
        raise _Unclear  # may be an alias
    fields |= {"object_type": "TABLE", "name": name, "needs": (name,)}


def _truncate(reader: _Reader, fields: _Fields) -> None:
    if reader.accept_any("DATABASE", "ALL", "TABLES"):
        raise _Unclear
    reader.accept_any("TEMPORARY", "TABLE")
    fields["guarded"] = guarded = reader.guard()
    fields |= {"object_type": "TABLE", "name": (name := reader.name()), "needs": () if guarded else (name,)}


def _optimize(reader: _Reader, fields: _Fields) -> None:
    reader.skip_to("TABLE")
    names = _names(reader)
    fields |= {"object_type": "TABLE", "name": names[0], "needs": names}


def _call(reader: _Reader, fields: _Fields) -> None:
    fields |= {"object_type": "PROCEDURE", "name": reader.name()}


def _use(reader: _Reader, fields: _Fields) -> None:
    fields |= {"object_type": "DATABASE", "name": reader.name()}


def _alter(reader: _Reader, fields: _Fields) -> None:
    kind = _object(reader, fields)
    fields["name"] = name = reader.name()
    if kind in _RELATIONS:
        fields["needs"] = () if fields["guarded"] else (name,)
    if kind != "TABLE":
        return
    if reader.accept("ON", "CLUSTER"):
        reader.part()
    fields["clauses"] = clauses = tuple(_clauses(reader))
    moved = [clause for clause in clauses if clause.action == "RENAME TABLE" and clause.to]
    if moved:
        new = _Reader(moved[-1].text, reader.dialect)
        new.take()
        new.accept_any("TO", "AS", "=")
        _renamed(fields, [(name, new.name())])


def _clauses(reader: _Reader) -> Iterator[Clause]:
    """A comma ends a clause only before a word that begins another: MODIFY SETTING a = 1, b = 2, ADD COLUMN c Int8."""
    piece: list[Token] = []
    depth = 0
    for token in reader:
        depth += _nesting(token)
        ahead = int(reader.at("("))  # ClickHouse writes (ADD COLUMN …), (DROP COLUMN …)
        ends = token.text == "," and depth == 0 and _word(reader.peek(ahead)) in _ACTIONS
        if ends and reader.peek(ahead + 1).text not in ("=", ","):
            yield _clause(piece, reader)
            piece = []
        else:
            piece.append(token)
    if piece:
        yield _clause(piece, reader)


def _clause(piece: list[Token], whole: _Reader) -> Clause:
    if len(piece) > 2 and piece[0].text == "(":
        piece = piece[1:-1]
    text = whole.text[piece[0].offset : piece[-1].offset + len(piece[-1].text)] if piece else ""
    reader, name, to, guarded = _Reader(text, whole.dialect), None, None, False
    action = _word(reader.take())
    try:
        part, guarded, name = _part(reader, action)
        action = f"{action} {part}".strip()
        if action in ("RENAME TABLE", "RENAME COLUMN", "RENAME INDEX", "CHANGE COLUMN"):
            reader.accept_any("TO", "AS", "=")
            to = reader.name().name
    except _Unclear:
        pass
    return Clause(action, name, to, guarded, text)


def _part(reader: _Reader, action: str) -> tuple[str, bool, str | None]:
    """What a clause is about, whether that is guarded, and its name."""
    bare = reader.dialect == "mysql" and action in ("ADD", "DROP", "MODIFY", "CHANGE", "ALTER")  # COLUMN is optional
    if action in ("UPDATE", "DELETE"):
        return "", False, None
    if action == "RENAME" and not any(reader.at(word) for word in ("COLUMN", "INDEX", "KEY")):
        return "TABLE", False, None
    if action == "ADD" and reader.accept("CONSTRAINT"):
        guarded = reader.guard()
        nameless = any(reader.at(word) for word in ("PRIMARY", "UNIQUE", "FOREIGN", "CHECK"))
        name = None if nameless else reader.part()
        return _what(reader) or "CONSTRAINT", guarded, name
    if bare and action in ("MODIFY", "CHANGE"):
        reader.accept("COLUMN")
        part = "COLUMN"
    else:
        part = _what(reader) or "COLUMN" * bare
    guarded = reader.guard()
    if part == "COLUMN":
        reader.accept("(")
    elif part not in _NAMED or reader.at("(") or reader.at("USING"):
        return part, guarded, None
    return part, guarded, reader.part()


def _what(reader: _Reader) -> str:
    word = _word(reader.peek())
    if word in _INDEX_WORDS:
        reader.take()
        if word not in ("INDEX", "KEY"):
            reader.accept_any("INDEX", "KEY")
        return "INDEX"
    if pair := next((pair for pair in _PAIRS if reader.accept(*pair.split())), ""):
        return pair
    return word if reader.accept_any(*_PARTS[reader.dialect]) else ""


_VERBS: dict[str, Callable[[_Reader, _Fields], None]] = {
    "CREATE": _create, "ATTACH": _create, "DROP": _drop, "DETACH": _drop, "RENAME": _rename, "EXCHANGE": _exchange,
    "INSERT": _insert, "REPLACE": _replace, "UPDATE": _update, "DELETE": _delete, "TRUNCATE": _truncate,
    "OPTIMIZE": _optimize, "CALL": _call, "USE": _use, "ALTER": _alter}  # fmt: skip
