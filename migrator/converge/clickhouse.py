"""Convergence of ClickHouse: what the live catalog lacks or has otherwise becomes the least ALTER that keeps every row.

Nothing is remembered but the catalog: each statement leaves a state from which the next run finds what is still to do.
An engine or a key cannot be altered: such a table is rebuilt (clickhouse_rebuild.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from migrator.catalogs import DIFFERENT, EXTRA, MISSING, Object, differences, split_top
from migrator.catalogs import clickhouse as catalogs
from migrator.catalogs.clickhouse import Query, quote
from migrator.converge import Change
from migrator.converge.clickhouse_definitions import read_definitions, sql_name
from migrator.errors import MigrateError, StepFailed, VerificationFailed, WouldLoseData

ROUNDS = 3  # the second adds what an ALTER TABLE in the definitions adds to a table that they create themselves
KEYS = ("engine", "partition key", "sorting key", "primary key")
FIXED = re.compile(r"\bindex_granularity\w* = ")  # settings that the server refuses to alter
SHOWN = 5  # rows in an error


def changes(query: Query, definitions: str) -> list[Change]:
    """What `converge` would do now, in order; reads only. Raises what `converge` would raise before its first write."""
    return list(Comparison(query, definitions).changes())


def converge(session: Any, definitions: str) -> None:
    """Bring every object to its definition, keeping every row; nothing is sent where nothing differs.

    Raises WouldLoseData or WrongServer before the first statement. Stopped anywhere, even by kill -9, it goes on from
    there when it is called again.
    """
    for _ in range(ROUNDS):
        comparison = Comparison(session.query, definitions)
        pending = list(comparison.changes())
        if not pending:
            return
        for change in pending:
            session.execute(change.sql)
            if view := re.match(r"ALTER TABLE (\S+) MODIFY QUERY (.+)", change.sql, re.DOTALL):
                comparison.recreate_unless_right(session, *view.groups())
    raise VerificationFailed("after convergence there is still a difference: "
                             + "; ".join(change.reason for change in pending))


class Comparison:
    """The definitions beside the live catalog, at one moment."""

    def __init__(self, query: Query, definitions: str):
        self.query, self.wanted = query, read_definitions(query, definitions)
        databases = {item.table.partition(".")[0] for item in self.wanted.catalog} | self.wanted.databases.keys()
        names = ", ".join(map(quote, databases)) or "''"
        self.engines = dict(query(f"SELECT name, engine FROM system.databases WHERE name IN ({names})"))
        live = catalogs.read_catalog(query, databases)
        self.live = catalogs.same_queries(query, self.wanted.catalog, live)
        self.found: dict[str, list[tuple[str, Object, str]]] = {}
        for kind, item, expected, actual in differences(self.wanted.catalog, self.live, {}):
            if kind != EXTRA:
                reason = f"{item} is missing" if kind == MISSING else f"{item}: {expected} expected, {actual} found"
                self.found.setdefault(item.table, []).append((kind, item, reason))

    def changes(self) -> Iterator[Change]:
        for database, sql in self.wanted.databases.items():
            if database not in self.engines:
                yield Change(sql, f"database {database} is missing")
        tables = dict.fromkeys(item.table for item in self.wanted.catalog if item.kind != "view")
        for table in tables:
            yield from self._table(table)
        for item in self.wanted.catalog:
            if item.kind == "view":
                yield from self._view(item)

    def _table(self, table: str) -> Iterator[Change]:
        found, item = self.found.get(table, []), Object("table", table)
        if item in self.wanted.catalog and item not in self.live:
            yield from self._make_way(item, found[0][2])
            yield Change(self.wanted.texts[item], found[0][2])
            return
        yield from self._columns(table, found)
        yield from self._indexes(table, found)
        if item in self.live:  # else a dry run, in which an earlier step has not created it yet
            yield from self._options(item)

    def _make_way(self, item: Object, reason: str) -> Iterator[Change]:
        """Take away what has the name of a missing relation, if no row goes with it."""
        other = Object("view" if item.kind == "table" else "table", item.table)
        if other not in self.live:
            return
        if other.kind == "table":
            raise WouldLoseData(f"{reason}, and its rows would be lost: RENAME TABLE {sql_name(item.table)} to another"
                                " name, or drop it, by hand")
        self._refuse_own_rows(other)
        yield Change(f"DROP VIEW {sql_name(item.table)}", reason)

    def _refuse_own_rows(self, view: Object) -> None:
        if self.live[view]["kind"] == "materialized" and not self.live[view]["target"]:
            raise WouldLoseData(f"{view} keeps rows of its own, which would be lost with it: save or drop it by hand")

    # Columns: one ALTER for all, hence one mutation.

    def _columns(self, table: str, found: Iterable[tuple[str, Object, str]]) -> Iterator[Change]:
        actions, reasons, rewritten, previous = [], [], [], ""
        kinds = {item: kind for kind, item, _ in found}
        for item in self.wanted.parts("column", table):
            text = self.wanted.texts[item]
            if kinds.get(item) == MISSING:
                place = f" AFTER `{previous}`" if previous else " FIRST"
                whole = Object("table", table) in self.wanted.catalog and not re.search(r" AFTER \S+$| FIRST$", text)
                actions.append(f"ADD COLUMN {text}{place if whole else ''}")
            elif kinds.get(item) == DIFFERENT:
                actions += [*self._removals(item), f"MODIFY COLUMN {text}"]
                rewritten += [item] * (self.live[item]["type"] != self.wanted.catalog[item]["type"])
            reasons += [reason for _, other, reason in found if other == item]
            previous = item.name
        if actions:
            rows, size = self._weigh(rewritten)
            yield Change(f"ALTER TABLE {sql_name(table)} {', '.join(actions)}", "; ".join(reasons), rows, size)

    def _removals(self, item: Object) -> Iterator[str]:
        """What MODIFY COLUMN keeps when it is not told otherwise."""
        live, wanted, name = self.live[item], self.wanted.catalog[item], f"`{item.name}`"
        if live["default"] and not wanted["default"]:
            yield f"MODIFY COLUMN {name} REMOVE {live['default'].split()[0]}"
        if live["codec"] and not wanted["codec"]:
            yield f"MODIFY COLUMN {name} REMOVE CODEC"

    def _weigh(self, columns: list[Object]) -> tuple[int, int]:
        """Rows and bytes of columns that are to be rewritten. Raises WouldLoseData for values that do not fit."""
        for item in columns:
            refuse_misfits(self.query, item.table, item.name, self.live[item]["type"], self.wanted.catalog[item]["type"])
        if not columns:
            return 0, 0
        database, _, table = columns[0].table.partition(".")
        names = ", ".join(quote(item.name) for item in columns)
        return self.query(
            f"SELECT (SELECT ifNull(total_rows, 0) FROM system.tables WHERE database = {quote(database)} AND"
            f" name = {quote(table)}), sum(data_compressed_bytes) FROM system.columns"
            f" WHERE database = {quote(database)} AND table = {quote(table)} AND name IN ({names})")[0]

    # Indexes and projections: a new one is made for the old rows too, then what it replaces goes.

    def _indexes(self, table: str, found: Iterable[tuple[str, Object, str]]) -> Iterator[Change]:
        for kind, item, reason in found:
            if item.kind not in ("index", "projection"):
                continue
            word, name = item.kind.upper(), f"`{item.name}`"
            drop = f"DROP {word} {name}, " if kind == DIFFERENT else ""
            yield Change(f"ALTER TABLE {sql_name(table)} {drop}ADD {self.wanted.texts[item]}, MATERIALIZE {word} {name}",
                         reason)
        for item in self.superseded(table):
            yield Change(f"ALTER TABLE {sql_name(table)} DROP INDEX `{item.name}`", f"{item} is superseded")

    def superseded(self, table: str) -> list[Object]:
        """Live indexes that a definition drops, or has under another name."""
        defined = [self.wanted.catalog[item] for item in self.wanted.parts("index", table)]
        return [item for item in self.live if item.kind == "index" and item.table == table
                and item not in self.wanted.catalog and (item in self.wanted.obsolete or self.live[item] in defined)]

    # TTL and settings.

    def _options(self, item: Object) -> Iterator[Change]:
        wanted, live, name = self.wanted.catalog.get(item), self.live[item], sql_name(item.table)
        if not wanted:
            return
        if wanted["TTL"] != live["TTL"]:
            ttl = catalogs.read_clauses(self.wanted.texts[item]).get("TTL", "")
            sql = f"ALTER TABLE {name} MODIFY TTL {ttl}" if ttl else f"ALTER TABLE {name} REMOVE TTL"
            refuse_expiry(self.query, item.table, ttl, live["TTL"], sql)
            yield Change(sql + " SETTINGS materialize_ttl_after_modify = 0" * bool(ttl),
                         f"{item}: TTL {ttl or 'none'} expected, {live['TTL'] or 'none'} found")
        before, after = (dict(s.split(" = ", 1) for s in split_top(side["settings"], "clickhouse") if s)
                         for side in (live, wanted))
        reason = f"{item}: settings {wanted['settings'] or 'none'} expected, {live['settings'] or 'none'} found"
        if set := [f"{key} = {value}" for key, value in after.items() if before.get(key) != value]:
            yield Change(f"ALTER TABLE {name} MODIFY SETTING {', '.join(set)}", reason)
        if gone := [key for key in before if key not in after]:
            yield Change(f"ALTER TABLE {name} RESET SETTING {', '.join(gone)}", reason)

    # Views.

    def _view(self, item: Object) -> Iterator[Change]:
        wanted, live, name = self.wanted.catalog[item], self.live.get(item), sql_name(item.table)
        reasons = "; ".join(reason for _, _, reason in self.found.get(item.table, []))
        if live is None:
            yield from self._make_way(item, reasons)
            yield Change(self.wanted.texts[item], reasons)
        elif live == wanted:
            return
        elif {**live, "query": ""} != {**wanted, "query": ""}:
            self._refuse_own_rows(item)
            yield Change(f"DROP VIEW {name}", reasons)
            yield Change(self.wanted.texts[item], reasons)
        elif wanted["kind"] == "materialized":
            yield Change(f"ALTER TABLE {name} MODIFY QUERY {wanted['query']}", reasons)
        else:
            yield Change(self.wanted.texts[item].replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1), reasons)

    def recreate_unless_right(self, session: Any, name: str, select: str) -> None:
        """MODIFY QUERY is documented to leave a view's columns as they were; 26.9 renews them. Look, and make sure."""
        wanted = [row[0] for row in session.query(f"DESCRIBE ({select})")]
        if [row[0] for row in session.query(f"DESCRIBE {name}")] != wanted:
            item = next(item for item in self.wanted.texts if item.kind == "view" and sql_name(item.table) == name)
            session.execute(f"DROP VIEW {name}")
            session.execute(self.wanted.texts[item])


