"""The ClickHouse catalog: four queries on system tables, whatever the number of tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from migrator.catalogs import Attributes, Catalog, Object, split_top, strip_outer
from migrator.statements import tokens

Query = Callable[[str], list[tuple]]  # type: ignore[type-arg]

CLAUSES = re.compile(r"\b(PARTITION BY|PRIMARY KEY|ORDER BY|SAMPLE BY|TTL|SETTINGS|COMMENT)\b")
COLUMN_CLAUSES = {"DEFAULT", "MATERIALIZED", "ALIAS", "EPHEMERAL", "COMMENT", "CODEC", "STATISTICS", "TTL", "COLLATE",
                  "SETTINGS", "FIRST", "AFTER"}
HIDDEN = re.compile(r" TTL | CONSTRAINT ")  # in a table's elements: what no system table shows
AS_SELECT = re.compile(r" AS (?=SELECT |WITH )")
# An inner table of a view, or the leftover of a CREATE … AS SELECT during which the server was killed (observed).
INTERNAL = re.compile(r"\.inner|_tmp_replace_|\.tmp\.")


def read_catalog(query: Query, databases: Iterable[str]) -> Catalog:
    """Everything in the databases, and every materialized view of the server that writes into one of them.

    Keys are `database.table`. Texts are the server's own spelling; TTLs are compared by meaning, so `toDateTime(ts)`
    around a DateTime64 column, which only servers before 25.7 need, is left out.
    """
    names = ", ".join(map(quote, sorted(databases))) or "''"
    catalog: Catalog = {}
    ttls: dict[tuple[str, str], str] = {}
    for database, name, engine, engine_full, partition, sorting, primary, as_select, create in query(
            "SELECT database, name, engine, engine_full, partition_key, sorting_key, primary_key, as_select,"
            f" create_table_query FROM system.tables WHERE NOT is_temporary AND (database IN ({names})"
            " OR engine = 'MaterializedView') ORDER BY database, name"):
        if INTERNAL.match(name):
            continue
        table = f"{database}.{name}"
        if engine.endswith("View"):
            catalog[Object("view", table)] = view(engine, create, as_select)
        else:
            catalog[Object("table", table)] = _table(engine_full or engine, partition, sorting, primary)
            if HIDDEN.search(create.rpartition(") ENGINE = ")[0]):
                _read_hidden(table, create, catalog, ttls)
    for database, table, name, type_, kind, expression, codec in query(
            "SELECT database, table, name, type, default_kind, default_expression, compression_codec"
            f" FROM system.columns WHERE database IN ({names}) ORDER BY database, table, position"):
        if (owner := Object("table", f"{database}.{table}")) in catalog:
            ttl = ttls.get((owner.table, name), "")
            catalog[Object("column", owner.table, name)] = column(type_, f"{kind} {expression}".strip(), codec, ttl)
        elif (owner := Object("view", f"{database}.{table}")) in catalog:
            catalog[Object("output", owner.table, name)] = {"type": type_}
    for database, table, name, type_, expression, granularity in query(
            "SELECT database, table, name, type_full, expr, toString(granularity) FROM system.data_skipping_indices"
            f" WHERE database IN ({names}) ORDER BY database, table, name"):
        catalog[Object("index", f"{database}.{table}", name)] = index(type_, expression, granularity)
    for database, table, name, text in query(
            "SELECT database, table, name, query FROM system.projections"
            f" WHERE database IN ({names}) ORDER BY database, table, name"):
        catalog[Object("projection", f"{database}.{table}", name)] = {"query": text}
    return catalog


def _read_hidden(table: str, create: str, catalog: Catalog, ttls: dict[tuple[str, str], str]) -> None:
    """A table's constraints, which can refuse rows, and its columns' TTLs, which empty them."""
    for element in split_create(create)[0]:
        if constraint := re.fullmatch(r"CONSTRAINT (`[^`]+`|\w+) (.+)", element, re.DOTALL):
            catalog[Object("check", table, constraint[1].strip("`"))] = {"clause": constraint[2]}
        elif named := re.match(r"`([^`]+)` ", element):
            ttls[table, named[1]] = column_clauses(element).get("TTL", "")


def split_create(create: str) -> tuple[list[str], str]:
    """What stands between the first brackets of a CREATE TABLE, and what stands behind them. Raises ValueError."""
    depth = start = 0
    for token in tokens(create, "clickhouse"):
        depth += nesting(token.kind, token.text)
        if depth and not start:
            start = token.offset + 1
        elif start and not depth:
            return split_top(create[start:token.offset], "clickhouse"), create[token.offset + 1:].strip()
    raise ValueError("the columns are missing")


def column_clauses(text: str) -> dict[str, str]:
    """A column's declaration cut at the words that begin a clause: what is before the first under the empty key."""
    found, depth, start, last = {}, 0, 0, ""
    for token in tokens(text, "clickhouse"):
        depth += nesting(token.kind, token.text)
        if depth == 0 and token.kind == "word" and token.text in COLUMN_CLAUSES:
            found[last] = text[start:token.offset].strip()
            start, last = token.offset + len(token.text), token.text
    return {**found, last: text[start:].strip()}


