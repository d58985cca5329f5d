"""The lines of `POST /v1/kv/{bucket}/_bulk`. How they are read and done: server/rest/bulk.py.

    {"op": "put", "key": "k", "value": "text"}            as text/plain; charset=utf-8
    {"op": "put", "key": "k", "json": {"any": ["JSON"]}}  as application/json, kept as it was written
    {"op": "put", "key": "k", "base64": "3q2+7w=="}       as application/octet-stream
    {"op": "get", "key": "k"}                             answers `value`, or `base64` where it is no UTF-8
    {"op": "delete", "key": "k"}

A put may have `ttl` (seconds) and a `content_type` of its own. An outcome is {"key", "status", ...} with the
status that the single request would have had, and the members of a problem where it is one.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from core.requests import Answer, Invalid, OperationId, ReadRequest, RowsRead, WriteRequest, Written
from core.settings import Settings
from kv import operations as kv
from kv.buckets import Bucket
from server.rest.bodies import check_names
from server.rest.buckets import Buckets
from server.rest.bulk import LINE_OVERHEAD, Item, UnmadeError
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import Options

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


_NOTHING: Final = msgspec.Raw(b"")


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One operation."""

    op: str
    key: str
    value: str | None = None
    json: msgspec.Raw = _NOTHING
    base64: str | None = None
    content_type: str | None = None
    ttl: int | None = None


_decoder = msgspec.json.Decoder(Line)


class KvLines:
    """Implements server.rest.bulk.Door; what is the door's own of an item is the bucket."""

    member = "key"

    def __init__(self, buckets: Buckets, bucket_name: str, wanted: Options, settings: Settings) -> None:
        self.place = bucket_name
        self.line_bytes_max = settings.value_bytes_max * 4 // 3 + LINE_OVERHEAD
        self._buckets = buckets
        self._wanted = wanted
        self._settings = settings

    def plan(self, data: bytes, item: Item, of: OperationId | None) -> None:
        """Say what a line asks."""
        line = _decoder.decode(data)
        check_names(data, (member for member in astuple(line) if member is not _NOTHING))
        item.name = line.key
        if line.op == "put":
            bucket = self._buckets.find(self.place)
            if bucket is None:
                raise UnmadeError
        else:
            bucket = self._buckets.known(self.place)
        request = self._request(line, bucket)
        if isinstance(request, Invalid):
            raise invalid(request)
        item.what, item.request = bucket, request

    async def make(self) -> None:
        """Have the bucket be made."""
        await self._buckets.used(self.place)

    def _request(self, line: Line, bucket: Bucket) -> WriteRequest | ReadRequest | Invalid:
        level = self._wanted.level
        given = (line.value is not None) + (line.base64 is not None) + (line.json is not _NOTHING)
        if line.op == "put":
            if given != 1:
                raise ProblemError("bad-body", "a put has exactly one of value, json and base64")
            value, content_type = _value(line)
            if len(value) > self._settings.value_bytes_max:
                limit = self._settings.value_bytes_max
                raise ProblemError("value-too-large", f"at most {limit} bytes are taken", limit_bytes=limit)
            ttl_s = self._wanted.ttl_s if line.ttl is None else line.ttl
            return kv.put(bucket, line.key, value, line.content_type or content_type, level, ttl_s=ttl_s)
        if given or line.content_type is not None or line.ttl is not None:
            raise ProblemError("bad-body", f"a {line.op[:20]} has op and key, nothing else")
        if line.op == "get":
            return kv.get(bucket, line.key, level)
        if line.op == "delete":
            return kv.delete(bucket, line.key, level)
        raise ProblemError("bad-body", f"op is put, get or delete; found {line.op[:60]!r}")

    def told(self, item: Item, answer: Answer) -> dict[str, Any]:
        """The outcome of a line that was answered."""
        if isinstance(answer, Written):
            return {"key": item.name, "status": 204, "etag": kv.etag(answer.version)}
        if not isinstance(answer, RowsRead):
            return {"key": item.name, **problem_of(answer).body()}
        value = kv.value_of(item.what, answer)
        if value is None:
            return {"key": item.name, **ProblemError("no-such-key", "the bucket holds nothing there").body()}
        found = {"key": item.name, "status": 200, "etag": value.etag, "content_type": value.content_type}
        try:
            return {**found, "value": value.value.decode()}
        except UnicodeDecodeError:
            return {**found, "base64": base64.b64encode(value.value).decode()}


def _value(line: Line) -> tuple[bytes, str]:
    if line.value is not None:
        try:
            return line.value.encode(), TEXT
        except UnicodeEncodeError:
            raise ProblemError("bad-body", "the value holds half of a surrogate pair") from None
    if line.base64 is not None:
        try:
            return base64.b64decode(line.base64, validate=True), kv.OCTETS
        except (binascii.Error, ValueError) as error:
            raise ProblemError("bad-body", f"the base64 cannot be decoded: {error}") from None
    return bytes(line.json), JSON
