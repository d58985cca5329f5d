"""From what is asked to what is executed: analyzers, views, boosts."""

from __future__ import annotations

from typing import Any

import pytest

from index.aggregation import Filtered, StatsOf, TermsOf
from index.bounds import QueryError
from index.instants import parse_instant
from index.judging import compile_query
from index.mapped import MappedFields
from index.mapping import Mapping, Rules, compile_mapping, parse_mapping
from index.query import (
    ALL,
    BOOLEAN,
    DATE,
    EXACT,
    NUMBER,
    TEXT,
    WHOLE,
    All,
    AnyOf,
    AtLeast,
    Bool,
    Boost,
    Compare,
    DisMax,
    DocumentIds,
    Equals,
    Exists,
    Fuzzy,
    Ids,
    InFields,
    Match,
    MatchPhrase,
    Nested,
    Nothing,
    Pattern,
    Phrase,
    Planned,
    Prefix,
    Query,
    Range,
    Regexp,
    SortKey,
    Statistics,
    Term,
    Terms,
    Wildcard,
)
from index.regexes import wildcard_term_regex
from index.rewriting import Rewriter
from index.rewriting_aggregations import rewrite_aggregations

NOW = parse_instant("2024-05-15T12:00:00Z") or 0


def rewriter(mapping: Any = None) -> Rewriter:
    parsed = parse_mapping(mapping or {})
    assert isinstance(parsed, Mapping), parsed
    rules = compile_mapping(parsed)
    assert isinstance(rules, Rules)
    return Rewriter(MappedFields(rules), now_us=NOW, key_of=lambda each: each.encode())


def planned(query: Query, mapping: Any = None) -> Planned:
    found = rewriter(mapping).rewrite(query)
    assert not isinstance(found, QueryError), found
    return found


def a(word: str, field: str = "t") -> Term:
    return Term(field, TEXT, word)


