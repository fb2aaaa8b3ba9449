"""Steps: the files of the steps directory, in their one order, with their checksums."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType

from migrator.errors import StepFileError
from migrator.statements import Statement, StatementError, each

NAME = re.compile(r"(?P<version>[0-9]{4})_(?P<title>[a-z0-9][a-z0-9_]{0,99})\.(?P<target>clickhouse|mysql)\.(?P<kind>sql|py)")
VERIFY = ".verify.sql"  # behind the stem of its step
SHARED = re.compile(r"^(?:--|#) shared: (\S+) \(([^()\n]+)\)\s*$", re.MULTILINE)
QUERY = re.compile(r"[\s(]*(SELECT|WITH|FROM|SHOW|EXPLAIN|DESC|DESCRIBE|EXISTS|TABLE|VALUES)\b", re.IGNORECASE)
IDEMPOTENT = re.compile(r"^(?:--|#) migrate: idempotent\s*$", re.MULTILINE)
MAX_BYTES = 256 * 1024 * 1024
PIECE_BYTES = 64 * 1024  # most files are smaller; a buffer of 1 MiB takes longer to allocate than a small file to read
UTF_8 = codecs.getincrementaldecoder("utf-8")
IGNORED = re.compile(r"\..*|__pycache__|expected\.(clickhouse|mysql)\.json")


class Step:
    """One step file on disk. `stem` is the file's name without its last ending; it names the step everywhere."""

    def __init__(self, version: int, stem: str, target: str, directory: Path, name: str, checksum: str,
                 verify_text: str | None = None):
        self.version, self.stem, self.target = version, stem, target
        self.directory, self.name = directory, name
        self.checksum, self.verify_text = checksum, verify_text

    @cached_property
    def path(self) -> Path:
        return self.directory / self.name

    @property
    def title(self) -> str:
        """The name in words: `0006_replica_management.mysql` is "replica management"."""
        return self.stem.split("_", 1)[1].rsplit(".", 1)[0].replace("_", " ")

    @property
    def is_python(self) -> bool:
        return self.name.endswith(".py")

    @property
    def text(self) -> str:
        """The file's text, read when it is needed and not kept. Raises StepFileError if the file changed meanwhile."""
        text, checksum = "", hashlib.sha256()
        for piece in _pieces(self.path):
            text += piece  # grows in place; to join the pieces would take the memory twice
            checksum.update(piece.encode())
        if checksum.hexdigest() != self.checksum:
            raise StepFileError(f"{self.path.name}: was changed while the run was reading it; run again")
        return text

    @property
    def statements(self) -> Iterator[Statement]:
        """The statements of an SQL step, one by one. Raises StepFileError where the file cannot be split."""
        return _each(self.path.name, self.text, self.target)

    @cached_property
    def count(self) -> int:
        """How many statements an SQL step has. Raises StepFileError when the file cannot be split, or holds none."""
        return _some(self.path.name, sum(1 for _ in self.statements))

    def place(self, number: int, statement: Statement) -> dict[str, int]:
        """Where a statement stands: its number, of how many, and its line."""
        return {"n": number, "of": self.count, "line": statement.line}

    def where(self, place: Mapping[str, int]) -> str:
        """A place in words."""
        return f"{self.name}:{place['line']}: statement {place['n']} of {place['of']}"

    @cached_property
    def verifications(self) -> tuple[Statement, ...]:
        """The queries of the step's `.verify.sql`; none where there is no such file. Raises StepFileError for others."""
        if self.verify_text is None:
            return ()
        name = self.stem + VERIFY
        queries = tuple(_each(name, self.verify_text, self.target))
        for query in queries:
            if not QUERY.match(query.text):
                raise StepFileError(f"{name}:{query.line}: not a query, so it would find nothing; it belongs into a step")
        _some(name, len(queries))
        return queries

    @cached_property
    def code(self) -> CodeType:
        """The compiled Python step, not yet run. Raises StepFileError on a syntax error."""
        try:
            return compile(self.text, self.path.name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None) or 1
            raise StepFileError(f"{self.path.name}:{line}: not valid Python: {getattr(error, 'msg', error) or 'nested too deeply'}"
                                ) from None

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
        _ = self.code if self.is_python else self.count
        _ = self.verifications


def _each(name: str, text: str, target: str) -> Iterator[Statement]:
    try:
        yield from each(text, target)
    except StatementError as error:
        raise StepFileError(f"{name}:{error.line}: {error}") from None


def _some(name: str, count: int) -> int:
    if not count:
        raise StepFileError(f"{name}: holds no statement; write one, or delete the file")
    return count


