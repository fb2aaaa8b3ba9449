"""The pods that the chart renders, run for real against live databases: image, arguments, mounts, user, restrictions.

Values, Secrets and ConfigMaps are those of README.md's section; pod.py does what a kubelet would do.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.pod import Ended, Kubelet
from tests.helm.programs import ROOT, Helm, Objects, Values, documents, of_kind, pods
from tests.helm.readme import Workplace
from tests.helm.test_chart import dependent
from tests.image.containers import Docker, Stack

pytestmark = pytest.mark.parametrize("stack", ["mysql"], indirect=True)
IMAGE = "registry.example.com/migrate:0.1.0"  # as README.md names it
SLOW = "0008_slow.mysql.sql"
STEPS = {
    "0008_refused.mysql.sql": "ALTER TABLE no_such_table ADD COLUMN a INT;\n",
    SLOW: "CREATE TABLE IF NOT EXISTS slow (a INT) ENGINE=InnoDB;\nDO SLEEP(600);\n",
}
# What a container prints about the restrictions that it runs under.
LOOK = """
import json, os
def writable(path):
    try:
        open(path + "/x", "w").close()
        return True
    except OSError as error:
        return error.strerror
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "user": [os.getuid(), os.getgid()], "groups": os.getgroups(),
    "writable": {path: writable(path) for path in ("/", "/app", "/app/sql", "/tmp", "/run/databases")},
    "files": sorted(name for name in os.listdir("/run/databases") if not name.startswith("..")),
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    **{name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}}))
"""


@dataclass(frozen=True)
class Cluster:
    """README.md's releases, on a kubelet whose network has both databases."""

    helm: Helm
    kubelet: Kubelet
    stack: Stack
    values: Values
    app: dict[str, Any]
    readme: Objects

    def objects(self, **values: Any) -> Objects:
        """The release of the section's values.yaml, with other values where a test needs them."""
        return self.helm.objects({**self.values, **values}, release="schema") if values else self.readme

    def job(self, **values: Any) -> dict[str, Any]:
        return of_kind(self.objects(**values), "Job")

    def run(self, **values: Any) -> Ended:
        """The Job's first pod."""
        return self.kubelet.run(self.job(**values)["spec"]["template"]["spec"])

    def verify(self) -> Ended:
        """The pod of `helm test`."""
        return self.kubelet.run(of_kind(self.readme, "Pod")["spec"])

    def wait(self, seconds: int) -> Ended:
        """The init container that the chart's notes give a dependent; it waits that long."""
        notes = self.helm.notes({**self.values, "settings": {"MIGRATE_WAIT_TIMEOUT": seconds}})
        return self.kubelet.run(dependent(notes), "initContainers")


