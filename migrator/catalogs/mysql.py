"""The MySQL and MariaDB catalog: a fixed number of queries, and values that mean the same on both and on all versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from migrator.catalogs import Attributes, Catalog, Object, split_top, strip_outer
from migrator.errors import StatementRefused
from migrator.statements import tokens

Query = Callable[[str], list[tuple[Any, ...]]]
BROKEN = "(does not run"
GONE = re.compile(r"\((1052|1054|1060|1064|1146|1305|1356)\)$")  # what a query needs is not there, or not so any more
INVISIBLE = "(not visible to this user; grant it SHOW VIEW or SHOW_ROUTINE, or on MariaDB SELECT on mysql.proc)"
JSON_CHECK = re.compile(r"json_valid\(`([^`]+)`\)")
NUMERIC = re.compile(r"(tiny|small|medium|big)?int|decimal|float|double|bit|year")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "0": "\0", "Z": "\x1a"}


def read_catalog(query: Query, dialect: str, database: str, ledger_table: str) -> Catalog:
    """Everything in the connection's database but the ledger and its journal."""
    here = "table_schema = DATABASE()"
    catalog: Catalog = {}
    is_mariadb = dialect == "mariadb"
    checks = list(_checks(query, is_mariadb))
    json_columns = {(table, name) for table, name, _, is_json in checks if is_json}
    for name, type_, engine, collation, comment, options in query(
            "SELECT table_name, table_type, engine, table_collation, table_comment, create_options"
            f" FROM information_schema.tables WHERE {here} ORDER BY table_name"):
        if name in (ledger_table, f"{ledger_table}_journal"):
            continue
        if type_ == "VIEW":
            catalog[Object("view", name)] = {}
        else:
            catalog[Object("table", name)] = table(engine or "", collation or "", comment or "",
                                                   "partitioned" if "partitioned" in (options or "") else "",
                                                   type_)
    for owner, name, type_, nullable, default, extra, collation, generated, comment in query(
            "SELECT table_name, column_name, column_type, is_nullable, column_default, extra, collation_name,"
            f" generation_expression, column_comment FROM information_schema.columns WHERE {here}"
            " ORDER BY table_name, ordinal_position"):
        if Object("view", owner) in catalog:
            catalog[Object("output", owner, name)] = {}
        elif Object("table", owner) in catalog:
            is_json = (owner, name) in json_columns
            if default is not None and not is_mariadb and not re.match("bit|(var)?binary", type_) and (
                    "DEFAULT_GENERATED" not in extra):
                default = quote(default)  # MySQL shows a literal as bare text
            catalog[Object("column", owner, name)] = column(
                "json" if is_json else type_, nullable == "YES", default, extra or "",
                "" if is_json and collation.endswith("_bin") else collation or "", generated or "", comment or "")
    for item, attributes in (*_indexes(query, here, is_mariadb), *((key.item, key.rules) for key in foreign_keys(query)),
                             *_views(query, here, database), *_routines(query), *_triggers(query), *_events(query)):
        if item.kind in ("procedure", "function", "event") or {Object("table", item.table), Object("view", item.table)
                                                               } & catalog.keys():
            catalog[item] = attributes
    for owner, name, clause, is_json in checks:
        if not is_json and Object("table", owner) in catalog:
            catalog[Object("check", owner, name)] = {"clause": clause}
    return catalog


def table(engine: str, collation: str, comment: str, partitioned: str = "", type_: str = "BASE TABLE") -> Attributes:
    return {"engine": engine.lower(), "collation": collation, "comment": comment, "options": partitioned,
            "kind": type_.lower().replace("base table", "")}  # MariaDB's tables of versions and sequences


def column(type_: str, nullable: bool, default: str | None, extra: str, collation: str, generated: str,
           comment: str) -> Attributes:
    """One column by meaning. `default` is SQL; a default of NULL is the same as none."""
    type_ = plain_type(type_)
    extra = re.sub(r"default_generated|virtual generated|\(\)", "", extra.lower()) if extra else ""
    return {"type": type_, "null": "yes" if nullable else "no", "default": default_value(type_, default),
            "extra": " ".join(extra.split()), "collation": collation, "generated": _bare(generated), "comment": comment}


@cache
def plain_type(text: str) -> str:
    """A type without the width of an integer, which MariaDB shows and which says nothing; tinyint(1) is a boolean."""
    return re.sub(r"\b((?:small|medium|big)?int|tinyint(?!\(1\))|year)\(\d+\)(?!.*zerofill)", r"\1", text)


