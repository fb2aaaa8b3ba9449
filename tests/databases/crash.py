"""Runs that are killed at a chosen command on the wire, and what the servers hold after plain reruns."""

import importlib
import json
import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import Database
from tests.databases import clickhouse_shapes as shapes
from tests.databases.mysql_session import connected
from tests.job import watch
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MySQLServer
from tests.servers.process import HOST
from tests.servers.proxy import Proxy

# One process has loaded the program and its drivers, and each run is a fork of it: a start takes 20 ms instead of 400.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.databases.crash", "migrator.job", "migrator.databases.mysql",
                               "migrator.databases.clickhouse"])  # fmt: skip
# What the fixtures do on MySQL beyond README.md's rights; on ClickHouse the suite's user may do what they do in `shop`.
# EXECUTE: what a server gives by itself to whoever makes a procedure is lost when it is killed right after (MySQL 9.7).
FIXTURE = ("EXECUTE", "INDEX", "TRIGGER", "CREATE TEMPORARY TABLES", "LOCK TABLES")


class Run:
    """The program in a process of its own, as `entrypoint.main` begins; `constants` of its modules can be replaced."""

    def __init__(self, environ: Mapping[str, str], *argv: str, constants: Mapping[str, float] | None = None) -> None:
        self._environ = environ
        descriptor, name = tempfile.mkstemp(prefix="crash-")
        os.close(descriptor)
        self._log = Path(name)
        self.process = _FORKS.Process(target=_main, args=(argv, dict(environ), name, dict(constants or {})))
        self.process.start()

    @property
    def said(self) -> str:
        """What it has logged so far."""
        return self._log.read_text() if self._log.exists() else self.text

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float = 120) -> int:
        """The exit code; negative if it was killed."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "still running"
        self.text = self._log.read_text()
        self._log.unlink()
        watch(self._environ, self.text)
        return self.process.exitcode

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        return self.lines[-1]


def _main(argv: tuple[str, ...], environ: dict[str, str], log: str, constants: dict[str, float]) -> None:
    import entrypoint

    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    descriptor = os.open(log, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os._exit(entrypoint.main(argv, environ))


@dataclass
class Figures:
    """Of crash points: how many were tried, recovered by plain reruns, stopped by a run that says why, and wrong."""

    tried: int = 0
    recovered: int = 0
    stopped: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.tried:5} tried {self.recovered:5} recovered {self.stopped:3} stopped, saying so"
                f" {len(self.wrong):3} wrong")  # fmt: skip


class Target:
    """One server with a database for a run, its state at the beginning, and its contents as comparable values."""

    name: str
    scheme: str
    variable: str
    server: Any

    def url(self, port: int) -> str:
        raise NotImplementedError

    def wake(self) -> None:
        """The server runs, if it did not, and takes logins."""
        self.server.start()

    def clean(self) -> None:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        raise NotImplementedError

    def release(self) -> None:
        """Do at once what a dead run's lock would do by itself after ten seconds."""


class MySQLTarget(Target):
    name, scheme, variable = "mysql", "mysql", "MYSQL_URL"

    def __init__(self, server: MySQLServer, before: str = "", grants: Sequence[str] = ()) -> None:
        self.server, self._database, self._before, self._grants = server, "crash", before, grants

    def url(self, port: int) -> str:
        server = self.server
        return server.url(self._database, ssl_mode="DISABLED").replace(f"{HOST}:{server.port}", f"{HOST}:{port}")

    def wake(self) -> None:
        server = self.server.start()
        server.connect(user=server.user, password=server.password).close()  # over TLS, so that others need none

    def clean(self) -> None:
        self.wake()
        self.server.drop_database(self._database)
        self.server.create_database(self._database)
        if self._grants:
            self.server.grant(self._database, *self._grants)
        if self._before:
            with connected(Database(self.server, self._database)) as session:
                session.run("SET timestamp = 1767322805;" + self._before)  # else its rows tell when they were made

    def state(self) -> dict[str, Any]:
        query = lambda sql: self.server.query(sql, self._database)  # noqa: E731
        found = {what: sorted(map(repr, query(sql))) for what, sql in {
            "routines": "SELECT routine_name, routine_definition FROM information_schema.routines WHERE routine_schema ="
                        " DATABASE()",
            "triggers": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
            "events": "SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE()",
        }.items()}  # fmt: skip
        for name, kind in query("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema ="
                                " DATABASE() AND table_name <> 'schema_migrations_journal'"):
            found[name] = [re.sub(r" AUTO_INCREMENT=\d+", "", query(f"SHOW CREATE TABLE `{name}`")[0][1])]
            columns = "version, name" if name == "schema_migrations" else "*"
            if kind == "BASE TABLE":
                found[f"rows of {name}"] = sorted(map(repr, query(f"SELECT {columns} FROM `{name}`")))
        return found


