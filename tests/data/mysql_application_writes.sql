-- Every kind of write that the application makes, with the columns it names, in an order that it could
-- happen in.
SET time_zone = '+00:00';

-- base rows
INSERT INTO clients (id, name, email, client_token) VALUES ('c-1', 'Acme', 'ops@acme.example', 'token-1');
INSERT INTO agents (id, client_id, logical_agent_id, hostname, status) VALUES ('a-1', 'c-1', 'web-1',
    'host-1', 'online');
INSERT INTO commands (id, client_id, agent_id, command_type, priority) VALUES ('k-1', 'c-1', 'a-1', 'switch',
    75);
INSERT INTO spot_pools (id, instance_type, region, az)
    VALUES ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a');
INSERT INTO instances (id, client_id, agent_id, instance_type, region, az)
    VALUES ('i-1', 'c-1', 'a-1', 't3.medium', 'us-east-1', 'us-east-1a');
INSERT INTO switches (client_id, agent_id, command_id, initiated_at)
    VALUES ('c-1', 'a-1', 'k-1', '2026-03-10 08:00:00');
INSERT INTO cost_records (client_id, agent_id, period_start, period_end, baseline_cost, actual_cost, savings)
    VALUES ('c-1', 'a-1', '2026-03-10 08:00:00', '2026-03-10 09:00:00', 20, 9, 11);

-- replica_instances
INSERT INTO replica_instances
    (id, agent_id, instance_id, replica_type, pool_id, instance_type, region, az, status, created_by,
     parent_instance_id, hourly_cost, tags, is_active, created_at, interruption_signal_type,
     interruption_detected_at, termination_time)
    VALUES ('r-1', 'a-1', 'i-2', 'automatic-termination', 't3.medium.us-east-1a', 't3.medium', 'us-east-1',
     'us-east-1a', 'launching', 'coordinator', 'i-1', 0.0125, '{"emergency": true}', TRUE, NOW(),
     'termination-notice', '2026-03-10 08:00:00', '2026-03-10 08:02:00');
INSERT INTO replica_instances (id, agent_id, instance_id, replica_type, pool_id, status)
    VALUES ('r-2', 'a-1', 'i-3', 'manual', NULL, 'launching');
UPDATE replica_instances SET status = 'syncing', sync_status = 'syncing', sync_latency_ms = 35,
    last_sync_at = NOW(),
    state_transfer_progress = 42.50 WHERE id = 'r-1';
UPDATE replica_instances SET status = 'ready', sync_status = 'synced', state_transfer_progress = 100,
    ready_at = NOW() WHERE id = 'r-1';
UPDATE replica_instances SET status = 'promoted', promoted_at = NOW(),
    failover_completed_at = NOW() WHERE id = 'r-1';
UPDATE replica_instances SET status = 'terminated', is_active = FALSE, terminated_at = NOW(),
    total_cost = 0.0250
    WHERE id = 'r-2';

-- agents
UPDATE agents SET manual_replica_enabled = TRUE, auto_replica_enabled = FALSE, auto_switch_enabled = FALSE,
    current_replica_id = 'r-1', replica_count = 1 WHERE id = 'a-1';
UPDATE agents SET last_interruption_signal = NOW(), last_failover_at = NOW(),
    interruption_handled_count = interruption_handled_count + 1 WHERE id = 'a-1';

-- spot_interruption_events
INSERT INTO spot_interruption_events
    (instance_id, agent_id, pool_id, signal_type, detected_at, termination_time, response_action, replica_id,
     instance_age_hours, success, error_message)
    VALUES ('i-1', 'a-1', 't3.medium.us-east-1a', 'termination-notice', '2026-03-10 08:00:00',
     '2026-03-10 08:02:00',
     'created-replica', 'r-1', 12.25, TRUE, NULL);
UPDATE spot_interruption_events SET replica_ready = TRUE, replica_ready_time_ms = 90000,
    failover_completed = TRUE,
    failover_time_ms = 4200, success = FALSE WHERE instance_id = 'i-1';

-- pricing_submissions_raw
INSERT INTO pricing_submissions_raw
    (submission_id, source_instance_id, source_agent_id, source_type, pool_id, instance_type, region, az,
     spot_price,
     ondemand_price, observed_at, submitted_at, client_id, batch_id)
    VALUES ('s-1', 'i-1', 'a-1', 'primary', 't3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a',
     0.0125,
     0.0416, '2026-03-10 08:00:10', '2026-03-10 08:00:11', 'c-1', 'b-1');
