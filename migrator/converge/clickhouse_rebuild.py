"""A ClickHouse table whose engine or key differs is rebuilt beside the live one, which goes on taking rows.

    t__frozen   the rows of `t` at one moment, by hard links; never merged, so that it can be copied and compared
    t__new      as defined, and with what only `t` has; filled from t__frozen, then with what `t` got since
    t__late     rows that reached the old table while the names were exchanged
    t__before_… the old table, kept

What is done is read off the catalog, whatever ended the run before. HOLD are settings that keep a table from being
merged; only our own unfinished tables have them all:

    t          t__new                           state, and what comes next
    no HOLD    missing                          nothing of worth: drop t__frozen, freeze, create t__new
    no HOLD    HOLD, comment W                  copying: partitions whose row counts differ are copied again, whole
    no HOLD    HOLD, comment W and B            catching up: drop what is above block B; copy rows above W; EXCHANGE
    HOLD       no HOLD (it is the old table)    late rows: take back t__late, make it again, attach it; RENAME t__new
    HOLD       missing                          finished but for cleaning: drop t__late, t__frozen; RESET the settings

W says which rows of the old table t__new has: those whose `_block_number` is not above it. B is the highest block of
t__new itself then. Blocks are numbered in the order of the inserts, and under enable_block_number_column each row keeps
its number through merges (observed on 26.9).

In a ReplacingMergeTree without a version the row inserted last wins. So rows are copied in one stream, in the order of
the blocks; INSERT … SELECT in several threads shuffles them. And a late row is left out when `t` got its key anew. That
may also happen between the look and the ATTACH; it is seen afterwards, since nothing is merged, and then the attached
parts are dropped and made again. ATTACH also spares the views on `t` from seeing a row twice.
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
from migrator.converge.clickhouse_refusals import lossless, refuse_expiry, refuse_misfits
from migrator.errors import StatementRefused, StepFailed, WrongServer

KEYS = ("partition key", "sorting key", "primary key")
HOLD = {"max_bytes_to_merge_at_max_space_in_pool": "1", "max_bytes_to_merge_at_min_space_in_pool": "1",
        "max_number_of_merges_with_ttl_in_pool": "0", "parts_to_delay_insert": "1000000",
        "parts_to_throw_insert": "1000000"}
# One stream and one writer keep the order; nothing is deduplicated, so that rows can be counted. A second thread only
# lets the writer work while the next rows are read.
COPY = ("max_streams_for_merge_tree_reading = 1, max_threads = 2, max_insert_threads = 1, optimize_on_insert = 0,"
        " insert_deduplicate = 0, max_partitions_per_insert_block = 0")
CHUNK = 5_000_000  # rows of one INSERT … SELECT: what progress is reported by, and what is lost with a killed one
FEW = 10_000  # late rows that may be left for after the exchange
ROUNDS = 30  # of catching up; each is shorter than the one before, unless rows come faster than they can be copied
ATTEMPTS = 500  # at what writers may spoil; each takes some 20 ms
PAUSE = 0.1  # seconds between looks at running inserts


class Rebuild:
    """The rebuild of one table, from whatever state it is in. Names of tables are as SQL has them."""

    def __init__(self, query: Query, wanted: Definitions, live: Catalog, name: str, reason: str):
        self.query, self.wanted, self.live, self.name, self.reason = query, wanted, live, name, reason
        self.table, self.shadow, self.frozen, self.late = (
            sql_name(name + suffix) for suffix in ("", "__new", "__frozen", "__late"))
        self.exchanged, self.begun = held(live, self.table), held(live, self.shadow)
        self.old = self.shadow if self.exchanged else self.table
        self.before = attributes(live, self.old)
        self.definition = attributes(live if self.exchanged else wanted.catalog, self.table)
        found, columns = columns_of(live, self.old), columns_of(wanted.catalog, self.table)
        self.columns = columns_of(live, self.table) if self.exchanged else {
            **columns, **{column: found[column] for column in found if column not in columns}}
        self.types = {column: found[column]["type"] for column in found}
        self.copied = [column for column in self.columns if column in found and not
                       self.columns[column]["default"].startswith(("MATERIALIZED", "ALIAS", "EPHEMERAL"))]
        self.same_partitions = self.before.get(KEYS[0]) == self.definition[KEYS[0]]
        self.linkable = all(self.before.get(key) == self.definition[key] for key in KEYS) and all(
            old == self.columns.get(column, {}).get("type") for column, old in self.types.items())
        self.last_wins = self.definition["engine"] == "ReplacingMergeTree" and bool(self.definition["sorting key"])

    def refuse(self) -> None:
        """Raise what stands against the rebuild; once the names are exchanged, nothing does."""
        if self.exchanged:
            return
        if not re.match(r"(?!Replicated|Shared)\w*MergeTree", self.before["engine"]):
            raise WrongServer(f"{self.name} is of engine {self.before['engine']}, which is not rebuilt: move its rows"
                              " by hand")
        for other in (self.shadow, self.frozen, self.late):
            if self._exists(other) and not held(self.live, other):
                raise WrongServer(f"{other} is in the way of rebuilding {self.name}, and not of this job: rename it")
        for column in self.copied:
            refuse_misfits(self.query, self.name, column, self.types[column], self.columns[column]["type"])
        refuse_expiry(self.query, self.name, self._clauses().get("TTL", ""), self.before["TTL"])

    def changes(self) -> Iterator[Change]:
        """The rebuild in short: one statement of each kind."""
        if not self.exchanged:
            rows, size = self.query("SELECT ifNull(total_rows, 0), ifNull(total_bytes, 0) FROM system.tables WHERE "
                                    + of_table(self.table, "name"))[0]
            if not self.begun:
                yield Change(self._create("0"), self.reason)
            link = f"ALTER TABLE {self.shadow} ATTACH PARTITION ALL FROM {self.table}"
            yield (Change(link, "its rows, by hard links", rows) if self.linkable else
                   Change(self._insert(self.shadow, self.table, "1"), "its rows, partition by partition", rows, size))
            yield Change(f"EXCHANGE TABLES {self.table} AND {self.shadow}", "then rows that came meanwhile are copied")
        if not self.exchanged or self._exists(self.shadow):
            yield Change(f"RENAME TABLE {self.shadow} TO {self.table}__before_NNNN", "the old table is kept")
        yield Change(f"ALTER TABLE {self.table} RESET SETTING {', '.join(HOLD)}", "its parts may be merged now")

    def run(self, session: Any) -> None:
        """Do it, or what is left of it."""
        self.session = session
        if not self.exchanged:
            if not self._is_resumable():
                self._begin()
            self._copy()
            self._catch_up()
            session.execute(f"EXCHANGE TABLES {self.table} AND {self.shadow}")
            self.exchanged, self.old = True, self.shadow
        if self._exists(self.shadow):
            self._settle()
        self._clean()

    # Freezing.

    def _is_resumable(self) -> bool:
        """Whether a copy was begun, from rows that are still there, towards this very definition."""
        shadow = attributes(self.live, self.shadow)
        return (self.begun and held(self.live, self.frozen) and columns_of(self.live, self.shadow) == self.columns
                and all(shadow[key] == self.definition[key] for key in ("engine", "TTL", *KEYS)))

    def _begin(self) -> None:
        for leftover in (self.shadow, self.frozen):
            self._drop(leftover)
        if "enable_block_number_column = 1" not in self.before["settings"]:
            self.session.execute(f"ALTER TABLE {self.table} MODIFY SETTING enable_block_number_column = 1")
        engine = self.query(f"SELECT engine_full FROM system.tables WHERE {of_table(self.table, 'name')}")[0][0]
        self.session.execute(f"CREATE TABLE {self.frozen} AS {self.table} {with_hold(read_clauses(engine))}")
        partitions = [partition for partition, in self._parts(self.table, "DISTINCT partition_id", "1 ORDER BY 1")]
        blocks = [self._freeze(partition) for partition in partitions]
        if self.linkable and (changes := list(self._alignment())):
            self.session.execute(f"ALTER TABLE {self.frozen} {', '.join(changes)}")
        self.session.execute(self._create(f"transform(_partition_id, {partitions}, {blocks}, 0)" if blocks else "0"))

    def _freeze(self, partition: str) -> int:
        """Link a partition into t__frozen; the block up to which it has every row, and no other."""
        where = f"partition_id = {quote(partition)}"
        for _ in range(ATTEMPTS):
            block, rows = self._parts(self.table, "max(max_block_number), sum(rows)", where)[0]
            self.session.execute(f"ALTER TABLE {self.frozen} ATTACH PARTITION ID {quote(partition)} FROM {self.table}")
            frozen = self._parts(self.frozen, "sum(rows)", where)[0][0]
            came = self.query("SELECT min_block_number, any(rows) FROM system.parts WHERE min_block_number ="
                              f" max_block_number AND min_block_number > {block} AND {of_table(self.table)} AND {where}"
                              " GROUP BY 1 ORDER BY 1")  # the merged ones of them too, which stay listed for minutes
            sums = accumulate([(block, rows), *came], lambda total, part: (part[0], total[1] + part[1]))
            for last, total in sums:
                if total == frozen:
                    return int(last)
            if self.definition["engine"].startswith("Replacing"):
                return int(block)  # merges took rows away meanwhile; to copy a row again, later, is no harm here
            self._empty(self.frozen, partition)
        raise StepFailed(f"{self.name} changes faster than a moment of it can be held fast: pause its writers")

    # What t__new looks like.

    def _clauses(self) -> dict[str, str]:
        return engine_clauses(self.wanted.texts[Object("table", self.name)])

    def _create(self, watermark: str) -> str:
        projections = (self.wanted.texts[item] for item in self.wanted.parts("projection", self.name))
        elements = ", ".join([*self._column_texts().values(), *self._index_texts().values(), *projections])
        comment = quote(f"migrate: rows of {self.name} up to block {watermark}")
        return f"CREATE TABLE {self.shadow} ({elements}) {with_hold(self._clauses(), COMMENT=comment)}"

    def _column_texts(self) -> dict[str, str]:
        defined = {item.name: self.wanted.texts[item] for item in self.wanted.parts("column", self.name)}
        return {column: re.sub(r" (AFTER `?\w+`?|FIRST)$", "", defined.get(column) or column_text(column, declared))
                for column, declared in self.columns.items()}

    def _index_texts(self) -> dict[str, str]:
        superseded = self.wanted.superseded(self.live, self.name)
        kept = [item for item in self._indexes() if item not in superseded]
        return {**{item.name: index_text(item.name, self.live[item]) for item in kept},
                **{item.name: self.wanted.texts[item] for item in self.wanted.parts("index", self.name)}}

    def _indexes(self) -> list[Object]:
        return [item for item in self.live if item.kind == "index" and item.table == self.name]

    def _alignment(self) -> Iterator[str]:
        """What makes t__frozen so like t__new that parts can be linked from one to the other."""
        yield from (f"DROP INDEX `{item.name}`" for item in self._indexes())
        yield from (f"ADD {text}" for text in self._index_texts().values())
        yield from (f"ADD COLUMN {text}" for name, text in self._column_texts().items() if name not in self.types)

    # Copying.

    def _copy(self) -> None:
        """Fill t__new from t__frozen, and prove that both have the same rows in each partition."""
        watermark, block = self._marks(self.shadow)
        if block is not None:  # it was proved before; what came after is not known to be whole
            for part, in self._parts(self.shadow, "name", f"min_block_number > {block}"):
                self.session.execute(f"ALTER TABLE {self.shadow} DROP PART {quote(part)}")
            return
        unit = "partition_id" if self.same_partitions else "''"
        there = dict(self._parts(self.shadow, f"{unit}, sum(rows)", "1 GROUP BY 1"))
        parts = self._parts(self.frozen, f"{unit}, name, rows", "1 ORDER BY 1, min_block_number")
        done, total = 0, sum(rows for *_, rows in parts)
        size = self._parts(self.frozen, "sum(bytes_on_disk)")[0][0]
        self.session.progress(done=0, total=total, unit="rows", size=size)
        for partition, group in groupby(parts, key=lambda part: part[0]):
            for rows in self._copy_partition(partition, [part[1:] for part in group], there.get(partition, 0)):
                done += rows
                self.session.progress(done=done, total=total, unit="rows", size=size)
        if self.linkable and (indexes := self._index_texts()):
            materialize = ", ".join(f"MATERIALIZE INDEX `{index}`" for index in indexes)
            self.session.execute(f"ALTER TABLE {self.shadow} {materialize}")
        if self._sums(self.shadow) != self._sums(self.frozen):
            self._drop(self.shadow)
            raise self._broken()
        self._mark(watermark)

    def _copy_partition(self, partition: str, parts: list[tuple[str, int]], there: int) -> Iterator[int]:
        """Copy these parts, unless they are there; how many rows at a time."""
        rows = sum(rows for _, rows in parts)
        if there and there != rows:
            self._empty(self.shadow, partition)
        if there == rows or (self.linkable and self._link(partition)):
            yield rows
            return
        for where, rows in slices(parts):
            self.session.execute(self._insert(self.shadow, self.frozen, where))
            yield rows

    def _link(self, partition: str) -> bool:
        """Take over a partition by hard links, if the server too finds the tables alike."""
        try:
            self.session.execute(f"ALTER TABLE {self.shadow} ATTACH PARTITION ID {quote(partition)} FROM {self.frozen}")
        except StatementRefused:
            self.linkable = False
        return self.linkable

    def _catch_up(self) -> None:
        """Copy what came to the table since, until little is left."""
        for _ in range(ROUNDS):
            watermark, block = self._marks(self.shadow)
            last = self._last_block(self.table)
            came = f"_block_number > {watermark} AND _block_number <= {last}"
            if rows := self._count(self.table, came):
                self.session.execute(self._insert(self.shadow, self.table, came))
                if not self._covers(self.shadow, above(self.shadow, block), came):
                    raise self._broken()
            self._mark(str(last))
            if rows <= FEW:
                return

    def _broken(self) -> StepFailed:
        return StepFailed(f"the copy of {self.name} differs from the original, which is untouched: run again")

    # After the exchange.

    def _settle(self) -> None:
        """Bring over what reached the old table after the last look at it, then name that table for keeping."""
        watermark, block = self._marks(self.table)
        late, newer = f"_block_number > {watermark}", above(self.table, block)
        self._wait_for_inserts()
        for _ in range(ATTEMPTS):
            self._take_back(block)
            if not self._count(self.old, late):
                break
            self.session.execute(f"CREATE TABLE {self.late} AS {self.table}")
            self.session.execute(self._insert_late(late, newer))
            for partition, in self._parts(self.late, "DISTINCT partition_id"):
                self.session.execute(
                    f"ALTER TABLE {self.table} ATTACH PARTITION ID {quote(partition)} FROM {self.late}")
            if self._is_settled(late, newer, self._ours(block)):
                break
        else:
            raise StepFailed(f"{self.name} gets rows faster than the last of the old ones can be added: run again")
        kept = f"{self.name}__before_{self.session.step.partition('_')[0]}"
        names = chain([kept], (f"{kept}_{number}" for number in count(2)))
        self.session.execute(f"RENAME TABLE {self.old} TO {next(sql_name(n) for n in names if not self._exists(n))}")

    def _wait_for_inserts(self) -> None:
        """Wait for the inserts that began before the exchange: they go on writing into the old table (observed)."""
        running = "SELECT query_id FROM system.processes WHERE query_kind IN ('Insert', 'AsyncInsertFlush')"
        before = left = set(self.query(running))
        while left := left & set(self.query(running)):
            self.session.progress(done=len(before) - len(left), total=len(before), unit="earlier inserts")
            time.sleep(PAUSE)

    def _take_back(self, block: int | None) -> None:
        """Undo an unfinished t__late: its parts go from `t`, then itself."""
        if self._exists(self.late):
            for part in self._ours(block):
                self.session.execute(f"ALTER TABLE {self.table} DROP PART {quote(part)}")
            self._drop(self.late)

    def _ours(self, block: int | None) -> list[str]:
        """The parts of `t` that came from t__late, known by their checksums."""
        found = f"SELECT hash_of_all_files FROM system.parts WHERE {of_table(self.late)} AND active"
        return [part for part, in self._parts(self.table, "name", f"min_block_number > {block} AND hash_of_all_files IN"
                                              f" ({found})")]

    def _insert_late(self, late: str, newer: str) -> str:
        """The late rows into t__late, without those whose key `t` has got anew since."""
        if not self.last_wins:
            return self._insert(self.late, self.old, late)
        names, key = ", ".join(f"`{name}`" for name in self.copied), self.definition["sorting key"]
        return (f"INSERT INTO {self.late} ({names}) SELECT {names} FROM ({self._select(self.old, late)}) WHERE ({key})"
                f" NOT IN (SELECT {key} FROM {self.table} WHERE {newer}) SETTINGS {COPY}, transform_null_in = 1")

    def _is_settled(self, late: str, newer: str, ours: list[str]) -> bool:
        """Whether each late row is in `t`, and none of them after a newer row of the same key."""
        if not self.last_wins:
            return self._covers(self.late, "1", late)
        key, settings = self.definition["sorting key"], "SETTINGS transform_null_in = 1"
        parts = ", ".join(map(quote, ["", *ours]))
        overtaken = f"SELECT {key} FROM {self.table} WHERE {newer} AND _part NOT IN ({parts})"
        return self.query(
            f"SELECT (SELECT count() FROM {self.late} WHERE ({key}) IN ({overtaken})), (SELECT count() FROM"
            f" ({self._select(self.old, late)}) WHERE ({key}) NOT IN (SELECT {key} FROM {self.table} WHERE {newer}))"
            f" {settings}") == [(0, 0)]

    def _clean(self) -> None:
        for leftover in (self.late, self.frozen):
            self._drop(leftover)
        self.session.execute(f"ALTER TABLE {self.table} MODIFY COMMENT {self._clauses().get('COMMENT') or quote('')}")
        self.session.execute(f"ALTER TABLE {self.table} RESET SETTING {', '.join(HOLD)}")

    # Tables, parts and rows.

    def _exists(self, table: str) -> bool:
        return bool(self.query(f"SELECT 1 FROM system.tables WHERE {of_table(table, 'name')}"))

    def _drop(self, table: str) -> None:
        if self._exists(table):
            self.session.execute(f"DROP TABLE {table} SYNC SETTINGS max_table_size_to_drop = 0")

    def _empty(self, table: str, partition: str) -> None:
        """Drop a partition, or all rows where the partitions of old and new table are not the same."""
        what = f"DROP PARTITION ID {quote(partition)}" if partition else "DROP PARTITION ALL"
        self.session.execute(f"ALTER TABLE {table} {what} SETTINGS max_partition_size_to_drop = 0")

    def _parts(self, table: str, what: str, where: str = "1") -> list[tuple[Any, ...]]:
        return self.query(f"SELECT {what} FROM system.parts WHERE {of_table(table)} AND active AND {where}")

    def _last_block(self, table: str) -> int:
        return int(self._parts(table, "max(max_block_number)")[0][0])

    def _count(self, table: str, where: str) -> int:
        return int(self.query(f"SELECT count() FROM {table} WHERE {where}")[0][0])

    def _insert(self, target: str, source: str, where: str) -> str:
        names = ", ".join(f"`{name}`" for name in self.copied)
        return f"INSERT INTO {target} ({names}) {self._select(source, where)} SETTINGS {COPY}"

    def _select(self, table: str, where: str) -> str:
        """Rows of the old table in the new types; one that came meanwhile and does not fit is an error, not wrapped."""
        def cast(name: str, old: str, new: str) -> str:
            function = "CAST" if lossless(old, new) else "accurateCast"
            return f"`{name}`" if old == new else f"{function}(`{name}`, {quote(new)}) AS `{name}`"

        casts = (cast(name, self.types[name], self.columns[name]["type"]) for name in self.copied)
        return f"SELECT {', '.join(casts)} FROM {table} WHERE {where}"

    def _sums(self, table: str, where: str = "1") -> dict[str, tuple[int, int]]:
        """Rows of each partition, and a checksum in which their order does not count."""
        casts = ", ".join(f"CAST(`{name}`, {quote(self.columns[name]['type'])})" for name in self.copied)
        unit = "_partition_id" if self.same_partitions else "''"
        return {partition: (rows, total) for partition, rows, total in self.query(
            f"SELECT {unit}, count(), sum(cityHash64({casts})) FROM {table} WHERE {where} GROUP BY 1")}

    def _covers(self, copy: str, where: str, late: str) -> bool:
        """Whether a copy has all these rows of the old table, from which merges may have taken some since."""
        there, here = self._sums(copy, where), self._sums(self.old, late)
        return all(there.get(partition, (0, 0))[0] > sums[0] or there.get(partition) == sums
                   for partition, sums in here.items())

    # W and B, in a comment.

    def _marks(self, table: str) -> tuple[str, int | None]:
        comment = self.query(f"SELECT comment FROM system.tables WHERE {of_table(table, 'name')}")[0][0]
        marks = re.fullmatch(r"migrate: rows of \S+ up to block (.+?)(?:; here up to block (\d+))?", comment)
        if not marks:
            raise WrongServer(f"{table} has lost the comment that says how far its rebuild is: {comment!r}")
        return marks[1], None if marks[2] is None else int(marks[2])

    def _mark(self, watermark: str) -> None:
        here = self._last_block(self.shadow)
        comment = f"migrate: rows of {self.name} up to block {watermark}; here up to block {here}"
        self.session.execute(f"ALTER TABLE {self.shadow} MODIFY COMMENT {quote(comment)}")


def attributes(catalog: Catalog, table: str) -> Attributes:
    """A table's attributes, none if there is none of that name."""
    return catalog.get(Object("table", table.replace("`", "")), {})


