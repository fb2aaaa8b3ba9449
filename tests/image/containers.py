"""A Docker engine, the product's image and compose stacks for tests; whatever cannot be had fails the tests."""

import importlib.util
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.image.engine import ROOT, docker_engine
from tests.servers import engines
from tests.servers.mysql import ENGINES

CA_BUNDLE = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
BUILD = ["--secret", f"id=cacert,src={CA_BUNDLE}"] if CA_BUNDLE.is_file() else []
OF_THE_ENGINE = ("/dev", "/proc", "/sys", "/.dockerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab")
# Both databases, queried as a user of the stack would: by the image's own drivers, from inside its network.
QUERY = """
import json, os, sys
from urllib.parse import urlsplit
target, sql = sys.argv[1:]
url = urlsplit(os.environ[f"{target.upper()}_URL"])
password = open(os.environ[f"{target.upper()}_PASSWORD_FILE"]).read()
if target == "clickhouse":
    import clickhouse_connect
    client = clickhouse_connect.get_client(
        host=url.hostname, port=url.port, username=url.username, password=password)
    rows = client.query(sql).result_rows if sql.startswith(("SELECT", "SHOW")) else client.command(sql) and []
else:
    import mysql.connector
    client = mysql.connector.connect(host=url.hostname, port=url.port, user=url.username, password=password,
                                     database=url.path[1:], use_pure=True, autocommit=True)
    cursor = client.cursor()
    cursor.execute(sql)
    rows = cursor.fetchall() if cursor.with_rows else []
print(json.dumps(rows, default=str))
"""


@dataclass(frozen=True)
class Done:
    """A finished docker command."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as the JSON lines of a run of the job."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass(frozen=True)
class Docker:
    """The docker command line on the session's engine."""

    environ: dict[str, str]

    def __call__(self, *arguments: str, check: bool = False, timeout: float = 300, **environ: str) -> Done:
        """Run `docker ARGUMENTS`; with `check`, a failure fails the test and shows the end of the output."""
        done = subprocess.run(
            ["docker", *arguments], env=self.environ | environ, cwd=ROOT, timeout=timeout,
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
        )  # fmt: skip
        ends = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{ends}"
        return Done(done.returncode, done.stdout, done.stderr)

    def build(self, tag: str, *options: str) -> str:
        """Build the product's Dockerfile as `tag`, and return it."""
        self("build", *BUILD, *options, "--tag", tag, ".", check=True)
        return tag

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows about an image or a container."""
        return json.loads(self("inspect", name, check=True).stdout)[0]


@dataclass(frozen=True)
class Stack:
    """A compose project: compose.yaml with the databases of compose.test.yaml."""

    docker: Docker
    name: str
    environ: dict[str, str] = field(repr=False)

    def __call__(self, *arguments: str, check: bool = False, more: Sequence[Path] = ()) -> Done:
        """Run `docker compose ARGUMENTS` on this project, perhaps with more files that change it."""
        files = [word for file in ("compose/compose.yaml", "compose/compose.test.yaml", *more) for word in ("-f", str(file))]
        return self.docker("compose", "--ansi", "never", "-p", self.name, *files, *arguments, check=check, **self.environ)

    def empty(self) -> None:
        """Running databases with nothing in them, and no other container."""
        self("down", "--volumes", "--timeout", "1", check=True)
        self("up", "--detach", "--wait", "clickhouse", "mysql", check=True)

    def migrated(self) -> None:
        """Both schemas in place; containers of migrate and app as if they had never been."""
        self("rm", "--stop", "--force", "app", "migrate", check=True)
        self("run", "--rm", "migrate", check=True)

    def query(self, target: str, sql: str) -> list[list[Any]]:
        """The rows of one statement, sent as the user that migrates."""
        command = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", "migrate", "-c", QUERY, target, sql)
        return json.loads(self(*command, check=True).stdout)

    def container(self, service: str) -> str:
        """The id of a service's one container, running or not."""
        return self("ps", "--all", "--quiet", service, check=True).stdout.strip()

    def state(self, service: str) -> dict[str, Any]:
        """How a service's container is: Status, ExitCode, StartedAt, FinishedAt."""
        return self.docker.inspect(self.container(service))["State"]

    def report(self) -> dict[str, Any]:
        """The last line that migrate logged in the last `up`."""
        return self.docker("logs", self.container("migrate"), check=True).lines[-1]


def python(docker: Docker, image: str, code: str, *options: str) -> str:
    """What a Python program prints when the image's interpreter runs it."""
    return docker("run", "--rm", *options, "--entrypoint", "python3", image, "-c", code, check=True).stdout.strip()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """The command line of a Docker engine that already runs, else of a private one."""
    with docker_engine() as environ:
        yield Docker(environ)


@pytest.fixture(scope="session")
def image(docker: Docker) -> Iterator[str]:
    """The product's image, built from this checkout."""
    tag = f"migrate-test:{os.getpid()}"
    yield docker.build(tag)
    docker("image", "rm", "--force", tag)


@pytest.fixture(scope="session")
def slim(docker: Docker, image: str) -> Iterator[str]:
    """The image for debugging: the same program on the whole base image."""
    tag = f"{image}-slim"
    yield docker.build(tag, "--target", "slim")
    docker("image", "rm", "--force", tag)


@pytest.fixture(scope="session")
def files(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tarfile.TarInfo]:
    """All that is in the image, by path; not what the engine adds to each container."""
    archive = tmp_path_factory.mktemp("image") / "root.tar"
    container = docker("create", image, check=True).stdout.strip()
    docker("export", "--output", str(archive), container, check=True)
    docker("rm", container, check=True)
    with tarfile.open(archive) as content:
        everything = {f"/{entry.name.rstrip('/')}": entry for entry in content}
    return {path: entry for path, entry in everything.items() if not path.startswith(OF_THE_ENGINE)}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def stack(
    request: pytest.FixtureRequest, docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A compose project on ClickHouse and one of the MySQL dialects; its databases are built, nothing runs yet."""
    with ENGINES[request.param]():
        pass  # its start leaves in the cache what the build copies: an unpacked server and a fresh data directory
    secrets = tmp_path_factory.mktemp("compose") / "secrets"
    name = f"migrate-test-{os.getpid()}-{request.param}"
    stack = Stack(docker, name, {
        "MIGRATE_IMAGE": image, "MIGRATE_SECRETS": str(secrets),
        "MIGRATE_TEST_CLICKHOUSE": f"{name}-clickhouse", "MIGRATE_TEST_MYSQL": name,
        "MIGRATE_TEST_PACKAGES": str(Path(importlib.util.find_spec("chdb").origin).parents[1]),
        "MIGRATE_TEST_ENGINE": str(engines.cache() / request.param),
    })  # fmt: skip
    subprocess.run(["sh", ROOT / "compose/secrets.sh", secrets], check=True)
    stack("build", "clickhouse", "mysql", check=True)
    yield stack
    stack("down", "--volumes", "--timeout", "1")
    docker("image", "rm", "--force", name, f"{name}-clickhouse")
