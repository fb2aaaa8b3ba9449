"""What throwaway servers share: a loopback port, a temporary directory, and dying with the tests."""

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

HOST = "127.0.0.1"


class StartError(RuntimeError):
    """The server ended, or did not answer in time; the message ends with its log."""


def canary() -> str:
    """A new password with all that URLs, shells, SQL, XML and logs get wrong, in searchable pieces."""
    token = f"k4narie{secrets.token_hex(4)}"
    return f"{token}@:/%41#'\" é\\{token}"


def free_port() -> int:
    """A port nobody listens on, below the ephemeral range.

    A client that polls an ephemeral port of its own host can be given that very port and connect to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port


class Server:
    """A server on 127.0.0.1 whose data lives until close(); kill() and start() keep data and port."""

    scheme: str
    user = "migrate"

    def __init__(self, *, port: int | None, password: str | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="srv-")
        self.base = Path(self._folder.name)
        self.port = port or free_port()
        self.password = canary() if password is None else password
        self._process: subprocess.Popen[bytes] | None = None
        # A proxy kills in a thread of its own: who starts the server again waits until it is dead.
        self._changing = threading.RLock()

    def start(self, timeout: float = 60) -> Self:
        """Return when the server answers, at once if it runs; StartError with its log after `timeout` s."""
        with self._changing:
            return self if self.running else self._started(timeout)

    def _started(self, timeout: float) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watcher = _clean_up_when_we_die(self._process.pid, self.base)
        deadline = time.monotonic() + timeout
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise StartError(self.log.read_text(errors="replace")[-4000:])
            time.sleep(0.03)
        self._prepare()
        return self

    def stop(self, timeout: float = 30) -> None:
        """End the server in its own clean way, by kill -9 after `timeout` seconds; no error if it is down."""
        if self._process and self.running:
            self.resume()
            self._ask_to_end(self._process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """kill -9, as a crash would."""
        with self._changing:
            if self._process:
                self._watcher.kill()
                self._watcher.communicate()
                self._process.kill()
                self._process.communicate()
                self._process = None

    def close(self) -> None:
        """Stop and forget the data."""
        self.stop()
        self._folder.cleanup()

    def pause(self) -> None:
        """Freeze the process: the kernel goes on accepting connections, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process, "not running"
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    def url(self, path: str = "", *, user: str = "", password: str | None = None, **params: str) -> str:
        """`scheme://user:password@127.0.0.1:port/path?params`, quoted; by default of the user `migrate`."""
        secret = quote(self.password if password is None else password, safe="")
        login = f"{quote(user or self.user, safe='')}:{secret}"
        query = urlencode({name.replace("_", "-"): value for name, value in params.items()})
        return f"{self.scheme}://{login}@{HOST}:{self.port}/{path}{'?' if query else ''}{query}"

    def answers(self) -> bool:
        """Whether the server greets a new client within a second."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _prepare(self) -> None:
        """What must be done once the server answers."""

    def _ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()


def _clean_up_when_we_die(pid: int, folder: Path) -> subprocess.Popen[bytes]:
    """A shell that waits for the end of our pipe, which comes even if we are killed -9.

    Not PR_SET_PDEATHSIG: it is bound to the thread that started the server, and tests start some in threads.
    """
    script = 'read _; kill -9 "$1"; rm -rf "$2"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(pid), str(folder)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
