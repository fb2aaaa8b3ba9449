CREATE VIEW own.who AS SELECT id, at FROM own.visits;
