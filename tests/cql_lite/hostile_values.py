"""Values and other things that go with a statement, as a client might send them that knows no types."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from core.consistency import Level
from cql_lite import types, wire
from cql_lite.types import Type
from tests.cql_lite.test_wire import mutated


def sample(random: Random, of: Type) -> bytes:
    """Bytes that a value of a type might have."""
    if isinstance(of, types.ListType | types.SetType):
        return of.encode([of.element.decode(sample(random, of.element)) for _ in range(random.randint(0, 3))])
    if isinstance(of, types.VectorType):
        return of.encode([of.element.decode(sample(random, of.element)) for _ in range(of.dimensions)])
    if isinstance(of, types.MapType):
        pairs = [(sample(random, of.keys), sample(random, of.values)) for _ in range(random.randint(0, 3))]
        return of.encode([(of.keys.decode(key), of.values.decode(value)) for key, value in pairs])
    if isinstance(of, types.Fields):
        some = [None if random.random() < 0.2 else part.decode(sample(random, part)) for part in of.types]
        return of.encode(some)
    return random.choice(SAMPLES[of.cql])


SAMPLES: Final = {
    "ascii": (b"a", b"b", b""),
    "bigint": (b"\0" * 8, b"\0" * 7 + b"\1", b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7),
    "blob": (b"", b"\0", b"a" * 100),
    "boolean": (b"\0", b"\1", b"\2"),
    "date": (b"\x80\0\0\0", b"\0" * 4, b"\xff" * 4),
    "decimal": (b"\0\0\0\0\1", b"\0\0\0\2\xff", b"\x7f\xff\xff\xff\1", b"\x80\0\0\0\1", b"\0\0\0\0\0"),
    "double": (
        b"\0" * 8,
        b"\x7f\xf8" + b"\0" * 6,
        b"\xff\xf0" + b"\0" * 6,
        b"\x80" + b"\0" * 7,
        b"\x3f\xf8" + b"\0" * 6,
    ),
    "duration": (b"\0\0\0", b"\2\4\6", b"\1\1\1", b"\0\0\xff" + b"\xff" * 8),
    "inet": (b"\x7f\0\0\1", b"\0" * 15 + b"\1"),
    "float": (b"\0" * 4, b"\x7f\xc0\0\0", b"\xff\x80\0\0", b"\x3f\x80\0\0"),
    "tinyint": (b"\0", b"\x7f", b"\x80"),
    "int": (b"\0" * 4, b"\0\0\0\1", b"\0\0\0\2", b"\xff" * 4, b"\x7f\xff\xff\xff"),
    "smallint": (b"\0\0", b"\x7f\xff"),
    "text": (b"a", b"b", b"", b"\xc3\xa9", b"\0"),
    "time": (b"\0" * 8, b"\0\0\x4e\x94\x91\x4e\xff\xff"),
    "timestamp": (b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7),
    "counter": (b"\0" * 7 + b"\1", b"\x7f" + b"\xff" * 7),
    "timeuuid": (bytes.fromhex("50554d6e29bb11e5b345feff819cdc9f"), b"\0" * 6 + b"\x10" + b"\0" * 9),
    "uuid": (b"\0" * 16, bytes.fromhex("50554d6e29bb41e5b345feff819cdc9f")),
    "varint": (b"\0", b"\xff", b"\1" + b"\0" * 40),
    "json": (b"1", b"null", b'{"a": {"b": [1]}}', b"[1, 2]", b'"x"', b"1e999"),
}


def bound(random: Random, of: Type) -> wire.BoundValue:
    """Bytes for a marker of a type: good mostly, or of another one, damaged, or none."""
    drawn = random.random()
    if drawn < 0.05:
        return None
    if drawn < 0.1:
        return wire.UNSET
    if drawn < 0.12:
        return b""
    if drawn < 0.16:
        return random.choice(random.choice(list(SAMPLES.values())))
    data = sample(random, of)
    return mutated(data, random) if drawn > 0.9 else data


LEVELS: Final = (Level.ONE, Level.QUORUM, Level.ALL, Level.SERIAL, Level.ANY, Level.LOCAL_ONE)


def parameters(
    random: Random, values: Sequence[wire.BoundValue], states: Sequence[bytes], wild: float
) -> wire.Parameters:
    """What goes with a statement."""

    def chance() -> bool:
        return random.random() < wild

    return wire.Parameters(
        random.choice(LEVELS) if chance() else Level.QUORUM,
        tuple(values),
        page_size=random.choice((0, 0, 1, 2, 5000)),
        paging_state=random.choice(states) if states and chance() else None,
        serial_consistency=random.choice((Level.SERIAL, Level.LOCAL_SERIAL, Level.ONE)) if chance() else None,
        timestamp_us=random.choice((1, -1, 0, 2**63 - 1, -(2**63))) if chance() else None,
        now_s=random.choice((0, -1, 2**31 - 1, -(2**31))) if chance() else None,
    )
