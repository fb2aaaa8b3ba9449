"""The recorder: writes the ledger's rows, and reports each step as applied when its row is there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from migrator.databases import LAST_SECONDS, Database
from migrator.errors import Stopped
from migrator.ledger import Applied
from migrator.logs import Log
from migrator.report import Report


class Recorder:
    """Rows are written one after the other; the last one may be on its way while the caller is at something else.

    On ClickHouse a row takes longer than most statements, and the next step is often one for the other database.
    """

    def __init__(self, databases: Mapping[str, Database], log: Log, report: Report):
        self._databases, self._log, self._report = databases, log, report
        self._row: Applied | None = None
        self._rows: queue.SimpleQueue[Applied] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None  # one for all rows of a run
        self._written = threading.Event()
        self._raised: BaseException | None = None

    def write(self, row: Applied, *, on_the_way: bool) -> None:
        """Write a row; with `on_the_way` only begin to, and something must be done `beside` it next."""
        self._row = row
        if not on_the_way:
            self._databases[row.target].record(row)
            self._report_applied()
            return
        if not self._thread:
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()
        self._written.clear()
        self._rows.put(row)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Something that the last row may be on its way beside; at the end that is there. Raises what writing it raised."""
        try:
            yield
            self._finish()
        except BaseException as error:
            self._finish(LAST_SECONDS if isinstance(error, Stopped) else None)
            raise

    def _write(self) -> None:
        while True:
            row = self._rows.get()
            try:
                self._databases[row.target].record(row)
            except BaseException as error:  # handed to the caller's thread
                self._raised = error
            self._written.set()

    def _finish(self, patience: float | None = None) -> None:
        if not self._row or not self._written.wait(patience):
            return
        if self._raised:
            self._report.failed, self._row = self._row.name, None
            raise self._raised
        self._report_applied()

    def _report_applied(self) -> None:
        assert self._row
        row, self._row = self._row, None
        if self._report.failed == row.name:  # and not the next one, at which the run is already
            self._report.failed = ""
        self._report.applied.append(row.name)
        self._report.pending.remove(row.name)
        self._log.info("step_applied", step=row.name, target=row.target, seconds=row.seconds)
