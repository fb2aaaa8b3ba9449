"""Going back to the previous image is never blocked: it sees a newer ledger, applies nothing, and says so."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.databases.conftest import STEMS, Steps, everything, listening, one_dialect

NEWER = {
    "0005_newer.mysql.sql": "ALTER TABLE people ADD COLUMN age INT NULL;\nCREATE TABLE newer (n INT)",
    "0006_newer.clickhouse.sql": "ALTER TABLE shop.events ADD COLUMN newer String;\n"
                                 "ALTER TABLE shop.events MODIFY COLUMN n UInt64",
}  # fmt: skip
AHEAD = ["0005_newer.mysql", "0006_newer.clickhouse"]


@pytest.fixture
def previous(servers: Servers, sample: Steps, tmp_path: Path) -> Steps:
    """The steps of the previous image with its own expected schema, on servers that the newer image has migrated."""
    assert sample.run(servers, "snapshot").code == 0
    older = Steps(tmp_path / "previous")
    shutil.copytree(sample.path, older.path, dirs_exist_ok=True)
    for stem, text in NEWER.items():
        sample.add({stem: text})
    newer = sample.run(servers, MIGRATE_VERIFY="steps")
    assert newer.report["applied"] == AHEAD
    return older


def test_previous_image_changes_nothing_and_exits_0(servers: Servers, previous: Steps) -> None:
    """Though a column has another type now and another was added: only what it needs must be there."""
    before = everything(servers)
    with listening(servers) as sent:
        result = previous.run(servers)

    assert (result.code, result.report["ahead"], result.report["applied"], sent.writes) == (0, AHEAD, [], [])
    assert [line["steps"] for line in result.events("ahead")] == [AHEAD]
    assert everything(servers) == before
    for command in (["wait"], ["verify"], ["status"], ["--dry-run"]):
        again = previous.run(servers, *command)
        assert (again.code, again.report["ahead"]) == (0, AHEAD), command
    assert everything(servers) == before


@one_dialect
def test_previous_image_with_the_newer_expected_schema(servers: Servers, previous: Steps, sample: Steps) -> None:
    """Where users mount their steps and the expected files come along: the same."""
    servers.mysql.server.drop_database(servers.mysql.name)
    servers.mysql.server.create_database(servers.mysql.name)
    servers.clickhouse.clean()
    assert sample.run(servers, "snapshot", MIGRATE_VERIFY="steps").report["applied"] == STEMS + AHEAD
    sample.remove("0005", "0006")
    result = sample.run(servers)

    assert (result.code, result.report["ahead"]) == (0, AHEAD)


@one_dialect
def test_previous_image_still_needs_its_own_objects(servers: Servers, previous: Steps) -> None:
    """What is gone, it cannot work without, and repairs nothing in a schema that it does not know."""
    servers.clickhouse.query("ALTER TABLE shop.events DROP COLUMN kind")
    result = previous.run(servers, MIGRATE_REPAIR="all")

    assert (result.code, result.report["repaired"]) == (7, [])
    assert [f["object"] for f in result.report["findings"]] == ["column shop.events.kind"]


@one_dialect
def test_step_that_nobody_applied_is_not_hidden_by_being_ahead(servers: Servers, previous: Steps) -> None:
    """An image of another branch: its own step is late, and that is a disagreement."""
    previous.write(n0005_mine__clickhouse__sql="SELECT 1")
    result = previous.run(servers)

    assert result.code == 5
    assert "0005_newer.mysql is missing" in result.report["error"]
    assert "0005_mine.clickhouse is out of order" in result.report["error"]


@one_dialect
def test_image_before_the_previous_one(servers: Servers, previous: Steps) -> None:
    """With a step of the other target fewer, too."""
    previous.remove("0004")
    result = previous.run(servers)

    assert (result.code, result.report["ahead"]) == (0, [STEMS[3], *AHEAD])
