"""Cursors: what goes out comes back, and nothing else is believed."""

from __future__ import annotations

import base64
import time
from itertools import pairwise
from random import Random

from hypothesis import given, settings, strategies as st

from core.streaming import Place
from ring.tokens import MAX_TOKEN, MIN_TOKEN
from streams.cursor import (
    CURSOR_CHARS_MAX,
    Cursor,
    advanced,
    after_event,
    cut_to,
    decode_cursor,
    encode_cursor,
    laid_over,
)

WHOLE = ((MIN_TOKEN, MAX_TOKEN),)
TOKENS = st.integers(MIN_TOKEN, MAX_TOKEN - 1)
OFFSETS = st.dictionaries(st.integers(0, 9), st.integers(0, 2**50), max_size=4).map(
    lambda found: tuple(sorted(found.items()))
)


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    """Whole cursors."""
    bounds = sorted(draw(st.sets(TOKENS, max_size=6)))
    firsts, lasts = [MIN_TOKEN, *(bound + 1 for bound in bounds)], [*bounds, MAX_TOKEN]
    places = tuple(
        Place(first, last, draw(st.integers(0, 9)), draw(OFFSETS))
        for first, last in zip(firsts, lasts, strict=True)
    )
    return Cursor("docs.movies", draw(st.integers(0, 99)), draw(st.integers(0, 2**55)), places)


def offsets_at(cursor: Cursor, token: int) -> tuple[int, object]:
    """Where a token stands."""
    return next((p.server, p.offsets) for p in cursor.places if p.first <= token <= p.last)


@given(cursors(), TOKENS)
def test_a_cursor_comes_back(cursor: Cursor, token: int) -> None:
    found = decode_cursor(encode_cursor(cursor))
    assert isinstance(found, Cursor)
    assert (found.name, found.table, found.since_us) == (cursor.name, cursor.table, cursor.since_us)
    assert found.covers(WHOLE)
    assert offsets_at(found, token) == offsets_at(cursor, token)


@given(cursors(), cursors(), TOKENS, TOKENS, TOKENS)
def test_a_part_laid_over_a_whole_says_more_about_its_ranges(
    whole: Cursor, other: Cursor, one: int, two: int, token: int
) -> None:
    ranges = ((min(one, two), max(one, two)),)
    part = cut_to(other, ranges)
    assert part.covers(ranges)
    assert part.covers(WHOLE) == (ranges == WHOLE)
    found = laid_over(whole, part)
    assert found.covers(WHOLE)
    inside = ranges[0][0] <= token <= ranges[0][1]
    assert offsets_at(found, token) == offsets_at(other if inside else whole, token)


@given(cursors(), st.data())
@settings(max_examples=60)
def test_what_was_mistyped_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = encode_cursor(cursor)
    at = data.draw(st.integers(0, len(text) - 2))
    wrong = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    assert isinstance(decode_cursor(wrong), str)
    assert isinstance(decode_cursor(text[:at]), str)


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_an_exception(data: bytes) -> None:
    assert isinstance(decode_cursor(base64.urlsafe_b64encode(data).decode().rstrip("=")), str)


def test_what_is_too_long_or_no_text_of_ours_is_refused() -> None:
    assert "at most" in str(decode_cursor("A" * (CURSOR_CHARS_MAX + 1)))
    for text in ("", "=", "\u00e9", "now now", "a.b"):
        assert isinstance(decode_cursor(text), str)


def test_many_ranges_that_stand_alike_share_a_vector() -> None:
    step = 2**64 // 4096
    offsets = ((1, 10**9), (2, 10**9), (3, 10**9))
    places = [
        Place(MIN_TOKEN + n * step, MIN_TOKEN + (n + 1) * step - 1, 1 + n % 3, offsets) for n in range(4096)
    ]
    text = encode_cursor(Cursor("ks.t", 1, 0, tuple(places)))
    assert len(text) <= CURSOR_CHARS_MAX
    found = decode_cursor(text)
    assert isinstance(found, Cursor) and found.covers(WHOLE)


def test_a_cursor_of_a_whole_table_of_a_large_cluster_is_one() -> None:
    peers, random = 500, Random(1)
    offsets = [random.randrange(10**10) for _ in range(peers)]
    firsts = sorted({random.randrange(MIN_TOKEN + 1, MAX_TOKEN) for _ in range(16 * peers - 1)})
    places = []
    for first, after in pairwise((MIN_TOKEN, *firsts, MAX_TOKEN + 1)):
        replicas = sorted(random.sample(range(peers), 3))
        places.append(Place(first, after - 1, replicas[0], tuple((p, offsets[p]) for p in replicas)))
    found = decode_cursor(encode_cursor(Cursor("ks.t", 1, 0, tuple(places), 5)))
    assert isinstance(found, Cursor) and found.covers(WHOLE)


def test_cursors_of_very_many_ranges_do_not_take_their_square() -> None:
    """As many as fit the characters of one: who acknowledges them would hold up everybody for seconds."""

    def cursor(offset: int) -> Cursor:
        places = tuple(Place(at * 4, at * 4 + 1, 1, ((1, offset),)) for at in range(10_000))
        return Cursor("n", 1, 0, places)

    assert len(encode_cursor(cursor(1))) < CURSOR_CHARS_MAX
    began_s = time.process_time()
    assert advanced(cursor(1), cursor(2)) == cursor(2) == laid_over(cursor(1), cursor(2))
    assert time.process_time() - began_s < 1


def test_an_events_place_moves_only_its_server() -> None:
    places = (Place(0, 9, 2, ((1, 5), (2, 7))), Place(10, 19, 1, ()))
    assert after_event(places, 4, 99) == Place(0, 9, 2, ((1, 5), (2, 99)))
    assert after_event(places, 12, 3) == Place(10, 19, 1, ((1, 3),))
    assert after_event(places, 20, 3) is None
