"""Old forms of the MySQL schema, as hand-run scripts left them, derived from the definitions that replaced them.

The names M-1 to M-10 are those of the schema's known histories. A shape is SQL for an empty database, rows included.
"""

import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

from migrator.catalogs import Object
from migrator.converge.mysql_definitions import parse
from migrator.statements import split

STEPS = Path(__file__).parents[2] / "sql"
BASE = (STEPS / "0005_base_tables.mysql.sql").read_text()
STEP_6 = str(runpy.run_path(str(STEPS / "0006_replica_management.mysql.py"))["DEFINITIONS"])
STEP_7 = str(runpy.run_path(str(STEPS / "0007_schema_completion.mysql.py"))["DEFINITIONS"])
DEFINED = {made.name: made for made in parse(STEP_6) + parse(STEP_7) if made.kind != "additions"}

UNICODE = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"
UNSTATED = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"  # the server's choice, whatever the database's default is
TABLES_6 = ["replica_instances", "pricing_submissions_raw", "pricing_snapshots_clean", "pricing_snapshots_interpolated",
            "pricing_corrections", "pricing_snapshots_ml", "spot_interruption_events", "data_processing_jobs"]  # fmt: skip
TABLES_7 = ["pricing_snapshots_clean", "spot_interruption_events", "pool_reliability_metrics", "client_savings_daily",
            "instance_metrics"]  # fmt: skip

NAMES_6 = {  # what 006 calls an index, by the name that 007 gave it
    "idx_replica_agent_status": "idx_agent_status", "idx_replica_parent": "idx_parent_instance",
    "idx_replica_created": "idx_created_at", "idx_interruption_agent": "idx_agent_detected",
    "idx_interruption_signal": "idx_signal_type", "idx_interruption_success": "idx_success",
}  # fmt: skip
NEITHER = ["idx_replica_pool", "idx_pricing_raw_duplicate_of", "idx_pricing_clean_submission",
           "idx_pricing_corrections_snapshot", "idx_interruption_replica"]  # fmt: skip
NOT_IN_6 = [*NEITHER, "idx_replica_active", "idx_pricing_clean_recent", "idx_interruption_pool",
            "pricing_snapshots_clean.idx_instance_type_time"]  # fmt: skip
NOT_IN_7 = [*NEITHER, "source_submission_id", "interpolation_method", "interpolation_metadata", "idx_confidence",
            "idx_data_source", "idx_pricing_clean_ml_eligible", "idx_replica_instances_active"]  # fmt: skip
UNCOMMENTED = {"response_time_ms": "int NULL", "data_loss_seconds": "int NULL DEFAULT 0"}

