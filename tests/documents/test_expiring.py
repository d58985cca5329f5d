"""TTL indexes through three whole nodes: who is deleted, when, by whom, and who is not."""

from __future__ import annotations

import pytest

from core.cell import VALUE, Cell
from core.consistency import Level
from core.requests import Written
from core.row import Row
from documents.collections import find
from documents.operations import Done
from index.entries_json import date_terms, value_term
from index.instants import date_of, parse_instant
from jepsen_like.scenarios import Scenario
from node.expiring import PASS_US, deletion
from tests.documents.cluster import Docs
from tests.documents.test_unique import docs_with, index

PASS_S = PASS_US / 1_000_000


def at(docs: Docs, seconds: float) -> str:
    """The text of an instant so many seconds from now, by the clock of peer 0."""
    now_us = docs.scenario.cluster.machines[0].clock.read_us() + int(seconds * 1e6)
    days, rest = divmod(now_us // 1_000_000, 86_400)
    year, month, day = date_of(days)
    return f"{year:04}-{month:02}-{day:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}Z"


def put(docs: Docs, key: str, date: str, peer: int = 0) -> None:
    assert isinstance(docs.put(key, f'{{"at":"{date}","n":1}}'.encode(), at=peer), Done)


def gone(docs: Docs, key: str) -> bool:
    return docs.get(key, level=Level.SERIAL) is None


def test_a_document_goes_after_its_date_and_not_before() -> None:
    docs = docs_with({"paths": {"at": 1}, "expire_after_s": 60}, "ttl", "sessions")
    s = docs.scenario
    put(docs, "old", at(docs, -100))
    put(docs, "soon", at(docs, -50), 1)
    put(docs, "later", at(docs, 500), 2)
    for key, text in (("none", b"{}"), ("number", b'{"at":5}'), ("text", b'{"at":"yesterday"}')):
        docs.put(key, text)
    docs.put("two", f'{{"at":["{at(docs, 900)}","{at(docs, -100)}"]}}'.encode())
    s.run(PASS_S + 2)
    assert gone(docs, "old") and gone(docs, "two"), "of several dates the earliest counts"
    assert not gone(docs, "soon") and not gone(docs, "later")
    s.run(10 + PASS_S + 2)
    assert gone(docs, "soon"), "at most a pass late"
    assert not any(gone(docs, key) for key in ("later", "none", "number", "text"))
    assert s.equal_within(30)


def test_a_document_whose_date_was_moved_on_stays() -> None:
    docs = docs_with({"paths": {"at": 1}, "expire_after_s": 10}, "ttl", "sessions")
    put(docs, "kept", at(docs, 0))
    for _ in range(6):
        docs.scenario.run(4)
        assert isinstance(docs.update("kept", {"$set": {"at": at(docs, 0)}}, at=1), Done)
    assert docs.get("kept") is not None
    docs.scenario.run(10 + PASS_S + 2)
    assert gone(docs, "kept")


def test_what_is_written_beside_a_deletion_stays_whole() -> None:
    """The tombstone covers what was read, and nothing that was written since."""
    docs = docs_with({"paths": {"at": 1}, "expire_after_s": 10**6}, "ttl", "sessions")
    collection = find(docs.scenario.state(0), "sessions")
    assert collection is not None and collection.renews
    put(docs, "d", at(docs, 0))
    read = docs.get("d")
    assert read is not None
    newest = tuple(int(part, 16) for part in read.tag.strip('"').split("-"))
    assert isinstance(docs.update("d", {"$set": {"at": at(docs, 5)}}, at=1), Done)
    late = deletion(docs.collection.table, b"d", (newest[0], newest[1]))
    assert isinstance(docs.scenario.ask(late).answer, Written)
    kept = docs.get("d", level=Level.SERIAL)
    assert kept is not None and kept.value["n"] == 1 and kept.value["at"] == at(docs, 5)


def test_the_first_replica_that_lives_deletes_and_partial_indexes_choose() -> None:
    body = {"paths": {"at": 1}, "expire_after_s": 0, "filter": {"temporary": True}}
    docs = docs_with(body, "ttl", "sessions")
    s = docs.scenario
    s.kill(0)
    for number in range(12):
        text = f'{{"at":"{at(docs, -5)}","temporary":{"true" if number % 2 else "false"}}}'
        assert isinstance(docs.put(f"d{number}", text.encode(), at=1), Done)
    assert s.until(lambda: s.sees_dead(1, 0) and s.sees_dead(2, 0))
    s.run(2 * PASS_S + 2)
    left = [number for number in range(12) if docs.get(f"d{number}", at=1) is not None]
    assert left == [0, 2, 4, 6, 8, 10]


def test_beside_a_unique_index_the_deletion_is_decided_and_frees_the_value() -> None:
    docs = docs_with({"paths": {"at": 1}, "expire_after_s": 1}, "ttl", "sessions")
    index(docs, {"paths": {"email": 1}, "unique": True})
    assert isinstance(docs.put("a", f'{{"at":"{at(docs, 0)}","email":"e"}}'.encode()), Done)
    docs.scenario.run(PASS_S + 3)
    assert gone(docs, "a")
    assert isinstance(docs.put("b", b'{"email":"e"}', at=2), Done)


def test_what_expires_while_no_quorum_lives_waits_and_ends_nobody() -> None:
    """Reads are then refused at once, within the call that begins them."""
    docs = docs_with({"paths": {"at": 1}, "expire_after_s": 0}, "ttl", "sessions")
    s = docs.scenario
    for number in range(40):
        put(docs, f"d{number}", at(docs, 2))
    s.kill(1)
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 1) and s.sees_dead(0, 2))
    s.run(3 * PASS_S)
    s.start(1)
    s.start(2)
    s.run(3 * PASS_S + 10)
    assert all(gone(docs, f"d{number}") for number in range(40))


def test_many_are_deleted_and_a_restart_goes_on() -> None:
    s = Scenario()
    s.start()
    docs = Docs(s, "logs")
    for number in range(260):
        put(docs, f"l{number}", at(docs, -1_000), number % 3)
    index(docs, {"paths": {"at": -1}, "expire_after_s": 60}, "ttl")
    s.run(1)
    s.kill(1)
    s.start(1)
    s.run(3 * PASS_S)
    assert [number for number in range(260) if docs.get(f"l{number}") is not None] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"2024-01-01T00:00:00Z"', "2024-01-01T00:00:00Z"),
        ('"2024-01-01T09:00:00+09:00"', "2024-01-01T00:00:00Z"),
        ('"2024-01-01"', "2024-01-01T00:00:00Z"),
        ('["2025-01-01", "2024-01-01", 7, "no date"]', "2024-01-01"),
        ('"1969-12-31T23:59:59Z"', "1969-12-31T23:59:59Z"),
        ("7", None),
        ('"soon"', None),
        ("null", None),
        ("[]", None),
    ],
)
def test_dates_are_instants_in_whatever_form(value: str, expected: str | None) -> None:
    cell = Cell(2, (), VALUE, 5, 1, 0, b'{"at":' + value.encode() + b"}")
    instant = None if expected is None else parse_instant(expected)
    assert date_terms(("at",), Row(None, (cell,)).cells) == ([] if instant is None else [value_term(instant)])
