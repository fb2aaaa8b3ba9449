INSERT INTO own.people VALUES (3, 50, 'Ulm');
