"""The databases: what each dialect offers the job, and the wait until all of them answer."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from migrator.catalogs import Attributes, Catalog, Object
from migrator.converge import Change
from migrator.errors import MigrateError, Stopped, Unreachable
from migrator.journal import Answer, Entry
from migrator.kinds import Kind, Name
from migrator.ledger import Applied
from migrator.logs import Log
from migrator.settings import Address, Settings

Rows = list[tuple[Any, ...]]
T = TypeVar("T")
ATTEMPT_SECONDS = 5.0  # one try never takes longer, so that a hanging one cannot eat the budget
KEPT = "^[A-Za-z0-9_.]+__before_[0-9]{4}(_[0-9]+)?$"  # an old table that a convergence kept, by its step; _2 is a second one
FIRST_PAUSE = 0.05  # each later one is twice as long
LONGEST_PAUSE = 0.5  # a server is noticed within a second of being up
LAST_SECONDS = 1.0  # for what another thread is at when the run is stopped
QUIET_SECONDS = 2.0  # after which a first try without an end is mentioned: a resolver may take long


class NotYet(Exception):
    """A database is not up yet, and why. `final` is what to raise when the budget ends; Unreachable by default."""

    def __init__(self, reason: str, final: type[MigrateError] = Unreachable):
        super().__init__(reason)
        self.final = final


class Identity(NamedTuple):
    """Who a run is: written into ledger, lock and journal, and shown to rivals."""

    run: str
    host: str
    image: str


class Database(Protocol):
    """One connected database. To add a dialect: write this class, and name it in `_connector`.

    Every method may raise LostConnection; `execute` raises StatementRefused with the server's own code and message.
    """

    target: str
    dialect: str
    version: str
    encrypted: bool
    absent: str  # the text of `answer` for a table or view that is not there
    behind: Callable[[str], object]  # told, again and again, what is waited for, and why
    leftover: Set[int]  # finished steps, by the ledger as it was last read, whose journal a killed run left behind

    def fresh_session(self) -> None:
        """Take back what a step did to its session (database, modes), and commit what it left open."""

    def query(self, sql: str) -> Rows:
        """Rows of one reading statement, drained."""

    def execute(self, sql: str, label: str = "") -> None:
        """Send one statement, wait for its end, drop its rows. `label` names it to rivals and to the next run."""

    def how_far(self) -> tuple[int, int, str] | None:
        """Done, total and unit of the statement that runs, asked from another thread; None if the server does not say."""

    def check(self, sql: str) -> str:
        """Why the server's parser refuses the statement, without executing it; empty if it does not."""

    def abandon(self) -> None:
        """Give up the statement that is running, from another thread's or handler's point of view."""

    def close(self) -> None:
        """Close; frees the lock."""

    def lacking(self, objects: Mapping[Object, Attributes]) -> list[str]:
        """The GRANTs that this user lacks for ledger and lock, and for bringing these objects about; changes nothing."""

    def read_ledger(self) -> list[Applied]:
        """The ledger's rows; none where there is no ledger. Raises WrongServer for another tool's table."""

    def has_ledger(self) -> bool:
        """Whether the ledger and its journal are there, in the form that `prepare_ledger` gives them."""

    def prepare_ledger(self) -> None:
        """Create the ledger and its journal where missing."""

    def record(self, rows: Sequence[Applied]) -> None:
        """Write finished steps, all of them or none; the first `applied_at` of a version is kept. Their journal is forgotten."""

    def forget(self, versions: Set[int]) -> None:
        """Take the entries of these steps out of the journal, which was read before."""

    def read_journal(self) -> list[Entry]:
        """The newest entry of each statement of the steps that are not finished; none where there is no journal."""

    def write_journal(self, entries: Sequence[Entry]) -> None:
        """Write entries, all of them or none; the last one of a statement holds."""

    def answer(self, kind: Kind) -> Answer:
        """What the catalog says now of that which the statement would change."""

    def are_free(self, names: Sequence[Name]) -> bool:
        """Whether there is no table or view of any of these names."""

    def took_effect(self, sql: str, kind: Kind, intent: Entry) -> bool | None:
        """Whether a statement took effect that was sent after this entry was written; None if nothing tells."""

    def unfinished(self, kind: Kind) -> str:
        """What still changes the statement's object on the server's side; empty if nothing does."""

    def execute_once(self, sql: str, kind: Kind, before: Sequence[Entry], done: Entry, label: str) -> None:
        """Execute a statement of which the catalog tells nothing, with its entries (`before` ends with its intent)."""

    def remedies(self, entry: Entry) -> tuple[str, str]:
        """Statements for a person: to have one sent again; to have it skipped."""

    def try_lock(self) -> str:
        """Take the run lock if it is free; else say who has it. Empty means: it is ours."""

    def holds_lock(self) -> bool:
        """Whether the lock is still ours, as the server sees it."""

    def unlock(self) -> None:
        """Free the lock, if we have it."""

    def catalog(self, tables: Sequence[str] | None) -> Catalog:
        """The live catalog of the databases in which these tables are; None: of all but the servers' and the job's own."""

    def same_queries(self, expected: Mapping[Object, Attributes], live: Catalog) -> Catalog:
        """`live` with the expected text in every view that means the same."""

    def changes(self, definitions: str) -> list[Change]:
        """What `converge` would do now; reads only."""

    def converge(self, session: Any, definitions: str) -> None:
        """Bring every object to its definition, sending each statement through the step's session."""

    def kept(self) -> list[tuple[str, int]]:
        """Old tables that a convergence kept, with their bytes."""

    def drop(self, kept: str) -> None:
        """Drop an old table, whatever its size."""


