"""Every type: its forms agree with each other, its keys sort as it does, nonsense is refused in words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from core import limits
from cql_lite import ast_terms as ast, types
from cql_lite.types import InvalidTypeError, InvalidValueError, Type, parse_type
from tests.cql_lite import values

ALL = sorted(values.SCALARS, key=str)
by_name = pytest.mark.parametrize("of", ALL, ids=str)


def of_type(text: str) -> Type:
    return parse_type(text, values.resolve)


@by_name
@given(data=st.data())
def test_scalars_come_back_from_every_form(of: types.Scalar, data: st.DataObject) -> None:
    value = data.draw(values.SCALARS[of])
    wire = of.encode(value)
    assert of.check(wire) is wire
    assert of.encode(of.decode(wire)) == wire
    if value == value and of is not types.DECIMAL:
        assert of.decode(wire) == value
    assert of.encode(of.parse(of.format(of.decode(wire)))) == wire or value != value
    back = of.from_json(of.to_json(wire).encode())
    assert back == wire or (isinstance(of, types.Float) and back is None) or of is types.JSON
    assert parse_type(of.cql) is of


@given(values.nested(), st.data())
def test_nested_values_come_back_from_wire_and_json(of: Type, data: st.DataObject) -> None:
    wire = data.draw(values.wire_values(of))
    assert of.check(wire) == wire
    value = of.decode(wire)
    assert of.encode(value) == wire
    hash(value)
    if not any(word in repr(of) for word in ("Float(", "Json(")):
        assert of.from_json(of.to_json(wire).encode()) == wire


@given(values.nested())
def test_types_come_back_from_their_text(of: Type) -> None:
    def resolve(keyspace: str, name: str) -> types.UserType | None:
        found = [part for part in _parts(of) if isinstance(part, types.UserType) and part.name == name]
        return found[0] if len(found) == 1 else None

    if sum(isinstance(part, types.UserType) for part in _parts(of)) <= 1:
        parsed = parse_type(of.cql, resolve)
        assert parsed == of
        types.check_column_type(parsed)


def _parts(of: Type) -> list[Type]:
    inner: list[Type] = []
    if isinstance(of, types.ListType | types.SetType | types.VectorType):
        inner = [of.element]
    elif isinstance(of, types.MapType):
        inner = [of.keys, of.values]
    elif isinstance(of, types.Fields):
        inner = list(of.types)
    return [of] + [part for one in inner for part in _parts(one)]


# --- order


def sign(a: Any, b: Any) -> int:
    return int(a > b) - int(a < b)


@pytest.mark.parametrize("of", [of for of in ALL if of.may_be_key], ids=str)
@given(data=st.data(), descending=st.booleans())
def test_keys_of_scalars_sort_as_the_type_does(of: Type, data: st.DataObject, descending: bool) -> None:
    a, b = data.draw(values.SCALARS[of]), data.draw(values.SCALARS[of])
    keys_sort(of, (a, b), descending, data.draw(st.binary(max_size=3)))


@given(values.nested(key=True), st.data(), st.booleans())
def test_keys_of_frozen_values_sort_as_the_type_does(of: Type, data: st.DataObject, descending: bool) -> None:
    pair = [of.decode(data.draw(values.wire_values(of))) for _ in range(2)]
    keys_sort(of, (pair[0], pair[1]), descending, data.draw(st.binary(max_size=3)))


def keys_sort(of: Type, pair: tuple[Any, Any], descending: bool, after: bytes) -> None:
    wire = [of.encode(value) for value in pair]
    key_a, key_b = (of.to_key(data, descending) for data in wire)
    expected = sign(values.model(of, pair[0]), values.model(of, pair[1]))
    assert of.compare(wire[0], wire[1]) == expected
    assert sign(key_a, key_b) == (-expected if descending else expected)
    assert key_a == key_b or not key_b.startswith(key_a)
    back, end = of.from_key(b"before" + key_a + after, 6, descending)
    assert end == 6 + len(key_a)
    assert of.compare(back, wire[0]) == 0
    assert of.to_key(back, descending) == key_a


@given(values.nested(key=True), st.binary(max_size=40), st.booleans())
def test_a_damaged_key_is_a_value_error(of: Type, data: bytes, descending: bool) -> None:
    try:
        wire, end = of.from_key(data, 0, descending)
    except (ValueError, InvalidValueError):
        return
    assert end <= len(data)
    of.check(wire)


def test_the_order_of_uuids_is_cassandras() -> None:
    early = types.UUID.parse("ffffffff-0000-1000-8000-000000000000")
    late = types.UUID.parse("00000000-0001-1000-8000-000000000000")
    random = types.UUID.parse("00000000-0000-4000-8000-000000000000")
    assert [types.UUID.compare(early, late), types.UUID.compare(late, random)] == [-1, -1]
    low = types.TIMEUUID.parse("00000000-0000-1000-8000-000000000000")
    high = types.TIMEUUID.parse("00000000-0000-1000-0000-000000000000")
    assert types.TIMEUUID.compare(low, high) == -1, "the second half counts as signed bytes"
    assert types.UUID.compare(low, high) == 1


@pytest.mark.parametrize(
    ("scale", "unscaled"),
    [(-(2**31), 10), (-(2**31), -(10**500)), (2**31 - 1, 10), (-30, int("1" * 2_460)), (-2, 10**2_465)],
)
def test_the_longest_decimals_come_back_of_their_keys(scale: int, unscaled: int) -> None:
    wire = scale.to_bytes(4, "big", signed=True)
    wire += unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
    types.DECIMAL.check(wire)
    for descending in (False, True):
        key = types.DECIMAL.to_key(wire, descending)
        back, end = types.DECIMAL.from_key(key, 0, descending)
        assert end == len(key)
        assert types.DECIMAL.compare(back, wire) == 0


def test_a_vector_whose_class_is_too_long_for_the_protocol_is_bytes_to_drivers() -> None:
    names = tuple(f"{'f' * 40}{number}" for number in range(900))
    of = types.UserType(keyspace="ks", name="u", names=names, types=(types.INT,) * 900)
    assert types.VectorType(element=of, dimensions=1).option(5).endswith(b"marshal.BytesType")


def test_equal_decimals_are_one_key() -> None:
    keys = [types.DECIMAL.key(types.DECIMAL.encode(Decimal(text))) for text in ("1", "1.00", "100E-2")]
    assert len(set(keys)) == 1
    wire, _ = types.DECIMAL.from_key(types.DECIMAL.key(types.DECIMAL.encode(Decimal("1.2E+3"))))
    assert str(types.DECIMAL.decode(wire)) == "1200"


# --- literals


def constant(kind: str, text: str) -> ast.Literal:
    return ast.Literal(kind, text)


CONVERSIONS = [
    ("ascii", ast.STRING, "a", "a"),
    ("text", ast.STRING, "한글", "한글"),
    ("bigint", ast.INTEGER, "-9223372036854775808", -(2**63)),
    ("counter", ast.INTEGER, "5", 5),
    ("varint", ast.INTEGER, "1" * 100, int("1" * 100)),
    ("decimal", ast.INTEGER, "5", Decimal(5)),
    ("decimal", ast.FLOAT, "1.50e-3", Decimal("1.50e-3")),
    ("double", ast.INTEGER, "5", 5.0),
    ("double", ast.FLOAT, "-Infinity", float("-inf")),
    ("float", ast.FLOAT, "1.5", 1.5),
    ("timestamp", ast.INTEGER, "1", 1),
    ("timestamp", ast.STRING, "1970-01-02", 86_400_000),
    ("timestamp", ast.STRING, "1970-01-01T00:00:01.5+0100", 1500 - 3_600_000),
    ("timestamp", ast.STRING, "1969-12-31 23:59:59Z", -1000),
    ("timestamp", ast.STRING, "2011-02-03 04:05", 1_296_705_900_000),
    ("date", ast.STRING, "1970-01-02", 1),
    ("date", ast.INTEGER, "2147483648", 0),
    ("date", ast.STRING, "-5877641-06-23", -(2**31)),
    ("time", ast.STRING, "00:00:01.000000005", 1_000_000_005),
    ("time", ast.INTEGER, "7", 7),
    ("inet", ast.STRING, "127.0.0.1", bytes((127, 0, 0, 1))),
    ("inet", ast.STRING, "::1", bytes(15) + b"\x01"),
    ("blob", ast.BLOB, "0xCAFE", b"\xca\xfe"),
    ("blob", ast.BLOB, "0x", b""),
    ("boolean", ast.BOOLEAN, "true", True),
    (
        "uuid",
        ast.UUID,
        "123E4567-e89b-12d3-a456-426614174000",
        bytes.fromhex("123e4567e89b12d3a456426614174000"),
    ),
    ("duration", ast.DURATION, "1y2mo3w4d5h6m7s8ms9us10ns", (14, 25, 18_367_008_009_010)),
    ("duration", ast.DURATION, "-P1Y2M3DT4H5M6S", (-14, -3, -14_706_000_000_000)),
    ("duration", ast.DURATION, "P2W", (0, 14, 0)),
    ("duration", ast.DURATION, "P0001-02-03T04:05:06", (14, 3, 14_706_000_000_000)),
    ("json", ast.STRING, '{"a": 1.00}', '{"a": 1.00}'),
    ("json", ast.INTEGER, "5", "5"),
]


@pytest.mark.parametrize(("cql", "kind", "text", "expected"), CONVERSIONS)
def test_literals_are_converted(cql: str, kind: str, text: str, expected: Any) -> None:
    of = parse_type(cql)
    wire = of.from_literal(constant(kind, text))
    assert wire is not None
    assert of.decode(wire) == expected


REFUSED = [
    ("int", ast.STRING, "5", "a constant is no value of type int"),
    ("int", ast.FLOAT, "5.0", "a constant is no value of type int"),
    ("text", ast.INTEGER, "5", "a constant is no value of type text"),
    ("int", ast.INTEGER, "2147483648", "out of range for type int"),
    ("tinyint", ast.INTEGER, "128", "out of range"),
    ("date", ast.STRING, "2023-02-29", "Unable to coerce"),
    ("timestamp", ast.STRING, "2023-13-01", "Unable to coerce"),
    ("time", ast.STRING, "24:00:00", "Unable to coerce"),
    ("time", ast.INTEGER, "86400000000000", "nanoseconds"),
    ("inet", ast.STRING, "localhost", "Unable to make inet address"),
    ("inet", ast.STRING, "fe80::1%eth0", "Unable to make inet address"),
    ("timeuuid", ast.UUID, "123e4567-e89b-42d3-a456-426614174000", "Invalid version for TimeUUID type"),
    ("duration", ast.DURATION, "1d1y", "longest first"),
    ("json", ast.STRING, "{a: 1}", "no JSON"),
    ("json", ast.STRING, "[" * 200 + "]" * 200, "nested more than 100"),
    ("ascii", ast.STRING, "é", "no value of type ascii"),
    ("varint", ast.INTEGER, "1" * 5000, "Unable to make varint"),
    ("double", ast.FLOAT, "1e999", "out of range"),
    ("float", ast.FLOAT, "1e39", "out of range"),
    ("decimal", ast.FLOAT, "1e9999999999", "32-bit scale"),
    ("decimal", ast.FLOAT, "NaN", "no value of type decimal"),
    ("list<int>", ast.INTEGER, "5", "a constant is no value of type list<int>"),
]


@pytest.mark.parametrize(("cql", "kind", "text", "said"), REFUSED)
def test_literals_that_do_not_fit_are_refused(cql: str, kind: str, text: str, said: str) -> None:
    with pytest.raises(InvalidValueError) as refused:
        parse_type(cql).from_literal(constant(kind, text))
    assert said in str(refused.value).replace("a integer", "an integer")


one, two = constant(ast.INTEGER, "1"), constant(ast.INTEGER, "2")
null = constant(ast.NULL, "null")


def test_null_is_none_everywhere() -> None:
    for text in ("int", "list<int>", "address", "vector<float, 2>", "tuple<int>"):
        assert of_type(text).from_literal(null) is None
        assert of_type(text).from_json(b"null") is None
    assert types.JSON.from_json(b"null") is None


def test_literals_of_collections() -> None:
    pairs: list[tuple[str, ast.Expression, Any]] = [
        ("list<int>", ast.ListLiteral((two, one, two)), (2, 1, 2)),
        ("set<int>", ast.SetLiteral((two, one, two)), (1, 2)),
        ("map<int, int>", ast.MapLiteral(((two, one), (one, one), (two, two))), ((1, 1), (2, 2))),
        ("map<int, int>", ast.SetLiteral(()), ()),
        ("tuple<int, text>", ast.TupleLiteral((one,)), (1, None)),
        ("address", ast.UdtLiteral(((ast.Name("Zip"), one),)), (None, 1)),
        ("vector<float, 2>", ast.ListLiteral((one, two)), (1.0, 2.0)),
        ("int", ast.TupleLiteral((one,)), 1),
    ]
    for text, literal, expected in pairs:
        of = of_type(text)
        wire = of.from_literal(literal)
        assert wire is not None
        assert of.decode(wire) == expected, text


def test_literals_of_collections_that_do_not_fit() -> None:
    pairs: list[tuple[str, ast.Expression, str]] = [
        ("list<int>", ast.ListLiteral((null,)), "null is not supported inside collections"),
        ("list<int>", ast.SetLiteral((one,)), "a set literal is no value of type list<int>"),
        ("vector<float, 3>", ast.ListLiteral((one,)), "expected 3 elements, but given 1"),
        ("tuple<int>", ast.TupleLiteral((one, two)), "too many elements"),
        (
            "address",
            ast.UdtLiteral(((ast.Name("zip"), one),)),
            "Unknown field 'zip' in value of user defined type address",
        ),
        ("int", ast.Marker(0), "a term that is not a literal"),
    ]
    for text, literal, said in pairs:
        with pytest.raises(InvalidValueError, match=said):
            of_type(text).from_literal(literal)


def test_terms_inside_literals_are_left_to_the_caller() -> None:
    of = parse_type("map<text, frozen<list<int>>>")
    literal = ast.MapLiteral(((ast.Marker(0), ast.ListLiteral((ast.Marker(1), one))),))

    def leaf(wanted: Type, term: ast.Expression) -> bytes:
        assert isinstance(term, ast.Marker)
        return [types.TEXT.encode("k"), types.INT.encode(9)][term.index]

    assert of.decode(of.from_literal(literal, leaf) or b"") == (("k", (9, 1)),)


def test_text_forms() -> None:
    shown = [
        ("text", "it's", "it's", "'it''s'"),
        ("timestamp", 1_296_705_900_001, "2011-02-03 04:05:00.001+0000", "'2011-02-03 04:05:00.001+0000'"),
        ("float", 1.1, "1.1", "1.1"),
        ("double", 1.1, "1.1", "1.1"),
        ("map<text, frozen<set<date>>>", {"a'": [0]}, "{'a''': {'1970-01-01'}}", None),
        ("tuple<int, text>", (1,), "(1, null)", None),
        ("address", ("x", 1), "{street: 'x', \"Zip\": 1}", None),
        ("duration", (14, 3, 5), "1y2mo3d5ns", "1y2mo3d5ns"),
        ("duration", (0, 0, 0), "0s", None),
    ]
    for text, value, expected, literal in shown:
        of = of_type(text)
        wire = of.encode(value)
        assert of.to_text(wire) == expected
        assert of.to_literal(wire) == (literal or expected)


def test_json_forms() -> None:
    shown = [
        ("address", ("x", None), '{"street": "x", "\\"Zip\\"": null}'),
        ("map<int, boolean>", {1: True}, '{"1": true}'),
        ("map<frozen<list<int>>, int>", {(1, 2): 3}, '{"[1, 2]": 3}'),
        ("double", float("nan"), "null"),
        ("timestamp", 0, '"1970-01-01 00:00:00.000Z"'),
        ("blob", b"\x01", '"0x01"'),
        ("list<json>", ['{"a": 1.000}'], '[{"a": 1.000}]'),
        ("decimal", Decimal("1.10"), "1.10"),
    ]
    for text, value, expected in shown:
        of = of_type(text)
        assert of.to_json(of.encode(value)) == expected
    assert of_type("address").from_json(b'{"STREET": "x"}') == of_type("address").encode(("x", None))
    assert parse_type("int").from_json(b'"5"') == types.INT.encode(5)
    assert parse_type("list<int>").from_json(b'"[1]"') == parse_type("list<int>").encode([1])


@pytest.mark.parametrize(
    ("cql", "text"),
    [("int", "1.0"), ("int", "true"), ("int", "[1]"), ("list<int>", "[null]"), ("list<int>", "{}")]
    + [("address", '{"no": 1}'), ("tuple<int>", "[1, 2]"), ("text", "5"), ("set<int>", "5"), ("int", "nul")],
)
def test_json_that_does_not_fit_is_refused(cql: str, text: str) -> None:
    with pytest.raises(InvalidValueError):
        of_type(cql).from_json(text.encode())


# --- bytes from clients


@given(values.nested(), st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_are_refused_or_good(of: Type, data: bytes) -> None:
    try:
        kept = of.check(data)
    except InvalidValueError:
        return
    assert of.encode(of.decode(kept)) == kept or of.check(kept) == kept
    of.to_text(kept)
    of.to_json(kept)
    of.key(kept)


@given(values.nested(), st.data())
def test_damaged_bytes_are_refused_or_good(of: Type, data: st.DataObject) -> None:
    wire = bytearray(data.draw(values.wire_values(of)))
    if wire:
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    test_any_bytes_are_refused_or_good.hypothesis.inner_test(of, bytes(wire))  # type: ignore[attr-defined]


def test_sets_and_maps_are_put_in_order() -> None:
    of = parse_type("map<text, frozen<set<int>>>")
    unordered = bytes.fromhex(
        "00000002"
        "0000000162000000140000000200000004000000020000000400000001"
        "00000001610000000400000000"
    )  # fmt: skip
    assert of.check(unordered) == of.encode({"a": [], "b": [1, 2]})


def test_claims_are_not_believed() -> None:
    for text, data in [
        ("list<int>", "7fffffff"),
        ("list<int>", "ffffffff"),
        ("list<int>", "000000017fffffff00000000"),
        ("map<int, int>", "000000010000000400000001"),
        ("tuple<int>", "000000040000"),
        ("tuple<int>", "0000000400000001ffffffff"),
        ("vector<text, 2>", "ffffffffffffffffff"),
        ("duration", "0102"),
        ("duration", "0102fffe"),
        ("varint", ""),
        ("decimal", "00000000"),
        ("list<int>", ""),
        ("int", ""),
    ]:  # fmt: skip
        with pytest.raises(InvalidValueError):
            parse_type(text).check(bytes.fromhex(data))
    with pytest.raises(InvalidValueError, match="1 to 1024 bytes"):
        types.VARINT.check(b"\x01" * (limits.NUMBER_BYTES_MAX + 1))


def test_golden_bytes_of_the_specification() -> None:
    """The examples of sections 5 and 6 of the native protocol's specification, version 5."""
    for value, data in [(0, "00"), (1, "01"), (127, "7f"), (128, "0080"), (129, "0081"), (-1, "ff")] + [
        (-128, "80"),
        (-129, "ff7f"),
    ]:
        assert types.VARINT.encode(value).hex() == data
    assert types.DATE.encode(0).hex() == "80000000"
    assert types.DATE.parse("5881580-07-11") == 2**31 - 1
    assert types.DURATION.encode(types.Duration(1, -0, 128_000)).hex() == "0200c3e800"
    assert types.DECIMAL.encode(Decimal("-1.29")).hex() == "00000002ff7f"


