"""Convergence of MySQL and MariaDB: what differs between definitions and live catalog becomes DDL that both accept.

Each statement leaves a state in which the next run finds what is still to do: nothing is remembered but the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

from migrator.catalogs import DIFFERENT, EXTRA, MISSING, Attributes, Catalog, Object, differences, mysql as catalogs
from migrator.catalogs.mysql import ForeignKey, quote
from migrator.converge import Change
from migrator.converge.mysql_definitions import Definition, name_of, parse
from migrator.converge.mysql_refusals import refusals
from migrator.errors import StatementRefused, VerificationFailed, WouldLoseData

INSTANT, ONLINE, COPY = ", ALGORITHM=INSTANT", ", ALGORITHM=INPLACE, LOCK=NONE", ""
RUNGS = (INSTANT, ONLINE, COPY)
# Not in this way: 1845, 1846. 4092 is MySQL's limit of columns that were added instantly to one table.
NOT_THIS_WAY = re.compile(r"\((1845|1846|4092)\)$")
ROUNDS = 3  # one does it, unless a server changes more than it was told to


class Reader(Protocol):
    """What looking needs: a session, or the connected database itself."""

    dialect: str

    def query(self, sql: str) -> list[tuple[Any, ...]]: ...
    def catalog(self, tables: Sequence[str]) -> Catalog: ...
    def same_queries(self, expected: Mapping[Object, Attributes], live: Catalog) -> Catalog: ...


def changes(database: Reader, definitions: str) -> list[Change]:
    """What `converge` would do now, in order; reads only. Raises WouldLoseData where it would refuse to begin."""
    return _pending(database, parse(definitions))


def converge(session: Any, definitions: str) -> None:
    """Bring every object to its definition, keeping every row; where nothing differs, nothing is sent.

    Raises WouldLoseData before the first statement, naming all that a person has to decide. Stopped anywhere, even by
    kill -9, it goes on from there when it is called again.
    """
    defined = parse(definitions)
    for _ in range(ROUNDS):
        pending = _pending(session, defined)
        if not pending:
            return
        for change in pending:
            _send(session, change.sql)
    raise VerificationFailed(f"convergence does not end: {'; '.join(change.reason for change in pending)}")


def _pending(database: Reader, definitions: list[Definition]) -> list[Change]:
    comparison = Comparison(database, definitions)
    if reasons := list(refusals(comparison)):
        raise WouldLoseData("; ".join(reasons))
    return comparison.changes()


def _send(session: Any, sql: str) -> None:
    """An ALTER as much online as this server can: instantly, else in place, else by the copy that was announced."""
    first = next(suffix for suffix in RUNGS if sql.endswith(suffix))
    for suffix in RUNGS[RUNGS.index(first):]:
        try:
            session.execute(sql.removesuffix(first) + suffix)
            return
        except StatementRefused as error:
            if suffix == COPY or not NOT_THIS_WAY.search(str(error)):
                raise


class Comparison:
    """Definitions against the live catalog, and the statements that close each difference."""

    def __init__(self, database: Reader, definitions: list[Definition]):
        self.query, self.dialect, self.definitions = database.query, database.dialect, definitions
        self.keys = list(catalogs.foreign_keys(self.query))
        live = database.catalog([])
        self.wanted = {item: {**self._given(item, live), **stated} for definition in definitions
                       for item, stated in definition.objects.items()}
        self.live = database.same_queries(self.wanted, live)
        found = list(differences(self.wanted, self.live, {}))
        self.missing = {item for kind, item, _, _ in found if kind == MISSING}
        self.extra = [item for kind, item, _, _ in found if kind == EXTRA]
        self.reasons = {item: f"{item} is missing" for item in self.missing}
        for _, item, expected, actual in (difference for difference in found if difference[0] == DIFFERENT):
            before = f"{self.reasons[item]}; " if item in self.reasons else ""
            self.reasons[item] = f"{before}{item} has {actual} and should have {expected}"

    def _given(self, item: Object, live: Catalog) -> Attributes:
        """What is so where a definition does not state it: what is there, what a new column or procedure would get."""
        if item.kind == "procedure":
            return {"sql mode": ",".join(sorted(self.query("SELECT @@sql_mode")[0][0].split(",")))}
        owner = live.get(Object("table", item.table), {}) if item.kind == "column" else {}
        return live.get(item, {"collation": owner["collation"]} if owner else {})

    def differs(self, item: Object, *attributes: str) -> bool:
        """Whether something that is there differs in one of these attributes."""
        there, wanted = self.live.get(item, {}), self.wanted.get(item, {})
        return bool(there and wanted) and any(there.get(name, "") != wanted.get(name, "") for name in attributes)

    def of(self, definition: Definition, kind: str) -> list[Object]:
        """The objects of this kind that the definition wants and that are not there, or not so."""
        return [item for item in definition.objects if item.kind == kind and item in self.reasons]

    def exists(self, definition: Definition) -> bool:
        return definition.kind != "table" or Object("table", definition.name) not in self.missing

    def in_the_way(self, key: ForeignKey) -> bool:
        """Whether a live foreign key has to go before its columns can change, or because its own rules do."""
        columns = [Object("column", key.table, name) for name in key.columns]
        columns += [Object("column", key.parent, name) for name in key.parent_columns]
        return self.differs(key.item, "on delete", "on update") or any(
            self.differs(column, "type", "collation", "extra") for column in columns)

    def new_keys(self, definition: Definition) -> list[ForeignKey]:
        """The definition's foreign keys that an ALTER has to add, those that are dropped for a while included."""
        dropped = {key.item for key in self.keys if self.in_the_way(key)}
        return [key for key in definition.keys if key.item in self.missing | dropped]

    def changes(self) -> list[Change]:
        """In an order in which each statement finds what it needs."""
        found: list[Change] = []
        for table, group in groupby(filter(self.in_the_way, self.keys), key=lambda key: key.table):
            keys = list(group)
            found.append(self._alter(table, [f"DROP FOREIGN KEY {name_of(key.name)}" for key in keys], ONLINE, [
                self.reasons.get(key.item, f"{key.item} is in the way of a change, and comes back") for key in keys]))
        tables = [definition for definition in self.definitions if definition.kind in ("table", "additions")]
        for definition in tables:
            if self.exists(definition):
                found += [*self._columns(definition), *self._indexes(definition)]
            else:
                found.append(Change(definition.sql, self.reasons[Object("table", definition.name)]))
        for definition in tables:
            if keys := self.new_keys(definition):
                found.append(self._alter(
                    definition.name, [f"ADD {definition.clauses[key.item]}" for key in keys], COPY,
                    [self.reasons.get(key.item, f"{key.item} comes back") for key in keys]))
        return [*found, *self._programs()]

    def _columns(self, definition: Definition) -> Iterator[Change]:
        """At most two statements, so that a table is copied once: what may have to copy it, and what never has to."""
        table, columns = Object("table", definition.name), self.of(definition, "column")
        heavy = [item for item in columns if self.differs(item, "type", "null", "collation", "extra", "generated")]
        light = [item for item in columns if item not in heavy]
        wanted = self.wanted.get(table, {})
        checks = [item for item in self.extra if item.kind == "check" and item.table == table.table
                  and self._is_of_json(self.live[item]["clause"], definition)]
        clauses = [f"MODIFY COLUMN {definition.clauses[item]}" for item in heavy]
        clauses += [f"DROP CONSTRAINT {name_of(item.name)}" for item in checks]
        moves = self.differs(table, "engine")
        is_old = table.table in self._old_formats and bool(columns or self.of(definition, "index") or self.new_keys(definition))
        if moves:
            clauses.append(f"ENGINE={wanted['engine']}")
        if is_old or (moves and wanted["engine"] == "innodb"):
            clauses.append("ROW_FORMAT=DYNAMIC")
        if self.differs(table, "collation"):
            clauses.append(f"DEFAULT CHARACTER SET {wanted['collation'].split('_')[0]} COLLATE {wanted['collation']}")
        if self.differs(table, "comment"):
            clauses.append(f"COMMENT={quote(wanted['comment'])}")
        if clauses:
            reasons = [self.reasons[item] for item in (table, *heavy) if item in self.reasons]
            reasons += [f"{item} repeats what the type says" for item in checks]
            reasons += [f"the rows of {table} have an old format, to which some indexes are too long"] * is_old
            yield self._alter(table.table, clauses, ONLINE, reasons, bool(heavy) or is_old or moves)
        if light:
            yield self._alter(table.table, [
                f"{'ADD' if item in self.missing else 'MODIFY'} COLUMN {definition.clauses[item]}" for item in light],
                INSTANT, [self.reasons[item] for item in light])

    def _is_of_json(self, clause: str, definition: Definition) -> bool:
        """The check that stands for a JSON type on MariaDB, and stays in a dump from there."""
        return any(clause == f"json_valid({item.name})" and self.wanted[item]["type"] == "json"
                   for item in definition.objects if item.kind == "column")

    def _indexes(self, definition: Definition) -> Iterator[Change]:
        """One statement: an index under another name is renamed, not built again; what it makes needless is dropped."""
        spare = [item for item in self.extra if item.kind == "index" and item.table == definition.name]
        clauses, reasons = [], []
        for item in self.of(definition, "index"):
            twin = next((other for other in spare if self.live[other] == self.wanted[item]), None)
            if twin and item in self.missing:
                spare.remove(twin)
                clauses.append(f"RENAME INDEX {name_of(twin.name)} TO {name_of(item.name)}")
                reasons.append(f"{item} is called {twin.name}")
                continue
            reasons.append(self.reasons[item])
            if self.differs(item, "visible") and not self.differs(item, "unique", "columns", "type"):
                # To MySQL, DROP and ADD of the same index is nothing to do.
                clauses.append(f"ALTER INDEX {name_of(item.name)} {'NOT IGNORED' if self.dialect == 'mariadb' else 'VISIBLE'}")
                continue
            clauses += [f"DROP INDEX {name_of(item.name)}"] * (item not in self.missing)
            clauses.append(f"ADD {definition.clauses[item]}")
        for item in filter(self._is_needless, spare):
            clauses.append(f"DROP INDEX {name_of(item.name)}")
            reasons.append(f"{item} repeats another")
        if clauses:
            yield self._alter(definition.name, clauses, ONLINE, reasons)

    def _is_needless(self, extra: Object) -> bool:
        """The same as a defined index; or made by the server for a foreign key, and a defined one begins with it."""
        found = self.live[extra]
        automatic = {key.name for key in self.keys} | {found["columns"].split(", ")[0]}
        return any(item.kind == "index" and item.table == extra.table and (
            wanted == found or (extra.name in automatic and found["unique"] == "no"
                                and f"{wanted['columns']}, ".startswith(f"{found['columns']}, ")))
            for item, wanted in self.wanted.items())

    def _programs(self) -> Iterator[Change]:
        for definition in self.definitions:
            item = Object(definition.kind, definition.name)
            if item not in self.reasons or item.kind == "table":
                continue
            if item.kind == "view":
                yield Change(f"CREATE OR REPLACE{definition.sql[len('CREATE'):]}", self.reasons[item])
                continue
            if item not in self.missing:
                yield Change(f"DROP PROCEDURE IF EXISTS {name_of(item.table)}", self.reasons[item])
            yield Change(definition.sql, self.reasons[item])

    def _alter(self, table: str, clauses: Iterable[str], rung: str, reasons: Iterable[str], copies: bool = False
               ) -> Change:
        size = self._sizes.get(table, (0, 0)) if copies or rung == COPY else (0, 0)
        return Change(f"ALTER TABLE {name_of(table)} {', '.join(clauses)}{rung}", "; ".join(reasons), *size)

    @cached_property
    def _old_formats(self) -> set[str]:
        """The tables that take no index of more than 767 bytes."""
        return {table for (table,) in self.query("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
                                                 " AND engine = 'InnoDB' AND row_format IN ('Compact', 'Redundant')")}

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        if self.dialect == "mysql":
            self.query("SET SESSION information_schema_stats_expiry = 0")  # else they may be a day old
        return {table: (int(rows or 0), int(size or 0)) for table, rows, size in self.query(
            "SELECT table_name, table_rows, data_length + index_length FROM information_schema.tables"
            " WHERE table_schema = DATABASE()")}
