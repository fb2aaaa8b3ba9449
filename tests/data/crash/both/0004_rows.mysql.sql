INSERT INTO people VALUES (1, 30), (2, 40);
UPDATE people SET age = age + 1;