class ClickHouseTarget(Target):
    name, scheme, variable = "clickhouse", "http", "CLICKHOUSE_URL"

    def __init__(self, server: ClickHouseServer, before: Callable[[ClickHouseServer], object] | None = None,
                 user: str = "migrate") -> None:
        self.server, self._before, self._user = server, before, user

    def url(self, port: int) -> str:
        return self.server.url(user=self._user).replace(f"{HOST}:{self.server.port}", f"{HOST}:{port}")

    def clean(self) -> None:
        self.server.start().clean()
        for (name,) in self.server.query("SELECT name FROM system.functions WHERE origin = 'SQLUserDefined'"):
            self.server.query(f"DROP FUNCTION {name}")
        if self._before:
            self._before(self.server)

    def release(self) -> None:
        self.server.query("DROP TABLE IF EXISTS migrate.schema_migrations_lock SYNC")

    def state(self) -> dict[str, Any]:
        """Definitions, and rows; of the shipped tables those that were there before, for views may write others."""
        query = self.server.query
        found: dict[str, Any] = {
            "functions": query("SELECT create_query FROM system.functions WHERE origin = 'SQLUserDefined'")}
        for database, name, text, engine in query(
                "SELECT database, name, create_table_query, engine FROM system.tables WHERE database NOT IN"
                " ('system', 'information_schema', 'INFORMATION_SCHEMA') AND name != 'schema_migrations_journal' AND NOT"
                " startsWith(name, 'schema_migrations_lock_')"):  # of runs that are dead; they stay for a day
            found[f"{database}.{name}"] = text
            if database == "metrics":
                found[f"rows of {name}"] = shapes.rows(self.server, name) if name in shapes.COLUMNS else []
            elif "View" not in engine:
                columns = "version, name" if database == "migrate" else "*"
                found[f"rows of {name}"] = sorted(map(repr, query(f"SELECT {columns} FROM {database}.`{name}`")))
        return found


class Crashes:
    """A scenario: steps that bring one target from its beginning to one end, whatever happens on the way.

    `other` is a second one, whose commands are not among those at which the run is killed.
    """

    def __init__(self, target: Target, steps: Path, other: Target | None = None, **settings: str) -> None:
        self.target, self._targets = target, [target, *([other] if other else [])]
        self._environ = {"MIGRATE_LOG_FORMAT": "json", "MIGRATE_STEPS_DIR": str(steps),
                         "MIGRATE_TARGETS": ",".join(sorted(t.name for t in self._targets)),
                         "MIGRATE_WAIT_TIMEOUT": "20", "MIGRATE_LOCK_TIMEOUT": "30"} | settings  # fmt: skip
        if other:
            self._environ[other.variable] = other.url(other.server.port)
        self._clean()
        with Proxy(target.server.port, target.scheme) as proxy:
            run = self._start(proxy.port)
            assert run.wait() == 0, run.text
        self.commands, self.reference = proxy.count, self._state()

    def _clean(self) -> None:
        for target in self._targets:
            target.clean()

    def _state(self) -> dict[str, Any]:
        return {f"{target.name}: {what}": value for target in self._targets for what, value in target.state().items()}

    def _start(self, port: int) -> Run:
        return Run(self._environ | {self.target.variable: self.target.url(port)})

    def point(self, command: int, mode: str, figures: Figures, *, server_dies: bool = False) -> None:
        """Kill a run, or its server, at this command, then run once more, and compare."""
        self._clean()
        runs: list[Run] = []
        kill = self.target.server.kill if server_dies else lambda: runs[0].kill()
        with Proxy(self.target.server.port, self.target.scheme, kill, fatal=command, mode=mode) as proxy:
            runs.append(self._start(proxy.port))
            code = runs[0].wait()
        if not proxy.hit:
            return
        done = code == 0 and runs[0].report["outcome"] == "done"  # all but giving the lock back
        assert (code == 3 or done) if server_dies else code == -9, runs[0].text
        for target in self._targets:
            target.wake()
            target.release()
        figures.tried += 1
        again = self._start(self.target.server.port)
        again.wait()
        where = f"{mode} {command} of {self.commands}"
        if again.process.exitcode == 6 and "cannot tell whether it took effect" in again.text:
            figures.stopped += 1
        elif again.process.exitcode:
            figures.wrong.append(f"{where}: {again.lines[-1].get('error')}")
        elif difference := _difference(self.reference, self._state()):
            figures.wrong.append(f"{where}: {difference}")
        else:
            figures.recovered += 1


def _difference(reference: dict[str, Any], state: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {reference.get(key)} expected, {state.get(key)} found"
                     for key in reference.keys() | state.keys() if reference.get(key) != state.get(key))
