"""1,000 trivial steps, 500 on each database, against sending the same statements and rows of journal and ledger bare.

Of two kinds: a plain CREATE TABLE needs an intent in the journal, one with IF NOT EXISTS is sent again after a crash.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench.measure import JOB, ROOT, TURNS, Spent, in_turns, run, table
from tests.bench.work import CONNECT, Servers, servers, write_steps

EACH = 500
# The job, with all that it sends to be carried out written down: not its questions, nor what it does for its lock.
RECORD = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
import entrypoint
from migrator.databases.clickhouse import ClickHouse
from migrator.databases.mysql import MySQL
sent = []
execute, send = ClickHouse.execute, MySQL._sent

def to_clickhouse(self, sql, label=""):
    if label not in ("lock", "heartbeat"):
        sent.append(("clickhouse", sql, self.limits(label)))
    return execute(self, sql, label)

def to_mysql(self, sql):
    rows = send(self, sql)
    if not sql.startswith(("SELECT", "SET", "SHOW")):
        sent.append(("mysql", sql, None))
    return rows

ClickHouse.execute, MySQL._sent = to_clickhouse, to_mysql
assert entrypoint.main([], os.environ) == 0
with open(sys.argv[1], "w") as file:
    json.dump(sent, file)
"""
BARE = CONNECT + """
import json
for target, sql, settings in json.load(open(sys.argv[6])):
    if target == "mysql":
        mysql.cmd_query(sql)
    else:
        clickhouse.command(sql, settings=settings)
"""


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        for kind in ("plain", "IF NOT EXISTS"):
            directory, sent = write_steps(Path(folder) / "steps", EACH, EACH), Path(folder) / "sent.json"
            if kind == "plain":
                for path in directory.iterdir():
                    path.write_text(path.read_text().replace("IF NOT EXISTS ", ""))
            environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory), "MIGRATE_VERIFY": "steps"}
            both.empty()
            run([sys.executable, "-c", RECORD, str(sent)], environ)
            bare, ours = f"{kind}: what is sent, bare", f"{kind}: migrate"
            medians = in_turns(turns, {
                bare: fresh(both, partial(run, both.script(BARE, str(sent)))), ours: fresh(both, partial(run, JOB, environ))})
            table(medians, bare)
            print(f"   a step: {medians[ours].wall / 2 / EACH * 1000:.2f} ms")


def fresh(both: Servers, once: Callable[[], Spent]) -> Callable[[], Spent]:
    """The measurement on empty databases; emptying them is not counted."""
    def measure() -> Spent:
        both.empty()
        return once()

    return measure


if __name__ == "__main__":
    main()
