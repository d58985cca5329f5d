"""When memtables are written to files: each engine in turns of its own, and soon after many deletions."""

from __future__ import annotations

import os
from pathlib import Path

from core.limits import KIB, MIB
from lsm.rocks import Memory, RocksEngine
from lsm.turns import (
    DELETIONS_REST_US,
    DELETIONS_WINDOW,
    FULL_FIRST,
    FULL_SHARE_MAX,
    FULL_SHARE_MIN,
    Turns,
)


class _Filling:
    """As much of a database as `Turns` asks for: a memtable that grows, and is written when it must."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._bytes = turns, 0
        self.sizes: list[int] = []

    def property_int_value(self, name: str) -> int:
        return self._bytes if name == "rocksdb.cur-size-active-mem-table" else 0

    def flush(self, wait: bool = True) -> None:
        assert not wait, "the thread that syncs does not wait for a file"
        self.sizes.append(self._bytes)
        self._bytes = 0

    def write(self, size: int) -> None:
        self._bytes += size
        if self._bytes >= MIB:
            self.flush(False)
        self._turns.take(self)


def test_memtables_are_written_at_sizes_that_differ_from_engine_to_engine() -> None:
    """Replicas get the same rows at the same time: if they wrote them to files in step, all would be slow at
    once.
    """
    engines = [_Filling(Turns(bytes([number] * 8), MIB)) for number in range(3)]
    for _ in range(4_000):
        for engine in engines:
            engine.write(4 * KIB)
    for engine in engines:
        first, later = engine.sizes[:FULL_FIRST], engine.sizes[FULL_FIRST:]
        assert first == [MIB] * FULL_FIRST, "the log files to be written over are long enough"
        assert len(later) > 10
        assert all(FULL_SHARE_MIN * MIB <= size <= FULL_SHARE_MAX * MIB + 4 * KIB for size in later)
        assert len(set(later)) > 5, "each at a size of its own"
    assert len({tuple(engine.sizes) for engine in engines}) == 3
    assert len({Turns(bytes([number] * 8), MIB).files for number in range(20)}) > 3


def test_many_deletions_do_not_stay_in_a_memtable_where_each_reader_steps_over_them(tmp_path: Path) -> None:
    now_us = [0]
    engine = RocksEngine.open(tmp_path, lambda: now_us[0])
    items = [b"%08d" % number for number in range(2 * DELETIONS_WINDOW)]
    engine.write([(item, b"") for item in items])
    engine.flush()
    engine.write([(item, None) for item in items[:DELETIONS_WINDOW]])
    now_us[0] += 2 * DELETIONS_REST_US
    engine.sync()
    engine.write([(item, None) for item in items[DELETIONS_WINDOW:]])
    now_us[0] += DELETIONS_REST_US
    engine.sync()
    log = max((tmp_path / "db").glob("*.log"))
    now_us[0] += 1
    assert max((tmp_path / "db").glob("*.log")) == log, "neither for few, nor while they go on"
    engine.sync()
    assert max((tmp_path / "db").glob("*.log")) > log, "another memtable, with a log of its own"
    engine.close()


def test_a_memtable_that_is_not_full_is_written_when_it_is_its_turn(tmp_path: Path) -> None:
    engine = RocksEngine.open(tmp_path, lambda: 0, Memory(MIB, MIB))
    logs, written = {"000004.log"}, 0
    sizes: list[int] = []
    while len(sizes) < FULL_FIRST + 4:
        engine.write([(b"%08d" % written, os.urandom(48 * KIB))])
        written += 1
        if written % 3 == 0:
            engine.sync()
        assert written < 32 * (FULL_FIRST + 5), "memtables are not written at all"
        now = {file.name for file in (tmp_path / "db").glob("*.log")}
        if max(now) > max(logs):
            sizes.append(written - sum(sizes))
        logs = now
    engine.close()
    assert min(sizes[FULL_FIRST:]) < min(sizes[1:FULL_FIRST]), sizes
