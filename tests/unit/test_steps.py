"""The steps directory: read whole, in one order, and refused by file name where something in it is wrong."""

import os
from pathlib import Path

import pytest

from migrator import steps
from migrator.errors import StepFileError
from migrator.steps import Step, discover

BOTH = ("clickhouse", "mysql")

BAD_NAMES = [
    "1_a.mysql.sql", "00001_a.mysql.sql", "0001-a.mysql.sql", "0001_A.mysql.sql", "0001_.mysql.sql", "0001_a.sql",
    "0001_a.mariadb.sql", "0001_a.mysql.SQL", "0001_a.mysql.txt", "0001_a.mysql.sql.bak", "README.md", "٠٠٠١_a.mysql.sql",
    "0001_" + "a" * 101 + ".mysql.sql", "0001_a.mysql.sql\n", "0001_a b.mysql.sql",
    "-001_a.mysql.sql", "0001_a.mysql.sql ", " 0001_a.mysql.sql", "0001_a\\b.mysql.sql", "0001_a\x1b[31m.mysql.sql",
    "0001_a\u2028.mysql.sql", "0001_a\udcff.mysql.sql", "0001_a..mysql.sql", "0001_ä.mysql.sql", "0001_a.mysql.sql~",
    "#0001_a.mysql.sql#", "0001_a.MYSQL.sql", "0001__a.mysql.sql", "0001_a.mysql.py.sql", "０００１_a.mysql.sql",
    "expected.mariadb.json", "expected.mysql.json.bak", "Thumbs.db", "a" * 255, "\x1b[2J.mysql.verify.sql", "verify.sql",
    '{"event": "report"}\n', "0001_a.mysql\r.verify.sql",
]  # fmt: skip
BAD_TEXTS = [  # found before any server is asked
    ("SELECT 1".encode("utf-16"), "holds a NUL byte"),
    ("SELECT 1".encode("utf-16-le"), "holds a NUL byte; save it as UTF-8"),
    ("SELECT 1".encode("utf-32-be"), "holds a NUL byte"),
    ("二三四".encode("utf-16-be"), "not UTF-8"),
    (b"SELECT '\xff'", "not UTF-8 text (byte 8)"),
    (b"SELECT 1; -- gr\xf6\xdfe", "not UTF-8 text (byte 15)"),
    (b"SELECT 1; -- \xc0\xaf", "not UTF-8"),
    (b"SELECT 1; -- \xed\xa0\x80", "not UTF-8"),
    (b"SELECT 1; -- \xe2\x82", "not UTF-8"),
    (b"\x1f\x8b\x08\x08\x80", "not UTF-8"),
    (b"SELECT 1;\0", "holds a NUL byte"),
    (b"SELECT 1;\r\n" * 200_000 + b"\0", "holds a NUL byte"),
    (b"SELECT 1;\r\n" * 200_000 + b"\x80", "not UTF-8 text (byte 2200000)"),
]


def folder(path: Path, **files: str | bytes) -> Path:
    """A directory with these files; `__` in a keyword stands for a dot."""
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (path / name.removeprefix("n").replace("__", ".")).write_bytes(data)
    return path


def only(path: Path) -> Step:
    (step,) = discover(path, BOTH)
    return step


def refusal(path: Path) -> str:
    """The one line that says why the directory is refused."""
    with pytest.raises(StepFileError) as refused:
        for step in discover(path, BOTH):
            step.parse()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_steps_are_in_one_order_over_both_targets(tmp_path: Path) -> None:
    """The number alone decides, not the target and not the kind of file."""
    folder(tmp_path, n0002_b__mysql__sql="SELECT 1", n0010_c__clickhouse__py="", n0001_a__clickhouse__sql="SELECT 1")

    assert [step.stem for step in discover(tmp_path, BOTH)] == ["0001_a.clickhouse", "0002_b.mysql", "0010_c.clickhouse"]


def test_step_knows_its_parts(tmp_path: Path) -> None:
    """Number, target, title, statements with their lines, and its verification."""
    step = only(folder(tmp_path, n0007_add_two_things__mysql__sql="-- why\nSELECT 1;\n\nSELECT 2",
                       n0007_add_two_things__mysql__verify__sql="SELECT 'wrong' FROM x"))

    assert (step.version, step.target, step.title, step.is_python) == (7, "mysql", "add two things", False)
    assert [(s.text, s.line) for s in step.statements] == [("SELECT 1", 2), ("SELECT 2", 4)]
    assert [s.text for s in step.verifications] == ["SELECT 'wrong' FROM x"]


