"""The program: settings, signals, the job, one exit code. Start reading at `migrator.job`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType

from migrator.errors import SettingsError, Stopped

SIGNALS = {signal.SIGTERM: (143, "stopped by SIGTERM"), signal.SIGINT: (130, "stopped by SIGINT"),
           signal.SIGALRM: (3, "stopped at the end of MIGRATE_DEADLINE")}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return its exit code. The last line on stdout is always the report."""
    try:
        _catch_signals()
        return _run(argv, environ)
    except (SettingsError, Stopped) as error:  # before there is a log: it is opened as well as can be guessed
        _ignore_signals()
        from migrator.logs import open_log
        from migrator.report import Report

        wanted = environ.get("MIGRATE_LOG_FORMAT")
        log = open_log(wanted if wanted in ("json", "text") else "auto", "info", "none")
        log.error("error", error=str(error), exit_code=error.exit_code)
        return Report("none", error=str(error)).finish(log, error.exit_code)


def _run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from migrator.settings import read_settings

    settings = read_settings(argv, environ)
    import gc
    import socket
    import uuid
    import warnings

    from migrator import __version__
    from migrator.databases import Identity
    from migrator.job import run
    from migrator.logs import open_log
    from migrator.report import Report

    gc.set_threshold(50_000)  # loading the drivers makes many objects and no garbage: to look for it takes 15 ms
    warnings.simplefilter("ignore")  # a driver's deprecations are no business of the log's reader
    identity = Identity(uuid.uuid4().hex[:12], socket.gethostname(), __version__)
    log = open_log(settings.log_format, settings.log_level, identity.run, settings.secrets)
    report = Report("run --dry-run" if settings.dry_run else settings.command)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, settings.deadline or 0)
            code = run(settings, identity, log, report)
        except Exception as error:  # a bug: say so in the same form, with the place
            import traceback

            report.error, code = f"{type(error).__name__}: {error}", 1
            log.error("error", error=report.error, traceback=traceback.format_exc())
        _ignore_signals()
    except Stopped as error:  # while the databases were not connected yet, or not any more
        report.error, code = str(error), error.exit_code
    return report.finish(log, code)


def _catch_signals() -> None:
    """As PID 1 a program without handlers ignores SIGTERM; ours stops where it is, once, and cleans up."""
    for number in SIGNALS:
        signal.signal(number, _stop)
    sys.unraisablehook, sys.excepthook = _stop_later, _say_error


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise Stopped(*SIGNALS[signal.Signals(number)])


def _stop_later(ignored: sys.UnraisableHookArgs) -> None:
    """A destructor swallows what a signal raises in it, and there is only one: so once more, when it is over."""
    error = ignored.exc_value
    if not isinstance(error, Stopped):
        sys.__unraisablehook__(ignored)
        return
    again = Stopped(error.exit_code, str(error))

    def stop(*_: object) -> None:
        raise again

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def _say_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what nobody caught; but not a stop that comes again, which a driver's compiled destructor would have printed."""
    if kind is not Stopped:
        sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:  # noqa: SIM105  # contextlib would be loaded for this alone
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or a step has closed it
            pass
    os._exit(code)  # what else ends a process takes OpenSSL away from a thread that still waits for a server: SIGSEGV
