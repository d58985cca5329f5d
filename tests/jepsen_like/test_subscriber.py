"""What may follow an image in a stream: itself, or what a purge left of it."""

from __future__ import annotations

import pytest

from core.cell import VALUE, Cell
from core.row import Row, Tombstone
from jepsen_like.subscriber import follows

DELETION = Tombstone(5, 1, 5)
LIVE = Cell(1, (), VALUE, 10, 1, 0, b"live")
OTHER = Cell(1, (), VALUE, 11, 1, 0, b"other")
DEAD = Cell(2, (), VALUE, 10, 1, 10, None)
EXPIRING = Cell(3, (), VALUE, 10, 1, 99, b"for a while")
WHOLE = Row(DELETION, (LIVE, DEAD, EXPIRING))


@pytest.mark.parametrize(
    ("before", "image", "fine"),
    [
        (WHOLE, WHOLE, True),
        (None, None, True),
        (Row(None, (LIVE, DEAD, EXPIRING)), WHOLE, True),
        (Row(None, (LIVE,)), WHOLE, True),
        (None, Row(DELETION, (DEAD,)), True),
        (None, WHOLE, False),
        (Row(None, (OTHER, DEAD, EXPIRING)), WHOLE, False),
        (Row(DELETION, (DEAD, EXPIRING)), WHOLE, False),
        (Row(Tombstone(6, 1, 6), (LIVE,)), WHOLE, False),
        (Row(None, (LIVE,)), None, False),
        (Row(None, (LIVE, OTHER)), Row(None, (LIVE,)), False),
    ],
)
def test_only_what_is_dead_may_be_gone(before: Row | None, image: Row | None, fine: bool) -> None:
    assert follows(before, image) is fine
