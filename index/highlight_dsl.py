"""How what matched is to be shown, as JSON in Elasticsearch's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from index.bounds import RefusedError
from index.options import Body, check_field

FIELDS_MAX: Final = 100
TAG_CHARS_MAX: Final = 200
_STYLED: Final = '<em class="hlt1">'
_OF_EXECUTION: Final = (
    *("fragmenter", "boundary_scanner", "boundary_chars", "boundary_max_scan", "boundary_scanner_locale"),
    *("phrase_limit", "max_analyzed_offset", "force_source"),
)


class HighlightField(msgspec.Struct, frozen=True):
    """A field (its name may hold `*`): fragments at most (0: the whole text) of about so many characters,
    what is put around what matched, how much is shown where nothing did, and whether only what was searched
    for in this field counts.
    """

    name: str
    count: int = 5
    size: int = 100
    pre: str = "<em>"
    post: str = "</em>"
    no_match_size: int = 0
    own: bool = True
    by_score: bool = False


class Highlight(msgspec.Struct, frozen=True):
    """The fields, and whether what is HTML in them is escaped."""

    fields: tuple[HighlightField, ...]
    escapes: bool = False


def read_highlight(value: Any) -> Highlight | None:
    """What a body says; raises RefusedError."""
    if value is None:
        return None
    options = Body(value, "highlight", 0)
    base = _read(options, HighlightField("*"))
    escapes = options.one_of("encoder", ("default", "html"), "default") == "html"
    fields = tuple(
        _field(name, inner, base) for name, inner in _named(options.need("fields"), "highlight.fields")
    )
    options.leftover()
    if len(fields) > FIELDS_MAX:
        raise RefusedError(f"at most {FIELDS_MAX} fields are highlighted", "highlight")
    return Highlight(fields, escapes)


def _named(given: Any, path: str) -> Iterable[tuple[Any, Any]]:
    """`{"title": {}}`, `["title"]` or `[{"title": {}}]`."""
    if isinstance(given, dict):
        return list(given.items())
    if not isinstance(given, list):
        raise RefusedError('fields are an object such as {"title": {}}, or a list of names', path)
    return [pair for each in given for pair in (each.items() if isinstance(each, dict) else [(each, {})])]


def _field(name: Any, inner: Any, base: HighlightField) -> HighlightField:
    one = Body(inner, f"highlight.fields.{name}", 0)
    found = _read(one, base)
    one.leftover()
    return msgspec.structs.replace(found, name=check_field(name, "highlight.fields"))


def _read(options: Body, base: HighlightField) -> HighlightField:
    """What is said here, else what is said in general."""
    options.one_of("type", ("unified", "plain", "fvh"), "unified")
    for name in _OF_EXECUTION:
        options.take(name)
    styled = options.one_of("tags_schema", ("default", "styled"), "default") == "styled"
    order = options.one_of("order", ("none", "score"), "score" if base.by_score else "none")
    return HighlightField(
        base.name,
        options.integer("number_of_fragments", base.count, 0, 100),
        options.integer("fragment_size", base.size, 10, 10_000),
        _tag(options, "pre_tags", _STYLED if styled else base.pre),
        _tag(options, "post_tags", base.post),
        options.integer("no_match_size", base.no_match_size, 0, 10_000),
        options.boolean("require_field_match", base.own),
        order == "score",
    )


def _tag(options: Body, name: str, default: str) -> str:
    value = options.take(name, default)
    found = value[0] if isinstance(value, list) and value else value
    if not isinstance(found, str) or len(found) > TAG_CHARS_MAX:
        raise RefusedError(f"a tag is text of at most {TAG_CHARS_MAX} characters", options.path)
    return found
