"""Queries in JSON, planned, weighed and answered by both kinds of segments, against plain-Python BM25."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import orjson
import pytest

from core.searching import SearchAnswer
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


def test_five_peers_find_and_score_what_the_oracle_does() -> None:
    random = Random(5)
    documents = corpus(random, 250)
    oracle = Oracle(documents)
    s = SearchScenario(5, settings={"follow_idle_us": 3_600_000_000, "hints": False})
    s.start()
    s.collect()
    for i, (name, document) in enumerate(documents.items()):
        s.store(name, document, at=i % 5)
    for i in range(8):
        asked = query(oracle, random)
        expected = oracle.find(asked)
        answer = s.search(asked.json, i % 5, size=len(documents))
        assert isinstance(answer, SearchAnswer), (answer, asked.json)
        found = {id_of(hit.key): hit.score for hit in answer.hits}
        assert found == pytest.approx(expected, rel=1e-6), asked.json
        best = sorted(expected.values(), reverse=True)[:10]
        assert [hit.score for hit in answer.hits[:10]] == pytest.approx(best)
