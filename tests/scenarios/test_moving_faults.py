"""Faults while ranges move: a restored row, and a newcomer whose disk is damaged when it has merged all."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.requests import Restored, RestoreRequest, Written
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from lsm import keys
from node.moving import Moving
from tests.scenarios.test_counterexamples_moving import (
    D,
    ended,
    replace,
    said,
    three_and_a_newcomer,
    writes_lost_to,
)

Patch = pytest.MonkeyPatch


def merged(s: Scenario) -> bool:
    """Whether the newcomer has taken over all it is given."""
    return s.until(lambda: s.node(D).moving.tell(0).merged != 0)


def two_phases(monkeypatch: Patch) -> list[bool]:
    """Ranges stay where they are until something is in this list."""
    may: list[bool] = []
    whole = Moving._may_hand_over
    monkeypatch.setattr(Moving, "_may_hand_over", lambda *given: bool(may) and whole(*given))
    monkeypatch.setattr(Moving, "_drain", lambda self, _, move: setattr(self, "_drained", move.id))
    return may


def a_row_restored_before_the_hand_over(monkeypatch: Patch) -> bool:
    """Whether it is acknowledged if only 0 and 2, who leaves, take it: 1 and 3 would not show it then."""
    two_phases(monkeypatch)
    s = three_and_a_newcomer(hints=False)
    assert s.put("b", "k", b"v").status == OK
    s.run(1)
    (data,) = [v for k, v in s.stored(0, "b").items() if not k.endswith(keys.HEADER_SUFFIX)]
    replace(s, 2, at=0)
    assert s.until(lambda: all(s.state(peer).move is not None for peer in range(4)))
    assert merged(s)
    s.lose(writes_lost_to(1, D))
    restored = Restored(s.buckets["b"].table, b"other", b"", ((keys.ROW_SUFFIX, data),))
    answer = s.ask(RestoreRequest((restored,), Level.QUORUM)).answer
    return isinstance(answer, Written)


def test_a_restored_row_is_acknowledged_by_old_and_new_replicas(monkeypatch: Patch) -> None:
    assert not a_row_restored_before_the_hand_over(monkeypatch)


def a_newcomer_damaged_when_it_has_merged(monkeypatch: Patch) -> Any:
    """What 1 and 3 say of what 0 and 2, who leaves, acknowledged; 3 lost it before the hand-over."""
    may = two_phases(monkeypatch)
    s = three_and_a_newcomer(hints=False, scrub_every_us=1_000_000)
    s.lose(writes_lost_to(1))
    assert s.put("b", "k", b"v").status == OK
    s.heal()
    replace(s, 2, at=0)
    assert merged(s)
    machine = s.cluster.machines[D]
    for key in s.stored(D, "b"):
        machine.engine.damage(key)
    start = machine.start
    assert s.until(lambda: machine.start > start and machine.process is not None), "the damage is met"
    s.run(5)
    may.append(True)
    assert ended(s, 0)
    s.pause(0)
    return said(s, 1)


def test_what_a_newcomer_lost_comes_back_before_it_is_read(monkeypatch: Patch) -> None:
    assert a_newcomer_damaged_when_it_has_merged(monkeypatch) == b"v"
