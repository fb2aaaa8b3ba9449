"""What `--version` and `--help` cost over a bare interpreter."""

import sys

from tests.bench.measure import JOB, TURNS, in_turns, run, table


def main(turns: int = TURNS) -> None:
    medians = in_turns(2 * turns, {
        "bare interpreter": lambda: run([sys.executable, "-c", "pass"]),
        "migrate --version": lambda: run([*JOB, "--version"]),
        "migrate --help": lambda: run([*JOB, "--help"]),
    })  # fmt: skip
    table(medians, "bare interpreter")
    for name in ("migrate --version", "migrate --help"):
        print(f"   {name}: {1000 * (medians[name].wall - medians['bare interpreter'].wall):.1f} ms over a bare interpreter")


if __name__ == "__main__":
    main()
