"""What all parts of the parser share: a place in the lexemes, names, types, and how errors are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from core import limits
from cql_lite import lexer
from cql_lite.ast import At, Marker, Name, QualifiedName, Type
from cql_lite.lexer import END, CqlSyntaxError, Lexemes, meant, unquoted

RESERVED: Final = frozenset(
    ["ADD", "ALLOW", "ALTER", "AND", "APPLY", "ASC", "AUTHORIZE", "BATCH", "BEGIN", "BY", "COLUMNFAMILY"]
    + ["CREATE", "DELETE", "DESC", "DESCRIBE", "DROP", "ENTRIES", "EXECUTE", "FALSE", "FROM", "FULL", "GRANT"]
    + ["IF", "IN", "INDEX", "INFINITY", "INSERT", "INTO", "IS", "KEYSPACE", "LIMIT", "MATERIALIZED"]
    + ["MODIFY", "NAN", "NORECURSIVE", "NOT", "NULL", "OF", "ON", "OR", "ORDER", "PRIMARY", "RENAME"]
    + ["REVOKE", "SCHEMA", "SELECT", "SET", "TABLE", "TO", "TOKEN", "TRUE", "TRUNCATE", "UNLOGGED"]
    + ["UPDATE", "USE", "USING", "VIEW", "WHERE", "WITH"]
)
"""Words that are names only between double quotes; all others, known or not, are names as they stand."""

_PARAMETERS: Final = {"list": 1, "set": 1, "map": 2, "frozen": 1, "vector": 2, "tuple": 0}
"""Types with parameters, and how many there are (0: one or more)."""

_WORDS: Final = re.compile(r"\b[A-Z]{2,}\b")

_Item = TypeVar("_Item")


_NO_JOINS: Final = "there are no joins: read one table after the other, or keep what is read together in one"
_OF_SQL: Final = {
    **dict.fromkeys(("JOIN", "INNER", "LEFT", "RIGHT", "OUTER", "CROSS", ","), _NO_JOINS),
    "HAVING": "groups are not filtered: do so where you read them",
    "OFFSET": "there is no OFFSET: go on from the last row read, or by pages",
    "UNION": "there is no UNION: ask twice",
    "RETURNING": "nothing is returned but [applied], of statements with an IF",
    "ON": "to write over what is there is what INSERT does; IF NOT EXISTS keeps what is there",
}
"""What SQL has here and CQL has not."""

TIMEOUT_HINT: Final = "how long to wait is said to the driver, for each request"
"""What to say of ScyllaDB's USING TIMEOUT."""


