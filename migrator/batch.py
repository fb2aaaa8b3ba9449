"""Batches: pending steps that only create, which share the writes of journal and ledger.

Nothing in a batch takes a name away, and no two of its statements create the same one. So where each name was free at its
beginning, the catalog tells of every statement whether it took effect, whatever else of the batch did: all their intents
can be one write before the first of them, and the rows of their steps one behind the last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

from migrator.errors import StatementRefused, StepFailed
from migrator.journal import INTENT, REFUSED, Entry
from migrator.kinds import Name, classify
from migrator.statements import Statement
from migrator.steps import Step

if TYPE_CHECKING:
    from migrator.databases import Database

MOST_STEPS = 100


class Creation(NamedTuple):
    """A statement that creates one table or view; `guarded` if that may be there already."""

    step: Step
    number: int
    statement: Statement
    name: Name
    guarded: bool

    @property
    def key(self) -> tuple[str, str]:
        """The same for names that may be the same, on some server and in some database."""
        return self.step.target, self.name.name.casefold()

    def entry(self, state: str, run: str, answer: str) -> Entry:
        checksum = hashlib.sha256(self.statement.text.encode()).hexdigest()
        return Entry(self.step.version, checksum, 1, state, run, f"{self.step.stem} {self.number}", answer)


class Batch:
    """Steps to be carried out in their order and recorded together: several that only create, or one of any kind."""

    def __init__(self, steps: Sequence[Step], created: Sequence[Creation] = ()):
        self.steps, self.is_announced = steps, bool(created)
        self._unsent = list(created)

    def announce(self, databases: Mapping[str, Database], run: str) -> None:
        """Write the intents of what may not be sent twice."""
        self._note(INTENT, databases, run)

    def send(self, step: Step, session: Any) -> None:
        """Send a step's statements. Raises StepFailed, naming file, line and remedy."""
        while self._unsent and self._unsent[0].step is step:
            creation = self._unsent[0]
            place = step.place(creation.number, creation.statement)
            try:
                session.execute(creation.statement.text, place)
            except StatementRefused as error:
                raise StepFailed(f"{step.where(place)} was refused: {error}") from None
            del self._unsent[0]

    def withdraw(self, databases: Mapping[str, Database], run: str) -> None:
        """Write of what was refused or not sent any more that it did nothing, whatever is there when the next run looks."""
        self._note(REFUSED, databases, run)

    def _note(self, state: str, databases: Mapping[str, Database], run: str) -> None:
        for target, database in databases.items():
            if entries := [creation.entry(state, run, database.absent) for creation in self._unsent
                           if creation.step.target == target and not creation.guarded]:
                database.write_journal(entries)


def batches(steps: Sequence[Step], unfinished: Set[int], are_free: Callable[[str, Sequence[Name]], bool]) -> Iterator[Batch]:
    """All the steps. What the journal knows of already (`unfinished`, by number) stays alone.

    `are_free` says whether a target has no table or view of these names; it is asked when a batch is next.
    """
    for several, created in _creating(steps, unfinished):
        needed = [creation for creation in created if not creation.guarded]
        if len(several) > 1 and all(are_free(target, [creation.name for creation in needed if creation.step.target == target])
                                    for target in {creation.step.target for creation in needed}):
            yield Batch(several, created)
        else:
            yield from (Batch([step]) for step in several)


def _creating(steps: Sequence[Step], unfinished: Set[int]) -> Iterator[tuple[list[Step], list[Creation]]]:
    several: list[Step] = []
    created: list[Creation] = []
    keys: set[tuple[str, str]] = set()
    for step in steps:
        found = [] if step.version in unfinished else _creations(step)
        more = {creation.key for creation in found}
        if several and (not found or keys & more or len(several) == MOST_STEPS):
            yield several, created
            several, created, keys = [], [], set()
        if not found:
            yield [step], []
            continue
        several.append(step)
        created += found
        keys |= more
    if several:
        yield several, created


def _creations(step: Step) -> list[Creation]:
    """What a step creates, if each of its statements creates another thing and does nothing else; else nothing."""
    found: list[Creation] = []
    if step.is_python or step.verify_text is not None:
        return []
    for number, statement in enumerate(step.statements, 1):
        kind = classify(statement.text, step.target)
        if kind.verb != "CREATE" or len(kind.creates) != 1 or kind.replaces or kind.fills or kind.temporary:
            return []
        found.append(Creation(step, number, statement, kind.creates[0], kind.guarded))
    return found if len({creation.key for creation in found}) == len(found) else []
