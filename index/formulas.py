"""Formulas over numbers: what `bucket_script` and `bucket_selector` are given as their script.

    params.t_shirts / params.sales * 100          params.total > 200 && params.count >= 3

Numbers, `params.name`, `+ - * / %`, comparisons, `&& || !` and parentheses, and that is all: nothing is ever
executed. A condition is 1.0 or 0.0; what cannot be computed (a division by 0) is None.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from index.bounds import RefusedError

Formula = Callable[[Mapping[str, float]], float | None]
_Part = Callable[[Mapping[str, float]], float]
FORMULA_CHARS_MAX: Final = 1_000
DEPTH_MAX: Final = 30
_LEXEME: Final = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|params\.([A-Za-z_]\w*)"
    r"|params\[['\"]([^'\"]+)['\"]\]|(&&|\|\||[<>=!]=|[-+*/%<>!()]))",
    re.ASCII,
)
_LEVELS: Final[tuple[dict[str, Callable[[float, float], float]], ...]] = (
    {"||": lambda a, b: float(bool(a) or bool(b))},
    {"&&": lambda a, b: float(bool(a) and bool(b))},
    {"==": operator.eq, "!=": operator.ne},
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.truediv, "%": math.fmod},
)


@lru_cache(maxsize=64)
def compile_formula(text: str) -> Formula:
    """The formula as a function of its parameters; raises RefusedError."""
    part = _Parser(text).whole()

    def apply(values: Mapping[str, float]) -> float | None:
        try:
            found = float(part(values))
        except (ZeroDivisionError, OverflowError, ValueError):
            return None
        return found if math.isfinite(found) else None

    return apply


def names_in(text: str) -> tuple[str, ...]:
    """The parameters of a formula, each once; raises RefusedError."""
    parser = _Parser(text)
    parser.whole()
    return tuple(parser.names)


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > FORMULA_CHARS_MAX:
            raise RefusedError(f"a script has at most {FORMULA_CHARS_MAX} characters")
        self.names: dict[str, None] = {}
        self._lexemes: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip().removesuffix(";")
        while at < len(text):
            match = _LEXEME.match(text, at)
            if match is None:
                detail = (
                    "a script is numbers, params.name, + - * / %, comparisons, && || ! and parentheses"
                )
                raise RefusedError(f"{detail}; found {text[at : at + 20].strip()!r}", position=at)
            number, name, quoted, sign = match.groups()
            name = name or quoted
            self._lexemes.append(("number", number) if number else ("name", name) if name else ("sign", sign))
            at = match.end()
        self._at = 0

    def whole(self) -> _Part:
        found = self._level(0, 0)
        if self._at < len(self._lexemes):
            raise RefusedError(f"a script ends too late: found {self._lexemes[self._at][1]!r}")
        return found

    def _next(self) -> tuple[str, str]:
        return self._lexemes[self._at] if self._at < len(self._lexemes) else ("end", "the end")

    def _level(self, level: int, depth: int) -> _Part:
        if level == len(_LEVELS):
            return self._unary(depth)
        left = self._level(level + 1, depth)
        while self._next()[0] == "sign" and self._next()[1] in _LEVELS[level]:
            left = self._both(level, left, depth)
        return left

    def _both(self, level: int, left: _Part, depth: int) -> _Part:
        work = _LEVELS[level][self._next()[1]]
        self._at += 1
        right = self._level(level + 1, depth)
        return lambda values: work(left(values), right(values))

    def _unary(self, depth: int) -> _Part:
        if depth > DEPTH_MAX:
            raise RefusedError(f"a script is nested at most {DEPTH_MAX} deep")
        kind, text = self._next()
        self._at += 1
        if kind == "number":
            number = float(text)
            return lambda _: number
        if kind == "name":
            self.names[text] = None
            return lambda values: values[text]
        if text in ("-", "!"):
            inner = self._unary(depth + 1)
            if text == "-":
                return lambda values: -inner(values)
            return lambda values: float(not inner(values))
        if text == "(":
            inside = self._level(0, depth + 1)
            if self._next() != ("sign", ")"):
                raise RefusedError(f"a script lacks a ), found {self._next()[1]!r}")
            self._at += 1
            return inside
        raise RefusedError(f"a script has a number, params.name or ( here; found {text!r}")
