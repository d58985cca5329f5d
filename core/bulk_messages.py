"""Many mutations in one message: what bulk writes say to their replicas, and single ones of one tick."""

from __future__ import annotations

import msgspec

from core.cell import Version


class ApplyMutations(msgspec.Struct, frozen=True, array_like=True, tag=48):
    """Apply mutations (core.mutation bytes) of one table, each by itself; `left_us` as in ApplyMutation.

    Answered with MutationApplied if all are durable and none met anything newer, with MutationsTold if not,
    or with OperationFailed or Stale if none was tried.
    """

    op: int
    epoch: int
    table: int
    mutations: tuple[bytes, ...]
    left_us: int = 0


class ApplyEach(msgspec.Struct, frozen=True, array_like=True, tag=58):
    """As many ApplyMutation, of (operation, mutation) each: what a transport joins that leaves at once."""

    epoch: int
    table: int
    applies: tuple[tuple[int, bytes], ...]
    left_us: int = 0


class MutationTold(msgspec.Struct, frozen=True, array_like=True):
    """What became of one mutation: applied (`why` is ""), having met `newer`; or as in OperationFailed."""

    newer: Version | None
    why: str = ""
    detail: str = ""
    floor_us: int = 0


class MutationsTold(msgspec.Struct, frozen=True, array_like=True, tag=49):
    """What became of each mutation of ApplyMutations, in their order."""

    op: int
    told: tuple[MutationTold, ...]