BASE_ROWS = """
INSERT INTO clients (id, name, email, client_token) VALUES ('client', 'Client', 'a@example.com', 'token');
INSERT INTO agents (id, client_id, logical_agent_id, status) VALUES ('agent', 'client', 'logical', 'online');
INSERT INTO spot_pools (id, instance_type, region, az) VALUES ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', '1a'),
    ('1', 'm5.large', 'us-east-1', '1b');
INSERT INTO switches (id, client_id, agent_id, initiated_at) VALUES ('switch', 'client', 'agent', '2026-01-02 03:04:05');
"""
POOL_ROWS = """
INSERT INTO pricing_snapshots_clean (pool_id, instance_type, region, az, spot_price, time_bucket, bucket_start,
    bucket_end, source_type) VALUES (1, 'm5.large', 'us-east-1', '1b', 0.04, '2026-01-02 03:05:00',
    '2026-01-02 03:05:00', '2026-01-02 03:09:59', 'primary');
INSERT INTO spot_interruption_events (instance_id, agent_id, pool_id, signal_type, detected_at, response_action,
    metadata) VALUES ('i-1', 'agent', 1, 'termination-notice', '2026-01-02 03:04:05', 'no-action', '{"why": "spot"}');
"""
METRIC_ROWS = """
INSERT INTO pool_reliability_metrics (pool_id, period_start, period_end) VALUES
    (1, '2026-01-02 03:00:00', '2026-01-02 04:00:00'), (7, '2026-01-02 03:00:00', '2026-01-02 04:00:00');
INSERT INTO client_savings_daily (client_id, date, savings) VALUES ('client', '2026-01-02', 11);
INSERT INTO instance_metrics (instance_id, agent_id, cpu_utilization) VALUES ('i-1', 'agent', 12.5);
"""
JOB_ROWS = """
INSERT INTO data_processing_jobs (job_type, status, start_time, end_time, result_summary) VALUES
    ('gap-filling', 'completed', '2026-01-02 03:04:05', '2026-01-02 03:04:06', '{"gaps": 3}');
"""
REPLICA_ROWS = """
INSERT INTO replica_instances (id, agent_id, instance_id, replica_type, pool_id, tags) VALUES
    ('replica', 'agent', 'i-2', 'manual', 1, '{"a": 1}');
INSERT INTO pricing_submissions_raw (submission_id, source_instance_id, source_type, pool_id, spot_price, observed_at,
    submitted_at, duplicate_of) VALUES ('one', 'i-1', 'primary', 1, 0.04, '2026-01-02 03:04:05', '2026-01-02 03:04:06',
    NULL), ('two', 'i-1', 'primary', 1, 0.04, '2026-01-02 03:04:05', '2026-01-02 03:04:06', 'one');
INSERT INTO pricing_corrections (original_snapshot_id, pool_id, time_bucket, original_price, corrected_price,
    correction_reason, correction_source, corrected_by) VALUES (1, 1, '2026-01-02 03:05:00', 0.04, 0.05, 'typing',
    'manual-audit', 'me');
"""
OLD_PROCEDURES = """
DELIMITER //
CREATE PROCEDURE compute_daily_savings(IN p_date DATE) BEGIN SELECT p_date; END//
CREATE PROCEDURE compute_pool_reliability(IN p_hours INT) BEGIN SELECT p_hours; END//
DELIMITER ;
"""
OLD_LEDGER = """
CREATE TABLE schema_migrations (version INT PRIMARY KEY, description VARCHAR(255) NOT NULL,
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO schema_migrations VALUES (7, 'Schema Completion & Optimization', '2025-11-20 17:19:00');
"""
AGENTS_6 = """
ALTER TABLE agents ADD COLUMN manual_replica_enabled BOOLEAN DEFAULT FALSE COMMENT 'Allow manual replica creation',
    ADD COLUMN auto_replica_enabled BOOLEAN DEFAULT FALSE
        COMMENT 'Enable automatic replica creation on interruption signals',
    ADD COLUMN current_replica_id VARCHAR(255), ADD COLUMN interruption_handled_count INT DEFAULT 0;
"""
AGENTS_7 = """
ALTER TABLE agents ADD COLUMN manual_replica_enabled BOOLEAN DEFAULT FALSE
        COMMENT 'Manual replica mode - user-controlled standby replica',
    ADD COLUMN current_replica_id VARCHAR(255), ADD COLUMN last_interruption_signal TIMESTAMP NULL,
    ADD COLUMN interruption_handled_count INT DEFAULT 0, ADD COLUMN last_failover_at TIMESTAMP NULL,
    ADD INDEX idx_agents_replica (manual_replica_enabled, replica_count);
"""
NAMED_POOLS = "ALTER TABLE spot_pools ADD COLUMN pool_name VARCHAR(255), ADD INDEX idx_spot_pools_name (pool_name);"