# --- the names of types


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("TEXT", "text"),
        ("varchar", "text"),
        (" map< text ,FROZEN<list<int>> > ", "map<text, frozen<list<int>>>"),
        ("frozen<list<set<int>>>", "frozen<list<frozen<set<int>>>>"),
        ("frozen<tuple<int, varchar>>", "tuple<int, text>"),
        ("vector<float,3>", "vector<float, 3>"),
        ("ks.address", "address"),
        ('frozen<"address">', "frozen<address>"),
    ],
)
def test_types_are_parsed(text: str, normal: str) -> None:
    assert of_type(text).cql == normal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frob", "Unknown type frob"),
        ("list<int", "is no type"),
        ("list<>", "is no type"),
        ("map<int>", "takes 2 type"),
        ("int<int>", "takes no parameters"),
        ("frozen<int>", "frozen<> is only allowed on collections"),
        ("set<duration>", "Durations are not allowed inside sets"),
        ("list<counter>", "Counters are not allowed inside collections"),
        ("vector<float, 0>", "positive dimensions; given 0"),
        ("vector<float>", "is no type"),
        ("frozen<" * 20 + "list<int>" + ">" * 20, "nested at most 16"),
        ("x" * 10_000, "at most 8192 characters"),
        ("", "is no type"),
        ("int;", "is no type"),
    ],
)
def test_names_that_are_no_types(text: str, said: str) -> None:
    with pytest.raises(InvalidTypeError, match=said):
        parse_type(text)


def test_what_must_be_frozen() -> None:
    types.check_column_type(parse_type("list<frozen<list<int>>>"))
    with pytest.raises(InvalidTypeError, match="Non-frozen collections are not allowed inside collections"):
        types.check_column_type(parse_type("list<list<int>>"))
    assert parse_type("list<int>").is_multicell
    assert not parse_type("frozen<list<int>>").is_multicell
    assert of_type("address").is_multicell
    assert not parse_type("counter").may_be_key
