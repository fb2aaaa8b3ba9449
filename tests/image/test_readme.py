"""README.md's sections on docker run, compose and steps of one's own, typed by a stranger into the shell of a checkout.

What they type goes to `docker` through a script that puts this test's image, network and databases in the place of those
that a stranger has: no registry is reachable, and nothing here may touch an image or a project named migrate.
"""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.image.containers import BUILD, Done, Stack
from tests.image.engine import ROOT
from tests.readme import blocks, commands, files

on_mysql = pytest.mark.parametrize("stack", ["mysql"], indirect=True)
SECTIONS = ("With docker run", "In compose", "Your own steps")
SHIM = """#!{python}
import os, sys
sys.argv[0] = {docker!r}
words, names = sys.argv[1:], {names!r}
if words[0] == "compose":
    at = words.index("-f") + 1
    if words[at] == "compose/compose.yaml":
        words[at:at + 1] = [words[at], "-f", "compose/compose.test.yaml"]
        words[1:1] = ["--ansi", "never"] + ([] if "-p" in words else ["-p", {stack!r}])
    words = [names.get(word, word) if words[i - 1] == "-p" else word for i, word in enumerate(words)]
else:
    words = [names.get(word, word) for word in words]
    if words[0] == "build":
        words[1:1] = {build!r}
os.execv({docker!r}, ["docker", *words])
"""


@dataclass(frozen=True)
class Reader:
    """Somebody with a checkout, a shell, and databases on the network of README.md's compose project."""

    stack: Stack
    checkout: Path
    programs: Path

    def types(self, command: str) -> Done:
        """The command as it stands; that it fails fails no test here."""
        path = f"{self.programs}:{self.stack.docker.environ['PATH']}"
        environ = self.stack.docker.environ | self.stack.environ | {"PATH": path}
        environ["COMPOSE_PROJECT_NAME"] = f"{self.stack.name}-reports"  # of the one file that is given without a name
        done = subprocess.run(["sh", "-c", command], cwd=self.checkout, env=environ, stdin=subprocess.DEVNULL,
                              capture_output=True, encoding="utf-8", timeout=300)  # fmt: skip
        return Done(done.returncode, done.stdout.replace("\x1b[2K", ""), done.stderr)  # `logs` begins with "erase the line"

    def carries_out(self, title: str, leave_out: str = "nothing") -> dict[str, Done]:
        """Every command of a section, in order; each must succeed."""
        outputs = {}
        for command in commands(title):
            if leave_out not in command:
                outputs[command] = done = self.types(command)
                assert done.code == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return outputs


@pytest.fixture
def reader(stack: Stack, image: str, tmp_path: Path) -> Iterator[Reader]:
    """A checkout with the files that the sections name, and empty databases."""
    checkout, programs = tmp_path / "migrate", tmp_path / "programs"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".git", ".venv", ".*cache", ".hypothesis", "__pycache__", "build", "secrets"))
    shutil.copytree(stack.environ["MIGRATE_SECRETS"], checkout / "compose/secrets")
    names = {"migrate": image, "migrate_default": f"{stack.name}_default", "shop-migrate": f"{image}-shop",
             "snapshot": f"{stack.name}-snapshot"}  # fmt: skip
    for title in SECTIONS:
        for name, text in files(title):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            text = text.replace("FROM migrate\n", f"FROM {image}\n").replace("image: migrate\n", f"image: {image}\n")
            (checkout / name).write_text(text.replace("migrate_default", names["migrate_default"]))
    programs.mkdir()
    docker = shutil.which("docker", path=stack.docker.environ["PATH"])
    script = SHIM.format(python=sys.executable, docker=docker, names=names, build=BUILD, stack=stack.name)
    (programs / "docker").write_text(script)
    (programs / "docker").chmod(0o755)
    stack.empty()
    reader = Reader(stack, checkout, programs)
    yield reader
    reader.types("docker compose -f reports/compose.yaml down --volumes --timeout 1")
    reader.types("docker compose -p snapshot -f compose/compose.yaml down --volumes --timeout 1")
    stack.docker("image", "rm", "--force", names["shop-migrate"])


@on_mysql
def test_docker_run(reader: Reader) -> None:
    """The version, a dry run that leaves the databases empty, and a run in a container that may do nothing else."""
    done = list(reader.carries_out("With docker run").values())
    version, dry, run = done[1], done[2].lines[-1], done[3].lines[-1]
    assert version.stdout.startswith("migrate ")
    assert (dry["exit_code"], len(dry["pending"])) == (0, 7)
    assert (run["exit_code"], run["applied"]) == (0, dry["pending"])


