-- Known rows for test_mysql_schema.py. All times are UTC; "today" is 2026-03-10.
SET time_zone = '+00:00';

INSERT INTO clients (id, name, email, client_token, is_active) VALUES
    ('acme', 'Acme', 'ops@acme.example', 'token-1', 1),
    ('globex', 'Globex', 'ops@globex.example', 'token-2', 1),
    ('gone', 'Gone', 'ops@gone.example', 'token-3', 0);

INSERT INTO agents (id, client_id, logical_agent_id, hostname, status, replica_count) VALUES
    ('a-web', 'acme', 'web-1', 'ip-10-0-0-1', 'online', 1),
    ('a-db', 'acme', 'db-1', 'ip-10-0-0-2', 'offline', 0),
    ('a-job', 'globex', 'job-1', 'ip-10-0-0-3', 'online', 0),
    ('a-old', 'gone', 'old-1', 'ip-10-0-0-4', 'online', 0);

-- The first pool has a name of its own, the others show the computed one.
INSERT INTO spot_pools (id, instance_type, region, az, is_active, pool_name) VALUES
    ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 1, 'Blue pool'),
    ('t3.medium.us-east-1b', 't3.medium', 'us-east-1', 'us-east-1b', 1, NULL),
    ('m5.large.us-east-1a', 'm5.large', 'us-east-1', 'us-east-1a', 0, NULL);

INSERT INTO instances (id, client_id, agent_id, instance_type, region, az, current_pool_id, is_active) VALUES
    ('i-1', 'acme', 'a-web', 't3.medium', 'us-east-1', 'us-east-1a', 't3.medium.us-east-1a', 1),
    ('i-2', 'acme', 'a-web', 't3.medium', 'us-east-1', 'us-east-1b', 't3.medium.us-east-1b', 1),
    ('i-3', 'acme', 'a-db', 't3.medium', 'us-east-1', 'us-east-1b', NULL, 0);

INSERT INTO replica_instances
    (id, agent_id, instance_id, replica_type, pool_id, status, is_active, sync_status, sync_latency_ms,
     hourly_cost,
     created_at, ready_at) VALUES
    ('r-ready', 'a-web', 'i-9', 'manual', 't3.medium.us-east-1b', 'ready', 1, 'synced', 12, 0.0125,
     '2026-03-10 09:00:00', '2026-03-10 09:05:00'),
    ('r-nowhere', 'a-job', 'i-8', 'automatic-rebalance', NULL, 'syncing', 1, 'syncing', NULL, NULL,
     '2026-03-10 09:10:00', NULL),
    ('r-inactive', 'a-web', 'i-7', 'manual', 't3.medium.us-east-1b', 'ready', 0, 'synced', 12, 0.0125,
     '2026-03-10 09:00:00', NULL),
    ('r-launching', 'a-web', 'i-6', 'manual', 't3.medium.us-east-1b', 'launching', 1, 'initializing', NULL,
     NULL,
     '2026-03-10 09:00:00', NULL),
    ('r-terminated', 'a-web', 'i-5', 'manual', 't3.medium.us-east-1b', 'terminated', 1, 'synced', 12, 0.0125,
     '2026-03-09 09:00:00', NULL);

INSERT INTO pricing_snapshots_clean
    (pool_id, instance_type, region, az, spot_price, ondemand_price, time_bucket, bucket_start, bucket_end,
     source_type, confidence_score, data_source) VALUES
    ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 0.030, 0.04, '2026-03-01 10:00:00',
     '2026-03-01 10:00:00', '2026-03-01 10:04:59', 'primary', 1.00, 'measured'),
    ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 0.012, 0.04, '2026-03-09 10:00:00',
     '2026-03-09 10:00:00', '2026-03-09 10:04:59', 'primary', 1.00, 'measured'),
    ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 0.010, 0.04, '2026-03-10 10:00:00',
     '2026-03-10 10:00:00', '2026-03-10 10:04:59', 'primary', 1.00, 'measured'),
    ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 0.014, 0.04, '2026-03-10 10:05:00',
     '2026-03-10 10:05:00', '2026-03-10 10:09:59', 'interpolated', 0.80, 'interpolated'),
    ('t3.medium.us-east-1b', 't3.medium', 'us-east-1', 'us-east-1b', 0.020, 0.04, '2026-03-10 10:00:00',
     '2026-03-10 10:00:00', '2026-03-10 10:04:59', 'primary', 0.97, 'measured'),
    ('t3.medium.us-east-1b', 't3.medium', 'us-east-1', 'us-east-1b', 0.022, 0.04, '2026-03-10 11:00:00',
     '2026-03-10 11:00:00', '2026-03-10 11:04:59', 'interpolated', 0.60, 'interpolated');