def test_steps_of_other_targets_are_left_out_but_checked(tmp_path: Path) -> None:
    """A number used twice is an error even where one of the two is not wanted now."""
    folder(tmp_path, n0001_a__clickhouse__sql="SELECT 1", n0002_b__mysql__sql="SELECT 1")
    assert [step.stem for step in discover(tmp_path, ("mysql",))] == ["0002_b.mysql"]

    folder(tmp_path, n0002_c__clickhouse__sql="SELECT 1")
    with pytest.raises(StepFileError, match="0002_c"):
        discover(tmp_path, ("mysql",))


@pytest.mark.parametrize("text", [b"SELECT 1;\nSELECT 2;\n", b"\xef\xbb\xbfSELECT 1;\nSELECT 2;\n",
                                  b"SELECT 1;\r\nSELECT 2;\r\n", b"SELECT 1;\rSELECT 2;\r"])  # fmt: skip
def test_checksum_ignores_bom_and_line_ends(tmp_path: Path, text: bytes) -> None:
    """A checkout on another system is the same step."""
    same = only(folder(tmp_path, n0001_a__mysql__sql=text))
    os.remove(tmp_path / "0001_a.mysql.sql")

    assert same.checksum == only(folder(tmp_path, n0001_b__mysql__sql="SELECT 1;\nSELECT 2;\n")).checksum


