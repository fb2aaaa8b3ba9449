"""Random statements whose end is known, since they are made piece by piece: every quoting, nesting and comment form."""

import random
from collections.abc import Iterator

# No \r: line ends are those of a step that was read.
NASTY = ["'", '"', "`", "\\", ";", ";;", "--", "-- ", "#", "# ", "#!", "/*", "*/", "/*!", "$$", "$t$", "//", "|", "\n", " ", "a",
         "é", "END", "DELIMITER //", "\nDELIMITER $$\n", "BEGIN", "SELECT 1;", "\\'", "{a}", "\t"]  # fmt: skip
COMMENTS = {"clickhouse": ["--{}\n", "-- {}\n", "//{}\n", "# {}\n", "#!{}\n", "/*{} */", "/* /*{} */ ; */"],
            "mysql": ["-- {}\n", "# {}\n", "#{}\n", "--\t{}\n", "/*{} */", "/* {} */"]}  # fmt: skip
DELIMITERS = ["//", "$$", "|", "~~", "END_OF_IT"]


class Grammar:
    """Statements of one dialect. `source` is where the chance comes from."""

    def __init__(self, dialect: str, source: random.Random) -> None:
        self.dialect, self._source = dialect, source

    def _some(self, pieces: list[str], most: int) -> str:
        return "".join(self._source.choices(pieces, k=self._source.randint(0, most)))

    def string(self) -> str:
        """A literal with all that quotes have to protect."""
        text, form = self._some(NASTY, 6), self._source.randrange(6)
        tag = self._source.choice(["$$", "$t$", "$a_1$"])
        if self.dialect == "clickhouse" and form == 0 and tag not in text + "$":
            return tag + text.replace("$", "") + tag
        if form == 1:
            return self._source.choice(["x'41'", "X'6162'", "b'101'"])
        quote = '"' if self.dialect == "mysql" and form == 2 else "'"
        escape = self._source.choice([quote, "\\"])
        prefix = self._source.choice(["", "", "N", "_utf8mb4"]) if self.dialect == "mysql" and quote == "'" else ""
        return prefix + quote + text.replace("\\", "\\\\").replace(quote, escape + quote) + quote

    def name(self) -> str:
        text = "n" + self._some([piece for piece in NASTY if "\\" not in piece], 3).strip()
        if self.dialect == "mysql":
            return "`" + text.replace("`", "``").replace("\n", "") + "`"
        quote = self._source.choice(['"', "`"])
        return quote + text.replace(quote, quote * 2) + quote

    def blank(self) -> str:
        """What may stand between two words. `//*/` is left out: the client of MariaDB sees no end of a comment there."""
        if self._source.random() < 0.6:
            return self._source.choice([" ", "\n", "  ", "\t"])
        inside = self._some([piece for piece in NASTY if "*" not in piece and "\n" not in piece and "DELIMITER" not in piece], 4)
        return " " + self._source.choice(COMMENTS[self.dialect]).format(inside) + " "

    def expression(self, depth: int = 0) -> str:
        form, blank = self._source.randrange(9 if depth < 4 else 3), self.blank
        if form < 3:
            return [self.string(), str(self._source.randint(0, 99)), "1.5e3"][form]
        inner = [self.expression(depth + 1) for _ in range(self._source.randint(1, 3))]
        if form == 3:
            return f"({blank()}{inner[0]}{blank()})"
        if form == 4:
            return f"concat({blank()}{f'{blank()},{blank()}'.join(inner)})"
        if form == 5:
            return f"CASE{blank()}WHEN 1 THEN{blank()}{inner[0]}{blank()}ELSE{blank()}{inner[-1]}{blank()}END"
        if form == 6:
            return f"(SELECT{blank()}{inner[0]}{blank()}AS{blank()}{self.name()})"
        if form == 7 and self.dialect == "clickhouse":
            return f"[{','.join(inner)}]"
        return f"{inner[0]}{blank()}={blank()}{inner[-1]}"

    def statement(self) -> str:
        """Without a delimiter behind it, and without a blank or comment around it."""
        form, blank = self._source.randrange(5), self.blank
        if form == 0:
            return f"SELECT{blank()}{self.expression()}{blank()}AS{blank()}{self.name()}"
        if form == 1:
            rows = f"{blank()},{blank()}".join(f"({self.string()}, {self.string()})" for _ in range(self._source.randint(1, 4)))
            return f"INSERT INTO{blank()}{self.name()} (a, b){blank()}VALUES{blank()}{rows}"
        if form == 2:
            return f"CREATE TABLE{blank()}{self.name()} ({self.name()} Int COMMENT 'a;b'{blank()},{blank()}c Int)" + (
                f"{blank()}ENGINE = Memory COMMENT 'it''s; {'c' * form}'" if self.dialect == "clickhouse" else " COMMENT 'c;'")
        if form == 3:
            return f"DROP{blank()}TABLE{blank()}IF EXISTS{blank()}{self.name()}"
        unions = f"{blank()}UNION ALL{blank()}".join(f"SELECT{blank()}{self.expression(2)}" for _ in range(2))
        return f"SELECT * FROM ({unions}){blank()}AS{blank()}u"

    def program(self) -> str:
        """A stored program of MySQL, with statements and blocks in it."""
        return f"CREATE PROCEDURE p(){self.blank()}{self._block(0)}"

    def _block(self, depth: int) -> str:
        return f"BEGIN{self.blank()}{''.join(self._inside(depth))}END"

    def _inside(self, depth: int) -> Iterator[str]:
        for _ in range(self._source.randint(1, 3)):
            form = self._source.randrange(6 if depth < 3 else 1)
            yield [self.statement, lambda: self._block(depth + 1), lambda: f"IF 1 THEN{self.blank()}{''.join(self._inside(depth + 1))}END IF",
                   lambda: f"l{depth}: LOOP{self.blank()}{''.join(self._inside(depth + 1))}LEAVE l{depth}; END LOOP",
                   lambda: f"CASE 1 WHEN 1 THEN{self.blank()}{''.join(self._inside(depth + 1))}END CASE",
                   lambda: f"WHILE 0 DO{self.blank()}{''.join(self._inside(depth + 1))}END WHILE"][form]() + f";{self.blank()}"

    def file(self, number: int) -> tuple[str, list[str]]:
        """A file of so many statements, and these; on MySQL under changing delimiters."""
        text, statements, delimiter = "", list[str](), ";"
        for _ in range(number):
            is_program = self.dialect == "mysql" and self._source.random() < 0.3
            statement = self.program() if is_program else self.statement()
            if is_program or self._source.random() < 0.2 * (self.dialect == "mysql"):
                # The client looks for its delimiter in quotes too, when one of them begins with it.
                possible = [one for one in DELIMITERS if not set(one) & set(statement) or one == "END_OF_IT"]
                delimiter = self._source.choice(possible)
                text += f"\n{self._source.choice(['DELIMITER', 'delimiter'])} {delimiter}\n"
            elif delimiter != ";":
                delimiter = ";"
                text += "\nDELIMITER ;\n"
            statements.append(statement)
            text += f"{statement}\n{delimiter}\n"
        return text, statements
