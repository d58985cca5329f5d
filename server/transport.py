"""Peers talking over TCP: two connections in each direction, one write per peer and event-loop tick.

Each peer dials every other, and speaks only on what it dialled: `small` for what fits 64 KiB (what is urgent
first), `bulk` for the rest, so that a large value never stands before a ping. What the node sends within one
tick is collected and leaves in one write per connection; that is where the speed comes from. A message sent
to several peers in a row is encoded once, and acknowledgements of writes, which come by the dozen with every
sync, leave as one message.

The first frame each way is a hello, which the node judges; nothing else is heard from who was not accepted,
and there is a bound on how many may be trying. With TLS the certificate must belong to the name that the
hello says.

Bounds: per peer and lane `limits.LANE_BYTES_MAX` wait to be written; beyond, `send` says False. A connection
that is lost takes along what waited for it (the node's timeouts are what makes sure). A peer that cannot be
reached is tried again after a pause that doubles, with jitter, and until then `send` says False at once.

A peer counts as connected (`on_peer`) while its small connections are up in both directions.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine, Sequence
from operator import is_not
from typing import Any, Protocol

import msgspec

from core import limits
from core.messages import ApplyMutation, Hello, Message, MutationApplied, Refused, encode_message
from core.ports import BULK, SMALL, URGENT, Event, PeerId
from server.certificate_files import CertificateError
from server.connections import Incoming
from server.frames import LENGTH, LENGTH_BYTES, SMALL_KIND
from server.link import Link, frames_of
from server.log_limit import LogLimit

STRANGERS_MAX = 256
"""How many connections may be without an accepted hello at once; the oldest gives way."""
APPLIED_MAX = 4 * limits.KIB
"""So many acknowledgements are told to a peer in one message: they fit a small frame."""
JOINED_BYTES_MAX = 16 * limits.KIB
"""Mutations up to this are joined with others."""
STOP_S = 0.2
"""How long `stop` waits for what was sent before."""


class Hooks(Protocol):
    """What the transport asks of the node and tells it."""

    def hello(self) -> Hello:
        """What this node says first on a connection."""

    def on_hello(self, hello: Hello) -> Refused | None:
        """Judge the other side's hello; None accepts it."""

    def on_refused(self, who: str, refused: Refused) -> None:
        """The other side did not accept us."""

    def on_message(self, peer: PeerId, message: Message) -> None:
        """A message came."""

    def on_peer(self, peer: PeerId, connected: bool) -> None:
        """A peer is reachable both ways, or no longer."""


