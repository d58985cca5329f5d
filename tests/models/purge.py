"""Purge of deletions as a model of a page: three replicas, one cell, a network that loses, repeats and
delays.

A round promises, has everybody take all mutations that anybody met, and ends; then what is dead below it may
go. `RULES` turns single rules off, to show that each is needed:

- `promise`: a mutation that was not met and was admitted by then is refused;
- `fence`: a cell that comes without its mutation is refused if it was read from a replica that had not
  settled
  the floor of who receives it;
- `follow`: the round takes the union of what was met.

`naive` purges when all replicas hold the same deletion. The implementation's floors (lsm/floors.py) are told
in the same words: promised, settled, floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

RULES = ("promise", "fence", "follow")

Cell = tuple[int, bool, str]
"""(version, is a deletion, value); the greatest wins."""


@dataclass
class Replica:
    """One copy: its cell, the mutations it met, and how far floors are."""

    cell: Cell | None = None
    met: dict[int, None] = field(default_factory=dict)
    promised: int = 0
    settled: int = 0
    floor: int = 0

    def put(self, cell: Cell) -> None:
        """Merge."""
        if self.cell is None or cell > self.cell:
            self.cell = cell


class Bad(NamedTuple):
    """What went wrong in a history: something deleted is back; the value is not the newest met; a write that
    two
    replicas acknowledged is with nobody.
    """

    ghost: bool
    wrong: bool
    lost: bool


class History:
    """One random history."""

    def __init__(self, seed: int, rules: tuple[str, ...], naive: bool = False) -> None:
        self.random = Random(seed)
        self.rules = rules
        self.naive = naive
        self.replicas = [Replica() for _ in range(3)]
        self.now = 0
        self.written: dict[int, Cell] = {}
        self.acknowledged: dict[int, dict[int, None]] = {}
        self.mutations: list[tuple[int, int]] = []
        """(replica, mutation) on their way."""
        self.repairs: list[tuple[int, int, Cell]] = []
        """(replica, settled where it was read, cell) on their way."""

    def run(self) -> Bad:
        """Play, deliver all that is on its way, and judge."""
        draw = self.random
        for _ in range(draw.randint(6, 30)):
            self.now += 1
            dice = draw.random()
            if dice < 0.3 and len(self.written) < 6:
                self.write()
            elif dice < 0.75:
                self.deliver(keep=draw.random() < 0.2)
            elif dice < 0.87:
                self.read()
            else:
                self.round()
        while self.mutations or self.repairs:
            self.deliver(keep=False)
            if draw.random() < 0.3:
                self.round()
        return self.judge()

    def write(self) -> None:
        """A write or a deletion is admitted now and sent to all."""
        number = len(self.written)
        self.written[number] = (self.now, self.random.random() < 0.45, f"v{self.now}")
        self.acknowledged[number] = {}
        self.mutations += [(replica, number) for replica in range(3)]

    def deliver(self, keep: bool) -> None:
        """Something on its way arrives, perhaps not for the last time."""
        everything = len(self.mutations) + len(self.repairs)
        if not everything:
            return
        at = self.random.randrange(everything)
        if at < len(self.mutations):
            self.apply(*(self.mutations[at] if keep else self.mutations.pop(at)))
        else:
            at -= len(self.mutations)
            self.repair(*(self.repairs[at] if keep else self.repairs.pop(at)))

    def apply(self, at: int, number: int) -> None:
        """A mutation reaches a replica, which acknowledges it unless it refuses it."""
        replica = self.replicas[at]
        if number not in replica.met:
            if "promise" in self.rules and self.written[number][0] <= replica.promised:
                return
            replica.met[number] = None
            replica.put(self.written[number])
        self.acknowledged[number][at] = None

    def read(self) -> None:
        """Two replicas are read and what both have is sent to one of them."""
        one, other = self.random.sample(range(3), 2)
        cells = [c for c in (self.replicas[one].cell, self.replicas[other].cell) if c is not None]
        if cells:
            settled = min(self.replicas[one].settled, self.replicas[other].settled)
            self.repairs.append((self.random.choice((one, other)), settled, max(cells)))

    def repair(self, at: int, settled: int, cell: Cell) -> None:
        """A cell without its mutation reaches a replica."""
        replica = self.replicas[at]
        if not ("fence" in self.rules and settled < replica.floor):
            replica.put(cell)

    def round(self) -> None:
        """Raise the floor; some do not hear of the end."""
        if self.naive:
            cells = [replica.cell for replica in self.replicas]
            if cells[0] is not None and cells[0][1] and all(cell == cells[0] for cell in cells):
                for replica in self.random.sample(self.replicas, self.random.randint(1, 3)):
                    replica.cell = None
            return
        floor = self.now - self.random.randint(0, 3)
        if floor <= max(replica.floor for replica in self.replicas):
            return
        for at in range(3):
            self.promise(at, floor)
        if "follow" in self.rules:
            for number in sorted({number for replica in self.replicas for number in replica.met}):
                for at in range(3):
                    self.follow(at, number)
        for at in range(3):
            self.settle(at, floor)
        for at in self.random.sample(range(3), self.random.randint(1, 3)):
            self.end(at, floor)

    def promise(self, at: int, floor: int) -> None:
        """The first step."""
        self.replicas[at].promised = max(self.replicas[at].promised, floor)

    def follow(self, at: int, number: int) -> None:
        """Take a mutation that another replica met."""
        if number not in self.replicas[at].met:
            self.replicas[at].met[number] = None
            self.replicas[at].put(self.written[number])

    def settle(self, at: int, floor: int) -> None:
        """All that was met by anybody is here."""
        self.replicas[at].settled = floor

    def end(self, at: int, floor: int) -> None:
        """The round is over: what is dead may go."""
        replica = self.replicas[at]
        replica.floor = floor
        if replica.cell is not None and replica.cell[1] and replica.cell[0] <= floor:
            replica.cell = None

    def judge(self) -> Bad:
        """All follow all, and then the newest mutation that anybody met must be what is read."""
        met = sorted({number for replica in self.replicas for number in replica.met})
        for replica in self.replicas:
            for number in met:
                if number not in replica.met:
                    replica.met[number] = None
                    replica.put(self.written[number])
        wanted = shown(max((self.written[number] for number in met), default=None))
        read = shown(max((r.cell for r in self.replicas if r.cell is not None), default=None))
        lost = any(len(who) >= 2 and number not in met for number, who in self.acknowledged.items())
        return Bad(ghost=wanted is None and read is not None, wrong=read != wanted, lost=lost)


def shown(cell: Cell | None) -> str | None:
    """What a reader sees."""
    return None if cell is None or cell[1] else cell[2]
