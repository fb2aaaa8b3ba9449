"""Log lines: one JSON object a line on stdout, or text on a terminal; secrets are taken out by value."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

from pythonjsonlogger.json import JsonFormatter

TERMINATION_LOG = Path("/dev/termination-log")  # made by Kubernetes; `kubectl describe` shows its first 4 KiB
MAX_TEXT = 4096  # characters of one value: a server's message is untrusted input
# JSON takes them as they are, but readers may begin a line there, or a terminal turn the text around.
UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# Values from a closed vocabulary and names of step files stay as they are, even where a password happens to be "mysql".
PLAIN = {"event", "run", "step", "steps", "target", "targets", "dialect", "command", "outcome", "version", "unit",
         "applied", "pending", "failed", "unverified", "ahead"}


def redactions(secrets: Iterable[str]) -> tuple[str, ...]:
    """Every spelling in which a secret could appear: plain, URL-quoted, base64, repr; the longest first."""
    forms: set[str] = set()
    for secret in filter(None, secrets):
        raw = secret.encode()
        forms |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), repr(secret)[1:-1],
                  json.dumps(secret)[1:-1], base64.b64encode(raw).decode(), raw.hex()}
    return tuple(sorted(forms, key=len, reverse=True))


class Log:
    """Writes events. `fields` are JSON values; a long text is cut, a secret in it becomes ***."""

    def __init__(self, logger: logging.Logger, level: int, run: str, secrets: Iterable[str] = ()):
        self._logger, self._level, self.run, self._forms = logger, level, run, redactions(secrets)
        self._writing = threading.RLock()

    def debug(self, event: str, **fields: Any) -> None:
        self.write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self.write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self.write(logging.ERROR, event, fields)

    def write(self, level: int, event: str, fields: Mapping[str, Any]) -> None:
        """One line, whatever the values hold."""
        with self._writing:
            if level >= self._level:
                clean = {key: value if key in PLAIN else self.clean(value) for key, value in fields.items()}
                record = logging.LogRecord(self._logger.name, level, "", 0, event, None, None)
                vars(record)["fields"] = {"event": event, "run": self.run, **clean}
                self._logger.handle(record)

    def report(self, level: int, fields: Mapping[str, Any]) -> None:
        """The last line, at whatever level the log is: a thread that still waits for a database is not heard any more."""
        with self._writing:
            self._level = logging.DEBUG
            self.write(level, "report", fields)
            self._logger.disabled = True

    def clean(self, value: Any) -> Any:
        """The value with secrets taken out and texts cut to MAX_TEXT."""
        if isinstance(value, str):
            for form in self._forms:
                value = value.replace(form, "***")
            return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
        if isinstance(value, Mapping):
            return {str(key): self.clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.clean(item) for item in value]
        if isinstance(value, float):
            return round(value, 3) if math.isfinite(value) else str(value)  # JSON has no word for the others
        return value


class _Json(JsonFormatter):
    _encode = json.JSONEncoder(ensure_ascii=False, default=str).encode  # one for all lines

    def format(self, record: logging.LogRecord) -> str:
        return UNSEEN.sub(_escaped, super().format(record))

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        return self._encode(log_data)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        fields = log_data.pop("fields", {})
        return {"time": log_data["time"], "level": log_data["level"], **fields}

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data.update(time=_time(record), level=record.levelname.lower(), fields=getattr(record, "fields", {}))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        shown = " ".join(f"{_shown(key)}={_shown(value)}" for key, value in fields.items() if key not in ("event", "run"))
        return f"{_time(record)[11:19]} {record.levelname.lower():7} {_shown(fields.get('event'))} {shown}".rstrip()


class _Terminal(_Text):
    """Progress as a bar that is drawn over itself until another line follows; ends its lines itself."""

    drawn = False

    def format(self, record: logging.LogRecord) -> str:
        fields, drawn = getattr(record, "fields", {}), self.drawn
        self.drawn = fields.get("event") == "progress" and {"done", "total", "unit"} <= fields.keys()
        if self.drawn:
            return ("\r\x1b[K" if drawn else "") + _bar(**fields)
        return "\n" * drawn + super().format(record) + "\n"


class _Termination(logging.Handler):
    """Keeps the report where Kubernetes looks for the reason of an exit."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "fields", {}).get("event") == "report":
            with suppress(OSError):  # a reason that cannot be kept must not become another exit code
                TERMINATION_LOG.write_bytes(self.format(record).encode("utf-8", "replace")[:4096])


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bar(*, done: int, total: int, unit: str, rate: int = 0, eta_seconds: float | None = None, **_: Any) -> str:
    part = min(done / total, 1) if total else 1
    left = "" if eta_seconds is None else f", {eta_seconds:,.0f} s left"
    return f"[{'#' * round(part * 30):<30}] {part:4.0%} {done:,} of {total:,} {unit if unit.isprintable() else ascii(unit)}, {rate:,}/s{left}"


def _shown(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and " " not in value and value:
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isprintable() else json.dumps(value, default=str)


@cache
def _stdout() -> TextIO:
    """Stdout, from now on for the log alone: what a step prints, or a program that it starts, goes to stderr."""
    stream = os.fdopen(os.dup(1) if sys.stdout else os.open(os.devnull, os.O_WRONLY), "w", 1, "utf-8", "backslashreplace")
    if sys.stdout:
        os.dup2(2 if sys.stderr else os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = sys.stderr
    return stream


def open_log(log_format: str, level: str, run: str, secrets: Iterable[str] = (), stream: TextIO | None = None) -> Log:
    """The log of one run. `log_format` is json, text or auto (text on a terminal)."""
    stream = stream or _stdout()
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line says, and to ask takes a quarter of one
    logging.raiseExceptions = False  # a reader that hung up is no reason for a traceback, which nobody has cleaned
    text = log_format == "text" or (log_format == "auto" and stream.isatty())
    logger = logging.Logger("migrate")  # our own, unregistered: drivers log nothing through it
    for handler in (logging.StreamHandler(stream), *([_Termination()] if TERMINATION_LOG.exists() else [])):
        handler.setFormatter(_Text() if text else _Json())
        logger.addHandler(handler)
        if text and stream.isatty() and isinstance(handler, logging.StreamHandler):
            handler.terminator = ""
            handler.setFormatter(_Terminal())
    return Log(logger, logging.getLevelNamesMapping()[level.upper()], run, secrets)
