"""Errors as RFC 9457 problem details: what each refusal of a node, and each bad request, is in HTTP.

`type` is a stable word that programs may rely on; `detail` is for people and may change. The distinction that
counts: `outcome-unknown` (504) says that a write may have happened, all other errors of a write say that it
has not.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import web

from core.requests import (
    Answer,
    Broken,
    Changed,
    Invalid,
    Overloaded,
    Timeout,
    Unavailable,
    Unready,
)

PROBLEM_JSON: Final = "application/problem+json"
RETRY_AFTER_S: Final = "1"

TITLES: Final[dict[str, tuple[int, str]]] = {
    "bad-path": (400, "The path is malformed"),
    "bad-query": (400, "The query is malformed"),
    "bad-body": (400, "The body is malformed"),
    "bad-key": (400, "This cannot be a key"),
    "bad-bucket-name": (400, "This cannot be a bucket's name"),
    "bad-collection-name": (400, "This cannot be a collection's name"),
    "bad-collection": (400, "A collection cannot be set so"),
    "bad-changes": (400, "A table cannot keep changes so"),
    "bad-id": (400, "This cannot be an id"),
    "bad-document": (400, "This is no JSON document"),
    "bad-patch": (400, "This is no patch"),
    "bad-filter": (400, "This is no filter"),
    "bad-projection": (400, "This is no projection"),
    "bad-sort": (400, "This is no order"),
    "bad-pipeline": (400, "This is no pipeline"),
    "bad-index": (400, "This is no index"),
    "bad-unique-value": (400, "A unique index cannot compare this"),
    "too-many-unique-values": (400, "The document has too many values in unique indexes"),
    "unique-index": (400, "This cannot be done where there is a unique index"),
    "unique-changed": (503, "The unique indexes changed meanwhile; nothing was written"),
    "scan-refused": (400, "No index fits, and a scan would look at too many documents"),
    "index-building": (503, "The index is still being built"),
    "too-deep": (400, "The JSON is nested too deep"),
    "bad-level": (400, "There is no such consistency level for this"),
    "bad-ttl": (400, "This cannot be a time to live"),
    "bad-timeout": (400, "This cannot be a timeout"),
    "bad-cursor": (400, "This is no cursor of this listing"),
    "bad-prefix": (400, "This cannot be a prefix of keys"),
    "bad-limit": (400, "This cannot be a limit"),
    "bad-sink": (400, "This cannot be a sink"),
    "bad-group": (400, "This cannot be a consumer group"),
    "no-such-sink": (404, "There is no such sink"),
    "no-such-group": (404, "There is no such consumer group"),
    "bad-content-type": (400, "This content type cannot be kept"),
    "bad-replication-factor": (400, "This cannot be a replication factor"),
    "bad-argument": (400, "The verb does not take this"),
    "bad-request": (400, "The request cannot be done as asked"),
    "cql-syntax": (400, "This is no CQL"),
    "cql-invalid": (400, "The statement cannot be done as it says"),
    "not-permitted": (403, "This may not be done"),
    "not-found": (404, "There is nothing at this path"),
    "no-such-snapshot": (404, "This peer has no such snapshot"),
    "bad-snapshot-name": (400, "This cannot be a snapshot's name"),
    "bad-snapshot": (409, "This snapshot cannot be read by this version"),
    "cannot-restart": (409, "This peer would not start again"),
    "snapshot-exists": (409, "There is a snapshot of this name"),
    "snapshot-failed": (500, "The snapshot could not be taken"),
    "no-such-bucket": (404, "There is no such bucket"),
    "no-such-key": (404, "There is no such key"),
    "no-such-collection": (404, "There is no such collection"),
    "no-such-document": (404, "There is no such document"),
    "no-such-table": (404, "There is no such table"),
    "no-such-index": (404, "There is no such index"),
    "no-such-verb": (404, "There is no such verb"),
    "method-not-allowed": (405, "This cannot be done with this resource"),
    "bad-session": (400, "This is no session token"),
    "bad-idempotency-key": (400, "This cannot be an idempotency key"),
    "idempotency-key-in-use": (409, "A request with this idempotency key is under way"),
    "idempotency-key-reused": (422, "This idempotency key belongs to another request"),
    "bucket-exists": (409, "The bucket exists and is different"),
    "already-exists": (409, "What is to be created exists"),
    "collection-exists": (409, "The collection exists and is different"),
    "patch-conflict": (409, "The patch cannot be done to this document"),
    "too-many-cells": (409, "The document was patched in too many places"),
    "group-fenced": (409, "This session is no member of the group, or others own these parts"),
    "group-busy": (409, "The group has members"),
    "changes-off": (409, "The table keeps no changes for subscribers"),
    "index-exists": (409, "The index exists and is different"),
    "unique-build-failed": (409, "The unique index could not be built"),
    "unique-violation": (409, "Another document has this value, and a unique index lets only one have it"),
    "precondition-failed": (412, "The precondition does not hold"),
    "value-too-large": (413, "The value is too large"),
    "document-too-large": (413, "The document is too large"),
    "body-too-large": (413, "The body is too large"),
    "target-too-long": (414, "The path or the query is too long"),
    "unsupported-media-type": (415, "This content type is not taken here"),
    "content-encoding-not-supported": (415, "Bodies are taken as they are, without encodings"),
    "expectation-failed": (417, "This expectation cannot be met"),
    "document-invalid": (422, "The document is not what the collection's schema asks for"),
    "headers-too-large": (431, "There are too many headers, or one is too long"),
    "internal-error": (500, "A bug in this peer"),
    "conditional-not-supported": (501, "This condition on an update is not supported"),
    "transfer-coding-not-supported": (501, "Bodies are taken as they are, in chunks or not"),
    "unknown-method": (501, "There is no such method"),
    "unavailable": (503, "Too few replicas are alive; nothing was written"),
    "overloaded": (503, "This peer takes no more now; nothing was written"),
    "not-ready": (503, "This peer does not serve now"),
    "replicas-failed": (503, "Replicas answered with failures"),
    "collection-not-created": (503, "The collection's first use needs the metadata voters"),
    "bucket-not-created": (503, "The bucket's first use needs the metadata voters"),
    "disk-full": (507, "There is no room on this peer's disk"),
    "outcome-unknown": (504, "Too few replicas answered in time: the write may or may not be there"),
    "timeout": (504, "Too few replicas answered in time"),
}
"""Every type, with its status and title."""

_INVALID: Final = {
    "no_such_table": "no-such-bucket",
    "no_such_keyspace": "no-such-bucket",
    "too_large": "value-too-large",
    "already_exists": "bucket-exists",
    "operation_id_reused": "idempotency-key-reused",
    "bad_name": "bad-bucket-name",
}


class ProblemError(Exception):
    """A request ends with this problem. `members` are added to the problem's own."""

    def __init__(self, kind: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        assert kind in TITLES, kind
        self.kind = kind
        self.detail = detail.encode(errors="replace").decode()  # headers may hold bytes that are no text
        self.members = members
        self.headers: dict[str, str] = {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return TITLES[self.kind][0]

    def body(self) -> dict[str, Any]:
        """The problem details object."""
        status, title = TITLES[self.kind]
        return {
            "type": self.kind,
            "title": title,
            "status": status,
            "detail": self.detail,
            **self.members,
        }

    def response(self) -> web.Response:
        """The HTTP answer."""
        headers = {"Server": "sullae", "Content-Type": PROBLEM_JSON, **self.headers}
        if self.status == 503:
            headers["Retry-After"] = RETRY_AFTER_S
        return web.Response(status=self.status, body=orjson.dumps(self.body()), headers=headers)


def not_allowed(allowed: str) -> ProblemError:
    """The problem of a method that a resource does not have; `allowed` names those that it has."""
    error = ProblemError("method-not-allowed", f"there are: {allowed}")
    error.headers["Allow"] = allowed
    return error


def problem_of(answer: Answer) -> ProblemError:
    """The problem that a node's refusal is."""
    if isinstance(answer, Timeout):
        kind = "outcome-unknown" if answer.write else "timeout"
        detail = f"{answer.received} of {answer.required} replicas answered at {answer.level.value} in time"
        if answer.write and answer.write_type == "CAS":
            detail += "; a GET with consistency=serial settles whether it was written"
        return ProblemError(
            kind, detail, received=answer.received, required=answer.required, level=answer.level.value
        )
    if isinstance(answer, Unavailable):
        detail = f"{answer.level.value} needs {answer.required} replicas; {answer.alive} are alive"
        return ProblemError(
            "unavailable", detail, required=answer.required, alive=answer.alive, level=answer.level.value
        )
    if isinstance(answer, Overloaded):
        return ProblemError("overloaded", answer.detail)
    if isinstance(answer, Unready):
        return ProblemError("not-ready", answer.detail)
    if isinstance(answer, Broken):
        return _broken(answer)
    if isinstance(answer, Invalid):
        return invalid(answer)
    if isinstance(answer, Changed):
        kind = _kind_of(answer.code)
        return ProblemError(kind, answer.error)
    raise AssertionError(f"no refusal: {answer}")


def invalid(answer: Invalid) -> ProblemError:
    """The problem that an invalid request is."""
    return ProblemError(_kind_of(answer.code), answer.detail, **dict(answer.about))


def _kind_of(code: str) -> str:
    kind = _INVALID.get(code, code.replace("_", "-"))
    return kind if kind in TITLES else "bad-request"


def _broken(answer: Broken) -> ProblemError:
    counts = {"received": answer.received, "required": answer.required, "failures": answer.failures}
    if answer.write and answer.unknown:
        return ProblemError("outcome-unknown", answer.detail, **counts)
    return ProblemError("replicas-failed", answer.detail, **counts)
