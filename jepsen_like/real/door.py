"""How workloads speak to real peers: the operations of jepsen_like/door.py over REST, and CQL over REST.

What ended how is told as there: `ok`, `fail` (certainly not done, now or later) or `info` (nobody knows). A
connection that was refused did nothing; one that broke, and a request that took too long, are unknown.
"""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import aiohttp
import msgspec

from core.cell import NO_VERSION, Version
from core.consistency import Level
from jepsen_like.door import CONTENT_TYPE, Change, End, Found, Then, Transacted
from jepsen_like.history import FAIL, INFO, OK
from jepsen_like.real.cluster import RealCluster
from kv.buckets import BucketSpec

SLACK_S = 0.5
AGAIN_S = (0.005, 0.05)
"""How long a defeated conditional update waits before it looks again."""
SCHEMA_S = 10.0

CERTAIN = ("unavailable", "overloaded", "not-ready", "bucket-not-created", "precondition-failed")
"""Problems that say that nothing was done."""

TIMEOUTS = ("timeout", "outcome-unknown")

PREFIX_END = "\U0010ffff"


class RealBucket(NamedTuple):
    """A bucket of a real cluster."""

    name: str
    ordered: bool
    keyspace: str

    @property
    def table(self) -> str:
        """As CQL names it."""
        return f'{self.keyspace}."{self.name}"'


class Answer(NamedTuple):
    """An HTTP answer, or what happened instead: `error` "refused" (nobody was there), or "lost"."""

    status: int
    body: bytes
    etag: str
    error: str = ""
    session: str = ""

    @property
    def problem(self) -> str:
        """The last word of the problem's type."""
        try:
            found = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return ""
        kind = found.get("type", "") if isinstance(found, dict) else ""
        return str(kind).rpartition("/")[2].rpartition(":")[2]


class Statements(Protocol):
    """CQL to real peers by whoever speaks its protocol; without one it goes over REST."""

    async def ask(
        self, address: str, text: str, level: Level, page_size: int
    ) -> tuple[str, list[dict[str, Any]]]:
        """Ask the peer at this address.

        "" and the rows; or what happened: "refused" (nobody was there), "lost", or a problem by REST's name.
        """


