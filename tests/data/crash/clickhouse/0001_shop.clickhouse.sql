-- Written as people write it: nothing here can run twice.
CREATE DATABASE shop;
CREATE TABLE shop.people (id UInt32, name String, age UInt32) ENGINE = MergeTree ORDER BY id;
INSERT INTO shop.people VALUES (1, 'Ann', 30), (2, 'Bob', 40), (3, 'Cem', 20);
ALTER TABLE shop.people ADD COLUMN city String;
ALTER TABLE shop.people ADD INDEX idx_name name TYPE minmax;
ALTER TABLE shop.people MATERIALIZE INDEX idx_name;
ALTER TABLE shop.people UPDATE age = age + 1 WHERE 1;
CREATE TABLE shop.audit (what String) ENGINE = MergeTree ORDER BY tuple();
INSERT INTO shop.audit SELECT concat(name, ' is ', toString(age)) FROM shop.people;
CREATE MATERIALIZED VIEW shop.noted TO shop.audit AS SELECT name AS what FROM shop.people;
INSERT INTO shop.people VALUES (4, 'Dee', 50, 'Ulm');
ALTER TABLE shop.people RENAME COLUMN city TO town;
ALTER TABLE shop.people MODIFY COLUMN age UInt64;
DELETE FROM shop.people WHERE id = 2;
CREATE FUNCTION shop_twice AS (x) -> x * 2;
