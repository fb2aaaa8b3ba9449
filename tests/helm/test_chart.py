"""The chart, rendered by helm 3 and 4 for Kubernetes 1.25 to 1.36: valid, hardened, and without the known mistakes.

Mistakes that charts with a migration Job were reported for, and what keeps ours from them (a test here unless said otherwise):

temporalio/helm-charts#554            upgrade refused: immutable  test_an_ordinary_job_is_named_by_its_spec
temporalio/helm-charts#709            Argo CD: always revision 1  test_templates_do_not_look_at_the_release_history
temporalio/helm-charts#743            out of sync after its ttl   test_a_ttl_of_null_is_no_ttl
temporalio/helm-charts#916            old hook Jobs pile up       test_the_hooks_name_never_changes
temporalio/helm-charts#432, SigNoz/charts#543, sapcc/helm-charts#11920, evoila/meho#2417
                                      account absent in the hook  rules.hooks; by default there is none to be absent
sysdiglabs/charts#2619                account swept with the hook rules.hooks (before-hook-creation only)
acryldata/datahub-helm#265            Secret absent in the hook   rules.hooks; by default the user's own, made before
acryldata/datahub-helm#25             number in the environment   rules.strings, test_numbers_stay_whole; extraEnv: the schema
SigNoz/charts#895                     permanent error, retried    test_the_codes_that_fail_the_job_are_those_a_retry_does_not_help
SigNoz/charts#363, #828, groundnuty/k8s-wait-for#66, #68
                                      waiting for a Job object    `wait` asks the databases: test_pod.py, the dependent's tests
apache/airflow#11979, #18172          post-hook and --wait        test_the_hook_comes_before_everything_unless_told_otherwise
sentry-kubernetes/charts#753, #2176   deadline without a word     test_the_program_ends_before_kubernetes_ends_it; test_pod.py
langfuse/langfuse#4975, #6639, langfuse-k8s#190, #382
                                      killed by a probe           a Job of its own (rules.hardened: no probe); no dirty flag
comet-ml/opik#7090                    killed, fails for ever      steps resume from any prefix: tests/databases; exit 6 fails at once
lightdash/helm-charts#134             every pod migrates          dependents get `wait`, which writes nothing: test_notes_hold_…
wandb/helm-charts#638, wandb/weave#7020, zifter/clickhouse-migrations#38
                                      no lock                     the program's lock: tests/databases, test_pod.py
helm/helm#4558, #10323                helm killed: pending        README: `helm rollback`; the Job is safe to leave
helm/helm#31851, #32586               hook gone by ttl: helm hangs  rules.job and the schema: ttl of an hour or more
volcano-sh/volcano#5475               hangs after hook-succeeded  not the default; hook.deletePolicy adds it
argoproj/argo-cd#22694                only hooks: nothing deployed  rules.ordinary
argoproj/argo-cd#14283                its annotation replaces helm's  jobAnnotations are the user's; README: hook.enabled false
openfga/helm-charts#100, #131         Flux: post-hooks deadlock   as airflow#18172
SigNoz, Sentry: two migrators at once after a timeout             the lock again; README and NOTES: helm --timeout
"""

import copy
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from migrator import __version__
from migrator.errors import EXIT_CODES
from migrator.settings import SETTINGS
from tests.helm.programs import CHART, ROOT, Helm, Refused, Values, documents, of_kind, pods
from tests.helm.rules import HOOK, violations
from tests.helm.values import BASE, DIGEST, PLAIN, TRIAL, VARIANTS

KUBERNETES = ("1.25", "1.28", "1.31", "1.36")
OF_THE_CHART = {"MIGRATE_STEPS_DIR", "MIGRATE_DRY_RUN", "MIGRATE_YES"}  # steps.*, and what a Job must not be
TEMPLATES = "".join(path.read_text() for path in sorted(CHART.rglob("templates/**/*")) if path.is_file())


def job(helm: Helm, values: Values = BASE, **options: Any) -> dict[str, Any]:
    return of_kind(helm.objects(values, **options), "Job")


def container(item: dict[str, Any]) -> dict[str, Any]:
    ((_, spec),) = pods([item])
    (only,) = spec["containers"]
    return only


def environment(item: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container(item)["env"]}


