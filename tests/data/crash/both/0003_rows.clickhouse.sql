INSERT INTO own.people VALUES (1, 30), (2, 40);
