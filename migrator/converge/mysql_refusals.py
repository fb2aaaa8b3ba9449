"""What a convergence of MySQL must not begin: rows that would be lost or invented, and tables that are something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from migrator.catalogs import Attributes, Object
from migrator.catalogs.mysql import NUMERIC, ForeignKey
from migrator.converge.mysql_definitions import TEXTS, Definition, name_of

if TYPE_CHECKING:
    from migrator.converge.mysql import Comparison

SHOWN = 10  # keys of rows in a refusal
BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
BYTES = {"tinytext": 2**8, "text": 2**16, "mediumtext": 2**24, "longtext": 2**32}
GROWS = {("date", "datetime"), ("timestamp", "datetime"), ("float", "double")}
TIMESTAMPS = "'1970-01-01 00:00:01' AND '2038-01-19 03:14:07'"


def refusals(comparison: Comparison) -> Iterator[str]:
    """Everything that a person has to decide before a convergence may begin, each in one line with its remedy."""
    for definition in comparison.definitions:
        other = "table" if definition.kind == "view" else "view"
        if definition.kind != "procedure" and Object(other, definition.name) in comparison.live:
            yield (f"{definition.name} should be a {'view' if other == 'table' else 'table'} and is a {other}: rename or"
                   " drop it, if nothing needs it, and run again")
        elif definition.kind in ("table", "additions"):
            table = _Table(comparison, definition)
            yield from [*table.shape()] or [*table.values(), *table.duplicates(), *table.orphans()]
    for key in comparison.keys:
        if key.item not in comparison.wanted and comparison.in_the_way(key):
            yield (f"{key.item} ({key.name}) is not defined here and holds a column that has to change:"
                   f" ALTER TABLE {key.table} DROP FOREIGN KEY {key.name}, run again, and add it again")


class _Table:
    """One table, as it is, against its definition."""

    def __init__(self, comparison: Comparison, definition: Definition):
        self.compared, self.definition, self.name = comparison, definition, definition.name
        self.live, self.wanted, self.query = comparison.live, comparison.wanted, comparison.query

    def shape(self) -> Iterator[str]:
        """Why the table is not an earlier form of this one, but somebody else's table of the same name."""
        lacks = [item for item in self.compared.of(self.definition, "column") if item in self.compared.missing]
        knows = [item for item in self.compared.extra if item.kind == "column" and item.table == self.name]
        primary, wrong = Object("index", self.name, "PRIMARY"), []
        if primary in self.compared.reasons:
            wrong.append(self.compared.reasons[primary])
        if lacks and knows:
            wrong.append(f"it lacks {_list(lacks)} and has {_list(knows)}")
        if needed := [item for item in knows if _must_be_given(self.live[item])]:
            wrong.append(f"{_list(needed)} must be given in every INSERT, and nobody gives it")
        empty = [item for item in lacks if _must_be_given(self.wanted[item])]
        if empty and self.query(f"SELECT 1 FROM {name_of(self.name)} LIMIT 1"):
            wrong.append(f"its rows have no value for {_list(empty)}")
        if wrong:
            yield (f"table {self.name} has another form: {'; '.join(wrong)}: put it aside"
                   f" (RENAME TABLE {self.name} TO {self.name}_old), run again, and move its rows by hand")

    def values(self) -> Iterator[str]:
        """Values that a column could not hold any more."""
        for item in self.compared.of(self.definition, "column"):
            if item in self.compared.missing:
                continue
            column, wrong = name_of(item.name), []
            if self.compared.differs(item, "null") and self.wanted[item]["null"] == "no":
                wrong.append(f"{column} IS NULL")
            if self.compared.differs(item, "extra") and self.wanted[item]["extra"] == "auto_increment":
                wrong.append(f"{column} = 0")  # which the server would number anew
            if self.compared.differs(item, "type"):
                wrong.append(unfit(column, self.live[item]["type"], self.wanted[item]["type"]))
            if condition := " OR ".join(filter(None, wrong)):
                yield from self._rows(self._key() or [item.name], f"FROM {name_of(self.name)} AS c WHERE {condition}",
                                      f"do not fit {item}, which has to become {self.definition.clauses[item]}",
                                      "correct them")

    def duplicates(self) -> Iterator[str]:
        """Rows that a unique index, new or under another collation, would not let stand beside each other."""
        for item, index in self.wanted.items():
            if item.kind != "index" or item.table != self.name or index["unique"] != "yes":
                continue
            columns = {Object("column", self.name, name): length for name, length in _columns(index)}
            if item not in self.compared.reasons and not any(
                    self.compared.differs(column, "type", "collation") for column in columns):
                continue
            there = {column: length for column, length in columns.items() if column in self.live}
            added = columns.keys() - there.keys()
            if not there or any(self.wanted.get(column, {}).get("null") == "yes" for column in added):
                continue  # a new column is NULL in every row, and NULLs are never the same
            names = ", ".join(name_of(column.name) for column in there)
            values = ", ".join(f"LEFT({value}, {length}) AS {name_of(column.name)}" if length
                               else f"{value} AS {name_of(column.name)}" for column, length in there.items()
                               for value in [self._as_wanted(column, name_of(column.name))])
            filled = " AND ".join(f"{name_of(column.name)} IS NOT NULL" for column in there)
            yield from self._rows([column.name for column in there], (
                f"FROM (SELECT {names} FROM (SELECT {values} FROM {name_of(self.name)} WHERE {filled}) AS v"
                f" GROUP BY {names} HAVING COUNT(*) > 1) AS c"), f"stand in several rows, which {item} forbids",
                "keep one of each")

    def orphans(self) -> Iterator[str]:
        """Rows without the parent that a new foreign key requires, and parents of another type."""
        exists = self.compared.exists(self.definition)
        for key in self.compared.new_keys(self.definition) if exists else self.definition.keys:
            pairs = [(Object("column", key.table, child), Object("column", key.parent, parent))
                     for child, parent in zip(key.columns, key.parent_columns, strict=True)]
            for child, parent in pairs:
                yield from self._compatible(key, child, parent)
            yield from self._indexed(key)
            if not all(child in self.live for child, _ in pairs):
                continue
            names = [name_of(child.name) for child, _ in pairs]
            condition = " AND ".join(f"c.{name} IS NOT NULL" for name in names)
            if Object("table", key.parent) in self.live and all(parent in self.live for _, parent in pairs):
                same = " AND ".join(f"{self._as_wanted(parent, f'p.{name_of(parent.name)}')} ="
                                    f" {self._as_wanted(child, f'c.{name_of(child.name)}')}" for child, parent in pairs)
                condition += f" AND NOT EXISTS (SELECT 1 FROM {name_of(key.parent)} AS p WHERE {same})"
            source = f"FROM {name_of(key.table)} AS c WHERE {condition}"
            yield from self._rows([*self._key(), *key.columns], source, f"point to no row of {key.parent}"
                                  f" ({', '.join(key.parent_columns)})", f"see SELECT c.* {source}; add the parents, set"
                                  " the column to NULL where it may be, or move the rows away")

    def _compatible(self, key: ForeignKey, child: Object, parent: Object) -> Iterator[str]:
        kinds = [self.wanted.get(item) or self.live.get(item) or {} for item in (child, parent)]
        if not all("collation" in kind for kind in kinds):
            return  # a table is still to come from an earlier step
        ours, theirs = (kind["collation"] or kind["type"] for kind in kinds)
        if ours != theirs:
            yield (f"{key.item} is impossible: {parent} is {theirs}, {child} is {ours}: convert the table that the"
                   " application owns, and run again")

    def _indexed(self, key: ForeignKey) -> Iterator[str]:
        """No server finds the parents of a foreign key without an index. Our own tables get theirs."""
        theirs = [[name for name, _ in _columns(attributes)] for item, attributes in self.live.items()
                  if (item.kind, item.table) == ("index", key.parent)]
        applications = {Object("table", key.parent)} & self.live.keys() - self.wanted.keys()
        if applications and not any(columns[:len(key.parent_columns)] == [*key.parent_columns] for columns in theirs):
            yield (f"{key.item} is impossible: {key.parent} has no index on {', '.join(key.parent_columns)}: give it its"
                   " primary key back, and run again")

    def _as_wanted(self, column: Object, sql: str) -> str:
        """The column's value as it will compare once the column is as it should be."""
        wanted = self.wanted.get(column) or self.live[column]
        if not wanted["collation"] or not self.compared.differs(column, "type", "collation"):
            return sql
        return f"CONVERT({sql} USING utf8mb4) COLLATE {wanted['collation']}"

    def _key(self) -> list[str]:
        primary = self.live.get(Object("index", self.name, "PRIMARY"))
        return [name for name, _ in _columns(primary)] if primary else []

    def _rows(self, key: list[str], source: str, problem: str, remedy: str) -> Iterator[str]:
        """The rows of `source`, if there are any: how many, and the keys of the first."""
        key = list(dict.fromkeys(key))
        names = ", ".join(f"c.{name_of(name)}" for name in key)
        if found := self.query(f"SELECT {names} {source} ORDER BY {names} LIMIT {SHOWN}"):
            [(count,)] = self.query(f"SELECT COUNT(*) {source}")
            shown = ", ".join(f"({', '.join(map(repr, map(_plain, row)))})" for row in found)
            yield (f"table {self.name}: {count} value(s) {problem}: ({', '.join(key)}) = {shown}"
                   f"{', …' if count > len(found) else ''}: {remedy}")


