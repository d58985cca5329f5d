"""What is said of peers: which of two rumours holds, and which are to be passed on.

**Precedence.** Of two rumours about one peer the one with the higher incarnation holds; at one incarnation
dead beats suspect beats alive. So incarnation and state are one number, the *rank*, and merging is `max`:
commutative, associative, idempotent, whatever is lost, repeated or overtaken on its way. Only a peer itself
raises its incarnation.

**Passing on.** A rumour that is news to us is sent multiplier * ceil(log10(n + 1)) times, those sent least
(so the newest) first, a bounded number per message. That reaches n peers with high probability (Das, Gupta,
Motivala: SWIM, 2002, section 4.1); what it misses is mended by the pings, which carry one known death each.
"""

from __future__ import annotations

import math

from core.messages import Rumour

ALIVE, SUSPECT, DEAD = 0, 1, 2

RUMOURS_PER_MESSAGE_MAX = 8
TRANSMIT_MULTIPLIER = 4

_REFUTATION_BITS = 16
_STATE_BITS = 2


def first_incarnation(start: int) -> int:
    """The incarnation with which a peer begins its `start`th life: above all of its earlier ones."""
    return start << _REFUTATION_BITS


def rank(state: int, incarnation: int) -> int:
    """A number that is greater for the rumour that holds."""
    return incarnation << _STATE_BITS | state


def state_of_rank(value: int) -> int:
    """ALIVE, SUSPECT or DEAD."""
    return value & (1 << _STATE_BITS) - 1


def incarnation_of_rank(value: int) -> int:
    """The incarnation that was spoken of; 0 if nothing was ever heard."""
    return value >> _STATE_BITS


def transmissions(members: int) -> int:
    """How often each peer passes a rumour on in a cluster of so many members."""
    return TRANSMIT_MULTIPLIER * math.ceil(math.log10(members + 1))


class RumourQueue:
    """Rumours still to be passed on: at most one per peer, the latest."""

    __slots__ = ("_rumours", "_sent")

    def __init__(self) -> None:
        """Empty."""
        self._rumours: dict[int, Rumour] = {}
        self._sent: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rumours)

    def add(self, rumour: Rumour) -> None:
        """Pass this on, instead of whatever was said of the same peer."""
        number = rumour.number
        self._rumours.pop(number, None)  # to the end: among those sent equally often the newest goes first
        self._rumours[number] = rumour
        self._sent[number] = 0

    def discard(self, number: int) -> None:
        """Say nothing more of this peer."""
        self._rumours.pop(number, None)
        self._sent.pop(number, None)

    def take(self, transmissions_max: int, count: int = RUMOURS_PER_MESSAGE_MAX) -> tuple[Rumour, ...]:
        """At most `count` rumours for one message, counted as sent; one sent often enough is forgotten."""
        rumours = self._rumours
        if not rumours:
            return ()
        sent = self._sent
        numbers = list(reversed(rumours))
        if len(numbers) > count:
            numbers.sort(key=sent.__getitem__)  # stable: newest first within a count
            del numbers[count:]
        taken = tuple(rumours[number] for number in numbers)
        for number in numbers:
            sent[number] += 1
            if sent[number] >= transmissions_max:
                self.discard(number)
        return taken
