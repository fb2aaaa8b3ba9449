"""What came to ClickHouse's tables, told by their parts and rows, where the catalog shows nothing and no query log may be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from migrator.catalogs.clickhouse import quote
from migrator.errors import StatementRefused
from migrator.journal import digest
from migrator.kinds import Kind, Name, classify
from migrator.statements import IGNORED, tokens

Query = Callable[[str], list[tuple[Any, ...]]]
Execute = Callable[[str], None]
COUNTED = ("Memory", "Log", "TinyLog", "StripeLog")  # engines without parts, which keep rows in their order
AGAIN, COMPARED_ROWS = "migrate_made_again", 1_000_000


def of(name: Name, column: str = "table") -> str:
    database = quote(name.database) if name.database else "currentDatabase()"
    return f"database = {database} AND {column} = {quote(name.name)}"


def identifier(*parts: str | None) -> str:
    return ".".join("`" + part.replace("\\", "\\\\").replace("`", "\\`") + "`" for part in parts if part)


def engine_of(query: Query, name: Name) -> str:
    """A table's engine; nothing where there is no such table."""
    found = query(f"SELECT engine FROM system.tables WHERE {of(name, 'name')}")
    return str(found[0][0]) if found else ""


def _count(query: Query, name: Name) -> int:
    """The rows of a table; system.tables does not know those of a Log when its server has just been started."""
    return int(query(f"SELECT count() FROM {identifier(*name)}")[0][0])


def held(query: Query, name: Name) -> str | None:
    """The partitions that hold rows, each with its highest block number, or the count of rows; None where neither shows."""
    engine = engine_of(query, name)
    if engine.endswith("MergeTree"):
        parts = query(f"SELECT partition_id, max(max_block_number) FROM system.parts WHERE {of(name)} AND active"
                      " GROUP BY 1 HAVING sum(rows) > 0 ORDER BY 1")
        return ",".join(f"{partition}:{block}" for partition, block in parts)
    return str(_count(query, name) or "") if engine in COUNTED else None


def reached(query: Query, name: Name) -> str:
    """The marks of a table, and of what each view behind it writes to; empty where the table's own does not show."""
    table, views = _fed(query, name)
    mark = _mark(query, table)
    return ",".join([mark, *(f"{_mark(query, view.target)}:{view.uuid}" for view in views)]) if mark else ""


def _mark(query: Query, table: Name) -> str:
    """What only INSERTs raise: a MergeTree's highest block number, for a merge takes rows and parts away; elsewhere the rows."""
    engine = engine_of(query, table)
    if engine.startswith(("Replicated", "Shared")):  # which count in each partition
        return digest(held(query, table) or "")
    if engine.endswith("MergeTree"):
        return str(query(f"SELECT max(max_block_number) FROM system.parts WHERE {of(table)} AND active")[0][0])
    return str(_count(query, table)) if engine in COUNTED else ""


def _parts_after(table: Name, mark: str) -> str:
    return f"FROM system.parts WHERE {of(table)} AND active AND max_block_number > {mark}"


class _View(NamedTuple):
    """A materialized view: what it is fed from, where it writes to."""

    source: Name
    name: Name
    target: Name
    uuid: str
    select: str


def _fed(query: Query, table: Name) -> tuple[Name, list[_View]]:
    """The table with its database, and each materialized view that gets the rows of an INSERT into it, behind others too."""
    whole = Name(table.database or query("SELECT currentDatabase()")[0][0], table.name)
    sources, views = [whole], []
    for source in sources:  # which grow meanwhile
        behind = query("SELECT d.1, d.2 FROM (SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) AS d"
                       f" FROM system.tables WHERE {of(source, 'name')}) ORDER BY ALL")
        for view in (_view(query, source, Name(*names)) for names in behind):
            views.append(view)
            if view.target not in sources:
                sources.append(view.target)
    return whole, views


def _view(query: Query, source: Name, name: Name) -> _View:
    """A view that this user may not see writes nowhere that he could look."""
    found = query(f"SELECT toString(uuid), create_table_query, as_select FROM system.tables WHERE {of(name, 'name')}")
    uuid, definition, select = found[0] if found else ("", "", "")
    target = classify(definition, "clickhouse").table or Name(name.database, f".inner_id.{uuid}")
    return _View(source, name, Name(target.database or name.database, target.name), uuid, select)


