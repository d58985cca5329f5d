"""Sessions: reads see one's own writes and never go back, at any level, through any peer, under any faults.

A session does one thing at a time, each through another peer and at a level drawn at random, ONE among them.
It remembers the greatest version that it wrote or saw of each key, and no later read of its own may show an
older one. Some create buckets, too, and use them through the next peer at once: there they must be.

Only what is acknowledged counts; sessions owe each other nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.cell import NO_VERSION, Version
from core.consistency import Level
from core.requests import ReadRequest, Request, WriteRequest
from core.session import Token
from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.door import CONTENT_TYPE, End, Then
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.session import SECOND, Session
from kv import buckets, operations
from kv.buckets import Bucket, BucketSpec
from sim.real import node_of

SESSIONS = 16
BUCKETS_MAX = 8
REACH_US = 2 * SECOND
GIVE_UP_US = 10 * SECOND
"""A peer that dies while a request waits for its epoch tells nobody."""
LEVELS = (Level.ONE, Level.ONE, Level.TWO, Level.QUORUM, Level.LOCAL_ONE, Level.LOCAL_QUORUM)


@dataclass(eq=False)
class Client:
    """One session."""

    token: Token = field(default_factory=Token)
    floors: dict[tuple[str, str], Version] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    busy: bool = False


class SessionWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("write", "read", "create", "read_new")

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._next = 0
        self._made = 0
        self._final_left = 0

    def setup(self, session: Session) -> bool:
        """One bucket that all share."""
        self.session = session
        self._factor = (
            None if session.cluster.options.replication == 3 else session.cluster.options.replication
        )
        bucket = session.make_bucket(BucketSpec("sessions", self._factor))
        self._peers = len(session.cluster.machines)
        running = session.cluster.running()
        self._token = Token(max(node_of(session.cluster, peer).metadata.state.epoch for peer in running))
        self._clients = [Client(self._token) for _ in range(SESSIONS)]
        return bucket is not None

    def step(self) -> None:
        """Something by a session that waits for nothing."""
        draw = self.session.random.randrange
        first = draw(SESSIONS)
        dice, key = draw(40), f"k{draw(self.session.cluster.options.keys)}"
        client = next((each for each in self._clients[first:] + self._clients[:first] if not each.busy), None)
        if client is None:
            return
        if self._made == 0 or (dice == 0 and self._made < BUCKETS_MAX):
            self._create(client)
        elif dice < 4 and client.made:
            self._read(client, "read_new", (client.made[-1], key))
        elif dice < 20:
            self._write(client, "write", ("sessions", key))
        else:
            self._read(client, "read", ("sessions", key))

    def probe(self, peer: int) -> None:
        """A write and a read of a key of its own."""
        self._write(Client(self._token), "probe_write", ("sessions", f"p{peer}"), peer)
        self._read(Client(self._token), "probe_read", ("sessions", f"p{peer}"), peer)

    # --- operations

    def _create(self, client: Client) -> None:
        self._made += 1
        name = f"made{self._made}"
        operation = self._begin(client, "create", name)

        def made(end: End) -> None:
            if end.status == OK:
                client.made.append(name)
            self._end(client, operation, end)

        self._make(client, operation, made)

    def _write(self, client: Client, kind: str, place: tuple[str, str], peer: int = -1) -> None:
        self._next += 1
        level = LEVELS[self.session.random.randrange(len(LEVELS))]
        operation = self._begin(client, kind, place, peer)

        def written(end: End) -> None:
            if end.status == OK:
                client.floors[place] = max(client.floors.get(place, NO_VERSION), end.result)
            self._end(client, operation, end)

        self._put(client, operation, level, written)

    def _read(
        self, client: Client, kind: str, place: tuple[str, str], peer: int = -1, again: bool = False
    ) -> None:
        level = LEVELS[self.session.random.randrange(len(LEVELS))]
        operation = self._begin(client, kind, place, peer)

        def read(end: End) -> None:
            if end.status == OK:
                self._judge(client, operation, end.result)
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, client, kind, place, peer, True)
            self._end(client, operation, end)

        self._get(client, operation, level, read)

    def _judge(self, client: Client, operation: Operation, version: Version) -> None:
        """The version that a read shows is no older than what the session knows."""
        place = operation.key
        floor = client.floors.get(place, NO_VERSION)
        if version < floor:
            self._problems.append(Problem("back", f"{operation!r} shows {version}, after {floor}"))
        client.floors[place] = max(floor, version)

    # --- how peers are asked; the key of an operation is a bucket, or a bucket and a key

    def _make(self, client: Client, operation: Operation, then: Then) -> None:
        """Create the bucket that is the operation's key."""

        def made(end: End) -> None:
            if end.status == OK:
                client.token = client.token.seen(end.result.epoch)
            then(end)

        spec = BucketSpec(operation.key, self._factor)
        if operation.peer in self.session.cluster.running():
            self.session.door.create_bucket(operation.peer, spec, made)
        else:
            made(End(FAIL, None, "refused"))

    def _put(self, client: Client, operation: Operation, level: Level, then: Then) -> None:
        """Write a value that is used once; ok brings its version."""
        value = b"%d" % self._next

        def request(bucket: Bucket) -> Request:
            made = operations.put(bucket, operation.key[1], value, CONTENT_TYPE, level)
            assert isinstance(made, WriteRequest), made
            return made

        self._ask(client, operation, request, then)

    def _get(self, client: Client, operation: Operation, level: Level, then: Then) -> None:
        """Read; ok brings the version of what is there."""
        asked: list[Bucket] = []

        def request(bucket: Bucket) -> Request:
            asked.append(bucket)
            made = operations.get(bucket, operation.key[1], level)
            assert isinstance(made, ReadRequest), made
            return made

        def read(end: End) -> None:
            if end.status == OK:
                value = operations.value_of(asked[0], end.result[-1])
                end = end._replace(result=NO_VERSION if value is None else value.version)
            then(end)

        self._ask(client, operation, request, read)

    def _ask(
        self, client: Client, operation: Operation, make: Callable[[Bucket], Request], then: Then
    ) -> None:
        """As a door does: wait for the session's epoch, then ask at the session's level."""
        cluster, peer = self.session.cluster, operation.peer
        if peer not in cluster.running():
            then(End(FAIL, None, "refused"))
            return
        node, ended = node_of(cluster, peer), [False]

        def end(result: End) -> None:
            if not ended[0]:
                ended[0] = True
                client.token = client.token.seen(node.metadata.state.epoch)
                then(result)

        def reached(is_there: bool) -> None:
            if ended[0]:
                return
            if not is_there:
                end(End(FAIL, None, "the session's epoch is not there"))
                return
            bucket = buckets.find(node.metadata.state, operation.key[0])
            if bucket is None:
                self._problems.append(Problem("unseen_schema", f"{operation!r}: no such bucket there"))
                end(End(FAIL, None, "no such bucket"))
                return
            request, client.token = node.sessions.prepared(make(bucket), client.token)
            self.session.door.ask(peer, request, end)

        cluster.scheduler.after(GIVE_UP_US, end, End(INFO, None, "no answer"))
        node.sessions.reach(client.token.epoch, node.inside.world.monotonic_us() + REACH_US, reached)

    def _begin(self, client: Client, kind: str, key: Any, peer: int = -1) -> Operation:
        client.busy = True
        return self.session.begin(kind, key, None, peer)

    def _end(self, client: Client, operation: Operation, end: End) -> None:
        client.busy = False
        self.session.end(operation, end)

    # --- the end

    def final(self) -> None:
        """What each session knows, through every peer."""
        for client in self._clients:
            for place in [*client.floors, *((name, "k0") for name in client.made)]:
                for peer in range(self._peers):
                    self._final_left += 1
                    reader = Client(client.token, client.floors)
                    kind = "read" if place[0] == "sessions" else "read_new"
                    self._read(reader, kind, place, peer, again=True)

    def finished(self) -> bool:
        """All final reads are there."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """What reads showed."""
        return self._problems[:PROBLEMS_MAX]