def refuse_misfits(query: Query, table: str, column: str, old: str, new: str) -> None:
    """Raise WouldLoseData if a value would not survive the new type; MODIFY COLUMN wraps it without an error."""
    old, new = (re.sub(r"LowCardinality\(([^()]+)\)", r"\1", type_) for type_ in (old, new))
    if old == new or (new == "String" and "Nullable" not in old) or new == "Nullable(String)":
        return
    name, rows = f"`{column}`", sql_name(table)
    nullable = re.fullmatch(r"Nullable\((.+)\)", new)
    if re.match(r"Array|Map|Tuple|Nested", new):
        try:
            query(f"SELECT count() FROM {rows} WHERE NOT ignore(accurateCast({name}, {quote(new)}))")
        except MigrateError as error:
            raise WouldLoseData(f"{table}.{column}: {old} does not fit into {new}: {error}") from None
        return
    misfit = f"accurateCastOrNull({name}, {quote(nullable[1] if nullable else new)}) IS NULL" + (
        f" AND {name} IS NOT NULL" if nullable else "")
    count = query(f"SELECT count() FROM {rows} WHERE {misfit}")[0][0]
    if count:
        database, _, short = table.partition(".")
        key = query("SELECT sorting_key FROM system.tables"
                    f" WHERE database = {quote(database)} AND name = {quote(short)}")[0][0] or "tuple()"
        shown = query(f"SELECT DISTINCT toString(({key}, {name})) FROM {rows} WHERE {misfit} LIMIT {SHOWN}")
        raise WouldLoseData(f"{count} rows of {table} hold a {column} that does not fit into {new}, among them"
                            f" ({key}, {column}) = {', '.join(row[0] for row in shown)}: correct them by hand first")


def refuse_expiry(query: Query, table: str, new: str, old: str, sql: str) -> None:
    """Raise WouldLoseData if the new TTL would delete rows that the old one keeps; `sql` is what to run by hand."""
    if not new:
        return
    doomed = f"({_expired(new)})" + (f" AND NOT ({_expired(old)})" if old else "")
    count = query(f"SELECT count() FROM {sql_name(table)} WHERE {doomed}")[0][0]
    if count:
        raise WouldLoseData(f"TTL {new} would delete {count} rows of {table} that its present TTL ({old or 'none'})"
                            f" keeps; if that is wanted, run by hand: {sql}")


def _expired(ttl: str) -> str:
    """The condition under which a TTL deletes a row."""
    conditions = []
    for element in split_top(ttl, "clickhouse"):
        if re.search(r" (TO (DISK|VOLUME)|RECOMPRESS) ?", element):
            continue
        expression, _, condition = re.sub(r" GROUP BY .*", "", element, flags=re.DOTALL).partition(" WHERE ")
        expression = expression.removesuffix(" DELETE")
        conditions.append(f"{expression} <= now()" + (f" AND ({condition})" if condition else ""))
    return " OR ".join(f"({condition})" for condition in conditions) or "0"
