"""The change stream of a table: what happens to it, as it happens, across the deaths of peers.

A stream is one long answer in lines. Each event carries an id that is the same wherever it is told;
heartbeats, at least one a second, carry a cursor that any peer goes on from. When an answer ends, for
whatever reason, the next peer is asked to go on from the last such cursor, and events that were told already
are left out by their ids. So every write that was acknowledged at QUORUM comes out here once; a program that
stops for longer keeps `stream.cursor` and gives it as `start` when it runs again, and then may see some
events a second time.

As a member of a group (`groups.py`) a stream has no cursor of its own to keep: the cluster does.

Who keeps a copy of the rows asks for `repeats`: another replica may have taken a key's events in another
order, and only all of its images, repeated ones too, end with the row.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from sullae.calls import Call, path_of, query_of
from sullae.errors import ConnectionFailed, SullaeError, error_of
from sullae.groups import Membership
from sullae.requests import Requests, dumps
from sullae.retrying import After, Repeat, refused
from sullae.transport import Transport

SILENCE_S: Final = 5.0
"""A peer that says nothing for so long, not even that it lives, is left."""
SEEN_MAX: Final = 20_000
"""So many events given out before the last heartbeat are known again."""


@dataclass(frozen=True)
class Change:
    """One event."""

    id: str
    table: str
    operation: str
    """insert, update, delete, truncate, read (a row of a snapshot), or gap: events of `members["ranges"]` are
    lost, because the stream was resumed later than logs are kept; read those rows again."""
    key: Any
    before: Any
    """The row, document or value before, if the table's `changes` has it."""
    after: Any
    changed: Any
    time: str
    timestamp_us: int
    is_late: bool
    """Whether it was overtaken by a later write of its key."""
    is_repeat: bool
    """Whether it was given out before; only with `repeats`."""
    members: Mapping[str, Any]
    """The whole event, as it came."""


class ChangeStream:
    """Iterating over it gives changes, without end unless `limit` is given."""

    def __init__(
        self,
        transport: Transport,
        table: str,
        query: Mapping[str, Any],
        start: str,
        *,
        patience_s: float,
        repeats: bool,
        membership: Membership | None = None,
        is_manual: bool = False,
    ) -> None:
        self._membership = membership
        self._is_manual = is_manual
        self._transport = transport
        self._requests = Requests(transport)
        self._table = table
        self._query = query
        self._start = start
        self._patience_s = patience_s
        self._repeats = repeats
        self._seen: dict[tuple[str, str], None] = {}
        self._place = ("", "")
        """Which row of which write came last."""
        self._began_s = 0.0
        self._heard_s = 0.0
        self._cursor: str | None = None

    @property
    def cursor(self) -> str | None:
        """Where to `start` a later stream: all before it was given out. None until the first heartbeat."""
        return self._cursor

    @property
    def parts(self) -> Sequence[int]:
        """In a group: the parts of the table that this member reads now."""
        return () if self._membership is None else self._membership.parts

    async def acknowledge(self) -> bool:
        """In a group: have the cluster keep that all changes given out so far are done with.

        False if some belong to another member by now, who gets them again. Only needed where `acknowledge`
        is manual.
        """
        if self._membership is None:
            raise ValueError("a stream without a group has no place to keep: use its cursor")
        return await self._membership.acknowledge()

    async def __aiter__(self) -> AsyncIterator[Change]:
        """The changes; raises what cannot be mended by asking another peer, for `patience_s` at most."""
        self._began_s = self._heard_s = time.monotonic()
        left = self._query.get("limit")
        failures = 0
        while left is None or left > 0:
            error: SullaeError
            try:
                async with aclosing(self._messages()) as messages:
                    async for message in messages:
                        failures, self._heard_s = 0, time.monotonic()
                        change = await self._taken(message)
                        if change is not None:
                            if self._is_manual and self._membership is not None:
                                self._membership.done(message)  # who says so may mean this one, too
                            yield change
                            self._heard_s = time.monotonic()  # the program may have taken its time
                            self._done(message)  # whoever asks for the next one is through with this
                            left = None if left is None else left - 1
                            if left == 0:
                                await self._end()
                                return
                error = ConnectionFailed("the stream ended")
            except SullaeError as caught:
                error = caught
            member = self._membership
            if isinstance(error, ConnectionFailed) or (member is not None and member.may_come_back(error)):
                is_over = False
            else:
                is_over = refused(error, Repeat.HARMLESS, writes=False).after is After.NEVER
            if is_over or time.monotonic() - self._heard_s > self._patience_s:
                raise error
            failures += 1
            await asyncio.sleep(self._transport.settings.backoff.pause_s(failures, 1.0))

    async def _messages(self) -> AsyncGenerator[Any, None]:
        member = self._membership
        query = query_of(**self._query, **({} if member is None else member.query()))
        call = Call("changes", "GET", path_of("changes", self._table), (*query, ("from", self._from())))
        try:
            async with aclosing(self._transport.lines(call, SILENCE_S)) as lines:
                async for line in lines:
                    yield self._requests.parsed(line)
        finally:
            if member is not None:
                member.left()

    def _from(self) -> str:
        """Where to go on: a stream from now on that lost its peer before any cursor began some time ago."""
        if self._cursor is not None and self._membership is None:
            return self._cursor
        ago_s = time.monotonic() - self._began_s
        return f"{math.ceil(ago_s) + 1}s" if self._start == "now" and ago_s > 0.5 else self._start

    async def _taken(self, message: Mapping[str, Any]) -> Change | None:
        kind = message.get("type")
        if self._membership is not None and kind in ("assigned", "heartbeat"):
            self._membership.told(message)
            if kind == "heartbeat" and not self._is_manual:
                await self._membership.acknowledge()
        if kind == "heartbeat":
            self._cursor = message.get("cursor") or self._cursor
            while len(self._seen) > SEEN_MAX:
                del self._seen[next(iter(self._seen))]
        if kind == "error":
            raise error_of(int(message["status"]), {**message, "type": message["problem"]})
        if kind == "gap":
            return _change({**message, "op": "gap"})
        if kind != "event":
            return None
        self._place = message["id"], dumps(message["key"]).decode()
        if self._place in self._seen:
            return _change(message, is_repeat=True) if self._repeats else None
        return _change(message)

    def _done(self, message: Mapping[str, Any]) -> None:
        """An event was given out, and the program did not fail on it."""
        if message.get("type") != "event":
            return
        self._seen[self._place] = None
        if self._membership is not None and not self._is_manual:
            self._membership.done(message)

    async def _end(self) -> None:
        """The limit is reached: what was given out last was asked beyond, too."""
        if self._membership is not None and not self._is_manual:
            await self._membership.acknowledge()


def _change(message: Mapping[str, Any], *, is_repeat: bool = False) -> Change:
    return Change(
        message.get("id", ""),
        message.get("table", ""),
        message["op"],
        message.get("key"),
        message.get("before"),
        message.get("after"),
        message.get("changed"),
        message.get("time", ""),
        message.get("timestamp_us", 0),
        bool(message.get("late", False)),
        is_repeat,
        message,
    )


def query_for(
    key: str | None,
    prefix: str | None,
    operations: Sequence[str] | None,
    condition: Mapping[str, Any] | None,
    limit: int | None,
) -> dict[str, Any]:
    """The parameters of a stream."""
    return {
        "key": key,
        "prefix": prefix,
        "op": ",".join(operations) if operations else None,
        "filter": None if condition is None else dumps(condition).decode(),
        "limit": limit,
    }
