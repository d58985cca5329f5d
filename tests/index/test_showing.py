"""What is shown of documents: fields, marks, reasons, suggestions, and where pages end."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, strategies as st

from core.consistency import Level
from index.bounds import QueryError
from index.explaining import explain
from index.globs import fits, parts_of
from index.highlight_dsl import Highlight, HighlightField
from index.highlighting import Marker
from index.judging import Held, compile_query
from index.mapped import MappedFields
from index.mapping import DEFAULT, Rules, compile_mapping
from index.ordering import sort_values
from index.query import (
    EXACT,
    TEXT,
    All,
    Bool,
    FieldLength,
    Fuzzy,
    Match,
    Planned,
    SortKey,
    Statistics,
    Term,
    TermKey,
    Wildcard,
)
from index.query_string import Options, Parsed, parse_query_string
from index.rewriting import Rewriter
from index.search_body import SearchBody, encode_cursor, parse_body, resolve_after
from index.showing import filtered
from index.suggesting import SuggestBody, parse_suggest, spellings

RULES = compile_mapping(DEFAULT)
assert isinstance(RULES, Rules)


def planned(text: str) -> Planned:
    parsed = parse_query_string(text, Options())
    assert isinstance(parsed, Parsed)
    fields = MappedFields(RULES)  # type: ignore[arg-type]
    found = Rewriter(fields, now_us=0, key_of=lambda each: each.encode()).rewrite(parsed.query)
    assert not isinstance(found, QueryError)
    return found


MOVIE = {
    "title": "A Space Odyssey",
    "plot": "Men find a monolith on the moon. Later a space ship with two men flies far out in space.",
    "tags": ["space opera", "classic"],
}


def marked(text: str, *fields: tuple[str, int, int]) -> dict[str, list[str]]:
    wanted = tuple(HighlightField(*each) for each in fields or (("*", 0, 100),))
    return Marker(planned(text), RULES).highlight(MOVIE, Highlight(wanted))  # type: ignore[arg-type]


def test_terms_prefixes_fuzzy_words_and_phrases_are_marked_where_they_stand() -> None:
    assert marked("title:space")["title"] == ["A <em>Space</em> Odyssey"]
    assert list(marked("title:space")) == ["title"]
    assert marked("odys*") == {"title": ["A Space <em>Odyssey</em>"]}
    assert marked("odisey~2") == {"title": ["A Space <em>Odyssey</em>"]}
    assert marked('"space opera"')["tags"] == ["<em>space</em> <em>opera</em>"]
    assert marked("title:odyssey -title:space") == {"title": ["A Space <em>Odyssey</em>"]}
    assert marked("title:nothing") == {}


@pytest.mark.parametrize(
    ("query", "text", "shown"),
    [
        ('"quick fox"', "quick brown fox, quick fox", "quick brown fox, <em>quick</em> <em>fox</em>"),
        ('"quick fox"~1', "quick brown fox or fox", "<em>quick</em> brown <em>fox</em> or fox"),
        ('"quick fox" brown', "quick brown, quick fox", "quick <em>brown</em>, <em>quick</em> <em>fox</em>"),
        ('"a a"', "a b a a", "a b <em>a</em> <em>a</em>"),
        ('"강남구에서 열린"', "강남 열린 강남구에서 열린", "강남 열린 <em>강남구</em>에서 <em>열린</em>"),
    ],
)
def test_words_of_a_phrase_are_marked_where_they_stand_together(query: str, text: str, shown: str) -> None:
    options = Highlight((HighlightField("t", 0, 100),))
    assert Marker(planned(query), RULES).highlight({"t": text}, options) == {"t": [shown]}  # type: ignore[arg-type]


def test_a_phrase_that_stands_everywhere_is_marked_in_no_time() -> None:
    options = Highlight((HighlightField("t", 0, 100),))
    marker = Marker(planned('"' + "a " * 500 + '"'), RULES)  # type: ignore[arg-type]
    found = marker.highlight({"t": "a " * 20_000}, options)
    assert found["t"][0].count("<em>") == 20_000


def test_words_are_compared_with_patterns_so_often_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of similar words in large documents took the event loop for minutes."""
    compared: list[str] = []

    def within_(wanted: str, word: str, *_: Any) -> bool:
        compared.append(word)
        return wanted == word

    monkeypatch.setattr("index.highlighting.within", within_)
    monkeypatch.setattr("index.highlighting.TESTED_MAX", 600)
    query = Bool(should=(Term("t", TEXT, "last"), *(Fuzzy("t", TEXT, f"w{n}", 1) for n in range(20))))
    assert isinstance(RULES, Rules)
    marker, options = Marker(query, RULES), Highlight((HighlightField("t", 0, 100),))
    text = " ".join(f"w{number}" for number in range(1_000)) + " w0 last"
    (shown,) = marker.highlight({"t": text}, options)["t"]
    assert shown.startswith("<em>w0</em> <em>w1</em> ") and shown.endswith(" <em>w0</em> <em>last</em>")
    assert len(compared) <= 620
    assert len(marker.highlight({"t": text}, options)) == 1 and len(compared) <= 620


