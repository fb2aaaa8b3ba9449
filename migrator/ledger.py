"""The ledger: what was applied to each database. What every dialect's ledger promises; the SQL is in the dialects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Applied:
    """One row: a step that is finished and verified.

    `checksum` is empty in a row that a hand-run script wrote: it is adopted (its `applied_at` is kept), never trusted.
    `applied_at` is RFC 3339 in UTC; empty for a row that is still to be written. `seconds` is how long the step took.
    """

    version: int
    name: str
    target: str
    checksum: str
    applied_at: str = ""
    description: str = ""
    image: str = ""
    host: str = ""
    run: str = ""
    seconds: float = 0.0
