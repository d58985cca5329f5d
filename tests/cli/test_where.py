"""Conditions of the command line as filters: what each means, and what is said of those that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cli.where import DEPTH_MAX, WhereError, filter_of
from core.json_values import parse
from query.document_filter import parse_filter
from query.document_match import predicate
from query.refusals import Refusal


def matches(where: str, document: dict[str, Any]) -> bool:
    found = parse_filter(parse(filter_of(where).encode()))
    assert not isinstance(found, Refusal)
    return predicate(found)(parse(json.dumps(document).encode()))


MOVIE = {
    "year": 2003,
    "title": "It's",
    "tags": ["a", "b"],
    "cast": [{"name": "Kim"}],
    "two words": 1,
    "n": None,
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year > 2000", True),
        ("year >= 2003 and year<=2003", True),
        ("year != 2003", False),
        ("year <> 1 or year == 1", True),
        ("year < 2000 or tags = 'b' and cast.name = 'Kim'", True),
        ("(year < 2000 or tags = 'b') and cast.name = 'Lee'", False),
        ("not year < 2000", True),
        ("not (year > 2000 or tags = 'c')", False),
        ("not not year = 2003", True),
        ("title = 'It''s'", True),
        ('title = "It\'s"', True),
        ("title ~ '^It'", True),
        ("tags in ('x', 'b')", True),
        ("tags not in ('x', 'y')", True),
        ("`two words` = 1", True),
        ("plot exists", False),
        ("plot not exists", True),
        ("n is null and year is not null", True),
        ("year > -1.5e3 AND TAGS NOT EXISTS", True),
        ("year > '2000'", False),
        ('{"year": {"$mod": [2, 1]}}', True),
    ],
)
def test_what_conditions_mean(where: str, expected: bool) -> None:
    assert matches(where, MOVIE) is expected


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("year >", "ends early: expected a number"),
        ("year 2000", "character 6: expected a comparison"),
        ("year > 2000 tags", "character 13: expected and, or, or the end"),
        ("> 3", "expected a field"),
        ("(year > 1", "ends early: expected )"),
        ("year in 3", "expected ( after in"),
        ("year = 'x", 'character 8: this is nothing that a condition has; found "\'x"'),
        ("year = 01", "this is nothing"),
        ("title ~ 3", "regular expression"),
        ("title ~ '('", "regex"),
        ("n is 3", "expected null"),
        ("n = " + "9" * 5000, "character 5: a number has 5000 digits"),
        ("n = 1e7000", "character 5: the exponent"),
        ("n = '\udc80'", "not UTF-8"),
        ('{"year": ', "no JSON"),
        ('{"year": {"$where": 1}}', "where"),
        ("(" * (DEPTH_MAX + 2) + "a = 1" + ")" * (DEPTH_MAX + 2), "nest"),
    ],
)
def test_what_is_no_condition_is_told(where: str, why: str) -> None:
    with pytest.raises(WhereError) as error:
        filter_of(where)
    assert why.lower() in str(error.value).lower()


@given(st.text(st.sampled_from("ab.1>=<!~'\"` ()notidrx,{}-é"), max_size=30))
def test_any_text_is_a_filter_or_told(where: str) -> None:
    try:
        found = filter_of(where)
    except WhereError:
        found = "{}"
    assert not isinstance(parse_filter(parse(found.encode())), Refusal)


def test_numbers_are_compared_with_all_their_digits() -> None:
    where = "a = 0.1234567890123456789 and b > 1e400 and c in (9007199254740993.5, -1.25)"
    assert filter_of(where) == (
        '{"$and":[{"a":{"$eq":0.1234567890123456789}},{"b":{"$gt":1E+400}},'
        '{"c":{"$in":[9007199254740993.5,-1.25]}}]}'
    )


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_value_can_be_written(value: str) -> None:
    quoted = value.replace("'", "''")
    assert json.loads(filter_of(f"a = '{quoted}'")) == {"a": {"$eq": value}}
