"""Buckets: bytes under keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sullae.calls import JSON, Call, Changes, Consistency, path_of, query_of
from sullae.items import Items, Limits
from sullae.kv_bulk import KvBulk
from sullae.models import Bucket, KeyInfo, Value
from sullae.paging import Paged
from sullae.requests import Requests, dumps, octets, wanted_level
from sullae.retrying import Repeat
from sullae.transport import Transport

OCTETS = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"


class Kv:
    """One bucket. The first `put` makes it; `create` makes it with settings of its own."""

    def __init__(self, transport: Transport, bucket: str) -> None:
        self._transport = transport
        self._requests = Requests(transport)
        self._name = bucket
        self._items = Items(transport, "kv", bucket, lambda key: path_of("kv", bucket, key), "no-such-key")

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    async def get(
        self,
        key: str,
        *,
        if_none_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Value | None:
        """What the key holds, None if nothing; raises NotFound if there is no such bucket, and NotModified
        if it is what `if_none_match` names.
        """
        reply = await self._items.get(key, if_none_match, Limits(consistency, timeout_s))
        if reply is None:
            return None
        return Value(key, reply.body, reply.headers.get("Content-Type", OCTETS), reply.etag)

    async def put(
        self,
        key: str,
        value: bytes | str,
        *,
        content_type: str | None = None,
        ttl_s: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Have the key hold these bytes (text as UTF-8); gives the entity tag.

        `if_match` is the tag that the key's value must have (`*`: any), `if_none_match="*"` says that it must
        hold nothing; else PreconditionFailed is raised.
        """
        body = octets(value)
        kind = content_type or (TEXT if isinstance(value, str) else OCTETS)
        call = self._items.call("put", "PUT", key, Limits(consistency, timeout_s))
        return await self._items.put(
            call, (kind, body), ttl_s, if_match=if_match, if_none_match=if_none_match
        )

    async def put_json(
        self,
        key: str,
        value: Any,
        *,
        ttl_s: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Have the key hold this as JSON, every digit kept; gives the entity tag."""
        return await self.put(
            key,
            dumps(value),
            content_type=JSON,
            ttl_s=ttl_s,
            if_match=if_match,
            if_none_match=if_none_match,
            consistency=consistency,
            timeout_s=timeout_s,
        )

    async def delete(
        self,
        key: str,
        *,
        if_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Have the key hold nothing; that it held nothing before is no error."""
        await self._items.delete(key, if_match, Limits(consistency, timeout_s))

    async def exists(
        self, key: str, *, consistency: Consistency | None = None, timeout_s: float | None = None
    ) -> bool:
        """Whether the key holds something; False, too, if there is no such bucket."""
        return await self._items.exists(key, Limits(consistency, timeout_s))

    def list(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        page_size: int = 1_000,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Paged[KeyInfo]:
        """The keys that begin so, in key order if the bucket is ordered."""
        level = wanted_level(self._transport, consistency)

        async def fetch(cursor: Any, count: int) -> tuple[Any, Any]:
            query = (*query_of(prefix=prefix or None, after=cursor, limit=count), *level)
            call = Call("kv.list", "GET", path_of("kv", self._name), query, target=self._name)
            lines, after = await self._requests.lines(call, timeout_s)
            keys = [
                KeyInfo(one["key"], one["bytes"], one["content_type"] or OCTETS, one["etag"]) for one in lines
            ]
            return keys, after

        return Paged(fetch, vars, limit, page_size)

    def bulk(
        self,
        *,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
        batch: int = 200,
        requests: int = 4,
        raise_failures: bool = True,
    ) -> KvBulk:
        """A writer of many keys: `async with bucket.bulk() as bulk: await bulk.put(key, value)`.

        Up to `requests` batches of up to `batch` operations are under way; `put` waits while there are more.
        At the end BulkError is raised if an operation failed, unless `raise_failures` is false.
        """
        level = wanted_level(self._transport, consistency)
        return KvBulk(
            self._transport, self._name, level, timeout_s,
            batch=batch, requests=requests, raise_failures=raise_failures,
        )  # fmt: skip

    async def create(
        self,
        *,
        replication_factor: int | None = None,
        default_ttl_s: int | None = None,
        ordered: bool | None = None,
        changes: Changes | None = None,
        changes_retention_s: int | None = None,
        changes_retention_bytes: int | None = None,
    ) -> Bucket:
        """Have the bucket be so, made if it is not there; what is None stays as it is. Of a bucket that
        exists only the default time to live and changes can change.

        `changes` says what the change stream tells of a write: none, keys, new, old or new_and_old;
        `changes_retention_s` and `_bytes` how long, and how many bytes, they are kept (0: as the peers do).
        """
        given = {
            "changes": changes,
            "changes_retention_s": changes_retention_s,
            "changes_retention_bytes": changes_retention_bytes,
            "replication_factor": replication_factor,
            "default_ttl_s": default_ttl_s,
            "ordered": ordered,
        }
        wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return bucket_of(
            await self._requests.ask("kv.create", "PUT", path_of("buckets", self._name), wanted, writes=True)
        )

    async def describe(self) -> Bucket:
        """What the bucket is; raises NotFound."""
        return bucket_of(await self._requests.ask("kv.describe", "GET", path_of("buckets", self._name)))

    async def drop(self) -> None:
        """Remove the bucket and all that it holds."""
        await self._requests.ask(
            "kv.drop",
            "DELETE",
            path_of("buckets", self._name),
            writes=True,
            repeat=Repeat.HARMFUL,
        )
        self._transport.forget(self._name)


def bucket_of(found: Mapping[str, Any]) -> Bucket:
    """A bucket's description."""
    return Bucket(
        found["bucket"],
        found["table"],
        found["replication_factor"],
        found["default_ttl_s"],
        found["ordered"],
        found.get("changes", "none"),
        found.get("changes_retention_s", 0),
        found.get("changes_retention_bytes", 0),
    )
