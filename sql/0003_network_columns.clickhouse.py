"""The network columns of NodeMetrics, which deployments older than the seed's fix lack.

They belong to this step alone: 0002 makes the table without them, so a new installation and an old one get them in the
same way, and no column is defined twice. Adding them changes the catalog only; rows that are there already read as 0.
SQL alone would not do: IF NOT EXISTS says nothing about a column that exists in another type.
"""

from typing import Any

DEFINITIONS = """
ALTER TABLE metrics.NodeMetrics
    ADD COLUMN network_receive_bytes_per_sec Float64 DEFAULT 0,
    ADD COLUMN network_transmit_bytes_per_sec Float64 DEFAULT 0;
"""


def plan(run: Any) -> list[Any]:
    return run.clickhouse.changes(DEFINITIONS)  # type: ignore[no-any-return]


def apply(run: Any) -> None:
    run.clickhouse.converge(DEFINITIONS)
