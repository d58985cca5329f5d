"""What is left of a history that goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def shortest(steps: Sequence[Step], goes_wrong: Callable[[list[Step]], object]) -> list[Step]:
    """The steps without those that it goes wrong without, too."""
    left, at = list(steps), 0
    while at < len(left):
        shorter = left[:at] + left[at + 1 :]
        if goes_wrong(shorter):
            left = shorter
        else:
            at += 1
    return left
