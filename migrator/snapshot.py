"""Snapshot: the expected schema, recorded from the catalogs while the steps are applied to empty servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from migrator.batch import Batch
from migrator.databases import Database
from migrator.errors import StepFileError
from migrator.expected import Recorder, path_of
from migrator.logs import Log
from migrator.steps import Step


def take(steps: Sequence[Step], databases: Mapping[str, Database], apply: Callable[[Batch], None], directory: Path,
         log: Log) -> None:
    """Apply the steps one by one and write `expected.<target>.json`. Raises StepFileError when it cannot be written."""
    recorders = {target: Recorder(database.catalog(None)) for target, database in databases.items()}
    for step in steps:
        apply(Batch([step]))
        recorders[step.target].after(step, databases[step.target].catalog(None))
    for target, recorder in recorders.items():
        path = path_of(directory, target)
        try:
            path.write_text(recorder.document(), encoding="utf-8")
        except OSError as error:
            raise StepFileError(f"{path.name} cannot be written: {error.strerror}") from None
        log.info("statement", target=target, wrote=path.name)
