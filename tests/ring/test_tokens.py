"""Tokens equal Cassandra's, by vectors and an independent reference; slices and ranges fit together."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from ring.tokens import (
    COMPONENT_BYTES_MAX,
    MAX_TOKEN,
    MIN_TOKEN,
    SLICES,
    TokenRange,
    is_slice_end,
    partition_key,
    partition_key_components,
    slice_end,
    slice_of,
    slice_start,
    token_of,
)
from tests.models import murmur3_reference

tokens = st.integers(MIN_TOKEN, MAX_TOKEN)

# Made with cassandra-driver 3.30.1, whose C and pure Python hashes agree on all of them: text, ints as CQL
# encodes them, a composite key, every tail length with bytes above 0x7f, with and without a block before it.
VECTORS = [
    ("61", -8839064797231613815),
    ("62", 8833996863197925870),
    ("616263", -5434086359492102041),
    ("313233", -7468325962851647638),
    ("00ff10fa99", -7014524706476729975),
    ("fefefefefefefefe", -8927430733708461935),
    ("1010101010101010", 1446172840243228796),
    ("9999999999999999", 3529781810998067958),
    ("00000000", -3485513579396041028),
    ("00000001", -4069959284402364209),
    ("ffffffff", 7297452126230313552),
    ("0000000000000007", -5038316157564330072),
    ("eab095eab095ec88a0eb9e98", 1134755669106762908),
    ("ec849cec9ab8ed8ab9ebb384ec8b9c20eab095eb82a8eab5ac", 7136237434979060886),
    ("6e61c3af766520636166c3a9", 3828589147105053679),
    ("000161000004fffffffe00", -8923421271255752641),
    ("9f", -3700297922047225212),
    ("be01", -2835344262426033958),
    ("dd01a7", 6596479423135690867),
    ("fc01c6eb", 2579336076354207340),
    ("9b01e58a04", 8094948314173626195),
    ("ba0184a904f3", -4133542564128073582),
    ("d901a3c80492b7", -1678792415577942714),
    ("f801c2e704b1d607", 7963393681717242671),
    ("9701e18604d0f507bf", -285351349923941253),
    ("b60180a504ef9407de83", -1195127816317006321),
    ("d5019fc4048eb307fda20a", -8698253628198821603),
    ("f401bee304add2079cc10a8b", -709921937245237919),
    ("9301dd8204ccf107bbe00aaacf", -5514181746245264582),
    ("b201fca104eb9007daff0ac9ee0d", 64263459726728025),
    ("d1019bc0048aaf07f99e0ae88d0dd7", -5303054714067357164),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f", 2962241938142935060),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f80", -3277456612626050964),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f", 4331301592422561985),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f80", -3082165964778157829),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f", 6164115570576779689),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f80", -1318852925701176125),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f", -1286695029362236375),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f80", -8490683161575617737),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f", 1765573639607782861),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f80", 6728052760673221882),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f807f", 1915074435126944581),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f807f80", -4487661535556379787),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f807f807f", -172603080554992457),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f807f807f80", -5587535150704132679),
    ("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff7f807f807f807f807f807f807f807f", 5314473842828693784),
]


@pytest.mark.parametrize("key, token", VECTORS)
def test_vectors_of_the_cassandra_driver(key: str, token: int) -> None:
    assert token_of(bytes.fromhex(key)) == token
    assert murmur3_reference.token_of(bytes.fromhex(key)) == token


def test_long_keys_of_the_cassandra_driver() -> None:
    assert token_of(bytes(range(256))) == 2060892794568774329
    assert token_of(bytes(range(128, 250))) == 1872556399369228341


def test_vectors_cover_every_tail_length_with_high_bytes() -> None:
    keys = [bytes.fromhex(key) for key, _ in VECTORS]
    quirky = {len(key) % 16 for key in keys if not key[len(key) & -16 :].isascii()}
    assert quirky == set(range(1, 16))


def test_the_empty_key_has_the_minimum_token_and_no_other_key_has() -> None:
    assert token_of(b"") == MIN_TOKEN
    # Made to hash to -2**63 by running the hash backwards, one for either path.
    for key in ("653cbefb85ec3111b4e38fa9bc7cbcae", "1b79abb0efa802ab7cfeb8db2814aa6680"):
        assert token_of(bytes.fromhex(key)) == MAX_TOKEN


@given(st.binary(max_size=80))
@example(b"\xff" * 16)
@example(b"\x80" * 31)
def test_both_paths_agree_with_the_reference(key: bytes) -> None:
    assert token_of(key) == murmur3_reference.token_of(key)


@given(st.binary(max_size=48), st.integers(1, 15), st.data())
def test_tails_above_0x7f_agree_with_the_reference(body: bytes, tail: int, data: st.DataObject) -> None:
    high = data.draw(st.lists(st.integers(0x80, 0xFF), min_size=tail, max_size=tail))
    key = body[: len(body) & -16] + bytes(high)
    assert token_of(key) == murmur3_reference.token_of(key)


def test_partition_key_encoding() -> None:
    assert partition_key([b"alone"]) == b"alone"
    assert partition_key([b"a", b"", b"xyz"]) == b"\x00\x01a\x00\x00\x00\x00\x00\x03xyz\x00"
    assert partition_key([b"a", b"b" * COMPONENT_BYTES_MAX])[4:6] == b"\xff\xff"
    with pytest.raises(ValueError, match="too long"):
        partition_key([b"a", b"b" * (COMPONENT_BYTES_MAX + 1)])


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5).map(tuple))
def test_partition_keys_come_apart_again(components: tuple[bytes, ...]) -> None:
    assert partition_key_components(partition_key(components), len(components)) == components


@pytest.mark.parametrize(
    "key", [b"", b"\x00", b"\x00\x05ab\x00", b"\x00\x01a\x01\x00\x01b\x00", b"\x00\x01a\x00"]
)
def test_a_damaged_partition_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="partition key"):
        partition_key_components(key, 2)


@given(tokens)
@example(MIN_TOKEN)
@example(MAX_TOKEN)
def test_a_token_lies_in_its_slice(token: int) -> None:
    number = slice_of(token)
    assert 0 <= number < SLICES
    assert slice_start(number) <= token <= slice_end(number)
    assert is_slice_end(token) == (token == slice_end(number))


def test_slices_are_equal_and_cover_the_token_space() -> None:
    assert slice_start(0) == MIN_TOKEN
    assert slice_end(SLICES - 1) == MAX_TOKEN
    for number in (0, 1, SLICES // 2, SLICES - 2):
        assert slice_end(number) + 1 == slice_start(number + 1)
        assert slice_end(number) - slice_start(number) + 1 == 2**64 // SLICES


@given(tokens, tokens, tokens)
@example(5, 5, 5)
@example(MAX_TOKEN, MIN_TOKEN, MIN_TOKEN)
@example(MAX_TOKEN, 3, 4)
@example(MIN_TOKEN, MIN_TOKEN, 0)
@example(MAX_TOKEN, MAX_TOKEN, 0)
def test_a_range_contains_what_it_unwraps_to(start: int, end: int, token: int) -> None:
    token_range = TokenRange(start, end)
    intervals = token_range.unwrap()
    for probe in (token, start, end, MIN_TOKEN, MAX_TOKEN):
        assert token_range.contains(probe) == any(first <= probe <= last for first, last in intervals)
    assert all(MIN_TOKEN <= first <= last <= MAX_TOKEN for first, last in intervals)
    assert list(intervals) == sorted(intervals)
    assert sum(last - first + 1 for first, last in intervals) == token_range.width
    assert token_range.contains(end)
    assert token_range.contains(start) == (start == end)


def test_a_range_of_one_token_is_the_whole_ring() -> None:
    assert TokenRange(7, 7).unwrap() == ((MIN_TOKEN, MAX_TOKEN),)
    assert TokenRange(7, 7).width == 2**64
