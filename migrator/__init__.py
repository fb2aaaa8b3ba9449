"""The migration job: wait, lock, plan, apply, verify, report. Start reading at `migrator.job`."""

__version__ = "0.1.0"
