"""Intervals of time where clocks are put forth and back: each document is in one that is shown."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from index.aggregation import Bucket, Buckets, DatesOf
from index.aggregation_dsl import parse_aggregations
from index.asking import Ask, Found
from index.bounds import QueryError
from index.changing import Change
from index.computing import date_bucket
from index.finishing import finish
from index.instants import parse_instant
from index.mapped import MappedFields
from index.mapping import FieldMapping, Mapping, Rules, compile_mapping
from index.merging import merge_all
from index.naive_segments import WHOLE, Kept, NaiveSegments
from index.query import All, Statistics
from index.rewriting import Rewriter
from index.rewriting_aggregations import rewrite_aggregations
from index.segments import TantivySegments
from query.zones import Zone, ahead_us, instant_of, zone_of
from tests.index.corpora import key_of

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US
ZONES = (
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
)
INTERVALS = (("hour", 0), ("day", 0), ("week", 0), ("", HOUR_US // 2), ("", 3 * HOUR_US), ("", DAY_US))


def zone(name: str) -> Zone:
    found = zone_of(name)
    assert found is not None
    return found


def changes(of: Zone) -> list[int]:
    return [at for at, _ in of[1:] if 1_290_000_000 < at // SECOND_US < 1_700_000_000]


def shown(asked: DatesOf, ats: list[int]) -> list[tuple[int, int]]:
    """The buckets of these instants, empty ones too, and how many are in each."""
    counts: dict[int, int] = {}
    for at in ats:
        key = date_bucket(asked, at)
        counts[key] = counts.get(key, 0) + 1
    buckets = Buckets(tuple(Bucket(key, count) for key, count in counts.items()))
    found = finish((("a", asked),), {"a": buckets}, lambda _, hits: [])["a"]["buckets"]
    return [(each["key"] * 1_000, each["doc_count"]) for each in found]


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(("calendar", "interval_us"), INTERVALS)
def test_no_document_is_lost_where_clocks_change(name: str, calendar: str, interval_us: int) -> None:
    for at, offset_us in product(changes(zone(name)), (0, 6 * HOUR_US, -90 * 60 * SECOND_US)):
        asked = DatesOf("at", calendar, interval_us, zone(name), offset_us=offset_us)
        ats = list(range(at - 30 * HOUR_US, at + 30 * HOUR_US, 13 * 60 * SECOND_US))
        assert all(date_bucket(asked, each) <= each for each in ats)
        found = shown(asked, ats)
        keys = [key for key, _ in found]
        assert sum(count for _, count in found) == len(ats) and keys == sorted(keys)
        assert all(date_bucket(asked, key) == key for key in keys)


def test_a_day_that_has_no_midnight_begins_after_the_gap_and_an_hour_that_comes_twice_is_two() -> None:
    sao_paulo = DatesOf("at", "day", zone=zone("America/Sao_Paulo"))
    ats = [parse_instant(f"2017-10-{day}T12:00:00Z") or 0 for day in (14, 15, 16)]
    begins = [parse_instant(text) for text in ("2017-10-14T03:00Z", "2017-10-15T03:00Z", "2017-10-16T02:00Z")]
    assert [key for key, _ in shown(sao_paulo, ats)] == begins
    hourly = DatesOf("at", "hour", zone=zone("America/New_York"))
    first = parse_instant("2021-11-07T04:30:00Z") or 0
    hours = shown(hourly, [first + hour * HOUR_US for hour in range(5)])
    assert [count for _, count in hours] == [1] * 5
    assert [after - before for (before, _), (after, _) in pairwise(hours)] == [HOUR_US] * 4


@pytest.mark.parametrize("name", ZONES)
def test_of_two_instants_that_clocks_show_the_second_is_meant_and_of_none_the_gap_s_end(name: str) -> None:
    of = zone(name)
    for at in changes(of):
        before, after = ahead_us(of, at - 1), ahead_us(of, at)
        for local_us in range(at + min(before, after), at + max(before, after), 10 * 60 * SECOND_US):
            assert instant_of(of, local_us) == (at if before < after else local_us - after)
        for around in (at - DAY_US, at + DAY_US):
            assert instant_of(of, around + ahead_us(of, around)) == around


@pytest.mark.parametrize("kind", ["naive", "tantivy"])
def test_what_stands_for_a_date_or_chooses_some_is_a_date(kind: str, tmp_path: Path) -> None:
    """A number is milliseconds, as in every answer; a text that is no date is refused."""
    rules = compile_mapping(Mapping(fields={"at": FieldMapping(type="date")}))
    assert isinstance(rules, Rules)
    index = NaiveSegments(rules, Kept()) if kind == "naive" else TantivySegments(rules, tmp_path)
    texts = [b'{"at":"2024-01-02"}', b'{"at":"2024-01-03"}', b"{}"]
    index.commit([Change(key_of(i), text) for i, text in enumerate(texts)], 1)

    def answer(body: dict[str, Any]) -> Any:
        asked = parse_aggregations({"a": body}, now_us=0)
        assert not isinstance(asked, QueryError)
        rewriter = Rewriter(MappedFields(rules), now_us=0, key_of=lambda _: None)
        planned = rewrite_aggregations(rewriter, asked)
        if isinstance(planned, QueryError):
            return planned.detail
        found = index.search(Ask(All(), Statistics(), 0, aggregations=planned), WHOLE)
        assert isinstance(found, Found)
        return finish(planned, merge_all(planned, [found.aggregations]), lambda _, hits: [])["a"]

    for missing in ("2024-01-01", 1_704_067_200_000):
        days = answer({"terms": {"field": "at", "missing": missing, "order": {"_key": "asc"}}})["buckets"]
        assert [day["key_as_string"][:10] for day in days] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert answer({"min": {"field": "at", "missing": 1_704_067_200_000}})["value"] == 1_704_067_200_000
    some = answer({"terms": {"field": "at", "include": ["2024-01-02"]}})["buckets"]
    assert [day["doc_count"] for day in some] == [1]
    assert "a date belongs here" in answer({"terms": {"field": "at", "missing": "N/A"}})
    index.close()
