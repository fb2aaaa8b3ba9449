"""The statement journal: whatever kills a run, each statement of an SQL step takes effect once, and none is guessed at.

No server takes DDL back, and a statement goes on when its client dies. So before a statement whose effect shows in the
catalog goes out, an `intent` is written with what the catalog says then; after a crash, what it says now decides. What
shows nowhere goes out with its `done`, in one transaction where the server has one. A statement is known by its text,
so a file that is corrected after a failure goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from migrator.errors import Locked, MigrateError, StatementRefused, StepFailed
from migrator.kinds import Kind, classify
from migrator.statements import Statement, encoded
from migrator.steps import Step

if TYPE_CHECKING:
    from migrator.databases import Database

INTENT, DONE, REFUSED = "intent", "done", "refused"
# Lost with the connection, so they are sent in every run, and need no journal.
SESSION = ("SET", "USE", "PREPARE", "DEALLOCATE", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "LOCK", "UNLOCK")
# Twice is as good as once, as long as nothing else came after.
REPEATABLE = ("GRANT", "REVOKE", "OPTIMIZE", "ANALYZE", "CHECK", "CHECKSUM", "REPAIR", "FLUSH", "KILL", "SHOW", "DESCRIBE",
              "DESC", "EXPLAIN", "EXISTS", "SYSTEM")  # fmt: skip
DDL = ("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE")
ROUTINES = ("FUNCTION", "PROCEDURE", "TRIGGER", "EVENT")
TEXTS = ("VIEW", "USER", "ROLE", *ROUTINES)  # hold no rows, so OR REPLACE takes none away
PAUSE_SECONDS = 0.5


class Entry(NamedTuple):
    """One row: a statement of a step, by its text's SHA-256 and its number among those of the same text.

    `label` is the step's stem and the statement's number when it was sent, as in its query id; `answer` is what the
    catalog said before.
    """

    version: int
    statement: str
    nth: int
    state: str
    run: str
    label: str
    answer: str = ""


def into(table: str, entries: Iterable[Entry]) -> str:
    """The INSERT of these rows from its INTO on. Their texts need no escaping: digests, stems, states, run ids."""
    rows = ", ".join(f"({e.version}, '{e.statement}', {e.nth}, '{e.state}', '{e.run}', '{e.label}', '{e.answer}')"
                     for e in entries)  # fmt: skip
    return f"INTO {table} ({', '.join(Entry._fields)}) VALUES {rows}"


class Answer(NamedTuple):
    """What a server says of the objects that a statement would change; `lasting` if it still will after a restart."""

    text: str = ""
    lasting: bool = False


def is_session(kind: Kind, text: str) -> bool:
    """Whether a statement does nothing but to its session. MariaDB's SET STATEMENT … FOR and BEGIN NOT ATOMIC do."""
    words = text[:100].upper().split()
    return ((kind.verb in SESSION and words[1:2] != ["STATEMENT"]) or words in (["BEGIN"], ["BEGIN", "WORK"])
            or kind.temporary or (kind.verb == "SELECT" and "@" in text))


def may_change_session(kind: Kind, text: str) -> bool:
    """Whether a statement may leave something behind in its session, if only through a function that it calls."""
    return kind.verb not in DDL or kind.temporary or "SELECT" in text.upper()


def is_repeatable(kind: Kind) -> bool:
    """Whether a statement may be sent again after it took effect, with the same end."""
    return (kind.verb in REPEATABLE or (kind.guarded and kind.verb in ("CREATE", "DROP") and not kind.fills)
            or (kind.replaces and kind.object_type in TEXTS))


