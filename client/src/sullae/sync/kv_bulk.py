"""The synchronous face of `sullae.kv_bulk`, written by `generate_sync.py`."""

from __future__ import annotations

from typing import Any

from sullae import kv_bulk
from sullae.sync.running import BulkWriter


class KvBulk(BulkWriter[kv_bulk.KvBulk]):
    """Puts and deletes of one bucket; see `Kv.bulk`."""

    def put(
        self, key: str, value: bytes | str, *, content_type: str | None=None, ttl_s: int | None=None
    ) -> None:
        """Have the key hold these bytes, or this text, soon; waits while too much is under way."""
        self._runner.run(self._it.put(key, value, content_type=content_type, ttl_s=ttl_s))

    def put_json(self, key: str, value: Any, *, ttl_s: int | None=None) -> None:
        """Have the key hold this as JSON soon."""
        self._runner.run(self._it.put_json(key, value, ttl_s=ttl_s))

    def delete(self, key: str) -> None:
        """Have the key hold nothing soon."""
        self._runner.run(self._it.delete(key))
