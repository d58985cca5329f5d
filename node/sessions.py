"""Sessions at a node: waiting for the epoch that a client has seen elsewhere, and its requests' levels.

What a session promises, and why so little is enough, is told in core/session.py.

`reach` asks one live peer after the other for the epochs that lack, the voters first, until they are here or
the deadline has come. With a majority of the voters among the living it takes one or a few round trips; a
made-up epoch costs a small message every `ASK_AGAIN_US`, however many sessions name one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from core.finding import FindRequest
from core.gathering import GatherRequest
from core.messages import Pull
from core.ports import URGENT
from core.requests import (
    BatchRequest,
    BulkRequest,
    ConditionalRequest,
    CounterRequest,
    ReadRequest,
    Request,
    ScanRequest,
    WriteRequest,
)
from core.searching import ExpandRequest, SearchRequest
from core.session import Token, session_level
from node.inside import Inside
from node.metadata import Metadata
from node.metadata_state import State
from node.swim import Swim

ASK_AGAIN_US = 30_000
"""After this the next peer is asked for epochs that lack."""
WAITING_MAX = 10_000
"""So many requests may wait for epochs at a time."""

_READS = (ReadRequest, ScanRequest, FindRequest, GatherRequest)
_WRITES = (WriteRequest, BulkRequest, CounterRequest, ConditionalRequest)


@dataclass(slots=True, eq=False)
class _Waiter:
    epoch: int
    until_us: int
    then: Callable[[bool], None]


class Sessions:
    """The node's side of sessions."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._swim = swim
        self._waiting: list[_Waiter] = []
        self._turn = 0
        self._asking = False
        metadata.on_adopted(self._on_adopted)
        inside.on_timer("session", self._on_timer)

    def reach(self, epoch: int, deadline_us: int, then: Callable[[bool], None]) -> None:
        """Call `then(True)` once this epoch is adopted, or `then(False)` at the deadline (monotonic)."""
        if epoch <= self._metadata.state.epoch:
            then(True)
        elif len(self._waiting) >= WAITING_MAX:
            then(False)
        else:
            self._waiting.append(_Waiter(epoch, deadline_us, then))
            if not self._asking:
                self._asking, self._turn = True, 0
                self._ask()

    def _ask(self) -> None:
        """Ask the next live peer, and look again in a while."""
        state, me = self._metadata.state, self._inside.identity.peer
        others = dict.fromkeys((*state.voters, *(member.peer for member in state.members)))
        alive = [peer for peer in others if peer != me and self._swim.is_alive(peer)]
        if alive:
            peer = alive[self._turn % len(alive)]
            self._turn += 1
            self._inside.send(peer, Pull(state.epoch), URGENT)
        self._inside.timer(ASK_AGAIN_US, "session")

    def _on_timer(self) -> None:
        now_us = self._inside.world.monotonic_us()
        late = [waiter for waiter in self._waiting if waiter.until_us <= now_us]
        self._waiting = [waiter for waiter in self._waiting if waiter.until_us > now_us]
        for waiter in late:
            waiter.then(False)
        if self._waiting:
            self._ask()
        else:
            self._asking = False

    def _on_adopted(self) -> None:
        epoch = self._metadata.state.epoch
        ready = [waiter for waiter in self._waiting if waiter.epoch <= epoch]
        if ready:
            self._waiting = [waiter for waiter in self._waiting if waiter.epoch > epoch]
            for waiter in ready:
                waiter.then(True)

    def prepared(self, request: Request, token: Token) -> tuple[Request, Token]:
        """The request at the level that a session needs, and the token after it."""
        return prepared(request, token, self._metadata.state, self._inside.identity.datacentre)


def prepared(request: Request, token: Token, state: State, datacentre: str) -> tuple[Request, Token]:
    """As Sessions.prepared. What has no level, or is about a table that is not there, stays as it is."""
    if not token.full:
        return request, token
    if isinstance(request, BatchRequest):
        tables: tuple[int, ...] = tuple(write.table for write in request.writes)
    elif isinstance(request, SearchRequest):
        tables, request = request.tables, msgspec.structs.replace(request, fresh=True)
    elif isinstance(request, ExpandRequest):
        tables, request = (request.table,), msgspec.structs.replace(request, fresh=True)
    elif isinstance(request, (*_READS, *_WRITES)):
        tables = (request.table,)
    else:
        return request, token
    asked = wanted = request.level
    is_read = not isinstance(request, (*_WRITES, BatchRequest))
    for table in dict.fromkeys(tables):
        placement = state.placement(table)
        if placement is not None:
            level, token = session_level(token, asked, placement.factors, datacentre, is_read=is_read)
            wanted = level if level is not asked else wanted
    return (request if wanted is asked else msgspec.structs.replace(request, level=wanted)), token
