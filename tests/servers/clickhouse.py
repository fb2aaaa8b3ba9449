"""A real ClickHouse for tests: the engine inside the chdb-core wheel, on its genuine HTTP interface.

The entry point is private to the wheel: its version is pinned, and test_servers.py proves what we rely on.
"""

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from tests.servers.process import HOST, Server

PINNED_ENGINE = "26.9.2."

# Imported before the chdir: the import opens an engine of its own, which would read our config.xml.
_CHILD = """
import os, sys
base, sql, *path = sys.argv[1:]
sys.path[:0] = path
from chdb import _chdb
os.chdir(base)
result = _chdb.query(sql, "TSV", path=base + "/data")
sys.exit(result.error_message() if result.has_error() else 0)
"""
# The main query reads stdin for ever: closing the pipe ends the server cleanly.
_LISTEN = "SYSTEM START LISTEN HTTP; SELECT * FROM file('/dev/stdin', LineAsString, 'a String') FORMAT Null"

_CONFIG = """<clickhouse>
  <background_schedule_pool_size>16</background_schedule_pool_size>
  <listen_host>127.0.0.1</listen_host><http_port>{port}</http_port>
  <keep_alive_timeout>1</keep_alive_timeout>
  <query_log><database>system</database><table>query_log</table></query_log>
  <users_config>users.xml</users_config>
  {extra}
</clickhouse>
"""
# The wheel gives views that refresh two threads, a server 512. implicit_select is on in the wheel: a typo such as CREAT would be read as a SELECT.
# The engine itself logs in as `default` from loopback without a password: it must exist, and may do no more.
_USERS = """<clickhouse>
  <profiles><default><implicit_select>0</implicit_select></default><users><profile>default</profile>{profile}</users></profiles>
  <quotas><default/></quotas>
  <users>
    <default><password/><networks><ip>::1</ip></networks><profile>default</profile><quota>default</quota><grants>
      <query>GRANT SYSTEM LISTEN ON *.*</query><query>GRANT CREATE TEMPORARY TABLE ON *.*</query>
      <query>GRANT READ ON FILE</query></grants></default>
    {users}
  </users>
</clickhouse>
"""
_USER = """<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
      <profile>{profile}</profile><quota>default</quota>{grants}</{name}>"""
_SYSTEM = "('system', 'information_schema', 'INFORMATION_SCHEMA', 'default')"


@dataclass(frozen=True)
class User:
    """A ClickHouse user; `grants` are what follows GRANT (`SELECT ON metrics.*`), None means everything.

    Creating a table needs `TABLE ENGINE ON *` too. Without a password the server's own is taken.
    """

    name: str
    password: str = ""
    grants: Sequence[str] | None = None

    def xml(self, password: str) -> str:
        queries = "".join(f"<query>GRANT {escape(grant)}</query>" for grant in self.grants or ())
        grants = "" if self.grants is None else f"<grants>{queries}</grants>"
        profile = "default" if self.name == "root" else "users"
        return _USER.format(name=self.name, password=escape(self.password or password), profile=profile, grants=grants)


class ClickHouseError(RuntimeError):
    """The server refused a statement of a test; `code` is ClickHouse's number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClickHouseServer(Server):
    """ClickHouse with the all-powerful user `root`, the user `migrate` with these `grants`, and further `users`.

    `config` is XML added to config.xml, `profile` are settings of all but root's sessions; nobody else may set what is `fixed`.
    """

    scheme = "http"
    dialect = "clickhouse"
    packages: Sequence[str] = ()  # where another release of the engine is; else the one that is installed

    def __init__(
        self,
        *,
        password: str | None = None,
        port: int | None = None,
        grants: Sequence[str] | None = None,
        users: Sequence[User] = (),
        config: str = "",
        profile: Mapping[str, str | int] | None = None,
        fixed: Sequence[str] = (),
    ) -> None:
        super().__init__(port=port, password=password)
        settings = "".join(f"<{name}>{escape(str(it))}</{name}>" for name, it in (profile or {}).items())
        settings += f"<constraints>{''.join(f'<{name}><readonly/></{name}>' for name in fixed)}</constraints>"
        people = "\n    ".join(
            user.xml(self.password) for user in (User("root"), User(self.user, grants=grants), *users)
        )
        (self.base / "config.xml").write_text(_CONFIG.format(port=self.port, extra=config))
        (self.base / "users.xml").write_text(_USERS.format(profile=settings, users=people), encoding="utf-8")

    def query(
        self, sql: str, *, user: str = "root", password: str | None = None, **settings: str | int
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement, sent by root as a plain HTTP request; ClickHouseError if it is refused."""
        secret = self.password if password is None else password
        login = base64.b64encode(f"{user}:{secret}".encode()).decode()
        form = {"default_format": "JSONCompact", "output_format_json_quote_64bit_integers": 0, **settings}
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/?{urlencode(form)}", sql.encode(), {"Authorization": f"Basic {login}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            code = int(error.headers.get("X-ClickHouse-Exception-Code", 0))
            raise ClickHouseError(code, error.read().decode(errors="replace")) from None
        return [tuple(row) for row in json.loads(body)["data"]] if body else []

    execute = query

    def version(self) -> str:
        return str(self.query("SELECT version()")[0][0])

    def clean(self) -> None:
        """Drop everything that is not the server's own."""
        for (name,) in self.query(f"SELECT name FROM system.databases WHERE name NOT IN {_SYSTEM}"):
            self.query(f"DROP DATABASE `{name}` SYNC")
        for (name,) in self.query("SELECT name FROM system.tables WHERE database = 'default'"):
            self.query(f"DROP TABLE default.`{name}` SYNC")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/ping", timeout=1) as response:
                return bool(response.read() == b"Ok.\n")
        except OSError:
            return False

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-c", _CHILD, str(self.base), _LISTEN, *self.packages]

    def _ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        process.stdin.close()
