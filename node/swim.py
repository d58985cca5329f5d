"""Liveness: who can be asked. It never decides who owns what; that is the metadata log's.

SWIM (Das, Gupta, Motivala, 2002): each period a peer pings the next of its targets (node/overlay.py). If no
ack comes, it asks k others to ping for it; if they hear nothing either, the silent peer is *suspect*, and
dead if it does not refute in time. What is known of peers travels on pings and acks (node/rumours.py), and
while there is news also in a few acks of nothing (sequence 0) every fifth of a second, so that it reaches
1,000 peers in about a second. The cost per peer is the same whatever their number: one ping sent and one
answered per period.

Lifeguard (Dadgar, Phillips, Currey, 2017): who misses answers that it should have got becomes more patient
itself (`_health`); a suspicion that others confirm is shorter (node/suspicion.py); each ping to a suspect
tells it so.

What we add, and the invariants:
- Connections that end are a reason to ping at once, never a verdict.
- A timer that fires much too late means that *we* slept: what we did not hear meanwhile says nothing.
- A death heard of somebody who is alive here is first checked by a ping of our own. So a peer that was cut
  off, and thinks that all others died, convinces nobody when it comes back.
- Each ping and ack carries one of the known deaths in turn, and who knows better says so; a dead peer is
  pinged now and then. So two halves find each other after a cut, and no rumour needs to arrive at its first
  try.
- Nobody else raises our incarnation, and we always count ourselves alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from core.messages import Message, Ping, PingAck, PingNack, PingRequest, Rumour
from core.ports import URGENT, PeerId, TimerId
from core.schema import Member
from node.inside import Inside
from node.overlay import TARGETS, Overlay
from node.rumours import (
    ALIVE,
    DEAD,
    RUMOURS_PER_MESSAGE_MAX,
    SUSPECT,
    RumourQueue,
    first_incarnation,
    incarnation_of_rank,
    rank,
    state_of_rank,
    transmissions,
)
from node.suspicion import Suspicion, longest_us

HELPERS = 3
"""How many others are asked to ping a silent peer: k in the paper."""

GOSSIP_PAUSE_US = 200_000
GOSSIP_FANOUT = 3
HEALTH_MAX = 4
"""Patience grows to (1 + this) times the configured timeout."""

EXTRA_PROBES_MAX = 8
"""Pings beyond the periodic ones that may be out at once, and how many peers are to look at one event."""

RELAYS_MAX = 1_000
DEAD_PING_PERIODS = 5
INCARNATION_END = 1 << 60

StateListener = Callable[[PeerId, int], None]


class MemberState(Protocol):
    """What SWIM reads of the metadata."""

    @property
    def epoch(self) -> int:
        """The newest epoch adopted, 0 before birth."""

    @property
    def members(self) -> tuple[Member, ...]:
        """In the order of their numbers; the same object as long as nothing changed."""

    def number_of(self, peer: PeerId) -> int | None:
        """A member's number."""

    def peer_of(self, number: int) -> PeerId | None:
        """The member of this number."""


class Metadata(Protocol):
    """What SWIM needs of the metadata log."""

    @property
    def state(self) -> MemberState:
        """As of the newest epoch adopted."""

    def behind(self, peer: PeerId, epoch: int) -> None:
        """This peer has adopted a newer epoch than we."""

    def on_adopted(self, callback: Callable[..., None]) -> None:
        """Call back after each epoch adopted."""


class _Probe:
    """A ping that a verdict hangs on; `nacks` of the helpers `asked` hear nothing either."""

    __slots__ = ("asked", "nacks", "number", "peer", "timer")

    def __init__(self, number: int, peer: PeerId, timer: TimerId) -> None:
        self.number = number
        self.peer = peer
        self.timer = timer
        self.asked: list[PeerId] = []
        self.nacks = 0


