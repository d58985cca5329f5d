"""A folder of backups: the files of all snapshots once each, under their hashes, and what each snapshot is.

    files/ab/abcdef...            a database file; its name is the BLAKE2b hash of its bytes
    snapshots/NAME/PEER.json      the manifest of a peer (server/snapshots/taking.py)
    snapshots/NAME/snapshot.json  written last: the cluster and its peers

A snapshot without its last file is none. Table files never change, so a second snapshot brings only what
was written since: that is all there is to "incremental", and any snapshot can be deleted without
hurting another. Files are checked as they come.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

import msgspec

from cli.output import Failure
from server.snapshots.taking import (
    HASH_BYTES,
    NAME,
    READ_BYTES,
    Manifest,
    SnapshotError,
    decode_manifest,
    hash_of,
)

WHOLE: Final = "snapshot.json"


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot of a cluster. `at_us` is when the first peer was asked, `done_us` when the last one had
    answered; `missing` are members left out.
    """

    name: str
    at_us: int
    done_us: int
    cluster: str
    peers: tuple[str, ...]
    missing: tuple[str, ...]
    bytes: int


class Folder:
    """The folder; methods raise Failure for what an operator can mend, OSError for what the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """All whole snapshots, the oldest first."""
        found = [self.snapshot(file.parent.name) for file in self.path.glob(f"snapshots/*/{WHOLE}")]
        return [one.name for one in sorted(found, key=lambda one: (one.at_us, one.name))]

    def snapshot(self, name: str) -> Snapshot:
        """One of them."""
        try:
            return msgspec.json.decode((self._place(name) / WHOLE).read_bytes(), type=Snapshot)
        except FileNotFoundError:
            there = ", ".join(self.names()) or "none"
            raise Failure(
                f"{self.path} has no whole snapshot called {name!r}",
                hint=f"there: {there}",
                code="no_snapshot",
            ) from None
        except msgspec.DecodeError as error:
            raise Failure(f"{self._place(name) / WHOLE} is damaged: {error}", code="damaged") from None

    def manifests(self, name: str) -> list[Manifest]:
        """What each peer's part consists of, in the order of the peers' names."""
        found = []
        for peer in self.snapshot(name).peers:
            file = self._place(name) / f"{peer}.json"
            try:
                found.append(decode_manifest(file.read_bytes()))
            except (OSError, msgspec.DecodeError, SnapshotError) as error:
                raise Failure(f"{file} cannot be used: {error}", code="damaged") from None
        return found

    def has(self, digest: str) -> bool:
        """Whether a file of this hash is there."""
        return self.file(digest).exists()

    def file(self, digest: str) -> Path:
        """Where the file of this hash lies."""
        return self.path / "files" / digest[:2] / digest

    def add(self, digest: str, source: IO[bytes]) -> int:
        """Take in a file, whose bytes must have this hash; how many they were. Durable when it returns."""
        target = self.file(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{digest}.{os.getpid()}.part")
        found, size = hashlib.blake2b(digest_size=HASH_BYTES), 0
        try:
            with partial.open("wb") as out:
                while part := source.read(READ_BYTES):
                    found.update(part)
                    out.write(part)
                    size += len(part)
                out.flush()
                os.fsync(out.fileno())
            if found.hexdigest() != digest:
                raise Failure("a file arrived damaged: its hash is another", hint="try again", code="damaged")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def begin(self, name: str) -> None:
        """Make room for a snapshot of this name; refused if there is a whole one."""
        if NAME.fullmatch(name) is None:
            text = f"{name!r} cannot be a snapshot's name: letters, digits, dots, dashes and underscores"
            raise Failure(text, code="bad_name")
        if (self._place(name) / WHOLE).exists():
            raise Failure(
                f"{self.path} has a snapshot called {name!r} already",
                hint="take another name, or delete that one: sullae snapshot delete",
                code="exists",
            )
        self._place(name).mkdir(parents=True, exist_ok=True)

    def put(self, name: str, manifest: Manifest) -> None:
        """Keep a peer's manifest."""
        data = msgspec.json.format(msgspec.json.encode(manifest))
        _write(self._place(name) / f"{manifest.about.peer}.json", data)

    def complete(self, snapshot: Snapshot) -> None:
        """All of it is there."""
        _write(self._place(snapshot.name) / WHOLE, msgspec.json.format(msgspec.json.encode(snapshot)))

    def delete(self, name: str) -> int:
        """Delete a snapshot, and the files that no other one needs; how many bytes that freed."""
        self.snapshot(name)
        (self._place(name) / WHOLE).unlink()
        shutil.rmtree(self._place(name))
        return self.sweep()

    def sweep(self) -> int:
        """Delete files that no whole snapshot needs; how many bytes that freed."""
        needed = {file.hash for name in self.names() for one in self.manifests(name) for file in one.files}
        freed = 0
        for file in sorted(self.path.glob("files/*/*")):
            if file.name not in needed:
                freed += file.stat().st_size
                file.unlink()
        return freed

    def damaged(self, manifests: Iterable[Manifest]) -> list[str]:
        """What is wrong with the files of these, in words."""
        wrong: dict[str, str] = {}
        for manifest in manifests:
            for file in manifest.files:
                path = self.file(file.hash)
                if not path.exists():
                    wrong[file.hash] = f"{path} is missing ({file.name} of {manifest.about.peer})"
                elif file.hash not in wrong and hash_of(path) != file.hash:
                    wrong[file.hash] = f"{path} is damaged ({file.name} of {manifest.about.peer})"
        return list(wrong.values())

    def _place(self, name: str) -> Path:
        return self.path / "snapshots" / name


def _write(file: Path, data: bytes) -> None:
    temporary = file.with_name(file.name + ".new")
    with temporary.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
