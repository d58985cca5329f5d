"""What the log keeps in memory, or in one record, answers as what it reads from the engine does."""

from __future__ import annotations

import pytest

from core.commands import (
    Applied,
    LogFetch,
    LogIds,
    LogMissing,
    LogRead,
    Merged,
    MergeRows,
    Missing,
    Mutations,
)
from core.row import encode_row
from core.trimming import LogTrim
from lsm import keys, log as log_module
from lsm.log import INLINE_BYTES_MAX
from lsm.memory import MemoryEngine
from tests.lsm.support import PLAIN, WIDE, Client, cell, row, store_on, stored, suffix

EVERYWHERE = ((keys.TOKEN_MIN, keys.TOKEN_MAX),)
RANGES = (
    ((PLAIN.id, EVERYWHERE), (WIDE.id, EVERYWHERE)),
    ((PLAIN.id, ((0, 20), (30, 35))),),
)


def test_pages_of_ids_are_the_same_from_memory_and_from_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "RECENT_MAX", 16)
    engine = MemoryEngine()
    store, plain, wide = store_on(engine), Client(PLAIN), Client(WIDE, start=8)
    for token in range(40):
        data = {keys.ROW_SUFFIX: row(cell(5, b"v"))}
        assert isinstance(store.execute(plain.mutation(data, token=token)), Applied)
        store.execute(wide.put("b", cell(5 + token, b"v")))
        if token % 7 == 0:  # an entry that has no id
            repaired = keys.row_key(WIDE.id, 5, b"p", suffix("a")), encode_row(row(cell(token + 1, b"r")))
            assert store.execute(MergeRows(WIDE.id, (repaired,))) == Merged(1)
    again = store_on(engine)
    assert again.log.end == store.log.end == 86
    ids: dict[tuple[int, int, int], None] = {}
    for trimmed in (False, True):
        if trimmed:
            store.execute(LogTrim(0, store.log.size_bytes // 12))
            again = store_on(engine)
            assert 70 < store.log.first == again.log.first
        for ranges in RANGES:
            for after in range(store.log.end + 1):
                for entries_max in (1, 3, 1000):
                    page = store.execute(LogRead(after, entries_max, ranges))
                    assert isinstance(page, LogIds)
                    assert page == again.execute(LogRead(after, entries_max, ranges))
                    ids.update({(e.start, e.sequence, e.attempt): None for e in page.entries})
    assert len(ids) == 80
    store.rest()
    assert store.execute(LogRead(70, 1000, RANGES[0])) == again.execute(LogRead(70, 1000, RANGES[0]))
    unknown = (99, 1, 0)
    for one in (store, again):
        assert one.execute(LogMissing((*ids, unknown))) == Missing((unknown,))


def test_what_the_engine_refused_is_not_remembered() -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client(PLAIN)
    store.execute(client.put("a", cell(1, b"v")))
    engine.disk_full = True
    lost = client.put("a", cell(2, b"v"))
    store.begin_group()
    store.execute(lost)
    assert store.end_group() is not None
    store.execute(lost)
    engine.disk_full = False
    assert store.execute(LogMissing(((9, 1, 0), (9, 2, 0)))) == Missing(((9, 2, 0),))
    page = store.execute(LogRead(0, 9, RANGES[0]))
    assert isinstance(page, LogIds) and [e.sequence for e in page.entries] == [1]
    assert store.execute(lost) == Applied(None, True)
    page = store.execute(LogRead(1, 9, RANGES[0]))
    assert isinstance(page, LogIds) and [(e.offset, e.sequence) for e in page.entries] == [(2, 2)]


@pytest.mark.parametrize("size", [10, INLINE_BYTES_MAX - 200, INLINE_BYTES_MAX + 1])
def test_a_mutation_is_fetched_as_it_came_however_long_it_is(size: int) -> None:
    store, client = store_on(), Client(PLAIN)
    command = client.put("a", cell(1, b"v" * size))
    store.execute(command)
    assert bool(stored(store, keys.LOG_BODY)) is (len(command.mutation) > INLINE_BYTES_MAX)
    assert store.execute(LogFetch((1,), 1)) == Mutations(((1, command.mutation),))
    store.execute(LogTrim(10**9, 0))
    assert not stored(store, keys.LOG_BODY) and not stored(store, keys.LOG)
