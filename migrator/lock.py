"""The run lock: one for each database that a run touches, MySQL first, held for the whole apply."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from migrator.databases import Clock, Database
from migrator.errors import Locked, LostConnection
from migrator.logs import Log

PAUSE_SECONDS = 0.25


class RunLock:
    """Taken by `take`, freed by `free`, or by the death of the process. One order everywhere, so no deadlock."""

    def __init__(self, databases: Mapping[str, Database], timeout: float, log: Log):
        self._databases = [databases[target] for target in ("mysql", "clickhouse") if target in databases]
        self._timeout, self._log = timeout, log
        self._held: list[Database] = []

    def take(self, still_needed: Callable[[], bool]) -> bool:
        """Wait for the lock; False when, while waiting, another run did all there was to do. Raises Locked."""
        if self._held:
            return True
        clock = Clock(self._timeout)
        for database in self._databases:
            said = 0.0
            while owner := database.try_lock():
                if clock.left <= 0:
                    raise Locked(f"another run holds the {database.target} lock ({owner}) and did not finish within"
                                 f" {self._timeout:g} s; run again when it is done")
                if time.monotonic() - said > 5:
                    said = time.monotonic()
                    self._log.info("lock", state="waiting", target=database.target, owner=owner,
                                   seconds_left=clock.left)
                if not still_needed():
                    self.free()
                    return False
                time.sleep(min(PAUSE_SECONDS, clock.left))
            self._held.append(database)
        self._log.info("lock", state="taken", targets=[database.target for database in self._held])
        return True

    def check(self) -> None:
        """Raises LostConnection when a lock is not ours any more: then no further statement may be sent."""
        for database in self._held:
            if not database.holds_lock():
                raise LostConnection(f"the {database.target} lock was lost (its connection was ended, or it was taken"
                                     " over); nothing more was sent, the next run continues")

    def free(self) -> None:
        for database in reversed(self._held):
            database.unlock()
        self._held.clear()
