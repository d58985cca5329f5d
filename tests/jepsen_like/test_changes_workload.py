"""What the total queue asks of a reader's last images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from core.cell import VALUE, Cell
from core.row import Row
from jepsen_like.subscriber import Subscriber
from jepsen_like.workloads.changes import ChangesWorkload


class Reader:
    """One whose last image of k0 has a value."""

    name = "reader"

    def __init__(self, dead_from_us: int) -> None:
        self.ended: dict[str, tuple[int, int]] = {}
        self._row = Row(None, (Cell(1, (), VALUE, 10, 9, dead_from_us, b"1"),))

    def misses(self, key: str) -> bool:
        """It was told of no gap."""
        return False

    def image(self, key: str) -> Row | None:
        """What it has."""
        return self._row if key == "k0" else None


@pytest.mark.parametrize(
    ("dead_from_us", "clocks_us", "judged"),
    [
        (100, (150, 120), ["unlike"]),  # all clocks say that it ran out: it should have been told
        (100, (150, 90), []),  # by one it has not, and its replica may be the one that is followed
        (0, (150, 90), ["unlike"]),  # what does not run out is there or not
    ],
)
def test_what_ran_out_is_missed_when_it_has_by_every_clock(
    dead_from_us: int, clocks_us: tuple[int, ...], judged: list[str]
) -> None:
    def machine(time_us: int) -> SimpleNamespace:
        return SimpleNamespace(clock=SimpleNamespace(read_us=lambda: time_us))

    workload = ChangesWorkload()
    cluster = SimpleNamespace(machines=[machine(time_us) for time_us in clocks_us])
    workload.session = cast(Any, SimpleNamespace(cluster=cluster))
    workload.bucket = cast(Any, SimpleNamespace(value_column=1))
    workload.finals = {"k0": None}
    found = workload._unlike(cast(Subscriber, Reader(dead_from_us)))
    assert [problem.name for problem in found] == judged
