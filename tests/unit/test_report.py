"""The report: the last line, with everything the contract promises, on success and on every failure."""

import io
import json
from typing import Any

import pytest

from migrator import __version__
from migrator.catalogs import DIFFERENT, Finding
from migrator.errors import EXIT_CODES
from migrator.logs import open_log
from migrator.report import OUTCOMES, Report

FIELDS = {"exit_code", "outcome", "applied", "repaired", "pending", "failed", "findings", "seconds", "version"}


def finished(report: Report, code: int) -> dict[str, Any]:
    stream = io.StringIO()
    assert report.finish(open_log("json", "error", "run1", (), stream), code) == code
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_every_exit_code_has_an_outcome() -> None:
    """A code that is added to the contract is named in the report too."""
    assert OUTCOMES.keys() == EXIT_CODES.keys()


@pytest.mark.parametrize("code", EXIT_CODES)
def test_report_has_every_field_of_the_contract(code: int) -> None:
    """Whatever happened; and it is an error unless all went well."""
    line = finished(Report("run"), code)

    assert line.keys() >= FIELDS
    assert (line["event"], line["exit_code"], line["outcome"], line["version"]) == (
        "report", code, OUTCOMES[code], __version__)
    assert line["level"] == ("error" if code else "info")


def test_report_tells_how_far_the_run_got() -> None:
    """Lists hold the stems of step files."""
    report = Report("run", error="why")
    report.applied, report.pending, report.failed = ["0001_a.mysql"], ["0002_b.mysql"], "0002_b.mysql"
    line = finished(report, 6)

    assert (line["applied"], line["pending"], line["failed"], line["error"]) == (
        ["0001_a.mysql"], ["0002_b.mysql"], "0002_b.mysql", "why")


def test_finding_is_logged_and_reported_alike() -> None:
    """With the four fields of the contract."""
    stream = io.StringIO()
    log = open_log("json", "info", "run1", (), stream)
    report = Report("run")
    report.find(log, [Finding(DIFFERENT, "column t.c", "type int", "type bigint", "undo it", "0001_a.mysql")])
    report.finish(log, 7)
    finding, last = map(json.loads, stream.getvalue().splitlines())
    wrong = {"object": "column t.c", "expected": "type int", "actual": "type bigint", "remedy": "undo it"}

    assert wrong.items() <= finding.items()
    assert last["findings"] == [wrong]
