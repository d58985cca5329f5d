"""Keys: order kept, round trips, no partition's prefix in another's key."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, strategies as st

from lsm import keys

TABLES = st.integers(0, 2**32 - 2)
TOKENS = st.integers(keys.TOKEN_MIN, keys.TOKEN_MAX)
PARTITIONS = st.lists(st.sampled_from([b"\x00", b"\x01", b"\xff", b"a", b"\x00\xff"]), max_size=6).map(
    b"".join
)
SUFFIXES = st.sampled_from([keys.HEADER_SUFFIX, keys.STATIC_SUFFIX, keys.ROW_SUFFIX, b"\x02\x00\x00\x00"])
TEXTS = st.text(st.sampled_from("\x00\x01a\u7fff\uffff\U0001f600"), max_size=5)


@given(TABLES, TOKENS, PARTITIONS, SUFFIXES)
def test_a_row_key_splits_into_what_it_was_made_of(
    table: int, token: int, partition: bytes, suffix: bytes
) -> None:
    key = keys.row_key(table, token, partition, suffix)
    assert keys.split_row_key(key) == (table, token, partition, suffix)
    assert key[: keys.prefix_end(key)] == keys.partition_prefix(table, token, partition)
    assert keys.token_of(key) == token


ROWS = st.tuples(TABLES, TOKENS, PARTITIONS, SUFFIXES)


@given(ROWS, ROWS)
def test_keys_compare_as_what_they_were_made_of(
    a: tuple[int, int, bytes, bytes], b: tuple[int, int, bytes, bytes]
) -> None:
    assert (keys.row_key(*a) < keys.row_key(*b)) == (a < b)


@given(TABLES, TOKENS, PARTITIONS, PARTITIONS)
def test_no_partition_lies_in_another(table: int, token: int, a: bytes, b: bytes) -> None:
    if a != b:
        assert not keys.row_key(table, token, a).startswith(keys.partition_prefix(table, token, b))


@given(TABLES, TOKENS, TOKENS, ROWS)
def test_a_token_range_holds_exactly_its_tokens(
    table: int, a: int, b: int, row: tuple[int, int, bytes, bytes]
) -> None:
    first_token, last_token = min(a, b), max(a, b)
    first, end = keys.token_range_bounds(table, first_token, last_token)
    for at in (row, (table, *row[1:]), (table, first_token, *row[2:]), (table, last_token, *row[2:])):
        inside = at[0] == table and first_token <= at[1] <= last_token
        assert (first <= keys.row_key(*at) < end) == inside


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_successor_bounds_a_prefix(prefix: bytes, other: bytes) -> None:
    if prefix.strip(b"\xff"):
        end = keys.successor(prefix)
        assert (prefix <= other < end) == other.startswith(prefix)
    else:
        with pytest.raises(ValueError):
            keys.successor(prefix)


@given(st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=3))
def test_clustering_text_round_trips(parts: list[tuple[str, bool]]) -> None:
    data = b"".join(keys.clustering_text(text, descending) for text, descending in parts)
    at = 0
    for text, descending in parts:
        decoded, at = keys.decode_clustering_text(data, at, descending)
        assert decoded == text
    assert at == len(data)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_clustering_text_keeps_order_and_reverses_it(a: str, b: str, c: str, d: str) -> None:
    up, down = keys.clustering_text, partial(keys.clustering_text, descending=True)
    assert (up(a) < up(b)) == (a < b) and (down(a) < down(b)) == (b < a)
    assert (up(a) + down(c) < up(b) + down(d)) == ((a, c) != (b, d) and (a < b or (a == b and d < c)))


@pytest.mark.parametrize(
    "key", [b"", b"S", b"R", keys.partition_prefix(1, 0, b"a")[:-1], b"R" + bytes(12) + b"\x00x"]
)
def test_what_is_not_a_row_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError):
        keys.split_row_key(key)


def test_all_regions_are_apart() -> None:
    regions = [
        keys.ROW,
        keys.LOG,
        keys.LOG_BODY,
        keys.LOG_IMAGES,
        keys.LOG_REPAIRED,
        keys.MUTATION_ID,
        keys.TREE,
    ]
    regions += [keys.SWEEP, keys.SYSTEM, keys.META]
    assert len({region[0] for region in regions}) == len(regions)
    assert keys.offset_of(keys.log_key(keys.LOG, 7)) == 7
    assert keys.tree_index(keys.tree_key(1, 0, 2**18 - 1)) == 2**18 - 1