def table(name: str, *, pool: str = "varchar(128)", without: Sequence[str] = (), names: Mapping[str, str] | None = None,
          columns: Mapping[str, str] | None = None, keys: str = "automatic", options: str = UNICODE) -> str:  # fmt: skip
    """CREATE TABLE of a defined table, made older: parts left out, columns otherwise, indexes under other names.

    `keys` says what becomes of the foreign keys: automatic (the server names them), inner (those between 006's own
    tables), or none.
    """
    made, parts = DEFINED[name], []
    for item, clause in made.clauses.items():
        if {item.name, f"{name}.{item.name}"} & {*without}:
            continue
        if item.kind == "foreign key":
            if keys == "none" or (keys == "inner" and not re.search(r"REFERENCES `(replica|pricing)", clause)):
                continue
            clause = clause[clause.index("FOREIGN KEY") :]
        elif item.kind == "index" and item.name in (names or {}):
            clause = clause.replace(f"`{item.name}`", f"`{(names or {})[item.name]}`", 1)
        elif item.name in (columns or {}):
            clause = f"`{item.name}` {(columns or {})[item.name]}"
        elif item.name == "pool_id":
            clause = clause.replace("varchar(128) COLLATE utf8mb4_unicode_ci", pool)
        parts.append(clause if options == UNICODE else clause.replace(" COLLATE utf8mb4_unicode_ci", ""))
    comment = made.objects[Object("table", name)]["comment"]
    return f"CREATE TABLE {name} ({', '.join(parts)}) {options} COMMENT='{comment}';\n"


def base() -> str:
    return BASE + BASE_ROWS


def views(*names: str) -> str:
    """The views as a script without SQL SECURITY makes them."""
    return "".join(f"{DEFINED[name].sql.replace('SQL SECURITY INVOKER ', '')};\n" for name in names)


def tables_7(pool: str) -> str:
    return "".join(table(name, pool=pool, without=NOT_IN_7, columns=UNCOMMENTED, keys=(
        "automatic" if name == "client_savings_daily" else "none")) for name in TABLES_7)  # fmt: skip


def tables_6(pool: str, keys: str, options: str) -> str:
    return AGENTS_6 + NAMED_POOLS + "".join(
        table(name, pool=pool, without=NOT_IN_6, names=NAMES_6, keys=keys, options=options)
        for name in [*TABLES_6, "instance_switches"]
    )  # fmt: skip


def by_hand_7(pool: str) -> str:
    """007 after somebody had repaired it; the functional indexes that MySQL alone has are in `functional`."""
    return (base() + AGENTS_7 + NAMED_POOLS + table("replica_instances", pool=pool, without=NOT_IN_7, keys="none")
            + tables_7(pool) + views("v_active_replicas", "v_pool_reliability_ranking") + OLD_PROCEDURES)  # fmt: skip


def dumped_by_mariadb(sql: str) -> str:
    """What a dump from MariaDB makes of JSON columns: text, with a check."""
    return re.sub(r"`(\w+)` json NULL", r"`\1` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL"
                  r" CHECK (json_valid(`\1`))", sql)  # fmt: skip


KEY_6 = """ALTER TABLE agents ADD CONSTRAINT fk_agents_current_replica FOREIGN KEY (current_replica_id)
    REFERENCES replica_instances (id) ON DELETE SET NULL;"""
FUNCTIONAL = "ALTER TABLE switches ADD INDEX idx_switches_client_date (client_id, (DATE(initiated_at)));"

