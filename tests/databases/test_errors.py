"""What an error code of a server makes of a run: sent again, looked up by the next run, or the end.

Each code of the program's tables has a row here, and each row is produced: by the server itself where it can be made to,
else by a proxy that answers one statement with it. docs/reliability.md says what the classes mean.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from migrator.databases import clickhouse, mysql, mysql_connection
from tests.conftest import FIGURES, Database
from tests.databases.conftest import Steps, one_dialect
from tests.databases.crash import Run
from tests.databases.test_lock import LOCK
from tests.databases.test_waiting import asking, serving
from tests.rights import WATCHFUL
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import MySQLServer
from tests.servers.process import HOST
from tests.servers.proxy import Fault, Proxy, http_error, mysql_error

FULL = bool(os.environ.get("MIGRATE_TEST_FULL"))
DIALECTS = ("clickhouse", "mysql", "mariadb")
QUICK = {"migrator.databases.clickhouse.PAUSE_SECONDS": 0.01, "migrator.databases.mysql.PAUSE_SECONDS": 0.01}
IMPATIENT = QUICK | {"migrator.databases.clickhouse.TRANSIENT_SECONDS": 0.5, "migrator.databases.mysql.DDL_PATIENCE_SECONDS": 0.5}

# Nothing was done: sent again, for a limited time.
TRANSIENT: dict[str, dict[int, str]] = {
    "clickhouse": {
        198: "DNS_ERROR", 202: "TOO_MANY_SIMULTANEOUS_QUERIES", 203: "NO_FREE_CONNECTION", 225: "NO_ZOOKEEPER",
        242: "TABLE_IS_READ_ONLY", 364: "RECEIVED_ERROR_TOO_MANY_REQUESTS", 473: "DEADLOCK_AVOIDED",
        517: "CANNOT_ASSIGN_ALTER", 692: "TOO_MANY_MUTATIONS", 696: "ASYNC_LOAD_CANCELED",
        700: "USER_SESSION_LIMIT_EXCEEDED", 745: "SERVER_OVERLOADED", 749: "TCP_CONNECTION_LIMIT_REACHED",
        762: "HTTP_CONNECTION_LIMIT_REACHED", 763: "SESSION_REFUSED", 1019: "QUERY_SLOT_ACQUISITION_TIMEOUT"},
    "mysql": {1205: "ER_LOCK_WAIT_TIMEOUT", 1213: "ER_LOCK_DEADLOCK", 3058: "ER_USER_LOCK_DEADLOCK", 3572: "ER_LOCK_NOWAIT"},
    "mariadb": {1205: "ER_LOCK_WAIT_TIMEOUT", 1213: "ER_LOCK_DEADLOCK"},
}  # fmt: skip
# Nobody knows what became of it: the run ends with 3, and the next one looks.
GONE = {
    -1: "no number: what the driver cannot read", 1053: "ER_SERVER_SHUTDOWN", 1077: "ER_NORMAL_SHUTDOWN",
    1079: "ER_SHUTDOWN_COMPLETE", 1152: "ER_ABORTING_CONNECTION", 1158: "ER_NET_READ_ERROR",
    1159: "ER_NET_READ_INTERRUPTED", 1160: "ER_NET_ERROR_ON_WRITE", 1161: "ER_NET_WRITE_INTERRUPTED",
    1184: "ER_NEW_ABORTING_CONNECTION", 2006: "CR_SERVER_GONE_ERROR", 2013: "CR_SERVER_LOST",
    2014: "CR_COMMANDS_OUT_OF_SYNC", 2027: "CR_MALFORMED_PACKET", 2045: "CR_SHARED_MEMORY_CONNECT_ABANDONED",
    2055: "CR_SERVER_LOST_EXTENDED"}  # fmt: skip
LOST: dict[str, dict[int, str]] = {
    "clickhouse": {
        95: "CANNOT_READ_FROM_SOCKET", 96: "CANNOT_WRITE_TO_SOCKET", 159: "TIMEOUT_EXCEEDED", 209: "SOCKET_TIMEOUT",
        210: "NETWORK_ERROR", 216: "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", 236: "ABORTED", 279: "ALL_CONNECTION_TRIES_FAILED",
        285: "TOO_FEW_LIVE_REPLICAS", 286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", 319: "UNKNOWN_STATUS_OF_INSERT",
        373: "SESSION_IS_LOCKED", 571: "DATABASE_REPLICATION_FAILED", 659: "UNKNOWN_STATUS_OF_TRANSACTION",
        735: "QUERY_WAS_CANCELLED_BY_CLIENT", 999: "KEEPER_EXCEPTION", 1017: "ASYNC_INSERT_FLUSH_TIMEOUT"},
    "mysql": GONE | {3032: "ER_SERVER_OFFLINE_MODE", 3169: "ER_SESSION_WAS_KILLED", 4031: "ER_CLIENT_INTERACTION_TIMEOUT"},
    "mariadb": GONE | {1927: "ER_CONNECTION_KILLED"},
}  # fmt: skip
# It ended in the middle, and mending may be needed: 6, and the next run looks. On ClickHouse that is so of every code
# that is in no table; these are the ones of which it is known.
CUT_SHORT: dict[str, dict[int, str]] = {
    "clickhouse": {
        3: "UNEXPECTED_END_OF_FILE", 32: "ATTEMPT_TO_READ_AFTER_EOF", 241: "MEMORY_LIMIT_EXCEEDED", 243: "NOT_ENOUGH_SPACE",
        252: "TOO_MANY_PARTS", 253: "REPLICA_ALREADY_EXISTS", 341: "UNFINISHED", 394: "QUERY_WAS_CANCELLED",
        1000: "POCO_EXCEPTION", 1001: "STD_EXCEPTION", 1002: "UNKNOWN_EXCEPTION"},
    "mysql": {1180: "ER_ERROR_DURING_COMMIT", 1317: "ER_QUERY_INTERRUPTED", 3024: "ER_QUERY_TIMEOUT",
              3101: "ER_TRANSACTION_ROLLBACK_DURING_COMMIT"},
    "mariadb": {1180: "ER_ERROR_DURING_COMMIT", 1317: "ER_QUERY_INTERRUPTED", 1969: "ER_STATEMENT_TIMEOUT"},
}  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A statement that a server refuses for good, with this code; without a statement the proxy says the code."""

    code: int
    name: str
    statement: str = ""
    before: str = ""  # what root runs first


