"""Definitions of MySQL objects as steps write them, read into the same values as the live catalog.

Strictly: what is not understood is an error that names it, since half a definition could not be verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from migrator.catalogs import Attributes, Object, mysql as catalogs, split_top
from migrator.catalogs.mysql import ForeignKey, quote, unquote
from migrator.errors import StepFileError
from migrator.statements import IGNORED, StatementError, split, tokens

ALIASES = {"integer": "int", "numeric": "decimal", "dec": "decimal", "real": "double", "bool": "tinyint(1)",
           "boolean": "tinyint(1)"}
WIDTHS = {"decimal": "(10,0)", "char": "(1)", "bit": "(1)", "binary": "(1)"}
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}
TYPES = TEXTS | ALIASES.keys() | {
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit", "date", "time",
    "datetime", "timestamp", "year", "json", "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
ACTIONS = ("CASCADE", "RESTRICT", "SET NULL", "NO ACTION")
CHARACTERISTICS = ("LANGUAGE SQL", "NOT DETERMINISTIC", "DETERMINISTIC", "CONTAINS SQL", "NO SQL", "READS SQL DATA",
                   "MODIFIES SQL DATA")


@dataclass
class Definition:
    """One statement: what is to exist, and for each column, index and foreign key the words that an ALTER adds it with.

    `kind` is table (all of it is defined here), additions (to a table that the application owns), view or procedure.
    """

    kind: str
    name: str
    sql: str
    objects: dict[Object, Attributes] = field(default_factory=dict)
    clauses: dict[Object, str] = field(default_factory=dict)
    keys: list[ForeignKey] = field(default_factory=list)


class NotUnderstood(Exception):
    """A place in a definition that this parser does not know."""


def parse(definitions: str) -> list[Definition]:
    """The definitions in order. Raises StepFileError, naming statement and line, for what is not understood."""
    found = []
    try:
        for statement in split(definitions, "mysql"):
            try:
                found.append(_definition(statement.text))
            except NotUnderstood as error:
                start = " ".join(statement.text.split()[:3])
                raise StepFileError(f"definitions, line {statement.line}: {start} …: {error}") from None
    except StatementError as error:
        raise StepFileError(f"definitions, line {error.line}: {error}") from None
    return found


def name_of(name: str) -> str:
    """The name as SQL."""
    return f"`{name.replace('`', '``')}`"


class _Words:
    """A statement, read from the left; comments are passed over."""

    def __init__(self, text: str):
        self.text, self.at = text, 0
        self.tokens = [token for token in tokens(text, "mysql") if token.kind not in IGNORED]

    def next(self, phrase: str) -> bool:
        """Step over these words if they come next; backquoted they would be a name."""
        words = phrase.split()
        found = [token.text.upper() for token in self.tokens[self.at:self.at + len(words)]] == words
        self.at += len(words) * found
        return found

    def one_of(self, *phrases: str) -> str:
        """Step over one of these and return it."""
        return next(filter(self.next, phrases), "") or self.fail(" or ".join(phrases))

    def take(self, *kinds: str) -> str:
        if self.is_done or self.tokens[self.at].kind not in kinds:
            self.fail(f"a {' or '.join(kinds)}")
        self.at += 1
        return self.tokens[self.at - 1].text

    def name(self) -> str:
        text = self.take("word", "quoted")
        return unquote(text) if text.startswith("`") else text

    def group(self) -> str:
        """The text between the next parenthesis and its partner."""
        self.one_of("(")
        start, depth = self.tokens[self.at - 1].offset + 1, 1
        while depth:
            depth += {"(": 1, ")": -1}.get(self.take("word", "quoted", "string", "number", "punct"), 0)
        return self.text[start:self.tokens[self.at - 1].offset]

    def items(self) -> list[str]:
        """The pieces between commas inside of the next parentheses."""
        return split_top(self.group(), "mysql")

    def since(self, at: int) -> str:
        """What was read since that token, as it was written."""
        return self.text[self.tokens[at].offset:None if self.is_done else self.tokens[self.at].offset].strip()

    def rest(self) -> str:
        at, self.at = self.at, len(self.tokens)
        return self.since(at) if at < self.at else self.fail("more")

    @property
    def is_done(self) -> bool:
        return self.at >= len(self.tokens)

    def sees(self, mark: str) -> bool:
        return not self.is_done and self.tokens[self.at].text == mark

    def fail(self, expected: str) -> str:
        found = "the end" if self.is_done else repr(self.text[self.tokens[self.at].offset:][:30])
        raise NotUnderstood(f"expected {expected}, found {found}")


def _definition(text: str) -> Definition:
    words = _Words(text)
    if words.next("ALTER TABLE"):
        made = Definition("additions", words.name(), text)
        for part in split_top(words.rest(), "mysql"):
            addition = _Words(part)
            addition.one_of("ADD COLUMN", "ADD")
            _part(addition, made, "")
        return made
    words.one_of("CREATE")
    security = words.one_of("INVOKER", "DEFINER") if words.next("SQL SECURITY") else "DEFINER"
    kind = words.one_of("TABLE", "VIEW", "PROCEDURE").lower()
    made = Definition(kind, words.name(), text)
    {"table": _table, "procedure": _procedure}.get(kind, _view)(words, made, security)
    return made


def _view(words: _Words, made: Definition, security: str) -> None:
    words.one_of("AS")
    made.objects[Object("view", made.name)] = {"query": words.rest(), "security": security, "check": ""}


def _procedure(words: _Words, made: Definition, security: str) -> None:
    parameters = []
    for text in words.items():
        parameter = _Words(text)
        if not parameter.is_done:
            mode = next(filter(parameter.next, ("IN", "OUT", "INOUT")), "IN")
            parameters.append(f"{mode} {parameter.name()} {_type(parameter)}")
    while True:
        if words.next("SQL SECURITY"):
            security = words.one_of("INVOKER", "DEFINER")
        elif not any(map(words.next, CHARACTERISTICS)):
            break
    made.objects[Object("procedure", made.name)] = {
        key: text for key, text in catalogs.routine(", ".join(parameters), words.rest(), security, "").items() if text}


def _table(words: _Words, made: Definition, _: str) -> None:
    parts, options = words.items(), {"comment": ""}
    while not words.is_done:
        words.next("DEFAULT")
        option = words.one_of("ENGINE", "CHARSET", "CHARACTER SET", "COLLATE", "COMMENT")
        words.next("=")
        options[option.lower()] = unquote(words.take("string")) if option == "COMMENT" else words.name()
    collation = options.get("collate", "")
    stated = catalogs.table(options.get("engine", ""), collation, options["comment"])
    made.objects[Object("table", made.name)] = {key: text for key, text in stated.items() if text or key == "comment"}
    for part in parts:
        _part(_Words(part), made, collation)
    primary = made.objects.get(Object("index", made.name, "PRIMARY"), {"columns": ""})["columns"]
    for item in [Object("column", made.name, column) for column in primary.split(", ")]:
        if item in made.objects:  # which it need not say of itself
            made.objects[item] = {**made.objects[item], "null": "no"}


def _part(words: _Words, made: Definition, collation: str) -> None:
    """One column, index or foreign key of a table."""
    constraint = words.name() if words.next("CONSTRAINT") else ""
    if words.next("FOREIGN KEY"):
        _foreign_key(words, made, constraint)
    elif words.next("PRIMARY KEY"):
        _index(words, made, "PRIMARY", "PRIMARY KEY")
    elif words.next("UNIQUE KEY") or words.next("UNIQUE INDEX") or words.next("UNIQUE"):
        _index(words, made, constraint if words.sees("(") else words.name(), "UNIQUE KEY")
    elif words.next("KEY") or words.next("INDEX"):
        _index(words, made, "" if words.sees("(") else words.name(), "KEY")
    else:
        _column(words, made, collation)
    if not words.is_done:
        words.fail("nothing more")


def _index(words: _Words, made: Definition, name: str, kind: str) -> None:
    shown, columns = [], []
    for text in words.items():
        part = _Words(text)
        columns.append(part.name())
        prefix = f"({part.group()})" if part.sees("(") else ""
        order = " DESC" if part.next("DESC") else "" if part.is_done else part.one_of("ASC")[3:]
        shown.append((columns[-1], f"{prefix}{order}"))
    item = Object("index", made.name, name or columns[0])
    made.objects[item] = catalogs.index(kind != "KEY", ", ".join(map("".join, shown)))
    named = "" if kind == "PRIMARY KEY" else f" {name_of(item.name)}"
    made.clauses[item] = f"{kind}{named} ({', '.join(name_of(column) + rest for column, rest in shown)})"


def _foreign_key(words: _Words, made: Definition, name: str) -> None:
    columns = tuple(_Words(text).name() for text in words.items())
    words.one_of("REFERENCES")
    parent, parents = words.name(), tuple(_Words(text).name() for text in words.items())
    rules = dict.fromkeys(("ON DELETE", "ON UPDATE"), "NO ACTION")
    while not words.is_done:
        event = words.one_of(*rules)
        rules[event] = words.one_of(*ACTIONS)
    key = ForeignKey(made.name, name or words.fail("CONSTRAINT and a name before it"), columns, parent, parents,
                     *rules.values())
    made.keys.append(key)
    made.objects[key.item] = key.rules
    names = [", ".join(map(name_of, some)) for some in (columns, parents)]
    made.clauses[key.item] = (f"CONSTRAINT {name_of(name)} FOREIGN KEY ({names[0]}) REFERENCES {name_of(parent)}"
                              f" ({names[1]}) {' '.join(map(' '.join, rules.items()))}")


def _column(words: _Words, made: Definition, collation: str) -> None:
    name, type_ = words.name(), _type(words)
    null, default, comment, extra = "", "", "", ""
    while not words.is_done:
        found = words.one_of("NOT NULL", "NULL", "DEFAULT", "ON UPDATE", "AUTO_INCREMENT", "COLLATE", "COMMENT",
                             "PRIMARY KEY", "UNIQUE KEY", "UNIQUE")
        if found.endswith("NULL"):
            null = found
        elif found == "DEFAULT":
            default = _value(words)
        elif found == "ON UPDATE":
            extra = f"on update {catalogs.default_value(type_, _value(words))}"
        elif found == "AUTO_INCREMENT":
            extra, null = found, "NOT NULL"
        elif found == "COLLATE":
            collation = words.name()
        elif found == "COMMENT":
            comment = unquote(words.take("string"))
        else:
            primary = found == "PRIMARY KEY"
            _index(_Words(f"({name_of(name)})"), made, "PRIMARY" if primary else name, found.split()[0] + " KEY")
    is_text = type_.split("(")[0] in TEXTS
    attributes = dict(catalogs.column(type_, null != "NOT NULL", default or None, extra, collation, "", comment))
    if not is_text:
        attributes["collation"] = ""
    elif not collation:
        del attributes["collation"]  # the table's, whatever that is
    item = Object("column", made.name, name)
    made.objects[item] = attributes
    made.clauses[item] = " ".join(filter(None, (
        name_of(name), type_, f"COLLATE {collation}" * bool(is_text and collation), null or "NULL",
        f"DEFAULT {default}" * bool(default), extra.upper(), f"COMMENT {quote(comment)}" * bool(comment))))


def _type(words: _Words) -> str:
    """A type as the catalog spells it."""
    if words.is_done or (name := words.tokens[words.at].text.lower()) not in TYPES:
        return words.fail("a type")
    words.at += 1
    words.next("PRECISION")
    type_ = ALIASES.get(name, name)
    if words.sees("("):
        type_ += f"({','.join(quote(unquote(item)) if item.startswith(chr(39)) else item for item in words.items())})"
    else:
        type_ += WIDTHS.get(type_, "")
    signs = [f" {word.lower()}" for word in ("UNSIGNED", "ZEROFILL") if words.next(word)]
    return catalogs.plain_type("".join([type_, *signs]))


def _value(words: _Words) -> str:
    """What stands behind DEFAULT or ON UPDATE, as it was written."""
    start = words.at
    if not words.sees("("):
        words.next("-")
        words.take("word", "string", "number")
    if words.sees("("):
        words.group()
    return words.since(start)