SHAPES = {
    "M-1 base": base(),
    "M-2 older base": "".join(f"{statement.text};\n" for statement in split(BASE, "mysql")
                              if "cost_records" not in statement.text) + BASE_ROWS,
    "M-4 006 forced": base() + table("data_processing_jobs", options=UNSTATED) + JOB_ROWS,
    "M-5 007 forced": base() + tables_7("int") + POOL_ROWS + METRIC_ROWS + OLD_PROCEDURES + OLD_LEDGER,
    "M-6 007 by hand, int": by_hand_7("int") + POOL_ROWS + METRIC_ROWS,
    "M-6 007 by hand, varchar": by_hand_7("varchar(128)") + POOL_ROWS + METRIC_ROWS,
    "M-7 006 by hand": base() + tables_6("varchar(128)", "automatic", UNICODE) + KEY_6 + POOL_ROWS + JOB_ROWS
    + REPLICA_ROWS,
    "M-7 006 by hand, int, other collation": base() + tables_6("int", "inner", UNSTATED) + POOL_ROWS + JOB_ROWS
    + REPLICA_ROWS,
    "M-8 006 then 007": base() + tables_6("varchar(128)", "automatic", UNICODE) + KEY_6 + "".join(
        table(name, pool="int") for name in TABLES_7 if name not in TABLES_6)
    + views("v_active_replicas", "v_pool_reliability_ranking", "v_data_quality_metrics") + OLD_PROCEDURES + POOL_ROWS
    + REPLICA_ROWS + METRIC_ROWS,
    "M-10 from MariaDB": dumped_by_mariadb(base() + tables_7("int") + AGENTS_7 + NAMED_POOLS + "".join(
        table(name, pool="int", names=NAMES_6, keys="none", options=UNSTATED) for name in TABLES_6
        if name not in TABLES_7) + OLD_PROCEDURES) + POOL_ROWS + JOB_ROWS + REPLICA_ROWS + METRIC_ROWS,
}  # fmt: skip
ONLY_MYSQL = {"M-6 functional indexes": by_hand_7("varchar(128)") + FUNCTIONAL + POOL_ROWS}

LATER = {  # M-9: four tables that came back under the same names in another form, each enough for a refusal
    "pricing_submissions_raw": f"""CREATE TABLE pricing_submissions_raw (
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, submission_id char(36) NOT NULL UNIQUE,
        source_instance_id varchar(255) NOT NULL, source_agent_id varchar(255) NOT NULL,
        source_type enum('primary','replica-manual','replica-automatic') NOT NULL, pool_id varchar(128) NOT NULL,
        instance_type varchar(50) NOT NULL, region varchar(50) NOT NULL, az varchar(50) NOT NULL,
        spot_price decimal(10,6) NOT NULL, ondemand_price decimal(10,6), observed_at timestamp NOT NULL,
        submitted_at timestamp NOT NULL, received_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
        is_duplicate boolean DEFAULT FALSE, duplicate_of char(36), client_id char(36), batch_id varchar(100),
        processed boolean DEFAULT FALSE, processed_at timestamp NULL) {UNICODE};""",
    "data_processing_jobs": f"""CREATE TABLE data_processing_jobs (
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        job_type enum('deduplication','interpolation','gap-filling','cleanup') NOT NULL,
        status enum('pending','running','completed','failed') DEFAULT 'pending', start_time timestamp NOT NULL,
        end_time timestamp NULL, records_processed int DEFAULT 0, records_inserted int DEFAULT 0,
        records_updated int DEFAULT 0, records_deleted int DEFAULT 0, error_message text, metadata json,
        created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP) {UNICODE};""",
    "pricing_snapshots_interpolated": f"""CREATE TABLE pricing_snapshots_interpolated (
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, pool_id varchar(128) NOT NULL, instance_type varchar(50) NOT NULL,
        region varchar(50) NOT NULL, az varchar(50) NOT NULL, spot_price decimal(10,6) NOT NULL,
        time_bucket timestamp NOT NULL, interpolated_from_before bigint, interpolated_from_after bigint,
        gap_duration_minutes int, confidence_score decimal(3,2) NOT NULL DEFAULT 0.80,
        created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
        UNIQUE KEY unique_pool_bucket (pool_id, time_bucket)) {UNICODE};""",
    "pricing_snapshots_ml": f"""CREATE TABLE pricing_snapshots_ml (
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, pool_id varchar(128) NOT NULL, time_bucket timestamp NOT NULL,
        predicted_price decimal(10,6) NOT NULL, model_id varchar(36), model_version varchar(50),
        prediction_confidence decimal(3,2), based_on_measurements int, features_used json,
        created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP) {UNICODE};""",
}
