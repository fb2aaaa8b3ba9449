"""Every line is one JSON object (or one line of text), shows no secret, and nothing comes after the report."""

import io
import json
import math
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from migrator.logs import MAX_TEXT, Log, open_log, redactions

SECRET = "k4narie@:/%41#'\" é\\x"
Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was logged; each line must be strict JSON."""
    return [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().split("\n")[:-1]]


def log_to(stream: io.StringIO, level: str = "info", log_format: str = "json", *secrets: str) -> Log:
    return open_log(log_format, level, "run1", secrets, stream)


def test_line_has_time_level_event_and_run_first(stream: io.StringIO) -> None:
    """Then its fields, in the order in which they were given."""
    log_to(stream).info("ready", target="mysql", seconds=0.12345)
    (line,) = lines(stream)

    assert list(line) == ["time", "level", "event", "run", "target", "seconds"]
    assert (line["level"], line["event"], line["run"], line["seconds"]) == ("info", "ready", "run1", 0.123)
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-11-21T22:05:08.438Z")


@pytest.mark.parametrize("text", [
    "a\nb\r\n{\"event\": \"report\"}", "\x1b[31mred", "\u2028\u2029\x85", "\udcff", "\0", '"quoted" \\', "é\U0001f600",
])  # fmt: skip
def test_value_cannot_forge_a_line(stream: io.StringIO, text: str) -> None:
    """A server's message is foreign text; it comes back as it was, inside its one line."""
    log_to(stream).info("error", error=text)

    assert [line["error"] for line in lines(stream)] == [text]


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "a b", "", "\u2028"])
def test_text_format_stays_on_one_line(stream: io.StringIO, text: str) -> None:
    """A terminal gets no control character from a server."""
    log_to(stream, "info", "text").info("error", error=text)
    written = stream.getvalue()

    assert written.count("\n") == 1
    assert written[:-1].isprintable()


def test_odd_values_are_still_json(stream: io.StringIO) -> None:
    """Nothing that a step or a server hands over can break the log."""
    log_to(stream).info("finding", nan=math.nan, inf=-math.inf, bytes=b"\xff", set={1}, obj=object(), none=None,
                        nested={"a": [1, ("b", 2.00049)]})
    (line,) = lines(stream)

    assert line["nested"] == {"a": [1, ["b", 2.0]]}
    assert line["none"] is None


@pytest.mark.parametrize("form", [
    SECRET, quote(SECRET), quote(SECRET, safe=""), repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], SECRET.encode().hex(),
])  # fmt: skip
def test_secret_is_taken_out_in_every_spelling(stream: io.StringIO, form: str) -> None:
    """At every level, as a whole value and within one, and in nested values."""
    log = log_to(stream, "debug", "json", SECRET)
    log.debug("error", error=f"mysql://me:{form}@host", parts=[form, {"key": f"x{form}"}])
    log.report(40, {"error": form, "findings": [{"actual": form}]})

    assert form not in stream.getvalue().replace("\\\\", "\\").replace('\\"', '"')
    assert lines(stream)[0]["error"] == "mysql://me:***@host"


def test_longest_spelling_is_taken_out_first() -> None:
    """Else the rest of a longer form would stay."""
    forms = redactions(["abc", "abc%20d", ""])

    assert list(forms) == sorted(forms, key=len, reverse=True)
    assert "" not in forms


def test_weak_password_does_not_eat_the_vocabulary(stream: io.StringIO) -> None:
    """Where a password is `mysql`, steps and targets are still named: they are no secret."""
    log = log_to(stream, "info", "json", "mysql", "report")
    log.info("step_applied", step="0001_a.mysql", target="mysql", error="for mysql")
    log.report(20, {"applied": ["0001_a.mysql"]})

    assert [(line.get("step"), line.get("error"), line.get("applied"), line["event"]) for line in lines(stream)] == [
        ("0001_a.mysql", "for ***", None, "step_applied"), (None, None, ["0001_a.mysql"], "report")]


def test_long_text_is_cut(stream: io.StringIO) -> None:
    """A server's message may be of any length."""
    log_to(stream).info("error", error="x" * 100_000)

    assert len(lines(stream)[0]["error"]) == MAX_TEXT + 1


@pytest.mark.parametrize(("level", "events"), [
    ("debug", ["a", "b", "c", "d", "report"]), ("info", ["b", "c", "d", "report"]), ("warning", ["c", "d", "report"]),
    ("error", ["d", "report"]),
])  # fmt: skip
def test_level_never_hides_the_report(stream: io.StringIO, level: str, events: list[str]) -> None:
    """Whatever else is hidden."""
    log = log_to(stream, level)
    log.debug("a"), log.info("b"), log.warning("c"), log.error("d")
    log.report(20, {})

    assert [line["event"] for line in lines(stream)] == events


def test_nothing_follows_the_report(stream: io.StringIO) -> None:
    """Not even from threads that still wait for a database."""
    log = log_to(stream)
    end = threading.Event()
    threads = [threading.Thread(target=lambda: [log.info("waiting") for _ in iter(end.is_set, True)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while stream.getvalue().count("\n") < 20:
        pass
    log.report(20, {})
    end.set()
    for thread in threads:
        thread.join()

    assert lines(stream)[-1]["event"] == "report"


def test_auto_is_json_unless_on_a_terminal(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's log is no terminal."""
    log_to(stream, "info", "auto").info("ready")
    assert stream.getvalue().startswith("{")

    monkeypatch.setattr(stream, "isatty", lambda: True)
    log_to(stream, "info", "auto").info("ready")
    assert stream.getvalue().endswith("info    ready\n")


def test_progress_is_a_bar_on_a_terminal(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn over itself, and left standing when something else is to be said; a line as any other in a file."""
    monkeypatch.setattr(stream, "isatty", lambda: True)
    log = log_to(stream, "info", "text")
    for done, left in ((0, None), (300, 90.0), (1200, 0.0)):
        log.info("progress", step="s", done=done, total=1200, unit="rows", rate=10, eta_seconds=left)
    log.info("ready")
    log.info("progress", note="in no known form")
    bars, ready, other, rest = stream.getvalue().split("\n")

    assert bars.split("\r\x1b[K") == [f"[{' ' * 30}]   0% 0 of 1,200 rows, 10/s",
                                      f"[{'#' * 8}{' ' * 22}]  25% 300 of 1,200 rows, 10/s, 90 s left",
                                      f"[{'#' * 30}] 100% 1,200 of 1,200 rows, 10/s, 0 s left"]
    assert ready.endswith("info    ready")
    assert (other.endswith('note="in no known form"'), rest) == (True, "")

    monkeypatch.undo()
    log_to(stream, "info", "text").info("progress", done=1, total=2, unit="rows")
    assert stream.getvalue().endswith("info    progress done=1 total=2 unit=rows\n")