class Counters:
    """What was sent and received since the start."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "lane_full",
        "malformed",
        "received",
        "refused",
        "sent",
        "writes",
    )

    def __init__(self) -> None:
        self.sent = self.received = self.bytes_sent = self.bytes_received = 0
        self.writes = self.lane_full = self.malformed = self.refused = 0


class TransportOptions(msgspec.Struct, frozen=True):
    """Where to listen, and what protects it. `tls` is (for those who dial us, for those we dial) or None."""

    address: str
    port: int
    cluster_name: str
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None


class Transport:
    """All connections of one peer. Methods are called on the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: TransportOptions,
        hooks: Hooks,
        note: Callable[[Event], None],
        jitter: random.Random | None = None,
    ) -> None:
        """`hooks` is the node; nothing is opened before `start`."""
        self.loop = loop
        self.options = options
        self.hooks = hooks
        self.counters = Counters()
        self.stopping = False
        self._jitter = jitter or random.Random()
        self._note = note
        self._log_limit = LogLimit(loop.time)
        self._server: asyncio.Server | None = None
        self._links: dict[str, Link] = {}
        self._by_peer: dict[PeerId, Link] = {}
        self._moved: dict[PeerId, str] = {}
        """Members that were heard from elsewhere than the members' addresses have it."""
        self._heard: dict[tuple[PeerId, int], Incoming] = {}
        self._connected: dict[PeerId, bool] = {}
        self._strangers: dict[Incoming, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._dirty: list[Link] = []
        self._last_message: Message | None = None
        self._last_body = b""
        self._last_applies: list[ApplyMutation] = []
        self._last_joined: list[bytes] = []

    # --- what the world calls

    async def start(self) -> None:
        """Listen; raises OSError if the address or port cannot be had."""
        options = self.options
        self._server = await self.loop.create_server(
            lambda: Incoming(self), options.address, options.port, reuse_address=True, backlog=1024
        )

    async def stop(self) -> None:
        """Close everything; nothing is heard or sent afterwards."""
        self.flush()
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.close()
        deadline_s = self.loop.time() + STOP_S
        while self.waiting_bytes() and self.loop.time() < deadline_s:  # noqa: ASYNC110 - the end of many buffers
            await asyncio.sleep(0.005)
        for link in self._links.values():
            link.abort()
        for incoming in [*self._heard.values(), *self._strangers]:
            incoming.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the ends of connections are told

    @property
    def port(self) -> int:
        """The port listened on (of use when 0 was asked for)."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        """Have a message leave with this tick; False if its lane is full or the peer out of reach."""
        link = self._by_peer.get(peer)
        if link is None or not (link.is_up or link.usable()):
            return False
        if type(message) is MutationApplied and lane == SMALL and message.newer is None:
            return self._send_applied(link, message.op)
        if type(message) is ApplyMutation and lane == SMALL and len(message.mutation) <= JOINED_BYTES_MAX:
            return self._send_apply(link, message)
        if message is not self._last_message:
            self._last_message = message
            self._last_body = encode_message(message)
        body = self._last_body
        size = len(body)
        if size > limits.SMALL_FRAME_BYTES_MAX:
            if size > limits.FRAME_BYTES_MAX:
                self.log("error", "frame_too_large", f"a message of {size} bytes is not sent")
                return False
            lane = BULK
        waiting = link.waiting
        if waiting[lane] + size > limits.LANE_BYTES_MAX:
            self.counters.lane_full += 1
            return False
        waiting[lane] += size + LENGTH_BYTES
        lanes = link.lanes[lane]
        if lane == BULK:
            lanes.append(LENGTH.pack(size))
            lanes.append(body)
        else:
            lanes.append(LENGTH.pack(size) + body)
        self.counters.sent += 1
        if not link.dirty:
            self._flush_soon(link)
        return True

    def _send_applied(self, link: Link, op: int) -> bool:
        """What replicas say most: all of a tick leaves in one message."""
        if len(link.applied) >= APPLIED_MAX or link.waiting[SMALL] >= limits.LANE_BYTES_MAX:
            self.counters.lane_full += 1
            return False
        link.applied.append(op)
        self.counters.sent += 1
        if not link.dirty:
            self._flush_soon(link)
        return True

    def _send_apply(self, link: Link, message: ApplyMutation) -> bool:
        """What coordinators say most: those of a tick leave in as few messages as may be."""
        size = len(message.mutation) + LENGTH_BYTES
        if link.waiting[SMALL] + size > limits.LANE_BYTES_MAX:
            self.counters.lane_full += 1
            return False
        link.waiting[SMALL] += size
        link.applies_bytes += size
        link.applies.append(message)
        self.counters.sent += 1
        if not link.dirty:
            self._flush_soon(link)
        return True

    def joined(self, applies: list[ApplyMutation]) -> list[bytes]:
        """The frames that say these; the same to several peers in a row is encoded once."""
        last = self._last_applies
        if len(last) != len(applies) or any(map(is_not, last, applies)):
            self._last_applies, self._last_joined = applies, frames_of(applies)
        return self._last_joined

    def _flush_soon(self, link: Link) -> None:
        link.dirty = True
        if not self._dirty:
            self.loop.call_soon(self.flush)
        self._dirty.append(link)

    def dial(self, address: str) -> None:
        """Reach whoever is at this address, unless that is under way."""
        if not self.stopping:
            self._link_to(address).wanted()

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        """The members; what leads elsewhere and is not needed any more is closed."""
        me = self.hooks.hello().peer
        told = dict(addresses)
        self._moved = {peer: at for peer, at in self._moved.items() if told.get(peer, at) != at}
        members = {peer: self._moved.get(peer, address) for peer, address in addresses if peer != me}
        for peer, link in list(self._by_peer.items()):
            if members.get(peer) != link.address:
                del self._by_peer[peer]
        kept = {}
        for peer, address in members.items():
            is_new = peer not in self._by_peer
            link = self._by_peer.setdefault(peer, self._link_to(address))
            if is_new:
                link.forgive()  # one of us was not a member when it was tried last
            link.expected = peer
            kept[address] = link
        for address, link in list(self._links.items()):
            if address not in kept:
                link.close()
                del self._links[address]

    def flush(self) -> None:
        """Write what was collected: once per connection."""
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.dirty = False
            link.flush()

    def connected(self) -> int:
        """How many peers are reachable both ways."""
        return sum(self._connected.values())

    def waiting_bytes(self) -> int:
        """Bytes that wait to be written, over all peers and lanes."""
        return sum(link.waiting_bytes() for link in self._links.values())

    def waiting_by_lane(self) -> list[int]:
        """Bytes in each lane, over all peers."""
        return [sum(link.waiting[lane] for link in self._links.values()) for lane in (URGENT, SMALL, BULK)]

    def strangers(self) -> int:
        """Connections without an accepted hello."""
        return len(self._strangers)

    # --- what links and connections call

    def _link_to(self, address: str) -> Link:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(self, address)
        return link

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that reports its own failures."""
        task = self.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def jittered(self, seconds: float) -> float:
        """So long, give or take half."""
        return seconds * (0.5 + self._jitter.random())

    def log(self, level: str, name: str, text: str, peer: str = "") -> None:
        """A line for the operator, unless there were too many of its name just now."""
        text_or_none = self._log_limit.allowed(name, text)
        if text_or_none is not None:
            self._note(Event(name, level, text_or_none, 1, peer))

    def judge(self, hello: Hello, certificate: bytes | None, expected: PeerId | None) -> Refused | None:
        """Whether who says this hello, showing this certificate, is to be talked with."""
        if expected is not None and hello.peer != expected:
            return Refused("another peer answers at this address", False)
        if hello.peer == self.hooks.hello().peer:
            return Refused("this is a connection to myself", True, "self")
        if certificate is not None:
            from server.certificates import peer_identity

            try:
                cluster, name = peer_identity(certificate)
            except CertificateError as error:
                return Refused(str(error), True)
            if (cluster, name) != (self.options.cluster_name, hello.name):
                return Refused(f"the certificate is that of peer {name} of the cluster {cluster}", True)
        return self.hooks.on_hello(hello)

    def refusing(self, who: str, hello: Hello, refused: Refused) -> None:
        """Note that a hello is refused; the node itself tells the operator why it does so."""
        self.counters.refused += 1
        level = "warning" if not refused.code else "debug"
        self.log(level, "refused_peer", f"{who}: we refuse {hello.name or 'a peer'}: {refused.reason}")

    def stranger(self, incoming: Incoming) -> None:
        """Somebody connected; the oldest of too many strangers is let go."""
        self._strangers[incoming] = None
        if len(self._strangers) > STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            self.log("warning", "strangers", f"more than {STRANGERS_MAX} connections without a hello")
            oldest.close()

    def heard(self, incoming: Incoming, hello: Hello) -> None:
        """A stranger's hello was accepted: it is a peer, and the newest connection of its kind from there."""
        self._strangers.pop(incoming, None)
        old = self._heard.get((hello.peer, incoming.kind))
        self._heard[hello.peer, incoming.kind] = incoming
        if old is not None:
            old.close()
        link = self._by_peer.get(hello.peer)
        if link is None:
            link = self._by_peer[hello.peer] = self._link_to(hello.address)
        elif link.address != hello.address:  # the newest start is elsewhere, whatever still seems to stand
            link = self._follow(link, hello.peer, self._link_to(hello.address))
        link.alive()
        self.update(hello.peer)

    def incoming_gone(self, incoming: Incoming) -> None:
        """A connection that somebody dialled to us ended."""
        self._strangers.pop(incoming, None)
        peer = incoming.peer
        if peer is not None and self._heard.get((peer, incoming.kind)) is incoming:
            del self._heard[peer, incoming.kind]
            self.update(peer)

    def dialled(self, link: Link, hello: Hello) -> None:
        """A link's small connection is up."""
        link.peer = hello.peer
        known = self._by_peer.get(hello.peer)
        if known is None:
            self._by_peer[hello.peer] = link
        elif known is not link and not known.up():
            self._follow(known, hello.peer, link)
        self.update(hello.peer)

    def _follow(self, old: Link, peer: PeerId, link: Link) -> Link:
        """A peer is elsewhere than it was known to be: until the members are told so, it is reached there."""
        if old.expected == peer:  # else it is no member, or not known as one yet
            self._moved[peer] = link.address
            link.expected = peer
            if self._links.get(old.address) is old:
                del self._links[old.address]
            old.close()
        self._by_peer[peer] = link
        return link

    def update(self, peer: PeerId) -> None:
        """Tell the node if a peer became reachable both ways, or ceased to be."""
        link = self._by_peer.get(peer)
        up = link is not None and link.up() and link.peer == peer and (peer, SMALL_KIND) in self._heard
        if up != self._connected.get(peer, False):
            if up:
                self._connected[peer] = True
            else:
                del self._connected[peer]
            if not self.stopping:
                self.hooks.on_peer(peer, up)
