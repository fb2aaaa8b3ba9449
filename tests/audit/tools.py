"""Scanners for security, each set from its own lock file, apart from the tests' packages, which theirs would contradict."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.job import ROOT
from tests.servers.engines import wheels

HERE = Path(__file__).parent
PYTHON = ("entrypoint.py", "migrator", "sql", "image", "compose")
DOCKERFILES = ("Dockerfile", "compose/test/Dockerfile")


@dataclass(frozen=True)
class Finding:
    """What a scanner says about a file: its rule, the file relative to the repository, and where and why."""

    rule: str
    file: str
    text: str


@dataclass(frozen=True)
class Tools:
    """The programs of a lock file."""

    directory: Path

    def __call__(self, *command: str | Path, codes: tuple[int, ...] = (0, 1)) -> str:
        """What a command prints: `-m MODULE …` for Python, else a program of the directory. 1 means: there are findings."""
        program = [sys.executable] if command[0] in ("-m", "-c") else [self.directory / "bin" / command[0]]
        words = command if command[0] in ("-m", "-c") else command[1:]
        environ = os.environ | {"PYTHONPATH": str(self.directory), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run([*program, *words], cwd=ROOT, env=environ, capture_output=True, text=True)
        assert done.returncode in codes, done.stderr[-3000:]
        return done.stdout


def installed(name: str) -> Tools:
    """The set of a lock file, installed at the first call."""
    return Tools(wheels(HERE / f"{name}.lock"))


def bandit(tools: Tools) -> Iterator[Finding]:
    report = json.loads(tools("-m", "bandit", "--quiet", "--recursive", "--format", "json", *PYTHON))
    assert not report["errors"], report["errors"]
    for found in report["results"]:
        yield Finding(found["test_id"], found["filename"], f"{found['line_number']}: {found['issue_text']}")


def hadolint(tools: Tools) -> Iterator[Finding]:
    for found in json.loads(tools("hadolint", "--format", "json", *DOCKERFILES)):
        yield Finding(found["code"], found["file"], f"{found['line']}: {found['message']}")


def detect_secrets(tools: Tools) -> Iterator[Finding]:
    """Of all that is committed."""
    for file, secrets in json.loads(tools("-m", "detect_secrets", "scan"))["results"].items():
        for found in secrets:
            yield Finding(found["type"], file, str(found["line_number"]))


def checkov(tools: Tools, manifests: Path) -> Iterator[Finding]:
    """Of the Dockerfiles, and of a directory with the rendered chart, which it takes for helm-job/."""
    skip = ("--skip-download", "--quiet", "--compact", "--output", "json")
    for framework, place in (("dockerfile", ROOT), ("kubernetes", manifests)):
        report: Any = json.loads(tools("-m", "checkov.main", "--framework", framework, "--directory", place, *skip))
        assert report["summary"]["parsing_errors"] == 0, report["summary"]
        assert report["summary"]["passed"] > 20, report["summary"]
        for found in report["results"]["failed_checks"]:
            file = found["file_path"].lstrip("/") if framework == "dockerfile" else "helm-job"
            yield Finding(found["check_id"], file, f"{found['resource']}: {found['check_name']}")
