"""Verification: the live catalog against the expected schema, then every step's own queries. It never writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from migrator.catalogs import DATA, DIFFERENT, EXTRA, MISSING, RELATIONS, Catalog, Finding, Object, differences
from migrator.catalogs.mysql import BROKEN
from migrator.databases import Database
from migrator.errors import StatementRefused, StepFailed, WrongServer
from migrator.expected import Expected
from migrator.session import Run
from migrator.steps import Step

REMEDIES = {
    MISSING: "a run restores this by itself when nothing else is wrong (unless MIGRATE_REPAIR=none)",
    DIFFERENT: "undo the change by hand, or run with MIGRATE_REPAIR=all, which keeps every row",
    EXTRA: "drop it, or add it in a new step",
}
TABLE_GONE = "its rows went with it: restore it from a backup, or recreate it empty with MIGRATE_REPAIR=all"
MAX_ROWS = 20  # of what one verification found become findings; the count of all is in the last


def refuse_incomplete(steps: Sequence[Step], pending: Sequence[Step], databases: Mapping[str, Database]) -> None:
    """Raise WrongServer for a table of the application that lacks a column which a step requires of it.

    The step leaves such a table alone, so nothing would add the column, unless a pending step before it speaks of it.
    """
    for step in steps:
        if not (shared := step.shared):
            continue
        live = databases[step.target].catalog([*shared])
        earlier = [other.text for other in pending if other.target == step.target and other.version < step.version]
        for table, columns in shared.items():
            missing = [name for name in columns if Object("column", table, name) not in live]
            if missing and Object("table", table) in live and not any(table in text for text in earlier):
                raise WrongServer(f"table {table} belongs to the application and lacks {', '.join(missing)}, which"
                                  f" {step.path.name} requires of it: add that by the application's own means, then run again")


def verify_schema(database: Database, expected: Expected, *, only_missing: bool = False) -> list[Finding]:
    """Every difference between the live catalog and the expected schema.

    With `only_missing` (an older image on a newer schema) only what is not there at all counts.
    """
    live = database.same_queries(expected.objects, database.catalog(expected.tables))
    found = [difference for difference in differences(expected.objects, live, expected.shared)
             if difference[0] != EXTRA or difference[1] not in expected.owners]
    views = {item.table for _, item, _, _ in found if item.kind == "view"}
    found = [difference for difference in found if difference[1].kind != "output" or difference[1].table not in views]
    gone = {item for kind, item, _, _ in found if kind == MISSING}
    findings = [_finding(MISSING if _follows(item, gone, expected, live) else kind, item, wanted, actual, expected)
                for kind, item, wanted, actual in found]
    if only_missing:
        return [finding for finding in findings if finding.kind == MISSING]
    touched = {item.table for _, item, _, _ in found}
    return [*findings, *_views(live, expected, touched)]


def _follows(item: Object, gone: set[Object], expected: Expected, live: Catalog) -> bool:
    """Whether a difference only follows from a column that is missing: it comes back with the column."""
    if not gone or item not in live or item not in expected.objects:
        return False
    if item.kind == "index":
        kept = [column for column in expected.objects[item].get("columns", "").split(", ")
                if Object("column", item.table, column.split(" ")[0].split("(")[0]) not in gone]
        return ", ".join(kept) == live[item].get("columns") != expected.objects[item].get("columns")
    return item.kind == "view" and live[item].get("query", "").startswith(BROKEN)


def _finding(kind: str, item: Object, wanted: str, actual: str, expected: Expected) -> Finding:
    relation = item.kind == "table"
    remedy = TABLE_GONE if kind == MISSING and relation else REMEDIES[kind]
    return Finding(kind, str(item), wanted, actual, remedy, ",".join(expected.owners.get(item, ())), relation)


def _views(live: Catalog, expected: Expected, touched: set[str]) -> Iterable[Finding]:
    """Each materialized view's columns against its target's, and views of others that write into an owned table.

    This is the defect that the job exists for: a view that inserts a column its table lacks loses that column's
    values without an error (observed on ClickHouse 26.9), and so does a column that no view fills. `touched` are
    tables and views with a finding of their own, which says it already.
    """
    owned = {item.table for item in expected.objects if item.kind in RELATIONS} - expected.shared.keys()
    names: dict[tuple[str, str], set[str]] = {}  # by kind and table
    for item, attributes in live.items():
        if not attributes.get("default", "").startswith(("MATERIALIZED", "ALIAS", "EPHEMERAL")):
            names.setdefault((item.kind, item.table), set()).add(item.name)
    for item, view in live.items():
        target = view.get("target", "") if item.kind == "view" else ""
        if target not in owned:
            continue
        if item not in expected.owners:
            yield Finding(EXTRA, str(item), f"no other view writes into {target}", f"{item.table} does",
                          f"its rows mix with the owned ones: DROP VIEW {item.table}, or add it in a new step")
            continue
        outputs, columns = names.get(("output", item.table), set()), names.get(("column", target), set())
        if columns and outputs != columns and not touched & {item.table, target}:
            lost, empty = ", ".join(sorted(outputs - columns)), ", ".join(sorted(columns - outputs))
            yield Finding(DIFFERENT, str(item), f"exactly the columns of {target}",
                          "; ".join(filter(None, [lost and f"writes {lost}, which the table lacks",
                                                  empty and f"does not fill {empty}"])),
                          "bring table and view together: undo the change, or run with MIGRATE_REPAIR=all")


def verify_steps(steps: Sequence[Step], runs: Mapping[Step, Run]) -> list[Finding]:
    """What the steps' own verifications return: a row, or an error, is something wrong."""
    return [finding for step in steps if step.is_python or step.verify_text is not None
            for finding in verify_step(step, runs[step])]


def verify_step(step: Step, run: Run) -> Iterable[Finding]:
    """One step's `.verify.sql` queries and `verify` function."""
    session = run.session(step.target) if step.verifications else None
    for statement in step.verifications:
        assert session is not None
        name = f"{step.stem}.verify.sql:{statement.line}"
        try:
            rows = session.query(statement.text)
        except StatementRefused as error:
            rows = [(str(error),)]
        yield from _few(name, [" | ".join(map(str, row)) for row in rows], step)
    if step.is_python:
        try:
            found = run.call("verify") or []
        except StepFailed as error:  # perhaps because of what another finding names: all checks run
            found = [error]
        yield from _few(step.path.name, found, step)


def _few(name: str, found: Sequence[object], step: Step) -> Iterable[Finding]:
    yield from (wrong if isinstance(wrong, Finding) else _wrong(name, str(wrong), step) for wrong in found[:MAX_ROWS])
    if len(found) > MAX_ROWS:
        yield _wrong(name, f"… {len(found)} in all", step)


def _wrong(name: str, actual: str, step: Step) -> Finding:
    return Finding(DATA, name, "nothing wrong", actual, f"repair the data, then run again; see {step.path.name}",
                   step.stem)
