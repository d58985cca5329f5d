"""Indexes that follow their peer's log: fresh when asked, whole after crashes, built beside the old one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.commands import Outcome
from core.requests import Changed
from core.searching import SearchAnswer
from documents import operations
from documents.collections import CollectionSettings, CollectionSpec, alter_collection
from index.changing import Change
from index.naive_segments import NaiveSegments
from index.query import All, Match
from jepsen_like.scenarios import Scenario
from node import search_index
from node.inside import Inside
from node.search_indexes import SearchIndexes
from server.rest.documents import MERGE_PATCH, edit_of
from sim.real import node_of
from tests.node.search_world import SearchScenario

Patch = pytest.MonkeyPatch


class Indexed(SearchScenario):
    """Searches by the indexes that simulations have anyway."""

    def __init__(self, peers: int = 3, seed: int = 1, settings: dict[str, Any] | None = None) -> None:
        Scenario.__init__(self, peers, seed, settings)
        self.start()

    def indexes(self, at: int = 0) -> SearchIndexes:
        searches = node_of(self.cluster, at).searches
        assert searches is not None
        host = searches.serving.host
        assert isinstance(host, SearchIndexes)
        return host

    def take_away(self, document_id: str, at: int = 0) -> None:
        planned = operations.delete(self.collection(at=at), document_id)
        assert isinstance(planned, operations.Operation)
        assert not isinstance(self.ask(planned.request, at).answer, Exception)

    def set_mapping(self, text: bytes) -> None:
        spec = CollectionSpec("movies", settings=CollectionSettings(mapping=_raw(text)))
        answer = self.ask(alter_collection(self.collection(), spec)).answer  # type: ignore[arg-type]
        assert isinstance(answer, Changed) and not answer.error, answer

    def states(self, at: int = 0) -> list[str]:
        return [each["state"] for each in self.indexes(at).status()]


def _raw(text: bytes) -> Any:
    import msgspec

    return msgspec.Raw(text)


@pytest.fixture
def s() -> Indexed:
    scenario = Indexed()
    scenario.collect()
    return scenario


def test_a_search_finds_what_was_written_before_it(s: Indexed) -> None:
    for i in range(20):
        s.store(f"m{i}", {"title": "space" if i % 2 else "love", "n": i}, at=i % 3)
        assert f"m{i}" in s.found(All(), at=(i + 1) % 3, size=100)
    assert len(s.found(Match("title", "space"), size=100)) == 10


def test_a_document_that_changed_or_went_is_found_as_it_is(s: Indexed) -> None:
    s.store("m1", {"title": "space"})
    s.store("m2", {"title": "space"})
    assert sorted(s.found(Match("title", "space"))) == ["m1", "m2"]
    s.store("m1", {"title": "love"})
    s.take_away("m2")
    assert s.found(Match("title", "space"), at=1) == []
    assert s.found(All(), at=2) == ["m1"]


def test_indexes_come_back_with_what_they_had_and_what_was_missed(s: Indexed) -> None:
    for i in range(10):
        s.store(f"m{i}", {"n": i})
        assert len(s.found(All(), size=100)) == i + 1
        if i == 4:
            s.run(3)  # what was shown is folded
    kept = [each for at in range(3) for each in s.cluster.machines[at].search.values()]
    assert [len(each.documents) for each in kept] == [5, 5, 5]
    for at in range(3):
        s.cluster.kill(at)
    for at in range(3):
        s.cluster.start(at)
    s.run(3)
    s.store("m10", {"n": 10})
    for at in range(3):
        assert len(s.found(All(), at=at, size=100)) == 11
    assert not any(s.indexes(at).builds for at in range(3)), "nothing had to be built anew"


def test_who_does_not_ask_for_freshness_sees_a_write_a_moment_later(s: Indexed) -> None:
    s.store("m1", {"n": 1})
    assert s.found(All()) == ["m1"]
    s.store("m2", {"n": 2})
    s.run(1)
    for at in range(3):
        assert sorted(s.found(All(), at=at, fresh=False)) == ["m1", "m2"]


def test_many_writes_that_nobody_waits_for_are_committed_together(s: Indexed) -> None:
    for i in range(700):
        s.store(f"m{i}", {"n": i}, at=i % 3)
    s.run(5)
    kept = [each for at in range(3) for each in s.cluster.machines[at].search.values()]
    assert [len(each.documents) for each in kept] == [700, 700, 700]
    assert s.search(All(), size=0).total == 700  # type: ignore[union-attr]


def test_an_index_that_is_lost_is_built_anew(s: Indexed) -> None:
    for i in range(600):
        s.store(f"m{i}", {"n": i}, at=i % 3)
    assert s.search(All(), size=0).total == 600  # type: ignore[union-attr]
    s.cluster.kill(1)
    s.cluster.machines[1].search.clear()
    s.cluster.start(1)
    s.run(3)
    answer = s.search(All(), at=1, size=0)
    assert isinstance(answer, SearchAnswer) and answer.total == 600


def test_an_index_can_be_built_anew_while_others_serve_and_writes_go_on(s: Indexed) -> None:
    for i in range(50):
        s.store(f"m{i}", {"n": i}, at=i % 3)
    assert s.search(All(), size=0).total == 50  # type: ignore[union-attr]
    table = s.collection().table
    for at in range(3):
        for kept in s.cluster.machines[at].search.values():
            kept.documents.clear()  # as a bug of ours might leave it
        assert s.indexes(at).rebuild(table)
        s.store(f"x{at}", {"n": at})
        for through in range(3):
            assert s.search(All(), at=through, size=0).total == 51 + at  # type: ignore[union-attr]
    assert all(s.indexes(at).builds >= 1 for at in range(3))


def test_an_index_ahead_of_its_log_is_built_anew(s: Indexed) -> None:
    """As after a data directory was put back from a backup without its indexes."""
    s.store("m1", {"n": 1})
    assert s.found(All()) == ["m1"]
    s.cluster.kill(2)
    for kept in s.cluster.machines[2].search.values():
        kept.covers += 1_000
        kept.documents.clear()
    s.cluster.start(2)
    s.run(3)
    assert s.found(All(), at=2) == ["m1"]
    assert s.indexes(2).builds


def test_a_changed_mapping_is_built_beside_the_old_one_which_serves_meanwhile(s: Indexed) -> None:
    s.store("m1", {"title": "running"})
    assert s.found(Match("title", "run")) == []
    s.set_mapping(b'{"analyzer": "english"}')
    for second in range(70):  # at no moment does anybody ask an index for another one's terms
        s.store(f"x{second}", {"title": "other"})
        assert s.found(Match("title", "running"), at=second % 3) == ["m1"]
        s.run(1)
    for at in range(3):
        assert s.found(Match("title", "run"), at=at) == ["m1"]
        assert len(s.cluster.machines[at].search) == 1, "the old one is gone"


def test_a_dropped_collection_leaves_no_index(s: Indexed) -> None:
    from documents.collections import drop_collection

    s.store("m1", {"n": 1})
    assert s.found(All()) == ["m1"]
    answer = s.ask(drop_collection(s.collection())).answer
    assert isinstance(answer, Changed) and not answer.error
    assert s.until(lambda: not any(s.cluster.machines[at].search for at in range(3)))


def test_a_collection_that_was_dropped_before_its_index_was_opened_leaves_none_either(
    s: Indexed, monkeypatch: Patch
) -> None:
    """A peer starts with what it knew, learns of the drop, and then reads its log for the first time, while
    the index is still being removed.
    """
    from documents.collections import drop_collection

    s.store("m1", {"n": 1})
    s.kill(0)
    answer = s.ask(drop_collection(s.collection(at=1)), at=1).answer
    assert isinstance(answer, Changed) and not answer.error
    s.run(2)
    held: list[Outcome] = []
    on_rows, drop = SearchIndexes._on_rows, SearchIndexes._drop

    def hold(self: SearchIndexes, outcome: Outcome) -> None:
        held.append(outcome)
        if self._fed:
            on_rows(self, outcome)

    def drop_then_read(self: SearchIndexes, index: Any) -> None:
        drop(self, index)
        on_rows(self, held[0])

    monkeypatch.setattr(SearchIndexes, "_on_rows", hold)
    monkeypatch.setattr(SearchIndexes, "_drop", drop_then_read)
    s.start(0)
    assert s.until(lambda: s.indexes()._fed and not s.cluster.machines[0].search)
    assert not s.cluster.deaths and not s.indexes().status()


def test_what_expires_is_not_found_any_more(s: Indexed) -> None:
    planned = operations.put(s.collection(), "m1", b'{"n": 1}', operations.Wanted(ttl_s=5))
    assert isinstance(planned, operations.Operation)
    s.ask(planned.request)
    s.store("m2", {"n": 2})
    assert sorted(s.found(All())) == ["m1", "m2"]
    s.run(8)
    assert s.found(All()) == ["m2"]
    assert s.search(All(), size=0).total == 1  # type: ignore[union-attr]


def test_a_mass_that_expires_at_once_is_taken_out_unseen(s: Indexed, monkeypatch: Patch) -> None:
    monkeypatch.setattr(search_index, "DUE_MAX", 5)
    monkeypatch.setattr(search_index, "DUE_MANY", 7)
    short = operations.Wanted(ttl_s=6)
    patch = edit_of(MERGE_PATCH, b'{"x": "left"}', 1_000)
    for n in range(12):
        for planned in (
            operations.put(s.collection(), f"m{n}", b'{"x": "left"}', short),
            operations.put(s.collection(), f"p{n}", b'{"n": 1}', short),
            operations.edit(s.collection(), f"p{n}", patch),
        ):
            assert isinstance(planned, operations.Operation)
            s.ask(planned.request)
    index = s.indexes()._current[s.collection().table]
    read, looked_at = index.on_due, []

    def on_due(outcome: Outcome, key: bytes) -> None:
        looked_at.append(key)
        read(outcome, key)

    index.on_due = on_due  # type: ignore[method-assign]
    assert s.search(Match("x", "left"), size=0).total == 24  # type: ignore[union-attr]
    assert s.search(Match("n", "1"), size=0).total == 12  # type: ignore[union-attr]
    s.run(8)
    for at in range(3):
        assert len(s.found(Match("x", "left"), at=at, size=20)) == 12
        assert s.found(Match("n", "1"), at=at) == []
    assert len(looked_at) == 12, "those of which something is left"


def test_a_search_waits_while_what_expired_is_read_again(s: Indexed) -> None:
    planned = operations.put(s.collection(), "m1", b'{"n": 1}', operations.Wanted(ttl_s=5))
    assert isinstance(planned, operations.Operation)
    s.ask(planned.request)
    assert s.found(All()) == ["m1"]
    host, table = s.indexes(), s.collection().table
    index = host._current[table]
    read, told = index.on_due, []

    def on_due(outcome: Outcome, key: bytes) -> None:
        until_us = node_of(s.cluster, 0).inside.world.monotonic_us() + 1_000_000
        host.when_fresh(table, until_us, lambda why: told.append((why, index.next_due_us)))
        assert not told, "what expired is still shown"
        read(outcome, key)

    index.on_due = on_due  # type: ignore[method-assign]
    s.run(8)
    assert told == [("", 0)]
    assert s.found(All()) == []


def test_an_index_that_shows_all_that_is_durable_is_not_made_to_look(s: Indexed) -> None:
    s.store("m1", {"n": 1})
    s.run(1)  # all replicas have it, and show it
    index, asked = s.indexes(), []
    index.read_soon = lambda: asked.append(1)  # type: ignore[method-assign]
    told: list[str] = []
    table = s.collection().table
    until_us = node_of(s.cluster, 0).inside.world.monotonic_us() + 1_000_000
    index.when_fresh(table, until_us, told.append)
    assert told == [""] and not asked
    index.durable_end = lambda: 1_000_000
    index.when_fresh(table, until_us, told.append)
    assert told == [""] and asked, "there is more in the log: it waits"
    index.durable_end = lambda: None
    index.when_fresh(table, until_us, told.append)
    assert len(asked) == 2, "nobody knows how far the log is durable"


def test_documents_come_with_the_search_that_found_them_as_it_found_them(s: Indexed) -> None:
    for i in range(30):
        s.store(f"m{i}", {"title": "space " * (i % 3 + 1), "n": i}, at=i % 3)
    for at in range(3):
        answer = s.search(Match("title", "space"), at=at, size=12, offset=3, texts=True)
        assert isinstance(answer, SearchAnswer) and len(answer.hits) == 12
        rows = s.search(Match("title", "space"), at=at, size=12, offset=3)
        assert isinstance(rows, SearchAnswer)
        for hit, by_row in zip(answer.hits, rows.hits, strict=True):
            assert hit.row is None and by_row.text is None and by_row.row is not None
            cells = [cell.value for cell in by_row.row.cells if cell.value]
            assert hit.text in cells and hit.key == by_row.key


def test_a_row_without_terms_is_named_by_collection_and_id(s: Indexed, monkeypatch: Patch) -> None:
    bare: list[tuple[bytes, str]] = []
    lines: list[tuple[str, str]] = []
    write, log = NaiveSegments.write, Inside.log

    def writes(self: NaiveSegments, changes: Sequence[Change], covers: int) -> None:
        bare.extend((change.key, "OverflowError") for change in changes)
        write(self, changes, covers)

    def taken(_: NaiveSegments) -> tuple[tuple[bytes, str], ...]:
        found = tuple(bare)
        bare.clear()
        return found

    def logs(self: Inside, level: str, name: str, text: str, peer: str = "") -> None:
        lines.append((name, text))
        log(self, level, name, text, peer)

    monkeypatch.setattr(NaiveSegments, "write", writes)
    monkeypatch.setattr(NaiveSegments, "bare", taken)
    monkeypatch.setattr(Inside, "log", logs)
    s.store("m0", {"title": "secret"})
    assert s.until(lambda: s.cluster.events.get("search_rows_without_terms", 0) == 3), "one at each replica"
    told = [text for name, text in lines if name == "row_without_terms"]
    assert len(told) == 3 and len(set(told)) == 1
    assert told[0] == (
        "no search finds 'm0' of docs.movies by what it contains: it cannot be analyzed (OverflowError)"
    )
