"""2,000 tables of 30 columns on each server: `migrate verify` against reading those catalogs with bare queries."""

import tempfile
from pathlib import Path

from tests.bench.measure import JOB, TURNS, in_turns, run, table
from tests.bench.work import CONNECT, servers, write_expected, write_steps

TABLES, COLUMNS = 2000, 30
BARE = CONNECT + """
for sql in (
        "SELECT database, name, engine, engine_full, partition_key, sorting_key, primary_key, as_select,"
        " create_table_query FROM system.tables WHERE database = 'bench'",
        "SELECT database, table, name, type, default_kind, default_expression, compression_codec FROM system.columns"
        " WHERE database = 'bench' ORDER BY database, table, position",
        "SELECT database, table, name, type_full, expr, granularity FROM system.data_skipping_indices"
        " WHERE database = 'bench'"):
    clickhouse.query(sql).result_rows
for sql in (
        "SELECT table_name, table_type, engine, table_collation, table_comment, create_options"
        " FROM information_schema.tables WHERE table_schema = DATABASE()",
        "SELECT table_name, column_name, column_type, is_nullable, column_default, extra, collation_name,"
        " generation_expression, column_comment FROM information_schema.columns WHERE table_schema = DATABASE()"
        " ORDER BY table_name, ordinal_position",
        "SELECT table_name, index_name, non_unique, column_name, collation, sub_part, index_type"
        " FROM information_schema.statistics WHERE table_schema = DATABASE()"):
    mysql.cmd_query(sql)
    mysql.get_rows()
"""


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        directory = write_steps(Path(folder) / "steps", 1, 1)
        wide(directory)
        write_expected(directory, both)
        environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory)}
        print(f"   creating {TABLES:,} tables on each server …", flush=True)
        run(JOB, environ)
        medians = in_turns(turns, {
            "floor: both drivers, connect, one query each": lambda: run(both.floor),
            "bare queries of both catalogs": lambda: run(both.script(BARE)),
            "migrate verify": lambda: run([*JOB, "verify"], environ),
        })  # fmt: skip
    table(medians, "bare queries of both catalogs")


def wide(directory: Path) -> None:
    """Make the two steps create all the tables."""
    columns = {"clickhouse": ", ".join(f"c{n} LowCardinality(String) DEFAULT '{n}'" for n in range(COLUMNS - 1)),
               "mysql": ", ".join(f"c{n} VARCHAR(100) NOT NULL DEFAULT '{n}'" for n in range(COLUMNS - 1))}
    for path in directory.glob("*.sql"):
        target = path.name.split(".")[1]
        statement = path.read_text().replace("(id", f"({columns[target]}, id").strip()
        path.write_text("\n".join(statement.replace("t0 ", f"t{number} ") for number in range(TABLES)) + "\n")


if __name__ == "__main__":
    main()