def nesting(kind: str, text: str) -> int:
    return (text in "([{") - (text in ")]}") if kind == "punct" else 0


def _table(engine_full: str, partition: str, sorting: str, primary: str) -> Attributes:
    clauses = read_clauses(engine_full)
    return table(clauses[""], partition, sorting, primary, clauses.get("TTL", ""), clauses.get("SETTINGS", ""))


def read_clauses(text: str) -> dict[str, str]:
    """The clauses behind an engine's name, as the server writes them; the engine itself under the empty key."""
    parts = CLAUSES.split(text)
    return {"": parts[0].strip()} | {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)}


def table(engine: str, partition: str, sorting: str, primary: str, ttl: str, settings: str) -> Attributes:
    """A table's attributes: keys without the parentheses around them, settings without the default granularity."""
    kept = [s for s in settings.split(", ") if s and s != "index_granularity = 8192"]
    return {"engine": engine.removesuffix("()"), "partition key": strip_outer(partition),
            "sorting key": strip_outer(sorting), "primary key": strip_outer(primary),
            "TTL": re.sub(r"\btoDateTime\((\w+)\)", r"\1", ttl), "settings": ", ".join(kept)}


def column(type_: str, default: str, codec: str, ttl: str) -> Attributes:
    return {"type": type_, "default": default, "codec": codec, "TTL": ttl}


def index(type_: str, expression: str, granularity: str) -> Attributes:
    return {"type": type_, "expression": strip_outer(expression), "granularity": granularity}


def view(engine: str, create: str, as_select: str) -> Attributes:
    head = AS_SELECT.split(create, maxsplit=1)[0]
    target = re.search(r" TO (?:`([^`]+)`|(\w+))\.(?:`([^`]+)`|(\w+))", head)
    refresh = re.search(r" REFRESH (.+?)(?: TO | \(|$)", head)
    return {"kind": "materialized" if engine == "MaterializedView" else engine,
            "target": ".".join(filter(None, target.groups())) if target else "",
            "refresh": refresh[1] if refresh else "", "query": as_select}


def same_queries(query: Query, expected: Mapping[Object, Attributes], live: Catalog) -> Catalog:
    """`live` with the expected text in each view whose query means the same: the server itself formats both sides."""
    views = [item for item in expected if item.kind == "view" and item in live
             and live[item]["query"] != expected[item]["query"]]
    if not views:
        return live
    texts = [text for item in views for text in (expected[item]["query"], live[item]["query"])]
    formatted = query("SELECT " + ", ".join(f"formatQuerySingleLineOrNull({quote(text)})" for text in texts))[0]
    equal = {item: {**live[item], "query": expected[item]["query"]}
             for item, wanted, found in zip(views, formatted[::2], formatted[1::2], strict=True)
             if wanted is not None and wanted == found}
    return {**live, **equal}


def quote(text: str) -> str:
    """A string literal of ClickHouse."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
