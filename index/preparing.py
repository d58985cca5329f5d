"""A document as the texts that an index engine is given: terms, already analyzed, joined by separators.

Where the positions of a value are consecutive, it is one string, which a tokenizer that splits at the
separator takes apart again, in machine code. Where they are not (terms at one position), a text is a list of
terms and positions. Both give the same postings as index/judging.py's `text_field`, but that values are
POSITION_GAP apart there and next but one here: to have the engine pass over as many positions would be to
give it more of them, in the text of all fields, than there are terms. Between the values of a path the engine
leaves that position itself; those of the text of all fields, which are many, are one string with holes, for
which less has to be allocated.

What a document holds is said by index/fields.py. Indexing asks that of thousands of documents a second, so
two things are done differently here, with the same outcome: what depends on a path alone is worked out once
per path, and one string or number alone at its path, which most values are, goes a short way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from index.analysis.analyzers import Analyzer
from index.encoding import (
    HOLE,
    LENGTH_TAG,
    PATH_END,
    SEPARATOR,
    SEVERAL_TAG,
    SPACE,
    TAGS,
    encoded,
    encoded_digits,
    encoded_number,
    escaped,
    exists_term,
    paths_above,
)
from index.fields import (
    Values,
    add_value,
    date_of,
    is_whole,
    whole_of,
)
from index.judging import POSITION_GAP
from index.mapping import ANY_VIEW, EXACT_CHARS_MAX, FieldRule, Rules
from index.query import ALL, BOOLEAN, DATE, EXACT, NUMBER, WHOLE

_GAP: Final = f"{SEPARATOR}{HOLE}{SEPARATOR}"
_EVERY: Final = exists_term("")
_LENGTH_OF_ALL: Final = ALL + PATH_END + LENGTH_TAG
_LENGTH_OF_WHOLE: Final = WHOLE + PATH_END + LENGTH_TAG

PATHS_KEPT: Final = 10_000
"""Paths whose parts are remembered; beyond that all are forgotten, so strange names cost time only."""

KEPT_CHARS_MAX: Final = 24
ONES_KEPT: Final = 10_000
"""The same of short strings at their paths."""


class Text(NamedTuple):
    """The text of one path: the terms of each value, joined, or (if not None) terms with positions,
    ascending; and how many terms.
    """

    values: list[str]
    tokens: list[tuple[str, int]] | None
    length: int


class _One(NamedTuple):
    """What one string at a path comes to: terms of values, joined; the path's text; its terms for the text
    of all fields, joined (None: not at positions 0, 1, 2, ...), and how many; its term as a whole value, or
    nothing.
    """

    terms: str
    text: tuple[str, Text] | None
    joined: str | None
    number: int
    whole: str


class Prepared(NamedTuple):
    """What is given to the engine: terms of values, joined; and per physical field a text."""

    terms: str
    texts: list[tuple[str, Text]]


NOTHING: Final = Prepared(_EVERY, [])
"""A document of which no field is known."""

Place = Callable[[str], tuple[str, str]]
"""The physical field of a path's text, and what its terms are prefixed by."""


class _Path:
    """What is known of a path, whatever stands there."""

    __slots__ = (
        "analyzer",
        "date",
        "exact",
        "existing",
        "is_plain",
        "length",
        "number",
        "ones",
        "place",
        "rule",
        "start",
    )

    def __init__(self, path: str, rule: FieldRule) -> None:
        self.rule = rule
        self.analyzer = rule.analyzer
        self.is_plain = rule.views is ANY_VIEW
        self.start = escaped(path) + PATH_END
        self.exact = self.start + TAGS[EXACT]
        self.date = self.start + TAGS[DATE]
        self.number = self.start + TAGS[NUMBER]
        self.length = self.start + LENGTH_TAG
        self.existing = tuple(exists_term(above) for above in paths_above(path))
        self.place: tuple[str, str] | None = None
        self.ones: dict[str, _One] = {}


