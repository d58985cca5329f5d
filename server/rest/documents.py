"""`/v1/docs/{collection}/{id}`: one document at a time.

A PATCH is what its content type says: `application/merge-patch+json` (RFC 7396),
`application/json-patch+json` (RFC 6902), or update operators as `application/vnd.sullae.update+json`, which
may be a pipeline of stages, too. Plain `application/json` is an update if all names begin with `$`, or it is
such a pipeline, and else a merge patch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web

from core.json_values import JsonError, parse
from core.requests import Answer, Invalid, Judged, OperationId, RowsRead, Written
from core.settings import Settings
from documents import operations
from documents.collections import DEFAULTS, Collection
from documents.edits import Edit, EditError, merge_patch, parsed
from documents.indexes import schema_name
from documents.json_patch import json_patch
from documents.operations import Condition, Done, NotMet, Operation, Wanted
from documents.pipeline_updates import is_pipeline, pipeline_update
from documents.updates import update_of
from kv import operations as kv
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body, written_out
from server.rest.collections import Collections
from server.rest.conditions import condition_of, read_condition_of
from server.rest.documents_ids import id_of_key, new_id
from server.rest.idempotency import Idempotency, fingerprint, key_of
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import (
    EDIT_PARAMETERS,
    READ_PARAMETERS,
    WRITE_PARAMETERS,
    Options,
    decoded,
    options,
)

JSON: Final = "application/json"
CURLS_OWN: Final = "application/x-www-form-urlencoded"
"""What curl says of a body if it is told nothing; that it is JSON is seen when it is read."""
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
UPDATE: Final = "application/vnd.sullae.update+json"
ACCEPT_PATCH: Final = f"{MERGE_PATCH}, {JSON_PATCH}, {UPDATE}"


class Documents:
    """GET, HEAD, PUT, PATCH and DELETE of a document, POST of a new one."""

    def __init__(self, bridge: Bridge, collections: Collections, budget: Budget, settings: Settings) -> None:
        self._bridge = bridge
        self._collections = collections
        self._budget = budget
        self._settings = settings
        self._idempotency = Idempotency(settings.operation_ids_us)

    async def get(self, request: web.BaseRequest, name: str, raw_id: str, query: str) -> web.Response:
        """The document, in the bytes that were put unless it was patched."""
        wanted = options(query, READ_PARAMETERS)
        collection = self._collections.known(name)
        condition = _as_of_documents(read_condition_of(request))
        read = operations.get(collection, decoded(raw_id), wanted.level)
        if isinstance(read, Invalid):
            raise invalid(read)
        answer = await self._bridge.ask(read, wanted.read_timeout_us(self._settings))
        if not isinstance(answer, RowsRead):
            raise problem_of(answer)
        document = operations.found(collection, answer)
        if document is None:
            raise ProblemError("no-such-document", f"the collection {name} has no document of this id")
        if condition is not None and not condition.holds(document.tag):
            if condition.match is not None and not Condition(condition.match).holds(document.tag):
                raise _not_met(document.tag)
            return web.Response(status=304, headers={"Server": "sullae", "ETag": document.tag})
        response = web.Response(body=document.text, headers=_headers(document.tag, JSON))
        await written_out(request, response, len(document.text), self._budget)
        return response

    async def put(self, request: web.BaseRequest, name: str, raw_id: str, query: str) -> web.Response:
        """Have the document be this body."""
        wanted = options(query, WRITE_PARAMETERS)
        document_id, condition = decoded(raw_id), _condition(request)
        collection, body = await self._body(request, name)
        collection = await self._collections.expiring(collection, wanted.ttl_s)
        how = Wanted(wanted.level, wanted.ttl_s, condition)
        of = self._operation(request, query, body)
        done = await self.done(operations.put(collection, document_id, body, how), wanted, of, len(body))
        return web.Response(status=204, headers=_headers(done.tag))

    async def post(self, request: web.BaseRequest, name: str, query: str) -> web.Response:
        """A new document under an id that is made here."""
        wanted = options(query, WRITE_PARAMETERS)
        if _condition(request) is not None:
            raise ProblemError(
                "bad-request", "a new document has no condition: use PUT with If-None-Match: *"
            )
        collection, body = await self._body(request, name)
        collection = await self._collections.expiring(collection, wanted.ttl_s)
        of = self._operation(request, query, body)
        document_id = new_id() if of is None else id_of_key(name, of.id)
        how = Wanted(wanted.level, wanted.ttl_s)
        done = await self.done(operations.put(collection, document_id, body, how), wanted, of, len(body))
        headers = _headers(done.tag, JSON)
        headers["Location"] = f"/v1/docs/{name}/{document_id}"
        return web.Response(status=201, body=orjson.dumps({"id": document_id}), headers=headers)

    async def _body(self, request: web.BaseRequest, name: str) -> tuple[Collection, bytes]:
        """The collection, made if it is not there, and a body of JSON."""
        kind = media_type(request)
        if kind not in ("", JSON, CURLS_OWN) and not kind.endswith("+json"):
            raise ProblemError(
                "unsupported-media-type", f"a document is {JSON}; found {kind[:60]!r} as content type"
            )
        body = await self._read(request, name)
        return self._collections.find(name) or await self._collections.used(name), body

    async def _read(self, request: web.BaseRequest, name: str) -> bytes:
        collection = self._collections.find(name)
        limit = self._settings.value_bytes_max
        if collection is not None:
            limit = min(limit, collection.settings.max_document_bytes)
        return await read_body(request, limit, self._budget, "document-too-large")

    async def patch(self, request: web.BaseRequest, name: str, raw_id: str, query: str) -> web.Response:
        """Have the document be edited as the content type says."""
        wanted = options(query, EDIT_PARAMETERS)
        document_id, condition, kind = decoded(raw_id), _condition(request), media_type(request)
        if kind not in _EDITS:
            error = ProblemError(
                "unsupported-media-type", f"a PATCH is one of {ACCEPT_PATCH}; found {kind[:60]!r}"
            )
            error.headers["Accept-Patch"] = ACCEPT_PATCH
            raise error
        body = await self._read(request, name)
        collection = self._collections.find(name)
        bytes_max = (DEFAULTS if collection is None else collection.settings).max_document_bytes
        edit = edit_of(kind, body, bytes_max)
        if collection is None:
            if kind == JSON_PATCH or (condition is not None and condition.match is not None):
                collection = self._collections.known(name)
            else:
                collection = await self._collections.used(name)
        collection = await self._collections.expiring(collection, wanted.ttl_s)
        how = Wanted(wanted.level, wanted.ttl_s, condition, wanted.returning)
        of = self._operation(request, query, body)
        done = await self.done(operations.edit(collection, document_id, edit, how), wanted, of, len(body))
        if wanted.returning:
            return web.Response(body=done.text or b"null", headers=_headers(done.tag, JSON))
        return web.Response(status=204, headers=_headers(done.tag))

    async def delete(self, request: web.BaseRequest, name: str, raw_id: str, query: str) -> web.Response:
        """Have there be no document; that there was none before is no error."""
        wanted = options(query, READ_PARAMETERS)
        condition = _condition(request)
        collection = self._collections.known(name)
        how = Wanted(wanted.level, None, condition)
        of = self._operation(request, query, b"")
        await self.done(operations.delete(collection, decoded(raw_id), how), wanted, of)
        return web.Response(status=204, headers={"Server": "sullae"})

    def _operation(self, request: web.BaseRequest, query: str, body: bytes) -> OperationId | None:
        """The id of a write that is done once however often it is sent, if it has one."""
        key = key_of(request)
        if key is None:
            return None
        headers, path = request.headers, request.raw_path.partition("?")[0]
        counts = (headers.get("Content-Type"), headers.get("If-Match"), headers.get("If-None-Match"))
        return self._idempotency.operation(key, fingerprint(request.method, path, query, body, *counts))

    async def done(
        self,
        operation: Operation | Invalid,
        wanted: Options,
        of: OperationId | None = None,
        body_bytes: int = 0,
    ) -> Done:
        """Have it done; a ProblemError if it cannot be or its condition does not hold."""
        if isinstance(operation, Invalid):
            raise invalid(operation)
        timeout_us = wanted.write_timeout_us(self._settings, body_bytes)
        answer = await self._idempotency.ask(self._bridge, operation.request, of, timeout_us)
        if not isinstance(answer, (Written, Judged)):
            raise refused(answer, operation.collection)
        outcome = operation.outcome(answer)
        if isinstance(outcome, NotMet):
            raise _not_met(outcome.tag)
        return outcome


def refused(answer: Answer, collection: Collection) -> ProblemError:
    """The problem that a node's refusal of an edit is; indexes have the names that clients gave them."""
    if isinstance(answer, Invalid) and answer.code == "too_large":
        return ProblemError("too-many-cells", answer.detail)
    problem = problem_of(answer)
    whole = problem.members.get("index", "")
    if isinstance(answer, Invalid) and whole:
        name = whole.removeprefix(schema_name(collection, ""))
        problem.members["index"] = name
        problem.detail = problem.detail.replace(whole, name)
    return problem


