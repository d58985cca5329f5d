"""What one prepared statement costs at each station of its way: `python -m bench.stages`.

A coordinator is put into a world that takes messages and commands and does nothing with them; the store is a
real one on RocksDB. Each station is run for many statements before the next one, so its processor time can be
measured without a clock in the code: frame (bytes to request), bind (values to a request to the node), route
and replicate (replicas, stamp, mutation, message), storage (one replica), acknowledge (answers of a quorum),
reply (to bytes). What sockets, threads and waiting cost is in none of them; `python -m bench` has the whole.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

from core.commands import Read
from core.consistency import Level
from core.messages import ApplyMutation, DigestRead, Message, MutationApplied, ReadSlice, encode_message
from core.ports import Event, PeerId, Ticket
from cql_lite import wire
from cql_lite.connection import Connection, Received
from cql_lite.frames import FrameWriter
from cql_lite.session import QuickRun, Session, Statements
from cql_lite.system import Place, State
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.rocks import RocksEngine
from lsm.store import Store
from node.node import Node
from sim.cluster import SimCluster
from sim.options import Options
from sim.real import RealSoftware, node_of

COUNT: Final = 2_000
ROUNDS: Final = 5
PIPELINED: Final = 16
VALUE_BYTES: Final = 1024
SECOND_US: Final = 1_000_000
SCHEMA: Final = (
    "CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE bench.plain (k text PRIMARY KEY, v blob)",
    "INSERT INTO bench.plain (k, v) VALUES ('first', 0x00)",  # the clock's ceiling is raised
)
INSERT: Final = "INSERT INTO bench.plain (k, v) VALUES (?, ?)"
SELECT: Final = "SELECT v FROM bench.plain WHERE k = ?"


class Taker:
    """A world that keeps what it is given, instead of the node's own."""

    def __init__(self, world: Any) -> None:
        self.wall_us = world.wall_us
        self.monotonic_us = world.monotonic_us
        self.sent: list[tuple[PeerId, Message]] = []
        self.submitted: list[tuple[Ticket, Any]] = []
        self.replies: list[tuple[int, Any]] = []
        self._timers = 0

    def send(self, peer: PeerId, message: Message, _lane: int) -> bool:
        """Keep it; encoding is done once per message, as in the transport."""
        if not self.sent or self.sent[-1][1] is not message:
            encode_message(message)
        self.sent.append((peer, message))
        return True

    def submit(self, ticket: Ticket, command: Any) -> None:
        """Keep it."""
        self.submitted.append((ticket, command))

    def reply(self, request_id: int, answer: Any, _last: bool) -> None:
        """Keep it."""
        self.replies.append((request_id, answer))

    def set_timer(self, _delay_us: int, _timer: Any) -> int:
        """Nothing fires."""
        self._timers += 1
        return self._timers

    def cancel_timer(self, timer_id: int) -> None:
        """Nothing fires."""

    def below(self, n: int) -> int:
        """The same every time."""
        return n - 1

    def note(self, event: Event) -> None:
        """Nobody reads it."""


class _Peer:
    """What a session needs of the peer it is on."""

    operation_ids_us = 0

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def state(self) -> State:
        """The metadata state."""
        return self._node.metadata.state

    @property
    def place(self) -> Place:
        """Where the peer is."""
        identity = self._node.inside.identity
        return Place(identity.peer, 9042, 7000, identity.start)

    def now_us(self) -> int:
        """The wall clock."""
        return time.time_ns() // 1000

    def token_bytes(self, n: int) -> bytes:
        """n random bytes."""
        return os.urandom(n)


def _cluster() -> SimCluster:
    """Three simulated peers that know the table."""
    cluster = SimCluster(Options(seed=1, peers=3, voters=3), RealSoftware())
    cluster.start_all()
    assert cluster.run_until(lambda: all(node_of(cluster, i).ready()[0] for i in range(3)), 30 * SECOND_US)
    session = Session(Statements(_Peer(node_of(cluster, 0))))
    for text in SCHEMA:
        _execute(cluster, session, text)
    return cluster


def _execute(cluster: SimCluster, session: Session, text: str) -> None:
    asking = session.answer(wire.Query(text, wire.Parameters(Level.QUORUM)))
    (request,) = next(asking)
    answers: list[Any] = []
    cluster.request(0, request, 10 * SECOND_US, lambda reply: answers.append(reply.answer))
    assert cluster.run_until(lambda: bool(answers), 30 * SECOND_US), "it is answered"
    if text.startswith("CREATE"):
        cluster.run_for(5 * SECOND_US)
    asking.close()


