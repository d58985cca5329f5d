"""Small conditions for the command line, as the documents' filter language.

    year > 2000 and not (genre = 'drama' or cast.name in ('Kim', 'Lee')) and title ~ '^The' and plot exists

    condition   = term {"or" term}          term    = factor {"and" factor}
    factor      = "not" factor | "(" condition ")" | path test
    test        = ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") literal | "~" text
                | ["not"] "in" "(" literal {"," literal} ")" | ["not"] "exists" | "is" ["not"] "null"
    path        = name {"." (name | number)}; names that are no words stand in `backticks`
    literal     = number | 'text' | "text" | true | false | null

In a text a quote is written twice. What begins with { is a filter in JSON and taken as it is. A condition
means what query/document_filter.py says: a comparison is never true of a value of another type.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from core.json_values import JsonError, parse, render
from query.document_filter import parse_filter
from query.refusals import Refusal

DEPTH_MAX: Final = 30
CHARS_MAX: Final = 16_384
_COMPARED: Final = {
    "=": "$eq", "==": "$eq", "!=": "$ne", "<>": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte",
}  # fmt: skip
_WORDS: Final = ("and", "or", "not", "in", "exists", "is", "null", "true", "false")
_LEXEME: Final = re.compile(
    r"""\s*(?:
      (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<path>(?:[^\W\d][\w-]*|`[^`]+`)(?:\.(?:[\w-]+|`[^`]+`))*)
    | (?P<sign><=|>=|==|!=|<>|[=<>~(),])
    )""",
    re.VERBOSE,
)


class WhereError(Exception):
    """The condition is none; the text says where and why."""


class _Lexeme(NamedTuple):
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """In lower case, if it is a word of the language."""
        low = self.text.lower()
        return low if self.kind == "path" and low in _WORDS else ""


def filter_of(text: str) -> str:
    """The filter of a condition, as JSON; raises WhereError."""
    if len(text) > CHARS_MAX:
        raise WhereError(f"a condition has at most {CHARS_MAX:,} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WhereError("the condition is not UTF-8") from None
    if text.lstrip().startswith("{"):
        found = text.strip()
    else:
        found = render(_Parser(text).whole()).decode()
    try:
        value = parse(found.encode())
        refused = parse_filter(value)
    except JsonError as error:
        raise WhereError(f"the filter is no JSON: {error}") from None
    if isinstance(refused, Refusal):
        raise WhereError(refused.text)
    return render(value).decode()


def _lexemes(text: str) -> list[_Lexeme]:
    found, at = [], 0
    while text[at:].strip():
        match = _LEXEME.match(text, at)
        if match is None or match.lastgroup is None:
            begin = at + len(text[at:]) - len(text[at:].lstrip())
            raise WhereError(_pointed(text, begin, "this is nothing that a condition has"))
        kind = match.lastgroup
        found.append(_Lexeme(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*found, _Lexeme("end", "", len(text))]


def _pointed(text: str, at: int, why: str) -> str:
    shown = text[at : at + 20]
    return f"--where, character {at + 1}: {why}; found {shown!r}" if shown else f"--where ends early: {why}"


class _Parser:
    """By recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lexemes = _lexemes(text)
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Lexeme:
        return self._lexemes[self._at]

    def _wrong(self, why: str) -> WhereError:
        return WhereError(_pointed(self._text, self._next.at, why))

    def _took(self, *signs: str) -> str:
        """The next lexeme if it is one of these signs or words."""
        lexeme = self._next
        found = lexeme.word or (lexeme.text if lexeme.kind == "sign" else "")
        if found and found in signs:
            self._at += 1
            return found
        return ""

    def whole(self) -> dict[str, Any]:
        """The filter of all of it."""
        found = self._either()
        if self._next.kind != "end":
            raise self._wrong("expected and, or, or the end")
        return found

    def _either(self) -> dict[str, Any]:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(f"conditions nest at most {DEPTH_MAX} deep")
        found = [self._both()]
        while self._took("or"):
            found.append(self._both())
        self._depth -= 1
        return found[0] if len(found) == 1 else {"$or": found}

    def _both(self) -> dict[str, Any]:
        found = [self._factor()]
        while self._took("and"):
            found.append(self._factor())
        return found[0] if len(found) == 1 else {"$and": found}

    def _factor(self) -> dict[str, Any]:
        negations = 0
        while self._took("not"):
            negations += 1
        if self._took("("):
            found = self._either()
            if not self._took(")"):
                raise self._wrong("expected )")
        else:
            found = self._test()
        return {"$nor": [found]} if negations % 2 else found

    def _test(self) -> dict[str, Any]:
        lexeme = self._next
        if lexeme.kind != "path" or lexeme.word:
            raise self._wrong("expected a field, as in year > 2000")
        self._at += 1
        path = lexeme.text.replace("`", "")
        if self._took("is"):
            name = "$ne" if self._took("not") else "$eq"
            if not self._took("null"):
                raise self._wrong("expected null after is")
            return {path: {name: None}}
        if self._took("~"):
            pattern = self._literal()
            if not isinstance(pattern, str):
                raise self._wrong("~ takes a regular expression in quotes")
            return {path: {"$regex": pattern}}
        negated = bool(self._took("not"))
        if self._took("exists"):
            return {path: {"$exists": not negated}}
        if self._took("in"):
            return {path: {"$nin" if negated else "$in": self._several()}}
        sign = "" if negated else self._took(*_COMPARED)
        if not sign:
            raise self._wrong(f"expected a comparison (= != < <= > >= ~), in, exists or is after {path}")
        return {path: {_COMPARED[sign]: self._literal()}}

    def _several(self) -> list[Any]:
        if not self._took("("):
            raise self._wrong("expected ( after in")
        found = [self._literal()]
        while self._took(","):
            found.append(self._literal())
        if not self._took(")"):
            raise self._wrong("expected , or )")
        return found

    def _literal(self) -> Any:
        lexeme = self._next
        if lexeme.kind == "text":
            self._at += 1
            quote = lexeme.text[0]
            return lexeme.text[1:-1].replace(quote * 2, quote)
        if lexeme.kind == "number":
            try:
                found = parse(lexeme.text.encode())  # with all its digits, as in documents
            except JsonError as error:
                raise self._wrong(str(error)) from None
            self._at += 1
            return found
        word = self._took("true", "false", "null")
        if not word:
            raise self._wrong("expected a number, a text in quotes, true, false or null")
        return {"true": True, "false": False, "null": None}[word]
