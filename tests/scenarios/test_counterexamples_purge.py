"""Counterexamples 16 and 17: what is over stays over, and who forgot it is not told again."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from lsm.floors import Floors
from lsm.writing import Writer
from node.floors import FloorRounds
from tests.scenarios.telling import QUIET, held
from tests.scenarios.test_healing import QUICK, tombstones

Patch = pytest.MonkeyPatch


def a_late_hint_for_who_does_not_know_the_write(monkeypatch: Patch) -> bytes | None:
    """What 2 holds in the end of a key that was written while it was away, and deleted when it was back.

    Nobody follows, so that 2 is as one that has forgotten the write's id since: the floor alone stands there.
    """

    def settled(self: FloorRounds, message: Any, say: Any) -> None:
        self._take(message, say)

    monkeypatch.setattr(FloorRounds, "_settle", settled)
    s = Scenario(settings=QUICK | QUIET | {"hint_replay_pause_us": 20_000_000})
    s.start()
    s.bucket("b")
    s.cut([2], [0, 1])
    assert s.until(lambda: s.sees_dead(0, 2))
    assert s.put("b", "k", b"old").status == OK
    s.heal()
    assert s.until(lambda: s.sees_all(0) and s.sees_all(2))
    assert s.delete("b", "k", level=Level.ALL).status == OK
    assert s.until(lambda: tombstones(s, "b") == [0, 0, 0], 15)
    s.run(60)
    return held(s, 2, "b").get("k")


def test_counterexample_16_a_hint_from_below_the_floor_is_refused(monkeypatch: Patch) -> None:
    assert a_late_hint_for_who_does_not_know_the_write(monkeypatch) is None


def test_counterexample_16_without_a_floor_the_late_hint_brings_it_back(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Floors, "refuses", lambda *_, **__: 0)
    assert a_late_hint_for_who_does_not_know_the_write(monkeypatch) == b"old"


def one_has_purged_and_two_have_not(monkeypatch: Patch) -> set[int]:
    """How many tombstones peer 0, which has purged, is seen to hold afterwards; the others have one."""
    purge = FloorRounds._purge
    first: list[Any] = []

    def only_there(self: FloorRounds, after: bytes) -> None:
        if self._me in first:
            purge(self, after)
            return
        self._to_purge.clear()
        self._purging = False

    monkeypatch.setattr(FloorRounds, "_purge", only_there)
    s = Scenario(settings=QUICK | {"anti_entropy_pause_us": 500_000})
    s.start()
    s.bucket("b")
    first.append(s.cluster.machines[0].peer)
    assert s.put("b", "k", b"v", level=Level.ALL).status == OK
    assert s.delete("b", "k", level=Level.ALL).status == OK
    assert s.until(lambda: tombstones(s, "b") == [0, 1, 1])
    first.clear()
    seen = set()
    for _ in range(100):
        s.run(0.1)
        mine, *others = tombstones(s, "b")
        assert others == [1, 1]
        seen.add(mine)
    return seen


def test_counterexample_17_who_has_purged_is_not_repaired(monkeypatch: Patch) -> None:
    assert one_has_purged_and_two_have_not(monkeypatch) == {0}


def test_counterexample_17_without_a_floor_what_was_purged_comes_back(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Writer, "_floor_us", lambda *_: 0)
    assert 1 in one_has_purged_and_two_have_not(monkeypatch)
