"""The expected schema: a generated, committed file for each target, which says what must exist and which steps own it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from migrator.catalogs import KINDS, RELATIONS, Attributes, Catalog, Object
from migrator.errors import StepFileError
from migrator.steps import Step, read_text

MAX_TEXT = 16 * 1024 * 1024  # of a file; a thousand tables take a tenth of it
REMEDY = "run `migrate snapshot` against empty servers and commit the file, or set MIGRATE_VERIFY=steps"


class Expected(NamedTuple):
    """What one target must hold after the step of number `through`, and the stems of the steps that made each object so.

    `shared` are tables that the application owns: of those only the listed objects are required.
    """

    through: int
    objects: Mapping[Object, Attributes]
    owners: Mapping[Object, tuple[str, ...]]
    shared: Mapping[str, object]

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple({item.table for item in self.objects})

    def of(self, steps: Iterable[Step]) -> Expected:
        """The part that these steps own: what may be required while others are pending, or gone from this image.

        What another step changes later is only required to exist. `owners` stays whole, for what exists already.
        """
        stems = {step.stem for step in steps}
        objects = {item: attributes if stems.issuperset(self.owners[item]) else {}
                   for item, attributes in self.objects.items() if self.owners[item][0] in stems}
        return Expected(self.through, objects, self.owners, self.shared)


def path_of(directory: Path, target: str) -> Path:
    return directory / f"expected.{target}.json"


def load_expected(directory: Path, steps: Sequence[Step]) -> dict[str, Expected]:
    """The expected schema of every target that has steps. Raises StepFileError where one is missing or unreadable."""
    expected = {}
    for target in sorted({step.target for step in steps}):
        path = path_of(directory, target)
        if not os.path.lexists(path):
            raise StepFileError(f"{path.name} is missing beside the steps: {REMEDY}")
        try:
            if len(text := read_text(path)) > MAX_TEXT:
                raise ValueError(f"larger than {MAX_TEXT >> 20} MiB")
            expected[target] = _parse(json.loads(text, object_pairs_hook=_object))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise StepFileError(f"{path.name} cannot be read ({type(error).__name__}: {error}): {REMEDY}") from None
    return expected


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"one key twice among {', '.join(key for key, _ in pairs)}")
    return found


def _parse(document: Mapping[str, Any]) -> Expected:
    objects: dict[Object, Attributes] = {}
    owners: dict[Object, tuple[str, ...]] = {}
    for entry in document["objects"]:
        item = Object(*_texts([entry["kind"], entry["table"], entry.get("name", "")]))
        if item.kind not in KINDS or item in objects:
            raise ValueError(f"{item} is of no known kind, or there twice")
        objects[item] = dict(zip(entry.get("is", {}), _texts([*entry.get("is", {}).values()]), strict=True))
        owners[item] = tuple(_texts(entry["steps"]))
        owners[item][0]  # an object without an owner could never be restored
    return Expected(int(document["through"].split("_")[0]), objects, owners, dict.fromkeys(_texts(document["shared"])))


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list):
        raise TypeError("something else where texts belong")
    "".join(values).encode()  # raises for what is no text, half a character included
    return values


def unverified(expected: Mapping[str, Expected], steps: Sequence[Step]) -> list[str]:
    """Steps newer than the expected schema of their target: a user's own, for which nothing is promised."""
    return [step.stem for step in steps if step.target in expected
            and step.version > expected[step.target].through]


class Recorder:
    """Builds the expected schema of one target from its catalog after each step of a fresh apply."""

    def __init__(self, before: Catalog):
        self._before, self._last = before, before
        self._owners: dict[Object, tuple[str, ...]] = {}
        self._shared: dict[str, tuple[str, ...]] = {}
        self._declared: dict[str, str] = {}  # a shared table: the stem of the step that says so
        self._through = ""

    def after(self, step: Step, catalog: Catalog) -> None:
        """Note what the step made or changed. Dropping and making again makes the later step the owner."""
        self._shared |= step.shared
        for item, attributes in catalog.items():
            if item not in self._last:
                self._owners[item] = (step.stem,)
            elif self._last[item] != attributes:
                self._owners[item] = (*self._owners.get(item, ()), step.stem)
        self._last, self._through = catalog, step.stem
        self._declared |= dict.fromkeys(step.shared, step.stem)

    def document(self) -> str:
        """The file's text: one object a line, sorted, so that the difference in a review is the schema change."""
        lines = [json.dumps(entry, ensure_ascii=False) for item in sorted(self._last) if (entry := self._entry(item))]
        return (f'{{"through": {json.dumps(self._through)},\n "shared": {json.dumps(sorted(self._shared))},\n'
                ' "objects": [\n  ' + ",\n  ".join(lines) + "\n ]}\n")

    def _entry(self, item: Object) -> dict[str, Any] | None:
        if item not in self._owners:
            return None
        attributes = {key: value for key, value in self._last[item].items() if value}
        if item.table in self._shared and self._owners[item] == (self._declared[item.table],):
            required = item.kind in RELATIONS or (item.kind == "column" and item.name in self._shared[item.table])
            if not required:
                return None
            attributes = {}
        entry: dict[str, Any] = {"kind": item.kind, "table": item.table}
        return entry | ({"name": item.name} if item.name else {}) | {"steps": list(self._owners[item])} | (
            {"is": attributes} if attributes else {})
