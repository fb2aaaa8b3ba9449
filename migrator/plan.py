"""The plan: a pure comparison of step files and ledger. The only place that knows pending, changed and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrator.ledger import Applied
from migrator.steps import Step

APPLIED, PENDING, CHANGED, MISSING, OUT_OF_ORDER, AHEAD = (
    "applied", "pending", "changed", "missing", "out of order", "ahead")


@dataclass(frozen=True)
class State:
    """One step's state: `remedy` is empty unless ledger and files disagree about it."""

    version: int
    step: str
    target: str
    state: str
    remedy: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run will do. `ahead` are the ledger's steps newer than this image; then nothing is pending."""

    states: tuple[State, ...]
    pending: tuple[Step, ...]
    applied: tuple[Step, ...]
    ahead: tuple[Applied, ...]

    @property
    def disagreements(self) -> tuple[State, ...]:
        return tuple(state for state in self.states if state.remedy)


def make_plan(steps: Sequence[Step], ledger: Sequence[Applied], newest: int) -> Plan:
    """Compare the steps with the ledger's rows of the same targets; every disagreement is named at once.

    `newest` is the highest number among all step files of the image, of whatever target: a ledger row above it was
    written by a newer image. An adopted row (`checksum` empty) makes its step pending and says nothing else.
    """
    rows = {row.version: row for row in ledger if row.checksum}
    by_version = {step.version: step for step in steps}
    ahead = tuple(row for row in rows.values() if row.version > newest)
    last = {target: max((row.version for row in rows.values() if row.target == target and row.version <= newest),
                        default=-1) for target in ("clickhouse", "mysql")}
    states = [_state(by_version.get(version), rows.get(version), last, newest)
              for version in sorted(by_version.keys() | rows.keys())]
    pending = () if ahead else tuple(step for step in steps if step.version not in rows)
    return Plan(tuple(states), pending, tuple(s for s in steps if s.version in rows), ahead)


def _state(step: Step | None, row: Applied | None, last: dict[str, int], newest: int) -> State:
    if step is None:
        assert row is not None
        if row.version > newest:
            return State(row.version, row.name, row.target, AHEAD)
        return State(row.version, row.name, row.target, MISSING,
                     "it is in the ledger, but its file is gone: restore the file as it was")
    if row is None:
        late = step.version < last[step.target]
        return State(step.version, step.stem, step.target, OUT_OF_ORDER if late else PENDING,
                     f"step {last[step.target]:04} of {step.target} is already applied: give this one a number"
                     " above the newest" if late else "")
    if row.target != step.target:
        return State(step.version, step.stem, step.target, CHANGED, f"it was applied to {row.target}")
    if row.checksum != step.checksum:
        return State(step.version, step.stem, step.target, CHANGED,
                     f"it was edited after it was applied (ledger {row.checksum[:12]}, file {step.checksum[:12]}):"
                     " restore the file, and put the change into a new step")
    return State(step.version, step.stem, step.target, APPLIED)
