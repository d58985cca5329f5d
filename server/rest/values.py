"""`/v1/kv/{bucket}/{key}`: one value at a time. This is the hot path of the key-value door."""

from __future__ import annotations

from hashlib import blake2b

from aiohttp import web

from core.requests import ConditionalRequest, Invalid, Judged, OperationId, RowsRead, WriteRequest, Written
from core.settings import Settings
from kv import operations as kv
from kv.buckets import Bucket
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body, written_out
from server.rest.buckets import Buckets
from server.rest.conditions import condition_of, conditional, read_condition_of, tag_of
from server.rest.idempotency import Idempotency, fingerprint, key_of
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import READ_PARAMETERS, WRITE_PARAMETERS, decoded, options

DELETE_PARAMETERS = ("consistency", "timeout_ms")
SANDBOX_HEADER, SANDBOX = "Content-Security-Policy", "sandbox"
"""A browser shows a stored page, but runs none of its scripts: they would act as pages of this origin."""


class Values:
    """GET, HEAD, PUT and DELETE of a value."""

    def __init__(self, bridge: Bridge, buckets: Buckets, budget: Budget, settings: Settings) -> None:
        self._bridge = bridge
        self._buckets = buckets
        self._budget = budget
        self._settings = settings
        self._idempotency = Idempotency(settings.operation_ids_us)

    async def put(self, request: web.BaseRequest, bucket_name: str, raw_key: str, query: str) -> web.Response:
        """Have the key hold this body."""
        wanted = options(query, WRITE_PARAMETERS)
        key = decoded(raw_key)
        headers = request.headers
        condition = condition_of(request)
        if "Content-Range" in headers:
            raise ProblemError("bad-request", "a part of a value cannot be written: leave Content-Range out")
        body = await read_body(request, self._settings.value_bytes_max, self._budget, "value-too-large")
        bucket = self._buckets.find(bucket_name) or await self._buckets.used(bucket_name)
        content_type = headers.get("Content-Type", kv.OCTETS)
        write = kv.put(bucket, key, body, content_type, wanted.level, ttl_s=wanted.ttl_s)
        asked = _asked(bucket, write, condition)
        of = self._operation(request, bucket, query, body, content_type)
        return await self._written(bucket, asked, of, wanted.write_timeout_us(self._settings, len(body)))

    async def delete(
        self, request: web.BaseRequest, bucket_name: str, raw_key: str, query: str
    ) -> web.Response:
        """Have the key hold nothing; that it held nothing before is no error."""
        wanted = options(query, DELETE_PARAMETERS)
        condition = condition_of(request)
        bucket = self._buckets.known(bucket_name)
        write = kv.delete(bucket, decoded(raw_key), wanted.level)
        asked = _asked(bucket, write, condition)
        of = self._operation(request, bucket, query, b"", "")
        return await self._written(bucket, asked, of, wanted.write_timeout_us(self._settings))

    def _operation(
        self, request: web.BaseRequest, bucket: Bucket, query: str, body: bytes, content_type: str
    ) -> OperationId | None:
        key = key_of(request)
        if key is None:
            return None
        headers, path = request.headers, request.raw_path.partition("?")[0]
        if bucket.ordered:  # its keys are rows of one partition, which remembers ids for all of them
            key = blake2b(key + b"\0" + decoded(path).encode(), digest_size=16).hexdigest().encode()
        conditions = (headers.get("If-Match"), headers.get("If-None-Match"))
        told = fingerprint(request.method, path, query, body, content_type, *conditions)
        return self._idempotency.operation(key, told)

    async def _written(
        self,
        bucket: Bucket,
        asked: WriteRequest | ConditionalRequest,
        of: OperationId | None,
        timeout_us: int,
    ) -> web.Response:
        answer = await self._idempotency.ask(self._bridge, asked, of, timeout_us)
        if isinstance(answer, Written):
            tag = kv.etag(answer.version)
        elif isinstance(answer, Judged):
            tag = tag_of(bucket, answer)
        else:
            raise problem_of(answer)
        return web.Response(status=204, headers={"Server": "sullae", "ETag": tag})

    async def get(self, request: web.BaseRequest, bucket_name: str, raw_key: str, query: str) -> web.Response:
        """What the key holds."""
        wanted = options(query, READ_PARAMETERS)
        condition = read_condition_of(request)
        bucket = self._buckets.known(bucket_name)
        key = decoded(raw_key)
        read = kv.get(bucket, key, wanted.level)
        if isinstance(read, Invalid):
            raise invalid(read)
        answer = await self._bridge.begin(read, wanted.read_timeout_us(self._settings))
        if not isinstance(answer, RowsRead):
            raise problem_of(answer)
        value = kv.value_of(bucket, answer)
        if value is None:
            raise ProblemError("no-such-key", f"the bucket {bucket_name} holds nothing under this key")
        etag = value.etag
        if condition is not None and not condition.matches(etag):
            raise ProblemError("precondition-failed", f"the value's entity tag is {etag}")
        found = {"Server": "sullae", "ETag": etag}
        if condition is not None and condition.is_there(etag):
            return web.Response(status=304, headers=found)
        found["Content-Type"] = value.content_type or kv.OCTETS
        found[SANDBOX_HEADER] = SANDBOX
        found["Content-Length"] = str(len(value.value))  # also of nothing, to HEAD
        response = web.Response(body=value.value, headers=found)
        await written_out(request, response, len(value.value), self._budget)
        return response


def _asked(
    bucket: Bucket, write: WriteRequest | Invalid, condition: kv.Condition | None
) -> WriteRequest | ConditionalRequest:
    if isinstance(write, Invalid):
        raise invalid(write)
    return write if condition is None else conditional(bucket, write, condition)
