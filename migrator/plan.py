"""The plan: a pure comparison of step files and ledger. The only place that knows pending, changed and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from migrator.ledger import Applied
from migrator.steps import Step

APPLIED, PENDING, CHANGED, MISSING, OUT_OF_ORDER, AHEAD = (
    "applied", "pending", "changed", "missing", "out of order", "ahead")


class State(NamedTuple):
    """One step's state: `remedy` is empty unless ledger and files disagree about it."""

    version: int
    step: str
    target: str
    state: str
    remedy: str = ""


class Plan(NamedTuple):
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
    rows = sorted((row for row in ledger if row.checksum), key=lambda row: row.version)
    targets = {step.version: step.target for step in steps}
    done = {row.version: row for row in rows if targets.get(row.version) == row.target}
    unknown = [row for row in rows if targets.get(row.version) != row.target]
    ahead = tuple(row for row in unknown if row.version > newest)
    last = {row.target: row.version for row in rows}
    states = [_state(step, done.get(step.version), last.get(step.target, -1)) for step in steps]
    states += [State(row.version, row.name, row.target, AHEAD) if row in ahead else
               State(row.version, row.name, row.target, MISSING,
                     "it is in the ledger, but its file is gone: restore the file as it was") for row in unknown]
    pending = () if ahead else tuple(step for step in steps if step.version not in done)
    return Plan(tuple(sorted(states, key=lambda state: state.version)), pending,
                tuple(step for step in steps if step.version in done), ahead)


def _state(step: Step, row: Applied | None, last: int) -> State:
    """The state of a step by its row in the ledger; `last` is the newest step that was applied to its target."""
    state, remedy = APPLIED, ""
    if row is None:
        state = PENDING
        if step.version < last:
            state, remedy = OUT_OF_ORDER, (f"step {last:04} of {step.target} is already applied: give this one a"
                                           " number above the newest")
    elif row.checksum != step.checksum:
        state, remedy = CHANGED, (
            f"it was edited after it was applied (ledger {row.checksum[:12]}, file {step.checksum[:12]}):"
            " restore the file, and put the change into a new step")
    return State(step.version, step.stem, step.target, state, remedy)
