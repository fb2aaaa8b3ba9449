ALTER TABLE own.people ADD COLUMN city String;
