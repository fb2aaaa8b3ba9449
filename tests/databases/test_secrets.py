"""No password is ever in a place where others look: lists of processes, the servers' own logs, the tables of the job.

What the job itself says is searched after every run of the whole suite (tests/conftest.py).
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import Servers
from tests.databases.conftest import Steps, listening, one_dialect
from tests.job import spellings

SLOW = {"0001_slow.clickhouse.sql": "CREATE DATABASE d; CREATE TABLE d.t (n Int8) ENGINE = MergeTree ORDER BY n;\n"
                                    "INSERT INTO d.t SELECT sleepEachRow(1)",
        "0002_slow.mysql.sql": "CREATE TABLE t (n INT); INSERT INTO t SELECT SLEEP(1); INSERT INTO missing VALUES (1)"}  # fmt: skip
CLICKHOUSE = ["system.processes", "system.query_log", "system.errors", "system.tables", "migrate.schema_migrations",
              "migrate.schema_migrations_journal"]
MYSQL = ["information_schema.processlist", "schema_migrations", "schema_migrations_journal",
         "performance_schema.threads", "performance_schema.events_statements_history",
         "performance_schema.session_connect_attrs"]


def seen(servers: Servers, pid: int) -> Iterator[tuple[str, str]]:
    """Each place that is open to others now, and what it says."""
    yield "the command line", Path(f"/proc/{pid}/cmdline").read_text()
    servers.clickhouse.query("SYSTEM FLUSH LOGS")
    for table in CLICKHOUSE:
        yield table, repr(servers.clickhouse.query(f"SELECT * FROM {table}"))
    for table in MYSQL:
        yield table, repr(servers.mysql.query(f"SELECT * FROM {table}"))


@one_dialect
def test_nobody_who_looks_sees_a_password(servers: Servers, steps: Steps) -> None:
    """During a long statement on each server, after its failure, and after a run that succeeds."""
    steps.add(SLOW)
    texts: list[tuple[str, str]] = []
    with listening(servers) as sent:
        job = steps.start(servers)
        for step in ("0001_slow.clickhouse", "0002_slow.mysql"):
            job.until("statement", step=step, n=2 if "clickhouse" in step else 1)
            texts += seen(servers, job.process.pid)
        assert job.wait().code == 6
        steps.add({"0002_slow.mysql.sql": "SELECT 1"})
        assert steps.run(servers).code == 0
        texts += seen(servers, os.getpid())
    texts += [("what was sent", text) for text in sent.clickhouse + sent.mysql]

    for password in (servers.clickhouse.password, servers.mysql.server.password):
        words = [word for word in spellings(password) if word]
        assert [(place, word) for place, text in texts for word in words if word in text] == []
    shown = " ".join(text for _, text in texts)
    for statement in ("INSERT INTO d.t SELECT sleepEachRow", "INSERT INTO t SELECT SLEEP"):
        assert len(re.findall(re.escape(statement), shown)) >= 2, "these places show what runs: else they prove nothing"
