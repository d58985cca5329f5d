"""Similar words: both segments tell the same terms, and the best match comes first."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from index.changing import Change
from index.judging import Held, compile_query
from index.mapping import DEFAULT, Rules, compile_mapping
from index.naive_segments import Kept, NaiveSegments
from index.query import ALL, TEXT, Boost, DisMax, FieldLength, Fuzzy, Statistics, Term, TermKey
from index.segments import TantivySegments
from index.similar import REST, TERMS_MAX, edits, nearest, planned_by
from lsm.keys import row_key
from ring.tokens import token_of


def rules() -> Rules:
    found = compile_mapping(DEFAULT)
    assert isinstance(found, Rules)
    return found


def key_of(n: int) -> bytes:
    partition = b"d%d" % n
    return row_key(1, token_of(partition), partition)


def words_of(document: dict[str, str], field: str) -> set[str]:
    return set(" ".join(document.values() if field == ALL else (document.get(field, ""),)).split())


@pytest.mark.parametrize("fields", [1, 60])
def test_each_document_that_is_alike_has_a_term_that_is_told(tmp_path: Path, fields: int) -> None:
    random = Random(7)
    real, naive = TantivySegments(rules(), tmp_path), NaiveSegments(rules(), Kept())
    words = ["".join(random.choice("abc") for _ in range(random.randint(2, 8))) for _ in range(300)]
    changes, documents = [], []
    for n in range(200):
        document = {f"f{n % fields}": " ".join(random.sample(words, 4)), "t": random.choice(words)}
        documents.append(document)
        changes.append(Change(key_of(n), json.dumps(document).encode()))
    for segments in (real, naive):
        segments.commit(changes, 1)
    several = 0
    for field in (ALL, "t", "f0", f"f{fields - 1}", "nothing"):
        for word in words[:8]:
            for distance, prefix, transpositions in ((1, 0, True), (1, 2, False), (2, 0, True)):
                query = Fuzzy(field, TEXT, word, distance, prefix, transpositions)
                found, alike = ({key.term for key in each.similar(query)} for each in (real, naive))
                several += len(found) > 1
                if max(len(found), len(alike)) < TERMS_MAX:
                    assert found <= alike
                    assert all(
                        not alike & words_of(each, field) or found & words_of(each, field)
                        for each in documents
                    )
    assert several > 10
    real.close()


def test_the_nearest_come_first() -> None:
    query = Fuzzy("t", TEXT, "hello", 2)
    assert nearest(query, ["help", "hell", "hello", "world", "jelly"]) == ["hello", "hell", "help", "jelly"]
    assert [edits(query, term) for term in ("hello", "hell", "help")] == [0, 1, 2]
    assert nearest(Fuzzy("t", TEXT, "주문서", 1), ["주문", "주문서", "회원"]) == ["주문서", "주문"]


def test_a_rare_misspelling_does_not_outweigh_the_word() -> None:
    query = Fuzzy("t", TEXT, "space", 1)
    frequencies = {TermKey("t", "space"): 50, TermKey("t", "spaec"): 1}
    total = Statistics(1_000, frequencies, {"t": FieldLength(1_000, 3_000)})
    score = compile_query(planned_by([query], total)[query], total)
    word, wrong = (Held(b"", {"t": text}, rules()) for text in ("the space film", "the spaec film"))
    assert (score(word) or 0) == pytest.approx(2 * (score(wrong) or 0)) and score(wrong)
    plain = compile_query(Term("t", TEXT, "space"), total)
    assert score(word) == pytest.approx(plain(word))


def test_what_is_beyond_the_limit_is_still_found() -> None:
    query = Fuzzy("t", TEXT, "aaaa", 2)
    frequencies = {TermKey("t", f"aa{a}{b}"): 1 for a in "abcdefgh" for b in "abcdefgh"}
    planned = planned_by([query], Statistics(100, frequencies, {}))[query]
    assert isinstance(planned, DisMax) and len(planned.queries) == TERMS_MAX + 1
    assert planned.queries[-1] == Boost(query, REST)
    assert planned_by([query], Statistics(100)) == {query: query}
