"""How workloads speak to a cluster: keys and values in, typed ends of operations out.

Only this file knows requests, answers and the schema; workloads and checkers know keys, values and
versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from core.cell import NO_VERSION, Version
from core.consistency import Level
from core.mutation import DELETE
from core.requests import (
    BatchRequest,
    Broken,
    Changed,
    ConditionalRequest,
    CounterRequest,
    Invalid,
    Judged,
    MetadataRequest,
    Overloaded,
    PartRead,
    ReadRequest,
    Request,
    RowsRead,
    ScanRequest,
    Timeout,
    Unavailable,
    Unready,
    WriteRequest,
    Written,
)
from jepsen_like.history import FAIL, INFO, OK
from kv import buckets, operations
from kv.buckets import Bucket, BucketSpec
from lsm import keys
from sim.cluster import Reply, SimCluster
from sim.real import node_of

CONTENT_TYPE = "text/plain"
WRITES = (WriteRequest, BatchRequest, ConditionalRequest, CounterRequest)
SLACK_US = 500_000
"""How much longer a client waits than it asks the coordinator to try."""


class End(NamedTuple):
    """How an operation ended: a status of jepsen_like/history.py, what it brought, and why it did not."""

    status: str
    result: Any
    detail: str


Then = Callable[[End], None]

Change = Callable[[tuple[bytes | None, ...]], Mapping[str, bytes] | None]
"""What a transaction makes of the values it read: what to write by key, or None to write nothing."""


class Transacted(NamedTuple):
    """A transaction is decided: whether it wrote, and the values that it was decided by."""

    applied: bool
    values: tuple[bytes | None, ...]


class Found(NamedTuple):
    """A key with its value and version."""

    key: str
    value: bytes
    version: Version


class Door:
    """One client's way into a cluster."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.patience_us = 0
        """The least time that a client gives an operation; 0 for what the settings say."""

    # --- schema

    def bucket(self, name: str) -> Bucket | None:
        """The bucket as the first running peer that knows it sees it."""
        for index in self.cluster.running():
            found = buckets.find(node_of(self.cluster, index).metadata.state, name)
            if found is not None:
                return found
        return None

    def create_bucket(self, peer: int, spec: BucketSpec, then: Then) -> None:
        """Create a bucket if it is not there."""
        state = node_of(self.cluster, peer).metadata.state
        request = buckets.create_bucket(spec, state.members)
        assert isinstance(request, MetadataRequest), request
        self.ask(peer, request, then)

    # --- keys

    def put(
        self,
        peer: int,
        bucket: Bucket,
        item: tuple[str, bytes],
        level: Level,
        then: Then,
        *,
        ttl_s: int | None = None,
    ) -> None:
        """Write (key, value); ok brings the version."""
        request = operations.put(bucket, item[0], item[1], CONTENT_TYPE, level, ttl_s=ttl_s)
        assert isinstance(request, WriteRequest), request
        self.ask(peer, request, then)

    def put_all(
        self, peer: int, bucket: Bucket, items: list[tuple[str, bytes]], level: Level, then: Then
    ) -> None:
        """Write (key, value) pairs as one logged batch; ok brings the version of all."""
        self.put_across(peer, [(bucket, key, value) for key, value in items], level, then)

    def put_across(
        self, peer: int, items: Sequence[tuple[Bucket, str, bytes]], level: Level, then: Then
    ) -> None:
        """As `put_all`, with (bucket, key, value) of several buckets."""
        writes = [operations.put(bucket, key, value, CONTENT_TYPE, level) for bucket, key, value in items]
        puts = tuple(write for write in writes if isinstance(write, WriteRequest))
        assert len(puts) == len(items), writes
        self.ask(peer, BatchRequest(puts, level), then)

    def transact(self, peer: int, bucket: Bucket, keys: Sequence[str], change: Change, then: Then) -> None:
        """Read some keys of an ordered bucket, which is one partition, and write there what `change` makes of
        their values, all in one. Ok brings a `Transacted`.
        """
        puts = {key: operations.put(bucket, key, b"", CONTENT_TYPE, Level.QUORUM) for key in keys}
        places = [put for put in puts.values() if isinstance(put, WriteRequest)]
        assert bucket.ordered and len(places) == len(keys), puts

        def values(reads: tuple[RowsRead, ...]) -> tuple[bytes | None, ...]:
            found = [operations.value_of(bucket, read) for read in reads]
            return tuple(None if value is None else value.value for value in found)

        def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
            new = change(values(reads))
            if new is None:
                return None
            writes = [operations.put(bucket, key, new[key], CONTENT_TYPE, Level.QUORUM) for key in new]
            rows = tuple(row for write in writes if isinstance(write, WriteRequest) for row in write.rows)
            return msgspec.structs.replace(places[0], rows=rows)

        def decided(reply: Reply) -> None:
            end, answer = end_of(reply, WRITE), reply.answer
            if isinstance(answer, Judged):
                end = end._replace(result=Transacted(answer.applied, values(answer.reads)))
            then(end)

        parts = tuple(PartRead(place.rows[0].suffix) for place in places)
        first = places[0]
        self._send(
            peer, ConditionalRequest(bucket.table, first.partition, parts, decide, Level.QUORUM), decided
        )

    def update(
        self, peer: int, bucket: Bucket, key: str, change: Callable[[bytes | None], bytes | None], then: Then
    ) -> None:
        """Have a key hold what `change` makes of its value, in one, or leave it if that is None.

        Ok brings whether it was changed: False says that `change` gave None.
        """
        place = operations.put(bucket, key, b"", CONTENT_TYPE, Level.QUORUM)
        assert isinstance(place, WriteRequest), place

        def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
            value = operations.value_of(bucket, reads[0])
            new = change(None if value is None else value.value)
            if new is None:
                return None
            write = operations.put(bucket, key, new, CONTENT_TYPE, Level.QUORUM)
            assert isinstance(write, WriteRequest), write
            return write

        part = PartRead(place.rows[0].suffix)
        self.ask(
            peer,
            ConditionalRequest(bucket.table, place.partition, (part,), decide, Level.QUORUM),
            then,
        )

    def delete(self, peer: int, bucket: Bucket, key: str, level: Level, then: Then) -> None:
        """Delete a key; ok brings the version."""
        request = operations.delete(bucket, key, level)
        assert isinstance(request, WriteRequest), request
        self.ask(peer, request, then)

    def delete_many(
        self, peer: int, bucket: Bucket, window: tuple[str, str], level: Level, then: Then
    ) -> None:
        """Delete the keys of [first, end) of an ordered bucket, or ("", "") for all of its partition."""
        suffixes = [keys.ROW_SUFFIX + keys.clustering_text(key) for key in window]
        ranges = ((suffixes[0], suffixes[1]),) if window != ("", "") else ()
        request = WriteRequest(
            bucket.table,
            bucket.name.encode(),
            (),
            level,
            DELETE,
            partition_delete=not ranges,
            ranges=ranges,
        )
        self.ask(peer, request, then)

    def get(self, peer: int, bucket: Bucket, key: str, level: Level, then: Then) -> None:
        """Read a key; ok brings a Found or None."""
        request = operations.get(bucket, key, level)
        assert isinstance(request, ReadRequest), request

        def found(end: End) -> None:
            if end.status == OK:
                value = operations.value_of(bucket, end.result[-1])
                result = None if value is None else Found(key, value.value, value.version)
                end = End(OK, result, "")
            then(end)

        self.ask(peer, request, found)

    def page(self, peer: int, bucket: Bucket, window: tuple[str, str, int], level: Level, then: Then) -> None:
        """Read the keys of an ordered bucket in (after, ...) with a prefix: ok brings (Founds, more).

        `window` is (prefix, after, rows_max).
        """
        prefix, after, rows_max = window
        cursor = operations.cursor(bucket, after) if after else ""
        request = operations.listing(bucket, prefix, cursor, rows_max, level)
        assert isinstance(request, (ReadRequest, ScanRequest)), request
        self._page(peer, bucket, request, then)

    def page_back(self, peer: int, bucket: Bucket, window: tuple[str, int], level: Level, then: Then) -> None:
        """Read the last keys of an ordered bucket before one, in reverse: ok brings (Founds, more).

        `window` is (before, rows_max); before "" there are all keys.
        """
        before, rows_max = window
        first = keys.ROW_SUFFIX
        end = first + keys.clustering_text(before) if before else keys.successor(first)
        place = bucket.table, bucket.name.encode()
        request = ReadRequest(*place, first, end, False, level, rows_max, reverse=True)
        self._page(peer, bucket, request, then)

    def _page(self, peer: int, bucket: Bucket, request: ReadRequest | ScanRequest, then: Then) -> None:
        def found(end: End) -> None:
            if end.status == OK:
                rows = [row for part in end.result for row in _found(bucket, part)]
                end = End(OK, (rows, end.result[-1].more), "")
            then(end)

        self.ask(peer, request, found)

    # --- how it ended

    def ask(self, peer: int, request: Request, then: Then) -> None:
        """Send a request; `then` is called once."""
        effect = READ
        if isinstance(request, (*WRITES, MetadataRequest)):
            effect = CHANGE if isinstance(request, MetadataRequest) else WRITE
        self._send(peer, request, lambda reply: then(end_of(reply, effect)))

    def _send(self, peer: int, request: Request, then: Callable[[Reply], None]) -> None:
        settings = self.cluster.options.settings
        limit_us = settings.write_timeout_us if isinstance(request, WRITES) else settings.read_timeout_us
        limit_us = max(limit_us, self.patience_us, 5_000_000 if isinstance(request, MetadataRequest) else 0)
        self.cluster.request(peer, request, limit_us + SLACK_US, then)


