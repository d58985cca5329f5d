"""Backups in a place (cli/snapshots/places.py): the files of all snapshots once each, under their hashes.

    files/ab/abcdef...            a database file; its name is the BLAKE2b hash of its bytes
    snapshots/NAME/PEER.json      the manifest of a peer (server/snapshots/taking.py)
    snapshots/NAME/snapshot.json  written last: the cluster and its peers

A snapshot without its last file is none. Table files never change, so a second snapshot brings only what
was written since: that is all there is to "incremental", and any snapshot can be deleted without
hurting another. Files are checked as they come.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from cli.output import Failure
from cli.snapshots.places import Disk, Place
from server.snapshots.taking import (
    HASH_BYTES,
    NAME,
    READ_BYTES,
    Manifest,
    SnapshotError,
    decode_manifest,
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

    def __init__(self, place: Path | Place) -> None:
        self.place: Place = Disk(place) if isinstance(place, Path) else place

    def names(self) -> list[str]:
        """All whole snapshots, the oldest first."""
        files = [name.split("/") for name, _ in self.place.below("snapshots/")]
        found = [self.snapshot(parts[1]) for parts in files if len(parts) == 3 and parts[2] == WHOLE]
        return [one.name for one in sorted(found, key=lambda one: (one.at_us, one.name))]

    def snapshot(self, name: str) -> Snapshot:
        """One of them."""
        try:
            return msgspec.json.decode(self.place.read(_place(name, WHOLE)), type=Snapshot)
        except FileNotFoundError:
            there = ", ".join(self.names()) or "none"
            raise Failure(
                f"{self.place} has no whole snapshot called {name!r}",
                hint=f"there: {there}",
                code="no_snapshot",
            ) from None
        except msgspec.DecodeError as error:
            text = f"{_place(name, WHOLE)} in {self.place} is damaged: {error}"
            raise Failure(text, code="damaged") from None

    def manifests(self, name: str) -> list[Manifest]:
        """What each peer's part consists of, in the order of the peers' names."""
        found = []
        for peer in self.snapshot(name).peers:
            file = _place(name, f"{peer}.json")
            try:
                found.append(decode_manifest(self.place.read(file)))
            except (OSError, msgspec.DecodeError, SnapshotError) as error:
                raise Failure(f"{file} in {self.place} cannot be used: {error}", code="damaged") from None
        return found

    def has(self, digest: str) -> bool:
        """Whether a file of this hash is there."""
        return self.place.exists(_file(digest))

    def bring(self, digest: str, target: Path, *, linked: bool) -> None:
        """Put the file of this hash at a local path; raises FileNotFoundError."""
        self.place.bring(_file(digest), target, linked=linked)

    def add(self, digest: str, source: IO[bytes]) -> int:
        """Take in a file, whose bytes must have this hash; how many they were. Durable when it returns."""
        found, size = hashlib.blake2b(digest_size=HASH_BYTES), 0
        with tempfile.TemporaryFile() as arrived:
            while part := source.read(READ_BYTES):
                found.update(part)
                arrived.write(part)
                size += len(part)
            if found.hexdigest() != digest:
                raise Failure("a file arrived damaged: its hash is another", hint="try again", code="damaged")
            arrived.seek(0)
            self.place.take(_file(digest), arrived)
        return size

    def begin(self, name: str) -> None:
        """Refused if there is a whole snapshot of this name."""
        if NAME.fullmatch(name) is None:
            text = f"{name!r} cannot be a snapshot's name: letters, digits, dots, dashes and underscores"
            raise Failure(text, code="bad_name")
        if self.place.exists(_place(name, WHOLE)):
            raise Failure(
                f"{self.place} has a snapshot called {name!r} already",
                hint="take another name, or delete that one: sullae snapshot delete",
                code="exists",
            )

    def put(self, name: str, manifest: Manifest) -> None:
        """Keep a peer's manifest."""
        data = msgspec.json.format(msgspec.json.encode(manifest))
        self.place.write(_place(name, f"{manifest.about.peer}.json"), data)

    def complete(self, snapshot: Snapshot, manifests: Sequence[Manifest]) -> None:
        """All of it is there; refused if somebody has deleted some of it meanwhile (`sweep`)."""
        there = {file.rpartition("/")[2] for file, _ in self.place.below("files/")}
        gone = [file for one in manifests for file in one.files if file.hash not in there]
        if gone:
            raise Failure(
                f"{len(gone)} files that the snapshot needs were deleted in {self.place} meanwhile",
                hint="try again, and delete no other snapshot until it is done",
                code="deleted",
            )
        data = msgspec.json.format(msgspec.json.encode(snapshot))
        self.place.write(_place(snapshot.name, WHOLE), data)

    def delete(self, name: str) -> int:
        """Delete a snapshot, and the files that no other one needs; how many bytes that freed."""
        self.snapshot(name)
        self.place.delete([_place(name, WHOLE)])
        self.place.delete([file for file, _ in self.place.below(_place(name, ""))])
        return self.sweep()

    def sweep(self) -> int:
        """Delete files that no whole snapshot needs; how many bytes that freed."""
        needed = {file.hash for name in self.names() for one in self.manifests(name) for file in one.files}
        there = self.place.below("files/")
        unneeded = [(file, size) for file, size in there if file.rpartition("/")[2] not in needed]
        self.place.delete([file for file, _ in unneeded])
        return sum(size for _, size in unneeded)

    def damaged(self, manifests: Iterable[Manifest]) -> list[str]:
        """What is wrong with the files of these, in words."""
        wrong: dict[str, str] = {}
        seen: set[str] = set()
        for manifest in manifests:
            for file in manifest.files:
                if file.hash in seen:
                    continue
                seen.add(file.hash)
                whose = f"({file.name} of {manifest.about.peer})"
                try:
                    if _hash_of(self.place.chunks(_file(file.hash))) != file.hash:
                        wrong[file.hash] = f"{_file(file.hash)} in {self.place} is damaged {whose}"
                except FileNotFoundError:
                    wrong[file.hash] = f"{_file(file.hash)} in {self.place} is missing {whose}"
        return list(wrong.values())


def _place(name: str, file: str) -> str:
    return f"snapshots/{name}/{file}"


def _file(digest: str) -> str:
    return f"files/{digest[:2]}/{digest}"


def _hash_of(parts: Iterator[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
