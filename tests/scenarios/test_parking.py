"""Writes to who is given a range and does not keep to its floors yet: they wait, and are not refused."""

from __future__ import annotations

import pytest

from core.consistency import Level
from core.messages import Message
from core.moving_messages import FloorsTold
from jepsen_like.door import End
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from node import parking
from node.parking import Parking
from ring.tokens import token_of
from tests.scenarios.telling import held
from tests.scenarios.test_counterexamples_moving import SETTINGS, D, ended, replace

Patch = pytest.MonkeyPatch
LEAVING = 2
SHORT_US = 300_000


def without_floors(_: int, target: int, message: Message) -> bool:
    """Nobody tells the newcomer what was promised."""
    return target == D and isinstance(message, FloorsTold)


def a_range_on_its_way() -> tuple[Scenario, str]:
    """A key whose only replica is being replaced by a newcomer that was not told the floors yet."""
    s = Scenario(settings=SETTINGS)
    s.start()
    bucket = s.bucket("b", factor=1)
    assert s.cluster.add_machine() == D
    s.start(D, serving=False)
    leaving = s.cluster.machines[LEAVING].peer
    placement = s.state(0).placement(bucket.table)
    assert placement is not None
    names = (f"k{number}" for number in range(1_000))
    key = next(name for name in names if placement.replicas(token_of(name.encode())) == (leaving,))
    assert s.put("b", key, b"before").status == OK
    s.lose(without_floors)
    replace(s, LEAVING, at=0)
    assert s.until(lambda: all(s.state(peer).move is not None for peer in range(4)))
    return s, key


def a_write_meanwhile(at: int) -> tuple[bool, list[End], dict[str, bytes | None]]:
    """Whether it is still under way after a quarter of a second; how it ends; what the newcomer holds."""
    s, key = a_range_on_its_way()
    ends: list[End] = []
    s.door.put(at, s.buckets["b"], (key, b"meanwhile"), Level.QUORUM, ends.append)
    s.run(0.25)
    waits = not ends
    s.heal()
    assert s.until(lambda: bool(ends))
    assert ended(s, 0)
    return waits, ends, held(s, D, "b")


@pytest.mark.parametrize("at", [0, LEAVING, D])
def test_a_write_waits_until_the_newcomer_keeps_to_the_floors(at: int) -> None:
    waits, ends, stored = a_write_meanwhile(at)
    assert waits and [end.status for end in ends] == [OK], ends
    assert b"meanwhile" in stored.values()


def test_if_it_did_not_wait_it_would_be_refused(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Parking, "open", lambda *_: None)
    waits, ends, _ = a_write_meanwhile(0)
    assert not waits and ends[0].status != OK


def test_a_condition_waits_too() -> None:
    s, key = a_range_on_its_way()
    ends: list[End] = []
    s.door.update(0, s.buckets["b"], key, lambda value: b"after" if value == b"before" else None, ends.append)
    s.run(0.25)
    assert not ends
    s.heal()
    assert s.until(lambda: bool(ends)) and ends[0].status == OK, ends
    assert ended(s, 0)
    assert b"after" in held(s, D, "b").values()


def test_what_waits_for_too_long_or_is_too_much_is_refused(monkeypatch: Patch) -> None:
    monkeypatch.setattr(parking, "PARK_US", SHORT_US)
    monkeypatch.setattr(parking, "COMMANDS_MAX", 1)
    s, key = a_range_on_its_way()
    ends: list[End] = []
    began_us = s.cluster.now_us
    for value in (b"1", b"2"):
        s.door.put(0, s.buckets["b"], (key, value), Level.QUORUM, ends.append)
        s.run(0.05)
    assert len(ends) == 1 and ends[0].status != OK, "the second finds no room"
    assert s.until(lambda: len(ends) == 2)
    assert ends[1].status != OK
    assert s.cluster.now_us - began_us < 2 * SHORT_US
