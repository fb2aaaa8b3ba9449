"""Cases for the splitter, as files: what a step file holds, and the statements that have to come out of it.

    %% case NAME            the file's text follows; ⟨U+00A0⟩ stands for a character, ⟨end⟩ for no line end there
    %% LINE [refused]       a statement that begins in that line; `refused`: by its server, for good reason
    %% error LINE [stricter]: MESSAGE    instead of statements; `stricter`: the server would take the text

test_statements.py splits them, test_statements_on_servers.py asks the servers and the client about the same cases.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from migrator.statements import Statement


@dataclass(frozen=True)
class Case:
    """One text and what is expected of it; `error` is (line, message), `refused` holds indexes of `statements`."""

    dialect: str
    name: str
    text: str
    statements: tuple[Statement, ...]
    refused: frozenset[int]
    error: tuple[int, str] | None
    stricter: bool


_EXPECTED = re.compile(r"%% (?:(?P<line>\d+)(?P<refused> refused)?|error (?P<at>\d+)(?P<stricter> stricter)?: (?P<message>.+))\n")


def cases(dialect: str) -> list[Case]:
    """All cases of a dialect."""
    found = []
    for path in sorted((Path(__file__).parent / dialect).glob("*.txt")):
        for chunk in re.split(r"^%% case ", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
            found.append(_case(dialect, path.stem, chunk.removesuffix("\n") if chunk.endswith("\n\n") else chunk))
    return found


def _case(dialect: str, group: str, chunk: str) -> Case:
    title, _, body = chunk.partition("\n")
    parts = re.split(r"^(?=%% )", body, flags=re.M)
    statements, refused, error, stricter = [], set(), None, False
    for part in parts[1:]:
        match = _EXPECTED.match(part)
        assert match, part
        if match["at"]:
            error, stricter = (int(match["at"]), match["message"]), bool(match["stricter"])
            continue
        if match["refused"]:
            refused.add(len(statements))
        statements.append(Statement(_plain(part[match.end() :]).removesuffix("\n"), int(match["line"])))
    return Case(
        dialect, f"{group}: {title}", _plain(parts[0]), tuple(statements), frozenset(refused), error, stricter
    )


def _plain(text: str) -> str:
    text = re.sub(r"⟨end⟩\n*", "", text)
    return re.sub(r"⟨U\+([0-9A-F]{4})⟩", lambda match: chr(int(match[1], 16)), text)
