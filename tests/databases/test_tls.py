"""TLS: what is verified is what was asked for; each refusal comes at once, with 2 and a line that says which it is."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import FIGURES
from tests.databases.conftest import Steps
from tests.databases.crash import Run
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.mysql import ENGINES, MariaDBServer, MySQLServer
from tests.servers.process import HOST
from tests.servers.tls import TLSProxy, make_certificates, put

FULL = bool(os.environ.get("MIGRATE_TEST_FULL"))
PLAIN, OTHER_CA, SELF_SIGNED = "speaks no TLS on this port", "another CA has signed the server's certificate", "is self-signed"
EXPIRED, HOST_NAME, OLD = "has expired", "is for another host name", "nothing newer than TLS 1.1"
MISSING, STRANGER = "requires a client certificate", "does not accept this client certificate"
OFFERS_NONE = "TLS failed: SSL is required but the server doesn't support it"

# What the server shows, the options of the URL, and the line that refuses; empty: it connects, and the log says encrypted.
CLICKHOUSE: dict[str, tuple[str, dict[str, str], str]] = {
    "right CA": ("good", {"ca_cert": "ca.pem"}, ""),
    "wrong CA": ("good", {"ca_cert": "other-ca.pem"}, OTHER_CA),
    "a CA that is not the system's": ("good", {}, OTHER_CA),
    "wrong host name": ("wrong-host", {"ca_cert": "ca.pem"}, HOST_NAME),
    "expired": ("expired", {"ca_cert": "ca.pem"}, EXPIRED),
    "self-signed": ("self-signed", {"ca_cert": "ca.pem"}, SELF_SIGNED),
    "self-signed, not to be verified": ("self-signed", {"verify": "false"}, ""),
    "client certificate": ("good, for clients", {"ca_cert": "ca.pem", "client_cert": "client.both"}, ""),
    "client certificate missing": ("good, for clients", {"ca_cert": "ca.pem"}, MISSING),
    "client certificate of another CA": ("good, for clients", {"ca_cert": "ca.pem", "client_cert": "stranger.both"}, STRANGER),
    "server without TLS": ("plain", {"ca_cert": "ca.pem"}, PLAIN),
    "TLS 1.1": ("old", {"ca_cert": "ca.pem"}, OLD),
}  # fmt: skip
MYSQL: dict[str, tuple[str, dict[str, str], str]] = {
    "right CA": ("good", {"ssl_mode": "VERIFY_IDENTITY", "ssl_ca": "ca.pem"}, ""),
    "a CA is asked, whatever the mode": ("good", {"ssl_mode": "REQUIRED", "ssl_ca": "other-ca.pem"}, OTHER_CA),
    "a CA alone": ("good", {"ssl_ca": "ca.pem"}, ""),
    "wrong CA": ("good", {"ssl_ca": "other-ca.pem"}, OTHER_CA),
    "a CA that is not the system's": ("good", {"ssl_mode": "VERIFY_IDENTITY"}, OTHER_CA),
    "by default, unverified": ("good", {}, ""),
    "wrong host name": ("wrong-host", {"ssl_mode": "VERIFY_IDENTITY", "ssl_ca": "ca.pem"}, HOST_NAME),
    "wrong host name, not to be verified": ("wrong-host", {"ssl_mode": "VERIFY_CA", "ssl_ca": "ca.pem"}, ""),
    "expired": ("expired", {"ssl_ca": "ca.pem"}, EXPIRED),
    "self-signed": ("self-signed", {"ssl_ca": "ca.pem"}, SELF_SIGNED),
    "self-signed, required": ("self-signed", {"ssl_mode": "REQUIRED"}, SELF_SIGNED),
    "required, a CA that is not the system's": ("good", {"ssl_mode": "REQUIRED"}, OTHER_CA),
    "self-signed, not to be verified": ("self-signed", {}, ""),
    "client certificate": ("good, for clients", {"ssl_ca": "ca.pem", "ssl_cert": "client.pem", "ssl_key": "client.key"}, ""),
    "client certificate missing": ("good, for clients", {"ssl_ca": "ca.pem"}, "requires a client certificate (ssl-cert, ssl-key)"),
    "client certificate of another CA": ("good, for clients", {"ssl_ca": "ca.pem", "ssl_cert": "stranger.pem", "ssl_key": "stranger.key"}, STRANGER),
    "an account that requires TLS, and none": ("good, for clients", {"ssl_mode": "DISABLED"}, "the account requires TLS"),
    "server without TLS, required": ("plain", {"ssl_mode": "REQUIRED"}, OFFERS_NONE),
    "server without TLS, to be verified": ("plain", {"ssl_ca": "ca.pem"}, OFFERS_NONE),
    "server without TLS, a client certificate": ("plain", {"ssl_cert": "client.pem", "ssl_key": "client.key"}, OFFERS_NONE),
    "TLS 1.1": ("old", {}, OLD),
}  # fmt: skip
# Where nobody insists on TLS and the server has none: the level of the line that says that the connection is in plain text.
PLAINTEXT = {"by default": ({}, "warning"), "as was asked for": ({"ssl_mode": "DISABLED"}, "info")}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def check(steps: Steps, url: str, refusal: str, case: str, *, encrypted: bool = True, level: str = "") -> str:
    """What is wrong with a run there; empty if nothing is. `level`: of the line that says whether it is encrypted."""
    level = level or ("warning" if "verify=false" in url else "info")
    target = "mysql" if url.startswith("mysql") else "clickhouse"
    run = Run(steps.environ | {"MIGRATE_LOG_FORMAT": "json", f"{target.upper()}_URL": url}, "--target", target)
    code = run.wait(60)
    ready = [(line["encrypted"], line["level"]) for line in run.lines if line["event"] == "ready"]
    # A server that misses a client certificate may hang up before it was read why: the next try tells.
    waited = [line["reason"] for line in run.lines if line["event"] == "waiting" and "client certificate" not in refusal]
    error = run.report.get("error", "")
    good = ((code, ready) == (0, [(encrypted, level)]) if not refusal else
            (code, ready, waited, "\n" in error, run.report["seconds"] < 10) == (2, [], [], False, True) and refusal in error and f"{target} at {HOST}" in error)  # fmt: skip
    return "" if good else f"{case}: {code} {ready} {error} {waited[:1]}"


def options(certificates: Path, given: dict[str, str]) -> dict[str, str]:
    return {name: str(certificates / value) if "." in value else value for name, value in given.items()}


def test_clickhouse(steps: Steps, fresh_clickhouse: ClickHouseServer, certificates: Path) -> None:
    steps.write(n0001_a__clickhouse__sql="SELECT 1")
    port, wrong = fresh_clickhouse.port, []
    with ExitStack() as stack:
        ports = {"plain": port}
        for name in ("good", "wrong-host", "expired", "self-signed"):
            ports[name] = stack.enter_context(TLSProxy(port, certificates / f"{name}.pem")).port
        ports["good, for clients"] = stack.enter_context(
            TLSProxy(port, certificates / "good.pem", clients=certificates / "ca.pem")).port
        ports["old"] = stack.enter_context(TLSProxy(port, certificates / "good.pem", old=True)).port
        for case, (server, given, refusal) in CLICKHOUSE.items():
            query = "&".join(f"{name}={value}" for name, value in options(certificates, given).items())
            url = fresh_clickhouse.url().replace("http://", "https://").replace(f":{port}/", f":{ports[server]}/?{query}")
            wrong += [check(steps, url, refusal, case)]

    assert "\n".join(filter(None, wrong)) == ""
    FIGURES.append(f"TLS: clickhouse {len(CLICKHOUSE)} cases, each connects or says which it is")


@contextmanager
def showing(server: MySQLServer, certificates: Path, own: Path) -> Iterator[Callable[[str], None]]:
    """A function that makes the server show another certificate; at the end it is as before."""
    names = ("ssl_ca", "ssl_cert", "ssl_key")
    before = server.query("SELECT " + ", ".join(f"@@{name}" for name in names))[0]

    def show(name: str) -> None:
        if server.dialect == "mariadb":
            put(certificates, name, own)
            server.query("FLUSH SSL")
            return
        files = ("ca.pem", f"{name}.pem", f"{name}.key")
        reload([str(certificates / file) for file in files])

    def reload(files: Sequence[str]) -> None:
        pairs = zip(names, files, strict=True)
        server.query("; ".join(f"SET GLOBAL {name} = '{file}'" for name, file in pairs) + "; ALTER INSTANCE RELOAD TLS")

    yield show
    if server.dialect == "mysql":
        reload(before)


@pytest.mark.parametrize("dialect", ENGINES)
def test_mysql(steps: Steps, mysql_servers: Callable[[str], MySQLServer], certificates: Path, tmp_path: Path, dialect: str) -> None:
    steps.write(n0001_a__mysql__sql="SELECT 1")
    wrong = []
    with ExitStack() as stack:
        if dialect == "mariadb":
            put(certificates, "good", tmp_path)
            server: MySQLServer = stack.enter_context(MariaDBServer(certificates=tmp_path))
        else:
            server = mysql_servers(dialect).start()
        server.create_database("tls")
        server.create_user("certified", server.password, ["ALL ON tls.*"])
        server.query("ALTER USER certified@'%' REQUIRE X509")
        show = stack.enter_context(showing(server, certificates, tmp_path))
        for kind in dict.fromkeys(kind for kind, *_ in MYSQL.values()):
            shown = server
            # MySQL speaks none so old, loads none that is expired, and makes its own where it is given none.
            if dialect == "mysql" and (kind in ("old", "expired", "plain") or (not FULL and not kind.startswith("good"))):
                continue
            if kind == "old":
                shown = stack.enter_context(MariaDBServer(certificates=tmp_path, options=["--tls-version=TLSv1.1"]))
            elif kind == "plain":
                shown = mysql_servers("mariadb").start()
                shown.create_database("tls")
                wrong += [check(steps, shown.url("tls", **given), "", f"plain text {case}", encrypted=False, level=level)
                          for case, (given, level) in PLAINTEXT.items()]
                shown.drop_database("tls")
            else:
                show(kind.partition(",")[0])
            for case, (_, given, refusal) in MYSQL.items():
                if MYSQL[case][0] == kind:
                    user = "certified" if kind.endswith("for clients") else server.user
                    wrong += [check(steps, shown.url("tls", user=user, **options(certificates, given)), refusal, case)]
        server.query("SET GLOBAL require_secure_transport = ON")
        line = "(3159)" if dialect == "mysql" else "or the account requires TLS"
        wrong += [check(steps, server.url("tls", ssl_mode="DISABLED"), line, "a server that requires TLS")]
        server.query("SET GLOBAL require_secure_transport = OFF; DROP USER certified@'%'")
        server.drop_database("tls")

    assert "\n".join(filter(None, wrong)) == ""
    FIGURES.append(f"TLS: {dialect} {len(wrong)} cases, each connects or says which it is")