def came(query: Query, execute: Execute, sql: str, kind: Kind, marks: str) -> bool:
    """Whether just the rows of an INSERT came to its table since it had `reached` this, and to what is behind it just theirs.

    A server that is killed takes the end of its query log along, and keeps the parts.
    """
    assert kind.name
    table, views = _fed(query, kind.name)
    first, *others = (mark.split(":") for mark in marks.split(","))
    if [view.uuid for view in views] != [uuid for _, uuid in others]:
        return False
    begin, end = _name_in(sql)
    before = {table: first[0]}
    made = {table: [f"{sql[:begin]}{AGAIN}{sql[end:]}"]}
    for view, (mark, _) in zip(views, others, strict=True):
        only = f"_part IN (SELECT name {_parts_after(view.source, before[view.source])})"
        columns = query(f"SELECT name FROM system.columns WHERE {of(view.name)} ORDER BY position")
        made.setdefault(view.target, []).append(
            f"INSERT INTO {AGAIN} ({', '.join(identifier(*column) for column in columns)}) SELECT * FROM ({view.select})"
            f" SETTINGS additional_table_filters = {{{quote(f'{view.source.database}.{view.source.name}')}: {quote(only)}}}")
        before[view.target] = mark
    return all(_holds(query, execute, name, before[name], inserts) for name, inserts in made.items())


def filled(query: Query, execute: Execute, sql: str, kind: Kind) -> bool:
    """Whether a table or view that was made AS SELECT holds just these rows: on older servers it is there before them."""
    assert kind.name
    table = kind.name if kind.object_type == "TABLE" else _view(query, kind.name, kind.name).target
    select = _select_in(sql) or f"SELECT * FROM {identifier(*kind.needs[0])}"  # CLONE AS
    return _holds(query, execute, table, "0", [f"INSERT INTO {AGAIN} {select}"])


def _came_since(query: Query, table: Name, mark: str) -> tuple[int, str]:
    """How many rows came to a table, and what to select them from; none where that does not show."""
    name = identifier(*table)
    if not mark.isdigit():
        return 0, ""
    if engine_of(query, table) in COUNTED:
        total = _count(query, table)
        return total - int(mark), f"(SELECT * FROM {name} LIMIT {total} OFFSET {mark} SETTINGS max_threads = 1)"
    parts = _parts_after(table, mark)
    ((merged, rows),) = query(f"SELECT countIf(min_block_number <= {mark}), sum(rows) {parts}")
    return 0 if merged else rows, f"{name} WHERE _part IN (SELECT name {parts})"


def _holds(query: Query, execute: Execute, table: Name, mark: str, inserts: list[str]) -> bool:
    """Whether just the rows of these came to the table; they are made again in a temporary table to see.

    Where none came that may be right, but not be seen.
    """
    rows, came = _came_since(query, table, mark)
    if not 0 < rows <= COMPARED_ROWS:
        return False
    all_of = "SELECT (count(), sum(sipHash64(toString(tuple(*))))) FROM"
    try:
        # If it is to hold more than this, it drops its oldest blocks, of a million rows at most, and still holds too many.
        execute(f"CREATE TEMPORARY TABLE {AGAIN} AS {identifier(*table)} ENGINE = Memory"
                f" SETTINGS max_rows_to_keep = {rows + 3 * COMPARED_ROWS}")
        for insert in inserts:
            execute(insert)
        return bool(query(f"SELECT ({all_of} {came}) = ({all_of} {AGAIN})")[0][0])
    except StatementRefused:  # what the statement reads is not there any more, or no memory
        return False
    finally:
        with contextlib.suppress(StatementRefused):
            execute(f"DROP TEMPORARY TABLE IF EXISTS {AGAIN}")


def _name_in(insert: str) -> tuple[int, int]:
    """Where in an INSERT the table's name stands."""
    words = [token for token in tokens(insert, "clickhouse") if token.kind not in IGNORED]
    first = next(number for number, token in enumerate(words) if token.text.upper() not in ("INSERT", "INTO", "TABLE"))
    last = words[first + 2 * (words[first + 1].text == ".")]
    return words[first].offset, last.offset + len(last.text)


def _select_in(create: str) -> str:
    """What a CREATE … AS SELECT selects."""
    words, depth = [token for token in tokens(create, "clickhouse") if token.kind not in IGNORED], 0
    for word, following in pairwise(words):
        depth += (word.text == "(") - (word.text == ")")
        if depth == 0 and word.text.upper() == "AS" and following.text.upper() in ("SELECT", "WITH", "("):
            return create[following.offset:]
    return ""
