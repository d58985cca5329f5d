"""Numbers of documents as floats, which end: what is beyond them counts as the greatest there is, so that no
number of a document makes an aggregation fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

GREATEST: Final = (2 - 2**-52) * 2.0**1023


def as_float(value: float | Decimal) -> float:
    """The nearest finite float."""
    try:
        found = float(value)
    except OverflowError:
        return GREATEST if value > 0 else -GREATEST
    return min(max(found, -GREATEST), GREATEST)


def total_of(values: Iterable[float]) -> float:
    """The sum, exact before it is rounded; the greatest float where it is beyond."""
    listed = [as_float(value) for value in values]
    try:
        return as_float(math.fsum(listed))
    except OverflowError:
        return as_float(sum(Decimal(value) for value in listed))
