CREATE MATERIALIZED VIEW own.count TO own.days AS SELECT toDate(at) AS day, count() AS n FROM own.visits GROUP BY day;
