"""The real segments against their naive twin: one list of random operations, equal answers."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from core.errors import CorruptionError
from index.aggregation import Partials, TermsOf
from index.asking import Ask, Found, Segments
from index.changing import Change
from index.mapping import DEFAULT, Mapping, Rules, compile_mapping, parse_mapping
from index.naive_segments import Kept, NaiveSegments
from index.preparing import Prepared, Preparer
from index.query import (
    ALL,
    EXACT,
    NUMBER,
    TEXT,
    After,
    All,
    Bool,
    FieldLength,
    Fuzzy,
    Phrase,
    Prefix,
    Statistics,
    Term,
    TokenRanges,
)
from index.segments import TantivySegments
from index.tiers import Tiers
from lsm.keys import TOKEN_MAX, TOKEN_MIN
from tests.index import corpora

WHOLE: TokenRanges = ((TOKEN_MIN, TOKEN_MAX),)
HALF: TokenRanges = ((TOKEN_MIN, -(2**62)), (-5, 2**61))


def rules_of(mapping: Mapping = DEFAULT) -> Rules:
    rules = compile_mapping(mapping)
    assert isinstance(rules, Rules)
    return rules


def mapped(value: object) -> Rules:
    mapping = parse_mapping(value)
    assert isinstance(mapping, Mapping), mapping
    return rules_of(mapping)


MAPPED = mapped(
    {
        "analyzer": "english",
        "fields": {"title": {"type": "text", "analyzer": "korean"}, "tags": {"type": "keyword"}},
    }
)


@pytest.mark.parametrize("seed", range(4))
def test_the_twins_answer_alike(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    rules = MAPPED if seed % 3 == 2 else rules_of()
    naive = NaiveSegments(rules, Kept())
    real = TantivySegments(rules, tmp_path / "a")
    offset = 0
    for _ in range(6):
        some = corpora.changes(random, random.randint(1, 40), 60)
        offset += len(some)
        for each in (naive, real):
            each.commit(some, offset)
        assert real.covers() == naive.covers() == offset
        assert real.documents() == naive.documents()
        if random.random() < 0.3:
            real.close()
            real = TantivySegments(rules, tmp_path / "a")
            assert real.covers() == offset
        for _ in range(25):
            compare(random, naive, real)
    real.close()


def compare(random: Random, naive: Segments, real: Segments) -> None:
    asked: Any = corpora.query(random)
    ranges = random.choice([WHOLE, WHOLE, HALF, ()])
    terms, fields = corpora.terms_in(asked), corpora.fields_in(asked)
    statistics = naive.statistics(terms, fields, WHOLE)
    assert real.statistics(terms, fields, ranges) == naive.statistics(terms, fields, ranges)
    limit = random.choice([0, 1, 3, 10, 100])
    ask = Ask(asked, statistics, limit)
    expected, got = naive.search(ask, ranges), real.search(ask, ranges)
    assert isinstance(expected, Found) and isinstance(got, Found), (asked, got)
    assert_same(got, expected, asked)
    compare_sorted(random, naive, real, asked)
    if expected.hits and limit:
        last = random.choice(expected.hits)
        ask = Ask(asked, statistics, limit, after=After((last.score,), last.key))
        assert_same(real.search(ask, ranges), naive.search(ask, ranges), asked)


def compare_sorted(random: Random, naive: Segments, real: Segments, asked: Any) -> None:
    """Orders and aggregations, pages of them."""
    keys = tuple(corpora.sort_key(random) for _ in range(random.randint(0, 2)))
    aggregations = tuple((f"a{n}", corpora.aggregation(random)) for n in range(random.randint(0, 2)))
    ask = Ask(asked, Statistics(), random.choice([0, 2, 50]), keys, aggregations=aggregations, scored=False)
    after = None
    for _ in range(3):
        ask = msgspec.structs.replace(ask, after=after)
        expected, got = naive.search(ask, WHOLE), real.search(ask, WHOLE)
        assert isinstance(expected, Found) and isinstance(got, Found), (asked, got)
        assert got.hits == expected.hits and got.total == expected.total, (asked, keys)
        assert told(got.aggregations) == told(expected.aggregations), (asked, aggregations)
        if not expected.hits:
            break
        after = After(expected.hits[-1].sort or (0.0,), expected.hits[-1].key)


def told(partials: Partials) -> Any:
    """Partial answers in a form that tells neither rounding nor the order of buckets yet to be merged."""
    text = msgspec.json.encode(partials)
    return ordered(json.loads(text, parse_float=lambda number: float(f"{float(number):.9g}")))


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        found = {key: ordered(member) for key, member in value.items()}
        return {**found, "buckets": sorted(found["buckets"], key=json.dumps)} if "buckets" in found else found
    return list(map(ordered, value)) if isinstance(value, list) else value


def assert_same(got: object, expected: object, asked: object) -> None:
    assert isinstance(expected, Found) and isinstance(got, Found), (asked, got)
    assert got.total == expected.total, asked
    assert [hit.key for hit in got.hits] == [hit.key for hit in expected.hits], asked
    for one, other in zip(got.hits, expected.hits, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6), asked
    assert got.score_max == pytest.approx(expected.score_max, rel=1e-6), asked


def test_a_crash_leaves_the_last_commit(tmp_path: Path) -> None:
    rules = rules_of()
    real = TantivySegments(rules, tmp_path / "a")
    real.commit([Change(corpora.key_of(1), b'{"a": 1}')], 5)
    real.commit([Change(corpora.key_of(2), b'{"a": 2}')], 9)
    del real  # without closing
    again = TantivySegments(rules, tmp_path / "a")
    assert (again.covers(), again.documents()) == (9, 2)
    again.commit([Change(corpora.key_of(1), None)], 10)
    assert (again.covers(), again.documents()) == (10, 1)
    again.close()


def many_paths(number: int) -> bytes:
    document: dict[str, Any] = {f"f{n}": f"common word{n % 7} w{number}" for n in range(60)}
    document["title"] = "common " * (number % 3 + 1)
    return json.dumps(document).encode()


def test_more_paths_with_text_than_fields_of_their_own(tmp_path: Path) -> None:
    rules = rules_of()
    naive, real = NaiveSegments(rules, Kept({})), TantivySegments(rules, tmp_path / "a")
    for each in (naive, real):
        each.commit([Change(corpora.key_of(n), many_paths(n)) for n in range(30)], 30)
    random = Random(1)
    for field in ("f0", "f31", "f59", "title", ALL):
        queries: list[Any] = [
            Term(field, TEXT, "common"),
            Bool(should=(Term(field, TEXT, "w7"), Term(field, TEXT, "word3")), minimum=1),
            Phrase(field, ((0, "common"), (1, "word3"))),
            Prefix(field, TEXT, "w1"),
            Fuzzy(field, TEXT, "commom", 1),
        ]
        for asked in queries:
            terms, fields = corpora.terms_in(asked), corpora.fields_in(asked)
            statistics = naive.statistics(terms, fields, WHOLE)
            assert real.statistics(terms, fields, WHOLE) == statistics
            ask = Ask(asked, statistics, 10)
            assert_same(real.search(ask, WHOLE), naive.search(ask, WHOLE), asked)
            compare_sorted(random, naive, real, asked)
    real.close()


def test_phrases_with_gaps_over_several_values(tmp_path: Path) -> None:
    rules = rules_of()
    naive, real = NaiveSegments(rules, Kept({})), TantivySegments(rules, tmp_path / "a")
    several = ["one two", "three four", "five"]
    texts: list[Any] = [several, " ".join(several), ["two x three", "..", "four"]]
    many = {f"f{n}": "filler" for n in range(40)}  # the last fields share one of the engine's
    documents = [{**each, "a": text, "z": text} for each in ({}, many) for text in texts]
    for each in (naive, real):
        kept = [json.dumps(document).encode() for document in documents]
        each.commit([Change(corpora.key_of(n), text) for n, text in enumerate(kept)], 1)
    found = {}
    for field in ("a", "z", ALL):
        for one, other in (("two", "three"), ("one", "four"), ("three", "four"), ("four", "two")):
            for step in (1, 2, 3, 16, 17, 18):
                asked = Phrase(field, ((0, one), (step, other)))
                statistics = naive.statistics(corpora.terms_in(asked), corpora.fields_in(asked), WHOLE)
                for query in (Bool(must=(All(),), must_not=(asked,)), asked):
                    ask = Ask(query, statistics, 10)
                    got = real.search(ask, WHOLE)
                    assert_same(got, naive.search(ask, WHOLE), query)
                    assert isinstance(got, Found)
                    found[field, one, other, step] = got.total
    assert [found["z", "two", "three", step] for step in (1, 2, 3, 17)] == [2, 2, 0, 2]
    real.close()


def test_any_number_of_field_names_is_no_fields_of_the_engine(tmp_path: Path) -> None:
    real = TantivySegments(rules_of(), tmp_path / "a")
    for part in range(4):
        some = []
        for n in range(part * 250, part * 250 + 250):
            document = {f"name{n}-{k}": f"text {k}" for k in range(10)}
            some.append(Change(corpora.key_of(n), json.dumps(document).encode()))
        real.commit(some, part + 1)
    asked = Term("name999-3", TEXT, "text")
    statistics = real.statistics(corpora.terms_in(asked), corpora.fields_in(asked), WHOLE)
    found = real.search(Ask(asked, statistics, 10), WHOLE)
    assert isinstance(found, Found) and [hit.key for hit in found.hits] == [corpora.key_of(999)]
    assert statistics.lengths["name999-3"] == FieldLength(1, 2)
    real.close()


def test_what_is_due_is_told_in_order(tmp_path: Path) -> None:
    naive, real = NaiveSegments(rules_of(), Kept({})), TantivySegments(rules_of(), tmp_path / "a")
    for each in (naive, real):
        dues = {1: 500, 2: 0, 3: 300, 4: 900}
        each.commit([Change(corpora.key_of(n), b"{}", due) for n, due in dues.items()], 4)
        assert each.next_due_us() == 300
        assert each.due(500, 10) == (corpora.key_of(3), corpora.key_of(1))
        each.commit([Change(corpora.key_of(3), None), Change(corpora.key_of(1), b"{}")], 5)
        assert each.next_due_us() == 900 and each.due(500, 10) == ()
    real.close()


def test_terms_are_expanded_most_frequent_first(tmp_path: Path) -> None:
    naive, real = NaiveSegments(rules_of(), Kept({})), TantivySegments(rules_of(), tmp_path / "a")
    texts = ["space ship", "space", "spa", "stone"]
    for each in (naive, real):
        some = [Change(corpora.key_of(n), json.dumps({"t": text}).encode()) for n, text in enumerate(texts)]
        each.commit(some, 1)
        assert each.expand("t", TEXT, "sp", 10, WHOLE) == (("space", 2), ("spa", 1))
        assert each.expand("t", TEXT, "s", 1, WHOLE) == (("space", 2),)
        assert each.expand("t", EXACT, "space ", 5, WHOLE) == (("space ship", 1),)
        assert each.expand("absent", TEXT, "s", 5, WHOLE) == ()
    real.close()


def test_a_damaged_index_cannot_be_opened(tmp_path: Path) -> None:
    real = TantivySegments(rules_of(), tmp_path / "a")
    real.commit([Change(corpora.key_of(1), b'{"a": 1}')], 5)
    real.close()
    (tmp_path / "a" / "meta.json").write_text("{")
    with pytest.raises(CorruptionError):
        TantivySegments(rules_of(), tmp_path / "a")


def test_random_queries_find_something(tmp_path: Path) -> None:
    """Else the comparison of the twins would show nothing."""
    random = Random(5)
    naive = NaiveSegments(rules_of(), Kept({}))
    naive.commit(corpora.changes(random, 60, 60), 60)
    hits = 0
    for _ in range(100):
        asked: Any = corpora.query(random)
        found = naive.search(Ask(asked, Statistics(), 10), WHOLE)
        assert isinstance(found, Found)
        hits += bool(found.hits)
    assert hits > 40


def test_files_that_were_merged_are_let_go_of_without_waiting_for_the_garbage_collector(
    tmp_path: Path,
) -> None:
    tiers = Tiers(rules_of(), TantivySegments(rules_of(), tmp_path / "a"))
    gc.disable()
    try:
        for number in range(9):
            some = range(50 * number, 50 * number + 50)
            tiers.commit(
                [Change(corpora.key_of(n), b'{"n": %d, "a": "storm"}' % n) for n in some], number + 1
            )
        ask = Ask(Term("a", TEXT, "storm"), Statistics(), 10, aggregations=(("n", TermsOf("n", NUMBER)),))
        found = tiers.search(ask, WHOLE)
        assert isinstance(found, Found) and found.total == 450
        tiers.show([Change(corpora.key_of(0), None)], 10)
        del found
        tiers.rest()
        assert not [line for line in open_files() if str(tmp_path) in line and "(deleted)" in line]
        assert tiers.documents() == 449 and tiers.covers() == 10
    finally:
        gc.enable()
    tiers.close()


def open_files() -> list[str]:
    """The files that this process maps, one a line."""
    return Path("/proc/self/maps").read_text().splitlines()


def test_a_document_that_nobody_foresaw_is_there_and_ends_no_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Preparer.prepare

    def fails(self: Preparer, document: Any) -> Prepared:
        if document.get("bad"):
            raise OverflowError("cannot convert Infinity to integer")
        return prepare(self, document)

    monkeypatch.setattr(Preparer, "prepare", fails)
    real = TantivySegments(rules_of(), tmp_path / "a")
    texts = [b'{"t":"space"}', b'{"t":"space","bad":true}', b'{"t":"ship"}']
    real.commit([Change(corpora.key_of(n), text) for n, text in enumerate(texts)], 3)
    statistics = real.statistics([], [], WHOLE)
    everything = real.search(Ask(All(), statistics, 10), WHOLE)
    assert isinstance(everything, Found) and everything.total == 3
    assert real.bare() == ((corpora.key_of(1), "OverflowError"),) and not real.bare()
    real.commit([Change(corpora.key_of(1), b'{"t":"good again"}')], 4)
    assert not real.bare()
    again = real.search(Ask(All(), real.statistics([], [], WHOLE), 10), WHOLE)
    assert isinstance(again, Found) and again.total == 3
