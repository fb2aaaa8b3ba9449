"""What ClickHouse says of the objects that a statement would change."""

from __future__ import annotations

import re

from migrator.catalogs.clickhouse import quote
from migrator.databases.clickhouse_rows import Execute, Query, came, engine_of, filled, held, identifier, of, reached
from migrator.errors import StatementRefused
from migrator.journal import Answer, Entry, digest, mentions
from migrator.kinds import Clause, Kind, Name

DDL = ("CREATE", "ALTER", "DROP", "RENAME", "EXCHANGE", "ATTACH", "DETACH", "REPLACE")
RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "DICTIONARY", "INDEX")
MUTATION = re.compile(r"(UPDATE|DELETE|MATERIALIZE|CLEAR|APPLY)\b")
PARTITION = re.compile(r"\w+ (PARTITION|PART|DETACHED)\b")
REWRITES = ("MODIFY COLUMN", "RENAME COLUMN", "DROP COLUMN")
TAKES = ("DROP PARTITION", "DETACH PARTITION")
NUMBER = "toUInt64OrZero(extract(mutation_id, '[0-9]+'))"
SELECTS = Answer("-", lasting=True)
ABSENT = digest()


def answer(query: Query, kind: Kind) -> Answer:
    """One answer for each object or part of the statement, in hex digests; empty where nothing shows what it does.

    What a mutation does shows in system.mutations: `m` and the highest number there. What an INSERT does shows in the
    parts, where others leave their rows too: `p` and the marks of `reached`; so does TRUNCATE and what is done to partitions:
    `r` and what is `held`.
    """
    if kind.verb == "SELECT":
        return SELECTS
    if not kind.name:
        return Answer()
    if kind.verb == "DELETE":
        return _mutations(query, kind.name)
    if kind.verb == "INSERT":
        return Answer("p" + marks if (marks := reached(query, kind.name)) else "")
    if kind.verb == "TRUNCATE" or any(PARTITION.match(clause.action) for clause in kind.clauses):
        return Answer("r" + parts if (parts := held(query, kind.name)) is not None else "")
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


def _definition(query: Query, name: Name, parts: list[str], *, seldom: bool = False) -> str:
    """A digest of what there is by this name; if it is `seldom` there, that is asked first, in half the time."""
    if seldom and query(f"EXISTS TABLE {identifier(*name)}") == [(0,)]:
        return ABSENT
    rows = query("SELECT toString(uuid), formatQuery(create_table_query) FROM system.tables WHERE " + of(name, "name"))
    return digest(*(digest(uuid, mentions(text, parts)) for uuid, text in rows))


def _entity(query: Query, kind: Kind) -> str:
    assert kind.name
    what = ("toString(uuid), engine, comment FROM system.databases" if kind.object_type == "DATABASE" else
            "create_query FROM system.functions")
    return digest(*map(repr, query(f"SELECT {what} WHERE name = {quote(kind.name.name)}")))


def _mutations(query: Query, name: Name) -> Answer:
    if not engine_of(query, name).endswith("MergeTree"):
        return Answer()
    return Answer(f"m{query(f'SELECT max({NUMBER}) FROM system.mutations WHERE {of(name)}')[0][0]}", lasting=True)


def took_effect(query: Query, execute: Execute, sql: str, kind: Kind, intent: Entry, now: str) -> bool | None:
    """Whether what was answered before has changed as the statement changes it; None where that does not show."""
    pairs = zip(intent.answer.split(), now.split(), strict=False)
    found = {_changed(query, sql, kind, before, after) for before, after in pairs}
    if len(found) == 1 and None not in found and (found == {False} or not kind.fills or kind.replaces):
        return found == {True} and (_is_rewritten(query, kind) or None)
    if _is_logged(query, intent) or (intent.answer.startswith("p") and came(query, execute, sql, kind, intent.answer[1:])):
        return True
    return (kind.fills and filled(query, execute, sql, kind)) or None


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
                         f" FROM system.mutations WHERE {of(name)} AND {NUMBER} > {before}")[0]
    return True if ours else None if others else False


def _is_rewritten(query: Query, kind: Kind) -> bool:
    """Whether each part has the columns that an ALTER changes as the table has them: a killed mutation leaves them as they were.

    What changes a definition alone (an Enum gets one value more) shows in no part, but then every row can be read.
    """
    assert kind.name
    names = [quote(name) for clause in kind.clauses if clause.action in REWRITES for name in (clause.name, clause.to) if name]
    if not names:
        return True
    try:
        left = query(f"SELECT DISTINCT column FROM system.parts_columns WHERE {of(kind.name)} AND active AND column IN"
                     f" ({', '.join(names)}) AND (column, type) NOT IN (SELECT name, type FROM system.columns WHERE {of(kind.name)})")
        if left:
            columns = ", ".join(identifier(column) for (column,) in left)
            query(f"SELECT count() FROM {identifier(*kind.name)} WHERE NOT ignore({columns})")
    except StatementRefused:
        return False
    return True


def _is_logged(query: Query, intent: Entry) -> bool:
    """Whether the server's query log says that the statement came to its end. That it says nothing proves nothing."""
    prefix = quote("-".join(["migrate", intent.run, *intent.label.split(), ""]))
    try:
        return bool(query("SELECT 1 FROM system.query_log WHERE type = 'QueryFinish' AND event_date >= today() - 30 AND"
                          f" startsWith(query_id, {prefix}) LIMIT 1"))
    except StatementRefused:  # there is no log, or this user may not read it
        return False
