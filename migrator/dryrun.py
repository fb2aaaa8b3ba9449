"""The dry run: every pending statement named and checked as far as the servers allow, and nothing executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from migrator.databases import Database
from migrator.errors import StatementRefused, StepFailed
from migrator.journal import Journal
from migrator.kinds import Kind, classify
from migrator.logs import Log
from migrator.session import Run
from migrator.steps import Step

Name = tuple[str, str]


class DryRun:
    """Walks through the pending steps in order and keeps track of the names that they would create and drop."""

    def __init__(self, databases: Mapping[str, Database], log: Log):
        self._databases, self._log = databases, log
        self._names: dict[str, set[Name]] = {target: _tables(database) for target, database in databases.items()}
        self._home = {target: _current(database) for target, database in databases.items()}
        self._entries = {target: database.read_journal() for target, database in databases.items()}
        self.problems: list[str] = []

    def step(self, step: Step, run: Run) -> None:
        """Log one `statement` line for each statement the step would send; collect what would be refused."""
        self._current = dict(self._home)
        if step.is_python:
            return self._python(step, run)
        journal = Journal(self._databases[step.target], step, self._entries[step.target], "", 0)
        for number, statement in enumerate(step.statements, 1):
            if journal.is_done(statement):
                continue
            kind = classify(statement.text, step.target)
            self._log.info("statement", step=step.stem, target=step.target, n=number, of=step.count,
                           line=statement.line, would=_summary(kind))
            where = f"{step.path.name}:{statement.line}"
            problem = self._databases[step.target].check(statement.text) or self._missing(step.target, kind)
            if problem:
                self._problem(step, f"{where}: statement {number} of {step.count} would be refused: {problem}")
            self._track(step.target, kind)
        return None

    def _python(self, step: Step, run: Run) -> None:
        try:
            changes = run.call("plan")
        except StepFailed as error:
            return self._problem(step, str(error))
        if changes is None:
            self._log.warning("statement", step=step.stem, target=step.target,
                              would="unknown: this step has no plan function")
            return None
        for number, change in enumerate(changes, 1):
            sql, fields = (change, {}) if isinstance(change, str) else (
                change.sql, {"why": change.reason, "rows": change.rows, "bytes": change.bytes})
            self._log.info("statement", step=step.stem, target=step.target, n=number, of=len(changes), would=sql,
                           **fields)
            kind = classify(sql, step.target)
            if problem := self._missing(step.target, kind):
                self._problem(step, f"{step.path.name}: statement {number} of {len(changes)} would be refused: {problem}")
            self._track(step.target, kind)
        return None

    def _problem(self, step: Step, text: str) -> None:
        self.problems.append(text)
        self._log.error("error", step=step.stem, error=text)

    def _missing(self, target: str, kind: Kind) -> str:
        names = self._names[target]
        gone = [name for name in kind.needs if self._qualified(target, name) not in names
                and not _is_system(self._qualified(target, name)[0])]
        return f"{_shown(gone[0])} does not exist, and no earlier pending step creates it" if gone else ""

    def _track(self, target: str, kind: Kind) -> None:
        self._names[target] -= {self._qualified(target, name) for name in kind.drops}
        self._names[target] |= {self._qualified(target, name) for name in kind.creates}
        if kind.verb == "USE" and kind.name:
            self._current[target] = kind.name.name

    def _qualified(self, target: str, name: tuple[str | None, str]) -> Name:
        return (name[0] or self._current[target], name[1])


def _tables(database: Database) -> set[Name]:
    source = ("SELECT database, name FROM system.tables" if database.target == "clickhouse" else
              "SELECT table_schema, table_name FROM information_schema.tables")
    return {(row[0], row[1]) for row in database.query(source)}


def _current(database: Database) -> str:
    """The database that a bare name means when a step begins."""
    return str(database.query(f"SELECT {'currentDatabase' if database.target == 'clickhouse' else 'DATABASE'}()")[0][0])


def _is_system(database: str) -> bool:
    return database.lower() in ("system", "information_schema", "performance_schema", "mysql", "sys")


def _shown(name: tuple[str | None, str]) -> str:
    return ".".join(filter(None, name))


def _summary(kind: Kind) -> str:
    return " ".join(filter(None, [kind.verb, kind.object_type, _shown(kind.name) if isinstance(kind.name, tuple)
                                  else kind.name]))


def check_all(steps: Sequence[Step], runs: Mapping[Step, Run], databases: Mapping[str, Database], log: Log) -> list[str]:
    """Every problem of the pending steps, as lines; empty when the plan is sound. Nothing is executed."""
    dry = DryRun(databases, log)
    for step in steps:
        try:
            dry.step(step, runs[step])
        except StatementRefused as error:
            dry.problems.append(f"{step.path.name}: {error}")
    return dry.problems
