"""Searches of whole clusters: exact through every peer, in one order, whoever dies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from core.consistency import Level
from core.limits import SECOND_US
from core.messages import ApplyMutation, Message, Search
from core.requests import Changed, Invalid, MetadataRequest, Unavailable
from core.searching import ExpandAnswer, ExpandRequest, SearchAnswer, SearchHit
from documents.collections import CollectionSpec, create_collection
from index.aggregation import TermsOf
from index.mapping import Rules
from index.query import EXACT, LAST_KEY, NUMBER, TEXT, All, Match, MoreLike, Query, SortKey
from index.segments import TantivySegments
from index.tiers import Tiers
from lsm.hash_tree import LEAVES
from lsm.lost import LOST_PREFIX, Lost
from node.search_index import FOLD_US
from sim.options import NetworkOptions
from sim.real import node_of
from sim.search import SimPlace
from tests.node.search_world import SearchScenario

ALONE: dict[str, Any] = {
    "hints": False,
    "read_repair": False,
    "follow_idle_us": 3_600_000_000,
    "anti_entropy_pause_us": 3_600_000_000,
}
"""Nothing makes replicas equal but what a search asks for."""


def quiet(peers: int = 3, **more: Any) -> SearchScenario:
    s = SearchScenario(peers, settings=ALONE, **more)
    s.start()
    s.collect()
    return s


def loses_writes(to: int) -> Any:
    return lambda source, target, message: target == to and isinstance(message, ApplyMutation)


def text_of(i: int) -> str:
    return " ".join(
        word for step, word in ((1, "space"), (2, "odyssey"), (3, "love"), (5, "war")) if i % step == 0
    )


def paged(ask: Callable[[int, Any], Any], sort: tuple[SortKey, ...], total: int) -> list[SearchHit]:
    """All hits of a search, page by page; `ask` gets how many came so far, and after what to go on."""
    hits: list[SearchHit] = []
    after = None
    while True:
        answer = ask(len(hits), after)
        assert isinstance(answer, SearchAnswer) and answer.total == total
        if not answer.hits:
            return hits
        hits += answer.hits
        after = (hits[-1].sort if sort else (hits[-1].score,), hits[-1].key)


def test_a_search_sees_every_write_through_every_peer_while_each_in_turn_misses_some() -> None:
    s = quiet(5)
    for i in range(30):
        s.lose(loses_writes(i % 5))
        s.store(f"m{i}", {"title": text_of(i), "n": i}, at=(i + 1) % 5)
    s.heal()
    s.run(1)
    wanted = sorted(f"m{i}" for i in range(0, 30, 2))
    kinds = sorted(Counter(text_of(i) for i in range(30)).values())
    for at in range(5):
        assert sorted(s.found(Match("title", "odyssey"), at, size=100)) == wanted
        answer = s.search(Match("title", "odyssey"), at, size=0)
        assert isinstance(answer, SearchAnswer) and answer.total == 15
        facets = (("number", TermsOf("n", NUMBER, 100)), ("title", TermsOf("title", EXACT, 100)))
        counted = s.search(All(), at, size=0, aggregations=facets)
        assert isinstance(counted, SearchAnswer)
        partials = counted.tables[0].partials
        assert [bucket.count for bucket in partials["number"].buckets] == [1] * 30
        assert sorted(bucket.count for bucket in partials["title"].buckets) == kinds


def test_without_refresh_it_finds_what_the_indexes_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.search_indexes.FEED_US", 3_600_000_000)
    s = quiet()
    s.store("m1", {"title": "space"})
    assert s.found(All()) == ["m1"]
    s.store("m2", {"title": "space"})
    assert s.found(All(), fresh=False) == ["m1"]
    assert sorted(s.found(All())) == ["m1", "m2"]


def test_what_was_written_while_an_index_was_being_made_is_found() -> None:
    s = quiet()
    for name in ("movies", "books", "songs"):
        if name != "movies":
            s.collect(name)
        s.store(f"{name}1", {"title": "space"}, name)
    for name in ("movies", "books", "songs"):
        assert s.found(All(), names=(name,)) == [f"{name}1"]


def test_one_query_has_one_order_and_one_score_through_every_peer() -> None:
    s = quiet(5)
    for i in range(40):
        s.store(f"m{i:02d}", {"title": text_of(i), "plot": "x " * (i % 7)}, at=i % 5)
    answers = [s.search(Match("title", "love war odyssey"), at, size=40) for at in range(5)]
    assert all(isinstance(answer, SearchAnswer) for answer in answers)
    shown = [[(hit.key, hit.score) for hit in answer.hits] for answer in answers]  # type: ignore[union-attr]
    assert all(each == shown[0] for each in shown) and len(shown[0]) > 20
    assert len({answer.peers for answer in answers}) == 1  # type: ignore[union-attr]


def test_scores_are_those_of_the_whole_cluster() -> None:
    s = quiet(5)
    lengths = []
    for i in range(40):
        s.store(f"m{i:02d}", {"title": text_of(i)}, at=i % 5)
        lengths.append(len(text_of(i).split()))
    answer = s.search(Match("title", "war"), 3, size=40)
    assert isinstance(answer, SearchAnswer)
    idf = math.log(1 + (40 - 8 + 0.5) / (8 + 0.5))
    average = sum(lengths) / 40
    for hit in answer.hits:
        i = int(hit.key.split(b"m")[-1][:2])
        norm = 1.2 * (1 - 0.75 + 0.75 * lengths[i] / average)
        assert hit.score == pytest.approx(idf * 2.2 / (1 + norm), rel=0.02)
    assert len(answer.hits) == 8


def test_pages_by_score_and_by_fields_meet_each_document_once() -> None:
    s = quiet(4)
    for i in range(25):
        s.store(f"m{i:02d}", {"title": text_of(i), "n": i % 4})
    for sort in ((), (SortKey("n", "", True),), (SortKey("n"), SortKey("title", EXACT))):

        def ask(so_far: int, after: Any, sort: tuple[SortKey, ...] = sort) -> Any:
            return s.search(Match("title", "space love"), so_far % 4, size=4, sort=sort, after=after)

        seen = [hit.key for hit in paged(ask, sort, 25)]
        whole = s.search(Match("title", "space love"), 0, size=100, sort=sort)
        assert isinstance(whole, SearchAnswer)
        assert seen == [hit.key for hit in whole.hits] and len(seen) == 25


def test_a_dead_peer_s_ranges_are_asked_of_another() -> None:
    s = quiet(3)
    for i in range(10):
        s.store(f"m{i}", {"title": "space"})
    answer = s.search(All(), 0, size=20)
    assert isinstance(answer, SearchAnswer)
    server = next(i for i, m in enumerate(s.cluster.machines) if m.peer == answer.peers[0])
    asker = (server + 1) % 3
    s.kill(server)
    assert len(s.found(All(), asker, size=20)) == 10


def test_who_is_still_given_back_what_damage_took_does_not_serve_searches() -> None:
    s = quiet(3)
    for i in range(10):
        s.store(f"m{i}", {"title": "space"})
    answer = s.search(All(), 0, size=20)
    assert isinstance(answer, SearchAnswer)
    server = next(i for i, m in enumerate(s.cluster.machines) if m.peer == answer.peers[0])
    lost = {LOST_PREFIX + b"x": Lost(0, 0, 2**32 - 1, LEAVES - 1)}
    node_of(s.cluster, server).mending._lost = lost  # as after a start with such a note
    for at in range(3):
        answer = s.search(All(), at, size=20)
        assert isinstance(answer, SearchAnswer) and len(answer.hits) == 10
        assert s.cluster.machines[server].peer not in answer.peers


def test_a_peer_that_is_silent_is_passed_over_in_time() -> None:
    s = quiet(3)
    s.store("m1", {"title": "space"})
    answer = s.search(All(), 0)
    assert isinstance(answer, SearchAnswer)
    server = next(i for i, m in enumerate(s.cluster.machines) if m.peer == answer.peers[0])

    def silent(source: int, target: int, message: Message) -> bool:
        return target == server and isinstance(message, Search)

    s.lose(silent)
    assert s.found(All(), (server + 1) % 3, timeout_s=5.0) == ["m1"]
    begun_us = s.cluster.now_us
    assert s.found(All(), (server + 1) % 3, timeout_s=60.0) == ["m1"]
    assert s.cluster.now_us - begun_us < 3 * SECOND_US


def test_where_all_are_slow_whoever_answers_first_counts_and_nobody_twice() -> None:
    far = NetworkOptions(latency_min_us=120_000, latency_max_us=160_000, jitter_us=30_000)
    s = SearchScenario(5, settings={"follow_idle_us": 3_600_000_000}, network=far)
    s.start()
    s.collect()
    for i in range(20):
        s.store(f"m{i}", {"title": "space", "n": i})
    for at in range(5):
        answer = s.search(Match("title", "space"), at, size=50, sort=(SortKey("n"),), timeout_s=1.6)
        assert isinstance(answer, SearchAnswer) and answer.total == 20
        assert [hit.sort[0] for hit in answer.hits] == list(range(20))
    assert s.cluster.events["searches_asked_elsewhere"] > 0


def test_too_few_replicas_are_an_error_unless_a_part_will_do() -> None:
    s = quiet(5)
    for i in range(30):
        s.store(f"m{i}", {"title": "space"})
    s.kill(3, 4)
    s.until(lambda: all(s.sees_dead(at, 3, 4) for at in range(3)))
    answer = s.search(Match("title", "space"), 0, size=50)
    assert isinstance(answer, Unavailable)
    part = s.search(Match("title", "space"), 0, size=50, allow_partial=True)
    assert isinstance(part, SearchAnswer)
    assert part.missing and 0 < part.total < 30
    assert s.search(Match("title", "space"), 0, size=0, level=Level.ONE).total == 30  # type: ignore[union-attr]


@pytest.mark.parametrize("query", [Match("title", "space"), All(), Match("title", "spase", fuzziness="AUTO")])
def test_a_part_comes_in_time_where_a_peer_that_holds_the_rest_is_silent(query: Query) -> None:
    """Who is silent, and is not known to be dead yet, took all the time of the first step of the search, and
    the others, that had answered, had none for the second.
    """
    s = SearchScenario(3, settings=ALONE)
    s.start()
    made = create_collection(CollectionSpec("movies", replication_factor=1), s.state(0).members)
    assert isinstance(made, MetadataRequest) and isinstance(s.ask(made).answer, Changed)
    s.run(1)
    for i in range(60):
        s.store(f"m{i}", {"title": "space"}, at=i % 3)
    s.pause(2)
    part = s.search(query, 0, size=100, level=Level.ONE, allow_partial=True, timeout_s=1.0)
    assert isinstance(part, SearchAnswer)
    assert part.missing and 0 < part.total == len(part.hits) < 60


def test_an_index_that_is_being_built_is_told() -> None:
    s = quiet(3)

    def building(table: int, until_us: int, done: Any, mapping: str = "") -> None:
        done("40 % are there")

    for peer in range(3):
        s.host(peer).when_fresh = building
    answer = s.search(All(), 0)
    assert isinstance(answer, Invalid) and "40 % are there" in answer.detail
    for peer in range(2):
        del s.host(peer).when_fresh
    assert s.found(All(), 0, timeout_s=10.0) == []


def test_only_the_replicas_of_named_partitions_are_asked() -> None:
    s = quiet(5)
    for i in range(20):
        s.store(f"m{i}", {"title": "space"})
    answer = s.search(All(), 2, partitions=(b"m7",))
    assert isinstance(answer, SearchAnswer)
    assert [hit.key[-4:] for hit in answer.hits] == [b"7\x00\x00\x02"] and len(answer.peers) == 1


def test_a_query_that_names_its_documents_is_routed_without_being_told() -> None:
    s = quiet(5)
    for i in range(20):
        s.store(f"m{i}", {"title": "space", "n": i})
    everybody = s.search(All(), 2, size=50)
    assert isinstance(everybody, SearchAnswer) and len(everybody.peers) > 1
    for query in (
        {"ids": {"values": ["m7"]}},
        {"bool": {"filter": [{"ids": {"values": ["m7"]}}, {"range": {"n": {"gte": 3}}}]}},
    ):
        answer = s.search(query, 2)
        assert isinstance(answer, SearchAnswer)
        assert answer.total == len(answer.hits) == len(answer.peers) == 1
    nobody = s.search({"bool": {"filter": [{"ids": {"values": []}}]}}, 2)
    assert isinstance(nobody, SearchAnswer) and nobody.total == 0 and nobody.peers == ()
    scored = s.search(
        {"bool": {"must": [{"match": {"title": "space"}}, {"ids": {"values": ["m7", "m8"]}}]}}, 2
    )
    assert isinstance(scored, SearchAnswer) and scored.total == 2


def test_several_collections_at_once() -> None:
    s = quiet(3)
    s.collect("books")
    s.store("m1", {"title": "space"})
    s.store("b1", {"title": "space"}, "books")
    s.store("b2", {"title": "space space"}, "books")
    assert sorted(s.found(Match("title", "space"), names=("movies", "books"))) == ["b1", "b2", "m1"]
    assert s.found(Match("title", "space"), names=("books",)) == ["b2", "b1"]


@pytest.mark.parametrize("segments", ["naive", "tantivy"])
@pytest.mark.parametrize("names", [("movies", "books"), ("books", "movies")])
def test_pages_over_several_collections_pass_over_no_document_that_is_equal(
    segments: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_: SimPlace, name: str, rules: Rules) -> Tiers:
        return Tiers(rules, TantivySegments(rules, None))

    if segments == "tantivy":
        monkeypatch.setattr(SimPlace, "open", opened)
    s = quiet(3)
    s.collect("books")
    for i in range(12):
        for name in names:
            s.store(f"m{i}", {"title": "space", "n": i % 2}, name)
    s.run(2 * FOLD_US / SECOND_US)
    for sort in ((), (SortKey("n", NUMBER),), (SortKey("nowhere", NUMBER),)):

        def ask(_: int, after: Any, sort: tuple[SortKey, ...] = sort) -> Any:
            return s.search(All(), 0, names, size=5, sort=sort, after=after)

        hits = paged(ask, sort, 24)
        seen, last = [hit.key for hit in hits], hits[-1]
        assert len(seen) == len(set(seen)) == 24
        beyond = s.search(All(), 0, names, sort=sort, after=(last.sort if sort else (last.score,), LAST_KEY))
        assert isinstance(beyond, SearchAnswer) and not beyond.hits


def test_more_like_this_finds_what_shares_the_telling_words() -> None:
    s = quiet(3)
    for i in range(12):
        s.store(f"m{i:02d}", {"title": f"the common words {'whale ocean' if i % 4 == 0 else 'city street'}"})
    query = MoreLike(("title",), (), ("m00",), term_freq_min=1, doc_freq_min=1, terms_max=2)
    assert sorted(s.found(query, 1)) == ["m04", "m08"]


def test_many_examples_are_refused() -> None:
    """Each asks all peers, one after the other; where none had a word they called each other too deeply."""
    s = quiet(3)
    s.store("m1", {"title": "space"})
    likes = [{"more_like_this": {"fields": ["title"], "like": f"w{number}"}} for number in range(900)]
    refused = s.search({"bool": {"should": likes}})
    assert isinstance(refused, Invalid) and "at most 20" in refused.detail
    assert s.found({"bool": {"should": [*likes[:20], {"match": {"title": "space"}}]}}) == ["m1"]
    assert not s.cluster.deaths


def test_expanding_prefixes_counts_over_the_cluster() -> None:
    s = quiet(5)
    for i in range(20):
        s.store(f"m{i}", {"title": "space" if i % 2 else "spark"})
    s.found(All())
    request = ExpandRequest(s.collection().table, "title", TEXT, ("sp", "x"), 5, Level.ONE, fresh=True)
    answer = s.ask(request, 1).answer
    assert answer == ExpandAnswer(((("space", 10), ("spark", 10)), ()))


@pytest.mark.parametrize("place", ["node.search_table.Rewriter.rewrite", "node.search_table.merge_all"])
def test_a_search_that_nobody_foresaw_ends_alone(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = quiet(3)
    s.store("m1", {"title": "space"})

    def fails(*_: object) -> None:
        raise KeyError("what is this")

    monkeypatch.setattr(place, fails)
    answer = s.search(Match("title", "space"))
    assert isinstance(answer, Invalid) and "KeyError: 'what is this'" in answer.detail
    monkeypatch.undo()
    assert s.found(Match("title", "space")) == ["m1"]
    assert not s.cluster.deaths


def test_what_cannot_be_searched_is_told() -> None:
    s = quiet(3)
    assert isinstance(s.search(All(), size=10_001), Invalid)
    assert isinstance(s.search(All(), level=Level.SERIAL), Invalid)
    assert isinstance(s.search(Match("title", "x", analyzer="klingon")), Invalid)


@pytest.mark.parametrize("after", ["x", None, 10**400, (), (1.0, 2.0)])
@pytest.mark.parametrize("sort", [(), (SortKey("title"),)])
def test_a_page_that_cannot_have_ended_so_is_refused(after: Any, sort: tuple[SortKey, ...]) -> None:
    """Cursors have no secret: one with a text for a score ended the peers that were asked, one by one."""
    s = quiet(3)
    s.store("m1", {"title": "space"})
    values = after if isinstance(after, tuple) else (after,)
    answer = s.search(Match("title", "space"), after=(values, LAST_KEY), sort=sort)
    is_value = bool(sort) and after in ("x", None)
    assert isinstance(answer, SearchAnswer if is_value else Invalid), answer
    assert s.found(Match("title", "space")) == ["m1"]
    assert not s.cluster.deaths


def test_an_answer_that_fits_no_frame_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    s = quiet(3)
    for i in range(20):
        s.store(f"m{i}", {"title": "space"})
    assert len(s.found(All(), size=20)) == 20
    monkeypatch.setattr("node.search_serving.ANSWER_BYTES_MAX", 300)
    answer = s.search(All(), size=20)
    assert isinstance(answer, Invalid) and "fewer hits" in answer.detail
    assert len(s.found(All(), size=1)) == 1


def test_a_misspelt_word_finds_the_best_match_first_through_every_peer() -> None:
    s = quiet(5)
    titles = [
        "The Godfather",
        "The Godfather: Part II",
        "The Godfather: Part III, the last of them",
        "Solaris",
    ]
    titles += [f"Some film number {n} of the father" for n in range(20)]
    for i, title in enumerate(titles):
        s.store(f"m{i}", {"title": title}, at=i % 5)
    asked = {"match": {"title": {"query": "godfater", "fuzziness": "AUTO"}}}
    for at in range(5):
        assert s.found(asked, at) == ["m0", "m1", "m2"]
        assert s.found({"fuzzy": {"title": "godfater"}}, at) == ["m0", "m1", "m2"]
        answer = s.search(asked, at, size=0)
        assert isinstance(answer, SearchAnswer) and answer.total == 3
    scores = [hit.score for hit in s.search(asked).hits]  # type: ignore[union-attr]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3 and scores[-1] > 0.3
    both = {"match": {"title": {"query": "the godfatehr", "fuzziness": "AUTO", "operator": "and"}}}
    assert s.found(both) == ["m0", "m1", "m2"]
    others = s.found({"bool": {"must_not": [asked]}}, size=100)
    assert sorted(others) == sorted(f"m{i}" for i in range(3, 24))
