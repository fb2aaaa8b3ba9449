"""What ClickHouse says of the objects that a statement would change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from migrator.catalogs.clickhouse import quote
from migrator.errors import StatementRefused
from migrator.journal import Answer, Entry, digest, mentions
from migrator.kinds import Clause, Kind, Name
from migrator.statements import IGNORED, tokens

Query = Callable[[str], list[tuple[Any, ...]]]
DDL = ("CREATE", "ALTER", "DROP", "RENAME", "EXCHANGE", "ATTACH", "DETACH", "REPLACE")
RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "DICTIONARY", "INDEX")
MUTATION = re.compile(r"(UPDATE|DELETE|MATERIALIZE|CLEAR|APPLY)\b")
PARTITION = re.compile(r"\w+ (PARTITION|PART|DETACHED)\b")
COUNTED = ("Memory", "Log", "TinyLog", "StripeLog")  # engines that know their rows, and have no parts
NUMBER = "toUInt64OrZero(extract(mutation_id, '[0-9]+'))"
SELECTS = Answer("-", lasting=True)
AGAIN, COMPARED_ROWS = "migrate_made_again", 1_000_000


def answer(query: Query, sql: str, kind: Kind) -> Answer:
    """One answer for each object or part of the statement, in digests; empty where nothing shows what it does.

    What a mutation does shows in system.mutations: `m` and the highest number there. What an INSERT does shows in the
    parts, where others leave their rows too: `b` and the highest block number, or of other engines and statements `r` and a
    digest or a count, which prove that nothing came, but not what did.
    """
    if kind.verb == "SELECT":
        return SELECTS
    if not kind.name:
        return Answer()
    if kind.verb == "DELETE":
        return _mutations(query, kind.name)
    if kind.verb in ("INSERT", "TRUNCATE") or any(PARTITION.match(clause.action) for clause in kind.clauses):
        return _rows(query, kind.name, only_more=kind.verb == "INSERT")
    if kind.verb not in DDL or re.search(r"\bPOPULATE\b", sql, re.IGNORECASE):
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
        return Answer(" ".join(_definition(query, name, []) for name in names), lasting=True)
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


def _definition(query: Query, name: Name, parts: list[str]) -> str:
    rows = query("SELECT toString(uuid), formatQuery(create_table_query) FROM system.tables WHERE " + _of(name, "name"))
    return digest(*(digest(uuid, mentions(text, parts)) for uuid, text in rows))


def _entity(query: Query, kind: Kind) -> str:
    assert kind.name
    what = ("toString(uuid), engine, comment FROM system.databases" if kind.object_type == "DATABASE" else
            "create_query FROM system.functions")
    return digest(*map(repr, query(f"SELECT {what} WHERE name = {quote(kind.name.name)}")))


def _mutations(query: Query, name: Name) -> Answer:
    if not query(f"SELECT 1 FROM system.tables WHERE {_of(name, 'name')} AND engine LIKE '%MergeTree'"):
        return Answer()
    return Answer(f"m{query(f'SELECT max({NUMBER}) FROM system.mutations WHERE {_of(name)}')[0][0]}", lasting=True)


def _rows(query: Query, name: Name, *, only_more: bool) -> Answer:
    found = query(f"SELECT engine, total_rows FROM system.tables WHERE {_of(name, 'name')}")
    engine, rows = found[0] if found else ("", None)
    if engine.endswith("MergeTree") and only_more:  # a merge takes rows and parts away, but no block number
        return Answer(f"b{query(f'SELECT max(max_block_number) FROM system.parts WHERE {_of(name)} AND active')[0][0]}")
    if engine.endswith("MergeTree"):
        parts = query("SELECT partition_id, max(max_block_number), count(), sum(rows) FROM system.parts"
                      f" WHERE {_of(name)} AND active GROUP BY 1 ORDER BY 1")
        return Answer("r" + digest(*map(repr, parts)))
    return Answer(f"r{rows}") if engine in COUNTED else Answer()


def took_effect(query: Query, execute: Callable[[str], None], sql: str, kind: Kind, intent: Entry, now: str) -> bool | None:
    """Whether what was answered before has changed as the statement changes it; None where that does not show."""
    pairs = zip(intent.answer.split(), now.split(), strict=False)
    found = {_changed(query, sql, kind, before, after) for before, after in pairs}
    if len(found) == 1 and None not in found:
        return found.pop()
    if _is_logged(query, intent) or (intent.answer.startswith("b") and _came(query, execute, sql, kind, int(intent.answer[1:]))):
        return True
    return None


def _changed(query: Query, sql: str, kind: Kind, before: str, now: str) -> bool | None:
    if before.startswith(("b", "r")):
        return False if before == now else None
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


def _came(query: Query, execute: Callable[[str], None], sql: str, kind: Kind, before: int) -> bool:
    """Whether the parts that came later hold just the rows of an INSERT, which are made again in a temporary table to see.

    A server that is killed takes the end of its query log along, and keeps the parts. What came further, through
    materialized views, does not show there.
    """
    assert kind.name
    later = f"{_of(kind.name)} AND active AND max_block_number > {before}"
    ((merged, rows),) = query(f"SELECT countIf(min_block_number <= {before}), sum(rows) FROM system.parts WHERE {later}")
    views = query(f"SELECT 1 FROM system.tables WHERE {_of(kind.name, 'name')} AND notEmpty(dependencies_table)")
    if merged or views or rows > COMPARED_ROWS:
        return False
    begin, end = _name_in(sql)
    all_of = "SELECT (count(), sum(sipHash64(toString(tuple(*))))) FROM"
    try:
        # If it is to hold more than this, it drops its oldest blocks, of a million rows at most, and still holds too many.
        execute(f"CREATE TEMPORARY TABLE {AGAIN} AS {sql[begin:end]} ENGINE = Memory"
                f" SETTINGS max_rows_to_keep = {rows + 3 * COMPARED_ROWS}")
        execute(f"{sql[:begin]}{AGAIN}{sql[end:]}")
        return bool(query(f"SELECT ({all_of} {sql[begin:end]} WHERE _part IN (SELECT name FROM system.parts WHERE {later}))"
                          f" = ({all_of} {AGAIN})")[0][0])
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


def _is_logged(query: Query, intent: Entry) -> bool:
    """Whether the server's query log says that the statement came to its end. That it says nothing proves nothing."""
    prefix = quote("-".join(["migrate", intent.run, *intent.label.split(), ""]))
    try:
        return bool(query("SELECT 1 FROM system.query_log WHERE type = 'QueryFinish' AND event_date >= today() - 30 AND"
                          f" startsWith(query_id, {prefix}) LIMIT 1"))
    except StatementRefused:  # there is no log, or this user may not read it
        return False
