"""The types of CQL, used as `from cql_lite import types`; every public name of the `types_*` files is here.

    of = types.parse_type("map<text, frozen<list<int>>>")
    data = of.encode({"a": [1, 2]})         # wire bytes, as cells and the protocol hold them
    of.decode(data)                         # (("a", (1, 2)),): Python forms are immutable, see types_base
    of.check(bound)                         # bytes of a bound value, or InvalidValueError
    of.from_literal(expression, leaf)       # a literal of the parser; `leaf` knows markers and functions
    of.to_json(data), of.from_json(text), of.to_text(data), of.to_literal(data)
    of.compare(a, b); of.to_key(data, descending); of.from_key(key, at, descending)
    of.unpack(data), of.build(parts)        # the wire values of the parts, and back

Where things are: `types_base` the interface and the forms a value has; `types_scalar`, `types_number` and
`types_time` the types without parts; `types_nested` collections; `types_fields` vectors, tuples, user-defined
types; `types_parse` the names; `ordered` numbers as sortable bytes.
"""

from __future__ import annotations

from cql_lite.types_base import (
    MAY_BE_EMPTY,
    InvalidKindError,
    InvalidTypeError,
    InvalidValueError,
    Leaf,
    Type,
    Value,
    unwrapped,
    word_for,
)
from cql_lite.types_fields import Fields, TupleType, UserType, VectorType, json_name, name_in_json
from cql_lite.types_nested import Collection, ListType, MapType, Nested, SetType, name_text, sized
from cql_lite.types_number import DecimalType, Float, Integer, Varint, as_java
from cql_lite.types_parse import (
    ASCII,
    BIGINT,
    BLOB,
    BOOLEAN,
    COUNTER,
    DATE,
    DECIMAL,
    DOUBLE,
    DURATION,
    FLOAT,
    INET,
    INT,
    JSON,
    SCALARS,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMEUUID,
    TINYINT,
    UUID,
    VARINT,
    ResolveUdt,
    check_column_type,
    frozen,
    has_durations,
    parse_type,
)
from cql_lite.types_scalar import Blob, Boolean, Inet, Json, Scalar, Text, Uuid, check_json, quoted
from cql_lite.types_time import Date, Duration, DurationType, Time, Timestamp, date_of, days_of

__all__ = [
    "ASCII", "BIGINT", "BLOB", "BOOLEAN", "COUNTER", "DATE", "DECIMAL", "DOUBLE", "DURATION", "FLOAT",
    "INET", "INT", "JSON", "MAY_BE_EMPTY", "SCALARS", "SMALLINT", "TEXT", "TIME", "TIMESTAMP", "TIMEUUID",
    "TINYINT", "UUID", "VARINT", "Blob", "Boolean", "Collection", "Date", "DecimalType", "Duration",
    "DurationType", "Fields", "Float", "Inet", "Integer", "InvalidKindError", "InvalidTypeError",
    "InvalidValueError", "Json", "Leaf", "ListType", "MapType", "Nested", "ResolveUdt", "Scalar",
    "SetType", "Text", "Time", "Timestamp", "TupleType", "Type", "UserType", "Uuid", "Value", "Varint",
    "VectorType", "as_java", "check_column_type", "check_json", "date_of", "days_of", "frozen",
    "has_durations", "json_name", "name_in_json", "name_text", "parse_type", "quoted", "sized",
    "unwrapped", "word_for",
]  # fmt: skip
