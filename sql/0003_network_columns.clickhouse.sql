-- The columns that deployments older than the seed's fix lack. They belong to this step alone: 0002 makes NodeMetrics
-- without them, so a new installation and an old one get them in the same way. Adding them changes the catalog only;
-- rows that are there already read as 0.

ALTER TABLE metrics.NodeMetrics
    ADD COLUMN IF NOT EXISTS network_receive_bytes_per_sec Float64 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS network_transmit_bytes_per_sec Float64 DEFAULT 0;
