"""What of an engine is durable: the number that says so, and syncs without RocksDB."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from core.errors import CorruptionError

DURABLE_SYNC_US = 100_000


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_logs(path: Path) -> None:
    """Make the write-ahead logs in this directory durable as they are, without RocksDB."""
    for file in (*sorted(path.glob("*.log")), path):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # its rows have just become a table file, which is durable
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class DurableFile:
    """The last durable sequence number: 8 bytes, then the same inverted. Written after every sync.

    Its own fsync comes at most ten times a second: a power cut may leave an older number, which asks for
    less: what was synced in that tenth of a second is not missed if just then the disk damages it. The
    file is mapped, since a call to write it would give up the interpreter's lock, and under load wait for it.
    """

    def __init__(self, path: Path, monotonic_us: Callable[[], int]) -> None:
        self.existed = path.exists()
        self.sequence = 0
        self._monotonic_us = monotonic_us
        self._synced_at_us = monotonic_us()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        data = os.pread(self._descriptor, 17, 0)
        if not data:  # its block is taken now, so that recording works on a full disk
            os.pwrite(self._descriptor, self._encoded(0), 0)
        else:
            self.sequence = int.from_bytes(data[:8], "big")
            if len(data) != 16 or self.sequence ^ int.from_bytes(data[8:], "big") != 2**64 - 1:
                os.close(self._descriptor)
                raise CorruptionError(f"{path} is damaged")
        self._synced_sequence = self.sequence
        self._mapped = mmap.mmap(self._descriptor, 16)

    @staticmethod
    def _encoded(sequence: int) -> bytes:
        return sequence.to_bytes(8, "big") + (sequence ^ (2**64 - 1)).to_bytes(8, "big")

    def record(self, sequence: int) -> None:
        """All up to this sequence number is durable."""
        if sequence != self.sequence:
            self.note(sequence)
            self.sync_if_due()

    def note(self, sequence: int) -> None:
        """As `record`, without any waiting: `sync_if_due` is to follow at some time."""
        self._mapped[:] = self._encoded(sequence)
        self.sequence = sequence

    def sync_if_due(self) -> None:
        """Make the record itself durable, if it was not for a while."""
        now_us = self._monotonic_us()
        if self.sequence != self._synced_sequence and now_us - self._synced_at_us >= DURABLE_SYNC_US:
            self._synced_at_us, self._synced_sequence = now_us, self.sequence
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Sync and close."""
        os.fdatasync(self._descriptor)
        self._mapped.close()
        os.close(self._descriptor)


class NewestLog:
    """The write-ahead log that takes all that is written now: as long as no other takes its place, its own
    sync makes durable whatever was written since all logs were synced.

    `version` tells a number that rises, before anything is written to another log.
    """

    def __init__(self, path: Path, version: Callable[[], int]) -> None:
        self._path, self._version = path, version
        self._synced_version = -1
        self._descriptor = -1

    def all_synced(self, version: int) -> None:
        """A sync of all logs, which began when this was the version, has ended.

        If there is a newer one by now, the file that is found here is never asked for. If none can be opened
        (a process may have too many files open), all are synced the next time, too.
        """
        if version == self._synced_version:
            return
        self.close()
        with contextlib.suppress(OSError):
            newest = max(self._path.glob("*.log"), key=lambda file: int(file.stem))
            self._descriptor = os.open(newest, os.O_RDWR | os.O_CLOEXEC)
            self._synced_version = version

    def descriptor(self) -> int | None:
        """Of that file; None if all logs have to be synced first."""
        return self._descriptor if self._version() == self._synced_version else None

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = self._synced_version = -1
