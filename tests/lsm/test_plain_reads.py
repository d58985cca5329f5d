"""The short way of reading one row and the general one answer alike; nothing leaves before it is durable."""

from __future__ import annotations

import msgspec
import pytest

from core.commands import Digest, Failed, Outcome, Read, Rows, Slice
from core.ports import Ticket
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Store
from tests.lsm.support import PLAIN, WIDE, Client, cell, point_slice, store_on

ROW = msgspec.structs.replace(point_slice("a", PLAIN), partition=b"")
ABSENT = msgspec.structs.replace(ROW, first=keys.row_key(PLAIN.id, 6, b"q\0\0"))
STRANGE = (
    msgspec.structs.replace(ROW, first=ROW.first + b"x"),
    msgspec.structs.replace(ROW, first=ROW.first[:-1]),
    msgspec.structs.replace(ROW, first=keys.row_key(WIDE.id, 5, b"p")),
    msgspec.structs.replace(ROW, table=99),
    msgspec.structs.replace(ROW, partition=keys.partition_prefix(PLAIN.id, 5, b"p")),
)


def answer(executor: Executor, command: Read) -> list[tuple[Ticket, Outcome]]:
    executor.submit(("read",), command)
    executor.run()
    return executor.take_released()


def synced(executor: Executor) -> list[tuple[Ticket, Outcome]]:
    token = executor.begin_sync()
    assert token is not None
    executor.end_sync(token)
    return executor.take_released()


def general(store: Store) -> Store:
    """The same store without the short way."""
    store.plain_reads.read = lambda *_: None  # type: ignore[method-assign]
    return store


def taken(store: Store) -> list[bool]:
    """Whether each read to come went the short way."""
    found, read = [], store.plain_reads.read

    def noted(*arguments: object) -> tuple[Outcome, int] | None:
        outcome = read(*arguments)  # type: ignore[arg-type]
        found.append(outcome is not None)
        return outcome

    store.plain_reads.read = noted  # type: ignore[method-assign, assignment]
    return found


@pytest.mark.parametrize("digest", [False, True])
def test_both_ways_answer_alike(digest: bool) -> None:
    answers = []
    for make in (general, lambda store: store):
        executor = Executor(make(store_on()), Commit())
        executor.submit(("write",), Client(PLAIN).put("a", cell(1, b"v")))
        executor.run()
        synced(executor)
        answers.append([answer(executor, Read(each, digest)) for each in (ROW, ABSENT, *STRANGE)])
    assert answers[0] == answers[1]
    (found,), (absent,) = answers[1][:2]
    kind = Digest if digest else Rows
    assert isinstance(found[1], kind) and isinstance(absent[1], kind) and found != absent
    assert isinstance(answers[1][5][0][1], Failed), "there is no such table"


def test_plain_rows_go_the_short_way_and_others_do_not() -> None:
    store = store_on()
    short, executor = taken(store), Executor(store, Commit())
    for part in (ROW, ABSENT, *STRANGE):
        answer(executor, Read(part, False))
    answer(executor, Read(point_slice("a", WIDE), False))
    answer(executor, Read(Slice(PLAIN.id, ROW.first, ROW.first + b"x", b"", False, 9, 999), False))
    assert short == [True, True, *[False] * len(STRANGE), False, False]


def test_a_row_is_not_shown_before_it_is_durable() -> None:
    executor = Executor(store_on(), Commit())
    executor.submit(("write",), Client(PLAIN).put("a", cell(1, b"v")))
    for part in (ROW, ABSENT):
        executor.submit((part.first,), Read(part, False))
    executor.run()
    assert [ticket for ticket, _ in executor.take_released()] == [(ABSENT.first,)]
    assert answer(executor, Read(ROW, False)) == []
    assert [ticket for ticket, _ in synced(executor)] == [("write",), (ROW.first,), ("read",)]


def test_a_cold_row_is_fetched_first_and_later_reads_of_it_wait() -> None:
    engine = MemoryEngine()
    executor = Executor(store_on(engine), Commit())
    executor.submit(("write",), Client(PLAIN).put("a", cell(1, b"v")))
    executor.run()
    synced(executor)
    engine.cold = lambda key: key == ROW.first
    executor.submit(("first",), Read(ROW, False))
    executor.run()
    engine.cold = None
    executor.submit(("second",), Read(ROW, False))
    executor.run()
    assert executor.take_released() == []
    for fetch in executor.take_fetches():
        executor.end_fetch(fetch)
    executor.run()
    assert [ticket for ticket, _ in executor.take_released()] == [("first",), ("second",)]
