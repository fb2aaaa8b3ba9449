ALTER TABLE own.people UPDATE age = age + 1 WHERE 1;
