"""README.md's section on Kubernetes works as it is written. What it installs is run for real in test_pod.py."""

import re

import pytest
import yaml

from tests.helm.programs import Helm, of_kind, pods
from tests.helm.readme import SECTION, Workplace
from tests.helm.rules import HOOK, needs, restricted, violations
from tests.helm.test_chart import validate
from tests.readme import commands, files


@pytest.fixture(scope="module")
def workplace(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """All files and commands of the section, by each helm."""
    workplace = Workplace(helm, tmp_path_factory.mktemp("reader"))
    workplace.prepare()
    workplace.carry_out()
    return workplace


def test_every_command_gives_what_a_cluster_accepts(workplace: Workplace) -> None:
    """The Secrets and ConfigMaps that the pods want are those that the section creates, with the keys they want."""
    created = {(item["kind"], item["metadata"]["name"]): item for item in workplace.created}
    assert len(workplace.releases) == 4
    for objects in workplace.releases.values():
        assert violations(objects) == []
        for item in objects:
            validate(item)
        for _, spec in pods(objects):
            assert needs(spec) - {("ServiceAccount", "default")} <= created.keys()
            for source in spec["volumes"][0]["projected"]["sources"]:
                keys = {entry["key"] for entry in source["secret"]["items"]}
                assert keys <= created["Secret", source["secret"]["name"]]["data"].keys()


def test_the_dependents_gate_asks_the_same_databases(workplace: Workplace) -> None:
    """app.yaml's init container has the Job's addresses, the Secret that was created, and a restricted pod's rights."""
    app = yaml.safe_load((workplace.directory / "app.yaml").read_text())
    validate(app)
    ((_, spec),) = pods([app])
    (wait,) = spec["initContainers"]
    pod = {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
           "containers": [wait], "volumes": spec["volumes"]}  # fmt: skip
    assert list(restricted(pod)) == []
    job = of_kind(next(iter(workplace.releases.values())), "Job")["spec"]["template"]["spec"]["containers"][0]
    addresses = [{entry["name"]: entry["value"] for entry in one["env"] if entry["name"].endswith("_URL")} for one in (job, wait)]
    assert addresses[0] == addresses[1]
    assert wait["image"] == job["image"]
    (secret,) = (item for item in workplace.created if item["kind"] == "Secret")
    assert spec["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"]
    paths = [entry["value"] for entry in wait["env"] if entry["name"].endswith("_FILE")]
    assert paths == [f"{wait['volumeMounts'][0]['mountPath']}/{key}" for key in secret["data"]]


def test_each_release_is_what_its_paragraph_says(workplace: Workplace) -> None:
    """A hook, a hook of the application's release, an ordinary Job that stays, and a hook with one more step."""
    hook, shop, ordinary, steps = (of_kind(objects, "Job") for objects in workplace.releases.values())
    assert hook["metadata"]["annotations"][HOOK] == shop["metadata"]["annotations"][HOOK] == "pre-install,pre-upgrade"
    assert shop["metadata"]["name"] == "shop-migrate"
    assert ordinary["metadata"]["annotations"] == {"argocd.argoproj.io/sync-wave": "-1"}
    assert "ttlSecondsAfterFinished" not in ordinary["spec"]
    mounts = steps["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert [mount["mountPath"] for mount in mounts] == ["/run/databases", "/app/sql/0008_orders.mysql.sql"]
    (config_map,) = (item for item in workplace.created if item["kind"] == "ConfigMap")
    assert list(config_map["data"]) == ["0008_orders.mysql.sql"]


def test_helm_is_told_to_wait_longer_than_the_job_may_take(workplace: Workplace) -> None:
    """Else it gives up while the Job goes on."""
    job = of_kind(next(iter(workplace.releases.values())), "Job")["spec"]
    longest = job["activeDeadlineSeconds"] + job["template"]["spec"]["terminationGracePeriodSeconds"]
    minutes = [int(found[1]) for command in commands(SECTION) if (found := re.search(r"--timeout (\d+)m", command))]
    assert len(minutes) == 4
    assert all(60 * timeout >= longest + 30 for timeout in minutes)


def test_every_file_is_used(workplace: Workplace) -> None:
    """By a command, or by kubectl apply."""
    text = "\n".join(commands(SECTION))
    unused = [name for name, _ in files(SECTION) if name.split("/")[0] not in text and name != "app.yaml"]
    assert unused == []
