"""Definitions of ClickHouse objects, read into the same form in which the live catalog is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.catalogs import Attributes, Catalog, Object, clickhouse as catalogs, split_top, strip_outer
from migrator.catalogs.clickhouse import Query, quote
from migrator.errors import MigrateError, StepFailed
from migrator.statements import Statement, StatementError, split

NAME = r"(?:`[^`]+`|\w+)"
HEAD = re.compile(rf"(CREATE|ALTER) (DATABASE|TABLE|VIEW|MATERIALIZED VIEW) ({NAME}(?:\.{NAME})?) ?(.*)", re.DOTALL)
INDEX = re.compile(rf"INDEX ({NAME}) (.+) TYPE (.+?)(?: GRANULARITY (\d+))?", re.DOTALL)
PROJECTION = re.compile(rf"PROJECTION ({NAME}) (\(.+\))", re.DOTALL)
NOT_SUPPORTED = {"STATISTICS", "COLLATE", "SETTINGS",  # which the catalog does not show, so they cannot be verified
                 "TTL"}  # which would empty the column in rows that are there


@dataclass(frozen=True)
class Definitions:
    """What must exist. `texts` holds each object's declaration: a whole CREATE, or what follows ADD COLUMN or ADD."""

    databases: dict[str, str] = field(default_factory=dict)
    catalog: Catalog = field(default_factory=dict)
    texts: dict[Object, str] = field(default_factory=dict)
    obsolete: dict[Object, str] = field(default_factory=dict)

    def parts(self, kind: str, table: str) -> list[Object]:
        """A table's columns, indexes or projections, in their order."""
        return [item for item in self.catalog if item.kind == kind and item.table == table]

    @property
    def tables(self) -> list[str]:
        """All tables that something is said of, in their order."""
        items = [*self.catalog, *self.obsolete]
        return list(dict.fromkeys(item.table for item in items if item.kind != "view"))

    def superseded(self, live: Catalog, table: str) -> list[Object]:
        """A table's live indexes that must be gone: dropped by a definition, or defined under another name."""
        defined = [self.catalog[item] for item in self.parts("index", table)]
        return [item for item in live if item.kind == "index" and item.table == table and item not in self.catalog
                and (item in self.obsolete or live[item] in defined)]


def read_definitions(query: Query, text: str) -> Definitions:
    """Read definitions; the server itself formats them first. Raises StepFailed, naming the statement.

    The grammar: CREATE DATABASE, CREATE TABLE, CREATE [MATERIALIZED] VIEW; ALTER TABLE … ADD COLUMN or ADD INDEX for
    what is added to another owner's table, and ALTER TABLE … DROP INDEX for an index that must be gone.
    """
    try:
        statements = split(text, "clickhouse")
    except StatementError as error:
        raise StepFailed(f"definitions, line {error.line}: {error}") from None
    definitions = Definitions()
    formatted = ", ".join(f"formatQuerySingleLineOrNull({quote(statement.text)})" for statement in statements)
    for statement, sql in zip(statements, query(f"SELECT {formatted}")[0] if statements else (), strict=True):
        try:
            _read(definitions, sql or _refused(query, statement))
        except (ValueError, MigrateError) as error:
            first = " ".join(statement.text.split())[:60]
            raise StepFailed(f"definition at line {statement.line} ({first}…) cannot be read: {error}") from None
    return definitions


def _refused(query: Query, statement: Statement) -> str:
    return str(query(f"SELECT formatQuerySingleLine({quote(statement.text)})")[0][0])  # raises, saying where and why


def _read(definitions: Definitions, sql: str) -> None:
    head = HEAD.fullmatch(sql)
    if not head:
        raise ValueError("only CREATE DATABASE, TABLE, VIEW, MATERIALIZED VIEW and ALTER TABLE … ADD are definitions")
    verb, kind, name, rest = head.groups()
    table = name.replace("`", "")
    if kind == "DATABASE":
        definitions.databases[table] = sql
    elif "." not in name:
        raise ValueError(f"{name} lacks its database name")
    elif verb == "ALTER":
        _additions(definitions, table, rest)
    elif kind == "TABLE":
        definitions.texts[Object("table", table)] = sql
        definitions.catalog[Object("table", table)] = _table(engine_clauses(sql))
        for element in catalogs.split_create(sql)[0]:
            _element(definitions, table, element)
    else:
        definitions.texts[Object("view", table)] = sql
        engine, query = kind.title().replace(" ", ""), catalogs.AS_SELECT.split(sql, maxsplit=1)[-1]
        definitions.catalog[Object("view", table)] = catalogs.view(engine, sql, query)


