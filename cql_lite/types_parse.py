"""Type names: `map<text, frozen<list<int>>>` to a Type, checked as CQL checks it.

`frozen<...>` freezes all the way down. Inside a collection everything with parts must be frozen, for there
are no cells of cells; a tuple or vector always is. Old and vague spellings are folded: `varchar` is text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final

import msgspec

from core.limits import TYPE_DEPTH_MAX, TYPE_FIELDS_MAX, TYPE_TEXT_CHARS_MAX, VECTOR_DIMENSIONS_MAX
from cql_lite.types_base import InvalidTypeError, Type
from cql_lite.types_fields import TupleType, UserType, VectorType
from cql_lite.types_nested import Collection, ListType, MapType, SetType
from cql_lite.types_number import DecimalType, Float, Integer, Varint
from cql_lite.types_scalar import Blob, Boolean, Inet, Json, Scalar, Text, Uuid
from cql_lite.types_time import Date, DurationType, Time, Timestamp

ASCII = Text("ascii", 0x0001, "AsciiType", ascii_only=True)
BIGINT = Integer("bigint", 0x0002, "LongType", width=8)
BLOB = Blob("blob", 0x0003, "BytesType")
BOOLEAN = Boolean("boolean", 0x0004, "BooleanType", width=1)
COUNTER = Integer("counter", 0x0005, "CounterColumnType", width=8)
DECIMAL = DecimalType("decimal", 0x0006, "DecimalType")
DOUBLE = Float("double", 0x0007, "DoubleType", width=8)
FLOAT = Float("float", 0x0008, "FloatType", width=4)
INT = Integer("int", 0x0009, "Int32Type", width=4)
TIMESTAMP = Timestamp("timestamp", 0x000B, "TimestampType", width=8)
UUID = Uuid("uuid", 0x000C, "UUIDType", width=16)
TEXT = Text("text", 0x000D, "UTF8Type")
VARINT = Varint("varint", 0x000E, "IntegerType")
TIMEUUID = Uuid("timeuuid", 0x000F, "TimeUUIDType", width=16, time_based=True)
INET = Inet("inet", 0x0010, "InetAddressType")
DATE = Date("date", 0x0011, "SimpleDateType", since=4, width=4)
TIME = Time("time", 0x0012, "TimeType", since=4, width=8)
SMALLINT = Integer("smallint", 0x0013, "ShortType", since=4, width=2)
TINYINT = Integer("tinyint", 0x0014, "ByteType", since=4, width=1)
DURATION = DurationType("duration", 0x0015, "DurationType", since=5)
JSON = Json("json", 0x000D, "UTF8Type")

SCALARS: dict[str, Scalar] = {
    of.name: of
    for of in (
        ASCII, BIGINT, BLOB, BOOLEAN, COUNTER, DATE, DECIMAL, DOUBLE, DURATION, FLOAT, INET, INT, JSON,
        SMALLINT, TEXT, TIME, TIMESTAMP, TIMEUUID, TINYINT, UUID, VARINT,
    )
}  # fmt: skip
SCALARS["varchar"] = TEXT
"""Every type without parts, by its name."""

ResolveUdt = Callable[[str, str], UserType | None]
"""(keyspace, "" if none was named; name) -> that user-defined type, or None if there is none."""

_LEXEME = re.compile(r'\s*(?:([A-Za-z_][A-Za-z0-9_]*)|"((?:[^"]|"")+)"|([0-9]{1,9})|([<>,.]))')


def no_udts(_keyspace: str, _name: str) -> UserType | None:
    """Knows no user-defined type."""
    return None


def _by_class(text: str) -> Type | None:
    """A scalar by its Java class: 'org.apache.cassandra.db.marshal.Int32Type', or the last part of that."""
    if not text.startswith("'"):
        return None
    name = text.strip("'").rpartition(".")[2]
    return next((of for of in SCALARS.values() if of.class_name.rpartition(".")[2] == name), None)


def parse_type(text: str, resolve_udt: ResolveUdt = no_udts) -> Type:
    """The type with this CQL text; raises InvalidTypeError."""
    found = SCALARS.get(text) or _by_class(text)
    return found if found is not None else _Parser(text, resolve_udt).whole()


def frozen(of: Type) -> Type:
    """The type frozen all the way down; scalars, tuples and vectors are so already."""
    if isinstance(of, ListType | SetType):
        return msgspec.structs.replace(of, frozen=True, element=frozen(of.element))
    if isinstance(of, MapType):
        return msgspec.structs.replace(of, frozen=True, keys=frozen(of.keys), values=frozen(of.values))
    if isinstance(of, UserType):
        return msgspec.structs.replace(of, frozen=True, types=tuple(map(frozen, of.types)))
    return of


class _Parser:
    """One pass from left to right; each method leaves `_at` after what it read."""

    def __init__(self, text: str, resolve_udt: ResolveUdt) -> None:
        if len(text) > TYPE_TEXT_CHARS_MAX:
            raise InvalidTypeError(f"the name of a type has at most {TYPE_TEXT_CHARS_MAX} characters")
        self._text = text
        self._resolve_udt = resolve_udt
        self._lexemes: list[tuple[str, str]] = []
        self._at = 0
        self._depth = 0
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _LEXEME.match(text, at)
            if match is None:
                raise self._wrong()
            at = match.end()
            kind = ("word", "quoted", "number", "sign")[(match.lastindex or 1) - 1]
            value = match[match.lastindex or 1]
            self._lexemes.append((kind, value.lower() if kind == "word" else value.replace('""', '"')))
        self._lexemes.append(("end", ""))

    def _wrong(self) -> InvalidTypeError:
        return InvalidTypeError(f"{self._text!r} is no type")

    def _take(self, kind: str, value: str | None = None) -> str:
        found_kind, found = self._lexemes[self._at]
        if found_kind != kind or value not in (None, found):
            raise self._wrong()
        self._at += 1
        return found

    def _next_is(self, value: str) -> bool:
        return self._lexemes[self._at] == ("sign", value)

    def whole(self) -> Type:
        found = self._type()
        self._take("end")
        return found

    def _type(self) -> Type:
        self._depth += 1
        if self._depth > TYPE_DEPTH_MAX:
            raise InvalidTypeError(f"types are nested at most {TYPE_DEPTH_MAX} deep")
        quoted = self._lexemes[self._at][0] == "quoted"
        name = self._take("quoted" if quoted else "word")
        if not quoted and self._next_is("<"):
            found = self._with_parameters(name)
        elif not quoted and name in SCALARS:
            found = SCALARS[name]
        else:
            found = self._user_type(name)
        self._depth -= 1
        return found

    def _user_type(self, name: str) -> Type:
        keyspace = ""
        if self._next_is("."):
            self._at += 1
            keyspace, name = name, self._take("quoted" if self._lexemes[self._at][0] == "quoted" else "word")
        found = self._resolve_udt(keyspace, name)
        if found is None:
            close = "" if keyspace else elsewhere(name)
            raise InvalidTypeError(
                f"Unknown type {f'{keyspace}.{name}' if keyspace else name}"
                + (f": did you mean {close}?" if close else "")
            )
        return msgspec.structs.replace(found, frozen=False)

    def _with_parameters(self, name: str) -> Type:
        if name == "vector":
            return self._vector()
        self._take("sign", "<")
        parameters = [self._type()]
        while self._next_is(","):
            self._at += 1
            parameters.append(self._type())
        self._take("sign", ">")
        if name == "tuple":
            return self._tuple(parameters)
        wanted = {"frozen": 1, "list": 1, "set": 1, "map": 2}.get(name)
        if wanted is None:
            raise InvalidTypeError(f"type {name} takes no parameters")
        if len(parameters) != wanted:
            raise InvalidTypeError(f"{name}<> takes {wanted} type(s), not {len(parameters)}")
        return self._frozen(parameters[0]) if name == "frozen" else _collection(name, parameters)

    def _frozen(self, of: Type) -> Type:
        if not isinstance(of, Collection | UserType | TupleType | VectorType):
            raise InvalidTypeError(
                f"frozen<> is only allowed on collections, tuples, and user-defined types (got {of})"
            )
        return frozen(of)

    def _tuple(self, parameters: list[Type]) -> TupleType:
        if len(parameters) > TYPE_FIELDS_MAX:
            raise InvalidTypeError(f"a tuple has at most {TYPE_FIELDS_MAX} fields")
        for of in parameters:
            _no_counter(of, "a tuple")
        return TupleType(types=tuple(map(frozen, parameters)))

    def _vector(self) -> VectorType:
        self._take("sign", "<")
        element = self._type()
        self._take("sign", ",")
        dimensions = int(self._take("number"))
        self._take("sign", ">")
        if not 1 <= dimensions <= VECTOR_DIMENSIONS_MAX:
            raise InvalidTypeError(
                f"vectors may only have positive dimensions; given {dimensions}, of at most "
                f"{VECTOR_DIMENSIONS_MAX}"
            )
        _no_counter(element, "a vector")
        return VectorType(element=frozen(element), dimensions=dimensions)


_ELSEWHERE: Final = {
    "string": "text", "str": "text", "char": "text", "character": "text", "clob": "text", "nvarchar": "text",
    "integer": "int", "int32": "int", "serial": "int", "int8": "tinyint", "int16": "smallint",
    "long": "bigint", "int64": "bigint", "bool": "boolean", "datetime": "timestamp", "numeric": "decimal",
    "number": "decimal", "real": "float", "bytes": "blob", "binary": "blob", "array": "list", "guid": "uuid",
    "jsonb": "json", "object": "map", "dict": "map",
}  # fmt: skip


def elsewhere(name: str) -> str:
    """What a type is called here that has this name in other languages, or is misspelt; "" if unknown."""
    lowered = name.lower()
    if lowered in _ELSEWHERE:
        return _ELSEWHERE[lowered]
    close = difflib.get_close_matches(lowered, [*SCALARS, "list", "set", "map", "tuple", "vector"], 1, 0.7)
    return close[0] if close else ""


def _no_counter(of: Type, where: str) -> None:
    if of == COUNTER:
        word = "collections" if where in ("a list", "a set", "a map") else where
        raise InvalidTypeError(f"Counters are not allowed inside {word}: here inside {where}")


def _collection(name: str, parameters: list[Type]) -> Collection:
    for of in parameters:
        _no_counter(of, f"a {name}")
    if name == "list":
        return ListType(frozen=False, element=parameters[0])
    if parameters[0] == DURATION or parameters[0] == JSON:
        where = "as map keys" if name == "map" else "inside sets"
        raise InvalidTypeError(
            f"{parameters[0].cql.capitalize()}s are not allowed {where}: they have no order"
        )
    if name == "set":
        return SetType(frozen=False, element=parameters[0])
    return MapType(frozen=False, keys=parameters[0], values=parameters[1])


def check_column_type(of: Type) -> None:
    """Raises InvalidTypeError if the type may not be a column's: parts that would need cells of cells."""
    for part in _parts(of):
        if part.is_multicell:
            word = "UDTs" if isinstance(part, UserType) else "collections"
            where = "user-defined types" if isinstance(of, UserType) else "collections"
            raise InvalidTypeError(
                f"Non-frozen {word} are not allowed inside {where}: write frozen<{part}> in {of}"
            )


def has_durations(of: Type) -> bool:
    """Whether values hold durations, which have no order, at any depth."""
    return of == DURATION or any(map(has_durations, _parts(of)))


def _parts(of: Type) -> tuple[Type, ...]:
    if isinstance(of, ListType | SetType | VectorType):
        return (of.element,)
    if isinstance(of, MapType):
        return (of.keys, of.values)
    return of.types if isinstance(of, TupleType | UserType) else ()
