"""An empty ClickHouse and an empty MySQL or MariaDB: until Ctrl-C, or for one command that is told where."""

import argparse
import os
import shlex
import signal
import subprocess
import sys

from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import ENGINES


def main() -> int:
    """Print the addresses as `export` and wait; or run the command with them, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("up", choices=["up"])
    parser.add_argument("--engine", choices=ENGINES, default="mysql")
    parser.epilog = "A command to run with them stands after --."
    words, command = _split_at_dashes(sys.argv[1:])
    options = parser.parse_args(words)
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job ignores it
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    with (
        ClickHouseServer(password="migrate") as clickhouse,
        ENGINES[options.engine](password="migrate") as mysql,
    ):
        mysql.create_database("migrate")
        environ = {"CLICKHOUSE_URL": clickhouse.url(), "MYSQL_URL": mysql.url("migrate")}
        if command:
            return subprocess.run(command, env=os.environ | environ).returncode
        print("export", *(f"{name}={shlex.quote(value)}" for name, value in environ.items()), flush=True)
        signal.pause()
    return 0


def _split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


if __name__ == "__main__":
    sys.exit(main())
