"""Numbers beyond floats and beyond 64 bits, in documents and in questions: no answer fails for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from core.json_values import render
from index.aggregation import Aggregations
from index.aggregation_dsl import parse_aggregations
from index.asking import Ask, Found, Refusal, unsendable
from index.bounds import QueryError, RefusedError
from index.changing import Change
from index.finishing import finish
from index.floats import GREATEST, as_float, total_of
from index.mapped import MappedFields
from index.mapping import DEFAULT, Rules, compile_mapping
from index.merging import merge_all
from index.naive_segments import WHOLE, Kept, NaiveSegments
from index.query import After, All, Compare, Equals, Match, Planned, SortKey, Statistics
from index.rewriting import Rewriter
from index.rewriting_aggregations import rewrite_aggregations
from index.segments import TantivySegments
from tests.index.corpora import key_of

NUMBERS: list[Any] = [10**999, -(10**999), 1.7e308, 1.7e308, -1e308, 5e-324, 0, 2**63, -(2**64), 10**25 + 1]

ASKED: dict[str, Any] = {
    "stats": {"extended_stats": {"field": "n"}},
    "shares": {"percentiles": {"field": "n"}},
    "ranks": {"percentile_ranks": {"field": "n", "values": [0, 1.7e308]}},
    "values": {"terms": {"field": "n", "size": 20}},
    "distinct": {"cardinality": {"field": "n"}},
    "spans": {"range": {"field": "n", "ranges": [{"to": 0}, {"from": 0}]}},
    "steps": {"histogram": {"field": "n", "interval": 1e18, "min_doc_count": 1}},
    "dates": {"date_histogram": {"field": "n", "calendar_interval": "year"}},
    "top": {"top_hits": {"size": 2, "sort": [{"n": {"mode": "sum"}}, "-n"]}},
}


def rules() -> Rules:
    found = compile_mapping(DEFAULT)
    assert isinstance(found, Rules)
    return found


def rewriter() -> Rewriter:
    return Rewriter(MappedFields(rules()), now_us=0, key_of=lambda text: text.encode())


def documents() -> list[Change]:
    found = [Change(key_of(i), render({"n": number})) for i, number in enumerate(NUMBERS)]
    return [*found, Change(key_of(99), render({"n": [1.7e308, 1.7e308, -(10**500)]}))]


def asked(body: Any) -> Aggregations:
    found = parse_aggregations(body, now_us=0)
    assert not isinstance(found, QueryError), found
    planned = rewrite_aggregations(rewriter(), found)
    assert not isinstance(planned, QueryError)
    return planned


@pytest.mark.parametrize("kind", ["naive", "tantivy"])
@pytest.mark.parametrize("name", ASKED)
def test_no_number_of_a_document_makes_an_answer_fail(kind: str, name: str, tmp_path: Path) -> None:
    index = NaiveSegments(rules(), Kept()) if kind == "naive" else TantivySegments(rules(), tmp_path)
    index.commit(documents(), 1)
    of = asked({name: ASKED[name]})
    found = index.search(Ask(All(), Statistics(), 5, (SortKey("n"),), None, of), WHOLE)
    assert isinstance(found, Found)
    shown = finish(of, merge_all(of, [found.aggregations]), lambda _, hits: [])
    assert orjson.dumps(shown) and len(found.hits) == 5
    index.close()


def test_an_interval_that_is_too_short_for_the_values_is_refused() -> None:
    index = NaiveSegments(rules(), Kept())
    index.commit(documents(), 1)
    of = asked({"a": {"histogram": {"field": "n", "interval": 1e-9, "min_doc_count": 1}}})
    found = index.search(Ask(All(), Statistics(), 0, aggregations=of), WHOLE)
    assert isinstance(found, Refusal) and "too short" in found.detail
    of = asked({"a": {"histogram": {"field": "z", "interval": 1e-9, "extended_bounds": {"max": 1e308}}}})
    with pytest.raises(RefusedError, match="too short"):
        finish(of, merge_all(of, []), lambda _, hits: [])


@pytest.mark.parametrize("numbers", [[1e18], [1e18, 1e18 + 128], [5, 6, 7]])
def test_a_histogram_whose_next_bucket_no_float_tells_apart_ends(numbers: list[float]) -> None:
    index = NaiveSegments(rules(), Kept())
    index.commit([Change(key_of(i), render({"n": number})) for i, number in enumerate(numbers)], 1)
    of = asked({"a": {"histogram": {"field": "n", "interval": 1}}})
    found = index.search(Ask(All(), Statistics(), 0, aggregations=of), WHOLE)
    assert isinstance(found, Found)
    shown = finish(of, merge_all(of, [found.aggregations]), lambda _, hits: [])["a"]["buckets"]
    assert [(each["key"], each["doc_count"]) for each in shown] == [(number, 1) for number in numbers]


@pytest.mark.parametrize("field", ["n", "n.keyword"])
@pytest.mark.parametrize("number", [10**25 + 1, -(10**25), 2**63, 1e17, 1e300, -1e300, 2**64 - 1])
def test_any_number_may_be_asked_for(field: str, number: float) -> None:
    index = NaiveSegments(rules(), Kept())
    index.commit(documents(), 1)
    for query in (
        Equals(field, (number,)),
        Match(field, str(number)),
        Compare(field, number, None),
        Compare(field, None, str(number)),
    ):
        planned = rewriter().rewrite(query)
        assert not isinstance(planned, QueryError)
        assert not unsendable(planned, (), ())
        assert isinstance(index.search(Ask(planned, Statistics(), 5), WHOLE), Found)


def test_whole_numbers_are_found_exactly_whatever_their_size() -> None:
    index = NaiveSegments(rules(), Kept())
    index.commit(documents(), 1)

    def count(text: str) -> int:
        planned = rewriter().rewrite(Match("n", text))
        assert not isinstance(planned, QueryError)
        found = index.search(Ask(planned, Statistics(), 5), WHOLE)
        assert isinstance(found, Found)
        return found.total

    assert [count(str(10**25 + more)) for more in (0, 1, 2)] == [0, 1, 0]


@pytest.mark.parametrize("kind", ["naive", "tantivy"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_have_each_document_once_where_different_numbers_are_one_float(
    kind: str, descending: bool, tmp_path: Path
) -> None:
    """Whole numbers beyond 64 bits and long fractions sort as floats: those that tie, by their key."""
    index = NaiveSegments(rules(), Kept()) if kind == "naive" else TantivySegments(rules(), tmp_path)
    texts = [str(10**20 + number % 3) for number in range(8)] + ["0.1", "0.10000000000000000001", "0.1"]
    index.commit([Change(key_of(i), b'{"n":%s}' % text.encode()) for i, text in enumerate(texts)], 1)
    sort = (SortKey("n", descending=descending),)
    keys: list[bytes] = []
    after: After | None = None
    while True:
        found = index.search(Ask(All(), Statistics(), 1, sort, after, scored=False), WHOLE)
        assert isinstance(found, Found)
        if not found.hits:
            break
        keys.append(found.hits[0].key)
        after = After(found.hits[0].sort, found.hits[0].key)
    assert sorted(keys) == sorted(map(key_of, range(len(texts))))
    large, small = sorted(map(key_of, range(8))), sorted(map(key_of, range(8, 11)))
    assert keys == (large + small if descending else small + large)
    index.close()


def test_what_cannot_be_sent_is_told() -> None:
    query: Planned = All()
    assert not unsendable(query, (), (SortKey("n", missing=3),))
    assert unsendable(query, (), (SortKey("n", missing=2**70),))


@pytest.mark.parametrize(
    "body",
    [
        {"date_histogram": {"field": "d", "fixed_interval": "999999999d"}},
        {"date_histogram": {"field": "d", "fixed_interval": "1d", "offset": "999999999d"}},
        {"date_histogram": {"field": "d", "fixed_interval": "1d", "missing": 2**63}},
        {"date_range": {"field": "d", "ranges": [{"from": 2**62}]}},
    ],
)
def test_times_beyond_all_calendars_are_refused(body: Any) -> None:
    assert isinstance(parse_aggregations({"a": body}, now_us=0), QueryError)


def test_floats_end_at_the_greatest() -> None:
    assert as_float(10**400) == GREATEST == as_float(float("inf"))
    assert as_float(-(10**400)) == -GREATEST
    assert total_of([1e308, 1e308, -1e308]) == 1e308
    assert total_of([1.7e308, 1.7e308]) == GREATEST
    assert total_of([0.1] * 10) == 1.0