class RealDoor:
    """One client's way into a real cluster."""

    def __init__(self, cluster: RealCluster, statements: Statements | None = None) -> None:
        self.cluster = cluster
        self.statements = statements
        self.patience_us = 0
        """The least time that a client gives an operation; 0 for what the settings say."""
        self._buckets: dict[str, RealBucket] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- schema

    def bucket(self, name: str) -> RealBucket | None:
        """A bucket that was made."""
        return self._buckets.get(name)

    def create_bucket(self, peer: int, spec: BucketSpec, then: Then) -> None:
        """Create a bucket if it is not there."""

        async def create() -> End:
            body: dict[str, Any] = {"ordered": spec.ordered}
            if spec.replication_factor is not None:
                body["replication_factor"] = spec.replication_factor
            if spec.changes is not None:
                body["changes"] = spec.changes
            path = f"/v1/buckets/{spec.name}"
            data = json.dumps(body).encode()
            answer = await self._http(
                peer, "PUT", path, data, SCHEMA_S, headers={"Content-Type": "application/json"}
            )
            end = _end(answer, INFO)
            if end.status == OK:
                factor = spec.replication_factor
                keyspace = "kv" if factor in (None, 3) else f"kv_rf{factor}"
                self._buckets[spec.name] = RealBucket(spec.name, bool(spec.ordered), keyspace)
            return end

        self._do(create(), then)

    # --- keys

    def put(
        self,
        peer: int,
        bucket: RealBucket,
        item: tuple[str, bytes],
        level: Level,
        then: Then,
        *,
        ttl_s: int | None = None,
    ) -> None:
        """Write (key, value); ok brings the version."""
        assert ttl_s is None, "clocks are wrong here by minutes: nobody could say when it has run out"
        key, value = item
        self._do(self._put(peer, _path(bucket, key, level), value, {}), then)

    async def _put(self, peer: int, path: str, value: bytes, headers: dict[str, str]) -> End:
        headers = {"Content-Type": CONTENT_TYPE, **headers}
        answer = await self._http(peer, "PUT", path, value, self._write_s, headers=headers)
        end = _end(answer, INFO)
        return end._replace(result=version_of(answer.etag)) if end.status == OK else end

    def delete(self, peer: int, bucket: RealBucket, key: str, level: Level, then: Then) -> None:
        """Delete a key; ok brings the version."""

        async def delete() -> End:
            answer = await self._http(peer, "DELETE", _path(bucket, key, level), b"", self._write_s)
            end = _end(answer, INFO)
            return end._replace(result=version_of(answer.etag)) if end.status == OK else end

        self._do(delete(), then)

    def delete_many(
        self, peer: int, bucket: RealBucket, window: tuple[str, str], level: Level, then: Then
    ) -> None:
        """Delete the keys of [first, end) of an ordered bucket, or ("", "") for all of its partition."""
        where = f"bucket = '{bucket.name}'"
        if window != ("", ""):
            where += f" AND key >= '{window[0]}' AND key < '{window[1]}'"

        async def delete() -> End:
            end, _ = await self._cql(peer, f"DELETE FROM {bucket.table} WHERE {where}", level, INFO)
            return end._replace(result=NO_VERSION) if end.status == OK else end

        self._do(delete(), then)

    def get(self, peer: int, bucket: RealBucket, key: str, level: Level, then: Then) -> None:
        """Read a key; ok brings a Found or None."""
        self._do(self._get(peer, bucket, key, level), then)

    async def _get(self, peer: int, bucket: RealBucket, key: str, level: Level) -> End:
        answer = await self._http(peer, "GET", _path(bucket, key, level), b"", self._read_s)
        if answer.status == 404 and answer.problem == "no-such-key":
            return End(OK, None, "")
        end = _end(answer, FAIL)
        if end.status == OK:
            end = end._replace(result=Found(key, answer.body, version_of(answer.etag)))
        return end

    def page(
        self, peer: int, bucket: RealBucket, window: tuple[str, str, int], level: Level, then: Then
    ) -> None:
        """Read the keys of a bucket in (after, ...) with a prefix: ok brings (Founds, more)."""
        prefix, after, rows_max = window
        where = [f"bucket = '{bucket.name}'"] if bucket.ordered else []
        if bucket.ordered:
            if after:
                where.append(f"key > '{after}'")
            elif prefix:
                where.append(f"key >= '{prefix}'")
            if prefix:
                where.append(f"key < '{prefix}{PREFIX_END}'")
        elif after:
            where.append(f"token(key) > token('{after}')")
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        text = f"SELECT key, value, writetime(value) AS at FROM {bucket.table}{condition} LIMIT {rows_max}"

        async def read() -> End:
            end, rows = await self._cql(peer, text, level, FAIL, page_size=rows_max)
            if end.status != OK:
                return end
            found = [Found(row["key"], _bytes(row["value"]), (row["at"] or 0, 0)) for row in rows]
            return End(OK, ([row for row in found if row.key.startswith(prefix)], len(rows) == rows_max), "")

        self._do(read(), then)

    # --- several at once

    def put_all(
        self, peer: int, bucket: RealBucket, items: list[tuple[str, bytes]], level: Level, then: Then
    ) -> None:
        """Write (key, value) pairs as one logged batch; ok brings no version."""
        self.put_across(peer, [(bucket, key, value) for key, value in items], level, then)

    def put_across(
        self, peer: int, items: Sequence[tuple[RealBucket, str, bytes]], level: Level, then: Then
    ) -> None:
        """As `put_all`, with (bucket, key, value) of several buckets."""
        text = " ".join(["BEGIN BATCH", *(_insert(*item) for item in items), "APPLY BATCH"])

        async def write() -> End:
            end, _ = await self._cql(peer, text, level, INFO)
            return end._replace(result=NO_VERSION) if end.status == OK else end

        self._do(write(), then)

    def update(
        self,
        peer: int,
        bucket: RealBucket,
        key: str,
        change: Callable[[bytes | None], bytes | None],
        then: Then,
    ) -> None:
        """Have a key hold what `change` makes of its value, by its entity tag; ok: whether it was changed."""

        async def attempt() -> End | None:
            seen = await self._get(peer, bucket, key, Level.SERIAL)
            if seen.status != OK:
                return seen
            found: Found | None = seen.result
            new = change(None if found is None else found.value)
            if new is None:
                return End(OK, False, "")
            condition = {"If-None-Match": "*"} if found is None else {"If-Match": _etag(found.version)}
            end = await self._put(peer, _path(bucket, key, Level.SERIAL), new, condition)
            if end.detail == "precondition-failed":
                return None
            return end._replace(result=True) if end.status == OK else end

        self._do(self._until_decided(attempt), then)

    def transact(
        self, peer: int, bucket: RealBucket, keys: Sequence[str], change: Change, then: Then
    ) -> None:
        """Read some keys of an ordered bucket and write what `change` makes of them, if it holds still."""
        among = ", ".join(f"'{key}'" for key in keys)
        select = f"SELECT key, value FROM {bucket.table} WHERE bucket = '{bucket.name}' AND key IN ({among})"

        async def attempt() -> End | None:
            end, rows = await self._cql(peer, select, Level.SERIAL, FAIL)
            if end.status != OK:
                return end
            held = {row["key"]: _bytes(row["value"]) for row in rows}
            values = tuple(held.get(key) for key in keys)
            new = change(values)
            if new is None:
                return End(OK, Transacted(False, values), "")
            updates = [
                _update(bucket, key, new.get(key, value), value)
                for key, value in zip(keys, values, strict=True)
            ]
            text = " ".join(["BEGIN BATCH", *updates, "APPLY BATCH"])
            end, rows = await self._cql(peer, text, Level.QUORUM, INFO)
            if end.status != OK:
                return end
            return End(OK, Transacted(True, values), "") if rows[0]["[applied]"] else None

        self._do(self._until_decided(attempt), then)

    async def _until_decided(self, attempt: Callable[[], Awaitable[End | None]]) -> End:
        """Again as long as others come first; in the end it was certainly not done."""
        end_s = self.cluster.loop.time() + self._write_s
        pause_s, longest_s = AGAIN_S
        while True:
            end = await attempt()
            if end is not None:
                return end
            if self.cluster.loop.time() + pause_s > end_s:
                return End(FAIL, None, "others came first")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    # --- requests as they are, for workloads that only real peers are asked by (jepsen_like/real/workloads)

    def http(
        self,
        peer: int,
        request: tuple[str, str, Any],
        unknown: str,
        then: Then,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Ask (method, path, body to be JSON or None); an `Answer` comes with every end."""
        method, path, body = request
        data = b"" if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **(headers or {})}

        async def ask() -> End:
            timeout_s = self._read_s if unknown == FAIL else self._write_s
            answer = await self._http(peer, method, path, data, timeout_s, headers=given)
            return _end(answer, unknown)._replace(result=answer)

        self._do(ask(), then)

    def cql(self, peer: int, text: str, level: Level, unknown: str, then: Then, **more: Any) -> None:
        """A statement over REST; ok brings (rows, page state). `more` are members of the request, and
        `operation_id`.
        """
        headers = {"Idempotency-Key": f'"{more.pop("operation_id")}"'} if "operation_id" in more else None
        body = {"query": text, "consistency": level.name, **more}

        def shown(end: End) -> None:
            if end.status == OK:
                state = msgspec.json.decode(end.result.body).get("page_state")
                end = end._replace(result=(self.rows(end.result), state))
            then(end)

        self.http(peer, ("POST", "/v1/cql", body), unknown, shown, headers)

    @staticmethod
    def rows(answer: Answer) -> list[dict[str, Any]]:
        """What a statement over REST was answered with."""
        rows: list[dict[str, Any]] = msgspec.json.decode(answer.body).get("rows") or []
        return rows

    def do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that goes on for long; what it raises is a fault of the harness."""

        task = self.cluster.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def url(self, peer: int, path: str) -> str:
        """Where a peer is asked."""
        place = self.cluster.machines[peer].place
        return f"http://{place.address}:{place.port}{path}"

    # --- the wire

    @property
    def _write_s(self) -> float:
        return max(self.cluster.options.settings.write_timeout_us, self.patience_us) / 1e6 + SLACK_S

    @property
    def _read_s(self) -> float:
        return max(self.cluster.options.settings.read_timeout_us, self.patience_us) / 1e6 + SLACK_S

    def _do(self, work: Awaitable[End], then: Then) -> None:
        async def run() -> None:
            then(await work)

        self.do(run())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self.cluster.faults.append(fault)

    async def _http(
        self,
        peer: int,
        method: str,
        path: str,
        body: bytes,
        timeout_s: float,
        *,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        assert self.cluster.http is not None
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s)
        sent: list[bool] = []
        try:
            async with self.cluster.http.request(
                method,
                _exact(self.url(peer, path)),
                data=body or None,
                headers=headers,
                timeout=timeout,
                trace_request_ctx=sent,
            ) as reply:
                token = reply.headers.get("Sullae-Session", "")
                return Answer(reply.status, await reply.read(), reply.headers.get("ETag", ""), "", token)
        except aiohttp.ClientConnectorError:
            return Answer(0, b"", "", "lost: then refused" if sent else "refused")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(0, b"", "", f"lost: {type(error).__name__}")

    async def _cql(
        self, peer: int, text: str, level: Level, unknown: str, page_size: int = 1_000
    ) -> tuple[End, list[dict[str, Any]]]:
        """A statement's end, and its rows."""
        if self.statements is not None:
            return await self._native(peer, text, level, unknown, page_size)
        body = {"query": text, "consistency": level.name, "page_size": page_size}
        timeout_s = self._read_s if unknown == FAIL else self._write_s
        headers = {"Content-Type": "application/json"}
        answer = await self._http(
            peer, "POST", "/v1/cql", json.dumps(body).encode(), timeout_s, headers=headers
        )
        end = _end(answer, unknown)
        if end.status != OK:
            return end, []
        return end, self.rows(answer)

    async def _native(
        self, peer: int, text: str, level: Level, unknown: str, page_size: int
    ) -> tuple[End, list[dict[str, Any]]]:
        assert self.statements is not None
        place = self.cluster.machines[peer].place
        timeout_s = self._read_s if unknown == FAIL else self._write_s
        try:
            async with asyncio.timeout(timeout_s):
                what, rows = await self.statements.ask(place.address, text, level, page_size)
        except TimeoutError:
            what, rows = "lost", []
        if not what:
            return End(OK, None, ""), rows
        if what == "refused" or what in CERTAIN or what.startswith("cql-"):
            return End(FAIL, None, what), []
        return End(unknown, None, "Timeout" if what in TIMEOUTS else what), []


class CqlDoor(RealDoor):
    """As RealDoor, but single keys go by CQL, too; a write tells no version."""

    def put(
        self,
        peer: int,
        bucket: RealBucket,
        item: tuple[str, bytes],
        level: Level,
        then: Then,
        *,
        ttl_s: int | None = None,
    ) -> None:
        """Write (key, value)."""
        assert ttl_s is None
        self._do(self._write(peer, _insert(bucket, *item), level), then)

    def delete(self, peer: int, bucket: RealBucket, key: str, level: Level, then: Then) -> None:
        """Delete a key."""
        text = f"DELETE FROM {bucket.table} WHERE {_where(bucket, key)}"
        self._do(self._write(peer, text, level), then)

    async def _write(self, peer: int, text: str, level: Level) -> End:
        end, _ = await self._cql(peer, text.rstrip(";"), level, INFO)
        return end._replace(result=NO_VERSION) if end.status == OK else end

    async def _get(self, peer: int, bucket: RealBucket, key: str, level: Level) -> End:
        text = f"SELECT value, writetime(value) AS at FROM {bucket.table} WHERE {_where(bucket, key)}"
        end, rows = await self._cql(peer, text, level, FAIL)
        if end.status != OK or not rows or rows[0]["value"] is None:
            return end
        return End(OK, Found(key, _bytes(rows[0]["value"]), (rows[0]["at"] or 0, 0)), "")

    def update(
        self,
        peer: int,
        bucket: RealBucket,
        key: str,
        change: Callable[[bytes | None], bytes | None],
        then: Then,
    ) -> None:
        """Have a key hold what `change` makes of its value, if it holds that still; ok: whether changed."""

        async def attempt() -> End | None:
            seen = await self._get(peer, bucket, key, Level.SERIAL)
            if seen.status != OK:
                return seen
            old = None if seen.result is None else seen.result.value
            new = change(old)
            if new is None:
                return End(OK, False, "")
            text = _update(bucket, key, new, old).rstrip(";")
            end, rows = await self._cql(peer, text, Level.QUORUM, INFO)
            if end.status != OK:
                return end
            return End(OK, True, "") if rows[0]["[applied]"] else None

        self._do(self._until_decided(attempt), then)


def _end(answer: Answer, unknown: str) -> End:
    """What a client may conclude; `unknown` is what an end that nobody knows is (FAIL of what only reads)."""
    if answer.error:
        return End(FAIL if answer.error == "refused" else unknown, None, answer.error)
    if 200 <= answer.status < 300:
        return End(OK, None, "")
    problem = answer.problem
    if answer.status == 504:
        return End(unknown, None, "Timeout")
    if problem in CERTAIN or 400 <= answer.status < 500:
        return End(FAIL, None, problem or str(answer.status))
    return End(unknown, None, problem or str(answer.status))


def _path(bucket: RealBucket, key: str, level: Level) -> str:
    name = urllib.parse.quote(key, safe="")
    return f"/v1/kv/{bucket.name}/{name}?consistency={level.name.lower()}"


def _exact(url: str) -> Any:
    import yarl

    return yarl.URL(url, encoded=True)


def version_of(etag: str) -> Version:
    """The version that an entity tag stands for."""
    first, _, second = etag.strip('"').partition("-")
    return (int(first, 16), int(second, 16)) if first and second else NO_VERSION


def _etag(version: Version) -> str:
    return f'"{version[0]:x}-{version[1]:x}"'


def _bytes(blob: str | bytes | None) -> bytes:
    if isinstance(blob, bytes):
        return blob
    return bytes.fromhex(blob[2:]) if blob else b""


def _where(bucket: RealBucket, key: str) -> str:
    return f"bucket = '{bucket.name}' AND key = '{key}'" if bucket.ordered else f"key = '{key}'"


def _blob(value: bytes | None) -> str:
    return "null" if value is None else f"0x{value.hex()}"


def _insert(bucket: RealBucket, key: str, value: bytes) -> str:
    names, values = "key, value, content_type", f"'{key}', {_blob(value)}, '{CONTENT_TYPE}'"
    if bucket.ordered:
        names, values = f"bucket, {names}", f"'{bucket.name}', {values}"
    return f"INSERT INTO {bucket.table} ({names}) VALUES ({values});"


def _update(bucket: RealBucket, key: str, new: bytes | None, old: bytes | None) -> str:
    return (
        f"UPDATE {bucket.table} SET value = {_blob(new)}, content_type = '{CONTENT_TYPE}' "
        f"WHERE {_where(bucket, key)} IF value = {_blob(old)};"
    )