@pytest.fixture(scope="module")
def cluster(
    docker: Docker, image: str, stack: Stack, helm4: Helm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The section carried out, with the passwords of the databases that run."""
    directory = tmp_path_factory.mktemp("cluster")
    stack("up", "--detach", "--wait", "clickhouse", "mysql", check=True)
    secrets = Path(stack.environ["MIGRATE_SECRETS"])
    workplace = Workplace(helm4, directory)
    workplace.prepare({f"{name}-password": (secrets / f"{name}_password").read_text() for name in ("clickhouse", "mysql")})
    workplace.carry_out()
    objects = [*workplace.created, config_map(helm4, "more", STEPS, directory / "more")]
    ((_, app),) = pods(documents((directory / "app.yaml").read_text()))
    docker("tag", image, IMAGE, check=True)
    kubelet = Kubelet(docker, f"{stack.name}_default", directory / "kubelet", objects)
    values = yaml.safe_load((directory / "values.yaml").read_text())
    yield Cluster(helm4, kubelet, stack, values, app, next(iter(workplace.releases.values())))
    kubelet.remove(*kubelet.messages)
    docker("image", "rm", IMAGE, check=True)


def config_map(helm: Helm, name: str, files: dict[str, str], directory: Path) -> dict[str, Any]:
    """What `kubectl create configmap NAME --from-file=DIRECTORY` makes of these files."""
    directory.mkdir()
    for file, text in files.items():
        (directory / file).write_text(text)
    command = ("create", "configmap", name, f"--from-file={directory}", "--dry-run=client", "--output=yaml")
    return yaml.safe_load(helm("kubectl", *command))


def told(ended: Ended) -> Any:
    """The termination message, which is the report that ends the log."""
    message = json.loads(ended.message)
    assert len(ended.message.encode()) <= 4096, "a kubelet cuts the rest off"
    assert (message["event"], message["exit_code"]) == ("report", ended.code)
    assert message.items() <= ended.report.items()
    return message


def verdict(job: dict[str, Any], code: int) -> str:
    """What the Job's controller makes of a container that ended so."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return rule["action"]
    return "Complete" if code == 0 else "Count"


def test_the_gate_opens_and_closes(cluster: Cluster) -> None:
    """README.md's dependent waits for empty databases, the Job migrates them, the dependent starts; drift refuses the next."""
    cluster.stack.empty()
    waiting = cluster.kubelet.start(cluster.app, "initContainers")
    until_logged(cluster, waiting, '"waiting"')
    assert cluster.wait(seconds=8).code == 4

    migrated = cluster.run()
    assert (migrated.code, told(migrated)["pending"]) == (0, [])
    assert verdict(cluster.job(), migrated.code) == "Complete"
    cluster.kubelet.docker("wait", waiting, check=True)
    assert told(cluster.kubelet.ended(waiting))["exit_code"] == 0
    assert cluster.verify().code == 0

    change = "ALTER TABLE metrics.NodeMetrics MODIFY COLUMN load_1"
    cluster.stack.query("clickhouse", f"{change} String")
    try:
        refused = cluster.wait(seconds=8)
        assert (refused.code, "NodeMetrics.load_1" in refused.message) == (7, True), refused.message
        again = cluster.run()
        assert "NodeMetrics.load_1" in str(told(again)["findings"])
        assert verdict(cluster.job(), again.code) == "FailJob"
        assert cluster.verify().code == 7
    finally:
        cluster.stack.query("clickhouse", f"{change} Float64")


def test_the_pod_has_no_more_rights_than_it_needs(cluster: Cluster) -> None:
    """Seen from inside: the user, no capability, nothing but its message can be written, two readable secrets."""
    pod = cluster.job()["spec"]["template"]["spec"]
    (seen,) = cluster.kubelet.run(pod, entrypoint=("python3", "-c", LOOK)).log
    read_only = "Read-only file system"
    assert seen == {
        "user": [65532, 65532], "groups": [65532], "files": ["clickhouse_password", "mysql_password"], "token": False,
        "writable": dict.fromkeys(("/", "/app", "/app/sql", "/tmp", "/run/databases"), read_only),
        "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip


@pytest.mark.parametrize(("code", "outcome", "values"), [
    (2, "FailJob", {"mysql": {"url": "mysql://somebody@mysql:3306/app", "existingSecret": "databases"}}),
    (3, "Count", {"clickhouse": {"url": "http://nowhere.invalid/"}, "settings": {"MIGRATE_WAIT_TIMEOUT": 1}}),
    (3, "Count", {"clickhouse": {"url": "http://nowhere.invalid/"}, "settings": {"MIGRATE_DEADLINE": 1}}),
    (6, "FailJob", {"steps": {"configMap": "more", "files": ["0008_refused.mysql.sql"]}}),
], ids=["wrong user", "no database", "own deadline", "refused statement"])  # fmt: skip
def test_the_job_reports_why_it_failed(cluster: Cluster, code: int, outcome: str, values: Values) -> None:
    """The exit code, the termination message, and what the Job's controller makes of them."""
    if code == 6:
        cluster.stack.migrated()
    ended = cluster.run(**values)
    assert told(ended)["exit_code"] == code, ended.report
    assert verdict(cluster.job(**values), code) == outcome


def test_steps_from_a_config_map(cluster: Cluster) -> None:
    """README.md's one more step is applied after the image's own; an edited copy of the whole directory is exit 5."""
    cluster.stack.migrated()
    added = cluster.run(**yaml.safe_load((cluster.kubelet.directory.parent / "steps.yaml").read_text()))
    assert (added.code, told(added)["applied"]) == (0, ["0008_orders.mysql"])
    assert cluster.stack.query("mysql", "SELECT COUNT(*) FROM orders") == [[0]]

    own = {path.name: path.read_text() for path in (ROOT / "sql").iterdir() if path.is_file()}
    edited = {name: text + ("\n# edited\n" if name.startswith("0003") else "") for name, text in own.items()}
    for name, files, code in (("own", own, 0), ("edited", edited, 5)):
        made = config_map(cluster.helm, name, files, cluster.kubelet.directory / name)
        kubelet = Kubelet(cluster.kubelet.docker, cluster.kubelet.network, cluster.kubelet.directory / f"as-{name}",
                          [*cluster.kubelet.objects, made])  # fmt: skip
        pod = cluster.job(steps={"configMap": name})["spec"]["template"]["spec"]
        ended = kubelet.run(pod)
        assert told(ended)["exit_code"] == code, ended.report
    assert "0003" in ended.message
    cluster.stack.query("mysql", "DELETE FROM schema_migrations WHERE version = 8")


def test_two_jobs_at_once_and_an_eviction(cluster: Cluster) -> None:
    """A helm that gave up leaves its Job running: the next one's pod waits and ends with 4; SIGTERM frees the lock."""
    cluster.stack.migrated()
    slow = {"steps": {"configMap": "more", "files": [SLOW]}}
    first = cluster.kubelet.start(cluster.job(**slow)["spec"]["template"]["spec"])
    until_logged(cluster, first, '"step_started"')

    second = cluster.run(**slow, settings={"MIGRATE_LOCK_TIMEOUT": 1})
    assert verdict(cluster.job(**slow), second.code) == "Count"
    assert second.code == 4, second.report

    grace = cluster.job()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    began = time.monotonic()
    cluster.kubelet.docker("stop", "--time", str(grace), first, check=True)
    assert time.monotonic() - began < grace / 2
    evicted = cluster.kubelet.ended(first)
    assert told(evicted)["exit_code"] == 143, evicted.report
    assert verdict(cluster.job(), evicted.code) == "Count"  # unless the pod carries DisruptionTarget, which is ignored
    assert cluster.run().code == 0


def until_logged(cluster: Cluster, container: str, text: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while text not in (log := cluster.kubelet.docker("logs", container, check=True).stdout):
        assert time.monotonic() < end, log
        time.sleep(0.2)
