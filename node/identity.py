"""Who may speak with whom: each side of a connection judges the other's hello.

A peer is the random id in its data directory; name and address are attributes. So an empty directory under
a known name is another peer, and one whose start counter is lower than was seen before has lost what it
promised (an old backup, a rolled-back disk). Either would break quorums that counted on its memory: it is
refused by name, with the reason, and a node that learns this of itself does not vote, propose or serve.

`judge` is pure; `IdentityPart` remembers the highest start seen of each peer, durably, and our own refusal.
A rolled-back directory stays refused by its own record, for its start counter catches up by restarting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.commands import Done, Outcome, SystemWrite
from core.messages import PROTOCOL_VERSIONS, Hello, Refused
from core.ports import InitialPeer, PeerId
from node.inside import Inside
from node.metadata_state import State

START_PREFIX: Final = b"start/"
"""System records: the highest start counter seen of a peer (8 bytes, big-endian), by its id."""

REFUSED_KEY: Final = b"identity/refused"
"""The system record that says why this directory must not be used any more."""

SELF, COPY, PROTOCOL, CLUSTER = "self", "copy", "protocol", "cluster"
WIPED, ROLLED_BACK, STRANGER, UNKNOWN_NAME = "wiped", "rolled_back", "stranger", "unknown_name"
BARRED, WAITING, REMOVED = "barred", "waiting", "removed"
GIVEN_UP, FORKED, MISPLACED = "given_up", "forked", "misplaced"
BARRING: Final = (WIPED, ROLLED_BACK, STRANGER, REMOVED, GIVEN_UP)
"""Codes of refusals after which the one refused is not ready."""

WAITING_MAX: Final = 1_000
"""Of so many peers that knock it is remembered."""

_LOGGED_MAX: Final = 1_000


def judge(
    mine: Hello, theirs: Hello, state: State, initial: tuple[InitialPeer, ...], highest_start: int
) -> Refused | None:
    """Whether a hello is refused. `highest_start` is the highest start seen of that peer id (0: none)."""
    return (
        _wrong_self(mine, theirs)
        or _wrong_protocol(mine, theirs)
        or _wrong_cluster(mine, theirs)
        or _rolled_back(theirs, highest_start)
        or _other_lineage(theirs, state)
        or (_not_a_member(theirs, state) if state.epoch else _not_configured(theirs, initial))
    )


def _wrong_self(mine: Hello, theirs: Hello) -> Refused | None:
    if mine.peer != theirs.peer:
        return None
    if (mine.name, mine.address, mine.start) == (theirs.name, theirs.address, theirs.start):
        return Refused("this is the same peer", final=True, code=SELF)
    text = (
        f"peers {mine.name!r} and {theirs.name!r} have one identity: one runs on a copy of the other's "
        "directory; stop it and give it a directory of its own"
    )
    return Refused(text, final=True, code=COPY)


def _wrong_protocol(mine: Hello, theirs: Hello) -> Refused | None:
    if max(mine.oldest, theirs.oldest) <= min(mine.newest, theirs.newest):
        return None
    text = (
        f"peer {theirs.name!r} speaks protocol versions {theirs.oldest} to {theirs.newest}, "
        f"peer {mine.name!r} {mine.oldest} to {mine.newest}: they have none in common"
    )
    return Refused(text, final=True, code=PROTOCOL)


def _wrong_cluster(mine: Hello, theirs: Hello) -> Refused | None:
    if mine.cluster_name != theirs.cluster_name:
        text = (
            f"peer {theirs.name!r} belongs to cluster {theirs.cluster_name!r}, "
            f"peer {mine.name!r} to cluster {mine.cluster_name!r}"
        )
        return Refused(text, final=True, code=CLUSTER)
    if mine.cluster and theirs.cluster and mine.cluster != theirs.cluster:
        text = (
            f"peers {theirs.name!r} and {mine.name!r} belong to different clusters that are both named "
            f"{mine.cluster_name!r} ({theirs.cluster.hex()[:8]} and {mine.cluster.hex()[:8]})"
        )
        return Refused(text, final=True, code=CLUSTER)
    return None


def _rolled_back(theirs: Hello, highest_start: int) -> Refused | None:
    if theirs.start >= highest_start:
        return None
    text = (
        f"peer {theirs.name!r} says that this is its start number {theirs.start}; {highest_start} was seen "
        "already: its directory is an old copy and has lost what it promised; replace the peer"
    )
    return Refused(text, final=True, code=ROLLED_BACK)


def _other_lineage(theirs: Hello, state: State) -> Refused | None:
    """Two halves that were each recovered without the other have two logs: neither may be read by the other.
    """
    if not theirs.cluster or theirs.generation == 0 or theirs.generation > len(state.lineages):
        return None  # theirs is older than any recovery, or newer than all we know of: they judge ours
    if theirs.lineage == state.lineages[theirs.generation - 1]:
        return None
    text = (
        f"peer {theirs.name!r} belongs to another part of cluster {state.name!r}, whose metadata was "
        "recovered without this one: these are two clusters now; choose one, and empty the directories of "
        "the other"
    )
    return Refused(text, final=True, code=FORKED)


def _not_a_member(theirs: Hello, state: State) -> Refused | None:
    if theirs.peer in state.lost:
        return Refused(given_up_text(theirs.name, state), final=True, code=GIVEN_UP)
    member = state.member(theirs.peer)
    if member is not None and member.name != theirs.name:
        text = (
            f"peer {theirs.name!r} runs on the directory of peer {member.name!r}: stop it, and give "
            "each peer the directory that it had"
        )
        return Refused(text, final=True, code=MISPLACED)
    if member is not None:
        return None
    if any(peer == theirs.peer for peer, _ in state.former):
        text = (
            f"peer {theirs.name!r} was removed from cluster {state.name!r}: empty its directory to join anew"
        )
        return Refused(text, final=True, code=REMOVED)
    if theirs.cluster and theirs.epoch > state.epoch and theirs.generation >= len(state.lineages):
        return None  # it knows of epochs that we lack; one of them may admit it
    if state.by_name(theirs.name) is not None:
        text = (
            f"peer {theirs.name!r} is a member with another identity: this directory is empty or another's; "
            f"restore its directory, or replace the peer (sullae cluster plan replace {theirs.name})"
        )
        return Refused(text, final=True, code=WIPED)
    if not theirs.cluster:
        text = f"peer {theirs.name!r} waits to be admitted to cluster {state.name!r}: sullae cluster plan add"
        return Refused(text, final=False, code=WAITING)
    text = f"peer {theirs.name!r} is no member of cluster {state.name!r}"
    return Refused(text, final=True, code=STRANGER)


def _not_configured(theirs: Hello, initial: tuple[InitialPeer, ...]) -> Refused | None:
    if theirs.cluster or any(peer.name == theirs.name for peer in initial):
        return None
    names = ", ".join(peer.name for peer in initial)
    text = f"peer {theirs.name!r} is none of those that found this cluster ({names})"
    return Refused(text, final=False, code=UNKNOWN_NAME)


def given_up_text(name: str, state: State) -> str:
    """What a member is told that was given up when the metadata was recovered."""
    return (
        f"peer {name!r} was given up for lost when the metadata of cluster {state.name!r} was recovered "
        f"(generation {len(state.lineages)}): empty its directory, start it, and have it take its place with "
        f"sullae cluster plan replace {name}"
    )


class IdentityPart:
    """Our hello, our verdict on those of others, and theirs on ours."""

    def __init__(self, inside: Inside, boot: dict[bytes, bytes], state: Callable[[], State]) -> None:
        """`boot` holds all system records; `state` gives the metadata state of the moment."""
        self._inside = inside
        self._state = state
        self._starts = {
            key[len(START_PREFIX) :]: int.from_bytes(value, "big")
            for key, value in boot.items()
            if key.startswith(START_PREFIX)
        }
        self._logged: dict[str, str] = {}
        self.refused = boot.get(REFUSED_KEY, b"").decode()
        """Why this node must not vote, propose or serve; "" if it may."""
        self._barred_by = ROLLED_BACK if self.refused else ""
        self.joining = False
        """A cluster knows of us and has not admitted us yet: as a new peer, or in the place of another."""
        self.waiting: dict[str, Hello] = {}
        """By name, the latest hello of peers with empty directories that knocked since we started."""
        self.hellos: dict[PeerId, Hello] = {}
        """The latest accepted hello of each peer; before birth only one per name."""
        self.given_up: Callable[[], tuple[PeerId, ...]] = lambda: ()
        """Whom this peer has agreed to give up, in a recovery that it does not know to be decided yet."""
        inside.on_stored("identity.stored", self._on_stored)

    def hello(self) -> Hello:
        """What this node says first on each connection."""
        identity, state = self._inside.identity, self._state()
        oldest, newest = PROTOCOL_VERSIONS
        return Hello(
            oldest,
            newest,
            self._inside.cluster_name,
            state.cluster,
            identity.peer,
            identity.start,
            identity.name,
            identity.address,
            identity.datacentre,
            identity.rack,
            state.epoch,
            len(state.lineages),
            state.lineages[-1] if state.lineages else b"",
        )

    def on_hello(self, hello: Hello) -> Refused | None:
        """Judge the other side of a new connection; None accepts it. Who is refused for good is alone."""
        if self.refused and not (self.joining and hello.cluster):
            text = f"peer {self._inside.identity.name!r} takes no part: {self.refused}"
            return Refused(text, final=False, code=BARRED)
        state = self._state()
        highest = self._starts.get(hello.peer, 0)
        refused = judge(self.hello(), hello, state, self._inside.initial, highest)
        if refused is None and hello.peer in self.given_up():
            text = f"peer {hello.name!r} is being given up for lost: stop it"
            refused = Refused(text, final=False, code=BARRED)
        if refused is not None:
            if refused.code in (WAITING, WIPED) and not hello.cluster:
                self._note_waiting(hello)
            if refused.code != SELF:
                self._log_once("warning", "peer_refused", hello.name, refused.reason)
            return refused
        if hello.start > highest:
            self._starts[hello.peer] = hello.start
            put = (START_PREFIX + hello.peer, hello.start.to_bytes(8, "big"))
            self._inside.submit(("identity.stored",), SystemWrite((put,)))
        member = state.member(hello.peer)
        if member is not None and member.address != hello.address:
            text = f"peer {hello.name!r}, known to be at {member.address}, is at {hello.address} now"
            self._log_once("warning", "peer_moved", hello.name, text)
        if not state.epoch:
            for peer in [p for p, old in self.hellos.items() if old.name == hello.name]:
                del self.hellos[peer]
        if (
            member is not None
            or hello.cluster
            or any(peer.name == hello.name for peer in self._inside.initial)
        ):
            self.hellos[hello.peer] = hello
        return None

    def on_refused(self, who: str, refused: Refused) -> None:
        """The peer `who` did not accept our hello. Some refusals end this node's part in the cluster."""
        if refused.code == SELF:
            return
        if refused.code in (WIPED, STRANGER, WAITING) and self._state().member(self._inside.identity.peer):
            return  # said by somebody who did not know yet that we were admitted
        self.joining = self.joining or (refused.code in (WAITING, WIPED) and not self._state().epoch)
        if not (refused.final and refused.code in BARRING):
            self._log_once("warning", "refused", who, f"refused by {who}: {refused.reason}")
            return
        if self.refused:
            return
        self.refused, self._barred_by = refused.reason, refused.code
        self._inside.log("error", "refused_for_good", f"refused by {who}: {refused.reason}", who)
        if refused.code == ROLLED_BACK:
            put = (REFUSED_KEY, refused.reason.encode())
            self._inside.submit(("identity.stored",), SystemWrite((put,)))

    def admitted(self) -> None:
        """The state has us as a member: what was said of a stranger holds no more."""
        self.joining = False
        if self._barred_by != ROLLED_BACK:
            self.refused = self._barred_by = ""
        for name in [n for n, hello in self.waiting.items() if self._state().member(hello.peer) is not None]:
            del self.waiting[name]

    def _note_waiting(self, hello: Hello) -> None:
        """The latest of a name; and of a peer, which may have been started under another one before."""
        for name in [n for n, old in self.waiting.items() if old.peer == hello.peer and n != hello.name]:
            del self.waiting[name]
        if hello.name in self.waiting or len(self.waiting) < WAITING_MAX:
            self.waiting[hello.name] = hello

    def _on_stored(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Done):
            self._inside.log("warning", "identity_not_stored", f"a start counter was not stored: {outcome}")

    def _log_once(self, level: str, name: str, who: str, text: str) -> None:
        """Refused peers come back all the time: say it again only when it is something else."""
        if self._logged.get(who) == text:
            return
        if len(self._logged) >= _LOGGED_MAX:
            self._logged.clear()
        self._logged[who] = text
        self._inside.log(level, name, text, who)
