"""`make demo`: the job on throwaway local servers. The gate opens, then a drift closes it."""

import sys
import time

from tests.job import JobResult, run_job
from tests.rights import EXACT
from tests.scrapes import insert, scrape
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MariaDBServer

TABLES = {
    "NodeMetrics": "ts, node_name, cpu_cores, cpu_usage_percent, memory_used_bytes, load_1,"
                   " network_receive_bytes_per_sec",
    "PodMetrics": "ts, namespace, pod_name, container_name, cpu_usage, memory_usage_bytes, restarts, status",
    "GPUMetrics": "ts, node_name, gpu_index, gpu_model, utilization_percent, memory_used_bytes",
    "ClusterMetrics": "metric_name, count() AS series",
}  # fmt: skip
SAMPLE_ROWS = """
INSERT INTO clients (id, name, email, client_token) VALUES ('c-1', 'Acme', 'ops@acme.example', 'token');
INSERT INTO agents (id, client_id, logical_agent_id, status) VALUES ('a-1', 'c-1', 'web-1', 'online');
INSERT INTO spot_pools (id, instance_type, region, az)
    VALUES ('t3.medium.us-east-1a', 't3.medium', 'us-east-1', 'us-east-1a');
INSERT INTO instances (id, client_id, agent_id, instance_type, region, az)
    VALUES ('i-1', 'c-1', 'a-1', 't3.medium', 'us-east-1', 'us-east-1a');
INSERT INTO cost_records (client_id, agent_id, period_start, period_end, baseline_cost, actual_cost, savings)
    VALUES ('c-1', 'a-1', UTC_DATE(), UTC_TIMESTAMP(), 20, 9, 11);
INSERT INTO spot_interruption_events (instance_id, agent_id, pool_id, signal_type, detected_at, response_action)
    VALUES ('i-1', 'a-1', 't3.medium.us-east-1a', 'rebalance-recommendation', UTC_TIMESTAMP(), 'created-replica')
"""


def main() -> int:
    print("Two empty servers: ClickHouse (chdb-core over HTTP) and MariaDB, on loopback …")
    with ClickHouseServer(grants=EXACT) as clickhouse, MariaDBServer() as mysql:
        mysql.create_database("demo")
        environ = {"CLICKHOUSE_URL": clickhouse.url(), "MYSQL_URL": mysql.url("demo"), "MIGRATE_LOG_FORMAT": "json"}

        def migrate(title: str, expected: int) -> JobResult:
            result = run_job(env=environ)
            print(f"\n== {title}: exit {result.code}")
            for line in result.lines:
                if line["event"] in ("step_applied", "repaired", "finding"):
                    print("  ", line["event"], *(line.get(key, "") for key in ("step", "object", "expected", "actual")),
                          line.get("remedy", ""))
            print("  ", {key: result.report[key] for key in ("outcome", "applied", "repaired", "pending", "seconds")})
            if result.code != expected:
                print(result.stdout, result.stderr)
                sys.exit(f"the demo expected exit {expected}")
            return result

        migrate("the first run creates both schemas and proves them", 0)
        show_metrics(clickhouse)
        show_procedures(mysql)
        migrate("again: there is nothing to do, and nothing is written", 0)
        clickhouse.query("ALTER TABLE metrics.NodeMetrics DROP COLUMN network_receive_bytes_per_sec")
        migrate("a column was dropped: it comes back", 0)
        clickhouse.query("ALTER TABLE metrics.NodeMetrics MODIFY COLUMN load_1 Float32")
        migrate("a column's type was changed behind its back: the gate stays closed", 7)
    print("\nThe servers are stopped and their files deleted.")
    return 0


def show_metrics(clickhouse: ClickHouseServer) -> None:
    """Send scrapes as an OpenTelemetry collector would, and print what arrives in the four tables."""
    now = time.time_ns() // 1_000_000
    for at in (now - 120_000, now - 60_000, now):  # three minutes, so that counters have rates
        clickhouse.query(insert(scrape(at, nodes=2, cpus=4, pods=2, containers=2, gpus=1)))
    print("\n== one scrape a minute of OpenTelemetry gauges was sent; the rows that arrived:")
    for table, columns in TABLES.items():
        tail = " GROUP BY metric_name ORDER BY metric_name LIMIT 5" if table == "ClusterMetrics" else " FINAL ORDER BY ts DESC LIMIT 6"
        deadline, rows = time.monotonic() + 60, []
        while not rows and time.monotonic() < deadline:
            rows = clickhouse.query(f"SELECT {columns} FROM metrics.{table}{tail}")
            time.sleep(0.2)
        print(f"   {table} ({columns})", *rows or ["nothing arrived"], sep="\n      ")
        if not rows:
            sys.exit(f"no row arrived in {table}")


def show_procedures(mysql: MariaDBServer) -> None:
    mysql.execute(SAMPLE_ROWS, "demo")
    mysql.execute("CALL compute_daily_savings(UTC_DATE())", "demo")
    mysql.execute("CALL compute_pool_reliability(24)", "demo")
    print("\n== the procedures on sample rows:")
    for sql in ("SELECT client_id, date, baseline_cost, actual_cost, savings, savings_percentage FROM client_savings_daily",
                "SELECT pool_id, interruption_count, reliability_score FROM pool_reliability_metrics"):  # fmt: skip
        print(f"   {sql}", *mysql.query(sql, "demo"), sep="\n      ")


if __name__ == "__main__":
    raise SystemExit(main())