def _found(bucket: Bucket, part: RowsRead) -> list[Found]:
    found = []
    for item in part.rows:
        value = operations.value_of(bucket, RowsRead((item,), part.now_us, False))
        if value is not None:
            found.append(Found(operations.key_of(bucket, item.key), value.value, value.version))
    return found


READ, WRITE, CHANGE = "read", "write", "change"
"""What an operation does: nothing, something to rows, something to the schema."""


def end_of(reply: Reply, effect: str) -> End:
    """What a client may conclude.

    A read that failed changed nothing, so it is never info. A schema change that a peer was not ready for may
    have been proposed and may still be decided.
    """
    unknown = FAIL if effect == READ else INFO
    answer = reply.answer
    if answer is None:
        return End(FAIL if reply.refused else unknown, None, "refused" if reply.refused else "no answer")
    match answer:
        case Written(version):
            return End(OK, version, "")
        case Judged(applied):
            return End(OK, applied, "")
        case RowsRead():
            return End(OK, reply.answers, "")
        case Changed(error=error, code=code):
            return End(FAIL, None, code) if error else End(OK, answer, code)
        case Broken(unknown=False):
            return End(FAIL, None, answer.detail)
        case Timeout(write=False, write_type="CAS"):
            return End(FAIL, None, "nothing proposed in time")
        case Timeout() | Broken():
            return End(unknown, None, type(answer).__name__)
        case Unready() if effect == CHANGE:
            return End(INFO, None, answer.detail)
        case Unavailable() | Overloaded() | Unready() | Invalid():
            return End(FAIL, None, f"{type(answer).__name__}: {getattr(answer, 'detail', '')}")
        case _:
            return End(OK, answer, "")


NOTHING = Found("", b"", NO_VERSION)
