"""The rights that it takes to bring a ClickHouse schema about. README.md has them as statements to paste."""

from __future__ import annotations

from collections.abc import Iterable

from migrator.catalogs.clickhouse import Query
from migrator.errors import StatementRefused

RIGHTS = ("SELECT", "INSERT", "ALTER TABLE", "CREATE TABLE", "DROP TABLE", "CREATE DATABASE")  # on each database
ENGINES = ("Atomic", "MergeTree", "ReplacingMergeTree")
# System tables that a right of their own opens. The lock needs the first.
READS = ("processes", "data_skipping_indices", "projections", "parts", "parts_columns", "mutations", "disks",
         "storage_policies", "view_refreshes")  # fmt: skip


def lacking(query: Query, databases: Iterable[str], reads: Iterable[str] = READS) -> list[str]:
    """The GRANTs that the user lacks, to paste; none in a read-only session, which has no rights and cannot say."""
    wanted = [f"{right} ON {name}.*" for name in sorted(databases) for right in RIGHTS]
    wanted += [f"SELECT ON system.{table}" for table in reads] + [f"TABLE ENGINE ON {engine}" for engine in ENGINES]
    ((user, read_only),) = query("SELECT currentUser(), getSetting('readonly')")
    if read_only or _may(query, ", ".join(wanted)):
        return []
    return [f"GRANT {right} TO {user}" for right in wanted if not _may(query, right)]


def _may(query: Query, rights: str) -> bool:
    try:
        return bool(query(f"CHECK GRANT {rights}")[0][0])
    except StatementRefused:  # servers before 25 cannot say; a statement will, with code 497
        return True
