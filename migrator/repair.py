"""Repair: which steps to run again so that what is missing comes back, and what of them; a pure decision."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from migrator.catalogs import DATA, MISSING, Catalog, Finding, Object
from migrator.journal import ROUTINES, is_repeatable, is_session
from migrator.kinds import Clause, Kind, Name, classify
from migrator.steps import Step

KINDS = {"TABLE": "table", "DICTIONARY": "table", "VIEW": "view", "MATERIALIZED VIEW": "view", "INDEX": "index"}


def restorable(findings: Sequence[Finding], steps: Sequence[Step], mode: str) -> list[Step]:
    """The steps to run again, in order; none when the run may not, or could not, restore everything.

    `missing`: only if each finding is a missing part, or a view or routine; a table that is gone took its rows along,
    and what is different was somebody's deliberate change, so a person looks first, and then nothing is touched.
    `all`: every step that owns something found.
    """
    schema = [finding for finding in findings if finding.kind != DATA]
    if mode == "none" or (mode == "missing" and any(found.kind != MISSING or found.relation for found in schema)):
        return []
    owners = {stem for finding in schema for stem in finding.step.split(",")}
    return [step for step in steps if step.stem in owners]


def restoring(step: Step, live: Catalog) -> Iterator[tuple[str, dict[str, int]]]:
    """What an SQL step says to bring back what is not there, with its place in the file.

    Schema only: what creates something that is missing, what may be repeated, and what sets up the session; no rows,
    and of relations no DROP, since rows came after it.
    """
    current, live = "default", dict(live)
    for number, statement in enumerate(step.statements, 1):
        kind = classify(statement.text, step.target)
        current = kind.name.name if kind.verb == "USE" and kind.name else current
        if text := _restoring(statement.text, kind, live, current if step.target == "clickhouse" else ""):
            yield text, step.place(number, statement)
        if kind.verb == "DROP" and kind.object_type in ROUTINES and kind.name:
            live.pop(Object(kind.object_type.lower(), kind.name.name), None)  # its CREATE follows


def _restoring(text: str, kind: Kind, live: Catalog, current: str) -> str:
    if kind.verb == "ALTER" and kind.object_type == "TABLE" and kind.name:
        table = _key(kind.name, current)
        lost = [clause.text for clause in kind.clauses if clause.action.startswith("ADD ")
                and not _is_there(clause, table, live)]
        return f"ALTER TABLE {_quoted(kind.name)} {', '.join(lost)}" if lost else ""
    if is_session(kind, text) or (is_repeatable(kind) and (kind.verb != "DROP" or kind.object_type in ROUTINES)):
        return text
    called = KINDS | {routine: routine.lower() for routine in ROUTINES if not current}  # MySQL
    if kind.verb != "CREATE" or not kind.name or kind.object_type not in called:
        return ""
    part = kind.table if kind.object_type in ("INDEX", "TRIGGER") else None
    place = (_key(part, current), kind.name.name) if part else (_key(kind.name, current), "")
    return "" if Object(called[kind.object_type], *place) in live else text


def _is_there(clause: Clause, table: str, live: Catalog) -> bool:
    """Whether the catalog has what a clause adds; a foreign key goes by its columns, what has no name counts as there."""
    kind = clause.action.removeprefix("ADD ").lower()
    if keys := re.search(r"(?is)FOREIGN KEY\b[^(]*\(([^()]*)\)", clause.text):
        columns = ", ".join(column.strip().strip("`") for column in keys[1].split(","))
        return any(item.kind == kind and item.table == table and item.name.startswith(f"({columns}) to ") for item in live)
    return not clause.name or Object(kind, table, clause.name) in live


def _key(name: Name, current: str) -> str:
    """As catalogs write it: on ClickHouse with its database, `current` if the statement names none."""
    return f"{name.database or current}.{name.name}" if current else name.name


def _quoted(name: Name) -> str:
    return ".".join("`" + part.replace("`", "``") + "`" for part in name if part)
