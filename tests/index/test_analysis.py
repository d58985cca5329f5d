"""Analyzers: what becomes of text, in which places, and what is found by what."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from index.analysis.analyzers import BUILT_IN, Analyzer, AnalyzerFault, built_in, make_analyzer
from index.analysis.distance import within
from index.analysis.words import standard_terms, standard_tokens
from index.judging import text_field
from index.query import Phrase
from index.slop import phrase_frequency


def analyzer(name: str, **more: Any) -> Analyzer:
    found = make_analyzer("own", {"type": name, **more}) if more else built_in(name)
    assert isinstance(found, Analyzer), found
    return found


def terms(name: str, text: str, **more: Any) -> list[str]:
    return [token.term for token in analyzer(name, **more).tokens(text)]


def finds(name: str, query: str, text: str, **more: Any) -> bool:
    """Whether all terms of the query are among those of the text."""
    made = analyzer(name, **more)
    held = {token.term for token in made.tokens(text)}
    asked = [token.term for token in made.query_tokens(query)]
    return bool(asked) and all(term in held for term in asked)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("can't stop 3.14 and 1,000.5", ["can't", "stop", "3.14", "and", "1,000.5"]),
        ("e.g. snake_case x.y", ["e.g", "snake_case", "x.y"]),
        ("a-b c/d", ["a", "b", "c", "d"]),
        ("naïve CAFÉ", ["naïve", "café"]),
        ("日本語 テキスト ひらがな", ["日", "本", "語", "テキスト", "ひ", "ら", "が", "な"]),
        ("주문내역 ok", ["주문내역", "주문", "문내", "내역", "ok"]),
        ("iPhone을 ㅋㅋ", ["iphone", "ㅋㅋ"]),
        ("हिन्दी", ["हिन्दी"]),
        ("cafe\u0301", ["café"]),
        ("😀 ... !", []),
        ("x" * 300, ["x" * 255, "x" * 45]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert terms("standard", text) == expected


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "korean_kiwi"])
@given(text=st.text(max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_text_gives_terms_with_places(name: str, text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    made = analyzer(name)
    tokens = made.tokens(text)
    for token in tokens + made.query_tokens(text):
        assert token.term and 0 <= token.start < token.end <= len(text)
    positions = [token.position for token in made.query_tokens(text)]
    assert positions == sorted(positions)
    flat = made.flat(text)
    if flat is not None:
        assert [(term, at) for at, term in enumerate(flat)] == [(t.term, t.position) for t in tokens]


@given(text=st.text(alphabet="ab 9.,'_-:é가日", max_size=40))
def test_the_quick_way_finds_the_same_words(text: str) -> None:
    assert standard_terms(text) == [token.term for token in standard_tokens(text)]


def test_simple_whitespace_and_keyword() -> None:
    assert terms("simple", "Ab1c D_e") == ["ab", "c", "d", "e"]
    assert terms("whitespace", "Ab,1 C-d") == ["Ab,1", "C-d"]
    assert terms("keyword", "New York") == ["New York"]


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("english", "running", "runs"),
        ("english", "the dog's", "the dogs"),
        ("german", "Häuser", "Häusern"),
        ("french", "l'amour", "amours"),
        ("spanish", "canciones", "canción"),
        ("russian", "книги", "книга"),
    ],
)
def test_stems_meet(language: str, one: str, other: str) -> None:
    assert terms(language, one) == terms(language, other)


def test_cjk_are_pairs() -> None:
    assert terms("cjk", "東京都 go 海") == ["東京", "京都", "go", "海"]
    assert finds("cjk", "京都", "東京都に行く")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("주문", "주문상세내역"),
        ("상세내역", "주문상세내역을"),
        ("회원", "회원의"),
        ("회원의", "회원에게만"),
        ("회원의", "회원"),
        ("검색", "검색했습니다"),
        ("검색하는", "검색합니다"),
        ("아이폰", "아이폰을"),
        ("iPhone", "iPhone을"),
        ("물", "물을 마시다 물"),
        ("서울에서", "서울"),
    ],
)
def test_korean_is_found_by(query: str, text: str) -> None:
    assert finds("korean", query, text)
    assert finds("standard", query, text)


@pytest.mark.parametrize(("query", "text"), [("주문", "문주"), ("회의", "회원"), ("주의", "주인")])
def test_korean_is_not_found_by(query: str, text: str) -> None:
    assert not finds("korean", query, text)
    assert not finds("standard", query, text)


def test_initial_consonants_find_by_prefix_where_asked() -> None:
    assert finds("korean", "ㅈㅁ", "주문상세내역", initials=True)
    assert finds("korean_initials", "ㅈㅁㅅ", "주문상세내역")
    assert not finds("korean_initials", "ㅁㅅ", "주문상세내역")
    assert not finds("korean", "ㅈㅁ", "주문상세내역")


def test_positions_of_pairs_stand_side_by_side() -> None:
    asked = analyzer("korean").query_tokens("주문상세를 확인")
    assert [(token.term, token.position) for token in asked] == [
        ("주문", 0),
        ("문상", 1),
        ("상세", 2),
        ("확인", 3),
    ]


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("강남구에서 열린", "서울특별시 강남구에서 열린 행사"),
        ("회원의 이름", "회원의 이름을"),
        ("회원의 이름", "회원 이름"),
        ("회원 이름", "회원에게 이름을"),
        ("iPhone을 샀다", "그는 iPhone을 샀다"),
    ],
)
def test_phrases_of_korean_words_with_particles(phrase: str, text: str) -> None:
    field = text_field([text], analyzer("korean"))
    asked = analyzer("korean").query_tokens(phrase)
    terms = tuple((token.position - asked[0].position, token.term) for token in asked)
    assert phrase_frequency(Phrase("text", terms), field.positions) == 1.0
    assert all(places == sorted(places) for places in field.positions.values())


def test_beginnings_of_words() -> None:
    assert terms("edge_ngram", "Dune", min=2, max=3) == ["du", "dun", "dune"]
    assert finds("autocomplete", "du", "Dune Messiah") and finds("autocomplete", "mess", "Dune Messiah")
    assert not finds("autocomplete", "une", "Dune")


def test_stop_words_leave_holes() -> None:
    made = analyzer("standard", stop_words=["of", "the"])
    assert [(t.term, t.position) for t in made.tokens("lord of the rings")] == [("lord", 0), ("rings", 3)]
    assert terms("english", "this was the running", stop_words="_english_") == ["run"]


def test_synonyms_meet_in_both_directions() -> None:
    rules = {"synonyms": ["tv, television set, telly", "colour => color"]}
    for query in ("tv", "television set", "Telly"):
        for text in ("a tv", "a television set", "my telly"):
            assert finds("standard", query, text, **rules)
    assert finds("standard", "colour", "color", **rules) and finds("standard", "color", "colour", **rules)
    assert not finds("standard", "television", "tv", **rules)
    assert finds("standard", "television", "television set", **rules)


@pytest.mark.parametrize(
    ("kind", "rule", "query", "text"),
    [
        ("korean", "자동차, 차량, 승용차", "자동차", "차량이 많다"),
        ("korean", "자동차, 차량, 승용차", "차량", "자동차를 샀다"),
        ("korean", "자동차, 차량, 승용차", "승용차", "전기자동차"),
        ("korean", "컴퓨터 => 전산기", "컴퓨터", "전산기"),
        ("korean", "컴퓨터 => 전산기", "전산기", "컴퓨터를 켰다"),
        ("english", "new york, ny", "NY", "New York City"),
        ("english", "new york, ny", "New York", "in NY"),
        ("english", "tv => television set", "television set", "a tv"),
        ("english", "tv => television set", "tv", "a television set"),
        ("english", "tv => television, telly", "telly", "a tv"),
        ("english", "tv => television, telly", "television", "a tv"),
        ("english", "tv => tv, telly", "tv", "a tv"),
    ],
)
def test_synonyms_of_which_a_form_is_several_terms_or_several_are_the_form(
    kind: str, rule: str, query: str, text: str
) -> None:
    assert finds(kind, query, text, synonyms=[rule])


def test_alternatives_stand_at_one_place_and_words_of_several_rules_have_all_forms() -> None:
    rules = ["tv => television, telly", "auto, car", "vehicle, car", "cab, taxi"]
    made = analyzer("standard", synonyms=rules)
    asked = [(t.term, t.start, t.end, t.position) for t in made.query_tokens("tv cars car cab")]
    assert asked == [
        ("television", 0, 2, 0),
        ("telly", 0, 2, 0),
        ("cars", 3, 7, 1),
        ("auto", 8, 11, 2),
        ("vehicle", 8, 11, 2),
        ("cab", 12, 15, 3),
    ]
    assert [t.term for t in made.tokens("a car")] == ["a", "auto", "vehicle", "car"]


@pytest.mark.parametrize(
    ("settings_", "word"),
    [
        ({"type": "nope"}, "there is no analyzer 'nope'"),
        ({"type": ["a"]}, "there is no analyzer"),
        ({"min": 1}, "no setting 'min'"),
        ({"type": "edge_ngram", "min": 5, "max": 2}, "1 <= min <= max"),
        ({"type": "edge_ngram", "max": "x"}, "integers"),
        ({"synonyms": ["lonely"]}, "not a rule of synonyms"),
        ({"synonyms": "a, b"}, "list of strings"),
        ({"stop_words": "_klingon_"}, "no stop words"),
        ({"type": "korean", "initials": 1}, "true or false"),
    ],
)
def test_settings_that_cannot_be_say_why(settings_: dict[str, Any], word: str) -> None:
    found = make_analyzer("own", settings_)
    assert isinstance(found, AnalyzerFault) and word in found.detail


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.booleans())
def test_distance_is_that_of_the_textbook(one: str, other: str, transpositions: bool) -> None:
    true = _distance(one, other, transpositions)
    for most in range(4):
        assert within(one, other, most, transpositions) == (true <= most)


def _distance(one: str, other: str, transpositions: bool) -> int:
    if not one or not other:
        return max(len(one), len(other))
    best = min(
        _distance(one[:-1], other, transpositions) + 1,
        _distance(one, other[:-1], transpositions) + 1,
        _distance(one[:-1], other[:-1], transpositions) + (one[-1] != other[-1]),
    )
    if transpositions and one[-2:] == other[-2:][::-1] and len(one[-2:]) == 2:
        best = min(best, _distance(one[:-2], other[:-2], transpositions) + 1)
    return best


def test_a_very_long_word_of_hangul_is_cut() -> None:
    assert max(len(term) for term in terms("standard", "가나다" * 1_000)) == 255
    assert finds("standard", "다가", "가나다" * 1_000)
