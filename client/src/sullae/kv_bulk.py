"""The writer of many keys."""

from __future__ import annotations

import base64
from typing import Any

from sullae.bulk import BulkWriter, Line
from sullae.calls import path_of
from sullae.requests import Query, dumps, octets
from sullae.transport import Transport


class KvBulk(BulkWriter):
    """Puts and deletes of one bucket; see `Kv.bulk`."""

    def __init__(
        self,
        transport: Transport,
        bucket: str,
        query: Query,
        timeout_s: float | None,
        *,
        batch: int,
        requests: int,
        raise_failures: bool,
    ) -> None:
        super().__init__(
            transport, f"{path_of('kv', bucket)}/_bulk", query, timeout_s,
            target=bucket, batch=batch, requests=requests, raise_failures=raise_failures,
        )  # fmt: skip

    async def put(
        self, key: str, value: bytes | str, *, content_type: str | None = None, ttl_s: int | None = None
    ) -> None:
        """Have the key hold these bytes, or this text, soon; waits while too much is under way."""
        line: dict[str, Any] = {"op": "put", "key": key}
        if isinstance(value, str):
            line["value"] = value
        else:
            line["base64"] = base64.b64encode(octets(value)).decode()
        if content_type is not None:
            line["content_type"] = content_type
        if ttl_s is not None:
            line["ttl"] = ttl_s
        await self._add(Line("put", key, dumps(line) + b"\n"))

    async def put_json(self, key: str, value: Any, *, ttl_s: int | None = None) -> None:
        """Have the key hold this as JSON soon."""
        line: dict[str, Any] = {"op": "put", "key": key, "json": value}
        if ttl_s is not None:
            line["ttl"] = ttl_s
        await self._add(Line("put", key, dumps(line) + b"\n"))

    async def delete(self, key: str) -> None:
        """Have the key hold nothing soon."""
        await self._add(Line("delete", key, dumps({"op": "delete", "key": key}) + b"\n"))
