"""Regular expressions of queries: Lucene's notation, as an expression over terms as they stand in an index.

    union  := concat { "|" concat }              repeat := atom { ? | * | + | {n} | {n,} | {n,m} }
    concat := { repeat }                         atom   := ( union ) | . | [class] | "text" | \\c | c

An expression is of whole terms, so `^` and `$` are ordinary characters. `\\d`, `\\w`, `\\s` and their
opposites are classes; `@` is any text. Of Lucene's optional operators `~` (complement), `&` (intersection),
`<1-9>` (interval) and `#` (nothing) are refused: with flags NONE they are ordinary characters, as is `@`.

What comes out is understood by the engine and by RE2 alike, both of which take time linear in a term. Sets of
characters are worked out here, as some stand otherwise in terms (index/encoding.py): a space as one other
character, a control character as two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from index.bounds import RefusedError
from index.encoding import SPACE, escaped, quoted
from query.regex import compiled

PATTERN_CHARS_MAX: Final = 1_000
DEPTH_MAX: Final = 50
REPEATS_MAX: Final = 1_000
FOLDED_MAX: Final = 512
"""Characters of one range whose other case is looked for."""

_LAST: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)
_OPTIONAL: Final = {"~": "COMPLEMENT", "&": "INTERSECTION", "<": "INTERVAL", ">": "INTERVAL", "#": "EMPTY"}
FLAGS: Final = ("ALL", "NONE", "ANYSTRING", "AUTOMATON", *dict.fromkeys(_OPTIONAL.values()))

Ranges = tuple[tuple[int, int], ...]

_DIGITS: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = (*_DIGITS, (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_BLANK: Final[Ranges] = ((0x09, 0x0D), (0x20, 0x20))
_NAMED: Final = {"d": _DIGITS, "w": _WORD, "s": _BLANK}


def term_regex(pattern: str, *, ignore_case: bool = False, flags: tuple[str, ...] = ("ALL",)) -> str:
    """The expression over terms; raises RefusedError with the position of what is wrong."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise RefusedError(f"a regular expression has at most {PATTERN_CHARS_MAX} characters")
    found = _Parser(pattern, ignore_case, flags).whole()
    program = _program(found)
    if isinstance(program, str):
        raise RefusedError(f"this regular expression is too large: {program}")
    return found


def wildcard_term_regex(pattern: str) -> str:
    """A pattern of `*`, `?` and backslashes as an expression over terms, whatever their case; raises
    RefusedError for one that is too long.
    """
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            parts.append(_set(_folded(_single(pattern[at]))))
        elif char == "*":
            parts.append("(?s:.*)")
        else:
            parts.append(_set(((0, _LAST),)) if char == "?" else _set(_folded(_single(char))))
        at += 1
    found = "".join(parts)
    program = _program(found)
    if isinstance(program, str):
        raise RefusedError(f"this pattern is too long where case does not matter: {program}")
    return found


def term_test(expression: str) -> Callable[[str], bool]:
    """Whether a whole term, escaped as in an index, is of an expression that one of these gave; raises
    ValueError for what no peer of this release asks.
    """
    program = _program(expression)
    if isinstance(program, str):
        raise ValueError(program)  # noqa: TRY004  # it says what is wrong with the expression
    return program


@lru_cache(128)
def _program(expression: str) -> Callable[[str], bool] | str:
    return compiled(rf"\A(?:{expression})\z", "s")