DEFAULT: list[tuple[Query, Planned]] = [
    (Match("t", "Space"), a("space")),
    (Match("t", "Space Odyssey"), Bool(should=(a("space"), a("odyssey")), minimum=1)),
    (Match("t", "Space Odyssey", "and"), Bool(must=(a("space"), a("odyssey")))),
    (Match("t", "a b c d", minimum="75%"), Bool(should=(a("a"), a("b"), a("c"), a("d")), minimum=3)),
    (Match("t", "..."), Nothing()),
    (
        Match("n", "1990"),
        DisMax(
            (
                a("1990", "n"),
                Term("n", NUMBER, 1990),
                Range("n", DATE, parse_instant("1990", year=True), parse_instant("1990", year=True, up=True)),
            )
        ),
    ),
    (Match("t.keyword", "A b"), Term("t", EXACT, "A b")),
    (Match("t", "...", zero_terms="all"), All()),
    (MatchPhrase("t", "...", zero_terms="all"), All()),
    (AnyOf((("t", 1.0), ("u", 1.0)), "...", zero_terms="all"), All()),
    (Match("t", "spcae", fuzziness="AUTO:6,9"), a("spcae")),
    (Pattern(ALL, "fuzzy", "x" * 200, "2"), a("x" * 200, ALL)),
    (Match("_id", "x"), Ids((b"x",))),
    (Equals("_id", ("x", "y")), Ids((b"x", b"y"))),
    (Exists("_id"), All()),
    (
        Match("d", "2024-02-15"),  # not what has any of its numbers
        DisMax(
            (
                Bool(must=(a("2024", "d"), a("02", "d"), a("15", "d"))),
                Range("d", DATE, parse_instant("2024-02-15"), parse_instant("2024-02-15", up=True)),
            )
        ),
    ),
    (Pattern("t", "regexp", "x.*"), DisMax((Regexp("t", TEXT, "x.*"), Regexp("t", EXACT, "x.*")))),
    (
        Pattern("t.keyword", "prefix", "Ab", ignore_case=True),
        Regexp("t", EXACT, wildcard_term_regex("ab*")),
    ),
    (Pattern("t.keyword", "prefix", "주", ignore_case=True), Prefix("t", EXACT, "주")),
    (Nested("p", Match("p.t", "A")), Nested("p", a("a", "p.t"))),
    (Match(ALL, "1990"), Bool((a("1990", ALL),), (a("1990", WHOLE),))),
    (Match("t", "spcae", fuzziness="AUTO"), DisMax((a("spcae"), Boost(Fuzzy("t", TEXT, "spcae", 1), 0.3)))),
    (Match("t", "a b", prefix=True), Bool(should=(a("a"), Prefix("t", TEXT, "b")), minimum=1)),
    (MatchPhrase("t", "A b", 2), Phrase("t", ((0, "a"), (1, "b")), 2)),
    (MatchPhrase("t", "A"), a("a")),
    (MatchPhrase("t", "a b", prefix=True), Phrase("t", ((0, "a"), (1, "b")), 0, True)),
    (
        Match("t", "삼성전차를", fuzziness="AUTO"),
        DisMax(
            (
                Bool(must=(a("삼성"), a("성전"), a("전차"))),
                DisMax((a("삼성전차"), Boost(Fuzzy("t", TEXT, "삼성전차", 1), 0.3))),
            )
        ),
    ),
    (MatchPhrase("n", "-3"), DisMax((a("3", "n"), Term("n", NUMBER, -3)))),
    (MatchPhrase("b", "true"), DisMax((a("true", "b"), Term("b", BOOLEAN, True)))),
    (Exists("x.*"), Exists("x")),
    (Equals("t", ("Ab",)), DisMax((Term("t", EXACT, "Ab"), Term("t", TEXT, "Ab")))),
    (Equals("t.keyword", ("Ab", "c")), Terms("t", EXACT, ("Ab", "c"))),
    (Equals("n", (3,)), Term("n", NUMBER, 3)),
    (Equals("b", (True,)), Term("b", BOOLEAN, True)),
    (
        Compare("n", 1, 5, True, False),
        DisMax((Range("n", NUMBER, 1, 5, True, False), Range("n", DATE, 1000, 5000, True, False))),
    ),
    (Compare("d", "now-1d/d", None), Range("d", DATE, parse_instant("2024-05-14"), None)),
    (Compare("t", "apple", "pear"), Range("t", EXACT, "apple", "pear")),
    (Pattern("t", "prefix", "Pre"), DisMax((Prefix("t", TEXT, "Pre"), Prefix("t", EXACT, "Pre")))),
    (Pattern(ALL, "prefix", "Pre", ignore_case=True), Prefix(ALL, TEXT, "pre")),
    (Pattern(ALL, "wildcard", "a?b", ignore_case=True), Wildcard(ALL, TEXT, "a?b")),
    (Pattern(ALL, "fuzzy", "spacey", "AUTO"), Fuzzy(ALL, TEXT, "spacey", 2)),
    (Pattern(ALL, "fuzzy", "ab", "AUTO"), a("ab", ALL)),
    (Exists("t.keyword"), Exists("t")),
    (DocumentIds(("b", "a", "b")), Ids((b"a", b"b"))),
    (AtLeast((Exists("a"), Exists("b")), "3"), Nothing()),
    (AnyOf((("t", 2.0), ("u", 1.0)), "x"), DisMax((Boost(a("x"), 2.0), a("x", "u")))),
    (AnyOf((("t", 1.0), ("u", 1.0)), "x", "most_fields"), Bool(should=(a("x"), a("x", "u")), minimum=1)),
    (
        AnyOf((("t", 1.0), ("u", 1.0)), "x y", "cross_fields", "and"),
        Bool(must=(DisMax((a("x"), a("x", "u"))), DisMax((a("y"), a("y", "u"))))),
    ),
    (AnyOf((("t", 1.0),), "x y", "phrase"), Phrase("t", ((0, "x"), (1, "y")))),
    (
        AnyOf((("t*", 2.0), ("u", 1.0)), "x"),
        DisMax((a("x", "u"), Boost(InFields("t*", Bool((a("x", ALL),), (a("x", WHOLE),))), 2.0))),
    ),
    (AnyOf((("*", 1.0),), "x"), Bool((a("x", ALL),), (a("x", WHOLE),))),
]


@pytest.mark.parametrize(("query", "expected"), DEFAULT, ids=lambda each: type(each).__name__)
def test_without_a_mapping_a_field_may_hold_anything(query: Query, expected: Planned) -> None:
    assert planned(query) == expected


MAPPING = {
    "analyzer": "english",
    "fields": {
        "title": {"type": "text", "analyzer": "korean", "boost": 2},
        "sku": {"type": "keyword"},
        "at": {"type": "date"},
        "n": {"type": "number"},
    },
}


