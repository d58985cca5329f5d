"""The part of the parser that reads expressions: values, and in projections columns too.

One grammar serves both; where only values may stand (`columns` is False) a bare name is an error that says
how text is written, for that is what was meant most of the time. An expression is bounded in height, so that
whoever walks it may recurse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core import limits
from cql_lite import lexer
from cql_lite.ast import (
    BLOB,
    BOOLEAN,
    DURATION,
    FLOAT,
    INTEGER,
    NULL,
    STRING,
    UUID,
    Arithmetic,
    At,
    Cast,
    ColumnRef,
    ElementAccess,
    Expression,
    FieldAccess,
    FunctionCall,
    ListLiteral,
    Literal,
    MapLiteral,
    Marker,
    Name,
    Negation,
    SetLiteral,
    SliceAccess,
    Star,
    TupleLiteral,
    TypeHint,
    UdtLiteral,
)
from cql_lite.lexer import unquoted
from cql_lite.parse_base import RESERVED, Cursor

_CONSTANTS: Final = {
    lexer.INTEGER: INTEGER,
    lexer.FLOAT: FLOAT,
    lexer.UUID: UUID,
    lexer.BLOB: BLOB,
    lexer.DURATION: DURATION,
}
_SIGNED: Final = frozenset([lexer.INTEGER, lexer.FLOAT, lexer.DURATION])
_WORDS: Final = {
    "NULL": (NULL, "null"),
    "TRUE": (BOOLEAN, "true"),
    "FALSE": (BOOLEAN, "false"),
    "NAN": (FLOAT, "NaN"),
    "INFINITY": (FLOAT, "Infinity"),
}
_NEGATIVE: Final = {"NAN": "NaN", "INFINITY": "-Infinity"}
_FACTORS, _SUMMANDS = frozenset(["*", "/", "%"]), frozenset(["+", "-"])
_HINTED: Final = frozenset(
    ["ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "int"]
    + ["smallint", "text", "time", "timestamp", "timeuuid", "tinyint", "uuid", "varchar", "varint", "json"]
)
_TEXT_HINT: Final = "text is written in 'single quotes'"


class Terms(Cursor):
    """Reads expressions."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.columns = False
        self._height = 0
        """Of the expression read last."""

    def value(self) -> Expression:
        """Read a value."""
        if self.columns:
            self.columns = False
            found = self._expression()
            self.columns = True
            return found
        return self._expression()

    def selected(self) -> Expression:
        """Read an expression in which columns may stand."""
        self.columns = True
        found = self._expression()
        self.columns = False
        return found

    def number(self, what: str) -> Expression:
        """Read a whole number or a marker: LIMIT, TTL, TIMESTAMP."""
        if self.ups[self.index] in ("?", ":"):
            return self.marker()
        at = self.at()
        sign = "-" if self.accept("-") else ""
        if self.kinds[self.index] != lexer.INTEGER:
            self.fail(f"a whole number, or ? to bind one, {what}")
        self.index += 1
        return Literal(INTEGER, sign + self.texts[self.index - 1], at)

    def marker(self) -> Marker:
        """Read a bind marker."""
        at = self.at()
        name = ""
        if not self.accept("?"):
            self.expect(":")
            name = self.ident("the name of a bind marker")
        made = Marker(len(self.markers), name, at)
        self.markers.append(made)
        return made

    # --- operators

    def _expression(self) -> Expression:
        self.enter()
        left = self._product()
        while (operator := self.ups[self.index]) in _SUMMANDS and not self._is_other_plus():
            left = self._applied(operator, left, self._product)
        self.depth -= 1
        return left

    def _is_other_plus(self) -> bool:
        """Whether `+ c` follows, where only values may stand: SET c = [..] + c, which UPDATE reads."""
        return not self.columns and self.is_name(1) and self.ups[self.index + 2] not in ("(", ".")

    def _product(self) -> Expression:
        left = self._signed()
        while (operator := self.ups[self.index]) in _FACTORS:
            left = self._applied(operator, left, self._signed)
        return left

    def _applied(self, operator: str, left: Expression, read: Callable[[], Expression]) -> Expression:
        at = self.at()
        self.index += 1
        height = self._height
        right = read()
        self._higher(max(height, self._height), at)
        return Arithmetic(operator, _operand(left), _operand(right), at)

    def _higher(self, below: int, at: At) -> None:
        self._height = below + 1
        if self._height > limits.STATEMENT_DEPTH_MAX:
            what = f"this expression is more than {limits.STATEMENT_DEPTH_MAX} operations deep"
            self.wrong(at, what, "compute it before and bind the result")

    def _signed(self) -> Expression:
        if self.ups[self.index] != "-":
            return self._postfixed()
        at = self.at()
        self.index += 1
        kind, text, up = self.kinds[self.index], self.texts[self.index], self.ups[self.index]
        if kind in _SIGNED and self.ups[self.index + 1] not in ("[", "."):
            self.index += 1
            self._height = 0
            return Literal(_CONSTANTS[kind], f"-{text}", at)
        if up in _NEGATIVE:
            self.index += 1
            self._height = 0
            return Literal(FLOAT, _NEGATIVE[up], at)
        self.enter()
        term = self._signed()
        self.depth -= 1
        self._higher(self._height, at)
        return Negation(_operand(term), at)

    def _postfixed(self) -> Expression:
        found = self._primary()
        if not self.columns:
            return found
        while (up := self.ups[self.index]) in ("[", "."):
            at = self.at()
            self.index += 1
            height = self._height
            if up == ".":
                found = FieldAccess(found, self.ident("a field after the point"), at)
            else:
                found = self._element(found, at)
                height = max(height, self._height)
            self._higher(height, at)
        return found

    def _element(self, of: Expression, at: At) -> Expression:
        first = None if self.ups[self.index] == ".." else self.value()
        if not self.accept(".."):
            self.expect("]", "the key")
            assert first is not None
            return ElementAccess(of, first, at)
        last = None if self.ups[self.index] == "]" else self.value()
        if first is None and last is None:
            self.fail("a key before or after ..")
        self.expect("]", "the slice")
        return SliceAccess(of, first, last, at)

    # --- what operators apply to

    def _primary(self) -> Expression:
        index = self.index
        kind = self.kinds[index]
        self._height = 0
        if kind == lexer.WORD:
            return self._word()
        if kind == lexer.STRING:
            self.index = index + 1
            return Literal(STRING, unquoted(self.texts[index]), self.lexemes.at(index))
        if kind in _CONSTANTS:
            self.index = index + 1
            return Literal(_CONSTANTS[kind], self.texts[index], self.lexemes.at(index))
        up = self.ups[index]
        if up in ("?", ":"):
            return self.marker()
        if up == "(":
            return self._parenthesised()
        if up == "[":
            return self._list()
        if up == "{":
            return self._braced()
        if kind == lexer.QUOTED:
            return self._named()
        if up == "*" and self.columns:
            return self.fail("a column, a function or a value", "* stands alone: SELECT * FROM ...")
        return self.fail("a column, a function or a value" if self.columns else "a value")

    def _word(self) -> Expression:
        index = self.index
        up = self.ups[index]
        constant = _WORDS.get(up)
        if constant is not None:
            self.index = index + 1
            return Literal(constant[0], constant[1], self.lexemes.at(index))
        if up == "CAST" and self.ups[index + 1] == "(":
            return self._cast()
        if up == "TOKEN" and self.ups[index + 1] == "(":
            self.index = index + 1
            return self._call("", "token", self.lexemes.at(index))
        if up in RESERVED:
            what = "a column, a function or a value" if self.columns else "a value"
            hint = f'this word is reserved; as a name it is written "{up.lower()}"' if self.columns else ""
            self.fail(what, hint)
        return self._named()

    def _named(self) -> Expression:
        """A column or a function; outside of projections a function."""
        start, at = self.index, self.at()
        name = self.ident("a name")
        if self.ups[self.index] == "(":
            return self._call("", name, at)
        if self.ups[self.index] == "." and self.is_name(1) and self.ups[self.index + 2] == "(":
            self.index += 1
            return self._call(name, self.ident("a function"), at)
        if self.columns:
            return ColumnRef(name, at)
        self.index = start
        return self.fail("a value", _TEXT_HINT)

    def _call(self, keyspace: str, name: str, at: At) -> Expression:
        self.index += 1
        if self.accept(")"):
            return FunctionCall(name, (), keyspace, at)
        if self.ups[self.index] == "*" and name == "count":
            star = Star(self.at())
            self.index += 1
            self.expect(")", "count(*")
            return FunctionCall(name, (star,), keyspace, at)
        arguments = self._items(f"the arguments of {name}", ")")
        return FunctionCall(name, arguments, keyspace, at)

    def _cast(self) -> Expression:
        at = self.at()
        self.index += 2
        term = self._expression()
        height = self._height
        self.expect("AS", "what is cast")
        type_ = self.type()
        self.expect(")", "the type")
        self._higher(height, at)
        return Cast(_operand(term), type_, at)

    def _items(self, what: str, closing: str) -> tuple[Expression, ...]:
        """Expressions up to a closing symbol, one at least."""
        items = [self._expression()]
        height = self._height
        while self.accept(","):
            items.append(self._expression())
            height = max(height, self._height)
        if self.ups[self.index] != closing:
            self.fail(f"a comma or {closing} after {what}", self._after_value())
        self.index += 1
        self._higher(height, self.at())
        return tuple(items)

    def _after_value(self) -> str:
        """What may have gone wrong where a value ended too soon."""
        if self._touches_string():
            return "a quote within text is written twice: 'it''s'"
        return ""

    def _list(self) -> Expression:
        at = self.at()
        self.index += 1
        if self.accept("]"):
            return ListLiteral((), at)
        return ListLiteral(self._items("an element of the list", "]"), at)

    def _parenthesised(self) -> Expression:
        at = self.at()
        hint = self._type_hint(at)
        if hint is not None:
            return hint
        self.index += 1
        return TupleLiteral(self._items("what is in parentheses", ")"), at)

    def _type_hint(self, at: At) -> Expression | None:
        """(type) term: what is in parentheses reads as a type, and a term follows."""
        start = self.index
        if self.kinds[start + 1] not in (lexer.WORD, lexer.QUOTED, lexer.STRING):
            return None
        following = self.ups[start + 2]
        if following not in ("<", ".", ")"):
            return None
        closing = self._closing_of_type(start + 1)
        if closing == 0:
            return None
        native = following == "<" or self.texts[start + 1].lower() in _HINTED
        if not self._begins_term(closing + 1, native):
            return None
        self.index = start + 1
        type_ = self.type()
        self.expect(")", "the type")
        self.enter()
        term = self._signed() if self.ups[self.index] == "-" else self._primary()
        self.depth -= 1
        self._higher(self._height, at)
        return TypeHint(type_, _operand(term), at)

    def _closing_of_type(self, index: int) -> int:
        """Where the parenthesis is that closes (type), or 0 if this is no type."""
        open_brackets = 0
        for place in range(index, min(index + 1_000, len(self.ups))):
            up, kind = self.ups[place], self.kinds[place]
            if up == ")":
                return place if open_brackets == 0 else 0
            open_brackets += (up == "<") - (up == ">")
            if kind not in (lexer.WORD, lexer.QUOTED, lexer.STRING, lexer.INTEGER) and up not in "<>,.":
                return 0
        return 0

    def _begins_term(self, index: int, native: bool) -> bool:
        kind, up = self.kinds[index], self.ups[index]
        if kind in _CONSTANTS or kind == lexer.STRING or up in ("?", "{") or up in _WORDS:
            return True
        if up == ":":  # of a marker, as its name touches it, or of a map with a tuple for a key
            return self.lexemes.starts[index + 1] == self.lexemes.starts[index] + 1
        if up in ("-", "(", "["):
            return native
        return kind in (lexer.WORD, lexer.QUOTED) and self.ups[index + 1] == "(" and up not in ("IN", "AND")

    def _braced(self) -> Expression:
        """A set, a map, or a value of a user type."""
        at = self.at()
        self.index += 1
        if self.accept("}"):
            return SetLiteral((), at)
        if self.is_name() and self.ups[self.index + 1] == ":":
            return self._udt(at)
        first = self._expression()
        height = self._height
        if not self.accept(":"):
            if self.accept("}"):
                self._higher(height, at)
                return SetLiteral((first,), at)
            self.expect(",", "an element of the set")
            items = (first, *self._items("an element of the set", "}"))
            self._higher(max(height, self._height - 1), at)
            return SetLiteral(items, at)
        entries = [(first, self._expression())]
        height = max(height, self._height)
        while self.accept(","):
            key = self._expression()
            height = max(height, self._height)
            self.expect(":", "a key of the map")
            entries.append((key, self._expression()))
            height = max(height, self._height)
        self._close("}", "a value of the map")
        self._higher(height, at)
        return MapLiteral(tuple(entries), at)

    def _udt(self, at: At) -> Expression:
        fields: list[tuple[Name, Expression]] = []
        height = 0
        while True:
            name = self.name("a field")
            self.expect(":", "a field")
            fields.append((name, self._expression()))
            height = max(height, self._height)
            if not self.accept(","):
                break
        self._close("}", "a field's value")
        self._higher(height, at)
        return UdtLiteral(tuple(fields), at)

    def _close(self, closing: str, what: str) -> None:
        if self.ups[self.index] != closing:
            self.fail(f"a comma or {closing} after {what}", self._after_value())
        self.index += 1


def _operand(term: Expression) -> Expression:
    """An operand without parentheses around it."""
    while isinstance(term, TupleLiteral) and len(term.items) == 1:
        term = term.items[0]
    return term
