"""Daily savings, pool reliability, instance metrics: what the hand-run migration 007 has and 0006 lacks.

SQL alone would not do: databases exist in which 007 ran by hand or half-way, so each object is brought to its
one definition below. Where these differ from 007's file, and why:

* The indexes on dates are plain (id, timestamp) indexes. 007's DATE(column) is no MySQL syntax for an index,
  and the functional index that is finds nothing for a reader in another time zone than the writer's.
* The procedures count days and hours in UTC, whatever the caller's time zone. On MySQL the hint SET_VAR sets
  the zone for one statement alone. MariaDB ignores it, so there the procedure sets the session's zone and
  gives it back, also after an error. Setting it on MySQL too would not do: no handler runs there after KILL
  QUERY (observed on 9.7; MariaDB 10.11 runs it), and a pooled connection would go on in the wrong zone.
* Both procedures run with the caller's rights (SQL SECURITY INVOKER), so they outlive the user that migrated.
* compute_daily_savings: costs and switches are computed anew on each call, but nobody can count today how
  many instances ran and agents were online on a past day: a past day keeps its counts, and has NULL when it
  was never counted. savings_percentage is NULL when the baseline is 0 or the figure does not fit
  decimal(5,2).
* compute_pool_reliability: the window begins p_hours before the running hour and ends with the running hour:
  a new interruption counts at once, nothing of the last p_hours is left out, and a second call in the same
  hour writes the same row. Events and prices are each aggregated before they are joined, so neither
  multiplies the other.
"""

from typing import Any

