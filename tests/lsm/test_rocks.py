"""RocksDB's faults by their names, provoked where a test can; and what was durable is there again."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from core.errors import (
    AmnesiaError,
    CorruptionError,
    DiskFullError,
    DurabilityError,
    FormatError,
    StallError,
    StoreError,
)  # fmt: skip
from lsm.directory import FORMAT_STAMP, open_store
from lsm.rocks import Memory, RocksEngine, fault_of

PEER, OTHER = b"p" * 16, b"q" * 16
EVERY = (b"", b"\xff")


def opened(path: Path) -> RocksEngine:
    return RocksEngine.open(path, lambda: 0)


def flip(file: Path, at: float) -> None:
    """Flip one bit at this fraction of the file."""
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 4
    file.write_bytes(data)


def filled(path: Path, rows: int = 1_000, flush: bool = False) -> None:
    """A closed store of rows of 1 KiB that do not compress."""
    path.mkdir(exist_ok=True)
    engine = opened(path)
    for i in range(rows):
        engine.write([(b"k%05d" % i, os.urandom(1_024))])
    if flush:
        engine.flush()
    engine.close()


def killed(path: Path, rows: int = 100) -> None:
    """What is left of a synced store of such rows when its process is killed (closing empties the log)."""
    source = path.with_name(path.name + "-source")
    source.mkdir()
    engine = opened(source)
    for i in range(rows):
        engine.write([(b"k%05d" % i, os.urandom(1_024))])
    engine.sync()
    shutil.copytree(source, path, dirs_exist_ok=True)
    engine.close()


def table_files(path: Path) -> list[Path]:
    return sorted((path / "db").glob("*.sst"))


def log_file(path: Path) -> Path:
    return max((path / "db").glob("*.log"), key=lambda file: file.stat().st_size)


# --- faults by their text


@pytest.mark.parametrize(
    ("text", "doing", "kind"),
    [
        (
            "Corruption: block checksum mismatch: stored = 1, computed = 2 in x/000009.sst",
            "read",
            CorruptionError,
        ),
        ("Corruption: block checksum mismatch", "write", CorruptionError),
        ("IO error: While pread offset 0 len 9: x/000009.sst: Input/output error", "read", CorruptionError),
        ("IO error: No such file or directory: While open a file: x/000009.sst", "open", CorruptionError),
        ("IO error: While lock file: x/LOCK: Resource temporarily unavailable", "open", FormatError),
        ("IO error: No space left on device: While appending to file: x/000004.log", "write", DiskFullError),
        ("IO error: No space left on device: While appending to file: x/000004.log", "open", DiskFullError),
        ("IO error: No space left on device: While fsync: x/000004.log", "sync", DurabilityError),
        ("IO error: While fdatasync: x/000004.log: Input/output error", "write", DurabilityError),
        ("Result incomplete: Write stall", "write", StallError),
        ("something never seen", "write", DurabilityError),
        ("something never seen", "read", CorruptionError),
    ],
)
def test_a_fault_is_told_by_its_text_and_keeps_it(text: str, doing: str, kind: type[StoreError]) -> None:
    fault = fault_of(Exception(text), doing)
    assert type(fault) is kind and text in str(fault)


# --- damaged files


def test_a_flipped_bit_in_a_table_is_an_error_and_never_a_short_scan(tmp_path: Path) -> None:
    """Counterexample 44."""
    filled(tmp_path, flush=True)
    (file,) = table_files(tmp_path)
    flip(file, 0.5)
    engine = opened(tmp_path)
    try:
        for reverse in (False, True):
            with pytest.raises(CorruptionError, match=file.name):
                list(engine.scan(*EVERY, reverse))
        bad = 0
        for i in range(1_000):
            key = b"k%05d" % i
            try:
                value = engine.get(key)
            except CorruptionError:
                bad += 1
                assert not engine.warm([key])
                with pytest.raises(CorruptionError, match=file.name):
                    engine.fetch([key])
            else:
                assert value is not None
        assert 0 < bad < 50
    finally:
        engine.close()


def test_a_large_value_lies_apart_and_its_damage_is_told(tmp_path: Path) -> None:
    """Else every scan that begins before it would read it."""
    engine = opened(tmp_path)
    large = os.urandom(2_000_000)
    engine.write([(b"a", b"small"), (b"large", large), (b"z", b"small")])
    engine.flush()
    assert engine.get(b"large") == large
    engine.close()
    (table,), (apart,) = table_files(tmp_path), sorted((tmp_path / "db").glob("*.blob"))
    assert table.stat().st_size < 10_000 and apart.stat().st_size > 2_000_000
    flip(apart, 0.5)
    engine = opened(tmp_path)
    try:
        assert engine.get(b"a") == b"small"
        with pytest.raises(CorruptionError):
            engine.get(b"large")
        with pytest.raises(CorruptionError):
            list(engine.scan(*EVERY))
    finally:
        engine.close()


def test_compaction_that_meets_damage_shows_in_health(tmp_path: Path) -> None:
    filled(tmp_path, flush=True)
    flip(table_files(tmp_path)[0], 0.5)
    engine = opened(tmp_path)
    engine.write([(b"k00000", b"new"), (b"k00999", b"new")])
    engine.flush()
    with suppress(CorruptionError):
        engine.compact()
    assert engine.health()["background_errors"] > 0
    with pytest.raises(StoreError):
        engine.write([(b"a", b"b")])
    with pytest.raises(DurabilityError):
        engine.close()


def test_a_flipped_bit_in_the_middle_of_the_log_refuses_to_open(tmp_path: Path) -> None:
    killed(tmp_path)
    flip(log_file(tmp_path), 0.5)
    with pytest.raises(CorruptionError, match=r"\.log: dropping \d+ bytes; Corruption.*100 was durable"):
        opened(tmp_path)


def recycled(path: Path) -> dict[bytes, bytes]:
    """A killed store whose log is written over an older one; what it held. Its last record is not durable."""
    source = path / "source"
    source.mkdir()
    engine = opened(source)
    held: dict[bytes, bytes] = {}
    for turn in range(4):
        for i in range(60 if turn < 3 else 20):
            key, value = b"k%d-%05d" % (turn, i), os.urandom(1_000 + i)
            engine.write([(key, value)])
            held[key] = value
        if turn < 3:
            engine.flush()
    engine.sync()
    engine.write([(b"last", b"of all")])
    shutil.copytree(source, path / "copy")
    engine.close()
    assert "reusing log" in (path / "copy" / "db" / "LOG").read_text()
    return held | {b"last": b"of all"}


def test_a_log_that_is_written_over_ends_where_the_new_one_does(tmp_path: Path) -> None:
    held = recycled(tmp_path)
    engine = opened(tmp_path / "copy")
    assert dict(engine.scan(*EVERY)) == held
    engine.close()


def test_a_checkpoint_has_nothing_of_what_its_log_was_written_over(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    path.mkdir()
    engine = opened(path)
    for i in range(200):
        engine.write([(b"k%05d" % i, os.urandom(1_000))])
    for name in ("first", "second", "third"):
        engine.write([(name.encode(), b"")])
        engine.checkpoint(tmp_path / name)
    engine.write([(b"later", b"than all")])
    held = dict(engine.scan(*EVERY))
    engine.close()
    assert dict(opened(path).scan(*EVERY)) == held
    assert "reusing log" in "".join(file.read_text() for file in (path / "db").glob("LOG*"))
    (tmp_path / "third").rename(tmp_path / "db")
    assert [file.stat().st_size for file in (tmp_path / "db").glob("*.log")] == [0]
    (tmp_path / "durable").write_bytes(bytes(8) + b"\xff" * 8)
    engine = opened(tmp_path)
    del held[b"later"]
    assert dict(engine.scan(*EVERY)) == held
    engine.close()


@pytest.mark.parametrize(("where", "fault"), [(b"k3-00010", CorruptionError), (b"last", None)])
def test_damage_of_a_log_that_is_written_over_is_told_if_it_was_durable(
    tmp_path: Path, where: bytes, fault: type[StoreError] | None
) -> None:
    held = recycled(tmp_path)
    (file,) = [file for file in (tmp_path / "copy" / "db").glob("*.log") if where in file.read_bytes()]
    flip(file, file.read_bytes().index(where) / file.stat().st_size)
    if fault is not None:
        for _ in range(3):  # whoever starts it again is told the same
            with pytest.raises(fault, match=file.name):
                opened(tmp_path / "copy")
        return
    engine = opened(tmp_path / "copy")
    del held[where]
    assert dict(engine.scan(*EVERY)) == held
    engine.close()


def test_a_torn_tail_that_was_not_durable_is_accepted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    engine = opened(source)
    for i in range(100):
        engine.write([(b"k%05d" % i, os.urandom(1_024))])
    engine.sync()
    engine.write([(b"tail", os.urandom(1_024))])
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    engine.close()
    file = log_file(copy)
    os.truncate(file, file.stat().st_size - 100)
    again = opened(copy)
    assert len(list(again.scan(*EVERY))) == 100 and again.get(b"tail") is None
    again.close()


def test_a_log_cut_short_of_what_was_durable_is_amnesia(tmp_path: Path) -> None:
    killed(tmp_path)
    file = log_file(tmp_path)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(AmnesiaError, match=r"ends at sequence number \d+, but 100 was durable"):
        opened(tmp_path)
    with pytest.raises(AmnesiaError):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["CURRENT", "*.sst", "MANIFEST-*", "durable"])
def test_a_missing_file_refuses_to_open(tmp_path: Path, name: str) -> None:
    filled(tmp_path, flush=True)
    (file,) = tmp_path.rglob(name)
    file.unlink()
    with pytest.raises(CorruptionError, match=file.name):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["MANIFEST-*", "durable"])
def test_a_flipped_file_refuses_to_open(tmp_path: Path, name: str) -> None:
    filled(tmp_path, flush=True)
    (file,) = tmp_path.rglob(name)
    flip(file, 0.4)
    with pytest.raises(CorruptionError):
        opened(tmp_path)


# --- durability


def test_all_that_was_synced_survives_the_loss_of_the_process(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    engine = opened(source)
    sequence = 0
    for i in range(50):
        sequence = engine.write([(b"k%05d" % i, b"v"), (b"other", None)])
    engine.sync()
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    engine.close()
    again = opened(copy)
    assert again.written() == sequence and len(list(again.scan(*EVERY))) == 50
    again.close()


def test_a_sync_from_another_thread_while_writing(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    go_on = True

    def sync() -> None:
        while go_on:
            engine.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    for i in range(3_000):
        engine.write([(b"k%05d" % i, b"v")])
    go_on = False
    thread.join()
    engine.close()
    again = opened(tmp_path)
    assert len(list(again.scan(*EVERY))) == 3_000
    again.close()


@pytest.mark.parametrize(("key", "value"), [(b"k000500", b"v" * 100), (b"k000501", None)])
def test_while_an_index_is_cold_nothing_is_taken_for_an_empty_value(
    tmp_path: Path, key: bytes, value: bytes | None
) -> None:
    """There `key_may_exist` gives b"" for keys that are there and for keys that are not."""
    engine = opened(tmp_path)
    engine.write([(b"k%06d" % number, b"v" * 100) for number in range(0, 20_000, 2)])
    engine.flush()
    engine.compact()
    engine.close()
    engine = opened(tmp_path)
    assert engine._db.key_may_exist(key, fetch=True) == (True, b""), "what this test is about"
    assert not engine.warm([key])
    assert engine.get(key) == value
    engine.fetch([key])
    assert engine.warm([key])
    assert engine.get(key) == value
    engine.close()


def test_cold_keys_are_told_fetched_and_then_warm(tmp_path: Path) -> None:
    filled(tmp_path, flush=True)
    engine = opened(tmp_path)
    present, absent = b"k00500", b"k00500x"
    assert not engine.warm([present])
    assert engine.warm([absent]), "a filter knows, after a start as before"
    engine.fetch([present, absent])
    assert engine.warm([present, absent])
    assert engine.get(absent) is None and engine.get(present) == engine.get(present) is not None
    assert not engine.warm([present, b"k00010"])
    engine.write([(b"k00010", b"new")])
    assert engine.warm([b"k00010"]) and engine.get(b"k00010") == b"new"
    assert engine.warm([b"k00010"])
    engine.write([(b"k00010", None)])
    assert engine.get(b"k00010") is None and engine.warm([b"k00010"])
    engine.close()


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    with pytest.raises(FormatError, match="in use"):
        opened(tmp_path)
    engine.close()


def test_a_full_disk_refuses_writes_reads_on_and_recovers(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.decode().strip()}")
    try:
        _fill_and_free(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def _fill_and_free(path: Path) -> None:
    engine = opened(path)
    ballast = path / "ballast"
    ballast.write_bytes(bytes(18 * 2**20))
    accepted = 0
    with pytest.raises(DiskFullError, match="No space left"):
        while True:
            engine.write([(b"k%05d" % accepted, os.urandom(64 * 1024))])
            accepted += 1
    assert accepted > 0 and engine.get(b"k%05d" % accepted) is None
    assert len(list(engine.scan(*EVERY))) == accepted == engine.written()
    engine.sync()  # what was accepted becomes durable, and that does not keep RocksDB from going on
    ballast.unlink()
    _wait_until_writable(engine)
    engine.sync()
    engine.close()
    again = opened(path)
    assert len(list(again.scan(*EVERY))) == accepted + 1
    again.close()


def _wait_until_writable(engine: RocksEngine) -> None:
    """RocksDB looks for space again by itself, after some seconds."""
    waited = threading.Event()
    for _ in range(300):
        try:
            engine.write([(b"after", b"v")])
            return
        except DiskFullError:
            waited.wait(0.1)
    raise AssertionError("the disk has space, but writes are refused for 30 s")


# --- whose directory it is


def reopened(path: Path) -> tuple[bytes, int, bool]:
    store = open_store(path, OTHER, lambda: 0)
    store.engine.close()
    return store.peer, store.start, store.is_new


def made(path: Path) -> Path:
    store = open_store(path, PEER, lambda: 0)
    assert (store.peer, store.start, store.is_new) == (PEER, 1, True)
    store.engine.close()
    return path


def test_a_directory_keeps_its_peer_and_counts_its_starts(tmp_path: Path) -> None:
    path = made(tmp_path / "data" / "a")
    assert reopened(path) == (PEER, 2, False)
    assert reopened(path) == (PEER, 3, False)
    (path / "identity").unlink()
    assert reopened(path) == (PEER, 4, False)


def test_a_start_number_is_not_used_again_if_one_copy_was_rolled_back(tmp_path: Path) -> None:
    path = made(tmp_path / "data")
    old = (path / "identity").read_bytes()
    assert reopened(path)[1] == 2
    (path / "identity").write_bytes(old)
    assert reopened(path)[1] == 3


def test_an_unknown_format_is_refused_and_named(tmp_path: Path) -> None:
    path = made(tmp_path / "data")
    (path / "format").write_bytes(b"sullae data 9\n")
    with pytest.raises(FormatError, match="sullae data 9"):
        reopened(path)
    (path / "format").write_bytes(FORMAT_STAMP)
    assert reopened(path)[1] == 2


def test_strange_directories_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "photo.jpg").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"photo\.jpg"):
        reopened(foreign)
    nobody = tmp_path / "nobody"
    filled(nobody, rows=3)
    with pytest.raises(FormatError):
        reopened(nobody)
    (nobody / "format").write_bytes(FORMAT_STAMP)
    with pytest.raises(FormatError, match="nothing says whose"):
        reopened(nobody)


def test_a_database_that_was_wiped_or_exchanged_is_refused(tmp_path: Path) -> None:
    wiped, swapped = made(tmp_path / "wiped"), made(tmp_path / "swapped")
    shutil.rmtree(wiped / "db")
    with pytest.raises(AmnesiaError):
        reopened(wiped)
    store = open_store(tmp_path / "other", OTHER, lambda: 0)
    store.engine.close()
    shutil.rmtree(swapped / "db")
    shutil.copytree(tmp_path / "other" / "db", swapped / "db")
    with pytest.raises(FormatError, match=PEER.hex()):
        reopened(swapped)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"peer":"cHBw","start":1}', b'{"peer":"cHBwcHBwcHBwcHBwcHBwcA==","start":0}']
)
def test_a_damaged_identity_is_refused(tmp_path: Path, data: bytes) -> None:
    path = made(tmp_path / "data")
    (path / "identity").write_bytes(data)
    with pytest.raises(CorruptionError, match="identity"):
        reopened(path)


def test_a_start_that_was_cut_off_at_birth_begins_again(tmp_path: Path) -> None:
    (tmp_path / "format").write_bytes(FORMAT_STAMP)
    opened(tmp_path).close()
    made(tmp_path)


@pytest.mark.parametrize("starts", [1, 2])
def test_memory_is_what_the_configuration_says_at_every_start(tmp_path: Path, starts: int) -> None:
    memory, options = Memory(block_cache_bytes=9 * 2**20, memtable_bytes=3 * 2**20), ""
    for _ in range(starts):
        engine = RocksEngine.open(tmp_path, lambda: 0, memory)
        try:
            engine.write([(b"Sk", bytes(4 * 2**20))])
            engine.write([(b"Sl", b"")])
            options = max((tmp_path / "db").glob("OPTIONS-*")).read_text()
        finally:
            engine.close()
    assert f"write_buffer_size={3 * 2**20}" in options
    log = (tmp_path / "db" / "LOG").read_text()
    for told in (f"capacity : {9 * 2**20}", "filter_policy: bloomfilter", "partition_filters: 1"):
        assert told in log, "what a file of options does not hold is given anew at each start"


def test_a_power_cut_in_the_very_first_moment_does_not_spoil_a_directory(tmp_path: Path) -> None:
    (tmp_path / "format.new").write_bytes(b"sul")
    opened = open_store(tmp_path, b"x" * 16, lambda: 0)
    opened.engine.close()
    assert opened.is_new
