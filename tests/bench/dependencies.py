"""What each dependency costs: bytes in the image, and milliseconds and memory when it is imported."""

import importlib.metadata
import sys

from tests.bench.measure import TURNS, in_turns, run

IMPORTS = {  # distribution: what the job imports of it
    "clickhouse-connect": "import clickhouse_connect",
    "mysql-connector-python": "import mysql.connector.connection",
    "urllib3": "import urllib3",
    "certifi": "import certifi",
    "lz4": "import lz4.frame",
    "backports.zstd": "import backports.zstd",
    "tenacity": "import tenacity",
    "python-json-logger": "import pythonjsonlogger.json",
}


def main(turns: int = TURNS) -> None:
    bare = "bare interpreter"
    subjects = {bare: "pass"} | IMPORTS | {"all of them": "; ".join(IMPORTS.values())}
    medians = in_turns(turns, {name: lambda text=text: run([sys.executable, "-c", text]) for name, text in subjects.items()})
    print(f"   {'':26}{'installed MB':>14}{'import ms':>11}{'CPU ms':>9}{'MB more':>9}")
    for name, spent in medians.items():
        if name != bare:
            base = medians[bare]
            print(f"   {name:26}{size(name) / 1e6:14.2f}{(spent.wall - base.wall) * 1000:11.1f}"
                  f"{(spent.cpu - base.cpu) * 1000:9.1f}{spent.peak - base.peak:9.1f}")
    print("   The second import of a module is free, so the rows do not add up: clickhouse-connect includes urllib3.")


def size(name: str) -> int:
    """Bytes on disk, without byte code; of all dependencies for any other name."""
    if name not in IMPORTS:
        return sum(map(size, IMPORTS))
    files = importlib.metadata.files(name) or []
    return sum(file.locate().stat().st_size for file in files if file.suffix != ".pyc" and file.locate().exists())


if __name__ == "__main__":
    main()
