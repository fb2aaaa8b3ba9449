"""The expected schema: recorded after each step of a fresh apply, kept in a file, required in part while steps are pending."""

import json
from pathlib import Path

import pytest

from migrator.catalogs import Catalog, Object
from migrator.errors import StepFileError
from migrator.expected import Recorder, load_expected, unverified
from migrator.steps import Step

TABLE, ID, NAME, ROW = Object("table", "t"), Object("column", "t", "id"), Object("column", "t", "name"), Object("table", "x")
ENTRY = {"kind": "table", "table": "t", "steps": ["0001_s.mysql"]}

BAD_DOCUMENTS = [
    "", "{", "[]", "{}", "null", '{"through": "0001_s.mysql", "shared": [], "objects": [{}]}',
    '{"through": "0001_s.mysql", "shared": [], "objects": {}, "more"}',
    json.dumps({"through": "0001_s.mysql", "shared": [], "objects": [{**ENTRY, "steps": []}]}),
    json.dumps({"through": "0001_s.mysql", "shared": [], "objects": [{**ENTRY, "is": []}]}),
    json.dumps({"through": "0001_s.mysql", "shared": None, "objects": [ENTRY]}),
    json.dumps({"through": "by hand", "shared": [], "objects": [ENTRY]}),
    "[" * 200_000, '{"objects":' * 200_000, '{"through": ' + "1" * 5000 + "}", "\ufeff\ufeff{}", "<<<<<<< HEAD\n{}", "NaN", " " * (17 << 20),
    *('{{"through": "0001_s.mysql", "shared": {}, "objects": {}}}'.format(*pair) for pair in (
        ('[1]', '[]'), ('{"t": 1}', '[]'), ('"t"', '[]'), ('[["t"]]', '[]'), ('[]', '7'), ('[]', '["table"]'), ('[]', '[[]]'),
        ('[]', '[{"kind": "table", "kind": "view", "table": "t", "steps": ["0001_s.mysql"]}]'))),
    *(json.dumps({"through": "0001_s.mysql", "shared": [], "objects": [{**ENTRY, **wrong}]}) for wrong in (  # type: ignore[dict-item]
        {"kind": "frobnicate"}, {"kind": 1}, {"kind": None}, {"table": {}}, {"table": None}, {"table": 5}, {"name": []}, {"name": 0},
        {"table": "\ud800"}, {"steps": "0001_s.mysql"}, {"steps": [1]}, {"steps": None}, {"is": {"a": 1}}, {"is": {"a": {"b": "c"}}},
        {"is": {"a": None}}, {"is": "a"})),
    json.dumps({"through": "0001_s.mysql", "shared": [], "objects": [ENTRY, ENTRY]}),
    json.dumps({"through": 1, "shared": [], "objects": [ENTRY]}),
]  # fmt: skip


def step(version: int, text: str = "SELECT 1") -> Step:
    stem = f"{version:04}_s.mysql"
    return type("Read", (Step,), {"text": text})(version, stem, "mysql", Path(), f"{stem}.sql", "x")


def recorded(*catalogs: Catalog, before: Catalog | None = None, text: str = "SELECT 1") -> str:
    """The document after steps 1, 2, … that left these catalogs."""
    recorder = Recorder(before or {})
    for version, catalog in enumerate(catalogs, 1):
        recorder.after(step(version, text if version == 1 else ""), catalog)
    return recorder.document()


def write(folder: Path, document: str) -> Path:
    (folder / "expected.mysql.json").write_text(document, encoding="utf-8")
    return folder


def test_document_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Objects, attributes, owners; what was there before the first step is nobody's."""
    document = recorded({ROW: {}, TABLE: {"engine": "innodb"}, ID: {"type": "int", "default": ""}}, before={ROW: {}})
    expected = load_expected(write(tmp_path, document), [step(1)])["mysql"]

    assert expected.objects == {TABLE: {"engine": "innodb"}, ID: {"type": "int"}}
    assert set(expected.owners.values()) == {("0001_s.mysql",)}
    assert expected.through == 1


