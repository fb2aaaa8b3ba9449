"""Servers for tests: started when first needed, shared by the session, handed out empty; none is skipped."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests import job
from tests.rights import EXACT, OWN, WATCHFUL
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import ENGINES, MySQLServer

FIGURES: list[str] = []  # what tests have measured, a line each, for the end of the session
LEAKS: list[str] = []  # which runs of the job have shown a password
DOCKER = ("tests/image/", "tests/helm/")  # the tests with a Docker engine

pytest_plugins = ["tests.image.containers"]  # one engine and one image for tests/image and tests/helm


@dataclass(frozen=True)
class Database:
    """A fresh, empty MySQL or MariaDB database, where the server's user `migrate` has README.md's rights."""

    server: MySQLServer
    name: str

    @property
    def dialect(self) -> str:
        return self.server.dialect

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one or several statements in this database as root; the rows of the last."""
        return self.server.query(sql, self.name)

    def grant(self, *rights: str) -> None:
        """More rights here for `migrate`, which a test's own steps need."""
        self.server.grant(self.name, *rights)


@dataclass(frozen=True)
class Servers:
    """An empty ClickHouse and an empty MySQL or MariaDB database, and the settings that lead there.

    `user` is the job's on ClickHouse, one of tests/rights.py.
    """

    clickhouse: ClickHouseServer
    mysql: Database
    user: str = "migrate"

    @property
    def environ(self) -> dict[str, str]:
        return {"CLICKHOUSE_URL": self.clickhouse.url(user=self.user), "MYSQL_URL": self.mysql.url}

    def run(self, *args: str, timeout: float = 120, **environ: str) -> job.JobResult:
        """The job on these servers to its end, with further settings in `environ`."""
        return job.run_job(*args, env=self.environ | environ, timeout=timeout)


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouseServer]:
    """The session's ClickHouse, as the last test left it."""
    with ClickHouseServer(grants=EXACT + OWN, users=[WATCHFUL]) as server:
        yield server


@pytest.fixture(scope="session")
def mysql_servers() -> Iterator[Callable[[str], MySQLServer]]:
    """The session's server of a dialect, started at the first call."""
    running: dict[str, MySQLServer] = {}
    with contextlib.ExitStack() as stack:

        def server(dialect: str) -> MySQLServer:
            if dialect not in running:
                running[dialect] = stack.enter_context(ENGINES[dialect]())
            return running[dialect]

        yield server


@pytest.fixture(scope="session", params=ENGINES)
def mysql_server(request: pytest.FixtureRequest, mysql_servers: Callable[[str], MySQLServer]) -> MySQLServer:
    """The session's MySQL, then its MariaDB: a test that asks for it runs on both."""
    return mysql_servers(request.param)


@pytest.fixture
def fresh_clickhouse(clickhouse: ClickHouseServer) -> ClickHouseServer:
    """The session's ClickHouse without any database but its own."""
    clickhouse.start()  # in case a test has killed it
    clickhouse.clean()
    return clickhouse


@pytest.fixture
def fresh_mysql(mysql_server: MySQLServer) -> Iterator[Database]:
    """A new database on each dialect, dropped afterwards."""
    mysql_server.start()
    database = Database(mysql_server, f"test_{secrets.token_hex(4)}")
    mysql_server.create_database(database.name)
    yield database
    job.kill_all()  # a job that still runs would hold a lock that the DROP waits for
    mysql_server.start().drop_database(database.name)


@pytest.fixture
def servers(fresh_clickhouse: ClickHouseServer, fresh_mysql: Database) -> Servers:
    """Both databases, empty, and the settings for the job."""
    return Servers(fresh_clickhouse, fresh_mysql)


@pytest.fixture(autouse=True)
def no_job_survives_its_test() -> Iterator[None]:
    """A test that fails half-way leaves no job behind to disturb the next."""
    yield
    job.kill_all()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless MIGRATE_TEST_FULL is set; the longest group of tests comes first."""
    long = [item for item in items if item.get_closest_marker("full") and not os.environ.get("MIGRATE_TEST_FULL")]
    config.hook.pytest_deselected(items=long)
    items[:] = sorted((item for item in items if item not in long), key=lambda item: _group(item.nodeid) != DOCKER)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """With several processes, each takes whole files; the tests with the Docker engine, which is one, stay together."""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _group
    return scheduler


def _group(test: str) -> str:
    return DOCKER if test.startswith(DOCKER) else test.partition("::")[0]


def pytest_testnodedown(node: WorkerController) -> None:
    """What one of several processes has measured, and the passwords that its runs showed."""
    output = getattr(node, "workeroutput", {})
    FIGURES.extend(output.get("figures", ()))
    LEAKS.extend(output.get("leaks", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if any run of the job, in any test, showed a password."""
    LEAKS.extend(job.leaks())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput |= {"figures": FIGURES, "leaks": LEAKS}
    elif LEAKS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in FIGURES:
        terminalreporter.write_line(line)
    for leak in LEAKS:
        terminalreporter.write_line(f"PASSWORD SHOWN by {leak}", red=True)
