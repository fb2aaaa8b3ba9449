-- Step by step for the other database: each row of the ledger is on its way while the next step runs.
CREATE DATABASE own;
CREATE TABLE own.people (id UInt32, age UInt32) ENGINE = MergeTree ORDER BY id;
