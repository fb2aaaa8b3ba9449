"""A deploy with nothing to do: applied steps on both databases, verification included."""

import tempfile
from functools import partial
from pathlib import Path

from tests.bench.measure import JOB, TURNS, in_turns, run, table
from tests.bench.work import servers, write_expected, write_steps

TABLES = 10  # on each database
# For each case its steps on each database, and the bytes of one more.
CASES = {"10 steps each": (10, 0), "1,000 steps each": (1000, 0), "10 steps each, and one of 64 MiB": (10, 64 << 20)}


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        subjects = {"floor: both drivers, connect, one query each": lambda: run(both.floor)}
        for number, (name, (each, size)) in enumerate(CASES.items()):
            directory = write_steps(Path(folder) / str(number), each, TABLES)
            write_expected(directory, both)
            if size:
                write_big(directory / "0000_big.mysql.sql", size)
            environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory), "MIGRATE_LEDGER_TABLE": f"ledger_{number}"}
            subjects[name] = partial(run, JOB, environ)
        both.empty()
        for subject in subjects.values():
            subject()  # applies the steps, each case with a ledger of its own
        medians = in_turns(turns, subjects)
    floor, few, many, _ = medians
    table(medians, floor)
    beyond = (medians[many].wall - medians[few].wall) / 1980 * 1e6
    print(f"   {many} over {few}: {medians[many].wall / medians[few].wall:.2f} times, {beyond:.1f} µs a step beyond")


def write_big(path: Path, size: int) -> None:
    """One long comment and a statement; in pieces, for what this program ever held counts as its children's peak."""
    with path.open("w") as file:
        file.write("SELECT 1; -- ")
        for _ in range(size >> 20):
            file.write("x" * (1 << 20))


if __name__ == "__main__":
    main()
