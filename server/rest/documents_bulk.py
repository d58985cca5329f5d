"""`POST /v1/docs/{collection}/_bulk`: many operations on one connection, one outcome per line, in order.

    {"op": "put", "id": "a", "document": {"any": ["JSON"]}}        without `id` one is made
    {"op": "patch", "id": "a", "merge": {"x": null}}               JSON Merge Patch
    {"op": "patch", "id": "a", "patch": [{"op": "remove", ...}]}   JSON Patch
    {"op": "patch", "id": "a", "update": {"$inc": {"n": 1}}}       update operators
    {"op": "get", "id": "a"}                                       answers `document`
    {"op": "delete", "id": "a"}

A put or patch may have `ttl` (seconds); a put, patch or delete `if_match` or `if_none_match`, one entity tag
or `*`. An outcome is {"id", "status", "etag"} with the status that the single request would have had, and the
members of a problem where it is one. Lines are read as fast as outcomes are: at most `LINES_AHEAD` lines and
`BYTES_AHEAD` bytes are in work at once, so a load of any size needs constant memory. Operations on different
documents run side by side; one on a document that is in work waits until that is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from core.requests import Answer, Invalid, Judged, Request, RowsRead, Written
from core.settings import Settings
from documents import operations
from documents.collections import Collection
from documents.operations import Condition, NotMet, Operation, Wanted
from server.bridge import Bridge
from server.rest.bulk import BYTES_AHEAD, LINE_OVERHEAD, LINES_AHEAD
from server.rest.collections import Collections
from server.rest.documents import JSON_PATCH, MERGE_PATCH, UPDATE, edit_of, refused
from server.rest.documents_ids import new_id
from server.rest.documents_listing import one_line
from server.rest.ndjson import FLUSH_BYTES, NDJSON
from server.rest.problems import ProblemError, invalid
from server.rest.targets import Options

_NOTHING: Final = msgspec.Raw(b"")
_BODIES: Final = ("document", "merge", "patch", "update")


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One operation."""

    op: str
    id: str | None = None
    document: msgspec.Raw = _NOTHING
    merge: msgspec.Raw = _NOTHING
    patch: msgspec.Raw = _NOTHING
    update: msgspec.Raw = _NOTHING
    ttl: int | None = None
    if_match: str | None = None
    if_none_match: str | None = None


_decoder = msgspec.json.Decoder(Line)


class _InWork(msgspec.Struct):
    """A line whose outcome is awaited: the number of a request to the node and, once it is there, the answer;
    or the problem that the line has. `awaited` is a future of whoever waits for it.
    """

    id: str | None
    bytes: int
    request: int = 0
    answer: Answer | None = None
    awaited: asyncio.Future[None] | None = None
    operation: Operation | None = None
    collection: Collection | None = None
    problem: ProblemError | None = None


