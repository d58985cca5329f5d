"""Scores against BM25 written down a second time, from words and nothing else; long fields, sparse fields."""

from __future__ import annotations

import json
from collections import Counter
from math import log
from pathlib import Path
from random import Random

import pytest

from index.asking import Ask, Found
from index.changing import Change
from index.mapping import DEFAULT, Rules, compile_mapping
from index.query import TEXT, Bool, Term, TokenRanges
from index.segments import TantivySegments
from lsm.keys import TOKEN_MAX, TOKEN_MIN
from tests.index.corpora import key_of, terms_in

WHOLE: TokenRanges = ((TOKEN_MIN, TOKEN_MAX),)
WORDS = [f"w{n}" for n in range(200)]


def bm25(documents: dict[bytes, list[str]], everything: int, words: list[str]) -> dict[bytes, float]:
    average = sum(map(len, documents.values())) / len(documents)
    scores: dict[bytes, float] = {}
    for word in words:
        having = {key: Counter(text)[word] for key, text in documents.items() if word in text}
        idf = log(1 + (everything - len(having) + 0.5) / (len(having) + 0.5))
        for key, count in having.items():
            norm = 1.2 * (1 - 0.75 + 0.75 * len(documents[key]) / average)
            scores[key] = scores.get(key, 0.0) + idf * count * 2.2 / (count + norm)
    return scores


@pytest.mark.parametrize(("share", "longest"), [(1.0, 20), (1.0, 400), (0.1, 100)])
def test_scores_are_those_of_the_formula(share: float, longest: int, tmp_path: Path) -> None:
    random = Random(f"{share}{longest}")
    rules = compile_mapping(DEFAULT)
    assert isinstance(rules, Rules)
    segments = TantivySegments(rules, tmp_path / "a")
    held: dict[bytes, list[str]] = {}
    for part in range(4):
        changes = []
        for number in range(part * 150, part * 150 + 200):  # some are put twice
            key = key_of(number)
            held.pop(key, None)
            document = {"n": number, "other": "w1 w2 w3 " * random.randint(1, 9)}
            if random.random() < share:
                words = [
                    WORDS[min(int(random.expovariate(0.05)), 199)] for _ in range(random.randint(1, longest))
                ]
                held[key] = words
                document["text"] = " ".join(words)
            changes.append(Change(key, json.dumps(document).encode()))
        segments.commit(changes, part + 1)
    everything = segments.documents()
    for _ in range(20):
        words = random.sample(WORDS[:80], 2)
        query = Bool(should=tuple(Term("text", TEXT, word) for word in words), minimum=1)
        statistics = segments.statistics(terms_in(query), ("text",), WHOLE)
        found = segments.search(Ask(query, statistics, 10), WHOLE)
        expected = bm25(held, everything, words)
        assert isinstance(found, Found) and found.total == len(expected)
        first = sorted(expected.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert [hit.score for hit in found.hits] == pytest.approx([score for _, score in first])
        assert {hit.key: hit.score for hit in found.hits} == pytest.approx(
            {hit.key: expected[hit.key] for hit in found.hits}
        )
    segments.close()
