"""Taking a snapshot of a whole cluster: every peer at once, then their files into the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from cli.members import Member, members_of
from cli.output import Failure
from cli.rest import Peer, UnreachableError, broken, expect, refusal_of
from cli.snapshots.folder import Folder, Snapshot
from server.snapshots.taking import File, Manifest, SnapshotError, decode_manifest

TIMEOUT_S: Final = 600.0
"""A peer flushes, and reads files for their hashes, while we wait."""

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many are there."""


class Copied(NamedTuple):
    """What came of it: the snapshot, how many bytes and files were new to the folder, and what commands that
    were interrupted left at peers: (peer, snapshot).
    """

    snapshot: Snapshot
    new_bytes: int
    new_files: int
    left: tuple[tuple[str, str], ...]


def create(folder: Folder, name: str, urls: Sequence[str], without: Sequence[str], tell: Progress) -> Copied:
    """Take a snapshot of all peers but those named in `without`, and bring it into the folder."""
    members, cluster = members_of(urls)
    unknown = sorted({*without} - {member.name for member in members})
    if unknown:
        raise Failure(f"there is no peer called {', '.join(unknown)}", code="no_such_peer")
    asked = [member for member in members if member.name not in without]
    folder.begin(name)
    at_us = time.time_ns() // 1000
    taken: list[Member] = []
    try:
        with ThreadPoolExecutor(len(asked)) as threads:
            outcomes = list(threads.map(lambda member: _attempt(lambda: _take(member, name)), asked))
        taken = [member for member, why in zip(asked, outcomes, strict=True) if why is None]
        for why in outcomes:
            if why is not None:
                raise why
        done_us = time.time_ns() // 1000
        manifests = [_manifest(member, name) for member in taken]
        copied = _copy(folder, name, list(zip(taken, manifests, strict=True)), tell)
    finally:
        for member in taken:
            _attempt(lambda member=member: _forget(member, name))  # type: ignore[misc]
    missing = tuple(member.name for member in members if member.name in without)
    size = sum(manifest.bytes for manifest in manifests)
    snapshot = Snapshot(name, at_us, done_us, cluster, tuple(member.name for member in taken), missing, size)
    folder.complete(snapshot, manifests)
    left = tuple((member.name, name) for member in asked for name in _held(member))
    return Copied(snapshot, *copied, left)


def forget(name: str, urls: Sequence[str]) -> list[str]:
    """Have all peers that hold a snapshot of this name forget it; their names."""
    members, _ = members_of(urls)
    found = [member for member in members if name in _held(member)]
    for member in found:
        _forget(member, name)
    return [member.name for member in found]


def _held(member: Member) -> list[str]:
    """The snapshots that a peer has now."""
    found = orjson.loads(_asked(member, "GET", "/v1/admin/snapshots"))
    return [snapshot["name"] for snapshot in found["snapshots"]]


def _attempt(act: Callable[[], Any]) -> Failure | None:
    try:
        act()
    except Failure as error:
        return error
    return None


def _asked(member: Member, method: str, path: str, body: Any = None) -> bytes:
    peer = Peer(member.url, TIMEOUT_S)
    data = None if body is None else orjson.dumps(body)
    try:
        return expect(peer.request(method, path, data, {"Content-Type": "application/json"})).body
    except UnreachableError as error:
        if error.sent:
            raise broken(error) from error
        raise Failure(
            f"{member.name} cannot be reached at {member.url}: {error.reason}",
            hint=f"start it, or leave it out (its replicas have its data): --without {member.name}",
            code="no_peer",
        ) from error
    finally:
        peer.close()


def _take(member: Member, name: str) -> None:
    _asked(member, "POST", "/v1/admin/snapshots", {"name": name})


def _forget(member: Member, name: str) -> None:
    _asked(member, "DELETE", f"/v1/admin/snapshots/{name}")


def _manifest(member: Member, name: str) -> Manifest:
    body = _asked(member, "GET", f"/v1/admin/snapshots/{name}")
    try:
        return decode_manifest(body)
    except (msgspec.DecodeError, SnapshotError) as error:
        raise Failure(f"{member.name} tells no manifest: {error}", code="damaged") from None


def _copy(
    folder: Folder, name: str, parts: Sequence[tuple[Member, Manifest]], tell: Progress
) -> tuple[int, int]:
    """Bring what the folder lacks; how many bytes and files that were."""
    wanted: dict[str, tuple[Member, File]] = {}
    for member, manifest in parts:
        for file in manifest.files:
            if not folder.has(file.hash):
                wanted.setdefault(file.hash, (member, file))
    total, done = sum(file.bytes for _, file in wanted.values()), 0
    tell(done, total)
    for member, file in wanted.values():
        peer = Peer(member.url, TIMEOUT_S)
        path = f"/v1/admin/snapshots/{name}/files/{file.name}"
        try:
            with peer.stream("GET", path) as response:
                if response.status != 200:
                    raise refusal_of(member.url, response.status, response.read(65_536))
                done += folder.add(file.hash, response)
        except UnreachableError as error:
            raise broken(error) from error
        finally:
            peer.close()
        tell(done, total)
    for _, manifest in parts:
        folder.put(name, manifest)
    return total, len(wanted)