class Journal:
    """One SQL step in one run: sends what is to be sent, each statement at most once over all runs."""

    def __init__(self, database: Database, step: Step, entries: Iterable[Entry], run: str, lock_timeout: float):
        self._database, self._step, self._run, self._patience = database, step, run, lock_timeout
        self._known = {(entry.statement, entry.nth): entry for entry in entries if entry.version == step.version}
        self._seen: Counter[str] = Counter()
        self._temporary: set[str] = set()
        self._unwritten: list[Entry] = []  # they go out before the next statement, with its intent if it needs one
        self.left_session = True  # as it was

    def apply(self, session: Any) -> None:
        """Send every statement that did not take effect yet. Raises StepFailed, naming file, line and remedy."""
        for number, statement in enumerate(self._step.statements, 1):
            place = self._step.place(number, statement)
            try:
                self._carry_out(session, statement, place)
            except StatementRefused as error:
                raise StepFailed(f"{self._step.where(place)} was refused: {error}") from None
        if self._step.verify_text is not None:
            self._flush()  # else the ledger's row follows at once, and says as much of the last statement

    def _flush(self, *more: Entry) -> None:
        if entries := [*self._unwritten, *more]:
            self._database.write_journal(entries)
            self._unwritten = []

    def is_done(self, statement: Statement) -> bool:
        """Whether the journal alone says so; asks nothing. To be called once for each statement, in order."""
        known = self._known.get(self._key(statement))
        return known is not None and known.state == DONE

    def _key(self, statement: Statement) -> tuple[str, int]:
        checksum = hashlib.sha256()
        for piece in encoded(statement.text):
            checksum.update(piece)
        digest = checksum.hexdigest()
        self._seen[digest] += 1
        return digest, self._seen[digest]

    def _carry_out(self, session: Any, statement: Statement, place: Mapping[str, int]) -> None:
        text, database = statement.text, self._database
        kind, key = classify(text, database.target), self._key(statement)
        self.left_session &= not may_change_session(kind, text)
        if self._is_session(kind, text):
            self._flush()  # it may begin a transaction of the step's own, and that may be rolled back
            session.execute(text, place)
            return
        known, repeatable = self._known.get(key), is_repeatable(kind)
        entry = Entry(self._step.version, *key, INTENT, self._run, f"{self._step.stem} {place['n']}")
        done = entry._replace(state=DONE)
        if known and (known.state == DONE or (known.state == INTENT and not repeatable
                                              and self._took_effect(session, kind, text, known,
                                                                    self._step.where(place)))):
            self._unwritten += [done] if known.state == INTENT else []
            session.skipped(place, known.run)
            return
        answer = Answer(lasting=True) if repeatable else database.answer(kind)
        # What is repeatable needs no intent, for nobody will ask whether it took effect.
        before = self._unwritten if repeatable else [*self._unwritten, entry._replace(answer=answer.text)]

        def send(sql: str, label: str) -> None:
            if answer.lasting:
                if before:
                    database.write_journal(before)
                database.execute(sql, label)
            else:
                database.execute_once(sql, kind, before, done, label)

        try:
            session.execute(text, place, send)
            self._unwritten = [done] * answer.lasting
        except StatementRefused as error:
            undone = not repeatable and (error.checked or (answer.lasting and self._did_nothing(kind, answer)))
            self._flush(*[entry._replace(state=REFUSED)] * undone)
            raise

    def _did_nothing(self, kind: Kind, before: Answer) -> bool:
        """Whether a refused statement left all as it was. To be settled now: the person who comes next changes it."""
        if kind.verb == "CREATE" and not (kind.replaces or kind.fills):
            return True
        with suppress(MigrateError):
            return self._database.answer(kind).text == before.text
        return False

    def _is_session(self, kind: Kind, text: str) -> bool:
        """Rows of temporary tables are lost as well, so what makes them is sent again."""
        if kind.temporary and kind.name:
            self._temporary.add(kind.name.name.lower())
        return is_session(kind, text) or bool(kind.name and kind.name.name.lower() in self._temporary)

    def _took_effect(self, session: Any, kind: Kind, text: str, known: Entry, where: str) -> bool:
        """Settle an intent of an earlier run. Raises StepFailed where nobody can, unless the step says it is idempotent."""
        ends = time.monotonic() + self._patience
        while running := self._database.unfinished(kind):
            if time.monotonic() > ends:
                raise Locked(f"{where}: {running} did not end within {self._patience:g} s; run again when it has")
            session.log.info("waiting", step=self._step.stem, target=self._database.target, reason=running,
                             seconds_left=ends - time.monotonic())
            time.sleep(PAUSE_SECONDS)
        effect = self._database.took_effect(text, kind, known)
        if effect is None and not self._step.idempotent:
            again, skip = self._database.remedies(known)
            raise StepFailed(f"{where} was sent by run {known.run}, whose end nobody saw, and the server cannot tell"
                             f" whether it took effect: look, and then either send it again: {again}; or skip it: {skip}")
        return bool(effect)


def mentions(definition: str, names: list[str]) -> str:
    """The lines of a definition that speak of these names; all of it where there are none."""
    words = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", re.IGNORECASE)
    return "\n".join(line for line in definition.splitlines() if words.search(line)) if names else definition


def digest(*texts: str) -> str:
    """Short, and safe to quote in whatever modes a step has set."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