def discover(directory: Path, targets: Sequence[str]) -> tuple[Step, ...]:
    """All steps of the directory in order, those of other targets included in every check and then left out.

    Raises StepFileError, naming the file, for a directory that is missing, empty or unreadable, a bad name, a
    number used twice, a verification without its step, a file that is no UTF-8 text, or a link out of the directory.
    """
    root, files = _list(directory)
    verify = {name.removesuffix(VERIFY): name for name in files if name.endswith(VERIFY)}
    steps: dict[int, Step] = {}
    for name in sorted(files.keys() - verify.values()):
        match = NAME.fullmatch(name)
        if not match:
            raise StepFileError(f"{_shown(name)}: not a step's name; expected NNNN_name.clickhouse|mysql.sql|py,"
                                " all lower case")
        version, stem = int(match["version"]), name.rpartition(".")[0]
        if version in steps:
            raise StepFileError(f"{name}: number {match['version']} is already taken by {steps[version].name};"
                                " give one of them the next free number")
        checksum = hashlib.sha256()
        for piece in _pieces(_checked(root, files[name])):
            checksum.update(piece.encode())
        verify_text = "".join(_pieces(_checked(root, files[verify.pop(stem)]))) if stem in verify else None
        steps[version] = Step(version, stem, match["target"], root, name, checksum.hexdigest(), verify_text)
    if verify:
        raise StepFileError(f"{_shown(min(verify.values()))}: no step of that name; rename it, or delete it")
    if not steps:
        raise StepFileError(f"no steps in {_shown(str(directory))}; is the right directory mounted there?")
    return tuple(steps[version] for version in sorted(steps) if steps[version].target in targets)


def _list(directory: Path) -> tuple[Path, dict[str, os.DirEntry[str]]]:
    try:
        root = directory.resolve(strict=True)
        with os.scandir(root) as entries:
            files = {entry.name: entry for entry in entries}
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StepFileError(f"the steps directory {_shown(str(directory))} cannot be read: {reason}") from None
    return root, {name: entry for name, entry in files.items() if not IGNORED.fullmatch(name)}


def read_text(path: Path) -> str:
    """A file beside the steps, taken on the same conditions as a step's. Raises StepFileError."""
    return "".join(_pieces(_checked(path.parent.resolve(), path)))


def _checked(root: Path, entry: os.DirEntry[str] | Path) -> str:
    """The path of a regular file in the directory, or of a link to one."""
    try:
        if entry.is_symlink() and not Path(entry).resolve(strict=True).is_relative_to(root):
            raise StepFileError(f"{entry.name}: a link out of the steps directory; copy the file here instead")
        if not entry.is_file():
            raise StepFileError(f"{entry.name}: not a regular file; replace it, or move it away")
    except (OSError, RuntimeError) as error:
        raise _unreadable(entry, error) from None
    return os.fspath(entry)


def _pieces(path: str | Path) -> Iterator[str]:
    """A file's text with BOM and line endings normalised, so that checksums hold across editors and checkouts.

    In pieces, so that a big file takes no more memory than a small one.
    """
    decoder, at = None, 0
    file = _opened(path)
    try:
        while content := os.read(file, PIECE_BYTES):
            if len(content) == PIECE_BYTES and os.fstat(file).st_size > MAX_BYTES:
                raise StepFileError(f"{_name(path)}: larger than {MAX_BYTES >> 20} MiB; split it into several steps")
            if b"\0" in content:
                raise StepFileError(f"{_name(path)}: holds a NUL byte; save it as UTF-8 text")
            if not decoder and content.isascii() and b"\r" not in content:
                yield content.decode("ascii")  # there is nothing to normalise, as in nearly every file
            else:
                decoder = decoder or io.IncrementalNewlineDecoder(UTF_8(), translate=True)
                text = decoder.decode(content)
                yield text if at else text.removeprefix("\ufeff")
            at += len(content)
        if decoder:
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        assert decoder
        begin = at - len(decoder.getstate()[0])  # of what was decoded, the end of an earlier piece included
        raise StepFileError(f"{_name(path)}: not UTF-8 text (byte {begin + error.start}); save it as UTF-8") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(file)


def _opened(path: str | Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike[str], error: Exception) -> StepFileError:
    reason = getattr(error, "strerror", None) or error
    return StepFileError(f"{_name(path)}: cannot be read: {reason}")


def _name(path: str | os.PathLike[str]) -> str:
    return os.path.basename(path)


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) < 200 else ascii(name[:200])
