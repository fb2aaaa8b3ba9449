CREATE VIEW visitors AS SELECT people.id, visits.day FROM people JOIN visits ON person = id;
CREATE TABLE IF NOT EXISTS days (day DATE NOT NULL PRIMARY KEY) ENGINE=InnoDB;
