"""Buckets as REST has them: found by name, made on first use, described, altered, dropped."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from core.families import DEFAULT_FACTOR
from core.requests import Changed, Invalid, MetadataRequest
from core.schema import TableOptions
from kv import buckets as kv_buckets
from kv.buckets import Bucket, BucketSpec
from node.metadata_state import State
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import decoded_body
from server.rest.problems import ProblemError, invalid, problem_of

METADATA_TIMEOUT_US: Final = 10_000_000
BODY_BYTES_MAX: Final = 4096


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /v1/buckets/{bucket}. What is not said stays as it is."""

    replication_factor: int | None = None
    default_ttl_s: int | None = None
    ordered: bool | None = None
    changes: str | None = None
    changes_retention_s: int | None = None
    changes_retention_bytes: int | None = None


_decoder = msgspec.json.Decoder(_Body)


class Buckets:
    """The buckets of the cluster, as this node's metadata has them."""

    def __init__(self, node: Node, bridge: Bridge) -> None:
        self._node = node
        self._bridge = bridge
        self._state: State | None = None
        self._found: dict[str, Bucket | None] = {}
        self._creating: dict[str, asyncio.Task[Bucket]] = {}

    def find(self, name: str) -> Bucket | None:
        """The bucket, or None; looked up once per epoch."""
        state = self._node.metadata.state
        if state is not self._state:
            self._state = state
            self._found = {}
        try:
            return self._found[name]
        except KeyError:
            bucket = kv_buckets.find(state, name)
            if bucket is not None:  # names that are not there are the client's to invent
                self._found[name] = bucket
            return bucket

    def known(self, name: str) -> Bucket:
        """The bucket, or a ProblemError."""
        bucket = self.find(name)
        if bucket is None:
            problem = kv_buckets.check_name(name)
            if problem is not None:
                raise invalid(problem)
            self._must_serve()
            raise ProblemError("no-such-bucket", f"there is no bucket {name}; the first PUT makes it")
        return bucket

    def _must_serve(self) -> None:
        """Who is not ready does not know which buckets there are."""
        ready, why = self._node.ready()
        if not ready:
            raise ProblemError("not-ready", why)

    async def used(self, name: str) -> Bucket:
        """The bucket, made with the defaults if it is not there; who wants it meanwhile shares the change."""
        bucket = self.find(name)
        if bucket is not None:
            return bucket
        task = self._creating.get(name)
        if task is None:
            task = self._creating[name] = asyncio.ensure_future(self._first_use(name))
            task.add_done_callback(lambda _: self._creating.pop(name, None))
        return await asyncio.shield(task)

    async def _first_use(self, name: str) -> Bucket:
        try:
            await self._change(self._creation(BucketSpec(name)))
        except ProblemError as error:
            if error.status < 500:
                raise
            detail = f"the bucket {name} could not be made, so nothing was written: {error.detail}"
            raise ProblemError("bucket-not-created", detail) from error
        bucket = self.find(name)
        if bucket is None:
            raise ProblemError("bucket-exists", f"a table {name} that is no bucket has this name")
        return bucket

    def _creation(self, spec: BucketSpec) -> MetadataRequest | Invalid:
        state = self._node.metadata.state
        default = max((n for _, n in self._factors(state)), default=DEFAULT_FACTOR)
        return kv_buckets.create_bucket(spec, state.members, default)

    def _factors(self, state: State) -> tuple[tuple[str, int], ...]:
        keyspace = state.keyspaces.get(kv_buckets.KEYSPACE)
        return () if keyspace is None else keyspace.replication.factors

    async def _change(self, request: MetadataRequest | Invalid) -> None:
        if isinstance(request, Invalid):
            raise invalid(request)
        answer = await self._bridge.ask(request, METADATA_TIMEOUT_US)
        if not isinstance(answer, Changed) or answer.error:
            raise problem_of(answer)

    # --- /v1/buckets

    async def put(self, name: str, body: bytes) -> tuple[bool, dict[str, Any]]:
        """Have a bucket be so: whether it is new, and its description."""
        wanted = decoded_body(_decoder, body, "a bucket's description") if body.strip() else _Body()
        self._must_serve()
        spec = BucketSpec(
            name,
            wanted.replication_factor,
            wanted.default_ttl_s,
            wanted.ordered,
            wanted.changes,
            wanted.changes_retention_s,
            wanted.changes_retention_bytes,
        )
        bucket = self.find(name)
        is_new = bucket is None
        if bucket is None:
            await self._change(self._creation(spec))
            bucket = self.find(name)
        if bucket is None:
            raise ProblemError("bucket-exists", f"a table {name} that is no bucket has this name")
        problem = kv_buckets.conflict(bucket, spec)
        if problem is not None:
            raise invalid(problem)
        if spec.options(bucket.options) != bucket.options:
            await self._change(kv_buckets.alter_bucket(bucket, spec))
            bucket = self.find(name) or bucket
        return is_new, describe(bucket)

    async def drop(self, name: str) -> None:
        """Remove a bucket and all that it holds."""
        await self._change(kv_buckets.drop_bucket(self.known(name)))

    def listed(self) -> list[dict[str, Any]]:
        """All buckets."""
        self._must_serve()
        return [describe(bucket) for bucket in kv_buckets.every(self._node.metadata.state)]


def kept(options: TableOptions) -> dict[str, Any]:
    """How long changes are kept at least, and how many bytes of them, if the table says so itself."""
    kept_s, kept_bytes = options.changes_kept_s, options.changes_kept_bytes
    said = {"changes_retention_s": kept_s, "changes_retention_bytes": kept_bytes}
    return {name: value for name, value in said.items() if value}


def describe(bucket: Bucket) -> dict[str, Any]:
    """A bucket as JSON."""
    return {
        "bucket": bucket.name,
        "table": f"{bucket.keyspace}.{bucket.name}",
        "replication_factor": bucket.replication_factor,
        "default_ttl_s": bucket.default_ttl_s,
        "ordered": bucket.ordered,
        "changes": bucket.options.changes,
        **kept(bucket.options),
    }
