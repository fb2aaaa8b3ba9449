INSERT INTO people VALUES (3, 50, 'Ulm');
