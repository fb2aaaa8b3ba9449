"""The program: settings, signals, the job, one exit code. Start reading at `migrator.job`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit code. The last line on stdout is always the report."""
    from migrator.errors import SettingsError
    from migrator.settings import read_settings

    try:
        settings = read_settings(argv, environ)
    except SettingsError as error:
        return _refuse(error, environ)
    return _run(settings)


def _run(settings: object) -> int:
    import socket
    import uuid
    import warnings

    from migrator import __version__
    from migrator.databases import Identity
    from migrator.errors import Stopped
    from migrator.job import run
    from migrator.logs import open_log
    from migrator.report import Report
    from migrator.settings import Settings

    assert isinstance(settings, Settings)
    warnings.simplefilter("ignore")  # a driver's deprecations are no business of the log's reader
    identity = Identity(uuid.uuid4().hex[:12], socket.gethostname(), __version__)
    log = open_log(settings.log_format, settings.log_level, identity.run, settings.secrets)
    report = Report("run --dry-run" if settings.dry_run else settings.command)
    try:
        _catch_signals(settings.deadline)
        code = run(settings, identity, log, report)
    except Stopped as error:
        report.error, code = str(error), error.exit_code
    except Exception as error:  # a bug: say so in the same form, with the place
        import traceback

        report.error, code = f"{type(error).__name__}: {error}", 1
        log.error("error", error=report.error, traceback=traceback.format_exc())
    return report.finish(log, code)


def _refuse(error: Exception, environ: Mapping[str, str]) -> int:
    """Settings that cannot be read: the log is opened as well as can be guessed, so that the report is still printed."""
    from migrator.logs import open_log
    from migrator.report import Report

    wanted = environ.get("MIGRATE_LOG_FORMAT")
    log = open_log(wanted if wanted in ("json", "text") else "auto", "info", "none")
    report = Report("none", error=str(error))
    log.error("error", error=str(error), exit_code=2)
    return report.finish(log, 2)


def _catch_signals(deadline: float | None) -> None:
    """As PID 1 a program without handlers ignores SIGTERM; ours stops where it is, once, and cleans up."""
    from migrator.errors import Stopped

    codes = {signal.SIGTERM: (143, "stopped by SIGTERM"), signal.SIGINT: (130, "stopped by SIGINT"),
             signal.SIGALRM: (3, f"the deadline of {deadline or 0:g} s (MIGRATE_DEADLINE) is over")}

    def stop(number: int, frame: FrameType | None) -> None:
        for other in codes:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(*codes[signal.Signals(number)])

    for number in codes:
        signal.signal(number, stop)
    if deadline:
        signal.setitimer(signal.ITIMER_REAL, deadline)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], os.environ))
