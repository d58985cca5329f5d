"""Mending: what a damaged disk lost of this peer's rows comes back from the other replicas, by itself.

The store refuses what it may have lost (lsm/lost.py). This part reads those notes at the start, and for each
range of a table in them asks *every* other replica for its Paxos state, and then compares rows with it by
hash tree (node/anti_entropy.py), which brings what is missing. A range is given back when so many of the
others are merged that every quorum which this peer was ever part of shares one with them: of n replicas of
which q are a quorum, n - q + 1; in its own datacentre, too, for the sake of LOCAL_ levels. Others that have
lost something in the range themselves refuse both, and so do not count. A peer that is about to be given a
range (node/moving.py) and is no reader yet merges as many of the old replicas.

Everything may be asked again: a peer that ends in between begins anew with what is still noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from core import limits
from core.commands import Done, Failed, Outcome, SystemWrite
from core.consistency import quorum
from core.healing import PaxosMerge, PaxosPage, PaxosScan
from core.healing_messages import PaxosStateAsk, PaxosStateTold
from core.messages import OperationFailed, Stale
from core.ports import PeerId
from lsm.hash_tree import LEAVES
from lsm.lost import LOST_PREFIX, Lost, decode_lost
from node.anti_entropy import AntiEntropy, Job
from node.comparing import Span
from node.views import lane_for
from ring.tokens import slice_end, slice_of, slice_start

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata import Metadata
    from node.metadata_state import TablePlacement
    from node.swim import Swim

ASK_US = 1 * limits.SECOND_US
"""Between two looks at what is still to be asked of whom; a question not answered by then is put again."""

COLLECT_US = 200_000
"""What has told its Paxos state within this time is compared by one question."""

STATES_MAX = 500
BYTES_MAX = 512 * limits.KIB


@dataclass(slots=True, eq=False)
class _Source:
    """One other replica of a range: its Paxos state is merged page by page, then its rows are compared."""

    peer: PeerId
    after: bytes = b""
    op: int = 0
    asked_us: int = 0
    has_paxos: bool = False
    comparing: bool = False
    merged: bool = False
    failure: str = ""


@dataclass(slots=True, eq=False)
class _Piece:
    """Leaves [first, end) of a table, which one set of replicas holds; whether this peer is one already."""

    table: int
    first: int
    end: int
    reads: bool
    sources: list[_Source] = field(default_factory=list)

    def goes_on(self, table: int, first: int, peers: Sequence[PeerId], reads: bool) -> bool:
        """Whether leaves from `first` that these other replicas hold can be joined to this piece."""
        same = (self.table, self.end, self.reads) == (table, first, reads)
        return same and sorted(peers) == sorted(source.peer for source in self.sources)


class Mending:
    """Gives lost ranges back, and serves those who do."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        swim: Swim,
        anti_entropy: AntiEntropy,
        boot: Mapping[bytes, bytes],
    ) -> None:
        """`boot` holds the system records as of the start; those at `lost/` are read."""
        self._inside = inside
        self._metadata = metadata
        self._swim = swim
        self._anti_entropy = anti_entropy
        self._me = inside.identity.peer
        self._lost = {key: decode_lost(value) for key, value in boot.items() if key.startswith(LOST_PREFIX)}
        self._pieces: dict[bytes, list[_Piece]] = {}
        self._planned_epoch = 0
        self._given_back: dict[bytes, None] = {}
        self._collecting = False
        self.on_unmerged: Callable[[Sequence[PeerId]], None] = lambda _: None
        """Told of those who were not needed to give something back (node/compared.py)."""
        inside.on_message(PaxosStateAsk, self._on_ask)
        inside.on_stored("paxos_scanned", self._on_scanned)
        inside.on_stored("paxos_merged", self._on_merged)
        inside.on_stored("lost_found", self._on_written)
        inside.on_timer("mend", self._work)
        inside.on_timer("mend_compare", self._compare)

    def start(self) -> None:
        """Begin, if there is anything to mend."""
        if self._lost:
            what = "; ".join(map(self._text, self._lost.values()))
            self._inside.log("warning", "mending", f"damage took rows here, which others give back: {what}")
            self._inside.timer(1, "mend")
        self._inside.count("lost_ranges_now", len(self._lost))

    @property
    def left(self) -> int:
        """How many ranges are still to be given back."""
        return len(self._lost)

    def status(self) -> list[tuple[int, dict[str, object]]]:
        """Per lost range (table, JSON-able): whose rows are merged, who is waited for and why."""
        names = {member.peer: member.name for member in self._metadata.state.members}
        return [
            (
                piece.table,
                {
                    "first_token": slice_start(piece.first),
                    "last_token": slice_end(piece.end - 1),
                    "merged": [names.get(s.peer, s.peer.hex()) for s in piece.sources if s.merged],
                    "waiting": {
                        names.get(s.peer, s.peer.hex()): s.failure or self._why(s)
                        for s in piece.sources
                        if not s.merged
                    },
                },
            )
            for pieces in self._pieces.values()
            for piece in pieces
        ]

    def _why(self, source: _Source) -> str:
        return "is being compared with" if self._swim.is_alive(source.peer) else "is down"

    def accept_loss(self) -> int:
        """An operator says that what no other replica has is gone; returns how many ranges were."""
        found = [key for key in self._lost if key not in self._given_back]
        for key in found:
            self._inside.log("error", "loss_accepted", f"given up: {self._lost[key]}")
            self._give_back(key)
        return len(found)

    # --- planning

    def _plan(self) -> None:
        """Which pieces there are, under the epoch of now; what is merged already stays so."""
        state = self._metadata.state
        self._planned_epoch = state.epoch
        before = {
            (piece.table, piece.first, piece.end, source.peer): source
            for pieces in self._pieces.values()
            for piece in pieces
            for source in piece.sources
        }
        self._pieces = {key: self._pieces_of(lost) for key, lost in self._lost.items()}
        for pieces in self._pieces.values():
            for piece in pieces:
                piece.sources = [
                    before.get((piece.table, piece.first, piece.end, s.peer), s) for s in piece.sources
                ]

    def is_missing(self, table: int, ranges: Sequence[tuple[int, int]]) -> bool:
        """Whether rows of the table in these ranges may be missing here until they are given back: what an
        index says of them is not all there is.
        """
        leaves = [(slice_of(first), slice_of(last) + 1) for first, last in ranges]
        return any(lost.hits(table, *pair) for lost in self._lost.values() for pair in leaves)

    def _pieces_of(self, lost: Lost) -> list[_Piece]:
        state = self._metadata.state
        found: list[_Piece] = []
        for table in sorted(state.tables):
            first, end = lost.leaves_of(table, LEAVES)
            placement = state.placement(table)
            if placement is None or first >= end:
                continue
            for (first_token, last_token), replicas in placement.ranges():
                a, b = max(first, slice_of(first_token)), min(end, slice_of(last_token) + 1)
                sides = placement.sides_of(last_token)
                # Who is given a range may have said already that all of it is here.
                mine = self._me in replicas or (sides is not None and self._me in sides[1])
                if a < b and mine:
                    others = [peer for peer in replicas if peer != self._me]
                    reads = self._me in replicas
                    before = found[-1] if found else None
                    if before is not None and before.goes_on(table, a, others, reads):
                        before.end = b
                    else:
                        found.append(_Piece(table, a, b, reads, [_Source(peer) for peer in others]))
        return found

    # --- working

    def _work(self) -> None:
        if not self._lost:
            return
        self._inside.timer(ASK_US, "mend")
        if self._metadata.unready:
            return
        if self._metadata.state.epoch != self._planned_epoch:
            self._plan()
        now_us = self._inside.world.monotonic_us()
        for key, pieces in list(self._pieces.items()):
            for piece in pieces:
                for source in piece.sources:
                    late = now_us - source.asked_us >= ASK_US
                    if not source.has_paxos and late and self._swim.is_alive(source.peer):
                        self._ask(piece, source)
            self._check(key)

    def _ask(self, piece: _Piece, source: _Source) -> None:
        inside = self._inside
        inside.operations.pop(source.op, None)
        source.op = inside.new_op()
        source.asked_us = inside.world.monotonic_us()
        inside.operations[source.op] = _Question(self, piece, source)
        first, last = slice_start(piece.first), slice_end(piece.end - 1)
        epoch = self._metadata.state.epoch
        inside.send(source.peer, PaxosStateAsk(source.op, epoch, piece.table, first, last, source.after))

    def told(self, piece: _Piece, source: _Source, message: PaxosStateTold) -> None:
        """A page of another's Paxos state."""
        self._inside.operations.pop(message.op)
        source.asked_us = self._inside.world.monotonic_us()
        ticket = ("paxos_merged", piece, source, message.after)
        self._inside.submit(ticket, PaxosMerge(piece.table, message.states))

    def _on_merged(self, outcome: Outcome, piece: _Piece, source: _Source, after: bytes) -> None:
        if not isinstance(outcome, Done):
            source.failure = f"own store: {outcome}"
        elif after:
            source.after = after
            self._ask(piece, source)
        else:
            source.has_paxos = True
            if not self._collecting:
                self._collecting = True
                self._inside.timer(COLLECT_US, "mend_compare")

    def _compare(self) -> None:
        """One comparison for all that a source has of a table, where its Paxos state was merged first."""
        self._collecting = False
        ready: dict[tuple[PeerId, int], dict[Span, list[_Source]]] = {}
        for pieces in self._pieces.values():
            for piece in pieces:
                for source in piece.sources:
                    if source.has_paxos and not source.comparing:
                        source.comparing = True
                        spans = ready.setdefault((source.peer, piece.table), {})
                        spans.setdefault((piece.first, piece.end), []).append(source)
        for (peer, table), spans in ready.items():
            job = Job(peer, table, tuple(sorted(spans)), partial(self._compared, spans), urgent=True)
            self._anti_entropy.add(job)

    def _compared(self, sources: Mapping[Span, Sequence[_Source]], spans: Sequence[Span]) -> None:
        """These spans are equal to those of the source."""
        for span in spans:
            for source in sources[span]:
                source.merged = True
        for key in list(self._pieces):
            self._check(key)

    # --- giving back

    def _check(self, key: bytes) -> None:
        """Give a range back if all its pieces (as of this epoch) have come from enough others."""
        if self._planned_epoch != self._metadata.state.epoch:
            return
        if key in self._lost and key not in self._given_back and all(map(self._is_whole, self._pieces[key])):
            text = f"other replicas have given back {self._text(self._lost[key])}"
            self._inside.log("info", "mended", text)
            self._give_back(key)

    def _text(self, lost: Lost) -> str:
        tables = self._metadata.state.tables
        names = [f"{t.keyspace}.{t.name}" for t in tables.values() if lost.hits(t.id, 0, LEAVES)]
        if lost.first_table != lost.last_table:
            return f"parts of {', '.join(names) or 'what is no row'}"
        first, end = lost.leaves_of(lost.first_table, LEAVES)
        name = names[0] if names else f"table {lost.first_table}"
        return f"{name}, tokens {slice_start(first)} to {slice_end(end - 1)}"

    def _is_whole(self, piece: _Piece) -> bool:
        placement = self._metadata.state.placement(piece.table)
        if placement is None:
            return True
        merged = [source.peer for source in piece.sources if source.merged]
        everybody = [source.peer for source in piece.sources]
        if piece.reads:
            everybody.append(self._me)
        return has_enough(placement, everybody, merged, self._inside.identity.datacentre)

    def _give_back(self, key: bytes) -> None:
        self._given_back[key] = None
        sources = [source for piece in self._pieces.get(key, ()) for source in piece.sources]
        self.on_unmerged(tuple(dict.fromkeys(source.peer for source in sources if not source.merged)))
        self._inside.submit(("lost_found", key), SystemWrite(((key, None),)))

    def _on_written(self, outcome: Outcome, key: bytes) -> None:
        del self._given_back[key]
        if isinstance(outcome, Done):
            self._lost.pop(key, None)
            self._pieces.pop(key, None)
            self._inside.count("ranges_mended")
            self._inside.count("lost_ranges_now", len(self._lost))

    # --- serving

    def _on_ask(self, peer: PeerId, message: PaxosStateAsk) -> None:
        metadata = self._metadata
        if message.epoch > metadata.state.epoch:
            metadata.catch_up(peer, message.epoch, lambda: self._on_ask(peer, message))
            return
        lacking = metadata.stale_for(message.table, message.epoch)
        if message.epoch < metadata.state.epoch and lacking is not None:
            self._inside.send(peer, Stale(message.op, lacking))
            return
        first, last = message.first_token, message.last_token
        scan = PaxosScan(message.table, first, last, message.after, STATES_MAX, BYTES_MAX)
        self._inside.submit(("paxos_scanned", peer, message.op), scan)

    def _on_scanned(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        if isinstance(outcome, PaxosPage):
            size = sum(len(s.ballots) + len(s.proposal) + len(s.commit) + 64 for s in outcome.states)
            told = PaxosStateTold(op, outcome.states, outcome.after)
            self._inside.send(peer, told, lane_for(size))
        else:
            assert isinstance(outcome, Failed), outcome
            self._inside.send(peer, OperationFailed(op, outcome.why, outcome.detail))


def has_enough(
    placement: TablePlacement, replicas: Sequence[PeerId], merged: Sequence[PeerId], local: str
) -> bool:
    """Whether every quorum that one of these replicas was part of, in all or in its own datacentre, shares
    another one with those merged.
    """
    factors = dict(placement.factors)
    enough = len(merged) >= len(replicas) - quorum(sum(factors.values())) + 1
    if local in factors:
        here = [peer for peer in replicas if placement.datacentre(peer) == local]
        near = [peer for peer in merged if placement.datacentre(peer) == local]
        enough = enough and len(near) >= len(here) - quorum(factors[local]) + 1
    return enough


class _Question:
    """A page that was asked for."""

    __slots__ = ("_parent", "_piece", "_source")

    def __init__(self, parent: Mending, piece: _Piece, source: _Source) -> None:
        self._parent = parent
        self._piece = piece
        self._source = source

    def on_message(self, peer: PeerId, message: object) -> None:
        """What the other says; who refuses is asked again in its turn."""
        if isinstance(message, PaxosStateTold):
            self._parent.told(self._piece, self._source, message)
        elif isinstance(message, OperationFailed):
            self._source.failure = message.detail
