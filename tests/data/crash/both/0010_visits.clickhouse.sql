CREATE TABLE own.visits (id UInt32, at DateTime) ENGINE = MergeTree ORDER BY (id, at);
CREATE TABLE IF NOT EXISTS own.days (day Date, n UInt64) ENGINE = SummingMergeTree ORDER BY day;
