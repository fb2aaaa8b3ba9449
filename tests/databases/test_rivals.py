"""Many runs that are started together, and one of them killed while it works: each statement takes effect once.

By default a small sample; MIGRATE_TEST_FULL=1 makes it 32 runs and 20 trials. docs/reliability.md has the figures.
"""

import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from migrator.steps import discover
from tests.conftest import FIGURES, Database, Servers
from tests.databases.conftest import Sent, listening
from tests.databases.crash import FIXTURE, ClickHouseTarget, MySQLTarget, Run
from tests.rights import WATCHFUL
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MySQLServer

FULL = bool(os.environ.get("MIGRATE_TEST_FULL"))
RIVALS, PATIENCE = (32, 600) if FULL else (8, 120)
# Where they begin, and whether one is killed. In full each of the six comes three or four times.
EVERY = [(state, killed) for state in ("empty", "half", "finished") for killed in (False, True)]
TRIALS = [EVERY[number % len(EVERY)] for number in range(20)] if FULL else [("empty", False), ("half", True)]
CRASH = Path(__file__).parents[1] / "data" / "crash"
SESSION = ("SET ", "START ", "COMMIT", "LOCK ", "UNLOCK ", "CREATE TEMPORARY", "INSERT INTO few")  # sent again in each run


@dataclass
class Figures:
    """Of many trials: how many runs survived, and what went wrong."""

    trials: int = 0
    killed: int = 0
    survivors: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{RIVALS} runs together, {self.trials} trials, {self.killed} leaders killed: {self.survivors} survivors,"
                f" {len(self.wrong)} things wrong")  # fmt: skip


class Rivalry:
    """A fixture of which nothing can run twice, on one or both servers, and the state in which it must end."""

    def __init__(self, steps: Path, clickhouse: ClickHouseServer, mysql: MySQLServer | None) -> None:
        self.targets = [ClickHouseTarget(clickhouse, user=WATCHFUL.name), *([MySQLTarget(mysql, grants=FIXTURE)] if mysql else [])]
        self.clickhouse = clickhouse
        self.servers = Servers(clickhouse, Database(mysql, "crash")) if mysql else None
        self.files = discover(steps, ("clickhouse", "mysql"))
        self.texts = Counter(s.text if step.target == "mysql" else logged(s.text) for step in self.files
                             for s in step.statements if not s.text.startswith(SESSION))
        self._environ = {"MIGRATE_LOG_FORMAT": "json", "MIGRATE_STEPS_DIR": str(steps), "MIGRATE_VERIFY": "steps",
                         "MIGRATE_LOCK_TIMEOUT": str(PATIENCE)}  # fmt: skip
        for target in self.targets:
            self._environ[target.variable] = target.url(target.server.port)
        self.clean()
        run = self.start()
        assert run.wait() == 0, run.text
        self.reference = self.state()

    def clean(self) -> None:
        for target in self.targets:
            target.clean()

    def state(self) -> list[dict[str, Any]]:
        return [target.state() for target in self.targets]

    def start(self) -> Run:
        return Run(self._environ)

    def begin(self, state: str, rng: random.Random) -> None:
        """Bring the servers to the beginning of a trial."""
        self.clean()
        if state != "empty":
            run = self.start()
            if state == "half":
                killed_at(run, rng.randint(1, self.texts.total() // 2))
            run.wait()
        self.targets[0].release()

    def trial(self, state: str, kill: bool, rng: random.Random, figures: Figures) -> None:
        self.begin(state, rng)
        what = f"{state}, {'leader killed' if kill else 'undisturbed'}"
        with listening(self.servers) if self.servers else contextlib.nullcontext(Sent()) as sent:
            runs = [self.start() for _ in range(RIVALS)]
            if kill and state == "finished":  # nobody leads: any of them
                killed_at(rng.choice([run for run in runs if run.process.is_alive()]), 0)
            elif kill:  # where half is done already, it has no more than half to do
                killed_at(the_leader(runs), rng.randint(0, self.texts.total() // 4))
            codes = Counter(run.wait(PATIENCE) for run in runs)
        figures.trials += 1
        figures.killed += codes[-9]
        figures.survivors += codes.total() - codes[-9]
        figures.wrong += [f"{what}: {run.text[-2000:]}" for run in runs if run.process.exitcode not in (0, -9)]
        assert codes[-9] <= kill
        if state == "empty" and not codes[-9]:
            figures.wrong += self.not_once(runs, sent)
        if self.state() != self.reference:
            figures.wrong.append(f"{what}: the end is another: {self.state()} instead of {self.reference}")

    def not_once(self, runs: list[Run], sent: Sent) -> Iterator[str]:
        """What was not applied by exactly one of the runs, as they say and as the servers' own logs do."""
        applied = Counter(line["step"] for run in runs for line in run.lines if line["event"] == "step_applied")
        if applied != Counter(step.stem for step in self.files):
            yield f"applied: {applied}"
        counts = Counter([*map(logged, sent.clickhouse), *sent.mysql])
        if self.servers:
            yield from (f"{counts[text]} times: {text}" for text, times in self.texts.items() if counts[text] != times)


def logged(text: str) -> str:
    """A statement as ClickHouse's query log has it: without inline rows."""
    return text.partition(" VALUES")[0]


def the_leader(runs: list[Run]) -> Run:
    """The run that has the lock, as soon as one has."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for run in runs:
            if '"taken"' in run.said:
                return run
        time.sleep(0.01)
    raise AssertionError("nobody took the lock")


def killed_at(run: Run, statements: int) -> None:
    """Kill a run a moment after it has done so many statements; not at all if it ends before."""
    while run.process.is_alive() and run.said.count('"event": "statement"') < statements:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.05))
    run.kill()


def one_order(folder: Path, *targets: str) -> Path:
    """The fixtures of these targets as steps of one directory, in turn."""
    folder.mkdir()
    files = sorted((file for target in targets for file in (CRASH / target).iterdir()), key=lambda file: file.name)
    for number, file in enumerate(files, 1):
        shutil.copy(file, folder / f"{number:04}{file.name[4:]}")
    return folder


@pytest.mark.parametrize("engine", ["mysql", pytest.param("mariadb", marks=pytest.mark.full), None])
def test_rivals_do_everything_once(
    engine: str | None, tmp_path: Path, fresh_clickhouse: ClickHouseServer, mysql_servers: Callable[[str], MySQLServer]
) -> None:
    """On ClickHouse and MySQL, and on ClickHouse alone, without MySQL's lock and without Keeper."""
    server = mysql_servers(engine).start() if engine else None
    steps = one_order(tmp_path / "steps", "clickhouse", *(["mysql"] if engine else []))
    figures, seed = Figures(), random.randrange(10_000)
    if server:
        server.query("SET GLOBAL log_bin_trust_function_creators = 1")  # else MySQL wants SUPER for a trigger
    try:
        rivalry = Rivalry(steps, fresh_clickhouse, server)
        for number, (state, kill) in enumerate(TRIALS):
            rivalry.trial(state, kill, random.Random(seed + number), figures)
    finally:
        fresh_clickhouse.clean()
        if server:
            server.query("SET GLOBAL log_bin_trust_function_creators = 0; DROP DATABASE IF EXISTS crash")
    FIGURES.append(f"rivals on {f'clickhouse and {engine}' if engine else 'clickhouse alone':22}: {figures}")
    assert figures.wrong == [], f"seed {seed}"
    assert figures.killed
