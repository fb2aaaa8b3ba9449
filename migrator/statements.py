"""One file's text -> its statements, each to be sent alone; and the only lexer of SQL in the program.

A statement ends where the reader that the file was written for says so: ClickHouse's own lexer (26.9), and the
`mariadb` client (10.11) for MySQL and MariaDB. No parser is borrowed: on 6,448 files of ClickHouse SQL sqlparse 0.6.1
split 114 wrongly in 58 s and sqlglot's tokenizer raised on 2 in 8.3 s, lexer rules split them all in 1 s; and neither
knows DELIMITER. Time and memory are linear in the text: a possessive regex swallows all that cannot hold a delimiter.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple


class Statement(NamedTuple):
    """What is sent: no delimiter, no comment or blank around it; `line` (from 1) is where it begins in its file."""

    text: str
    line: int


class Token(NamedTuple):
    """`kind` is word, quoted, string, number, punct (one character), comment, space or pragma (`/*!40101`, `*/`)."""

    kind: str
    text: str
    offset: int


class StatementError(ValueError):
    """The text cannot be split safely; nothing of it was or may be sent. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


PIECE = 1 << 20  # characters
IGNORED = frozenset({"space", "comment", "pragma"})  # token kinds that say nothing about what a statement does

_ASCII = " \t\n\v\f\r"
# ClickHouse takes these for blanks too (each code point below U+10000 tried on 26.9); MySQL and its client do not.
_WIDE = _ASCII + "\x85\xa0\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200E)))
_BLANKS = {"clickhouse": _WIDE, "mysql": _ASCII}
_OPENERS = {"'": "string", '"': "string or name", "`": "name", "‘": "string", "“": "name", "/": "comment"}
_DELIMITER_BYTES = 15  # the client cuts off the rest without a word
_CLIENT_COMMANDS = re.compile(  # of the mariadb and mysql clients; USE and HELP are SQL as well
    r"(?i)(charset|clear|connect|delimiter|edit|ego|exit|go|nopager|notee|nowarnings?|pager|print|prompt|query_attributes"
    r"|quit|rehash|resetconnection|source|ssl_session_data_print|status|system|tee|warnings)(?![A-Za-z0-9_$])"
)


def _quoted(quote: str, *, escapes: bool = True) -> str:
    inner = rf"[^{quote}\\]++|\\." if escapes else f"[^{quote}]++"
    return f"{quote}(?:{inner}|{quote}{quote})*+{quote}"


@functools.cache
def _clickhouse(single: bool) -> re.Pattern[str]:
    # `$` opens a heredoc only where a token begins, so words are eaten whole. To 26.9 “ ” and ‘ ’ are quotes as well.
    end, other = ("(?!)", r"[\\;]") if single else (r";|\\G", "(?!)")
    return re.compile(
        rf"""(?P<space>[{_WIDE}]++) | (?P<end>{end}) | (?P<comment>(?:--|//|\#[ !])[^\n]*+) | (?P<block>/\*)
        | (?P<heredoc>\$[A-Za-z0-9_]*+\$)
        | (?P<code>(?: [xX]'[0-9A-Fa-f]*+' | [bB]'[01]*+' | (?![xXbB]')[A-Za-z_][A-Za-z0-9_$]*+
            | [0-9][A-Za-z0-9_]*+ | \$(?![A-Za-z0-9_]*+\$)[A-Za-z0-9_$]*+
            | [^A-Za-z0-9_$'"`‘“\-/\#\\;]++ | {_quoted("'")} | {_quoted('"')} | {_quoted("`")} | ‘[^’]*+’ | “[^”]*+”
            | -(?!-) | /(?![/*]) | \#(?![ !]) | {other} )++)""",
        re.X | re.S,
    )


