"""Stamps of a peer whose disk is full: it says so once, and once that it is over."""

from __future__ import annotations

from core.commands import Done, Failed, Why
from tests.node.stage import Stage


def test_a_disk_that_stays_full_is_said_once_and_that_it_is_over_too() -> None:
    stage = Stage()
    full = Failed(Why.DISK_FULL, "no space left on device")
    for outcome in (full, full, full, Done(), Done(), full):
        stage.inside.stored(("ceiling", 1), outcome)
    told = [(event.name, event.level) for event in stage.events if event.name.startswith("ceiling")]
    assert told == [
        ("ceiling_not_raised", "error"),
        ("ceiling_raised", "info"),
        ("ceiling_not_raised", "error"),
    ]
    assert "no space left on device" in stage.events[0].text
