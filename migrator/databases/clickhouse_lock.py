"""The run lock on ClickHouse, which has none of its own: an atomic CREATE TABLE, a heartbeat, a takeover by RENAME."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING

from migrator.errors import MigrateError, StatementRefused

if TYPE_CHECKING:
    from migrator.databases import Identity
    from migrator.databases.clickhouse import ClickHouse

BEAT_SECONDS = 2.0
SURE_SECONDS = 0.5  # an answer of the server is good for so long, for while our beats arrive nobody may take over
STALE_SECONDS = 10.0  # five beats missed: its owner is dead, or cut off and stopped by its own check


class Lock:
    """One table is the lock: whoever creates it has it. Plain CREATE TABLE has exactly one winner on one server.

    The owner is in the table's comment, its heartbeats are rows. A table whose newest beat is too old is renamed to a
    name made of its own UUID: of all who see it stale one RENAME wins, and a lock created meanwhile has another UUID
    and cannot be hit twice, because the name is taken. Then the winner creates its own like anybody else.
    """

    def __init__(self, database: ClickHouse, table: str, identity: Identity):
        self._database, self._table, self._identity = database, table, identity
        self._beating: threading.Event | None = None  # set to end the heartbeat; None while we want no lock
        self._beat_at = self._seen_at = -STALE_SECONDS  # when the newest beat was sent, and the lock was seen as ours

    def take(self) -> str:
        """Empty when the lock is ours, now or already; else who has it."""
        if self._beating:
            return ""
        owner = json.dumps({"host": self._identity.host, "run": self._identity.run})
        self._beat_at = time.monotonic()
        self._beating = threading.Event()  # before the try: a CREATE whose reply is lost may have made the table
        try:
            self._database.execute(f"CREATE TABLE {self._table} (beat DateTime64(3, 'UTC')) ENGINE = MergeTree"
                                   f" ORDER BY tuple() COMMENT {_quote(owner)}", "lock")
        except StatementRefused as error:
            self._beating = None
            if "Code: 57." not in str(error):
                raise
            return self._inspect()
        threading.Thread(target=self._beat, args=(self._beating,), daemon=True).start()
        return ""

    def _seen(self) -> tuple[str, str, str, float]:
        """UUID, owner's text, since when, and the age of the newest sign of life in seconds, by the server's clock."""
        schema, name = self._table.split(".")
        rows = self._database.query(
            "SELECT toString(uuid), comment, formatDateTime(metadata_modification_time, '%Y-%m-%dT%H:%i:%SZ', 'UTC'),"
            " toFloat64(dateDiff('millisecond', metadata_modification_time, now64(3))) / 1000"
            f" FROM system.tables WHERE database = '{schema}' AND name = '{name}'")
        return rows[0] if rows else ("", "", "", 0.0)

    def _inspect(self) -> str:
        uuid, comment, since, age = self._seen()
        if not uuid:
            return "nobody now; trying again"
        try:
            beats = self._database.query(f"SELECT toFloat64(dateDiff('millisecond', max(beat), now64(3))) / 1000,"
                                         f" count() FROM {self._table}")
            age = beats[0][0] if beats[0][1] else age
        except StatementRefused:
            return "nobody now; trying again"
        owner = _owner(comment)
        if age > STALE_SECONDS:
            self._bury(uuid)
        return f"run {owner.get('run', '?')} on {owner.get('host', '?')} since {since}"

    def _bury(self, uuid: str) -> None:
        """Move a dead owner's lock away. Losing this race is fine: somebody else did it."""
        schema, name = self._table.split(".")
        grave = f"{name}_{uuid.replace('-', '')}"
        try:
            self._database.execute(f"RENAME TABLE {self._table} TO {schema}.{grave}", "lock")
            if not self._database.query(f"SELECT 1 FROM system.tables WHERE database = '{schema}' AND name = '{grave}'"
                                        f" AND uuid = '{uuid}'"):
                # The owner was alive after all and freed it, and this is another one's lock: give that back.
                self._database.execute(f"RENAME TABLE {schema}.{grave} TO {self._table}", "lock")
        except StatementRefused:
            return

    def is_ours(self) -> bool:
        now = time.monotonic()
        if now - self._seen_at > SURE_SECONDS or now - self._beat_at > STALE_SECONDS / 2:
            ours = bool(self._beating) and self._identity.run == _owner(self._seen()[1]).get("run")
            self._seen_at = now if ours else -STALE_SECONDS
        return self._seen_at > 0

    def is_lost(self) -> bool:
        """Whether it was ours, and is not any more."""
        return self._seen_at > 0 and not self.is_ours()

    def _beat(self, end: threading.Event) -> None:
        """Show that we are alive. A beat that fails is no matter: `is_ours` tells whether the lock was lost by that."""
        other: ClickHouse | None = None
        while not end.wait(BEAT_SECONDS):
            with contextlib.suppress(MigrateError):
                other = other or self._database.again()
                sent = time.monotonic()
                other.execute(f"INSERT INTO {self._table} SELECT now64(3)", "heartbeat")
                self._beat_at = sent
        if other:
            other.close()

    def free(self) -> None:
        if not self._beating:
            return
        self._beating.set()
        self._seen_at = -STALE_SECONDS  # to drop another's would be worse than to ask once more
        if self.is_ours():
            self._database.execute(f"DROP TABLE IF EXISTS {self._table} SYNC", "lock")
        self._beating = None
        self._sweep()

    def _sweep(self) -> None:
        """Drop the graves that are older than a day: nobody can still be about to bury those again."""
        schema, name = self._table.split(".")
        for (grave,) in self._database.query(
                f"SELECT name FROM system.tables WHERE database = '{schema}' AND match(name, '^{name}_[0-9a-f]{{32}}$')"
                " AND metadata_modification_time < now() - INTERVAL 1 DAY"):
            self._database.execute(f"DROP TABLE IF EXISTS {schema}.{grave}", "lock")


def _owner(comment: str) -> dict[str, str]:
    try:
        return dict(json.loads(comment))
    except (ValueError, TypeError):
        return {}


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
