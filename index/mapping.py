"""Mappings: how the fields of a table's documents are indexed, where its owner wants to say so.

Nothing has to be said: by default every string is indexed as TEXT and (up to EXACT_CHARS_MAX) as EXACT, and
as DATE if it is one, numbers and booleans as themselves. A mapping names analyzers, narrows fields to a type,
leaves fields out, and weighs them:

    {"analyzer": "english",
     "fields": {"title": {"type": "text", "analyzer": "korean", "boost": 2},
                "sku": {"type": "keyword"}, "payload": {"index": false}, "meta.*": {"type": "keyword"}},
     "analyzers": {"names": {"type": "korean", "initials": true, "synonyms": ["서울, 서울시"]}},
     "dynamic": true}

A name that ends in `.*` stands for all fields below; the most specific name counts. With `dynamic` false
fields that no name fits are left out. A changed mapping needs the index to be built anew.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from index.analysis.analyzers import BUILT_IN, Analyzer, AnalyzerFault, built_in, make_analyzer
from index.query import ALL, BOOLEAN, DATE, EXACT, NUMBER, TEXT

ANY_VIEW: Final = (TEXT, EXACT, NUMBER, DATE, BOOLEAN)

TYPE_VIEWS: Final[dict[str, tuple[str, ...]]] = {
    "": ANY_VIEW,
    "text": (TEXT,),
    "keyword": (EXACT,),
    "number": (NUMBER,),
    "date": (DATE,),
    "boolean": (BOOLEAN,),
}
"""The views that a field of each type may have."""

EXACT_CHARS_MAX: Final = 256
"""Longer strings have no EXACT view."""

FIELDS_MAX: Final = 1_000
ANALYZERS_MAX: Final = 100
BOOST_MAX: Final = 1_000.0


class FieldMapping(msgspec.Struct, frozen=True):
    """What is said of one field. `type` is "" (any), text, keyword, number, date or boolean."""

    type: str = ""
    analyzer: str = ""
    search_analyzer: str = ""
    boost: float = 1.0
    index: bool = True


class Mapping(msgspec.Struct, frozen=True):
    """What is said of a table's fields; the default says nothing."""

    analyzer: str = "standard"
    dynamic: bool = True
    fields: dict[str, FieldMapping] = {}
    analyzers: dict[str, dict[str, Any]] = {}


DEFAULT: Final = Mapping()


class MappingFault(msgspec.Struct, frozen=True):
    """A mapping that cannot be: where, and what is wrong, for the user."""

    path: str
    detail: str


class FieldRule(msgspec.Struct, frozen=True):
    """How one field is indexed and searched. No views: it is not."""

    views: tuple[str, ...]
    analyzer: Analyzer
    search_analyzer: Analyzer
    boost: float = 1.0


class Rules:
    """A mapping made ready for use: the rule of every field, by its path."""

    def __init__(self, mapping: Mapping, analyzers: dict[str, Analyzer]) -> None:
        """Use `compile_mapping`."""
        self.mapping = mapping
        self._analyzers = analyzers
        self.default_analyzer = self._named(mapping.analyzer)
        views = TYPE_VIEWS[""]
        self._left_out = FieldRule((), self.default_analyzer, self.default_analyzer)
        default = FieldRule(views, self.default_analyzer, self.default_analyzer)
        self.default = default if mapping.dynamic else self._left_out
        self._exact: dict[str, FieldRule] = {ALL: default}
        self._below: list[tuple[str, FieldRule]] = []
        for name, field in mapping.fields.items():
            rule = self._rule(field)
            if name.endswith(".*"):
                self._below.append((name[:-1], rule))
            else:
                self._exact[name] = rule
                if not field.index:
                    self._below.append((name + ".", rule))
        self._below.sort(key=_by_length)
        self.is_plain = not mapping.fields
        """Whether all fields have the default rule."""
        self.says_nothing = self.is_plain and mapping.dynamic
        """Whether that rule is the default mapping's: everything is indexed, in every way."""

    def field(self, path: str) -> FieldRule:
        """The rule of a field."""
        rule = self._exact.get(path)
        if rule is not None:
            return rule
        for prefix, below in self._below:
            if path.startswith(prefix):
                return below
        return self.default

    def named(self) -> tuple[str, ...]:
        """The fields that the mapping names, in its order (without those that stand for many)."""
        return tuple(name for name in self.mapping.fields if not name.endswith(".*"))

    def analyzer(self, name: str) -> Analyzer | AnalyzerFault:
        """An analyzer of this index by name, or a built-in one."""
        own = self._analyzers.get(name)
        return built_in(name) if own is None else own

    def _named(self, name: str) -> Analyzer:
        found = self.analyzer(name)
        assert isinstance(found, Analyzer), found
        return found

    def _rule(self, field: FieldMapping) -> FieldRule:
        if not field.index:
            return self._left_out
        analyzer = self._named(field.analyzer) if field.analyzer else self.default_analyzer
        search = self._named(field.search_analyzer) if field.search_analyzer else analyzer
        return FieldRule(TYPE_VIEWS[field.type], analyzer, search, field.boost)


