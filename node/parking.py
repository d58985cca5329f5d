"""Writes that came before this peer may take them.

Who is given ranges takes no writes in them before it keeps to their floors (node/moving.py): what was deleted
and purged might come back. That takes some round trips; or longer, if an old replica has just been killed.
Writes are counted among the old *and* among the new replicas meanwhile, so a refusal here would be a refusal
to a client. Hence they wait, in the order in which they came, and go to the store as soon as the floors are
kept to.

What waits is bounded in number, bytes and time. Beyond that a write goes to the store all the same, which
refuses it as one that is not this peer's to hold: so nothing here decides anything, and the worst that can
happen is what happened before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from core import limits
from core.commands import (
    Apply,
    ApplyMany,
    Command,
    CounterAdd,
    PaxosAccept,
    PaxosCommit,
    PaxosFetch,
    PaxosPrepare,
)
from core.mutation import decode_mutation
from lsm.keys import token_of
from node.inside import Inside

COMMANDS_MAX = 4_096
BYTES_MAX = 16 * limits.MIB
PARK_US = 5 * limits.SECOND_US
LOOK_US = 50_000
"""So often it is looked whether something has waited for too long."""

Go = Callable[[], None]


class Parking:
    """What waits on its way to the store of one peer."""

    def __init__(self, inside: Inside, waits: Callable[[int, int], bool]) -> None:
        """`waits(table, token)`: whether a write there is this peer's to take, but not yet."""
        self._inside = inside
        self._waits = waits
        self._parked: deque[tuple[int, int, Go]] = deque()
        self._bytes = 0
        self._ticking = False
        inside.on_timer("parked", self._on_tick)

    def open(self, may_have_to_wait: bool) -> None:
        """From now on some may have to wait; or none, and those that did go to the store, in their order."""
        self._inside.gate = self._holds if may_have_to_wait else None
        if not may_have_to_wait:
            parked, self._parked, self._bytes = self._parked, deque(), 0
            for _, _, go in parked:
                go()

    def _holds(self, go: Go, command: Command, left_us: int) -> bool:
        """Whether a command waits; then `go` is called in the end. `left_us` 0: as long as may be."""
        size = _size(command)
        if not size or not self._must_wait(command):
            return False
        if len(self._parked) >= COMMANDS_MAX or self._bytes + size > BYTES_MAX:
            self._inside.count("parked_refused")
            return False
        until_us = self._inside.world.monotonic_us() + min(left_us or PARK_US, PARK_US)
        self._parked.append((until_us, size, go))
        self._bytes += size
        self._inside.count("parked_writes")
        self._tick()
        return True

    def _must_wait(self, command: Command) -> bool:
        if isinstance(command, PaxosPrepare | PaxosAccept | PaxosCommit | PaxosFetch):
            return self._waits(command.table, token_of(command.partition))
        if isinstance(command, Apply):
            return not command.followed and self._mutation_waits(command.mutation)
        if isinstance(command, CounterAdd):
            return self._mutation_waits(command.increments)
        return isinstance(command, ApplyMany) and any(map(self._mutation_waits, command.mutations))

    def _mutation_waits(self, data: bytes) -> bool:
        try:
            mutation = decode_mutation(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False  # the store says what is wrong with it
        return self._waits(mutation.table, mutation.token)

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._inside.timer(LOOK_US, "parked")

    def _on_tick(self) -> None:
        self._ticking = False
        now_us = self._inside.world.monotonic_us()
        late = [one for one in self._parked if one[0] <= now_us]
        if late:
            self._parked = deque(one for one in self._parked if one[0] > now_us)
            self._bytes -= sum(size for _, size, _ in late)
            self._inside.count("parked_refused", len(late))
            for _, _, go in late:
                go()
        if self._parked:
            self._tick()


def _size(command: Command) -> int:
    """About what a command that writes takes while it waits; 0 for all others."""
    if isinstance(command, Apply):
        return len(command.mutation)
    if isinstance(command, ApplyMany):
        return sum(map(len, command.mutations))
    if isinstance(command, CounterAdd):
        return len(command.increments)
    if isinstance(command, PaxosAccept):
        return 64 + len(command.proposal)
    if isinstance(command, PaxosCommit):
        return 64 + len(command.mutation)
    return 64 if isinstance(command, PaxosPrepare | PaxosFetch) else 0
