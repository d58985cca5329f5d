"""A peer's data directory: what it is, whose it is, and how often it was started.

    format       the format stamp: a version that is not ours is refused
    identity     peer id and start counter, as text
    durable      see lsm/rocks.py
    db/          the database, which holds the identity once more, in a system record
    damaged      says that damage was met in the database: the next opening mends it
    mended/      what mending has copied so far (lsm/salvage.py)

An empty directory is a new peer. The record in the database is written and synced first, the file after it,
both before the peer first speaks; so a file without its record means that the database is not the one this
peer had, and a database without either is nobody's. Each opening raises the start counter, and it is durable
before `open_store` returns: what a start number stamps is never stamped again, even if one of the two copies
was rolled back.

Mending copies what can be read of the database into `mended/`, and then puts the copy in its place: a file
`complete` says that the copy is whole, and after a crash the next opening takes the steps that are left.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.errors import AmnesiaError, CorruptionError, FormatError
from lsm.keys import FORMAT_KEY, system_key
from lsm.rocks import DATABASE, DURABLE, Memory, RocksEngine
from lsm.salvage import Salvaged, salvage

FORMAT_STAMP = b"sullae data 2\n"
DAMAGED, MENDED, COMPLETE, REPLACED = "damaged", "mended", "complete", "replaced"
IDENTITY_KEY = b"identity"
START_MAX = 2**32 - 1


class PeerRecord(msgspec.Struct, frozen=True):
    """Who a directory is: 16 random bytes, and how often it was opened."""

    peer: bytes
    start: int


class OpenedStore(msgspec.Struct, frozen=True):
    """An open directory. `is_new` says that it was empty before, `mended` what mending it came to."""

    engine: RocksEngine
    peer: bytes
    start: int
    is_new: bool
    mended: Salvaged | None = None


def open_store(
    path: Path, new_peer: bytes, monotonic_us: Callable[[], int], memory: Memory | None = None
) -> OpenedStore:
    """Open a peer's data directory; an empty or missing one becomes that of `new_peer` (16 bytes).

    Raises FormatError (not ours, or in use), AmnesiaError (it lacks what it once held), CorruptionError (a
    file is damaged), DiskFullError. After any of them nothing is left open.
    """
    assert len(new_peer) == 16, "a peer id is 16 bytes"
    path.mkdir(parents=True, exist_ok=True)
    _check_format(path)
    mended = _mend(path, monotonic_us, memory)
    engine = RocksEngine.open(path, monotonic_us, memory)
    try:
        record, is_new = _identity(path, engine, new_peer)
        if record.start > START_MAX:
            raise FormatError(f"{path} was opened too often")
        data = msgspec.json.encode(record)
        engine.write([(FORMAT_KEY, FORMAT_STAMP), (system_key(IDENTITY_KEY), data)])
        engine.sync()
        _write_file(path / "identity", data + b"\n")
    except BaseException:
        engine.close()
        raise
    return OpenedStore(engine, record.peer, record.start, is_new, mended)


def note_damage(path: Path, text: str) -> None:
    """Have the next opening of this directory mend the database; durable when this returns."""
    _write_file(path / DAMAGED, text.encode() + b"\n")


def _mend(path: Path, monotonic_us: Callable[[], int], memory: Memory | None) -> Salvaged | None:
    """Replace a damaged database by what can be read of it; None if none was met.

    Raises CorruptionError if what is left is not enough.
    """
    copy = path / MENDED
    if copy.exists() and not (copy / COMPLETE).exists():
        _remove(copy)
    salvaged = None
    if (path / DAMAGED).exists() and not copy.exists():
        copy.mkdir()
        source = RocksEngine.open(path, monotonic_us, memory, compact=False)
        try:
            target = RocksEngine.open(copy, monotonic_us, memory)
            try:
                salvaged = salvage(source, target)
            finally:
                target.close()
        finally:
            source.close()
        _write_file(copy / COMPLETE, b"")
    if copy.exists():
        _replace(path, copy)
    return salvaged


def _remove(path: Path) -> None:
    """A directory and what is in it, if it is there."""
    if path.exists():
        for entry in sorted(path.rglob("*"), reverse=True):  # what is in a directory comes before it
            if entry.is_dir():
                entry.rmdir()
            else:
                entry.unlink()
        path.rmdir()


def _replace(path: Path, copy: Path) -> None:
    """Put a complete copy in the place of the database, from whichever step on."""
    if (copy / DATABASE).exists():
        if (path / DATABASE).exists():
            _remove(path / REPLACED)
            (path / DATABASE).replace(path / REPLACED)
        (copy / DATABASE).replace(path / DATABASE)
    if (copy / DURABLE).exists():
        (copy / DURABLE).replace(path / DURABLE)
    _sync_directory(path)
    (path / DAMAGED).unlink(missing_ok=True)
    _remove(path / REPLACED)
    _remove(copy)  # last: as long as it is there, the next opening goes on here


def _check_format(path: Path) -> None:
    file = path / "format"
    if file.exists():
        stamp = file.read_bytes()
        if stamp != FORMAT_STAMP:
            raise FormatError(f"{file} says {stamp[:80]!r}; this version knows {FORMAT_STAMP!r} only")
        return
    unfinished = _temporary(file).name  # all that a power cut in the very first moment leaves
    others = sorted(entry.name for entry in path.iterdir() if entry.name != unfinished)
    if others:
        raise FormatError(
            f"{path} is not empty ({', '.join(others[:5])}) and has no format stamp: not a peer's"
        )
    _write_file(file, FORMAT_STAMP)


def _identity(path: Path, engine: RocksEngine, new_peer: bytes) -> tuple[PeerRecord, bool]:
    """The identity for this start, and whether the directory is a new peer's."""
    file = path / "identity"
    stamp = engine.get(FORMAT_KEY)
    if stamp not in (None, FORMAT_STAMP):
        raise FormatError(f"{path / DATABASE} says {stamp!r}; this version knows {FORMAT_STAMP!r} only")
    in_store = _decoded(engine.get(system_key(IDENTITY_KEY)), f"the identity record in {path / DATABASE}")
    in_file = _decoded(file.read_bytes() if file.exists() else None, str(file))
    if in_store is None:
        if in_file is not None:
            raise AmnesiaError(f"{file} names peer {in_file.peer.hex()}, but the database does not know it")
        if engine.written() > 0:
            raise FormatError(f"{path / DATABASE} holds data, but nothing says whose")
        return PeerRecord(new_peer, 1), True
    if in_file is not None and in_file.peer != in_store.peer:
        raise FormatError(
            f"{file} names peer {in_file.peer.hex()}, the database belongs to {in_store.peer.hex()}"
        )
    start = in_store.start if in_file is None else max(in_store.start, in_file.start)
    return PeerRecord(in_store.peer, start + 1), False


def _decoded(data: bytes | None, where: str) -> PeerRecord | None:
    if data is None:
        return None
    try:
        record = msgspec.json.decode(data, type=PeerRecord)
    except msgspec.DecodeError as error:
        raise CorruptionError(f"{where} is damaged: {error}") from error
    if len(record.peer) != 16 or record.start < 1:
        raise CorruptionError(f"{where} is damaged: {record}")
    return record


def _temporary(file: Path) -> Path:
    return file.with_name(file.name + ".new")


def _write_file(file: Path, data: bytes) -> None:
    """Replace a small file: after a crash it is the old or the new one; durable when this returns."""
    temporary = _temporary(file)
    with temporary.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
    _sync_directory(file.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
