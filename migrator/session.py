"""What a step is given: sessions on the databases, a log, the settings, and nothing hidden."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from migrator.converge import Change
from migrator.databases import Database, Rows
from migrator.errors import MigrateError, SettingsError, StatementRefused, StepFailed, Stopped
from migrator.logs import Log
from migrator.settings import Settings
from migrator.steps import Step

WATCH_SECONDS = 2.0  # between two looks at a long statement


class Watch:
    """Reports now and then how far a long statement is, if its server says so; one thread for all of a run's."""

    def __init__(self) -> None:
        self._running: tuple[Database, Run, float] | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, database: Database, run: Run) -> Iterator[None]:
        """While this lasts, a statement runs."""
        self._running = database, run, time.monotonic()
        if not self._thread:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self._running = None

    def _look(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            if not (running := self._running):
                continue
            database, run, began = running
            with suppress(MigrateError):
                if time.monotonic() - began > WATCH_SECONDS and (found := database.how_far()) and self._running is running:
                    run.log_progress(*found, time.monotonic() - began)


class Session:
    """One database as one step sees it. Every statement goes out alone, is timed and logged, under the run's lock."""

    def __init__(self, database: Database, run: Run):
        self._database, self._run = database, run
        self.target, self.dialect, self.log = database.target, database.dialect, run.log
        self.step, self.patience = run.step.stem, run.settings.lock_timeout
        self._number = 0

    def query(self, sql: str) -> Rows:
        """The rows of a reading statement."""
        return self._database.query(sql)

    def execute(self, sql: str, place: Mapping[str, int | None] | None = None,
                send: Callable[[str, str], None] | None = None) -> None:
        """Send one statement and wait for its end. Raises StatementRefused with the server's code and message.

        The journal gives the statement's place in its file (`n`, `of`, `line`), and at times a way of its own to send.
        """
        self._run.check_lock()
        self._number += 1
        place = place or {"n": self._number, "of": None, "line": None}
        started = time.monotonic()
        with self._run.watch.over(self._database, self._run):
            (send or self._database.execute)(sql, f"{self.step} {place['n']}")
        self.log.info("statement", step=self.step, target=self.target, **place, seconds=time.monotonic() - started)

    def skipped(self, place: Mapping[str, int | None], run: str) -> None:
        """Say that a statement took effect in an earlier run."""
        self.log.info("statement", step=self.step, target=self.target, **place, seconds=0.0,
                      skipped=f"took effect in run {run}")

    def changes(self, definitions: str) -> list[Change]:
        """What `converge` would do now; reads only."""
        return self._database.changes(definitions)

    def converge(self, definitions: str) -> None:
        """Bring every object to its definition with the least change, keeping every row. Resumable at any point."""
        self._database.converge(self, definitions)

    def catalog(self, tables: Any = None) -> Any:
        """The live catalog, as verification reads it."""
        return self._database.catalog(tables)

    def same_queries(self, expected: Any, live: Any) -> Any:
        return self._database.same_queries(expected, live)

    def progress(self, *, done: int, total: int, unit: str, size: int = 0) -> None:
        """Report how far a long statement or loop is; `size` is the bytes of all."""
        self._run.progress(done, total, unit, size)


class Run:
    """The argument of a Python step's `plan`, `apply` and `verify`."""

    def __init__(self, step: Step, databases: Mapping[str, Database], settings: Settings, log: Log,
                 check_lock: Callable[[], None], watch: Watch):
        self.step, self.settings, self.log, self.check_lock, self.watch = step, settings, log, check_lock, watch
        self._databases = databases
        self._sessions: dict[str, Session] = {}
        self._functions: dict[str, Any] | None = None
        self._progress_started = 0.0

    @property
    def clickhouse(self) -> Session:
        return self.session("clickhouse")

    @property
    def mysql(self) -> Session:
        return self.session("mysql")

    def session(self, target: str) -> Session:
        """The session of a target. Raises SettingsError where this run has no connection to it."""
        if target not in self._databases:
            raise SettingsError(f"{self.step.path.name} uses {target}, but this run is restricted to"
                                f" {', '.join(self._databases)}: set {target.upper()}_URL and drop --target")
        if target not in self._sessions:
            self._sessions[target] = Session(self._databases[target], self)
        return self._sessions[target]

    def function(self, name: str) -> Callable[[Run], Any] | None:
        """One of the step's functions; the file is executed when the first is asked for, again if it raised."""
        if self._functions is None:
            functions = {"__name__": self.step.stem, "__file__": str(self.step.path)}
            exec(self.step.code, functions)
            self._functions = functions
        function = self._functions.get(name)
        return function if callable(function) else None

    def call(self, name: str) -> list[Any] | None:
        """What a function of a Python step returns or yields; None if the step has no such function.

        Whatever it raises becomes StepFailed, naming the line.
        """
        try:
            if (function := self.function(name)) is None:
                return None
            made = function(self)
            # A False is no empty list: it must not pass for "nothing is wrong".
            return [made] if isinstance(made, str) else [] if made is None else list(made)
        except StatementRefused as error:
            line = _line(error, self.step.path.name)
            raise StepFailed(f"{self.step.path.name}{line}: {name}: a statement was refused: {error}") from None
        except (MigrateError, Stopped):
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt included
            line = _line(error, self.step.path.name)
            raise StepFailed(f"{self.step.path.name}{line}: {name} raised {type(error).__name__}: {error}") from error

    def progress(self, done: int, total: int, unit: str, size: int = 0) -> None:
        if not done or not self._progress_started:
            self._progress_started = time.monotonic()
        sizes = {"bytes_done": size * done // total, "bytes_total": size} if size and total else {}
        self.log_progress(done, total, unit, time.monotonic() - self._progress_started, **sizes)

    def log_progress(self, done: int, total: int, unit: str, seconds: float, **sizes: int) -> None:
        rate = done / max(seconds, 0.001)
        left = (total - done) / rate if rate else None
        self.log.info("progress", step=self.step.stem, done=done, total=total, unit=unit, rate=round(rate),
                      eta_seconds=left, **sizes)


class Runs(dict[Step, Run]):
    """The run of each step, made when it is first asked for: of most steps there is nothing left to do."""

    def __init__(self, databases: Mapping[str, Database], settings: Settings, log: Log, check_lock: Callable[[], None]):
        super().__init__()
        self._make = partial(Run, databases=databases, settings=settings, log=log, check_lock=check_lock, watch=Watch())

    def __missing__(self, step: Step) -> Run:
        self[step] = run = self._make(step)
        return run


def _line(error: BaseException, name: str) -> str:
    trace, line = error.__traceback__, ""
    while trace:
        if trace.tb_frame.f_code.co_filename == name:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
