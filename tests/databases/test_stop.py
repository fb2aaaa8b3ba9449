"""SIGTERM and SIGINT at random times, from the first moment to the last: report, free lock, and a rerun that completes.

By default some twelve signals on MySQL; MIGRATE_TEST_FULL=1 makes it more than two hundred, on MySQL and MariaDB.
docs/reliability.md has the figures.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FIGURES
from tests.databases.crash import ClickHouseTarget, MySQLTarget
from tests.databases.test_job import check_log
from tests.databases.test_lock import LOCK
from tests.databases.test_matrix import CLICKHOUSE, MYSQL
from tests.job import ROOT, Job, JobResult
from tests.rights import WATCHFUL
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MySQLServer
from tests.servers.process import HOST, free_port

FULL = bool(os.environ.get("MIGRATE_TEST_FULL"))
CHAINS, SIGNALS = (9, 100) if FULL else (1, 1)  # how often from the beginning to the end, and how many in time, at least
OLD_MYSQL, OLD_CLICKHOUSE = MYSQL["M-7 006 by hand, int, other collation"], CLICKHOUSE["C, views V1"]
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
BIG = ("INSERT INTO metrics.PodMetrics (ts, cluster_id, pod_name, cpu_usage) SELECT now() - number % 1000000, 'big',"
       " toString(number), number FROM numbers(400000)")
SLOW = {  # after the shipped steps, and written as people write them
    "0008_slow.mysql.sql": """CREATE TABLE big (id INT NOT NULL PRIMARY KEY, n INT NOT NULL, filler CHAR(200) NOT NULL) ENGINE=InnoDB;
INSERT INTO big WITH RECURSIVE d AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM d WHERE n < 1000)
    SELECT a.n * 1000 + b.n, b.n, 'x' FROM d AS a CROSS JOIN d AS b WHERE a.n <= 50;
ALTER TABLE big MODIFY COLUMN n BIGINT NOT NULL;
UPDATE big SET n = n + 1;
CREATE TABLE sums AS SELECT COUNT(*) AS rows_, SUM(n) AS n FROM big;
DROP TABLE big;
""",
    "0009_slow.clickhouse.sql": """CREATE DATABASE own;
