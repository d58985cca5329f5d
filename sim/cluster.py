"""A whole cluster in one process of ours: machines, network, clients, and the faults that can befall them.

    cluster = SimCluster(Options.draw(7), software)
    cluster.start_all()
    cluster.request(0, request, timeout_us=2_000_000, callback=print)
    cluster.run_for(10 * SECOND)

`software` says what runs on the machines: the real node (sim/software.py) or a toy. Every decision about
*when* things go wrong belongs to the caller; here is only how. A client is a computer of its own: what it
says to a peer and what it hears takes a hop each, which may be lost (then it times out and does not know),
and it learns at once if there is nobody to talk to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

import msgspec

from core.commands import Outcome
from core.errors import StoreError
from core.messages import Message
from core.ports import Event, InitialPeer, PeerId, Ticket
from core.requests import (
    Answer,
    BatchRequest,
    ConditionalRequest,
    CounterRequest,
    ReadRequest,
    Request,
    ScanRequest,
    WriteRequest,
)
from core.streaming import ChangesRequest
from sim.clock import WallClock
from sim.disk import SimDisk
from sim.machine import Machine
from sim.network import Link, Network
from sim.options import Options
from sim.scheduler import Scheduler
from sim.software import Software
from sim.trace import ANSWER, OUTCOME, Trace
from sim.world import SimNode, SimWorld

CLIENT_HOP_US = 200
MEND_US = 300_000
"""How long it takes to copy what can be read of a damaged store."""
STREAM_US = 24 * 3600 * 1_000_000
"""How long a client would listen to a stream that says nothing."""


class Reply(NamedTuple):
    """What a client knows at the end: `answers`; or nobody was there (`refused`); or nothing (`unknown`)."""

    answers: tuple[Answer, ...]
    refused: bool
    unknown: bool

    @property
    def answer(self) -> Answer | None:
        """The last part."""
        return self.answers[-1] if self.answers else None


REFUSED = Reply((), True, False)
UNKNOWN = Reply((), False, True)
Callback = Callable[[Reply], None]


class _Call:
    __slots__ = ("answers", "callback", "on_part", "request", "request_id", "world")

    def __init__(self, request_id: int, request: Request, callback: Callback) -> None:
        self.request_id = request_id
        self.request = request
        self.callback = callback
        self.answers: list[Answer] = []
        self.world: SimWorld | None = None
        self.on_part: Callable[[Answer], None] | None = None


class SimCluster:
    """Machines, their processes, and everything between them."""

    def __init__(self, options: Options, software: Software, trace: bool = False) -> None:
        """Nothing runs yet."""
        self.options = options
        self.scheduler = Scheduler()
        self.trace = Trace() if trace else None
        self.events: dict[str, float] = {}
        self.log: list[tuple[int, str, Event]] = []
        self.on_note: Callable[[SimWorld, Event], None] | None = None
        self.on_start: Callable[[SimWorld], None] | None = None
        self.deaths: list[tuple[int, int, str]] = []
        self._software = software
        self._faults = Random(f"{options.seed}:faults")
        self._clients = Random(f"{options.seed}:clients")
        self._calls: dict[int, _Call] = {}
        self._next_call = 0
        self.initial = _initial_peers(options)
        clocks = Random(f"{options.seed}:clocks")
        self.machines = [
            Machine(index, place, _clock(self.scheduler, options, clocks), options.seed)
            for index, place in enumerate(self.initial)
        ]
        self._by_address = {machine.place.address: machine for machine in self.machines}
        self.network = Network(
            self.scheduler, options.network, options.seed, self._running_at, self._process_of
        )
        if self.trace is not None:
            self.network.watch = self._delivered

    # --- time

    @property
    def now_us(self) -> int:
        """Virtual time."""
        return self.scheduler.now_us

    def run_for(self, duration_us: int) -> None:
        """Let things happen for so long."""
        self.scheduler.run(self.scheduler.now_us + duration_us)

    def run_until(self, predicate: Callable[[], bool], timeout_us: int) -> bool:
        """Let things happen until `predicate` holds; False if it does not in time."""
        return self.scheduler.run_until(predicate, timeout_us)

    def add_machine(self) -> int:
        """One machine more, with an empty directory; its process knows the peers that founded the cluster."""
        index = len(self.machines)
        place = _place(self.options, index, voter=False)
        clocks = Random(f"{self.options.seed}:clocks:{index}")
        self.machines.append(
            Machine(index, place, _clock(self.scheduler, self.options, clocks), self.options.seed)
        )
        self._by_address[place.address] = self.machines[index]
        return index

    def rename(self, index: int) -> None:
        """A machine that does not run gets another name and address."""
        machine = self.machines[index]
        assert machine.process is None
        del self._by_address[machine.place.address]
        name, (host, _, port) = machine.place.name, machine.place.address.rpartition(":")
        first, _, rest = host.partition(".")
        address = f"{int(first) + 1}.{rest}:{port}"
        machine.place = msgspec.structs.replace(machine.place, name=f"{name}x", address=address)
        self._by_address[address] = machine

    # --- processes

    def start_all(self) -> None:
        """Start every machine that does not run."""
        for machine in self.machines:
            self.start(machine.index)

    def start(self, index: int) -> bool:
        """Start a process; False if one runs, or if its store cannot be opened (then it ends at once)."""
        machine = self.machines[index]
        if machine.process is not None:
            return False
        options = self.options
        identity = machine.next_identity()
        world = SimWorld(self, machine, identity, options.seed)
        machine.settle()
        try:
            world.node, executor = self._software.launch(world, identity, self.initial, options.settings)
        except StoreError as error:
            self.deaths.append((self.now_us, index, f"{type(error).__name__}: {error}"))
            return False
        world.disk = SimDisk(world, self.scheduler, executor, options.disk, options.seed)
        machine.process = world
        if self.on_start is not None:
            self.on_start(world)
        world.node.on_start()
        return True

    def node(self, index: int) -> SimNode:
        """The node on a machine, which must run."""
        process = self.machines[index].process
        assert process is not None, f"machine {index} does not run"
        return process.node

    def running(self) -> list[int]:
        """The machines with a process that is not paused."""
        return [m.index for m in self.machines if m.process is not None and m.process.running]

    def kill(self, index: int) -> None:
        """kill -9: what was written stays, what was not answered is unknown, connections are reset."""
        self._end(index, lambda link: link.latency_us)

    def power_cut(self, indexes: Iterable[int]) -> None:
        """Cut the power of machines: unsynced batches are lost after a random prefix; nobody is told."""
        for index in indexes:
            self._end(index, lambda _: self._faults.randrange(self.options.network.break_us))
            engine = self.machines[index].engine
            engine.crash(keep=self._faults.randint(0, engine.unsynced()))

    def stop(self, index: int) -> None:
        """SIGTERM: the node is told, then it is gone."""
        process = self.machines[index].process
        if process is not None and process.running:
            process.node.on_stop()
        self.kill(index)

    def pause(self, index: int) -> None:
        """SIGSTOP."""
        process = self.machines[index].process
        if process is not None:
            process.pause()

    def resume(self, index: int) -> None:
        """SIGCONT."""
        process = self.machines[index].process
        if process is not None:
            process.resume()

    def wipe(self, index: int) -> None:
        """Kill the process and empty its directory."""
        self.kill(index)
        self.machines[index].wipe()

    def _end(self, index: int, told_after: Callable[[Link], int]) -> None:
        process = self.machines[index].process
        if process is None:
            return
        self.machines[index].process = None
        process.end(told_after)
        for call in [call for call in self._calls.values() if call.world is process]:
            self.scheduler.after(CLIENT_HOP_US, self._finish, call.request_id, UNKNOWN)

    def failed(self, world: SimWorld) -> None:
        """A sync failed: the process ends. One that met damage opens its store again, which mends it."""
        is_damaged = world.machine.damage_met
        fault = "CorruptionError" if is_damaged else "DurabilityError"
        self.deaths.append((self.now_us, world.index, fault))
        self.kill(world.index)
        if is_damaged:
            self.scheduler.after(MEND_US, self.start, world.index)

    # --- cuts

    def cut(self, one: Iterable[int], other: Iterable[int], one_way: bool = False) -> None:
        """Cut two groups of machines from each other; with `one_way` only what the first says is lost."""
        left, right = list(one), list(other)
        pairs = [(a, b) for a in left for b in right if a != b]
        if not one_way:
            pairs += [(b, a) for a, b in pairs]
        self.network.block(pairs)

    def isolate(self, index: int) -> None:
        """Cut one machine off."""
        self.cut([index], [m.index for m in self.machines if m.index != index])

    def heal(self) -> None:
        """End all cuts, slow links and losses that a nemesis made (options' own loss stays)."""
        self.network.unblock_all()
        self.network.as_ever()
        for machine in self.machines:
            self.network.slow(machine.index, 1)
            machine.slow_disk = 1
            machine.slow_sync_us = 0
            machine.engine.disk_full = False
            machine.engine.sync_fails = False

    # --- clients

    def request(self, index: int, request: Request, timeout_us: int, callback: Callback) -> int:
        """Ask a peer as a client; `callback` is called once, at the latest after `timeout_us`."""
        self._next_call = request_id = self._next_call + 1
        self._calls[request_id] = _Call(request_id, request, callback)
        self.scheduler.after(timeout_us, self._give_up, request_id)
        if not self._lost():
            self.scheduler.after(CLIENT_HOP_US, self._ask, index, request_id, self.now_us + timeout_us)
        return request_id

    def stream(
        self, index: int, request: Request, on_part: Callable[[Answer], None], callback: Callback
    ) -> int:
        """Ask for an answer that does not end by itself: parts are given to `on_part` as they come, and are
        not kept. `callback` is called at its end, but not after `leave`.
        """
        request_id = self.request(index, request, STREAM_US, callback)
        self._calls[request_id].on_part = on_part
        return request_id

    def leave(self, request_id: int) -> None:
        """The client goes away."""
        call = self._calls.pop(request_id, None)
        if call is not None and call.world is not None and call.world.running:
            self.scheduler.after(CLIENT_HOP_US, self._left, call.world, request_id)

    def _left(self, world: SimWorld, request_id: int) -> None:
        if world.running:
            world.node.on_cancel(request_id)

    def _lost(self) -> bool:
        return self.options.request_loss > 0 and self._clients.random() < self.options.request_loss

    def _ask(self, index: int, request_id: int, deadline_us: int) -> None:
        call = self._calls.get(request_id)
        if call is None:
            return
        gone = index >= len(self.machines)  # a machine that was taken away while a client still spoke of it
        process = None if gone else self.machines[index].process
        if process is None:
            self._finish(request_id, REFUSED)
            return
        call.world = process
        self._hand_over(process, call, deadline_us)

    def _until_us(self, call: _Call) -> int:
        """How long a door waits for replicas whose client does not say; absolute."""
        settings = self.options.settings
        if isinstance(call.request, ReadRequest):
            return self.now_us + settings.read_timeout_us
        if isinstance(call.request, WriteRequest | BatchRequest | CounterRequest | ConditionalRequest):
            return self.now_us + settings.write_timeout_us
        return self.now_us + STREAM_US

    def _hand_over(self, process: SimWorld, call: _Call, deadline_us: int) -> None:
        if process.held(self._hand_over, process, call, deadline_us):
            return
        until_us = min(deadline_us, self._until_us(call))
        process.node.on_request(call.request_id, call.request, until_us)
        if isinstance(call.request, ScanRequest | ChangesRequest):
            process.node.on_want(call.request_id, 1)

    def answered(self, world: SimWorld, request_id: int, answer: Answer, last: bool) -> None:
        """A node answers: the client hears it a hop later, or never."""
        if self.trace is not None:
            self.trace.value(ANSWER, self.now_us, world.index, request_id, answer)
        if not (last and self._lost()):  # parts of a stream share one connection: it is lost once or not
            self.scheduler.after(CLIENT_HOP_US, self._heard, request_id, answer, last)

    def _heard(self, request_id: int, answer: Answer, last: bool) -> None:
        call = self._calls.get(request_id)
        if call is None:
            return
        if call.on_part is None or last:
            call.answers.append(answer)
        else:
            call.on_part(answer)
        if last:
            self._finish(request_id, Reply(tuple(call.answers), False, False))
        elif call.world is not None and call.world.running:
            call.world.node.on_want(request_id, 1)

    def _give_up(self, request_id: int) -> None:
        call = self._calls.get(request_id)
        if call is not None:
            self._finish(request_id, UNKNOWN)
            if call.world is not None and call.world.running:
                call.world.node.on_cancel(request_id)

    def _finish(self, request_id: int, reply: Reply) -> None:
        call = self._calls.pop(request_id, None)
        if call is not None:
            call.callback(reply)

    # --- what is watched

    def _delivered(self, world: SimWorld, source: PeerId, message: Message) -> None:
        assert self.trace is not None
        self.trace.message(self.now_us, world.index, source, message)

    def stored(self, world: SimWorld, ticket: Ticket, outcome: Outcome) -> None:
        """An outcome reaches a node."""
        if self.trace is not None:
            self.trace.value(OUTCOME, self.now_us, world.index, ticket, outcome)

    def noted(self, world: SimWorld, event: Event) -> None:
        """Metrics are added up over all peers; log lines are kept."""
        if event.level == "count":
            before = 0 if event.name.endswith("_now") else self.events.get(event.name, 0)
            self.events[event.name] = before + event.amount
        else:
            self.log.append((self.now_us, world.identity.name, event))
        if self.on_note is not None:
            self.on_note(world, event)

    def _process_of(self, index: int) -> SimWorld | None:
        return self.machines[index].process

    def _running_at(self, address: str) -> SimWorld | None:
        machine = self._by_address.get(address)
        return machine.process if machine is not None else None


def _initial_peers(options: Options) -> tuple[InitialPeer, ...]:
    return tuple(_place(options, index, index < options.voters) for index in range(options.peers))


def _place(options: Options, index: int, voter: bool) -> InitialPeer:
    return InitialPeer(
        name=f"n{index + 1}",
        address=f"10.0.{index // 250}.{index % 250 + 1}:7000",
        datacentre=f"dc{index % options.datacentres + 1}",
        rack=f"r{index // options.datacentres % (options.racks or max(options.peers, index + 1)) + 1}",
        voter=voter,
    )


def _clock(scheduler: Scheduler, options: Options, draw: Random) -> WallClock:
    skew_us, drift_ppm = options.clock.skew_us, options.clock.drift_ppm
    return WallClock(scheduler, draw.randint(-skew_us, skew_us), draw.randint(-drift_ppm, drift_ppm))