class Preparer:
    """Prepares documents of one index, by its rules; `place` gives a path the same place every time."""

    def __init__(self, rules: Rules, place: Place) -> None:
        self._rules = rules
        self._place = place
        self._analyzer = rules.default_analyzer
        self._keeps = self._analyzer.keeps_digits
        self._paths: dict[str, _Path] = {}
        self._kept = 0

    def prepare(self, document: Any) -> Prepared:
        """All terms of a document (a JSON value)."""
        found: dict[str, Any] = {}
        _collect(found, "", document)
        made = _Made()
        terms, strings, parts = made.terms, made.strings, made.parts
        known = {_EVERY}
        paths, keeps = self._paths, self._keeps
        for name, value in found.items():
            path = paths.get(name)
            if path is None:
                path = self._path(name)
            if not path.rule.views:
                continue
            kind = type(value)
            if kind is str and path.is_plain:
                one = path.ones.get(value) if len(value) <= KEPT_CHARS_MAX else None
                if one is None:
                    one = self._string(name, path, value)
                its_terms, text, joined, number, whole = one
                if its_terms:
                    terms.append(its_terms)
                if text is not None:
                    made.texts.append(text)
                strings.append(value)
                if joined is None:
                    made.is_flat = False
                elif number:
                    made.length += number
                    parts.append(joined)
                if whole:
                    made.wholes.append(whole)
            elif (kind is int or kind is float) and path.is_plain:
                text_of_it = str(value)
                if kind is int and value > 0 and keeps:
                    terms.append(path.number + encoded_digits(text_of_it))
                    strings.append(text_of_it)
                    made.length += 1
                    parts.append(text_of_it)
                else:
                    terms.append(path.number + encoded_number(value))
                    self._add(made, text_of_it)
            elif not self._values(made, name, path, value if kind is list else [value]):
                continue
            for above in path.existing:
                if above in known:
                    break
                known.add(above)
                terms.append(above)
        whole_text = made.whole(self._analyzer)
        if whole_text.length:
            made.texts.append(("all", whole_text))
            terms.append(f"{_LENGTH_OF_ALL}{whole_text.length}")
        if made.wholes:
            made.texts.append(("whole", Text([SEPARATOR.join(made.wholes)], None, len(made.wholes))))
            terms.append(f"{_LENGTH_OF_WHOLE}{len(made.wholes)}")
        return Prepared(SEPARATOR.join(terms), made.texts)

    def _path(self, name: str) -> _Path:
        if len(self._paths) >= PATHS_KEPT:
            self._paths.clear()
            self._kept = 0
        is_ours = name in (ALL, WHOLE)
        rule = FieldRule((), self._analyzer, self._analyzer) if is_ours else self._rules.field(name)
        path = self._paths[name] = _Path(name, rule)
        return path

    def _add(self, made: _Made, text: str) -> None:
        """A value for the text of all fields."""
        made.add(text, self._analyzer.flat(text))

    def _string(self, name: str, path: _Path, value: str) -> _One:
        """One string by the rule of most fields. Short ones come again and again."""
        one = self._one(name, path, value)
        if len(value) <= KEPT_CHARS_MAX:
            if self._kept >= ONES_KEPT:
                self._kept = 0
                for each in self._paths.values():
                    each.ones.clear()
            self._kept += 1
            path.ones[value] = one
        return one

    def _one(self, name: str, path: _Path, value: str) -> _One:
        terms: list[str] = []
        if len(value) <= EXACT_CHARS_MAX:
            plain = value.isascii() and value.isprintable()
            terms.append(path.exact + (value.replace(" ", SPACE) if plain else escaped(value)))
        if value[-4:].isdecimal() or value[:4].isdecimal():
            at_us = date_of(value)
            date = None if at_us is None else encoded(DATE, at_us)
            if date is not None:
                terms.append(path.date + date)
        analyzer = path.analyzer
        flat = analyzer.flat(value)
        joined = None if flat is None else SEPARATOR.join(flat)
        text: tuple[str, Text] | None = None
        if flat is None or flat:
            place = path.place
            if place is None:
                place = path.place = self._place(name)
            physical, prefix = place
            if joined is None or prefix:
                made = text_of([value], analyzer, prefix)
            else:
                made = Text([joined], None, len(flat or ()))
            if made.length:
                text = (physical, made)
                terms.append(f"{path.length}{made.length}")
        if flat is None or not analyzer.keeps_digits:
            whole = escaped(whole_of(value))
        else:  # these are the words
            whole = SPACE.join(flat) if is_whole(value, flat) else ""
        if analyzer is not self._analyzer:
            flat = self._analyzer.flat(value)
            joined = None if flat is None else SEPARATOR.join(flat)
        return _One(SEPARATOR.join(terms), text, joined, len(flat or ()), whole)

    def _values(self, made: _Made, name: str, path: _Path, given: list[Any]) -> bool:
        """Whatever stands at a path; False if nothing of it is indexed."""
        values = Values()
        for value in given:
            add_value(values, value, path.rule)
        if not values.any():
            return False
        for view, some in (
            (EXACT, values.exact),
            (NUMBER, values.numbers),
            (DATE, values.dates),
            (BOOLEAN, values.booleans),
        ):
            if some:
                tag = path.start + TAGS[view]
                different = dict.fromkeys(encoded(view, value) for value in some)
                made.terms += [tag + term for term in different if term is not None]
        if len(values.exact) + len(values.numbers) + len(values.booleans) > 1 or len(values.dates) > 1:
            made.terms.append(path.start + SEVERAL_TAG)
        if values.text:
            self._text(made, name, path, values.text)
        for text in values.text:
            made.add_whole(text)
        for text in (*values.text, *map(str, values.numbers)):
            self._add(made, text)
        return True

    def _text(self, made: _Made, name: str, path: _Path, values: list[str]) -> None:
        if path.place is None:
            path.place = self._place(name)
        physical, prefix = path.place
        text = text_of(values, path.analyzer, prefix)
        if text.length:
            made.texts.append((physical, text))
            made.terms.append(f"{path.length}{text.length}")


