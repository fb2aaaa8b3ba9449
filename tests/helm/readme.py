"""README.md's section on Kubernetes, carried out as a stranger would: its files written, its commands run.

There is no cluster here: `kubectl create` stays a client-side dry run, and `helm upgrade --install` becomes `helm template`
with the same options. Their output is what the cluster would hold.
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.helm.programs import CHART, Helm, Objects, documents
from tests.readme import commands, files

SECTION = "In Kubernetes"
ORDERS = "CREATE TABLE IF NOT EXISTS orders (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB;\n"
PASSWORDS = {"clickhouse-password": "k4narie-one", "mysql-password": "k4narie-two"}


@dataclass
class Workplace:
    """A directory with what the reader has and writes, and what the commands brought into the cluster."""

    helm: Helm
    directory: Path
    created: Objects = field(default_factory=list)
    releases: dict[str, Objects] = field(default_factory=dict)  # by command

    def prepare(self, passwords: dict[str, str] | None = None) -> None:
        """The chart, the passwords, a step of one's own, and the files of the section."""
        (self.directory / "helm-job").symlink_to(CHART)
        (self.directory / "steps").mkdir()
        (self.directory / "steps/0008_orders.mysql.sql").write_text(ORDERS)
        for name, password in (passwords or PASSWORDS).items():
            (self.directory / name).write_text(password)
        for name, text in files(SECTION):
            (self.directory / name).parent.mkdir(exist_ok=True)
            (self.directory / name).write_text(text)
        values = yaml.safe_load((self.directory / "values.yaml").read_text())
        (self.directory / "shop/values.yaml").write_text(yaml.safe_dump({"migrate": values}))

    def carry_out(self) -> None:
        """Every command, in order. One that is not known here fails."""
        for command in commands(SECTION):
            program, *words = shlex.split(command)
            match (program, *words[:2]):
                case ("kubectl", "create", _):
                    self.created += documents(self.run(program, *words, "--dry-run=client", "--output=yaml"))
                case ("helm", "upgrade", "--install"):
                    self.releases[command] = documents(self.run(program, "template", *words[2:]))
                case ("helm", "dependency", _):
                    self.run(program, *words)
                case ("helm", "test", release):
                    assert f" {release} " in next(iter(self.releases))
                case ("kubectl", "logs", job) | ("kubectl", "get", job):
                    name = next(word for word in words if "schema" in word).split("/")[-1].split("=")[-1]
                    assert name in {item["metadata"]["name"] for item in next(iter(self.releases.values()))}, job
                case _:
                    raise AssertionError(f"nobody knows how to try: {command}")

    def run(self, program: str, *words: str) -> str:
        return self.helm(program, *words, cwd=self.directory)
