"""`make bench`: all of SUBJECTS, or those named: `python -m tests.bench noop peers`. Measurements, not tests.

What is compared runs in turns, so that a busy machine slows down every column alike: read the ratios. BENCH_TURNS says
how often each is measured (11).
"""

import os
import runpy
import sys

SUBJECTS = ("startup", "noop", "applying", "verification", "waiting", "dependencies", "peers", "rebuild", "metric_views")

names = sys.argv[1:] or SUBJECTS
sys.argv[1:] = []
for name in names:
    print(f"\n== {name}  (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]})", flush=True)
    runpy.run_module(f"tests.bench.{name}", run_name="__main__")