class Clock:
    """A budget of seconds, shared by all who wait."""

    def __init__(self, seconds: float):
        self.seconds, self.started = seconds, time.monotonic()

    @property
    def left(self) -> float:
        return max(0.0, self.started + self.seconds - time.monotonic())


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls return, in their order; each waits for a server of its own, so they are made at the same time.

    Raises what a call raises, when all have ended: a connection that is closed while a thread reads from it takes the
    process along (OpenSSL). The first is made by the caller's own thread, where signals arrive.
    """
    returned: dict[int, T] = {}
    raised: list[BaseException] = []
    patience = None

    def make(number: int) -> None:
        try:
            returned[number] = calls[number]()
        except BaseException as error:  # handed to the caller's thread
            raised.append(error)

    threads = [threading.Thread(target=make, args=(number,), daemon=True) for number in range(1, len(calls))]
    for thread in threads:
        thread.start()
    try:
        if calls:
            returned[0] = calls[0]()
    except Stopped:
        patience = LAST_SECONDS  # what hangs is given up like everything of a run that is stopped
        raise
    finally:
        for thread in threads:
            thread.join(patience)
    for error in raised:
        raise error
    return [returned[number] for number in range(len(calls))]


def _connector(target: str) -> Callable[..., Database]:
    """The dialect's connect function; drivers are heavy, so only a database that is needed loads its own."""
    if target == "clickhouse":
        from migrator.databases import clickhouse

        return clickhouse.connect
    from migrator.databases import mysql

    return mysql.connect


