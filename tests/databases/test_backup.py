"""README's commands for a backup, its restoration and for going back, carried out as they are printed there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrator.catalogs import Attributes, Catalog
from migrator.catalogs.clickhouse import read_catalog
from tests.conftest import Database, Servers
from tests.databases import clickhouse_shapes as old, mysql_shapes
from tests.databases.mysql_session import connected
from tests.databases.test_matrix import CLICKHOUSE
from tests.databases.test_metric_views import RECENT, complete, until
from tests.rights import EXACT, named, rights
from tests.scrapes import MINUTE, insert, scrape
from tests.servers import engines
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import ENGINES, MySQLServer

ROOT = Path(__file__).parents[2]
BACKUPS = "<backups><allowed_path>backups</allowed_path></backups>"  # as in the configuration that servers come with
GRANTS = EXACT + named(rights("Backup of ClickHouse"))
MARIADB = {"mysqldump": "mariadb-dump", "mysql": "mariadb", " --set-gtid-purged=OFF": ""}
STATE = CLICKHOUSE["C, views V1"]


def commands() -> list[list[str]]:
    """The commands of each block of the section; a shell's continuation lines belong to the one before."""
    section = re.search(r"^## Backup first.*?\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    assert section
    blocks = re.findall(r"^```console\n(.*?)^```", section[1], re.M | re.S)
    return [re.findall(r"^\$ (.*\n(?:> .*\n)*)", block, re.M) for block in blocks]


BACKUP, RESTORE, GO_BACK = commands()


@dataclass
class Place:
    """Servers, and a shell in which README's programs lead to them."""

    servers: Servers
    directory: Path

    def run(self, *lines: str) -> None:
        """Carry out the commands in one shell; fails at the first that fails."""
        server, programs = self.servers.mysql.server, self.directory / "bin"
        programs.mkdir(exist_ok=True)
        for program in ("mysqldump", "mysql") if server.dialect == "mysql" else ("mariadb-dump", "mariadb"):
            command = [*engines.client(server.dialect, program), "--no-defaults"]
            login = [f"--host=127.0.0.1 --port={server.port} --password={shlex.quote(server.password)}"]
            self.program(program, shlex.join(command), '"$@"', *login)
        self.program("migrate", f"{shlex.quote(sys.executable)} {ROOT}/entrypoint.py", '"$@"')
        script = "set -e\n" + re.sub(r"^> ", "", "".join(lines), flags=re.M)
        for name, other in MARIADB.items() if server.dialect == "mariadb" else ():
            script = re.sub(rf"{name}\b(?!=)", other, script) if name.isalpha() else script.replace(name, other)
        path = f"{programs}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", script], env={"PATH": path, **self.servers.environ}, cwd=self.directory,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def program(self, name: str, *words: str) -> None:
        path = self.directory / "bin" / name
        path.write_text(f"#!/bin/sh\nexec {' '.join(words)}\n")
        path.chmod(0o755)

    def everything(self) -> tuple[Catalog, Catalog, Any, dict[str, list[str]]]:
        """Both catalogs and all rows."""
        clickhouse = self.servers.clickhouse
        with connected(self.servers.mysql) as session:
            return (read_catalog(clickhouse.query, {"metrics"}), session.everything(), session.rows(),
                    {table: old.rows(clickhouse, table) for table in old.COLUMNS})  # fmt: skip


def build(place: Place) -> None:
    STATE.build(place.servers.clickhouse)
    with connected(place.servers.mysql) as session:
        session.run(mysql_shapes.SHAPES["M-5 007 forced"])


def create_app(mysql: MySQLServer) -> None:
    """README's database, with its rights for this too."""
    mysql.create_database("app")
    mysql.grant("app", *(right for right, _ in rights("Backup of MySQL")))


@pytest.fixture
def place(mysql_server: Any, tmp_path: Path) -> Iterator[Place]:
    """Servers of its own: the databases have README's names."""
    with ClickHouseServer(grants=GRANTS, config=BACKUPS) as clickhouse, ENGINES[mysql_server.dialect]() as mysql:
        create_app(mysql)
        yield Place(Servers(clickhouse, Database(mysql, "app")), tmp_path)


def test_a_backup_restores_what_was_there_before_the_migration(place: Place, tmp_path: Path) -> None:
    """On fresh servers: catalogs, rows and procedures; and these can be migrated as the first could."""
    build(place)
    before = place.everything()
    place.run(*BACKUP)
    assert place.servers.run().code == 0

    mysql, clickhouse = place.servers.mysql.server, place.servers.clickhouse
    (tmp_path / "fresh").mkdir()
    shutil.copy(tmp_path / "before.sql", tmp_path / "fresh")
    with ClickHouseServer(grants=GRANTS, config=BACKUPS) as other, type(mysql)() as another:
        shutil.copytree(clickhouse.base / "data/backups", other.base / "data/backups")
        create_app(another)
        fresh = Place(Servers(other, Database(another, "app")), tmp_path / "fresh")
        fresh.run(*RESTORE)

        assert fresh.everything() == before
        assert fresh.servers.run().code == 0
        assert fresh.everything()[:2] == place.everything()[:2]


def untold(found: Attributes) -> dict[str, str]:
    """Without the setting that a rebuild leaves on the old table, which changes nothing of its rows."""
    return {name: re.sub("(, )?enable_block_number_column = 1", "", text) for name, text in found.items()}


@pytest.mark.parametrize("mysql_server", ["mysql"], indirect=True)
def test_going_back_keeps_the_rows_that_came_since_and_leads_forward_again(place: Place) -> None:
    """Tables and views are those of before; the old views work; the next upgrade finds its way."""
    build(place)
    before, server = place.everything(), place.servers.clickhouse
    place.run(*BACKUP)
    assert place.servers.run().code == 0
    points = [point for at in (RECENT, RECENT + MINUTE) for point in scrape(at, cluster="since")]
    server.query(insert(points))
    until(complete(server, points, "since"), 120)
    counts = f"SELECT {', '.join(f'(SELECT count() FROM metrics.{table} FINAL)' for table in old.COLUMNS)}"
    since = server.query(counts)
    kept = {table: f"metrics.{table}__before_0002" for table in old.COLUMNS}
    assert {line["table"] for line in place.servers.run("status").events("plan")[0]["kept"]} == set(kept.values())

    place.run(*GO_BACK)
    catalog, *_, rows = place.everything()
    assert {item: untold(catalog.get(item, {})) for item in before[0]} == before[0]
    assert rows == before[3]
    assert server.query(counts.replace(" FINAL", "")) == since
    server.query("INSERT INTO metrics.otel_metrics_gauge (ResourceAttributes, MetricName, Attributes, TimeUnix, Value)"
                 " VALUES (map('cluster_id', 'old'), 'node_load1', map('instance', 'n:1'), now(), 3)", async_insert=0)
    assert server.query("SELECT node_name, load_1 FROM metrics.NodeMetrics WHERE cluster_id = 'old'") == [("n", 3)]

    again = place.servers.run()
    assert (again.code, again.report["findings"]) == (0, [])
    assert server.query(counts) == [tuple(count + (table == "NodeMetrics" or table == "ClusterMetrics")
                                          for count, table in zip(since[0], old.COLUMNS, strict=True))]
    dropped = place.servers.run("cleanup", "--yes")
    assert len(dropped.events("statement")) == 8
    assert place.servers.run("status").events("plan")[0]["kept"] == []
