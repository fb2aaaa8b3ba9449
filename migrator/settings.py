"""Settings: command line, environment and secret files, read once and validated before anything is contacted."""

# No annotations from __future__: a NamedTuple compiles each of those again, and `--version` takes 2 ms longer.
import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from migrator import __version__
from migrator.errors import EXIT_CODES, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "run": "wait, lock, plan, apply, verify, report (the default)",
    "status": "every step with its state, and kept old tables; writes nothing",
    "verify": "verification only; writes nothing",
    "wait": "block until every step of this image is applied and verified; writes nothing",
    "cleanup": "list old tables that a convergence kept; drop them with --yes",
    "snapshot": "development: regenerate the expected schema from a fresh apply",
}
TARGETS = ("clickhouse", "mysql")
SYSTEM_DATABASES = ("information_schema", "mysql", "performance_schema", "sys")
SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Address(NamedTuple):
    """Where a database is and who we are there. Its repr and str never show the password."""

    target: str
    secure: bool
    host: str
    port: int
    user: str
    password: str
    database: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.target} at {self.host}:{self.port}"

    def __repr__(self) -> str:
        return str(self)


class Settings(NamedTuple):
    """All settings of one run. Durations are seconds. Its repr shows no secret, as it shows nothing."""

    command: str
    dry_run: bool
    yes: bool
    targets: tuple[str, ...]
    clickhouse: Address | None
    mysql: Address | None
    steps_dir: "Path"
    wait_timeout: float
    lock_timeout: float
    deadline: float | None
    repair: str
    ledger_table: str
    verify: str
    backfill_days: float
    log_format: str
    log_level: str
    unknown: tuple[str, ...]
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Settings({self.command})"

    def address(self, target: str) -> Address:
        """The address of a target. Raises SettingsError when none was given."""
        address = self.clickhouse if target == "clickhouse" else self.mysql
        if address is None:
            raise SettingsError(f"{target.upper()}_URL is not set, and a step needs {target}: set it, or use --target")
        return address


def parse_clickhouse_url(url: str) -> Address:
    """`http://user:password@host:8123/` or `https://…?ca_cert=…&client_cert=…&verify=false`."""
    name = "CLICKHOUSE_URL"
    parts, options = _split_url(name, url, ("http", "https"), ("ca_cert", "client_cert", "verify"))
    secure = parts.scheme == "https"
    if parts.path not in ("", "/"):
        raise SettingsError(f"{name}: a path is not understood; write http://user:password@host:8123/")
    if options and not secure:
        raise SettingsError(f"{name}: {', '.join(options)} needs https://")
    if options.get("verify", "true") not in ("true", "false"):
        raise SettingsError(f"{name}: verify must be true or false")
    _loadable(name, options, "ca_cert", "client_cert", "client_cert")
    user, password = _credentials(name, parts)
    return Address("clickhouse", secure, _host(name, parts), _port(name, parts) or (8443 if secure else 8123),
                   user or "default", password, "", options)