def connect(settings: Settings, targets: Sequence[str], identity: Identity, log: Log, clock: Clock | None = None, *,
            writes: bool) -> dict[str, Database]:
    """All databases of the targets, connected side by side within one budget, or within what is left on the clock.

    "Up" means that an authenticated query was answered. Raises AccessDenied or WrongServer at once, Unreachable when
    the budget is over (±0.25 s, hanging tries included). With `writes` False the servers refuse every write.
    """
    connectors = {target: _connector(target) for target in targets}  # loading the drivers is no time of the servers'
    clock, stop = clock or Clock(settings.wait_timeout), threading.Event()
    answers: queue.Queue[tuple[str, Database | BaseException]] = queue.Queue()
    addresses = {target: settings.address(target) for target in targets}
    reasons: dict[str, NotYet] = {}

    def attempts(target: str) -> None:
        try:
            answers.put((target, _wait_for(addresses[target], lambda seconds: connectors[target](
                addresses[target], settings, identity, timeout=seconds, writes=writes), log, clock, stop, reasons)))
        except BaseException as error:  # handed to the main thread, which alone decides
            answers.put((target, error))

    for target in targets:
        # Daemons: a try that hangs in the resolver must not keep the process alive.
        threading.Thread(target=attempts, args=(target,), daemon=True).start()
    databases: dict[str, Database] = {}
    try:
        while len(databases) < len(targets):
            try:
                target, answer = answers.get(timeout=QUIET_SECONDS if clock.left > QUIET_SECONDS else clock.left + 0.2)
            except queue.Empty:
                if clock.left <= 0:
                    raise
                for quiet in addresses.keys() - databases.keys() - reasons.keys():
                    log.info("waiting", target=quiet, address=str(addresses[quiet]), reason="no answer yet", attempt=1,
                             seconds_left=clock.left)
                continue
            if isinstance(answer, BaseException):
                raise answer
            databases[target] = answer
            answer.behind = partial(_behind, log, target)
            _report_ready(log, answer, addresses[target], clock)
    except (queue.Empty, NotYet):
        for database in databases.values():
            database.close()
        missing = {target: reasons.get(target, NotYet("no answer")) for target in targets if target not in databases}
        final = min((reason.final for reason in missing.values()), key=lambda final: final is not Unreachable)
        raise final("; ".join(f"{addresses[target]} did not answer within {clock.seconds:g} s: {reason}"
                              for target, reason in missing.items())) from None
    finally:
        stop.set()
    return {target: databases[target] for target in targets}


def _wait_for(address: Address, attempt: Callable[[float], Database], log: Log, clock: Clock, stop: threading.Event,
              reasons: dict[str, NotYet]) -> Database:
    tries = itertools.count(1)

    def answer() -> Database:
        number = next(tries)
        try:
            return attempt(max(0.2, min(ATTEMPT_SECONDS, clock.left)))
        except NotYet as error:
            reasons[address.target] = error
            if not stop.is_set():
                log.info("waiting", target=address.target, address=str(address), reason=str(error), attempt=number,
                         seconds_left=clock.left)
            raise

    try:
        return answer()
    except NotYet:
        if clock.left <= 0 or stop.wait(FIRST_PAUSE):
            raise
    import tenacity  # heavy, and not needed where the databases are up

    jitter = tenacity.wait_exponential_jitter(multiplier=2 * FIRST_PAUSE, max=LONGEST_PAUSE, jitter=0.05)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(NotYet),
        # tenacity's own budget ends early or late by a third; the pause and the try are cut to what is left instead.
        stop=lambda state: stop.is_set() or clock.left <= 0,
        wait=lambda state: min(jitter(state), clock.left),
        sleep=stop.wait,  # type: ignore[arg-type]
        reraise=True)
    return retrying(answer)


def _behind(log: Log, target: str, reason: str) -> None:
    log.warning("waiting", target=target, reason=reason)


def _report_ready(log: Log, database: Database, address: Address, clock: Clock) -> None:
    fields = {"target": database.target, "dialect": database.dialect, "server": database.version,
              "address": str(address), "encrypted": database.encrypted,
              "seconds": clock.seconds - clock.left}
    if address.secure and not database.encrypted:
        log.warning("ready", **fields, reason="the server offers no TLS: this connection is in plain text")
    elif address.options.get("verify") == "false":
        log.warning("ready", **fields, reason="verify=false: nobody asks whose certificate this is, and whoever sits between"
                                              " may read and change everything")
    else:
        log.info("ready", **fields)
