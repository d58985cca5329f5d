"""Inverted indexes that are not what the rows say are found by a scrub, and mended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from documents import operations
from index.query import All
from node.index_scrubbing import IndexScrubbing
from sim.search import SimPlace
from tests.node.test_search_indexes import Indexed

Patch = pytest.MonkeyPatch


@pytest.fixture
def s() -> Indexed:
    scenario = Indexed()
    scenario.collect()
    for number in range(30):
        scenario.store(f"m{number:02d}", {"n": number})
    scenario.run(5)  # what was shown is folded
    return scenario


def kept(s: Indexed, at: int = 0) -> Any:
    """What the index of a machine has on its disk."""
    (found,) = s.cluster.machines[at].search.values()
    return found


def again(s: Indexed, at: int = 0) -> None:
    """Start a machine again, which sees what is on its disk."""
    s.kill(at)
    s.start(at)
    s.run(3)


def scrubbed(s: Indexed, at: int = 0) -> list[str]:
    """What a pass finds at a peer."""
    scrubbing = s.node(at).scrubbing
    scrubbing.begin(2**32)
    assert s.until(lambda: not scrubbing.status()["running"])
    last = scrubbing.status()["last"]
    assert last is not None and last["documents"] >= 30
    found: list[str] = last["found"]
    return found


def ids(s: Indexed, at: int = 0) -> list[str]:
    """All that this peer's own index finds."""
    return sorted(s.found(All(), at=at, size=100))


WHOLE = [f"m{number:02d}" for number in range(30)]


def test_an_index_that_is_right_has_nothing_to_mend(s: Indexed) -> None:
    assert scrubbed(s) == []
    assert s.indexes().builds == 1, "when the collection was made"


def test_what_lacks_what_is_older_and_what_is_too_many_is_found_and_mended(s: Indexed) -> None:
    on_disk = kept(s)
    keys = {json.loads(document)["n"]: key for key, document in on_disk.documents.items()}
    del on_disk.documents[keys[3]]
    on_disk.documents[keys[4]] = b'{"n": 40}'
    foreign = keys[5] + b"x"
    on_disk.documents[foreign] = b'{"n": 99}'
    again(s)
    found = scrubbed(s)
    assert sorted(problem.split(" docs.movies ")[1].split(" the document")[0] for problem in found) == [
        "had another version of",
        "lacked",
        "still had",
    ]
    assert any(keys[3].hex() in problem for problem in found)
    s.run(5)
    assert scrubbed(s) == []
    documents = kept(s).documents
    assert json.loads(documents[keys[3]]) == {"n": 3} and json.loads(documents[keys[4]]) == {"n": 4}
    assert foreign not in documents and len(documents) == 30


def test_an_index_with_damaged_files_is_built_anew(s: Indexed, monkeypatch: Patch) -> None:
    broken: list[str] = ["0123.idx"]
    opened = SimPlace.open

    def open_(self: SimPlace, name: str, rules: Any) -> Any:
        tiers = opened(self, name, rules)
        tiers.damaged = lambda: tuple(broken)  # type: ignore[method-assign]
        return tiers

    monkeypatch.setattr(SimPlace, "open", open_)
    again(s)
    builds = s.indexes().builds
    found = s.node(0).scrubbing.begin(2**32)
    assert s.until(lambda: not s.node(0).scrubbing.status()["running"])
    found = s.node(0).scrubbing.status()["last"]["found"]
    assert len(found) == 1 and "0123.idx; it is built anew" in found[0]
    broken.clear()
    s.run(3)
    assert s.indexes().builds == builds + 1
    assert ids(s) == WHOLE and scrubbed(s) == []


def test_what_is_written_meanwhile_is_not_taken_for_wrong(s: Indexed) -> None:
    scrubbing = s.node(0).scrubbing
    for number in range(60):
        scrubbing.begin(2**32)
        document = s.collection()
        made = operations.put(document, f"m{number % 30:02d}", b'{"n": %d}' % (1_000 + number))
        assert isinstance(made, operations.Operation)
        s.ask(made.request, number % 3)
        if number % 7 == 0:
            s.take_away(f"m{(number + 3) % 30:02d}", at=number % 3)
    assert s.until(lambda: not scrubbing.status()["running"])
    assert s.node(0).scrubbing.status()["last"]["found"] == []
    metrics = [event for _, _, event in s.cluster.log if event.name == "scrub_repaired"]
    assert metrics == []


def test_a_row_that_changes_while_it_is_compared_is_read_once_more(s: Indexed, monkeypatch: Patch) -> None:
    """It is written between the slice of rows and the index as it was then: the two do not agree."""
    inside = s.node(0).inside
    rows, compared = inside.stored_handlers["index_scrub_rows"], IndexScrubbing._on_held
    doubtful: list[int] = []

    def after_a_write(outcome: Any) -> None:
        made = operations.put(s.collection(), "m07", b'{"n": 7000}')
        assert isinstance(made, operations.Operation)
        s.cluster.request(0, made.request, 5_000_000, lambda _: None)
        inside.timer(1_000_000, "later", outcome)

    def on_held(self: IndexScrubbing, held: dict[bytes, bytes]) -> None:
        compared(self, held)
        doubtful.append(len(self._doubtful))

    inside.on_timer("later", rows)
    inside.stored_handlers["index_scrub_rows"] = after_a_write
    monkeypatch.setattr(IndexScrubbing, "_on_held", on_held)
    assert scrubbed(s) == []
    assert doubtful == [1]
