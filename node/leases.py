"""Who does a job that exactly one live peer should do: a lease in a record that all peers can read.

The record is changed by conditional updates alone (linearizable), so of several peers that want it one gets
it. Its owner changes the `beat` again and again. No clock is compared with another peer's: each watches the
record by its own, and takes over what has not changed for `expiry_us` of *its* time. Each taking over
raises the `fence`.

Two owners at once are still possible for a moment, when an owner stood still and has not yet noticed; so
what a lease guards must bear it. Sinks do: what both deliver has the same ids, and how far they are is
saved in the same record, under its condition, so the late one cannot set it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

OWN, TAKE, LEAVE = "own", "take", "leave"
"""What to do with a job: it is ours; try to get it; it is somebody's, or nobody's for now."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The part of a record that says whose it is. No owner: it was given back, or never had."""

    owner: str = ""
    fence: int = 0
    beat: int = 0


@dataclass(slots=True)
class LeaseWatch:
    """One peer's view of all leases. `me` must be another one after each start of a process."""

    me: str
    expiry_us: int
    _seen: dict[str, tuple[Lease, int]] = field(default_factory=dict)

    def decide(self, name: str, lease: Lease, now_us: int) -> str:
        """OWN, TAKE or LEAVE; `lease` is what the record says now, `now_us` a monotonic clock's reading."""
        is_over = self.is_over(name, lease, now_us)
        if lease.owner == self.me:
            return OWN
        return TAKE if is_over or not lease.owner else LEAVE

    def is_over(self, name: str, lease: Lease, now_us: int) -> bool:
        """Whether a lease has been seen unchanged for `expiry_us`."""
        known = self._seen.get(name)
        if known is None or known[0] != lease:
            known = self._seen[name] = lease, now_us
        return now_us - known[1] >= self.expiry_us

    def taken(self, lease: Lease) -> Lease:
        """The lease to write when taking it over."""
        return Lease(self.me, lease.fence + 1, 0)

    def keep(self, names: Sequence[str]) -> None:
        """There are no other jobs any more."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def forget(self, name: str) -> None:
        """The job is no more."""
        self._seen.pop(name, None)


def renewed(lease: Lease) -> Lease:
    """The lease to write from time to time while it is held."""
    return Lease(lease.owner, lease.fence, lease.beat + 1)


def released(lease: Lease) -> Lease:
    """The lease to write when it is given back."""
    return Lease("", lease.fence, lease.beat)
