"""The report: what a run did and what is wrong, in one value. It becomes the last log line, always."""

from __future__ import annotations

import logging
import time
from typing import Any

from migrator import __version__
from migrator.catalogs import Finding
from migrator.logs import Log

OUTCOMES = {0: "done", 1: "bug", 2: "refused", 3: "unreachable", 4: "blocked", 5: "disagreement", 6: "step failed",
            7: "verification failed", 130: "stopped", 143: "stopped"}


class Report:
    """Filled in as the run goes on, so that a failed run can still say how far it got. Lists hold step stems."""

    def __init__(self, command: str, error: str = ""):
        self.command, self.error = command, error
        self.applied: list[str] = []
        self.repaired: list[str] = []
        self.pending: list[str] = []
        self.unverified: list[str] = []
        self.ahead: list[str] = []
        self.findings: list[Finding] = []
        self.failed = self.verified = ""
        self.started = time.monotonic()

    def find(self, log: Log, findings: list[Finding]) -> None:
        """Add what is wrong, one `finding` line each."""
        self.findings += findings
        for finding in findings:
            log.error("finding", object=finding.object, expected=finding.expected, actual=finding.actual,
                      remedy=finding.remedy, kind=finding.kind, step=finding.step)

    def finish(self, log: Log, exit_code: int) -> int:
        """Write the last line and hand the exit code on."""
        fields: dict[str, Any] = {
            "exit_code": exit_code, "outcome": OUTCOMES[exit_code], **({"error": self.error} if self.error else {}),
            "command": self.command, "applied": self.applied,
            "repaired": self.repaired, "pending": self.pending, "failed": self.failed or None,
            "findings": [{"object": f.object, "expected": f.expected, "actual": f.actual, "remedy": f.remedy}
                         for f in self.findings],
            "verified": self.verified or None, "seconds": time.monotonic() - self.started, "version": __version__}
        extra = {"unverified": self.unverified, "ahead": self.ahead}
        level = logging.ERROR if exit_code else logging.INFO
        log.report(level, {**fields, **{key: value for key, value in extra.items() if value}})
        return exit_code
