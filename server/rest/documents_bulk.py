"""The lines of `POST /v1/docs/{collection}/_bulk`. How they are read and done: server/rest/bulk.py.

    {"op": "put", "id": "a", "document": {"any": ["JSON"]}}        without `id` one is made
    {"op": "patch", "id": "a", "merge": {"x": null}}               JSON Merge Patch
    {"op": "patch", "id": "a", "patch": [{"op": "remove", ...}]}   JSON Patch
    {"op": "patch", "id": "a", "update": {"$inc": {"n": 1}}}       update operators
    {"op": "get", "id": "a"}                                       answers `document`
    {"op": "delete", "id": "a"}

A put or patch may have `ttl` (seconds); a put, patch or delete `if_match` or `if_none_match`, one entity tag
or `*`. An outcome is {"id", "status", "etag"} with the status that the single request would have had, and the
members of a problem where it is one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson
from msgspec.structs import astuple

from core.requests import Answer, Invalid, Judged, OperationId, RowsRead, Written
from core.settings import Settings
from documents import operations
from documents.collections import Collection
from documents.operations import Condition, NotMet, Operation, Wanted
from server.rest.bodies import check_names
from server.rest.bulk import LINE_OVERHEAD, Item, UnmadeError
from server.rest.collections import Collections
from server.rest.documents import JSON_PATCH, MERGE_PATCH, UPDATE, edit_of, refused
from server.rest.documents_ids import id_of_key, new_id
from server.rest.documents_listing import one_line
from server.rest.problems import ProblemError, invalid
from server.rest.targets import Options

_NOTHING: Final = msgspec.Raw(b"")
_OPERATIONS: Final = ("put", "patch", "get", "delete")
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


class DocumentLines:
    """Implements server.rest.bulk.Door; what is the door's own of an item is the operation, or of a get the
    collection.
    """

    member = "id"

    def __init__(self, collections: Collections, name: str, wanted: Options, settings: Settings) -> None:
        self.place = name
        self.line_bytes_max = settings.value_bytes_max + LINE_OVERHEAD
        self._collections = collections
        self._level = wanted.level
        self._plain = Wanted(wanted.level, wanted.ttl_s)
        self._ttl_s = 0

    def plan(self, data: bytes, item: Item, of: OperationId | None) -> None:
        """Say what a line asks."""
        line = _decoder.decode(data)
        check_names(data, (member for member in astuple(line) if member is not _NOTHING))
        document_id = line.id
        if document_id is None and line.op == "put":
            document_id = new_id() if of is None else id_of_key(self.place, of.id)
        if line.op not in _OPERATIONS:
            raise ProblemError("bad-body", f"op is put, patch, get or delete; found {line.op[:60]!r}")
        if document_id is None:
            raise ProblemError("bad-body", f"a {line.op} has an id")
        item.name = document_id
        collection = self._collections.find(self.place)
        if collection is None:
            if line.op in ("put", "patch"):
                raise UnmadeError
            collection = self._collections.known(self.place)
        self._ttl_s = (self._plain.ttl_s if line.ttl is None else line.ttl) or 0
        if self._ttl_s > 0 and line.op in ("put", "patch") and not collection.expires:
            raise UnmadeError
        if line.op == "get":
            self._check_members(line, ())
            read = operations.get(collection, document_id, self._level)
            if isinstance(read, Invalid):
                raise invalid(read)
            item.what, item.request = collection, read
            return
        operation = self._operation(line, collection, document_id)
        if isinstance(operation, Invalid):
            raise invalid(operation)
        item.what, item.request = operation, operation.request

    async def make(self) -> None:
        """Have the collection be made, and be one whose documents may have a time to live."""
        await self._collections.expiring(await self._collections.used(self.place), self._ttl_s)

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
        self._check_members(line, ())
        return operations.delete(collection, document_id, wanted)

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

    def told(self, item: Item, answer: Answer) -> dict[str, Any]:
        """The outcome of a line that was answered."""
        operation = item.what
        if isinstance(operation, Collection):
            return _read(item, operation, answer)
        assert isinstance(operation, Operation), "it was planned"
        if not isinstance(answer, (Written, Judged)):
            return {"id": item.name, **refused(answer, operation.collection).body()}
        outcome = operation.outcome(answer)
        if isinstance(outcome, NotMet):
            problem = ProblemError("precondition-failed", "the condition does not hold", etag=outcome.tag)
            return {"id": item.name, **problem.body()}
        return {"id": item.name, "status": 204, "etag": outcome.tag}


def _read(item: Item, collection: Collection, answer: Answer) -> dict[str, Any]:
    if not isinstance(answer, RowsRead):
        return {"id": item.name, **refused(answer, collection).body()}
    document = operations.found(collection, answer)
    if document is None:
        return {
            "id": item.name,
            **ProblemError("no-such-document", "there is no such document").body(),
        }
    text = orjson.Fragment(one_line(document.text))
    return {"id": document.id, "status": 200, "etag": document.tag, "document": text}


def _condition(line: Line) -> Condition | None:
    if line.if_match is None and line.if_none_match is None:
        return None
    match, none_match = line.if_match, line.if_none_match
    return Condition(None if match is None else (match,), None if none_match is None else (none_match,))
