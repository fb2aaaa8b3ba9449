"""Old forms of the MySQL schema, as hand-run scripts left them, derived from the definitions that replaced them.

The numbers M-1 to M-10 are those of the schema's known histories. A shape is SQL for an empty database.
"""

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

from migrator.catalogs import Object
from migrator.converge.mysql_definitions import Definition, parse

STEPS = Path(__file__).parents[2] / "sql"
BASE = (STEPS / "0005_base_tables.mysql.sql").read_text()
STEP_6 = str(runpy.run_path(str(STEPS / "0006_replica_management.mysql.py"))["DEFINITIONS"])
STEP_7 = str(runpy.run_path(str(STEPS / "0007_schema_completion.mysql.py"))["DEFINITIONS"])

TARGET = {made.name: made for made in parse(STEP_6) + parse(STEP_7) if made.kind == "table"}
UNICODE = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"
UNSTATED = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"  # the server's choice: not what the database's default is

POOL_INT = {"pool_id": "int"}
NAMES_6 = {  # what 006 calls an index, by the name that 007 gave it
    "replica_instances": {
        "idx_replica_agent_status": "idx_agent_status",
        "idx_replica_parent": "idx_parent_instance",
        "idx_replica_created": "idx_created_at",
    },
    "spot_interruption_events": {
        "idx_interruption_agent": "idx_agent_detected",
        "idx_interruption_signal": "idx_signal_type",
        "idx_interruption_success": "idx_success",
    },
}
NOT_IN_6 = {
    "replica_instances": ["idx_replica_active", "idx_replica_pool"],
    "pricing_submissions_raw": ["idx_pricing_raw_duplicate_of"],
    "pricing_snapshots_clean": [
        "idx_instance_type_time", "idx_pricing_clean_recent", "idx_pricing_clean_submission",
    ],
    "pricing_corrections": ["idx_pricing_corrections_snapshot"],
    "spot_interruption_events": ["idx_interruption_pool", "idx_interruption_replica"],
}  # fmt: skip
NOT_IN_7 = {
    "replica_instances": ["idx_replica_instances_active", "idx_replica_pool"],
    "pricing_snapshots_clean": [
        "source_submission_id", "interpolation_method", "interpolation_metadata", "idx_confidence", "idx_data_source",
        "idx_pricing_clean_ml_eligible", "idx_pricing_clean_submission",
    ],
    "spot_interruption_events": ["idx_interruption_replica"],
}  # fmt: skip
TABLES_6 = [name for name, made in TARGET.items() if name in STEP_6.split() and name != "instance_switches"]
TABLES_7 = ["replica_instances", "pricing_snapshots_clean", "spot_interruption_events", "pool_reliability_metrics",
            "client_savings_daily", "instance_metrics"]  # fmt: skip


def table(
    name: str,
    *,
    without: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    indexes: Mapping[str, str] | None = None,
    keys: str = "automatic",
    options: str = UNICODE,
    more: Sequence[str] = (),
) -> str:
    """CREATE TABLE of a defined table, changed: parts left out, columns of another type, indexes of another name.

    `keys` says what becomes of the foreign keys: automatic (the server names them), none, or defined.
    """
    made, parts = TARGET[name], []
    for item, clause in made.clauses.items():
        if item.name in without or (item.kind == "foreign key" and keys == "none"):
            continue
        if item.kind == "foreign key" and keys == "automatic":
            clause = clause[clause.index("FOREIGN KEY") :]
        if item.kind == "index" and (old := (indexes or {}).get(item.name)):
            clause = clause.replace(f"`{item.name}`", f"`{old}`", 1)
        if item.kind == "column" and (type_ := (columns or {}).get(item.name)):
            null = "NOT NULL" if " NOT NULL" in clause else "NULL"
            clause = f"`{item.name}` {type_} {null}"
        parts.append(clause if options == UNICODE else clause.replace(" COLLATE utf8mb4_unicode_ci", ""))
    comment = made.objects[Object("table", name)]["comment"]
    return f"CREATE TABLE {name} ({', '.join([*parts, *more])}) {options} COMMENT='{comment}';"


def additions(step: str, name: str, *, without: Sequence[str] = ()) -> str:
    """ALTER TABLE with what a step adds to a table of the application."""
    [made] = [made for made in parse(step) if made.kind == "additions" and made.name == name]
    parts = [f"ADD {clause}" for item, clause in made.clauses.items() if item.name not in without]
    return f"ALTER TABLE {name} {', '.join(parts)};"


def programs(step: str, *names: str) -> list[Definition]:
    """Views and procedures of a step, by name, or all."""
    return [made for made in parse(step) if made.kind in ("view", "procedure") and (made.name in names or not names)]
