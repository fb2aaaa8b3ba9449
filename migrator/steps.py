"""Steps: the files of the steps directory, in their one order, with their checksums."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType

from migrator.errors import StepFileError
from migrator.statements import Statement, StatementError, split

NAME = re.compile(r"(?P<version>[0-9]{4})_(?P<title>[a-z0-9][a-z0-9_]{0,99})\.(?P<target>clickhouse|mysql)\.(?P<kind>sql|py)")
VERIFY = re.compile(r"(?P<stem>.+)\.verify\.sql")
SHARED = re.compile(r"^(?:--|#) shared: (\S+) \(([^()\n]+)\)\s*$", re.MULTILINE)
IDEMPOTENT = re.compile(r"^(?:--|#) migrate: idempotent\s*$", re.MULTILINE)
MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Step:
    """One step file on disk. `stem` is the file's name without its last ending; it names the step everywhere."""

    version: int
    stem: str
    target: str
    path: Path
    text: str
    checksum: str
    verify_text: str | None = None

    @property
    def title(self) -> str:
        """The name in words: `0006_replica_management.mysql` is "replica management"."""
        return self.stem.split("_", 1)[1].rsplit(".", 1)[0].replace("_", " ")

    @property
    def is_python(self) -> bool:
        return self.path.suffix == ".py"

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """The statements of an SQL step. Raises StepFileError when the file cannot be split, or holds none."""
        return _split(self.path.name, self.text, self.target)

    @cached_property
    def verifications(self) -> tuple[Statement, ...]:
        """The queries of the step's `.verify.sql`; none where there is no such file."""
        return () if self.verify_text is None else _split(f"{self.stem}.verify.sql", self.verify_text, self.target)

    @cached_property
    def code(self) -> CodeType:
        """The compiled Python step, not yet run. Raises StepFileError on a syntax error."""
        try:
            return compile(self.text, self.path.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise StepFileError(f"{self.path.name}:{line}: not valid Python: {getattr(error, 'msg', error)}") from None

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """Tables that the application owns and this step only creates when missing: the columns required of them."""
        return {table: tuple(column.strip() for column in columns.split(","))
                for table, columns in SHARED.findall(self.text)}

    @property
    def idempotent(self) -> bool:
        """Whether the file says that each of its statements may be sent again, whatever came of it."""
        return bool(IDEMPOTENT.search(self.text))

    def parse(self) -> None:
        """Look at the whole file before anything is sent, so that a broken one leaves nothing half applied."""
        _ = self.code if self.is_python else self.statements
        _ = self.verifications


def _split(name: str, text: str, target: str) -> tuple[Statement, ...]:
    try:
        statements = split(text, target)
    except StatementError as error:
        raise StepFileError(f"{name}:{error.line}: {error}") from None
    if not statements:
        raise StepFileError(f"{name}: holds no statement; write one, or delete the file")
    return statements


def discover(directory: Path, targets: Sequence[str]) -> tuple[Step, ...]:
    """All steps of the directory in order, those of other targets included in every check and then left out.

    Raises StepFileError, naming the file, for a directory that is missing, empty or unreadable, a bad name, a
    number used twice, a verification without its step, a file that is no UTF-8 text, or a link out of the directory.
    """
    root, names = _list(directory)
    verify = {m["stem"]: name for name in names if (m := VERIFY.fullmatch(name))}
    steps: dict[int, Step] = {}
    for name in sorted(set(names) - set(verify.values())):
        match = NAME.fullmatch(name)
        if not match:
            raise StepFileError(f"{_shown(name)}: not a step's name; expected NNNN_name.clickhouse|mysql.sql|py,"
                                " all lower case")
        version, stem = int(match["version"]), name.rsplit(".", 1)[0]
        if version in steps:
            raise StepFileError(f"{name}: number {match['version']} is already taken by {steps[version].path.name};"
                                " give one of them the next free number")
        text = _read(root, root / name)
        verify_text = _read(root, root / verify.pop(stem)) if stem in verify else None
        steps[version] = Step(version, stem, match["target"], root / name, text,
                              hashlib.sha256(text.encode()).hexdigest(), verify_text)
    if verify:
        raise StepFileError(f"{min(verify.values())}: no step of that name; rename it, or delete it")
    if not steps:
        raise StepFileError(f"no steps in {_shown(str(directory))}; is the right directory mounted there?")
    return tuple(steps[version] for version in sorted(steps) if steps[version].target in targets)


def _list(directory: Path) -> tuple[Path, list[str]]:
    try:
        root = directory.resolve(strict=True)
        names = sorted(entry.name for entry in root.iterdir())
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StepFileError(f"the steps directory {_shown(str(directory))} cannot be read: {reason}") from None
    ignored = re.compile(r"\..*|__pycache__|expected\.(clickhouse|mysql)\.json")
    return root, [name for name in names if not ignored.fullmatch(name)]


def _read(root: Path, path: Path) -> str:
    """A file's text with BOM and line endings normalised, so that checksums hold across editors and checkouts."""
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(root):
            raise StepFileError(f"{path.name}: a link out of the steps directory; copy the file here instead")
        if not real.is_file():
            raise StepFileError(f"{path.name}: not a regular file")
        if real.stat().st_size > MAX_BYTES:
            raise StepFileError(f"{path.name}: larger than {MAX_BYTES >> 20} MiB; split it into several steps")
        text = real.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StepFileError(f"{path.name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, RuntimeError) as error:
        raise StepFileError(f"{path.name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if "\0" in text:
        raise StepFileError(f"{path.name}: holds a NUL byte; is it a text file?")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) < 200 else ascii(name[:200])
