"""A toy to simulate: a quorum register on every peer, so that the simulator is tested without the real node.

Write: stamp (counter from the wall clock), send to all, acknowledge at a majority of durable copies. Read:
ask all, answer the newest of a majority after writing it back. The register is one system record.
"""

from __future__ import annotations

from typing import Any

import msgspec

from core.commands import Command, Done, Outcome, Records, Slice, SystemScan, SystemWrite
from core.consistency import Level
from core.messages import (
    ApplyMutation,
    DigestRead,
    Hello,
    Message,
    MutationApplied,
    Ping,
    PingAck,
    ReadSlice,
    Refused,
)
from core.ports import SMALL, Event, Identity, InitialPeer, PeerId, Ticket, Timer, World
from core.requests import AdminRequest, Request, Timeout, Told
from core.settings import Settings
from lsm.commit import Commit, Unsynced
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Plan
from sim.software import Launched
from sim.world import SimWorld

KEY = b"toy"
SLICE = Slice(0, b"", b"", b"", True, 1, 1)


class ToyLog:
    """The log of a store that logs nothing."""

    end = durable = 0


class ToyStore:
    """Executes the two commands of the toy, as lsm.Store does for its executor."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.unsynced = Unsynced()
        self.damaged: dict[str, str] = {}
        self.log = ToyLog()

    def plan(self, command: Command) -> Plan:
        return Plan(command, None, ())

    def next_sweep(self) -> None:
        return None

    def run(self, plan: Plan) -> tuple[Outcome, int]:
        command = plan.command
        if isinstance(command, SystemWrite):
            (key, new), *_ = command.puts
            old = self.engine.get(key)
            if old is None or (new is not None and new > old):
                self.engine.write(command.puts)
            return Done(), self.engine.written()
        assert isinstance(command, SystemScan)
        value = self.engine.get(KEY)
        return Records(((KEY, value or b""),), False), self.engine.written()


class ToyNode:
    def __init__(self, world: World, identity: Identity, initial: tuple[InitialPeer, ...]) -> None:
        self.world, self.identity, self.initial = world, identity, initial
        self.connected: dict[PeerId, bool] = {}
        self.ops: dict[int, list[bytes]] = {}
        self.requests: dict[int, tuple[int, str]] = {}
        self.sequence = identity.start << 32
        self.acks: list[PeerId] = []
        self.refused: list[str] = []
        self.majority = len(initial) // 2 + 1

    # transport

    def hello(self) -> Hello:
        who = self.identity
        place = (who.name, who.address, who.datacentre, who.rack)
        return Hello(1, 1, "toy", b"", who.peer, who.start, *place, 0)

    def on_hello(self, hello: Hello) -> Refused | None:
        return Refused("odd one out", True) if hello.name == "outcast" else None

    def on_refused(self, peer_name_or_address: str, refused: Refused) -> None:
        self.refused.append(refused.reason)

    # NodePort

    def on_start(self) -> None:
        self.on_timer(("dial",))

    def on_stop(self) -> None:
        pass

    def on_timer(self, timer: Timer) -> None:
        if timer[0] == "dial":
            for peer in self.initial:
                if peer.address != self.identity.address:
                    self.world.dial(peer.address)
            self.world.set_timer(1_000_000, ("dial",))

    def on_peer(self, peer: PeerId, connected: bool) -> None:
        self.connected[peer] = connected
        self.world.note(Event("peer_up" if connected else "peer_down"))

    def everybody(self, message: Message) -> None:
        for peer, up in self.connected.items():
            if up:
                self.world.send(peer, message, SMALL)
        self.on_message(self.identity.peer, message)

    def answer(self, peer: PeerId, message: Message) -> None:
        if peer == self.identity.peer:
            self.on_message(peer, message)
        else:
            self.world.send(peer, message, SMALL)

    def on_message(self, peer: PeerId, message: Message) -> None:
        match message:
            case Ping(sequence):
                self.answer(peer, PingAck(sequence, 0, ()))
            case PingAck():
                self.acks.append(peer)
            case ApplyMutation(op, _, _, value):
                self.world.submit(("wrote", peer, op), SystemWrite(((KEY, value),)))
            case ReadSlice(op):
                self.world.submit(("read", peer, op), SystemScan(KEY, b"", 1, 1))
            case MutationApplied(op, _):
                self.collected(op, b"")
            case DigestRead(op, digest):
                self.collected(op, digest)

    def collected(self, op: int, value: bytes) -> None:
        answers = self.ops.get(op)
        if answers is None:
            return
        answers.append(value)
        if len(answers) < self.majority:
            return
        del self.ops[op]
        request_id, verb = self.requests.pop(op)
        if verb == "read":
            self.begin(request_id, f"back:{max(answers)[8:].decode()}", max(answers))
        else:
            self.world.reply(request_id, Told({"value": verb.partition(":")[2]}), True)

    def begin(self, request_id: int, verb: str, value: bytes | None = None) -> None:
        self.sequence += 1
        self.ops[self.sequence] = []
        self.requests[self.sequence] = (request_id, verb)
        if value is None:
            self.everybody(ReadSlice(self.sequence, 0, SLICE, True))
        else:
            self.everybody(ApplyMutation(self.sequence, 0, 0, value))

    def on_done(self, ticket: Ticket, result: Any) -> None:
        raise AssertionError("it has no jobs")

    def on_stored(self, ticket: Ticket, outcome: Outcome) -> None:
        kind, peer, op = ticket
        if kind == "wrote":
            self.answer(peer, MutationApplied(op, None))
        else:
            assert isinstance(outcome, Records)
            self.answer(peer, DigestRead(op, outcome.records[0][1]))

    def on_request(self, request_id: int, request: Request, deadline_us: int) -> None:
        assert isinstance(request, AdminRequest)
        if request.verb == "write":
            value = request.arguments["value"]
            stamp = self.world.wall_us().to_bytes(8, "big")
            self.begin(request_id, f"write:{value}", stamp + value.encode())
        elif request.verb == "read":
            self.begin(request_id, "read")
        else:
            self.world.reply(request_id, Timeout(0, 1, Level.ONE, False), True)

    def on_want(self, request_id: int, parts: int) -> None:
        pass

    def on_cancel(self, request_id: int) -> None:
        pass


class ToySoftware:
    def launch(
        self, world: SimWorld, identity: Identity, initial: tuple[InitialPeer, ...], settings: Settings
    ) -> Launched:
        executor = Executor(ToyStore(world.machine.engine), Commit())  # type: ignore[arg-type]
        return Launched(ToyNode(world, identity, initial), executor)


def write(value: str) -> AdminRequest:
    return AdminRequest("write", {"value": value})


READ = AdminRequest("read", {})


def value_of(answer: object) -> str:
    assert isinstance(answer, Told), answer
    return str(msgspec.to_builtins(answer)["body"]["value"])
