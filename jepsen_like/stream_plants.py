"""Planted bugs of change streams; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

import msgspec

import lsm.writing
from core.commands import ChangesLogged, LogChanges, Outcome
from jepsen_like.plants import Plant
from lsm.expiring import Expiring
from lsm.images import flags_of
from lsm.log import LATE, SUPERSEDED, ChangeLog
from lsm.store import Store
from node.change_serving import ChangeServing
from node.following import Following
from node.log_serving import log_name
from node.subscriptions import Subscription

MISSED = ("lost", "unlike", "chain")

_stage = ChangeLog.stage
_changes = ChangeLog.changes
_beside = Subscription._beside
_flags = flags_of


def _log_effects_only(self: Any, puts: Any, kind: int, *rest: Any, **more: Any) -> None:
    if kind != SUPERSEDED:
        _stage(self, puts, kind, *rest, **more)


def _take_over_at_the_end(self: Any, lane: Any, server: Any) -> Any:
    """Who takes over begins with what comes next."""
    made = _beside(self, lane, server)
    if made.said not in (0, made.number):
        made.opened = False
    return made


def _offer_the_siblings_ends(self: Any) -> tuple[tuple[int, int], ...]:
    """What siblings said of their logs' ends, not what was followed of them."""
    state, found = self.metadata.state, []
    for peer in state.neighbours(self.inside.identity.peer):
        position, number = self.following.position(peer), state.number_of(peer)
        if number is not None and position.log == log_name(peer):
            found.append((number, position.after + self.following.lag(peer) + 20))
    return tuple(sorted(found))


def _change_over_in_silence(self: Any, lane: Any, server: Any) -> Any:
    made = _beside(self, lane, server)
    if made.said:
        made.said = made.number
    return made


def _take_a_page_for_the_whole(self: Any, wanted: LogChanges, end: int | None = None) -> ChangesLogged:
    """A page that was cut is told as if it reached the end."""
    page = _changes(self, msgspec.structs.replace(wanted, entries_max=2), end)
    return msgspec.structs.replace(page, next_after=max(page.next_after, page.end))


def _never_late(*arguments: Any) -> int:
    return _flags(*arguments) & ~LATE


def _do_not_wait_for_the_sync(self: Any, command: LogChanges) -> tuple[Outcome, int]:
    return _changes(self.log, command), 0


def _judge_by_admission(self: Any, puts: Any, row: Any, changes: str, now_us: int) -> int:
    """What ran out is the sweep's business alone."""
    del self, puts, row, changes
    return now_us


def _all_is_told(self: Any, expired: Any) -> tuple[tuple[int, int], ...]:
    del self, expired
    return ()


STREAM_PLANTS = (
    Plant("superseded writes not logged", ((ChangeLog, "stage", _log_effects_only),), "changes", 1, MISSED),
    Plant(
        "taken over at the end of the log",
        ((Subscription, "_beside", _take_over_at_the_end),),
        "changes",
        1,
        MISSED,
    ),
    Plant(
        "siblings' offsets not followed",
        ((ChangeServing, "_followed", _offer_the_siblings_ends),),
        "changes",
        1,
        MISSED,
    ),
    Plant(
        "restart not told",
        ((Subscription, "_beside", _change_over_in_silence),),
        "changes",
        2,
        ("chain", "reorder"),
    ),
    Plant(
        "page cut and not continued",
        ((ChangeLog, "changes", _take_a_page_for_the_whole),),
        "changes",
        1,
        MISSED,
    ),
    Plant("stragglers not flagged", ((lsm.writing, "flags_of", _never_late),), "changes", 2, ("reorder",)),
    Plant(
        "events before they are durable",
        ((Store, "_log_changes", _do_not_wait_for_the_sync),),
        "changes",
        71,  # the first that catches of the seeds from 70 on, and is green without it
        (*MISSED, "id_changed", "doubled", "invented"),
        20,
    ),
    Plant(
        "writes are told before what ran out",
        ((Expiring, "before_write", _judge_by_admission),),
        "changes",
        1,
        ("chain", "unlike"),
    ),
    Plant(
        "a sibling's log of what ran out is passed over",
        ((Following, "still_untold", _all_is_told),),
        "changes",
        91,
        ("chain", "unlike"),
        15,
    ),
)