INSERT INTO pricing_submissions_raw
    (submission_id, source_instance_id, source_agent_id, source_type, pool_id, spot_price, observed_at,
     submitted_at)
    VALUES ('s-2', 'i-2', NULL, 'replica-automatic', 't3.medium.us-east-1a', 0.0125, '2026-03-10 08:00:12',
     '2026-03-10 08:00:13');
UPDATE pricing_submissions_raw SET is_duplicate = TRUE, duplicate_of = 's-1' WHERE submission_id = 's-2';

-- pricing_snapshots_clean
INSERT INTO pricing_snapshots_clean
    (pool_id, instance_type, region, az, spot_price, ondemand_price, savings_percent, time_bucket,
     bucket_start,
     bucket_end, source_instance_id, source_agent_id, source_type, source_submission_id, confidence_score,
     data_source, interpolation_method)
    VALUES ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 0.0125, 0.0416, 69.95,
     '2026-03-10 08:00:00', '2026-03-10 08:00:00', '2026-03-10 08:05:00', 'i-1', 'a-1', 'primary', 's-1',
      1.00,
     'measured', NULL);
INSERT INTO pricing_snapshots_clean
    (pool_id, instance_type, region, az, spot_price, ondemand_price, savings_percent, time_bucket,
     bucket_start,
     bucket_end, source_type, confidence_score, data_source, interpolation_method)
    VALUES ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', 0.0126, 0.0416, 69.71,
     '2026-03-10 08:05:00', '2026-03-10 08:05:00', '2026-03-10 08:10:00', 'interpolated', 0.85,
      'interpolated',
     'linear');

-- pricing_snapshots_interpolated
INSERT INTO pricing_snapshots_interpolated
    (pool_id, instance_type, region, az, time_bucket, gap_duration_minutes, gap_type, interpolation_method,
     confidence_score, price_before, price_after, timestamp_before, timestamp_after, interpolated_price)
    VALUES ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a', '2026-03-10 08:05:00', 5, 'short',
     'linear', 0.85, 0.0125, 0.0127, '2026-03-10 08:00:00', '2026-03-10 08:10:00', 0.0126);

-- pricing_snapshots_ml: emptied and filled anew
TRUNCATE TABLE pricing_snapshots_ml;
INSERT INTO pricing_snapshots_ml
    (pool_id, instance_type, region, az, spot_price, ondemand_price, savings_percent, time_bucket,
     hour_of_day,
     day_of_week, day_of_month, month, year, confidence_score, data_source, price_change_1h, price_change_24h,
     price_volatility_6h, pool_rank_by_price)
    SELECT pool_id, instance_type, region, az, spot_price, ondemand_price, savings_percent, time_bucket,
     HOUR(time_bucket), DAYOFWEEK(time_bucket) - 1, DAY(time_bucket), MONTH(time_bucket), YEAR(time_bucket),
     confidence_score, data_source, 0.0001, NULL, 0.00005, 1 FROM pricing_snapshots_clean;

-- pricing_corrections: written by people
INSERT INTO pricing_corrections
    (original_snapshot_id, pool_id, time_bucket, original_price, corrected_price, correction_reason,
     correction_source, corrected_by)
    SELECT id, pool_id, time_bucket, spot_price, 0.0130, 'invoice', 'aws-billing',
     'ops' FROM pricing_snapshots_clean
     WHERE data_source = 'measured';

-- data_processing_jobs
INSERT INTO data_processing_jobs (job_type, status, start_time, end_time)
    VALUES ('gap-filling', 'running', '2026-03-10 00:00:00', '2026-03-10 12:00:00');
UPDATE data_processing_jobs SET status = 'completed', records_processed = 2, duplicates_found = 1,
    gaps_filled = 1,
    interpolations_created = 1, completed_at = NOW(),
     result_summary = '{"gaps": 1}' WHERE job_type = 'gap-filling';
UPDATE data_processing_jobs SET status = 'failed', error_log = 'stopped' WHERE job_type = 'gap-filling';

-- instance_switches
INSERT INTO instance_switches (agent_id, old_instance_id, new_instance_id, switch_reason, switched_at,
    success)
    VALUES ('a-1', 'i-1', 'i-2', 'termination-notice', NOW(), TRUE);

-- client_savings_monthly
INSERT INTO client_savings_monthly (client_id, year, month, baseline_cost, actual_cost, savings, computed_at)
    VALUES ('c-1', 2026, 3, 20, 9, 11, NOW());

-- instance_metrics
INSERT INTO instance_metrics
    (instance_id, agent_id, cpu_utilization, memory_utilization, disk_utilization, network_in_mbps,
     network_out_mbps, request_rate, error_rate, response_time_ms)
    VALUES ('i-1', 'a-1', 41.5, 60.25, 10, 1.5, 2.5, 120, 0.1, 12.5);
