"""Searches while indexes are rebuilt, peers restart, and collections come and go."""

from __future__ import annotations

import msgspec
import pytest

from core.consistency import Level
from core.limits import SECOND_US
from core.requests import Changed, Invalid
from core.searching import SearchAnswer, SearchRequest
from documents.collections import CollectionSettings, CollectionSpec, alter_collection, drop_collection
from index.analysis.analyzers import VERSION
from index.query import All, Match
from tests.node.search_world import SearchScenario


def told(peers: int = 3, documents: int = 40) -> SearchScenario:
    s = SearchScenario(peers)
    s.start()
    s.collect()
    for i in range(documents):
        s.store(f"m{i}", {"title": "running wolves" if i % 2 else "a quiet lake", "n": i}, at=i % peers)
    return s


def test_a_changed_mapping_is_built_beside_the_old_index_which_serves_meanwhile() -> None:
    s = told()
    assert s.found(Match("title", "runs")) == []
    settings = CollectionSettings(mapping=msgspec.Raw(b'{"analyzer": "english"}'))
    change = alter_collection(s.collection(), CollectionSpec("movies", None, 0, settings=settings))
    answer = s.ask(change).answer  # type: ignore[arg-type]
    assert isinstance(answer, Changed) and not answer.error
    for step in range(200):
        at = step % 3
        s.store(f"late{step}", {"title": "others", "n": step}, at=at)
        whole = s.search(All(), (at + 1) % 3, size=0)
        assert isinstance(whole, SearchAnswer) and whole.total == 41 + step, "complete throughout"
        same = s.search(Match("title", "running"), at, size=0)
        assert isinstance(same, SearchAnswer) and same.total == 20, "by the old index as by the new"
        found = s.search(Match("title", "runs"), at, size=0)
        assert isinstance(found, SearchAnswer)
        if found.total == 20:
            break
        assert found.total == 0, "the old index does not know stems"
    else:
        raise AssertionError("the new index was never searched")
    gone = lambda: all(len(s.host(peer).status()) == 1 for peer in range(3))  # noqa: E731
    assert s.until(gone, 100), "the old index goes in the end"


def test_a_peer_that_was_away_serves_what_it_missed() -> None:
    s = told()
    answer = s.search(All(), 0, size=0)
    assert isinstance(answer, SearchAnswer)
    server = next(i for i, m in enumerate(s.cluster.machines) if m.peer == answer.peers[0])
    s.power_cut(server)
    other = (server + 1) % 3
    assert s.until(lambda: s.sees_dead(other, server))
    for i in range(10):
        s.store(f"late{i}", {"title": "late"}, at=other)
    s.start(server)
    for at in range(3):
        again = s.search(Match("title", "late"), at, size=0)
        assert isinstance(again, SearchAnswer) and again.total == 10
        whole = s.search(All(), at, size=0)
        assert isinstance(whole, SearchAnswer) and whole.total == 50
    assert s.until(lambda: s.search(All(), other, size=0).peers == answer.peers), "the same peer serves again"  # type: ignore[union-attr]


def test_a_lost_index_is_built_anew_while_another_peer_serves() -> None:
    s = told()
    for peer in range(3):
        s.kill(peer)
        s.cluster.machines[peer].search.clear()
        s.start(peer)
        for at in range(3):
            whole = s.search(All(), at, size=0)
            assert isinstance(whole, SearchAnswer) and whole.total == 40


def test_peers_of_two_releases_whose_analyzers_differ_keep_no_search_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s = told()
    monkeypatch.setattr("node.search_indexes.VERSION", VERSION + 1)
    for upgraded in range(2):
        s.kill(upgraded)
        s.start(upgraded)
        for at in range(3):
            begun_us = s.cluster.now_us
            whole = s.search(All(), at, size=0, timeout_s=5.0)
            assert isinstance(whole, SearchAnswer) and whole.total == 40
            same = s.search(Match("title", "running"), at, size=0, fresh=False)
            assert isinstance(same, SearchAnswer) and same.total == 20
            assert s.cluster.now_us - begun_us < SECOND_US
    assert s.cluster.events["searches_asked_elsewhere"] > 0


def test_a_collection_that_is_dropped_is_not_searched_and_one_made_anew_is_empty() -> None:
    s = told(documents=5)
    table = s.collection().table
    assert isinstance(s.ask(drop_collection(s.collection())).answer, Changed)
    assert s.until(lambda: all(table not in s.state(peer).tables for peer in range(3)))
    s.collect("books")
    gone = s.ask(SearchRequest((table,), All(), Level.QUORUM)).answer
    assert isinstance(gone, Invalid)
    s.collect("movies")
    assert s.found(All()) == []
    s.store("m1", {"title": "new"})
    assert s.found(All(), 2) == ["m1"]