class _Stages:
    """The stations of one kind of statement, each timed over a round of statements."""

    def __init__(self, node: Node, executor: Executor, text: str) -> None:
        self.node = node
        self.executor = executor
        self.session = Session(Statements(_Peer(node)))
        prepared = _finished(self.session.answer(wire.Prepare(text)))
        assert isinstance(prepared, wire.Prepared)
        self._prepared = prepared
        self._connection = Connection()
        self._writer = FrameWriter(responses=False)
        body = wire.encode_request(wire.Startup({"CQL_VERSION": "3.0.0"}), 5)
        self._connection.receive(self._writer.send(5, 0, 0, wire.Startup.opcode, body=body))
        self._connection.data_to_send()
        self._writer.begin_segments(compressed=False)
        self.taken: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work of a round and note what one statement took."""
        began = time.thread_time_ns()
        result = work()
        self.taken.setdefault(name, []).append((time.thread_time_ns() - began) / 1000 / COUNT)
        return result

    def round(self, values: Sequence[tuple[bytes, ...]]) -> None:
        """All stations for these values."""
        world = Taker(self.node.inside.world)
        before, self.node.inside.world = self.node.inside.world, world  # type: ignore[assignment]
        execute = wire.Execute.opcode
        frames = []
        for first in range(0, len(values), PIPELINED):
            bodies = [
                wire.encode_request(
                    wire.Execute(
                        self._prepared.id, wire.Parameters(Level.QUORUM, one), self._prepared.result.id
                    ),
                    5,
                )
                for one in values[first : first + PIPELINED]
            ]
            envelopes = [
                self._writer.envelope(5, 0, first + n, execute, body=body) for n, body in enumerate(bodies)
            ]
            frames.append(self._writer.wrap(envelopes))
        received = self.time(
            "frame", lambda: [one for data in frames for one in self._connection.receive(data)]
        )
        asking = self.time("bind", lambda: [self._quick(one) for one in received])
        asked = [one.asked for one in asking]
        deadline_us = world.monotonic_us() + 10 * SECOND_US
        on_request = self.node.on_request
        self.time(
            "route and replicate",
            lambda: [on_request(n, request, deadline_us) for n, request in enumerate(asked)],
        )
        outcomes = self.time("storage, at one replica", lambda: self._store(world.submitted))
        self._answer(world, outcomes)
        self._reply(received, asking, dict(world.replies))
        self.node.inside.world = before

    def _quick(self, received: Received) -> QuickRun:
        assert isinstance(received.request, wire.Execute)
        run = self.session.quick(received.request)
        assert run is not None, "a statement that has a quick way"
        return run

    def _store(self, submitted: Sequence[tuple[Ticket, Any]]) -> list[tuple[Ticket, Any]]:
        for at, (ticket, command) in enumerate(submitted):
            self.executor.submit(ticket, command)
            if at % PIPELINED == PIPELINED - 1:
                self.executor.run()
        self.executor.run()
        for fetch in self.executor.take_fetches():
            self.executor.end_fetch(fetch)
        self.executor.run()
        token = self.executor.begin_sync()
        if token is not None:
            self.executor.end_sync(token)
        return self.executor.take_released()

    def _answer(self, world: Taker, outcomes: Sequence[tuple[Ticket, Any]]) -> None:
        """The replicas say what ours says; two of three are a quorum."""
        answers: list[tuple[PeerId, Message]] = []
        for peer, message in world.sent:
            if isinstance(message, ApplyMutation):
                answers.append((peer, MutationApplied(message.op, None)))
            elif isinstance(message, ReadSlice):
                command = Read(message.slice, digest=True)
                digest: Any = self.executor.store.execute(command)
                answers.append((peer, DigestRead(message.op, digest.digest)))
        on_message, on_stored = self.node.on_message, self.node.on_stored

        def work() -> None:
            for ticket, outcome in outcomes:
                on_stored(ticket, outcome)
            for peer, message in answers:
                on_message(peer, message)

        self.time("acknowledge", work)

    def _reply(
        self,
        received: Sequence[Received],
        asking: Sequence[QuickRun],
        answers: dict[int, Any],
    ) -> None:
        def work() -> None:
            for number, (one, running) in enumerate(zip(received, asking, strict=True)):
                response = running.response(answers[number])
                assert not isinstance(response, wire.Error), response
                self._connection.respond(one.stream, response)
                if number % PIPELINED == PIPELINED - 1:
                    self._connection.data_to_send()
            self._connection.data_to_send()

        self.time("reply", work)


def _finished(running: Generator[Any, Any, wire.Response]) -> wire.Response:
    try:
        next(running)
    except StopIteration as stop:
        response: wire.Response = stop.value
        assert not isinstance(response, wire.Error), response
        return response
    raise AssertionError("it asks for something")


def run() -> dict[str, dict[str, float]]:
    """Microseconds by statement and station, the median of the rounds; `storage` is of each replica."""
    cluster = _cluster()
    node = node_of(cluster, 0)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="sullae-bench-") as folder:
        engine = RocksEngine.open(Path(folder), lambda: time.monotonic_ns() // 1000)
        executor = Executor(Store(engine, node.metadata.state.tables.get), Commit())
        value = os.urandom(VALUE_BYTES)
        for name, text in (("INSERT", INSERT), ("SELECT", SELECT)):
            stages = _Stages(node, executor, text)
            for number in range(ROUNDS):
                keys = (b"key-%d-%06d" % (number, n) for n in range(COUNT))
                stages.round([(key, value) if text is INSERT else (key,) for key in keys])
            found[name] = {stage: round(statistics.median(us), 1) for stage, us in stages.taken.items()}
        engine.close()
    return found


def main() -> None:
    """Print a table."""
    found = run()
    print("microseconds of processor time for one prepared statement, 1 KiB, level QUORUM")
    print(f"{'':<26}{'INSERT':>9}{'SELECT':>9}")
    for stage in found["INSERT"]:
        print(f"{stage:<26}{found['INSERT'][stage]:>9.1f}{found['SELECT'].get(stage, 0):>9.1f}")


if __name__ == "__main__":
    main()