@pytest.mark.parametrize("values", [{}, BASE], ids=["no values", "values"])
def test_lint_has_nothing_to_say(helm: Helm, values: Values) -> None:
    """Strictly: no warning either."""
    output = helm("helm", "lint", "--strict", CHART, "--values", helm.written(values))
    assert re.findall(r"\[(\w+)] (.*)", output) == [("INFO", "Chart.yaml: icon is recommended")]


@pytest.mark.parametrize("kube", KUBERNETES)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_is_what_kubernetes_accepts(helm3: Helm, helm4: Helm, variant: Values, kube: str) -> None:
    """Both helms render the same; it fits Kubernetes' own schemas, and breaks no rule that only a server knows."""
    text = helm4.text(BASE | variant, kube=kube)
    assert text == helm3.text(BASE | variant, kube=kube)
    assert not re.search(r"[ \t]$|^\s*$", text.removesuffix("\n"), re.M), "a template leaves blanks"
    objects = documents(text)
    for item in objects:
        validate(item, kube)
    assert violations(objects) == []


def validate(item: dict[str, Any], kube: str = "1.36") -> None:
    """Unknown fields, wrong types and missing fields, by the schemas of that Kubernetes."""
    item = copy.deepcopy(item)
    for rule in item["spec"].get("podFailurePolicy", {}).get("rules", []) if "spec" in item else ():
        rule.setdefault("onPodConditions", [])  # the schemas up to 1.28 ask for it, the servers do not
    kubernetes_validate.validate(item, kube, strict=True)


@pytest.mark.parametrize(("kube", "fields"), [
    ("1.25", set()), ("1.28", {"podFailurePolicy"}), ("1.36", {"podFailurePolicy", "podReplacementPolicy"}),
    ("v1.29.3-gke.100", {"podFailurePolicy", "podReplacementPolicy"}),
])  # fmt: skip
def test_a_field_is_used_where_the_cluster_has_it(helm: Helm, kube: str, fields: set[str]) -> None:
    """podFailurePolicy from 1.26, podReplacementPolicy from 1.29 on."""
    assert {"podFailurePolicy", "podReplacementPolicy"} & job(helm, kube=kube)["spec"].keys() == fields


def test_an_older_cluster_is_refused(helm: Helm) -> None:
    """The chart says what it needs instead of failing in the middle."""
    assert "incompatible with Kubernetes v1.24" in refusal(helm, BASE, kube="1.24")


def test_the_codes_that_fail_the_job_are_those_a_retry_does_not_help(helm4: Helm) -> None:
    """The chart, the README's table and the program know the same codes; an eviction is not counted."""
    rows = re.findall(r"^\| (\d+) \| .* \|(.*) \|$", (ROOT / "README.md").read_text(), re.M)
    helps = {int(code): answer.strip() for code, answer in rows}
    assert helps.keys() == EXIT_CODES.keys()
    hopeless = [code for code in EXIT_CODES if helps[code].startswith(("no", "after a fix"))]
    assert hopeless == [2, 5, 6, 7]
    evicted, failed = job(helm4)["spec"]["podFailurePolicy"]["rules"]
    assert evicted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert failed == {"action": "FailJob",
                      "onExitCodes": {"containerName": "migrate", "operator": "In", "values": hopeless}}  # fmt: skip


def test_the_settings_are_the_programs_own(helm4: Helm) -> None:
    """The schema knows every MIGRATE_ variable, and allows only values that the program takes."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"]
    settings = {setting.name: setting for setting in SETTINGS if setting.name.startswith("MIGRATE_")}
    assert schema.keys() == settings.keys() - OF_THE_CHART
    for name, rule in schema.items():
        for value in rule.get("enum", []):
            settings[name].parse(value)
    assert settings["MIGRATE_WAIT_TIMEOUT"].parse("999999999")  # the schema's largest MIGRATE_DEADLINE


def test_the_chart_says_which_program_it_installs() -> None:
    """appVersion is the program's version, and schemaVersion the newest step's number."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["annotations"]["schemaVersion"] == max(path.name[:4] for path in (ROOT / "sql").glob("0*"))


def test_what_is_installed_can_be_read_from_an_ordinary_resource(helm4: Helm) -> None:
    """The ConfigMap names chart, image and schema."""
    found = of_kind(helm4.objects(BASE), "ConfigMap")
    assert found["data"] == {"chart": "migrate-0.1.0", "image": "registry.example.com/migrate:0.1.0", "schema": "0007"}
    assert HOOK not in found["metadata"].get("annotations", {})


