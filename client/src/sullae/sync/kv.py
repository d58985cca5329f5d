"""The synchronous face of `sullae.kv`, written by `generate_sync.py`."""

from __future__ import annotations

from typing import Any

from sullae import kv
from sullae.calls import Changes, Consistency
from sullae.models import Bucket, KeyInfo, Value
from sullae.sync.kv_bulk import KvBulk
from sullae.sync.running import Paged, Runner


class Kv:
    """One bucket. The first `put` makes it; `create` makes it with settings of its own."""

    def __init__(self, runner: Runner, it: kv.Kv) -> None:
        self._runner = runner
        self._it = it

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._it.name

    def get(
        self, key: str, *, if_none_match: str | None=None, consistency: Consistency | None=None, timeout_s:
        float | None=None
    ) -> Value | None:
        """What the key holds, None if nothing; raises NotFound if there is no such bucket, and NotModified
        if it is what `if_none_match` names.
        """
        return self._runner.run(self._it.get(
            key, if_none_match=if_none_match, consistency=consistency, timeout_s=timeout_s
        ))

    def put(
        self, key: str, value: bytes | str, *, content_type: str | None=None, ttl_s: int | None=None,
        if_match: str | None=None, if_none_match: str | None=None, consistency: Consistency | None=None,
        timeout_s: float | None=None
    ) -> str:
        """Have the key hold these bytes (text as UTF-8); gives the entity tag.

        `if_match` is the tag that the key's value must have (`*`: any), `if_none_match="*"` says that it must
        hold nothing; else PreconditionFailed is raised.
        """
        return self._runner.run(self._it.put(
            key, value, content_type=content_type, ttl_s=ttl_s, if_match=if_match,
            if_none_match=if_none_match, consistency=consistency, timeout_s=timeout_s
        ))

    def put_json(
        self, key: str, value: Any, *, ttl_s: int | None=None, if_match: str | None=None, if_none_match: str |
        None=None, consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> str:
        """Have the key hold this as JSON, every digit kept; gives the entity tag."""
        return self._runner.run(self._it.put_json(
            key, value, ttl_s=ttl_s, if_match=if_match, if_none_match=if_none_match, consistency=consistency,
            timeout_s=timeout_s
        ))

    def delete(
        self, key: str, *, if_match: str | None=None, consistency: Consistency | None=None, timeout_s: float |
        None=None
    ) -> None:
        """Have the key hold nothing; that it held nothing before is no error."""
        self._runner.run(self._it.delete(
            key, if_match=if_match, consistency=consistency, timeout_s=timeout_s
        ))

    def exists(self, key: str, *, consistency: Consistency | None=None, timeout_s: float | None=None) -> bool:
        """Whether the key holds something; False, too, if there is no such bucket."""
        return self._runner.run(self._it.exists(key, consistency=consistency, timeout_s=timeout_s))

    def list(
        self, prefix: str='', *, limit: int | None=None, page_size: int=1000, consistency: Consistency |
        None=None, timeout_s: float | None=None
    ) -> Paged[KeyInfo]:
        """The keys that begin so, in key order if the bucket is ordered."""
        return Paged(self._runner, self._it.list(
            prefix, limit=limit, page_size=page_size, consistency=consistency, timeout_s=timeout_s
        ))

    def bulk(
        self, *, consistency: Consistency | None=None, timeout_s: float | None=None, batch: int=200, requests:
        int=4, raise_failures: bool=True
    ) -> KvBulk:
        """A writer of many keys: `with bucket.bulk() as bulk: bulk.put(key, value)`.

        Up to `requests` batches of up to `batch` operations are under way; `put` waits while there are more.
        At the end BulkError is raised if an operation failed, unless `raise_failures` is false.
        """
        return KvBulk(self._runner, self._it.bulk(
            consistency=consistency, timeout_s=timeout_s, batch=batch, requests=requests,
            raise_failures=raise_failures
        ))

    def create(
        self, *, replication_factor: int | None=None, default_ttl_s: int | None=None, ordered: bool |
        None=None, changes: Changes | None=None, changes_retention_s: int | None=None,
        changes_retention_bytes: int | None=None
    ) -> Bucket:
        """Have the bucket be so, made if it is not there; what is None stays as it is. Of a bucket that
        exists only the default time to live and changes can change.

        `changes` says what the change stream tells of a write: none, keys, new, old or new_and_old;
        `changes_retention_s` and `_bytes` how long, and how many bytes, they are kept (0: as the peers do).
        """
        return self._runner.run(self._it.create(
            replication_factor=replication_factor, default_ttl_s=default_ttl_s, ordered=ordered,
            changes=changes, changes_retention_s=changes_retention_s,
            changes_retention_bytes=changes_retention_bytes
        ))

    def describe(self) -> Bucket:
        """What the bucket is; raises NotFound."""
        return self._runner.run(self._it.describe())

    def drop(self) -> None:
        """Remove the bucket and all that it holds."""
        self._runner.run(self._it.drop())
