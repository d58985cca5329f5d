"""Messages of moving ranges (node/moving.py); see core/messages.py."""

from __future__ import annotations

import msgspec


class MoveAsk(msgspec.Struct, frozen=True, array_like=True, tag=120):
    """How far are you with the move that is under way? Answered with MoveTold."""

    op: int
    epoch: int


class MoveTold(msgspec.Struct, frozen=True, array_like=True, tag=121):
    """`epoch` is durable here, and nothing planned before it will be acknowledged here any more.

    `cleaned`: up to this epoch nothing is left of ranges that were given up. `merged`: the move (its id) of
    which this peer holds, durably, all that it has to; `drained`: the one of which it has followed the old
    replicas under hand_over. `owing` are hints and batches that only this peer holds. The rest is progress,
    and what this peer knows to be waited for: (text, for how many seconds).
    """

    op: int
    epoch: int
    cleaned: int
    merged: int
    drained: int
    owing: int
    bytes_done: int = 0
    ranges_done: int = 0
    ranges: int = 0
    differing: int = 0
    why: str = ""
    waits: tuple[tuple[str, int], ...] = ()


class TailAsk(msgspec.Struct, frozen=True, array_like=True, tag=122):
    """Which mutations did you log after `after` in these ranges (per table)? Answered with Followed."""

    op: int
    epoch: int
    after: int
    ranges: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class FloorsAsk(msgspec.Struct, frozen=True, array_like=True, tag=123):
    """Which floors do you keep to? Answered with FloorsTold."""

    op: int
    epoch: int


class FloorsTold(msgspec.Struct, frozen=True, array_like=True, tag=124):
    """(table, ranges as lsm/floors.py encodes them), durable here, and so was `epoch` when they were read."""

    op: int
    floors: tuple[tuple[int, bytes], ...]
    epoch: int = 0