@pytest.mark.parametrize("size", [*range(3, 12), 1000])
def test_text_is_the_same_wherever_it_is_cut(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in pieces: no character, line end or byte order mark is another one where one ends."""
    monkeypatch.setattr(steps, "PIECE_BYTES", size)
    text = "\ufeffSELECT 'é€😀';\r\n\r\r-- \ufeffplain\n-- ab\r\n\ufeff"

    assert only(folder(tmp_path, n0001_a__mysql__sql=text.encode())).text == "SELECT 'é€😀';\n\n\n-- \ufeffplain\n-- ab\n\ufeff"


def test_checksum_is_of_the_step_alone(tmp_path: Path) -> None:
    """A verification describes the present: it may change, the step may not."""
    first = only(folder(tmp_path, n0001_a__mysql__sql="SELECT 1", n0001_a__mysql__verify__sql="SELECT 1"))
    second = only(folder(tmp_path, n0001_a__mysql__verify__sql="SELECT 2"))
    third = only(folder(tmp_path, n0001_a__mysql__sql="SELECT 1 -- x"))

    assert first.checksum == second.checksum != third.checksum


def test_files_beside_the_steps_are_ignored(tmp_path: Path) -> None:
    """Generated and hidden files, as a mounted ConfigMap has them."""
    folder(tmp_path, n0001_a__mysql__sql="SELECT 1", expected__mysql__json="{}", expected__clickhouse__json="{}",
           __gitkeep="")
    (tmp_path / "__pycache__").mkdir()

    assert only(tmp_path).stem == "0001_a.mysql"


def test_steps_may_be_links_inside_the_directory(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links into a hidden directory beside them."""
    (tmp_path / "..2026").mkdir()
    folder(tmp_path / "..2026", n0001_a__mysql__sql="SELECT 1")
    (tmp_path / "0001_a.mysql.sql").symlink_to(tmp_path / "..2026" / "0001_a.mysql.sql")

    assert only(tmp_path).text == "SELECT 1"


def test_shared_tables_are_declared_in_comments(tmp_path: Path) -> None:
    """In SQL and in Python; only the named columns are required of them."""
    sql = only(folder(tmp_path, n0001_a__mysql__sql="-- shared: t (a, b)\n-- shared: u (c)\nSELECT 1"))
    assert sql.shared == {"t": ("a", "b"), "u": ("c",)}

    (tmp_path / "0001_a.mysql.sql").unlink()
    assert only(folder(tmp_path, n0001_a__clickhouse__py="# shared: d.t (a)\n")).shared == {"d.t": ("a",)}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    """A file that would silently not be run is an error; a name cannot break the line."""
    (tmp_path / name).write_text("SELECT 1")

    text = refusal(tmp_path)
    assert name in text or ascii(name[:200]) in text


def test_number_used_twice_is_refused(tmp_path: Path) -> None:
    """Both files are named."""
    text = refusal(folder(tmp_path, n0003_a__mysql__sql="SELECT 1", n0003_b__clickhouse__sql="SELECT 1"))

    assert "0003_a.mysql.sql" in text
    assert "0003_b.clickhouse.sql" in text


def test_sql_and_python_cannot_share_a_number(tmp_path: Path) -> None:
    """One step is one file."""
    text = refusal(folder(tmp_path, n0003_a__mysql__sql="SELECT 1", n0003_a__mysql__py=""))

    assert "0003_a.mysql.py" in text


def test_verification_without_its_step_is_refused(tmp_path: Path) -> None:
    """It would never run."""
    text = refusal(folder(tmp_path, n0001_a__mysql__sql="SELECT 1", n0001_b__mysql__verify__sql="SELECT 1"))

    assert "0001_b.mysql.verify.sql" in text


@pytest.mark.parametrize(("content", "why"), [
    (b"", "0001_a.mysql.sql: holds no statement"),
    (b"-- nothing\n/* at all */ ;", "0001_a.mysql.sql: holds no statement"),
    (b"SELECT 1;\nSELECT 'x", "0001_a.mysql.sql:2:"),
    *((content, f"0001_a.mysql.sql: {why}") for content, why in BAD_TEXTS),
])  # fmt: skip
def test_unusable_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """The file is named, and the line where there is one."""
    assert why in refusal(folder(tmp_path, n0001_a__mysql__sql=content))


@pytest.mark.parametrize("content", ["", "\n", "-- nothing"])
def test_empty_verification_is_refused(tmp_path: Path, content: str) -> None:
    """It would be green for nothing."""
    text = refusal(folder(tmp_path, n0001_a__mysql__sql="SELECT 1", n0001_a__mysql__verify__sql=content))

    assert "0001_a.mysql.verify.sql: holds no statement" in text


def test_python_syntax_error_is_refused(tmp_path: Path) -> None:
    """File and line; nothing of it is run."""
    text = refusal(folder(tmp_path, n0001_a__mysql__py="def apply(run):\n    return (\n"))

    assert text.startswith("0001_a.mysql.py:2: not valid Python")


def test_directory_named_like_a_step_is_refused(tmp_path: Path) -> None:
    """It cannot be run, so it must not be passed over."""
    (tmp_path / "0001_a.mysql.sql").mkdir()

    assert "0001_a.mysql.sql: not a regular file" in refusal(tmp_path)


def test_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    """What is applied is what is mounted."""
    steps = tmp_path / "steps"
    steps.mkdir()
    folder(tmp_path, outside="SELECT 1")
    (steps / "0001_a.mysql.sql").symlink_to(tmp_path / "outside")

    assert "0001_a.mysql.sql: a link out of the steps directory" in refusal(steps)


def test_broken_link_and_loop_are_refused(tmp_path: Path) -> None:
    """Both are files that cannot be read."""
    (tmp_path / "0001_a.mysql.sql").symlink_to(tmp_path / "nowhere")
    assert "0001_a.mysql.sql: cannot be read" in refusal(tmp_path)

    (tmp_path / "0001_a.mysql.sql").unlink()
    (tmp_path / "0001_a.mysql.sql").symlink_to("0001_a.mysql.sql")
    assert "0001_a.mysql.sql: cannot be read" in refusal(tmp_path)


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    """A sparse file of 300 MiB costs nothing to refuse."""
    with (tmp_path / "0001_a.mysql.sql").open("wb") as file:
        file.truncate(300 << 20)

    assert "0001_a.mysql.sql: larger than 256 MiB" in refusal(tmp_path)


def test_empty_or_missing_directory_is_refused(tmp_path: Path) -> None:
    """Forgetting the mount must not look like success."""
    assert "no steps in" in refusal(tmp_path)
    assert "no-such" in refusal(tmp_path / "no-such")
    assert "0001" in refusal(folder(tmp_path, n0001_a__mysql__sql="SELECT 1") / "0001_a.mysql.sql")
