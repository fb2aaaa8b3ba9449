"""Convergence: bring an existing object to its one definition, with the least change and without losing a row."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """One statement of a plan, and why it is needed; `rows` and `bytes` are what it must copy or block, 0 if nothing."""

    sql: str
    reason: str
    rows: int = 0
    bytes: int = 0
