"""Settings are read once, from options, variables and secret files, and a wrong one is refused by name."""

import re
from collections.abc import Mapping
from pathlib import Path

import certifi
import pytest

from migrator.errors import EXIT_CODES, SettingsError
from migrator.settings import COMMANDS, SETTINGS, Settings, parse_clickhouse_url, parse_mysql_url, read_settings

ROOT = Path(__file__).parents[2]
SECRET = "k4narie-settings"  # nothing that is refused may show it
URLS = {"CLICKHOUSE_URL": f"http://me:{SECRET}@ch/", "MYSQL_URL": f"mysql://me:{SECRET}@my/shop"}

WRONG_VARIABLES: list[tuple[dict[str, str], str]] = [
    ({"CLICKHOUSE_URL": "ch:8123"}, "CLICKHOUSE_URL"),
    ({"CLICKHOUSE_URL": "tcp://ch:9000"}, "CLICKHOUSE_URL: must start with http:// or https://"),
    ({"CLICKHOUSE_URL": "http://"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": "http://a b/"}, "CLICKHOUSE_URL"),
    ({"CLICKHOUSE_URL": "http://ch:0/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch:65536/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch:port/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://[::1/"}, "CLICKHOUSE_URL"),
    ({"CLICKHOUSE_URL": "http://ch/metrics"}, "CLICKHOUSE_URL: a path"),
    ({"CLICKHOUSE_URL": "http://ch/?verify=false"}, "CLICKHOUSE_URL: verify needs https://"),
    ({"CLICKHOUSE_URL": "https://ch/?verify=perhaps"}, "CLICKHOUSE_URL: verify"),
    ({"CLICKHOUSE_URL": "https://ch/?verify=true&verify=false"}, "CLICKHOUSE_URL: option verify is given twice"),
    ({"CLICKHOUSE_URL": "https://ch/?ca_cert="}, "CLICKHOUSE_URL: option ca_cert is empty"),
    ({"CLICKHOUSE_URL": "https://ch/?ca_cert=/no/such"}, "CLICKHOUSE_URL: the file of ca_cert"),
    ({"CLICKHOUSE_URL": "https://ch/?verfy=true"}, "CLICKHOUSE_URL: unknown option 'verfy'"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}#1@ch/"}, "CLICKHOUSE_URL: '#'"),
    ({"CLICKHOUSE_URL": f"http://u:?{SECRET}@ch/"}, "CLICKHOUSE_URL: '/' and '?'"),
    ({"CLICKHOUSE_URL": f"http://u:/{SECRET}@ch/"}, "CLICKHOUSE_URL: '/' and '?'"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET} @ch/"}, "CLICKHOUSE_URL: blanks"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}\n@ch/"}, "CLICKHOUSE_URL: blanks"),
    ({"CLICKHOUSE_URL": f"http://u:[{SECRET}@ch/"}, "CLICKHOUSE_URL"),
    ({"MYSQL_URL": f"http://u:{SECRET}@my/shop"}, "MYSQL_URL: must start with mysql://"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/a/b"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": "mysql://my/shop"}, "MYSQL_URL: the user"),
    ({"MYSQL_URL": "mysql://u@my/shop?ssl-mode=MAYBE"}, "MYSQL_URL: ssl-mode"),
    ({"MYSQL_URL": "mysql://u@my/shop?ssl-mode=DISABLED&ssl-ca=/dev/null"}, "MYSQL_URL: ssl-mode=DISABLED"),
    ({"MYSQL_URL": "mysql://u@my/shop?charset=latin1"}, "MYSQL_URL: unknown option 'charset'"),
    ({"MYSQL_PASSWORD": SECRET}, "MYSQL_PASSWORD is set, but MYSQL_URL is not"),
    ({"CLICKHOUSE_PASSWORD": SECRET}, "CLICKHOUSE_PASSWORD is set, but CLICKHOUSE_URL is not"),
    ({"MIGRATE_TARGETS": "postgres"}, "MIGRATE_TARGETS"),
    ({"MIGRATE_WAIT_TIMEOUT": "2m"}, "MIGRATE_WAIT_TIMEOUT"),
    ({"MIGRATE_WAIT_TIMEOUT": "-1"}, "MIGRATE_WAIT_TIMEOUT"),
    ({"MIGRATE_WAIT_TIMEOUT": "inf"}, "MIGRATE_WAIT_TIMEOUT"),
    ({"MIGRATE_LOCK_TIMEOUT": "1e3"}, "MIGRATE_LOCK_TIMEOUT"),
    ({"MIGRATE_DEADLINE": "soon"}, "MIGRATE_DEADLINE"),
    ({"MIGRATE_REPAIR": "everything"}, "MIGRATE_REPAIR"),
    ({"MIGRATE_VERIFY": "no"}, "MIGRATE_VERIFY"),
    ({"MIGRATE_BACKFILL_DAYS": "-7"}, "MIGRATE_BACKFILL_DAYS"),
    ({"MIGRATE_LEDGER_TABLE": "a; DROP TABLE b"}, "MIGRATE_LEDGER_TABLE"),
    ({"MIGRATE_LEDGER_TABLE": "1st"}, "MIGRATE_LEDGER_TABLE"),
    ({"MIGRATE_LEDGER_TABLE": "x" * 49}, "MIGRATE_LEDGER_TABLE"),
    ({"MIGRATE_LEDGER_TABLE": "a\nb"}, "MIGRATE_LEDGER_TABLE"),
    ({"MIGRATE_LOG_FORMAT": "xml"}, "MIGRATE_LOG_FORMAT"),
    ({"MIGRATE_LOG_LEVEL": "loud"}, "MIGRATE_LOG_LEVEL"),
    ({"MIGRATE_DRY_RUN": "maybe"}, "MIGRATE_DRY_RUN"),
    ({"CLICKHOUSE_URL": "http:ch"}, "CLICKHOUSE_URL: a path"),
    ({"CLICKHOUSE_URL": "//ch/"}, "CLICKHOUSE_URL: must start with"),
    ({"CLICKHOUSE_URL": "unix:///run/ch.sock"}, "CLICKHOUSE_URL: must start with"),
    ({"CLICKHOUSE_URL": "http://a..b/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": "http://.ch/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": f"http://{'a' * 64}/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": f"http://{'a.' * 127}a/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": "http://exämple/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": "http://::1:8123/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": "http://[::1%eth0]/"}, "CLICKHOUSE_URL: the host"),
    ({"CLICKHOUSE_URL": "http://[::g]/"}, "CLICKHOUSE_URL"),
    ({"CLICKHOUSE_URL": "http://ch:8123:9000/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch:-1/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch:+8123/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch:８１２３/"}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch:" + "9" * 5000}, "CLICKHOUSE_URL: the port"),
    ({"CLICKHOUSE_URL": "http://ch/\u2028"}, "CLICKHOUSE_URL: a path"),
    ({"CLICKHOUSE_URL": "https://ch/?verify"}, "CLICKHOUSE_URL: option verify is empty"),
    ({"CLICKHOUSE_URL": "https://ch/?verify=true;ca_cert=/x"}, "CLICKHOUSE_URL: verify"),
    ({"CLICKHOUSE_URL": "https://ch/?VERIFY=false"}, "CLICKHOUSE_URL: unknown option 'VERIFY'"),
    ({"CLICKHOUSE_URL": "https://ch/?a%0a%1b[31m=1"}, r"CLICKHOUSE_URL: unknown option 'a\n\x1b[31m'"),
    ({"CLICKHOUSE_URL": f"https://ch/?{'x' * 5000}=1"}, "CLICKHOUSE_URL: unknown option 'xxx"),
    ({"CLICKHOUSE_URL": f"https://u:{SECRET}@ch/?ca_cert=%00"}, "CLICKHOUSE_URL: the file of ca_cert"),
    ({"CLICKHOUSE_URL": "https://ch/?ca_cert=/"}, "CLICKHOUSE_URL: the file of ca_cert"),
    ({"CLICKHOUSE_URL": "https://ch/?client_cert=/dev/zero"}, "CLICKHOUSE_URL: the file of client_cert"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}%zz@ch/"}, "CLICKHOUSE_URL: '%'"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}%@ch/"}, "CLICKHOUSE_URL: '%'"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}%ff@ch/"}, "CLICKHOUSE_URL: '%'"),
    ({"CLICKHOUSE_URL": f"http://u%c3:{SECRET}@ch/"}, "CLICKHOUSE_URL: '%'"),
    ({"CLICKHOUSE_URL": f"http://u%0a:{SECRET}@ch/"}, "CLICKHOUSE_URL: a control character"),
    ({"CLICKHOUSE_URL": f"http://u%1B%5B31m:{SECRET}@ch/"}, "CLICKHOUSE_URL: a control character"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}%00@ch/"}, "CLICKHOUSE_URL: a control character"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}\udcff@ch/"}, "CLICKHOUSE_URL: is not UTF-8 text"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}\x1b@ch/"}, "CLICKHOUSE_URL: blanks"),
    ({"CLICKHOUSE_URL": f"http://u:{SECRET}\r@ch/"}, "CLICKHOUSE_URL: blanks"),
    ({"CLICKHOUSE_URL": "http://u:" + "x" * 100_000 + "@ch:bad/"}, "CLICKHOUSE_URL: the port"),
    ({"MYSQL_URL": f"mariadb://u:{SECRET}@my/shop"}, "MYSQL_URL: must start with mysql://"),
    ({"MYSQL_URL": f"mysql+pymysql://u:{SECRET}@my/shop"}, "MYSQL_URL: must start with mysql://"),
    ({"MYSQL_URL": f"jdbc:mysql://my/shop?user=u&password={SECRET}"}, "MYSQL_URL: must start with mysql://"),
    ({"MYSQL_URL": f"u:{SECRET}@tcp(my:3306)/shop"}, "MYSQL_URL: must start with mysql://"),
    ({"MYSQL_URL": f"mysql -u root -p{SECRET}"}, "MYSQL_URL"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/shop/"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my//shop"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/mysql"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/Information_Schema"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/shop;DROP"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/sh`op"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/shop%00"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/shop%0a"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/größe"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/1shop"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://u:{SECRET}@my/{'d' * 65}"}, "MYSQL_URL: a database name"),
    ({"MYSQL_URL": f"mysql://:{SECRET}@my/shop"}, "MYSQL_URL: the user"),
    ({"MYSQL_URL": "mysql://u@my/shop?sslmode=require"}, "MYSQL_URL: unknown option 'sslmode'"),
    ({"MYSQL_URL": f"mysql://u@my/shop?password={SECRET}"}, "MYSQL_URL: unknown option 'password'"),
    ({"MYSQL_URL": "mysql://u@my/shop?ssl-mode=REQUIRED&ssl-mode=DISABLED"}, "MYSQL_URL: option ssl-mode is given twice"),
    ({"MYSQL_URL": "mysql://u@my/shop?ssl-mode=REQUIRED%0a"}, "MYSQL_URL: ssl-mode"),
    ({"MYSQL_URL": "mysql://u@my/shop?ssl-ca=/no/such"}, "MYSQL_URL: the file of ssl-ca"),
    ({"MYSQL_URL": f"mysql://u@my/shop?ssl-cert={certifi.where()}&ssl-key=/dev"}, "MYSQL_URL: the file of ssl-key"),
    ({"CLICKHOUSE_URL": f"https://ch/?ca_cert={__file__}"}, "CLICKHOUSE_URL: the file of ca_cert"),
    ({"CLICKHOUSE_URL": f"https://ch/?client_cert={certifi.where()}"}, "CLICKHOUSE_URL: the file of client_cert"),
    ({"MYSQL_URL": f"mysql://u@my/shop?ssl-ca={__file__}"}, "MYSQL_URL: the file of ssl-ca"),
    ({"MYSQL_URL": "mysql://u@my/shop?ssl-cert=/no/such&ssl-key=/no/such"}, "MYSQL_URL: the file of ssl-cert"),
    ({"MYSQL_URL": f"mysql://u@my/shop?ssl-cert={certifi.where()}"}, "MYSQL_URL: ssl-cert and ssl-key need each other"),
    ({"MYSQL_URL": "mysql://u@my/shop", "MYSQL_PASSWORD": f"{SECRET}\udcff"}, "MYSQL_PASSWORD: is not UTF-8 text"),
    ({"MYSQL_URL": "mysql://u@my/shop", "MYSQL_PASSWORD_FILE": "/dev/zero"}, "MYSQL_PASSWORD_FILE: '/dev/zero' is not a regular"),
    ({"MYSQL_URL": "mysql://u@my/shop", "MYSQL_PASSWORD_FILE": "/"}, "MYSQL_PASSWORD_FILE: '/' is not a regular"),
    ({"MYSQL_URL": "mysql://u@my/shop", "MYSQL_PASSWORD_FILE": "/no\n/such"}, r"MYSQL_PASSWORD_FILE: '/no\n/such' cannot be read"),
    ({"MIGRATE_STEPS_DIR": "/st\udcffeps"}, "MIGRATE_STEPS_DIR: is not UTF-8 text"),
    *(({f"MIGRATE_{name}": value}, f"MIGRATE_{name}: must be a number of") for name, values in {
        "WAIT_TIMEOUT": ["nan", "1e3", " 5", "5\n", "0x10", "٣", "9999999999"], "LOCK_TIMEOUT": ["-0", "NaN", "1_000", "5s", "1,5"],
        "DEADLINE": ["-1", "infinity", "1.1234567", ".5", "5.", "\x1b[31m5"], "BACKFILL_DAYS": ["inf", "7d", "100000", "７"],
    }.items() for value in values),
    ({"MIGRATE_WAIT_TIMEOUT": "1" * 100_000}, "MIGRATE_WAIT_TIMEOUT: must be a number of"),
    *(({"MIGRATE_TARGETS": value}, "MIGRATE_TARGETS: must be") for value in ("mysql,", "all", "clickhouse;mysql", "MySQL", "mysql\n,x")),
    *(({"MIGRATE_LEDGER_TABLE": value}, "MIGRATE_LEDGER_TABLE: must be") for value in (
        "a-b", "a.b", "a`b", "a'b", 'a"b', "a b", "ä", "a\x1b[31m", "a\u2028b", "schema_migrations\n", "x" * 100_000)),
    ({"MIGRATE_LEDGER_TABLE": "a\udcff"}, "MIGRATE_LEDGER_TABLE: is not UTF-8 text"),
    ({"MIGRATE_REPAIR": "missing\n"}, "MIGRATE_REPAIR: must be"),
    ({"MIGRATE_VERIFY": "Full"}, "MIGRATE_VERIFY: must be"),
    ({"MIGRATE_LOG_LEVEL": "DEBUG"}, "MIGRATE_LOG_LEVEL: must be"),
    ({"MIGRATE_YES": "ja"}, "MIGRATE_YES: must be"),
    ({"MIGRATE_YES": "1"}, "--yes belongs to cleanup"),
]  # fmt: skip
WRONG_COMMANDS = [
    (["migrate"], "migrate"),
    (["run", "now"], "now"),
    (["--fast"], "--fast"),
    (["--dry"], "--dry"),
    (["--target"], "--target"),
    (["--target", "postgres"], "--target"),
    (["--log-format", "xml"], "--log-format"),
    (["status", "--dry-run"], "--dry-run belongs to run"),
    (["run", "--yes"], "--yes belongs to cleanup"),
    (["run", "run"], "run"),
    (["Status"], "Status"),
    (["verify", "--dry-run=1"], "--dry-run"),
    (["--yes=true"], "--yes"),
    (["--target", "mysql,,"], "--target"),
    (["--target", "mysql;DROP TABLE x"], "--target"),
    (["--target="], "--target"),
    (["--steps"], "--steps"),
    (["--steps", ""], "--steps is empty"),
    (["--log-format="], "--log-format is empty"),
    (["--log-format", "JSON"], "--log-format"),
    (["--log-level", "debug"], "debug"),
    (["--version=1"], "--version"),
    (["snapshot", "--dry-run"], "--dry-run belongs to run"),
    (["a\n{\"event\": \"report\"}"], r"report"),
    (["--a\x1b[2Jb\u2028c"], "2Jb"),
    (["\udcff"], "udcff"),
    (["x" * 100_000], "xxx"),
    (["--", "--dry-run"], "--dry-run"),
    (["-x"], "-x"),
]  # fmt: skip