def test_fragments_are_cut_at_blanks_and_the_best_are_shown() -> None:
    found = marked("plot:(space men)", ("plot", 1, 40))["plot"]
    assert len(found) == 1 and found[0].count("<em>") == 2
    assert all(len(each.replace("<em>", "").replace("</em>", "")) <= 45 for each in found)
    every = marked("plot:(space men)", ("plot", 5, 30))["plot"]
    assert "".join(every).count("<em>") == 4


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=8))
def test_globs_are_those_of_the_standard_library(pattern: str, text: str) -> None:
    assert fits(parts_of(pattern), text) == fnmatchcase(text, pattern)


def test_no_pattern_takes_long() -> None:
    bomb = "*a" * 100 + "b"
    assert not fits(parts_of(bomb), "a" * 5_000)
    held = Held(b"k", {"t": "a" * 250}, RULES)  # type: ignore[arg-type]
    assert compile_query(Wildcard("t", EXACT, bomb), Statistics())(held) is None
    assert filtered({"a" * 1_000: 1}, ((bomb,), ())) == {}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (True, {"a": 1, "b": {"c": [2, {"d": 3}], "e": 4}}),
        ((("a",), ()), {"a": 1}),
        ((("b",), ()), {"b": {"c": [2, {"d": 3}], "e": 4}}),
        ((("b.*",), ("b.e",)), {"b": {"c": [2, {"d": 3}]}}),
        ((("b.c.d",), ()), {"b": {"c": [{"d": 3}]}}),
        (((), ("b.c",)), {"a": 1, "b": {"e": 4}}),
        ((("x",), ()), {}),
    ],
)
def test_source_filtering(source: Any, shown: Any) -> None:
    assert filtered({"a": 1, "b": {"c": [2, {"d": 3}], "e": 4}}, source) == shown


def test_a_score_is_explained_by_what_it_is_made_of() -> None:
    query = planned("title:space title:nothing")
    statistics = Statistics(10, {TermKey("title", "space"): 3}, {"title": FieldLength(10, 40)})
    held = Held(b"k", MOVIE, RULES)  # type: ignore[arg-type]
    found = explain(query, statistics, held)
    assert found["value"] == compile_query(query, statistics)(held) == found["details"][0]["value"]
    assert "3 of 10 documents" in found["details"][0]["details"][0]["description"]
    assert not found["details"][1]["matches"]


def body(**given: Any) -> SearchBody:
    found = parse_body(given, now_us=0)
    assert isinstance(found, SearchBody), found
    return found


def test_a_body_with_everything() -> None:
    found = body(
        query={"match": {"t": "a"}},
        size=5,
        sort=["-year", {"t": {"order": "asc", "missing": "_first"}}, "_score"],
        _source={"includes": ["a"]},
        highlight={"fields": {"t": {"fragment_size": 20}}, "pre_tags": ["["], "post_tags": ["]"]},
        aggs={"n": {"max": {"field": "n"}}},
        refresh=False,
        consistency="one",
        ids="7",
    )
    assert found.query == Match("t", "a") and found.size == 5 and not found.fresh
    assert found.sort == (
        SortKey("year", "", True),
        SortKey("t", "", False, True),
        SortKey("_score", "", True),
    )
    assert found.highlight == Highlight((HighlightField("t", 5, 20, "[", "]"),))
    assert found.level is Level.ONE and found.ids == ("7",) and found.source == (("a",), ())


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"qurey": {}}, "body", "'qurey' is not known"),
    ({"query": {"match_all": {}}, "q": "a"}, "body", "either query or q"),
    ({"q": "a AND"}, "q", "nothing follows"),
    ({"size": 10_001}, "body", "size is a whole number"),
    ({"from": -1}, "body", "from is a whole number"),
    ({"sort": [{"a": "up"}]}, "sort[0].a", "asc, desc"),
    ({"search_after": {}}, "body", "search_after is a cursor"),
    ({"highlight": {}}, "highlight", "fields is missing"),
    ({"aggs": {"a": {}}}, "aggs.a", "one kind"),
    ({"sort": ["_type"]}, "sort[0]", "no order by '_type'"),
    ({"sort": [{"_script": {}}]}, "sort[0]", "no order by '_script'"),
    ({"sort": [{"a": {"mode": "most"}}]}, "sort[0].a", "mode is one of"),
    ({"sort": [{"a": {"format": "yyyy"}}]}, "sort[0].a", "'format' is not known"),
    ({"track_total_hits": "x"}, "body", "track_total_hits is"),
    ({"timeout": "soon"}, "body", "timeout is such as"),
    ({"query": {"match_all": {}}, "fields": 5}, "body.fields", "fields are a list of at most 100 names"),
    ({"fields": [{"field": "a", "format": "yyyy"}]}, "body.fields[0]", "values are shown as they are"),
    ({"post_filter": {"foo": 1}}, "post_filter", "there is no query 'foo'"),
    ({"highlight": {"fields": {"a": {"colour": 1}}}}, "highlight.fields.a", "'colour'"),
    ({"highlight": {"fields": 3}}, "highlight.fields", "fields are an object"),
    ({"refresh": 3}, "body", "refresh is true or false"),
    ({"consistency": "most"}, "body", "no level is called"),
    ({"ids": [1]}, "body", "ids is a list"),
]