def test_document_has_one_object_a_line() -> None:
    """So the difference in a review is the schema change."""
    lines = recorded({ID: {"type": "int"}, TABLE: {"engine": "innodb"}}).splitlines()

    assert [json.loads(line.strip().rstrip(","))["kind"] for line in lines if line.startswith("  {")] == ["column", "table"]


def test_every_step_that_changes_an_object_owns_it(tmp_path: Path) -> None:
    """To restore it, all of them must run, in order. What a later step drops is not expected."""
    document = recorded({TABLE: {}, ID: {"type": "int"}, NAME: {"type": "text"}}, {TABLE: {}, ID: {"type": "bigint"}})
    expected = load_expected(write(tmp_path, document), [step(1)])["mysql"]

    assert expected.owners == {TABLE: ("0001_s.mysql",), ID: ("0001_s.mysql", "0002_s.mysql")}


def test_object_that_was_dropped_and_made_again_belongs_to_who_made_it(tmp_path: Path) -> None:
    """Running the first owner again would bring back the old form."""
    document = recorded({TABLE: {}, ID: {}}, {TABLE: {}}, {TABLE: {}, ID: {}})
    expected = load_expected(write(tmp_path, document), [step(1)])["mysql"]

    assert expected.owners[ID] == ("0003_s.mysql",)


def test_of_a_shared_table_only_the_named_columns_are_required(tmp_path: Path) -> None:
    """And of these only that they exist: the application may have made them in another form."""
    document = recorded({TABLE: {"engine": "innodb"}, ID: {"type": "int"}, NAME: {"type": "text"}},
                        text="-- shared: t (id)\nSELECT 1")
    expected = load_expected(write(tmp_path, document), [step(1)])["mysql"]

    assert expected.objects == {TABLE: {}, ID: {}}
    assert list(expected.shared) == ["t"]


def test_column_that_a_later_step_adds_to_a_shared_table_is_required_whole(tmp_path: Path) -> None:
    """It is ours."""
    document = recorded({TABLE: {}, ID: {}}, {TABLE: {}, ID: {}, NAME: {"type": "text"}},
                        text="-- shared: t (id)\nSELECT 1")
    expected = load_expected(write(tmp_path, document), [step(1)])["mysql"]

    assert expected.objects[NAME] == {"type": "text"}


def test_while_steps_are_pending_only_what_the_others_made_is_required(tmp_path: Path) -> None:
    """An object that a pending step changes must exist, in whichever form; the file's other objects are known."""
    document = recorded({TABLE: {"engine": "innodb"}, ID: {"type": "int"}},
                        {TABLE: {"engine": "innodb"}, ID: {"type": "bigint"}, NAME: {"type": "text"}})
    part = load_expected(write(tmp_path, document), [step(1)])["mysql"].of([step(1)])

    assert part.objects == {TABLE: {"engine": "innodb"}, ID: {}}
    assert NAME in part.owners


def test_steps_newer_than_the_file_are_unverified(tmp_path: Path) -> None:
    """A user's own, for which nothing is promised, and which the report names."""
    expected = load_expected(write(tmp_path, recorded({TABLE: {}}, {TABLE: {}})), [step(1)])

    assert unverified(expected, [step(1), step(2), step(3)]) == ["0003_s.mysql"]


def test_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Never a silent pass."""
    with pytest.raises(StepFileError, match=r"expected.mysql.json is missing.*migrate snapshot.*MIGRATE_VERIFY=steps"):
        load_expected(tmp_path, [step(1)])


@pytest.mark.parametrize("document", BAD_DOCUMENTS, ids=range(len(BAD_DOCUMENTS)))
def test_unusable_file_is_refused_with_the_remedy(tmp_path: Path, document: str) -> None:
    """It is generated: whoever edited it is told how."""
    with pytest.raises(StepFileError, match=r"expected.mysql.json cannot be read.*migrate snapshot") as refused:
        load_expected(write(tmp_path, document), [step(1)])

    assert "\n" not in str(refused.value)
