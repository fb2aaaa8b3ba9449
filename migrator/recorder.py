"""The recorder: writes the ledger's rows, and reports each step as applied when its row is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from migrator.databases import Database
from migrator.ledger import Applied
from migrator.logs import Log
from migrator.report import Report

LONGEST_SECONDS = 1.0  # for which a row waits for others, and the statement that runs then


class Recorder:
    """Rows of a batch are written together, those of one database in one statement."""

    def __init__(self, databases: Mapping[str, Database], check_lock: Callable[[], None], log: Log, report: Report):
        self._databases, self._check_lock, self._log, self._report = databases, check_lock, log, report
        self._rows: list[Applied] = []
        self._first_at = 0.0

    def add(self, row: Applied) -> None:
        """Take the row of a finished step; `write` must follow when its batch is at its end."""
        if not self._rows:
            self._first_at = time.monotonic()
        self._rows.append(row)
        if time.monotonic() - self._first_at > LONGEST_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was taken. In the report, a step whose row cannot be written has failed."""
        rows, failed, written = self._rows, self._report.failed, set[str]()
        self._rows = []
        if rows:
            self._check_lock()
        try:
            for target in dict.fromkeys(row.target for row in rows):
                of_target = [row for row in rows if row.target == target]
                self._report.failed = of_target[0].name
                self._databases[target].record(of_target)
                written.add(target)
                self._report.failed = failed
        finally:
            for row in rows:
                if row.target in written:
                    self._report.applied.append(row.name)
                    self._report.pending.remove(row.name)
                    self._log.info("step_applied", step=row.name, target=row.target, seconds=row.seconds)