class _Parser:
    def __init__(self, text: str, ignore_case: bool, flags: tuple[str, ...]) -> None:
        self._text = text
        self._ignore_case = ignore_case
        self._flags = flags
        self._at = 0

    def whole(self) -> str:
        found = self._union(0)
        if self._at < len(self._text):
            raise self._wrong("`)` has no beginning")
        return found

    def _wrong(self, detail: str, at: int = -1) -> RefusedError:
        return RefusedError(f"{detail} in a regular expression", "", self._at if at < 0 else at)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _enabled(self, flag: str) -> bool:
        return "ALL" in self._flags or flag in self._flags

    def _union(self, depth: int) -> str:
        if depth > DEPTH_MAX:
            raise self._wrong(f"brackets are nested more than {DEPTH_MAX} deep")
        options = [self._concat(depth)]
        while self._peek() == "|":
            self._at += 1
            options.append(self._concat(depth))
        return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"

    def _concat(self, depth: int) -> str:
        parts: list[str] = []
        while self._peek() not in ("", "|", ")"):
            part = self._atom(depth)
            while self._peek() and self._peek() in "?*+{":
                part = f"(?:{part}){self._repeat()}"
            parts.append(part)
        return "".join(parts)

    def _repeat(self) -> str:
        begun_at = self._at
        sign = self._next()
        if sign != "{":
            return sign
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at : max(end, self._at)].partition(",")
        given = [each for each in (least, most) if each]
        good = least and all(each.isascii() and each.isdecimal() and len(each) < 5 for each in given)
        if end < 0 or not good or max(map(int, given)) > REPEATS_MAX:
            raise self._wrong(f"{{n}}, {{n,}} or {{n,m}} up to {REPEATS_MAX} belongs here", begun_at)
        if most and int(least) > int(most):
            raise self._wrong("the first number of {n,m} is the greater one", begun_at)
        self._at = end + 1
        return f"{{{int(least)}{comma}{int(most) if most else ''}}}"

    def _atom(self, depth: int) -> str:
        begun_at = self._at
        char = self._next()
        if char == "(":
            found = self._union(depth + 1)
            if self._peek() != ")":
                raise self._wrong("the bracket that opens here is not closed", begun_at)
            self._at += 1
            return f"(?:{found})"
        if char == "[":
            return self._class(begun_at)
        if char == ".":  # where there may be many, it does not matter that some stand as two
            return "(?s:.)" if self._peek() in ("*", "+") else _set(((0, _LAST),))
        if char == '"':
            end = self._text.find('"', self._at)
            if end < 0:
                raise self._wrong("the quote that opens here is not closed", begun_at)
            text, self._at = self._text[self._at : end], end + 1
            return "(?:" + "".join(self._literal(each) for each in text) + ")"
        if char == "\\":
            return self._escape(begun_at)
        if char in "?*+{":
            raise self._wrong(f"`{char}` has nothing before it", begun_at)
        if char == "@" and self._enabled("ANYSTRING"):
            return "(?s:.*)"
        if char in _OPTIONAL and self._enabled(_OPTIONAL[char]):
            raise self._wrong(f"`{char}` is not supported: escape it by a backslash", begun_at)
        return self._literal(char)

    def _literal(self, char: str) -> str:
        return _set(self._cased(_single(char)))

    def _cased(self, ranges: Ranges) -> Ranges:
        return _folded(ranges) if self._ignore_case else ranges

    def _escape(self, begun_at: int) -> str:
        if not self._peek():
            raise self._wrong("nothing follows the backslash", begun_at)
        char = self._next()
        if char.lower() in _NAMED:
            named = _NAMED[char.lower()]
            return _set(named if char.islower() else _complement(named))
        return self._literal(char)

    def _class(self, begun_at: int) -> str:
        negated = self._peek() == "^"
        self._at += negated
        found: list[tuple[int, int]] = []
        while self._peek() != "]":
            found += self._item(begun_at)
        self._at += 1
        if not found:
            raise self._wrong("a class is empty", begun_at)
        ranges = self._cased(tuple(found))
        ranges = _complement(ranges) if negated else ranges
        if not ranges:
            raise self._wrong("a class leaves nothing", begun_at)
        return _set(ranges)

    def _item(self, begun_at: int) -> Ranges:
        """A character, a range or a named class within brackets."""
        first = self._character(begun_at)
        if isinstance(first, tuple):
            return first
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return ((first, first),)
        self._at += 1
        last = self._character(begun_at)
        if isinstance(last, tuple) or last < first:
            raise self._wrong("this is no range of characters", begun_at)
        return ((first, last),)

    def _character(self, begun_at: int) -> int | Ranges:
        if not self._peek():
            raise self._wrong("the class that opens here is not closed", begun_at)
        char = self._next()
        if char != "\\":
            return ord(char)
        if not self._peek():
            raise self._wrong("nothing follows the backslash", begun_at)
        char = self._next()
        if char.lower() in _NAMED:
            named = _NAMED[char.lower()]
            return named if char.islower() else _complement(named)
        return ord(char)


# --- sets of characters


def _single(char: str) -> Ranges:
    return ((ord(char), ord(char)),)


def _folded(ranges: Ranges) -> Ranges:
    """With the other case of what has one."""
    found = list(ranges)
    for first, last in ranges:
        for code in range(first, min(last, first + FOLDED_MAX) + 1):
            cases = [ord(case) for case in (chr(code).lower(), chr(code).upper()) if len(case) == 1]
            found += [(case, case) for case in cases if case != code]
    return tuple(found)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _complement(ranges: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    at = 0
    for first, last in _merged(ranges):
        if at < first:
            found.append((at, first - 1))
        at = last + 1
    return (*found, (at, _LAST)) if at <= _LAST else tuple(found)


def _within(ranges: Iterable[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    cut = [(max(low, first), min(high, last)) for low, high in ranges]
    return [each for each in cut if each[0] <= each[1]]


def _set(ranges: Ranges) -> str:
    """One character of a set, as it stands in terms: a space is another one, a control character two."""
    merged = _merged(ranges)
    if len(merged) == 1 and merged[0][0] == merged[0][1]:
        code = merged[0][0]
        return quoted(escaped(chr(code))) if not _SURROGATES[0] <= code <= _SURROGATES[1] else "\ufffd"
    plain = _within(merged, 0x21, _SURROGATES[0] - 1) + _within(merged, _SURROGATES[1] + 1, _LAST)
    if _within(merged, 0x20, 0x20):
        plain.insert(0, (ord(SPACE), ord(SPACE)))
    control = [(low + 0x40, high + 0x40) for low, high in _within(merged, 0, 0x1F)]
    parts = [_bracketed(plain)] if plain else []
    parts += ["\x01" + _bracketed(control)] if control else []
    return parts[0] if len(parts) == 1 and not control else f"(?:{'|'.join(parts)})"


def _bracketed(ranges: list[tuple[int, int]]) -> str:
    def shown(code: int) -> str:
        char = chr(code)
        return char if char.isascii() and char.isalnum() else f"\\x{{{code:X}}}"

    found = "".join(shown(a) if a == b else f"{shown(a)}-{shown(b)}" for a, b in ranges)
    return f"[{found}]"