@cache
def default_value(type_: str, default: str | None) -> str:
    """A column's default, given as SQL, in the one spelling of its meaning; empty if it has none."""
    if default is None or default.upper() == "NULL":
        return ""
    if re.fullmatch(r"(?i)(current_timestamp|now|localtime(stamp)?)(\(\d*\))?", default):
        return re.sub(r"(?i)[a-z_]+", "CURRENT_TIMESTAMP", default).replace("()", "")
    if re.match("(var)?binary", type_) and (digits := re.fullmatch(r"(?i)(?:0x|x')([0-9a-f]*)'?", default)):
        return f"'{bytes.fromhex(digits[1]).decode('latin-1')}'"
    literal = unquote(default) if default.startswith("'") else {"TRUE": "1", "FALSE": "0"}.get(default.upper(), default)
    try:
        number = f"{Decimal(literal).normalize():f}"
        return number if NUMERIC.match(type_) else f"'{literal}'"
    except InvalidOperation:
        return f"'{literal}'" if default.startswith("'") else _bare(default)


@cache
def _bare(expression: str) -> str:
    """An expression without what the dialects add to it: introducers, backquotes, blanks, parentheses around it."""
    text = re.sub(r"_utf8mb[34](?=')", "", re.sub(r"\\+'", "'", expression).replace("`", "").lower())
    return strip_outer(re.sub(r"\s*([^\w\s'])\s*", r"\1", re.sub(r"\s+", " ", text)))


def _indexes(query: Query, here: str, is_mariadb: bool) -> Iterable[tuple[Object, Attributes]]:
    own = "IF(ignored = 'YES', 'NO', 'YES'), NULL" if is_mariadb else "is_visible, expression"
    rows = query(f"SELECT table_name, index_name, non_unique, column_name, collation, sub_part, index_type, {own}"
                 f" FROM information_schema.statistics WHERE {here} ORDER BY table_name, index_name, seq_in_index")
    for (owner, name), parts in groupby(rows, key=lambda row: row[:2]):
        found = list(parts)
        columns = ", ".join(f"{part[3] or f'({_bare(part[8])})'}{f'({part[5]})' if part[5] else ''}"
                            f"{' DESC' if part[4] == 'D' else ''}" for part in found)
        yield Object("index", owner, name), index(not int(found[0][2]), columns, *found[0][6:8])


def index(unique: bool, columns: str, type_: str = "BTREE", visible: str = "YES") -> Attributes:
    return {"unique": "yes" if unique else "no", "columns": columns, "type": type_.lower(),
            "visible": visible.lower().replace("yes", "")}  # the optimizer passes over one that is not


class ForeignKey(NamedTuple):
    """A foreign key goes by its columns: its name differs between servers, and from one hand-run script to another."""

    table: str
    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"

    @property
    def item(self) -> Object:
        columns, parents = ", ".join(self.columns), ", ".join(self.parent_columns)
        return Object("foreign key", self.table, f"({columns}) to {self.parent} ({parents})")

    @property
    def rules(self) -> Attributes:
        return {"on delete": self.on_delete.replace("RESTRICT", "NO ACTION"),
                "on update": self.on_update.replace("RESTRICT", "NO ACTION")}


def foreign_keys(query: Query) -> Iterable[ForeignKey]:
    """Two plain queries: their join takes MariaDB longer than both, for it opens every table again."""
    rules = {(owner, name): (on_delete, on_update) for owner, name, on_delete, on_update in query(
        "SELECT table_name, constraint_name, delete_rule, update_rule FROM information_schema.referential_constraints"
        " WHERE constraint_schema = DATABASE()")}
    rows = query("SELECT table_name, constraint_name, column_name, referenced_table_name, referenced_column_name"
                 " FROM information_schema.key_column_usage WHERE table_schema = DATABASE() AND referenced_table_name IS NOT"
                 " NULL ORDER BY table_name, constraint_name, ordinal_position") if rules else []
    for (owner, name), parts in groupby(rows, key=lambda row: row[:2]):
        if (owner, name) in rules:  # else somebody has just added it
            found = list(parts)
            yield ForeignKey(owner, name, tuple(part[2] for part in found), found[0][3], tuple(part[4] for part in found),
                             *rules[owner, name])


def _views(query: Query, here: str, database: str) -> Iterable[tuple[Object, Attributes]]:
    for name, text, security, check in query(
            "SELECT table_name, view_definition, security_type, check_option"
            f" FROM information_schema.views WHERE {here} ORDER BY table_name"):
        yield Object("view", name), {"query": (text or INVISIBLE).replace(f"`{database}`.", ""), "security": security,
                                     "check": "" if check == "NONE" else check}


def _routines(query: Query) -> Iterable[tuple[Object, Attributes]]:
    parameters: dict[tuple[str, str], list[str]] = {}
    for type_, name, mode, parameter, data_type in query(
            "SELECT routine_type, specific_name, parameter_mode, parameter_name, dtd_identifier"
            " FROM information_schema.parameters WHERE specific_schema = DATABASE() ORDER BY specific_name,"
            " ordinal_position"):
        parameters.setdefault((type_, name), []).append(
            " ".join(filter(None, (mode or "RETURNS", parameter, plain_type(data_type or "")))))
    for type_, name, body, security, mode in query(
            "SELECT routine_type, routine_name, routine_definition, security_type, sql_mode"
            " FROM information_schema.routines WHERE routine_schema = DATABASE() ORDER BY routine_name"):
        yield Object(type_.lower(), name), routine(", ".join(parameters.get((type_, name), [])),
                                                   INVISIBLE if body is None else body, security, mode)