@on_mysql
def test_compose(reader: Reader) -> None:
    """The gate opens, says so in its last line, and a dry run of the finished schemas has nothing to do."""
    outputs = reader.carries_out("In compose")
    report, dry = (next(done for command, done in outputs.items() if word in command).lines[-1]
                   for word in ("--tail 1", "--dry-run"))  # fmt: skip
    assert (report["event"], report["exit_code"], len(report["applied"])) == ("report", 0, 7)
    assert (dry["exit_code"], dry["pending"]) == (0, [])
    assert reader.stack.state("app")["Status"] == "running"


def test_the_part_of_the_compose_file_that_is_shown_is_in_it() -> None:
    """And the closed gate's last line has the fields and the remedy that a real one has."""
    (shown,) = (yaml.safe_load(block) for block in blocks("In compose", "yaml") if "within compose/compose.yaml" in block)
    whole = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())
    whole["services"]["migrate"]["image"] = "migrate"  # ${MIGRATE_IMAGE:-migrate}
    assert contains(whole, shown)
    assert json.loads(blocks("In compose", "json")[0])["exit_code"] == 7


def contains(whole: Any, part: Any) -> bool:
    """Whether each mapping of `part` is there, with perhaps more in it."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part)


@on_mysql
def test_a_dependent_in_another_project(reader: Reader) -> None:
    """It waits while steps are pending, starts when they are applied, and is refused after a drift."""
    (command,) = (command for command in commands("In compose") if "reports/" in command)
    shown = reader.checkout / "reports/compose.yaml"
    states = Dependents(reader, command)
    with concurrent.futures.ThreadPoolExecutor() as other:
        up = other.submit(reader.types, command)
        states.until_logged("7 steps pending")
        assert states.of("reports")["Status"] == "created"
        reader.stack.migrated()
        assert up.result(60).code == 0
        assert states.of("wait")["ExitCode"] == 0
        states.until_logged("reports: the schemas are ready", "reports")

    reader.stack.query("mysql", "ALTER TABLE replica_instances MODIFY COLUMN created_by VARCHAR(254) NULL")
    shown.write_text(shown.read_text().replace("MIGRATE_WAIT_TIMEOUT: 600", "MIGRATE_WAIT_TIMEOUT: 2"))
    assert "exit 7" in reader.types(command).stderr
    assert states.of("reports")["Status"] != "running"
    assert "replica_instances.created_by" in reader.types(command.replace("up -d", "logs wait")).stdout


@dataclass(frozen=True)
class Dependents:
    """The services of the other project."""

    reader: Reader
    command: str

    def of(self, service: str) -> Any:
        name = self.reader.types(self.command.replace("up -d", f"ps --all --quiet {service}")).stdout.strip()
        return self.reader.stack.docker.inspect(name)["State"]

    def until_logged(self, text: str, service: str = "wait", seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in (log := self.reader.types(self.command.replace("up -d", f"logs {service}")).stdout):
            assert time.monotonic() < end, log
            time.sleep(0.3)


@on_mysql
@pytest.mark.parametrize("leave_out", [
    pytest.param("nothing", id="added to the image's own"),
    pytest.param("docker create", id="alone", marks=pytest.mark.full)])  # fmt: skip
def test_your_own_steps(reader: Reader, leave_out: str) -> None:
    """A snapshot on databases that are thrown away; the directory mounted; an image made of it: verified in each."""
    outputs = list(reader.carries_out("Your own steps", leave_out).items())
    mounted, built = (done.lines[-1] for command, done in outputs if command.startswith("docker run"))
    assert mounted["applied"][-1:] == ["0008_orders.mysql"]
    assert (mounted["exit_code"], mounted.get("unverified", [])) == (0, [])
    assert (built["exit_code"], built["applied"], built.get("unverified", [])) == (0, [], [])
    assert len(mounted["applied"]) == (8 if leave_out == "nothing" else 1)
    expected = json.loads((reader.checkout / "shop/sql/expected.mysql.json").read_text())
    assert "orders" in json.dumps(expected)
    assert (reader.checkout / "shop/sql/expected.mysql.json").stat().st_uid == os.getuid()


def test_every_file_that_is_shown_is_used() -> None:
    """By a command that names it, or its directory."""
    typed = [word for title in SECTIONS for command in commands(title) for word in re.split(r"[ :]", command)]
    shown = [Path(name) for title in SECTIONS for name, _ in files(title)]
    assert len(shown) == 4
    assert [name for name in shown if str(name) not in typed and str(name.parent) not in typed] == []
