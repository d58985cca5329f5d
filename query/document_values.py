"""Values of JSON documents: their order, their equality, and paths into them.

A value is what core/json_values.py gives: None, bool, int, float (that means what its text says), Decimal,
str, list or dict.

**Order.** Values of different types stand in the order null (and missing) < numbers < text < objects <
arrays < booleans; an empty array, where something is sorted by it, stands before null. Numbers compare
exactly whatever their form (1 = 1.0), text by code points, arrays element by element, and objects by their
members in the order of their keys: JSON objects have no order of their own, and merging may change the one
that was written, so two objects with equal members are equal.

**Paths** are keys separated by dots; `\\.` is a dot within a key and `\\\\` a backslash. A path leads
through arrays as MongoDB's do: a key that meets an array looks into each element that is an object, and a
key of digits is also the element at that position. It does not look into arrays within arrays unless a
position says so. Nothing is *missing* where an array has no such element: missing is only said of an object
that lacks the key, and of a value below which nothing can be.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from core.json_values import exact

Value = Any
"""None, bool, int, float, Decimal, str, list or dict: see above."""

Path = tuple[str, ...]

PATH_KEYS_MAX: Final = 100
"""A document has at most so many levels, so no longer path leads anywhere."""
PATH_CHARS_MAX: Final = 4_096

EMPTY, NULL, NUMBER, TEXT, OBJECT, ARRAY, BOOLEAN = range(7)
"""Ranks of types, in their order; EMPTY is that of an empty array that is sorted by."""


class Missing:
    """The value of a path that leads to nothing; there is one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


def rank(value: Value) -> int:
    """Where the type of a value stands in the order; MISSING is with null."""
    kind = type(value)
    if kind is str:
        return TEXT
    if kind is bool:
        return BOOLEAN
    if kind is int or kind is Decimal or kind is float:
        return NUMBER
    if kind is dict:
        return OBJECT
    if kind is list:
        return ARRAY
    assert value is None or value is MISSING, f"no JSON value: {kind}"
    return NULL


def order_key(value: Value) -> tuple[Any, ...]:
    """What values are ordered by, over all types; hashable, equal for equal values."""
    kind = rank(value)
    if kind == NULL:
        return (NULL,)
    if kind == OBJECT:
        return (OBJECT, tuple((key, order_key(value[key])) for key in sorted(value)))
    if kind == ARRAY:
        return (ARRAY, tuple(order_key(item) for item in value))
    if type(value) is float:
        return (kind, exact(value))
    return (kind, value)


def equal(a: Value, b: Value) -> bool:
    """Whether two values are the same: numbers by value, objects by their members."""
    kind = rank(a)
    if kind != rank(b):
        return False
    if kind == NULL:
        return True
    if kind == OBJECT:
        return len(a) == len(b) and all(key in b and equal(item, b[key]) for key, item in a.items())
    if kind == ARRAY:
        return len(a) == len(b) and all(map(equal, a, b))
    if type(a) is not type(b):
        return bool(exact(a) == exact(b))
    return bool(a == b)


def parse_path(text: str) -> Path | str:
    """The keys of a path, or what is wrong with it."""
    if not text:
        return "a path is empty"
    if len(text) > PATH_CHARS_MAX:
        return f"a path has {len(text)} characters; at most {PATH_CHARS_MAX} are taken"
    keys = tuple(text.split(".")) if "\\" not in text else _escaped_keys(text)
    if isinstance(keys, str):
        return keys
    if len(keys) > PATH_KEYS_MAX:
        return f"a path has {len(keys)} keys; at most {PATH_KEYS_MAX} are taken"
    if not all(keys):
        return f"the path {text[:60]!r} has an empty key; write \\. for a dot within a key"
    return keys


def _escaped_keys(text: str) -> Path | str:
    keys, key, escaped = [], "", False
    for char in text:
        if escaped:
            if char not in "\\.":
                return f"the path {text[:60]!r} has a backslash before {char!r}: write \\\\ for a backslash"
            key, escaped = key + char, False
        elif char == "\\":
            escaped = True
        elif char == ".":
            keys.append(key)
            key = ""
        else:
            key += char
    if escaped:
        return f"the path {text[:60]!r} ends with a backslash: write \\\\ for one"
    keys.append(key)
    return tuple(keys)


def path_text(path: Path) -> str:
    """A path as text, with what has to be escaped escaped."""
    return ".".join(key.replace("\\", "\\\\").replace(".", "\\.") for key in path)


def position_of(key: str) -> int | None:
    """The position in an array that a key names, if it names one."""
    return int(key) if len(key) <= 9 and key.isascii() and key.isdigit() else None


def leaves(value: Value, path: Path) -> list[Value]:
    """What a path leads to: several values through arrays, MISSING where an object lacks a key."""
    if len(path) == 1 and type(value) is dict:
        return [value.get(path[0], MISSING)]
    found: list[Value] = []
    _walk(value, path, 0, found)
    return found


def _walk(value: Value, path: Path, at: int, found: list[Value]) -> None:
    while at < len(path):
        key = path[at]
        at += 1
        if isinstance(value, dict):
            value = value.get(key, MISSING)
            if value is MISSING:
                break
        elif isinstance(value, list):
            position = position_of(key)
            for element in value:
                if isinstance(element, dict):
                    if key in element:
                        _walk(element[key], path, at, found)
                    elif position is None:
                        found.append(MISSING)
            if position is not None and position < len(value):
                _walk(value[position], path, at, found)
            return
        else:
            value = MISSING
            break
    found.append(value)


def lookup(value: Value, path: Path) -> Value:
    """What a path leads to in an expression: through an array, the array of what is there; MISSING if
    nothing.

    A position in an array is no key here.
    """
    for at, key in enumerate(path):
        if isinstance(value, dict):
            value = value.get(key, MISSING)
            if value is MISSING:
                return MISSING
        elif isinstance(value, list):
            found = [lookup(element, path[at:]) for element in value if isinstance(element, (dict, list))]
            return [item for item in found if item is not MISSING]
        else:
            return MISSING
    return value


# --- sorting


class Descending:
    """A key that sorts the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key

    def __lt__(self, other: Descending) -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and self.key == other.key

    __hash__ = None  # type: ignore[assignment]


def sort_value(document: Value, path: Path, descending: bool) -> Value:
    """The one value that a document is sorted by: of an array's elements the least, or descending the
    greatest.

    Nothing is null, and an empty array is itself.
    """
    best: Value = MISSING
    best_key: tuple[Any, ...] = ()
    for leaf in leaves(document, path):
        for item in leaf if isinstance(leaf, list) and leaf else (leaf,):
            key = sort_key(item)
            if best is MISSING or (key > best_key if descending else key < best_key):
                best, best_key = None if item is MISSING else item, key
    return None if best is MISSING else best


def sort_key(value: Value) -> tuple[Any, ...]:
    """What a value of `sort_value` is ordered by."""
    return (EMPTY,) if isinstance(value, list) and not value else order_key(value)