@functools.lru_cache(64)
def _mysql(delimiter: str, escapes: bool, ansi: bool, fresh: bool) -> re.Pattern[str]:
    # The client looks for its delimiter first, even before quotes and comments. Without a delimiter: one statement.
    # Where a statement begins (`fresh`) two dashes are a comment, elsewhere only with a blank behind them.
    end, first = (re.escape(delimiter), re.escape(delimiter[0])) if delimiter else ("(?!)", "")
    # \N is NULL, and \- stands in the first line of MariaDB's dumps, in a comment that no server executes.
    send, backslash = (r"|\\[gG]", r"\\[N-]") if delimiter else ("", r"\\")
    dashes = "--" if fresh else rf"--(?=[{_ASCII}]|\Z)"
    return re.compile(
        rf"""(?P<end>{end}{send}) | (?P<space>[{_ASCII}]++) | (?P<comment>(?:\#|{dashes})[^\n]*+)
        | (?P<pragma>/\*M?![0-9]*+|\*(?!{end})/(?!\*)|\*(?=/\*)) | (?P<block>/\*)
        | (?P<code>(?: [^'"`\#\-/*\\{first}]++ | (?!{end})(?: [^'"`\#\-/*\\] | {_quoted("'", escapes=escapes)}
            | {_quoted('"', escapes=escapes and not ansi)} | {_quoted("`", escapes=False)}
            | -(?!-(?:[{_ASCII}]|\Z)) | /(?!\*) | \*(?:(?!/)|(?={end})) | {backslash} ))++)""",
        re.X | re.S,
    )


def _words_of(dialect: str, strings: str, names: str, word: str) -> re.Pattern[str]:
    number = r"(?:0[xX][0-9A-Fa-f]++|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|(?<![\w)\]`\"])\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
    return re.compile(
        rf"""(?P<space>[{_BLANKS[dialect]}]++) | (?P<string>{strings}) | (?P<quoted>{names})
        | (?P<number>{number}(?![A-Za-z_])) | (?P<word>{word}++) | (?P<punct>.)""",
        re.X | re.S,
    )


@functools.cache
def _tokens(dialect: str) -> re.Pattern[str]:
    if dialect == "clickhouse":
        strings, names = "[xXbB]?" + _quoted("'") + "|‘[^’]*+’", f"{_quoted('`')}|{_quoted(chr(34))}|“[^”]*+”"
        return _words_of(dialect, strings, names, word="[A-Za-z0-9_$]")
    strings = f"[xXbBnN]?{_quoted(chr(39))}|{_quoted(chr(34))}"
    return _words_of(dialect, strings, _quoted("`", escapes=False), word="[A-Za-z0-9_$\x80-\U0010ffff]")