class Swim:
    """The failure detector of one peer. Inside and on the wire peers are numbers, for other parts PeerIds."""

    def __init__(self, inside: Inside, metadata: Metadata) -> None:
        """Register with both; nothing is sent before `start`."""
        self._inside = inside
        self._world = inside.world
        self._metadata = metadata
        self._ping_pause_us = inside.settings.ping_pause_us
        self._ping_timeout_us = inside.settings.ping_timeout_us
        self._members: tuple[Member, ...] = ()
        self._number = 0
        self._overlay = Overlay((), 0, self._world.below)
        self._periods = 0
        self._incarnation = first_incarnation(inside.identity.start)
        self._announced = 0  # the highest incarnation that we had to make known
        # Only exceptions to "alive, nothing ever heard": at 1,000 peers in one process memory is what counts.
        self._ranks: dict[int, int] = {}
        self._suspicions: dict[int, Suspicion] = {}
        self._dead: dict[int, PeerId] = {}
        self._dead_peers: set[PeerId] = set()
        self._dead_turn = 0
        self._queue = RumourQueue()
        self._transmissions = 1
        self._gossiping = False
        self._sequence = 0
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, tuple[PeerId, int, TimerId]] = {}
        self._health = 0
        self._awake_since_us = 0
        self._listeners: list[StateListener] = []
        inside.on_message(Ping, self._on_ping)
        inside.on_message(PingAck, self._on_ack)
        inside.on_message(PingRequest, self._on_ping_request)
        inside.on_message(PingNack, self._on_nack)
        inside.on_timer("swim_period", self._on_period)
        inside.on_timer("swim_silent", self._on_silent)
        inside.on_timer("swim_relay", self._on_relay_silent)
        inside.on_timer("swim_gossip", self._on_gossip)
        inside.on_peer(self._on_peer)
        metadata.on_adopted(self._on_adopted)

    # --- what others ask

    def start(self) -> None:
        """Begin to ping, after a random part of a period, so that peers do not march in step."""
        self._adopt_members()
        delay_us = self._world.below(self._ping_pause_us)
        self._inside.timer(delay_us, "swim_period", self._world.monotonic_us() + delay_us)

    def is_alive(self, peer: PeerId) -> bool:
        """Whether it is worth asking: suspects are, the dead are not."""
        return peer not in self._dead_peers

    def state_of(self, peer: PeerId) -> int:
        """ALIVE, SUSPECT or DEAD; ALIVE too for ourselves and for who is no member."""
        number = self._metadata.state.number_of(peer)
        return ALIVE if number is None else state_of_rank(self._ranks.get(number, 0))

    def alive(self) -> tuple[PeerId, ...]:
        """All members that are not dead, ourselves included, in members' order."""
        dead = self._dead
        return tuple(member.peer for member in self._members if member.number not in dead)

    def on_change(self, listener: StateListener) -> None:
        """Have `listener(peer, state)` called whenever a member's state here changes."""
        self._listeners.append(listener)

    # --- members

    def _on_adopted(self, *_: object) -> None:
        self._adopt_members()

    def _adopt_members(self) -> None:
        members = self._metadata.state.members
        if members is self._members or members == self._members:
            return
        self._members = members
        self._number = self._metadata.state.number_of(self._inside.identity.peer) or 0
        self._overlay = Overlay(members, self._number, self._world.below)
        self._transmissions = transmissions(len(members))
        peer_of = self._metadata.state.peer_of
        for number in [number for number in self._ranks if peer_of(number) is None]:
            self._forget_member(number)

    def _forget_member(self, number: int) -> None:
        del self._ranks[number]
        self._suspicions.pop(number, None)
        peer = self._dead.pop(number, None)
        if peer is not None:
            self._dead_peers.discard(peer)
        self._queue.discard(number)

    # --- pinging

    def _on_period(self, due_us: int) -> None:
        now_us = self._world.monotonic_us()
        self._notice_sleep(now_us, due_us)
        jitter_us = self._ping_pause_us // 20
        delay_us = self._ping_pause_us - jitter_us + self._world.below(2 * jitter_us + 1)
        self._inside.timer(delay_us, "swim_period", now_us + delay_us)
        self._periods += 1
        target = self._overlay.next(self._dead)
        if target is not None:
            self._probe(target.number, target.peer)
        if self._dead and (target is None or self._periods % DEAD_PING_PERIODS == 0):
            self._dead_turn += 1
            number = tuple(self._dead)[self._dead_turn % len(self._dead)]
            self._ping(number, self._dead[number])

    def _ping(self, number: int, peer: PeerId) -> int:
        """Send a ping; returns its sequence."""
        self._sequence = sequence = self._sequence + 1
        ping = Ping(sequence, number, self._metadata.state.epoch, self._rumours_for(number))
        self._world.send(peer, ping, URGENT)
        return sequence

    def _probe(self, number: int, peer: PeerId) -> None:
        """Ping, and suspect if neither we nor those we then ask hear anything."""
        sequence = self._ping(number, peer)
        self._probes[sequence] = _Probe(number, peer, self._silence_timer(sequence, self._patience_us()))

    def _silence_timer(self, sequence: int, delay_us: int) -> TimerId:
        return self._inside.timer(delay_us, "swim_silent", sequence, self._world.monotonic_us() + delay_us)

    def _patience_us(self) -> int:
        return self._ping_timeout_us * (1 + self._health)

    def _probe_us(self) -> int:
        """How long a whole probe takes, the helpers' part included."""
        patience_us = self._patience_us()
        return 2 * patience_us + patience_us // 4

    def _look_at(self, number: int, peer: PeerId) -> None:
        """Ping out of turn, unless that is under way or too much is."""
        if number in self._dead:
            self._ping(number, peer)
        elif len(self._probes) <= EXTRA_PROBES_MAX and all(
            probe.number != number for probe in self._probes.values()
        ):
            self._probe(number, peer)

    def _on_silent(self, sequence: int, due_us: int) -> None:
        probe = self._probes.get(sequence)
        if probe is None or self._notice_sleep(self._world.monotonic_us(), due_us):
            return
        if not probe.asked:
            helpers = self._overlay.pick(HELPERS, probe.number, self._dead)
            if helpers:
                probe.asked = [helper.peer for helper in helpers]
                # A quarter more than we waited ourselves: their nacks must have time to arrive.
                probe.timer = self._silence_timer(sequence, self._probe_us() - self._patience_us())
                epoch = self._metadata.state.epoch
                for helper in helpers:
                    rumours = self._rumours_for(helper.number)
                    self._send(helper.peer, PingRequest(sequence, probe.number, epoch, rumours))
                return
        del self._probes[sequence]
        if probe.nacks < max(1, len(probe.asked)):
            self._health = min(HEALTH_MAX, self._health + 1)
        self._suspect(probe.number)

    def _on_ping(self, peer: PeerId, message: Ping) -> None:
        known_better = self._learn(message.rumours) if message.rumours else ()
        state = self._metadata.state
        if message.epoch > state.epoch:
            self._metadata.behind(peer, message.epoch)
        if message.target != self._number and self._number:
            return  # meant for who had this address before
        if self._queue or self._dead or self._suspicions or known_better:
            rumours = self._rumours_for(state.number_of(peer) or 0, known_better)
        else:
            rumours = ()
        self._send(peer, PingAck(message.sequence, state.epoch, rumours))

    def _on_ack(self, peer: PeerId, message: PingAck) -> None:
        known_better = self._learn(message.rumours) if message.rumours else ()
        if known_better:
            self._send(peer, PingAck(0, self._metadata.state.epoch, known_better))
        if message.epoch > self._metadata.state.epoch:
            self._metadata.behind(peer, message.epoch)
        probe = self._probes.get(message.sequence)
        if probe is not None:
            if peer == probe.peer or peer in probe.asked:
                del self._probes[message.sequence]
                self._world.cancel_timer(probe.timer)
                if self._health:
                    self._health -= 1
            return
        relay = self._relays.pop(message.sequence, None)
        if relay is not None:
            requester, sequence, timer = relay
            self._world.cancel_timer(timer)
            self._send(requester, PingAck(sequence, self._metadata.state.epoch, ()))

    def _on_ping_request(self, peer: PeerId, message: PingRequest) -> None:
        self._learn(message.rumours)
        state = self._metadata.state
        if message.epoch > state.epoch:
            self._metadata.behind(peer, message.epoch)
        target = state.peer_of(message.target)
        if message.target == self._number:
            self._send(peer, PingAck(message.sequence, state.epoch, ()))
        elif target is None or len(self._relays) >= RELAYS_MAX:
            self._send(peer, PingNack(message.sequence))
        else:
            sequence = self._ping(message.target, target)
            delay_us = self._ping_timeout_us * 3 // 4
            timer = self._inside.timer(delay_us, "swim_relay", sequence)
            self._relays[sequence] = (peer, message.sequence, timer)

    def _on_relay_silent(self, sequence: int) -> None:
        relay = self._relays.pop(sequence, None)
        if relay is not None:
            self._send(relay[0], PingNack(relay[1]))

    def _on_nack(self, peer: PeerId, message: PingNack) -> None:
        probe = self._probes.get(message.sequence)
        if probe is not None and peer in probe.asked:
            probe.nacks += 1

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        """A hint. Of all who notice only a few look, so that a crash costs the same among 1,000 peers."""
        number = self._metadata.state.number_of(peer)
        if number is None or number == self._number:
            return
        doubted = state_of_rank(self._ranks.get(number, 0)) != ALIVE
        if connected == doubted and self._one_of_few(2 * TARGETS):
            self._look_at(number, peer)

    def _one_of_few(self, audience: int) -> bool:
        """Chance chooses about EXTRA_PROBES_MAX of all the peers that learn something at the same time."""
        return self._world.below(min(audience, len(self._members))) < EXTRA_PROBES_MAX

    def _send(self, peer: PeerId, message: Message) -> None:
        self._world.send(peer, message, URGENT)  # whether it arrives is what this part is here to find out

    def _notice_sleep(self, now_us: int, due_us: int) -> bool:
        """Whether this timer is so late that we were stopped: then what we did not hear says nothing."""
        slept_us = now_us - max(due_us, self._awake_since_us)
        if slept_us <= self._ping_timeout_us // 2:
            return False
        self._awake_since_us = now_us
        for probe in self._probes.values():
            self._world.cancel_timer(probe.timer)
        self._probes.clear()
        for suspicion in self._suspicions.values():
            suspicion.forgive(slept_us, now_us)
        self._health = min(HEALTH_MAX, self._health + 1)
        self._inside.log("warning", "swim_slept", f"this peer stood still for {slept_us / 1e6:.1f} s")
        return True

    # --- rumours

    def _rumours_for(self, number: int, first: Sequence[Rumour] = ()) -> tuple[Rumour, ...]:
        """What to tell a peer: `first`, what we hold against it, news, and one of the deaths in turn."""
        if not (self._queue or self._dead or self._suspicions or first):
            return ()
        rumours = [*first[:RUMOURS_PER_MESSAGE_MAX]]
        value = self._ranks.get(number, 0)
        if state_of_rank(value) != ALIVE:
            rumours.append(Rumour(number, state_of_rank(value), incarnation_of_rank(value), self._number))
        room = max(0, RUMOURS_PER_MESSAGE_MAX - len(rumours))
        rumours.extend(self._queue.take(self._transmissions, room))
        if self._dead and len(rumours) < RUMOURS_PER_MESSAGE_MAX:
            self._dead_turn += 1
            other = tuple(self._dead)[self._dead_turn % len(self._dead)]
            if all(rumour.number != other for rumour in rumours):
                rumours.append(Rumour(other, DEAD, incarnation_of_rank(self._ranks[other]), self._number))
        return tuple(rumours)

    def _pass_on(self, rumour: Rumour) -> None:
        self._queue.add(rumour)
        self._arm_gossip(1 + self._world.below(GOSSIP_PAUSE_US))

    def _arm_gossip(self, delay_us: int) -> None:
        if not self._gossiping:
            self._gossiping = True
            self._inside.timer(delay_us, "swim_gossip", self._world.monotonic_us() + delay_us)

    def _on_gossip(self, due_us: int) -> None:
        """While there are news or suspicions: judge those that are over, and tell a few others."""
        self._gossiping = False
        now_us = self._world.monotonic_us()
        self._notice_sleep(now_us, due_us)
        for number, suspicion in tuple(self._suspicions.items()):
            peer = self._metadata.state.peer_of(number)
            if suspicion.deadline_us() <= now_us and peer is not None:
                self._declare_dead(number, peer)
        if self._queue:
            epoch = self._metadata.state.epoch
            for target in self._overlay.pick(GOSSIP_FANOUT, 0, self._dead):
                rumours = self._queue.take(self._transmissions)
                if not rumours:
                    break
                self._send(target.peer, PingAck(0, epoch, rumours))
        if self._queue or self._suspicions:
            self._arm_gossip(GOSSIP_PAUSE_US)

    def _learn(self, rumours: Sequence[Rumour]) -> tuple[Rumour, ...]:
        """Take rumours in; returns what the teller should know about those whom it thinks ill of wrongly."""
        known_better: list[Rumour] = []
        for rumour in rumours:
            number, state, incarnation, by = rumour.number, rumour.state, rumour.incarnation, rumour.by
            if not (ALIVE <= state <= DEAD and 0 <= incarnation < INCARNATION_END):
                continue
            if number == self._number:
                if state != ALIVE:
                    known_better.append(self._refute(incarnation))
                continue
            known = self._ranks.get(number, 0)
            heard = rank(state, incarnation)
            if heard < known:
                if state != ALIVE and state_of_rank(known) == ALIVE:
                    known_better.append(Rumour(number, ALIVE, incarnation_of_rank(known), number))
            elif heard > known:
                peer = self._metadata.state.peer_of(number)
                if peer is not None:
                    self._believe(rumour, peer)
            elif state == SUSPECT and self._suspicions[number].confirm(by):
                self._pass_on(rumour)
        return tuple(known_better)

    def _refute(self, incarnation: int) -> Rumour:
        """Somebody doubts us: say that we live, louder if need be."""
        if incarnation >= self._incarnation:
            self._incarnation = incarnation + 1
        rumour = Rumour(self._number, ALIVE, self._incarnation, self._number)
        if self._announced < self._incarnation:
            self._announced = self._incarnation
            self._pass_on(rumour)
            self._health = min(HEALTH_MAX, self._health + 1)
            self._inside.count("swim_refutations")
        return rumour

    def _suspect(self, number: int) -> None:
        """Our own probe failed."""
        value = self._ranks.get(number, 0)
        if state_of_rank(value) != DEAD and self._metadata.state.peer_of(number) is not None:
            self._learn((Rumour(number, SUSPECT, incarnation_of_rank(value), self._number),))

    def _believe(self, rumour: Rumour, peer: PeerId) -> None:
        """A rumour about another member that outranks what is known here."""
        number, state = rumour.number, rumour.state
        if state == DEAD and number not in self._dead:
            self._hear_death(rumour, peer)
            return
        if state == SUSPECT:
            timeout_us = longest_us(
                self._inside.settings.suspicion_multiplier, len(self._members), self._patience_us()
            )
            self._begin_suspicion(rumour, peer, timeout_us)
            if rumour.by != self._number and self._one_of_few(len(self._members)):
                self._look_at(number, peer)  # more opinions end a true suspicion sooner, or a false one
        else:
            self._set(number, peer, state, rumour.incarnation)
        self._pass_on(rumour)

    def _begin_suspicion(self, rumour: Rumour, peer: PeerId, timeout_us: int) -> None:
        now_us = self._world.monotonic_us()
        self._suspicions[rumour.number] = Suspicion(now_us, timeout_us, len(self._members), rumour.by)
        self._set(rumour.number, peer, SUSPECT, rumour.incarnation)
        self._arm_gossip(GOSSIP_PAUSE_US)
        self._inside.count("swim_suspicions")

    def _hear_death(self, rumour: Rumour, peer: PeerId) -> None:
        """Not believed before there was time for one probe of our own."""
        number = rumour.number
        suspicion = self._suspicions.get(number)
        if suspicion is None:
            if len(self._probes) > EXTRA_PROBES_MAX:
                return  # too much to look at; we will hear it again
            self._begin_suspicion(rumour, peer, self._probe_us())
            self._look_at(number, peer)
            return
        self._set(number, peer, SUSPECT, rumour.incarnation)
        suspicion.shorten(self._probe_us())
        if suspicion.deadline_us() <= self._world.monotonic_us():
            self._declare_dead(number, peer)

    def _declare_dead(self, number: int, peer: PeerId) -> None:
        incarnation = incarnation_of_rank(self._ranks[number])
        self._set(number, peer, DEAD, incarnation)
        self._pass_on(Rumour(number, DEAD, incarnation, self._number))

    def _set(self, number: int, peer: PeerId, state: int, incarnation: int) -> None:
        """Change what is known, and tell who listens."""
        before = state_of_rank(self._ranks.get(number, 0))
        self._ranks[number] = rank(state, incarnation)
        assert number != self._number
        if state != SUSPECT:
            self._suspicions.pop(number, None)
        if state == DEAD:
            self._dead[number] = peer
            self._dead_peers.add(peer)
        else:
            self._dead.pop(number, None)
            self._dead_peers.discard(peer)
        if state == before:
            return
        if DEAD in (state, before):
            name = next(member.name for member in self._members if member.number == number)
            text = f"{name} is considered dead" if state == DEAD else f"{name} is back"
            self._inside.log("info", "peer_dead" if state == DEAD else "peer_back", text, name)
            self._inside.count("peers_dead_now", len(self._dead))
        for listener in self._listeners:
            listener(peer, state)

    # --- for tests

    def validate(self) -> None:
        """Assert the invariants of what is kept."""
        state = self._metadata.state
        assert self._number not in self._ranks
        assert sorted(self._dead) == sorted(n for n, r in self._ranks.items() if state_of_rank(r) == DEAD)
        assert sorted(self._suspicions) == sorted(
            n for n, r in self._ranks.items() if state_of_rank(r) == SUSPECT
        )
        assert self._dead_peers == set(self._dead.values())
        assert all(state.peer_of(number) == peer for number, peer in self._dead.items())
        assert len(self._probes) <= 2 * EXTRA_PROBES_MAX + 8 * (1 + HEALTH_MAX)