def columns_of(catalog: Catalog, table: str) -> dict[str, Attributes]:
    name = table.replace("`", "")
    return {item.name: catalog[item] for item in catalog if item.kind == "column" and item.table == name}


def held(catalog: Catalog, table: str) -> bool:
    """Whether a table is one of ours, and unfinished."""
    settings = attributes(catalog, table).get("settings", "").split(", ")
    return all(f"{name} = {value}" in settings for name, value in HOLD.items())


def with_hold(clauses: Mapping[str, str], **more: str) -> str:
    """The engine and its clauses, as they follow CREATE TABLE, with HOLD among the settings."""
    settings = dict(s.split(" = ", 1) for s in clauses.get("SETTINGS", "").split(", ") if s) | HOLD
    clauses = {**clauses, "SETTINGS": ", ".join(f"{name} = {value}" for name, value in settings.items()), **more}
    order = ("PARTITION BY", "PRIMARY KEY", "ORDER BY", "SAMPLE BY", "TTL", "SETTINGS", "COMMENT")
    return " ".join([f"ENGINE = {clauses['']}", *(f"{c} {clauses[c]}" for c in order if clauses.get(c))])


def above(table: str, block: int | None) -> str:
    """The condition for rows in parts of a held table that came after a block."""
    return (f"_part IN (SELECT name FROM system.parts WHERE {of_table(table)} AND active AND"
            f" min_block_number > {block})")


def slices(parts: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Conditions that select parts in their order, with their rows: several small ones together, or a piece of one."""
    names: list[str] = []
    taken = 0
    for name, rows in parts:
        if names and taken + rows > CHUNK:
            yield f"_part IN ({', '.join(names)})", taken
            names, taken = [], 0
        if rows <= CHUNK:
            names, taken = [*names, quote(name)], taken + rows
            continue
        for offset in range(0, rows, CHUNK):
            piece = f"_part_offset >= {offset} AND _part_offset < {offset + CHUNK}"
            yield f"_part = {quote(name)} AND {piece}", min(CHUNK, rows - offset)
    if names:
        yield f"_part IN ({', '.join(names)})", taken