# -- values


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) and value else [(*path, key)]


# For each value: another one, beside which others are needed for it to matter.
OTHER: dict[str, Values] = {
    "image.repository": {"image": {"repository": "x"}},
    "image.tag": {"image": {"repository": "registry.example.com/migrate", "tag": "1.10"}},
    "image.digest": {"image": {"repository": "registry.example.com/migrate", "digest": DIGEST}},
    "image.pullPolicy": {"image": {"repository": "registry.example.com/migrate", "pullPolicy": "Always"}},
    "imagePullSecrets": {"imagePullSecrets": [{"name": "x"}]},
    "clickhouse.url": {"clickhouse": {"url": "http://x/"}},
    "clickhouse.existingSecret": {"clickhouse": BASE["clickhouse"] | {"existingSecret": "x"}},
    "clickhouse.passwordKey": {"clickhouse": BASE["clickhouse"] | {"passwordKey": "x"}},
    "clickhouse.urlKey": {"clickhouse": {"existingSecret": "databases", "urlKey": "x"}},
    "clickhouse.password": {"clickhouse": TRIAL["clickhouse"]},
    "mysql.url": {"mysql": {"url": "mysql://x@y/z"}},
    "mysql.existingSecret": {"mysql": BASE["mysql"] | {"existingSecret": "x"}},
    "mysql.passwordKey": {"mysql": BASE["mysql"] | {"passwordKey": "x"}},
    "mysql.urlKey": {"mysql": {"existingSecret": "databases", "urlKey": "x"}},
    "mysql.password": {"mysql": TRIAL["mysql"]},
    "settings.MIGRATE_DEADLINE": {"settings": {"MIGRATE_DEADLINE": 30}},
    "steps.configMap": {"steps": {"configMap": "x"}},
    "steps.files": {"steps": {"configMap": "x", "files": ["0008_x.mysql.sql"]}},
    "hook.enabled": PLAIN,
    "hook.events": {"hook": {"events": ["post-install"]}},
    "hook.weight": {"hook": {"weight": 7}},
    "hook.deletePolicy": {"hook": {"deletePolicy": ["hook-succeeded", "before-hook-creation"]}},
    "job.backoffLimit": {"job": {"backoffLimit": 0}},
    "job.activeDeadlineSeconds": {"job": {"activeDeadlineSeconds": 1234}},
    "job.terminationGracePeriodSeconds": {"job": {"terminationGracePeriodSeconds": 9}},
    "job.ttlSecondsAfterFinished": {"job": {"ttlSecondsAfterFinished": 7200}},
    "jobAnnotations": {"jobAnnotations": {"x": "y"}},
    "podAnnotations": {"podAnnotations": {"x": "y"}},
    "resources.requests.cpu": {"resources": {"requests": {"cpu": "2"}}},
    "resources.requests.memory": {"resources": {"requests": {"memory": "1Gi"}}},
    "resources.limits.memory": {"resources": {"limits": {"memory": "1Gi"}}},
    "nodeSelector": {"nodeSelector": {"x": "y"}},
    "tolerations": {"tolerations": [{"operator": "Exists"}]},
    "affinity": {"affinity": {"nodeAffinity": {}}},
    "extraEnv": {"extraEnv": [{"name": "X", "value": "y"}]},
    "extraVolumes": {"extraVolumes": [{"name": "x", "emptyDir": {}}]},
    "extraVolumeMounts": {"extraVolumeMounts": [{"name": "x", "mountPath": "/x"}]},
    "podSecurityContext.runAsNonRoot": {"podSecurityContext": {"runAsNonRoot": False}},
    "podSecurityContext.runAsUser": {"podSecurityContext": {"runAsUser": 1}},
    "podSecurityContext.runAsGroup": {"podSecurityContext": {"runAsGroup": 1}},
    "podSecurityContext.seccompProfile.type": {"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "securityContext.allowPrivilegeEscalation": {"securityContext": {"allowPrivilegeEscalation": True}},
    "securityContext.readOnlyRootFilesystem": {"securityContext": {"readOnlyRootFilesystem": False}},
    "securityContext.capabilities.drop": {"securityContext": {"capabilities": {"drop": ["KILL"]}}},
    "serviceAccount.create": {"serviceAccount": {"create": True}},
    "serviceAccount.name": {"serviceAccount": {"name": "x"}},
    "serviceAccount.annotations": {"serviceAccount": {"create": True, "annotations": {"x": "y"}}},
}


def test_every_value_has_an_effect_and_a_place_in_the_schema(helm4: Helm) -> None:
    """No dead value: changing any of values.yaml changes what is rendered; none is left out of this test."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {".".join(path) for path in leaves(values)} == OTHER.keys()
    unchanged = helm4.text(BASE)
    dead = [name for name, other in OTHER.items() if helm4.text(BASE | other) == unchanged]
    assert dead == []
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"].keys() == values.keys() | {"global"}
    for name, rule in schema["properties"].items():
        if "properties" in rule and name != "settings":
            assert rule["properties"].keys() == values[name].keys()


def test_every_value_is_explained() -> None:
    """Every block of values.yaml has a comment that says what it is for."""
    blocks = (CHART / "values.yaml").read_text().split("\n\n")
    assert [block for block in blocks if not re.search(r"^ *# ", block, re.M)] == []


# -- values that are refused


@pytest.mark.parametrize(("place", "values"), [
    ("imag", {"imag": {}}),
    ("image", {"image": {"tagg": "1"}}),
    ("tag", {"image": {"tag": 1.1}}),
    ("tag", {"image": {"tag": "a b"}}),
    ("digest", {"image": {"digest": "0123"}}),
    ("pullPolicy", {"image": {"pullPolicy": "Sometimes"}}),
    ("imagePullSecrets", {"imagePullSecrets": ["registry"]}),
    ("url", {"clickhouse": {"url": "clickhouse:8123"}}),
    ("url", {"mysql": {"url": "http://mysql/"}}),
    ("existingSecret", {"mysql": {"existingSecret": "My Secret"}}),
    ("passwordKey", {"mysql": {"passwordKey": None}}),
    ("passwordKey", {"mysql": {"passwordKey": ""}}),
    ("MIGRATE_REPAR", {"settings": {"MIGRATE_REPAR": "all"}}),
    ("MIGRATE_REPAIR", {"settings": {"MIGRATE_REPAIR": "some"}}),
    ("MIGRATE_WAIT_TIMEOUT", {"settings": {"MIGRATE_WAIT_TIMEOUT": "2m"}}),
    ("MIGRATE_WAIT_TIMEOUT", {"settings": {"MIGRATE_WAIT_TIMEOUT": 0.5}}),
    ("MIGRATE_DEADLINE", {"settings": {"MIGRATE_DEADLINE": None}}),
    ("MIGRATE_DEADLINE", {"settings": {"MIGRATE_DEADLINE": 0}}),
    ("files", {"steps": {"configMap": "steps", "files": ["8_orders.sql"]}}),
    ("enabled", {"hook": {"enabled": "yes"}}),
    ("events", {"hook": {"events": []}}),
    ("events", {"hook": {"events": ["test"]}}),
    ("weight", {"hook": {"weight": "-5"}}),
    ("deletePolicy", {"hook": {"deletePolicy": ["before-hook-creation", "hook-failed"]}}),
    ("deletePolicy", {"hook": {"deletePolicy": ["hook-succeeded"]}}),
    ("backoffLimit", {"job": {"backoffLimit": -1}}),
    ("activeDeadlineSeconds", {"job": {"activeDeadlineSeconds": 0}}),
    ("activeDeadlineSeconds", {"job": {"activeDeadlineSeconds": None}}),
    ("terminationGracePeriodSeconds", {"job": {"terminationGracePeriodSeconds": 0}}),
    ("ttlSecondsAfterFinished", {"job": {"ttlSecondsAfterFinished": 60}}),
    ("jobAnnotations", {"jobAnnotations": {"wave": -1}}),
    ("podAnnotations", {"podAnnotations": {"inject": False}}),
    ("nodeSelector", {"nodeSelector": {"gpu": True}}),
    ("extraEnv", {"extraEnv": [{"name": "TZ", "value": 30}]}),
    ("extraEnv", {"extraEnv": {"TZ": "UTC"}}),
    ("extraVolumeMounts", {"extraVolumeMounts": [{"name": "ca", "mountPath": "run/ca"}]}),
    ("create", {"serviceAccount": {"create": "no"}}),
], ids=str)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_name(helm: Helm, place: str, values: Values) -> None:
    """values.schema.json: unknown keys and wrong types, at any depth, before anything reaches a cluster."""
    merged = {key: BASE.get(key, {}) | value if isinstance(value, dict) else value for key, value in values.items()}
    message = refusal(helm, BASE | merged)
    assert "values don't meet the specifications of the schema" in message
    assert re.search(rf"\b{place}\b", message)


@pytest.mark.parametrize(("message", "values"), [
    ("image.repository is required: where the cluster pulls the migrate image from", {"image": {}}),
    ("settings.MIGRATE_DEADLINE (780) and job.terminationGracePeriodSeconds (60) must fit into"
     " job.activeDeadlineSeconds (839)", {"job": {"activeDeadlineSeconds": 839}}),
    ("no database is named: set clickhouse.url and mysql.url, or their urlKey", {"clickhouse": {}, "mysql": {}}),
    ("mysql.url and mysql.urlKey are both set; unset one of them", {"mysql": BASE["mysql"] | {"urlKey": "url"}}),
    ("clickhouse.urlKey needs clickhouse.existingSecret", {"clickhouse": {"urlKey": "url"}}),
    ("mysql.password and mysql.existingSecret are both set; unset one of them",
     {"mysql": BASE["mysql"] | {"password": "k4narie"}}),
    ("mysql.url holds a password; put it into a Secret and name that as mysql.existingSecret",
     {"mysql": {"url": "mysql://migrate:k4narie@mysql/app"}}),
    ("steps.files needs steps.configMap", {"steps": {"files": ["0008_a.mysql.sql"]}}),
    ("extraEnv sets MYSQL_URL, which is set already", {"extraEnv": [{"name": "MYSQL_URL", "value": "x"}]}),
], ids=str)  # fmt: skip
def test_values_that_contradict_each_other_are_refused_in_one_line(helm: Helm, message: str, values: Values) -> None:
    """The line names both values, and shows no password."""
    (line,) = refusal(helm, BASE | values).splitlines()
    assert line.endswith(message)
    assert "k4narie" not in line


def refusal(helm: Helm, values: Values, **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        helm.text(values, **options)
    return str(caught.value)


# -- the Job


def test_the_program_ends_before_kubernetes_ends_it(helm4: Helm) -> None:
    """At the Job's deadline the pod is deleted with its log; one run, and its grace time, must be over by then."""
    item = job(helm4)
    grace = item["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert int(environment(item)["MIGRATE_DEADLINE"]) + grace <= item["spec"]["activeDeadlineSeconds"]
    assert job(helm4, BASE | {"job": {"activeDeadlineSeconds": 840}})  # 780 + 60


def test_its_default_retries_fit_into_its_deadline(helm4: Helm) -> None:
    """A database that never comes is the reason in the last pod's report, not the Job's deadline."""
    spec = job(helm4)["spec"]
    wait = float(next(setting.default for setting in SETTINGS if setting.name == "MIGRATE_WAIT_TIMEOUT"))
    pauses = sum(10 * 2**n for n in range(spec["backoffLimit"]))
    assert (spec["backoffLimit"] + 1) * (wait + 10) + pauses < spec["activeDeadlineSeconds"]


@pytest.mark.parametrize("release", ["shop", "a" * 53, "shop.eu-west.example", "a" * 45 + "-bcd"])
def test_names_fit_at_any_release_name(helm: Helm, release: str) -> None:
    """Helm allows 53 characters and dots; a Job's name becomes a label of its pods."""
    for values in (BASE, BASE | PLAIN):
        assert violations(helm.objects(values, release=release)) == []


def test_the_hooks_name_never_changes(helm4: Helm) -> None:
    """before-hook-creation finds the last Job by its name."""
    names = {job(helm4, BASE | values)["metadata"]["name"] for values in VARIANTS.values() if values.get("hook") != PLAIN["hook"]}
    assert names == {"shop-migrate"}


def test_an_ordinary_job_is_named_by_its_spec(helm: Helm) -> None:
    """A change makes a new Job, since Kubernetes lets nobody change one; no change, the same Job."""
    spec = ({}, {"image": {"repository": "x", "tag": "2"}}, {"job": {"backoffLimit": 9}}, {"podAnnotations": {"a": "b"}})
    names = [job(helm, BASE | PLAIN | values)["metadata"]["name"] for values in (*spec, {"jobAnnotations": {"a": "b"}})]
    assert all(re.fullmatch(r"shop-migrate-[0-9a-f]{8}", name) for name in names)
    assert len(set(names[:4])) == 4
    assert names[4] == names[0]


def test_an_ordinary_job_is_no_hook(helm4: Helm) -> None:
    """Nor is what it needs; only `helm test` is one."""
    hooks = [item["kind"] for item in helm4.objects(BASE | TRIAL | PLAIN) if HOOK in item["metadata"].get("annotations", {})]
    assert hooks == ["Pod"]


def test_the_hook_comes_before_everything_unless_told_otherwise(helm: Helm) -> None:
    """pre-install and pre-upgrade: no dependent runs yet that could wait for the Job while helm waits for it."""
    annotations = job(helm)["metadata"]["annotations"]
    assert annotations == {
        "helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-weight": "-5",
        "helm.sh/hook-delete-policy": "before-hook-creation", "helm.sh/hook-output-log-policy": "hook-failed",
    }  # fmt: skip
    late = job(helm, BASE | {"hook": {"events": ["post-install", "pre-upgrade"]}})["metadata"]["annotations"]
    assert late[HOOK] == "post-install,pre-upgrade"


def test_a_ttl_of_null_is_no_ttl(helm: Helm) -> None:
    """Argo CD would take a Job that was deleted for one that is missing."""
    assert "ttlSecondsAfterFinished" not in job(helm, BASE | {"job": {"ttlSecondsAfterFinished": None}})["spec"]


def test_templates_do_not_look_at_the_release_history() -> None:
    """Under Argo CD every release is the first: revision 1, never an upgrade."""
    assert not re.search(r"Release\.(Revision|IsUpgrade|IsInstall)|lookup", TEMPLATES)


def test_numbers_stay_whole(helm: Helm) -> None:
    """Helm reads numbers as floating point, and would write a million as 1e+06."""
    million = {"activeDeadlineSeconds": 3000000, "terminationGracePeriodSeconds": 1000000, "backoffLimit": 1000000,
               "ttlSecondsAfterFinished": 1000000}  # fmt: skip
    values = BASE | {"job": million, "settings": {"MIGRATE_DEADLINE": 2000000, "MIGRATE_WAIT_TIMEOUT": 1000000}}
    item = job(helm, values)
    assert {key: item["spec"].get(key) for key in million} | {
        "terminationGracePeriodSeconds": item["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]} == million  # fmt: skip
    assert environment(item)["MIGRATE_WAIT_TIMEOUT"] == "1000000"
    assert "1000000" in helm.text(values | {"hook": {"weight": 1000005}}).split("helm.sh/hook-weight")[1]


def test_passwords_are_files(helm4: Helm) -> None:
    """A Secret is mounted, and named in the environment only as a path; the trial's own password is in it alone."""
    item = job(helm4)
    assert environment(item) == {
        "CLICKHOUSE_URL": "http://migrate@clickhouse:8123/", "MYSQL_URL": "mysql://migrate@mysql:3306/app",
        "CLICKHOUSE_PASSWORD_FILE": "/run/databases/clickhouse_password",
        "MYSQL_PASSWORD_FILE": "/run/databases/mysql_password", "MIGRATE_DEADLINE": "780",
    }  # fmt: skip
    trial = helm4.objects(BASE | TRIAL)
    assert of_kind(trial, "Secret")["stringData"] == {"clickhouse-password": "k4narie-1", "mysql-password": "k4narie-2"}
    assert "k4narie" not in json.dumps([other for other in trial if other["kind"] != "Secret"])
    assert "k4narie" not in helm4.notes(BASE | TRIAL)


def test_a_url_can_come_from_a_secret(helm4: Helm) -> None:
    """Then the environment names nothing but files."""
    item = job(helm4, BASE | VARIANTS["URLs in Secrets"])
    assert environment(item) == {"CLICKHOUSE_URL_FILE": "/run/databases/clickhouse_url",
                                 "MYSQL_URL_FILE": "/run/databases/mysql_url", "MIGRATE_DEADLINE": "780"}  # fmt: skip


def test_nothing_is_created_that_the_user_did_not_ask_for(helm4: Helm) -> None:
    """No account, no Secret, no right: the Job, the ConfigMap, and the pod of `helm test`."""
    assert sorted(item["kind"] for item in helm4.objects(BASE)) == ["ConfigMap", "Job", "Pod"]


def test_the_report_reaches_kubectl_describe(helm4: Helm) -> None:
    """Job, test pod and init container write it where the kubelet reads it; a crash leaves the log's end."""
    found = [container(item) for item in helm4.objects(BASE) if item["kind"] in ("Job", "Pod")]
    for one in [*found, *dependent(helm4.notes(BASE))["initContainers"]]:
        assert one["terminationMessagePath"] == "/dev/termination-log"
        assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_helm_test_verifies_with_the_jobs_own_pod(helm: Helm) -> None:
    """The same image, settings and restrictions; another command, and a hook of its own that leaves its log."""
    test = of_kind(helm.objects(BASE), "Pod")
    assert test["metadata"]["annotations"] == {HOOK: "test", "helm.sh/hook-delete-policy": "before-hook-creation"}
    spec = dict(test["spec"])
    assert spec.pop("activeDeadlineSeconds") == 900
    expected = job(helm)["spec"]["template"]["spec"]
    expected["containers"][0]["args"] = ["verify"]
    assert spec == expected


def dependent(notes: str) -> dict[str, Any]:
    """The part of NOTES.txt that a user copies into the pod of a dependent."""
    return yaml.safe_load(re.search(r"^initContainers:\n(?:[ -].*\n?|volumes:\n)*", notes, re.M)[0])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_notes_hold_the_init_container_of_a_dependent(helm4: Helm, variant: Values) -> None:
    """The Job's own container with the command `wait`, ready to be copied into any Deployment."""
    notes = helm4.notes(BASE | variant)
    pod = dependent(notes)
    own = job(helm4, BASE | variant)["spec"]["template"]["spec"]
    assert pod == {"initContainers": [own["containers"][0] | {"name": "wait", "args": ["wait"]}],
                   **({"volumes": own["volumes"]} if "volumes" in own else {})}  # fmt: skip
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {
        "selector": {"matchLabels": {"app": "app"}},
        "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [{"name": "app", "image": "x"}], **pod}},
    }}  # fmt: skip
    validate(deployment)


def test_notes_say_what_to_do(helm4: Helm) -> None:
    """How long helm must wait, where the reason of a failure stands, and what an uninstall leaves behind."""
    hook, plain, trial = (helm4.notes(BASE | values) for values in ({}, PLAIN, TRIAL))
    assert "--timeout 990s" in hook and "--timeout 990s" in plain and "--wait-for-jobs" in plain
    assert "logs job/shop-migrate\n" in hook
    assert f"logs job/{job(helm4, BASE | PLAIN)['metadata']['name']}\n" in plain
    assert "helm test shop" in hook
    assert "leaves behind" not in hook + plain
    assert "delete serviceaccount shop-migrate" in trial and "delete secret shop-migrate" in trial


# -- as a package


def test_it_is_a_dependency_of_an_applications_chart(helm: Helm, tmp_path: Path) -> None:
    """Values below its name, `global` beside them; its hook runs before the application's resources change."""
    chart = {"apiVersion": "v2", "name": "shop", "version": "1.0.0", "dependencies": [
        {"name": "migrate", "version": "0.1.0", "repository": f"file://{CHART}"}]}  # fmt: skip
    (tmp_path / "Chart.yaml").write_text(json.dumps(chart))
    helm("helm", "dependency", "update", tmp_path)
    values = {"global": {"region": "eu"}, "migrate": BASE | {"job": {"ttlSecondsAfterFinished": None}}}
    item = job(helm, values, chart=tmp_path)
    assert item["metadata"]["annotations"][HOOK] == "pre-install,pre-upgrade"
    assert "ttlSecondsAfterFinished" not in item["spec"]
    assert "additional" in refusal(helm, {"migrate": BASE | {"imag": {}}}, chart=tmp_path).lower()


def test_the_package_holds_the_chart_and_nothing_else(helm4: Helm, tmp_path: Path) -> None:
    """What `helm push` uploads."""
    helm4("helm", "package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("migrate-0.1.0.tgz")
    with tarfile.open(package) as archive:
        names = {name.removeprefix("migrate/") for name in archive.getnames()}
    assert names - {".helmignore"} == {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()} - {".helmignore"}
