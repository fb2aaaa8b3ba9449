"""`make bench`: every module here, or those named: `python -m tests.bench rebuild`."""

import runpy
import sys
from pathlib import Path

names = sys.argv[1:] or sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
sys.argv[1:] = []
for name in names:
    print(f"\n== {name}")
    runpy.run_module(f"tests.bench.{name}", run_name="__main__")
