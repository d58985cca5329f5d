"""The real segments against their naive twin: one list of random operations, equal answers."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from index.aggregation import Partials
from index.asking import Ask, Found
from index.changing import Change
from index.mapping import DEFAULT, Mapping, Rules, compile_mapping, parse_mapping
from index.naive_segments import Kept, NaiveSegments
from index.query import After, Query, Statistics, TokenRanges
from index.segments import TantivySegments
from lsm.keys import TOKEN_MAX, TOKEN_MIN
from tests.index import corpora

WHOLE: TokenRanges = ((TOKEN_MIN, TOKEN_MAX),)
HALF: TokenRanges = ((TOKEN_MIN, -(2**62)), (-5, 2**61))


def rules_of(mapping: Mapping = DEFAULT) -> Rules:
    rules = compile_mapping(mapping)
    assert isinstance(rules, Rules)
    return rules


def mapped(value: object) -> Rules:
    mapping = parse_mapping(value)
    assert isinstance(mapping, Mapping), mapping
    return rules_of(mapping)


MAPPED = mapped(
    {
        "analyzer": "english",
        "fields": {"title": {"type": "text", "analyzer": "korean"}, "tags": {"type": "keyword"}},
    }
)


@pytest.mark.parametrize("seed", range(4))
def test_the_twins_answer_alike(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    rules = MAPPED if seed % 3 == 2 else rules_of()
    naive = NaiveSegments(rules, Kept())
    real = TantivySegments(rules, tmp_path / "a")
    offset = 0
    for _ in range(6):
        some = corpora.changes(random, random.randint(1, 40), 60)
        offset += len(some)
        for each in (naive, real):
            each.commit(some, offset)
        assert real.covers() == naive.covers() == offset
        assert real.documents() == naive.documents()
        if random.random() < 0.3:
            real.close()
            real = TantivySegments(rules, tmp_path / "a")
            assert real.covers() == offset
        for _ in range(25):
            compare(random, naive, real)
    real.close()


def compare(random: Random, naive: NaiveSegments, real: TantivySegments) -> None:
    asked = corpora.query(random)
    ranges = random.choice([WHOLE, WHOLE, HALF, ()])
    terms, fields = corpora.terms_in(asked), corpora.fields_in(asked)
    statistics = naive.statistics(terms, fields, WHOLE)
    assert real.statistics(terms, fields, ranges) == naive.statistics(terms, fields, ranges)
    limit = random.choice([0, 1, 3, 10, 100])
    ask = Ask(asked, statistics, limit)
    expected, got = naive.search(ask, ranges), real.search(ask, ranges)
    assert isinstance(expected, Found) and isinstance(got, Found), (asked, got)
    assert_same(got, expected, asked)
    compare_sorted(random, naive, real, asked)
    if expected.hits and limit:
        last = random.choice(expected.hits)
        ask = Ask(asked, statistics, limit, after=After((last.score,), last.key))
        assert_same(real.search(ask, ranges), naive.search(ask, ranges), asked)


def compare_sorted(random: Random, naive: NaiveSegments, real: TantivySegments, asked: Query) -> None:
    """Orders and aggregations, pages of them."""
    keys = tuple(corpora.sort_key(random) for _ in range(random.randint(0, 2)))
    aggregations = tuple((f"a{n}", corpora.aggregation(random)) for n in range(random.randint(0, 2)))
    ask = Ask(asked, Statistics(), random.choice([0, 2, 50]), keys, aggregations=aggregations, scored=False)
    after = None
    for _ in range(3):
        ask = msgspec.structs.replace(ask, after=after)
        expected, got = naive.search(ask, WHOLE), real.search(ask, WHOLE)
        assert isinstance(expected, Found) and isinstance(got, Found), (asked, got)
        assert got.hits == expected.hits and got.total == expected.total, (asked, keys)
        assert told(got.aggregations) == told(expected.aggregations), (asked, aggregations)
        if not expected.hits:
            break
        after = After(expected.hits[-1].sort or (0.0,), expected.hits[-1].key)


def told(partials: Partials) -> Any:
    """Partial answers in a form that does not tell rounding."""
    text = msgspec.json.encode(partials)
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.9g}"))


def assert_same(got: object, expected: object, asked: object) -> None:
    assert isinstance(expected, Found) and isinstance(got, Found), (asked, got)
    assert got.total == expected.total, asked
    assert [hit.key for hit in got.hits] == [hit.key for hit in expected.hits], asked
    for one, other in zip(got.hits, expected.hits, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6), asked
    assert got.score_max == pytest.approx(expected.score_max, rel=1e-6), asked


def test_a_crash_leaves_the_last_commit(tmp_path: Path) -> None:
    rules = rules_of()
    real = TantivySegments(rules, tmp_path / "a")
    real.commit([Change(corpora.key_of(1), b'{"a": 1}')], 5)
    real.commit([Change(corpora.key_of(2), b'{"a": 2}')], 9)
    del real  # without closing
    again = TantivySegments(rules, tmp_path / "a")
    assert (again.covers(), again.documents()) == (9, 2)
    again.commit([Change(corpora.key_of(1), None)], 10)
    assert (again.covers(), again.documents()) == (10, 1)
    again.close()
