"""Repair: which steps to run again so that what is missing comes back; a pure decision."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.catalogs import DATA, MISSING, Finding
from migrator.steps import Step


def restorable(findings: Sequence[Finding], steps: Sequence[Step], mode: str) -> list[Step]:
    """The steps to run again, in order; none when the run may not, or could not, restore everything.

    `missing`: only if each finding is a missing part, or a view or routine; a table that is gone took its rows along,
    and what is different was somebody's deliberate change, so a person looks first, and then nothing is touched.
    `all`: every step that owns something found.
    """
    schema = [finding for finding in findings if finding.kind != DATA]
    if mode == "none" or (mode == "missing" and any(found.kind != MISSING or found.relation for found in schema)):
        return []
    owners = {stem for finding in schema for stem in finding.step.split(",")}
    return [step for step in steps if step.stem in owners]