# What a backslash makes of the next character, and the characters before which it stays (all of ASCII tried on both).
_ESCAPES = {
    "mysql": ({"0": "\0", "Z": "\x1a", "b": "\b", "n": "\n", "r": "\r", "t": "\t"}, "[%_]"),
    "clickhouse": (
        {"0": "\0", "N": "", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"},
        r"[^\x00-\x1f\\'\"`/=]",
    ),
}
_NESTING = re.compile(r"/\*|\*/")
_BLOCK = re.compile(r"/\*!?|\*/|\n")
_COMMAND = re.compile(r"(?i:(?P<delimiter>delimiter)(?=[ \t\r\n]|\Z)|(?:use|help)[ \t])(?P<argument>[^\n]*+)")
_ARGUMENT = re.compile(r"""[ \t]*+(?:(?P<quote>['"`])(?P<quoted>[^ \t].*?)(?P=quote)|(?P<bare>[^'"`\s][^ \t\r]*+))""")
_SET = re.compile(r"(?i)(?:/\*M?![0-9]*+\s*+)?SET\s")

_Span = tuple[str, int, int]  # kind of token (or code, end, command), begin, end: they cover the text without a gap


def _error(text: str, offset: int, message: str) -> StatementError:
    return StatementError(text.count("\n", 0, offset) + 1, message)


def _unclosed(text: str, offset: int) -> StatementError:
    if text[offset] == "\\":
        return _error(text, offset, f"{text[offset : offset + 2]!r} is no SQL outside of quotes")
    return _error(text, offset, f"{_OPENERS.get(text[offset], 'hexadecimal or binary string')} is not closed")


def _scan_clickhouse(text: str, *, single: bool) -> Iterator[_Span]:
    scanner, begin = _clickhouse(single), 0
    while begin < len(text):
        match = scanner.match(text, begin)
        if match is None:
            raise _unclosed(text, begin)
        kind, end = str(match.lastgroup), match.end()
        if kind == "block":
            kind, end = "comment", _end_of_nested(text, begin)
        elif kind == "heredoc":
            # An unclosed $tag$ would be a name to the server. A step that means one can put it in backquotes.
            if (at := text.find(match[0], end)) < 0:
                raise _error(text, begin, f"heredoc {match[0]} is not closed")
            kind, end = "string", at + len(match[0])
        yield kind, begin, end
        begin = end


def _end_of_nested(text: str, begin: int) -> int:
    depth = 0
    for mark in _NESTING.finditer(text, begin):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    raise _unclosed(text, begin)


def _scan_mysql(text: str, *, single: bool) -> Iterator[_Span]:
    """As the client does: it knows commands (DELIMITER, USE without delimiter) only where line and statement begin."""
    delimiter, escapes, ansi = "" if single else ";", True, False
    begin = start = int(text.startswith("\ufeff"))
    if begin:
        yield "space", 0, 1
    fresh = line_start = not single  # nothing of the statement was seen, nothing but blanks of the line
    stop, opened = len(text), -1  # end of the line of a USE without delimiter; the line's last open /*!
    while begin < len(text):
        if begin == stop:
            yield "end", begin, begin
            fresh, stop = True, len(text)
        if fresh and line_start and (command := _COMMAND.match(text, begin)):
            if command["delimiter"]:
                delimiter = _delimiter(text, command)
                yield "command", begin, command.end()
                begin, line_start = command.end(), False
                continue
            if delimiter not in command[0] and "\\g" not in command[0]:
                stop = command.end()
        match = _mysql(delimiter, escapes, ansi, fresh).match(text, begin, stop)
        if match is None:
            raise _unclosed(text, begin)
        kind, end = str(match.lastgroup), match.end()
        if kind == "block":
            inside = opened >= 0 and text.find("\n", opened, begin) < 0
            kind, end = "pragma" if inside else "comment", _end_of_block(text, begin, stop, inside)
            opened = -1
        elif kind == "pragma":
            opened = begin if match[0].startswith("/*!") else opened if match[0][0] == "/" else -1
            kind = "code" if match[0] == "*" else kind  # a*/* b */c: `*` and a comment, which ends a /*! all the same
        elif kind == "end" and _SET.match(text, start, begin) and (modes := _sql_mode(text[start:begin])):
            escapes = "NO_BACKSLASH_ESCAPES" not in modes
            ansi = "ANSI" in modes or "ORACLE" in modes
        yield kind, begin, end
        line_start = kind == "space" and (line_start or text.find("\n", begin, end) >= 0)
        if kind == "end":
            fresh = not single
        elif fresh and kind in ("code", "pragma"):
            fresh, start = False, begin
        begin = end


def _end_of_block(text: str, begin: int, stop: int, inside: bool) -> int:
    # The client keeps one flag a line: after /*! the next */ ends that, not the comment around or within it.
    at = begin + 2
    while mark := _BLOCK.search(text, at, stop):
        at = mark.end()
        if mark[0] == "*/" and not inside:
            return at
        if mark[0] == "*/":
            inside, at = False, at - 1
        else:
            inside = mark[0] == "/*!" or (inside and mark[0] != "\n")
    raise _unclosed(text, begin)


def _sql_mode(statement: str) -> str:
    """What a SET gives this session for a sql_mode, on which the meaning of quotes hangs; empty if it leaves it alone."""
    if "SQL_MODE" not in statement.upper():
        return ""
    with contextlib.suppress(StatementError):
        found = [token for token in tokens(statement, "mysql") if token.kind not in IGNORED]
        words = ["", "", *(token.text.upper() for token in found), ""]
        for number, token in enumerate(found, 2):
            scope = words[number - 2] if words[number - 1] == "." else words[number - 1]
            if words[number] == "SQL_MODE" and words[number + 1] in ("=", ":") and scope not in ("GLOBAL", "PERSIST"):
                return statement[token.offset :].upper()
    return ""


def _delimiter(text: str, command: re.Match[str]) -> str:
    argument = _ARGUMENT.match(command["argument"])
    delimiter = (argument["quoted"] or argument["bare"]) if argument else ""
    if not delimiter or "\\" in delimiter or len(delimiter.encode()) > _DELIMITER_BYTES:
        raise _error(text, command.start(), f"DELIMITER takes 1 to {_DELIMITER_BYTES} bytes without a backslash")
    return delimiter


_SCANS = {"clickhouse": _scan_clickhouse, "mysql": _scan_mysql}


def unquote(text: str, dialect: str) -> str:
    """The value of a quoted name or string; any other text as it is."""
    quote = text[:1]
    if quote in ("‘", "“"):
        return text[1:-1]
    if quote not in ("'", '"', "`"):
        return text
    escape = r"\\(.)|" if (dialect, quote) != ("mysql", "`") else "(?!)()|"
    values, kept = _ESCAPES[dialect]
    return re.sub(
        f"(?s){escape}{quote}{quote}",
        lambda found: (
            quote if found[1] is None else values.get(found[1], found[0] if re.fullmatch(kept, found[1]) else found[1])
        ),
        text[1:-1],
    )


def encoded(text: str) -> Iterator[bytes]:
    """A text as UTF-8, piece by piece, so that a big one need not be held twice."""
    return (text[at : at + PIECE].encode() for at in range(0, len(text), PIECE))


def encoded_size(text: str) -> int:
    """The bytes of a text as UTF-8."""
    return len(text) if text.isascii() else sum(map(len, encoded(text)))


def scan(text: str, dialect: str) -> Iterator[Token]:
    """A whole file in coarse pieces that add up to it: code, string, pragma, space, comment, end, command."""
    return (Token(kind, text[begin:end], begin) for kind, begin, end in _SCANS[dialect](text, single=False))


def tokens(text: str, dialect: str) -> Iterator[Token]:
    """The tokens of one statement, adding up to it; `;` is punctuation. Raises StatementError where `split` would."""
    for kind, begin, end in _SCANS[dialect](text, single=True):
        if kind != "code":
            yield Token(kind, text[begin:end], begin)
            continue
        for match in _tokens(dialect).finditer(text, begin, end):
            yield Token(str(match.lastgroup), match[0], match.start())


def split(text: str, dialect: str) -> tuple[Statement, ...]:
    """All statements of a file, in order; or StatementError."""
    return tuple(each(text, dialect))


def each(text: str, dialect: str) -> Iterator[Statement]:
    """The statements one by one, so that a big file need not be held twice. StatementError when its place is reached."""
    line, counted, start, last = 1, 0, -1, 0
    try:
        for kind, begin, end in itertools.chain(_SCANS[dialect](text, single=False), [("end", len(text), len(text))]):
            if kind in ("code", "string", "pragma"):
                start, last = start if start >= 0 else begin, end
            elif kind == "end" and start >= 0:
                while text[last - 1] in _BLANKS[dialect]:
                    last -= 1
                line, counted = line + text.count("\n", counted, start), start
                statement = Statement(text[start:last], line)
                _refuse(statement, dialect)
                yield statement
                start = -1
    except StatementError:
        if start >= 0:  # the quote that is not closed may stand in something that is no SQL at all
            _refuse(Statement(text[start:], line + text.count("\n", counted, start)), dialect)
        raise


def _refuse(statement: Statement, dialect: str) -> None:
    text = statement.text
    if dialect == "mysql" and (command := _CLIENT_COMMANDS.match(text)):
        where = ", and has to begin its line" * (command[0].lower() == "delimiter")
        raise StatementError(statement.line, f"{command[0]} is a command of the client, not SQL{where}")
    if dialect == "clickhouse" and text[:6].lower() == "insert" and _has_inline_data(text):
        raise StatementError(statement.line, "the rows behind FORMAT are not SQL and may hold any `;`: use VALUES")


def _has_inline_data(insert: str) -> bool:
    """INSERT … FORMAT name, where all that follows is rows in that format; also with SELECT … FROM input(…)."""
    if not re.search(r"(?i)\bformat\b", insert):
        return False
    depth, before, selects, reads_input = 0, "", False, False
    significant = (token for token in tokens(insert, "clickhouse") if token.kind not in IGNORED)
    with contextlib.suppress(StatementError):
        for token in significant:
            word = token.text.upper() if token.kind in ("word", "punct") else ""
            depth += (word == "(") - (word == ")")
            reads_input = reads_input or (before, word) == ("INPUT", "(")
            if depth == 0 and before not in ("INTO", "TABLE", "."):
                if word == "VALUES" or (word == "FROM" and not selects):
                    return False
                selects = selects or word in ("SELECT", "WITH")
                if word == "FORMAT" and (reads_input or not selects):
                    return next(significant, token).text.upper() != "VALUES"
            before = word
    return False
