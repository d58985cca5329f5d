"""Planted bugs of unique indexes; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from typing import Any

import node.unique_claims
import node.uniques
from jepsen_like.plants import Plant
from node.uniques import UniqueWrite

WRONG = ("two_hold", "unreserved")

_judge = UniqueWrite._judge


def _whatever_the_fence(self: Any, reads: Any) -> Any:
    if self._claimed:
        self._fence = node.unique_claims.fence_of(reads[-1])
    return _judge(self, reads)


def _without_looking(self: Any, holder: bytes, fence: int) -> None:
    self._over = (holder, fence + 1)
    self.start()


UNIQUE_PLANTS = (
    Plant(
        "a claimed value is written whatever the fence",
        ((UniqueWrite, "_judge", _whatever_the_fence),),
        "unique",
        3,
        WRONG,
        20,
    ),
    Plant(
        "a value is taken over without looking at its holder",
        ((node.unique_claims.Claim, "_look", _without_looking),),
        "unique",
        1,
        WRONG,
    ),
)
