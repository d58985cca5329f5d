"""Who may serve a question about token ranges of a table: the rule that all servers of questions share.

A peer serves ranges only if it replicates all of them in the epoch of the question or in a later one that
changed nothing for the table. An ex-owner must never answer "nothing there": it refuses, and whoever asked
learns the epochs that it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from core.messages import Message, OperationFailed, Stale

if TYPE_CHECKING:
    from core.ports import PeerId
    from node.metadata import Metadata


def refusal(
    metadata: Metadata, me: PeerId, op: int, asked: tuple[int, int], ranges: Iterable[tuple[int, int]]
) -> Stale | OperationFailed | None:
    """Why this peer does not serve the inclusive token `ranges`; None if it does.

    `asked` is the table's id and the epoch in which the question was asked, at most this peer's own.
    """
    table, epoch = asked
    if epoch < metadata.state.epoch:
        lacking = metadata.stale_for(table, epoch)
        if lacking is not None:
            return Stale(op, lacking)
    placement = metadata.state.placement(table)
    if placement is None:
        return OperationFailed(op, "no_such_table", "there is no such table here")
    held = placement.shared_ranges(me, me)
    for first, last in ranges:
        if not any(low <= first and last <= high for low, high in held):
            return OperationFailed(op, "not_a_replica", "this peer does not hold all of the ranges")
    return None


def unless_moved(metadata: Metadata, op: int, epoch: int, told: Message) -> Message:
    """What to answer at the end of a question of this epoch that was served: `told`, unless rows have moved
    since. Whoever gave a range up meanwhile has followed nobody in it, and deletes what it has.
    """
    if epoch >= metadata.state.moved_epoch or isinstance(told, OperationFailed):
        return told
    return Stale(op, metadata.epochs_after(epoch))
