"""Documents that come along with the hits of a search: as they were found, and not too large together."""

from __future__ import annotations

from pathlib import Path

import pytest

from index import answering, viewing
from index.asking import Ask, Found, Segments
from index.changing import Change
from index.naive_segments import Kept, NaiveSegments
from index.query import NUMBER, TEXT, All, SortKey, Statistics, Term
from index.segments import TantivySegments
from index.tiers import Tiers
from tests.index import corpora
from tests.index.test_segments import WHOLE, rules_of

DOCUMENTS = {corpora.key_of(n): b'{"a": "storm%s", "n": %d}' % (b" wind" * (n % 4), n) for n in range(40)}
STORM = Term("a", TEXT, "storm")


def filled(of: str, directory: Path) -> Segments:
    changes = [Change(key, text) for key, text in DOCUMENTS.items()]
    if of == "naive":
        naive = NaiveSegments(rules_of(), Kept({}, 0, {}))
        naive.commit(changes, 1)
        return naive
    tiers = Tiers(rules_of(), TantivySegments(rules_of(), directory))
    tiers.commit([*changes[:30], Change(changes[30].key, b'{"a": "storm of old"}')], 1)
    tiers.show(changes[30:], 2)
    return tiers


def ask(segments: Segments, query: Term | All, texts: bool = True, sort: tuple[SortKey, ...] = ()) -> Found:
    statistics = segments.statistics((), ("a",), WHOLE)
    found = segments.search(Ask(query, statistics, 12, sort, texts=texts), WHOLE)
    assert isinstance(found, Found)
    return found


@pytest.mark.parametrize("sort", [(), (SortKey("n", NUMBER, True),)])
@pytest.mark.parametrize("query", [STORM, All()])
@pytest.mark.parametrize("of", ["naive", "tiers"])
def test_hits_come_with_their_documents(
    of: str, query: Term | All, sort: tuple[SortKey, ...], tmp_path: Path
) -> None:
    segments = filled(of, tmp_path)
    found = ask(segments, query, sort=sort)
    assert found.total == 40 and len(found.hits) == 12
    assert found.texts == {hit.key: DOCUMENTS[hit.key] for hit in found.hits}
    without = ask(segments, query, texts=False, sort=sort)
    assert not without.texts and without.hits == found.hits


@pytest.mark.parametrize("of", ["naive", "tiers"])
def test_only_the_first_come_along_if_they_are_large(
    of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "TEXTS_BYTES_MAX", 150)
    monkeypatch.setattr(viewing, "READ_BYTES_MAX", 100_000)
    found = ask(filled(of, tmp_path), STORM)
    assert 0 < len(found.texts) < 12
    assert all(DOCUMENTS[key] == text for key, text in found.texts.items())
    monkeypatch.setattr(viewing, "READ_BYTES_MAX", 10)
    assert len(ask(filled(of, tmp_path), STORM).hits) == 12


def test_statistics_and_hits_are_those_of_one_walk(tmp_path: Path) -> None:
    """Some rows are hidden by younger ones: what is counted and what is found leaves them out."""
    tiers = filled("tiers", tmp_path)
    found = tiers.search(Ask(STORM, Statistics(), 100), WHOLE)
    assert isinstance(found, Found)
    assert found.total == len(found.hits) == len({hit.key for hit in found.hits}) == 40
