"""The program's rim: plain text where it is asked for, JSON everywhere else, and always an exit code of the contract."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migrator import __version__
from migrator.errors import EXIT_CODES
from migrator.settings import COMMANDS, SETTINGS
from tests.job import ROOT, Job, run_job


def test_version_is_plain_text() -> None:
    """And nothing else is done."""
    result = run_job("--version")

    assert (result.code, result.stdout, result.stderr) == (0, f"migrate {__version__}\n", "")


def test_help_names_every_command_setting_and_exit_code() -> None:
    """With the sentences that the README has."""
    result = run_job("--help")
    text = re.sub(r"\s+", " ", result.stdout)
    parts = [*COMMANDS, *COMMANDS.values(), *EXIT_CODES.values(), *map(str, EXIT_CODES)]
    parts += [part for setting in SETTINGS for part in (setting.name, setting.meaning, setting.option)]

    assert result.code == 0
    assert [part for part in parts if part not in text] == []


@pytest.mark.parametrize(("argv", "environ", "named"), [
    (["--frobnicate"], {}, "--frobnicate"),
    ([], {"MIGRATE_REPAIR": "some"}, "MIGRATE_REPAIR"),
    ([], {"MYSQL_URL": "mysql://u:k4narie1@my/shop", "MYSQL_URL_FILE": "/x"}, "MYSQL_URL_FILE"),
    (["--steps", "/no/such"], {}, "/no/such"),
    ([], {}, "CLICKHOUSE_URL is not set"),
])  # fmt: skip
def test_refusal_is_one_line_and_the_report(argv: list[str], environ: dict[str, str], named: str) -> None:
    """Before anything is contacted, and without a word on stderr."""
    result = run_job(*argv, env=environ)

    assert result.code == result.report["exit_code"] == 2
    assert [line["event"] for line in result.lines] == ["error", "report"]
    assert named in result.lines[0]["error"]
    assert named in result.report["error"]
    assert result.stderr == ""


def test_refusal_respects_the_log_format() -> None:
    """As far as that can be read."""
    result = run_job("--frobnicate", env={"MIGRATE_LOG_FORMAT": "text"})

    assert result.code == 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d error +error .*--frobnicate.*\n.* report exit_code=2 .*\n", result.stdout)


def test_unknown_variable_is_a_warning() -> None:
    """It is named, and the run goes on."""
    result = run_job("--steps", "/no/such", env={"MIGRATE_PORT": "tcp://10.0.0.1:80"})

    assert result.lines[0]["level"] == "warning"
    assert result.lines[0]["setting"] == "MIGRATE_PORT"
    assert len(result.lines) == 3


@pytest.mark.parametrize("stdout", ["| true; exit ${PIPESTATUS[0]}", ">/dev/full", ">&-"])
def test_reader_that_hangs_up_changes_nothing(stdout: str) -> None:
    """The exit code stays, and nothing that was meant for the log shows up elsewhere."""
    command = f"{sys.executable} entrypoint.py --steps /no/such {stdout}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (2, "")


def test_nothing_is_taken_down_at_the_end(tmp_path: Path) -> None:
    """A thread may still be in OpenSSL then, which would crash: one run in twenty did whose last statement took 2 to 2.06 s."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, sys\natexit.register(os._exit, 99)\nsys.stderr.write('no line end')\n")
    result = run_job("--steps", "/no/such", env={"PYTHONPATH": str(tmp_path)})

    assert (result.code, result.stderr) == (2, "no line end")


def test_bug_ends_in_one_with_the_report(tmp_path: Path) -> None:
    """The place is in the log, as one more JSON line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\nm = types.ModuleType('migrator.job')\nm.run = lambda *a: 1 / 0\nsys.modules[m.__name__] = m\n")
    result = run_job(env={"PYTHONPATH": str(tmp_path)})

    assert result.code == result.report["exit_code"] == 1
    assert "ZeroDivisionError" in result.report["error"]
    assert "sitecustomize.py" in result.lines[0]["traceback"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_before_anything_is_connected_still_gives_the_report(tmp_path: Path, number: signal.Signals,
                                                                    code: int) -> None:
    """As PID 1 a signal must not be lost; before Python itself is up there is nobody to handle it."""
    (tmp_path / "0001_a.mysql.sql").write_text("SELECT 1")
    job = Job("--steps", str(tmp_path), env={"MYSQL_URL": "mysql://u:p@127.0.0.1:1/d", "MIGRATE_VERIFY": "steps"})
    job.until("waiting")
    job.process.send_signal(number)
    result = job.wait(5)

    assert result.code == result.report["exit_code"] == code
    assert result.stderr == ""


def test_signal_in_a_destructor_is_not_lost(tmp_path: Path) -> None:
    """Python and compiled code go on after an error there, as if it had not been."""
    (tmp_path / "sitecustomize.py").write_text("""import os, signal, sys, time, types

class Source:
    gen = iter(())
    def close(self):
        os.kill(os.getpid(), signal.SIGTERM)
    __del__ = close

def run(*_):
    from clickhouse_connect.driverc.buffer import ResponseBuffer
    if os.environ["MIGRATE_STEPS_DIR"] == "compiled":
        del Source.__del__
        ResponseBuffer(Source())
    else:
        Source()
    time.sleep(10)

m = types.ModuleType('migrator.job')
m.run = run
sys.modules[m.__name__] = m
""")
    jobs = [Job(env={"PYTHONPATH": str(tmp_path), "MIGRATE_STEPS_DIR": how}) for how in ("compiled", "python")]
    for result in [job.wait(8) for job in jobs]:
        assert (result.code, result.report["error"], result.stderr) == (143, "stopped by SIGTERM", "")
