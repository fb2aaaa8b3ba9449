"""The job: wait, lock, plan, apply, verify, report. Every noun in it is a module of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from functools import partial

from migrator import snapshot
from migrator.batch import Batch, batches
from migrator.catalogs import DATA, EXTRA, Finding
from migrator.databases import Clock, Database, Identity, connect, side_by_side
from migrator.errors import (
    AccessDenied,
    Disagreement,
    LostConnection,
    MigrateError,
    StatementRefused,
    StepFailed,
    StillPending,
    Stopped,
    VerificationFailed,
)
from migrator.expected import Expected, load_expected, unverified
from migrator.journal import Entry, Journal
from migrator.ledger import Applied
from migrator.lock import RunLock
from migrator.logs import Log
from migrator.plan import Plan, make_plan
from migrator.recorder import Recorder
from migrator.repair import restorable, restoring
from migrator.report import Report
from migrator.session import Runs, Session
from migrator.settings import Settings
from migrator.steps import Step, discover
from migrator.verify import refuse_incomplete, verify_schema, verify_step, verify_steps


class Job:
    """One run of one command. The command methods return the exit code, or raise a MigrateError that has one."""

    def __init__(self, settings: Settings, identity: Identity, log: Log, report: Report):
        self.settings, self.identity, self.log, self.report = settings, identity, log, report
        everything = discover(settings.steps_dir, ("clickhouse", "mysql"))
        self.newest = everything[-1].version
        self.steps = tuple(step for step in everything if step.target in settings.targets)
        addresses = {"clickhouse": settings.clickhouse, "mysql": settings.mysql}
        self.targets = [target for target in settings.targets  # a Python step may use both
                        if any(step.target == target or (step.is_python and addresses[target]) for step in self.steps)]
        self.journal: list[Entry] = []  # of unfinished steps, as earlier runs left it
        self.expected: dict[str, Expected] = {}
        if settings.verify == "full" and settings.command != "snapshot":
            self.expected = load_expected(settings.steps_dir, self.steps)
            report.unverified = unverified(self.expected, self.steps)
        if report.unverified:
            log.warning("plan", unverified=report.unverified, meaning="no expected schema covers these steps")
        for target in self.targets:
            settings.address(target)  # a missing setting is found before anything is contacted

    def run(self) -> int:
        """Bring both databases to the newest step, and prove it."""
        with self.connected(writes=not self.settings.dry_run):
            plan = self.plan()
            for step in plan.pending:
                step.parse()  # a broken file is found before anything is written
            if self.settings.dry_run:
                return self.dry_run(plan)
            if plan.pending:
                self.refuse_missing_rights({step.target for step in plan.pending})
                refuse_incomplete(self.steps, plan.pending, self.databases)
                plan = self.apply_pending(checked=self.preflight_without_ledger(plan.pending))
            elif not plan.ahead and any(database.leftover for database in self.databases.values()):
                plan = self.apply_pending(checked=True)
            self.verify(plan, repair=self.settings.repair)
            return 0

    def plan(self) -> Plan:
        """Compare steps and ledger, and say what is to do. Raises Disagreement before anything is applied."""
        plan = self.agreed()
        self.log.info("plan", applied=len(plan.applied), pending=self.report.pending)
        if plan.ahead:
            self.log.warning("ahead", steps=self.report.ahead, meaning="the ledger is newer than this image: nothing is"
                             " applied, and only what this image needs is verified")
        return plan

    def agreed(self) -> Plan:
        """The plan. Raises Disagreement, with all of it at once."""
        plan = self.compare()
        if plan.disagreements:
            raise Disagreement("; ".join(f"step {state.step} is {state.state}: {state.remedy}"
                                         for state in plan.disagreements))
        return plan

    def compare(self) -> Plan:
        ledgers = side_by_side([database.read_ledger for database in self.databases.values()])
        plan = make_plan(self.steps, [row for ledger in ledgers for row in ledger], self.newest)
        self.report.pending = [step.stem for step in plan.pending]
        self.report.ahead = [row.name for row in plan.ahead]
        return plan

    def take_lock(self, still_needed: Callable[[], bool] = lambda: True) -> bool:
        for database in self.databases.values():
            database.prepare_ledger()  # the lock on ClickHouse lives beside it
        return self.lock.take(still_needed)

    def refuse_missing_rights(self, pending: Set[str]) -> None:
        """Raise AccessDenied, naming every right that is missing, before the first write to any database."""
        lacking = [grant for target, database in self.databases.items() for grant in database.lacking(
            self.expected[target].objects if target in pending & self.expected.keys() else {})]
        if lacking:
            raise AccessDenied(f"rights are missing, nothing was changed: {'; '.join(lacking)}")

    def preflight_without_ledger(self, pending: Sequence[Step]) -> bool:
        """Where no run has been before, what must be refused leaves not even a ledger behind; whether that was asked."""
        if self.have_ledgers():
            return False
        try:
            self.preflight(pending)
        except MigrateError:
            if not self.have_ledgers():  # else a rival began meanwhile, and we saw the middle of a change
                raise
            return False
        return True

    def have_ledgers(self) -> bool:
        return all(database.has_ledger() for database in self.databases.values())

    def apply_pending(self, *, checked: bool) -> Plan:
        """Apply what is pending, under the lock; the plan is made again once the lock is ours."""
        if not self.take_lock(still_needed=lambda: bool(self.compare().pending)):
            return self.plan()
        plan = self.plan()
        if not checked:
            self.preflight(plan.pending)
        self.journal = [entry for database in self.databases.values() for entry in database.read_journal()]
        self.forget_finished()
        for batch in batches(plan.pending, {entry.version for entry in self.journal},
                             lambda target, names: self.databases[target].are_free(names)):
            self.apply(batch)
        return plan

    def forget_finished(self) -> None:
        """Else a step that a person takes out of the ledger would find its statements carried out by a run long dead."""
        for database in self.databases.values():
            if database.leftover:
                database.forget(database.leftover)

    def preflight(self, steps: Sequence[Step]) -> None:
        """Ask every step what it would do, so that what must be refused is refused before a write."""
        for step in steps:
            if step.is_python:
                try:
                    self.runs[step].call("plan")
                except (StepFailed, StatementRefused):
                    continue  # it may stand on what a step before it brings; `apply` will tell

    def apply(self, batch: Batch) -> None:
        """Each step, its own verification, and only then its row in the ledger; the rows of a batch come behind its last step.

        Where a batch stops, the steps before are recorded. Where a connection is lost, the next run finds out what took effect.
        """
        if batch.is_announced:
            self.lock.check()
            batch.announce(self.databases, self.identity.run)
        try:
            for step in batch.steps:
                self.recorder.add(self.carry_out(step, batch))
        except LostConnection:
            raise
        except MigrateError:
            batch.withdraw(self.databases, self.identity.run)
            self.recorder.write()
            raise
        self.report.failed = ""
        self.recorder.write()

    def carry_out(self, step: Step, batch: Batch) -> Applied:
        """One step and its own verification; its row for the ledger."""
        self.log.info("step_started", step=step.stem, target=step.target)
        started, self.report.failed = time.monotonic(), step.stem
        self.execute(step, batch)
        if wrong := list(verify_step(step, self.runs[step])):
            self.report.find(self.log, wrong)
            raise VerificationFailed(f"step {step.stem} ran, but its own verification found {len(wrong)} thing(s)"
                                     " wrong, so it is not recorded")
        return Applied(step.version, step.stem, step.target, step.checksum, step.title, self.identity.image,
                       self.identity.host, self.identity.run, round(time.monotonic() - started, 3))

    def execute(self, step: Step, batch: Batch | None = None) -> None:
        """Send a step's statements one by one, or call its `apply`. Raises StepFailed, naming file and line.

        Without a batch, of an SQL step that is applied already, only what brings back what is missing.
        """
        run = self.runs[step]
        if step.is_python:
            if run.call("apply") is None and run.function("verify") is None:
                raise StepFailed(f"{step.path.name}: defines neither apply nor verify, so it would be done unproven")
        elif not batch:
            self.send_again(step, run.session(step.target))
        elif batch.is_announced:
            batch.send(step, run.session(step.target))
            return
        else:
            journal = Journal(self.databases[step.target], step, self.journal, self.identity.run, self.settings.lock_timeout)
            journal.apply(run.session(step.target))
            if journal.left_session:
                return
        for target in self.targets if step.is_python else (step.target,):
            self.databases[target].fresh_session()

    def send_again(self, step: Step, session: Session) -> None:
        for text, place in restoring(step, self.databases[step.target].catalog(None)):
            try:
                session.execute(text, place)
            except StatementRefused as error:
                raise StepFailed(f"{step.where(place)} was refused: {error}") from None

    def verify(self, plan: Plan, repair: str = "none") -> None:
        """Prove that the live schema and data are what they must be; restore what may be restored, then prove again.

        Raises VerificationFailed with every finding logged.
        """
        findings = self.findings(plan, self.steps)
        if findings and not plan.ahead and repair != "none":
            findings = self.restore(repair)
        self.report.find(self.log, findings)
        if findings:
            raise VerificationFailed(f"{len(findings)} finding(s): " + "; ".join(f.object for f in findings[:5]))

    def restore(self, repair: str) -> list[Finding]:
        """Run the owners of what is missing (`all`: or different) again; what is wrong after that."""
        self.take_lock()
        plan = self.plan()  # another run may have been at work until now, perhaps one of a newer image
        before = self.findings(plan, self.steps)
        steps = [] if plan.ahead else restorable(before, self.steps, repair)
        if not steps:
            return before
        self.preflight(steps)
        for step in steps:
            self.report.failed = step.stem
            self.execute(step)
        self.report.failed = ""
        after = self.findings(plan, self.steps)
        for finding in before:
            if finding.kind != DATA and finding.object not in {left.object for left in after}:
                self.report.repaired.append(finding.object)
                self.log.warning("repaired", object=finding.object, was=finding.actual, step=finding.step)
        return after

    def findings(self, plan: Plan, steps: Sequence[Step]) -> list[Finding]:
        """Everything that is wrong with what these steps made; in a newer schema, only what is not there any more."""
        self.report.verified = self.settings.verify
        schemas = side_by_side([partial(verify_schema, self.databases[target], expected.of(steps),
                                        only_missing=bool(plan.ahead)) for target, expected in self.expected.items()])
        found = [finding for schema in schemas for finding in schema]
        return found if plan.ahead else found + verify_steps(steps, self.runs)

    def dry_run(self, plan: Plan) -> int:
        """Say what a run would do, checked as far as the servers allow. The sessions are read-only on the servers."""
        from migrator.dryrun import check_all

        if plan.pending:
            refuse_incomplete(self.steps, plan.pending, self.databases)
        problems = check_all(plan.pending, self.runs, self.databases, self.log)
        if problems:
            raise StepFailed(f"{len(problems)} statement(s) would be refused: {problems[0]}")
        findings = [finding for finding in self.findings(plan, plan.applied)
                    if finding.kind != EXTRA or not plan.pending]  # a pending step may be about to drop it
        repairs = restorable(findings, self.steps, "none" if plan.ahead else self.settings.repair)
        if findings and not repairs:
            self.report.find(self.log, findings)
            raise VerificationFailed(f"a run would end in exit 7: {len(findings)} finding(s) it may not restore")
        for finding in findings:
            self.log.warning("statement", would=f"restore {finding.object}", steps=[step.stem for step in repairs])
        return 0

    def status(self) -> int:
        """Every step with its state, and kept old tables with their sizes; writes nothing."""
        with self.connected(writes=False):
            plan = self.compare()
            self.log.info("plan", steps=[{"step": s.step, "target": s.target, "state": s.state} for s in plan.states],
                          kept=[{"table": name, "bytes": size} for name, size in self.kept()])
            self.agreed()
            return 0

    def kept(self) -> list[tuple[str, int]]:
        return [old for database in self.databases.values() for old in database.kept()]

    def cleanup(self) -> int:
        """List the old tables that a convergence kept; drop them with --yes."""
        with self.connected(writes=self.settings.yes):
            if self.settings.yes and self.kept():
                self.take_lock()
            for database in self.databases.values():
                for name, size in database.kept():
                    if self.settings.yes:
                        database.drop(name)
                    self.log.info("statement", target=database.target, bytes=size,
                                  **{"dropped" if self.settings.yes else "would": f"DROP TABLE {name}"})
            return 0

    def verify_only(self) -> int:
        """Verification alone; writes nothing."""
        with self.connected(writes=False):
            self.verify(self.compare())
            return 0

    def wait(self) -> int:
        """Block until every step of this image is applied and its verification passes; writes nothing."""
        clock = Clock(self.settings.wait_timeout)
        while True:
            try:
                with self.connected(writes=False, clock=clock):
                    return self.watch(clock)
            except LostConnection as error:  # a server that restarts is waited for like one that starts
                if clock.left <= 0:
                    raise
                self.log.info("waiting", reason=str(error), seconds_left=clock.left)

    def watch(self, clock: Clock) -> int:
        while True:
            plan = self.agreed()
            findings = [] if plan.pending else self.findings(plan, self.steps)
            if not plan.pending and not findings:
                return 0
            if clock.left <= 0:
                break
            self.log.info("waiting", reason=f"{len(plan.pending)} steps pending, {len(findings)} findings",
                          seconds_left=clock.left)
            time.sleep(min(1.0, clock.left))
        if plan.pending:
            raise StillPending(f"{len(plan.pending)} steps are still pending after {self.settings.wait_timeout:g} s:"
                               f" {', '.join(self.report.pending)}")
        self.report.find(self.log, findings)
        raise VerificationFailed(f"all steps are applied, but {len(findings)} thing(s) are wrong")

    def snapshot(self) -> int:
        """Development: apply every step to empty servers, and write what they then hold as the expected schema."""
        with self.connected(writes=True):
            for database in self.databases.values():
                if database.read_ledger():
                    raise Disagreement(f"{database.target} already has a ledger: a snapshot needs empty servers")
            self.take_lock()
            plan = self.plan()
            snapshot.take(plan.pending, self.databases, self.apply, self.settings.steps_dir, self.log)
            return 0

    @contextmanager
    def connected(self, *, writes: bool, clock: Clock | None = None) -> Iterator[None]:
        """All databases, waited for; whatever happens inside, no statement is left running and the lock is freed."""
        self.databases: dict[str, Database] = connect(self.settings, self.targets, self.identity, self.log, clock,
                                                      writes=writes)
        self.lock = RunLock(self.databases, self.settings.lock_timeout, self.log)
        self.recorder = Recorder(self.databases, self.lock.check, self.log, self.report)
        self.runs = Runs(self.databases, self.settings, self.log, self.lock.check)
        try:
            yield
        except Stopped:
            for database in self.databases.values():
                _quietly(database.abandon)
            raise
        finally:
            try:
                self.close()
            except Stopped:  # there is only one: this time it is not interrupted
                self.close()
                raise

    def close(self) -> None:
        for database in self.databases.values():
            _quietly(database.close)


def _quietly(end: Callable[[], None]) -> None:
    """Failing to close what is broken already must not hide why the run ends."""
    with suppress(Exception):
        end()


def run(settings: Settings, identity: Identity, log: Log, report: Report) -> int:
    """Carry out the command; its exit code. Every foreseen failure is logged in one line and becomes its code."""
    try:
        for name in settings.unknown:
            log.warning("plan", setting=name, meaning="unknown setting, ignored")
        job = Job(settings, identity, log, report)
        return {"run": job.run, "status": job.status, "verify": job.verify_only, "wait": job.wait,
                "cleanup": job.cleanup, "snapshot": job.snapshot}[settings.command]()
    except (MigrateError, Stopped) as error:
        report.error = str(error)
        log.error("error", error=str(error), step=report.failed or None, exit_code=error.exit_code)
        return error.exit_code
