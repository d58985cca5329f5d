"""Queries in JSON, planned, weighed and answered by both kinds of segments, against plain-Python BM25."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec
import orjson
import pytest

from core.messages import ApplyMutation, Message
from core.requests import Changed
from core.searching import SearchAnswer
from documents.collections import CollectionSettings, CollectionSpec, alter_collection
from documents.values import id_of
from index.asking import Ask, Found, Segments
from index.bounds import QueryError
from index.changing import Change
from index.mapped import MappedFields
from index.mapping import DEFAULT, Rules, compile_mapping
from index.naive_segments import Kept, NaiveSegments
from index.query import TokenRanges, add_statistics, terms_of
from index.query_dsl import parse_query
from index.rewriting import Rewriter
from index.segments import TantivySegments
from lsm.keys import TOKEN_MAX, TOKEN_MIN, row_key
from ring.tokens import token_of
from tests.models.bm25 import Asked, Document, Oracle
from tests.node.search_world import SearchScenario

VOCABULARY = [
    "space",
    "star",
    "spar",
    "ship",
    "dune",
    "king",
    "sand",
    "ocean",
    "night",
    "river",
    "stone",
    "storm",
]
HALVES: tuple[TokenRanges, ...] = (((TOKEN_MIN, -1),), ((0, TOKEN_MAX),))
RULES = compile_mapping(DEFAULT)
assert isinstance(RULES, Rules)


def some_words(random: Random, longest: int) -> list[str]:
    count = random.randint(1, longest)
    return [VOCABULARY[min(int(random.expovariate(0.4)), len(VOCABULARY) - 1)] for _ in range(count)]


def corpus(random: Random, size: int) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    for i in range(size):
        document: Document = {
            "title": " ".join(some_words(random, 5)),
            "plot": " ".join(some_words(random, 40)),
        }
        if random.random() < 0.7:
            document["year"] = random.randint(1990, 2010)
        documents[f"m{i}"] = document
    return documents


def query(oracle: Oracle, random: Random, depth: int = 2) -> Asked:
    """Any query of those that the oracle knows."""
    field = random.choice(("title", "plot"))
    inner: list[Callable[[], Asked]] = [
        lambda: oracle.match(field, sorted(set(some_words(random, 3))), random.choice(("or", "and"))),
        lambda: oracle.phrase(field, some_words(random, 2) + some_words(random, 1)),
        lambda: oracle.prefix(field, random.choice(("s", "sp", "st", "sta", "x"))),
        lambda: oracle.between("year", 1990 + random.randrange(10), 2000 + random.randrange(11)),
        lambda: oracle.exists("year"),
    ]
    if depth:

        def several(most: int) -> list[Asked]:
            return [query(oracle, random, depth - 1) for _ in range(random.randrange(most + 1))]

        inner += 2 * [
            lambda: oracle.boolean(several(2), several(2), several(1), several(1)),
            lambda: oracle.dis_max([*several(2), query(oracle, random, 0)], random.choice((0.0, 0.3))),
        ]
    return random.choice(inner)()


def key_of(name: str) -> bytes:
    return row_key(7, token_of(name.encode()), name.encode())


def answered(segments: Segments, body: dict[str, Any]) -> dict[str, float]:
    """As a coordinator asks: two halves of the ring weighed, then searched under the sum of both."""
    parsed = parse_query(body)
    assert not isinstance(parsed, QueryError), parsed
    planned = Rewriter(MappedFields(RULES), now_us=0, key_of=key_of).rewrite(parsed)  # type: ignore[arg-type]
    assert not isinstance(planned, QueryError), planned
    terms = terms_of(planned)
    fields = sorted({term.field: None for term in terms})
    total = add_statistics([segments.statistics(terms, fields, half) for half in HALVES])
    found: dict[str, float] = {}
    for half in HALVES:
        answer = segments.search(Ask(planned, total, 10_000), half)
        assert isinstance(answer, Found)
        assert answer.total == len(answer.hits)
        assert [(-hit.score, hit.key) for hit in answer.hits] == sorted(
            (-h.score, h.key) for h in answer.hits
        )
        found.update((id_of(hit.key), hit.score) for hit in answer.hits)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_segments_find_and_score_what_the_oracle_does(seed: int) -> None:
    random = Random(seed)
    documents = corpus(random, random.choice((3, 60, 150)))
    oracle = Oracle(documents)
    both: tuple[Any, ...] = (NaiveSegments(RULES, Kept({}, 0, {})), TantivySegments(RULES, None))  # type: ignore[arg-type]
    for segments in both:
        segments.commit([Change(key_of(name), orjson.dumps(each)) for name, each in documents.items()], 1)
    matched = 0
    for _ in range(25):
        asked = query(oracle, random)
        expected = oracle.find(asked)
        matched += len(expected)
        for segments in both:
            found = answered(segments, asked.json)
            assert found == pytest.approx(expected, rel=0.02), (type(segments).__name__, asked.json)
    assert matched > 20


ALONE = {
    "hints": False,
    "read_repair": False,
    "follow_idle_us": 3_600_000_000,
    "anti_entropy_pause_us": 3_600_000_000,
}
"""Nothing makes replicas equal but what a search asks for."""


def agree(s: SearchScenario, oracle: Oracle, random: Random, at: int, count: int = 3) -> None:
    """Some queries, asked of one peer: results, scores and the first ten."""
    for _ in range(count):
        asked = query(oracle, random)
        expected = oracle.find(asked)
        answer = s.search(asked.json, at, size=len(oracle.documents))
        assert isinstance(answer, SearchAnswer), (answer, asked.json)
        found = {id_of(hit.key): hit.score for hit in answer.hits}
        assert found.keys() == expected.keys(), asked.json
        assert found == pytest.approx(expected, rel=1e-6), asked.json
        best = sorted(expected.values(), reverse=True)[:10]
        assert [hit.score for hit in answer.hits[:10]] == pytest.approx(best)


def loses_writes(to: int, _source: int, target: int, message: Message) -> bool:
    return target == to and isinstance(message, ApplyMutation)


def alter(s: SearchScenario, mapping: bytes) -> None:
    """Change the collection's mapping: another index is built."""
    settings = CollectionSettings(mapping=msgspec.Raw(mapping))
    change = alter_collection(s.collection(), CollectionSpec("movies", None, 0, settings=settings))
    answer = s.ask(change).answer  # type: ignore[arg-type]
    assert isinstance(answer, Changed) and not answer.error


