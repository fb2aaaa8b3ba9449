"""One class for each foreseen failure: its exit code, and what is true of the databases now."""

from __future__ import annotations

EXIT_CODES = {
    0: "every step applied, every verification passed (dry-run: the plan is sound)",
    1: "a bug in the program",
    2: "settings, step files, credentials, privileges or the kind of server are wrong, or data would not"
    " survive; nothing was changed",
    3: "a database was not reachable within the wait budget, or was lost during the run; the next run continues",
    4: "another run holds the lock and did not finish in time",
    5: "ledger and step files disagree; nothing was applied",
    6: "a statement was refused by its server, or would be (dry-run), or a Python step raised",
    7: "verification failed: the live schema or data is not what it must be; dependents stay blocked",
    130: "stopped by SIGINT; the next run continues",
    143: "stopped by SIGTERM; the next run continues",
}


class MigrateError(Exception):
    """A foreseen failure. Its text is one line that names the thing and the remedy."""

    exit_code = 1


class SettingsError(MigrateError):
    """A setting is malformed, missing or unknown. Nothing was contacted; a retry does not help."""

    exit_code = 2


class StepFileError(MigrateError):
    """The steps directory or a file in it is unusable. Nothing was contacted; a retry does not help."""

    exit_code = 2


class AccessDenied(MigrateError):
    """Credentials, TLS or privileges are wrong. Nothing was changed; a retry does not help."""

    exit_code = 2


class WrongServer(MigrateError):
    """The server is of another kind, too old, read-only, or holds a table that is not ours. Nothing was changed."""

    exit_code = 2


class WouldLoseData(MigrateError):
    """A convergence would lose or invent data, and has not begun. A person decides."""

    exit_code = 2


class Unreachable(MigrateError):
    """A database did not answer within the budget, or was lost; what was applied is in the ledger. Run again."""

    exit_code = 3


class Locked(MigrateError):
    """Another run holds the lock. This run changed nothing. Run again."""

    exit_code = 4


class StillPending(MigrateError):
    """`wait`: steps of this image are not in the ledger yet, and the budget is over. Nothing was changed."""

    exit_code = 4


class Disagreement(MigrateError):
    """Ledger and step files disagree. Nothing was applied; a person decides."""

    exit_code = 5


class StatementRefused(MigrateError):
    """The server refused a statement; the ones before it are applied, and the next run goes on with this one.

    `checked` if the server refused it before it did anything.
    """

    exit_code = 6

    def __init__(self, message: str, *, checked: bool = False):
        super().__init__(message)
        self.checked = checked


class Forbidden(StatementRefused):
    """The user lacks a right. Outside of a step nothing was changed; in a step this becomes StepFailed."""

    exit_code = 2


class StepFailed(MigrateError):
    """A step stopped at a statement or raised; earlier steps stay applied, a Python step runs again, whole."""

    exit_code = 6


class VerificationFailed(MigrateError):
    """All steps are applied, but the live schema or data is not what it must be. A person looks first."""

    exit_code = 7


class LostConnection(Unreachable):
    """The reply of a statement is lost: it may have been applied, and may still be running."""


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived, or the deadline passed. Raised in the main thread, wherever it is.

    Not an `Exception`, so that no `except Exception` of a driver or a step swallows it.
    """

    def __init__(self, exit_code: int, reason: str):
        super().__init__(reason)
        self.exit_code = exit_code
