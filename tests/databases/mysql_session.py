"""A step's session on MySQL or MariaDB, for tests of what is sent."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from migrator.catalogs import Catalog
from migrator.converge import Change, mysql as converge
from migrator.databases import Identity, mysql
from migrator.settings import read_settings
from migrator.statements import split
from tests.conftest import Database


class Killed(BaseException):
    """Stands for kill -9: nothing of ours may catch it."""


@dataclass
class Session:
    """A step's session that remembers what was sent; it can be killed when so many statements are done."""

    database: mysql.MySQL
    sent: list[str] = field(default_factory=list)
    lives: int = 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    def execute(self, sql: str) -> None:
        if not self.lives:
            raise Killed
        self.sent.append(sql)
        self.database.execute(sql)
        self.lives -= 1

    def run(self, script: str) -> None:
        """A script, statement by statement, as a person's client sends it."""
        for statement in split(script, "mysql"):
            self.database.execute(statement.text)

    def converge(self, *definitions: str) -> None:
        for text in definitions:
            converge.converge(self, text)

    def changes(self, *definitions: str) -> list[Change]:
        return [change for text in definitions for change in converge.changes(self, text)]

    def everything(self) -> Catalog:
        return self.database.catalog([])

    def rows(self, columns: dict[str, list[str]] | None = None) -> dict[str, list[tuple[Any, ...]]]:
        """Every row as text, without the columns that are not asked for."""
        asked = (columns or self.columns()).items()
        return {
            table: sorted(self.query(f"SELECT {', '.join(f'CAST({n} AS CHAR)' for n in names)} FROM `{table}`"), key=str)
            for table, names in asked
        }

    def columns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for item in self.everything():
            if item.kind == "column":
                found.setdefault(item.table, []).append(f"`{item.name}`")
        return found


@contextlib.contextmanager
def connected(database: Database) -> Iterator[Session]:
    settings = read_settings([], {"MYSQL_URL": database.url, "MIGRATE_TARGETS": "mysql"})
    identity = Identity("run", "host", "image")
    connection = mysql.connect(settings.address("mysql"), settings, identity, timeout=5, writes=True)
    try:
        yield Session(connection)
    finally:
        connection.close()