class DocumentsBulk:
    """One bulk request."""

    def __init__(
        self, bridge: Bridge, collections: Collections, name: str, wanted: Options, settings: Settings
    ) -> None:
        self._bridge = bridge
        self._collections = collections
        self._name = name
        self._wanted = wanted
        self._settings = settings
        self._line_bytes_max = settings.value_bytes_max + LINE_OVERHEAD
        self._in_work: deque[_InWork] = deque()
        self._plain = Wanted(wanted.level, wanted.ttl_s)
        self._ids: set[str] = set()
        self._bytes = 0
        self._out = bytearray()

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Read lines, write outcomes."""
        if request.headers.get("Expect") is not None and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        response = web.StreamResponse(headers={"Server": "sullae", "Content-Type": NDJSON})
        await response.prepare(request)
        try:
            async for line in self._lines(request):
                if not line.strip():
                    continue
                while len(self._in_work) >= LINES_AHEAD or (
                    self._in_work and self._bytes + len(line) > BYTES_AHEAD
                ):
                    await self._finish_first(response)
                await self._begin(line, response)
            while self._in_work:
                await self._finish_first(response)
        except ProblemError as error:  # not a line: nothing after it can be understood
            while self._in_work:
                await self._finish_first(response)
            self._out += orjson.dumps({"id": None, **error.body()}) + b"\n"
        finally:
            for item in self._in_work:
                if item.request and item.answer is None:
                    self._bridge.forget(item.request)
        await response.write_eof(bytes(self._out))
        return response

    async def _lines(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        held = bytearray()
        async for part in request.content.iter_any():
            *lines, rest = part.split(b"\n")
            for line in lines:
                whole = bytes(held) + line if held else line
                held.clear()
                self._check_length(len(whole))
                yield whole
            held += rest
            self._check_length(len(held))
        if held:
            yield bytes(held)

    def _check_length(self, size: int) -> None:
        limit = self._line_bytes_max
        if size > limit:
            raise ProblemError("body-too-large", f"a line has at most {limit} bytes", limit_bytes=limit)

    async def _begin(self, data: bytes, response: web.StreamResponse) -> None:
        item = _InWork(None, len(data))
        try:
            line = _decoder.decode(data)
            item.id = line.id if line.id is not None or line.op != "put" else new_id()
            if item.id is None:
                raise ProblemError("bad-body", f"a {line.op[:20]} has an id")
            while item.id in self._ids:
                await self._finish_first(response)
            collection = self._collections.find(self._name)
            self._send(line, item, collection or await self._collection(line.op))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            item.problem = ProblemError("bad-body", f"this line is no operation: {error}")
        except ProblemError as error:
            item.problem = error
        self._in_work.append(item)
        self._bytes += item.bytes
        if item.id is not None:
            self._ids.add(item.id)

    async def _collection(self, op: str) -> Collection:
        """The collection, made by its first use if this is one that may."""
        if op in ("put", "patch"):
            return await self._collections.used(self._name)
        return self._collections.known(self._name)

    def _send(self, line: Line, item: _InWork, collection: Collection) -> None:
        assert item.id is not None, "it was checked"
        document_id = item.id
        item.collection = collection
        wanted, settings = self._wanted, self._settings
        if line.op == "get":
            self._check_members(line, ())
            read = operations.get(collection, document_id, wanted.level)
            if isinstance(read, Invalid):
                raise invalid(read)
            self._ask(item, read, wanted.read_timeout_us(settings))
            return
        operation = self._operation(line, collection, document_id)
        if isinstance(operation, Invalid):
            raise invalid(operation)
        item.operation = operation
        self._ask(item, operation.request, wanted.write_timeout_us(settings))

    def _ask(self, item: _InWork, request: Request, timeout_us: int) -> None:
        """Ask the node. A future per line would cost more than what is done with its answer."""

        def then(answer: Answer) -> None:
            item.answer = answer
            if item.awaited is not None and not item.awaited.done():
                item.awaited.set_result(None)

        item.request = self._bridge.call(request, timeout_us, then)

    def _operation(self, line: Line, collection: Collection, document_id: str) -> Operation | Invalid:
        wanted, condition = self._plain, _condition(line)
        if line.ttl is not None or condition is not None:
            wanted = Wanted(wanted.level, wanted.ttl_s if line.ttl is None else line.ttl, condition)
        if line.op == "put":
            self._check_members(line, ("document",))
            return operations.put(collection, document_id, bytes(line.document), wanted)
        if line.op == "patch":
            given = self._check_members(line, ("merge", "patch", "update"))
            kind = {"merge": MERGE_PATCH, "patch": JSON_PATCH, "update": UPDATE}[given]
            bytes_max = collection.settings.max_document_bytes
            return operations.edit(
                collection, document_id, edit_of(kind, bytes(getattr(line, given)), bytes_max), wanted
            )
        if line.op == "delete":
            self._check_members(line, ())
            return operations.delete(collection, document_id, wanted)
        raise ProblemError("bad-body", f"op is put, patch, get or delete; found {line.op[:60]!r}")

    def _check_members(self, line: Line, one_of: tuple[str, ...]) -> str:
        """The one member among these that a line must have; a ProblemError if it has others."""
        bodies = [name for name in _BODIES if getattr(line, name) is not _NOTHING]
        if len(bodies) != len(one_of[:1]) or not set(bodies) <= set(one_of):
            detail = (
                f"has exactly one of {', '.join(one_of)}" if len(one_of) > 1 else "has " + "".join(one_of)
            )
            raise ProblemError("bad-body", f"a {line.op} {detail if one_of else 'has no document'}")
        conditional = line.if_match is not None or line.if_none_match is not None
        if (line.op in ("get", "delete") and line.ttl is not None) or (line.op == "get" and conditional):
            raise ProblemError(
                "bad-body", f"a {line.op} has no ttl" + " and no condition" * (line.op == "get")
            )
        return bodies[0] if bodies else ""

    async def _finish_first(self, response: web.StreamResponse) -> None:
        """Await the oldest line's outcome and write it, many at a time."""
        item = self._in_work[0]
        if item.problem is None and item.answer is None:
            if self._out:
                await self._flush(response)
            if item.answer is None:
                item.awaited = asyncio.get_running_loop().create_future()
                await item.awaited
        outcome = _outcome(item)
        self._in_work.popleft()
        self._bytes -= item.bytes
        if item.id is not None:
            self._ids.discard(item.id)
        self._out += orjson.dumps(outcome) + b"\n"
        if len(self._out) >= FLUSH_BYTES:
            await self._flush(response)

    async def _flush(self, response: web.StreamResponse) -> None:
        data = bytes(self._out)
        self._out.clear()
        await response.write(data)


def _condition(line: Line) -> Condition | None:
    if line.if_match is None and line.if_none_match is None:
        return None
    match, none_match = line.if_match, line.if_none_match
    return Condition(None if match is None else (match,), None if none_match is None else (none_match,))


def _outcome(item: _InWork) -> dict[str, Any]:
    """What to say of a line."""
    if item.problem is not None:
        return {"id": item.id, **item.problem.body()}
    assert item.collection is not None, "it was asked"
    answer = item.answer
    assert answer is not None, "it was awaited"
    if isinstance(answer, (Written, Judged)):
        assert item.operation is not None
        outcome = item.operation.outcome(answer)
        if isinstance(outcome, NotMet):
            problem = ProblemError("precondition-failed", "the condition does not hold", etag=outcome.tag)
            return {"id": item.id, **problem.body()}
        return {"id": item.id, "status": 204, "etag": outcome.tag}
    if not isinstance(answer, RowsRead):
        return {"id": item.id, **refused(answer, item.collection).body()}
    document = operations.found(item.collection, answer)
    if document is None:
        return {"id": item.id, **ProblemError("no-such-document", "there is no such document").body()}
    text = orjson.Fragment(one_line(document.text))
    return {"id": document.id, "status": 200, "etag": document.tag, "document": text}
