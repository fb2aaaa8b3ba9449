"""Each rule of rules.py finds the mistake that it is there for: one Job, one mutation each."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.helm.programs import Helm, of_kind
from tests.helm.rules import DELETE, HOOK, WEIGHT, violations
from tests.helm.values import BASE, TRIAL

Mutation = Callable[[dict[str, Any]], Any]
CODES = ["spec", "podFailurePolicy", "rules", 1, "onExitCodes"]
POD = ["spec", "template", "spec"]
CONTAINER = [*POD, "containers", 0]
SECURITY = [*CONTAINER, "securityContext"]

# What is wrong: where in the Job, the new value (None deletes it), and the words of the rule.
WRONG_JOBS: dict[str, tuple[list[Any], Any, str]] = {
    "name with a capital": (["metadata", "name"], "Shop", "RFC 1123"),
    "name too long for a label": (["metadata", "name"], "a" * 64, "at most 63"),
    "label with a blank": (["metadata", "labels", "x"], "a b", "is no label"),
    "annotation that is a number": (["metadata", "annotations", "x"], 5, "is no string"),
    "OnFailure": ([*POD, "restartPolicy"], "OnFailure", 'only "Never"'),
    "replacement while the old pod ends": (["spec", "podReplacementPolicy"], "TerminatingOrFailed", "podReplacementPolicy"),
    "unknown operator": ([*CODES, "operator"], "Is", "Unsupported value"),
    "unsorted codes": ([*CODES, "values"], [5, 2], "ordered"),
    "a code twice": ([*CODES, "values"], [2, 2], "duplicate"),
    "code 0": ([*CODES, "values"], [0, 2], "other than 0"),
    "code 300": ([*CODES, "values"], [2, 300], "exit codes"),
    "code -1": ([*CODES, "values"], [-1, 2], "exit codes"),
    "codes of another container": ([*CODES, "containerName"], "main", "one of the containers"),
    "codes of any container": ([*CODES, "containerName"], None, "one of the containers"),
    "no deadline": (["spec", "activeDeadlineSeconds"], None, "activeDeadlineSeconds"),
    "deadline 0": (["spec", "activeDeadlineSeconds"], 0, "activeDeadlineSeconds"),
    "no completion": (["spec", "completions"], 0, "one pod"),
    "two at a time": (["spec", "parallelism"], 2, "one pod"),
    "negative backoffLimit": (["spec", "backoffLimit"], -1, "backoffLimit"),
    "deleted at once": (["spec", "ttlSecondsAfterFinished"], 0, "ttlSecondsAfterFinished"),
    "mount without volume": ([*POD, "volumes"], None, "Not found"),
    "volume twice": ([*POD, "volumes"], [{"name": "migrate-secrets", "emptyDir": {}}] * 2, "Duplicate value"),
    "volume name": ([*POD, "volumes", 0, "name"], "migrate_secrets", "must be RFC 1123"),
    "relative mount": ([*CONTAINER, "volumeMounts", 0, "mountPath"], "run", "is relative"),
    "mount twice": ([*CONTAINER, "volumeMounts"], [{"name": "migrate-secrets", "mountPath": "/x"}] * 2, "unique"),
    "numeric argument": ([*CONTAINER, "args"], [30], "expected string"),
    "numeric variable": ([*CONTAINER, "env", 0, "value"], 30, "expected string"),
    "variable twice": ([*CONTAINER, "env", 0, "name"], "MIGRATE_DEADLINE", "set twice"),
    "quantity": ([*CONTAINER, "resources", "limits", "memory"], "512MB", "quantities"),
    "root": ([*POD, "securityContext", "runAsUser"], 0, "runAsNonRoot"),
    "perhaps root": ([*POD, "securityContext", "runAsNonRoot"], None, "runAsNonRoot"),
    "escalation": ([*SECURITY, "allowPrivilegeEscalation"], None, "allowPrivilegeEscalation"),
    "privileged": ([*SECURITY, "privileged"], True, "allowPrivilegeEscalation"),
    "capabilities": ([*SECURITY, "capabilities"], {"drop": ["KILL"]}, "capabilities"),
    "no seccomp": ([*POD, "securityContext", "seccompProfile"], None, "seccompProfile"),
    "host path": ([*POD, "volumes", 0], {"name": "migrate-secrets", "hostPath": {"path": "/"}}, "of another type"),
    "host network": ([*POD, "hostNetwork"], True, "host namespaces"),
    "token": ([*POD, "automountServiceAccountToken"], None, "token"),
    "service links": ([*POD, "enableServiceLinks"], None, "a Service named migrate"),
    "writable root": ([*SECURITY, "readOnlyRootFilesystem"], None, "can be written"),
    "probe": ([*CONTAINER, "livenessProbe"], {"exec": {"command": ["true"]}}, "probe"),
    "password in the environment": ([*CONTAINER, "env", 0, "name"], "MYSQL_PASSWORD", "password in the environment"),
    "hook-failed": (["metadata", "annotations", DELETE], "before-hook-creation,hook-failed", "evidence"),
    "name taken by the last hook": (["metadata", "annotations", DELETE], "hook-succeeded", "the next hook"),
    "hook before its needs": (["metadata", "annotations", WEIGHT], "-10", "made after the hook"),
    "hook at other events": (["metadata", "annotations", HOOK], "pre-install", "does not exist yet"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), WRONG_JOBS.values(), ids=WRONG_JOBS)
def test_a_wrong_job_is_found(helm4: Helm, path: list[Any], value: Any, words: str) -> None:
    """One mutation of a Job that was right, and the rule says what is wrong with it."""
    objects = copy.deepcopy(helm4.objects(BASE | TRIAL))
    assert violations(objects) == []
    change(of_kind(objects, "Job"), path, value)
    assert [problem for problem in violations(objects) if words in problem]


@pytest.mark.parametrize("kind", ["ServiceAccount", "Secret"])
def test_what_the_hook_needs_must_not_be_swept_away(helm4: Helm, kind: str) -> None:
    """hook-succeeded on an account or a Secret deletes it under a failed Job that is retried."""
    objects = copy.deepcopy(helm4.objects(BASE | TRIAL))
    change(of_kind(objects, kind), ["metadata", "annotations", DELETE], "before-hook-creation,hook-succeeded")
    assert [problem for problem in violations(objects) if f"{kind} shop-migrate is swept away" in problem]


def test_a_chart_of_hooks_alone_is_found(helm4: Helm) -> None:
    """Argo CD would deploy nothing of it."""
    hooks = [item for item in helm4.objects(BASE) if item["kind"] != "ConfigMap"]
    assert violations(hooks) == ["only hooks: Argo CD would deploy nothing"]


def change(item: Any, path: list[Any], value: Any) -> None:
    """Set what is at `path`; None deletes it."""
    *way, last = path
    for key in way:
        item = item[key]
    if value is None:
        del item[last]
    else:
        item[last] = value
