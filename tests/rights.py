"""The user `migrate`, as whom the suite runs the job: README.md's rights, read from there, and no more.

Fixtures, queries and cleaning up are root's business. What a test's own steps need beyond that is granted in the test, on
MySQL by `Database.grant`. ClickHouse knows its users from its start, so there OWN is for all of them; no shipped step touches
it. WATCHFUL may read the query log too, which README.md calls better: it knows of INSERTs that rows do not tell.

Other users have tests that are about users: test_rights.py, logins and TLS (test_bad_input.py, test_tls.py, test_waiting.py),
few rights and definers (test_crash.py, test_converge_clickhouse.py, test_mysql_schema.py, test_metric_views.py). A compose
file's user owns his database, as the official images make him; what other tools are measured on has no limits (tests/bench).
"""

import re

from tests.readme import blocks
from tests.servers.clickhouse import User

Right = tuple[str, str]  # what, and on what


def rights(title: str) -> list[Right]:
    """Each right of one of the section's blocks."""
    (block,) = (block for block in blocks("Rights", "sql") if block.startswith(f"-- {title}"))
    grants = re.findall(r"^GRANT (.+) ON (\S+) TO migrate;$", block, re.M)
    assert len(grants) == block.count("\n") - 1
    return [(right, on) for listed, on in grants for right in listed.split(", ")]


def named(grants: list[Right], left_out: int | None = None) -> list[str]:
    return [f"{right} ON {on}" for number, (right, on) in enumerate(grants) if number != left_out]


CLICKHOUSE, MYSQL, AFTER_ROOT = rights("ClickHouse"), rights("MySQL and MariaDB"), rights("MySQL alone")
EXACT = named(CLICKHOUSE)
# Beside them, what the tests' own steps do: in databases of their own, in `default` (which in this engine is a directory of
# files too), and functions, which belong to no database. A view in `elsewhere` may be seen.
OWN = [*(f"ALL ON {name}.*" for name in ("shop", "d", "e", "own")), "CREATE TABLE, INSERT ON default.*", "READ ON FILE",
       "CREATE FUNCTION, DROP FUNCTION ON *.*", "SHOW ON elsewhere.*"]  # fmt: skip
WATCHFUL = User("watchful", grants=[*EXACT, *OWN, "SYSTEM FLUSH LOGS ON *.*", "SELECT ON system.query_log"])
