"""ClickHouse: the connection, the one place where a statement is sent, and the ledger."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, ResponseError, SSLError

from migrator.catalogs import Attributes, Catalog, Object, clickhouse as catalogs, clickhouse_rights as rights
from migrator.converge import Change
from migrator.databases import KEPT, Identity, NotYet, Rows, clickhouse_probe as probe, tls
from migrator.databases.clickhouse_lock import Lock
from migrator.databases.clickhouse_profile import differing
from migrator.databases.clickhouse_rows import of
from migrator.errors import AccessDenied, Forbidden, LostConnection, StatementRefused, WrongServer
from migrator.journal import Answer, Entry, into
from migrator.kinds import Kind, Name
from migrator.ledger import Applied
from migrator.settings import Address, Settings
from migrator.statements import encoded, encoded_size

quote = catalogs.quote
OLDEST = (24, 10)  # the first release in which refreshable materialized views need no experimental switch
SCHEMA = "migrate"  # the database of ledger, journal and lock
GIVE_UP_SECONDS = 2.0  # for what is asked on the way out

# Several of these defaults changed between releases, so they go out with every statement. 2 waits for all replicas.
# The query log tells the next run which statements came to their end.
SEND = {"async_insert": 0, "mutations_sync": 2, "alter_sync": 2, "wait_end_of_query": 1, "log_queries": 1}
QUICKER = {"log_queries": 0, "max_threads": 1}  # rows of ledger and journal, where the server lets these be set
READ_ONLY = {"readonly": 2}  # refuses every write and DDL, and still accepts the settings of a query

TRANSIENT_SECONDS = 30.0  # for which a statement that the server had no room for is sent again
PAUSE_SECONDS = 1.0

# What an error code says (docs/reliability.md has their names). Any other: the statement was refused, perhaps in the middle.
CHECKED = {62, 46, 48, 50, 81, 115, 497}  # refused while the statement was being read
LOGIN = {516, 192, 193, 194, 195}
DENIED = {497, 291, 164, 472, 392, 514, 446, 452}
PROFILE = {158, 160, 161, 165, 166, 277, 307, 396, 704, 719}  # limits and rules of the user's profile
TRANSIENT = {202, 203, 364, 700, 745, 749, 762, 763, 1019, 225, 242, 473, 517, 692, 696, 198}  # refused before execution
# The server lost sight of it, or somebody repeated the request: it may have taken effect, and may still be running.
LOST = {159, 209, 210, 95, 96, 216, 236, 279, 285, 286, 319, 373, 571, 659, 735, 999, 1017}
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
logging.getLogger("clickhouse_connect").propagate = False


def connect(address: Address, settings: Settings, identity: Identity, *, timeout: float, writes: bool) -> ClickHouse:
    """A connection on which a query was answered. Raises NotYet, AccessDenied or WrongServer."""
    try:
        client = _client(address, timeout)  # which asks for the version
        version = str(client.server_version)
    except ClickHouseError as error:
        raise _refused_at_login(error, address) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WrongServer(f"{address} answers like no ClickHouse: {_message(error)}") from None
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise WrongServer(f"{address} is ClickHouse {version}; at least {OLDEST[0]}.{OLDEST[1]} is needed")
    database = ClickHouse(address, settings, identity, client, version, writes=writes)
    try:
        database.be_neutral()
    except (WrongServer, StatementRefused) as error:
        raise WrongServer(f"{address}: {error}") from None
    except LostConnection as error:
        raise NotYet(str(error)) from None
    return database


def _client(address: Address, timeout: float) -> Any:
    options = address.options
    return clickhouse_connect.get_client(
        host=address.host, port=address.port, username=address.user, password=address.password,
        interface="https" if address.secure else "http", verify=options.get("verify", "true") == "true",
        ca_cert=options.get("ca_cert"), client_cert=options.get("client_cert"),
        tls_mode="strict" if options.get("client_cert") and address.password else None,
        connect_timeout=max(1, round(timeout)), send_receive_timeout=max(1, round(timeout)),
        # The session is ours to renew; a read repeated by the driver would hide a loss.
        autogenerate_session_id=False, query_retries=0, dedicated_pool=True, compress=False,
        client_name="migrate")


def _refused_at_login(error: ClickHouseError, address: Address) -> Exception:
    code = getattr(error, "code", None)
    if code in LOGIN:
        return AccessDenied(f"{address} refused user {address.user}: {_message(error)}")
    if code in DENIED:
        return AccessDenied(f"{address}: user {address.user} lacks a right: {_message(error)}")
    if code in PROFILE:
        return WrongServer(f"{address}: the profile of user {address.user} does not even let it connect: {_message(error)}")
    cause = _root(error)
    if address.secure and isinstance(cause, (OSError, SSLError)) and (failed := tls.failure(str(cause)) or _alert(cause, address)):
        return AccessDenied(f"{address}: {failed}")
    if isinstance(cause, socket.gaierror):
        return NotYet(f"the host name {address.host} does not resolve")
    if "BadStatusLine" in repr(error.__cause__):
        return WrongServer(f"{address} does not speak HTTP; is it ClickHouse's HTTP port (8123)?")
    if isinstance(cause, ResponseError) or (code is None and cause is error and not re.search(r"status (code )?(429|502|503|504)\b", str(error))):
        return WrongServer(f"{address} answers like no ClickHouse: {_message(error)}")
    return NotYet(_message(error) if code else _reason(cause))


def _alert(cause: BaseException, address: Address) -> str:
    """Why the server ended the connection during the first request, if that is about TLS."""
    if not isinstance(cause, (ssl.SSLEOFError, ConnectionError)) or isinstance(cause, ConnectionRefusedError):
        return ""
    context = ssl.create_default_context(cafile=address.options.get("ca_cert"))
    if address.options.get("verify") == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate := address.options.get("client_cert"):
        context.load_cert_chain(certificate)
    return tls.alert(address.host, address.port, context)


def _is_transient(error: ClickHouseError) -> bool:
    """Whether server or gateway had no room for the request, so that nothing of it was carried out."""
    code = getattr(error, "code", None)
    return code in TRANSIENT or (code is None and bool(re.search(r"HTTP status (429|503)\b", str(error))))


def _root(error: BaseException) -> BaseException:
    """The innermost reason: urllib3 wraps it twice, the driver once more."""
    while True:
        inner = getattr(error, "reason", None) if isinstance(error, MaxRetryError) else error.__cause__
        if isinstance(error, SSLError) and error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _reason(cause: BaseException) -> str:
    text = str(cause)
    if isinstance(cause, (NewConnectionError, HTTPError)) and ": " in text:
        text = text.split(": ", 1)[1]
    return text[:300]


def _message(error: BaseException) -> str:
    """The server's own sentence, without the driver's frame, address and version."""
    text = re.sub(r"^Received ClickHouse exception.*?server response: ", "", str(error), flags=re.DOTALL)
    text = re.sub(r"(\. )?Expected one of: .*?(?=\(SYNTAX_ERROR\)|$)", " ", text, flags=re.DOTALL)
    text = re.sub(r" \(version [^()]*(\([^()]*\))?[^()]*\)| \(for url [^()]*\)", "", text)
    return " ".join(text.split())[:2000]


class ClickHouse:
    """One ClickHouse server. See `migrator.databases.Database` for what each method promises."""

    target = dialect = "clickhouse"
    absent = probe.ABSENT

    def __init__(self, address: Address, settings: Settings, identity: Identity, client: Any, version: str, *,
                 writes: bool):
        self.address, self.settings, self.identity, self.version = address, settings, identity, version
        self.encrypted = address.secure
        self._client, self._writes, self._number = client, writes, 0
        self._quicker: dict[str, int] = {}
        self._neutral: Mapping[str, str] = {}
        self.behind: Callable[[str], object] = lambda reason: None
        # From here on a statement may take as long as it needs; whoever waits for it has a deadline and signals.
        self._set_timeout(None)
        self._ledger = f"{SCHEMA}.{settings.ledger_table}"
        self._journal = f"{self._ledger}_journal"
        self._mark = f"migrate {settings.ledger_table}"  # of the statements of all runs that share this lock
        self._lock = Lock(self, f"{self._ledger}_lock", identity)
        self._journaled: set[int] = set()  # numbers of steps
        self.leftover: Set[int] = set()
        self.running = ""
        self.fresh_session()

    def again(self) -> ClickHouse:
        """A second connection to the same server, for a heartbeat or to give up what this one is doing."""
        try:
            client = _client(self.address, GIVE_UP_SECONDS)
        except ClickHouseError as error:
            raise LostConnection(f"{self.address}: {_reason(_root(error))}") from None
        other = ClickHouse(self.address, self.settings, self.identity, client, self.version, writes=self._writes)
        other._set_timeout(GIVE_UP_SECONDS)
        other._neutral = self._neutral
        other.fresh_session()
        return other

    def fresh_session(self) -> None:
        """As promised by the protocol: what SET, USE and temporary tables left behind stays with the old one."""
        self._session = {"session_id": f"migrate-{self.identity.run}-{secrets.token_hex(4)}", "session_timeout": 3600}
        if self._neutral:
            self._change(self._neutral)

    def be_neutral(self) -> None:
        """Take back in each session what the user's profile sets. Raises WrongServer where that is not allowed."""
        there = self._client.server_settings
        self._neutral = differing(there, self._change, self.address.user)
        self._quicker = {name: value for name, value in QUICKER.items() if not there[name].readonly}

    def _change(self, settings: Mapping[str, str]) -> None:
        sql = f"SET {', '.join(f'{name} = {quote(value)}' for name, value in settings.items())}"
        self._sent(lambda: self._client.command(sql, settings=self._session))

    def query(self, sql: str) -> Rows:
        settings = {**({} if self._writes else READ_ONLY), **self._session}
        return [tuple(row) for row in self._sent(lambda: self._client.query(sql, settings=settings).result_rows)]

    def limits(self, label: str) -> Mapping[str, int]:
        """The server's settings for a statement with this label."""
        if not self._writes:
            return READ_ONLY
        return SEND | self._quicker if label in ("ledger", "journal") else SEND

    def execute(self, sql: str, label: str = "") -> None:
        self._number += 1
        self.running = "-".join(["migrate", self.identity.run, *label.split(), str(self._number)])
        marks = {"query_id": self.running, "log_comment": f"{self._mark} {label}".strip()}
        # Any statement, not only an INSERT: `raw_insert` alone sends pieces, where `command` would copy a big text.
        size = {"Content-Length": str(encoded_size(sql))}
        self._sent(lambda: self._client.raw_insert(insert_block=encoded(sql), transport_settings=size,
                                                   settings={**self.limits(label), **marks, **self._session}), changes=True)
        self.running = ""

    def _sent(self, send: Callable[[], Any], *, changes: bool = False) -> Any:
        """The one place where a statement goes out, and where the driver's errors become ours."""
        patience = time.monotonic() + self._patience
        while True:
            try:
                return send()
            except ClickHouseError as error:
                if not _is_transient(error) or time.monotonic() > patience:
                    raise self._ours(error) from None
                self.behind(_message(error))
            time.sleep(PAUSE_SECONDS)
            if changes and self._lock.is_lost():
                raise LostConnection(f"{self.address}: the lock was lost while a statement was to be sent again")

    def _ours(self, error: ClickHouseError) -> Exception:
        code = getattr(error, "code", None)
        if code is None and isinstance(error, DatabaseError):
            return LostConnection(f"{self.address}: the connection was lost: {_reason(_root(error))}")
        if code in LOST:
            return LostConnection(f"{self.address}: whether the statement took effect is not known: {_message(error)}")
        if code in DENIED:
            return Forbidden(f"{self.address}: {_message(error)}", checked=code in CHECKED)
        return StatementRefused(_message(error), checked=code in CHECKED)

    def how_far(self) -> None:
        """Long work here is many statements, whose sender counts them."""

    def check(self, sql: str) -> str:
        try:
            self.query(f"SELECT formatQuerySingleLine({quote(sql)})")
        except StatementRefused as error:
            return str(error)
        return ""

    def abandon(self) -> None:
        if not self.running:
            return
        other, ours = self.again(), f"query_id = {quote(self.running)}"
        other.execute(f"KILL QUERY WHERE {ours} ASYNC")
        patience = time.monotonic() + GIVE_UP_SECONDS / 2
        while other.query(f"SELECT 1 FROM system.processes WHERE {ours}"):
            if time.monotonic() > patience:
                self.behind(f"the server does not give up statement {self.running}; the next run will wait for its end")
                break
            time.sleep(0.05)
        other.close()

    def close(self) -> None:
        self._set_timeout(GIVE_UP_SECONDS)
        try:
            self.fresh_session()  # the old one is taken as long as a lost statement runs
            self.unlock()
        finally:
            self._client.close()

    def lacking(self, objects: Mapping[Object, Attributes]) -> list[str]:
        databases = {SCHEMA, *(item.table.partition(".")[0] for item in objects)}
        return rights.lacking(self.query, databases, rights.READS if objects else rights.READS[:1])

    def _set_timeout(self, seconds: float | None) -> None:
        self._patience = TRANSIENT_SECONDS if seconds is None else 0.0
        self._client.timeout = self._client.timeout.__class__(connect=seconds or 10, read=seconds)

    # The ledger. ReplacingMergeTree: a row is never updated, a newer one of the same version takes its place.

    def read_ledger(self) -> list[Applied]:
        sql = f"SELECT version, name, checksum, run, {{}} FROM {self._ledger} FINAL ORDER BY version"
        left = f"version IN (SELECT version FROM {self._journal})"
        try:
            rows = self.query(sql.format(left))
        except StatementRefused:
            columns = self._columns(self.settings.ledger_table)
            if not columns:
                return []
            if not {"version", "name", "checksum", "run"} <= columns:
                raise WrongServer(f"{self.address}: the table {self._ledger} is not this job's ledger; choose another"
                                  " name with MIGRATE_LEDGER_TABLE") from None
            rows = self.query(sql.format("0"))  # a rival has just made it, or somebody has dropped its journal
        self.leftover = {version for version, *_, is_left in rows if is_left}
        return [Applied(version, name, "clickhouse", checksum) for version, name, checksum, *_ in rows]

    def _columns(self, table: str) -> set[str]:
        return {name for (name,) in self.query(
            f"SELECT name FROM system.columns WHERE database = '{SCHEMA}' AND table = '{table}'")}

    def has_ledger(self) -> bool:
        return all(self._columns(f"{self.settings.ledger_table}{suffix}") for suffix in ("", "_journal"))

    def prepare_ledger(self) -> None:
        if self.has_ledger():
            return
        self.execute(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} ENGINE = Atomic")
        self.execute(f"""CREATE TABLE IF NOT EXISTS {self._ledger} (
            version UInt32 COMMENT 'number of the step',
            description String COMMENT 'name of the step in words',
            applied_at DateTime('UTC') DEFAULT now('UTC') COMMENT 'when the step was first finished and verified',
            name String COMMENT 'stem of the step file',
            checksum String COMMENT 'SHA-256 of the step file, line endings normalised',
            image String COMMENT 'version of the image',
            host String COMMENT 'host of the run',
            run String COMMENT 'id of the run, as in its log',
            seconds Float64 COMMENT 'how long the step took',
            recorded_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'the newest row of a version holds'
            ) ENGINE = ReplacingMergeTree(recorded_at) ORDER BY version COMMENT 'finished steps; written by migrate'""")
        self.execute(f"""CREATE TABLE IF NOT EXISTS {self._journal} (
            version UInt32 COMMENT 'number of the step',
            statement String COMMENT 'SHA-256 of its text',
            nth UInt32 COMMENT 'among those of the same text',
            state String COMMENT 'intent, done or refused',
            run String COMMENT 'id of the run, as in its log',
            label String COMMENT 'step and number, as in query ids',
            answer String COMMENT 'what the catalog said before',
            at DateTime64(3, 'UTC') DEFAULT now64(3)
            ) ENGINE = ReplacingMergeTree ORDER BY (version, statement, nth)
            COMMENT 'statements of steps that are not finished, the row inserted last holds; written by migrate'""")

    def record(self, rows: Sequence[Applied]) -> None:
        values = ", ".join(
            f"({row.version}, {', '.join(map(quote, (row.description, row.name, row.checksum, row.image, row.host, row.run)))},"
            f" {row.seconds!r})" for row in rows)
        self.execute(  # literals only: ClickHouse reads them without making a query of them
            f"INSERT INTO {self._ledger} (version, description, name, checksum, image, host, run, seconds)"
            f" VALUES {values}", "ledger")
        if finished := self._journaled & {row.version for row in rows}:
            self.forget(finished)

    def forget(self, versions: Set[int]) -> None:
        """The whole journal where it holds nothing else, for that is done in a third of the time."""
        self._journaled -= versions
        what = f"DELETE WHERE version IN ({', '.join(map(str, sorted(versions)))})" if self._journaled else "DROP PARTITION ALL"
        self.execute(f"ALTER TABLE {self._journal} {what}", "ledger")

    # The journal.

    def read_journal(self) -> list[Entry]:
        if not self._columns(f"{self.settings.ledger_table}_journal"):
            return []
        entries = [Entry(*row) for row in self.query(f"SELECT {', '.join(Entry._fields)} FROM {self._journal} FINAL")]
        self._journaled.update(entry.version for entry in entries)
        return entries

    def write_journal(self, entries: Sequence[Entry]) -> None:
        self._journaled.update(entry.version for entry in entries)
        self.execute(f"INSERT {into(self._journal, entries)}", "journal")

    def are_free(self, names: Sequence[Name]) -> bool:
        return not self.query(f"SELECT 1 FROM system.tables WHERE {' OR '.join(of(name, 'name') for name in names)} LIMIT 1")

    def answer(self, kind: Kind) -> Answer:
        try:
            return probe.answer(self.query, kind)
        except Forbidden:  # a system table that this user may not read says nothing
            return Answer()

    def took_effect(self, sql: str, kind: Kind, intent: Entry) -> bool | None:
        with contextlib.suppress(StatementRefused):  # without the right or the log, what is there by now must do
            self.execute("SYSTEM FLUSH LOGS query_log", "journal")
        return probe.took_effect(self.query, lambda sql: self.execute(sql, "journal"), sql, kind, intent,
                                 self.answer(kind).text)

    def unfinished(self, kind: Kind) -> str:
        from migrator.converge.clickhouse_refusals import unfinished_mutations

        if kind.verb not in ("ALTER", "DELETE") or not kind.name:
            return ""
        database = kind.name.database or self.query("SELECT currentDatabase()")[0][0]
        table, running = f"{database}.{kind.name.name}", []
        with contextlib.suppress(Forbidden):
            running = unfinished_mutations(self.query, [table])
        return f"{len(running)} mutation(s) of {table}" if running else ""

    def execute_once(self, sql: str, kind: Kind, before: Sequence[Entry], done: Entry, label: str) -> None:
        self.write_journal(before)
        self.execute(sql, label)
        self.write_journal([done])

    def remedies(self, entry: Entry) -> tuple[str, str]:
        where = f"WHERE version = {entry.version} AND statement = '{entry.statement}' AND nth = {entry.nth}"
        return (f"DELETE FROM {self._journal} {where}",
                f"ALTER TABLE {self._journal} UPDATE state = 'done' {where} SETTINGS mutations_sync = 1")

    def try_lock(self) -> str:
        return self._lock.take() or self._orphan()

    def _orphan(self) -> str:
        """A statement of a step that an earlier run left behind: no other may begin beside it."""
        found = self.query(f"SELECT query_id, toUInt64(elapsed) FROM system.processes WHERE match(Settings['log_comment'],"
                           f" '^{self._mark} [0-9]{{4}}_') AND NOT startsWith(query_id, 'migrate-{self.identity.run}-')")
        return "".join(f"statement {name}, left by a run that ended, has been running for {seconds} s"
                       for name, seconds in found[:1])

    def holds_lock(self) -> bool:
        return self._lock.is_ours()

    def unlock(self) -> None:
        self._lock.free()

    def catalog(self, tables: Sequence[str] | None) -> Catalog:
        names = [table.partition(".")[0] for table in tables] if tables is not None else [
            name for (name,) in self.query("SELECT name FROM system.databases WHERE lower(name) NOT IN"
                                           f" ('system', 'information_schema', '{SCHEMA}')")]
        return catalogs.read_catalog(self.query, set(names))

    def same_queries(self, expected: Mapping[Object, Attributes], live: Catalog) -> Catalog:
        return catalogs.same_queries(self.query, expected, live)

    def changes(self, definitions: str) -> list[Change]:
        from migrator.converge import clickhouse as converge

        return converge.changes(self.query, definitions)

    def converge(self, session: Any, definitions: str) -> None:
        from migrator.converge import clickhouse as converge

        converge.converge(session, definitions)

    def kept(self) -> list[tuple[str, int]]:
        return [(f"{database}.{name}", size) for database, name, size in self.query(
            "SELECT database, name, ifNull(total_bytes, 0) FROM system.tables"
            f" WHERE match(database || '.' || name, '{KEPT}') ORDER BY database, name")]

    def drop(self, kept: str) -> None:
        self.execute(f"DROP TABLE {kept} SETTINGS max_table_size_to_drop = 0", "cleanup")
