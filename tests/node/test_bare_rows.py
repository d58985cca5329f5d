"""Rows that are indexed without terms: all are counted, few are logged."""

from __future__ import annotations

from core.ports import Event
from node.bare_rows import SILENT_US, BareRows
from tests.node.stage import Stage

BAD = (b"m1", "OverflowError")


def test_the_first_is_named_at_once_and_those_that_follow_with_the_next_line() -> None:
    stage = Stage()
    rows = BareRows(stage.inside, lambda key: f"{key.decode()!r} of docs.movies")
    rows.tell(())
    assert not stage.events
    rows.tell([BAD])
    text = "no search finds 'm1' of docs.movies by what it contains: it cannot be analyzed (OverflowError)"
    assert stage.events == [
        Event("search_rows_without_terms", amount=1),
        Event("row_without_terms", "warning", text),
    ]
    stage.monotonic += SILENT_US - 1
    rows.tell([BAD] * 500)
    assert stage.events[2:] == [Event("search_rows_without_terms", amount=500)]
    stage.monotonic += 1
    rows.tell([BAD])
    assert stage.events[4:] == [Event("row_without_terms", "warning", text + ", nor 500 more")]