def unfit(column: str, live: str, wanted: str) -> str:
    """A condition for the values of one type that another cannot hold; empty if it holds them all. NULL always fits."""
    (kind, arguments), (before, old) = ((re.match(r"\w+", type_)[0], re.findall(r"\((.*)\)", type_))  # type: ignore
                                        for type_ in (wanted, live))
    is_number, is_text = bool(NUMERIC.match(live)), before in TEXTS - {"enum", "set"}
    if kind in ("char", "varchar"):
        return f"CHAR_LENGTH({column}) > {arguments[0]}"
    if kind in BYTES:
        return f"LENGTH(CONVERT({column} USING utf8mb4)) >= {BYTES[kind]}"
    if kind == "enum" and before in TEXTS:
        return f"CAST({column} AS CHAR) COLLATE utf8mb4_bin NOT IN ({arguments[0]})"
    if kind in BITS and (is_number or is_text):
        low, high = (0, 2**BITS[kind] - 1) if "unsigned" in wanted else (-2**BITS[kind] // 2, 2**BITS[kind] // 2 - 1)
        number = column if is_number else f"CAST({column} AS DECIMAL(65,10))"
        text = "" if is_number else f"{column} NOT REGEXP '^-?[0-9]{{1,20}}$' OR "
        return f"{text}{number} <> ROUND({number}) OR {number} NOT BETWEEN {low} AND {high}"
    if kind == "decimal" and (is_number or is_text):
        digits, scale = map(int, arguments[0].split(","))
        number = column if is_number else f"CAST({column} AS DECIMAL(65,30))"
        text = "" if is_number else f"{column} NOT REGEXP '^-?[0-9]+([.][0-9]+)?$' OR "
        least = f" OR {number} < 0" * ("unsigned" in wanted)
        return f"{text}{number} <> ROUND({number}, {scale}) OR ABS({number}) >= 1{'0' * (digits - scale)}{least}"
    if kind == "timestamp" and before == "datetime":
        return f"{column} NOT BETWEEN {TIMESTAMPS}"
    if (before, kind) in GROWS or (before == kind and old <= arguments and kind in ("datetime", "timestamp", "time")):
        return ""
    if kind == "json" and is_text:
        return f"NOT JSON_VALID({column})"
    return f"{column} IS NOT NULL"


def _must_be_given(column: Attributes) -> bool:
    return column["null"] == "no" and not column["default"] and not column["generated"] and (
        column["extra"] != "auto_increment")


def _columns(index: Attributes) -> list[tuple[str, str]]:
    """Each column of an index, with the length of the part that counts, or nothing."""
    return re.findall(r"(?:^|, )([^,(]+?)(?:\((\d+)\))?(?: DESC)?(?=,|$)", index["columns"])


def _list(items: list[Object]) -> str:
    return ", ".join(item.name for item in items)


def _plain(value: object) -> object:
    return value if isinstance(value, (int, str)) else str(value)
