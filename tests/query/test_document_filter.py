"""Filters: what they mean, against an oracle; what is refused, and how it is said."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from query.document_filter import CLAUSES_MAX, DEPTH_MAX, LISTED_MAX, Compare, Cost, cost_of, parse_filter
from query.document_match import predicate
from query.document_values import order_key, parse_path, path_text
from query.refusals import Refusal
from tests.query.document_oracle import meets, ordered
from tests.query.documents import DOCUMENTS, VALUES, filters


def holds(wanted: Any, document: Any) -> bool:
    parsed = parse_filter(wanted)
    assert not isinstance(parsed, Refusal), parsed.text
    return predicate(parsed)(document)


def costs(wanted: Any) -> Cost:
    parsed = parse_filter(wanted)
    assert not isinstance(parsed, Refusal), parsed.text
    return cost_of(parsed)


def refusal(wanted: Any) -> str:
    parsed = parse_filter(wanted)
    assert isinstance(parsed, Refusal), parsed
    return parsed.text


@settings(max_examples=500, deadline=None)
@given(filters(), DOCUMENTS)
def test_a_filter_means_what_the_oracle_says(wanted: dict[str, Any], document: dict[str, Any]) -> None:
    assert holds(wanted, document) is meets(document, wanted)


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES)
def test_the_order_of_values_is_total_and_exact(a: Any, b: Any) -> None:
    left, right = order_key(a), order_key(b)
    assert (left < right, left == right) == (ordered(a) < ordered(b), ordered(a) == ordered(b))
    assert left != right or hash(left) == hash(right)


CASES: list[tuple[Any, Any, bool]] = [
    ({"a": None}, {}, True),
    ({"a": None}, {"a": None}, True),
    ({"a": None}, {"a": 0}, False),
    ({"a.b": None}, {"a": [{"b": 1}, {"c": 2}]}, True),
    ({"a.b": None}, {"a": []}, False),
    ({"a.b": None}, {"a": 5}, True),
    ({"a": {"$exists": False}}, {"a": None}, False),
    ({"a": {"$bitsAllSet": 50}}, {"a": 54}, True),
    ({"a": {"$bitsAllSet": [1, 5]}}, {"a": [20, 34.0]}, True),
    ({"a": {"$bitsAllSet": [1, 5]}}, {"a": 2}, False),
    ({"a": {"$bitsAllClear": 35}}, {"a": 20}, True),
    ({"a": {"$bitsAllClear": 35}}, {"a": 54}, False),
    ({"a": {"$bitsAnySet": [1, 5]}}, {"a": 2}, True),
    ({"a": {"$bitsAnySet": [1, 5]}}, {"a": 20}, False),
    ({"a": {"$bitsAnyClear": 35}}, {"a": 54}, True),
    ({"a": {"$bitsAnyClear": 35}}, {"a": 35}, False),
    ({"a": {"$bitsAllSet": [200]}}, {"a": -5}, True),
    ({"a": {"$bitsAnyClear": 1}}, {"a": "0"}, False),
    ({"a": {"$exists": 1}}, {"a": None}, True),
    ({"a": {"$exists": 0}}, {}, True),
    ({"a": {"$in": [1, {"$regex": "^X", "$options": "i"}]}}, {"a": ["q", "xy"]}, True),
    ({"a": {"$in": [1, {"$regex": "^x"}]}}, {"a": 1}, True),
    ({"a": {"$nin": [1, {"$regex": "^x"}]}}, {"a": "xy"}, False),
    ({"a": {"$nin": [{"$regex": "^x"}]}}, {}, True),
    ({"a": {"$all": [{"$regex": "^x"}, "b"]}}, {"a": ["b", "xy"]}, True),
    ({"a": {"$all": []}}, {"a": []}, False),
    ({"a": {"$gt": 5}}, {"a": "6"}, False),
    ({"a": {"$gt": 5, "$lt": 3}}, {"a": [1, 9]}, True),
    ({"a": {"$elemMatch": {"$gt": 5, "$lt": 3}}}, {"a": [1, 9]}, False),
    ({"a": {"$ne": 1}}, {"a": [1, 2]}, False),
    ({"a": {"$ne": 1}}, {}, True),
    ({"a": [1, 2]}, {"a": [1, 2]}, True),
    ({"a": [1, 2]}, {"a": [[1, 2]]}, True),
    ({"a": 1}, {"a": True}, False),
    ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, True),
    ({"a.1": 5}, {"a": [4, 5]}, True),
    ({"a.1.b": 5}, {"a": [4, {"b": 5}]}, True),
    ({"a.1": 5}, {"a": [{"1": 5}]}, True),
    ({r"a\.b": 1}, {"a.b": 1}, True),
    ({r"a\.b": 1}, {"a": {"b": 1}}, False),
    ({"a": 0.1}, {"a": Decimal("0.1")}, True),
    ({"a": {"$lt": Decimal("0.10000000000000000001")}}, {"a": 0.1}, True),
    ({"a": {"$gt": 2**53}}, {"a": 2**53 + 1}, True),
    ({"a": {"$all": []}}, {"a": []}, False),
    (
        {"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}},
        {"a": [{"b": 1}, {"b": 2}]},
        True,
    ),
    ({"a": {"$regex": "^x", "$options": "i"}}, {"a": ["y", "Xa"]}, True),
    ({"a": {"$regex": "a # any\n b", "$options": "x"}}, {"a": "ab"}, True),
    ({"a": {"$regex": "^b$", "$options": "m"}}, {"a": "a\nb"}, True),
    ({"a": {"$regex": "a.b", "$options": "s"}}, {"a": "a\nb"}, True),
    ({"a": {"$regex": "a.b"}}, {"a": "a\nb"}, False),
    ({"a": {"$type": "int"}}, {"a": 1.0}, False),
    ({"a": {"$type": ["string", 3]}}, {"a": {}}, True),
    ({"a": {"$mod": [4, -1]}}, {"a": -5}, True),
    ({"$comment": "why", "a": 1}, {"a": 1}, True),
]


@pytest.mark.parametrize(("wanted", "document", "expected"), CASES)
def test_the_rules_one_by_one(wanted: Any, document: Any, expected: bool) -> None:
    assert holds(wanted, document) is expected


def nested(levels: int) -> Any:
    found: Any = {"a": 1}
    for _ in range(levels):
        found = {"$and": [found]}
    return found


REFUSED: list[tuple[Any, str]] = [
    (5, "filter: a filter is a JSON object"),
    (None, "filter: a filter is a JSON object; found null"),
    ({"$where": "sleep(1000)"}, "filter.$where: $where is not supported: nothing in a filter is executed"),
    ({"a": {"$where": "1"}}, "filter.a.$where: $where is not supported"),
    ({"$expr": {}}, "$expr is not supported here"),
    ({"a": {"$elemMatch": {"$expr": {}}}}, "$expr is not supported here"),
    ({"a": {"$gt": {"$date": "2020"}}}, "filter.a.$gt.$date: there is no $date here: dates and ids are text"),
    ({"_id": {"$oid": "5"}}, "there is no $oid here"),
    ({"$or": [{"a": {"$function": "x"}}]}, "filter.$or[0].a.$function: $function is not supported"),
    ({"a": {"$elemMatch": {"$where": "x"}}}, "filter.a.$elemMatch.$where: $where is not supported"),
    ({"$or": [{"a": 1}] * 10_000}, f"filter.$or[1000].a: a filter has at most {CLAUSES_MAX} clauses"),
    ({f"k{n}": n for n in range(10_000)}, f"at most {CLAUSES_MAX} clauses"),
    ({"a": {"$in": [0] * (LISTED_MAX + 1)}}, f"filter.a.$in: a filter lists at most {LISTED_MAX} values"),
    (nested(DEPTH_MAX + 1), f"a filter has at most {DEPTH_MAX} levels"),
    ({"$and": []}, "filter.$and: $and takes an array of filters, at least one"),
    ({"$gt": 5}, 'filter.$gt: $gt stands under a path: {"path": {"$gt": ...}}'),
    ({"a": {"$like": "x"}}, "filter.a.$like: there is no operator $like; there are $eq, $gt"),
    ({"a": {"$gt": 1, "b": 2}}, "filter.a.b: the member 'b' stands beside operators"),
    ({"a": {"$regex": "(a"}}, "filter.a.$regex: the pattern is refused (missing )"),
    ({"a": {"$regex": r"(a)\1"}}, "backreferences and lookaround are not supported"),
    ({"a": {"$regex": "((a{1000}){1000}){1000}"}}, "the pattern is refused (invalid repetition size"),
    ({"a": {"$regex": "a", "$options": "q"}}, "unknown option 'q'"),
    ({"a": {"$regex": r"\pL{3}"}}, "steps; 2000 are the limit"),
    ({"$or": [{"a": {"$regex": f"a{n}"}} for n in range(101)]}, "a filter has at most 100 patterns"),
    ({"$or": [{"a": {"$regex": rf"\pL+{n}"}} for n in range(20)]}, "have more than 20000 steps"),
    ({"a": {"$options": "i"}}, "filter.a.$options: $options stands beside $regex"),
    ({"a": {"$not": 5}}, "filter.a.$not: $not takes operators"),
    ({"a": {"$size": 1.5}}, "$size takes a whole number"),
    ({"a": {"$mod": [0, 1]}}, "$mod cannot divide by 0"),
    ({"a": {"$type": "text"}}, "there is no type 'text'; there are null, bool, string"),
    ({"a..b": 1}, "has an empty key"),
    ({"a\\x": 1}, "has a backslash before 'x'"),
    ({"a": {"$exists": 2}}, "$exists takes true or false"),
]


@pytest.mark.parametrize(("wanted", "said"), REFUSED)
def test_what_is_refused_says_where_and_why(wanted: Any, said: str) -> None:
    assert said in refusal(wanted)


def test_a_pattern_that_blows_up_other_engines_is_linear() -> None:
    begun = time.perf_counter()
    assert not holds({"a": {"$regex": "^(a+)+$"}}, {"a": "a" * 100_000 + "b"})
    assert time.perf_counter() - begun < 5


def test_what_a_filter_may_cost_a_document_is_known_before_it_is_judged() -> None:
    many = costs({"$or": [{"a": n} for n in range(900)]})
    complex_one = costs({"a": {"$regex": "(?:[ab]{1,30}a){30}z"}})
    simple = costs({"a": {"$regex": "^the .*(movie|film)s?$", "$options": "i"}})
    for cost in (many, complex_one, simple):
        assert cost.problem(b'{"a":1}') is None
    numbers = b"[" + b"1," * 10_000 + b"1]"
    assert "900 clauses are too many for a document of 10001 values" in (many.problem(numbers) or "")
    long = b'{"a":"' + b"ab" * 500_000 + b'"}'
    assert "patterns are too complex" in (complex_one.problem(long) or "")
    assert simple.problem(long) is None


def test_paths_are_text_and_back() -> None:
    for path in [("a",), ("a", "b"), ("a.b", "c\\d"), ("\\", ".")]:
        assert parse_path(path_text(path)) == path
    assert parse_filter({"a": 1}) == Compare(("a",), "=", 1)


def test_a_filter_that_nothing_meets_is_judged_all_the_same() -> None:
    """What costs nothing is not judged: that is only said of the filter that all meet."""
    assert costs({}).clauses == 0
    assert costs({"a": {"$all": []}}).clauses > 0


def test_operators_are_no_values_of_a_list() -> None:
    assert refusal({"a": {"$in": [1, {"$gt": 5}]}}).startswith("filter.a.$in[1]")
    assert refusal({"a": {"$in": [{"$regex": "("}]}}).startswith("filter.a.$in[0]")
