"""Mutations: one byte form, and stamped again as a whole."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from core.cell import VALUE, Cell, rank
from core.mutation import (
    DELETE,
    INSERT,
    Mutation,
    decode_mutation,
    decode_touched,
    encode_mutation,
    restamped,
)
from core.row import Header, RangeTombstone, Row, Tombstone


def _mutation(version: tuple[int, int], admitted_us: int = 3) -> Mutation:
    """A value, one that expires at 9, and things that are dead from their admission on."""
    row = Row(
        Tombstone(*version, admitted_us),
        (
            Cell(1, (b"k",), VALUE, *version, 0, b"v"),
            Cell(2, (), VALUE, *version, 9, b"w"),
            Cell(3, (), VALUE, *version, admitted_us, None),
        ),
    )
    ranges = (RangeTombstone(b"\x02a", b"\x02b", *version, admitted_us),)
    header = Header(Tombstone(*version, admitted_us), ranges)
    return Mutation(7, 8, 0, admitted_us, True, DELETE, 1, -5, b"p", header, ((b"\x02", row),))


@given(st.integers(7, 2**62), st.integers(0, 2**64 - 1))
def test_bytes_round_trip_and_a_new_stamp_reaches_every_cell_and_tombstone(
    timestamp_us: int, writer: int
) -> None:
    again = restamped(_mutation((1, 2)), 1, (timestamp_us, writer))
    shifted = _mutation((timestamp_us, writer), 3 + timestamp_us - 1)
    assert again == msgspec.structs.replace(shifted, attempt=1)
    assert again.id == (7, 8, 1)
    assert decode_mutation(encode_mutation(again)) == again
    touched = decode_touched(encode_mutation(again))
    assert (touched.table, touched.token, touched.partition) == (again.table, again.token, again.partition)
    assert [suffix for suffix, _ in touched.rows] == [suffix for suffix, _ in again.rows]


def test_what_has_a_clients_timestamp_keeps_it_and_is_admitted_anew_all_the_same() -> None:
    again = restamped(_mutation((1, 0)), 1, (50, 9))
    assert again == msgspec.structs.replace(_mutation((1, 0), 52), attempt=1)


def test_a_plain_mutation_has_nothing_to_stamp_but_its_cells() -> None:
    row = Row(None, (Cell(1, (), VALUE, 1, 1, 0, b"v"),))
    again = restamped(Mutation(1, 1, 0, 0, True, INSERT, 1, 0, b"p", None, ((b"\x02", row),)), 1, (9, 9))
    assert again.header is None and again.rows[0][1].deletion is None
    assert again.rows[0][1].cells[0].version == (9, 9)


@given(st.binary(max_size=40))
def test_other_bytes_are_a_decode_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_mutation(data)


def test_the_order_of_cells_is_version_then_kind_of_death_then_bytes() -> None:
    def cell(timestamp_us: int, writer: int, dead: int, value: bytes | None) -> Cell:
        return Cell(1, (), VALUE, timestamp_us, writer, dead, value)

    rising = [
        cell(1, 9, 9, None),
        cell(2, 0, 9, None),
        cell(2, 1, 0, b"a"),
        cell(2, 1, 0, b"b"),
        cell(2, 1, 5, b"a"),
        cell(2, 1, 6, b""),
        cell(2, 1, 1, None),
        cell(2, 1, 2, None),
    ]
    assert sorted(rising[4:] + rising[:4], key=rank) == rising
    assert [c.is_dead(5) for c in rising] == [True, True, False, False, True, False, True, True]