def read(*argv: str, **environ: str) -> Settings:
    return read_settings(argv, environ)


def refusal(*argv: str, environ: Mapping[str, str]) -> str:
    """The one line that says why these settings are refused."""
    with pytest.raises(SettingsError) as refused:
        read_settings(argv, environ)
    text = str(refused.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


def test_defaults_need_no_setting() -> None:
    """A missing URL is no error here: which databases are needed, the steps say."""
    settings = read()

    assert (settings.command, settings.targets, settings.clickhouse, settings.mysql) == (
        "run", ("clickhouse", "mysql"), None, None)
    assert (settings.wait_timeout, settings.lock_timeout, settings.deadline) == (120, 120, None)
    assert (settings.repair, settings.verify, settings.ledger_table) == ("missing", "full", "schema_migrations")
    assert settings.steps_dir == ROOT / "sql"


def test_clickhouse_url_is_taken_apart() -> None:
    """Defaults are the server's own: port 8123 or 8443, user default."""
    plain, secure = parse_clickhouse_url("http://ch"), parse_clickhouse_url("https://u:p%40%2F@ch/?verify=false")

    assert (plain.host, plain.port, plain.user, plain.password, plain.secure) == ("ch", 8123, "default", "", False)
    assert (secure.port, secure.user, secure.password, secure.options) == (8443, "u", "p@/", {"verify": "false"})


def test_mysql_url_is_taken_apart() -> None:
    """TLS is used where the server has it, unless told otherwise; a given CA is also checked."""
    plain = parse_mysql_url("mysql://u:p%3A@my/shop")
    checked = parse_mysql_url(f"mysql://u@my:3307/shop?ssl-mode=REQUIRED&ssl-ca={certifi.where()}")
    required = parse_mysql_url("mysql://u@my/shop?ssl-mode=REQUIRED")
    off = parse_mysql_url("mysql://u@my/shop?ssl-mode=disabled")

    assert (plain.host, plain.port, plain.user, plain.password, plain.database) == ("my", 3306, "u", "p:", "shop")
    assert [a.options["ssl-mode"] for a in (plain, checked, required, off)] == ["PREFERRED", "VERIFY_CA", "VERIFY_IDENTITY", "DISABLED"]
    assert [a.secure for a in (plain, checked, required, off)] == [True, True, True, False]


def test_option_wins_over_its_variable() -> None:
    """Who types an option means it."""
    settings = read("--target", "mysql", "--steps", "/here", "--log-format", "text", MIGRATE_TARGETS="clickhouse",
                    MIGRATE_STEPS_DIR="/there", MIGRATE_LOG_FORMAT="json")

    assert (settings.targets, settings.steps_dir, settings.log_format) == (("mysql",), Path("/here"), "text")


@pytest.mark.parametrize(("argv", "environ", "attribute", "value"), [
    (["--target", "clickhouse"], {"MIGRATE_TARGETS": "clickhouse"}, "targets", ("clickhouse",)),
    (["--target", "mysql", "--target", "clickhouse"], {"MIGRATE_TARGETS": "mysql, clickhouse"}, "targets",
     ("mysql", "clickhouse")),
    (["--steps", "/x"], {"MIGRATE_STEPS_DIR": "/x"}, "steps_dir", Path("/x")),
    (["--dry-run"], {"MIGRATE_DRY_RUN": "true"}, "dry_run", True),
    (["cleanup", "--yes"], {"MIGRATE_YES": "1"}, "yes", True),
    (["--log-format", "text"], {"MIGRATE_LOG_FORMAT": "text"}, "log_format", "text"),
])  # fmt: skip
def test_every_option_has_a_variable(
    argv: list[str], environ: dict[str, str], attribute: str, value: object
) -> None:
    """What a command line can say, a compose file can say too."""
    command = argv[:1] if argv[0] in COMMANDS else []

    assert getattr(read_settings(argv, {}), attribute) == value
    assert getattr(read_settings(command, environ), attribute) == value


def test_empty_variable_counts_as_not_set() -> None:
    """Compose files write `NAME: ${NAME:-}` for what is optional."""
    settings = read(CLICKHOUSE_URL="", CLICKHOUSE_PASSWORD="", MIGRATE_DEADLINE="", MIGRATE_REPAIR="")

    assert (settings.clickhouse, settings.deadline, settings.repair) == (None, None, "missing")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secret_file_loses_one_line_end(tmp_path: Path, ending: str) -> None:
    """An editor adds one; a password may end in a blank or even in a second line end."""
    file = tmp_path / "password"
    file.write_bytes(f"{SECRET} \n".encode() + ending.encode() if ending else f"{SECRET} ".encode())
    settings = read(**URLS, MYSQL_PASSWORD_FILE=str(file))

    assert settings.mysql
    assert settings.mysql.password == (f"{SECRET} \n" if ending else f"{SECRET} ")


def test_password_setting_wins_over_the_url(tmp_path: Path) -> None:
    """Both are kept out of the log."""
    file = tmp_path / "url"
    file.write_text("http://u:in-the-url@ch/")
    settings = read(CLICKHOUSE_URL_FILE=str(file), CLICKHOUSE_PASSWORD=SECRET)

    assert settings.clickhouse
    assert settings.clickhouse.password == SECRET
    assert set(settings.secrets) == {SECRET, "in-the-url"}


def test_settings_never_show_a_password() -> None:
    """Neither in repr nor in str, so that no message and no traceback can."""
    settings = read(**URLS)

    assert SECRET not in f"{settings!r}{settings}{settings.mysql!r}{settings.mysql}{settings.clickhouse}"


def test_unknown_variable_is_named_but_no_error() -> None:
    """Kubernetes injects names such as MIGRATE_PORT for a service called migrate."""
    assert read(MIGRATE_PORT="tcp://10.0.0.1", HOME="/").unknown == ("MIGRATE_PORT",)


@pytest.mark.parametrize(("environ", "named"), WRONG_VARIABLES)
def test_wrong_variable_is_refused_by_name(environ: dict[str, str], named: str) -> None:
    """One line, which names the setting and shows no secret."""
    assert named in refusal(environ=environ)


@pytest.mark.parametrize(("argv", "named"), WRONG_COMMANDS)
def test_wrong_command_line_is_refused_by_name(argv: list[str], named: str) -> None:
    """Options are not abbreviated, so that a new one never changes what an old command line means."""
    assert named in refusal(*argv, environ={})


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.secret])
def test_secret_is_a_value_or_a_file_but_not_both(name: str, tmp_path: Path) -> None:
    """Nobody can tell which of two was meant."""
    value = URLS.get(name, SECRET)
    (tmp_path / "secret").write_text(value)
    environ = {**{url: it for url, it in URLS.items() if url != name}, f"{name}_FILE": str(tmp_path / "secret")}
    read_settings([], environ)

    assert f"{name} and {name}_FILE" in refusal(environ={**environ, name: value})


