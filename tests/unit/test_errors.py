"""Each foreseen failure is a class with an exit code that the contract knows."""

import inspect

from migrator import errors
from migrator.errors import EXIT_CODES, MigrateError

CODES = {
    "SettingsError": 2, "StepFileError": 2, "AccessDenied": 2, "WrongServer": 2, "WouldLoseData": 2, "Unreachable": 3,
    "Forbidden": 2, "LostConnection": 3, "Locked": 4, "StillPending": 4, "Disagreement": 5, "StatementRefused": 6, "StepFailed": 6,
    "VerificationFailed": 7,
}  # fmt: skip


def test_each_failure_has_its_code() -> None:
    """A new class has to be thought about here, and the old ones keep their codes."""
    found = {name: kind.exit_code for name, kind in inspect.getmembers(errors, inspect.isclass)
             if issubclass(kind, MigrateError) and kind is not MigrateError}

    assert found == CODES
    assert set(found.values()) < EXIT_CODES.keys()


def test_each_failure_says_what_is_true_of_the_databases() -> None:
    """The docstring is what a maintainer reads when the code turns up at night."""
    assert all(getattr(errors, name).__doc__ for name in CODES)


def test_being_stopped_is_not_an_exception() -> None:
    """A driver's or a step's `except Exception` must not swallow it."""
    assert not issubclass(errors.Stopped, Exception)
