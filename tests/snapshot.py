"""`make snapshot`: throwaway servers, a fresh apply, and the expected schema written beside the steps."""

import sys

from tests.job import run_job
from tests.rights import EXACT
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MySQLServer


def main() -> int:
    with ClickHouseServer(grants=EXACT) as clickhouse, MySQLServer() as mysql:
        mysql.create_database("snapshot")
        result = run_job("snapshot", *sys.argv[1:], env={
            "CLICKHOUSE_URL": clickhouse.url(), "MYSQL_URL": mysql.url("snapshot"), "MIGRATE_LOG_FORMAT": "text"})
    print(result.stdout, result.stderr, end="")
    return result.code


if __name__ == "__main__":
    raise SystemExit(main())
