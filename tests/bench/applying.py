"""1,000 trivial steps, 500 on each database, against the bare statements and ledger rows over the same drivers."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import JOB, TURNS, Spent, in_turns, run, table
from tests.bench.work import CONNECT, STATEMENTS, Servers, servers, write_steps

EACH = 500
# One INSERT for each step, as the ledger has them; no lock, no journal, no log, no check.
BARE = CONNECT + f"""
clickhouse.command("CREATE DATABASE IF NOT EXISTS migrate")
clickhouse.command("CREATE TABLE migrate.ledger (version UInt32, name String, checksum String)"
                   " ENGINE = ReplacingMergeTree ORDER BY version")
mysql.cmd_query("CREATE TABLE ledger (version INT NOT NULL PRIMARY KEY, name TEXT, checksum TEXT) ENGINE=InnoDB")
for n in range({EACH}):
    row = f"INSERT INTO {{{{}}}}ledger (version, name, checksum) SELECT {{n}}, '{{n:04}}_t', repeat('0', 64)"
    clickhouse.command({STATEMENTS["clickhouse"]!r}.format(n), settings={{"wait_end_of_query": 1}})
    clickhouse.command(row.format("migrate."), settings={{"async_insert": 0, "wait_end_of_query": 1}})
    mysql.cmd_query({STATEMENTS["mysql"]!r}.format(n))
    mysql.cmd_query(row.format(""))
"""


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        directory = write_steps(Path(folder) / "steps", EACH, EACH)
        environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory), "MIGRATE_VERIFY": "steps"}
        medians = in_turns(turns // 3, {
            "bare statements and ledger rows": fresh(both, lambda: run(both.script(BARE))),
            "migrate": fresh(both, lambda: run(JOB, environ)),
        })  # fmt: skip
    table(medians, "bare statements and ledger rows")
    print(f"   a step: {medians['migrate'].wall / 2 / EACH * 1000:.2f} ms")


def fresh(both: Servers, measure: Callable[[], Spent]) -> Callable[[], Spent]:
    """The measurement on empty databases; emptying them is not counted."""
    def emptied() -> Spent:
        both.empty()
        return measure()

    return emptied


if __name__ == "__main__":
    main()
