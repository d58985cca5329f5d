"""What is called just as was asked comes before what only mentions it; by BM25, like everything else."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import pytest

from index.asking import Ask, Found
from index.changing import Change
from index.explaining import explain
from index.judging import Held
from index.mapped import MappedFields
from index.mapping import DEFAULT, Rules, compile_mapping, parse_mapping
from index.query import ALL, WHOLE, Planned, Statistics, TermKey, terms_of
from index.query_string import Options, parse_query_string
from index.rewriting import Rewriter
from index.segments import TantivySegments
from lsm.keys import TOKEN_MAX, TOKEN_MIN
from tests.index.corpora import key_of

RING = ((TOKEN_MIN, TOKEN_MAX),)
CITIES: list[dict[str, Any]] = [
    {"name": "Seoul", "timezone": "Asia/Seoul", "also": [f"other name {n}" for n in range(80)] + ["서울"]},
    *({"name": f"Place {n}", "timezone": "Asia/Seoul"} for n in range(20)),
    {"name": "New Seoul Station", "timezone": "Asia/Seoul"},
    {"name": "York", "timezone": "Europe/London"},
    {"name": "New York", "timezone": "America/New_York", "note": "a new city, not york"},
    {"name": "Station", "text": "new york " * 5},
]


def opened(path: Path, mapping: object = None) -> tuple[TantivySegments, Rules]:
    parsed = DEFAULT if mapping is None else parse_mapping(mapping)
    rules = compile_mapping(parsed)  # type: ignore[arg-type]
    assert isinstance(rules, Rules)
    segments = TantivySegments(rules, path / "a")
    segments.commit([Change(key_of(n), json.dumps(city).encode()) for n, city in enumerate(CITIES)], 1)
    return segments, rules


def planned(text: str, rules: Rules) -> Planned:
    parsed = parse_query_string(text, Options())
    found = Rewriter(MappedFields(rules), now_us=0, key_of=lambda _: None).rewrite(parsed.query)  # type: ignore[union-attr]
    assert not hasattr(found, "detail"), found
    return found


def found(segments: TantivySegments, rules: Rules, text: str) -> tuple[list[str], Statistics, Found]:
    query = planned(text, rules)
    terms = terms_of(query)
    statistics = segments.statistics(terms, tuple(sorted({key.field for key in terms})), RING)
    answer = segments.search(Ask(query, statistics, 30), RING)
    assert isinstance(answer, Found)
    names = {key_of(n): str(city["name"]) for n, city in enumerate(CITIES)}
    return [names[hit.key] for hit in answer.hits], statistics, answer


@pytest.mark.parametrize(
    ("text", "first", "total"),
    [("Seoul", "Seoul", 22), ("SEOUL", "Seoul", 22), ("new york", "New York", 4), ("york", "York", 3)]
    + [("서울", "Seoul", 1), ('"new york"', "New York", 2)],
)
@pytest.mark.parametrize("mapping", [None, {"analyzer": "korean"}, {"fields": {"name": {"type": "text"}}}])
def test_what_is_called_so_comes_first(
    text: str, first: str, total: int, mapping: object, tmp_path: Path
) -> None:
    segments, rules = opened(tmp_path, mapping)
    names, _, answer = found(segments, rules, text)
    assert names[0] == first and answer.total == len(names) == total


def test_its_score_is_that_of_one_more_field(tmp_path: Path) -> None:
    segments, rules = opened(tmp_path)
    _, statistics, answer = found(segments, rules, "seoul")
    held = Held(key_of(0), CITIES[0], rules)
    query = planned("seoul", rules)
    told = explain(query, statistics, held)
    parts = [each["value"] for each in told["details"]]
    assert answer.hits[0].score == pytest.approx(told["value"]) == pytest.approx(sum(parts))
    assert statistics.frequencies == {TermKey(ALL, "seoul"): 22, TermKey(WHOLE, "seoul"): 1}
    count = len(CITIES)
    length, average = 83, statistics.lengths[WHOLE].terms / statistics.lengths[WHOLE].documents
    assert statistics.lengths[WHOLE].documents == count
    idf = log(1 + (count - 1 + 0.5) / 1.5)
    assert parts[1] == pytest.approx(idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * length / average)))
    segments.close()
