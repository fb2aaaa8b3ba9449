"""Real MySQL and MariaDB servers for tests: the engines of `engines.py`, each with its own data."""

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mysql.connector.connection import MySQLConnection

from tests.rights import MYSQL
from tests.servers import engines
from tests.servers.process import HOST, Server, StartError

# Small, and no fsync: a killed server loses nothing by that, only a machine without power would.
SMALL = (
    "--innodb-buffer-pool-size=32M",
    "--max-connections=60",
    "--table-open-cache=400",
    "--innodb-flush-method=nosync",
)
CERTIFICATES = {"ssl-ca": "ca.pem", "ssl-cert": "server-cert.pem", "ssl-key": "server-key.pem"}


class MySQLServer(Server):
    """MySQL with the user `migrate`, who has README.md's rights in what create_database() made and none elsewhere.

    `options` are further words for the server's command line; `certificates` is a directory with ca.pem,
    server-cert.pem and server-key.pem. Helpers work as root over the socket, so no option locks them out.
    """

    scheme = "mysql"
    dialect = "mysql"
    engine = "mysql"
    own_options: Sequence[str] = ("--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=8M")
    identified = "IDENTIFIED WITH caching_sha2_password BY '{}'"

    def __init__(
        self,
        *,
        password: str | None = None,
        port: int | None = None,
        options: Sequence[str] = (),
        certificates: Path | None = None,
    ) -> None:
        super().__init__(port=port, password=password)
        self._engine = engines.fetch(self.engine)
        self._options = [*options]
        if certificates:
            self._options += [f"--{name}={certificates / file}" for name, file in CERTIFICATES.items()]
        self.data = self.base / "data"
        assert len(str(self.socket)) < 108, f"TMPDIR is too long for a socket: {self.socket}"

    @property
    def socket(self) -> Path:
        return self.base / "sock"

    def connect(
        self, database: str | None = None, *, user: str = "root", password: str = "", **options: Any
    ) -> MySQLConnection:
        """A connection that the caller closes: root's over the socket, everybody else's over TCP."""
        options |= {"unix_socket": str(self.socket)} if user == "root" else {"host": HOST, "port": self.port}
        return MySQLConnection(user=user, password=password, database=database, autocommit=True, **options)

    def query(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of the last of one or more statements, run as root; mysql.connector.Error if refused."""
        rows: list[tuple[Any, ...]] = []
        connection = self.connect(database)
        try:
            for result in connection.cmd_query_iter(sql):
                rows = connection.get_rows()[0] if "columns" in result else []
        finally:
            connection.close()
        return rows

    execute = query

    def version(self) -> str:
        return str(self.query("SELECT version()")[0][0])

    def create_database(self, name: str) -> None:
        """An empty database, where `migrate` has README.md's rights."""
        self.query(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
        self.grant(name, *(right for right, _ in MYSQL))

    def grant(self, database: str, *rights: str) -> None:
        """More rights for `migrate` in a database, as a test's own steps may need them (`TRIGGER`)."""
        pattern = database.replace("_", r"\_")
        self.query(f"GRANT {', '.join(rights)} ON `{pattern}`.* TO '{self.user}'@'%'")

    def drop_database(self, name: str) -> None:
        self.query(f"DROP DATABASE IF EXISTS `{name}`")

    def create_user(self, name: str, password: str, grants: Sequence[str] = ()) -> None:
        """A user from anywhere; `grants` are what stands between GRANT and TO (`SELECT ON shop.*`)."""
        secret = password.replace("\\", "\\\\").replace("'", "''")
        self.query(f"CREATE USER '{name}'@'%' {self.identified.format(secret)}")
        for grant in grants:
            self.query(f"GRANT {grant} TO '{name}'@'%'")

    def answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as probe:
                return bool(probe.recv(1))
        except OSError:
            return False

    def _command(self) -> Sequence[str]:
        if not self.data.exists():
            shutil.copytree(self._template(), self.data)
            (self.data / "auto.cnf").unlink(missing_ok=True)  # the identity: each copy makes its own
        return [
            *self._engine.command(self.data),
            *self.own_options,
            *SMALL,
            f"--socket={self.socket}",
            f"--port={self.port}",
            f"--bind-address={HOST}",
            f"--pid-file={self.base}/pid",
            f"--tmpdir={self.base}",  # a server deletes the temporary tables that it finds there when it starts
            "--skip-name-resolve",
            *self._options,
        ]

    def _prepare(self) -> None:
        done = self.base / "prepared"
        if not done.exists():
            self.create_user(self.user, self.password)
            done.touch()

    def _template(self) -> Path:
        """A data directory as the engine makes it, made once and kept in the cache."""
        with engines.made_once(f"{self.engine}/data") as (data, work):
            if work:
                self._fill(work)
        return data

    def _fill(self, data: Path) -> None:
        self._run_engine(data, "--initialize-insecure")

    def _run_engine(self, data: Path, *arguments: str, script: str = "") -> None:
        command = [*self._engine.command(data), *self.own_options, *arguments]
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        if done.returncode:
            raise StartError(done.stderr[-4000:])


class MariaDBServer(MySQLServer):
    """MariaDB 10.11, the same way; it has no TLS unless `certificates` are given."""

    dialect = "mariadb"
    engine = "mariadb"
    own_options = ("--innodb-log-file-size=8M", "--max-allowed-packet=64M")  # of a statement; 64M is MySQL's default
    identified = "IDENTIFIED VIA mysql_native_password USING PASSWORD('{}')"

    def _fill(self, data: Path) -> None:
        """What mariadb-install-db does with --auth-root-authentication-method=normal --skip-name-resolve."""
        for schema in ("mysql", "sys"):
            (data / schema).mkdir()
        scripts = self._engine.scripts(
            "system_tables", "performance_tables", "system_tables_data", "add_gis_sp_bootstrap", "sys_schema"
        )
        scripts = re.sub(r"^.*@current_hostname.*\n", "", scripts, flags=re.M)
        self._run_engine(data, "--bootstrap", script=f"USE mysql;\nSET @auth_root_socket=NULL;\n{scripts}")


class MariaDB118Server(MariaDBServer):
    """MariaDB 11.8, which switches TLS on by itself."""

    engine = "mariadb-11.8"


ENGINES: dict[str, type[MySQLServer]] = {"mysql": MySQLServer, "mariadb": MariaDBServer}
