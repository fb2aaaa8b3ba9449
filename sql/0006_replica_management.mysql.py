"""Replicas, spot interruptions and the price pipeline: everything that the hand-run migration 006 stood for.

SQL alone would not do: databases exist in which 006 or 007 ran by hand, half-way or not at all, so each
object is brought to its one definition below, and rows may have to be moved. The definitions are the union of
006 and of what 007 repeats from it, with these differences, each for a reason:

* pool_id is varchar(128), the type of spot_pools.id. Published as int it can hold no pool's id.
* Foreign keys and the indexes under them have names of their own; where 006 and 007 name one index
  differently, 007's name is kept. So every way to get here ends in the same catalog.
* spot_pools.pool_name and instance_switches, which 006 uses and nobody creates, are created.
* No triggers keep pool_name filled: creating one takes SUPER where the binary log is on (error 1419, observed
  on MySQL 9.7). It is filled once, and the views compute a missing one, which looks the same to a reader.
* Views run with the rights of the reader (SQL SECURITY INVOKER), so they outlive the user that migrated.
* A day of v_data_quality_metrics is a day in the reader's time zone.
"""

from collections.abc import Iterator
from typing import Any

DEFINITIONS = r"""
CREATE TABLE replica_instances (
    id varchar(255) NOT NULL,
    agent_id varchar(255) NOT NULL,
    instance_id varchar(255) NOT NULL,
    replica_type enum('manual','automatic-rebalance','automatic-termination') NOT NULL,
    pool_id varchar(128) NULL,
    instance_type varchar(50) NULL,
    region varchar(50) NULL,
    az varchar(50) NULL,
    status enum('launching','syncing','ready','promoted','terminated','failed') NOT NULL DEFAULT 'launching',
    created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    ready_at timestamp NULL,
    promoted_at timestamp NULL,
    terminated_at timestamp NULL,
    created_by varchar(255) NULL,
    parent_instance_id varchar(255) NULL,
    is_active tinyint(1) NULL DEFAULT 1,
    sync_status enum('initializing','syncing','synced','out-of-sync') NULL DEFAULT 'initializing',
    sync_latency_ms int NULL,
    last_sync_at timestamp NULL,
    state_transfer_progress decimal(5,2) NULL DEFAULT 0.00,
    hourly_cost decimal(10,6) NULL,
    total_cost decimal(10,4) NULL DEFAULT 0.0000,
    interruption_signal_type enum('rebalance-recommendation','termination-notice') NULL,
    interruption_detected_at timestamp NULL,
    termination_time timestamp NULL,
    failover_completed_at timestamp NULL,
    tags json NULL,
    PRIMARY KEY (id),
    KEY idx_replica_agent_status (agent_id, status),
    KEY idx_replica_parent (parent_instance_id),
    KEY idx_replica_created (created_at),
    KEY idx_replica_active (agent_id, is_active),
    KEY idx_replica_instances_active (agent_id, is_active, status),
    KEY idx_replica_pool (pool_id),
    CONSTRAINT fk_replica_instances_agent FOREIGN KEY (agent_id)
        REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT fk_replica_instances_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Replica instances for failover and manual standby';

CREATE TABLE pricing_submissions_raw (
    submission_id varchar(255) NOT NULL,
    source_instance_id varchar(255) NOT NULL,
    source_agent_id varchar(255) NULL,
    source_type enum('primary','replica-manual','replica-automatic','interpolated') NOT NULL,
    pool_id varchar(128) NOT NULL,
    instance_type varchar(50) NULL,
    region varchar(50) NULL,
    az varchar(50) NULL,
    spot_price decimal(10,6) NOT NULL,
    ondemand_price decimal(10,6) NULL,
    observed_at timestamp NOT NULL,
    submitted_at timestamp NOT NULL,
    received_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    is_duplicate tinyint(1) NULL DEFAULT 0,
    duplicate_of varchar(255) NULL,
    is_valid tinyint(1) NULL DEFAULT 1,
    validation_flags json NULL,
    client_id varchar(255) NULL,
    batch_id varchar(255) NULL,
    PRIMARY KEY (submission_id),
    KEY idx_pool_observed (pool_id, observed_at),
    KEY idx_source_instance (source_instance_id, observed_at),
    KEY idx_received_at (received_at),
    KEY idx_is_duplicate (is_duplicate),
    KEY idx_pricing_raw_cleanup (received_at, is_duplicate),
    KEY idx_pricing_raw_duplicate_of (duplicate_of),
    CONSTRAINT fk_pricing_submissions_raw_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE CASCADE,
    CONSTRAINT fk_pricing_submissions_raw_duplicate_of FOREIGN KEY (duplicate_of)
        REFERENCES pricing_submissions_raw (submission_id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE pricing_snapshots_clean (
    id bigint NOT NULL AUTO_INCREMENT,
    pool_id varchar(128) NOT NULL,
    instance_type varchar(50) NOT NULL,
    region varchar(50) NOT NULL,
    az varchar(50) NOT NULL,
    spot_price decimal(10,6) NOT NULL,
    ondemand_price decimal(10,6) NULL,
    savings_percent decimal(5,2) NULL,
    time_bucket timestamp NOT NULL,
    bucket_start timestamp NOT NULL,
    bucket_end timestamp NOT NULL,
    source_instance_id varchar(255) NULL,
    source_agent_id varchar(255) NULL,
    source_type enum('primary','replica-manual','replica-automatic','interpolated') NOT NULL,
    source_submission_id varchar(255) NULL,
    confidence_score decimal(3,2) NOT NULL DEFAULT 1.00,
    data_source enum('measured','interpolated') NOT NULL DEFAULT 'measured',
    interpolation_method varchar(50) NULL,
    interpolation_metadata json NULL,
    created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    UNIQUE KEY unique_pool_bucket (pool_id, time_bucket),
    KEY idx_pool_time (pool_id, time_bucket),
    KEY idx_time_bucket (time_bucket),
    KEY idx_confidence (confidence_score),
    KEY idx_data_source (data_source),
    KEY idx_pricing_clean_ml_eligible (confidence_score, data_source, time_bucket),
    KEY idx_instance_type_time (instance_type, region, time_bucket),
    KEY idx_pricing_clean_recent (pool_id, time_bucket DESC),
    KEY idx_pricing_clean_submission (source_submission_id),
    CONSTRAINT fk_pricing_snapshots_clean_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE CASCADE,
    CONSTRAINT fk_pricing_snapshots_clean_submission FOREIGN KEY (source_submission_id)
        REFERENCES pricing_submissions_raw (submission_id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Clean time-bucketed pricing data for multi-pool charts';

CREATE TABLE pricing_snapshots_interpolated (
    id bigint NOT NULL AUTO_INCREMENT,
    pool_id varchar(128) NOT NULL,
    instance_type varchar(50) NOT NULL,
    region varchar(50) NOT NULL,
    az varchar(50) NOT NULL,
    time_bucket timestamp NOT NULL,
    gap_duration_minutes int NOT NULL,
    gap_type enum('short','medium','long','transition','blackout') NOT NULL,
    interpolation_method varchar(50) NOT NULL,
    confidence_score decimal(3,2) NOT NULL,
    price_before decimal(10,6) NULL,
    price_after decimal(10,6) NULL,
    timestamp_before timestamp NULL,
    timestamp_after timestamp NULL,
    reference_pool_ids json NULL,
    interpolated_price decimal(10,6) NOT NULL,
    needs_review tinyint(1) NULL DEFAULT 0,
    reviewed_by varchar(255) NULL,
    reviewed_at timestamp NULL,
    interpolation_metadata json NULL,
    created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    KEY idx_pool_time (pool_id, time_bucket),
    KEY idx_gap_type (gap_type),
    KEY idx_needs_review (needs_review),
    CONSTRAINT fk_pricing_snapshots_interpolated_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE pricing_corrections (
    id bigint NOT NULL AUTO_INCREMENT,
    original_snapshot_id bigint NULL,
    pool_id varchar(128) NOT NULL,
    time_bucket timestamp NOT NULL,
    original_price decimal(10,6) NOT NULL,
    corrected_price decimal(10,6) NOT NULL,
    correction_reason varchar(255) NOT NULL,
    correction_source enum('aws-billing','manual-audit','system-detection') NOT NULL,
    corrected_by varchar(255) NOT NULL,
    correction_notes text NULL,
    corrected_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    applied_at timestamp NULL,
    status enum('pending','applied','rejected') NULL DEFAULT 'pending',
    PRIMARY KEY (id),
    KEY idx_pool_time (pool_id, time_bucket),
    KEY idx_status (status),
    KEY idx_pricing_corrections_snapshot (original_snapshot_id),
    CONSTRAINT fk_pricing_corrections_snapshot FOREIGN KEY (original_snapshot_id)
        REFERENCES pricing_snapshots_clean (id) ON DELETE SET NULL,
    CONSTRAINT fk_pricing_corrections_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE pricing_snapshots_ml (
    id bigint NOT NULL AUTO_INCREMENT,
    pool_id varchar(128) NOT NULL,
    instance_type varchar(50) NOT NULL,
    region varchar(50) NOT NULL,
    az varchar(50) NOT NULL,
    spot_price decimal(10,6) NOT NULL,
    ondemand_price decimal(10,6) NOT NULL,
    savings_percent decimal(5,2) NOT NULL,
    time_bucket timestamp NOT NULL,
    hour_of_day tinyint NOT NULL,
    day_of_week tinyint NOT NULL,
    day_of_month tinyint NOT NULL,
    month tinyint NOT NULL,
    year smallint NOT NULL,
    confidence_score decimal(3,2) NOT NULL,
    data_source enum('measured','interpolated') NOT NULL,
    price_change_1h decimal(10,6) NULL,
    price_change_24h decimal(10,6) NULL,
    price_volatility_6h decimal(10,6) NULL,
    pool_rank_by_price tinyint NULL,
    refreshed_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    UNIQUE KEY unique_pool_bucket (pool_id, time_bucket),
    KEY idx_pool_time (pool_id, time_bucket),
    KEY idx_instance_type_time (instance_type, time_bucket),
    KEY idx_confidence (confidence_score),
    CONSTRAINT fk_pricing_snapshots_ml_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE spot_interruption_events (
    id bigint NOT NULL AUTO_INCREMENT,
    instance_id varchar(255) NOT NULL,
    agent_id varchar(255) NOT NULL,
    pool_id varchar(128) NULL,
    signal_type enum('rebalance-recommendation','termination-notice') NOT NULL,
    detected_at timestamp NOT NULL,
    termination_time timestamp NULL,
    response_action enum('created-replica','promoted-existing-replica','emergency-snapshot','no-action')
        NOT NULL,
    response_time_ms int NULL COMMENT 'Time taken to respond to signal',
    replica_id varchar(255) NULL,
    replica_ready tinyint(1) NULL DEFAULT 0,
    replica_ready_time_ms int NULL,
    failover_completed tinyint(1) NULL DEFAULT 0,
    failover_time_ms int NULL,
    data_loss_seconds int NULL DEFAULT 0 COMMENT 'Seconds of data lost during transition',
    success tinyint(1) NULL DEFAULT 1,
    error_message text NULL,
    instance_age_hours decimal(10,2) NULL,
    pool_interruption_probability decimal(5,4) NULL,
    metadata json NULL,
    created_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    KEY idx_interruption_agent (agent_id, detected_at),
    KEY idx_interruption_signal (signal_type),
    KEY idx_interruption_success (success),
    KEY idx_interruption_pool (pool_id, detected_at),
    KEY idx_interruption_replica (replica_id),
    CONSTRAINT fk_spot_interruption_events_agent FOREIGN KEY (agent_id)
        REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT fk_spot_interruption_events_pool FOREIGN KEY (pool_id)
        REFERENCES spot_pools (id) ON DELETE SET NULL,
    CONSTRAINT fk_spot_interruption_events_replica FOREIGN KEY (replica_id)
        REFERENCES replica_instances (id) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Track all spot interruption events and responses';

CREATE TABLE data_processing_jobs (
    id bigint NOT NULL AUTO_INCREMENT,
    job_type enum('deduplication','gap-filling','interpolation','ml-dataset-refresh') NOT NULL,
    status enum('running','completed','failed') NOT NULL,
    start_time timestamp NOT NULL,
    end_time timestamp NOT NULL,
    records_processed int NULL DEFAULT 0,
    duplicates_found int NULL DEFAULT 0,
    gaps_filled int NULL DEFAULT 0,
    interpolations_created int NULL DEFAULT 0,
    errors_encountered int NULL DEFAULT 0,
    execution_time_ms int NULL,
    result_summary json NULL,
    error_log text NULL,
    started_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    completed_at timestamp NULL,
    PRIMARY KEY (id),
    KEY idx_job_type_status (job_type, status),
    KEY idx_started_at (started_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE instance_switches (
    id bigint NOT NULL AUTO_INCREMENT,
    agent_id varchar(255) NOT NULL,
    old_instance_id varchar(255) NULL,
    new_instance_id varchar(255) NULL,
    switch_reason varchar(100) NULL,
    switched_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    success tinyint(1) NULL DEFAULT 1,
    error_message text NULL,
    metadata json NULL,
    old_instance_price decimal(10,6) NULL COMMENT 'Last known price of old instance',
    new_instance_price decimal(10,6) NULL COMMENT 'First known price of new instance',
    ondemand_baseline decimal(10,6) NULL COMMENT 'On-demand price at time of switch',
    price_confidence_old decimal(3,2) NULL DEFAULT 1.00 COMMENT 'Confidence score for old price (0.00-1.00)',
    price_confidence_new decimal(3,2) NULL DEFAULT 1.00 COMMENT 'Confidence score for new price (0.00-1.00)',
    price_data_source_old enum('measured','interpolated','unavailable') NULL DEFAULT 'measured',
    price_data_source_new enum('measured','interpolated','unavailable') NULL DEFAULT 'measured',
    interpolation_method_old varchar(50) NULL,
    interpolation_method_new varchar(50) NULL,
    estimated_savings decimal(10,4) NULL COMMENT 'Calculated savings if price data available',
    savings_confidence enum('high','medium','low','unavailable') NULL DEFAULT 'high',
    PRIMARY KEY (id),
    KEY idx_instance_switches_agent (agent_id, switched_at DESC),
    KEY idx_instance_switches_time (switched_at DESC),
    KEY idx_instance_switches_old (old_instance_id),
    KEY idx_instance_switches_new (new_instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Simple switch log for internal tracking and quick queries';

-- The key is called like its constraint because that is what both servers call it where 006 ran by hand.
ALTER TABLE agents
    ADD COLUMN manual_replica_enabled tinyint(1) NULL DEFAULT 0
        COMMENT 'Manual replica mode - user-controlled standby replica',
    ADD COLUMN current_replica_id varchar(255) NULL COMMENT 'Currently active replica instance',
    ADD COLUMN last_interruption_signal timestamp NULL COMMENT 'Last time interruption signal was received',
    ADD COLUMN interruption_handled_count int NULL DEFAULT 0
        COMMENT 'Number of interruptions successfully handled',
    ADD COLUMN last_failover_at timestamp NULL COMMENT 'Last time failover to replica occurred',
    ADD COLUMN auto_replica_enabled tinyint(1) NULL DEFAULT 0
        COMMENT 'Enable automatic replica creation on interruption signals',
    ADD KEY fk_agents_current_replica (current_replica_id),
    ADD CONSTRAINT fk_agents_current_replica FOREIGN KEY (current_replica_id)
        REFERENCES replica_instances (id) ON DELETE SET NULL;

ALTER TABLE spot_pools
    ADD COLUMN pool_name varchar(255) NULL,
    ADD KEY idx_spot_pools_name (pool_name);

CREATE SQL SECURITY INVOKER VIEW v_active_replicas AS
SELECT
    r.id AS id,
    r.agent_id AS agent_id,
    r.instance_id AS instance_id,
    r.replica_type AS replica_type,
    r.status AS status,
    r.sync_status AS sync_status,
    r.sync_latency_ms AS sync_latency_ms,
    r.hourly_cost AS hourly_cost,
    r.created_at AS created_at,
    r.ready_at AS ready_at,
    a.logical_agent_id AS logical_agent_id,
    a.hostname AS agent_hostname,
    a.status AS agent_status,
    c.name AS client_name,
    COALESCE(p.pool_name, CONCAT(p.instance_type, ' (', p.az, ')')) AS pool_name,
    p.instance_type AS instance_type,
    p.region AS region,
    p.az AS az
FROM replica_instances AS r
JOIN agents AS a ON a.id = r.agent_id
JOIN clients AS c ON c.id = a.client_id
LEFT JOIN spot_pools AS p ON p.id = r.pool_id
WHERE r.is_active = 1 AND r.status IN ('syncing', 'ready', 'promoted');

CREATE SQL SECURITY INVOKER VIEW v_switch_history_with_prices AS
SELECT
    s.id AS id,
    s.agent_id AS agent_id,
    s.old_instance_id AS old_instance_id,
    s.new_instance_id AS new_instance_id,
    s.switch_reason AS switch_reason,
    s.old_instance_price AS old_instance_price,
    s.new_instance_price AS new_instance_price,
    s.ondemand_baseline AS ondemand_baseline,
    s.price_confidence_old AS price_confidence_old,
    s.price_confidence_new AS price_confidence_new,
    s.price_data_source_old AS price_data_source_old,
    s.price_data_source_new AS price_data_source_new,
    s.estimated_savings AS estimated_savings,
    s.savings_confidence AS savings_confidence,
    s.switched_at AS switched_at,
    a.logical_agent_id AS logical_agent_id,
    c.name AS client_name,
    COALESCE(old_pool.pool_name, CONCAT(old_pool.instance_type, ' (', old_pool.az, ')')) AS old_pool_name,
    old_pool.instance_type AS old_instance_type,
    COALESCE(new_pool.pool_name, CONCAT(new_pool.instance_type, ' (', new_pool.az, ')')) AS new_pool_name,
    new_pool.instance_type AS new_instance_type
FROM instance_switches AS s
JOIN agents AS a ON a.id = s.agent_id
JOIN clients AS c ON c.id = a.client_id
LEFT JOIN instances AS old_instance ON old_instance.id = s.old_instance_id
LEFT JOIN instances AS new_instance ON new_instance.id = s.new_instance_id
LEFT JOIN spot_pools AS old_pool ON old_pool.id = old_instance.current_pool_id
LEFT JOIN spot_pools AS new_pool ON new_pool.id = new_instance.current_pool_id
ORDER BY s.switched_at DESC;

CREATE SQL SECURITY INVOKER VIEW v_data_quality_metrics AS
SELECT
    DATE(time_bucket) AS date,
    instance_type AS instance_type,
    region AS region,
    COUNT(*) AS total_snapshots,
    SUM(data_source = 'measured') AS measured_count,
    SUM(data_source = 'interpolated') AS interpolated_count,
    AVG(confidence_score) AS avg_confidence,
    MIN(confidence_score) AS min_confidence,
    SUM(confidence_score >= 0.95) AS high_confidence_count,
    SUM(confidence_score < 0.75) AS low_confidence_count
FROM pricing_snapshots_clean
GROUP BY DATE(time_bucket), instance_type, region;
"""

