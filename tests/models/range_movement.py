"""Exhaustive model of one range that moves from `old` to `new` replicas, one write and one read.

Epochs of the range: 0 old only; 1 writes to both, reads old; 2 reads new, writes to both; 3 new only. Each
peer knows some epoch, a request carries its coordinator's; a peer behind catches up, a peer ahead refuses.
With `paxos` the write is an accept and the read a prepare of a higher ballot, both among old and new.

`verdict` looks at every interleaving for one in which what was acknowledged (or accepted by a quorum) is
missed by a later quorum. Each rule can be left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Rules:
    """What is to be checked."""

    old: str
    new: str
    paxos: bool = False
    dead: str = ""
    deaf: str = ""
    """Never learn of an epoch and are merged by nobody, but go on with requests of the first."""
    joint: bool = True
    three_steps: bool = True
    barrier: bool = True
    merge: str = "quorum"
    """Which old replicas a target merges: one, so many that every quorum has one of them (quorum), leaver,
    or as many for all new replicas (all).
    """
    paxos_moves: bool = True


class State(NamedTuple):
    """Sets of peers are bit masks. `wrote` and `read` are the epochs of the two requests, -1: not begun."""

    epoch: int
    known: tuple[int, ...]
    has: int
    promised: int
    wrote: int
    took: int
    acked: bool
    read: int
    told: int
    saw: int
    merged: tuple[int, ...]
    streaming: bool


@dataclass
class Model:
    """The steps that are possible under some rules."""

    rules: Rules
    peers: str = field(init=False)

    def __post_init__(self) -> None:
        rules = self.rules
        self.peers = "".join(sorted({*rules.old, *rules.new}))
        self.old = [self.peers.index(peer) for peer in rules.old]
        self.new = [self.peers.index(peer) for peer in rules.new]
        self.dead = [self.peers.index(peer) for peer in rules.dead]
        self.deaf = [self.peers.index(peer) for peer in rules.deaf]
        self.ended = False
        fresh = [peer for peer in self.new if peer not in self.old]
        self.fresh = fresh
        self.targets = list(self.new) if rules.merge == "all" else fresh
        self.leavers = [peer for peer in self.old if peer not in self.new]

    def verdict(self, states_max: int) -> bool | None:
        """Whether no interleaving misses anything; None if there are too many states."""
        n = len(self.peers)
        start = State(0, (0,) * n, 0, 0, -1, 0, False, -1, 0, 0, (0,) * len(self.targets), False)
        seen, todo = {start}, deque([start])
        while todo:
            state = todo.popleft()
            self.ended = self.ended or state.epoch == 3
            if len(seen) > states_max:
                return None
            if state.read >= 0 and self.can_read(state.read, state.told) and not state.saw:
                if not self.rules.paxos or state.acked:
                    return False
            for following in self.steps(state):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return True

    # --- levels

    @staticmethod
    def quorum(among: list[int], got: int) -> bool:
        return sum(got >> peer & 1 for peer in among) >= len(among) // 2 + 1

    def is_met_by_every_quorum(self, got: int) -> bool:
        """Whether every quorum of the old replicas has one of these."""
        return sum(got >> peer & 1 for peer in self.old) >= (len(self.old) + 1) // 2

    def is_both(self, epoch: int) -> bool:
        return epoch == 1 or (epoch == 2 and self.rules.three_steps)

    def can_write(self, epoch: int, got: int) -> bool:
        if epoch == 0:
            return self.quorum(self.old, got)
        if not self.is_both(epoch):
            return self.quorum(self.new, got)
        if self.rules.joint:
            return self.quorum(self.old, got) and self.quorum(self.new, got)
        both = sorted({*self.old, *self.new})
        needed = len(self.old) // 2 + 1 + len(self.fresh)
        return sum(got >> peer & 1 for peer in both) >= needed

    def can_read(self, epoch: int, got: int) -> bool:
        if self.rules.paxos:
            return self.can_write(epoch, got)
        return self.quorum(self.old if epoch <= 1 else self.new, got)

    def asked(self, epoch: int, is_write: bool) -> list[int]:
        if (is_write or self.rules.paxos) and self.is_both(epoch):
            return sorted({*self.old, *self.new})
        if is_write or self.rules.paxos:
            return self.old if epoch == 0 else self.new
        return self.old if epoch <= 1 else self.new

    # --- steps

    def steps(self, s: State) -> Iterator[State]:
        for peer in range(len(self.peers)):
            if s.known[peer] < s.epoch and peer not in self.dead + self.deaf:
                yield s._replace(known=_with(s.known, peer, s.known[peer] + 1))
        yield from self.epochs(s)
        if s.wrote < 0 and (self.rules.paxos or s.read < 0):
            for epoch in range(s.epoch + 1):
                yield s._replace(wrote=epoch)
        if s.wrote >= 0 and not s.acked:
            yield from self.deliveries(s)
        if s.read < 0 and (self.rules.paxos or s.acked):
            for epoch in range(s.epoch + 1):
                yield s._replace(read=epoch)
        if s.read >= 0 and not s.saw and not self.can_read(s.read, s.told):
            yield from self.answers(s)

    def have_adopted(self, s: State, epoch: int) -> bool:
        adopted = sum(1 << peer for peer, known in enumerate(s.known) if known >= epoch)
        return not self.rules.barrier or self.is_met_by_every_quorum(adopted)

    def epochs(self, s: State) -> Iterator[State]:
        if s.epoch == 0:
            yield s._replace(epoch=1)
        elif s.epoch == 1:
            if not s.streaming and self.have_adopted(s, 1):
                yield s._replace(streaming=True)
            if s.streaming:
                yield from self.merges(s)
                if all(self.is_enough(sources) for sources in s.merged):
                    yield s._replace(epoch=2)
        elif s.epoch == 2 and self.rules.three_steps and self.have_adopted(s, 2):
            yield s._replace(epoch=3)

    def is_enough(self, sources: int) -> bool:
        if self.rules.merge == "leaver":
            return any(sources >> peer & 1 for peer in self.leavers)
        return sources.bit_count() >= 1 if self.rules.merge == "one" else self.is_met_by_every_quorum(sources)

    def merges(self, s: State) -> Iterator[State]:
        for number, target in enumerate(self.targets):
            if target in self.dead or s.known[target] < 1:
                continue
            for source in self.old:
                known = s.known[source] >= (1 if self.rules.barrier else 0)
                wanted = self.rules.merge != "leaver" or source in self.leavers
                if source in self.dead + self.deaf or not known or not wanted:
                    continue
                if s.merged[number] >> source & 1:
                    continue
                has = s.has | (s.has >> source & 1) << target
                promised = s.promised | (s.promised >> source & 1) << target
                if self.rules.paxos and not self.rules.paxos_moves:
                    has, promised = s.has, s.promised
                merged = _with(s.merged, number, s.merged[number] | 1 << source)
                yield s._replace(has=has, promised=promised, merged=merged)

    def deliveries(self, s: State) -> Iterator[State]:
        for peer in self.asked(s.wrote, is_write=True):
            if peer in self.dead or s.took >> peer & 1 or s.known[peer] > s.wrote:
                continue
            if peer in self.deaf and s.wrote:
                continue
            if self.rules.paxos and s.promised >> peer & 1:
                continue
            took = s.took | 1 << peer
            known = _with(s.known, peer, max(s.known[peer], s.wrote))
            acked = self.can_write(s.wrote, took)
            yield s._replace(known=known, has=s.has | 1 << peer, took=took, acked=acked)

    def answers(self, s: State) -> Iterator[State]:
        for peer in self.asked(s.read, is_write=False):
            if peer in self.dead or s.told >> peer & 1 or s.known[peer] > s.read:
                continue
            if peer in self.deaf and s.read:
                continue
            known = _with(s.known, peer, max(s.known[peer], s.read))
            promised = s.promised | (1 << peer if self.rules.paxos else 0)
            saw = s.saw | (s.has >> peer & 1)
            yield s._replace(known=known, promised=promised, told=s.told | 1 << peer, saw=saw)


def _with(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])
