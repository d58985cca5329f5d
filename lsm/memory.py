"""An engine in memory with a disk that lies as disks do: the simulator's, and the twin of lsm/rocks.py in
tests.

What is written is there at once and durable only after a sync that began later. `crash(keep)` is a power cut:
it takes the engine back to what was synced and the first `keep` of the batches after it, because a log that
was being written out may have got any prefix of its tail to the disk. Faults are injected by the caller: a
full disk, a sync that fails, an operation that fails, a record that reads as damaged, a record that is cold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from sortedcontainers import SortedDict

from core.errors import CorruptionError, DiskFullError, DurabilityError, StoreError

Undo = tuple[int, list[tuple[bytes, bytes | None]]]
"""The sequence number of a batch, and what its keys held before, in the order written."""


class MemoryEngine:
    """`core.ports.Engine` in memory. A sequence number counts batches.

    Faults, all to be set by a test or a simulated disk:

    - `disk_full`: writes raise DiskFullError and write nothing;
    - `sync_fails`: the next sync raises DurabilityError, and so does every write after it;
    - `hook`: called with "get", "scan", "write" or "sync" and a key (b"" where there is none) before the
      operation is done; what it raises is what the disk answers;
    - `cold`: whether a key is said to be cold (`warm` answers False).
    """

    def __init__(self, hook: Callable[[str, bytes], None] | None = None) -> None:
        self.disk_full = False
        self.sync_fails = False
        self.hook = hook
        self.cold: Callable[[bytes], bool] | None = None
        self._data: SortedDict[bytes, bytes] = SortedDict()
        self._damaged: set[bytes] = set()
        self._written = 0
        self._synced = 0
        self._undo: deque[Undo] = deque()
        self._group: list[tuple[bytes, bytes | None]] | None = None
        self._failed = False

    # --- reading

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        if self.hook is not None:
            self.hook("get", key)
        if self._damaged and key in self._damaged:
            raise CorruptionError(f"memory: damaged record {key.hex()}")
        value: bytes | None = self._data.get(key)
        return value

    def warm(self, keys: Sequence[bytes]) -> bool:
        """Whether no key is said to be cold."""
        return self.cold is None or not any(map(self.cold, keys))

    def near(self, key: bytes) -> tuple[bool, bytes | None]:
        """The value, unless it is said to be cold."""
        return (True, self.get(key)) if self.warm((key,)) else (False, None)

    def fetch(self, keys: Sequence[bytes]) -> None:
        """Nothing is far."""

    def scan(self, first: bytes, end: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Records of [first, end); raises CorruptionError at a damaged one. The engine must not change
        meanwhile.
        """
        if self.hook is not None:
            self.hook("scan", first)
        data, damaged = self._data, self._damaged
        if first >= end:
            return
        if self._group:
            assert not any(first <= key < end for key, _ in self._group), "scans what its own group wrote"
        for key in data.irange(first, end, (True, False), reverse):
            if damaged and key in damaged:
                raise CorruptionError(f"memory: damaged record {key.hex()}")
            yield key, data[key]

    # --- writing

    def write(self, puts: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Put and delete (None) all or nothing."""
        if self._group is None or self._failed:
            self._check("write", puts[0][0] if puts else b"")
        data = self._data
        before: list[tuple[bytes, bytes | None]] = []
        for key, value in puts:
            before.append((key, data.get(key)))
            if value is None:
                data.pop(key, None)
            else:
                data[key] = value
        if self._damaged:
            self._damaged.difference_update([key for key, _ in puts])
        if self._group is not None:
            self._group += before
            return self.written()
        return self._wrote(before)

    def begin_group(self) -> None:
        """Writes that follow are one batch, which fails or is there as a whole."""
        self._group = []

    def end_group(self) -> None:
        """That batch is complete; raises what a single write would, and then nothing of it is there."""
        before, self._group = self._group or [], None
        if not before:
            return
        try:
            self._check("write", before[0][0])
        except StoreError:
            self._take_back(before)
            raise
        self._wrote(before)

    def _take_back(self, before: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in reversed(before):
            if value is None:
                self._data.pop(key, None)
            else:
                self._data[key] = value

    def delete_range(self, first: bytes, end: bytes) -> int:
        """Delete [first, end), damaged records too."""
        self._check("write", first)
        data = self._data
        before: list[tuple[bytes, bytes | None]] = []
        if first < end:
            before = [(key, data[key]) for key in data.irange(first, end, (True, False))]
        for key, _ in before:
            del data[key]
            self._damaged.discard(key)
        return self._wrote(before)

    def _check(self, operation: str, key: bytes) -> None:
        if self._failed:
            raise DurabilityError("memory: a sync failed before")
        if self.hook is not None:
            self.hook(operation, key)
        if self.disk_full:
            raise DiskFullError("memory: no space left on device")

    def _wrote(self, before: list[tuple[bytes, bytes | None]]) -> int:
        self._written += 1
        self._undo.append((self._written, before))
        return self._written

    def written(self) -> int:
        """The sequence number after the last write; within a group, the one that it will have."""
        return self._written + 1 if self._group else self._written

    # --- durability

    def begin_sync(self) -> int:
        """A sync starts: it covers what is written by now. Pass what it returns to `finish_sync`."""
        return self._written

    def finish_sync(self, token: int) -> None:
        """That sync has ended: what it covers survives any crash. Raises DurabilityError if it is to fail."""
        if self._failed:
            raise DurabilityError("memory: a sync failed before")
        if self.hook is not None:
            self.hook("sync", b"")
        if self.sync_fails:
            self.sync_fails = False
            self._failed = True
            raise DurabilityError("memory: sync failed")
        self._synced = max(self._synced, min(token, self._written))
        undo = self._undo
        while undo and undo[0][0] <= self._synced:
            undo.popleft()

    def sync(self) -> None:
        """Make all that was written durable, in no time."""
        self.finish_sync(self.begin_sync())

    def newest_log(self) -> int | None:
        """There are no files."""
        return None

    def log_synced(self, sequence: int, error: Exception | None) -> None:
        """Not for what `newest_log` says."""
        raise AssertionError(f"there is no log that was synced: {sequence}, {error}")

    def tend(self) -> None:
        """Nothing is to be done besides."""

    def synced(self) -> int:
        """The sequence number that a crash cannot take back."""
        return self._synced

    def unsynced(self) -> int:
        """How many batches a crash may lose: `crash` keeps from 0 to this many."""
        return len(self._undo)

    def crash(self, keep: int = 0) -> None:
        """A power cut: what was synced stays, then `keep` batches, the rest is gone; the engine is as just
        opened.
        """
        assert 0 <= keep <= len(self._undo), keep
        self._group = None
        while len(self._undo) > keep:
            self._take_back(self._undo.pop()[1])
        self._written = self._undo[-1][0] if self._undo else self._synced
        self._synced = self._written
        self._undo.clear()
        self._failed = False

    def close(self) -> None:
        """Sync; the engine may go on being used, as a directory that is opened again."""
        self.sync()

    # --- faults

    def damage(self, key: bytes) -> None:
        """From now on reading this record raises CorruptionError, until it is written again."""
        assert key in self._data, "only a stored record can be damaged"
        self._damaged.add(key)

    def keys(self, first: bytes = b"", end: bytes = b"\xff") -> list[bytes]:
        """The keys stored in [first, end): for tests and for choosing what to damage."""
        return list(self._data.irange(first, end, (True, False)))

    def health(self) -> dict[str, int]:
        """Records, batches not yet synced, damaged records."""
        return {
            "records": len(self._data),
            "unsynced_batches": len(self._undo),
            "background_errors": len(self._damaged),
        }


class FailNth:
    """A hook: the `n`th operation of a kind (counted from 1) raises `fault`, once."""

    def __init__(self, operation: str, n: int, fault: StoreError) -> None:
        self._operation = operation
        self._left = n
        self._fault = fault

    def __call__(self, operation: str, key: bytes) -> None:
        """Count, and raise when it is time."""
        if operation == self._operation:
            self._left -= 1
            if self._left == 0:
                raise self._fault
