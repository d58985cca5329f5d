"""Exact JSON: every digit kept, everything that is no JSON refused with a reason."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from core import limits
from core.json_values import (
    EXACT,
    JsonError,
    checked,
    depth_of,
    exact,
    number_of,
    parse,
    render,
    type_name,
)

NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, places=30, min_value=-(10**20), max_value=10**20),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8) | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def plain_text(value: Any) -> str:
    """JSON by the standard library alone, decimals written as they are."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(plain_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {plain_text(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def by_the_book(text: str) -> Any:
    """Every number that is no integer as a decimal."""
    return json.loads(text, parse_float=Decimal)


def decimals(value: Any) -> Any:
    """The same with every float as the decimal that it is written as."""
    if isinstance(value, float):
        return exact(value)
    if isinstance(value, list):
        return [decimals(item) for item in value]
    if isinstance(value, dict):
        return {name: decimals(item) for name, item in value.items()}
    return value


@given(VALUES)
def test_what_is_read_is_what_was_written_to_the_last_digit(value: Any) -> None:
    text = plain_text(value)
    wanted = by_the_book(text)
    for found in (checked(text.encode()), parse(text.encode())):
        assert decimals(found) == wanted
        assert by_the_book(render(found).decode()) == wanted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"0.1", 0.1),
        (b"0.10000000000000000000", 0.1),
        (b"0.30000000000000000001", Decimal("0.30000000000000000001")),
        (b"18446744073709551616", 18446744073709551616),
        (b"1e400", Decimal("1e400")),
        (b"-1e-400", Decimal("-1e-400")),
        (b"1E5", 100000.0),
        (b'" \\u00e9\\ud83d\\ude00"', " \u00e9\U0001f600"),
        (b'{"a b":1,"ab":2}', {"a b": 1, "ab": 2}),
        (b"\r\n\t [ ]", []),
    ],
)
def test_numbers_and_text_mean_what_they_say(text: bytes, value: Any) -> None:
    assert checked(text) == value
    assert type(checked(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"", "malformed", "no JSON"),
        (b"{", "malformed", "no JSON"),
        (b"NaN", "malformed", "no JSON"),
        (b"[-Infinity, 1e400]", "malformed", "no JSON"),
        (b'"\\ud800"', "malformed", "surrogate"),
        (b'["\\udc00", 1e400]', "malformed", "surrogate"),
        (b'"\xff"', "malformed", "UTF-8"),
        (b'["\xff", 1e400]', "malformed", "UTF-8"),
        (b"\xef\xbb\xbf1", "malformed", "BOM"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "malformed", "'c' is twice"),
        (b'{"a": 1e400, "a": 2}', "malformed", "'a' is twice"),
        (b'{"a": 1, "\\u0061": 2}', "malformed", "'a' is twice"),
        (b"1e999999999", "malformed", "exponent"),
        (b"1e99999999999999999999", "malformed", "exponent"),
        (b"-" + b"9" * 5000, "malformed", "digits"),
        (b"0." + b"9" * 5000, "malformed", "digits"),
        (b"[" * 101 + b"]" * 101, "too_deep", "100"),
        (b"[" * 101 + b"1e400" + b"]" * 101, "too_deep", "100"),
        (b'{"a":' * 100_000, "too_deep", "100"),
        (b"[1e400," * 100_000, "too_deep", "100"),
        (b'"' + b"x" * limits.DOCUMENT_BYTES_MAX + b'"', "too_large", "limit"),
        (b"01", "malformed", "no JSON"),
        (b"1 2", "malformed", "no JSON"),
        (b'"a\nb"', "malformed", "no JSON"),
    ],
)
def test_everything_else_is_refused_with_a_reason(text: bytes, code: str, says: str) -> None:
    with pytest.raises(JsonError) as found:
        checked(text)
    assert found.value.code == code
    assert says in str(found.value)
    assert len(str(found.value)) < 300


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=4), st.data())
def test_a_name_that_is_twice_is_seen_however_it_is_spaced(
    value: dict[str, str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    space = data.draw(st.sampled_from(["", " ", "\n\t", "  "]))
    again = f"{space}{json.dumps(name, ensure_ascii=data.draw(st.booleans()))}{space}:{space}0"
    body = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    assert checked(body.encode()) == value
    with pytest.raises(JsonError, match="twice"):
        checked(f"{body[:-1]},{again}{space}}}".encode())


def test_arithmetic_is_exact_and_its_results_as_plain_as_they_can_be() -> None:
    assert number_of(EXACT.add(exact(0.1), exact(0.2))) == 0.3
    assert number_of(Decimal("2.50")) == 2.5
    assert type(number_of(Decimal(7))) is int
    assert number_of(EXACT.add(Decimal(10**30), Decimal(1))) == 10**30 + 1
    assert number_of(EXACT.add(Decimal("0.1"), Decimal("1e-25"))) == Decimal("0.1000000000000000000000001")
    assert number_of(Decimal("-0.0")) == 0


def test_depth_counts_levels() -> None:
    values: list[Any] = [1, [], {"a": {}}, [[{"a": []}]]]
    assert [depth_of(value) for value in values] == [0, 1, 2, 4]


def test_types_have_the_names_of_json() -> None:
    values: list[Any] = [None, True, 1, 1.5, Decimal(1), "", [], {}]
    assert [type_name(value) for value in values] == [
        "null", "boolean", "number", "number", "number", "string", "array", "object",
    ]  # fmt: skip