class Cursor:
    """A place in a statement's lexemes; what was read so far is behind it."""

    def __init__(self, text: str) -> None:
        if len(text) > limits.STATEMENT_CHARS_MAX:
            found = f"a statement of {len(text)} characters, of at most {limits.STATEMENT_CHARS_MAX}"
            raise CqlSyntaxError(At(1, 1), found, "", "send it in parts, or its values as bound ones")
        most = limits.STATEMENT_LEXEMES_MAX
        self.lexemes = Lexemes(text, most)
        self.kinds = self.lexemes.kinds
        if self.kinds[-1:] != [END]:
            found = f"a statement of more than {most} words, constants and signs"
            raise CqlSyntaxError(At(1, 1), found, "", "send it in parts, or its values as bound ones")
        self.texts = self.lexemes.texts
        self.ups = self.lexemes.ups
        self.index = 0
        self.depth = 0
        self.markers: list[Marker] = []

    # --- errors

    def at(self) -> At:
        """Where the next lexeme stands."""
        return self.lexemes.at(self.index)

    def fail(self, expected: str, hint: str = "") -> NoReturn:
        """Complain about the next lexeme; words of `expected` in capitals may have been meant."""
        index = self.index
        word = self.texts[index]
        if not hint and self.kinds[index] == lexer.WORD:
            close = meant(word, _WORDS.findall(expected))
            if close and close != word.upper():
                hint = f"did you mean {close}?"
        raise CqlSyntaxError(self.at(), self.lexemes.shown(index), expected, hint)

    def wrong(self, at: At, what: str, hint: str = "") -> NoReturn:
        """Complain about something that was read already."""
        raise CqlSyntaxError(at, what, "", hint)

    def enter(self) -> None:
        """One level deeper; whoever calls this takes one from `depth` when done."""
        self.depth += 1
        if self.depth > limits.STATEMENT_DEPTH_MAX:
            what = f"this is nested more than {limits.STATEMENT_DEPTH_MAX} levels deep"
            self.wrong(self.at(), what, "bind the value with a marker instead")

    # --- words and symbols

    def accept(self, up: str) -> bool:
        """Read this keyword or symbol, if it comes next."""
        if self.ups[self.index] == up:
            self.index += 1
            return True
        return False

    def expect(self, up: str, after: str = "") -> None:
        """Read this keyword or symbol, or fail."""
        if self.ups[self.index] != up:
            self.fail(f"{up} after {after}" if after else up)
        self.index += 1

    def accept_words(self, *ups: str) -> bool:
        """Read these words, if all of them come next: IF NOT EXISTS."""
        index = self.index
        if self.ups[index : index + len(ups)] != list(ups):
            return False
        self.index += len(ups)
        return True

    def if_not_exists(self) -> bool:
        """Read IF NOT EXISTS, if it comes next."""
        return self._if("NOT", "EXISTS")

    def if_exists(self) -> bool:
        """Read IF EXISTS, if it comes next."""
        return self._if("EXISTS")

    def _if(self, *ups: str) -> bool:
        if self.ups[self.index] != "IF":
            return False
        self.index += 1
        for up in ups:
            self.expect(up, "IF")
        return True

    def end(self, following: str) -> None:
        """Nothing may come any more but a semicolon; `following` is what also might have."""
        ended = False
        while self.accept(";"):
            ended = True
        if self.kinds[self.index] != lexer.END:
            hint = _OF_SQL.get(self.ups[self.index], "")
            if self.ups[self.index : self.index + 2] == ["USING", "TIMEOUT"]:
                hint = TIMEOUT_HINT
            if ended:
                hint = "there is one statement in a request; send the next by itself"
            if self._touches_string():
                hint = "a quote within text is written twice: 'it''s'"
            self.fail(f"{'' if ended else following}the end of the statement", hint)

    def _touches_string(self) -> bool:
        """Whether a text ended right where the next lexeme begins: 'it's'."""
        before = self.index - 1
        end = self.lexemes.starts[before] + len(self.texts[before])
        return self.kinds[before] == lexer.STRING and end == self.lexemes.starts[self.index]

    def several(self, read: Callable[[], _Item], separator: str = ",") -> tuple[_Item, ...]:
        """One or more of something, with a separator between."""
        items = [read()]
        while self.ups[self.index] == separator:
            self.index += 1
            items.append(read())
        return tuple(items)

    # --- names

    def is_name(self, offset: int = 0) -> bool:
        """Whether a name comes next (or so many lexemes later)."""
        kind = self.kinds[min(self.index + offset, len(self.kinds) - 1)]
        if kind == lexer.WORD:
            return self.ups[self.index + offset] not in RESERVED
        return kind == lexer.QUOTED

    def ident(self, what: str) -> str:
        """Read a name: lowered, or as it stands between double quotes."""
        index = self.index
        kind = self.kinds[index]
        if kind == lexer.WORD and self.ups[index] not in RESERVED:
            self.index = index + 1
            return self.texts[index].lower()
        if kind == lexer.QUOTED:
            self.index = index + 1
            return unquoted(self.texts[index])
        hint = ""
        if kind == lexer.WORD:
            hint = f'this word is reserved; as a name it is written "{self.texts[index].lower()}"'
        elif kind == lexer.STRING:
            hint = 'names are written bare or in "double quotes"'
        elif self.ups[index] in ("?", ":"):
            hint = "names cannot be bound; only values can"
        return self.fail(what, hint)

    def name(self, what: str) -> Name:
        """Read a name, with its place."""
        at = self.at()
        return Name(self.ident(what), at)

    def qualified(self, what: str) -> QualifiedName:
        """Read [keyspace.]name."""
        at = self.at()
        first = self.ident(what)
        if self.ups[self.index] != ".":
            return QualifiedName("", first, at)
        self.index += 1
        return QualifiedName(first, self.ident(f"{what} after the keyspace and a point"), at)

    def role(self) -> Name:
        """Read a role's name, which may also stand between single quotes."""
        if self.kinds[self.index] == lexer.STRING:
            return Name(self.string("a role"), self.lexemes.at(self.index - 1))
        return self.name("a role")

    def string(self, what: str) -> str:
        """Read a text literal."""
        if self.kinds[self.index] != lexer.STRING:
            self.fail(what, "text is written in 'single quotes'")
        self.index += 1
        return unquoted(self.texts[self.index - 1])

    # --- types

    def type(self) -> Type:
        """Read a type."""
        at = self.at()
        return Type(self._type_text(), at)

    def _type_text(self) -> str:
        index = self.index
        kind = self.kinds[index]
        if kind == lexer.STRING:
            self.index += 1
            return self.texts[index] if self.texts[index][0] == "'" else f"'{unquoted(self.texts[index])}'"
        if kind == lexer.QUOTED:
            self.index += 1
            name = self.texts[index]
        elif kind == lexer.WORD and (self.ups[index] not in RESERVED or self.ups[index] == "SET"):
            self.index += 1
            name = self.texts[index].lower()
        else:
            self.fail("a type", "such as int, text, list<int> or frozen<a_type_of_yours>")
        if self.ups[self.index] == ".":
            self.index += 1
            dotted = self.ident("a type after the keyspace and a point")
            word = self.texts[self.index - 1]
            return f"{name}.{dotted if self.kinds[self.index - 1] == lexer.WORD else word}"
        if kind == lexer.QUOTED or name not in _PARAMETERS:
            if self.ups[self.index] == "<":
                self.fail(f"no parameters after {name}", "list, set, map, tuple, vector and frozen have some")
            return name
        return self._parameters(name)

    def _parameters(self, name: str) -> str:
        self.expect("<", name)
        self.enter()
        parts = [self._type_text()]
        while self.accept(","):
            if name == "vector" and self.kinds[self.index] == lexer.INTEGER:
                parts.append(self.texts[self.index])
                self.index += 1
            else:
                parts.append(self._type_text())
        wanted = _PARAMETERS[name]
        if wanted and len(parts) != wanted:
            self.fail(f"{wanted} parameters of {name}" if wanted > 1 else f"one parameter of {name}")
        self.expect(">", f"the parameters of {name}")
        self.depth -= 1
        return f"{name}<{', '.join(parts)}>"
