"""An engine on RocksDB: the only file that knows it.

What was measured of rocksdict 0.3.29 (its version is pinned, since faults are told apart by their text):

- A write with `sync=True` holds the interpreter's lock for the whole fsync; `flush_wal(True)` does not. So
  writes are never synced one by one: `write` is unsynced, `sync` makes all of them durable, from a thread of
  its own.
- Single `get`s and iterators hold the lock while they wait for the disk; `get([..])` does not.
  `key_may_exist(key, fetch=True)` looks into memtables and block cache only and answers (True, value),
  (False, None) if the key is surely absent, or (True, None) if only the disk can tell. After `flush` and
  reopening all 20,000 keys of a test were cold, a list-get made those asked for warm and their neighbours in
  the block with them, absent ones turned (False, None) once their filter was loaded, and the values equalled
  those of `get`. While the index of a table file is not in the cache it answers (True, b""), for absent keys
  too: an empty value from it says nothing. Each (False, None) loses 32 bytes for good, so it is asked without
  `fetch` first. `warm` keeps what it found for the `get`s that follow: a point read costs one look-up.
- A sync by RocksDB goes through a thread, which takes the interpreter's lock twice and with that up to ten
  calls to the kernel. Between two changes of memtable all that is written goes to one log file, and
  `rocksdb.current-super-version-number` rises with each change before anything goes to another. So after a
  `sync` that began with the number as it still is, syncing that file is enough (`newest_log`), by whatever
  means; 0.7 to 0.9 of the processor time of a write where few are under way.
- Iterator bounds set in `ReadOptions` do not hold (a scan ran through the whole database): `scan` compares.
- On a full disk RocksDB refuses writes and goes on by itself some 5 s after there is space, but not if it is
  asked to flush its log in between: then every write fails until the process ends ("Writer has previous
  error"). What it accepted before is in the log file all the same, so `sync` syncs the files themselves
  after a write was refused for want of space, until one is accepted again.
- `items()` ends silently at a damaged block; an iterator says so in `status()`, which `scan` always asks.
- Log files are written over, not made anew (`recycle`): a sync then waits for no commit of the file system's
  journal. Three appenders beside each other: p99 of a sync 30 ms, worst 100; writing over: 12 and 20.
- What follows a damaged record of the write-ahead log is dropped when the database is opened, since in a log
  that is written over nothing else can be told from a torn tail, which is what a power cut leaves. So the
  last durable sequence number is kept a second time, in a file beside the database: if the log ends before
  it, acknowledged writes are missing, and opening raises AmnesiaError, or CorruptionError if RocksDB's own
  log says that a record of it did not match its checksum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from core.errors import (
    AmnesiaError,
    CorruptionError,
    DiskFullError,
    DurabilityError,
    FormatError,
    StallError,
    StoreError,
)
from core.limits import KIB, MIB
from lsm.durable import DurableFile, NewestLog, sync_directory, sync_logs
from lsm.turns import DELETIONS_WINDOW, LOGS_RECYCLED, Turns

MEMTABLE_BYTES = 16 * MIB
BLOCK_CACHE_BYTES = 64 * MIB
WAL_BYTES_MAX = 64 * MIB
OPEN_FILES_MAX = 512
"""Bounds of memory and files: a whole idle peer is to stay under 120 MiB."""
APART_BYTES = 64 * KIB
"""Values so large are kept apart from the table files."""

DATABASE, DURABLE = "db", "durable"
"""The database's directory in a peer's, and the file that holds the last durable sequence number."""

_VERSION = "rocksdb.current-super-version-number"

_READ, _WRITE, _SYNC, _OPEN = "read", "write", "sync", "open"

_PROPERTIES = {
    "background_errors": "rocksdb.background-errors",
    "write_stopped": "rocksdb.is-write-stopped",
    "pending_compaction_bytes": "rocksdb.estimate-pending-compaction-bytes",
    "running_compactions": "rocksdb.num-running-compactions",
    "memtable_bytes": "rocksdb.cur-size-all-mem-tables",
    "block_cache_bytes": "rocksdb.block-cache-usage",
    "table_reader_bytes": "rocksdb.estimate-table-readers-mem",
    "sst_bytes": "rocksdb.total-sst-files-size",
    "live_bytes": "rocksdb.estimate-live-data-size",
    "keys": "rocksdb.estimate-num-keys",
}


def fault_of(error: Exception, doing: str) -> StoreError:
    """Our fault for an exception of RocksDB, which has nothing but its text.

    `doing` is "read", "write", "sync" or "open". What cannot be read is damaged; a sync that failed, for
    whatever reason, leaves unknown what is durable; so does a write that failed for a reason not known to be
    harmless.
    """
    text = str(error)
    if doing == _SYNC:
        return DurabilityError(text)
    if text.startswith("Corruption"):
        return CorruptionError(text)
    if "No space left on device" in text:
        return DiskFullError(text)
    if doing == _READ:
        return CorruptionError(text)
    if doing == _OPEN:
        if "lock" in text.lower():
            return FormatError(f"in use by another process: {text}")
        return CorruptionError(text)
    if text.startswith(("Result incomplete", "Operation timed out", "Resource busy")):
        return StallError(text)
    return DurabilityError(text)


class Memory(msgspec.Struct, frozen=True):
    """How much memory the engine may use outside Python: for blocks read, and for each table of rows not yet
    in a file (there are two of them at most times).
    """

    block_cache_bytes: int = BLOCK_CACHE_BYTES
    memtable_bytes: int = MEMTABLE_BYTES


def _options(memory: Memory, compact: bool, files_first: int) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(memory.block_cache_bytes))
    # A write looks for its row first, in ten young files: with 10 bits a key every thirtieth write of a new
    # row is led to read a block in vain, which takes a thread; with 15 one in 240.
    table.set_bloom_filter(15, False)
    table.set_block_size(8 * KIB)
    table.set_cache_index_and_filter_blocks(True)
    # Filters and indexes come in parts. Of a file of small records they take megabytes, which no shard of the
    # block cache keeps: in one piece they were read anew by every look into that file.
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(8 * KIB)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_recycle_log_file_num(LOGS_RECYCLED)
    options.set_write_buffer_size(memory.memtable_bytes)
    options.set_db_write_buffer_size(2 * memory.memtable_bytes)
    options.set_max_write_buffer_number(3)
    options.set_max_total_wal_size(WAL_BYTES_MAX)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_max_background_jobs(2)
    options.set_level_compaction_dynamic_level_bytes(True)
    # Every flush overlaps all rows, so each compaction of the youngest level rewrites the next one as well.
    # With 10 files instead of 4 per compaction a sustained load costs 238 us per write in place of 383 and
    # its p99 is 0.17 s instead of 0.61; filters keep reads from looking into files in vain.
    options.set_level_zero_file_num_compaction_trigger(files_first)
    options.set_level_zero_slowdown_writes_trigger(30)
    options.set_level_zero_stop_writes_trigger(50)
    # What a queue leaves behind would be stepped over by each read of its head until it is compacted away.
    options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_WINDOW // 2, 0.5)
    # A scan looks, in every file, at the record that follows where it begins. A value of 16 MiB there, which
    # no shard of the block cache takes, would be read each time: milliseconds for what takes microseconds.
    options.set_enable_blob_files(True)
    options.set_min_blob_size(APART_BYTES)
    options.set_enable_blob_gc(True)
    options.set_bytes_per_sync(1 * MIB)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(4 * MIB)
    options.set_stats_dump_period_sec(0)
    options.set_disable_auto_compactions(not compact)
    return options


class RocksEngine:
    """`core.ports.Engine` on RocksDB.

    All but `sync`, `tend` and `fetch` belong to one thread, and `sync` and `tend` to another.
    """

    def __init__(self, database: Rdict, durable: DurableFile, turns: Turns) -> None:
        """Use `open`."""
        self._db = database
        self._durable = durable
        self._near: dict[bytes, bytes | None] = {}
        self._group: dict[bytes, bytes | None] | None = None
        self._group_sequence = 0
        self._write_options = WriteOptions()
        self._write_options.sync = False
        self._write_options.no_slowdown = True
        self._failed = ""
        self._full = False
        self._switching = False
        """Another thread has RocksDB begin another log; while it does, which is the newest is not known."""
        self._path = Path(database.path())
        self._turns = turns
        self._newest = NewestLog(self._path, self._version)

    @classmethod
    def open(
        cls,
        path: Path,
        monotonic_us: Callable[[], int],
        memory: Memory | None = None,
        *,
        compact: bool = True,
    ) -> RocksEngine:
        """Open or create the engine in this directory, which exists; one that is damaged without `compact`:
        else the compaction that meets the damage may stop it.

        Raises CorruptionError (a file is damaged or missing: its text names it), AmnesiaError (the log is
        shorter than what was durable), FormatError (in use), DiskFullError.
        """
        is_new = not (path / DATABASE / "CURRENT").exists()
        files = sorted((path / DATABASE).glob("*")) if is_new else []
        if any(file.suffix in (".sst", ".log", ".blob") for file in files):
            raise CorruptionError(f"{path / DATABASE / 'CURRENT'} is missing beside data")
        durable = DurableFile(path / DURABLE, monotonic_us)
        if not is_new and not durable.existed:
            durable.close()
            raise CorruptionError(f"{path / DURABLE} is missing beside a database")
        memory = memory or Memory()
        turns = Turns(os.urandom(8), memory.memtable_bytes, monotonic_us)
        try:
            options = _options(memory, compact, turns.files)
            # By name: else one that exists is opened by the options that its files hold: no cache, no filter.
            database = Rdict(str(path / DATABASE), options, {"default": options})
        except Exception as error:  # rocksdict raises nothing narrower
            durable.close()
            raise fault_of(error, _OPEN) from error
        latest = database.latest_sequence_number()
        if latest < durable.sequence:
            recorded, damage = durable.sequence, _damage_of_log(path / DATABASE)
            database.close()
            durable.close()
            text = f"the log ends at sequence number {latest}, but {recorded} was durable"
            if damage:
                raise CorruptionError(f"{damage}; {text}")
            raise AmnesiaError(f"{path / DATABASE}: {text}: acknowledged writes are missing")
        return cls(database, durable, turns)

    # --- reading

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        near = self._near
        if near and key in near:
            return near.pop(key)
        if self._group and key in self._group:
            return self._group[key]
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise fault_of(error, _READ) from error
        return value

    def warm(self, keys: Sequence[bytes]) -> bool:
        """Whether all these keys are in memory; what is found is kept for the reads that follow at once."""
        near = self._near
        near.clear()
        for key in keys:
            is_near, value = self.near(key)
            if not is_near:
                near.clear()
                return False
            near[key] = value
        return True

    def near(self, key: bytes) -> tuple[bool, bytes | None]:
        """Whether this key is in memory, and then its value."""
        group = self._group
        if group and key in group:
            return True, group[key]
        look: Callable[..., Any] = self._db.key_may_exist
        try:
            if not look(key):  # fetching what is absent would leave 32 bytes behind, each time
                return True, None
            may_exist, value = look(key, fetch=True)
        except Exception as error:
            raise fault_of(error, _READ) from error
        if value:  # an empty one may be no value at all: see above
            return True, value
        return not may_exist, None

    def fetch(self, keys: Sequence[bytes]) -> None:
        """Read the keys into the block cache; from any thread.

        What cannot be read, the next read will tell.
        """
        try:
            self._db.get(list(keys))
        except Exception as error:
            raise fault_of(error, _READ) from error

    def scan(self, first: bytes, end: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Records of [first, end) as they are now; raises CorruptionError rather than end early."""
        if first >= end:
            return
        try:
            iterator = self._db.iter()
            if reverse:
                iterator.seek_for_prev(end)
                step = iterator.prev
                if iterator.valid() and iterator.key() == end:
                    step()
            else:
                iterator.seek(first)
                step = iterator.next
            valid, key_here, value_here = iterator.valid, iterator.key, iterator.value
            while valid():
                key = key_here()
                if key < first or key >= end:
                    return
                yield key, value_here()
                step()
            iterator.status()
        except Exception as error:
            raise fault_of(error, _READ) from error

    # --- writing

    def write(self, puts: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Put and delete (None) all or nothing; not yet durable."""
        if self._group is not None:
            if self._failed:
                raise DurabilityError(self._failed)
            self._near.clear()
            self._group.update(puts)
            return self._group_sequence
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        deletions = 0
        for key, value in puts:
            if value is not None:
                put(key, value)
                continue
            batch.delete(key)
            deletions += 1
        self._turns.deleted(deletions)
        return self._write(batch)

    def begin_group(self) -> None:
        """Collect the writes that follow: one call and one record of the log for all of them."""
        self._group = {}
        self._group_sequence = self._db.latest_sequence_number() + 1  # nobody else writes until it ends

    def end_group(self) -> None:
        """Write what was collected, all or nothing."""
        group, self._group = self._group, None
        if group:
            self.write(list(group.items()))

    def delete_range(self, first: bytes, end: bytes) -> int:
        """Delete [first, end)."""
        assert self._group is None, "no ranges are deleted within a group"
        if first >= end:
            return self.written()
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(first, end)
        return self._write(batch)

    def _write(self, batch: WriteBatch) -> int:
        if self._failed:
            raise DurabilityError(self._failed)
        self._near.clear()
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            fault = fault_of(error, _WRITE)
            self._full = self._full or isinstance(fault, DiskFullError)
            raise fault from error
        self._full = False
        sequence: int = self._db.latest_sequence_number()
        return sequence

    def written(self) -> int:
        """The sequence number after the last write; within a group, the first that it will have."""
        if self._group:
            return self._group_sequence
        sequence: int = self._db.latest_sequence_number()
        return sequence

    def sync(self) -> None:
        """Make all that was written before the call durable; from any thread, without holding up others.

        Raises DurabilityError: what was written is unknown from then on, and nothing may be written any more.
        """
        if self._failed:
            raise DurabilityError(self._failed)
        try:
            version = self._version()
            sequence = self._db.latest_sequence_number()
            if self._full:
                sync_logs(self._path)
            else:
                self._db.flush_wal(True)
                self._newest.all_synced(version)
            self._durable.record(sequence)
        except Exception as error:
            raise self._sync_failed(error) from error
        if not self._full:
            self._turns.take(self._db)

    def _version(self) -> int:
        return int(self._db.property_int_value(_VERSION) or 0)

    def _sync_failed(self, error: Exception) -> StoreError:
        self._failed = f"a sync failed: {error}"
        return fault_of(error, _SYNC)

    def newest_log(self) -> int | None:
        """The descriptor of the log file whose sync is enough, if there is one now."""
        return None if self._full or self._failed or self._switching else self._newest.descriptor()

    def log_synced(self, sequence: int, error: Exception | None) -> None:
        """What became of syncing it; raises DurabilityError as `sync` does."""
        if error is not None:
            raise self._sync_failed(error) from error
        self._durable.note(sequence)

    def tend(self) -> None:
        """Make the record of what is durable so, and write a memtable whose turn it is, if that is due."""
        if self._failed or self._full:
            return
        try:
            self._durable.sync_if_due()
        except OSError as error:
            raise self._sync_failed(error) from error
        self._turns.take(self._db)

    def health(self) -> dict[str, int]:
        """What RocksDB says of itself, in bytes and counts.

        `background_errors` above 0 means damage was met.
        """
        return {name: int(self._db.property_int_value(text) or 0) for name, text in _PROPERTIES.items()}

    def close(self) -> None:
        """Sync and close; raises DurabilityError if that cannot be."""
        try:
            self.sync()
        finally:
            try:
                self._db.close()
            except Exception as error:
                raise fault_of(error, _SYNC) from error
            finally:
                self._newest.close()
                self._durable.close()

    def checkpoint(self, path: Path) -> None:
        """Make the database as it is now another one in the directory `path`, which must not exist; table
        files are the same files. From any thread; what was written before the call is in it, durably.
        """
        self._switching = True
        try:
            self._db.flush(True)  # without the lock of the interpreter, which the next call keeps
            Checkpoint(self._db).create_checkpoint(str(path))
        except Exception as error:
            raise fault_of(error, _WRITE) from error
        finally:
            self._switching = False
        # All that was written before is in table files. What a log holds beside what came since are megabytes
        # of what it was written over. It may be a link to one in use: another file takes its place.
        for log in sorted(path.glob("*.log")):
            log.unlink()
            log.touch()
        sync_directory(path)

    # --- for tools and tests

    def flush(self) -> None:
        """Write memtables to table files."""
        try:
            self._db.flush(True)
        except Exception as error:
            raise fault_of(error, _WRITE) from error

    def compact(self) -> None:
        """Compact everything; damage that is met shows in `health`, not here."""
        try:
            self._db.compact_range(None, None)
        except Exception as error:
            raise fault_of(error, _WRITE) from error


def _damage_of_log(database: Path) -> str:
    """What RocksDB said of a damaged record of the log when it last opened this database, or one of the times
    before, as the first one drops what it cannot recover; "" if nothing.
    """
    for file in sorted(database.glob("LOG*")):
        for line in file.read_text(errors="replace").splitlines():
            if "checksum mismatch" in line:
                return line[line.index("] /") + 2 :] if "] /" in line else line
    return ""
