"""What ClickHouse says of the objects that a statement would change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from migrator.catalogs.clickhouse import quote
from migrator.errors import StatementRefused
from migrator.journal import Answer, Entry, digest, mentions
from migrator.kinds import Clause, Kind, Name, classify
from migrator.statements import IGNORED, tokens

Query = Callable[[str], list[tuple[Any, ...]]]
Execute = Callable[[str], None]
DDL = ("CREATE", "ALTER", "DROP", "RENAME", "EXCHANGE", "ATTACH", "DETACH", "REPLACE")
RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "DICTIONARY", "INDEX")
MUTATION = re.compile(r"(UPDATE|DELETE|MATERIALIZE|CLEAR|APPLY)\b")
PARTITION = re.compile(r"\w+ (PARTITION|PART|DETACHED)\b")
COUNTED = ("Memory", "Log", "TinyLog", "StripeLog")  # engines that know their rows, and have no parts
TAKES = ("DROP PARTITION", "DETACH PARTITION")
NUMBER = "toUInt64OrZero(extract(mutation_id, '[0-9]+'))"
SELECTS = Answer("-", lasting=True)
AGAIN, COMPARED_ROWS = "migrate_made_again", 1_000_000


def answer(query: Query, sql: str, kind: Kind) -> Answer:
    """One answer for each object or part of the statement, in hex digests; empty where nothing shows what it does.

    What a mutation does shows in system.mutations: `m` and the highest number there. What an INSERT does shows in the
    parts, where others leave their rows too: `p` and what it raises there, followed by that of what each view writes to; of
    TRUNCATE and of what is done to partitions, `r` and the highest block number in each, or the rows.
    """
    if kind.verb == "SELECT":
        return SELECTS
    if not kind.name:
        return Answer()
    if kind.verb == "DELETE":
        return _mutations(query, kind.name)
    if kind.verb == "INSERT":
        return _reached(query, kind.name)
    if kind.verb == "TRUNCATE" or any(PARTITION.match(clause.action) for clause in kind.clauses):
        return _rows(query, kind.name)
    if kind.verb not in DDL:
        return Answer()
    if kind.object_type in ("DATABASE", "FUNCTION"):
        return Answer(_entity(query, kind), lasting=True)
    if kind.object_type not in RELATIONS:
        return Answer()
    if kind.object_type == "INDEX":
        return Answer(_definition(query, kind.table, [kind.name.name]), lasting=True) if kind.table else Answer()
    if not kind.clauses:
        exchanged = [name for pair in kind.renames for name in pair]
        names = [*kind.drops, *kind.creates] or exchanged or [kind.name]
        seldom = kind.verb == "CREATE" and not kind.replaces
        return Answer(" ".join(_definition(query, name, [], seldom=seldom) for name in names), lasting=True)
    return _altered(query, kind.name, kind.clauses)


def _altered(query: Query, name: Name, clauses: tuple[Clause, ...]) -> Answer:
    """The clauses that change the definition do so together; those that change rows are one mutation, apart."""
    defining = [clause for clause in clauses if not MUTATION.match(clause.action)]
    named = [part for clause in defining for part in (clause.name, clause.to) if part]
    if not all(clause.name for clause in defining):
        named = []
    mutations = _mutations(query, name) if len(defining) < len(clauses) else Answer("", lasting=True)
    if not mutations.lasting:
        return Answer()
    return Answer(" ".join([*([_definition(query, name, named)] if defining else []), mutations.text]).strip(),
                  lasting=True)


def _of(name: Name, column: str = "table") -> str:
    database = quote(name.database) if name.database else "currentDatabase()"
    return f"database = {database} AND {column} = {quote(name.name)}"


def _identifier(*parts: str | None) -> str:
    return ".".join("`" + part.replace("\\", "\\\\").replace("`", "\\`") + "`" for part in parts if part)


def _definition(query: Query, name: Name, parts: list[str], *, seldom: bool = False) -> str:
    """A digest of what there is by this name; if it is `seldom` there, that is asked first, in half the time."""
    if seldom and query(f"EXISTS TABLE {_identifier(*name)}") == [(0,)]:
        return digest()
    rows = query("SELECT toString(uuid), formatQuery(create_table_query) FROM system.tables WHERE " + _of(name, "name"))
    return digest(*(digest(uuid, mentions(text, parts)) for uuid, text in rows))


def _entity(query: Query, kind: Kind) -> str:
    assert kind.name
    what = ("toString(uuid), engine, comment FROM system.databases" if kind.object_type == "DATABASE" else
            "create_query FROM system.functions")
    return digest(*map(repr, query(f"SELECT {what} WHERE name = {quote(kind.name.name)}")))


def _engine(query: Query, name: Name) -> tuple[str, int]:
    """A table's engine, and its rows if the engine counts them; nothing where there is no such table."""
    found = query(f"SELECT engine, ifNull(total_rows, 0) FROM system.tables WHERE {_of(name, 'name')}")
    return found[0] if found else ("", 0)


