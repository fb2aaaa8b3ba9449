"""A rendered pod as a `docker run`: what a kubelet makes of its image, arguments, environment, volumes and restrictions.

A field that is not understood here is an error, so that none is silently left out of what the tests try.
"""

import base64
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.image.containers import Docker
from tests.image.engine import as_root

Spec = Mapping[str, Any]
# Fields that a scheduler, a registry or the Job's controller reads, or that test_chart.py holds to one value.
ELSEWHERE = {"restartPolicy", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks",
             "activeDeadlineSeconds", "terminationGracePeriodSeconds", "imagePullPolicy", "terminationMessagePolicy"}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A pod's container after its end."""

    code: int
    log: list[dict[str, Any]]
    message: str

    @property
    def report(self) -> dict[str, Any]:
        return self.log[-1]


@dataclass(frozen=True)
class Kubelet:
    """Runs containers of pods on one Docker network; `objects` are the namespace's Secrets and ConfigMaps."""

    docker: Docker
    network: str
    directory: Path
    objects: Sequence[Mapping[str, Any]]
    messages: dict[str, Path] = field(default_factory=dict)  # the termination message of each container that is left

    def run(self, pod: Spec, kind: str = "containers", entrypoint: Sequence[str] = ()) -> Ended:
        """The pod's one container (or init container) to its end; with another program if `entrypoint` is given."""
        name = self.start(pod, kind, entrypoint)
        self.docker("wait", name, check=True)
        return self.ended(name)

    def start(self, pod: Spec, kind: str = "containers", entrypoint: Sequence[str] = ()) -> str:
        """The id of the running container."""
        (container,) = pod[kind]
        message = self.directory / f"message-{len(list(self.directory.glob('message-*')))}"
        self.directory.mkdir(exist_ok=True)
        message.touch()
        message.chmod(0o666)
        path = container.get("terminationMessagePath", "/dev/termination-log")
        words = [*self.options(pod, container), "--volume", f"{message}:{path}"]
        if entrypoint:
            words += ["--entrypoint", entrypoint[0]]
        arguments = entrypoint[1:] or container.get("args", [])
        name = self.docker("create", *words, container["image"], *arguments, check=True).stdout.strip()
        self.messages[name] = message
        self.docker("start", name, check=True)
        return name

    def ended(self, name: str) -> Ended:
        """What is left of a container that has ended, which is removed."""
        state = self.docker.inspect(name)["State"]
        assert state["Status"] == "exited", state
        output, message = self.docker("logs", name, check=True), self.messages[name].read_text()
        self.remove(name)
        assert not output.stderr, output.stderr
        return Ended(state["ExitCode"], output.lines, message)

    def remove(self, *names: str) -> None:
        """Also of containers that still run."""
        for name in names:
            self.docker("rm", "--force", name, check=True)
            del self.messages[name]

    def options(self, pod: Spec, container: Spec) -> Iterator[str]:
        """Words for `docker run`."""
        known = {"containers", "initContainers", "securityContext", "volumes"} | ELSEWHERE
        assert pod.keys() <= known, pod.keys() - known
        known = {"name", "image", "args", "env", "volumeMounts", "resources", "terminationMessagePath", "securityContext"}
        assert container.keys() <= known | ELSEWHERE, container.keys() - known
        yield from ("--network", self.network)
        yield from security({**pod.get("securityContext", {}), **container.get("securityContext", {})})
        for entry in container["env"]:
            assert entry.keys() == {"name", "value"}, entry
            yield from ("--env", f"{entry['name']}={entry['value']}")
        if limit := container.get("resources", {}).get("limits", {}).get("memory"):
            assert limit.endswith("Mi")
            yield from ("--memory", limit.replace("Mi", "m"))
        volumes = {volume["name"]: self.volume(volume) for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            yield from ("--volume", f"{source.resolve()}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")

    def volume(self, volume: Spec) -> Path:
        """The files of a volume: links through `..data`, as a kubelet makes them to change all of them at once."""
        directory = self.directory / "volumes" / volume["name"]
        data = directory / "..2026_11_21_09_00_00.1"
        data.mkdir(parents=True, exist_ok=True)
        for name, content in self.files(volume):
            (data / name).write_bytes(content)
            (data / name).chmod(0o644)
            link(directory / name, Path("..data", name))
        link(directory / "..data", Path(data.name))
        subprocess.run([*as_root(), "chown", "-R", "0:0", directory], check=True)
        return directory

    def files(self, volume: Spec) -> Iterator[tuple[str, bytes]]:
        """Names and contents of a volume's files."""
        (kind,) = volume.keys() - {"name"}
        for source in volume["projected"]["sources"] if kind == "projected" else [{kind: volume[kind]}]:
            ((kind, wanted),) = source.items()
            name = wanted.get("name") or wanted.get("secretName")
            content = contents(next(item for item in self.objects if item["metadata"]["name"] == name))
            items = wanted.get("items") or [{"key": key, "path": key} for key in content]
            yield from ((item["path"], content[item["key"]]) for item in items)


def security(context: Spec) -> Iterator[str]:
    """Options of `docker run` for a pod's and a container's security context."""
    known = {"runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile", "allowPrivilegeEscalation",
             "readOnlyRootFilesystem", "capabilities"}  # fmt: skip
    assert context.keys() <= known, context.keys() - known
    if "runAsUser" in context:
        yield from ("--user", f"{context['runAsUser']}:{context.get('runAsGroup', 0)}")
    if context["readOnlyRootFilesystem"]:
        yield "--read-only"
    if not context["allowPrivilegeEscalation"]:
        yield from ("--security-opt", "no-new-privileges")
    for capability in context["capabilities"]["drop"]:
        yield from ("--cap-drop", capability)


def contents(item: Mapping[str, Any]) -> dict[str, bytes]:
    """What is in a Secret or ConfigMap, by key."""
    if item["kind"] == "Secret":
        plain = {key: value.encode() for key, value in item.get("stringData", {}).items()}
        return plain | {key: base64.b64decode(value) for key, value in item.get("data", {}).items()}
    return {key: value.encode() for key, value in item["data"].items()}


def link(path: Path, target: Path) -> None:
    if not os.path.lexists(path):
        path.symlink_to(target)
