"""How long a suspect has to refute (Lifeguard, Dadgar, Phillips, Currey, 2017, section IV-B).

One peer alone that hears nothing from another may itself be the one in trouble, so its suspicion lasts
long. Each further peer that says the same of its own accord makes it shorter; `confirmations_wanted` make
it shortest.

    timeout(c) = max(shortest, longest - (longest - shortest) * log(c + 1) / log(confirmations_wanted + 1))

Pure: time is an argument.
"""

from __future__ import annotations

import math

CONFIRMATIONS_WANTED_MAX = 3
SHORTEST_SHARE = 0.5
"""The shortest timeout as a share of the longest."""


def longest_us(multiplier: int, members: int, unit_us: int) -> int:
    """The timeout of a suspicion that nobody confirms: it grows as news needs longer to reach all members."""
    return round(multiplier * max(1.0, math.log10(max(1, members))) * unit_us)


class Suspicion:
    """A peer under suspicion at one incarnation, since `since_us`. Times are monotonic."""

    __slots__ = ("_by", "_confirmations_wanted", "_limit_us", "_longest_us", "_shortest_us", "since_us")

    def __init__(self, since_us: int, timeout_us: int, members: int, by: int) -> None:
        """Begun by peer number `by`; `timeout_us` holds until others confirm."""
        self.since_us = since_us
        self._longest_us = timeout_us
        self._shortest_us = round(timeout_us * SHORTEST_SHARE)
        # Neither the suspect nor who began it can confirm.
        self._confirmations_wanted = max(0, min(CONFIRMATIONS_WANTED_MAX, members - 2))
        self._by = [by]
        self._limit_us = timeout_us

    def confirm(self, by: int) -> bool:
        """Another peer suspects it too; whether that is news."""
        by_whom = self._by
        if by in by_whom or len(by_whom) > self._confirmations_wanted:
            return False
        by_whom.append(by)
        return True

    def shorten(self, limit_us: int) -> None:
        """Let it last at most so long after all."""
        self._limit_us = min(self._limit_us, limit_us)

    def forgive(self, slept_us: int, now_us: int) -> None:
        """Time in which we could not have heard anything does not count."""
        self.since_us = min(now_us, self.since_us + slept_us)

    def deadline_us(self) -> int:
        """When the suspect is dead unless it refutes."""
        confirmed = len(self._by) - 1
        timeout_us = self._longest_us
        if confirmed:
            share = math.log(confirmed + 1) / math.log(self._confirmations_wanted + 1)
            timeout_us -= round((timeout_us - self._shortest_us) * share)
        return self.since_us + min(timeout_us, self._limit_us)
