"""The committed expected schema is what the steps make, on MySQL and on MariaDB."""

import shutil
from pathlib import Path

from tests.conftest import Servers
from tests.job import ROOT


def test_the_committed_expected_schema_is_not_stale(servers: Servers, tmp_path: Path) -> None:
    """A fresh snapshot of the shipped steps is the committed file; on MariaDB, a run against the file finds nothing."""
    steps = tmp_path / "sql"
    shutil.copytree(ROOT / "sql", steps)

    assert servers.run("snapshot", "--steps", str(steps)).code == 0

    if servers.mysql.dialect == "mysql":  # a view's text is the server's own: the file holds MySQL's
        assert (steps / "expected.mysql.json").read_text() == (ROOT / "sql/expected.mysql.json").read_text()
    assert (steps / "expected.clickhouse.json").read_text() == (ROOT / "sql/expected.clickhouse.json").read_text()
    assert servers.run("verify").code == 0
