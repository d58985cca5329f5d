"""Snapshots over REST, for `sullae snapshot`; docs/backup.md tells operators.

    GET     /v1/admin/snapshots                      this peer's snapshots
    POST    /v1/admin/snapshots                      {"name"}: take one
    GET     /v1/admin/snapshots/{name}               its manifest
    DELETE  /v1/admin/snapshots/{name}               forget it
    GET     /v1/admin/snapshots/{name}/files/{file}  one of its files
    GET     /v1/admin/restore/schema                 the tables of now, as MessagePack (core.schema.Table)
    POST    /v1/admin/restore/schema                 changes (core.metadata.Change) to make, in order
    POST    /v1/admin/restore/rows                   rows (core.requests.Restored) to write

Bodies of `restore` are MessagePack, because rows are bytes. Snapshots are this peer's own; putting those of
all peers together is up to who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from core import limits
from core.errors import DiskFullError, StoreError
from core.metadata import OF_MEMBERS, Change
from core.requests import Changed, MetadataRequest, Restored, RestoreRequest, Written
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import Budget, decoded_body, read_body
from server.rest.problems import ProblemError, not_allowed, problem_of
from server.rest.targets import decoded, options
from server.snapshots.taking import About, Manifest, SnapshotError, Snapshots

SNAPSHOTS: Final = "/v1/admin/snapshots"
RESTORE: Final = "/v1/admin/restore"
BODY_BYTES_MAX: Final = 16 * limits.KIB
SCHEMA_BYTES_MAX: Final = 8 * limits.MIB
ROWS_BYTES_MAX: Final = limits.MUTATION_BYTES_MAX + limits.MIB
SCHEMA_TIMEOUT_US: Final = 30_000_000
FILE_S: Final = 120.0
FILE_BYTES_PER_S: Final = 64 * limits.KIB
MSGPACK: Final = "application/msgpack"

_STATUS: Final = {
    "exists": "snapshot-exists",
    "no_such_snapshot": "no-such-snapshot",
    "bad_name": "bad-snapshot-name",
    "format": "bad-snapshot",
}
_changes = msgspec.msgpack.Decoder(tuple[Change, ...])
_rows = msgspec.msgpack.Decoder(tuple[Restored, ...])
T = TypeVar("T")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str


_decoder = msgspec.json.Decoder(_Body)


class SnapshotRoutes:
    """The routes on one node."""

    def __init__(self, node: Node, bridge: Bridge, snapshots: Snapshots, budget: Budget) -> None:
        self._node = node
        self._bridge = bridge
        self._snapshots = snapshots
        self._budget = budget

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        """The answer; raises ProblemError."""
        if path == RESTORE + "/rows" and request.method == "POST":
            return await self._restore_rows(request, query)
        options(query, ())
        if path == RESTORE + "/schema":
            return await self._schema(request)
        names = [decoded(name) for name in path[len(SNAPSHOTS) + 1 :].split("/") if name]
        if path.startswith(RESTORE) or (len(names) > 1 and (len(names) != 3 or names[1] != "files")):
            raise ProblemError(
                "not-found", "there are /v1/admin/snapshots and /v1/admin/restore/rows, /schema"
            )
        try:
            return await self._snapshot(request, names)
        except SnapshotError as error:
            raise ProblemError(_STATUS.get(error.code, "bad-snapshot"), str(error)) from None
        except DiskFullError as error:
            raise ProblemError("disk-full", str(error)) from None
        except (StoreError, OSError) as error:
            raise ProblemError("snapshot-failed", str(error)) from None

    async def _snapshot(self, request: web.BaseRequest, names: list[str]) -> web.StreamResponse:
        method, snapshots = request.method, self._snapshots
        if not names and method == "POST":
            body = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
            wanted = decoded_body(_decoder, body, 'a snapshot, such as {"name": "tonight"}')
            return _json(told(await self._apart(lambda: snapshots.take(wanted.name, self._about()))), 201)
        if not names and method == "GET":
            found = await self._apart(snapshots.list)
            return _json({"snapshots": [told(manifest) for manifest in found]})
        if len(names) == 1 and method == "GET":
            manifest = await self._apart(lambda: snapshots.manifest(names[0]))
            return _answered(msgspec.json.encode(manifest), "application/json")
        if len(names) == 1 and method == "DELETE":
            await self._apart(lambda: snapshots.delete(names[0]))
            return web.Response(status=204, headers={"Server": "sullae"})
        if len(names) == 3 and method == "GET":
            path = snapshots.file(names[0], names[2])
            return await _sent(request, path, path.stat().st_size)
        raise not_allowed({0: "GET, POST", 1: "DELETE, GET"}.get(len(names), "GET"))

    def _about(self) -> About:
        identity, state = self._node.inside.identity, self._node.metadata.state
        cluster = state.name if self._node.metadata.born else self._node.inside.cluster_name
        return About(cluster, state.cluster.hex(), identity.name, identity.peer.hex(), state.epoch)

    async def _apart(self, work: Callable[[], T]) -> T:
        """What blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, work)

    # --- restoring

    async def _schema(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            tables = tuple(self._node.metadata.state.tables.values())
            return _answered(msgspec.msgpack.encode(tables), MSGPACK)
        if request.method != "POST":
            raise not_allowed("GET, POST")
        body = await read_body(request, SCHEMA_BYTES_MAX, self._budget, "body-too-large")
        outcomes = []
        for change in changes_of(body):
            answer = await self._bridge.ask(MetadataRequest(change), SCHEMA_TIMEOUT_US)
            if not isinstance(answer, Changed):
                raise problem_of(answer)
            outcomes.append(answer.error)
        return _json({"errors": outcomes})

    async def _restore_rows(self, request: web.BaseRequest, query: str) -> web.Response:
        wanted = options(query, ("consistency", "timeout_ms"))
        body = await read_body(request, ROWS_BYTES_MAX, self._budget, "body-too-large")
        partitions = _decoded(_rows, body)
        timeout_us = wanted.write_timeout_us(self._node.inside.settings)
        answer = await self._bridge.ask(RestoreRequest(partitions, wanted.level), timeout_us)
        if not isinstance(answer, Written):
            raise problem_of(answer)
        return _json({"partitions": len(partitions)})


def changes_of(body: bytes) -> tuple[Change, ...]:
    """The changes of a schema and of roles in a body; raises ProblemError."""
    changes = _decoded(_changes, body)
    if any(isinstance(change, OF_MEMBERS) for change in changes):
        raise ProblemError("bad-body", "a schema and roles are restored; members are moved by plans")
    return changes


class _File(web.FileResponse):
    """A file that is sent once, whoever asks for it to be prepared."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it, unless it is."""
        return self._payload_writer if self.prepared else await super().prepare(request)


async def _sent(request: web.BaseRequest, path: Path, size: int) -> web.StreamResponse:
    """Send a file while its request is in work: a connection without one is idle, and soon closed.

    A reader that takes less than `FILE_BYTES_PER_S` is cut off.
    """
    response = _File(path, headers={"Server": "sullae"})
    try:
        async with asyncio.timeout(FILE_S + size / FILE_BYTES_PER_S):
            await response.prepare(request)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


def is_snapshots(path: str) -> bool:
    """Whether the path is one of these."""
    return path == SNAPSHOTS or path.startswith((SNAPSHOTS + "/", RESTORE + "/"))


def told(manifest: Manifest) -> dict[str, Any]:
    """What is worth knowing of a snapshot."""
    about = msgspec.structs.asdict(manifest.about)
    return {
        "name": manifest.name,
        "at_us": manifest.at_us,
        "bytes": manifest.bytes,
        "files": len(manifest.files),
        **about,
    }


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError("bad-body", f"not what is restored: {error}") from None


def _answered(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, content_type=content_type, headers={"Server": "sullae"})


def _json(value: Any, status: int = 200) -> web.Response:
    headers = {"Server": "sullae"}
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json", headers=headers
    )
