"""The query of a change stream: what is understood, and that nothing else does harm."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from core.streaming import CURSOR, NOW, SNAPSHOT, START, Place
from ring.tokens import MAX_TOKEN, MIN_TOKEN
from server.rest.changes_wanted import PARAMETERS, Wanted, wanted_of
from server.rest.problems import ProblemError
from streams.cursor import Cursor, encode_cursor

NOW_US = 1_800_000_000_000_000


def asked(query: str = "", **headers: str) -> Wanted:
    return wanted_of(query, {name.replace("_", "-"): value for name, value in headers.items()}, NOW_US)


def test_where_a_stream_starts() -> None:
    assert asked().start == NOW
    assert asked("from=start").start == START
    assert asked("from=snapshot").start == SNAPSHOT
    assert (asked("from=10m").start, asked("from=10m").since_us) == (START, NOW_US - 600_000_000)
    at = quote("2026-01-31T12:00:00+01:00")
    assert asked(f"from={at}").since_us == asked("from=2026-01-31T11:00:00Z").since_us == 1769857200000000


def test_a_cursor_may_be_followed_by_those_of_events_and_a_last_id_comes_first() -> None:
    whole = Cursor("ks.t", 1, 0, (Place(MIN_TOKEN, MAX_TOKEN, 1, ((1, 5),)),))
    part = Cursor("ks.t", 1, 0, (Place(0, 10, 1, ((1, 9),)),))
    wanted = asked(f"from={encode_cursor(whole)},{encode_cursor(part)}")
    assert wanted.start == CURSOR and wanted.cursor is not None
    assert [place.offsets for place in wanted.cursor.places] == [((1, 5),), ((1, 9),), ((1, 5),)]
    assert asked("from=now", Last_Event_ID=encode_cursor(whole)).cursor == whole


def test_the_form_is_that_of_accept_unless_it_is_said() -> None:
    assert asked(Accept="text/event-stream").form == "sse"
    assert asked("format=ndjson", Accept="text/event-stream").form == "ndjson"


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/99999"])
def test_a_part_is_one_of_so_many(text: str) -> None:
    assert asked("part=2/3").part == (2, 3)
    with pytest.raises(ProblemError, match="part is"):
        asked(f"part={text}")


def test_filters_judge_images() -> None:
    judge = asked("filter=" + quote('{"n": {"$gt": 1}}')).condition
    assert judge is not None
    assert [judge({"n": n}, None) for n in (1, 2)] == [False, True]
    judge = asked("filter=" + quote('{"_id": "a"}')).condition
    assert judge is not None
    assert [judge({"n": 1}, document_id) for document_id in ("a", "b")] == [True, False]


@given(st.sampled_from(PARAMETERS), st.text(max_size=60))
def test_whatever_a_parameter_says_it_is_understood_or_refused(name: str, text: str) -> None:
    try:
        value = quote(text)
    except UnicodeEncodeError:
        return
    refused = 400
    try:
        wanted = asked(f"{name}={value}")
    except ProblemError as error:
        refused, wanted = error.status, Wanted()
    assert (refused, type(wanted)) == (400, Wanted)