-- At 12:20 the window of 24 hours is [2026-03-09 12:00, 2026-03-10 13:00): the first and the last are
-- outside.
INSERT INTO spot_interruption_events
    (instance_id, agent_id, pool_id, signal_type, detected_at, response_action, replica_id,
     failover_completed,
     failover_time_ms, success) VALUES
    ('i-1', 'a-web', 't3.medium.us-east-1a', 'rebalance-recommendation', '2026-03-09 11:59:59', 'no-action',
     NULL, 0,
     NULL, 1),
    ('i-1', 'a-web', 't3.medium.us-east-1a', 'rebalance-recommendation', '2026-03-09 12:00:00',
     'created-replica',
     'r-ready', 0, NULL, 1),
    ('i-1', 'a-web', 't3.medium.us-east-1a', 'termination-notice', '2026-03-10 08:00:00',
     'promoted-existing-replica', 'r-ready', 1, 4200, 1),
    ('i-1', 'a-web', 't3.medium.us-east-1a', 'termination-notice', '2026-03-10 12:10:00',
     'emergency-snapshot', NULL,
     0, NULL, 0),
    ('i-1', 'a-web', 't3.medium.us-east-1a', 'termination-notice', '2026-03-10 13:00:00', 'no-action', NULL,
     0, NULL,
     1),
    ('i-8', 'a-job', NULL, 'termination-notice', '2026-03-10 08:00:00', 'no-action', NULL, 0, NULL, 1);

INSERT INTO instance_switches
    (agent_id, old_instance_id, new_instance_id, switch_reason, switched_at, old_instance_price,
     new_instance_price,
     ondemand_baseline, estimated_savings) VALUES
    ('a-web', 'i-1', 'i-2', 'termination-notice', '2026-03-10 08:00:05', 0.010, 0.020, 0.04, 0.0200),
    ('a-web', 'i-0', 'i-1', 'cheaper-pool', '2026-03-09 08:00:00', NULL, 0.012, 0.04, NULL);

-- Acme's 2026-03-10: baseline 20, actual 9, savings 11. Records just before and just after that day are not
-- its own.
INSERT INTO cost_records (client_id, agent_id, period_start, period_end, baseline_cost, actual_cost,
    savings) VALUES
    ('acme', 'a-web', '2026-03-09 12:00:00', '2026-03-09 13:00:00', 1.0000, 0.666667, 0.333333),
    ('acme', 'a-web', '2026-03-09 23:59:59', '2026-03-10 00:59:59', 2.0000, 1.333333, 0.666667),
    ('acme', 'a-web', '2026-03-10 00:00:00', '2026-03-10 01:00:00', 12.0000, 5.500000, 6.500000),
    ('acme', 'a-db', '2026-03-10 23:59:59', '2026-03-11 00:59:59', 8.0000, 3.500000, 4.500000),
    ('acme', 'a-db', '2026-03-11 00:00:00', '2026-03-11 01:00:00', 50.0000, 50.000000, 0.000000),
    ('globex', 'a-job', '2026-03-10 10:00:00', '2026-03-10 11:00:00', 0.0000, 1.250000, -1.250000),
    ('globex', 'a-job', '2026-03-09 10:00:00', '2026-03-09 11:00:00', 0.1000, 5.100000, -5.000000),
    ('gone', 'a-old', '2026-03-10 10:00:00', '2026-03-10 11:00:00', 7.0000, 1.000000, 6.000000);

INSERT INTO switches (client_id, agent_id, initiated_at) VALUES
    ('acme', 'a-web', '2026-03-09 23:59:59'),
    ('acme', 'a-web', '2026-03-10 00:00:00'),
    ('acme', 'a-db', '2026-03-10 23:59:59'),
    ('globex', 'a-job', '2026-03-11 00:00:00');

INSERT INTO instance_metrics
    (instance_id, agent_id, cpu_utilization, memory_utilization, response_time_ms, recorded_at) VALUES
    ('i-1', 'a-web', 41.50, 60.25, 12.50, '2026-03-10 11:59:00'),
    ('i-1', 'a-web', 97.75, 61.00, 250.00, '2026-03-10 12:00:00'),
    ('i-2', 'a-web', 12.00, 30.00, 8.25, '2026-03-10 12:00:00');
