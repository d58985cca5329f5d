from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from core.messages import OperationFailed, Stale
from core.metadata import Changes, Epoch
from core.ports import PeerId
from node.serving import refusal

ME: PeerId = b"me".ljust(16, b"\0")
HELD = ((-100, -50), (0, 99))
TABLE, OP, NOW = 7, 3, 5
EPOCH = Epoch(NOW, Changes(()))


def ask(
    *ranges: tuple[int, int],
    epoch: int = NOW,
    table: int = TABLE,
    lacking: tuple[Epoch, ...] | None = None,
) -> Stale | OperationFailed | None:
    """The answer of a peer at epoch NOW that holds HELD; `lacking` is what the asker would have to learn."""
    placement = SimpleNamespace(shared_ranges=lambda one, other: HELD)
    state = SimpleNamespace(epoch=NOW, placement={TABLE: placement}.get)
    metadata = SimpleNamespace(state=state, stale_for=lambda table, epoch: lacking)
    return refusal(cast(Any, metadata), ME, OP, (table, epoch), ranges)


def test_what_is_held_is_served_to_its_last_token() -> None:
    assert ask((0, 99)) is None
    assert ask((-100, -50), (5, 5)) is None


def test_a_range_that_is_not_held_whole_is_refused() -> None:
    for ranges in (((0, 100),), ((-1, 5),), ((0, 9), (-60, 0)), ((200, 300),)):
        refused = ask(*ranges)
        assert isinstance(refused, OperationFailed)
        assert (refused.op, refused.why) == (OP, "not_a_replica")


def test_who_asks_from_an_older_epoch_learns_what_changed_for_the_table() -> None:
    assert ask((0, 9), epoch=NOW - 1, lacking=(EPOCH,)) == Stale(OP, (EPOCH,))
    assert ask((0, 9), epoch=NOW - 1, lacking=None) is None


def test_a_table_that_is_gone_is_refused_by_name() -> None:
    refused = ask((0, 9), table=TABLE + 1)
    assert isinstance(refused, OperationFailed)
    assert refused.why == "no_such_table"