CREATE TABLE own.t (id UInt64, n UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO own.t SELECT number, number FROM numbers(5) WHERE sleepEachRow(0.2) = 0 SETTINGS max_block_size = 1;
ALTER TABLE own.t UPDATE n = n + 1 + sleepEachRow(0.2) WHERE 1;
""",
    "0009_slow.clickhouse.verify.sql": "SELECT 'it slept' WHERE sleep(0.5) = 1",
}
# Each phase: how many signals a chain has in it, what is logged when it begins (None: nothing yet), and within how many
# seconds from there the signal comes.
PHASES: dict[str, tuple[int, dict[str, str] | None, float]] = {
    "start": (1, None, 0.8),
    "waiting": (1, {"event": "waiting"}, 1),
    "lock wait": (1, {"event": "lock", "state": "waiting"}, 1),
    "rebuild": (2, {"event": "step_started", "step": "0002_metric_tables.clickhouse"}, 1.5),
    "steps": (2, {"event": "lock", "state": "taken"}, 2.5),
    "statement on mysql": (2, {"event": "step_started", "step": "0008_slow.mysql"}, 2),
    "statement on clickhouse": (2, {"event": "step_started", "step": "0009_slow.clickhouse"}, 1.5),
    "verification": (1, {"event": "step_applied", "step": "0009_slow.clickhouse"}, 0.5),
}  # fmt: skip


@dataclass
class Figures:
    """Of many signals: seconds until the end, and how many runs said that a statement could not be stopped."""

    seconds: list[float] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)
    not_stopped: int = 0
    chains: int = 0

    def __str__(self) -> str:
        late = sum(seconds > 2 for seconds in self.seconds)
        return (f"{len(self.seconds)} signals, slowest end after {max(self.seconds):.1f} s, {late} later than 2 s;"
                f" {self.not_stopped} waited for a statement and said so; {self.chains} reruns complete and equal;"
                f" {', '.join(f'{count} {phase}' for phase, count in self.phases.items())}")  # fmt: skip


class Chain:
    """Old databases that are brought to the newest step by runs that are stopped, one after the other."""

    def __init__(self, steps: Path, clickhouse: ClickHouseServer, mysql: MySQLServer) -> None:
        self.clickhouse, self.mysql = clickhouse, mysql
        self.targets = (ClickHouseTarget(clickhouse, self.build, WATCHFUL.name), MySQLTarget(mysql, OLD_MYSQL))
        self.environ = {target.variable: target.url(target.server.port) for target in self.targets} | {
            "MIGRATE_STEPS_DIR": str(steps), "MIGRATE_WAIT_TIMEOUT": "20", "MIGRATE_LOCK_TIMEOUT": "20"}

    @staticmethod
    def build(server: ClickHouseServer) -> None:
        OLD_CLICKHOUSE.build(server)
        server.query(BIG)

    def clean(self) -> None:
        for target in self.targets:
            target.clean()

    def state(self) -> list[Any]:
        """Catalogs and rows, and how those of BIG add up."""
        return [*(target.state() for target in self.targets), self.clickhouse.query(
            "SELECT count(), sum(cityHash64(pod_name, cpu_usage)) FROM metrics.PodMetrics WHERE cluster_id = 'big'")]

    def finished(self) -> list[Any]:
        """The state after a plain run."""
        result = Job(env=self.environ).wait()
        assert result.code == 0, result.stdout
        return self.state()

    def stopped(self, phase: str, figures: Figures) -> None:
        """Start a run and stop it at a random time in this phase; nothing if it was over before."""
        environ = dict(self.environ)
        if phase == "waiting":
            environ["CLICKHOUSE_URL"] = f"http://me:k4narie-wait@{HOST}:{free_port()}/"
        if phase == "lock wait":
            for sql in ("CREATE DATABASE IF NOT EXISTS migrate", LOCK,
                        "INSERT INTO migrate.schema_migrations_lock SELECT now64(3) + 60"):
                self.clickhouse.query(sql)
        job, number = Job(env=environ), random.choice(list(CODES))
        _, begin, span = PHASES[phase]
        while job.process.poll() is None and not (begins(job, begin) if begin else listens(job.process.pid)):
            time.sleep(0.01)
        time.sleep(random.uniform(0, span))
        began = time.monotonic()
        job.process.send_signal(number)
        result = job.wait(60)
        took = time.monotonic() - began
        check_log(result)
        if phase == "lock wait":
            assert self.clickhouse.query("SELECT count() FROM migrate.schema_migrations_lock") == [(1,)]
            self.clickhouse.query("DROP TABLE migrate.schema_migrations_lock SYNC")
        assert not self.locks(), f"{phase}: {self.locks()} after {result.stdout}"
        if result.code:
            self.count(result, CODES[number], took, phase, figures)

    def count(self, result: JobResult, code: int, took: float, phase: str, figures: Figures) -> None:
        said = any("for its end" in line.get("reason", "") for line in result.events("waiting"))
        assert (result.code, result.report["outcome"]) == (code, "stopped"), f"{phase}: {result.stdout}"
        assert took < 2 or said, f"{phase}: {took} s: {result.stdout}"
        figures.seconds.append(took)
        figures.phases[phase] += 1
        figures.not_stopped += said

    def locks(self) -> list[Any]:
        """What would keep the next run waiting: the lock on ClickHouse, and any connection to MySQL."""
        return (self.clickhouse.query("SELECT name FROM system.tables WHERE name = 'schema_migrations_lock'")
                + self.mysql.query(f"SELECT id, info FROM information_schema.processlist WHERE user = '{self.mysql.user}'"))


def begins(job: Job, fields: dict[str, str]) -> bool:
    return any(fields.items() <= line.items() for line in job.lines)


def listens(pid: int) -> bool:
    """Whether the program has a handler of its own for SIGTERM yet: before, no program can report anything."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> signal.SIGTERM - 1 & 1)


@pytest.mark.parametrize("engine", ["mysql", pytest.param("mariadb", marks=pytest.mark.full)])
def test_signals_at_random_times(
    engine: str, tmp_path: Path, fresh_clickhouse: ClickHouseServer, mysql_servers: Callable[[str], MySQLServer]
) -> None:
    """Each run ends within two seconds, or says which statement it waits for; the last one ends where one run alone would."""
    steps = Path(shutil.copytree(ROOT / "sql", tmp_path / "steps"))
    for name, text in SLOW.items():
        (steps / name).write_text(text)
    chain, figures = Chain(steps, fresh_clickhouse, mysql_servers(engine).start()), Figures()
    try:
        chain.clean()
        reference = chain.finished()
        while figures.chains < CHAINS or len(figures.seconds) < SIGNALS:
            chain.clean()
            for phase, (signals, *_) in PHASES.items():
                for _ in range(signals):
                    chain.stopped(phase, figures)
            assert chain.finished() == reference
            figures.chains += 1
    finally:
        fresh_clickhouse.clean()
        chain.mysql.drop_database("crash")
    FIGURES.append(f"stopped on clickhouse and {engine}: {figures}")
