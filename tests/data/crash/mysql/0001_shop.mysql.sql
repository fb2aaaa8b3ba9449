-- Written as people write it: nothing here can run twice.
CREATE TABLE people (id INT NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL, age INT NOT NULL) ENGINE=InnoDB;
INSERT INTO people VALUES (1, 'Ann', 30), (2, 'Bob', 40), (3, 'Cem', 20);
ALTER TABLE people ADD COLUMN city VARCHAR(40) NULL;
CREATE INDEX idx_name ON people (name);
UPDATE people SET age = age + 1;
CREATE TABLE audit (what VARCHAR(40) NOT NULL) ENGINE=InnoDB;
INSERT INTO audit SELECT CONCAT(name, ' is ', age) FROM people;
ALTER TABLE people CHANGE COLUMN city town VARCHAR(50) NULL, ADD KEY idx_town (town);
CREATE VIEW adults AS SELECT id, name FROM people WHERE age > 21;
DELIMITER //
CREATE PROCEDURE grow(IN years INT)
BEGIN
    UPDATE people SET age = age + years;
    INSERT INTO audit VALUES ('grown');
END//
CREATE TRIGGER noted AFTER UPDATE ON people FOR EACH ROW INSERT INTO audit VALUES ('changed')//
DELIMITER ;
CALL grow(5);
DROP TRIGGER noted;
DELETE FROM people WHERE age = (SELECT * FROM (SELECT MIN(age) FROM people) AS youngest);
SET @next = (SELECT MAX(id) + 10 FROM people);
INSERT INTO people (id, name, age) VALUES (@next, 'Dee', 50);
ALTER TABLE people MODIFY COLUMN age BIGINT NOT NULL;