def _by_length(item: tuple[str, FieldRule]) -> tuple[int, str]:
    return (-len(item[0]), item[0])


def compile_mapping(mapping: Mapping) -> Rules | MappingFault:
    """Check a mapping's analyzers and make it ready."""
    made: dict[str, Analyzer] = {}
    for name, settings in mapping.analyzers.items():
        analyzer = make_analyzer(name, settings)
        if isinstance(analyzer, AnalyzerFault):
            return MappingFault(f"analyzers.{name}", analyzer.detail)
        made[name] = analyzer
    used = [("analyzer", mapping.analyzer)]
    for name, field in mapping.fields.items():
        used += [(f"fields.{name}.analyzer", field.analyzer)] if field.analyzer else []
        used += [(f"fields.{name}.search_analyzer", field.search_analyzer)] if field.search_analyzer else []
    for where, name in used:
        found = made.get(name) or built_in(name)
        if isinstance(found, AnalyzerFault):
            known = ", ".join((*made, *BUILT_IN))
            detail = found.detail if name in BUILT_IN else f"there is no analyzer {name!r}; there are {known}"
            return MappingFault(where, detail)
    return Rules(mapping, made)


def parse_mapping(value: object) -> Mapping | MappingFault:
    """A mapping from JSON, checked as a whole."""
    try:
        mapping = msgspec.convert(value, Mapping)
    except msgspec.ValidationError as error:
        detail, _, where = str(error).partition(" - at `$")
        return MappingFault(where.rstrip("`").lstrip("."), detail)
    strange = _strange(value)
    if strange is not None:
        return strange
    if len(mapping.fields) > FIELDS_MAX or len(mapping.analyzers) > ANALYZERS_MAX:
        return MappingFault("", f"a mapping has at most {FIELDS_MAX} fields and {ANALYZERS_MAX} analyzers")
    for name, field in mapping.fields.items():
        if field.type not in TYPE_VIEWS:
            known = ", ".join(repr(kind) for kind in TYPE_VIEWS if kind)
            return MappingFault(f"fields.{name}.type", f"there is no type {field.type!r}; there are {known}")
        if not (math.isfinite(field.boost) and 0 <= field.boost <= BOOST_MAX):
            return MappingFault(f"fields.{name}.boost", f"a boost is from 0 to {BOOST_MAX:.0f}")
    compiled = compile_mapping(mapping)
    return compiled if isinstance(compiled, MappingFault) else mapping


def _strange(value: object) -> MappingFault | None:
    """A name that no mapping has: most likely a slip."""
    assert isinstance(value, dict), "it was converted"
    for key in value:
        if key not in Mapping.__struct_fields__:
            known = ", ".join(Mapping.__struct_fields__)
            return MappingFault(str(key), f"a mapping has no {key!r}; there are {known}")
    for name, field in value.get("fields", {}).items():
        for key in field:
            if key not in FieldMapping.__struct_fields__:
                known = ", ".join(FieldMapping.__struct_fields__)
                return MappingFault(f"fields.{name}.{key}", f"a field has no {key!r}; there are {known}")
    return None
