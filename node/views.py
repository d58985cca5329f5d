"""What the parts that keep replicas equal (hints, following, hash trees) need of metadata and of SWIM.

Narrow on purpose: node/metadata.py and node/swim.py fit them, and so do a test's few lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from core import limits
from core.metadata import Epoch
from core.ports import BULK, SMALL, PeerId

SMALL_PAYLOAD_BYTES = limits.SMALL_FRAME_BYTES_MAX - 256
"""What fits the small lane with a message's other fields around it."""


class PlacementView(Protocol):
    """Where the rows of one table live."""

    def replicas(self, token: int) -> tuple[PeerId, ...]:
        """The replicas of a token."""

    def writers(self, token: int) -> tuple[PeerId, ...]:
        """Who is written to: the replicas, and those that will be."""

    def common_ranges(self, one: PeerId, other: PeerId) -> tuple[tuple[int, int], ...]:
        """As `shared_ranges`, of what both are written to."""

    def shared_ranges(self, one: PeerId, other: PeerId) -> tuple[tuple[int, int], ...]:
        """Inclusive token ranges that both replicate, ascending."""


class StateView(Protocol):
    """What follows from the epochs adopted so far."""

    @property
    def epoch(self) -> int:
        """The last epoch adopted; 0 before birth."""

    @property
    def tables(self) -> Mapping[int, Any]:
        """Tables that exist, by id."""

    def placement(self, table: int) -> PlacementView | None:
        """None if there is no such table (any more)."""

    def neighbours(self, peer: PeerId) -> tuple[PeerId, ...]:
        """The peers that replicate something that this one replicates."""

    def number_of(self, peer: PeerId) -> int | None:
        """The number of a member, None for anybody else."""


class MetadataView(Protocol):
    """The metadata part of this node."""

    @property
    def state(self) -> StateView:
        """Immutable; replaced when an epoch is adopted."""

    @property
    def unready(self) -> str:
        """Why this node neither serves nor asks (no cluster yet, refused); "" if it does."""

    def stale_for(self, table: int, epoch: int) -> tuple[Epoch, ...] | None:
        """The epochs that a peer at `epoch` lacks, if one of them touched this table; else None."""

    def catch_up(self, peer: PeerId, epoch: int, then: Callable[[], None]) -> None:
        """Learn the epochs up to this one from `peer`, then go on."""


class SwimView(Protocol):
    """Who lives, as far as this node knows."""

    def is_alive(self, peer: PeerId) -> bool:
        """Whether it is worth asking."""

    def on_change(self, listener: Callable[[PeerId, int], None]) -> None:
        """Have changes told to `listener(peer, state)`: 0 alive, 1 suspect, 2 dead."""


def lane_for(payload_bytes: int) -> int:
    """The lane for a message that carries so many bytes."""
    return SMALL if payload_bytes <= SMALL_PAYLOAD_BYTES else BULK