def _mutations(query: Query, name: Name) -> Answer:
    if not _engine(query, name)[0].endswith("MergeTree"):
        return Answer()
    return Answer(f"m{query(f'SELECT max({NUMBER}) FROM system.mutations WHERE {_of(name)}')[0][0]}", lasting=True)


def _rows(query: Query, name: Name) -> Answer:
    engine, rows = _engine(query, name)
    if engine.endswith("MergeTree"):
        parts = query(f"SELECT partition_id, max(max_block_number) FROM system.parts WHERE {_of(name)} AND active"
                      " GROUP BY 1 HAVING sum(rows) > 0 ORDER BY 1")
        return Answer("r" + ",".join(f"{partition}:{block}" for partition, block in parts))
    return Answer(f"r{rows or ''}") if engine in COUNTED else Answer()


def _reached(query: Query, name: Name) -> Answer:
    table, views = _fed(query, name)
    mark = _mark(query, table)
    return Answer("p" + ",".join([mark, *(f"{_mark(query, view.target)}:{view.uuid}" for view in views)]) if mark else "")


def _mark(query: Query, table: Name) -> str:
    """What only INSERTs raise: a MergeTree's highest block number, for a merge takes rows and parts away; elsewhere the rows."""
    engine, rows = _engine(query, table)
    if engine.startswith(("Replicated", "Shared")):  # which count in each partition
        return digest(_rows(query, table).text)
    if engine.endswith("MergeTree"):
        return str(query(f"SELECT max(max_block_number) FROM system.parts WHERE {_of(table)} AND active")[0][0])
    return str(rows) if engine in COUNTED else ""


def _parts_after(table: Name, mark: str) -> str:
    return f"FROM system.parts WHERE {_of(table)} AND active AND max_block_number > {mark}"


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
                       f" FROM system.tables WHERE {_of(source, 'name')}) ORDER BY ALL")
        for view in (_view(query, source, Name(*names)) for names in behind):
            views.append(view)
            if view.target not in sources:
                sources.append(view.target)
    return whole, views


def _view(query: Query, source: Name, name: Name) -> _View:
    """A view that this user may not see writes nowhere that he could look."""
    found = query(f"SELECT toString(uuid), create_table_query, as_select FROM system.tables WHERE {_of(name, 'name')}")
    uuid, definition, select = found[0] if found else ("", "", "")
    target = classify(definition, "clickhouse").table or Name(name.database, f".inner_id.{uuid}")
    return _View(source, name, Name(target.database or name.database, target.name), uuid, select)


def took_effect(query: Query, execute: Execute, sql: str, kind: Kind, intent: Entry, now: str) -> bool | None:
    """Whether what was answered before has changed as the statement changes it; None where that does not show."""
    pairs = zip(intent.answer.split(), now.split(), strict=False)
    found = {_changed(query, sql, kind, before, after) for before, after in pairs}
    if len(found) == 1 and None not in found and (found == {False} or not kind.fills or kind.replaces):
        return found.pop()
    if _is_logged(query, intent):
        return True
    if intent.answer.startswith("p"):
        return _came(query, execute, sql, kind, intent.answer) or None
    if kind.fills and kind.name:  # on older servers a table is there before its rows
        table = kind.name if kind.object_type == "TABLE" else _view(query, kind.name, kind.name).target
        return _holds(query, execute, table, "0", [f"INSERT INTO {AGAIN} {_select_in(sql)}"]) or None
    return None