def test_five_peers_agree_with_the_oracle_through_crashes_rebuilds_and_restarts() -> None:
    """1,100 documents at RF 3: over 500 at each of five peers."""
    random = Random(5)
    documents = corpus(random, 1_100)
    s = SearchScenario(5, settings=ALONE)
    s.start()
    s.collect()
    for i, (name, document) in enumerate(documents.items()):
        if i % 10 == 0:
            s.lose(partial(loses_writes, i % 5))
        s.store(name, document, at=(i + 1 + i // 10) % 5)
    s.heal()
    oracle = Oracle(documents)
    for at in range(5):
        agree(s, oracle, random, at, 1)
    held = [sum(len(k.documents) for k in machine.search.values()) for machine in s.cluster.machines]
    assert min(held) >= 500, held
    # a power cut of all: what was acknowledged is found, by the indexes as they were
    s.power_cut(*range(5))
    s.start()
    agree(s, oracle, random, 3)
    # a peer restarts: before it is seen to be dead, while it is away, and when it is back
    for peer in (1, 4):
        s.kill(peer)
        agree(s, oracle, random, (peer + 1) % 5, 1)
        assert s.until(lambda peer=peer: s.sees_dead((peer + 1) % 5, peer))  # type: ignore[misc]
        agree(s, oracle, random, (peer + 1) % 5, 1)
        s.start(peer)
        agree(s, oracle, random, peer, 1)
    # a changed mapping of a field that is not searched: another index is built meanwhile
    table = s.collection().table
    old = s.host(0).mapping(table)
    alter(s, b'{"fields": {"note": {"type": "keyword"}}}')
    steps = 0
    while any(s.host(peer).mapping(table) == old for peer in range(5)):
        agree(s, oracle, random, steps % 5, 1)
        if steps == 1:
            s.power_cut(2)
            s.start(2)
        name = f"m{steps}"
        documents[name] = {**documents[name], "plot": "space ocean"}
        s.store(name, documents[name], at=steps % 5)
        oracle = Oracle(documents)
        steps += 1
        assert steps < 300, "the new index is never there"
    assert steps > 1, "searched while it was built"
    agree(s, oracle, random, 2)
