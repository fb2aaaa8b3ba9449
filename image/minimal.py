"""Copy what `python3 /app/entrypoint.py` needs, and nothing else, into a directory that becomes the whole image.

usage: minimal.py DIRECTORY

Runs in the build stage with the image's own Python, and takes every path from it: the same script fits the official
Python image (/usr/local) and Debian's Python (/usr), on every architecture.
"""

import compileall
import os
import py_compile
import shutil
import ssl
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

APP = Path("/app")
NONROOT = 65532
ELF = b"\x7fELF\x02\x01"  # 64 bit, little endian: x86_64 and aarch64 alike
# Parts of the standard library that only people at a terminal, test suites, builds or other databases use.
UNUSED_MODULES = {
    "__phello__", "_pyrepl", "curses", "dbm", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data",
    "site-packages", "sqlite3", "test", "tkinter", "turtledemo", "unittest", "venv",
    "antigravity.py", "doctest.py", "pdb.py", "pydoc.py", "this.py", "turtle.py",
}  # fmt: skip
UNUSED_EXTENSIONS = (
    "_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw", "_ctypes_test", "_curses",
    "_dbm", "_gdbm", "_sqlite3", "_test", "_tkinter", "_xx", "nis", "ossaudiodev", "readline", "xx",
)  # fmt: skip
# Parts of the dependencies that need packages which are not installed, or that nothing here calls.
UNUSED_PACKAGES = (
    "certifi/tests", "clickhouse_connect/cc_sqlalchemy", "mysql/ai", "mysql/connector/aio", "mysql/connector/django",
)  # fmt: skip
UNUSED_FILES = shutil.ignore_patterns("__pycache__", "*.pyi", "*.pyx", "*.pxd", "*.c")
FILES = (
    "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/os-release", "/etc/protocols", "/etc/services",
    "/etc/ssl/openssl.cnf", "/usr/share/zoneinfo",
)  # fmt: skip


def main(target: Path) -> None:
    """Fill `target`; an unexpected base image is an error here, not a surprise at run time."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    keep_top_level_links(target)
    copy_interpreter(target)
    copy_tree(stdlib, target, ignore=unused_in_stdlib)
    copy_tree(APP, target, ignore=UNUSED_FILES)
    for name in UNUSED_PACKAGES:
        shutil.rmtree(inside(target, APP / "lib" / name))
    for library in shared_libraries(target):
        copy_file(library, target)
    for program in elf_files(target):
        drop_symbols(program)
    for name in FILES:
        if Path(name).is_dir():
            copy_tree(Path(name), target)
        elif Path(name).exists():
            copy_file(Path(name), target)
    copy_certificates(target)
    write_users(target)
    compile_all(target, stdlib, APP)
    normalise_modes(target)


def keep_top_level_links(target: Path) -> None:
    """/bin, /lib and their like are links into /usr; the loader and the ELF interpreter path go through them."""
    for link in Path("/").iterdir():
        if link.is_symlink():
            (target / link.resolve().relative_to("/")).mkdir(parents=True, exist_ok=True)
            (target / link.name).symlink_to(os.readlink(link))


def inside(target: Path, path: Path) -> Path:
    """Where an absolute `path` goes; its directory exists afterwards."""
    place = target / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def copy_file(path: Path, target: Path) -> None:
    """Copy the file that `path` leads to, under the name `path`."""
    shutil.copyfile(path, inside(target, path))


def copy_tree(path: Path, target: Path, ignore: object = None) -> None:
    shutil.copytree(path, inside(target, path), symlinks=True, ignore=ignore, dirs_exist_ok=True)


def copy_interpreter(target: Path) -> None:
    program = Path(sys.executable).resolve()
    copy_file(program, target)
    for name in ("python3", "python"):
        inside(target, program.with_name(name)).symlink_to(program.name)


def unused_in_stdlib(directory: str, names: list[str]) -> set[str]:
    extensions = Path(directory).name == "lib-dynload"
    return {
        name
        for name in names
        if name in UNUSED_MODULES
        or name == "__pycache__"
        or name.startswith("config-3")
        or name.endswith(".a")
        or (extensions and name.startswith(UNUSED_EXTENSIONS))
    }


def shared_libraries(target: Path) -> set[Path]:
    """Every library that an executable or extension module under `target` needs, the ELF loader included."""
    listing = subprocess.run(["ldd", *elf_files(target)], capture_output=True, text=True, check=True).stdout
    if "not found" in listing:
        raise SystemExit(f"a shared library is missing:\n{listing}")
    words = (word for line in listing.splitlines() if line.startswith("\t") for word in line.split())
    found = {Path(word) for word in words if word.startswith("/") and not word.startswith(str(target))}
    libc = next(path for path in found if path.name.startswith("libc.so"))
    # No program names it, but libc loads it when a thread is ended: without it Python crashes at exit (seen: 139).
    return found | {libc.with_name("libgcc_s.so.1")}


def elf_files(directory: Path) -> list[Path]:
    """Programs and libraries below `directory`; each once, although links may lead to it too."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if path.open("rb").read(len(ELF)) == ELF]


def drop_symbols(program: Path) -> None:
    """Cut off what lies behind the last byte that the loader maps: section table, symbols, debugging data.

    Wheels come with them (lz4's are ten times its code), and the base image has no `strip`.
    """
    content = bytearray(program.read_bytes())
    first, size, count = *struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54)
    segments = (struct.unpack_from("<QQQQ", content, first + number * size + 8) for number in range(count))
    end = max(offset + length for offset, _, _, length in segments)
    content[40:48] = bytes(8)  # where the section table is
    content[58:64] = bytes(6)  # how it is laid out
    program.write_bytes(content[:end])


def copy_certificates(target: Path) -> None:
    """The system's CA bundle, also under the name that OpenSSL opens by default."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    copy_file(bundle, target)
    default = inside(target, Path(ssl.get_default_verify_paths().openssl_cafile))
    if not default.exists():
        default.symlink_to(bundle)


def write_users(target: Path) -> None:
    inside(target, Path("/etc/passwd")).write_text(
        f"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/:/sbin/nologin\n"
    )
    inside(target, Path("/etc/group")).write_text(f"root:x:0:\nnonroot:x:{NONROOT}:\n")
    (target / "tmp").mkdir()


def compile_all(target: Path, *directories: Path) -> None:
    """Byte code for every module: a user without write access could never store it, and would compile at each start.

    Unchecked: nobody edits a source inside an image, so its time need not be looked at.
    """
    for directory in directories:
        compileall.compile_dir(
            inside(target, directory), stripdir=target, prependdir="/", quiet=1, workers=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip


def normalise_modes(target: Path) -> None:
    """Readable for any --user, writable for none but root, whatever the umask of the checkout was."""
    executable = set(elf_files(target))
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in executable else 0o644)
    (target / "tmp").chmod(0o1777)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