def c(code: int, name: str, statement: str = "", before: str = "") -> tuple[str, Refused]:
    return "clickhouse", Refused(code, name, statement, before)


def y(code: int, name: str, statement: str = "", before: str = "") -> tuple[str, Refused]:
    return "mysql", Refused(code, name, statement, before)


def m(code: int, name: str, statement: str = "", before: str = "") -> tuple[str, Refused]:
    return "mariadb", Refused(code, name, statement, before)


def both(*row: Any) -> list[tuple[str, Refused]]:
    return [y(*row), m(*row)]


CHILD = "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE k (id INT, CONSTRAINT f FOREIGN KEY (id) REFERENCES p (id));"
CHECKED = "CREATE TABLE k (n INT, CONSTRAINT positive CHECK (n > 0));"
TABLE = "CREATE TABLE a (id INT PRIMARY KEY, n INT, KEY by_n (n)); INSERT INTO a VALUES (1, 1);"
MERGETREE = "CREATE TABLE d.a (k UInt8, n Nullable(String), INDEX i n TYPE minmax) ENGINE = MergeTree ORDER BY k"
REFUSED = [
    # wrong text, or an object is missing
    *both(1064, "ER_PARSE_ERROR", "CREAT TABLE x (n INT)"), *both(1054, "ER_BAD_FIELD_ERROR", "UPDATE a SET x = 1", TABLE),
    *both(1146, "ER_NO_SUCH_TABLE", "ALTER TABLE missing ADD COLUMN n INT"),
    *both(1091, "ER_CANT_DROP_FIELD_OR_KEY", "ALTER TABLE a DROP COLUMN x", TABLE), *both(1051, "ER_BAD_TABLE_ERROR", "DROP TABLE x"),
    *both(1305, "ER_SP_DOES_NOT_EXIST", "CALL missing()"), *both(1360, "ER_TRG_DOES_NOT_EXIST", "DROP TRIGGER x"),
    *both(1539, "ER_EVENT_DOES_NOT_EXIST", "DROP EVENT x"), y(1051, "ER_BAD_TABLE_ERROR", "DROP VIEW x"),
    m(4092, "ER_UNKNOWN_VIEW", "DROP VIEW x"), m(4031, "ER_REFERENCED_TRG_DOES_NOT_EXIST",
        "CREATE TRIGGER x BEFORE INSERT ON a FOR EACH ROW FOLLOWS y SET NEW.n = 1", TABLE),
    # there already
    *both(1050, "ER_TABLE_EXISTS_ERROR", "CREATE TABLE a (n INT)", TABLE), *both(1060, "ER_DUP_FIELDNAME", "ALTER TABLE a ADD COLUMN n INT", TABLE),
    *both(1061, "ER_DUP_KEYNAME", "CREATE INDEX by_n ON a (n)", TABLE),
    *both(1304, "ER_SP_ALREADY_EXISTS", "CREATE PROCEDURE x() SELECT 1", "CREATE PROCEDURE x() SELECT 2"),
    m(1359, "ER_TRG_ALREADY_EXISTS", "CREATE TRIGGER x BEFORE INSERT ON a FOR EACH ROW SET NEW.n = 1",
      TABLE + "CREATE TRIGGER x BEFORE INSERT ON a FOR EACH ROW SET NEW.n = 2"), y(1359, "ER_TRG_ALREADY_EXISTS"),
    *both(1537, "ER_EVENT_ALREADY_EXISTS", "CREATE EVENT x ON SCHEDULE EVERY 1 DAY DO SELECT 1",
          "CREATE EVENT x ON SCHEDULE EVERY 1 DAY DO SELECT 2"),
    y(1826, "ER_FK_DUP_NAME", "ALTER TABLE k ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES p (id)", CHILD),
    m(1005, "ER_CANT_CREATE_TABLE", "ALTER TABLE k ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES p (id)", CHILD),
    y(3822, "ER_CHECK_CONSTRAINT_DUP_NAME", "ALTER TABLE k ADD CONSTRAINT positive CHECK (n > 1)", CHECKED),
    m(1826, "ER_DUP_CONSTRAINT_NAME", "ALTER TABLE k ADD CONSTRAINT positive CHECK (n > 1)", CHECKED),
    # the data
    *both(1062, "ER_DUP_ENTRY", "INSERT INTO a VALUES (1, 1)", TABLE),
    *both(1366, "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD", "INSERT INTO a VALUES ('x', 1)", TABLE),
    y(3819, "ER_CHECK_CONSTRAINT_VIOLATED", "INSERT INTO k VALUES (0)", CHECKED), m(4025, "ER_CONSTRAINT_FAILED", "INSERT INTO k VALUES (0)", CHECKED),
    *both(1451, "ER_ROW_IS_REFERENCED_2", "DELETE FROM p", CHILD + "INSERT INTO p VALUES (1); INSERT INTO k VALUES (1)"),
    *both(1452, "ER_NO_REFERENCED_ROW_2", "INSERT INTO k VALUES (7)", CHILD),
    y(3730, "ER_FK_CANNOT_DROP_PARENT", "DROP TABLE p", CHILD), m(1451, "ER_ROW_IS_REFERENCED_2", "DROP TABLE p", CHILD),
    *both(1364, "ER_NO_DEFAULT_FOR_FIELD", "INSERT INTO a (n) VALUES (1)", TABLE),
    *both(1406, "ER_DATA_TOO_LONG", "INSERT INTO s VALUES ('abc')", "CREATE TABLE s (t CHAR(1))"),
    y(3140, "ER_INVALID_JSON_TEXT", "INSERT INTO j VALUES ('{')", "CREATE TABLE j (t JSON)"),
    m(4025, "ER_CONSTRAINT_FAILED", "INSERT INTO j VALUES ('{')", "CREATE TABLE j (t JSON)"),
    # not possible as written
    *both(1846, "ER_ALTER_OPERATION_NOT_SUPPORTED_REASON", "ALTER TABLE a MODIFY n CHAR(9), ALGORITHM=INPLACE", TABLE),
    y(1845, "ER_ALTER_OPERATION_NOT_SUPPORTED", "ALTER TABLE a ADD KEY x (n), ALGORITHM=INSTANT", TABLE), m(1845, "ER_ALTER_OPERATION_NOT_SUPPORTED"),
    *both(1067, "ER_INVALID_DEFAULT", "CREATE TABLE x (n INT DEFAULT 'a')"), *both(1072, "ER_KEY_COLUMN_DOES_NOT_EXITS", "CREATE INDEX x ON a (x)", TABLE),
    y(1101, "ER_BLOB_CANT_HAVE_DEFAULT", "CREATE TABLE x (t TEXT DEFAULT 'a')"), m(1101, "ER_BLOB_CANT_HAVE_DEFAULT"),
    y(1221, "ER_WRONG_USAGE", "ALTER TABLE a ADD COLUMN x INT, ALGORITHM=INSTANT, LOCK=NONE", TABLE),
    *both(1273, "ER_UNKNOWN_COLLATION", "CREATE TABLE x (t TEXT COLLATE utf8mb4_no_such_ci)"),
    y(1295, "ER_UNSUPPORTED_PS", "PREPARE x FROM 'LOCK TABLES a WRITE'", TABLE), m(1295, "ER_UNSUPPORTED_PS"),
    *both(1290, "ER_OPTION_PREVENTS_STATEMENT"), *both(3098, "ER_BEFORE_DML_VALIDATION_ERROR"), *both(1007, "ER_DB_CREATE_EXISTS"),
    y(1418, "ER_BINLOG_UNSAFE_ROUTINE", "CREATE FUNCTION x() RETURNS INT RETURN 1"), m(1418, "ER_BINLOG_UNSAFE_ROUTINE"),
    # rights
    *both(1142, "ER_TABLEACCESS_DENIED_ERROR", "DELETE FROM mysql.user"), *both(1143, "ER_COLUMNACCESS_DENIED_ERROR"),
    *both(1044, "ER_DBACCESS_DENIED_ERROR", "CREATE DATABASE x"), *both(1227, "ER_SPECIFIC_ACCESS_DENIED_ERROR", "CREATE USER x"),
    *both(1370, "ER_PROCACCESS_DENIED_ERROR", "CALL sys.ps_setup_enable_thread(1)"),
    y(1419, "ER_BINLOG_CREATE_ROUTINE_NEED_SUPER", "CREATE TRIGGER x BEFORE INSERT ON a FOR EACH ROW SET NEW.n = 1", TABLE),
    m(1419, "ER_BINLOG_CREATE_ROUTINE_NEED_SUPER"),
    # ClickHouse: wrong text, or an object is missing
    c(62, "SYNTAX_ERROR", "CREAT TABLE d.x (n Int8)"), c(46, "UNKNOWN_FUNCTION", "CREATE VIEW d.x AS SELECT no_such(1)"),
    c(47, "UNKNOWN_IDENTIFIER", "CREATE VIEW d.x AS SELECT nothing FROM d.a", MERGETREE), c(48, "NOT_IMPLEMENTED", "BEGIN TRANSACTION"),
    c(50, "UNKNOWN_TYPE", "CREATE TABLE d.x (n Nothing1) ENGINE = Memory"), c(56, "UNKNOWN_STORAGE", "CREATE TABLE d.x (n Int8) ENGINE = Nothing1"),
    c(115, "UNKNOWN_SETTING", "SET nothing = 1"), c(36, "BAD_ARGUMENTS", "ALTER TABLE d.a DROP INDEX x", MERGETREE),
    c(60, "UNKNOWN_TABLE", "DROP TABLE d.x"), c(81, "UNKNOWN_DATABASE", "CREATE TABLE nowhere.x (n Int8) ENGINE = Memory"),
    c(10, "NOT_FOUND_COLUMN_IN_BLOCK", "ALTER TABLE d.a DROP COLUMN x", MERGETREE),
    c(8, "THERE_IS_NO_COLUMN", "CREATE MATERIALIZED VIEW d.x TO d.a AS SELECT 1 AS nothing FROM d.a", MERGETREE),
    c(16, "NO_SUCH_COLUMN_IN_TABLE", "INSERT INTO d.a (x) VALUES (1)", MERGETREE), c(701, "CLUSTER_DOESNT_EXIST"),
    c(344, "SUPPORT_IS_DISABLED"), c(774, "TABLE_IS_PERMANENTLY_READ_ONLY"), c(359, "TABLE_SIZE_EXCEEDS_MAX_DROP_SIZE_LIMIT"),
    # there already
    c(57, "TABLE_ALREADY_EXISTS", "CREATE TABLE d.a (n Int8) ENGINE = Memory", MERGETREE), c(82, "DATABASE_ALREADY_EXISTS", "CREATE DATABASE d"),
    c(15, "DUPLICATE_COLUMN", "ALTER TABLE d.a ADD COLUMN n Int8", MERGETREE), c(44, "ILLEGAL_COLUMN", "ALTER TABLE d.a ADD INDEX i n TYPE minmax", MERGETREE),
    # the data: what stayed of it, the next run asks
    c(6, "CANNOT_PARSE_TEXT", "INSERT INTO d.a SELECT toInt8('x'), ''", MERGETREE), c(38, "CANNOT_PARSE_DATE", "SELECT toDate(materialize('x'))"),
    c(53, "TYPE_MISMATCH"), c(349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN"),
    c(395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", "INSERT INTO d.a SELECT throwIf(1), ''", MERGETREE),
    c(469, "VIOLATED_CONSTRAINT", "INSERT INTO d.k SELECT 0", "CREATE TABLE d.k (n Int8, CONSTRAINT c CHECK n > 0) ENGINE = Memory"),
    # not possible as written
    c(524, "ALTER_OF_COLUMN_IS_FORBIDDEN", "ALTER TABLE d.a DROP COLUMN k", MERGETREE), c(630, "HAVE_DEPENDENT_OBJECTS"),
    # rights
    c(497, "ACCESS_DENIED", "CREATE USER x"),
    c(392, "QUERY_IS_PROHIBITED", "DROP TABLE d.a ON CLUSTER x", MERGETREE),
    *(c(*row) for row in [(164, "READONLY"), (514, "ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND"), (291, "DATABASE_ACCESS_DENIED"), (446, "FUNCTION_NOT_ALLOWED"),
                          (452, "SETTING_CONSTRAINT_VIOLATION"), (472, "READONLY_SETTING")]),
]  # fmt: skip
# At login. What may still come is waited for; the rest ends the wait at once, with 2.
NOT_YET = {1040: "ER_CON_COUNT_ERROR", 1053: "ER_SERVER_SHUTDOWN", 1203: "ER_TOO_MANY_USER_CONNECTIONS",
           1226: "ER_USER_LIMIT_REACHED", 2002: "CR_CONNECTION_ERROR", 2003: "CR_CONN_HOST_ERROR", 2005: "CR_UNKNOWN_HOST",
           2006: "CR_SERVER_GONE_ERROR", 2013: "CR_SERVER_LOST", 2055: "CR_SERVER_LOST_EXTENDED", 3024: "the driver's timeout",
           3032: "ER_SERVER_OFFLINE_MODE"}  # fmt: skip
LOGIN: dict[str, dict[int, str]] = {
    "clickhouse": {192: "UNKNOWN_USER", 193: "WRONG_PASSWORD", 194: "REQUIRED_PASSWORD", 195: "IP_ADDRESS_NOT_ALLOWED",
                   516: "AUTHENTICATION_FAILED"},
    "mysql": {1044: "ER_DBACCESS_DENIED_ERROR", 1045: "ER_ACCESS_DENIED_ERROR", 1130: "ER_HOST_NOT_PRIVILEGED",
              1251: "ER_NOT_SUPPORTED_AUTH_MODE", 1524: "ER_PLUGIN_IS_NOT_LOADED", 1698: "ER_ACCESS_DENIED_NO_PASSWORD_ERROR",
              1820: "ER_MUST_CHANGE_PASSWORD", 1862: "ER_MUST_CHANGE_PASSWORD_LOGIN",
              2059: "CR_AUTH_PLUGIN_CANNOT_LOAD", 2061: "CR_AUTH_PLUGIN_ERR", 3118: "ER_ACCOUNT_HAS_BEEN_LOCKED",
              3159: "ER_SECURE_TRANSPORT_REQUIRED", 4151: "ER_ACCOUNT_HAS_BEEN_LOCKED of MariaDB"},
}  # fmt: skip


PROFILE = {158: "TOO_MANY_ROWS", 160: "TOO_SLOW", 161: "TOO_MANY_COLUMNS", 165: "TOO_MANY_TEMPORARY_COLUMNS",
           166: "TOO_MANY_TEMPORARY_NON_CONST_COLUMNS", 277: "INDEX_NOT_USED", 307: "TOO_MANY_BYTES", 396: "TOO_MANY_ROWS_OR_BYTES",
           704: "QUERY_CACHE_USED_WITH_NONDETERMINISTIC_FUNCTIONS", 719: "QUERY_CACHE_USED_WITH_SYSTEM_TABLE"}  # fmt: skip


def test_each_code_of_the_program_has_a_row() -> None:
    """And the other way round: whoever changes a class has to think about it here."""
    refused = {dialect: {row.code for of, row in REFUSED if of == dialect} for dialect in DIALECTS}

    assert TRANSIENT["clickhouse"].keys() == clickhouse.TRANSIENT
    assert LOST["clickhouse"].keys() == clickhouse.LOST
    assert {*clickhouse.DENIED, *clickhouse.CHECKED} <= refused["clickhouse"]
    assert (LOGIN["clickhouse"].keys(), PROFILE.keys()) == (clickhouse.LOGIN, clickhouse.PROFILE)
    assert {dialect: (TRANSIENT[dialect].keys(), LOST[dialect].keys(), CUT_SHORT[dialect].keys())
                           for dialect in ("mysql", "mariadb")} == mysql.CODES  # fmt: skip
    assert refused["mysql"] & refused["mariadb"] >= mysql.DENIED
    assert (NOT_YET.keys(), LOGIN["mysql"].keys()) == (mysql_connection.NOT_YET, mysql_connection.LOGIN)
    for dialect in DIALECTS:
        kinds = [TRANSIENT[dialect].keys(), LOST[dialect].keys(), CUT_SHORT[dialect].keys(), refused[dialect]]
        assert len(set().union(*kinds)) == sum(map(len, kinds)), "a code is in two classes"


class Bench:
    """One server with a table `seen` in which each statement leaves a trace, and a steps directory of its own."""

    def __init__(self, server: ClickHouseServer | MySQLServer, name: str, steps: Steps) -> None:
        self.server, self.name, self.steps, self.dialect = server, name, steps, server.dialect
        self.is_clickhouse = isinstance(server, ClickHouseServer)
        self.target = "clickhouse" if self.is_clickhouse else "mysql"
        # Where a statement begins in its packet; MySQL's has a count of attributes before it.
        self.prefix = {"clickhouse": b"\r\n\r\n", "mysql": b"\x03\x00\x01", "mariadb": b"\x03"}[self.dialect]
        if isinstance(server, MySQLServer):
            server.connect(user=server.user, password=server.password).close()  # over TLS, so that others need none
        self.query("CREATE DATABASE d") if self.is_clickhouse else None
        self.query("CREATE TABLE " + ("d.seen (n Int32) ENGINE = MergeTree ORDER BY n" if self.is_clickhouse else "seen (n INT)"))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.query(sql) if isinstance(self.server, ClickHouseServer) else self.server.query(sql, self.name)

    def write(self, *statements: str) -> None:
        self.steps.add({f"0001_a.{self.target}.sql": ";\n".join(statements)})

    def insert(self, code: int) -> str:
        return f"INSERT INTO {'d.' * self.is_clickhouse}seen (n) VALUES ({code})"

    def alter(self, code: int) -> str:
        return f"ALTER TABLE {'d.' * self.is_clickhouse}seen ADD COLUMN c{abs(code)} {'Int32' if self.is_clickhouse else 'INT'}"

    def error(self, code: int, name: str = "said the proxy") -> bytes:
        if code == -1:
            return b"\x01\x00\x00\x01\x00"  # the beginning of an OK
        return http_error(500, code, name) if self.is_clickhouse else mysql_error(code, name)

    def fault(self, statement: str, code: int, **how: Any) -> Fault:
        return Fault(self.prefix + statement.encode(), self.error(code), **how)

    def url(self, port: int | None = None) -> str:
        if isinstance(self.server, ClickHouseServer):
            url = self.server.url(user=WATCHFUL.name)  # who learns the end of INSERTs whose replies are lost
        else:
            url = self.server.url(self.name, ssl_mode="DISABLED")
        return url.replace(f"{HOST}:{self.server.port}", f"{HOST}:{port or self.server.port}")

    def start(self, port: int | None = None, constants: dict[str, float] | None = None, **environ: str) -> Run:
        """A run on the server, or through the proxy at this port."""
        return Run(self.steps.environ | {"MIGRATE_LOG_FORMAT": "json", f"{self.target.upper()}_URL": self.url(port)} | environ,
                   "--target", self.target, constants=constants or QUICK)  # fmt: skip

    def run(self, port: int | None = None, constants: dict[str, float] | None = None, **environ: str) -> Run:
        run = self.start(port, constants, **environ)
        run.wait()
        return run

    def rows(self) -> list[int]:
        return sorted(n for (n,) in self.query(f"SELECT n FROM {'d.' * self.is_clickhouse}seen"))

    def columns(self) -> list[str]:
        found = self.query("DESCRIBE TABLE d.seen" if self.is_clickhouse else "DESCRIBE seen")
        return [str(column[0]) for column in found][1:]


@pytest.fixture(params=DIALECTS)
def bench(request: pytest.FixtureRequest, steps: Steps) -> Iterator[Bench]:
    if request.param == "clickhouse":
        yield Bench(request.getfixturevalue("fresh_clickhouse"), "", steps)
        return
    server = request.getfixturevalue("mysql_servers")(request.param).start()
    name = f"errors_{os.getpid()}"
    server.create_database(name)
    server.grant(name, "EXECUTE", "INDEX", "TRIGGER", "EVENT")  # for all that a server can refuse
    yield Bench(server, name, steps)
    server.drop_database(name)


def only(*dialects: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", dialects, indirect=True)


# Transient.


def test_what_the_server_had_no_room_for_is_sent_again(bench: Bench) -> None:
    """Each code, of DDL and of an INSERT; each took effect once, and the log says why it took longer."""
    codes = [*TRANSIENT[bench.dialect]][:: 1 if FULL or not bench.is_clickhouse else 4]
    statements = {bench.alter(code): code for code in codes} | {bench.insert(code): code for code in codes}
    faults = [bench.fault(statement, code) for statement, code in statements.items()]
    if bench.is_clickhouse:  # a gateway, which has no code
        statements |= {bench.insert(status): status for status in (429, 503)}
        faults += [Fault(bench.prefix + bench.insert(status).encode(), http_error(status)) for status in (429, 503)]
    bench.write(*statements)
    with Proxy(bench.server.port, bench.server.scheme, faults=faults) as proxy:
        run = bench.run(proxy.port)

    assert run.process.exitcode == 0, run.text
    assert [fault.arrived for fault in faults] == [2] * len(faults)
    assert bench.columns() == [f"c{code}" for code in codes]
    assert bench.rows() == sorted(code for statement, code in statements.items() if statement.startswith("INSERT"))
    reasons = [line["reason"] for line in run.lines if line["event"] == "waiting"]
    assert len(reasons) == len(faults)
    assert all(any(re.search(rf"\b{code}\b", reason) for reason in reasons) for code in statements.values())


def test_but_not_for_ever(bench: Bench) -> None:
    """The limit is the program's, here a shorter one; then 6 with the server's own words, and the next run goes on."""
    code = 202 if bench.is_clickhouse else 1205
    for statement in (bench.alter(code), bench.insert(code)) if FULL else (bench.insert(code),):
        bench.write(statement)
        fault = bench.fault(statement, code, times=1000)
        with Proxy(bench.server.port, bench.server.scheme, faults=[fault]) as proxy:
            run = bench.run(proxy.port, IMPATIENT)
        assert (run.process.exitcode, fault.arrived > 3) == (6, True), run.text
        assert re.search(rf"\b{code}\b.*said the proxy|said the proxy.*\b{code}\b", run.report["error"])
        assert bench.run().process.exitcode == 0
        bench.query(f"DROP TABLE IF EXISTS {'migrate.' * bench.is_clickhouse}schema_migrations")
    assert (bench.columns(), bench.rows()) == ([f"c{code}"] * FULL, [code])


@only("clickhouse")
def test_nothing_is_sent_again_when_the_lock_is_lost_meanwhile(bench: Bench) -> None:
    """Somebody else has it by now; for half a second it is taken to be ours, after that it is asked for before each time."""
    bench.write(bench.alter(202))
    fault = bench.fault(bench.alter(202), 202, times=1000)
    with Proxy(bench.server.port, "http", faults=[fault]) as proxy:
        run = bench.start(proxy.port, {"migrator.databases.clickhouse.PAUSE_SECONDS": 0.3})
        deadline = time.monotonic() + 20
        while not fault.arrived:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        bench.query("DROP TABLE migrate.schema_migrations_lock SYNC")
        bench.query(LOCK)
        arrived = fault.arrived
        assert run.wait(10) == 3, run.text
    assert "lock was lost" in run.report["error"]
    assert fault.arrived - arrived <= 2
    assert bench.columns() == []


# Unknown.


def test_what_nobody_knows_the_end_of_is_looked_up_by_the_next_run(bench: Bench) -> None:
    """One statement for each code; each run ends at the next of them. Every other one was carried out before its reply was
    lost: that one never goes out again, the others do, once. In full, each code both ways, as DDL and as an INSERT."""
    codes = [*LOST[bench.dialect], *CUT_SHORT[bench.dialect]][:: 1 if FULL else {"clickhouse": 5, "mysql": 2, "mariadb": 4}[bench.dialect]]
    faults: list[tuple[int, int, str, Fault]] = []
    for number, code in enumerate(codes):
        for way, make in enumerate((bench.alter, bench.insert) if FULL or number % 4 == 0 else (bench.alter,)):
            for done in (False, True) if FULL else (bool((number + way) % 2),):
                value = abs(code) + 10_000 * done
                faults.append((code, value, make(value), bench.fault(make(value), code, carried_out=done)))
    bench.write(*(statement for _, _, statement, _ in faults))
    with Proxy(bench.server.port, bench.server.scheme, faults=[fault for *_, fault in faults]) as proxy:
        for code, _, statement, _ in faults:
            run = bench.run(proxy.port)
            assert run.process.exitcode == (3 if code in LOST[bench.dialect] else 6), (statement, run.text)
            assert code == -1 or re.search(rf"\b{code}\b", run.report["error"])
            assert "\n" not in run.report["error"]
        assert bench.run(proxy.port).process.exitcode == 0

    for code, _, statement, fault in faults:
        takes_back = not bench.is_clickhouse and statement.startswith("INSERT")  # with its transaction
        assert (code, fault.arrived) == (code, 1 if fault.carried_out and not takes_back else 2)
    assert bench.rows() == sorted(value for _, value, text, _ in faults if text.startswith("INSERT"))
    assert bench.columns() == [f"c{value}" for _, value, text, _ in faults if text.startswith("ALTER")]
    FIGURES.append(f"replies lost: {bench.dialect:10} {len(codes):3} codes {len(faults):3} statements, each took effect once")


@only("mysql", "mariadb")
def test_a_view_that_the_user_may_not_read_is_altered_by_the_next_run(bench: Bench) -> None:
    """Without SHOW VIEW a server says no more of it than who may not look at it from where, which differs from run to run."""
    altered = "ALTER VIEW v AS SELECT 2 AS n"
    bench.write("CREATE VIEW v AS SELECT 1 AS n", altered)
    with Proxy(bench.server.port, bench.server.scheme, faults=[bench.fault(altered, -1)]) as proxy:
        lost = bench.run(proxy.port)
    again = bench.run()

    assert (lost.process.exitcode, again.process.exitcode) == (3, 0), lost.text + again.text
    assert bench.query("SELECT n FROM v") == [(2,)]


# Permanent.


def test_what_a_server_refuses_for_good_ends_the_run_at_once(bench: Bench) -> None:
    """With 6 and one line: the server's own code and message, behind file and line. It was sent once, and not waited for."""
    rows = [row for dialect, row in REFUSED if dialect == bench.dialect]
    tried, wrong = rows if FULL else rows[:: 8 if bench.is_clickhouse else 5], []
    for row in tried:
        clear(bench)
        for statement in row.before.split("; ") if row.before else ():
            bench.query(statement)
        statement = row.statement or f"CREATE TABLE {'d.' * bench.is_clickhouse}never (n INT)"
        bench.write(statement)
        fault = Fault(bench.prefix + statement.encode(), bench.error(row.code, row.name), times=not row.statement)
        with Proxy(bench.server.port, bench.server.scheme, faults=[fault]) as proxy:
            run = bench.run(proxy.port)
        message = "" if row.statement else row.name
        said = rf"Code: {row.code}\. DB::Exception: .*{message}" if bench.is_clickhouse else rf".*{message} \({row.code}\)$"
        line = rf"0001_a\.{bench.target}\.sql:1: statement \d of \d was refused: ({bench.target} at {HOST}:\d+: )?{said}"
        waited = [line for line in run.lines if line["event"] == "waiting"]
        if (run.process.exitcode, fault.arrived, waited) != (6, 1, []) or not re.match(line, run.report["error"]):
            wrong.append((row, run.process.exitcode, fault.arrived, run.report.get("error")))
    assert wrong == []
    FIGURES.append(f"refused: {bench.dialect:10} {len(tried):3} of {len(rows)} codes, each in one line")


def clear(bench: Bench) -> None:
    """The database as at the beginning, without a ledger."""
    if isinstance(bench.server, ClickHouseServer):
        bench.server.clean()
        bench.query("CREATE DATABASE d")
    else:
        bench.server.drop_database(bench.name)
        bench.server.create_database(bench.name)


# The servers themselves, where they can be made to say it.


@dataclass(frozen=True)
class Live:
    """A statement, and what others do to it: `before` it is sent, `beside` it, while it is `running`, and while the run
    says that it waits. `exits` is how the run ends then, and `again` how the next one does, whom nobody disturbs.
    """

    dialects: str
    code: int
    exits: int
    statement: str
    before: tuple[str, ...] = ()
    beside: str = ""
    running: str = ""
    waiting: str = ""
    again: int = 0
    rows: tuple[int, ...] = ()
    full: bool = True


SLOW = {"clickhouse": "INSERT INTO d.seen SELECT 7 + sleepEachRow(1.5)",
        "mysql": "INSERT INTO seen (n) SELECT 7 + SUM(SLEEP(0.01)) FROM (SELECT 1 FROM information_schema.columns LIMIT 150) c"}
RUNNING = {"clickhouse": "SELECT 1 FROM system.processes WHERE query LIKE 'INSERT INTO d.seen%'",
           "mysql": "SELECT id FROM information_schema.processlist WHERE user = 'migrate' AND info LIKE 'INSERT INTO seen%'"}
TABLE_OF = "CREATE TABLE d.t (n Int8) ENGINE = MergeTree ORDER BY tuple() SETTINGS {}"
LIVE = [
    Live("clickhouse", 202, 0, "INSERT INTO d.seen SELECT 7 SETTINGS max_concurrent_queries_for_user = 1", rows=(7,),
         beside="SELECT sleepEachRow(1) FROM numbers(2) SETTINGS max_block_size = 1"),
    Live("clickhouse", 692, 0, "ALTER TABLE d.t UPDATE n = n + 1 WHERE 1", (
        TABLE_OF.format("number_of_mutations_to_throw = 1"), "INSERT INTO d.t VALUES (1)", "SYSTEM STOP MERGES d.t",
        "ALTER TABLE d.t UPDATE n = n + 1 WHERE 1 SETTINGS mutations_sync = 0"), waiting="SYSTEM START MERGES d.t", full=False),
    Live("clickhouse", 225, 6, "CREATE TABLE d.r (n Int8) ENGINE = ReplicatedMergeTree('/r', 'r') ORDER BY n", again=6),
    Live("clickhouse", 252, 6, "INSERT INTO d.t VALUES (2)", (
        TABLE_OF.format("parts_to_throw_insert = 1"), "SYSTEM STOP MERGES d.t", "INSERT INTO d.t VALUES (1)"), again=6),
    Live("clickhouse", 159, 3, "INSERT INTO d.seen SELECT sleepEachRow(0.1) FROM numbers(9) SETTINGS max_execution_time = 0.2", again=3),
    Live("clickhouse", 241, 6, "INSERT INTO d.seen SELECT number FROM numbers(1e8) SETTINGS max_memory_usage = 1000000", again=6),
    Live("clickhouse", 341, 6, "ALTER TABLE d.t UPDATE n = throwIf(1) WHERE 1", (
        TABLE_OF.format("old_parts_lifetime = 1"), "INSERT INTO d.t VALUES (1)"), again=2),
    Live("clickhouse", 394, 6, SLOW["clickhouse"], running="KILL QUERY WHERE query LIKE 'INSERT INTO d.seen%' ASYNC", rows=(7,)),
    Live("mysql mariadb", 1317, 6, SLOW["mysql"], running="KILL QUERY {}", rows=(7,)),
    Live("mysql mariadb", 2013, 3, SLOW["mysql"], running="KILL {}", rows=(7,)),
    Live("mysql", 2013, 3, SLOW["mysql"], running="SET GLOBAL offline_mode = ON", rows=(7,)),
    Live("mysql", 3024, 6, "SELECT /*+ MAX_EXECUTION_TIME(50) */ COUNT(*) FROM information_schema.columns a, information_schema.columns b", again=6),
    Live("mariadb", 1969, 6, "SET STATEMENT max_statement_time = 0.1 FOR INSERT INTO seen (n) SELECT SLEEP(5)", again=6),
    Live("mysql mariadb", 1290, 3, SLOW["mysql"] + "; INSERT INTO seen (n) VALUES (8)", running="SET GLOBAL read_only = 1", rows=(7, 8)),
    Live("mysql", 3572, 0, "INSERT INTO seen (n) SELECT n FROM one FOR UPDATE NOWAIT", (
        "CREATE TABLE one (n INT PRIMARY KEY)", "INSERT INTO one VALUES (7)"), beside="SELECT n + SLEEP(1) FROM one FOR UPDATE", rows=(7,), full=False),
]  # fmt: skip


@pytest.mark.parametrize(("bench", "live"), [
    pytest.param(dialect, live, id=f"{dialect}-{live.code}-{number}", marks=[pytest.mark.full] * live.full)
    for number, live in enumerate(LIVE) for dialect in live.dialects.split()], indirect=["bench"])  # fmt: skip
def test_what_a_server_really_says(bench: Bench, live: Live) -> None:
    """The class holds for the real thing, on a plain connection; and the next run ends as it should, each row there once."""
    for statement in live.before:
        bench.query(statement)
    bench.write(live.statement)
    beside = threading.Thread(target=lambda: live.beside and bench.query(live.beside))
    beside.start()
    time.sleep(0.3 if live.beside else 0)
    try:
        run = bench.start(constants=IMPATIENT if live.code == 225 else QUICK)
        if live.running:
            while not (found := bench.query(RUNNING[bench.target])):
                time.sleep(0.02)
            time.sleep(0.1)
            bench.query(live.running.format(*found[0]))
        while live.waiting and f"{live.code}. DB::Exception" not in run.log:
            time.sleep(0.02)
        bench.query(live.waiting or "SELECT 1")
        code = run.wait(30)
    finally:
        beside.join()
        if not bench.is_clickhouse:
            bench.query("SET GLOBAL read_only = 0" + "; SET GLOBAL offline_mode = OFF" * (bench.dialect == "mysql"))
    said = run.report["error"] if live.exits else " ".join(line["reason"] for line in run.lines if line["event"] == "waiting")

    assert (code, bool(re.search(rf"\b{live.code}\b", said))) == (live.exits, True), run.text
    assert (bench.run(constants=IMPATIENT).process.exitcode, bench.rows()) == (live.again, [*live.rows])


@only("mysql", "mariadb")
def test_a_server_that_takes_no_writes_is_refused_before_the_first(bench: Bench) -> None:
    """A replica, or a primary of yesterday."""
    bench.write(bench.insert(1))
    bench.query("SET GLOBAL read_only = 1")
    try:
        run = bench.run()
    finally:
        bench.query("SET GLOBAL read_only = 0")

    assert run.process.exitcode == 2
    assert "takes no writes: " in run.report["error"] and "(1290)" in run.report["error"]
    assert bench.query("SHOW TABLES") == [("seen",)]


# At login.


@one_dialect
def test_what_may_still_come_is_waited_for(fresh_mysql: Database, steps: Steps) -> None:
    """A server that greets with one code after the other; when it is up, the run goes on."""
    bench = Bench(fresh_mysql.server, fresh_mysql.name, steps)
    bench.write(bench.insert(1))
    greetings = [mysql_error(code, name, number=0) for code, name in NOT_YET.items()]
    with Proxy(bench.server.port, "mysql", greetings=greetings) as proxy:
        run = bench.run(proxy.port, {"migrator.databases.LONGEST_PAUSE": 0.05})

    assert run.process.exitcode == 0, run.text
    reasons = [line["reason"] for line in run.lines if line["event"] == "waiting"]
    assert [f"({code})" in reason for code, reason in zip(NOT_YET, reasons, strict=True)] == [True] * len(NOT_YET)
    assert bench.rows() == [1]


def test_what_waiting_does_not_help_ends_the_wait(fresh_clickhouse: ClickHouseServer, steps: Steps) -> None:
    """After one try, for more could lock the account: exit 2, one line, the server's own code and message."""
    steps.write(n0001_a__mysql__sql="SELECT 1", n0002_b__clickhouse__sql="SELECT 1")
    with ExitStack() as stack:
        cases: list[tuple[str, str, int, str, Callable[[], int]]] = []
        for code, name in LOGIN["mysql"].items():
            refusing = asking("mysql_native_password", b"\xff" + code.to_bytes(2, "little") + b"#28000" + name.encode())
            port, seen = stack.enter_context(serving(refusing))
            cases.append(("mysql", f"mysql://u:k4narie-login@{HOST}:{port}/d", code, name, lambda seen=seen: len(seen)))
        for code, name in (LOGIN["clickhouse"] | PROFILE).items():
            fault = Fault(b"SELECT version()", http_error(403, code, name))
            proxy = stack.enter_context(Proxy(fresh_clickhouse.port, "http", faults=[fault]))
            url = fresh_clickhouse.url().replace(f":{fresh_clickhouse.port}", f":{proxy.port}")
            cases.append(("clickhouse", url, code, name, lambda fault=fault: fault.arrived))
        for target, url, code, name, tries in cases:
            run = Run(steps.environ | {"MIGRATE_LOG_FORMAT": "json", f"{target.upper()}_URL": url}, "--target", target)
            assert run.wait(10) == 2, (name, run.text)
            said = ": the profile of user migrate does not even let it connect: " if code in PROFILE else r" refused user (u|migrate): "
            assert re.match(rf"{target} at {HOST}:\d+{said}", run.report["error"])
            assert name in run.report["error"] and re.search(rf"\b{code}\b", run.report["error"]) and "\n" not in run.report["error"]
            assert (tries(), [line for line in run.lines if line["event"] == "waiting"]) == (1, []), name
