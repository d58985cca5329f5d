"""The scalar functions of CQL, by name: what they take, what they give, how it is computed.

A function is a builder: given its compiled arguments it gives the compiled call, or refuses with words that
say what it takes. Values are wire bytes; null in, null out, but where a function says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce
from typing import Any, Final, NamedTuple

from core.limits import VALUE_BYTES_MAX
from cql_lite.errors import FunctionError, InvalidRequestError
from cql_lite.planner_numbers import converted, encoded, is_number, narrowed, plus, quotient
from cql_lite.planner_rows import Record
from cql_lite.planner_terms import Context, assignable, thawed
from cql_lite.types import (
    BIGINT,
    BLOB,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    MAY_BE_EMPTY,
    SCALARS,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMEUUID,
    UUID,
    Collection,
    InvalidValueError,
    ListType,
    MapType,
    SetType,
    Type,
    VectorType,
    as_java,
)  # fmt: skip
from cql_lite.types_base import i32, i64

Evaluate = Callable[[Record, Context], "bytes | None"]


class Compiled(NamedTuple):
    """An expression: its type, and its value for a record."""

    type: Type
    evaluate: Evaluate


Arguments = Sequence[Compiled]
Builder = Callable[[str, Arguments], Compiled]

UUID_EPOCH_100NS: Final = 0x01B21DD213814000
"""100 ns steps from 1582-10-15 to 1970-01-01 (RFC 9562)."""
DAY_MS: Final = 86_400_000


# --- time


def timeuuid(time_us: int, tail: bytes) -> bytes:
    """A version 1 uuid of a time, with 8 bytes that make it unique."""
    steps = time_us * 10 + UUID_EPOCH_100NS
    high = (steps & 0xFFFFFFFF) << 32 | (steps >> 32 & 0xFFFF) << 16 | 0x1000 | (steps >> 48 & 0x0FFF)
    return high.to_bytes(8, "big") + bytes((tail[0] & 0x3F | 0x80,)) + tail[1:8]


def timeuuid_ms(value: bytes) -> int:
    """Milliseconds since 1970 of a time uuid."""
    high = int.from_bytes(value[:8], "big")
    steps = (high & 0x0FFF) << 48 | (high >> 16 & 0xFFFF) << 32 | high >> 32
    return (steps - UUID_EPOCH_100NS) // 10_000


def _now(_: Record, context: Context) -> bytes:
    return timeuuid(context.tick_us(), context.entropy.token_bytes(8))


def _uuid(_: Record, context: Context) -> bytes:
    data = bytearray(context.entropy.token_bytes(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    return bytes(data)


def _constant(of: Type, evaluate: Evaluate) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 0)
        return Compiled(of, evaluate)

    return build


def _count(name: str, arguments: Arguments, wanted: int) -> None:
    if len(arguments) != wanted:
        raise InvalidRequestError(
            f"Invalid number of arguments in call to function system.{name}: {wanted} required but "
            f"{len(arguments)} provided"
        )


def unary(argument: Compiled, of: Type, function: Callable[[bytes], bytes | None]) -> Compiled:
    """A function of one value."""
    inner = argument.evaluate

    def evaluate(record: Record, context: Context) -> bytes | None:
        value = inner(record, context)
        return None if value is None else function(value)

    return Compiled(of, evaluate)


def milliseconds(of: Type) -> Callable[[bytes], int] | None:
    """How to read a point in time of this type as milliseconds since 1970."""
    if of == TIMEUUID:
        return timeuuid_ms
    if of == TIMESTAMP:
        return lambda value: int(TIMESTAMP.decode(value))
    if of == DATE:
        return lambda value: int(DATE.decode(value)) * DAY_MS
    return None


def _of_time(of: Type, encode: Callable[[int], bytes]) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        read = milliseconds(arguments[0].type)
        if read is None:
            raise InvalidRequestError(
                f"{name}() takes a timeuuid, timestamp or date, not {arguments[0].type}"
            )
        return unary(arguments[0], of, lambda value: encode(read(value)))

    return build


def _bound_uuid(tail: bytes, step_100ns: int) -> Builder:
    """The least or greatest time uuid of a millisecond."""

    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        if arguments[0].type != TIMESTAMP:
            raise InvalidRequestError(f"{name}() takes a timestamp, not {arguments[0].type}")

        def made(value: bytes) -> bytes:
            steps = int(TIMESTAMP.decode(value)) * 10_000 + UUID_EPOCH_100NS + step_100ns
            high = (steps & 0xFFFFFFFF) << 32 | (steps >> 32 & 0xFFFF) << 16
            return (high | 0x1000 | (steps >> 48 & 0x0FFF)).to_bytes(8, "big") + tail

        return unary(arguments[0], TIMEUUID, made)

    return build


def _timestamp(ms: int) -> bytes:
    return TIMESTAMP.encode(ms)


def _date(ms: int) -> bytes:
    return DATE.encode(ms // DAY_MS)


# --- conversions


def _as_blob(of: Type) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        _takes(name, arguments[0], of)
        return unary(arguments[0], BLOB, lambda value: value)

    return build


def _takes(name: str, argument: Compiled, of: Type) -> None:
    if not assignable(argument.type, of):
        raise InvalidRequestError(
            f"Type error: a value of type {argument.type} cannot be passed as argument 0 of function "
            f"system.{name} of type {of}"
        )


def _blob_as(of: Type) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        if arguments[0].type != BLOB:
            raise InvalidRequestError(
                f"Type error: a value of type {arguments[0].type} cannot be passed as argument 0 of function "
                f"system.{name} of type blob"
            )

        def checked(value: bytes) -> bytes | None:
            if not value and of.cql in MAY_BE_EMPTY:
                return None
            try:
                return of.check(value)
            except InvalidValueError as error:
                raise InvalidRequestError(
                    f"In call to function system.{name}, value 0x{value[:100].hex()} is not a valid binary "
                    f"representation for type {of}: {error}"
                ) from None

        return unary(arguments[0], of, checked)

    return build


def in_bounds(text: bytes, name: str) -> bytes:
    """The text; raises FunctionError if it is longer than any value: what quotes quotes doubles it."""
    if len(text) > VALUE_BYTES_MAX:
        raise FunctionError(f"{name} gives a text of more than {VALUE_BYTES_MAX} bytes", name)
    return text


def _to_json(name: str, arguments: Arguments) -> Compiled:
    _count(name, arguments, 1)
    of, inner = arguments[0].type, arguments[0].evaluate

    def evaluate(record: Record, context: Context) -> bytes:
        value = inner(record, context)
        return b"null" if value is None else in_bounds(of.to_json(value).encode(), name)

    return Compiled(TEXT, evaluate)


# --- numbers


def _math(function: Callable[[Any], Any]) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        of = arguments[0].type
        if not is_number(of):
            raise InvalidRequestError(f"{name}() takes a number, not {of}")

        def applied(value: bytes) -> bytes:
            number = of.decode(value)
            try:
                result = function(number)
            except (ValueError, OverflowError, ArithmeticError):
                raise FunctionError(
                    f"the function '{name}' failed: it has no value for {number}", name
                ) from None
            if isinstance(number, int):
                result = int(result)
            elif isinstance(number, Decimal) and not isinstance(result, Decimal):
                result = Decimal(str(result))
            return encoded(result, of)

        return unary(arguments[0], of, applied)

    return build


def _abs(number: Any) -> Any:
    return number.copy_abs() if isinstance(number, Decimal) else abs(number)


def _natural_log(number: Any) -> Any:
    return number.ln() if isinstance(number, Decimal) else _logarithm(number, math.log)


def _log10(number: Any) -> Any:
    return number.log10() if isinstance(number, Decimal) else _logarithm(number, math.log10)


def _logarithm(number: Any, function: Callable[[Any], float]) -> float:
    """That of zero and of negative floats is what IEEE 754 says."""
    if isinstance(number, float) and number <= 0:
        return math.nan if number else -math.inf
    return function(number)


def _exp(number: Any) -> Any:
    if isinstance(number, Decimal):
        return number.exp()
    try:
        return math.exp(number)
    except OverflowError:
        if isinstance(number, float):
            return math.inf
        raise


def _round(number: Any) -> Any:
    """Half away from zero."""
    if isinstance(number, int):
        return number
    if isinstance(number, Decimal):
        return number.to_integral_value(rounding="ROUND_HALF_UP")
    return math.copysign(math.floor(abs(number) + 0.5), number) if math.isfinite(number) else number


# --- collections


def _collection_count(name: str, arguments: Arguments) -> Compiled:
    _count(name, arguments, 1)
    of = arguments[0].type
    if not isinstance(of, Collection):
        raise InvalidRequestError(f"{name}() takes a collection, not {of}")
    step = of.per_element
    return unary(arguments[0], INT, lambda value: i32.pack(len(of.parts(value)) // step))


def _map_part(offset: int) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        of = arguments[0].type
        if not isinstance(of, MapType):
            raise InvalidRequestError(f"{name}() takes a map, not {of}")
        result: Type = ListType(element=of.values) if offset else SetType(element=of.keys)
        assert isinstance(result, Collection)
        made = result
        return unary(arguments[0], made, lambda value: made.pack_with_nulls(of.parts(value)[offset::2]))

    return build


def _collection_extreme(sign: int) -> Builder:
    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        of = arguments[0].type
        if not isinstance(of, (ListType, SetType)):
            raise InvalidRequestError(f"{name}() takes a list or a set, not {of}")
        element = of.element

        def found(value: bytes) -> bytes | None:
            parts = sorted((part for part in of.parts(value) if part is not None), key=element.key)
            return parts[0 if sign > 0 else -1] if parts else None

        return unary(arguments[0], element, found)

    return build


def _collection_total(mean: bool) -> Builder:
    """The sum of the elements, or their mean, in the type that they have; of no elements it is 0."""

    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 1)
        of = arguments[0].type
        if not isinstance(of, (ListType, SetType)) or not is_number(of.element):
            raise InvalidRequestError(f"{name}() takes a list or a set of numbers, not {of}")
        element = of.element

        def found(value: bytes) -> bytes:
            numbers = [element.decode(part) for part in of.parts(value) if part is not None]
            total = reduce(plus(element), numbers, converted(0, element))
            if mean and numbers:
                total = quotient(total, converted(len(numbers), element), element)
            return encoded(total, element)

        return unary(arguments[0], element, found)

    return build


# --- vectors


def _similarity(measure: Callable[[Sequence[float], Sequence[float]], float]) -> Builder:
    """How alike two vectors are, as a number that grows with it."""

    def build(name: str, arguments: Arguments) -> Compiled:
        _count(name, arguments, 2)
        left, right = arguments
        of = left.type
        if not isinstance(of, VectorType) or of.element != FLOAT or right.type != of:
            raise InvalidRequestError(
                f"{name}() takes two vectors of floats of one length, not {of} and {right.type}"
            )

        def evaluate(record: Record, context: Context) -> bytes | None:
            a, b = left.evaluate(record, context), right.evaluate(record, context)
            if a is None or b is None:
                return None
            return encoded(measure(of.decode(a), of.decode(b)), FLOAT)

        return Compiled(FLOAT, evaluate)

    return build


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    try:
        return math.fsum(x * y for x, y in zip(a, b, strict=True))
    except ValueError:  # of infinities of both signs, which are no number together
        return math.nan


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = math.sqrt(_dot(a, a) * _dot(b, b))
    if lengths == 0:
        raise InvalidRequestError("similarity_cosine() is of vectors that are not all zeros")
    return (1 + _dot(a, b) / lengths) / 2


def _near(a: Sequence[float], b: Sequence[float]) -> float:
    return 1 / (1 + math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


SIMILARITY_MEASURES: Final = {
    "cosine": _cosine,
    "dot_product": lambda a, b: (1 + _dot(a, b)) / 2,
    "euclidean": _near,
}
"""How alike two vectors are, by the name of the measure: a number that grows with it."""


def _timed(encode: Callable[[int], bytes], of: Type) -> Builder:
    return _constant(of, lambda _, context: encode(context.now_us))


FUNCTIONS: Final[dict[str, Builder]] = {
    "now": _constant(TIMEUUID, _now),
    "uuid": _constant(UUID, _uuid),
    "currenttimeuuid": _constant(TIMEUUID, _now),
    "currenttimestamp": _timed(lambda us: TIMESTAMP.encode(us // 1000), TIMESTAMP),
    "currentdate": _timed(lambda us: DATE.encode(us // 1000 // DAY_MS), DATE),
    "currenttime": _timed(lambda us: TIME.encode(us * 1000 % (DAY_MS * 1_000_000)), TIME),
    "todate": _of_time(DATE, _date),
    "totimestamp": _of_time(TIMESTAMP, _timestamp),
    "tounixtimestamp": _of_time(BIGINT, i64.pack),
    "dateof": _of_time(TIMESTAMP, _timestamp),
    "unixtimestampof": _of_time(BIGINT, i64.pack),
    "mintimeuuid": _bound_uuid(b"\x80" * 8, 0),
    "maxtimeuuid": _bound_uuid(b"\x7f" * 8, 9_999),
    "tojson": _to_json,
    "abs": _math(_abs),
    "exp": _math(_exp),
    "log": _math(_natural_log),
    "log10": _math(_log10),
    "round": _math(_round),
    "collection_count": _collection_count,
    "collection_min": _collection_extreme(1),
    "collection_max": _collection_extreme(-1),
    "collection_sum": _collection_total(mean=False),
    "collection_avg": _collection_total(mean=True),
    **{f"similarity_{name}": _similarity(measure) for name, measure in SIMILARITY_MEASURES.items()},
    "map_keys": _map_part(0),
    "map_values": _map_part(1),
}
"""By lowered name, without underscores where CQL 5 has them (`to_json`, `current_date`)."""

SIMILARITIES: Final = ("similarity_cosine", "similarity_dot_product", "similarity_euclidean")
_UNDERSCORED: Final = (
    "current_timeuuid", "current_timestamp", "current_date", "current_time", "to_date", "to_timestamp",
    "to_unix_timestamp", "min_timeuuid", "max_timeuuid", "to_json",
)  # fmt: skip
FUNCTIONS.update({name: FUNCTIONS[name.replace("_", "")] for name in _UNDERSCORED})
for _name, _type in SCALARS.items():
    if _name not in ("blob", "counter", "json"):
        FUNCTIONS[f"{_name}asblob"] = FUNCTIONS[f"{_name}_as_blob"] = _as_blob(_type)
        FUNCTIONS[f"blobas{_name}"] = FUNCTIONS[f"blob_as_{_name}"] = _blob_as(_type)


def _text_of(of: Type, value: bytes) -> str:
    """A value as CAST(... AS text) writes it: numbers as Cassandra does, points in time in ISO 8601."""
    text = of.to_text(value)
    if of in (FLOAT, DOUBLE):
        return as_java(text) if math.isfinite(float(text)) else text
    return text.replace(" ", "T").replace("+0000", "Z") if of == TIMESTAMP else text


def cast(argument: Compiled, of: Type) -> Compiled:
    """CAST(argument AS of); raises InvalidRequestError if there is no such conversion."""
    source = argument.type
    if thawed(source) == thawed(of):
        return Compiled(of, argument.evaluate)
    if is_number(source) and is_number(of):
        return unary(argument, of, lambda value: encoded(narrowed(source.decode(value), of), of))
    if of in (TEXT, SCALARS["ascii"]):
        return unary(argument, of, lambda value: in_bounds(_text_of(source, value).encode(), "cast"))
    read = milliseconds(source)
    if read is not None and of in (TIMESTAMP, DATE):
        encode = _timestamp if of == TIMESTAMP else _date
        return unary(argument, of, lambda value: encode(read(value)))
    raise InvalidRequestError(f"{source} cannot be cast to {of}")