def _additions(definitions: Definitions, table: str, actions: str) -> None:
    for action in map(strip_outer, split_top(actions, "clickhouse")):
        if dropped := re.fullmatch(rf"DROP INDEX (?:IF EXISTS )?({NAME})", action):
            definitions.obsolete[Object("index", table, dropped[1].strip("`"))] = action
        elif action.startswith("ADD "):
            _element(definitions, table, action.removeprefix("ADD ").removeprefix("COLUMN "))
        else:
            raise ValueError(f"{action[:40]}: a definition may only ADD, or DROP INDEX")


def _element(definitions: Definitions, table: str, element: str) -> None:
    """One column, index or projection, as it is declared between the brackets of CREATE TABLE or after ADD."""
    if index := INDEX.fullmatch(element):
        item = Object("index", table, index[1].strip("`"))
        definitions.catalog[item] = catalogs.index(index[3], index[2], index[4] or "1")
    elif projection := PROJECTION.fullmatch(element):
        item = Object("projection", table, projection[1].strip("`"))
        definitions.catalog[item] = {"query": strip_outer(projection[2])}
    elif column := re.fullmatch(r"`([^`]+)` (.+)", element, re.DOTALL):
        item = Object("column", table, column[1])
        clauses = catalogs.column_clauses(column[2])
        if unknown := clauses.keys() & NOT_SUPPORTED:
            raise ValueError(f"column {column[1]}: {', '.join(unknown)} is not supported here")
        default = next((f"{word} {clauses[word]}" for word in ("DEFAULT", "MATERIALIZED", "ALIAS", "EPHEMERAL")
                        if word in clauses), "")
        codec = "CODEC" + clauses["CODEC"] if "CODEC" in clauses else ""
        definitions.catalog[item] = catalogs.column(clauses[""], default, codec, "")
    else:
        raise ValueError(f"{element[:40]}: only columns, indexes and projections are supported here")
    definitions.texts[item] = element


def engine_clauses(create: str) -> dict[str, str]:
    """What follows the columns in a formatted CREATE TABLE, by clause; the engine under the empty key."""
    return catalogs.read_clauses(catalogs.split_create(create)[1].removeprefix("ENGINE = "))


def _table(clauses: Mapping[str, str]) -> dict[str, str]:
    partition, order, primary = (_key(clauses.get(key, "")) for key in ("PARTITION BY", "ORDER BY", "PRIMARY KEY"))
    return dict(catalogs.table(clauses[""], partition, order, primary or order, clauses.get("TTL", ""),
                               clauses.get("SETTINGS", "")))


def _key(expression: str) -> str:
    return "" if expression == "tuple()" else expression


def sql_name(name: str) -> str:
    """A name, or a `database.table`, quoted where it has to be."""
    return ".".join(part if re.fullmatch(r"[A-Za-z_]\w*", part) else f"`{part}`" for part in name.split(".", 1))


def of_table(table: str, column: str = "table") -> str:
    """The condition by which a system table shows what belongs to a `database.table`."""
    database, _, name = table.replace("`", "").partition(".")
    return f"database = {quote(database)} AND {column} = {quote(name)}"


def column_text(name: str, column: Attributes) -> str:
    """The declaration of a live column."""
    ttl = f"TTL {column['TTL']}" if column["TTL"] else ""
    return " ".join(filter(None, [f"`{name}`", column["type"], column["default"], column["codec"], ttl]))


def index_text(name: str, index: Attributes) -> str:
    """The declaration of a live index."""
    several = len(split_top(index["expression"], "clickhouse")) > 1
    expression = f"({index['expression']})" if several else index["expression"]
    return f"INDEX `{name}` {expression} TYPE {index['type']} GRANULARITY {index['granularity']}"
