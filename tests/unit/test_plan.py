"""Step files and ledger are compared once, purely, and every disagreement is named at once."""

from pathlib import Path

import pytest

from migrator.ledger import Applied
from migrator.plan import Plan, make_plan
from migrator.steps import Step

C, M = "clickhouse", "mysql"


def step(version: int, target: str = M, checksum: str = "same") -> Step:
    stem = f"{version:04}_s.{target}"
    return Step(version, stem, target, Path(), f"{stem}.sql", checksum)


def row(version: int, target: str = M, checksum: str = "same") -> Applied:
    return Applied(version, f"{version:04}_s.{target}", target, checksum)


def plan(steps: list[Step], rows: list[Applied], newest: int | None = None) -> Plan:
    return make_plan(steps, rows, max(s.version for s in steps) if newest is None else newest)


def states(made: Plan) -> dict[int, str]:
    return {state.version: state.state for state in made.states}


def test_empty_ledger_makes_every_step_pending() -> None:
    """In their order."""
    made = plan([step(1), step(2, C), step(3)], [])

    assert [s.version for s in made.pending] == [1, 2, 3]
    assert (made.applied, made.ahead, made.disagreements) == ((), (), ())


def test_full_ledger_leaves_nothing_to_do() -> None:
    """Whatever order the rows come in."""
    made = plan([step(1), step(2, C), step(3)], [row(3), row(2, C), row(1)])

    assert (made.pending, made.ahead, made.disagreements) == ((), (), ())
    assert [s.version for s in made.applied] == [1, 2, 3]


@pytest.mark.parametrize(("steps", "rows", "found"), [
    ([step(1, M, "edited"), step(2)], [row(1), row(2)], {1: "changed"}),
    ([step(1), step(3)], [row(1), row(2), row(3)], {2: "missing"}),
    ([step(1), step(2), step(3)], [row(1), row(3)], {2: "out of order"}),
    ([step(1, C), step(2, M)], [row(1, M), row(2, M)], {1: "missing"}),
    ([step(1, M, "edited"), step(2), step(4), step(5)], [row(1), row(3), row(5)],
     {1: "changed", 2: "out of order", 3: "missing", 4: "out of order"}),
])  # fmt: skip
def test_every_disagreement_is_found_at_once(steps: list[Step], rows: list[Applied], found: dict[int, str]) -> None:
    """Each with a remedy; nobody has to fix one to see the next."""
    made = plan(steps, rows)

    assert {state.version: state.state for state in made.disagreements} == found
    assert all(state.remedy for state in made.disagreements)


def test_order_is_judged_for_each_target_by_itself() -> None:
    """A run with --target must not make the other target's earlier steps late."""
    made = plan([step(1, C), step(2, M), step(3, C)], [row(2, M)])

    assert made.disagreements == ()
    assert [s.version for s in made.pending] == [1, 3]


def test_adopted_row_makes_its_step_pending() -> None:
    """What a hand-run script recorded is no proof, and neither makes other steps late nor the image old."""
    made = plan([step(5), step(6), step(7)], [row(5), row(6, M, ""), row(7, M, ""), row(9, M, "")])

    assert [s.version for s in made.pending] == [6, 7]
    assert (made.disagreements, made.ahead) == ((), ())


def test_newer_row_puts_the_ledger_ahead() -> None:
    """Then nothing is applied, and that is no disagreement."""
    made = plan([step(1), step(2, C)], [row(4, C), row(2, C), row(1), row(3)])

    assert [r.version for r in made.ahead] == [3, 4]
    assert (made.pending, made.disagreements) == ((), ())
    assert states(made)[3] == "ahead"


def test_step_of_this_image_that_a_newer_image_skipped_is_late() -> None:
    """Being ahead must not hide a step that was never applied."""
    made = plan([step(1), step(2)], [row(1), row(3)])

    assert states(made) == {1: "applied", 2: "out of order", 3: "ahead"}
    assert [state.version for state in made.disagreements] == [2]


def test_newest_is_counted_over_all_targets() -> None:
    """With --target mysql the newest MySQL step may be older than the image's newest."""
    made = plan([step(1)], [row(1), row(2)], newest=3)

    assert states(made)[2] == "missing"


def test_same_number_in_both_ledgers_is_told_apart() -> None:
    """A step that was once applied to the other database does not count as applied to this one."""
    made = plan([step(1, C)], [row(1, C), row(1, M)])

    assert [(state.step, state.state) for state in made.disagreements] == [("0001_s.mysql", "missing")]
