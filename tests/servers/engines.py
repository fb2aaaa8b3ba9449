"""MySQL and MariaDB engines for tests: Debian packages, unpacked into a cache, with no need for root."""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {  # engine: (Debian suite, package); MySQL is in no other suite
    "mysql": ("sid", "mysql-server-core"),
    "mariadb": ("bookworm", "mariadb-server-core"),
    "mariadb-11.8": ("trixie", "mariadb-server-core"),
}
CLIENTS = {  # engine: what has its client programs
    "mysql": ("sid", ["mysql-client-core"]),
    "mariadb": ("bookworm", ["mariadb-client-core", "mariadb-client"]),
}
NOT_NEEDED = re.compile(r"perl|^libdb5|^libgdbm|gconv|^gcc-|openssl-provider|^psmisc|^passwd|^debconf")
KEPT = re.compile(r"/(mysqld|mariadbd|[^/]*\.so[^/]*|[^/]*\.sql)$|/share/[^/]+/(charsets|english)/")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_OPTIONS = """
Dir::Etc::sourcelist={0}/sources.list
Dir::Etc::sourceparts={0}/parts
Dir::State={0}
Dir::State::lists={0}/lists
Dir::State::status={0}/status
Dir::Cache={0}
Dir::Cache::archives={0}/archives
APT::Sandbox::User=root
Debug::NoLocking=1
Acquire::Languages=none
Acquire::Retries=3
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
"""


class EngineError(RuntimeError):
    """The engine cannot be had; a test that needs it must fail, never skip."""


@dataclass(frozen=True)
class Engine:
    """An unpacked server, run under its own dynamic loader so that the host's libraries do not matter."""

    tree: Path

    def command(self, data: Path) -> list[str]:
        """The server's command line on the data directory `data`, without ports."""
        program = next(path for path in self.tree.glob("usr/sbin/*") if path.name in ("mysqld", "mariadbd"))
        return [
            *loaded(self.tree, program),
            "--no-defaults",
            f"--basedir={self.tree}/usr",
            f"--datadir={data}",
            f"--lc-messages-dir={self.share}",
            f"--character-sets-dir={self.share}/charsets",
            f"--plugin-dir={self.tree}/usr/lib/mysql/plugin",
            *(["--user=root"] if os.getuid() == 0 else []),
        ]

    def scripts(self, *names: str) -> str:
        """The SQL that MariaDB ships to fill a new data directory, in files named mysql_* or mariadb_*."""
        return "".join(next(self.share.glob(f"m*_{name}.sql")).read_text() for name in names)

    @property
    def share(self) -> Path:
        return next(self.tree.glob("usr/share/*/english")).parent


def loaded(tree: Path, program: Path) -> list[str]:
    """The command line of an unpacked program under the loader and libraries of its own tree."""
    # Not the link in /lib64, which is absolute: it leads to the host's own loader.
    loader = next(path for path in tree.rglob("ld-linux*.so.*") if not path.is_symlink())
    libraries = sorted({str(path.parent) for path in tree.rglob("*.so.*")})
    return [str(loader), "--library-path", ":".join(libraries), str(program)]


def client(name: str, program: str) -> list[str]:
    """The command line of an engine's client program (`mysqldump`), unpacked at the first call."""
    with made_once(f"{name}/client") as (tree, work):
        if work:
            suite, packages = CLIENTS[name]
            unpack(work, suite, packages, with_dependencies=True)
    return loaded(tree, tree / "usr/bin" / program)


def cache() -> Path:
    """Where engines and template data directories live: $MIGRATE_TEST_CACHE, or .cache/ of the repository."""
    return Path(os.environ.get("MIGRATE_TEST_CACHE") or Path(__file__).parents[2] / ".cache").absolute()


@contextlib.contextmanager
def made_once(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Yield (final path, directory to fill, or None if all is there), which is renamed into place on success.

    A file lock makes parallel callers wait for the first one instead of building twice.
    """
    final = cache() / name
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{final}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                with tempfile.TemporaryDirectory(prefix=f"{final.name}.", dir=final.parent) as scratch:
                    work = Path(scratch, "made")
                    work.mkdir()
                    yield final, work
                    work.rename(final)
                return
    yield final, None


def fetch(name: str) -> Engine:
    """The engine `name`, downloaded and unpacked at the first call; EngineError if it cannot be had."""
    with made_once(f"{name}/tree") as (tree, work):
        if work:
            suite, package = PACKAGES[name]
            unpack(work, suite, [package], with_dependencies=True)
            _trim(work)
    return Engine(tree)


def wheels(lock: Path) -> Path:
    """A directory with the packages of a lock file, installed at the first call."""
    with made_once(f"{lock.parent.name}/{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}") as (directory, work):
        if work:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
            run([*pip, "--require-hashes", "--only-binary=:all:", "--target", str(work), "--requirement", str(lock)], lock.parent)
    return directory


def unpack(tree: Path, suite: str, packages: Sequence[str], *, with_dependencies: bool = False) -> None:
    """Add Debian packages of `suite`, and perhaps all they depend on down to libc, to the folder `tree`."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        for folder in ("lists/partial", "archives/partial", "parts"):
            (scratch / folder).mkdir(parents=True)
        (scratch / "status").touch()  # an empty dpkg status: nothing counts as installed
        (scratch / "sources.list").write_text(source(suite))
        apt = ["apt-get", "-qq", *(f"-o{option}" for option in APT_OPTIONS.format(scratch).split())]
        run([*apt, "update"], scratch)
        if with_dependencies:
            plan = run([*apt, "-s", "install", "--no-install-recommends", *packages], scratch)
            closure = re.findall(r"^Inst (\S+)", plan, re.M)
            packages = [name for name in closure if not NOT_NEEDED.search(name)]
        run([*apt, "download", *packages], scratch)
        for archive in scratch.glob("*.deb"):
            run(["dpkg", "-x", str(archive), str(tree)], scratch)


def source(suite: str) -> str:
    """A sources.list line for `suite` on the Debian mirror that this machine's apt uses, in whatever form."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    known = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"], Path("/"))
    found = re.search(rf"^{codename} main (\S+)$", known, re.M)
    if not found:
        raise EngineError(f"apt has no Debian archive ({codename} main) among its sources")
    return f"deb [signed-by={KEYRING}] {found[1]} {suite} main\n"


def run(command: Sequence[str], directory: Path) -> str:
    """The output of a command; EngineError with its own words if it fails."""
    environ = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, env=environ)
    if done.returncode:
        raise EngineError(f"{command[0]} {command[-1]} failed:\n{done.stderr.strip()}")
    return done.stdout


def _trim(tree: Path) -> None:
    """Keep the server, its libraries, plugins, character sets and English messages: half the size."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()
        elif not KEPT.search(str(path)):
            path.unlink()
