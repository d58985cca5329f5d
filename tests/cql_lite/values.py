"""Hypothesis strategies for types and their values, and a model of how Cassandra orders them.

The model compares Python values and knows nothing of our bytes: it is what the key encoding is measured by.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from cql_lite import types
from cql_lite.types import Type

ADDRESS = types.UserType(
    keyspace="ks", name="address", names=("street", "Zip"), types=(types.TEXT, types.INT), frozen=False
)


def resolve(keyspace: str, name: str) -> types.UserType | None:
    return ADDRESS if keyspace in ("", "ks") and name == "address" else None


def whole(bits: int) -> st.SearchStrategy[int]:
    edges = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1, 1]
    return st.sampled_from(edges) | st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def as_uuid(data: bytes, version: int) -> bytes:
    return data[:6] + bytes((data[6] & 0x0F | version << 4,)) + data[7:]


def durations() -> st.SearchStrategy[types.Duration]:
    parts = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
    return st.tuples(parts, st.sampled_from([-1, 1])).map(
        lambda pair: types.Duration(*(pair[1] * part for part in pair[0]))
    )


_DECIMALS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=30).map(tuple),
    st.integers(-40, 40) | st.integers(-(2**31) + 1, 2**31 - 1),
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def json_text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


SCALARS: dict[Type, st.SearchStrategy[Any]] = {
    types.ASCII: st.text(st.characters(max_codepoint=127), max_size=8),
    types.TEXT: st.text(st.characters(codec="utf-8"), max_size=8),
    types.BLOB: st.binary(max_size=8) | st.lists(st.sampled_from([0, 1, 255]), max_size=6).map(bytes),
    types.BOOLEAN: st.booleans(),
    types.TINYINT: whole(8),
    types.SMALLINT: whole(16),
    types.INT: whole(32),
    types.BIGINT: whole(64),
    types.COUNTER: whole(64),
    types.VARINT: st.integers() | whole(8) | whole(17) | whole(2000),
    types.DECIMAL: _DECIMALS,
    types.FLOAT: st.floats(width=32),
    types.DOUBLE: st.floats(),
    types.UUID: st.builds(as_uuid, st.binary(min_size=16, max_size=16), st.sampled_from([1, 1, 4, 7])),
    types.TIMEUUID: st.builds(as_uuid, st.binary(min_size=16, max_size=16), st.just(1)),
    types.INET: st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    types.DATE: whole(32),
    types.TIME: st.integers(0, 86_400_000_000_000 - 1),
    types.TIMESTAMP: whole(64) | st.integers(-(10**14), 10**14),
    types.DURATION: durations(),
    types.JSON: _JSON.map(json_text),
}


def model(of: Type, value: Any) -> Any:
    """What sorts as Cassandra sorts the value."""
    if isinstance(of, types.Float):
        return (1,) if math.isnan(value) else (0, value, math.copysign(1.0, value))
    if isinstance(of, types.Text):
        return value.encode()
    if isinstance(of, types.Uuid):
        return _uuid_model(value, of.time_based)
    if isinstance(of, types.ListType | types.SetType | types.VectorType):
        return tuple(model(of.element, part) for part in value)
    if isinstance(of, types.MapType):
        return tuple((model(of.keys, key), model(of.values, part)) for key, part in value)
    if isinstance(of, types.Fields):
        pairs = zip(of.types, value, strict=True)
        return tuple((0,) if part is None else (1, model(part_of, part)) for part_of, part in pairs)
    return value


def _uuid_model(value: bytes, time_based: bool) -> Any:
    version = value[6] >> 4
    low = int.from_bytes(value[:4], "big")
    time = int.from_bytes(value[6:8], "big") % 4096 << 48 | int.from_bytes(value[4:6], "big") << 32 | low
    if time_based:
        return time, [byte - 256 if byte > 127 else byte for byte in value[8:]]
    return version, time if version == 1 else value[:8], value[8:]


KEY_SCALARS = [of for of in SCALARS if of.may_be_key]


@st.composite
def nested(draw: st.DrawFn, depth: int = 3, *, key: bool = False) -> Type:
    """A frozen type; with `key` one that has an order."""
    scalars = KEY_SCALARS if key else [of for of in SCALARS if of is not types.COUNTER]
    kind = draw(st.sampled_from(["scalar", "list", "set", "map", "tuple", "udt", "vector"]))
    if kind == "scalar" or depth == 0:
        return draw(st.sampled_from(scalars))
    inner = nested(depth - 1, key=key)
    ordered = nested(depth - 1, key=True)
    if kind == "list":
        return types.ListType(element=draw(inner))
    if kind == "set":
        return types.SetType(element=draw(ordered))
    if kind == "map":
        return types.MapType(keys=draw(ordered), values=draw(inner))
    if kind == "vector":
        return types.VectorType(element=draw(inner), dimensions=draw(st.integers(1, 3)))
    parts = tuple(draw(st.lists(inner, min_size=1, max_size=3)))
    if kind == "tuple":
        return types.TupleType(types=parts)
    names = tuple(["a", "B", "c d"][: len(parts)])
    return types.UserType(keyspace="ks", name="made", names=names, types=parts)


def python_values(of: Type) -> st.SearchStrategy[Any]:
    """Values as `encode` takes them: sets and maps in any order."""
    if of in SCALARS:
        return SCALARS[of]
    if isinstance(of, types.ListType | types.SetType):
        return st.lists(python_values(of.element), max_size=4).map(tuple)
    if isinstance(of, types.MapType):
        return st.lists(st.tuples(python_values(of.keys), python_values(of.values)), max_size=4).map(tuple)
    if isinstance(of, types.VectorType):
        return st.tuples(*[python_values(of.element)] * of.dimensions)
    assert isinstance(of, types.Fields)
    return st.tuples(*(st.none() | python_values(part) for part in of.types))


def wire_values(of: Type) -> st.SearchStrategy[bytes]:
    return python_values(of).map(of.encode)
