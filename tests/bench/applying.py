"""1,000 trivial steps, 500 on each database, against the bare statements and the rows of journal and ledger.

Of two kinds: a plain CREATE TABLE needs an intent in the journal, one with IF NOT EXISTS is sent again after a crash.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import JOB, TURNS, Spent, in_turns, run, table
from tests.bench.work import CONNECT, STATEMENTS, Servers, servers, write_steps

EACH = 500
# For each step the statement and the ledger's row, and around them the intent and its end; no lock, no look at a catalog, no log.
BARE = CONNECT + f"""
plain = "plain" in sys.argv

def clickhouse_send(sql):
    clickhouse.command(sql, settings={{"async_insert": 0, "wait_end_of_query": 1}})

clickhouse_send("CREATE DATABASE IF NOT EXISTS migrate")
clickhouse_send("CREATE TABLE migrate.ledger (version UInt32, text String) ENGINE = ReplacingMergeTree ORDER BY version")
clickhouse_send("CREATE TABLE migrate.journal (version UInt32, text String) ENGINE = ReplacingMergeTree"
                " PARTITION BY version ORDER BY version")
mysql.cmd_query("CREATE TABLE ledger (version INT NOT NULL PRIMARY KEY, text TEXT) ENGINE=InnoDB")
mysql.cmd_query("CREATE TABLE journal (version INT NOT NULL PRIMARY KEY, text TEXT) ENGINE=InnoDB")
for n in range({EACH}):
    row = f"(version, text) VALUES ({{n}}, '{{'0' * 200}}')"
    if plain:
        clickhouse_send(f"INSERT INTO migrate.journal {{row}}")
    clickhouse_send({STATEMENTS["clickhouse"]!r}.format(n))
    clickhouse_send(f"INSERT INTO migrate.ledger {{row}}")
    if plain:
        clickhouse_send(f"ALTER TABLE migrate.journal DROP PARTITION {{n}}")
        mysql.cmd_query(f"REPLACE INTO journal {{row}}")
    mysql.cmd_query({STATEMENTS["mysql"]!r}.format(n))
    if plain:
        mysql.cmd_query("BEGIN")
    mysql.cmd_query(f"INSERT INTO ledger {{row}}")
    if plain:
        mysql.cmd_query(f"DELETE FROM journal WHERE version = {{n}}")
        mysql.cmd_query("COMMIT")
"""


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        for kind in ("plain", "IF NOT EXISTS"):
            directory = write_steps(Path(folder) / "steps", EACH, EACH)
            if kind == "plain":
                for path in directory.iterdir():
                    path.write_text(path.read_text().replace("IF NOT EXISTS ", ""))
            environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory), "MIGRATE_VERIFY": "steps"}
            bare, ours = f"{kind}: bare, with journal and ledger", f"{kind}: migrate"
            medians = in_turns(turns // 3, {bare: fresh(both, both.script(BARE, kind)), ours: fresh(both, JOB, environ)})
            table(medians, bare)
            print(f"   a step: {medians[ours].wall / 2 / EACH * 1000:.2f} ms")


def fresh(both: Servers, command: list[str], environ: dict[str, str] | None = None) -> Callable[[], Spent]:
    """The measurement on empty databases; emptying them is not counted."""
    def measure() -> Spent:
        both.empty()
        return run(command, environ)

    return measure


if __name__ == "__main__":
    main()