# updated_at would otherwise say that the application had touched each pool.
NAME_POOLS = """\
UPDATE spot_pools SET pool_name = CONCAT(instance_type, ' (', az, ')'), updated_at = updated_at
WHERE pool_name IS NULL"""

# The table that 006 copies from is in no known version of the application's schema; some site may have one.
SOURCE = "pricing_snapshots"
SOURCE_COLUMNS = {
    "pool_id", "instance_type", "region", "az", "spot_price", "ondemand_price", "observed_at", "instance_id",
    "created_at",
}  # fmt: skip
RECENT = "s.created_at >= NOW() - INTERVAL 30 DAY"
# As text on both sides: an integer beside a string matches every string that begins with it, 0 almost all.
POOL = "p.id = CONVERT(s.pool_id USING utf8mb4) COLLATE utf8mb4_unicode_ci"
# The times are those that a timestamp column holds.
COPYABLE = (
    "p.id IS NOT NULL AND s.spot_price IS NOT NULL"
    " AND COALESCE(UNIX_TIMESTAMP(s.observed_at), 0) BETWEEN 300 AND 2147483000"
)

# One day, so that a chunk is bounded and no five-minute bucket lies in two chunks. The newest price of a
# bucket counts, and a bucket that has a row keeps it. A saving that decimal(5,2) cannot hold stays unknown.
COPY_DAY = f"""\
INSERT INTO pricing_snapshots_clean
    (pool_id, instance_type, region, az, spot_price, ondemand_price, savings_percent, time_bucket,
     bucket_start, bucket_end, source_instance_id, source_type, confidence_score, data_source)
SELECT o.pool_id, o.instance_type, o.region, o.az, o.spot_price, o.ondemand_price,
       IF(ABS(o.savings) <= 999.99, o.savings, NULL), o.bucket, o.bucket, o.bucket + INTERVAL 299 SECOND,
       o.instance_id, 'primary', 1.00, 'measured'
FROM (
    SELECT p.id AS pool_id, COALESCE(s.instance_type, p.instance_type) AS instance_type,
           COALESCE(s.region, p.region) AS region, COALESCE(s.az, p.az) AS az, s.spot_price,
           s.ondemand_price, s.instance_id,
           FROM_UNIXTIME(UNIX_TIMESTAMP(s.observed_at) DIV 300 * 300) AS bucket,
           ROUND(100 * (s.ondemand_price - s.spot_price) / NULLIF(s.ondemand_price, 0), 2) AS savings,
           ROW_NUMBER() OVER (PARTITION BY p.id, UNIX_TIMESTAMP(s.observed_at) DIV 300
                              ORDER BY s.observed_at DESC, s.spot_price) AS age
    FROM {SOURCE} AS s JOIN spot_pools AS p ON {POOL}
    WHERE {RECENT} AND {COPYABLE}
      AND s.observed_at >= DATE '{{day}}' AND s.observed_at < DATE '{{day}}' + INTERVAL 1 DAY
) AS o
WHERE o.age = 1
ON DUPLICATE KEY UPDATE pool_id = pricing_snapshots_clean.pool_id"""


