"""Registers in two datacentres: written at EACH_QUORUM, read at LOCAL_QUORUM in either.

An acknowledged write is on a quorum of each datacentre, so a read of any one of them sees it. Nothing more is
promised: a write that is under way may be seen here and not yet there, so reads of two datacentres may go
back, and that is not judged.
"""

from __future__ import annotations

from core.consistency import Level
from jepsen_like.workloads.register import RegisterWorkload


class EachQuorumWorkload(RegisterWorkload):
    """See above."""

    monotonic = False

    def __init__(self) -> None:
        """The levels say it."""
        super().__init__((Level.EACH_QUORUM, Level.LOCAL_QUORUM))
