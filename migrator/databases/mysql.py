"""MySQL and MariaDB: the one place where a statement is sent, the ledger, the journal and the lock."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, ClassVar, NamedTuple

import mysql.connector

from migrator.catalogs import Attributes, Catalog, Object, mysql as catalogs
from migrator.converge import Change
from migrator.databases import KEPT, Identity, NotYet, Rows, mysql_probe as probe
from migrator.databases.mysql_connection import Connection, message, open_connection, refused_at_login
from migrator.errors import AccessDenied, Forbidden, LostConnection, StatementRefused, WrongServer
from migrator.journal import DDL, Answer, Entry, into
from migrator.kinds import Kind, Name
from migrator.ledger import Applied
from migrator.settings import Address, Settings

quote = catalogs.quote
# MariaDB before 10.8 ignores DESC in an index, before 10.10 gives TIMESTAMP columns defaults of its own.
OLDEST = {"mysql": (8, 0, 29), "mariadb": (10, 11, 0)}
SQL_MODE = ("ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
            "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION")
# What a server's defaults may say otherwise: that rows are left out, statements cut short, connections ended, or checks not made.
NEUTRAL = ("sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0, sql_auto_is_null = 0,"
           " completion_type = 'NO_CHAIN'")
NEUTRAL_HERE = {"mysql": "max_execution_time = 0, transaction_isolation = 'REPEATABLE-READ'",
                "mariadb": "max_statement_time = 0, tx_isolation = 'REPEATABLE-READ', check_constraint_checks = 1,"
                           " sql_if_exists = 0"}
METADATA_LOCK_SECONDS = 5  # a waiting ALTER blocks every new reader of the table: wait briefly, then try again
DDL_PATIENCE_SECONDS = 60  # for a lock held by somebody's open transaction, in all
PAUSE_SECONDS = 0.5
SURE_SECONDS = 0.25  # between two questions whose the lock is, while nothing could have freed it
GIVE_UP_SECONDS = 2  # for the connection that ends another one
OWNER = -1  # no step's number: who took the lock last is in the journal, for no plain user may ask the server whose a lock is

# What an error code says: of a right, of a server that takes no writes; CODES: of a statement.
DENIED = {1142, 1143, 1044, 1227, 1370, 1419}
DEADLOCK = 1213  # takes the whole transaction back
READ_ONLY = {1290, 1836}


class Codes(NamedTuple):
    """What a code says of a statement, in a table for each dialect: from 1900 on the same number means two things."""

    transient: Set[int]  # nothing of it was done, and in a moment it may be
    lost: Set[int]  # nobody knows: the connection is gone, or its answers cannot be trusted
    cut_short: Set[int]  # in the middle, or while committing


_LOST = {2006, 2013, 2055, 2045, 2014, 2027, 1053, -1, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184}
CODES = {"mysql": Codes({1205, DEADLOCK, 3572, 3058}, _LOST | {3032, 3169, 4031}, {1317, 1180, 3024, 3101}),
         "mariadb": Codes({1205, DEADLOCK}, _LOST | {1927}, {1317, 1180, 1969})}
# One transaction with their journal row: they commit nothing by themselves.
ATOMIC = ("INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "WITH", "LOAD", "DO", "TABLE", "VALUES")
FREES_NO_LOCK = re.compile(rf"(?i)\s*({'|'.join(DDL)})\b")
PROGRAMS = ("CALL", "EXECUTE", "BEGIN", "SET", "XA")  # may have done something, and committed it, before they fail
# PREPARE got past the parser: not to be prepared, or an object is missing that an earlier step may still create.
PARSED = {1295, 1792, 1146, 1054, 1305, 1049, 1091, 1360, 1539, 1051, 4092, 1176, 1356, 1461}
# How far an ALTER is: MariaDB tells whoever runs it; MySQL who may read performance_schema, where its server keeps that.
HOW_FAR = {
    "mariadb": "SELECT progress, 100, state FROM information_schema.processlist WHERE max_stage AND id = {0}",
    "mysql": "SELECT work_completed, work_estimated, SUBSTRING_INDEX(event_name, '/', -1) FROM performance_schema.threads"
             " JOIN performance_schema.events_stages_current USING (thread_id) WHERE work_estimated AND processlist_id = {0}",
}

# Each right, the kind of object that needs it (None: the ledger), and a statement that always fails: with one of DENIED
# where the right is missing, else because nothing has this name. So roles, wildcards and dialects stay the server's business.
PROBES = (
    ("SELECT", None, "SELECT 1 FROM {0}"), ("INSERT", None, "INSERT INTO {0} VALUES (1)"),
    ("UPDATE", None, "UPDATE {0} SET a = 1"), ("DELETE", None, "DELETE FROM {0}"),
    ("CREATE", None, "CREATE TABLE {0} (a INT, KEY (b))"), ("ALTER", "table", "ALTER TABLE {0} ADD COLUMN a INT"),
    ("DROP", "table", "DROP TABLE {0}"),
    ("REFERENCES", "foreign key", "CREATE TABLE {0} (FOREIGN KEY (b) REFERENCES {0} (a))"),
    ("CREATE VIEW", "view", "CREATE VIEW {0} AS SELECT b"),
    ("CREATE ROUTINE", "procedure", f"CREATE PROCEDURE {{0}}() COMMENT '{'x' * 70_000}' SELECT 1"),  # too long
    ("ALTER ROUTINE", "procedure", "DROP PROCEDURE {0}"),
)


def connect(address: Address, settings: Settings, identity: Identity, *, timeout: float, writes: bool) -> MySQL:
    """A connection on which a query was answered. Raises NotYet, AccessDenied or WrongServer."""
    try:
        connection = open_connection(address, timeout)
        database = MySQL(address, settings, identity, connection, writes=writes)
    except (AccessDenied, StatementRefused) as error:  # an account whose password is expired may log in, and nothing else
        raise AccessDenied(f"{address}: {error}") from None
    except WrongServer as error:
        raise WrongServer(f"{address} {error}") from None
    except LostConnection as error:
        raise NotYet(str(error)) from None
    except mysql.connector.Error as error:
        raise refused_at_login(error, address) from None
    except (OSError, UnicodeError) as error:
        raise NotYet(str(error)) from None
    except (IndexError, ValueError, KeyError, TypeError, AttributeError):
        raise WrongServer(f"{address} does not speak the MySQL protocol") from None
    numbers = tuple(int(n) for n in re.findall(r"\d+", database.version)[:3])
    if numbers < OLDEST[database.dialect]:
        oldest = ".".join(map(str, OLDEST[database.dialect]))
        raise WrongServer(f"{address} is {database.dialect} {database.version}; at least {oldest} is needed")
    return database


def _is_read_only(error: mysql.connector.Error) -> bool:
    """1290 is also about other options."""
    return error.errno in READ_ONLY and "read-only" in str(error)


class MySQL:
    """One MySQL or MariaDB server. See `migrator.databases.Database` for what each method promises."""

    target = "mysql"
    absent = probe.ABSENT
    leftover: Set[int] = frozenset()  # row and journal are one transaction

    def __init__(self, address: Address, settings: Settings, identity: Identity, connection: Connection, *,
                 writes: bool):
        self.address, self.settings, self.identity = address, settings, identity
        self._connection, self._writes = connection, writes
        self.encrypted = bool(connection._ssl_active)
        self.behind: Callable[[str], object] = lambda reason: None
        self.dialect = "mysql"  # until the server has said what it is
        self.version, self._id, explicit = self.query(
            "SELECT @@version, CONNECTION_ID(), @@explicit_defaults_for_timestamp")[0]
        self.dialect = "mariadb" if "mariadb" in self.version.lower() else "mysql"
        self._ledger = f"`{settings.ledger_table}`"
        self._journal = f"`{address.database}`.`{settings.ledger_table}_journal`"
        digest = hashlib.sha256(f"{address.database}.{settings.ledger_table}".encode()).hexdigest()[:32]
        self._lock, self._locked, self._sure_until = f"migrate_{digest}", False, 0.0
        self._journaled: set[int] = set()  # numbers of steps
        self._set_up()
        if not explicit:
            self._be_explicit()
        if not writes:
            self.query("SET SESSION TRANSACTION READ ONLY")

    @property
    def _codes(self) -> Codes:
        return CODES[self.dialect]

    def fresh_session(self) -> None:
        """As promised by the protocol. COM_RESET_CONNECTION would free the lock."""
        self.query("COMMIT")
        self.query("UNLOCK TABLES")
        self.query(f"USE `{self.address.database}`")
        self._set_up()

    def _set_up(self) -> None:
        self._tables_locked = False
        self.query("SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci,"
                   f" SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', autocommit = 1, foreign_key_checks = 1,"
                   f" unique_checks = 1, lock_wait_timeout = {METADATA_LOCK_SECONDS}, wait_timeout = 604800,"
                   f" {NEUTRAL}, {NEUTRAL_HERE[self.dialect]}")

    def _be_explicit(self) -> None:
        """Else a TIMESTAMP column gets a default, and NOT NULL, that its definition does not state."""
        try:
            self.query("SET SESSION explicit_defaults_for_timestamp = 1")
        except StatementRefused:
            raise WrongServer("has explicit_defaults_for_timestamp = OFF, so TIMESTAMP columns would not be what the steps"
                              " define, and this user may not change it: set it to ON on the server") from None

    def query(self, sql: str) -> Rows:
        try:
            return self._sent(sql)
        except mysql.connector.Error as error:
            raise self._ours(error) from None

    def execute(self, sql: str, label: str = "") -> None:
        """As promised by the protocol; behind somebody's lock it tries again, for a limited time, since nothing ran."""
        if not FREES_NO_LOCK.match(sql):
            self._sure_until = 0.0
        if re.match(r"(?i)LOCK\s+TABLES?\b", sql):
            sql += f", {self._journal} WRITE"  # nothing else can be used until UNLOCK TABLES
            self._tables_locked = True
        self._patiently(sql, lambda: self._sent(sql))

    def _patiently(self, sql: str, send: Callable[[], object], *, whole: bool = False) -> None:
        """`sql` is what may have to wait; `whole` says that where the server refuses this, nothing of it stays."""
        patience, alone = time.monotonic() + DDL_PATIENCE_SECONDS, self._connection.autocommits
        while True:
            try:
                send()
                return
            except mysql.connector.Error as error:
                lost_more = error.errno == DEADLOCK and not alone
                if error.errno not in self._codes.transient or lost_more or time.monotonic() > patience:
                    ours = self._ours(error)
                    if isinstance(ours, StatementRefused):
                        ours.checked = whole and error.errno not in self._codes.cut_short
                    raise ours from None
                self.behind(f"{message(error)}: {self._in_the_way(sql)}")
                time.sleep(PAUSE_SECONDS)

    def _in_the_way(self, sql: str) -> str:
        """The sessions that hold a lock on what the statement names; where we may not know, all that we may see."""
        locks = ("performance_schema.metadata_locks JOIN performance_schema.threads ON thread_id = owner_thread_id WHERE"
                 f" object_schema = DATABASE() AND lock_status = 'GRANTED' AND LOCATE(object_name, {quote(sql)})"
                 " AND processlist_id != CONNECTION_ID()")
        sessions = "information_schema.processlist WHERE db = DATABASE() AND id != CONNECTION_ID()"
        for prefix, source in (("processlist_", locks), ("", sessions)):
            try:
                found = self._sent(f"SELECT DISTINCT {', '.join(prefix + n for n in ('id', 'user', 'host', 'time'))}"
                                   f" FROM {source} ORDER BY 4 DESC LIMIT 5")
            except mysql.connector.Error:
                continue
            if found:
                return ", ".join(f"session {id} of {user}@{host}, at it for {seconds} s" for id, user, host, seconds in found)
        return "by a session that this user may not see"

    def _sent(self, sql: str) -> Rows:
        """The one place where a statement goes out. `cmd_query_iter` leaves the text alone and shows every result."""
        rows: Rows = []
        for result in self._connection.cmd_query_iter(sql):
            if "columns" in result:
                rows = [tuple(_text(value) for value in row) for row in self._connection.get_rows()[0]]
        return rows

    def _ours(self, error: mysql.connector.Error) -> Exception:
        if error.errno in self._codes.lost:
            return LostConnection(f"{self.address}: the connection was lost: {message(error)}")
        if error.errno in DENIED:
            return Forbidden(f"{self.address}: {message(error)}")
        if _is_read_only(error):
            return LostConnection(f"{self.address}: it takes no writes any more, as after a failover: {message(error)}")
        return StatementRefused(message(error))

    def how_far(self) -> tuple[int, int, str] | None:
        try:
            with contextlib.closing(open_connection(self.address, GIVE_UP_SECONDS)) as other:
                row: Any = other.info_query(HOW_FAR[self.dialect].format(self._id))
        except (mysql.connector.Error, NotYet, OSError):
            return None
        return row and (int(row[0]), int(row[1]), _text(row[2]))

    def check(self, sql: str) -> str:
        """PREPARE parses a statement and executes nothing; 1295 says "parsed, but not to be prepared"."""
        try:
            self._sent(f"PREPARE migrate_check FROM {quote(sql)}")
            self._sent("DEALLOCATE PREPARE migrate_check")
        except mysql.connector.Error as error:
            if error.errno in self._codes.lost:
                raise self._ours(error) from None
            return "" if error.errno in PARSED else message(error)
        return ""

    def lacking(self, objects: Mapping[Object, Attributes]) -> list[str]:
        kinds = {None, *(item.kind for item in objects)}
        denied = [right for right, kind, probe in PROBES if kind in kinds and self._denied(right, probe)]
        return [f"GRANT {', '.join(denied)} ON `{self.address.database}`.* TO {self.address.user}"] * bool(denied)

    def _denied(self, right: str, probe: str) -> bool:
        try:
            self._sent(probe.format(f"`no such thing {self.identity.run}`"))
        except mysql.connector.Error as error:
            if error.errno in self._codes.lost:
                raise self._ours(error) from None
            if _is_read_only(error):
                raise WrongServer(f"{self.address} takes no writes: {message(error)}") from None
            return error.errno in DENIED and (error.errno != 1142 or f"{right} command" in str(error))
        return False

    def abandon(self) -> None:
        """End this connection from another one: what runs on it is undone, and with its end the lock is free."""
        told = time.monotonic() + GIVE_UP_SECONDS / 2
        try:
            other = open_connection(self.address, GIVE_UP_SECONDS)
            other.cmd_query(f"KILL {self._id}")
            while other.info_query(f"SELECT 1 FROM information_schema.processlist WHERE id = {self._id}"):
                if time.monotonic() > told:
                    told = math.inf
                    self.behind(f"the server has not given up connection {self._id} yet; waiting for its end")
                time.sleep(0.05)
            other.close()
        except (mysql.connector.Error, NotYet, OSError) as error:
            raise LostConnection(f"{self.address}: {error}") from None

    def close(self) -> None:
        """Nothing is asked on the way: the connection may be in the middle of a reply. The server frees the lock."""
        with contextlib.suppress(mysql.connector.Error, OSError):
            self._connection.close()

    # The ledger. Its first three columns are those of the table that hand-run scripts wrote, whose rows are adopted.

    OURS: ClassVar = {"name": "VARCHAR(128) NULL COMMENT 'stem of the step file'",
            "checksum": "CHAR(64) NULL COMMENT 'SHA-256 of the step file, line endings normalised; NULL: adopted'",
            "image": "VARCHAR(64) NULL COMMENT 'version of the image'",
            "host": "VARCHAR(255) NULL COMMENT 'host of the run'",
            "run": "VARCHAR(64) NULL COMMENT 'id of the run, as in its log'",
            "seconds": "DOUBLE NULL COMMENT 'how long the step took'"}

    def _ledger_columns(self) -> dict[str, str]:
        rows = self.query("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema ="
                          f" DATABASE() AND table_name = '{self.settings.ledger_table}' ORDER BY ordinal_position")
        columns = {str(name).lower(): str(type_).lower() for name, type_ in rows}
        if columns and not ({"version", "description", "applied_at"} <= columns.keys() and columns["version"] == "int"):
            raise WrongServer(f"{self.address}: the table {self.settings.ledger_table} ({', '.join(columns)}) belongs"
                              " to another tool; choose another name with MIGRATE_LEDGER_TABLE")
        return columns

    def read_ledger(self) -> list[Applied]:
        sql = f"SELECT version, IFNULL(name, ''), IFNULL(checksum, ''), run FROM {self._ledger}"
        try:
            rows = self.query(sql)
        except StatementRefused:
            columns = self._ledger_columns()
            if not columns:
                return []
            if not {"name", "checksum", "run"} <= columns.keys():  # a hand-run script's, which a rival may adopt now
                sql = f"SELECT version, '', '', '' FROM {self._ledger}"
            rows = self.query(sql)
        return [Applied(version, name, "mysql", checksum) for version, name, checksum, _ in rows]

    def has_ledger(self) -> bool:
        return self.OURS.keys() <= self._ledger_columns().keys() and self._has_journal()

    def _has_journal(self) -> bool:
        return bool(self.query("SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE()"
                               f" AND table_name = '{self.settings.ledger_table}_journal'"))

    def prepare_ledger(self) -> None:
        columns = self._ledger_columns()
        if not columns:
            ours = ", ".join(f"{name} {definition}" for name, definition in self.OURS.items())
            self.execute(f"CREATE TABLE IF NOT EXISTS {self._ledger} (version INT NOT NULL PRIMARY KEY,"
                         " description VARCHAR(255) NOT NULL, applied_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,"
                         f" {ours}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"
                         " COMMENT='finished steps; written by migrate'")
        elif missing := [name for name in self.OURS if name not in columns]:
            try:
                self.execute(f"ALTER TABLE {self._ledger} "
                             + ", ".join(f"ADD COLUMN {name} {self.OURS[name]}" for name in missing))
            except StatementRefused:
                if not self.OURS.keys() <= self._ledger_columns().keys():  # else a rival was faster
                    raise

        self.execute(f"CREATE TABLE IF NOT EXISTS {self._journal} (version INT NOT NULL, statement CHAR(64) NOT NULL"
                     " COMMENT 'SHA-256 of its text', nth INT NOT NULL COMMENT 'among those of the same text', state"
                     " VARCHAR(8) NOT NULL COMMENT 'intent, done or refused', run VARCHAR(64) NOT NULL, label"
                     " VARCHAR(160) NOT NULL COMMENT 'step and number', answer TEXT NOT NULL COMMENT 'digests of what the"
                     " catalog said before', at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (version,"
                     " statement, nth)) ENGINE=InnoDB DEFAULT CHARSET=ascii COLLATE=ascii_bin COMMENT='statements of"
                     " steps that are not finished; written by migrate'")

    def record(self, rows: Sequence[Applied]) -> None:
        columns = ("version", "description", *self.OURS)
        made = " UNION ALL ".join("SELECT " + ", ".join(f"{value} AS {name}" for name, value in zip(columns, (
            str(row.version), *map(quote, (row.description[:255], row.name, row.checksum, row.image, row.host, row.run)),
            repr(row.seconds)), strict=True)) for row in rows)
        insert = (f"INSERT INTO {self._ledger} ({', '.join(columns)}) SELECT * FROM ({made}) AS made"
                  f" ON DUPLICATE KEY UPDATE {', '.join(f'{name} = made.{name}' for name in self.OURS)}")
        finished = self._journaled & {row.version for row in rows}

        def send() -> None:
            if not finished:
                self._sent(insert)
                return
            with self._transaction():
                self._sent(insert)
                self.forget(finished)

        self._patiently(insert, send)

    def forget(self, versions: Set[int]) -> None:
        self._sent(f"DELETE FROM {self._journal} WHERE version IN ({', '.join(map(str, sorted(versions)))})")

    # The journal.

    def read_journal(self) -> list[Entry]:
        if not self._has_journal():
            return []
        entries = [Entry(*row) for row in self.query(f"SELECT {', '.join(Entry._fields)} FROM {self._journal}")]
        self._journaled.update(entry.version for entry in entries)
        return entries

    def write_journal(self, entries: Sequence[Entry]) -> None:
        self.query(self._replace(entries))

    def _replace(self, entries: Sequence[Entry]) -> str:
        self._journaled.update(entry.version for entry in entries)
        return f"REPLACE {into(self._journal, entries)}"

    def are_free(self, names: Sequence[Name]) -> bool:
        return probe.are_free(self.query, names)

    def answer(self, kind: Kind) -> Answer:
        return probe.answer(self.query, kind)

    def took_effect(self, sql: str, kind: Kind, intent: Entry) -> bool | None:
        return probe.took_effect(intent.answer, self.answer(kind).text)

    def unfinished(self, kind: Kind) -> str:
        return ""  # the lock is this connection's, and the connection of an earlier statement kept it to its end

    def execute_once(self, sql: str, kind: Kind, before: Sequence[Entry], done: Entry, label: str) -> None:
        """In one transaction with its row. What commits by itself leaves its intent behind: then nothing tells."""
        atomic, self._sure_until = kind.verb in ATOMIC, 0.0

        def send() -> None:
            with self._transaction():
                if not atomic:
                    self._sent(self._replace(before))
                self._sent(sql)
                self._sent(self._replace([*before[:-1], done] if atomic else [done]))

        self._patiently(sql, send, whole=kind.verb not in PROGRAMS)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction, unless the step has one of its own open."""
        if not self._connection.autocommits:
            yield
            return
        # START TRANSACTION would end a LOCK TABLES; while one holds, the step sees another autocommit instead.
        begin, end = ("SET autocommit = 0", "SET autocommit = 1") if self._tables_locked else ("BEGIN", "COMMIT")
        self._sent(begin)
        try:
            yield
        except mysql.connector.Error as error:
            if error.errno not in self._codes.lost:
                self._sent("ROLLBACK")
                self._sent(end)
            raise
        self._sent(end)

    def remedies(self, entry: Entry) -> tuple[str, str]:
        where = f"WHERE version = {entry.version} AND statement = '{entry.statement}' AND nth = {entry.nth}"
        return f"DELETE FROM {self._journal} {where}", f"UPDATE {self._journal} SET state = 'done' {where}"

    # The lock belongs to the connection that does the work, so it outlives a killed job as long as its last statement.

    def try_lock(self) -> str:
        if self.query(f"SELECT GET_LOCK('{self._lock}', 0)")[0][0] == 1:
            self._locked = True
            self.write_journal([Entry(OWNER, "lock", 1, "held", self.identity.run, self.identity.host, str(self._id))])
            return ""
        holder = self.query(f"SELECT IS_USED_LOCK('{self._lock}')")[0][0]
        if holder is None:
            return "nobody now; trying again"
        try:
            owner = self.query(f"SELECT run, label, DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%sZ') FROM {self._journal} WHERE version ="
                               f" {OWNER} AND answer = '{holder}'")
        except StatementRefused:  # a step has locked its tables, and the journal with them
            owner = []
        return "".join(f"run {run} on {host} since {since}, " for run, host, since in owner) + f"connection {holder}"

    def holds_lock(self) -> bool:
        """It ends with the connection, which shows, or by a statement of ours: else it is asked for only now and then."""
        if not self._connection.is_silent() or time.monotonic() > self._sure_until:
            ours = self._locked and self.query(f"SELECT IS_USED_LOCK('{self._lock}') = CONNECTION_ID()")[0][0] == 1
            self._sure_until = time.monotonic() + SURE_SECONDS if ours else 0.0
        return self._sure_until > 0

    def unlock(self) -> None:
        if self._locked:
            self._locked, self._sure_until = False, 0.0
            self.query(f"SELECT RELEASE_LOCK('{self._lock}')")

    def catalog(self, tables: Sequence[str] | None) -> Catalog:
        return catalogs.read_catalog(self.query, self.dialect, self.address.database, self.settings.ledger_table)

    def same_queries(self, expected: Mapping[Object, Attributes], live: Catalog) -> Catalog:
        return catalogs.same_queries(self.query, self.dialect, expected, live)

    def changes(self, definitions: str) -> list[Change]:
        from migrator.converge import mysql as converge

        return converge.changes(self, definitions)

    def converge(self, session: Any, definitions: str) -> None:
        from migrator.converge import mysql as converge

        converge.converge(session, definitions)

    def kept(self) -> list[tuple[str, int]]:
        return [(str(name), int(size or 0)) for name, size in self.query(
            "SELECT table_name, data_length + index_length FROM information_schema.tables WHERE table_schema ="
            f" DATABASE() AND table_name REGEXP '{KEPT}' ORDER BY table_name")]

    def drop(self, kept: str) -> None:
        self.execute(f"DROP TABLE {kept}", "cleanup")


def _text(value: Any) -> Any:
    """MySQL sends some catalog texts as bytes, others as sets."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return ",".join(sorted(value)) if isinstance(value, set) else value