def media_type(request: web.BaseRequest) -> str:
    """The content type of a request without its parameters; "" if it has none."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _json_edit(body: bytes, bytes_max: int) -> Edit:
    try:
        value = parse(body)
    except JsonError as error:
        raise EditError("bad_body", str(error)) from None
    if is_pipeline(value):
        return _update(body, bytes_max)
    if type(value) is not dict:
        raise EditError("bad_patch", f"{JSON} takes an object; an array of operations is {JSON_PATCH}")
    dollars = [name.startswith("$") for name in value]
    if any(dollars) and not all(dollars):
        raise EditError("bad_patch", f"operators and members cannot be mixed; or send it as {MERGE_PATCH}")
    return _update(body, bytes_max) if dollars and all(dollars) else merge_patch(body, bytes_max)


def _update(body: bytes, bytes_max: int) -> Edit:
    value, now_us = parsed(body, bytes_max), time.time_ns() // 1000
    if is_pipeline(value):
        return pipeline_update(value, now_us, len(body))
    return update_of(value, now_us, len(body))


_EDITS: Final[dict[str, Callable[[bytes, int], Edit]]] = {
    MERGE_PATCH: merge_patch,
    JSON_PATCH: json_patch,
    UPDATE: _update,
    JSON: _json_edit,
}


def edit_of(kind: str, body: bytes, bytes_max: int) -> Edit:
    """The edit that a body of this content type is; a ProblemError if it is none."""
    try:
        return _EDITS[kind](body, bytes_max)
    except EditError as error:
        raise invalid(Invalid(error.code, str(error))) from None


def _condition(request: web.BaseRequest) -> Condition | None:
    return _as_of_documents(condition_of(request))


def _as_of_documents(condition: kv.Condition | None) -> Condition | None:
    return None if condition is None else Condition(condition.match, condition.none_match)


def _headers(tag: str | None, kind: str = "") -> dict[str, str]:
    headers = {"Server": "sullae"}
    if tag is not None:
        headers["ETag"] = tag
    if kind:
        headers["Content-Type"] = kind
    return headers


def _not_met(tag: str | None) -> ProblemError:
    if tag is None:
        return ProblemError("precondition-failed", "there is no document; nothing was written", etag=None)
    error = ProblemError("precondition-failed", f"the document's entity tag is {tag}", etag=tag)
    error.headers["ETag"] = tag
    return error
