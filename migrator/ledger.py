"""The ledger: what was applied to each database. What every dialect's ledger promises; the SQL is in the dialects."""

from __future__ import annotations

from typing import NamedTuple


class Applied(NamedTuple):
    """One row: a step that is finished and verified.

    `checksum` is empty in a row that a hand-run script wrote: it is adopted (its `applied_at` is kept), never trusted.
    What comes after it is only written, and for people: `seconds` is how long the step took.
    """

    version: int
    name: str
    target: str
    checksum: str
    description: str = ""
    image: str = ""
    host: str = ""
    run: str = ""
    seconds: float = 0.0
