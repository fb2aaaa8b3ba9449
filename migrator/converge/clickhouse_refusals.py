"""What convergence of ClickHouse refuses to begin, because rows or values would not survive it, or it could not end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from migrator.catalogs import split_top
from migrator.catalogs.clickhouse import Query, quote
from migrator.catalogs.clickhouse_rights import lacking
from migrator.converge.clickhouse_definitions import of_table, sql_name
from migrator.errors import AccessDenied, MigrateError, WouldLoseData, WrongServer

SHOWN = 5  # rows in an error
CHANGES_ROWS = re.compile(r"\(?(UPDATE|DELETE)\b")  # as a lightweight DELETE does; newer servers write brackets


def lossless(old: str, new: str) -> bool:
    """Whether every value of a type has its equal in another one."""
    old, new = (re.sub(r"LowCardinality\(([^()]+|Nullable\([^()]+\))\)", r"\1", type_) for type_ in (old, new))
    if old == new or (new == "String" and "Nullable" not in old) or new == "Nullable(String)":
        return True
    numbers = [re.fullmatch(r"(Int|UInt|Float)(\d+)", type_) for type_ in (old, new)]
    if not all(numbers):
        return False
    (kind, bits), (new_kind, new_bits) = (number.groups() for number in numbers if number)
    return int(bits) < int(new_bits) and (kind, new_kind) not in (("Int", "UInt"), ("Float", "Int"), ("Float", "UInt"))


def refuse_misfits(query: Query, table: str, column: str, old: str, new: str) -> None:
    """Raise WouldLoseData if a value would not survive the new type: MODIFY COLUMN wraps numbers without an error."""
    if lossless(old, new):
        return
    name, rows = f"`{column}`", sql_name(table)
    if re.match(r"Array|Map|Tuple|Nested", new):  # accurateCastOrNull knows no containers, but accurateCast raises
        try:
            query(f"SELECT count() FROM {rows} WHERE NOT ignore(accurateCast({name}, {quote(new)}))")
        except MigrateError as error:
            raise WouldLoseData(f"{table}.{column}: {old} does not fit into {new}: {error}") from None
        return
    inner = re.fullmatch(r"Nullable\((.+)\)", new)
    misfit = f"accurateCastOrNull({name}, {quote(inner[1] if inner else new)}) IS NULL" + (
        f" AND {name} IS NOT NULL" if inner else "")
    if count := query(f"SELECT count() FROM {rows} WHERE {misfit}")[0][0]:
        key = query(f"SELECT sorting_key FROM system.tables WHERE {of_table(table, 'name')}")[0][0]
        shown = ", ".join(filter(None, [key, name]))
        found = query(f"SELECT DISTINCT toString(tuple({shown})) FROM {rows} WHERE {misfit} ORDER BY 1 LIMIT {SHOWN}")
        raise WouldLoseData(f"{count} rows of {table} hold a {column} that does not fit into {new}, among them"
                            f" ({shown}) = {', '.join(row[0] for row in found)}: correct them by hand first")


def refuse_expiry(query: Query, table: str, new: str, old: str) -> None:
    """Raise WouldLoseData if the new TTL would delete rows that the old one keeps."""
    doomed = f"({_expired(new)})" + (f" AND NOT ({_expired(old)})" if old else "")
    count = query(f"SELECT count() FROM {sql_name(table)} WHERE {doomed}")[0][0] if new else 0
    if count:
        raise WouldLoseData(f"TTL {new} would delete {count} rows of {table} that its present TTL ({old or 'none'})"
                            f" keeps; if that is wanted, run by hand: ALTER TABLE {sql_name(table)} MODIFY TTL {new}")


def _expired(ttl: str) -> str:
    """The condition under which a TTL deletes a row, or folds it into another."""
    conditions = []
    for element in split_top(ttl, "clickhouse"):
        if re.search(r" (TO (DISK|VOLUME)|RECOMPRESS) ?", element):
            continue
        expression, _, condition = re.sub(r" GROUP BY .*", "", element, flags=re.DOTALL).partition(" WHERE ")
        conditions.append(f"{expression.removesuffix(' DELETE')} <= now()" + f" AND ({condition})" * bool(condition))
    return " OR ".join(f"({condition})" for condition in conditions) or "0"


class Mutation(NamedTuple):
    """One that has not ended: its table, what it does, how many parts it still has to rewrite, and how to end it."""

    table: str
    command: str
    parts: int
    kill: str


def unfinished_mutations(query: Query, tables: Iterable[str]) -> list[Mutation]:
    """Those that still run on the tables. Raises WrongServer for one that fails: the server would repeat it for ever."""
    running = []
    for table in tables:
        database, _, name = table.partition(".")
        for number, command, parts, reason in query(
                "SELECT mutation_id, command, parts_to_do, latest_fail_reason FROM system.mutations"
                f" WHERE {of_table(table)} AND NOT is_done ORDER BY mutation_id"):
            kill = (f"KILL MUTATION WHERE database = {quote(database)} AND table = {quote(name)} AND"
                    f" mutation_id = {quote(number)}")
            if reason:
                raise WrongServer(f"an earlier mutation of {table} fails ({command}: {reason}); correct its cause, or {kill}")
            running.append(Mutation(table, command, parts, kill))
    return running


def refuse_running_mutations(query: Query, tables: Iterable[str]) -> None:
    """Raise WrongServer while somebody's UPDATE or DELETE runs on the tables: it changes the rows that are compared.

    Not for one that rewrites columns or indexes. A killed run of ours leaves such, and `converge` waits for them.
    """
    for running in unfinished_mutations(query, tables):
        if CHANGES_ROWS.match(running.command):
            raise WrongServer(f"a mutation of {running.table} still runs: {running.command}, {running.parts} parts"
                              " to do; what differs there can be changed after it: run again when it has ended, or"
                              f" {running.kill}")


def refuse_small_disk(query: Query, table: str, needed: int) -> None:
    """Raise WrongServer if the disks of a table have less room than is needed for copies; they are kept beside it."""
    free = query(
        "SELECT sum(unreserved_space) FROM system.disks WHERE name IN (SELECT arrayJoin(disks) FROM"
        " system.storage_policies WHERE policy_name = (SELECT storage_policy FROM system.tables"
        f" WHERE {of_table(table, 'name')}))")[0][0]
    if free < needed:
        raise WrongServer(f"converging {table} and what comes before it copies {needed:,} bytes, but only {free:,} are"
                          " free on its disks: make room first (`cleanup` lists old tables that were kept)")


def refuse_missing_rights(query: Query, databases: Iterable[str]) -> None:
    """Raise AccessDenied, naming every right that converging in these databases may need and the user lacks."""
    if missing := lacking(query, databases):
        raise AccessDenied(f"rights are missing: {'; '.join(missing)}")