@pytest.mark.parametrize(("content", "why"), [
    (None, "cannot be read"), (b"", "is empty"), (b"\n", "is empty"), (b"a\0b", "NUL"), (b"\xff", "not UTF-8"),
    (b"x" * 65537, "64 KiB"),
])  # fmt: skip
def test_unusable_secret_file_is_refused_by_name(tmp_path: Path, content: bytes | None, why: str) -> None:
    """The setting and the path are named, the content never."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    text = refusal(environ={**URLS, "MYSQL_PASSWORD_FILE": str(file)})

    assert "MYSQL_PASSWORD_FILE" in text
    assert why in text


def test_missing_address_is_an_error_only_where_a_step_needs_it() -> None:
    """The message says which variable, and what else would help."""
    settings = read(MYSQL_URL=URLS["MYSQL_URL"])

    assert settings.address("mysql").host == "my"
    with pytest.raises(SettingsError, match=r"CLICKHOUSE_URL is not set.*--target"):
        settings.address("clickhouse")


def table(title: str) -> list[list[str]]:
    """The cells of the README's first table under a heading, without the head, backquotes and the `_FILE` forms."""
    text = re.split(rf"^#+ {title}$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)[1]
    rows = [line for line in re.split(r"^#", text, flags=re.M)[0].splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_readme_lists_every_setting_as_it_is() -> None:
    """Name, meaning and default; the forms with _FILE stand beside the name."""
    settings = [[", ".join([s.name, f"{s.name}_FILE"][: 1 + s.secret]) + (f" ({s.option})" if s.option else ""),
                 s.meaning, s.default] for s in SETTINGS]

    assert table("Settings") == settings


def test_readme_lists_every_exit_code_as_it_is() -> None:
    """The same sentences as in --help."""
    documented = {int(row[0]): row[1] for row in table("Exit codes")}

    assert documented == EXIT_CODES


def test_readme_lists_every_command() -> None:
    """None is missing, none is invented."""
    documented = {row[0].removeprefix("*(none)* = ").split(" ")[0] for row in table("Commands")}

    assert documented - {"--dry-run"} == set(COMMANDS)
