"""The birth of a cluster: the first epoch, which *all* initial voters must agree on.

A peer without epochs calls the initial voters until it is connected. Their hellos say who is who. A voter
that is connected with every peer of its `cluster.yml` proposes the first epoch; the first voter at once, the
others only if that comes to nothing. Both phases need every voter under the very identities that stand in the
entry, and a voter accepts only an entry that says what its own `cluster.yml` says. So two halves that were
started apart cannot make two clusters, and a voter whose directory was emptied half way cannot help to make a
second one: it is not the peer that the others accepted, and those who are born already do not answer it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from core.limits import SECOND_US
from core.metadata import Birth
from core.ports import InitialPeer, PeerId
from core.schema import Member
from node.identity import IdentityPart
from node.inside import Inside
from node.metadata_proposer import Ballotting
from ring.allocation import allocate_initial
from ring.placement import Peer

PAUSE_US: Final = 300_000
PATIENCE_US: Final = 3 * SECOND_US
"""How much longer each next voter in rank waits for those before it."""

CLUSTER_ID_BYTES: Final = 16


@lru_cache(maxsize=16)
def initial_tokens(initial: tuple[InitialPeer, ...], vnodes: int, factor: int) -> tuple[tuple[int, ...], ...]:
    """The tokens of each initial peer, in the order of the configuration."""
    peers = [Peer(i, peer.name, peer.datacentre, peer.rack, ()) for i, peer in enumerate(initial, 1)]
    return tuple(peer.tokens for peer in allocate_initial(peers, vnodes, factor))


def wrong_birth(birth: Birth, cluster_name: str, initial: tuple[InitialPeer, ...]) -> str:
    """Why a birth is not what this configuration says; "" if it is."""
    if birth.name != cluster_name:
        return f"the cluster is named {birth.name!r} and not {cluster_name!r}"
    theirs = [(m.name, m.address, m.datacentre, m.rack) for m in birth.members]
    ours = [(p.name, p.address, p.datacentre, p.rack) for p in initial]
    if theirs != ours:
        odd = [f"{a[0]} at {a[1]} ({a[2]}, {a[3]})" for a in theirs if a not in ours]
        missing = [f"{a[0]} at {a[1]} ({a[2]}, {a[3]})" for a in ours if a not in theirs]
        return (
            f"its peers are not those of our configuration: too many {', '.join(odd) or 'none'}; "
            f"missing {', '.join(missing) or 'none'}; else their order differs"
        )
    ids = {member.name: member.peer for member in birth.members}
    if birth.voters != tuple(ids[peer.name] for peer in initial if peer.voter):
        return "its voters are not those of our configuration"
    if [member.number for member in birth.members] != list(range(1, len(initial) + 1)):
        return "its peers are not numbered in order"
    tokens = [token for member in birth.members for token in member.tokens]
    if len(dict.fromkeys(tokens)) != len(tokens) or not all(member.tokens for member in birth.members):
        return "its tokens are not distinct, or a peer has none"
    if len(dict.fromkeys(ids.values())) != len(initial):
        return "two of its peers have one identity"
    return ""


class Midwife:
    """Brings an unborn peer together with the others, and proposes the first epoch if that is its turn."""

    def __init__(
        self, inside: Inside, identity: IdentityPart, born: Callable[[], bool], idle: Callable[[], bool]
    ) -> None:
        """`idle` says that no round is under way; `propose` must be set before `start`."""
        self._inside = inside
        self._identity = identity
        self._born = born
        self._idle = idle
        self.propose: Callable[[Ballotting], None] = lambda _: None
        self._connected: dict[PeerId, None] = {}
        self._complete_since_us = -1
        self._patience_us = 0
        self._objections: dict[str, None] = {}
        self._voters = tuple(peer for peer in inside.initial if peer.voter)
        names = [peer.name for peer in self._voters]
        self._rank = names.index(inside.identity.name) if inside.identity.name in names else -1
        inside.on_timer("metadata.birth", self._on_tick)
        inside.on_peer(self._on_peer)

    def start(self) -> None:
        """Begin to call the others; call it again after each end of a round."""
        if not self._born():
            self._on_tick()

    def may_vote(self, peer: PeerId) -> bool:
        """Whether we vote on a first epoch of this peer: both are voters by our configuration."""
        hello = self._identity.hellos.get(peer)
        mine = peer == self._inside.identity.peer
        return self._rank >= 0 and (
            mine or (hello is not None and any(v.name == hello.name for v in self._voters))
        )

    def objection(self, birth: Birth, proposer: PeerId) -> str:
        """Why we do not accept this birth; "" if we do. Logged once."""
        inside = self._inside
        reason = wrong_birth(birth, inside.cluster_name, inside.initial)
        mine = [member.peer for member in birth.members if member.name == inside.identity.name]
        if not reason and mine != [inside.identity.peer]:
            reason = f"it names {inside.identity.name!r} with another identity"
        if not reason and proposer not in birth.voters:
            reason = "it is proposed by a peer that is no voter in it"
        if reason and reason not in self._objections:
            self._objections[reason] = None
            inside.log("error", "birth_refused", f"this peer does not agree to the cluster's birth: {reason}")
        return reason

    # --- proposing

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        if connected:
            self._connected[peer] = None
        else:
            self._connected.pop(peer, None)

    def _on_tick(self) -> None:
        if self._born() or (self._identity.refused and not self._identity.joining):
            return
        inside = self._inside
        known = self._known()
        for voter in self._voters:
            if voter.name != inside.identity.name and voter.name not in known:
                inside.world.dial(voter.address)
        if not self._identity.joining:
            self._propose_if_complete(known)
        inside.timer(PAUSE_US + inside.world.below(PAUSE_US // 3), "metadata.birth")

    def _known(self) -> dict[str, PeerId]:
        """Ids by name of the connected peers that are not born either, ours included."""
        hellos = self._identity.hellos
        unborn = [peer for peer in self._connected if peer in hellos and not hellos[peer].cluster]
        known = {hellos[peer].name: peer for peer in unborn}
        known[self._inside.identity.name] = self._inside.identity.peer
        return known

    def _propose_if_complete(self, known: dict[str, PeerId]) -> None:
        inside = self._inside
        now_us = inside.world.monotonic_us()
        if self._rank < 0 or any(peer.name not in known for peer in inside.initial):
            self._complete_since_us = -1
            return
        if self._complete_since_us < 0:
            self._complete_since_us = now_us
            self._patience_us = self._rank * (PATIENCE_US + inside.world.below(SECOND_US))
        if now_us - self._complete_since_us >= self._patience_us and self._idle():
            self._complete_since_us = -1  # the next attempt waits its turn again
            self.propose(self._ballotting(known))

    def _ballotting(self, known: dict[str, PeerId]) -> Ballotting:
        inside = self._inside
        voters = tuple(known[voter.name] for voter in self._voters)

        def objection(birth: object) -> str:
            assert isinstance(birth, Birth)
            if birth.voters == voters:
                return self.objection(birth, inside.identity.peer)
            if len(birth.voters) != len(voters):
                return f"an unfinished birth has {len(birth.voters)} voters, our configuration {len(voters)}"
            odd = [
                v.name for v, old, new in zip(self._voters, birth.voters, voters, strict=True) if old != new
            ]
            return f"an unfinished birth names {', '.join(odd)} with another identity: empty all directories"

        rank = 1 + self._rank
        return Ballotting(1, voters, len(voters), rank, lambda: self._entry(known, voters), objection)

    def _entry(self, known: dict[str, PeerId], voters: tuple[PeerId, ...]) -> Birth:
        inside = self._inside
        factor = inside.settings.replication_factor
        tokens = initial_tokens(inside.initial, inside.settings.num_tokens, factor)
        members = tuple(
            Member(known[p.name], number, p.name, p.address, p.datacentre, p.rack, tokens[number - 1])
            for number, p in enumerate(inside.initial, 1)
        )
        cluster = inside.world.token_bytes(CLUSTER_ID_BYTES)
        return Birth(cluster, inside.cluster_name, members, voters, factor)
