"""Which steps may run again so that what is missing comes back."""

from pathlib import Path

import pytest

from migrator.catalogs import DATA, DIFFERENT, EXTRA, MISSING, Finding
from migrator.repair import restorable
from migrator.steps import Step

STEPS = [Step(n, f"000{n}_s.mysql", "mysql", Path(), f"000{n}_s.mysql.sql", "x") for n in (1, 2, 3)]


def found(kind: str, *steps: int, relation: bool = False) -> Finding:
    return Finding(kind, "column t.c", "", "", "", ",".join(STEPS[n - 1].stem for n in steps), relation)


@pytest.mark.parametrize(("findings", "missing", "everything"), [
    ([], [], []),
    ([found(MISSING, 2)], [2], [2]),
    ([found(MISSING, 3), found(MISSING, 1, 2)], [1, 2, 3], [1, 2, 3]),
    ([found(MISSING, 2, relation=True)], [], [2]),
    ([found(MISSING, 2), found(MISSING, 1, relation=True)], [], [1, 2]),
    ([found(DIFFERENT, 2)], [], [2]),
    ([found(MISSING, 1), found(DIFFERENT, 2)], [], [1, 2]),
    ([found(EXTRA)], [], []),
    ([found(DATA, 1)], [], []),
    ([found(DATA, 1), found(MISSING, 2)], [2], [2]),
])  # fmt: skip
def test_owners_run_again_in_order_or_not_at_all(
    findings: list[Finding], missing: list[int], everything: list[int]
) -> None:
    """`missing` restores parts only, and nothing while anything else is wrong; `all` every owner; `none` nothing."""
    chosen = {mode: [step.version for step in restorable(findings, STEPS, mode)] for mode in ("missing", "all", "none")}

    assert chosen == {"missing": missing, "all": everything, "none": []}
