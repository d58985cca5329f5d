"""Writes of CQL under an operation id: the custom payload `sullae-op-id`, sent with any statement.

The id makes a retry exact (query/once.py). Every write that a statement makes is asked for under it; reads
and changes of the schema are as ever. A timestamp that the driver adds on its own is not used: such a write
is stamped when it is decided. The id means the very same request: text or prepared statement, and values.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from core.requests import Answer, OperationId
from cql_lite import wire
from cql_lite.errors import InvalidRequestError
from cql_lite.running import Answering
from query.once import OnceEach, check_id

PAYLOAD_KEY: Final = "sullae-op-id"


def fingerprint(request: wire.Query | wire.Execute | wire.Batch) -> bytes:
    """16 bytes that tell a request from others."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(request, wire.Batch):
        digest.update(b"batch %d " % request.kind + request.keyspace.encode())
        for one in request.statements:
            _add(digest, one.statement, one.values)
        return digest.digest()
    text = request.id if isinstance(request, wire.Execute) else request.text
    digest.update(request.parameters.keyspace.encode())
    _add(digest, text, request.parameters.values)
    return digest.digest()


def _add(digest: hashlib.blake2b, text: str | bytes, values: tuple[wire.BoundValue, ...]) -> None:
    data = text.encode() if isinstance(text, str) else text
    digest.update(b"\n%d " % len(data) + data)
    for value in values:
        digest.update(b" -" if not isinstance(value, bytes) else b" %d:" % len(value) + value)
        digest.update(b"?" if value is wire.UNSET else b"")


def operation_of(request: wire.Request, payload: wire.Payload, remember_us: int) -> OperationId | None:
    """The id that a request carries; raises InvalidRequestError for one that cannot be."""
    found = payload.get(PAYLOAD_KEY)
    if found is None or not isinstance(request, wire.Query | wire.Execute | wire.Batch):
        return None
    problem = check_id(found)
    if problem is not None:
        raise InvalidRequestError(problem.detail)
    return OperationId(found, fingerprint(request), remember_us)


def unstamped(request: wire.Request) -> wire.Request:
    """The request without the timestamp that its driver added."""
    if isinstance(request, wire.Query | wire.Execute):
        parameters = msgspec.structs.replace(request.parameters, timestamp_us=None)
        return msgspec.structs.replace(request, parameters=parameters)
    return msgspec.structs.replace(request, timestamp_us=None) if isinstance(request, wire.Batch) else request


def under_id(answering: Answering, of: OperationId) -> Answering:
    """The same answers, with every write asked for under the id."""
    count = 0
    answers: list[Answer] | None = None
    try:
        asked = next(answering)
        while True:
            try:
                each = OnceEach(asked, of, count)
            except ValueError as error:
                asked = answering.throw(InvalidRequestError(str(error)))
                continue
            count = each.count
            answers = each.answers((yield tuple(each.requests)))
            asked = answering.send(answers)
    except StopIteration as stop:
        response: wire.Response = stop.value
        return response
