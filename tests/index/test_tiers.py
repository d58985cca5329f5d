"""Two tiers answer as one index does, whatever was shown, folded and changed again in which order."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from index.asking import Ask, Found
from index.changing import Change
from index.naive_segments import Kept, NaiveSegments
from index.query import TEXT, All, Fuzzy, Statistics
from index.segments import TantivySegments
from index.tiers import Tiers
from tests.index import corpora
from tests.index.test_segments import MAPPED, WHOLE, compare, rules_of


@pytest.mark.parametrize("seed", range(5))
def test_tiers_answer_as_one_index(seed: int, tmp_path: Path) -> None:
    random = Random(f"tiers:{seed}")
    rules = MAPPED if seed % 3 == 2 else rules_of()
    naive = NaiveSegments(rules, Kept())
    tiers = Tiers(rules, TantivySegments(rules, tmp_path / "a"))
    is_folded = False
    offset = durable = 0
    for _ in range(12):
        some = corpora.changes(random, random.randint(1, 12), 40)
        offset += len(some)
        naive.commit(some, offset)
        if random.random() < 0.25:
            before, seen = tiers.documents(), random.randint(0, len(some))
            for change in some[:seen]:
                tiers.add([change])
            assert tiers.documents() == before, "what is added is not there yet"
            tiers.commit(some[seen:], offset)
            is_folded, durable = False, offset
        else:
            tiers.show(some, offset)
            if is_folded and random.random() < 0.6:
                tiers.adopt()
                is_folded = False
            elif random.random() < 0.5:
                tiers.fold()
                is_folded, durable = True, offset
        assert tiers.covers() == offset and tiers.documents() == naive.documents()
        for _ in range(4):
            compare(random, naive, tiers)
    tiers.close()
    again = Tiers(rules, TantivySegments(rules, tmp_path / "a"))
    assert again.covers() == durable
    again.close()


def test_what_is_written_again_and_again_is_there_once(tmp_path: Path) -> None:
    rules = rules_of()
    for life in range(2):
        tiers = Tiers(rules, TantivySegments(rules, tmp_path / "a"))
        for number in range(4):
            text = b'{"a": "storm %d %d"}' % (life, number)
            tiers.add([Change(corpora.key_of(n), text) for n in range(number, 60)])
            tiers.commit([Change(corpora.key_of(0), None)], 10 * life + number + 1)
            assert tiers.documents() == 59
        tiers.close()


@pytest.mark.parametrize("of", ["naive", "real"])
def test_what_is_shown_is_taken_back_by_a_crash_and_what_is_folded_is_not(of: str, tmp_path: Path) -> None:
    rules, kept = rules_of(), Kept({}, 0, {})

    def opened() -> Tiers:
        durable = NaiveSegments(rules, kept) if of == "naive" else TantivySegments(rules, tmp_path / "a")
        return Tiers(rules, durable)

    def found(tiers: Tiers) -> list[bytes]:
        answer = tiers.search(Ask(All(), Statistics(), 100), WHOLE)
        assert isinstance(answer, Found) and answer.total == len(answer.hits) == tiers.documents()
        return [hit.key for hit in answer.hits]

    one, two, three = (corpora.key_of(n) for n in (1, 2, 3))
    tiers = opened()
    tiers.commit([Change(one, b'{"a": "x"}'), Change(two, b'{"a": "x"}')], 5)
    tiers.show([Change(two, None), Change(three, b'{"a": "y"}', 9)], 7)
    assert set(found(tiers)) == {one, three} and tiers.covers() == 7
    assert tiers.shown()[0] == 2 and tiers.next_due_us() == 9 and tiers.due(10, 5) == (three,)
    tiers.close()

    tiers = opened()
    assert set(found(tiers)) == {one, two} and tiers.covers() == 5
    tiers.show([Change(two, None), Change(three, b'{"a": "y"}')], 7)
    tiers.fold()
    assert set(found(tiers)) == {one, three} and tiers.shown()[0] == 2
    tiers.show([Change(one, None)], 8)
    tiers.adopt()
    assert found(tiers) == [three] and tiers.shown()[0] == 1 and tiers.covers() == 8
    tiers.close()
    tiers = opened()
    assert set(found(tiers)) == {one, three} and tiers.covers() == 7
    tiers.close()


@pytest.mark.parametrize("of", ["naive", "real"])
def test_what_is_gone_at_once_is_taken_out_of_both_tiers_and_what_was_added(of: str, tmp_path: Path) -> None:
    rules, kept = rules_of(), Kept({}, 0, {})

    def opened() -> Tiers:
        durable = NaiveSegments(rules, kept) if of == "naive" else TantivySegments(rules, tmp_path / "a")
        return Tiers(rules, durable)

    def found(tiers: Tiers) -> list[int]:
        answer = tiers.search(Ask(All(), Statistics(), 100), WHOLE)
        assert isinstance(answer, Found) and answer.total == len(answer.hits) == tiers.documents()
        return sorted(names.index(hit.key) for hit in answer.hits)

    names = [corpora.key_of(n) for n in range(10)]
    text, stays, goes, part = b'{"a": "x"}', (0, False), (50, True), (50, False)
    tiers = opened()
    tiers.commit([Change(names[n], text, *when) for n, when in enumerate((stays, goes, goes, part))], 5)
    tiers.show([Change(names[2], text), Change(names[4], text, *goes), Change(names[0], text, *goes)], 6)
    assert not tiers.expire(49) and found(tiers) == [0, 1, 2, 3, 4] and tiers.next_due_us() == 50
    assert tiers.expire(50) and found(tiers) == [2, 3] and tiers.covers() == 6
    assert tiers.due(50, 9) == (names[3],), "somebody looks at what is left of it"
    assert not tiers.expire(50)
    tiers.add([Change(names[1], text, 70, True), Change(names[5], text, 70, True), Change(names[2], text)])
    tiers.commit([Change(names[3], text, 60, True)], 9)
    tiers.add([Change(names[3], text), Change(names[6], text)])
    assert tiers.expire(70) and tiers.covers() == 9 and set(found(tiers)) >= {2}
    tiers.commit([], 12)
    assert found(tiers) == [2, 3, 6] and tiers.covers() == 12 and not tiers.next_due_us()
    tiers.close()
    tiers = opened()
    assert found(tiers) == [2, 3, 6] and tiers.covers() == 12
    tiers.close()


def test_words_of_both_tiers_are_told(tmp_path: Path) -> None:
    rules = rules_of()
    tiers = Tiers(rules, TantivySegments(rules, tmp_path / "a"))
    tiers.commit([Change(corpora.key_of(n), b'{"a": "storm"}') for n in range(3)], 1)
    tiers.show(
        [Change(corpora.key_of(3), b'{"a": "story"}'), Change(corpora.key_of(0), b'{"a": "stork"}')], 2
    )
    assert tiers.expand("a", TEXT, "stor", 10, WHOLE) == (("storm", 2), ("stork", 1), ("story", 1))
    assert {key.term for key in tiers.similar(Fuzzy("a", TEXT, "storn", 1))} == {"storm", "stork", "story"}
    tiers.close()
