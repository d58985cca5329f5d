"""Expressions as MongoDB's manual tells them, one by one."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from query.pipeline import parse_pipeline
from query.refusals import Refusal

DOCUMENT = {"t": " a ", "s": "hello", "n": 2, "a": [1, 2, 2], "o": {"x": 1}, "d": "2024-12-30T10:20:30.5Z"}


def run(expression: Any) -> Any:
    parsed = parse_pipeline([{"$project": {"_id": 0, "r": expression}}])
    assert not isinstance(parsed, Refusal), parsed.text
    found = parsed.run([DOCUMENT], lambda n: 0)
    return found.text if isinstance(found, Refusal) else found[0].get("r", "nothing")


CASES: list[tuple[Any, Any]] = [
    ({"$pow": [2, 10]}, 1024),
    ({"$regexFind": {"input": "ünter Ben", "regex": "(b)(x)?e", "options": "i"}},
     {"match": "Be", "idx": 6, "captures": ["B", None]}),
    ({"$regexFind": {"input": "$s", "regex": "z"}}, None),
    ({"$regexFind": {"input": "$nope", "regex": "z"}}, None),
    ({"$regexFindAll": {"input": "$s", "regex": "l"}},
     [{"match": "l", "idx": 2, "captures": []}, {"match": "l", "idx": 3, "captures": []}]),
    ({"$regexFindAll": {"input": None, "regex": "l"}}, []),
    ({"$zip": {"inputs": ["$a", ["x", "y"]]}}, [[1, "x"], [2, "y"]]),
    ({"$zip": {"inputs": [[1], [2, 3]], "useLongestLength": True, "defaults": [0, 9]}}, [[1, 2], [0, 3]]),
    ({"$zip": {"inputs": [[1], [2, 3]], "useLongestLength": True}}, [[1, 2], [None, 3]]),
    ({"$zip": {"inputs": [[1], "$nope"]}}, None),
    ({"$convert": {"input": "12", "to": "int"}}, 12),
    ({"$convert": {"input": "1.5", "to": "double"}}, Decimal("1.5")),
    ({"$convert": {"input": "x", "to": "int", "onError": "bad"}}, "bad"),
    ({"$convert": {"input": "$nope", "to": "int", "onNull": 0}}, 0),
    ({"$convert": {"input": "$nope", "to": "int"}}, None),
    ({"$convert": {"input": 2, "to": 8}}, True),
    ({"$convert": {"input": 3, "to": {"type": "string"}}}, "3"),
    ({"$convert": {"input": 120000000000, "to": "date"}}, "1973-10-20T21:20:00.000Z"),
    ({"$unsetField": {"field": "x", "input": "$o"}}, {}),
    ({"$firstN": {"input": "$a", "n": 2}}, [1, 2]),
    ({"$lastN": {"input": "$a", "n": 2}}, [2, 2]),
    ({"$minN": {"input": [3, None, 1, 2], "n": 2}}, [1, 2]),
    ({"$maxN": {"input": [3, None, 1, 2], "n": 2}}, [3, 2]),
    ({"$bitAnd": [12, 10]}, 8),
    ({"$bitOr": [12, 10]}, 14),
    ({"$bitXor": [12, 10]}, 6),
    ({"$bitNot": 5}, -6),
    ({"$stdDevPop": [[2, 4, 4, 4, 5, 5, 7, 9]]}, 2),
    ({"$stdDevSamp": [5]}, None),
    ({"$substrBytes": ["héllo", 0, 3]}, "hé"),
    ({"$substr": [123, 0, 2]}, "12"),
    ({"$strLenBytes": "héllo"}, 6),
    ({"$indexOfBytes": ["héllo", "l"]}, 3),
    ({"$eq": ["$nope", None]}, False),
    ({"$gt": [None, "$nope"]}, True),
    ({"$lt": ["$nope", 0]}, True),
    ({"$dateToString": {"date": "$d", "timezone": "+09:00"}}, "2024-12-30T19:20:30.500"),
    ({"$dateToString": {"date": "2024-01-31T20:00:00Z", "format": "%d %b %Y %H:%M %z", "timezone": "+09"}},
     "01 Feb 2024 05:00 +0900"),
    ({"$dateToString": {"date": "$nope", "format": "%Y", "onNull": "never"}}, "never"),
    ({"$hour": {"date": "$d", "timezone": "-0500"}}, 5),
    ({"$dayOfMonth": {"date": "$d"}}, 30),
    ({"$dateToParts": {"date": "$d"}},
     {"year": 2024, "month": 12, "day": 30, "hour": 10, "minute": 20, "second": 30, "millisecond": 500}),
    ({"$dateFromString": {"dateString": "08/02/2017", "format": "%d/%m/%Y"}}, "2017-02-08T00:00:00.000Z"),
    ({"$dateFromString": {"dateString": "2017-02-08 12:10", "format": "%Y-%m-%d %H:%M", "timezone": "+09"}},
     "2017-02-08T03:10:00.000Z"),
    ({"$dateFromString": {"dateString": "nonsense", "onError": "x"}}, "x"),
    ({"$dateFromString": {"dateString": "$nope", "onNull": "y"}}, "y"),
    ({"$dateAdd": {"startDate": "2020-01-31T10:00:00+09:00", "unit": "month", "amount": 1}},
     "2020-02-29T10:00:00.000+09:00"),
    ({"$dateAdd": {"startDate": "$d", "unit": "hour", "amount": 14}}, "2024-12-31T00:20:30.500Z"),
    ({"$dateSubtract": {"startDate": "2020-03-01", "unit": "day", "amount": 1}}, "2020-02-29T00:00:00.000Z"),
    ({"$dateAdd": {"startDate": "$nope", "unit": "day", "amount": 1}}, None),
    ({"$dateDiff": {"startDate": "2020-12-31T23:59:00Z", "endDate": "2021-01-01", "unit": "year"}}, 1),
    ({"$dateDiff": {"startDate": "2021-01-01", "endDate": "2021-01-20T05:00:00Z", "unit": "day"}}, 19),
    ({"$dateDiff": {"startDate": "2021-01-02", "endDate": "2021-01-03", "unit": "week"}}, 1),
    ({"$dateDiff": {"startDate": "2021-01-01T08:00:00+09:00", "endDate": "2021-01-01", "unit": "hour"}}, 1),
    ({"$dateTrunc": {"date": "$d", "unit": "month"}}, "2024-12-01T00:00:00.000Z"),
    ({"$dateTrunc": {"date": "$d", "unit": "quarter"}}, "2024-10-01T00:00:00.000Z"),
    ({"$dateTrunc": {"date": "$d", "unit": "week", "startOfWeek": "Monday"}}, "2024-12-30T00:00:00.000Z"),
    ({"$dateTrunc": {"date": "$d", "unit": "week"}}, "2024-12-29T00:00:00.000Z"),
    ({"$dateTrunc": {"date": "$d", "unit": "minute", "binSize": 15}}, "2024-12-30T10:15:00.000Z"),
    ({"$dateFromParts": {"year": 2017, "month": 2, "day": 8, "hour": 12}}, "2017-02-08T12:00:00.000Z"),
    ({"$dateFromString": {"dateString": "2017-02-08T12:10:40+09:00"}}, "2017-02-08T03:10:40.000Z"),
    ({"$toDate": 120000000000}, "1973-10-20T21:20:00.000Z"),
    ({"$sortArray": {"input": [3, 1, 2], "sortBy": -1}}, [3, 2, 1]),
    ({"$sortArray": {"input": [{"a": 2, "b": 1}, {"a": 1}, {"a": 2, "b": 0}], "sortBy": {"a": 1, "b": 1}}},
     [{"a": 1}, {"a": 2, "b": 0}, {"a": 2, "b": 1}]),
    ({"$setField": {"field": "y", "input": "$o", "value": 2}}, {"x": 1, "y": 2}),
    ({"$setField": {"field": "x", "input": "$o", "value": "$$REMOVE"}}, {}),
    ({"$pow": [2, -1]}, Decimal("0.5")),
    ({"$exp": 0}, 1),
    ({"$ln": 1}, 0),
    ({"$log10": 1000}, 3),
    ({"$log": [8, 2]}, 3),
    ({"$add": []}, 0),
    ({"$multiply": []}, 1),
    ({"$avg": [[1, 2]]}, Decimal("1.5")),
    ({"$avg": [[1, 2], 4]}, 4),
    ({"$max": ["$a"]}, 2),
    ({"$toInt": "12"}, 12),
    ({"$toInt": -1.9}, -1),
    ({"$toDouble": "1.5"}, Decimal("1.5")),
    ({"$toBool": "x"}, True),
    ({"$toBool": "$nope"}, None),
    ({"$isNumber": "$n"}, True),
    ({"$trim": "$t"}, "a"),
    ({"$trim": {"input": "$t"}}, "a"),
    ({"$ltrim": {"input": "xxax", "chars": "x"}}, "ax"),
    ({"$rtrim": {"input": "xxax", "chars": "x"}}, "xxa"),
    ({"$trim": {"input": "$nope"}}, None),
    ({"$indexOfCP": ["$s", "l"]}, 2),
    ({"$indexOfCP": ["$s", "l", 3]}, 3),
    ({"$indexOfCP": ["$s", "z"]}, -1),
    ({"$strcasecmp": ["$s", "HELLO"]}, 0),
    ({"$replaceOne": {"input": "aab", "find": "a", "replacement": "x"}}, "xab"),
    ({"$replaceAll": {"input": "aab", "find": "a", "replacement": "x"}}, "xxb"),
    ({"$regexMatch": {"input": "$s", "regex": "^HE", "options": "i"}}, True),
    ({"$regexMatch": {"input": "$s", "regex": "^x"}}, False),
    ({"$first": "$a"}, 1),
    ({"$last": "$a"}, 2),
    ({"$first": [[]]}, "nothing"),
    ({"$reverseArray": "$a"}, [2, 2, 1]),
    ({"$range": [0, 5, 2]}, [0, 2, 4]),
    ({"$range": [3, 0, -1]}, [3, 2, 1]),
    ({"$indexOfArray": ["$a", 2.0]}, 1),
    ({"$setUnion": ["$a", [3, 1.0]]}, [1, 2, 3]),
    ({"$setIntersection": ["$a", [2, 3]]}, [2]),
    ({"$setDifference": ["$a", [2]]}, [1]),
    ({"$setEquals": ["$a", [2, 1]]}, True),
    ({"$setIsSubset": [[1], "$a"]}, True),
    ({"$anyElementTrue": [[0, None, 1]]}, True),
    ({"$allElementsTrue": [[1, False]]}, False),
    ({"$mergeObjects": ["$o", {"y": 2}, None]}, {"x": 1, "y": 2}),
    ({"$objectToArray": "$o"}, [{"k": "x", "v": 1}]),
    ({"$arrayToObject": [[["a", 1], ["b", 2]]]}, {"a": 1, "b": 2}),
    ({"$arrayToObject": {"$objectToArray": "$o"}}, {"x": 1}),
    ({"$getField": {"field": "x", "input": "$o"}}, 1),
    ({"$getField": "n"}, 2),
    ({"$substr": ["$s", 1, 3]}, "ell"),
    ({"$millisecond": "$d"}, 500),
    ({"$dayOfYear": "$d"}, 365),
    ({"$isoWeek": "$d"}, 1),
    ({"$isoWeekYear": "$d"}, 2025),
    ({"$isoDayOfWeek": "$d"}, 1),
    ({"$isoWeek": "2021-01-03"}, 53),
    ({"$isoWeek": "2020-12-31"}, 53),
    ({"$dateToString": {"date": "$d", "format": "%Y-%m-%d %H:%M:%S.%L %j %G-W%V %%"}},
     "2024-12-30 10:20:30.500 365 2025-W01 %"),
    ({"$dateToString": {"date": "$d"}}, "2024-12-30T10:20:30.500Z"),
    ({"$dateToString": {"date": "$nope", "format": "%Y"}}, None),
    ({"$map": {"input": "$a", "as": "x", "in": {"$add": ["$$x", "$n"]}}}, [3, 4, 4]),
    ({"$map": {"input": [{"p": 2}, {}], "in": "$$this.p"}}, [2, None]),
    ({"$map": {"input": "$nope", "in": "$$this"}}, None),
    ({"$map": {"input": [[1, 2], [3]], "as": "x",
               "in": {"$map": {"input": "$$x", "as": "y", "in": ["$$y", {"$size": "$$x"}]}}}},
     [[[1, 2], [2, 2]], [[3, 1]]]),
    ({"$filter": {"input": "$a", "as": "x", "cond": {"$gt": ["$$x", 1]}}}, [2, 2]),
    ({"$filter": {"input": "$a", "cond": {"$gt": ["$$this", 1]}, "limit": 1}}, [2]),
    ({"$reduce": {"input": "$a", "initialValue": 1, "in": {"$multiply": ["$$value", "$$this"]}}}, 4),
    ({"$reduce": {"input": [], "initialValue": "none", "in": "$$this"}}, "none"),
    ({"$let": {"vars": {"x": "$n", "y": 3}, "in": {"$multiply": ["$$x", "$$y"]}}}, 6),
    ({"$let": {"vars": {"x": "$o"}, "in": "$$x.x"}}, 1),
    ({"$sum": {"$map": {"input": "$a", "as": "v", "in": {"$multiply": ["$$v", "$$v"]}}}}, 9),
    ({"$add": ["$d", 3_600_000]}, "2024-12-30T11:20:30.500Z"),
    ({"$add": [1, "2014-03-01T08:00:00+09:00"]}, "2014-03-01T08:00:00.001+09:00"),
    ({"$add": ["$d", None]}, None),
    ({"$subtract": ["2014-03-01T09:00:00Z", "2014-03-01T08:00:00Z"]}, 3_600_000),
    ({"$subtract": ["$d", 500]}, "2024-12-30T10:20:30.000Z"),
    ({"$subtract": ["$d", "$nope"]}, None),
    ({"$toLong": "2014-02-03T04:05:06.007Z"}, 1_391_400_306_007),
    ({"$convert": {"input": "1970-01-01T00:00:01Z", "to": "double"}}, 1000),
    ({"$hour": {"date": "2014-02-03T04:05:06Z", "timezone": "Asia/Seoul"}}, 13),
    ({"$dateToString": {"date": "2014-07-01T04:05:06Z", "format": "%H:%M%z", "timezone": "America/New_York"}},
     "00:05-0400"),
    ({"$dateFromString": {"dateString": "2017-02-08T12:10:40.787", "timezone": "America/New_York"}},
     "2017-02-08T17:10:40.787Z"),
    ({"$dateTrunc": {"date": "2021-03-20T11:30:05Z", "unit": "month", "binSize": 6,
                     "timezone": "America/Los_Angeles"}}, "2021-01-01T08:00:00.000Z"),
    ({"$dateTrunc": {"date": "2021-03-20T11:30:05Z", "unit": "week", "binSize": 2, "startOfWeek": "Monday",
                     "timezone": "America/Los_Angeles"}}, "2021-03-15T07:00:00.000Z"),
    ({"$dateAdd": {"startDate": "2021-03-13T15:00:00Z", "unit": "day", "amount": 1,
                   "timezone": "America/New_York"}}, "2021-03-14T14:00:00.000Z"),
    ({"$dateAdd": {"startDate": "2021-03-13T15:00:00Z", "unit": "hour", "amount": 24,
                   "timezone": "America/New_York"}}, "2021-03-14T15:00:00.000Z"),
    ({"$dateDiff": {"startDate": "2021-01-01T14:00:00Z", "endDate": "2021-01-01T16:00:00Z", "unit": "day",
                    "timezone": "Asia/Seoul"}}, 1),
    ({"$dateFromParts": {"year": 2016, "month": 12, "day": 31, "hour": 23, "minute": 46, "second": 12,
                         "timezone": "America/New_York"}}, "2017-01-01T04:46:12.000Z"),
    ({"$dateFromParts": {"isoWeekYear": 2017, "isoWeek": 6, "isoDayOfWeek": 3, "hour": 12}},
     "2017-02-08T12:00:00.000Z"),
    ({"$dateFromParts": {"year": 2017, "month": 14, "day": 1, "hour": 12}}, "2018-02-01T12:00:00.000Z"),
    ({"$dateFromParts": {"year": 2017, "month": 0, "day": 0}}, "2016-11-30T00:00:00.000Z"),
    ({"$dateFromParts": {"year": 2017, "day": "$nope"}}, "2017-01-01T00:00:00.000Z"),
    ({"$dateFromParts": {"year": None}}, None),
    ({"$week": "2016-01-04"}, 1),
    ({"$week": "2016-01-01"}, 0),
    ({"$dateToString": {"date": "2014-02-03", "format": "%U"}}, "05"),
    ({"$median": {"input": [5, 1, 4], "method": "approximate"}}, 4),
    ({"$percentile": {"input": [9, "x", 1, 2, 3, 4, 5, 6, 7, 8], "p": [0.95, 0.5], "method": "approximate"}},
     [9, 5]),
    ({"$sin": 0}, 0),
    ({"$round": [{"$cos": {"$degreesToRadians": 60}}, 5]}, Decimal("0.50000")),
    ({"$atan2": [1, 1]}, Decimal("0.785398163397448")),
    ({"$toLower": 5}, "5"),
    ({"$abs": Decimal("-1.00000000000000000000000000000000000000001")},
     Decimal("1.00000000000000000000000000000000000000001")),
    ({"$exp": -100_000}, 0),
    ({"$add": ["1970-01-01T00:00:00Z", 1_700_000_000_000]}, "2023-11-14T22:13:20.000Z"),
    ({"$dateTrunc": {"date": "2026-09-06T12:00:00-03:00", "unit": "day", "timezone": "America/Santiago"}},
     "2026-09-06T04:00:00.000Z"),
    ({"$dateTrunc": {"date": "2026-10-25T00:30:00Z", "unit": "hour", "timezone": "Europe/Berlin"}},
     "2026-10-25T00:00:00.000Z"),
    ({"$dateTrunc": {"date": "2026-10-25T01:30:00Z", "unit": "hour", "timezone": "Europe/Berlin"}},
     "2026-10-25T01:00:00.000Z"),
    ({"$dateTrunc": {"date": "2026-11-01T05:30:00Z", "unit": "day", "timezone": "America/Havana"}},
     "2026-11-01T04:00:00.000Z"),
    ({"$dateFromString": {"dateString": "2026-03-08T02:30:00", "timezone": "America/New_York"}},
     "2026-03-08T07:30:00.000Z"),
    ({"$dateFromString": {"dateString": "2026-11-01T01:30:00", "timezone": "America/New_York"}},
     "2026-11-01T05:30:00.000Z"),
    ({"$dateFromString": {"dateString": "2026-10-25T02:30:00", "timezone": "Europe/Berlin"}},
     "2026-10-25T00:30:00.000Z"),
    ({"$dayOfMonth": "2024-02-29"}, 29),
    ({"$pow": [10, -7_000]}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), CASES, ids=lambda value: str(value)[:60])
def test_a_function(expression: Any, expected: Any) -> None:
    found = run(expression)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ({"$range": [0, 1_000_000]}, "$range gives at most"),
        ({"$dayOfMonth": "2023-02-29"}, "there is no such date"),
        ({"$add": ["1970-01-01T00:00:00Z", 10**16]}, "an amount is a whole number to 10"),
        ({"$ln": 0}, "there is no such number"),
        ({"$pow": [0, -1]}, "there is no 0 to the power of -1"),
        ({"$pow": [0, -0.5]}, "there is no 0 to the power of"),
        ({"$pow": [10, 7_000]}, "there is no 10 to the power of 7000"),
        ({"$toInt": {"$exp": 20_000}}, "there is no such number for 20000"),
        ({"$sqrt": {"$subtract": [0, {"$toInt": Decimal("1e6000")}]}}, "a negative number has no"),
        ({"$toString": {"$toInt": Decimal("1e6000")}}, "a number has 6001 digits"),
        ({"$ln": {"$bitNot": {"$toInt": Decimal("1e6000")}}}, "there is no such number for a number of very"),
        ({"$log": [2, 1]}, "the base of a logarithm"),
        ({"$toInt": "1.5"}, "no whole number"),
        ({"$toInt": "x"}, "this is no number"),
        ({"$toDouble": "9" * 2000}, "this is no number"),
        ({"$regexMatch": {"input": "$s", "regex": "("}}, "the pattern is refused"),
        ({"$dateToString": {"date": "$d", "format": "%q"}}, "knows no %q"),
        ({"$dateToString": {"date": "yesterday"}}, "a date is a text"),
        ({"$mergeObjects": ["$n"]}, "takes objects"),
        ({"$switch": {"branches": [{"case": False, "then": 1}]}}, "no branch fits, and there is no default"),
        ({"$dateToString": {"date": "$d", "timezone": "Asia/Soul"}}, "a time zone is UTC, +09:00 or a name"),
        ({"$add": ["$d", "$d"]}, "only one date can be added to"),
        ({"$add": ["$s", 1]}, "a number belongs here"),
        ({"$subtract": ["$s", 1]}, "a number belongs here"),
        ({"$subtract": ["$d", "$s"]}, "a number belongs here"),
        ({"$acos": 2}, "there is no such number for 2"),
        ({"$dateFromParts": {"year": 2017, "isoWeek": 1}}, "an isoWeekYear, isoWeek"),
        ({"$dateFromParts": {"month": 1}}, "a date has a year"),
        ({"$percentile": {"input": [1], "p": 2, "method": "approximate"}}, "p lists numbers from 0 to 1"),
        ({"$dateFromString": {"dateString": "\u0662017", "format": "%Y"}}, "no date of the form"),
        ({"$dateFromString": {"dateString": "1/2/3", "format": "%d-%m-%Y"}}, "no date of the form"),
        ({"$convert": {"input": 1, "to": "objectId"}}, "$convert is to one of"),
        ({"$zip": {"inputs": [[1]], "defaults": [1]}}, "defaults need useLongestLength"),
        ({"$firstN": {"input": [1], "n": 0}}, "n is a whole number above 0"),
        ({"$substrBytes": ["h\u00e9", 0, 2]}, "cuts a character in two"),
    ],
)
def test_what_cannot_be_computed_says_where(expression: Any, said: str) -> None:
    found = run(expression)
    assert isinstance(found, str)
    assert said in found
    assert "pipeline[0].$project.r." in found


def test_what_there_is_not_says_what_to_do() -> None:
    parsed = parse_pipeline([{"$project": {"r": {"$rand": {}}}}])
    assert isinstance(parsed, Refusal)
    assert parsed.text.endswith("an answer does not depend on chance: a pipeline has $sample")


def test_loops_are_bounded_however_they_are_nested() -> None:
    many = {"a": list(range(2_000)), "o": {"p": [{"q": n} for n in range(2_000)]}}
    inner = {"$map": {"input": "$a", "as": "y", "in": {"$add": ["$$x", "$$y"]}}}
    for inside in (
        inner,
        {"$size": {"$concatArrays": ["$a", "$a"]}},
        {"$size": "$o.p.q"},
        {"$let": {"vars": {"z": "$$ROOT"}, "in": {"$size": "$$z.o.p.q"}}},
        {"$eq": ["$a", "$o"]},
    ):
        pipeline = [{"$project": {"r": {"$size": {"$map": {"input": "$a", "as": "x", "in": inside}}}}}]
        parsed = parse_pipeline(pipeline)
        assert not isinstance(parsed, Refusal), parsed.text
        found = parsed.run([many], lambda n: 0)
        assert isinstance(found, Refusal)
        assert "loops over too much" in found.text


def test_variables_are_known_where_they_are_bound_only() -> None:
    for expression in (
        "$$x",
        {"$map": {"input": "$$x", "as": "x", "in": 1}},
        {"$let": {"vars": {"x": 1, "y": "$$x"}, "in": 1}},
        {"$map": {"input": [1], "as": "x", "in": "$$this"}},
    ):
        parsed = parse_pipeline([{"$project": {"r": expression}}])
        assert isinstance(parsed, Refusal)
        assert "there is no variable" in parsed.text
    bad = {"$map": {"input": [1], "as": "X", "in": 1}}
    parsed = parse_pipeline([{"$project": {"r": bad}}])
    assert isinstance(parsed, Refusal) and "a small letter first" in parsed.text


def test_named_arguments_are_checked() -> None:
    for expression in (
        {"$replaceOne": {"input": "a"}},
        {"$regexMatch": {"input": "a", "regex": "b", "x": 1}},
    ):
        parsed = parse_pipeline([{"$project": {"r": expression}}])
        assert isinstance(parsed, Refusal)
        assert "takes an object with" in parsed.text


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001 - as it is written
    st.sampled_from(["week", "day", "hour", "minute", "second", "millisecond"]),
    st.integers(-(10**5), 10**5),
)
def test_calendars_are_those_of_python(at: datetime, unit: str, amount: int) -> None:
    text = at.isoformat(timespec="milliseconds")
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    try:
        wanted = (at + amount * timedelta(**{f"{unit}s": 1})).isoformat(timespec="milliseconds") + "Z"
    except OverflowError:
        wanted = ""
    found = run({"$dateAdd": {"startDate": text, "unit": unit, "amount": amount}})
    assert found == wanted if wanted else "there is no such date" in found
    monday = (at - timedelta(days=at.weekday())).date() if at.toordinal() > 7 else None
    if monday is not None:
        week = {"$dateTrunc": {"date": text, "unit": "week", "startOfWeek": "mon"}}
        assert run(week) == f"{monday.isoformat()}T00:00:00.000Z"
