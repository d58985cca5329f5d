"""A cluster of real processes under the names of sim/cluster.py, so that workloads and faults work on both.

Time is real: `run_for` lets the event loop run, `scheduler.after` is a timer of it. A fault acts on
processes by signals, on the network through Lines (network.py), on disks and clocks through the machine
(machine.py). What a place does not permit is left out and said (`cannot`), never pretended.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from jepsen_like.real.janitor import Janitor
from jepsen_like.real.machine import Place, RealMachine, compiled_shim
from jepsen_like.real.network import Fabric, Lines, Loopback, Namespaces
from sim.options import Options

LOOK_S = 0.4
"""How often every peer is asked whether it is ready."""
POLL_S = 0.01
LOOPBACK = "127.0.8"
PORTS_FROM, PORTS_TO = 20_000, 32_000
START_AGAIN_US = 100_000


class RealScheduler:
    """Timers of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._began = time.monotonic()

    @property
    def now_us(self) -> int:
        """Since the beginning."""
        return int((time.monotonic() - self._began) * 1e6)

    def after(self, delay_us: int, call: Callable[..., Any], *arguments: Any) -> None:
        """Call after this delay."""
        self._loop.call_later(max(0, delay_us) / 1e6, call, *arguments)


class RealCluster:
    """See the top of the file. Close it, whatever happens."""

    def __init__(
        self, options: Options, folder: Path, *, namespaces: bool = True, images: bool = True
    ) -> None:
        """Nothing runs yet. `namespaces` and `images` False do without, where they were permitted."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "cluster.yml").exists():  # an earlier run was here: its data would be met again
            shutil.rmtree(folder / "data", ignore_errors=True)
            for log in folder.glob("n*.log"):
                log.unlink()
        self.options = options
        self.folder = folder
        self.config = folder / "cluster.yml"
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._went_wrong)
        self.scheduler = RealScheduler(self.loop)
        self.cannot: list[str] = []
        self.deaths: list[tuple[int, int, str]] = []
        self.kills = self.power_cuts = 0
        self.faults: list[BaseException] = []
        """Bugs of the harness itself."""
        self._janitor = Janitor()
        shim = compiled_shim(folder)
        if shim is None:
            self.cannot.append("no C compiler: no slow disks and failing syncs")
        self.rest, self.cql, self.peer_port = _draw_ports(options.peers)
        self.fabric = self._fabric(namespaces, shim)
        self.machines = [
            RealMachine(
                index,
                Place(f"n{index + 1}", address, self.rest),
                folder,
                self._janitor,
                shim=shim,
                may_mount=images,
            )
            for index, address in enumerate(self.fabric.addresses)
        ]
        if not all(machine.disk.is_image for machine in self.machines):
            self.cannot.append("no disks of their own: no full disks, and a power cut is a kill")
        if self.fabric.kind.startswith("proxies"):
            for machine in self.machines:
                machine.environment["SULLAE_SHIM_PORT"] = str(self.peer_port)
        self._write_config()
        self.network = Lines(self.fabric, options.seed)
        self.http: aiohttp.ClientSession | None = None
        self._ready: dict[int, bool] = {}
        self._watching: asyncio.Task[None] | None = None
        self._doing: set[asyncio.Future[Any]] = set()

    def _fabric(self, namespaces: bool, shim: Path | None) -> Fabric:
        if namespaces:
            try:
                return Namespaces(self.options.peers, self._janitor)
            except OSError as error:
                self.cannot.append(
                    f"no network namespaces ({error}): packets cannot be lost, doubled or overtaken"
                )
        proxied = shim is not None
        if not proxied:
            self.cannot.append("neither namespaces nor a compiler: no faults of the network")
        return Loopback(LOOPBACK, self.options.peers, self.peer_port, proxied)

    def _write_config(self) -> None:
        options, settings = self.options, self.options.settings
        lines = ["cluster: jepsen", "peers:"]
        for machine in self.machines:
            name, address, _ = machine.place
            rack = f"r{machine.index % (options.racks or options.peers) + 1}"
            lines.append(
                f'  - {{name: {name}, address: {address}, rack: {rack}, data: "{machine.disk.folder}"}}'
            )
        lines.append(f"ports: {{rest: {self.rest}, cql: {self.cql}, peer: {self.peer_port}}}")
        voters = ", ".join(machine.place.name for machine in self.machines[: options.voters])
        lines.append(f"voters: [{voters}]")
        lines += ["settings:", "  memtable_size: 1MiB", "  block_cache_size: 8MiB"]
        lines.append(f"  repair_interval: {settings.anti_entropy_pause_us // 1_000}ms")
        lines.append(f"  write_request_timeout: {settings.write_timeout_us // 1_000}ms")
        lines.append(f"  read_request_timeout: {settings.read_timeout_us // 1_000}ms")
        self.config.write_text("\n".join(lines) + "\n")

    # --- time

    @property
    def now_us(self) -> int:
        """Since the beginning."""
        return self.scheduler.now_us

    def run_for(self, duration_us: int) -> None:
        """Let things happen for so long."""
        self.loop.run_until_complete(asyncio.sleep(duration_us / 1e6))

    def run_until(self, predicate: Callable[[], bool], timeout_us: int) -> bool:
        """Let things happen until `predicate` holds; False if it does not in time."""

        async def wait() -> bool:
            end = time.monotonic() + timeout_us / 1e6
            while not predicate():
                if time.monotonic() > end:
                    return predicate()
                await asyncio.sleep(POLL_S)
            return True

        return self.loop.run_until_complete(wait())

    # --- processes

    def start_all(self) -> None:
        """Start every machine that does not run."""
        if self._watching is None:
            self.loop.run_until_complete(self._open())
        for machine in self.machines:
            self.start(machine.index)

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0)
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_note_that_it_was_sent)
        self.http = aiohttp.ClientSession(connector=connector, trace_configs=[tracing])
        self._watching = self.loop.create_task(self._watch())

    def start(self, index: int) -> bool:
        """Start a process; one that is being stopped, or whose disk is worked on, is waited for."""
        machine = self.machines[index]
        if machine.busy or (machine.process is not None and machine.ended_by_us):
            self.scheduler.after(START_AGAIN_US, self.start, index)
            return False
        return machine.start(self.fabric.prefix(index), self.config)

    def running(self) -> list[int]:
        """The machines with a process that is not paused."""
        return [machine.index for machine in self.machines if machine.running]

    def processes(self) -> dict[str, int]:
        """The ids of those processes, by the peer's name."""
        machines = [self.machines[index] for index in self.running()]
        return {m.place.name: m.process.pid for m in machines if m.process is not None}

    def ready(self, index: int) -> bool:
        """Whether it said lately that it serves."""
        return self._ready.get(index, False) and self.machines[index].running

    def kill(self, index: int) -> None:
        """kill -9."""
        self._ready[index] = False
        self.kills += self.machines[index].running
        self.machines[index].kill()

    def stop(self, index: int) -> None:
        """SIGTERM."""
        machine = self.machines[index]
        self._ready[index] = False
        machine.ended_by_us = True
        if machine.paused:
            self.resume(index)
        machine.signal(signal.SIGTERM)

    def pause(self, index: int) -> None:
        """SIGSTOP."""
        if self.machines[index].signal(signal.SIGSTOP):
            self.machines[index].paused = True

    def resume(self, index: int) -> None:
        """SIGCONT; not while its power is cut: what it would acknowledge is not in the image any more."""
        machine = self.machines[index]
        if not machine.busy and machine.signal(signal.SIGCONT):
            machine.paused = False

    def power_cut(self, indexes: Iterable[int]) -> None:
        """Cut the power: images are taken while all stand still, and are all that is left."""
        victims = [self.machines[index] for index in indexes]
        for machine in victims:
            if machine.disk.is_image:
                self.pause(machine.index)
        cut = [machine for machine in victims if machine.paused and not machine.busy]
        for machine in victims:
            if machine not in cut:
                self.kill(machine.index)
        for machine in cut:
            machine.busy = True
        self.power_cuts += len(cut)
        done = self.loop.run_in_executor(None, _cut_power, cut)
        self._doing.add(done)
        done.add_done_callback(self._doing.discard)

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
        """End all cuts, slow links, losses, and faults of disks."""
        self.network.unblock_all()
        self.network.as_ever()
        for machine in self.machines:
            machine.slow_disk = 1
            machine.slow_sync_us = 0
            machine.engine.disk_full = False
            machine.engine.sync_fails = False

    # --- watching

    async def _watch(self) -> None:
        assert self.http is not None
        while True:
            await asyncio.gather(*(self._look(machine) for machine in self.machines))
            await asyncio.sleep(LOOK_S)

    async def _look(self, machine: RealMachine) -> None:
        assert self.http is not None
        status = machine.died
        if status is not None:
            machine.ended_by_us = True
            self.deaths.append(
                (self.now_us, machine.index, f"exit status {status}: {machine.last_words[:300]}")
            )
        if not machine.running:
            self._ready[machine.index] = False
            return
        place = machine.place
        try:
            timeout = aiohttp.ClientTimeout(total=2.0)
            async with self.http.get(
                f"http://{place.address}:{place.port}/v1/health", timeout=timeout
            ) as reply:
                self._ready[machine.index] = (await reply.json(content_type=None)).get("ready") is True
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._ready[machine.index] = False

    def _went_wrong(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault or a workload raised in a callback: a bug of the harness, and the run is not valid."""
        self.faults.append(context.get("exception") or RuntimeError(str(context.get("message"))))

    def close(self) -> None:
        """Kill what runs and leave nothing behind but the folder."""
        try:
            self._close_all()
        finally:
            self._janitor.close()

    def _close_all(self) -> None:
        for machine in self.machines:
            machine.signal(signal.SIGKILL)
            machine.kill()
        if not self.loop.is_closed():
            if self._doing:
                self.loop.run_until_complete(asyncio.gather(*self._doing, return_exceptions=True))
            self.loop.run_until_complete(self._close())
            self.loop.close()
        for machine in self.machines:
            machine.disk.unmount()
        self.fabric.close()

    async def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self.http is not None:
            await self.http.close()
        await self.loop.shutdown_default_executor()


async def _note_that_it_was_sent(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """Whoever makes a request may give it a list: it is not empty once anything was sent.

    aiohttp repeats what broke on a connection that was kept open, so that nobody answers the second time says
    nothing of the first.
    """
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.append(True)


def _cut_power(machines: list[RealMachine]) -> None:
    """Take the images of all, while all stand still; then nobody has any other disk. Runs in a thread."""
    copies = [machine.disk.copy_image() for machine in machines]
    for machine, copy in zip(machines, copies, strict=True):
        machine.kill()
        machine.disk.replace_image(copy)
        machine.busy = False


def _draw_ports(count: int) -> list[int]:
    """Three ports on which nobody listens; for the peers' the next one is free, too."""
    found: list[int] = []
    entropy = random.SystemRandom()
    while len(found) < 3:
        port = entropy.randrange(PORTS_FROM, PORTS_TO, 2)
        addresses = [f"{LOOPBACK}.{number}" for number in range(1, count + 1)]
        if port not in found and all(
            _is_free(address, at) for address in addresses for at in (port, port + 1)
        ):
            found.append(port)
    return found


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
