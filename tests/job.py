"""Run the program as its users do, as a process of its own, and search all it ever said for passwords."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

ROOT = Path(__file__).parents[1]
RUNS: list["Job"] = []  # of the whole session
TEXTS: list[tuple[str, str]] = []  # of what else was said: a test, and a text
SECRETS: set[str] = set()
PLAIN = {"--help", "--version", "text"}  # arguments after which stdout is not JSON


@dataclass(frozen=True)
class JobResult:
    """One finished run. `lines` are stdout's JSON objects (none in text format), `report` is the last."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    lines: list[dict[str, Any]]

    @property
    def report(self) -> dict[str, Any]:
        assert self.lines, f"nothing was logged\n{self.stderr}"
        return self.lines[-1]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]


class Job:
    """A running program in a clean environment; `process` can be signalled, wait() gives its result."""

    def __init__(self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        clean = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        environ = clean | {"MIGRATE_LOG_FORMAT": "json"} | dict(env or {})
        command = [sys.executable, str(ROOT / "entrypoint.py"), *args]
        self.test = os.environ.get("PYTEST_CURRENT_TEST", "?")
        self._as_json = environ["MIGRATE_LOG_FORMAT"] != "text" and not PLAIN & set(args)
        # Files, not pipes: a test can read the log while the program runs, and nothing blocks.
        self._folder = tempfile.TemporaryDirectory(prefix="job-")
        self._began = time.monotonic()
        with self._file("stdout").open("wb") as out, self._file("stderr").open("wb") as err:
            self.process = subprocess.Popen(
                command, env=environ, cwd=cwd or ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        watch(environ)
        RUNS.append(self)

    @property
    def stdout(self) -> str:
        """What the program has written so far."""
        return self._file("stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self._file("stderr").read_text(encoding="utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The complete lines logged so far; each must be JSON."""
        complete = self.stdout.rpartition("\n")[0]
        return [_parsed(line) for line in complete.split("\n") if complete] if self._as_json else []

    def until(self, event: str, timeout: float = 60, **fields: object) -> dict[str, Any]:
        """The first line of this event with these fields, as soon as it is there; fails if it cannot come."""
        deadline = time.monotonic() + timeout
        while True:
            over = self.process.poll() is not None or time.monotonic() > deadline
            for line in self.lines:
                if line["event"] == event and fields.items() <= line.items():
                    return line
            assert not over, f"no {event} {fields}\n{self.stdout}{self.stderr}"
            time.sleep(0.01)

    def wait(self, timeout: float = 120) -> JobResult:
        """The result; a program still running after `timeout` seconds is killed and the test fails."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {timeout} s\n{self.stdout}{self.stderr}") from None
        seconds = time.monotonic() - self._began
        if code >= 0:  # else it was killed, perhaps while writing
            assert self.stdout[-1:] in ("", "\n"), f"the last line is torn: {self.stdout[-200:]}"
        return JobResult(code, self.stdout, self.stderr, seconds, self.lines)

    def _file(self, name: str) -> Path:
        return Path(self._folder.name) / name


def run_job(
    *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120
) -> JobResult:
    """Run `entrypoint.py args` to its end with nothing but `env` (and PATH, LANG) in its environment."""
    return Job(*args, env=env, cwd=cwd).wait(timeout)


def kill_all() -> None:
    """End every run that a test has left behind."""
    for run in RUNS:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def watch(environ: Mapping[str, str], text: str = "") -> None:
    """Search all that is ever said, and this text, for the passwords in these settings."""
    SECRETS.update(word.encode("utf-8", "ignore").decode() for word in _passwords(environ))  # of a broken one the rest
    if text:
        TEXTS.append((os.environ.get("PYTEST_CURRENT_TEST", "?"), text))


def leaks() -> list[str]:
    """For each run of this session that showed a password, in any spelling: its test and what it showed."""
    words = sorted({word for secret in SECRETS for word in spellings(secret)})
    texts = [*((run.test, run.stdout + run.stderr) for run in RUNS), *TEXTS]
    return [f"{test}: {word!r}" for test, text in texts for word in words if word in text]


def spellings(secret: str) -> Iterator[str]:
    """The forms in which a password could be printed; one of fewer than 8 characters is not searched for."""
    if len(secret) < 8:
        return
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), repr(secret)[1:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], secret.encode().hex())
    yield from (piece for piece in re.findall(r"[A-Za-z0-9]{8,}", secret) if re.search(r"\d", piece))
    for shift in range(3):  # base64 of a text that contains it, at each of the three alignments
        encoded = base64.b64encode(bytes(shift) + secret.encode()).decode()
        yield encoded[4 if shift else 0 : -4]


def _passwords(environ: Mapping[str, str]) -> Iterator[str]:
    """The passwords in these settings: of URLs, of *_PASSWORD, and of the files that *_FILE names."""
    for setting, text in environ.items():
        name, value = setting, text
        if setting.endswith("_FILE") and Path(text).is_file():
            name = setting.removesuffix("_FILE")
            value = Path(text).read_text(encoding="utf-8", errors="replace").rstrip("\n")
        if name.endswith("_PASSWORD"):
            yield value
        elif name.endswith("_URL") and "@" in value:
            yield unquote(re.sub(r"^[^:]*://[^:@/]*:?(.*)@.*$", r"\1", value, flags=re.S))


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = None
    assert isinstance(parsed, dict), f"not a JSON object: {line!r}"
    return parsed