def parse_mysql_url(url: str) -> Address:
    """`mysql://user:password@host:3306/database?ssl-mode=…&ssl-ca=…&ssl-cert=…&ssl-key=…`."""
    name = "MYSQL_URL"
    parts, options = _split_url(name, url, ("mysql",), ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"))
    database = parts.path[1:]
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", database) or database.lower() in SYSTEM_DATABASES:
        raise SettingsError(f"{name}: a database name of letters, digits, _ and - (none of the server's own) must follow"
                            " the host, as in mysql://user:password@host:3306/database")
    mode = options.get("ssl-mode", "PREFERRED").upper()
    if mode not in SSL_MODES:
        raise SettingsError(f"{name}: ssl-mode must be one of {', '.join(SSL_MODES)}")
    if mode == "DISABLED" and len(options) > 1:
        raise SettingsError(f"{name}: ssl-mode=DISABLED contradicts the other ssl- options")
    if mode in ("PREFERRED", "REQUIRED") and "ssl-ca" in options:
        mode = "VERIFY_CA"
    elif mode == "REQUIRED" or (mode == "PREFERRED" and "ssl-cert" in options):
        mode = "VERIFY_IDENTITY"  # the system's CAs sign for everybody, so the name must be right too
    options["ssl-mode"] = mode
    if ("ssl-cert" in options) != ("ssl-key" in options):
        raise SettingsError(f"{name}: ssl-cert and ssl-key need each other")
    _loadable(name, options, "ssl-ca", "ssl-cert", "ssl-key")
    user, password = _credentials(name, parts)
    if not user:
        raise SettingsError(f"{name}: the user is missing, as in mysql://user:password@host:3306/database")
    return Address("mysql", mode != "DISABLED", _host(name, parts), _port(name, parts) or 3306, user, password,
                   database, options)


def _split_url(name: str, url: str, schemes: Sequence[str], known: Sequence[str]) -> tuple[Any, dict[str, str]]:
    from urllib.parse import parse_qsl, urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError(f"{name}: not a URL (a character in the password may need percent-encoding)") from None
    if parts.scheme not in schemes:
        raise SettingsError(f"{name}: must start with {' or '.join(s + '://' for s in schemes)}")
    if parts.fragment or "#" in url:
        raise SettingsError(f"{name}: '#' is not allowed; in a password write it as %23")
    if re.search(r"[\x00-\x20\x7f]", url):
        raise SettingsError(f"{name}: blanks and control characters are not allowed; write them percent-encoded")
    if "@" in parts.path + parts.query:  # then what we took for an option is the rest of a password
        raise SettingsError(f"{name}: '/' and '?' are not allowed in a user or password; write them as %2F and %3F")
    options: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known:
            raise SettingsError(f"{name}: unknown option {_clip(key)}; known are {', '.join(known)}")
        if key in options or not value:
            raise SettingsError(f"{name}: option {key} is {'given twice' if key in options else 'empty'}")
        options[key] = value
    return parts, options


def _credentials(name: str, parts: Any) -> list[str]:
    """User and password of a URL."""
    from urllib.parse import unquote

    found = []
    for text in (parts.username or "", parts.password or ""):
        if re.search("%(?![0-9A-Fa-f]{2})", text) or "\ufffd" in unquote(text):
            raise SettingsError(f"{name}: '%' begins an encoded byte of UTF-8, as in %40; write the character itself as %25")
        found.append(unquote(text))
    if not found[0].isprintable() or "\0" in found[1]:
        raise SettingsError(f"{name}: a control character in the user or a NUL in the password is not allowed")
    return found


def _clip(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")


def _host(name: str, parts: Any) -> str:
    # Names in labels of at most 63 characters; an IPv6 address was looked at as its brackets were.
    label = "[A-Za-z0-9_-]{1,63}"
    if not re.fullmatch(rf"(?=.{{1,253}}\Z){label}(\.{label})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", parts.hostname or ""):
        raise SettingsError(f"{name}: the host name is missing or malformed")
    return str(parts.hostname)


def _port(name: str, parts: Any) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise SettingsError(f"{name}: the port must be a number from 1 to 65535")
    return port  # type: ignore[no-any-return]


def _loadable(name: str, options: Mapping[str, str], ca: str, certificate: str, key: str) -> None:
    """Refuse files that TLS could not use: the drivers would say so late, and not which one."""
    files = [option for option in dict.fromkeys((ca, certificate, key)) if option in options]
    for option in files:
        if not (os.path.isfile(options[option]) and os.access(options[option], os.R_OK)):
            raise SettingsError(f"{name}: the file of {option} cannot be read: {_clip(options[option])}")
    if not files:
        return
    import ssl

    option, context = ca, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca in options:
            context.load_verify_locations(options[ca])
        option = certificate
        if certificate in options:
            context.load_cert_chain(options[certificate], options[key], password=lambda: "")
    except OSError:
        what = "no CA in PEM" if option == ca else "no certificate in PEM with its unencrypted key"
        raise SettingsError(f"{name}: the file of {option} is {what}: {_clip(options[option])}") from None


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return parse


def _path(value: str) -> "Path":
    from pathlib import Path

    return Path(value)


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value):
        raise ValueError("must be a number of seconds, such as 120")
    return float(value)


def _days(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", value):
        raise ValueError("must be a number of days, such as 7")
    return float(value)


def _identifier(value: str) -> str:
    # 64 is MySQL's limit, and the journal's and lock's names are longer than the ledger's.
    if not IDENTIFIER.fullmatch(value) or len(value) > 48:
        raise ValueError("must be 1 to 48 letters, digits and _, and not begin with a digit")
    return value


def _targets(value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    if not set(names) <= set(TARGETS):
        raise ValueError(f"must be one or more of {', '.join(TARGETS)}, separated by commas")
    return names


def _flag(value: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[_choice("true", "1", "false", "0")(value.lower())]


class Setting(NamedTuple):
    """One setting: its variable, its place in Settings, how it is read, and its row in --help and the README."""

    name: str
    attribute: str
    parse: Callable[[str], Any]
    default: str
    meaning: str
    option: str = ""
    secret: bool = False


SETTINGS = (
    Setting("CLICKHOUSE_URL", "clickhouse", parse_clickhouse_url, "",
            "http://user:password@host:8123/ or https://…:8443/ (?ca_cert=…&client_cert=…&verify=false);"
            " required if a step needs it", secret=True),
    Setting("CLICKHOUSE_PASSWORD", "clickhouse_password", str, "", "overrides the URL's password", secret=True),
    Setting("MYSQL_URL", "mysql", parse_mysql_url, "",
            "mysql://user:password@host:3306/database (?ssl-mode=…&ssl-ca=…&ssl-cert=…&ssl-key=…);"
            " required if a step needs it", secret=True),
    Setting("MYSQL_PASSWORD", "mysql_password", str, "", "overrides the URL's password", secret=True),
    Setting("MIGRATE_TARGETS", "targets", _targets, "clickhouse,mysql", "only the steps of these targets", "--target"),
    Setting("MIGRATE_STEPS_DIR", "steps_dir", _path, "sql/ beside the program", "where the steps are", "--steps"),
    Setting("MIGRATE_DRY_RUN", "dry_run", _flag, "false", "of run: print the plan, write nothing at all", "--dry-run"),
    Setting("MIGRATE_YES", "yes", _flag, "false", "of cleanup: really drop", "--yes"),
    Setting("MIGRATE_WAIT_TIMEOUT", "wait_timeout", _seconds, "120", "seconds to wait for the databases together"),
    Setting("MIGRATE_LOCK_TIMEOUT", "lock_timeout", _seconds, "120",
            "seconds to wait for another run, or for what a killed one left running, to finish"),
    Setting("MIGRATE_DEADLINE", "deadline", _seconds, "", "seconds for the whole run; at its end as at SIGTERM, exit 3"),
    Setting("MIGRATE_REPAIR", "repair", _choice("missing", "all", "none"), "missing",
            "what a run may restore by itself: missing, all or none"),
    Setting("MIGRATE_LEDGER_TABLE", "ledger_table", _identifier, "schema_migrations",
            "the ledger's table name, in both databases"),
    Setting("MIGRATE_VERIFY", "verify", _choice("full", "steps"), "full",
            "full, or steps: leaves out the expected schema, and says so in the report"),
    Setting("MIGRATE_BACKFILL_DAYS", "backfill_days", _days, "7",
            "days of stored source metrics that a new or changed view is filled from"),
    Setting("MIGRATE_LOG_FORMAT", "log_format", _choice("json", "text", "auto"), "auto",
            "json, text, or auto (text on a terminal, else json)", "--log-format"),
    Setting("MIGRATE_LOG_LEVEL", "log_level", _choice("debug", "info", "warning", "error"), "info",
            "debug, info, warning or error"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise SettingsError(f"{message if message.isprintable() else ascii(message)}; see --help")


def _parser() -> argparse.ArgumentParser:
    settings = "\n".join(f"  {s.name}{'[_FILE]' if s.secret else ''}\n      {s.meaning}"
                         + (f" (default {s.default})" if s.default else "") for s in SETTINGS)
    parser = _Parser(
        prog="migrate", usage="%(prog)s [COMMAND] [OPTION…]", allow_abbrev=False,
        # With a width of its own: to ask the terminal for it, argparse would load every compression there is. Raw, and with
        # a usage: to wrap lines and to take a usage apart, it would load and compile for 10 ms.
        formatter_class=lambda prog: argparse.RawTextHelpFormatter(prog, width=100),
        description="Brings ClickHouse and MySQL to the shipped schema, proves it, and exits nonzero when it is not.\n\n"
        "commands:\n" + "\n".join(f"  {name:9} {text}" for name, text in COMMANDS.items()),
        epilog="settings (environment):\n" + settings + "\n\nexit codes:\n"
        + "\n".join(f"  {code:3}  {text}" for code, text in EXIT_CODES.items()))
    parser.add_argument("command", nargs="?", default="run", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--dry-run", action="store_const", const="true", help="print the plan, write nothing at all")
    parser.add_argument("--target", action="append", metavar="TARGET", help="only steps of clickhouse or mysql")
    parser.add_argument("--steps", metavar="DIR", help="where the steps are")
    parser.add_argument("--yes", action="store_const", const="true", help="with cleanup: really drop")
    parser.add_argument("--log-format", metavar="FORMAT", help="json or text")
    parser.add_argument("--version", action="version", version=f"migrate {__version__}")
    return parser


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Settings from the command line (first) and the environment. Raises SettingsError; contacts nothing."""
    options = vars(_parser().parse_args(argv))
    command = options.pop("command")
    options["target"] = ",".join(options["target"]) if options["target"] else None
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        given = options.get(setting.option.lstrip("-").replace("-", "_")) if setting.option else None
        values[setting.attribute] = _read(setting, given, environ)
    passwords = {target: values.pop(f"{target}_password") for target in TARGETS}
    secrets = {*passwords.values(), *(values[target].password for target in TARGETS if values[target])} - {None, ""}
    for target, password in passwords.items():
        if password and values[target] is None:
            raise SettingsError(f"{target.upper()}_PASSWORD is set, but {target.upper()}_URL is not")
        if password:
            values[target] = values[target]._replace(password=password)
    if values["dry_run"] and command != "run":
        raise SettingsError(f"--dry-run belongs to run, not to {command}")
    if values["yes"] and command != "cleanup":
        raise SettingsError(f"--yes belongs to cleanup, not to {command}")
    known = {s.name for s in SETTINGS}
    unknown = tuple(sorted(n for n in environ if n.startswith("MIGRATE_") and n not in known))
    return Settings(command=command, unknown=unknown, secrets=tuple(secrets), **values)


def _read(setting: Setting, option: str | None, environ: Mapping[str, str]) -> Any:
    """One setting's value; an empty variable counts as not set, as compose files write it."""
    text = option if option is not None else environ.get(setting.name) or None
    file = environ.get(f"{setting.name}_FILE") if setting.secret else None
    if file:
        if text is not None:
            raise SettingsError(f"{setting.name} and {setting.name}_FILE are both set; unset one of them")
        text = _secret(f"{setting.name}_FILE", file)
    if option == "":
        raise SettingsError(f"{setting.option} is empty; leave it out, or give it a value")
    if text is None:
        if setting.attribute == "steps_dir":
            return _path(__file__).resolve().parent.parent / "sql"
        text = setting.default
        if not text:
            return None
    name = setting.option if option is not None else setting.name
    try:
        text.encode()
        return setting.parse(text)
    except UnicodeEncodeError:
        raise SettingsError(f"{name}: is not UTF-8 text") from None
    except ValueError as error:
        raise SettingsError(f"{name}: {error}" + ("" if setting.secret else f", not {_clip(text)}")) from None


def _secret(name: str, file: str) -> str:
    try:
        if not os.path.isfile(file) and os.path.exists(file):  # a pipe would be waited for, a device never end
            raise SettingsError(f"{name}: {_clip(file)} is not a regular file")
        if os.path.getsize(file) > 65536:
            raise SettingsError(f"{name}: {_clip(file)} is larger than 64 KiB, so it is no secret")
        text = _path(file).read_bytes().decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{name}: {_clip(file)} cannot be read: {reason}") from None
    text = re.sub(r"\r?\n\Z", "", text)
    if not text or "\0" in text:
        raise SettingsError(f"{name}: {_clip(file)} {'is empty' if not text else 'holds a NUL byte'}")
    return text
