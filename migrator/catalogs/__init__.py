"""Catalogs: what a database holds, as plain values that can be compared across servers and kept in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from migrator.statements import tokens

MISSING, DIFFERENT, EXTRA, DATA = "missing", "different", "unexpected", "data"
SHOWN = 200  # characters of one attribute in a finding


class Object(NamedTuple):
    """One thing in a database. `table` is the table, view or routine it is or belongs to; `name` its part of that."""

    kind: str
    table: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.table}" + (f".{self.name}" if self.name else "")


Attributes = Mapping[str, str]
Catalog = dict[Object, Attributes]
RELATIONS = ("table", "view")  # kinds that share one name space
KINDS = {*RELATIONS, "column", "output", "index", "projection", "check", "foreign key", "trigger", "procedure",
         "function", "event"}


class Finding(NamedTuple):
    """One thing that is wrong. `kind` is missing, different, unexpected or data; `step` the stem of its owner, or ''."""

    kind: str
    object: str
    expected: str
    actual: str
    remedy: str
    step: str = ""
    relation: bool = False  # a whole table or view, whose rows went or would go with it


def differences(expected: Mapping[Object, Attributes], live: Catalog, shared: Mapping[str, object]) -> Iterable[
        tuple[str, Object, str, str]]:
    """Each difference as (kind, object, expected, actual), in the order of `expected`, then of `live`.

    A part of a table that is missing as a whole is not reported beside it. In a shared table the application's own
    columns, indexes and the like are no difference; what is expected without attributes is only required to exist.
    """
    owned = {item.table for item in expected if item.kind in RELATIONS}
    gone = {item.table for item in expected if item.kind in RELATIONS and item not in live}
    for item, wanted in expected.items():
        if item in live:
            changed = [(key, *_apart(wanted.get(key, ""), live[item].get(key, "")))
                       for key in dict.fromkeys([*wanted, *live[item]])
                       if wanted and wanted.get(key, "") != live[item].get(key, "")]
            if changed:
                yield (DIFFERENT, item, ", ".join(f"{key} {value or 'none'}" for key, value, _ in changed),
                       ", ".join(f"{key} {actual or 'none'}" for key, _, actual in changed))
        elif item.kind in RELATIONS:
            other = next((kind for kind in RELATIONS if Object(kind, item.table) in live), "")
            yield ((DIFFERENT, item, f"a {item.kind}", f"a {other}") if other
                   else (MISSING, item, describe(wanted), "none"))
        elif item.table not in gone:
            yield MISSING, item, describe(wanted), "none"
    complete = owned - gone - shared.keys()
    for item, found in live.items():
        if item.name and item.table in complete and item not in expected:
            yield EXTRA, item, "none", describe(found)


def _apart(one: str, other: str, context: int = 60) -> tuple[str, str]:
    """Two texts, long ones cut to where they begin to differ."""
    if len(one) < 300 and len(other) < 300:
        return one, other
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - context)
    return tuple(f"…{text[start:same + 2 * context]}…" for text in (one, other))  # type: ignore[return-value]


def describe(attributes: Attributes) -> str:
    """The attributes in one line, of long ones the beginning; a bare existence is "present"."""
    shown = {key: " ".join(value.split()) for key, value in attributes.items() if value}
    return ", ".join(f"{key} {value[:SHOWN]}{'…' * (len(value) > SHOWN)}" for key, value in shown.items()) or "present"


def strip_outer(text: str) -> str:
    """An expression list without the parentheses around the whole of it: `(a, b)` is `a, b`, `(a), (b)` stays."""
    text = text.strip()
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return strip_outer(text[1:-1]) if position == len(text) - 1 else text
    return text


def split_top(text: str, dialect: str, separator: str = ",") -> list[str]:
    """Split at a separator outside of every bracket, string and comment."""
    pieces, start, depth = [], 0, 0
    for token in tokens(text, dialect):
        if token.kind == "punct":
            depth += (token.text in "([{") - (token.text in ")]}")
            if token.text == separator and depth == 0:
                pieces.append(text[start:token.offset].strip())
                start = token.offset + len(token.text)
    return [*pieces, text[start:].strip()]
