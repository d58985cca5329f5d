"""Counterexample 23, for search: what an inverted index finds on one replica, and what only others know."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.messages import ApplyMutation
from core.searching import SearchAnswer
from index.query import Match
from node.search_serving import _Serving
from tests.node.search_world import SearchScenario
from tests.scenarios.telling import QUIET, WRITE_FAST

Patch = pytest.MonkeyPatch


def the_replica_that_serves_missed_the_write(level: Level = Level.QUORUM) -> list[list[str]]:
    """What a search finds through each peer: X is acknowledged by two, and the third serves."""
    s = SearchScenario(settings=QUIET | WRITE_FAST | {"hints": False})
    s.start()
    s.collect()
    answer = s.search(Match("title", "space"))
    assert isinstance(answer, SearchAnswer)
    server = next(i for i, machine in enumerate(s.cluster.machines) if machine.peer == answer.peers[0])
    s.lose(lambda source, target, message: target == server and isinstance(message, ApplyMutation))
    s.store("x", {"title": "space"}, at=(server + 1) % 3)
    s.heal()
    return [s.found(Match("title", "space"), at, level=level) for at in range(3)]


def test_counterexample_23_the_index_follows_a_replica_that_has_followed_its_siblings() -> None:
    assert the_replica_that_serves_missed_the_write() == [["x"]] * 3


def test_counterexample_23_an_index_that_only_follows_its_own_log_misses_the_write(
    monkeypatch: Patch,
) -> None:
    def start(self: Any) -> None:
        self._host.when_fresh(self._message.table, self._until_us, self._ready)

    monkeypatch.setattr(_Serving, "start", start)
    assert the_replica_that_serves_missed_the_write() == [[]] * 3


def test_at_one_a_search_finds_what_its_replica_holds() -> None:
    assert the_replica_that_serves_missed_the_write(Level.ONE) == [[]] * 3
