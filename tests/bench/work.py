"""The work that is measured: trivial steps for both databases, servers for them, and bare scripts doing the same."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import JOB, run
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MariaDBServer
from tests.servers.process import free_port

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


class Native(ClickHouseServer):
    """A ClickHouse that also speaks its native protocol, which some peers need."""

    def __init__(self) -> None:
        self.native_port = free_port()
        super().__init__(password="bench", config=f"<tcp_port>{self.native_port}</tcp_port>")

    def _command(self) -> Sequence[str]:
        *command, script = super()._command()
        return [*command, f"SYSTEM START LISTEN TCP; {script}"]


@dataclass
class Servers:
    """A ClickHouse and a MariaDB, and settings and arguments that lead there."""

    clickhouse: Native
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
        self.mysql.grant(self.database, "ALL")  # for the peers


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    with Native() as clickhouse, MariaDBServer(password="bench") as mysql:
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


def write_expected(directory: Path, both: Servers) -> None:
    """The expected schema of the steps in a directory, made by `migrate snapshot` from one step for each database.

    The real thing would read the catalogs after each of them. Both databases are empty before and after.
    """
    work = directory.with_name(f"{directory.name}_snapshot")
    work.mkdir()
    for target in STATEMENTS:
        files = sorted(directory.glob(f"*.{target}.sql"))
        lines = dict.fromkeys(line for path in files for line in path.read_text().splitlines())
        (work / files[-1].name).write_text("\n".join(lines))
    both.empty()
    run([*JOB, "snapshot", "--steps", str(work)], both.environ)
    for path in work.glob("expected.*.json"):
        shutil.copy(path, directory)
    shutil.rmtree(work)
    both.empty()