DEFINITIONS = r"""
CREATE TABLE client_savings_daily (
    id bigint NOT NULL AUTO_INCREMENT,
    client_id char(36) NOT NULL,
    date date NOT NULL,
    baseline_cost decimal(15,4) NULL DEFAULT 0.0000,
    actual_cost decimal(15,4) NULL DEFAULT 0.0000,
    savings decimal(15,4) NULL DEFAULT 0.0000,
    savings_percentage decimal(5,2) NULL,
    switch_count int NULL DEFAULT 0,
    instance_count int NULL DEFAULT 0,
    online_agent_count int NULL DEFAULT 0,
    computed_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    UNIQUE KEY uk_client_date (client_id, date),
    KEY idx_savings_daily_client (client_id),
    KEY idx_savings_daily_date (date),
    CONSTRAINT fk_client_savings_daily_client FOREIGN KEY (client_id)
        REFERENCES clients (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Daily savings summary for charts';

CREATE TABLE pool_reliability_metrics (
    id bigint NOT NULL AUTO_INCREMENT,
    pool_id varchar(128) NOT NULL,
    period_start timestamp NOT NULL,
    period_end timestamp NOT NULL,
    interruption_count int NULL DEFAULT 0,
    rebalance_count int NULL DEFAULT 0,
    termination_count int NULL DEFAULT 0,
    total_instance_hours decimal(10,2) NULL DEFAULT 0.00,
    interrupted_instance_hours decimal(10,2) NULL DEFAULT 0.00,
    uptime_percentage decimal(5,2) NULL,
    reliability_score decimal(5,2) NULL DEFAULT 100.00,
    price_volatility decimal(10,6) NULL,
    avg_price decimal(10,6) NULL,
    min_price decimal(10,6) NULL,
    max_price decimal(10,6) NULL,
    computed_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    UNIQUE KEY uk_pool_period (pool_id, period_start),
    KEY idx_reliability_pool (pool_id),
    KEY idx_reliability_period (period_start, period_end),
    KEY idx_reliability_score (reliability_score DESC)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Pool reliability and interruption tracking for safest pool selection';

CREATE TABLE instance_metrics (
    id bigint NOT NULL AUTO_INCREMENT,
    instance_id varchar(255) NOT NULL,
    agent_id varchar(255) NOT NULL,
    cpu_utilization decimal(5,2) NULL,
    memory_utilization decimal(5,2) NULL,
    disk_utilization decimal(5,2) NULL,
    network_in_mbps decimal(10,2) NULL,
    network_out_mbps decimal(10,2) NULL,
    request_rate decimal(10,2) NULL,
    error_rate decimal(5,2) NULL,
    response_time_ms decimal(10,2) NULL,
    recorded_at timestamp NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id),
    KEY idx_metrics_agent (agent_id),
    KEY idx_metrics_instance_time (instance_id, recorded_at DESC),
    KEY idx_metrics_recent (recorded_at DESC)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
  COMMENT='Real-time instance performance metrics';

ALTER TABLE agents ADD KEY idx_agents_replica (manual_replica_enabled, replica_count);

ALTER TABLE switches ADD KEY idx_switches_client_date (client_id, initiated_at);

ALTER TABLE cost_records ADD KEY idx_cost_records_date (client_id, period_start);

CREATE SQL SECURITY INVOKER VIEW v_pool_reliability_ranking AS
SELECT
    p.id AS pool_id,
    COALESCE(p.pool_name, CONCAT(p.instance_type, ' (', p.az, ')')) AS pool_name,
    p.instance_type AS instance_type,
    p.region AS region,
    p.az AS az,
    COALESCE(m.avg_reliability_score, 100) AS avg_reliability_score,
    COALESCE(m.total_interruptions, 0) AS total_interruptions,
    COALESCE(m.avg_uptime_percentage, 100) AS avg_uptime_percentage,
    COALESCE(m.avg_price, 0) AS avg_price,
    COALESCE(m.data_points, 0) AS data_points
FROM spot_pools AS p
LEFT JOIN (
    SELECT
        pool_id,
        AVG(reliability_score) AS avg_reliability_score,
        SUM(interruption_count) AS total_interruptions,
        AVG(uptime_percentage) AS avg_uptime_percentage,
        AVG(avg_price) AS avg_price,
        COUNT(*) AS data_points
    FROM pool_reliability_metrics
    WHERE period_start >= NOW() - INTERVAL 30 DAY
    GROUP BY pool_id
) AS m ON m.pool_id = p.id
ORDER BY avg_reliability_score DESC, avg_price, pool_id;

DELIMITER //

CREATE PROCEDURE compute_daily_savings(IN p_date date)
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
BEGIN
    DECLARE caller_zone varchar(64) DEFAULT @@session.time_zone;
    DECLARE statement_zone varchar(64);
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        SET time_zone = caller_zone;
        RESIGNAL;
    END;

    SELECT /*+ SET_VAR(time_zone = '+00:00') */ @@session.time_zone INTO statement_zone;
    IF statement_zone <> '+00:00' THEN  -- MariaDB: the hint is not honoured
        SET time_zone = '+00:00';
    END IF;

    INSERT /*+ SET_VAR(time_zone = '+00:00') */ INTO client_savings_daily
        (client_id, date, baseline_cost, actual_cost, savings, savings_percentage, switch_count,
         instance_count, online_agent_count, computed_at)
    SELECT
        d.client_id, p_date, d.baseline_cost, d.actual_cost, d.savings,
        IF(ABS(d.percentage) <= 999.99, d.percentage, NULL),
        d.switch_count, d.instance_count, d.online_agent_count, NOW()
    FROM (
        SELECT
            c.id AS client_id,
            COALESCE(r.baseline_cost, 0) AS baseline_cost,
            COALESCE(r.actual_cost, 0) AS actual_cost,
            COALESCE(r.savings, 0) AS savings,
            ROUND(100 * r.savings / NULLIF(r.baseline_cost, 0), 2) AS percentage,
            COALESCE(s.switch_count, 0) AS switch_count,
            IF(p_date < UTC_DATE(), NULL, (
                SELECT COUNT(*) FROM instances AS i WHERE i.client_id = c.id AND i.is_active = 1
            )) AS instance_count,
            IF(p_date < UTC_DATE(), NULL, (
                SELECT COUNT(*) FROM agents AS a WHERE a.client_id = c.id AND a.status = 'online'
            )) AS online_agent_count
        FROM clients AS c
        LEFT JOIN (
            SELECT a.client_id, SUM(k.baseline_cost) AS baseline_cost, SUM(k.actual_cost) AS actual_cost,
                   SUM(k.savings) AS savings
            FROM cost_records AS k
            JOIN agents AS a ON a.id = k.agent_id
            WHERE k.period_start >= p_date AND k.period_start < p_date + INTERVAL 1 DAY
            GROUP BY a.client_id
        ) AS r ON r.client_id = c.id
        LEFT JOIN (
            SELECT a.client_id, COUNT(*) AS switch_count
            FROM switches AS w
            JOIN agents AS a ON a.id = w.agent_id
            WHERE w.initiated_at >= p_date AND w.initiated_at < p_date + INTERVAL 1 DAY
            GROUP BY a.client_id
        ) AS s ON s.client_id = c.id
        WHERE c.is_active = 1
    ) AS d
    ON DUPLICATE KEY UPDATE
        baseline_cost = d.baseline_cost,
        actual_cost = d.actual_cost,
        savings = d.savings,
        savings_percentage = IF(ABS(d.percentage) <= 999.99, d.percentage, NULL),
        switch_count = d.switch_count,
        instance_count = COALESCE(d.instance_count, client_savings_daily.instance_count),
        online_agent_count = COALESCE(d.online_agent_count, client_savings_daily.online_agent_count),
        computed_at = NOW();

    SET time_zone = caller_zone;
END//

CREATE PROCEDURE compute_pool_reliability(IN p_hours int)
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
BEGIN
    DECLARE caller_zone varchar(64) DEFAULT @@session.time_zone;
    DECLARE statement_zone varchar(64);
    DECLARE running_hour datetime DEFAULT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:00:00');
    DECLARE window_start datetime;
    DECLARE window_end datetime;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        SET time_zone = caller_zone;
        RESIGNAL;
    END;

    IF p_hours IS NULL OR p_hours NOT BETWEEN 1 AND 87600 THEN
        SIGNAL SQLSTATE '45000'
            SET MESSAGE_TEXT = 'compute_pool_reliability: p_hours must be from 1 to 87600';
    END IF;
    SET window_start = running_hour - INTERVAL p_hours HOUR;
    SET window_end = running_hour + INTERVAL 1 HOUR;

    SELECT /*+ SET_VAR(time_zone = '+00:00') */ @@session.time_zone INTO statement_zone;
    IF statement_zone <> '+00:00' THEN  -- MariaDB: the hint is not honoured
        SET time_zone = '+00:00';
    END IF;

    INSERT /*+ SET_VAR(time_zone = '+00:00') */ INTO pool_reliability_metrics
        (pool_id, period_start, period_end, interruption_count, rebalance_count, termination_count,
         uptime_percentage, reliability_score, price_volatility, avg_price, min_price, max_price, computed_at)
    SELECT
        d.pool_id, window_start, window_end, d.interruption_count, d.rebalance_count, d.termination_count,
        d.score, d.score, d.price_volatility, d.avg_price, d.min_price, d.max_price, NOW()
    FROM (
        SELECT
            p.id AS pool_id,
            COALESCE(e.interruption_count, 0) AS interruption_count,
            COALESCE(e.rebalance_count, 0) AS rebalance_count,
            COALESCE(e.termination_count, 0) AS termination_count,
            GREATEST(0, 100 - 5 * COALESCE(e.interruption_count, 0)) AS score,
            ROUND(COALESCE(s.price_volatility, 0), 6) AS price_volatility,
            COALESCE(s.avg_price, 0) AS avg_price,
            COALESCE(s.min_price, 0) AS min_price,
            COALESCE(s.max_price, 0) AS max_price
        FROM spot_pools AS p
        LEFT JOIN (
            SELECT pool_id, COUNT(*) AS interruption_count,
                   SUM(signal_type = 'rebalance-recommendation') AS rebalance_count,
                   SUM(signal_type = 'termination-notice') AS termination_count
            FROM spot_interruption_events
            WHERE detected_at >= window_start AND detected_at < window_end
            GROUP BY pool_id
        ) AS e ON e.pool_id = p.id
        LEFT JOIN (
            SELECT pool_id, STDDEV_POP(spot_price) AS price_volatility, AVG(spot_price) AS avg_price,
                   MIN(spot_price) AS min_price, MAX(spot_price) AS max_price
            FROM pricing_snapshots_clean
            WHERE time_bucket >= window_start AND time_bucket < window_end
            GROUP BY pool_id
        ) AS s ON s.pool_id = p.id
    ) AS d
    ON DUPLICATE KEY UPDATE
        period_end = window_end,
        interruption_count = d.interruption_count,
        rebalance_count = d.rebalance_count,
        termination_count = d.termination_count,
        uptime_percentage = d.score,
        reliability_score = d.score,
        price_volatility = d.price_volatility,
        avg_price = d.avg_price,
        min_price = d.min_price,
        max_price = d.max_price,
        computed_at = NOW();

    SET time_zone = caller_zone;
END//

DELIMITER ;
"""


def plan(run: Any) -> list[Any]:
    """The changes of the catalog."""
    return list(run.mysql.changes(DEFINITIONS))


def apply(run: Any) -> None:
    """Converge the catalog; no rows are moved."""
    run.mysql.converge(DEFINITIONS)
