"""Convergence of ClickHouse: what the live catalog lacks or has otherwise becomes the least ALTER that keeps every row.

Nothing is remembered but the catalog: each statement leaves a state from which the next run finds what is still to do.
An engine or a key cannot be altered: such a table is rebuilt (clickhouse_rebuild.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from migrator.catalogs import DIFFERENT, EXTRA, MISSING, Object, clickhouse as catalogs, differences, split_top
from migrator.catalogs.clickhouse import Query, quote
from migrator.converge import Change
from migrator.converge.clickhouse_definitions import engine_clauses, of_table, read_definitions, sql_name
from migrator.converge.clickhouse_rebuild import KEYS, Rebuild, held
from migrator.converge.clickhouse_refusals import (
    refuse_expiry,
    refuse_misfits,
    refuse_missing_rights,
    refuse_running_mutations,
    refuse_small_disk,
    unfinished_mutations,
)
from migrator.errors import VerificationFailed, WouldLoseData, WrongServer

ROUNDS = 3  # the second adds what an ALTER TABLE in the definitions adds to a table that they create themselves
PAUSE = 0.5  # seconds between looks at a running mutation
FIXED = re.compile(r"\bindex_granularity\w* = \w+")  # settings that no ALTER changes


def changes(query: Query, definitions: str) -> list[Change]:
    """What `converge` would do now, in order; reads only. Raises what `converge` would raise before its first write."""
    return [change for step in Comparison(query, definitions).plan()
            for change in (step.changes() if isinstance(step, Rebuild) else [step])]


def converge(session: Any, definitions: str) -> None:
    """Bring every object to its definition, keeping every row; nothing is sent where nothing differs.

    Raises WouldLoseData, WrongServer or AccessDenied before the first statement. Stopped anywhere, even by kill -9, it
    goes on from there when it is called again.
    """
    for _ in range(ROUNDS):
        comparison = Comparison(session.query, definitions)
        plan = comparison.plan()
        if not plan:
            return
        comparison.wait_for_mutations(session)
        for step in plan:
            if isinstance(step, Rebuild):
                step.run(session)
                continue
            session.execute(step.sql)
            if view := re.match(r"ALTER TABLE (\S+) MODIFY QUERY (.+)", step.sql, re.DOTALL):
                comparison.recreate_unless_right(session, *view.groups())
    raise VerificationFailed("after convergence there is still a difference: "
                             + "; ".join(step.reason for step in plan))


class Comparison:
    """The definitions beside the live catalog, at one moment."""

    def __init__(self, query: Query, definitions: str):
        self.query, self.wanted = query, read_definitions(query, definitions)
        items = [*self.wanted.catalog, *self.wanted.obsolete]
        self.databases = {item.table.partition(".")[0] for item in items} | self.wanted.databases.keys()
        names = ", ".join(map(quote, self.databases)) or "''"
        self.engines = dict(query(f"SELECT name, engine FROM system.databases WHERE name IN ({names})"))
        live = catalogs.read_catalog(query, self.databases)
        self.live = catalogs.same_queries(query, self.wanted.catalog, live)
        self.found: dict[str, dict[Object, tuple[str, str]]] = {}
        for kind, item, expected, actual in differences(self.wanted.catalog, self.live, {}):
            if kind != EXTRA:
                reason = f"{item} is missing" if kind == MISSING else f"{item}: {expected} expected, {actual} found"
                of_item = self.found.setdefault(item.table, {})
                of_item[item] = kind, "; ".join(filter(None, [of_item.get(item, ("", ""))[1], reason]))

    # What to do, and what stands against it.

    def plan(self) -> list[Change | Rebuild]:
        """What to do, in order. Raises, before anything is done, what stands against it."""
        plan, needed = list(self._steps()), 0
        if plan:
            refuse_missing_rights(self.query, self.databases)
        for step in plan:
            if isinstance(step, Rebuild):
                self._refuse(step)
            for change in step.changes() if isinstance(step, Rebuild) else [step]:
                needed += change.bytes
                if change.bytes:
                    table = step.name if isinstance(step, Rebuild) else change.sql.split()[2]
                    refuse_small_disk(self.query, table, needed)
        refuse_running_mutations(self.query, self.found)
        return plan

    def _refuse(self, rebuild: Rebuild) -> None:
        if (engine := self.engines[rebuild.name.partition(".")[0]]) not in ("Atomic", "Replicated", "Shared"):
            raise WrongServer(f"{rebuild.name} must be rebuilt, but its database is of engine {engine}, where names"
                              " cannot be exchanged: move its tables into an Atomic database by hand")
        rebuild.refuse()

    def wait_for_mutations(self, session: Any) -> None:
        """Wait for those that a killed run of ours left on the tables that differ; they would run beside the copy.

        Raises WrongServer when for `session.patience` seconds none of their parts was done.
        """
        left, total, ends = 0, 0, 0.0
        while running := unfinished_mutations(self.query, self.found):
            parts = sum(mutation.parts for mutation in running)
            if parts != left or not ends:
                left, total, ends = parts, max(total, parts), time.monotonic() + session.patience
            elif time.monotonic() > ends:
                raise WrongServer(f"a mutation of {running[0].table} has not got on for {session.patience:g} s:"
                                  f" {running[0].command}; look why (SYSTEM START MERGES?), or {running[0].kill}")
            session.progress(done=total - parts, total=total, unit="parts of earlier mutations")
            time.sleep(PAUSE)

    def _steps(self) -> Iterator[Change | Rebuild]:
        for database, sql in self.wanted.databases.items():
            if database not in self.engines:
                yield Change(sql, f"database {database} is missing")
        for table in self.wanted.tables:
            yield from self._table(table)
        for item in self.wanted.catalog:
            if item.kind == "view":
                yield from self._view(item)

    def _table(self, table: str) -> Iterator[Change | Rebuild]:
        item = Object("table", table)
        if item in self.wanted.catalog and item not in self.live:
            yield from self._make_way(item)
            yield Change(self.wanted.texts[item], self._reasons(table))
        elif item in self.wanted.catalog and self._needs_rebuild(item):
            yield Rebuild(self.query, self.wanted, self.live, table, self._reasons(table))
        else:
            yield from self._columns(table)
            yield from self._indexes(table)
            if {item} <= self.live.keys() & self.wanted.catalog.keys():
                yield from self._options(item)

    def _reasons(self, table: str) -> str:
        return "; ".join(reason for _, reason in self.found.get(table, {}).values())

    def _needs_rebuild(self, item: Object) -> bool:
        """Whether a rebuild was begun, or the server would refuse to alter what differs."""
        wanted, live = self.wanted.catalog[item], self.live[item]
        if held(self.live, item.table) or held(self.live, f"{item.table}__new"):
            return True
        in_keys = re.findall(r"\w+", " ".join(live[key] for key in KEYS))
        retyped = (self._types(column) for column in self.wanted.parts("column", item.table)
                   if column.name in in_keys and column in self.live)
        return (any(wanted[key] != live[key] for key in ("engine", *KEYS))
                or FIXED.findall(wanted["settings"]) != FIXED.findall(live["settings"])
                # LowCardinality is the one change of a key column's type that the server allows (observed on 26.9).
                or any(new not in (old, old.replace("LowCardinality(String)", "String")) for old, new in retyped))

    def _types(self, column: Object) -> tuple[str, str]:
        return self.live[column]["type"], self.wanted.catalog[column]["type"]

    def _make_way(self, item: Object) -> Iterator[Change]:
        """Take away what has the name of a missing relation, if no row goes with it."""
        other, reason = Object("view" if item.kind == "table" else "table", item.table), self._reasons(item.table)
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

    def _columns(self, table: str) -> Iterator[Change]:
        actions: list[str] = []
        rewritten: list[Object] = []
        found, previous = self.found.get(table, {}), ""
        for item in self.wanted.parts("column", table):
            kind, text = found.get(item, ("", ""))[0], self.wanted.texts[item]
            if kind == MISSING:
                place = f" AFTER `{previous}`" if previous else " FIRST"
                placed = Object("table", table) not in self.wanted.catalog or re.search(r" AFTER \S+$| FIRST$", text)
                actions.append(f"ADD COLUMN {text}{'' if placed else place}")
            elif kind == DIFFERENT:
                actions += [*self._removals(item), f"MODIFY COLUMN {text}"]
                rewritten += [item] * (self.live[item]["type"] != self.wanted.catalog[item]["type"])
            previous = item.name
        if actions:
            reasons = "; ".join(reason for item, (_, reason) in found.items() if item.kind == "column")
            yield Change(f"ALTER TABLE {sql_name(table)} {', '.join(actions)}", reasons, *self._weigh(table, rewritten))

    def _removals(self, item: Object) -> Iterator[str]:
        """What MODIFY COLUMN keeps when it is not told otherwise."""
        live, wanted = self.live[item], self.wanted.catalog[item]
        if live["default"] and not wanted["default"]:
            yield f"MODIFY COLUMN `{item.name}` REMOVE {live['default'].split()[0]}"
        if live["codec"] and not wanted["codec"]:
            yield f"MODIFY COLUMN `{item.name}` REMOVE CODEC"
        if live["TTL"] and not wanted["TTL"]:
            yield f"MODIFY COLUMN `{item.name}` REMOVE TTL"

    def _weigh(self, table: str, columns: list[Object]) -> tuple[int, int]:
        """Rows and bytes of columns that are to be rewritten. Raises WouldLoseData for values that do not fit."""
        for item in columns:
            refuse_misfits(self.query, table, item.name, *self._types(item))
        if not columns:
            return 0, 0
        names = ", ".join(quote(item.name) for item in columns)
        size = f"SELECT sum(data_compressed_bytes) FROM system.columns WHERE {of_table(table)} AND name IN ({names})"
        # The server does not know the columns' sizes in its small ("compact") parts.
        return self.query(f"SELECT ifNull(total_rows, 0), ifNull(nullIf(({size}), 0), ifNull(total_bytes, 0))"
                          f" FROM system.tables WHERE {of_table(table, 'name')}")[0]

    # Indexes and projections: a new one is made for the old rows too, then what it replaces goes.

    def _indexes(self, table: str) -> Iterator[Change]:
        for item, (kind, reason) in self.found.get(table, {}).items():
            if item.kind in ("index", "projection"):
                word, name = item.kind.upper(), f"`{item.name}`"
                drop = f"DROP {word} {name}, " if kind == DIFFERENT else ""
                yield Change(f"ALTER TABLE {sql_name(table)} {drop}ADD {self.wanted.texts[item]},"
                             f" MATERIALIZE {word} {name}", reason)
        for item in self.wanted.superseded(self.live, table):
            yield Change(f"ALTER TABLE {sql_name(table)} DROP INDEX `{item.name}`", f"{item} is superseded")

    # TTL and settings.

    def _options(self, item: Object) -> Iterator[Change]:
        wanted, live, name = self.wanted.catalog[item], self.live[item], sql_name(item.table)
        if wanted["TTL"] != live["TTL"]:
            ttl = engine_clauses(self.wanted.texts[item]).get("TTL", "")
            refuse_expiry(self.query, item.table, ttl, live["TTL"])
            yield Change(f"ALTER TABLE {name} MODIFY TTL {ttl} SETTINGS materialize_ttl_after_modify = 0" if ttl else
                         f"ALTER TABLE {name} REMOVE TTL", self._reasons(item.table))
        before, after = (dict(s.split(" = ", 1) for s in split_top(side["settings"], "clickhouse") if s)
                         for side in (live, wanted))
        if changed := [f"{key} = {value}" for key, value in after.items() if before.get(key) != value]:
            yield Change(f"ALTER TABLE {name} MODIFY SETTING {', '.join(changed)}", self._reasons(item.table))
        if gone := [key for key in before if key not in after]:
            yield Change(f"ALTER TABLE {name} RESET SETTING {', '.join(gone)}", self._reasons(item.table))

    # Views.

    def _view(self, item: Object) -> Iterator[Change]:
        wanted, live, name = self.wanted.catalog[item], self.live.get(item), sql_name(item.table)
        text, reasons = self.wanted.texts[item], self._reasons(item.table)
        if live is None:
            yield from self._make_way(item)
            yield Change(text, reasons)
        elif any(live[key] != wanted[key] for key in wanted if key != "query"):
            self._refuse_own_rows(item)
            yield Change(f"DROP VIEW {name}", reasons)
            yield Change(text, reasons)
        elif live["query"] != wanted["query"]:
            yield Change(f"ALTER TABLE {name} MODIFY QUERY {wanted['query']}" if wanted["kind"] == "materialized" else
                         text.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1), reasons)

    def recreate_unless_right(self, session: Any, name: str, select: str) -> None:
        """MODIFY QUERY is documented to leave a view's columns as they were; 26.9 renews them. Look, and make sure."""
        wanted = [row[0] for row in session.query(f"DESCRIBE ({select})")]
        if [row[0] for row in session.query(f"DESCRIBE {name}")] != wanted:
            item = next(item for item in self.wanted.texts if item.kind == "view" and sql_name(item.table) == name)
            session.execute(f"DROP VIEW {name}")
            session.execute(self.wanted.texts[item])
