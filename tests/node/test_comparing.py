"""What siblings tell each other to find what differs: short, the same to both, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from core.healing_messages import RowsAsk, RowsTold, TreeAnswer, TreeAsk
from core.messages import decode_message, encode_message
from lsm.hash_tree import LEAVES
from node.comparing import (
    FEW,
    ROW_BYTES,
    Span,
    pack_hashes,
    pack_spans,
    row_hashes,
    salt_of,
    split,
    told_rows,
    unpack_hashes,
    unpack_spans,
)

bounds = st.lists(st.integers(0, LEAVES), min_size=2, max_size=40, unique=True).map(sorted)
rows = st.dictionaries(st.binary(max_size=4), st.binary(max_size=4), max_size=30)


@given(bounds)
def test_runs_of_leaves_come_back_as_they_were(ends: list[int]) -> None:
    spans: list[Span] = list(zip(ends[::2], ends[1::2], strict=False))
    assert unpack_spans(pack_spans(spans)) == tuple(spans)


BAD = [(), (1,), (0, 0), (-1, 2), (0, LEAVES + 1), (5, 3, -1, 1), (0, LEAVES, 0, 1)]


@pytest.mark.parametrize("packed", BAD)
def test_what_is_no_run_of_leaves_is_refused(packed: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no runs of leaves"):
        unpack_spans(packed)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 2**63))
def test_short_hashes_tell_what_is_empty_and_whole_ones_all(sums: list[int], op: int) -> None:
    assert unpack_hashes(pack_hashes(sums, 0), 0) == sums
    short = unpack_hashes(pack_hashes(sums, salt_of(op)), salt_of(op))
    assert [value == 0 for value in short] == [value == 0 for value in sums]


def test_what_collides_in_one_session_does_not_in_the_next() -> None:
    salt = salt_of(1)
    twin = pow(salt, -1, 2**64) * (salt + 1) % 2**64  # its product with the salt is next to that of 1
    assert pack_hashes([twin], salt) == pack_hashes([1], salt) and twin != 1
    later = [op for op in range(2, 20) if pack_hashes([twin], salt_of(op)) == pack_hashes([1], salt_of(op))]
    assert not later


@given(rows, rows, st.integers(1, 2**40))
def test_each_is_told_exactly_what_it_lacks(
    mine: dict[bytes, bytes], theirs: dict[bytes, bytes], op: int
) -> None:
    salt = salt_of(op)
    asked, served = sorted(mine.items()), sorted(theirs.items())
    hashes = row_hashes(asked, salt)
    assert len(hashes) == ROW_BYTES * len(asked)
    sent, lacking = told_rows(served, hashes, salt)
    assert sent == tuple(row for row in served if row not in asked)
    assert [asked[at] for at in lacking] == [row for row in asked if row not in served]


def test_parts_with_few_rows_are_compared_by_rows() -> None:
    span = (64, 128)
    own, theirs = [1, 2, 3, 0], [1, 9, 8, 7]
    assert split(span, own, theirs, [9, FEW, FEW + 1, 0]) == ([(96, 112)], [(80, 96), (112, 128)])
    assert split((5, 7), [1, 2], [3, 2], [99, 99]) == ([], [(5, 6)])


def test_what_is_asked_and_told_travels_unchanged() -> None:
    spans = pack_spans(((3, 5), (2**17, LEAVES)))
    hashes = row_hashes([(b"a", b"b"), (b"c", b"")], salt_of(7))
    for message in (
        TreeAsk(2**63, 4, 2**31, 16, salt_of(7), spans),
        TreeAnswer(1, pack_hashes([0, 1, 2**64 - 1], 0)),
        RowsAsk(1, 2, 3, salt_of(7), spans, b"\0key", b"", hashes),
        RowsTold(1, ((b"k", b"\xff"), (b"l", b"")), (0, 199), b"k", 2**63 - 1),
    ):
        assert decode_message(encode_message(message)) == message
