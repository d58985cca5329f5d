"""Which fields of a document are shown."""

from __future__ import annotations

from typing import Any

from index.globs import fits, parts_of
from index.rewriting import KEYWORD
from index.sort_dsl import Source


def filtered(document: Any, source: Source) -> Any:
    """A JSON value with the fields that the patterns include and do not exclude.

    A pattern names a field with all below it; `*` is any text, dots included.
    """
    if isinstance(source, bool):
        return document
    includes, excludes = (tuple(parts_of(each, plain=True) for each in patterns) for patterns in source)
    return _kept(document, "", (includes, excludes), included=not includes)


def field_values(document: Any, fields: tuple[str, ...]) -> dict[str, list[Any]]:
    """By path, the values of the fields that these patterns name; `title.keyword` is `title`, as it is."""
    leaves: dict[str, list[Any]] = {}
    _collect(document, "", leaves)
    found: dict[str, list[Any]] = {}
    for field in fields:
        plain = field.removesuffix(KEYWORD)
        pattern = parts_of(plain, plain=True)
        for path, values in leaves.items():
            if fits(pattern, path):
                found[field if "*" not in field else path] = values
    return found


def _collect(value: Any, path: str, leaves: dict[str, list[Any]]) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            _collect(member, f"{path}.{name}" if path else name, leaves)
    elif isinstance(value, list):
        for each in value:
            _collect(each, path, leaves)
    elif value is not None:
        leaves.setdefault(path, []).append(value)


_Patterns = tuple[tuple[tuple[str | int, ...], ...], tuple[tuple[str | int, ...], ...]]


def _kept(value: Any, path: str, patterns: _Patterns, included: bool) -> Any:
    includes, excludes = patterns
    if isinstance(value, list):
        kept = [_kept(each, path, patterns, included) for each in value if included or _is_nested(each)]
        return kept if included else [each for each in kept if each]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, member in value.items():
        here = f"{path}.{name}" if path else name
        if any(fits(pattern, here) for pattern in excludes):
            continue
        inside = included or any(fits(pattern, here) for pattern in includes)
        if inside or _is_nested(member):
            kept = _kept(member, here, patterns, inside)
            if inside or kept:
                found[name] = kept
    return found


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)
