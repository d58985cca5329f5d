"""The network between simulated peers: connections made on first use, and what can befall messages on them.

A connection is two `Link`s, one per direction, between two *processes* (incarnations): when either ends,
both links are broken and never used again. Making one costs a round trip in which each side shows its Hello
and may refuse, as a real transport does it. Nothing is made ahead of need, so a thousand peers cost what
they say, not N^2.

On a link messages arrive in order, each after the pair's latency and some jitter, unless the dice say
otherwise: lost, doubled, overtaken by later ones, or held back for seconds (what a retransmission or a
queue in a switch does to a datagram). Protocols are meant to survive all of it on one connection, which TCP
would mostly spare them.

A *cut* is a set of ordered pairs of machines that do not hear each other. Messages into a cut are gone; a
connection that stays cut for `break_us` breaks, as a transport's keep-alive would find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from core.messages import Hello, Message, Refused, decode_message, encode_message
from core.ports import BULK, PeerId
from sim.options import NetworkOptions
from sim.scheduler import Scheduler

if TYPE_CHECKING:
    from sim.world import SimWorld

CONNECT_TIMEOUT_US = 1_000_000
REDIAL_PAUSE_US = 200_000
QUEUE_WHILE_CONNECTING_MAX = 1_000
BULK_EXTRA_US = 500


class Link:
    """One direction of a connection: from one process to another, up until either ends or it is broken."""

    __slots__ = ("back", "free_us", "last_us", "latency_us", "pair", "source", "target", "up")

    def __init__(self, source: SimWorld, target: SimWorld, latency_us: int) -> None:
        self.source = source
        self.target = target
        self.pair = (source.index, target.index)
        self.latency_us = latency_us
        self.last_us = [0, 0, 0]
        self.up = True
        self.free_us = [0, 0]
        """When the small and the bulk connection will have sent all they were given, if bytes take time."""
        self.back: Link | None = None


class Counts:
    """What happened to messages, for statistics and for the tests of the network itself."""

    __slots__ = ("connections", "cut", "delivered", "doubled", "late", "lost", "reordered", "sent")

    def __init__(self) -> None:
        self.sent = self.delivered = self.lost = self.cut = 0
        self.doubled = self.reordered = self.late = self.connections = 0


class Network:
    """All links of a simulated cluster, and what is wrong with them."""

    def __init__(
        self,
        scheduler: Scheduler,
        options: NetworkOptions,
        seed: int,
        running_at: Callable[[str], SimWorld | None],
        process_of: Callable[[int], SimWorld | None],
    ) -> None:
        """`running_at` gives the process that listens at an address, `process_of` the one on a machine."""
        self._process_of = process_of
        self._scheduler = scheduler
        self._options = options
        self._running_at = running_at
        self._seed = seed
        self._random = Random(f"{seed}:network")
        self._latencies: dict[tuple[int, int], int] = {}
        self._blocked: dict[tuple[int, int], int] = {}
        self._slow: dict[int, int] = {}
        self._epoch = 0
        self.loss = options.loss
        self.duplication = options.duplication
        self.reordering = options.reordering
        self.delay = 1
        """By how much everything takes longer than it should."""
        self.counts = Counts()
        self.watch: Callable[[SimWorld, PeerId, Message], None] | None = None
        self.drop: Callable[[int, int, Message], bool] | None = None
        """A scenario's own wish to lose messages: (source, target, message) -> lose it."""

    # --- what can be wrong

    def block(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Cut these ordered pairs of machines (source, target)."""
        self._epoch += 1
        for pair in pairs:
            if pair not in self._blocked:
                self._blocked[pair] = self._epoch
        self._scheduler.after(self._options.break_us, self._break_what_is_cut, self._epoch)

    def unblock_all(self) -> None:
        """Heal all cuts."""
        self._blocked.clear()

    def unblock(self, machine: int) -> None:
        """Heal all cuts from and to one machine."""
        for pair in [pair for pair in self._blocked if machine in pair]:
            del self._blocked[pair]

    def as_ever(self) -> None:
        """What happens to messages is again what the options say."""
        options = self._options
        self.loss, self.duplication, self.reordering = options.loss, options.duplication, options.reordering
        self.delay = 1

    def slow(self, machine: int, factor: int) -> None:
        """Multiply the latency of everything to and from a machine (1: as before)."""
        if factor == 1:
            self._slow.pop(machine, None)
        else:
            self._slow[machine] = factor

    def passes(self, source: int, target: int) -> bool:
        """Whether a message from one machine would reach the other."""
        return (source, target) not in self._blocked

    def latency_us(self, source: int, target: int) -> int:
        """One way between these machines, without jitter: drawn for each pair, the same for ever."""
        latency = self._latencies.get((source, target))
        if latency is None:
            low, high = self._options.latency_min_us, self._options.latency_max_us
            latency = Random(f"{self._seed}:latency:{source}:{target}").randint(low, max(low, high))
            self._latencies[(source, target)] = latency
        return latency

    def _break_what_is_cut(self, epoch: int) -> None:
        cut = [pair for pair, since in self._blocked.items() if since == epoch]
        for source, target in cut:
            for link in self._links_between(source, target):
                self.break_link(link, 0)

    def _links_between(self, source: int, target: int) -> list[Link]:
        world = self._process_of(source)
        if world is None:
            return []
        return [link for link in world.links.values() if link.target.index == target and link.up]

    # --- connections

    def dial(self, source: SimWorld, address: str, peer: PeerId | None) -> None:
        """Try to connect to whoever listens at this address; if `peer` is given it must be this one."""
        target = self._running_at(address)
        if target is None or target is source:
            hop_us = self.latency_us(source.index, source.index)
            self._scheduler.after(2 * hop_us, source.dial_failed, address, peer)
            return
        there = self.latency_us(source.index, target.index)
        if not (self.passes(source.index, target.index) and self.passes(target.index, source.index)):
            self._scheduler.after(CONNECT_TIMEOUT_US, source.dial_failed, address, peer)
            return
        self._scheduler.after(there, self._accept, source, target, address, peer)

    def _accept(self, source: SimWorld, target: SimWorld, address: str, peer: PeerId | None) -> None:
        if target.paused:
            target.backlog.append((self._accept, (source, target, address, peer)))
            return
        back = self.latency_us(target.index, source.index)
        if not (target.running and source.alive and self.passes(target.index, source.index)):
            self._scheduler.after(back, source.dial_failed, address, peer)
            return
        hello = self._through_codec(source.hello())
        assert isinstance(hello, Hello)
        refused = target.on_hello(hello)
        if refused is not None:
            self._scheduler.after(back, self._refused, source, address, peer, refused)
            return
        old = target.links.get(source.peer)
        if old is not None and old.up:
            mine = source.links.get(target.peer)
            if old.target is source and mine is not None and mine.up:
                # both dialled, and one connection is enough
                self._scheduler.after(back, source.dial_done, address, target.peer)
                return
            self.break_link(old)
        link = self._new_link(target, source)
        self._scheduler.after(back, self._connected, source, target, link, address, peer)
        target.link_up(source.peer, link)

    def _connected(self, source: SimWorld, target: SimWorld, back: Link, *dialled: Any) -> None:
        """The answer to our hello is here; `dialled` is (address, expected peer or None)."""
        address, peer = dialled
        if source.paused:
            source.backlog.append((self._connected, (source, target, back, address, peer)))
            return
        if not (source.running and target.alive and back.up and self.passes(target.index, source.index)):
            source.dial_failed(address, peer)
            self.break_link(back)
            return
        refused = source.on_hello(target.hello())
        if refused is None and peer is not None and peer != target.peer:
            refused = Refused("another peer answers at this address", False)
        if refused is not None:
            source.dial_failed(address, peer)
            self.break_link(back)
            return
        link = source.links.get(target.peer)
        if link is not None and link.up and link.target is not target:
            self.break_link(link)
        if link is None or not link.up:
            link = self._new_link(source, target)
            link.back, back.back = back, link
            self.counts.connections += 1
            source.link_up(target.peer, link)
        else:  # both dialled, and the other's call was answered first: these two are one connection
            link.back, back.back = back, link
        source.dial_done(address, target.peer)

    def _refused(self, source: SimWorld, address: str, peer: PeerId | None, refused: Refused) -> None:
        source.dial_failed(address, peer)
        source.on_refused(address, refused)

    def _new_link(self, source: SimWorld, target: SimWorld) -> Link:
        return Link(source, target, self.latency_us(source.index, target.index))

    def break_link(self, link: Link, told_after_us: int | None = None) -> None:
        """End a connection: its owner knows at once, the other end after so long (None: it is not told)."""
        self._end(link)
        if link.back is not None and link.back.up and told_after_us is not None:
            self._scheduler.after(told_after_us, self._end, link.back)

    def _end(self, link: Link) -> None:
        if link.up:
            link.up = False
            link.source.link_down(link)

    def reset(self, source: int, target: int) -> None:
        """Break the connections between two machines, as a router that forgot them does."""
        for link in self._links_between(source, target):
            self.break_link(link, link.latency_us)

    # --- messages

    def transmit(self, link: Link, message: Message, lane: int) -> None:
        """Send on a link that is up. This is the hottest path of a simulation."""
        counts = self.counts
        options = self._options
        scheduler = self._scheduler
        counts.sent += 1
        if options.codec:
            message = self._through_codec(message)
        if options.count_bytes:
            link.source.bytes_sent += len(encode_message(message))
        random = self._random.random
        if self._blocked and link.pair in self._blocked:
            counts.cut += 1
            return
        if self.drop is not None and self.drop(link.pair[0], link.pair[1], message):
            counts.lost += 1
            return
        dice = random()
        if dice < self.loss:
            counts.lost += 1
            return
        latency = link.latency_us
        if self._slow:
            latency *= self._slow.get(link.pair[0], 1) * self._slow.get(link.pair[1], 1)
        latency *= self.delay
        at_us = scheduler.now_us + latency + int(random() * options.jitter_us)
        if options.bytes_per_s:
            at_us += self._sending_us(link, message, lane)
        if lane == BULK:
            at_us += BULK_EXTRA_US
        last_us = link.last_us
        if at_us <= last_us[lane]:
            at_us = last_us[lane]
        dice -= self.loss
        reordering = self.reordering
        if dice < reordering:
            counts.reordered += 1
            at_us += int(random() * options.reorder_us)
        elif dice < reordering + options.late:
            counts.late += 1
            at_us += int(random() * options.late_us)
        else:
            last_us[lane] = at_us
        scheduler.at(at_us, self._arrive, link, message)
        if self.duplication and random() < self.duplication:
            counts.doubled += 1
            scheduler.at(at_us + int(random() * options.reorder_us), self._arrive, link, message)

    def _sending_us(self, link: Link, message: Message, lane: int) -> int:
        """How long until the last byte has left: what was given to the same connection before goes first, and
        while both connections are busy each gets half of the wire.
        """
        now_us, free_us = self._scheduler.now_us, link.free_us
        mine = 1 if lane == BULK and self._options.connections > 1 else 0
        share = 2 if free_us[1 - mine] > now_us else 1
        sending_us = len(encode_message(message)) * share * 1_000_000 // self._options.bytes_per_s
        free_us[mine] = max(now_us, free_us[mine]) + sending_us
        return free_us[mine] - now_us

    def _arrive(self, link: Link, message: Message) -> None:
        if not link.up:
            return
        target = link.target
        back = link.back
        if back is not None and not back.up:
            return
        if not target.running:
            if target.paused:
                target.backlog.append((self._arrive, (link, message)))
            return
        if self._blocked and link.pair in self._blocked:
            self.counts.cut += 1
            return
        self.counts.delivered += 1
        if self.watch is not None:
            self.watch(target, link.source.peer, message)
        target.node.on_message(link.source.peer, message)

    def _through_codec(self, message: Message) -> Message:
        return decode_message(encode_message(message)) if self._options.codec else message
