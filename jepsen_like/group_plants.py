"""Planted bugs of consumer groups; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

import msgspec

import node.membership
from core.streaming import NOW, ChangesRequest
from jepsen_like.plants import Plant
from node.groups import Groups
from node.membership import Membership
from streams import groups
from streams.cursor import cut_to
from streams.groups import Committed, part_range

_open = Groups.open
_begin = Groups.begin


def _accept_any(group: Any, session: str, acks: Any, now_us: int) -> Committed:
    """Who acknowledges is not looked at."""
    del session
    parts = list(group.parts)
    for number, (_, cursor) in acks.items():
        text = groups.moved(parts[number].cursor, cut_to(cursor, (part_range(number, len(parts)),)))
        parts[number] = msgspec.structs.replace(parts[number], cursor=text, acked_us=now_us)
    return Committed(msgspec.structs.replace(group, parts=tuple(parts)), tuple(acks), ())


def _begin_at_the_end(self: Any, request: ChangesRequest, reply: Any) -> Any:
    """Who gets a part reads what comes from now on."""
    return _open(self, ChangesRequest(request.table, NOW, (), request.since_us, request.ranges), reply)


def _count_what_is_sent(self: Any, request_id: int, request: Any, reply: Any) -> None:
    """What was sent to a member counts as worked on."""
    join = msgspec.structs.replace(request.join, auto=True)
    _begin(self, request_id, msgspec.structs.replace(request, join=join), reply)


def _never_dead(_: Any) -> tuple[str, ...]:
    return ()


GROUP_PLANTS = (
    Plant("stale owners are believed", ((groups, "committed", _accept_any),), "groups", 1, ("fence",)),
    Plant("parts begin at the end of logs", ((Groups, "open", _begin_at_the_end),), "groups", 1, ("lost",)),
    Plant(
        "sent counts as done",
        ((Groups, "begin", _count_what_is_sent), (node.membership, "AHEAD", 0)),
        "groups",
        1,
        ("lost",),
    ),
    Plant("the dead keep their parts", ((Membership, "_dead", _never_dead),), "groups", 1, ("lost",)),
)
