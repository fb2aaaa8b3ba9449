"""The work that is measured: trivial steps for both databases, servers for them, and bare scripts doing the same."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.bench.measure import JOB, run
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MariaDBServer

STATEMENTS = {
    "clickhouse": "CREATE TABLE IF NOT EXISTS bench.t{} (id UInt64) ENGINE = MergeTree ORDER BY id",
    "mysql": "CREATE TABLE IF NOT EXISTS t{} (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
}
CONNECT = """
import sys
import clickhouse_connect
from mysql.connector.connection import MySQLConnection
host, http, mysql_port, password, database = sys.argv[1:6]
clickhouse = clickhouse_connect.get_client(host=host, port=int(http), username="migrate", password=password)
mysql = MySQLConnection(host=host, port=int(mysql_port), user="migrate", password=password, database=database, autocommit=True)
"""
FLOOR = CONNECT + """
clickhouse.query("SELECT 1")
mysql.cmd_query("SELECT 1")
mysql.get_rows()
"""


@dataclass
class Servers:
    """A ClickHouse and a MariaDB, and settings and arguments that lead there."""

    clickhouse: ClickHouseServer
    mysql: MariaDBServer
    database: str = "bench"

    @property
    def environ(self) -> dict[str, str]:
        return {"CLICKHOUSE_URL": self.clickhouse.url(), "MYSQL_URL": self.mysql.url(self.database)}

    @property
    def floor(self) -> list[str]:
        """A bare script that imports both drivers, connects to both and runs one query on each."""
        return self.script(FLOOR)

    def script(self, text: str, *arguments: str) -> list[str]:
        """A script on CONNECT; `arguments` begin at sys.argv[6]."""
        return [sys.executable, "-c", text, "127.0.0.1", str(self.clickhouse.port), str(self.mysql.port),
                self.clickhouse.password, self.database, *arguments]  # fmt: skip

    def empty(self) -> None:
        """Drop all that a run made, on both."""
        self.clickhouse.clean()
        self.clickhouse.query("CREATE DATABASE bench")
        self.mysql.drop_database(self.database)
        self.mysql.create_database(self.database)


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    with ClickHouseServer(password="bench") as clickhouse, MariaDBServer(password="bench") as mysql:
        both = Servers(clickhouse, mysql)
        both.empty()
        yield both


def write_steps(directory: Path, each: int, tables: int) -> Path:
    """`each` steps for each database, alternating, which create `tables` tables on each, most of them many times."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for number in range(each):
        for offset, (target, statement) in enumerate(STATEMENTS.items(), 1):
            (directory / f"{2 * number + offset:04}_t.{target}.sql").write_text(statement.format(number % tables) + ";\n")
    return directory


def write_expected(directory: Path, each: int, tables: int, both: Servers) -> None:
    """The expected schema of `write_steps`, made by `migrate snapshot` from one file for each database."""
    work = directory.with_name(f"{directory.name}_snapshot")
    work.mkdir()
    for offset, (target, statement) in enumerate(STATEMENTS.items(), 1):
        text = "".join(f"{statement.format(number)};\n" for number in range(tables))
        (work / f"{2 * each - 2 + offset:04}_t.{target}.sql").write_text(text)
    both.empty()
    run([*JOB, "snapshot", "--steps", str(work)], both.environ)
    for path in work.glob("expected.*.json"):
        shutil.copy(path, directory)
    shutil.rmtree(work)
    both.empty()


def url_quote(password: str) -> str:
    return quote(password, safe="")
