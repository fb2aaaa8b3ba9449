"""Write, as a CycloneDX document, what minimal.py has put into a directory.

usage: sbom.py DIRECTORY > migrate.cdx.json

The image has no package database that a scanner could read. So the build stage, which has one, asks it for the owner of
every file that was copied. The same files give the same bytes: no time, no random number.
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

LIBRARIES = "app/lib"
OWNERS = Path("/var/lib/dpkg/info")
MADE_BY = {"/etc/ssl/certs/ca-certificates.crt": "ca-certificates"}  # a file that no package ships, but one makes
Component = dict[str, Any]


def main(root: Path) -> None:
    """Print the document."""
    version = re.search(r'__version__ = "(.+)"', (root / "app/migrator/__init__.py").read_text())[1]
    components = sorted([*python_packages(root), *debian_packages(root)], key=lambda found: found["bom-ref"])
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "migrate", "name": "migrate", "version": version}},
        "components": components,
    }  # fmt: skip
    json.dump(document, sys.stdout, indent=2)
    print()


def python_packages(root: Path) -> Iterator[Component]:
    for found in importlib.metadata.distributions(path=[str(root / LIBRARIES)]):
        name = re.sub(r"[-_.]+", "-", found.name).lower()
        yield component(name, found.version, f"pkg:pypi/{name}@{quote(found.version)}")


def debian_packages(root: Path) -> Iterator[Component]:
    """The owners of all files; the interpreter by itself where it is none's, as in the official Python image."""
    files = {f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    packages = {MADE_BY[name] for name in files & MADE_BY.keys()}
    packages |= {package for path, package in owners() if path in files}
    system = platform.freedesktop_os_release()
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name, version, architecture in (line.split("\t") for line in listing.splitlines()):
        if name in packages:
            where = f"?arch={architecture}&distro={system['ID']}-{system['VERSION_ID']}"
            yield component(name, version, f"pkg:deb/{system['ID']}/{quote(name)}@{quote(version)}{where}")
    if not any(name.startswith("libpython3") for name in packages):
        yield component("python", platform.python_version(), f"pkg:generic/python@{platform.python_version()}")


def owners() -> Iterator[tuple[str, str]]:
    """Path and package of every installed file, with /usr/lib for /lib and its like."""
    for listing in OWNERS.glob("*.list"):
        package = listing.stem.partition(":")[0]
        for path in listing.read_text().splitlines():
            yield os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)), package


def component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
