"""The masking functions of CQL 5: what is shown of a value to who shall not see it.

`mask_inner` and `mask_outer` hide characters of texts, `mask_hash` gives a digest, and `mask_null`,
`mask_default` and `mask_replace` give one value of the same type for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from core.limits import VALUE_BYTES_MAX
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_functions import Compiled, Evaluate, timeuuid, unary
from cql_lite.planner_numbers import converted, encoded, is_number
from cql_lite.planner_rows import Record
from cql_lite.planner_terms import Context, assignable
from cql_lite.types import (
    ASCII,
    BLOB,
    BOOLEAN,
    DATE,
    DURATION,
    INET,
    INT,
    JSON,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMEUUID,
    UUID,
    Collection,
    Duration,
    Fields,
    Type,
    VectorType,
)  # fmt: skip

Compile = Callable[[ast.Expression, Type | None], Compiled]
Arguments = tuple[ast.Expression, ...]

STARS: Final = "****"
"""Any text, as `mask_default` shows it."""
ALGORITHM: Final = "SHA-256"
_DEFAULTS: Final[dict[Type, bytes]] = {
    TEXT: STARS.encode(),
    ASCII: STARS.encode(),
    JSON: f'"{STARS}"'.encode(),
    BLOB: b"",
    BOOLEAN: BOOLEAN.encode(False),
    DATE: DATE.encode(0),
    TIME: TIME.encode(0),
    TIMESTAMP: TIMESTAMP.encode(0),
    DURATION: DURATION.encode(Duration(0, 0, 0)),
    INET: bytes(4),
    UUID: bytes(16),
    TIMEUUID: timeuuid(0, b"\x80" * 8),
}


def mask(name: str, arguments: Arguments, compile_: Compile) -> Compiled:
    """A call of one of `NAMES`; raises InvalidRequestError."""
    least, most, build = _MASKS[name]
    if not least <= len(arguments) <= most:
        count = str(least) if least == most else f"{least} to {most}"
        raise InvalidRequestError(
            f"Invalid number of arguments in call to function system.{name}: {count} required but "
            f"{len(arguments)} provided"
        )
    return build(name, compile_(arguments[0], None), arguments[1:], compile_)


# --- one value for all


def _null(_: str, value: Compiled, __: Arguments, ___: Compile) -> Compiled:
    return Compiled(value.type, lambda _, __: None)


def _default(_: str, value: Compiled, __: Arguments, ___: Compile) -> Compiled:
    shown = default(value.type)
    return Compiled(value.type, lambda _, __: shown)


def default(of: Type) -> bytes:
    """The value of a type that `mask_default` shows: empty, zero, false, the epoch, or `STARS`."""
    if is_number(of):
        return encoded(converted(0, of), of)
    if isinstance(of, Collection):
        return of.pack([])
    if isinstance(of, Fields):
        parts: list[bytes | None] = []
        for each in of.types:
            parts.append(default(each))
            _check_size(of, sum(len(part or b"") for part in parts))
        return of.pack(parts)
    if isinstance(of, VectorType):
        part = default(of.element)
        _check_size(of, len(part) * of.dimensions)
        return of.pack([part] * of.dimensions)
    return _DEFAULTS[of]


def _check_size(of: Type, size: int) -> None:
    if size > VALUE_BYTES_MAX:
        raise InvalidRequestError(f"a value of type {of} takes more than {VALUE_BYTES_MAX} bytes")


def _replace(name: str, value: Compiled, others: Arguments, compile_: Compile) -> Compiled:
    by = compile_(others[0], value.type)
    if not assignable(by.type, value.type):
        raise InvalidRequestError(
            f"{name}() replaces a {value.type} by a {value.type}, not by a {by.type}: use CAST"
        )
    return Compiled(value.type, by.evaluate)


# --- texts


def _partial(hides_inner: bool) -> Build:
    """Characters that are shown: the first and the last ones, or all but these."""

    def build(name: str, value: Compiled, others: Arguments, compile_: Compile) -> Compiled:
        if value.type not in (TEXT, ASCII):
            raise InvalidRequestError(f"{name}() takes a text, not a {value.type}")
        first, last = (_typed(name, compile_(each, INT), INT) for each in others[:2])
        padding = _typed(name, compile_(others[2], TEXT), TEXT) if len(others) > 2 else None

        def evaluate(record: Record, context: Context) -> bytes | None:
            found = value.evaluate(record, context)
            if found is None:
                return None
            text, star = found.decode(), b"*" if padding is None else padding(record, context) or b"*"
            pad = star.decode()
            if len(pad) != 1:
                raise InvalidRequestError(
                    f"The padding argument for function {name} should be single-character, but '{pad}' has "
                    f"{len(pad)} characters"
                )
            begin, end = (_length(each(record, context)) for each in (first, last))
            begin = min(begin, len(text))
            stop = max(len(text) - end, begin)
            if hides_inner:
                masked = text[:begin] + pad * (stop - begin) + text[stop:]
            else:
                masked = pad * begin + text[begin:stop] + pad * (len(text) - stop)
            return masked.encode()

        return Compiled(value.type, evaluate)

    return build


def _length(value: bytes | None) -> int:
    return 0 if value is None else max(int(INT.decode(value)), 0)


def _typed(name: str, argument: Compiled, of: Type) -> Evaluate:
    if not assignable(argument.type, of):
        raise InvalidRequestError(f"{name}() takes a {of} there, not a {argument.type}")
    return argument.evaluate


# --- digests


def _hash(name: str, value: Compiled, others: Arguments, compile_: Compile) -> Compiled:
    if not others:
        return unary(value, BLOB, lambda found: _digest(found, ALGORITHM))
    algorithm = _typed(name, compile_(others[0], TEXT), TEXT)

    def evaluate(record: Record, context: Context) -> bytes | None:
        found, by = value.evaluate(record, context), algorithm(record, context)
        return None if found is None else _digest(found, ALGORITHM if by is None else by.decode())

    return Compiled(BLOB, evaluate)


def _digest(value: bytes, algorithm: str) -> bytes:
    """The digest by an algorithm as Java names it: `SHA-256`, `SHA3-256`, `SHA-512/256`, `MD5`."""
    plain = algorithm.lower().replace("sha-", "sha").replace("-", "_").replace("/", "_")
    try:
        return hashlib.new(plain, value, usedforsecurity=False).digest()
    except (ValueError, TypeError):
        raise InvalidRequestError(
            f"Hash algorithm not found: {algorithm[:100]}; {ALGORITHM} is the default, SHA-512 another one"
        ) from None


Build = Callable[[str, Compiled, Arguments, Compile], Compiled]

_MASKS: Final[dict[str, tuple[int, int, Build]]] = {
    "mask_null": (1, 1, _null),
    "mask_default": (1, 1, _default),
    "mask_replace": (2, 2, _replace),
    "mask_inner": (3, 4, _partial(hides_inner=True)),
    "mask_outer": (3, 4, _partial(hides_inner=False)),
    "mask_hash": (1, 2, _hash),
}
"""By name: the fewest and the most arguments, and how the call is compiled."""
NAMES: Final = tuple(_MASKS)
"""The functions that are compiled here."""
