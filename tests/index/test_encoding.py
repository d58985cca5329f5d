"""Values as terms: the order of terms is the order of values, whatever the values."""

from __future__ import annotations

import re
from decimal import Decimal

from hypothesis import given, strategies as st

from core.json_values import exact
from index.encoding import (
    decoded,
    decoded_number,
    encoded,
    encoded_digits,
    encoded_number,
    escaped,
    paths_above,
    quoted,
    range_regex,
    unescaped,
    wildcard_regex,
)
from index.globs import fits, parts_of
from index.query import DATE, EXACT, NUMBER

numbers = st.one_of(
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, places=25).filter(lambda d: abs(d) < 10**40),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
near = st.text("ab\x00\x01\x02 \x1f.*", max_size=5)


@given(numbers, numbers)
def test_numbers_compare_as_terms(one: int | float | Decimal, other: int | float | Decimal) -> None:
    a, b = exact(one), exact(other)
    left, right = encoded_number(one), encoded_number(other)
    assert (left < right, left == right) == (a < b, a == b)


@given(numbers)
def test_numbers_come_back(number: int | float | Decimal) -> None:
    assert exact(decoded_number(encoded_number(number))) == exact(number)


@given(st.one_of(st.integers(1), st.integers(1, 10**6).map(lambda n: n * 10**9)))
def test_an_integer_is_encoded_from_its_digits(number: int) -> None:
    assert encoded_digits(str(number)) == encoded_number(number)


def test_one_number_is_one_term_however_it_is_written() -> None:
    assert len({encoded_number(n) for n in (100, 100.0, Decimal("1e2"), Decimal("100.00"))}) == 1
    assert encoded_number(0) == encoded_number(-0.0)


@given(st.one_of(texts, near), st.one_of(texts, near))
def test_texts_compare_as_terms(one: str, other: str) -> None:
    assert (escaped(one) < escaped(other), escaped(one) == escaped(other)) == (one < other, one == other)
    assert unescaped(escaped(one)) == one
    assert not re.search(r"[\x00\x1e\s]", escaped(one), re.ASCII)


@given(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_dates_compare_as_terms(one: int, other: int) -> None:
    left, right = encoded(DATE, one), encoded(DATE, other)
    assert left is not None and right is not None
    assert (left < right) == (one < other) and decoded(DATE, left) == one


def test_values_of_another_kind_have_no_term() -> None:
    assert encoded(NUMBER, "one") is None and encoded(NUMBER, True) is None and encoded(DATE, "x") is None
    assert encoded(NUMBER, "1" + "0" * 30) == encoded(NUMBER, 10**30), "beyond 64 bits numbers travel as text"
    assert encoded(EXACT, "a b") == "a\x02b"


@given(near, st.one_of(st.none(), near), near, st.booleans(), st.booleans())
def test_a_range_is_a_regular_expression(
    low: str, high: str | None, text: str, include_low: bool, include_high: bool
) -> None:
    low, text = escaped(low), escaped(text)
    high = None if high is None else escaped(high)
    pattern, is_exact = range_regex(low, high, include_low, include_high)
    inside = low < text if text != low else include_low
    if high is not None:
        inside = inside and (text < high if text != high else include_high)
    assert is_exact
    if pattern is None:
        assert not inside
        return
    python = re.sub(r"\\x\{([0-9A-F]+)\}", lambda m: rf"\U{int(m[1], 16):08x}", pattern)
    assert bool(re.fullmatch(python, text)) == inside


def test_a_long_bound_takes_in_more_and_says_so() -> None:
    pattern, is_exact = range_regex("a" * 100, None, True, True)
    assert not is_exact and pattern is not None and re.search(quoted("a" * 32), pattern)


@given(st.text("ab*?\\ .", max_size=6), st.text("ab .*?\\", max_size=6))
def test_wildcards(pattern: str, text: str) -> None:
    found = re.fullmatch(wildcard_regex(pattern, escape=True), escaped(text)) is not None
    assert found == _fits(pattern, text)
    assert fits(parts_of(pattern), text) == found


def _fits(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_fits(pattern[1:], text[n:]) for n in range(len(text) + 1))
    if pattern[0] == "?":
        return bool(text) and _fits(pattern[1:], text[1:])
    step = 2 if pattern[0] == "\\" and len(pattern) > 1 else 1
    return text[:1] == pattern[step - 1] and _fits(pattern[step:], text[1:])


def test_paths_above() -> None:
    assert paths_above("a.b.c") == ["a.b.c", "a.b", "a"] and paths_above("a") == ["a"]
