-- What keeps the views from reading the source table, one row for each fault.

SELECT if(found.type = '', 'metrics.otel_metrics_gauge has no column ' || needed.name,
          'metrics.otel_metrics_gauge.' || needed.name || ' is of type ' || found.type) || ', but the views need '
       || needed.wanted || if(found.type LIKE 'JSON%', ': set `json: false` in the exporter', '') AS fault
FROM values('name String, wanted String, types String',
            ('ResourceAttributes', 'a map of strings', '^Map\\((LowCardinality\\()?String\\)?, (LowCardinality\\()?String\\)?\\)$'),
            ('Attributes', 'a map of strings', '^Map\\((LowCardinality\\()?String\\)?, (LowCardinality\\()?String\\)?\\)$'),
            ('MetricName', 'a string', '^(LowCardinality\\()?String\\)?$'),
            ('TimeUnix', 'a time', '^DateTime(64)?(\\(.*\\))?$'),
            ('Value', 'Float64', '^Float64$')) AS needed
LEFT JOIN (SELECT name, type FROM system.columns WHERE database = 'metrics' AND table = 'otel_metrics_gauge') AS found
       ON found.name = needed.name
WHERE NOT match(found.type, needed.types);

SELECT 'metrics.otel_metrics_gauge is a ' || engine || ', but the views need a table that rows are inserted into' AS fault
FROM system.tables
WHERE database = 'metrics' AND name = 'otel_metrics_gauge' AND engine NOT LIKE '%MergeTree' AND engine != 'Null';