def _changed(query: Query, sql: str, kind: Kind, before: str, now: str) -> bool | None:
    if before.startswith("p"):  # its own table gets the rows first, what is behind it later
        return False if before.partition(",")[0] == now.partition(",")[0] else None
    if before.startswith("r"):  # what takes rows away is sent again as long as none came since
        fewer = set(filter(None, now[1:].split(","))) <= set(before[1:].split(","))
        return False if before == now or (fewer and all(clause.action in TAKES for clause in kind.clauses)) else None
    if before.startswith("m") and kind.name:
        return _mutated(query, sql, kind.name, int(before[1:]))
    return before != now


def _mutated(query: Query, sql: str, name: Name, before: int) -> bool | None:
    """Whether a mutation with the statement's text came later; None if only others did, for a server may rewrite it."""
    plain = r"replaceRegexpAll({}, '[\\s()`]', '')".format
    command = plain("replaceOne(command, 'UPDATE _row_exists = 0', '')")
    ours, others = query(f"SELECT countIf(position({plain(f'formatQuerySingleLine({quote(sql)})')}, {command}) > 0), count()"
                         f" FROM system.mutations WHERE {_of(name)} AND {NUMBER} > {before}")[0]
    return True if ours else None if others else False


def _came(query: Query, execute: Execute, sql: str, kind: Kind, answered: str) -> bool:
    """Whether the parts that came later hold just the rows of an INSERT, and those behind its table's views just theirs.

    A server that is killed takes the end of its query log along, and keeps the parts.
    """
    assert kind.name
    table, views = _fed(query, kind.name)
    first, *others = (mark.split(":") for mark in answered[1:].split(","))
    if [view.uuid for view in views] != [uuid for _, uuid in others]:
        return False
    begin, end = _name_in(sql)
    before = {table: first[0]}
    made = {table: [f"{sql[:begin]}{AGAIN}{sql[end:]}"]}
    for view, (mark, _) in zip(views, others, strict=True):
        only = f"_part IN (SELECT name {_parts_after(view.source, before[view.source])})"
        columns = query(f"SELECT name FROM system.columns WHERE {_of(view.name)} ORDER BY position")
        made.setdefault(view.target, []).append(
            f"INSERT INTO {AGAIN} ({', '.join(_identifier(*column) for column in columns)}) SELECT * FROM ({view.select})"
            f" SETTINGS additional_table_filters = {{{quote(f'{view.source.database}.{view.source.name}')}: {quote(only)}}}")
        before[view.target] = mark
    return all(_holds(query, execute, name, before[name], inserts) for name, inserts in made.items())


def _came_since(query: Query, table: Name, mark: str) -> tuple[int, str]:
    """How many rows came to a table, and what to select them from; none where that does not show."""
    (engine, total), name = _engine(query, table), _identifier(*table)
    if not mark.isdigit():
        return 0, ""
    if engine in COUNTED:
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
        execute(f"CREATE TEMPORARY TABLE {AGAIN} AS {_identifier(*table)} ENGINE = Memory"
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


def _is_logged(query: Query, intent: Entry) -> bool:
    """Whether the server's query log says that the statement came to its end. That it says nothing proves nothing."""
    prefix = quote("-".join(["migrate", intent.run, *intent.label.split(), ""]))
    try:
        return bool(query("SELECT 1 FROM system.query_log WHERE type = 'QueryFinish' AND event_date >= today() - 30 AND"
                          f" startsWith(query_id, {prefix}) LIMIT 1"))
    except StatementRefused:  # there is no log, or this user may not read it
        return False
