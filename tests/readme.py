"""README.md as its readers take it: a section's files, and the commands that they type."""

import re
from collections.abc import Iterator

from tests.job import ROOT


def section(title: str) -> str:
    """The text between a heading and the next one."""
    return re.search(rf"^## {title}\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)[1]


def blocks(title: str, language: str = "[a-z]+") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section(title), re.M | re.S)


def files(title: str) -> Iterator[tuple[str, str]]:
    """Name and text of each block whose first line is a comment that names a file."""
    for block in blocks(title):
        if named := re.match(r"(?:#|--) (\S+)\n", block):
            yield named[1], block


def commands(title: str) -> list[str]:
    return [line.removeprefix("$ ") for block in blocks(title, "console") for line in block.splitlines()]