class _Made:
    """What has been made of a document so far. The text of all fields together is that of `strings`; `parts`
    are the terms of each, joined, and `length` how many, as long as all are at positions 0, 1, 2, ...
    (`is_flat`).
    """

    __slots__ = ("is_flat", "length", "parts", "strings", "terms", "texts", "wholes")

    def __init__(self) -> None:
        self.terms = [_EVERY]
        self.texts: list[tuple[str, Text]] = []
        self.wholes: list[str] = []
        self.strings: list[str] = []
        self.parts: list[str] = []
        self.length = 0
        self.is_flat = True

    def add(self, text: str, flat: list[str] | None) -> None:
        """A value for the text of all fields, and its terms (None: not at positions 0, 1, 2, ...)."""
        self.strings.append(text)
        if flat is None:
            self.is_flat = False
        elif flat:
            self.length += len(flat)
            self.parts.append(SEPARATOR.join(flat))

    def add_whole(self, text: str) -> None:
        """A value for the field of whole values, if it is short."""
        whole = whole_of(text)
        if whole:
            self.wholes.append(escaped(whole))

    def whole(self, analyzer: Analyzer) -> Text:
        """The text of all fields."""
        if self.is_flat:
            return Text([_GAP.join(self.parts)], None, self.length)
        return _stacked(self.strings, analyzer, "")


def _collect(found: dict[str, Any], path: str, value: Any) -> None:
    """What stands at each path, as index/fields.py has it: a string, number or boolean, or a list of them."""
    if type(value) is dict:
        prefix = path + "." if path else ""
        for key, member in value.items():
            kind = type(member)
            if kind is dict or kind is list:
                _collect(found, prefix + key, member)
            elif member is not None:
                name = prefix + key
                if name in found:
                    _append(found, name, member)
                else:
                    found[name] = member
    elif type(value) is list:
        for element in value:
            _collect(found, path, element)
    elif value is not None:
        if path in found:
            _append(found, path, value)
        else:
            found[path] = value


def _append(found: dict[str, Any], path: str, value: Any) -> None:
    before = found[path]
    if type(before) is list:
        before.append(value)
    else:
        found[path] = [before, value]


def text_of(texts: Iterable[str], analyzer: Analyzer, prefix: str) -> Text:
    """The terms of a field's values, one after the other."""
    parts: list[str] = []
    length = 0
    for text in texts:
        terms = analyzer.flat(text)
        if terms is None:
            return _stacked(texts, analyzer, prefix)
        if terms:
            length += len(terms)
            parts.append(prefix + (SEPARATOR + prefix).join(terms))
    return Text(parts, None, length)


def _stacked(texts: Iterable[str], analyzer: Analyzer, prefix: str) -> Text:
    found: list[tuple[str, int]] = []
    first = 0
    for text in texts:
        tokens = analyzer.tokens(text)
        if tokens:
            found += [(prefix + escaped(token.term), first + token.position) for token in tokens]
            first += max(token.position for token in tokens) + 1 + POSITION_GAP
    found.sort(key=_position)
    return Text([], found, len(found))


def _position(token: tuple[str, int]) -> int:
    return token[1]
