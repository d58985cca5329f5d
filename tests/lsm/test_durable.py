"""Which log file holds all that was written since the last sync: what is synced in place of all."""

from __future__ import annotations

import ctypes
import errno
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.errors import DurabilityError
from core.limits import KIB
from lsm.durable import DURABLE_SYNC_US, DurableFile, sync_logs
from lsm.rocks import Memory, RocksEngine


def opened(path: Path) -> RocksEngine:
    return RocksEngine.open(path, lambda: 0, Memory(memtable_bytes=256 * KIB))


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@pytest.mark.parametrize("seed", range(8))
def test_what_was_written_since_the_last_sync_of_all_is_in_the_file_that_is_told(
    tmp_path: Path, seed: int
) -> None:
    """Memtables of 256 KiB: logs change all the time, by themselves and when tools ask for it."""
    drawn = random.Random(seed)
    engine = opened(tmp_path)
    told = left_to_all = 0
    unsynced: list[bytes] = []
    for number in range(600):
        value = b"%06d" % number + drawn.randbytes(drawn.randrange(50, 4_000))
        engine.write([(b"k%06d" % number, value)])
        unsynced.append(value)
        what = drawn.random()
        if what < 0.02:
            engine.flush()
        elif what < 0.04:
            engine.tend()
        if drawn.random() < 0.5:
            continue
        descriptor = engine.newest_log()
        if descriptor is None:
            left_to_all += 1
            engine.sync()
        else:
            told += 1
            written = content(descriptor)
            # a record may be cut in two where a block of the log ends
            assert all(value[:24] in written or value[-24:] in written for value in unsynced), number
            engine.log_synced(engine.written(), None)
        unsynced.clear()
    assert told > 50
    assert left_to_all > 5
    engine.close()


def test_before_a_first_sync_and_after_a_change_of_memtable_all_logs_are_to_be_synced(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    assert engine.newest_log() is None
    engine.write([(b"k", b"v")])
    assert engine.newest_log() is None
    engine.sync()
    assert engine.newest_log() is not None
    engine.write([(b"k", b"w")])
    assert engine.newest_log() is not None
    engine.flush()
    assert engine.newest_log() is None
    engine.write([(b"k", b"x")])
    assert engine.newest_log() is None
    engine.sync()
    descriptor = engine.newest_log()
    assert descriptor is not None
    engine.write([(b"k", b"written to another file")])
    assert b"written to another file" in content(descriptor)
    engine.close()


class Switching:
    """A database that is watched in the moment in which it has made another log and does not write to it."""

    def __init__(self, engine: RocksEngine) -> None:
        self._engine, self._database = engine, engine._db
        self.told: list[int | None] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def flush(self, wait: bool) -> None:
        newest = self._engine._path / "999999.log"
        newest.touch()
        self._engine.sync()
        self._engine.write([(b"k", b"written to the old log")])
        self.told.append(self._engine.newest_log())
        newest.unlink()
        self._database.flush(wait)


def test_while_a_checkpoint_has_another_log_begun_no_single_file_is_told(tmp_path: Path) -> None:
    """The new file is there before RocksDB's number rises; what is written meanwhile is not in it."""
    engine = opened(tmp_path)
    engine.write([(b"k", b"v")])
    engine.sync()
    switching = engine._db = Switching(engine)  # type: ignore[assignment]
    with suppress(DurabilityError):  # RocksDB itself wants to be asked for the checkpoint
        engine.checkpoint(tmp_path / "copy")
    engine._db = switching._database
    assert switching.told == [None]
    assert engine.newest_log() is None
    engine.sync()
    assert engine.newest_log() is not None
    engine.close()


def test_after_a_failure_nothing_is_written_or_called_durable(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.write([(b"k", b"v")])
    engine.sync()
    durable = engine._durable.sequence
    engine.write([(b"k", b"w")])
    with pytest.raises(DurabilityError, match="Input/output"):
        engine.log_synced(engine.written(), SystemError("Input/output error"))
    assert engine.newest_log() is None
    with pytest.raises(DurabilityError):
        engine.write([(b"k", b"x")])
    with pytest.raises(DurabilityError):
        engine.sync()
    engine.tend()
    assert engine._durable.sequence == durable
    with pytest.raises(DurabilityError):
        engine.close()


def test_where_no_file_can_be_opened_all_logs_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", _none_left)
        engine.write([(b"k", b"v")])
        engine.sync()
        assert engine.newest_log() is None
        engine.sync()
    engine.sync()
    assert engine.newest_log() is not None
    engine.close()


def _none_left(*_: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def test_on_a_full_disk_no_single_file_is_told(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.sync()
    engine._full = True  # as a refused write leaves it
    assert engine.newest_log() is None
    engine._full = False
    assert engine.newest_log() is not None
    engine.close()


def test_what_is_durable_is_known_at_the_next_start_and_its_record_is_synced_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = [0]
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    record = DurableFile(tmp_path / "durable", lambda: now_us[0])
    record.note(5)
    record.sync_if_due()
    assert not synced
    now_us[0] = DURABLE_SYNC_US
    record.sync_if_due()
    record.sync_if_due()
    assert len(synced) == 1
    now_us[0] *= 2
    record.sync_if_due()
    assert len(synced) == 1, "nothing has changed"
    record.record(9)
    assert len(synced) == 2
    record.close()
    assert DurableFile(tmp_path / "durable", lambda: 0).sequence == 9


def test_logs_are_synced_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    for name in ("000007.log", "000009.log", "other.sst"):
        (tmp_path / name).touch()
    sync_logs(tmp_path)
    wanted = (tmp_path / "000007.log", tmp_path / "000009.log", tmp_path)
    assert synced == [file.stat().st_ino for file in wanted]


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of <malloc.h>."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def test_looking_for_what_is_not_there_loses_no_memory(tmp_path: Path) -> None:
    """RocksDB's binding loses 32 bytes whenever it fetches what is absent: a gigabyte in 33 million."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("the C library does not say what is in use")
    library.mallinfo2.restype = _Mallinfo
    engine = RocksEngine.open(tmp_path, lambda: 0)
    engine.write([(b"k%06d" % number, b"v") for number in range(1_000)])
    engine.write([(b"k%06d" % number, None) for number in range(500)])

    def look() -> None:
        for number in range(50_000):
            assert engine.near(b"x%06d" % number) == (True, None)
            assert engine.near(b"k%06d" % (number % 500)) == (True, None)
            assert engine.warm([b"k%06d" % (number % 500)])

    look()
    before = library.mallinfo2().uordblks
    look()
    assert library.mallinfo2().uordblks - before < 500_000  # with the loss 4,800,000
    engine.close()
