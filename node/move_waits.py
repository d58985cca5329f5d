"""For whom a move waits, and why: what an operator is told who sees that it does not go on. Pure.

`node/moving.py` decides when a move goes on; each of the conditions is here once more, in words, for as long
as it does not hold. Since when it does not is remembered by who drives the move, under a key that stays the
same while numbers in the text change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from core import limits
from core.metadata import Move
from core.moving_messages import MoveTold
from core.ports import PeerId
from node.metadata_state import State
from node.moving_ring import HAND_OVER, PREPARE, MovingRing, TokenPair
from node.moving_stream import meets_quorums, must_merge

if TYPE_CHECKING:
    from node.hints import Hints

NAMED_MAX = 5


class Wait(NamedTuple):
    """One reason; `key` says which one, whatever numbers are in the text."""

    key: str
    text: str


def waits(
    state: State, move: Move, told: Mapping[PeerId, MoveTold], alive: Sequence[PeerId]
) -> tuple[Wait, ...]:
    """Everything that keeps a move from going on, by what was told last."""
    found = _Found(state, told, alive)
    for ring in state.moving_rings():
        for pair, sides in ring.moving():
            if move.phase == PREPARE:
                found.adopted(move.id, ring, pair, sides[0])
                for peer in sides[1]:
                    if must_merge(peer, sides, ring) and found.get(peer, "merged") != move.id:
                        found.add(pair, (peer,), "to merge what it is given")
            elif move.phase == HAND_OVER:
                for side in sides:
                    found.adopted(move.since, ring, pair, side)
                for peer in sides[1]:
                    if peer in alive and found.get(peer, "drained") != move.id:
                        found.add(pair, (peer,), "to follow the logs of those who give it up")
    if move.phase == HAND_OVER:
        for peer in (peer for peer in move.remove if peer in alive):
            if found.get(peer, "epoch") < move.since:
                found.add(None, (peer,), f"to adopt epoch {move.since}")
            elif owing := found.get(peer, "owing"):
                found.add(
                    None, (peer,), f"to deliver {owing} writes that it alone keeps for others", "to deliver"
                )
    return found.all()


class Waits:
    """What one peer tells: what the move waits for, if it drives it; for whom it keeps writes, and why."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        self._waits: tuple[Wait, ...] = ()

    def forget(self) -> None:
        """It drives no move, or another phase of it."""
        self._waits = ()

    def note(self, found: tuple[Wait, ...], now_us: int) -> None:
        """This keeps the move from going on now."""
        self._since = {wait.key: self._since.get(wait.key, now_us) for wait in found}
        self._waits = found

    def told(self, state: State, hints: Hints | None, now_us: int) -> tuple[tuple[str, int], ...]:
        """(text, for how many seconds)."""
        found = [(wait.text, now_us - self._since[wait.key]) for wait in self._waits]
        for member in state.members:
            refusal = None if hints is None else hints.refusal(member.peer)
            if hints is not None and refusal is not None:
                table = state.tables.get(refusal.table)
                name = "a table" if table is None else f"{table.keyspace}.{table.name}"
                kept = f"{hints.pending(member.peer)} writes kept for {member.name}"
                by = ", ".join(_name(state, peer) for peer in refusal.by)
                text = f"{kept}: {by} {refusal.why} ({name}, token {refusal.token})"
                found.append((text, now_us - refusal.since_us))
        return tuple((text, since_us // limits.SECOND_US) for text, since_us in found)


class _Found:
    """Reasons on the way, each with its ranges."""

    def __init__(self, state: State, told: Mapping[PeerId, MoveTold], alive: Sequence[PeerId]) -> None:
        self._state, self._told, self._alive = state, told, alive
        self._ranges: dict[tuple[tuple[PeerId, ...], str], list[TokenPair]] = {}
        self._texts: dict[tuple[tuple[PeerId, ...], str], str] = {}

    def get(self, peer: PeerId, name: str) -> int:
        """What a peer told under this name; -1 if nothing."""
        told = self._told.get(peer)
        return -1 if told is None else int(getattr(told, name))

    def adopted(self, epoch: int, ring: MovingRing, pair: TokenPair, replicas: tuple[PeerId, ...]) -> None:
        """One of every quorum of these replicas has to have adopted an epoch."""
        behind = [peer for peer in replicas if self.get(peer, "epoch") < epoch]
        if behind and not meets_quorums([p for p in replicas if p not in behind], replicas, ring):
            self.add(pair, tuple(behind), f"to adopt epoch {epoch}")

    def add(self, pair: TokenPair | None, peers: tuple[PeerId, ...], text: str, key: str = "") -> None:
        """A reason, for a range or for the move as a whole."""
        name = peers, key or text
        self._texts[name] = text
        ranges = self._ranges.setdefault(name, [])
        if pair is not None and pair not in ranges:
            ranges.append(pair)

    def all(self) -> tuple[Wait, ...]:
        """In words."""
        found = []
        for (peers, key), ranges in self._ranges.items():
            names = [self._name(peer) for peer in peers]
            text = f"for {', '.join(names[:NAMED_MAX])} {self._texts[peers, key]}"
            if ranges:
                first, last = ranges[0]
                many = f" and {len(ranges) - 1} more" if len(ranges) > 1 else ""
                text += f" (tokens {first} to {last}{many})"
            found.append(Wait(f"{key} {' '.join(peer.hex() for peer in peers)}", text))
        return tuple(found)

    def _name(self, peer: PeerId) -> str:
        name = _name(self._state, peer)
        if peer in self._alive:
            return name if peer in self._told else f"{name} (no answer)"
        return f"{name} (down)"


def _name(state: State, peer: PeerId) -> str:
    member = state.member(peer)
    return peer.hex()[:8] if member is None else member.name