def routine(parameters: str, body: str, security: str, sql_mode: str) -> Attributes:
    return {"parameters": parameters, "security": security, "sql mode": ",".join(sorted(sql_mode.split(","))),
            "body": body.strip()}


def _triggers(query: Query) -> Iterable[tuple[Object, Attributes]]:
    for name, owner, timing, event, body in query(
            "SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement"
            " FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY trigger_name"):
        # MariaDB shows a trigger to anybody, and its body to whoever has the right TRIGGER.
        yield Object("trigger", owner, name), {"fires": f"{timing} {event}", "body": (body or "").strip()}


def _events(query: Query) -> Iterable[tuple[Object, Attributes]]:
    for name, value, unit, at, status, body in query(
            "SELECT event_name, interval_value, interval_field, execute_at, status, event_definition"
            " FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY event_name"):
        yield Object("event", name), {"schedule": f"every {value} {unit}" if value else f"at {at}",
                                      "status": status.replace("SIDE_DISABLED", "DISABLED"), "body": body.strip()}


def _checks(query: Query, is_mariadb: bool) -> Iterable[tuple[str, str, str, bool]]:
    """(table, name or column, clause, is it MariaDB's own check of a JSON column)."""
    rows = query("SELECT table_name, constraint_name, check_clause, 'YES' FROM information_schema.check_constraints"
                 " WHERE constraint_schema = DATABASE() ORDER BY table_name, constraint_name") if is_mariadb else query(
                 "SELECT t.table_name, c.constraint_name, c.check_clause, t.enforced FROM information_schema.check_constraints c"
                 " JOIN information_schema.table_constraints t ON t.constraint_schema = c.constraint_schema"
                 " AND t.constraint_name = c.constraint_name AND t.constraint_type = 'CHECK'"
                 " WHERE c.constraint_schema = DATABASE() ORDER BY t.table_name, c.constraint_name")
    for owner, name, clause, enforced in rows:
        match = JSON_CHECK.fullmatch(clause) if is_mariadb else None
        yield owner, match[1] if match else name, _bare(clause) + " not enforced" * (enforced == "NO"), bool(match)


def same_queries(query: Query, dialect: str, expected: Mapping[Object, Attributes], live: Catalog) -> Catalog:
    """`live` with the expected text in each view whose query means the same: the server itself writes out both.

    The text that a server keeps differs between versions and dialects; the note of EXPLAIN is one server's spelling of
    both. A query that does not run any more (its table or column is gone) says so instead: the view itself stays listed.
    """
    changed = dict(live)
    for item, wanted in expected.items():
        if item.kind != "view" or "query" not in wanted or item not in live or live[item]["query"] == INVISIBLE:
            continue
        text = found = live[item]["query"]
        if (note := _explained(query, dialect, text)).startswith(BROKEN):
            found = note
        elif text != wanted["query"] and note == _explained(query, dialect, wanted["query"]):
            found = wanted["query"]
        changed[item] = {**live[item], "query": found}
    return changed


def _explained(query: Query, dialect: str, text: str) -> str:
    try:
        query(f"EXPLAIN {'EXTENDED' if dialect == 'mariadb' else 'FORMAT=TRADITIONAL'} {text}")
    except StatementRefused as error:
        if not GONE.search(str(error)):
            raise  # a lock or a lost right says nothing about the view
        return f"{BROKEN}: {error})"
    return _by_alias(next((str(message) for _, code, message in query("SHOW WARNINGS") if code == 1003), ""))


def _by_alias(note: str) -> str:
    """The query with each selected expression called by its alias behind FROM.

    A view is kept with the expression where its author wrote `ORDER BY alias` (observed on MySQL 9.7), so both have to
    become the same. A bare name is nothing but an alias there: columns are written out with their table.
    """
    depth, at = 0, len(note)
    for token in tokens(note, "mysql"):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.text == "from":
            at = token.offset
            break
    selected, rest = re.sub(r"^(/\*.*?\*/ )?select ", "", note[:at]), note[at:]
    named = [item.rpartition(" AS ") for item in split_top(selected, "mysql")]
    for expression, _, alias in sorted(named, key=lambda pair: -len(pair[0])):
        rest = rest.replace(expression, alias) if expression else rest
    return note[:at] + rest


def quote(text: str) -> str:
    """A string literal of MySQL, under a sql_mode that keeps backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0") + "'"


def unquote(literal: str) -> str:
    """What a quoted string or name of MySQL means; a backslash escapes in strings only."""
    mark, text = literal[0], literal[1:-1].replace(literal[0] * 2, literal[0])
    return text if mark == "`" else re.sub(r"(?s)\\(.)", lambda match: ESCAPES.get(match[1], match[1]), text)
