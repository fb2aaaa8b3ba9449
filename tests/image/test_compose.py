"""compose.yaml as a gate: what depends on migrate starts when both schemas are right, and not otherwise."""

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.image.containers import Docker, Stack
from tests.image.engine import ROOT

# By dialect of the other database, so that a drift of each kind of server is tried: target, the deed, its repair.
DRIFTS = {
    "mariadb": (
        "clickhouse",
        "ALTER TABLE metrics.NodeMetrics MODIFY COLUMN cpu_usage_percent String",
        "ALTER TABLE metrics.NodeMetrics MODIFY COLUMN cpu_usage_percent Float64 CODEC(Gorilla(8))",
        "NodeMetrics",
    ),
    "mysql": (
        "mysql",
        "ALTER TABLE replica_instances MODIFY COLUMN created_by VARCHAR(254) NULL",
        "ALTER TABLE replica_instances MODIFY COLUMN created_by VARCHAR(255) NULL",
        "replica_instances",
    ),
}
# What closes the gate before anything is applied: settings of the service, the exit code, and words of the reason.
CLOSED = {
    "wrong user": ({"MYSQL_URL": "mysql://somebody@mysql:3306/app"}, 2, "refused user somebody"),
    "no database": ({"CLICKHOUSE_URL": "http://nowhere.invalid/", "MIGRATE_WAIT_TIMEOUT": "1"}, 3, "nowhere.invalid"),
    "changed step": ({}, 5, "step 0006_replica_management.mysql is changed"),
}


def catalogs(stack: Stack) -> list[Any]:
    """What is in both databases, by name."""
    own = "('system', 'information_schema', 'INFORMATION_SCHEMA', 'default')"
    return [
        stack.query("clickhouse", f"SELECT name FROM system.databases WHERE name NOT IN {own} ORDER BY name"),
        stack.query("clickhouse", "SELECT database, name, create_table_query FROM system.tables "
                                  f"WHERE database NOT IN {own} ORDER BY ALL"),
        stack.query("mysql", "SELECT table_name AS n, column_name AS c, column_type AS t FROM information_schema.columns "
                             "WHERE table_schema = DATABASE() ORDER BY n, c"),
    ]  # fmt: skip


def plain_run(stack: Stack, *arguments: str) -> Any:
    """`docker run IMAGE ARGUMENTS` on the stack's network, with the settings that compose.yaml gives the service."""
    secrets = Path(stack.environ["MIGRATE_SECRETS"])
    options = ["--network", f"{stack.name}_default"]
    for name in ("clickhouse", "mysql"):
        options += ["--volume", f"{secrets}/{name}_password:/run/{name}:ro"]
        options += ["--env", f"{name.upper()}_PASSWORD_FILE=/run/{name}"]
    options += ["--env", "CLICKHOUSE_URL=http://migrate@clickhouse:8123/"]
    options += ["--env", "MYSQL_URL=mysql://migrate@mysql:3306/app"]
    return stack.docker("run", "--rm", *options, stack.environ["MIGRATE_IMAGE"], *arguments)