def plan(run: Any) -> list[Any]:
    """The changes of the catalog, then the statements (text) that would move rows."""
    return [*run.mysql.changes(DEFINITIONS), *_name_pools(run), *_copy_snapshots(run)]


def apply(run: Any) -> None:
    """Converge the catalog, name the pools that have no name, copy recent prices; existing rows are kept."""
    run.mysql.converge(DEFINITIONS)
    for statement in [*_name_pools(run), *_copy_snapshots(run)]:
        run.mysql.execute(statement)
    _report_skipped(run)


def _columns(run: Any, table: str) -> set[str]:
    """Names of the table's columns; empty when there is no such table."""
    rows = run.mysql.query(
        f"SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}'"
    )
    return {name.lower() for (name,) in rows}


def _name_pools(run: Any) -> Iterator[str]:
    columns = _columns(run, "spot_pools")
    if not columns:  # a plan on an empty database: 0005 has yet to create it
        return
    unnamed = "WHERE pool_name IS NULL" if "pool_name" in columns else ""
    if run.mysql.query(f"SELECT 1 FROM spot_pools {unnamed} LIMIT 1"):
        yield NAME_POOLS


def _copy_snapshots(run: Any) -> Iterator[str]:
    if not _columns(run, SOURCE) >= SOURCE_COLUMNS:
        return
    days = run.mysql.query(f"SELECT DISTINCT DATE(s.observed_at) FROM {SOURCE} AS s WHERE {RECENT} ORDER BY 1")
    for (day,) in days:
        if day is not None:
            yield COPY_DAY.format(day=day)


def _report_skipped(run: Any) -> None:
    """Say how many recent rows had no place to go. They stay in the source."""
    if not _columns(run, SOURCE) >= SOURCE_COLUMNS:
        return
    [(skipped,)] = run.mysql.query(
        f"SELECT COUNT(*) FROM {SOURCE} AS s LEFT JOIN spot_pools AS p ON {POOL} WHERE {RECENT} AND NOT ({COPYABLE})"
    )
    if skipped:
        reason = f"rows of {SOURCE} were not copied: their pool, price or time is unknown"
        run.log.warning("statement", step=run.step.stem, skipped=skipped, reason=reason)
