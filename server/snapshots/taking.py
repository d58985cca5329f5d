"""A peer's snapshots: its database as it was at one moment, in its data directory, beside the live one.

    snapshots/NAME/db/            a RocksDB checkpoint: hard links to table files, which never change
    snapshots/NAME/manifest.json  written last: what it is, and every file's size and hash
    snapshots/hashes.json         hashes of table files known already, by inode, size and time

Taking one costs a flush and, for files that no earlier snapshot has seen, reading them once for their hashes;
both happen in a thread. It takes space only for what is compacted away afterwards. What a peer had
acknowledged before it was asked is in its snapshot; so the snapshots of all peers together hold every write
that was acknowledged before the first of them was taken (restored by merging, cli/restoring.py).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from core.errors import StoreError
from lsm.rocks import DATABASE, RocksEngine

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
HASHES: Final = "hashes.json"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
HASH_BYTES: Final = 32
HASH: Final = re.compile(r"[0-9a-f]{64}")
READ_BYTES: Final = 1 << 20
IMMUTABLE: Final = (".sst", ".blob")
"""Files of rows, and of large values: written once, and linked to by a checkpoint."""


class SnapshotError(Exception):
    """It cannot be done; `code` is a stable word: exists, no_such_snapshot, bad_name, failed."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class File(msgspec.Struct, frozen=True):
    """A file of the database: its name, its size, and BLAKE2b over its bytes as 64 hexadecimal digits."""

    name: str
    bytes: int
    hash: str


class About(msgspec.Struct, frozen=True):
    """Whose snapshot it is. Ids are hexadecimal; `epoch` is the last of the metadata log that it holds."""

    cluster: str
    cluster_id: str
    peer: str
    peer_id: str
    epoch: int


class Manifest(msgspec.Struct, frozen=True):
    """One peer's snapshot. `at_us` is the peer's wall clock when it was asked."""

    format: int
    name: str
    at_us: int
    about: About
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


class Snapshots:
    """The snapshots of one peer. Methods block: call them in a thread; one is taken at a time."""

    def __init__(self, engine: RocksEngine, data: Path) -> None:
        self._engine = engine
        self._path = data / "snapshots"
        self._lock = threading.Lock()

    def take(self, name: str, about: About) -> Manifest:
        """Take a snapshot; raises SnapshotError, StoreError or OSError, and leaves nothing behind then."""
        target = self._place(name)
        with self._lock:
            if (target / MANIFEST).exists():
                raise SnapshotError("exists", f"this peer has a snapshot called {name!r}: take another name")
            shutil.rmtree(target, ignore_errors=True)  # what a crash left unfinished
            target.mkdir(parents=True)
            try:
                at_us = time.time_ns() // 1000
                self._engine.checkpoint(target / DATABASE)
                manifest = Manifest(FORMAT, name, at_us, about, self._files(target / DATABASE))
                _replace(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
            except (StoreError, OSError):
                shutil.rmtree(target, ignore_errors=True)
                raise
            return manifest

    def list(self) -> list[Manifest]:
        """All complete ones, by name."""
        if not self._path.exists():
            return []
        found = sorted(place / MANIFEST for place in self._path.iterdir() if (place / MANIFEST).exists())
        return [decode_manifest(file.read_bytes()) for file in found]

    def manifest(self, name: str) -> Manifest:
        """One of them; raises SnapshotError."""
        return decode_manifest((self._existing(name) / MANIFEST).read_bytes())

    def file(self, name: str, file: str) -> Path:
        """Where a file of a snapshot lies; raises SnapshotError."""
        path = self._existing(name) / DATABASE / file
        if FILE.fullmatch(file) is None or not path.is_file():
            raise SnapshotError("no_such_snapshot", f"the snapshot {name!r} has no file {file!r}")
        return path

    def delete(self, name: str) -> None:
        """Forget one; raises SnapshotError."""
        with self._lock:
            place = self._existing(name)
            (place / MANIFEST).unlink()
            shutil.rmtree(place)

    def _place(self, name: str) -> Path:
        if NAME.fullmatch(name) is None:
            text = "a snapshot's name is letters, digits, dots, dashes and underscores, at most 100"
            raise SnapshotError("bad_name", text)
        return self._path / name

    def _existing(self, name: str) -> Path:
        place = self._place(name)
        if not (place / MANIFEST).exists():
            raise SnapshotError("no_such_snapshot", f"this peer has no snapshot called {name!r}")
        return place

    def _files(self, path: Path) -> tuple[File, ...]:
        """The files of a checkpoint with their hashes; those of table files are remembered."""
        hashes = self._path / HASHES
        known = _known(hashes)
        kept: dict[str, str] = {}
        files = []
        for file in sorted(path.iterdir()):
            about = file.stat()
            key = f"{about.st_ino} {about.st_size} {about.st_mtime_ns}"
            digest = known.get(key) or hash_of(file)
            if file.suffix in IMMUTABLE:
                kept[key] = digest
            files.append(File(file.name, about.st_size, digest))
        _replace(hashes, msgspec.json.encode(kept))
        return tuple(files)


def _known(hashes: Path) -> dict[str, str]:
    """Hashes that were made before; where the file cannot be used, all are made again."""
    try:
        found = msgspec.json.decode(hashes.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
    return {key: digest for key, digest in found.items() if HASH.fullmatch(digest)}


def hash_of(file: Path) -> str:
    """BLAKE2b over a file's bytes, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    with file.open("rb") as source:
        while part := source.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def decode_manifest(data: bytes) -> Manifest:
    """A manifest; raises msgspec.DecodeError for bytes that are none, SnapshotError for a later format
    and for names that would lead elsewhere than into a snapshot."""
    manifest = msgspec.json.decode(data, type=Manifest)
    if manifest.format != FORMAT:
        raise SnapshotError(
            "format", f"the snapshot has format {manifest.format}, this version knows {FORMAT}"
        )
    names = [manifest.about.peer, manifest.name, *(file.name for file in manifest.files)]
    if not all(map(NAME.fullmatch, names)) or not all(HASH.fullmatch(file.hash) for file in manifest.files):
        raise SnapshotError("format", "the manifest names what cannot be a file of a snapshot")
    return manifest


def _replace(file: Path, data: bytes) -> None:
    """Write a small file so that after a crash it is whole or as before."""
    temporary = file.with_name(file.name + ".new")
    with temporary.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
