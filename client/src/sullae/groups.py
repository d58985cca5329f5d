"""Members of consumer groups: several readers share a table's changes, and the cluster keeps their places.

The open answer is the membership: it begins with a request that names group and member and ends with the
connection, and the cluster tells in it which parts of the table are ours. Heartbeats carry an `ack`, a text
that stands for all events before it in this answer; whoever sends it back has the cluster keep that place.
So the places of a group survive all its members.

A program that asks for the next change is done with those before it. That is when they count: on each
heartbeat what came before it is acknowledged, in one request; so about a second's changes come again after a
crash, to whoever takes over. With `acknowledge="manual"` nothing counts before `ChangeStream.acknowledge()`.

We come back under our member name after a lost connection and so have the same parts at once. A name that
the program gave belongs to one reader: a second one takes its place, and the first gets `Conflict`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, Final

from sullae.calls import JSON, Call, path_of
from sullae.errors import Conflict, SullaeError
from sullae.requests import dumps
from sullae.retrying import Repeat
from sullae.transport import Transport

FENCED: Final = "group-fenced"
CURSORS_MAX: Final = 1_000
"""Events after the last heartbeat that are acknowledged one by one; were there more, the next one does it."""


class Membership:
    """One member, over as many connections as it takes."""

    def __init__(
        self, transport: Transport, table: str, group: str, *, member: str | None, session_s: float | None
    ) -> None:
        self._transport = transport
        self._table = table
        self._group = group
        self._is_named = member is not None
        self.member = member or f"py-{uuid.uuid4().hex[:16]}"
        self._session_s = session_s
        self._session = ""
        self.parts: tuple[int, ...] = ()
        """The parts that are ours now, and of how many."""
        self.of = 0
        self._ack = ""
        self._acknowledged = ""
        self._cursors: list[str] = []
        self._beating: asyncio.Task[None] | None = None

    def query(self) -> dict[str, Any]:
        """What joins."""
        session = None if self._session_s is None else f"{self._session_s:g}"
        return {"group": self._group, "member": self.member, "session": session}

    def told(self, message: Mapping[str, Any]) -> None:
        """An assigned line or a heartbeat came, and all events before it are done with."""
        if message["type"] == "assigned":
            self.parts, self.of = tuple(message["parts"]), message["of"]
            self._session = message["session"]
            if self._session_s is not None and self._beating is None:
                self._beating = asyncio.get_running_loop().create_task(self._beat())
        if message.get("ack"):
            self._ack = message["ack"]
            self._cursors.clear()

    def done(self, message: Mapping[str, Any]) -> None:
        """The program is through with this event."""
        if message.get("cursor") and len(self._cursors) <= CURSORS_MAX:
            self._cursors.append(message["cursor"])

    def left(self) -> None:
        """The connection is gone; what was given out may still be acknowledged, until we join again."""
        self.parts = ()
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def may_come_back(self, error: SullaeError) -> bool:
        """Whether to join again after this error, which says that we are no member any more."""
        return error.kind.endswith(FENCED) and not self._is_named

    async def acknowledge(self) -> bool:
        """Have the cluster keep that all events given out so far are done with.

        False if some of them are another member's by now, who gets them again.
        """
        cursors = self._cursors if len(self._cursors) <= CURSORS_MAX else []
        if not self._ack or (not cursors and self._ack == self._acknowledged):
            return True
        body: dict[str, Any] = {"ack": self._ack}
        if cursors:
            body["cursor"] = ",".join(cursors)
        here = self._ack
        try:
            reply = await self._post("ack", body)
        except Conflict:
            return False
        self._acknowledged = here
        found = self._transport.loads(reply) if reply else {}
        return not found.get("refused")

    async def _post(self, verb: str, body: Mapping[str, Any]) -> bytes:
        call = Call(
            f"changes.{verb}", "POST", path_of("streams", self._table, self._group, verb), (), dumps(body),
            {"Content-Type": JSON}, Repeat.HARMLESS, writes=False,
        )  # fmt: skip
        return (await self._transport.request(call)).body

    async def _beat(self) -> None:
        """Stay a member while the program works on something for long."""
        assert self._session_s is not None
        while True:
            await asyncio.sleep(self._session_s / 3)
            try:
                await self._post("heartbeat", {"session": self._session})
            except SullaeError:
                continue  # the stream itself says what is wrong
