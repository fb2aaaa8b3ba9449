"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_in_a_document_exists(document: Path) -> None:
    """Files of tests, migrator, docs and charts; with `::name`, that the file defines that name."""
    text = document.read_text(encoding="utf-8")
    for path, name in re.findall(r"\b((?:tests|migrator|docs|compose|helm-job)/[\w./-]+\.(?:py|sql|md|json|ya?ml|sh))\b(?:::(\w+))?", text):
        assert "NAME" in path or (ROOT / path).exists(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name
