"""A ClickHouse table whose engine or key differs is rebuilt beside the live one, which goes on taking rows.

    t__frozen   the rows of `t` at one moment, by hard links; never merged, so that it can be compared and gone on with
    t__new      the definition, and what `t` has beyond it; filled from t__frozen, then with what `t` got since
    t__late     rows that reached the old table while the names were exchanged
    t__before_… the old table, kept

What is done is read off the catalog, whatever killed the run before. HOLD are settings that keep a table from being
merged; only our own unfinished tables have them all:

    t          t__new                           state, and what comes next
    no HOLD    missing                          nothing of worth: drop t__frozen, freeze, create t__new
    no HOLD    HOLD, comment W                  copying: partitions whose row counts differ are copied again, whole
    no HOLD    HOLD, comment W and B            catching up: drop what is above block B; copy rows above W; EXCHANGE
    HOLD       no HOLD (it is the old table)    late rows: take back t__late, make it again, attach it; RENAME t__new
    HOLD       missing                          finished but for cleaning: drop t__late, t__frozen; RESET the settings

W (in the comment) says which rows of the old table t__new has: those whose `_block_number` is not above it; B is the
highest block of t__new itself then. Blocks are numbered in the order of the inserts, and merges keep each row's number
under enable_block_number_column (observed on 26.9).

In a ReplacingMergeTree without a version the row inserted last wins, so copies are read in one stream, in the order of
the blocks (INSERT … SELECT with more threads shuffles them), and a late row is left out when `t` got its key anew: the
newer row must win. Between that look and the ATTACH another may arrive; it is seen afterwards, since nothing is merged,
and then the parts attached are dropped and made again. ATTACH also spares the views on `t` from seeing rows twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from itertools import accumulate, chain, count, groupby
from typing import Any

from migrator.catalogs import Attributes, Catalog, Object
from migrator.catalogs.clickhouse import Query, quote, read_clauses
from migrator.converge import Change
from migrator.converge.clickhouse_definitions import (
    Definitions,
    column_text,
    engine_clauses,
    index_text,
    of_table,
    sql_name,
)
from migrator.converge.clickhouse_refusals import lossless, refuse_blindness, refuse_expiry, refuse_misfits
from migrator.errors import StatementRefused, StepFailed, WrongServer

KEYS = ("engine", "partition key", "sorting key", "primary key")  # attributes of a table that no ALTER changes

HOLD = {"max_bytes_to_merge_at_max_space_in_pool": "1", "max_bytes_to_merge_at_min_space_in_pool": "1",
        "max_number_of_merges_with_ttl_in_pool": "0", "parts_to_delay_insert": "1000000",
        "parts_to_throw_insert": "1000000"}
CHUNK = 5_000_000  # rows of one INSERT … SELECT: what progress is reported by, and what is lost with a killed one
FEW = 10_000  # late rows that may be left for after the EXCHANGE
ROUNDS = 30  # of catching up; each is shorter than the one before unless rows come faster than they can be copied
ATTEMPTS = 500  # at what writers may spoil; each takes some 20 ms
PAUSE = 0.1  # seconds between looks at running inserts
COPY = ("max_threads = 1, max_insert_threads = 1, optimize_on_insert = 0, max_partitions_per_insert_block = 0,"
        " insert_deduplicate = 0, final = 0, max_execution_time = 0")
"""One stream, so that the order of the rows stays; no deduplication, so that they can be counted."""


def held(table: Attributes | None) -> bool:
    """Whether a table is one of ours, and unfinished."""
    settings = (table or {}).get("settings", "").split(", ")
    return all(f"{name} = {value}" in settings for name, value in HOLD.items())


def with_hold(clauses: Mapping[str, str], **more: str) -> str:
    """The engine and its clauses, as they follow CREATE TABLE, with HOLD among the settings."""
    settings = dict(s.split(" = ", 1) for s in clauses.get("SETTINGS", "").split(", ") if s) | HOLD
    clauses = {**clauses, "SETTINGS": ", ".join(f"{k} = {v}" for k, v in settings.items()), **more}
    order = ("PARTITION BY", "PRIMARY KEY", "ORDER BY", "SAMPLE BY", "TTL", "SETTINGS", "COMMENT")
    return " ".join([f"ENGINE = {clauses['']}", *(f"{c} {clauses[c]}" for c in order if clauses.get(c))])


class Rebuild:
    """The rebuild of one table, from whatever state it is in."""

    def __init__(self, query: Query, wanted: Definitions, live: Catalog, table: str, reason: str):
        self.query, self.wanted, self.live, self.table, self.reason = query, wanted, live, table, reason
        self.shadow, self.frozen, self.late = (f"{table}__{suffix}" for suffix in ("new", "frozen", "late"))
        self.definition = wanted.catalog[Object("table", table)]
        self.exchanged, self.begun = held(self._live(table)), held(self._live(self.shadow))
        self.old = self.shadow if self.exchanged else table
        self.before = self._live(self.old) or {}
        found, defined = self._columns(live, self.old), self._columns(wanted.catalog, table)
        self.columns = {**defined, **{name: found[name] for name in found if name not in defined}}
        """Of the new table: what is defined, then what only the old one has."""
        self.copied = [name for name, column in self.columns.items() if name in found
                       and not column["default"].startswith(("MATERIALIZED", "ALIAS", "EPHEMERAL"))]
        self.names = ", ".join(f"`{name}`" for name in self.copied)
        self.types = {name: column["type"] for name, column in found.items()}
        self.same_partitions = self.before.get("partition key") == self.definition["partition key"]
        self.linkable = all(self.before.get(key) == self.definition[key] for key in KEYS[1:]) and all(
            old == self.columns[name]["type"] for name, old in self.types.items())
        self.last_wins = self.definition["engine"] == "ReplacingMergeTree" and bool(self.definition["sorting key"])

    def _live(self, table: str) -> Attributes | None:
        return self.live.get(Object("table", table))

    @staticmethod
    def _columns(catalog: Catalog, table: str) -> dict[str, Attributes]:
        return {item.name: catalog[item] for item in catalog if item.kind == "column" and item.table == table}

    # What is to be done.

    def refuse(self) -> None:
        """Raise what stands against the rebuild, as long as nothing of it was done."""
        if self.exchanged:
            return
        if not re.match(r"(?!Replicated|Shared)\w*MergeTree", self.before["engine"]):
            raise WrongServer(f"{self.table} is of engine {self.before['engine']}, which is not rebuilt: move its rows"
                              " by hand")
        for name in (self.shadow, self.frozen, self.late):
            if (Object("table", name) in self.live or Object("view", name) in self.live) and not held(self._live(name)):
                raise WrongServer(f"{name} is in the way of rebuilding {self.table}, and not of this job: rename it")
        refuse_blindness(self.query)
        for name in self.copied:
            refuse_misfits(self.query, self.table, name, self.types[name], self.columns[name]["type"])
        refuse_expiry(self.query, self.table, self._clauses().get("TTL", ""), self.before["TTL"])

    def changes(self) -> Iterator[Change]:
        """The rebuild in short: one statement of each kind."""
        table, shadow = sql_name(self.table), sql_name(self.shadow)
        if not self.exchanged:
            rows, size = self.query("SELECT ifNull(total_rows, 0), ifNull(total_bytes, 0) FROM system.tables"
                                    f" WHERE {of_table(self.table, 'name')}")[0]
            if not self.begun:
                yield Change(self._create("0"), self.reason)
            yield (Change(f"ALTER TABLE {shadow} ATTACH PARTITION ALL FROM {table}", "partition by partition", rows)
                   if self.linkable else
                   Change(self._insert(self.shadow, self.table, "1"), "partition by partition", rows, size))
            yield Change(f"EXCHANGE TABLES {table} AND {shadow}", "then rows that came meanwhile are copied")
        if not self.exchanged or self._live(self.shadow):
            yield Change(f"RENAME TABLE {shadow} TO {table}__before_NNNN", "the old table is kept")
        yield Change(f"ALTER TABLE {table} RESET SETTING {', '.join(HOLD)}", "from here on its parts may be merged")

    def run(self, session: Any) -> None:
        """Do it, or what is left of it."""
        if not self.exchanged:
            if not self._resumable():
                self._begin(session)
            self._copy(session)
            self._catch_up(session)
            session.execute(f"EXCHANGE TABLES {sql_name(self.table)} AND {sql_name(self.shadow)}")
            self.exchanged, self.old = True, self.shadow
        if self._exists(self.shadow):
            self._settle(session)
        self._clean(session)

    # Before the exchange.

    def _resumable(self) -> bool:
        """Whether a copy was begun, from rows that are still there, towards this very definition."""
        shadow = self._live(self.shadow) or {}
        return self.begun and held(self._live(self.frozen)) and all(
            shadow[key] == self.definition[key] for key in ("engine", "TTL", *KEYS)) and (
            self._columns(self.live, self.shadow) == self.columns)

    def _begin(self, session: Any) -> None:
        table = sql_name(self.table)
        for leftover in (self.shadow, self.frozen):
            self._drop(session, leftover)
        if "enable_block_number_column = 1" not in self.before["settings"]:
            session.execute(f"ALTER TABLE {table} MODIFY SETTING enable_block_number_column = 1")
        engine = self.query(f"SELECT engine_full FROM system.tables WHERE {of_table(self.table, 'name')}")[0][0]
        session.execute(f"CREATE TABLE {sql_name(self.frozen)} AS {table} {with_hold(read_clauses(engine))}")
        partitions = [row[0] for row in self._parts(self.table, "DISTINCT partition_id", "1 ORDER BY 1")]
        blocks = [self._freeze(session, partition) for partition in partitions]
        if self.linkable and (changes := list(self._alignment())):
            session.execute(f"ALTER TABLE {sql_name(self.frozen)} {', '.join(changes)}")
        session.execute(self._create(f"transform(_partition_id, {partitions}, {blocks}, 0)" if blocks else "0"))

    def _freeze(self, session: Any, partition: str) -> int:
        """Link a partition into t__frozen; the block up to which it has every row, and no other."""
        where = f"partition_id = {quote(partition)}"
        for _ in range(ATTEMPTS):
            block, rows = self._parts(self.table, "max(max_block_number), sum(rows)", where)[0]
            session.execute(f"ALTER TABLE {sql_name(self.frozen)} ATTACH PARTITION ID {quote(partition)}"
                            f" FROM {sql_name(self.table)}")
            frozen = self._parts(self.frozen, "sum(rows)", where)[0][0]
            came = self.query("SELECT min_block_number, any(rows) FROM system.parts WHERE min_block_number ="
                              f" max_block_number AND min_block_number > {block} AND {of_table(self.table)} AND {where}"
                              " GROUP BY 1 ORDER BY 1")
            totals = accumulate([(block, rows), *came], lambda sum_, part: (part[0], sum_[1] + part[1]))
            if (last := next((number for number, total in totals if total == frozen), None)) is not None:
                return int(last)
            if self.definition["engine"].startswith("Replacing"):
                return int(block)  # merges took rows away meanwhile; a row that is copied again later is no harm here
            self._empty(session, self.frozen, partition)
        raise StepFailed(f"{self.table} changes faster than a moment of it can be held fast: pause its writers, run again")

    def _clauses(self) -> dict[str, str]:
        return engine_clauses(self.wanted.texts[Object("table", self.table)])

    def _create(self, watermark: str) -> str:
        """CREATE TABLE t__new: the definition, with the columns and indexes that only the old table has."""
        elements = [*self._column_texts().values(), *self._index_texts().values(),
                    *(self.wanted.texts[item] for item in self.wanted.parts("projection", self.table))]
        comment = quote(f"migrate: rows of {self.table} up to block {watermark}")
        return (f"CREATE TABLE {sql_name(self.shadow)} ({', '.join(elements)})"
                f" {with_hold(self._clauses(), COMMENT=comment)}")

    def _column_texts(self) -> dict[str, str]:
        texts = {item.name: self.wanted.texts[item] for item in self.wanted.parts("column", self.table)}
        return {name: re.sub(r" (AFTER `?\w+`?|FIRST)$", "", texts.get(name) or column_text(name, column))
                for name, column in self.columns.items()}

    def _index_texts(self) -> dict[str, str]:
        found = {item: self.live[item] for item in self.live if item.kind == "index" and item.table == self.old}
        kept = found.keys() - self.wanted.superseded(self.live, self.old)
        return {**{item.name: index_text(item.name, found[item]) for item in found if item in kept},
                **{item.name: self.wanted.texts[item] for item in self.wanted.parts("index", self.table)}}

    def _alignment(self) -> Iterator[str]:
        """What makes t__frozen so like t__new that parts can be linked from one to the other."""
        for item in self.live:
            if item.kind == "index" and item.table == self.old:
                yield f"DROP INDEX `{item.name}`"
        for text in self._index_texts().values():
            yield f"ADD {text}"
        for name, text in self._column_texts().items():
            if Object("column", self.old, name) not in self.live:
                yield f"ADD COLUMN {text}"

    def _copy(self, session: Any) -> None:
        """Fill t__new from t__frozen, and prove that both have the same rows in each partition."""
        watermark, block = self._marks(self.shadow)
        if block is not None:  # it was proved before; what came after is not known to be whole
            for name, in self._parts(self.shadow, "name", f"min_block_number > {block}"):
                session.execute(f"ALTER TABLE {sql_name(self.shadow)} DROP PART {quote(name)}")
            return
        unit = "partition_id" if self.same_partitions else "''"
        there = dict(self._parts(self.shadow, f"{unit}, sum(rows)", "1 GROUP BY 1"))
        parts = self._parts(self.frozen, f"{unit}, name, rows", "1 ORDER BY 1, min_block_number")
        total, done = sum(rows for _, _, rows in parts), 0
        session.progress(done=0, total=total, unit="rows")
        for key, group in groupby(parts, key=lambda part: part[0]):
            unit_parts = [(name, rows) for _, name, rows in group]
            if there.get(key) == sum(rows for _, rows in unit_parts):
                done += there[key]
                continue
            if key in there:
                self._empty(session, self.shadow, key if self.same_partitions else "")
            if self.linkable and self._link(session, key):
                done += sum(rows for _, rows in unit_parts)
                continue
            for where, rows in slices(unit_parts):
                session.execute(self._insert(self.shadow, self.frozen, where))
                done += rows
                session.progress(done=done, total=total, unit="rows")
        if self.linkable and (names := self._index_texts()):
            session.execute(f"ALTER TABLE {sql_name(self.shadow)} "
                            + ", ".join(f"MATERIALIZE INDEX `{name}`" for name in names))
        unit = "_partition_id" if self.same_partitions else "''"
        if self._sums(self.shadow, unit=unit) != self._sums(self.frozen, unit=unit):
            self._drop(session, self.shadow)
            raise StepFailed(f"the copy of {self.table} differs from the original, which is untouched: run again")
        self._mark(session, watermark)

    def _link(self, session: Any, partition: str) -> bool:
        """Take over a partition by hard links, if the server sees the tables as alike."""
        try:
            session.execute(f"ALTER TABLE {sql_name(self.shadow)} ATTACH PARTITION ID {quote(partition)}"
                            f" FROM {sql_name(self.frozen)}")
        except StatementRefused:
            self.linkable = False
        return self.linkable

    def _insert(self, target: str, source: str, where: str) -> str:
        return f"INSERT INTO {sql_name(target)} ({self.names}) {self._rows(source, where)} SETTINGS {COPY}"

    def _catch_up(self, session: Any) -> None:
        """Copy what came to the table since, until little is left."""
        for _ in range(ROUNDS):
            watermark, block = self._marks(self.shadow)
            last = self._last_block(self.table)
            late = f"_block_number > {watermark} AND _block_number <= {last}"
            rows = self._count(self.table, late)
            if rows:
                session.execute(self._insert(self.shadow, self.table, late))
                if not self._covers(self.shadow, above(self.shadow, block), self.table, late):
                    raise StepFailed(f"the copy of {self.table} differs from the original, which is untouched: run again")
            self._mark(session, str(last))
            if rows <= FEW:
                return

    # After the exchange.

    def _settle(self, session: Any) -> None:
        """Bring over what reached the old table after the last look at it, then name that table for keeping."""
        watermark, block = self._marks(self.table)
        self._wait_for_inserts(session)
        for _ in range(ATTEMPTS):
            self._take_back(session, block)
            last = self._last_block(self.old)
            if not self._count(self.old, f"_block_number > {watermark}"):
                break
            session.execute(f"CREATE TABLE {sql_name(self.late)} AS {sql_name(self.table)}")
            session.execute(self._insert_late(watermark, block))
            for partition, in self._parts(self.late, "DISTINCT partition_id"):
                session.execute(f"ALTER TABLE {sql_name(self.table)} ATTACH PARTITION ID {quote(partition)}"
                                f" FROM {sql_name(self.late)}")
            if self._settled(watermark, block) and self._last_block(self.old) == last:
                break
        else:
            raise StepFailed(f"{self.table} gets rows faster than the last of the old ones can be added: run again")
        session.execute(f"RENAME TABLE {sql_name(self.old)} TO {sql_name(self._kept_name(session.step))}")

    def _insert_late(self, watermark: str, block: int | None) -> str:
        """The late rows into t__late, without those whose key `t` has got anew since."""
        late = f"_block_number > {watermark}"
        if not self.last_wins:
            return self._insert(self.late, self.old, late)
        key = self.definition["sorting key"]
        return (f"INSERT INTO {sql_name(self.late)} ({self.names}) SELECT {self.names} FROM ({self._rows(self.old, late)})"
                f" WHERE ({key}) NOT IN (SELECT {key} FROM {sql_name(self.table)} WHERE {above(self.table, block)})"
                f" SETTINGS {COPY}, transform_null_in = 1")

    def _settled(self, watermark: str, block: int | None) -> bool:
        """Whether each late row is in `t`, and none of them after a newer row of the same key."""
        late = f"_block_number > {watermark}"
        if not self.last_wins:
            return self._covers(self.late, "1", self.old, late)
        key, table = self.definition["sorting key"], sql_name(self.table)
        ours = [name for name, in self._ours(block)]
        overtaken = self._count(self.table, f"{above(self.table, block)} AND _part NOT IN {ours} AND ({key}) IN"
                                f" (SELECT {key} FROM {sql_name(self.late)})") if ours else 0
        lost = self.query(f"SELECT count() FROM ({self._rows(self.old, late)}) WHERE ({key}) NOT IN (SELECT {key} FROM"
                          f" {table} WHERE {above(self.table, block)}) SETTINGS transform_null_in = 1")[0][0]
        return not overtaken and not lost

    def _take_back(self, session: Any, block: int | None) -> None:
        """Undo an unfinished t__late: its parts go from `t`, where they are known by their checksums, then itself."""
        if self._exists(self.late):
            for name, in self._ours(block):
                session.execute(f"ALTER TABLE {sql_name(self.table)} DROP PART {quote(name)}")
            self._drop(session, self.late)

    def _ours(self, block: int | None) -> list[tuple[Any, ...]]:
        return self._parts(self.table, "name", f"min_block_number > {block} AND hash_of_all_files IN (SELECT"
                           f" hash_of_all_files FROM system.parts WHERE {of_table(self.late)} AND active)")

    def _wait_for_inserts(self, session: Any) -> None:
        """Wait for the inserts that began before the exchange: they go on writing into the old table (observed)."""
        running = "SELECT query_id FROM system.processes WHERE query_kind IN ('Insert', 'AsyncInsertFlush')"
        before = left = set(self.query(running))
        while left := left & set(self.query(running)):
            session.progress(done=len(before) - len(left), total=len(before), unit="earlier inserts")
            time.sleep(PAUSE)

    def _kept_name(self, step: str) -> str:
        name = f"{self.table}__before_{step.partition('_')[0]}"
        return next(each for each in chain([name], (f"{name}_{n}" for n in count(2))) if not self._exists(each))

    def _clean(self, session: Any) -> None:
        for leftover in (self.late, self.frozen):
            self._drop(session, leftover)
        clauses, table = self._clauses(), sql_name(self.table)
        session.execute(f"ALTER TABLE {table} MODIFY COMMENT {clauses.get('COMMENT') or quote('')}")
        session.execute(f"ALTER TABLE {table} RESET SETTING {', '.join(HOLD)}")

    # Looking.

    def _exists(self, table: str) -> bool:
        return bool(self.query(f"SELECT 1 FROM system.tables WHERE {of_table(table, 'name')}"))

    def _drop(self, session: Any, table: str) -> None:
        if self._exists(table):
            session.execute(f"DROP TABLE {sql_name(table)} SYNC SETTINGS max_table_size_to_drop = 0")

    def _empty(self, session: Any, table: str, partition: str) -> None:
        session.execute(f"ALTER TABLE {sql_name(table)} DROP PARTITION ID {quote(partition)} SETTINGS"
                        " max_partition_size_to_drop = 0" if partition else
                        f"TRUNCATE TABLE {sql_name(table)} SETTINGS max_table_size_to_drop = 0")

    def _parts(self, table: str, what: str, where: str = "1") -> list[tuple[Any, ...]]:
        return self.query(f"SELECT {what} FROM system.parts WHERE {of_table(table)} AND active AND {where}")

    def _last_block(self, table: str, where: str = "1") -> int:
        return int(self._parts(table, "max(max_block_number)", where)[0][0])

    def _count(self, table: str, where: str) -> int:
        return int(self.query(f"SELECT count() FROM {sql_name(table)} WHERE {where} SETTINGS final = 0")[0][0])

    def _rows(self, table: str, where: str) -> str:
        """Rows of the old table in the new types; one that came meanwhile and does not fit is an error, not wrapped."""
        return f"SELECT {', '.join(self._cast(name) for name in self.copied)} FROM {sql_name(table)} WHERE {where}"

    def _cast(self, name: str) -> str:
        old, new = self.types.get(name, ""), self.columns[name]["type"]
        cast = "CAST" if lossless(old, new) else "accurateCast"
        return f"`{name}`" if old == new else f"{cast}(`{name}`, {quote(new)}) AS `{name}`"

    def _sums(self, table: str, where: str = "1", unit: str = "''") -> dict[str, tuple[int, int]]:
        """Rows, and a checksum in which their order does not count, of each unit."""
        casts = ", ".join(f"CAST(`{name}`, {quote(self.columns[name]['type'])})" for name in self.copied)
        return {key: (rows, total) for key, rows, total in self.query(
            f"SELECT {unit}, count(), sum(cityHash64({casts})) FROM {sql_name(table)} WHERE {where} GROUP BY 1"
            " SETTINGS final = 0")}

    def _covers(self, copy: str, there: str, original: str, here: str) -> bool:
        """Whether a copy holds all these rows of an original; merges may have taken rows from that since."""
        copied, found = self._sums(copy, there).get("", (0, 0)), self._sums(original, here).get("", (0, 0))
        return copied == found or copied[0] > found[0]

    def _marks(self, table: str) -> tuple[str, int | None]:
        """W and B of a comment."""
        comment = self.query(f"SELECT comment FROM system.tables WHERE {of_table(table, 'name')}")[0][0]
        marks = re.fullmatch(r"migrate: rows of \S+ up to block (.+?)(?:; here up to block (\d+))?", comment)
        if not marks:
            raise WrongServer(f"{table} lost the comment that says how far its rebuild is; it was {comment!r}")
        return marks[1], None if marks[2] is None else int(marks[2])

    def _mark(self, session: Any, watermark: str) -> None:
        comment = (f"migrate: rows of {self.table} up to block {watermark}; here up to block"
                   f" {self._last_block(self.shadow)}")
        session.execute(f"ALTER TABLE {sql_name(self.shadow)} MODIFY COMMENT {quote(comment)}")


def above(table: str, block: int | None) -> str:
    """The condition for rows in parts of a held table that came after a block."""
    return (f"_part IN (SELECT name FROM system.parts WHERE {of_table(table)} AND active AND"
            f" min_block_number > {block})")


def slices(parts: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Conditions that select all parts, in their order: several small ones together, or a piece of a large one."""
    names: list[str] = []
    count = 0
    for name, rows in parts:
        if names and count + rows > CHUNK:
            yield f"_part IN ({', '.join(names)})", count
            names, count = [], 0
        if rows <= CHUNK:
            names, count = [*names, quote(name)], count + rows
            continue
        for offset in range(0, rows, CHUNK):
            piece = f"_part_offset >= {offset} AND _part_offset < {offset + CHUNK}"
            yield f"_part = {quote(name)} AND {piece}", min(CHUNK, rows - offset)
    if names:
        yield f"_part IN ({', '.join(names)})", count