def test_a_mapping_says_analyzers_views_and_boosts() -> None:
    assert planned(Match("plot", "wolves running"), MAPPING) == Bool(
        should=(a("wolv", "plot"), a("run", "plot")), minimum=1
    )
    assert planned(Match("sku", "A 7"), MAPPING) == Term("sku", EXACT, "A 7")
    assert planned(Match("n", "seven"), MAPPING) == Nothing()
    assert planned(Match("n", "7"), MAPPING) == Term("n", NUMBER, 7)
    boosted = planned(Match("title", "회원"), MAPPING)
    assert isinstance(boosted, Boost) and boosted.factor == 2
    assert planned(Equals("at", (1_000,)), MAPPING) == Term("at", DATE, 1_000_000)
    assert planned(AnyOf((("ti*", 1.0),), "회원"), MAPPING) == boosted
    assert rewriter(MAPPING).sort_key(SortKey("at")) == SortKey("at", DATE)
    assert rewriter(MAPPING).sort_key(SortKey("other.keyword")) == SortKey("other", EXACT)


def test_syllables_of_one_word_are_wanted_together() -> None:
    found = planned(Match("t", "영화관"), {"analyzer": "cjk"})
    assert isinstance(found, Bool) and len(found.must) >= 2 and not found.should


def test_what_cannot_be_planned_is_told() -> None:
    unknown = rewriter().rewrite(Match("t", "x", analyzer="klingon"))
    assert isinstance(unknown, QueryError) and "klingon" in unknown.detail
    long = rewriter().rewrite(Match("t", " ".join(f"w{i}" for i in range(1_500))))
    assert isinstance(long, QueryError) and "1000 are the limit" in long.detail
    wide = rewriter().rewrite(Bool(should=(Match("t", " ".join(f"w{i}" for i in range(900))),) * 30))
    assert isinstance(wide, QueryError) and "terms" in wide.detail


@pytest.mark.parametrize("kind", ["prefix", "wildcard"])
def test_a_long_pattern_whose_case_does_not_matter_ends_no_peer(kind: str) -> None:
    """As an expression it is several times as long, and those have a limit, at which peers that judge by it
    ended, one after the other.
    """
    longer = Pattern("t", kind, "x" * 3_000, ignore_case=True)
    text = Prefix("t", TEXT, longer.text) if kind == "prefix" else Wildcard("t", TEXT, longer.text)
    assert planned(longer) == text, "no keyword is as long as that"
    for longest in ("é" * 256, "ß" * 256, "İ" * 256, "x" * 256):
        compile_query(planned(Pattern("t", kind, longest, ignore_case=True)), Statistics())
    refused = rewriter().rewrite(Pattern("t", "wildcard", "x*" * 2_000, ignore_case=True))
    told = rewriter().rewrite(Pattern("t", "wildcard", "x*" * 256 + "*" * 3_000, ignore_case=True))
    assert not isinstance(refused, QueryError)
    assert isinstance(told, QueryError) and "too long" in told.detail


@pytest.mark.parametrize("kind", ["best_fields", "cross_fields", "phrase"])
def test_much_text_in_many_fields_is_refused_before_it_is_planned(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of 1 MiB may ask for tens of millions of words: minutes, and gigabytes."""
    fields = tuple((f"f{number}", 1.0) for number in range(100))
    one = AnyOf(fields, " ".join(f"w{number}" for number in range(1_000)), kind)
    asked = Bool(should=(one,) * 300)
    words: list[int] = []
    tokens = Rewriter.tokens

    def counted(self: Rewriter, *question: Any) -> Any:
        found = tokens(self, *question)
        words.append(len(found))
        return found

    monkeypatch.setattr(Rewriter, "tokens", counted)
    told = rewriter().rewrite(asked)
    assert isinstance(told, QueryError) and "less text" in told.detail
    in_filters = (("f", Filtered((("x", asked),))),)
    assert isinstance(rewrite_aggregations(rewriter(), in_filters), QueryError)
    assert sum(words) < 500_000


def test_aggregations_find_their_views() -> None:
    asked = (
        ("k", TermsOf("t.keyword", inside=(("s", StatsOf("at")),))),
        ("f", Filtered((("x", Match("t", "A")),))),
    )
    assert rewrite_aggregations(rewriter(MAPPING), asked) == (
        ("k", TermsOf("t", inside=(("s", StatsOf("at", DATE)),))),
        ("f", Filtered((("x", a("a")),))),
    )
