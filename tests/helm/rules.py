"""What no offline validator finds: an API server's semantic rules, Pod Security `restricted`, and what hooks need.

Each rule was seen as the answer of a Kubernetes 1.36 API server to one mutation of a Job, or is accepted there although it
is wrong. `violations` is the list of what is wrong, in words; test_rules.py breaks each rule once.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.helm.programs import pods

Object = Mapping[str, Any]
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, and short enough to become a label
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([EPTGMk]i?|Ki|m)?")
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOOK, WEIGHT, DELETE = "helm.sh/hook", "helm.sh/hook-weight", "helm.sh/hook-delete-policy"


def violations(objects: Sequence[Object]) -> list[str]:
    """Everything that is wrong with the objects of one release."""
    found = [problem for item in objects for problem in [*metadata(item), *(job(item) if item["kind"] == "Job" else ())]]
    for _, spec in pods(objects):
        found += [problem for rule in POD_RULES for problem in rule(spec)]
    return found + list(hooks(objects)) + list(ordinary(objects))


def metadata(item: Object) -> Iterator[str]:
    data = item["metadata"]
    if not NAME.fullmatch(data["name"]):
        yield f"{item['kind']} {data['name']}: the name must be RFC 1123 and at most 63 characters long"
    for key, value in data.get("labels", {}).items():
        if not isinstance(value, str) or not LABEL.fullmatch(value):
            yield f"label {key}: {value!r} is no label"
    for key, value in (data.get("annotations") or {}).items():
        if not isinstance(value, str):
            yield f"annotation {key}: {value!r} is no string"


def job(item: Object) -> Iterator[str]:
    spec = item["spec"]
    pod = spec["template"]["spec"]
    if spec.get("completions", 1) != 1 or spec.get("parallelism", 1) != 1:
        yield "a migration is one pod at a time"
    if spec.get("activeDeadlineSeconds", 0) < 1:
        yield "activeDeadlineSeconds is missing or not positive"
    if spec.get("backoffLimit", 0) < 0:
        yield "backoffLimit must be greater than or equal to 0"
    if spec.get("ttlSecondsAfterFinished", 3600) < 3600:
        yield "ttlSecondsAfterFinished must leave helm and Argo CD time to see the result"
    if "podFailurePolicy" in spec:
        if pod.get("restartPolicy") != "Never":
            yield 'only "Never" is supported when podFailurePolicy is specified'
        if spec.get("podReplacementPolicy", "Failed") != "Failed":
            yield 'podReplacementPolicy: supported values: "Failed"'
        for rule in spec["podFailurePolicy"]["rules"]:
            yield from exit_codes(rule.get("onExitCodes"), [container["name"] for container in pod["containers"]])


def exit_codes(rule: Object | None, containers: Sequence[str]) -> Iterator[str]:
    if rule is None:
        return
    values = rule["values"]
    if rule["operator"] not in ("In", "NotIn"):
        yield f"onExitCodes.operator {rule['operator']}: Unsupported value"
    if values != sorted(set(values)):
        yield "onExitCodes.values must be ordered, without a duplicate value"
    if not all(0 < value < 256 for value in values):
        yield "onExitCodes.values must be exit codes other than 0"
    if rule.get("containerName") not in containers:
        yield "onExitCodes.containerName must be one of the containers"


def mounts(spec: Object) -> Iterator[str]:
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    if len(set(volumes)) != len(volumes):
        yield "volume: Duplicate value"
    for container in containers(spec):
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(set(paths)) != len(paths):
            yield "mountPath: must be unique"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"volumeMounts: {mount['name']}: Not found"
            if not mount["mountPath"].startswith("/"):
                yield f"volumeMounts: {mount['mountPath']} is relative"
    for name in volumes:
        if not NAME.fullmatch(name):
            yield f"volume {name}: must be RFC 1123"


def strings(spec: Object) -> Iterator[str]:
    """`toJson` or a bare argument turn 30 into a number: "expected string, got Value:6"."""
    for container in containers(spec):
        names = [entry["name"] for entry in container.get("env", [])]
        if len(set(names)) != len(names):
            yield "env: a name is set twice, which a server-side apply refuses"
        values = [entry.get("value", "") for entry in container.get("env", [])]
        for value in [*values, *container.get("args", [])]:
            if not isinstance(value, str):
                yield f"{value!r}: expected string"


def quantities(spec: Object) -> Iterator[str]:
    for container in containers(spec):
        for kind in ("requests", "limits"):
            for name, value in container.get("resources", {}).get(kind, {}).items():
                if not QUANTITY.fullmatch(str(value)):
                    yield f"{name}: quantities must match the regular expression, not {value!r}"


def restricted(spec: Object) -> Iterator[str]:
    """Pod Security: a Job is accepted with a warning, and its pods are never made."""
    pod = spec.get("securityContext", {})
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "restricted: host namespaces"
    for volume in spec.get("volumes", []):
        if not volume.keys() - {"name"} <= VOLUMES:
            yield f"restricted: volume {volume['name']} of another type"
    for container in containers(spec):
        context = {**pod, **container.get("securityContext", {})}
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield "restricted: runAsNonRoot != true"
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield "restricted: allowPrivilegeEscalation != false"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield "restricted: unrestricted capabilities"
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield "restricted: seccompProfile"


def hardened(spec: Object) -> Iterator[str]:
    """What we promise beyond Pod Security."""
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod gets a ServiceAccount token"
    if spec.get("enableServiceLinks") is not False:
        yield "a Service named migrate would set MIGRATE_* variables"
    for container in containers(spec):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield "the root file system can be written"
        if any(key in container for key in ("livenessProbe", "readinessProbe", "startupProbe")):
            yield "a probe would kill a migration at work"
        for entry in container.get("env", []):
            if "PASSWORD" in entry["name"] and not entry["name"].endswith("_FILE"):
                yield "a password in the environment"


def containers(spec: Object) -> list[Any]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def hooks(objects: Sequence[Object]) -> Iterator[str]:
    """What a hook needs of its own release is an earlier hook of the same events, which no success sweeps away."""
    for item in objects:
        annotations = item["metadata"].get("annotations") or {}
        if HOOK not in annotations or item["kind"] not in ("Job", "Pod"):
            continue
        if "before-hook-creation" not in annotations[DELETE] or "hook-failed" in annotations[DELETE]:
            yield f"{DELETE}: {annotations[DELETE]}: the next hook, or the evidence, is lost"
        for spec in (spec for _, spec in pods([item])):
            for need in objects:
                if item["kind"] == "Job" and (need["kind"], need["metadata"]["name"]) in needs(spec):
                    yield from earlier(annotations, need)


def earlier(job: Mapping[str, str], need: Object) -> Iterator[str]:
    annotations = need["metadata"].get("annotations") or {}
    what = f"{need['kind']} {need['metadata']['name']}"
    if annotations.get(HOOK) != job[HOOK]:
        yield f"{what} does not exist yet when the hook runs"
    elif int(annotations[WEIGHT]) >= int(job[WEIGHT]):
        yield f"{what} is made after the hook"
    elif annotations[DELETE] != "before-hook-creation":
        yield f"{what} is swept away while the Job's next pod needs it"


def needs(spec: Object) -> set[tuple[str, str]]:
    """What must exist before the pod can start: kinds and names."""
    found = {("ServiceAccount", spec.get("serviceAccountName", "default"))}
    found |= {("Secret", secret["name"]) for secret in spec.get("imagePullSecrets", [])}
    for volume in spec.get("volumes", []):
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in sources:
            if "secret" in source:
                found.add(("Secret", source["secret"].get("name") or source["secret"]["secretName"]))
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
    return found


def ordinary(objects: Sequence[Object]) -> Iterator[str]:
    if all(HOOK in (item["metadata"].get("annotations") or {}) for item in objects):
        yield "only hooks: Argo CD would deploy nothing"


POD_RULES: Sequence[Callable[[Object], Iterator[str]]] = (mounts, strings, quantities, restricted, hardened)