@pytest.mark.parametrize(("given", "path", "said"), WRONG)
def test_a_wrong_body_is_told(given: dict[str, Any], path: str, said: str) -> None:
    found = parse_body(given, now_us=0)
    assert isinstance(found, QueryError)
    assert found.path == path and said in found.detail, found


def test_what_only_says_how_is_taken() -> None:
    found = body(timeout="2s", track_total_hits=True, sort=["_doc"], highlight={"fields": ["a", {"b": {}}]})
    assert found.timeout_ms == 2_000 and found.sort == ()
    assert found.highlight == Highlight((HighlightField("a"), HighlightField("b")))
    keys = body(sort=[{"a": {"mode": "min"}}, {"b": {"mode": "sum", "missing": 7, "nested": {"path": "x"}}}])
    assert keys.sort == (SortKey("a"), SortKey("b", mode="sum", missing=7))


def test_highlighting_heeds_its_options() -> None:
    html = {"t": "<b> one two & one", "u": "nothing, but a long text"}

    def shown(**options: Any) -> Any:
        wanted = body(highlight={"fields": {"*": {}}, **options}).highlight
        assert wanted is not None
        return Marker(planned("t:one"), RULES).highlight(html, wanted)  # type: ignore[arg-type]

    assert shown() == {"t": ["<b> <em>one</em> two & <em>one</em>"]}
    assert shown(encoder="html") == {"t": ["&lt;b&gt; <em>one</em> two &amp; <em>one</em>"]}
    assert shown(tags_schema="styled")["t"][0].startswith('<b> <em class="hlt1">one</em>')
    assert shown(no_match_size=8)["u"] == ["nothing,"]
    own = {"t": {"pre_tags": ["["], "post_tags": "]"}}
    assert shown(fields=own) == {"t": ["<b> [one] two & [one]"]}
    assert shown(fields={"u": {}}) == {}
    marks = Marker(planned("t:long"), RULES).highlight(html, Highlight((HighlightField("u", own=False),)))  # type: ignore[arg-type]
    assert marks == {"u": ["nothing, but a <em>long</em> text"]}


def test_of_several_values_a_sort_takes_what_its_mode_says() -> None:
    def of(mode: str, *held: Any, missing: Any = None) -> Any:
        return sort_values((SortKey("n", mode=mode, missing=missing),), 1.0, lambda _field, _view: held)[0]

    assert [of(mode, 5, 1, 4.5) for mode in ("", "min", "max", "sum", "avg")] == [1, 1, 5, 10.5, 3.5]
    assert of("median", 5, 1, 4) == 4 and of("median", 5, 1, 4, 2) == 3
    assert of("max", "a", "b") == "b" and of("sum", "a", "b") is None
    assert of("", missing=7) == 7 and of("sum", missing=7) == 7


def test_a_cursor_belongs_to_its_search() -> None:
    first = body(q="a", sort="year")
    cursor = encode_cursor((7,), first, ((1990,), b"key"))
    assert resolve_after((7,), body(q="a", sort="year", search_after=cursor)) == ((1990,), b"key")
    for other in (body(q="b", sort="year", search_after=cursor), body(q="a", search_after=cursor)):
        assert isinstance(resolve_after((7,), other), QueryError)
    assert isinstance(resolve_after((8,), body(q="a", sort="year", search_after=cursor)), QueryError)
    assert isinstance(resolve_after((7,), body(q="a", search_after="x!")), QueryError)
    assert resolve_after((7,), body(q="a", sort="year", search_after=[1990])) == ((1990,), b"\xff")
    assert isinstance(resolve_after((7,), body(q="a", sort="year", search_after=[1, 2])), QueryError)
    assert resolve_after((7,), body()) is None


@given(st.text(max_size=30))
def test_any_text_is_no_cursor(text: str) -> None:
    assert isinstance(resolve_after((7,), body(search_after=text)), QueryError)


def test_suggestions() -> None:
    known = (("space", 9), ("spice", 2), ("spaces", 5), ("sparrow", 7))
    assert spellings("spcae", known, 3) == [("space", 9), ("spaces", 5), ("spice", 2)]
    assert spellings("space", known, 2) == [("space", 9), ("spaces", 5)]
    assert parse_suggest({"prefix": "sp", "field": "title.keyword"}) == SuggestBody(
        "title", EXACT, None, "sp", 5, False
    )
    assert isinstance(parse_suggest({"field": "t"}), QueryError)
    assert isinstance(parse_suggest({"text": "a", "prefix": "b"}), QueryError)


def test_a_search_for_everything_has_no_terms_to_mark() -> None:
    assert Marker(Bool(must=(All(),)), RULES).highlight(MOVIE, Highlight((HighlightField("*", 0),))) == {}  # type: ignore[arg-type]
