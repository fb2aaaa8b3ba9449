"""What MySQL and MariaDB say of the objects that a statement would change."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from migrator.errors import Forbidden, StatementRefused
from migrator.journal import Answer, digest, mentions
from migrator.kinds import Kind, Name

Query = Callable[[str], list[tuple[Any, ...]]]
DDL = ("CREATE", "ALTER", "DROP", "RENAME")
# Where such an object is described, and by which columns; when an event ran last is not one of them.
CATALOGS = {
    "PROCEDURE": ("routines", "routine_definition, routine_comment, security_type, created, last_altered",
                  "routine_schema = {} AND routine_type = 'PROCEDURE' AND routine_name = {}"),
    "FUNCTION": ("routines", "routine_definition, routine_comment, security_type, created, last_altered",
                 "routine_schema = {} AND routine_type = 'FUNCTION' AND routine_name = {}"),
    "TRIGGER": ("triggers", "action_statement, created", "trigger_schema = {} AND trigger_name = {}"),
    "EVENT": ("events", "event_definition, interval_value, interval_field, execute_at, event_comment, created",
              "event_schema = {} AND event_name = {}"),
    "DATABASE": ("schemata", "default_character_set_name, default_collation_name", "{} IS NOT NULL AND schema_name = {}"),
}
# They move rows and leave the table's definition as it was.
ROWS = re.compile(r"(TRUNCATE|EXCHANGE|IMPORT|DISCARD)\b")
EMPTY, FILLED = "empty", "filled"
ABSENT, NO_SUCH_TABLE = digest("absent"), "(1146)"
COUNTER = re.compile(r" AUTO_INCREMENT=\d+")  # moves with every row that anybody inserts


def answer(query: Query, kind: Kind) -> Answer:
    """One answer for each object, in digests; empty where the catalog does not show what the statement does."""
    if kind.verb == "TRUNCATE" and kind.name:
        return Answer(_filled(query, kind.name))
    if kind.verb not in DDL or not kind.name or any(ROWS.match(clause.action) for clause in kind.clauses):
        return Answer()
    if kind.object_type in CATALOGS:
        return Answer(_row(query, *CATALOGS[kind.object_type], kind.name), lasting=True)
    if kind.object_type not in ("TABLE", "VIEW", "INDEX", "SEQUENCE") or (kind.replaces and kind.object_type != "VIEW"):
        return Answer()
    if kind.object_type == "INDEX":
        return Answer(_definition(query, kind.table, [kind.name.name]), lasting=True) if kind.table else Answer()
    if kind.clauses:  # one ALTER does all of its clauses or none
        parts = [name for clause in kind.clauses for name in (clause.name, clause.to)]
        named = [name for name in parts if name] if all(clause.name for clause in kind.clauses) else []
        return Answer(_definition(query, kind.name, named), lasting=True)
    # A RENAME is told by the names that are gone: another table may have got the old name, and look the same.
    names = kind.drops if kind.verb in ("DROP", "RENAME") else (kind.name,)
    return Answer(" ".join(_definition(query, name, []) for name in names), lasting=bool(names))


def _definition(query: Query, name: Name, parts: list[str]) -> str:
    """The part of SHOW CREATE that speaks of these names; that there is no such table is an answer as well.

    So is that it may not be read, without the words, which name the host that asks.
    """
    try:
        text = query(f"SHOW CREATE TABLE {_quoted(name)}")[0][1]
    except StatementRefused as error:
        if str(error).endswith(NO_SUCH_TABLE):
            return ABSENT
        return digest("" if isinstance(error, Forbidden) else str(error))
    return digest(mentions(COUNTER.sub("", text), parts))


def are_free(query: Query, names: Sequence[Name]) -> bool:
    """Whether no table or view has one of these names."""
    schemas = {name.database: [_literal(other.name) for other in names if other.database == name.database] for name in names}
    taken = " OR ".join(f"(table_schema = {_literal(schema) if schema else 'DATABASE()'} AND table_name IN ({', '.join(found)}))"
                        for schema, found in schemas.items())
    return not query(f"SELECT 1 FROM information_schema.tables WHERE {taken} LIMIT 1")


def _filled(query: Query, name: Name) -> str:
    try:
        return FILLED if query(f"SELECT 1 FROM {_quoted(name)} LIMIT 1") else EMPTY
    except StatementRefused:  # so will the statement be
        return ""


def _row(query: Query, catalog: str, columns: str, where: str, name: Name) -> str:
    schema = _literal(name.database) if name.database else "DATABASE()"
    where = where.format(schema, _literal(name.name))
    return digest(*map(repr, query(f"SELECT {columns} FROM information_schema.{catalog} WHERE {where}")))


def _quoted(name: Name) -> str:
    return ".".join("`" + part.replace("`", "``") + "`" for part in name if part)


def _literal(text: str) -> str:
    """In hexadecimal: a step may have changed what a backslash or a quote means."""
    return f"_utf8mb4 0x{text.encode().hex()}"


def took_effect(before: str, now: str) -> bool | None:
    """Objects that all changed, or all stayed; None where there was no answer, or some of a list changed.

    What has begun to empty a table has done so if it is empty; else somebody may have filled it again.
    """
    if now in (EMPTY, FILLED):
        return now == EMPTY or None
    changed = {one != other for one, other in zip(before.split(), now.split(), strict=False)}
    return changed.pop() if len(changed) == 1 else None
