"""Group commit: nothing that is not durable leaves the peer.

Every outcome depends on a sequence number of the engine: that of the last write it made *or read*. It is
released by the sync that covers this number, or at once if an earlier one did. A read that were answered
before what it read is durable could show a value that a power cut takes back.

`Unsynced` says what a read depends on without slowing it down for strangers: a point read looks for its own
keys, a scan of a partition for anything written in that partition, a scan of tokens for anything written in
that table. The last two are coarser than need be; at worst they wait for one sync that was due anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.commands import Outcome
from core.ports import Ticket

Waiting = tuple[Ticket, Outcome, int]
"""What came of a command, and the sequence number that has to be durable before it is told."""


class Unsynced:
    """Which records (or prefixes that stand for all records below) were written at which unsynced sequence
    number.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, int] = {}
        self._last = 0

    def wrote(self, names: Iterable[bytes], sequence: int) -> None:
        """A batch with this sequence number wrote these."""
        newest = self._newest
        for name in names:
            newest[name] = sequence
        self._last = sequence

    def newest(self, name: bytes) -> int:
        """The last unsynced sequence number that wrote it, 0 if none did."""
        return self._newest.get(name, 0)

    def taken_back(self, sequence: int) -> None:
        """What came after this sequence number was not written after all; what had been written of the same
        records before may be no more durable than what came last before.
        """
        self._newest = {name: min(at, sequence) for name, at in self._newest.items()}
        self._last = min(self._last, sequence)

    def on_synced(self, sequence: int) -> None:
        """All up to this sequence number is durable."""
        if sequence >= self._last:
            self._newest.clear()
        else:
            self._newest = {name: at for name, at in self._newest.items() if at > sequence}


class Commit:
    """Holds outcomes until they are durable, and releases them in the order in which they were added.

    With `periodic` (`commitlog_sync: periodic`) everything is released at once, as Cassandra does by default.
    """

    def __init__(self, periodic: bool = False) -> None:
        self.periodic = periodic
        self._synced = 0
        self._waiting: list[Waiting] = []
        self._released: list[tuple[Ticket, Outcome]] = []

    def add(self, ticket: Ticket, outcome: Outcome, depends_on: int) -> None:
        """An outcome that may leave when `depends_on` is durable."""
        if self.periodic or depends_on <= self._synced:
            self._released.append((ticket, outcome))
        else:
            self._waiting.append((ticket, outcome, depends_on))

    def add_all(self, outcomes: Iterable[Waiting]) -> None:
        """As many of `add`."""
        synced, waiting = self._synced, self._waiting
        for item in outcomes:
            if item[2] > synced and not self.periodic:
                waiting.append(item)
            else:
                self._released.append((item[0], item[1]))

    def on_synced(self, sequence: int) -> None:
        """All up to this sequence number is durable."""
        if sequence <= self._synced:
            return
        self._synced = sequence
        released = self._released
        waiting = []
        for item in self._waiting:
            ticket, outcome, depends_on = item
            if depends_on <= sequence:
                released.append((ticket, outcome))
            else:
                waiting.append(item)
        self._waiting = waiting

    def take_released(self) -> list[tuple[Ticket, Outcome]]:
        """What may leave now; each is given once."""
        released, self._released = self._released, []
        return released

    @property
    def waiting(self) -> int:
        """How many outcomes wait for a sync."""
        return len(self._waiting)

    @property
    def synced(self) -> int:
        """The last sequence number known to be durable."""
        return self._synced
