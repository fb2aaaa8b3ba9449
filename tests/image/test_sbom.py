"""`make image`: labels that say what was built from what, and a list of all that is in it, which nothing else can tell."""

import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import migrator
from tests.image.containers import BUILD, Docker, python
from tests.image.engine import ROOT

SBOM = ROOT / "build/migrate.cdx.json"
OURS = ("/app/entrypoint.py", "/app/migrator", "/app/sql", "/app/lib")
# Written by minimal.py, or links that only lead to other names of the interpreter and to top-level directories.
MADE_HERE = {"/etc/passwd", "/etc/group", "/usr/bin/python", "/usr/lib/ssl/cert.pem"}


@pytest.fixture(scope="module")
def made(docker: Docker) -> Iterator[str]:
    """The image as `make image` builds it."""
    tag = f"migrate-test-made:{os.getpid()}"
    command = ["make", "image", f"IMAGE={tag}", f"BUILD={' '.join(BUILD)}"]
    subprocess.run(command, cwd=ROOT, env=docker.environ, check=True, capture_output=True)
    yield tag
    docker("image", "rm", "--force", tag)


@pytest.fixture(scope="module")
def listed(made: str) -> dict[str, dict[str, str]]:
    """Name and version of everything in the list, by the kind of package."""
    kinds: dict[str, dict[str, str]] = {"pypi": {}, "deb": {}}
    for component in json.loads(SBOM.read_text())["components"]:
        kinds[re.match("pkg:([a-z]+)/", component["purl"])[1]][component["name"]] = component["version"]
    return kinds


def test_the_labels_say_what_was_built(docker: Docker, made: str) -> None:
    """The program's version and the commit."""
    labels = docker.inspect(made)["Config"]["Labels"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    assert labels["org.opencontainers.image.version"] == migrator.__version__
    assert labels["org.opencontainers.image.revision"] == head.strip()


def test_every_python_package_of_the_image_is_listed(docker: Docker, made: str, listed: Any) -> None:
    """With its version, and no other."""
    code = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    installed = json.loads(python(docker, made, code))
    assert listed["pypi"] == {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in installed.items()}


def test_every_other_file_of_the_image_has_its_owner_listed(
    docker: Docker, slim: str, files: dict[str, tarfile.TarInfo], listed: Any
) -> None:
    """As the base image's own package database says; libc, OpenSSL and the interpreter are among them."""
    others = sorted(path for path, entry in files.items() if not entry.isdir() and not path.startswith(OURS))
    others = [path for path in others if "__pycache__" not in path and path.count("/") > 1 and path not in MADE_HERE]
    code = (
        "import json, subprocess\n"
        "print(subprocess.run(['dpkg-query', '--search', *json.load(open('/files'))], capture_output=True, text=True).stdout)"
    )
    answers = asked(docker, slim, code, others)
    owners = {path: owner.partition(":")[0] for owner, path in re.findall(r"^(\S+): (/.*)$", answers, re.M)}
    unowned = [path for path in others if path not in owners and path.replace("/usr", "", 1) not in owners]
    assert unowned == ["/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/ssl/certs/ca-certificates.crt"]  # made when installed
    code = "import subprocess; print(subprocess.check_output(['dpkg-query', '--show'], text=True))"
    versions = dict(re.findall(r"^([^:\t]+)\S*\t(.*)$", asked(docker, slim, code, []), re.M))
    expected = {*owners.values(), "ca-certificates"}
    assert {"libc6", "python3.13-minimal"} | {name for name in expected if name.startswith("libssl")} <= listed["deb"].keys()
    assert listed["deb"] == {name: versions[name] for name in expected}


def asked(docker: Docker, image: str, code: str, paths: list[str]) -> str:
    """What a program prints in a container that holds a list of paths, /files."""
    name = docker("create", "--entrypoint", "python3", image, "-c", code, check=True).stdout.strip()
    try:
        with tempfile.NamedTemporaryFile("w") as file:
            json.dump(paths, file)
            file.flush()
            Path(file.name).chmod(0o644)
            docker("cp", file.name, f"{name}:/files", check=True)
        return docker("start", "--attach", name, check=True).stdout
    finally:
        docker("rm", "--force", name, check=True)


def test_the_same_files_give_the_same_bytes(docker: Docker, made: str, tmp_path: Path) -> None:
    """Made once more, not taken from a cache."""
    again = ("--no-cache-filter", "inventory", "--target", "sbom", "--output", str(tmp_path))
    docker("build", *BUILD, *again, ".", check=True)
    assert (tmp_path / SBOM.name).read_bytes() == SBOM.read_bytes()
