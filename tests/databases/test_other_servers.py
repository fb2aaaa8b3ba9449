"""Other releases of the servers: what was applied to them afresh is what the expected schema says, without a finding."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import FIGURES, Database, Servers
from tests.rights import EXACT
from tests.servers import engines
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MariaDB118Server, MySQLServer

pytestmark = pytest.mark.full  # all other tests say it of MySQL 9.7, MariaDB 10.11 and ClickHouse 26.9


@pytest.fixture(params=["MySQL 9.7", "MariaDB 10.11", "MariaDB 11.8", "ClickHouse 26.7"])
def other(request: pytest.FixtureRequest, fresh_clickhouse: ClickHouseServer,
          mysql_servers: Callable[[str], MySQLServer]) -> Iterator[Servers]:
    """Empty servers, one of them of this release."""
    clickhouse, mysql = fresh_clickhouse, mysql_servers("mariadb" if request.param == "MariaDB 10.11" else "mysql")
    if request.param == "ClickHouse 26.7":
        clickhouse = ClickHouseServer(grants=EXACT)
        clickhouse.packages = [str(engines.wheels(Path(engines.__file__).with_name("clickhouse-26.7.lock")))]
    elif request.param == "MariaDB 11.8":
        mysql = MariaDB118Server()
    clickhouse.start(), mysql.start()
    mysql.create_database("other")
    yield Servers(clickhouse, Database(mysql, "other"))
    mysql.drop_database("other")
    if clickhouse is not fresh_clickhouse:
        clickhouse.close()
    if request.param == "MariaDB 11.8":
        mysql.close()


def test_fresh_apply_is_without_a_finding(other: Servers) -> None:
    """Nor is there anything to do for the next run; and what is damaged is found there too."""
    first, verified, second = other.run(), other.run("verify"), other.run()
    findings = [finding for result in (first, verified, second) for finding in result.report["findings"]]
    FIGURES.append(f"fresh apply on {other.mysql.dialect} {other.mysql.server.version()} and ClickHouse"
                   f" {other.clickhouse.version()}: {len(findings)} findings")

    assert ([result.code for result in (first, verified, second)], findings) == ([0, 0, 0], [])
    assert second.report["applied"] == second.report["repaired"] == []

    other.clickhouse.query("ALTER TABLE metrics.NodeMetrics REMOVE TTL")
    other.mysql.query("ALTER TABLE instance_metrics COMMENT = 'changed'")
    damaged = other.run("verify")
    assert damaged.code == 7
    assert {finding["object"] for finding in damaged.report["findings"]} == {"table metrics.NodeMetrics", "table instance_metrics"}
