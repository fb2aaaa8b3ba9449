"""Calls that are made at the same time, one for each server."""

import threading
import time

import pytest

from migrator.databases import LAST_SECONDS, side_by_side
from migrator.errors import LostConnection, Stopped


def test_their_results_come_in_their_order() -> None:
    """Whichever ends first."""
    assert side_by_side([lambda: time.sleep(0.05) or "slow", lambda: "fast"]) == ["slow", "fast"]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_comes_when_all_have_ended(failing: int) -> None:
    """Else the caller would close a connection from which another thread still reads."""
    ended = threading.Event()

    def fail() -> None:
        raise LostConnection("gone")

    def go_on() -> None:
        time.sleep(0.1)
        ended.set()

    with pytest.raises(LostConnection):
        side_by_side([fail, go_on] if failing == 0 else [go_on, fail])
    assert ended.is_set()


def test_a_stop_does_not_wait_for_what_hangs() -> None:
    """A run that is stopped ends within two seconds."""
    def stop() -> None:
        raise Stopped(143, "stopped by SIGTERM")

    began = time.monotonic()
    with pytest.raises(Stopped):
        side_by_side([stop, lambda: time.sleep(30)])
    assert time.monotonic() - began < LAST_SECONDS + 0.5
