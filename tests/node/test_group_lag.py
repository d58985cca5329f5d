"""How far groups are behind, where not everybody can be asked."""

from __future__ import annotations

from typing import Any

from core.lag import AskLag, Lag, LagTold
from core.ports import PeerId
from core.streaming import Place
from node.group_lag import GroupLag, Lags
from streams.cursor import Cursor, encode_cursor
from streams.groups import Group, Part

ME, FULL, FREE = (bytes([n]) * 16 for n in (1, 2, 3))
NUMBERS = {ME: 1, FULL: 2, FREE: 3}


class Member:
    def __init__(self, peer: PeerId) -> None:
        self.peer = peer


class Everything:
    """As much of a peer's inside, its metadata and its swim as is asked for."""

    def __init__(self) -> None:
        self.identity = Member(ME)
        self.state = self
        self.id = 7
        self.members = [Member(peer) for peer in NUMBERS]
        self.operations: dict[int, Any] = {}
        self.sent: list[AskLag] = []
        self.on_message = self.on_stored = self.on_timer = self.timer = lambda *_: 0

    def table(self, _keyspace: str, _name: str) -> Everything:
        return self

    def number_of(self, peer: PeerId) -> int:
        return NUMBERS[peer]

    def is_alive(self, _peer: PeerId) -> bool:
        return True

    def new_op(self) -> int:
        return len(self.operations) + 100

    def send(self, peer: PeerId, message: AskLag) -> bool:
        self.sent.append(message)
        return peer != FULL


def test_who_cannot_be_asked_does_not_make_the_others_count_for_nothing() -> None:
    """What cannot be sent is answered within the call: that is no answer of all the others."""
    world: Any = Everything()
    lag = GroupLag(world, world, world)
    cursors = [Cursor("c:kv.t", 7, 0, (Place(0, 10, number, ((number, 5),)),)) for number in (2, 3)]
    told: list[Lags] = []
    group = Group("kv.t", "g", 0, tuple(Part(cursor=encode_cursor(cursor)) for cursor in cursors))
    lag.ask(group, told.append)
    assert not told
    lag.on_message(FREE, LagTold(world.sent[-1].op, (Lag(3, 300, 1),)))
    assert told == [{0: None, 1: Lag(3, 300, 1)}]
