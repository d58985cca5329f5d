from __future__ import annotations

import pytest

from sim.scheduler import Scheduler


def test_events_happen_in_order_of_time_then_of_asking() -> None:
    scheduler = Scheduler()
    seen: list[str] = []
    scheduler.after(20, seen.append, "c")
    scheduler.after(10, seen.append, "a")
    scheduler.after(10, seen.append, "b")
    scheduler.run(15)
    assert (seen, scheduler.now_us) == (["a", "b"], 15)
    scheduler.run(30)
    assert (seen, scheduler.events, scheduler.pending()) == (["a", "b", "c"], 3, 0)


def test_run_until_stops_at_the_event_that_makes_it_true() -> None:
    scheduler = Scheduler()
    seen: list[int] = []
    for delay in range(1, 10):
        scheduler.after(delay, seen.append, delay)
    assert scheduler.run_until(lambda: len(seen) == 4, 100)
    assert scheduler.now_us == 4
    assert not scheduler.run_until(lambda: False, 3)
    assert (scheduler.now_us, seen) == (7, [1, 2, 3, 4, 5, 6, 7])


def test_the_past_is_closed() -> None:
    scheduler = Scheduler()
    scheduler.run(10)
    with pytest.raises(AssertionError):
        scheduler.at(9, print)
