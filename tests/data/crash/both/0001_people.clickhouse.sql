-- Step by step for the other database; from 0010 to 0014 they only create, and are one batch.
CREATE DATABASE own;
CREATE TABLE own.people (id UInt32, age UInt32) ENGINE = MergeTree ORDER BY id;
