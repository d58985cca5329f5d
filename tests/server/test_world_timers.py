"""Timers of a real process: none early, cancelled ones never, those of one slot in their order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import uvloop

from core.ports import Timer
from server.clock import WallClock
from server.metrics import Metrics
from server.world import SLOT_US, SLOTTED_FROM_US, RealWorld

SECOND_US = 1_000_000


class Node:
    """Notes which timers fired, and when; `on_fire` may do something."""

    def __init__(self) -> None:
        self.fired: list[tuple[Any, float]] = []
        self.world: RealWorld
        self.done: asyncio.Event
        self.wanted = 0
        self.cancels: dict[Any, int] = {}

    def on_timer(self, timer: Timer) -> None:
        self.fired.append((timer[1], time.monotonic()))
        if timer[1] in self.cancels:
            self.world.cancel_timer(self.cancels[timer[1]])
        if len(self.fired) == self.wanted:
            self.done.set()


def run(work: Any) -> Node:
    """Run `work(world, node)` on a loop, until as many timers have fired as it says."""
    node = Node()

    async def main() -> None:
        world = RealWorld(asyncio.get_running_loop(), WallClock(None), Metrics(), None)
        world.node = node  # type: ignore[assignment]
        node.world, node.done = world, asyncio.Event()
        node.wanted = work(world, node)
        async with asyncio.timeout(20):
            await node.done.wait()
        assert not world._timers and not world._slots
        world.set_timer(SECOND_US, ("t", "never"))
        world.set_timer(1_000, ("t", "never"))
        world.stop_timers()
        await asyncio.sleep(0.005)

    uvloop.run(main())
    return node


@pytest.mark.parametrize("delay_us", [0, 3_000, SLOTTED_FROM_US, SLOTTED_FROM_US + SLOT_US // 2])
def test_a_timer_is_never_early(delay_us: int) -> None:
    began: list[float] = []

    def work(world: RealWorld, _node: Node) -> int:
        time.sleep(0.004)  # a long turn of the loop, whose own time stands still meanwhile
        began.append(time.monotonic())
        world.set_timer(delay_us, ("t", 1))
        return 1

    node = run(work)
    assert node.fired[0][1] - began[0] >= delay_us / 1e6 - (0.001 if delay_us < SLOTTED_FROM_US else 0)


def test_of_one_slot_they_fire_in_order_and_cancelled_ones_do_not() -> None:
    def work(world: RealWorld, node: Node) -> int:
        ids = [world.set_timer(SLOTTED_FROM_US, ("t", number)) for number in range(6)]
        world.cancel_timer(ids[1])
        world.cancel_timer(ids[1])
        node.cancels[2] = ids[4]
        assert len(world._slots) <= 2
        return 4

    assert [number for number, _ in run(work).fired] == [0, 2, 3, 5]