def test_the_file_for_users_is_complete_and_pins_its_images(docker: Docker) -> None:
    """compose.yaml without the overlay: it parses, no image moves by itself, and all that needs the schemas waits."""
    done = docker("compose", "-f", "compose/compose.yaml", "config", "--format", "json", check=True)
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"clickhouse", "mysql", "migrate", "app", "collector"}
    for name in ("clickhouse", "mysql", "app", "collector"):
        assert re.search(r":\d+\.[\w.-]+$", services[name]["image"]), services[name]["image"]
    for name in ("app", "collector"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert "\n    create_schema: false" in (ROOT / "compose/collector.yaml").read_text()


def test_a_dry_run_tells_the_plan_and_writes_nothing(stack: Stack) -> None:
    """By compose and by docker run, on empty databases: the same plan, exit 0, and the databases stay empty."""
    stack.empty()
    before = catalogs(stack)
    for done in (stack("run", "--rm", "-T", "migrate", "--dry-run"), plain_run(stack, "--dry-run")):
        assert done.code == 0, done.stdout
        assert len(done.lines[-1]["pending"]) >= 7
    assert catalogs(stack) == before == [[], [], []]


def test_the_app_starts_only_after_migrate_has_exited_0(stack: Stack) -> None:
    """From empty databases by one `up`: both schemas first, then the app."""
    stack.empty()
    stack("up", "--detach", check=True)
    migrate, app = stack.state("migrate"), stack.state("app")
    assert (migrate["Status"], migrate["ExitCode"], app["Status"]) == ("exited", 0, "running")
    assert datetime.fromisoformat(app["StartedAt"]) > datetime.fromisoformat(migrate["FinishedAt"])
    assert ["NodeMetrics"] in stack.query("clickhouse", "SELECT name FROM system.tables WHERE database = 'metrics'")


def test_a_second_up_runs_the_job_again_and_changes_nothing(stack: Stack) -> None:
    """The job runs on every release; on finished schemas it is a proof and no more."""
    stack.migrated()
    before = catalogs(stack)
    stack("up", "--detach", check=True)
    report = stack.report()
    assert (report["exit_code"], report["applied"], report["repaired"]) == (0, [], [])
    assert catalogs(stack) == before


def test_drift_keeps_the_app_from_starting_until_it_is_repaired(stack: Stack) -> None:
    """A column's type changed by hand: exit 7, the last line of the log says where, and the app stays Created."""
    dialect = stack.name.rpartition("-")[2]
    target, deed, repair, table = DRIFTS[dialect]
    stack.migrated()
    stack.query(target, deed)

    up = stack("up", "--detach")
    assert up.code == 1
    assert "exit 7" in up.stderr
    assert (stack.state("migrate")["ExitCode"], stack.state("app")["Status"]) == (7, "created")
    assert (stack.state("clickhouse")["Status"], stack.state("mysql")["Status"]) == ("running", "running")
    report = stack.report()
    assert report["event"] == "report"
    assert [finding for finding in report["findings"] if table in str(finding)]
    assert stack("up", "--exit-code-from", "migrate", "migrate").code == 7

    stack.query(target, repair)
    stack("up", "--detach", check=True)
    assert (stack.state("migrate")["ExitCode"], stack.state("app")["Status"]) == (0, "running")


@pytest.mark.parametrize("stack", ["mysql"], indirect=True)
@pytest.mark.parametrize("why", CLOSED)
def test_the_last_line_says_why_the_gate_is_closed(stack: Stack, tmp_path: Path, why: str) -> None:
    """Whatever the code, as `docker compose logs --tail 1` shows it; the app stays Created."""
    settings, code, words = CLOSED[why]
    (tmp_path / "more.yaml").write_text(json.dumps({"services": {"migrate": {"environment": settings}}}))
    stack("rm", "--stop", "--force", "app", "migrate", check=True)
    if why == "changed step":
        stack.migrated()
        stack.query("mysql", "UPDATE schema_migrations SET checksum = REVERSE(checksum) WHERE version = 6")
    try:
        assert f"exit {code}" in stack("up", "--detach", more=[tmp_path / "more.yaml"]).stderr
        assert (stack.state("migrate")["ExitCode"], stack.state("app")["Status"]) == (code, "created")
        shown = stack("logs", "--no-log-prefix", "--tail", "1", "migrate", check=True).stdout
        last = json.loads(shown.removeprefix("\x1b[2K"))  # compose erases its line first
        assert (last["event"], last["exit_code"], words in last["error"]) == ("report", code, True), last
    finally:
        if why == "changed step":
            stack.query("mysql", "UPDATE schema_migrations SET checksum = REVERSE(checksum) WHERE version = 6")


def test_the_job_waits_by_itself_for_databases_that_come_late(stack: Stack) -> None:
    """depends_on is a convenience: started before both databases, the job waits for their names to appear."""
    stack("down", "--volumes", "--timeout", "1", check=True)
    stack("up", "--detach", "--no-deps", "migrate", check=True)
    job = stack.container("migrate")
    deadline = time.monotonic() + 30  # Docker's resolver takes its time for a name that it does not know
    while "waiting" not in {line["event"] for line in stack.docker("logs", job, check=True).lines}:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    stack("up", "--detach", "--wait", "clickhouse", "mysql", check=True)
    assert stack.docker("wait", job, check=True).stdout.strip() == "0"


def test_mysql_is_spoken_to_in_an_encrypted_connection(stack: Stack) -> None:
    """caching_sha2_password needs TLS with the image's driver, and gets it; MariaDB 10.11 offers none by default."""
    stack("up", "--detach", "--wait", "mysql", check=True)
    ((_, cipher),) = stack.query("mysql", "SHOW STATUS LIKE 'Ssl_cipher'")
    assert bool(cipher) == stack.name.endswith("-mysql")


def test_no_password_is_in_any_output(stack: Stack, docker: Docker) -> None:
    """Neither the job's log nor a description of its container tells a secret."""
    passwords = [file.read_text() for file in Path(stack.environ["MIGRATE_SECRETS"]).iterdir()]
    stack.migrated()
    stack("up", "--detach", check=True)
    job = stack.container("migrate")
    output = docker("logs", job, check=True).stdout + docker("inspect", job, check=True).stdout
    assert len(passwords) == 3
    assert not [password for password in passwords if password in output]
