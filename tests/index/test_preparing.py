"""What is prepared quickly is what the fields of a document say, one after the other."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from index.analysis.words import _ASCII_WORDS, standard_terms
from index.encoding import HOLE, encoded, escaped, exists_term, head, paths_above
from index.fields import fields_of, strings_of_all, texts_of_all, whole_of
from index.judging import POSITION_GAP, Held, TextField, text_field
from index.mapping import DEFAULT, Mapping, Rules, compile_mapping, parse_mapping
from index.preparing import ONES_KEPT, PATHS_KEPT, Preparer, Text
from index.query import ALL, BOOLEAN, DATE, EXACT, NUMBER, WHOLE

MAPPED = {
    "analyzer": "korean",
    "fields": {
        "a": {"type": "keyword"},
        "b.*": {"type": "date"},
        "c": {"type": "text", "analyzer": "english"},
    },
}

words = st.sampled_from(
    [
        "space ship",
        "it's 3.14",
        "x.y. z",
        "한글을 쓴다",
        "Jan 15 1999",
        "2024-05-06",
        "2024-05-06T07:08",
        "",
        " ",
    ]
)
strings = st.one_of(words, st.text("ab1_'.:, -\x01é", max_size=12))
numbers = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
scalars = st.one_of(st.none(), st.booleans(), strings, numbers, st.just(Decimal("0.1000000000000000001")))
names = st.sampled_from(["a", "b", "c", "d", "a.b", "", "_all", "e f"])
documents = st.recursive(
    scalars,
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(names, inside, max_size=4)),
    max_leaves=8,
)


def rules_of(value: object) -> Rules:
    mapping = DEFAULT if value is None else parse_mapping(value)
    assert isinstance(mapping, Mapping), mapping
    rules = compile_mapping(mapping)
    assert isinstance(rules, Rules)
    return rules


RULES = (rules_of(None), rules_of(MAPPED))


def postings_of(text: Text) -> dict[str, list[int]]:
    """Where each term stands, of either form of a text."""
    found: dict[str, list[int]] = {}
    tokens = list(text.tokens or ())
    if text.tokens is None:
        for value in [one.strip(" ") for joined in text.values for one in joined.split(HOLE)]:
            first = tokens[-1][1] + 1 + POSITION_GAP if tokens else 0
            tokens += zip(value.split(" "), count(first), strict=False)
    for term, at in tokens:
        found.setdefault(term, []).append(at)
    return found


def terms_of(document: Any, rules: Rules) -> set[str]:
    """Terms of values, from the fields."""
    found = {exists_term("")}
    fields = fields_of(document, rules)
    for path, values in fields.items():
        found |= {exists_term(above) for above in paths_above(path)}
        for view, tag in ((EXACT, "s"), (NUMBER, "n"), (DATE, "d"), (BOOLEAN, "b")):
            known = [encoded(view, value) for value in values.of(view)]
            found |= {head(path, tag) + term for term in known if term is not None}
        if len(values.exact) + len(values.numbers) + len(values.booleans) > 1 or len(values.dates) > 1:
            found.add(head(path, "m"))
        length = text_field(values.text, rules.field(path).analyzer).length
        if length:
            found.add(head(path, "l") + str(length))
    wholes = sum(whole_of(text) != "" for values in fields.values() for text in values.text)
    found |= {head(WHOLE, "l") + str(wholes)} if wholes else set()
    length = text_field(list(texts_of_all(fields)), rules.default_analyzer).length
    return found | ({head(ALL, "l") + str(length)} if length else set())


@given(st.lists(documents, min_size=1, max_size=3), st.sampled_from(RULES))
def test_a_document_is_prepared_as_its_fields_say(some: list[Any], rules: Rules) -> None:
    paths: dict[str, str] = {}
    preparer = Preparer(rules, lambda path: (paths.setdefault(path, f"t{len(paths):02d}"), ""))
    for document in some:
        prepared = preparer.prepare(document)
        terms = prepared.terms.split(" ")
        assert set(terms) == terms_of(document, rules) and len(terms) == len(set(terms))
        fields = fields_of(document, rules)
        expected = {
            paths[path]: text_field(values.text, rules.field(path).analyzer)
            for path, values in fields.items()
            if values.text and path in paths
        }
        expected["all"] = text_field(list(texts_of_all(fields)), rules.default_analyzer)
        whole = [whole_of(text) for values in fields.values() for text in values.text if whole_of(text)]
        if whole:
            expected["whole"] = TextField()
            expected["whole"].length = len(whole)
            for at, term in enumerate(whole):
                expected["whole"].positions.setdefault(escaped(term), []).append(at)
        made = {name: (postings_of(text), text.length) for name, text in prepared.texts}
        assert made == {
            name: (field.positions, field.length) for name, field in expected.items() if field.length
        }


@given(documents)
def test_all_strings_are_those_of_all_fields(document: Any) -> None:
    fields = fields_of(document, RULES[0])
    strings, numbers = strings_of_all(document)
    assert sorted(strings + numbers) == sorted(texts_of_all(fields))
    assert sorted(strings) == sorted(text for values in fields.values() for text in values.text)


@example(["한글을 쓴다", 7], [ALL, WHOLE])
@given(documents, st.lists(st.sampled_from([ALL, WHOLE, "a"]), min_size=2, max_size=4))
def test_a_document_is_judged_alike_whatever_was_asked_of_it_before(document: Any, names: list[str]) -> None:
    held = Held(b"", document, RULES[0])
    for name in names:
        for term in ("space ship", "space", "3.14", "한글을", "999"):
            field = Held(b"", document, RULES[0]).text(name)
            expected = (0, 0) if field is None else (len(field.positions.get(term, ())), field.length)
            assert held.frequency(name, term) in ((expected, (0, 0)) if not expected[0] else (expected,))
        whole = Held(b"", document, RULES[0]).text(name)
        assert held.length(name) == (0 if whole is None else whole.length)


@given(st.text("aZ1_'.:, -\n\x1f", max_size=30))
def test_splitting_at_spaces_is_what_the_pattern_of_words_finds(text: str) -> None:
    assert standard_terms(text) == _ASCII_WORDS.findall(text.lower())


def test_very_long_words_are_cut_whichever_way() -> None:
    text = "a" * 600 + " b " + "c" * 255
    assert standard_terms(text) == ["a" * 255, "a" * 255, "a" * 90, "b", "c" * 255]
    assert standard_terms("b " * 300 + "c" * 256) == ["b"] * 300 + ["c" * 255, "c"]
    assert standard_terms("c" * 255 + " " + "d" * 255) == ["c" * 255, "d" * 255]


def test_more_names_than_are_remembered() -> None:
    preparer = Preparer(RULES[0], lambda path: ("s0", path + "\x00"))
    for first in range(0, 2 * PATHS_KEPT + 1_000, 1_000):
        preparer.prepare({f"field{n}": f"value{n}" for n in range(first, first + 1_000)})
    for number in range(ONES_KEPT + 500):
        preparer.prepare({"field": f"value{number}"})
    kept = sum(len(path.ones) for path in preparer._paths.values())
    assert 0 < len(preparer._paths) <= PATHS_KEPT and 0 < kept == preparer._kept <= ONES_KEPT


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("NaN", None), ("Infinity", None), ("-Infinity", None), ("1e999999999", None), ("-1e-99999", None)),
        *(("9" * 5000, None), ("1_000", None), ("１２", None), ("0x10", None), ("", None), ("-", None)),
        *(("12", 12), (" 5 ", 5), ("-0.5", -0.5), ("+5", 5), (".5", 0.5), ("1e3", 1000), ("00012", 12)),
    ],
)
def test_where_a_number_is_asked_for_a_text_is_one_or_none(text: str, number: float | None) -> None:
    rules = rules_of({"fields": {"n": {"type": "number"}}})
    found = fields_of({"n": text}, rules)
    assert (found["n"].numbers if "n" in found else []) == ([] if number is None else [number])
    Preparer(rules, lambda name: (name, "")).prepare({"n": text})  # what fails here ends every replica
