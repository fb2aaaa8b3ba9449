"""A deploy with nothing to do: applied steps on both databases, verification included."""

import tempfile
from functools import partial
from pathlib import Path

from tests.bench.measure import JOB, TURNS, in_turns, run, table
from tests.bench.work import servers, write_expected, write_steps

CASES = {"10 steps each": (10, 10), "1,000 steps each": (1000, 10)}  # steps and tables on each database
BIG_FILE = 64 << 20  # bytes of one step that is applied already; memory must not grow with it


def main(turns: int = TURNS) -> None:
    with servers() as both, tempfile.TemporaryDirectory() as folder:
        subjects = {"floor: both drivers, connect, one query each": lambda: run(both.floor)}
        for name, (each, tables) in CASES.items():
            directory = write_steps(Path(folder) / str(each), each, tables)
            write_expected(directory, both)
            environ = both.environ | {"MIGRATE_STEPS_DIR": str(directory), "MIGRATE_LEDGER_TABLE": f"ledger_{each}"}
            subjects[name] = partial(run, JOB, environ)
        both.empty()
        for subject in subjects.values():
            subject()  # applies the steps, each case with a ledger of its own
        medians = in_turns(turns, subjects)
    floor, few, many = medians
    table(medians, floor)
    beyond = (medians[many].wall - medians[few].wall) / 1980 * 1e6
    print(f"   {many} over {few}: {medians[many].wall / medians[few].wall:.2f} times, {beyond:.1f} µs a step beyond")


if __name__ == "__main__":
    main()
