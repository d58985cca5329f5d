"""The query string: what texts mean, where errors are, and that a lenient parser takes anything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from index.bounds import QueryError
from index.query import (
    ALL,
    All,
    AnyOf,
    Bool,
    Boost,
    Called,
    Compare,
    Exists,
    Match,
    MatchPhrase,
    Nothing,
    Pattern,
    Query,
    walk,
)
from index.query_string import Options, Parsed, parse_query_string


def m(text: str, field: str = ALL) -> Match:
    return Match(field, text)


def any_of(*queries: Query) -> Bool:
    return Bool(should=queries, minimum=1)


def fuzzy(text: str, distance: str = "AUTO") -> Pattern:
    return Pattern(ALL, "fuzzy", text, distance, ignore_case=True)


MEANS: list[tuple[str, Query]] = [
    ("", Nothing()),
    ("space", m("space")),
    ("title:space", m("space", "title")),
    ("author.name:kim", m("kim", "author.name")),
    ("a b", any_of(m("a"), m("b"), Called("a b"))),
    ("a OR b", any_of(m("a"), m("b"), Called("a b"))),
    ("a AND b", Bool(must=(m("a"), m("b")))),
    ("a AND b OR c", any_of(Bool(must=(m("a"), m("b"))), m("c"))),
    ("a AND NOT b", Bool(must=(m("a"),), must_not=(m("b"),))),
    ("+a b -c", Bool((m("a"),), (m("b"), Called("a b")), (m("c"),))),
    ("a -b", Bool(should=(m("a"),), must_not=(m("b"),), minimum=1)),
    ("NOT a", Bool(must_not=(m("a"),))),
    ("a-b", m("a-b")),
    ("ORANGE ANDY", any_of(m("ORANGE"), m("ANDY"), Called("ORANGE ANDY"))),
    ("(a b)^2", Boost(any_of(m("a"), m("b"), Called("a b")), 2.0)),
    ("f:(a b)", any_of(m("a", "f"), m("b", "f"))),
    ("f:(a OR g:b)", any_of(m("a", "f"), m("b", "g"))),
    ('"exact phrase"~2', MatchPhrase(ALL, "exact phrase", 2)),
    ('f:"a \\" b"^3', Boost(MatchPhrase("f", 'a " b'), 3.0)),
    ('"two words":a', m("a", "two words")),
    ('"two words":"a b"', MatchPhrase("two words", "a b")),
    ("year:[1990 TO 2000]", Compare("year", "1990", "2000")),
    ("year:{1990 TO *]", Compare("year", "1990", None, False, True)),
    ("year:>=1990", Compare("year", "1990")),
    ("year:<1990", Compare("year", None, "1990", False, False)),
    ('at:["2024-01-01 10:00" TO now]', Compare("at", "2024-01-01 10:00", "now")),
    ("fuzzy~", fuzzy("fuzzy")),
    ("fuzzy~1^2", Boost(fuzzy("fuzzy", "1"), 2.0)),
    ("pre*", Pattern(ALL, "prefix", "pre", ignore_case=True)),
    ("w?ld*", Pattern(ALL, "wildcard", "w?ld*", ignore_case=True)),
    ("te\\*st", m("te*st")),
    ("p\\*r*", Pattern(ALL, "prefix", "p*r", ignore_case=True)),
    ("a\\:b\\ c", m("a:b c")),
    ("_exists_:f", Exists("f")),
    ("f:*", Exists("f")),
    ("*:*", All()),
    ("*", All()),
    ("한국 -공포", Bool(should=(m("한국"),), must_not=(m("공포"),), minimum=1)),
]


@pytest.mark.parametrize(("text", "query"), MEANS)
def test_what_a_text_means_to_both_modes(text: str, query: Query) -> None:
    assert parse_query_string(text, Options()) == Parsed(query)
    assert parse_query_string(text, Options(lenient=True)) == Parsed(query)


WRONG: list[tuple[str, str, int]] = [
    ("a AND", "nothing follows AND", 2),
    ("OR a", "OR has nothing before it", 0),
    ("a -", "stands alone", 2),
    ("(a b", "not closed", 0),
    ("a)", "has no beginning", 1),
    ("()", "hold nothing", 0),
    ('f:"a', "not closed", 2),
    ("year:[1 TO", "a range is [low TO high]", 5),
    ("year:[1 2]", "a range is [low TO high]", 5),
    ("f:", "a value follows f:", 0),
    ('"f g":', "a value follows f g:", 0),
    ("f:>=", "a value follows >=", 2),
    ("a~3", "distance of 0, 1 or 2", 0),
    ("a^", "a number follows ^", 1),
    ("_exists_:", "a field follows", 0),
    (": a", "has nothing before it", 0),
    ("(" * 60 + "a" + ")" * 60, "nested more than 50 deep", 50),
    ("a:" * 60 + "a", "nested more than 50 deep", 100),
    ("a " * 600, "at most 500 clauses", 1001),
]


@pytest.mark.parametrize(("text", "said", "position"), WRONG)
def test_an_error_has_its_position_and_a_lenient_parser_only_tells_it(
    text: str, said: str, position: int
) -> None:
    found = parse_query_string(text, Options())
    assert isinstance(found, QueryError)
    assert said in found.detail and found.position == position, found
    lenient = parse_query_string(text, Options(lenient=True))
    assert isinstance(lenient, Parsed)
    assert any(said in problem.detail for problem in lenient.problems)


def test_the_default_operator_and_several_fields() -> None:
    fields = (("title", 2.0), ("plot", 1.0))
    found = parse_query_string('a "b c" d*', Options(fields, operator="and"))
    assert isinstance(found, Parsed) and isinstance(found.query, Bool)
    word, phrase, prefix = found.query.must
    assert word == AnyOf(fields, "a", "best_fields", "and")
    assert phrase == AnyOf(fields, "b c", "phrase", "and")
    assert prefix == any_of(
        Boost(Pattern("title", "prefix", "d", ignore_case=True), 2.0),
        Pattern("plot", "prefix", "d", ignore_case=True),
    )


SNIPPETS = st.lists(
    st.sampled_from(
        ["a", "b:", " ", "AND", "OR", "NOT", "+", "-", "!", "(", ")", "[", "]", "{", "}", '"', "~", "^", "\\"]
        + ["2", "1.5", "TO", "*", "?", ">=", "<", "_exists_:", "&&", "||", "x:(", "가", "\u3000", "\ud800"]
    ),
    max_size=30,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(SNIPPETS, st.text(max_size=40)))
def test_any_text_is_a_query_or_a_clear_error(text: str) -> None:
    strict = parse_query_string(text, Options())
    lenient = parse_query_string(text, Options(lenient=True))
    assert isinstance(lenient, Parsed)
    if isinstance(strict, QueryError):
        assert strict.detail and 0 <= strict.position <= len(text)
        assert lenient.problems
    else:
        assert strict == lenient
    assert sum(1 for _ in walk(lenient.query)) <= 1_100


@pytest.mark.parametrize("piece", ["(", "a:", "[", '"', "-", "a", "a ", "(a ", "\\"])
def test_a_bomb_is_a_query_or_a_clear_error(piece: str) -> None:
    lenient = parse_query_string(piece * 33_001, Options(lenient=True))
    assert isinstance(lenient, Parsed) and lenient.problems
    assert isinstance(parse_query_string(piece * 33_001, Options()), QueryError)
