"""One peer as a process: from its data directory to a node that serves, and back in order.

    config -> directory, engine, store -> node -> ports of peers, REST and CQL -> "ready"

Stopping takes the way back: no new requests, those in work get up to `FINISH_S`, then the node is told, its
connections close, what was written is synced, and the engine closes. A second signal ends the process at
once, which loses nothing that was acknowledged; it only makes the next start read more of the log.

A store in which damage is met is mended: the node stops in order, what can be read is copied when the store
is opened again (lsm/directory.py), and other replicas give back the rest (node/mending.py), in one process.

What must not go on ends the process, with an exit status of its own and a line that says what to do: a sync
that failed (what it was to make durable is unknown), a store that cannot be opened, and an error of our own
(whoever catches those goes on with a state that nobody has thought about). Assertions are part of that, so
`python -O` is refused.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from core.errors import AmnesiaError, CorruptionError, DiskFullError, FormatError, MisplacedError, StoreError
from core.limits import MIB
from core.ports import Identity, InitialPeer
from core.schema import Table
from core.settings import Settings
from index.segments import TantivyPlace
from lsm import keys
from lsm.commit import Commit
from lsm.directory import OpenedStore, note_damage, open_store
from lsm.executor import Executor
from lsm.rocks import Memory, RocksEngine
from lsm.store import Store
from node.index_scrubbing import IndexScrubbing
from node.metadata_state import State
from node.node import Node
from node.search_indexes import SearchIndexes
from server import allocator, descriptors, logs
from server.bridge import Bridge
from server.certificate_files import CertificateError
from server.clock import WallClock, monotonic_us
from server.config import ClusterConfig, PeerConfig
from server.cql import CqlService
from server.disk import Disk
from server.jobs import Jobs
from server.metrics import Metrics, Sample, resident_bytes
from server.rest.service import RestService
from server.security import Tls, tls_of, unsafe
from server.sinks.running import Sinks, Terms
from server.snapshots.taking import Snapshots
from server.transport import Transport, TransportOptions
from server.world import RealWorld

EXIT_OK, EXIT_BUG, EXIT_DISK, EXIT_STORE, EXIT_CONFIG, EXIT_PORT = 0, 70, 74, 65, 78, 69
"""Exit statuses (sysexits.h): ours is broken; a sync failed; the store cannot be opened; so cannot a port."""

MEND = -1
"""Not an exit status: the store is to be opened again, which mends it."""

RESTART = -2
"""Nor is this: the process becomes a new one, of the version that is installed by now, under the same id."""

MENDINGS_MAX, MENDINGS_WITHIN_S = 4, 600.0
"""A disk that is found damaged more often than that is not to be mended but replaced."""

FINISH_S = 5.0
DAMAGE_POLL_S = 0.5
ALONE_S = 30.0
"""How long mending waits for siblings that are away: whoever is mended does not serve for a while."""
SEARCH = "search"
"""The directory of inverted indexes, in that of the peer."""
SINKS = "sinks"
"""The directory of what sinks deliver to files, in that of the peer (unless `sink_folder` says another)."""

LAG_PROBE_S = 0.010
READY_POLL_S = 0.02
GIVE_BACK_S, QUIET_SYNCS = 15.0, 60
"""How often free memory is given back, and how many syncs since the last time still count as a quiet time."""
GROWN_BYTES = 64 * MIB
"""Having grown by so much it is given back at busy times, too: what a load leaves free is more than that."""
YOUNG_OBJECTS, OLDER, OLDEST = 10_000, 20, 250
"""Garbage collection begins after so many new objects: requests free theirs by reference counts alone. A look
at 10,000 takes 3 ms of the event loop, one at 50,000 takes 13.
"""

READ_LATER = (keys.system_key(b"hint/"), keys.system_key(b"batch/"))
"""System records that the node reads for itself when it replays hints and batches."""


def run_peer(
    config: ClusterConfig,
    name: str,
    data: Path,
    insecure: bool,
    log_format: str,
    *,
    cannot_restart: Callable[[], str] = str,
) -> int:
    """Run the peer called `name` with its data in `data` until SIGINT or SIGTERM; the exit status.

    `log_format` is json or text. Off loopback it refuses to start without `insecure`, unless peers speak TLS
    among themselves and clients show certificates. `cannot_restart` says why what started it would not do so
    again, or nothing.
    """
    logs.configure(log_format, config.process.log_level)
    journal = logs.logger(name)
    if not __debug__:
        journal.critical("run without -O: assertions guard what is stored", code="optimized")
        return EXIT_CONFIG
    allocator.settle()
    descriptors.settle()
    problem = unsafe(config, insecure)
    if problem:
        journal.critical(problem, code="insecure")
        return EXIT_CONFIG
    try:
        tls = tls_of(config, name, journal)
    except CertificateError as error:
        journal.critical(str(error), code="certificate")
        return EXIT_CONFIG
    gc.set_threshold(YOUNG_OBJECTS, OLDER, OLDEST)
    mended_s: list[float] = []
    while True:
        status = _run_once(config, name, data, (journal, tls), cannot_restart)
        if status == RESTART:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        if status != MEND:
            return status
        now_s = time.monotonic()
        mended_s = [at_s for at_s in mended_s if now_s - at_s < MENDINGS_WITHIN_S] + [now_s]
        if len(mended_s) > MENDINGS_MAX:
            text = f"damage was met {len(mended_s)} times in {MENDINGS_WITHIN_S / 60:.0f} minutes"
            advice = f"replace the disk, then the peer (sullae cluster plan replace {name})"
            journal.critical(f"{text}: {advice}", code="disk_fails")
            return EXIT_STORE


def _run_once(
    config: ClusterConfig, name: str, data: Path, around: tuple[Any, Tls], cannot_restart: Callable[[], str]
) -> int:
    """From opening the store to closing it; the exit status, or MEND. `around` are journal and TLS."""
    journal, tls = around
    try:
        memory = Memory(config.process.block_cache_bytes, config.process.memtable_bytes)
        opened = open_store(data, secrets.token_bytes(16), monotonic_us, memory)
    except (StoreError, OSError) as error:
        journal.critical(f"{error}; {_advice(error, name)}", code="store_not_opened")
        return EXIT_STORE
    if opened.mended is not None:
        mended = opened.mended
        holes = "1 hole" if mended.holes == 1 else f"{mended.holes} holes"
        text = f"what could be read of the store was copied: {mended.records} records, {holes}"
        lost = [[*msgspec.structs.astuple(one)] for one in mended.lost]
        journal.warning(text, code="store_copied", lost=lost, log_forgotten=mended.log_forgotten)
    process = PeerProcess(config, config.peer(name), opened, journal, data)
    process.cannot_restart = cannot_restart
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(process.run(tls))


def _advice(error: Exception, name: str) -> str:
    """What to do about a peer's store that does not open."""
    rebuild = f"start the peer with an empty directory, then `sullae cluster plan replace {name}`, `commit`"
    if isinstance(error, AmnesiaError):
        return f"this directory has lost what it acknowledged: do not start it again, {rebuild}"
    if isinstance(error, CorruptionError):
        return f"the disk or a copy damaged it: keep it for inspection, {rebuild}"
    if isinstance(error, DiskFullError):
        return "free some space and start again"
    if isinstance(error, MisplacedError):
        return f"give {name} the directory that it had (NAME in --data, or `data:` in cluster.yml)"
    if isinstance(error, FormatError):
        return "stop who uses it, or give the peer a directory of its own, or a version that knows this one"
    return "check the path and its permissions"


def node_settings(config: ClusterConfig) -> Settings:
    """The node's settings, with what is decided once, at birth."""
    factor = config.process.replication_factor
    return msgspec.structs.replace(
        config.settings, num_tokens=config.process.num_tokens, replication_factor=factor
    )


def initial_peers(config: ClusterConfig) -> tuple[InitialPeer, ...]:
    """The peers that found the cluster, as the node knows them."""
    return tuple(
        InitialPeer(peer.name, peer.address, peer.datacentre, peer.rack, peer.name in config.voters)
        for peer in config.peers
    )


def _check_owner(state: State, me: Identity, cluster: str) -> None:
    """That a directory is of this cluster, and of this peer; raises MisplacedError.

    An address may change, a name may not: others know a peer by it, and two peers whose directories were
    exchanged would each be taken for the other.
    """
    if state.epoch and state.name != cluster:
        raise MisplacedError(
            f"this directory is of the cluster {state.name}, not of {cluster}, as cluster.yml says"
        )
    member = state.member(me.peer)
    if member is not None and member.name != me.name:
        raise MisplacedError(f"this directory is of the peer {member.name}, not of {me.name}")


def boot_records(engine: RocksEngine) -> dict[bytes, bytes]:
    """All system records but hints and kept batches; raises CorruptionError for a damaged one."""
    head = len(keys.SYSTEM)
    return {
        key[head:]: value
        for key, value in engine.scan(keys.SYSTEM, keys.successor(keys.SYSTEM))
        if not key.startswith(READ_LATER)
    }


def version() -> str:
    """The version of this distribution."""
    try:
        return metadata.version("sullae-server")
    except metadata.PackageNotFoundError:
        return "unknown"


class PeerProcess:
    """Everything around one node. `run` is its whole life."""

    def __init__(
        self, config: ClusterConfig, peer: PeerConfig, opened: OpenedStore, journal: Any, data: Path
    ) -> None:
        self.config = config
        self.peer = peer
        self.journal = journal
        self.data = data
        self.metrics = Metrics()
        self.engine = opened.engine
        self.identity = Identity(
            opened.peer, opened.start, peer.name, peer.address, peer.datacentre, peer.rack
        )
        self._started_s = time.monotonic()
        self._signals = 0
        self._kept_bytes = 0
        self._mending = False
        self._restarting = False
        self.cannot_restart: Callable[[], str] = str
        self.node: Node
        self.disk: Disk
        self.store: Store
        self.jobs: Jobs
        self.transport: Transport
        self.bridge: Bridge
        self.rest: RestService
        self.cql: CqlService
        self.sinks: Sinks

    async def run(self, tls: Tls) -> int:
        """Build, serve until a signal, take down; the exit status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        self._stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        try:
            self._build(loop, tls)
        except StoreError as error:
            self.engine.close()
            if isinstance(error, CorruptionError):
                self._note_damage(str(error))
                return MEND
            self.journal.critical(f"{error}; {_advice(error, self.peer.name)}", code="store_not_opened")
            return EXIT_STORE
        try:
            await self.transport.start()
            await self.rest.start(self.peer.address, self.config.ports.rest, tls.clients)
            await self.cql.start(self.peer.address, self.config.ports.cql, tls.clients)
        except OSError as error:
            self.journal.critical(f"{self.peer.address}: {error}", code="port")
            await self.transport.stop()
            self.jobs.close()
            self.disk.close()
            return EXIT_PORT
        self.node.on_start()
        self.sinks.start(self.config.sinks)
        gc.collect()
        gc.freeze()
        probe = loop.call_later(LAG_PROBE_S, self._probe, loop, loop.time() + LAG_PROBE_S)
        self._probe_handle = probe
        self._quiet_handle = loop.call_later(GIVE_BACK_S, self._give_back, loop, self.disk.syncs)
        loop.call_later(DAMAGE_POLL_S, self._look_for_damage, loop, 0.0)
        await self._until_ready()
        await self._stop.wait()
        return await self._take_down()

    def _build(self, loop: asyncio.AbstractEventLoop, tls: Tls) -> None:
        config, peer = self.config, self.peer
        world = self.world = RealWorld(loop, WallClock.from_environment(), self.metrics, self.journal)
        node = self.node = Node(
            world,
            self.identity,
            initial=initial_peers(config),
            cluster_name=config.name,
            settings=node_settings(config),
            boot=boot_records(self.engine),
        )

        node.inside.on_bug = self._complain
        _check_owner(node.metadata.state, self.identity, config.name)

        def table(number: int) -> Table | None:
            return node.metadata.state.tables.get(number)

        periodic = config.process.commitlog_sync == "periodic"
        self.store = Store(self.engine, table, node.indexed.entries)
        self.store.owns = node.owns
        executor = Executor(self.store, Commit(periodic=periodic))
        executor.on_bug = lambda command, error: self._complain(f"a {type(command).__name__}", error)
        self.disk = Disk(
            loop,
            executor,
            node.inside.stored,
            on_fatal=self._disk_failed,
            sync_pause_us=config.process.commitlog_sync_period_us if periodic else 0,
        )
        self.jobs = world.jobs = Jobs(loop, node.on_done)
        indexes = SearchIndexes(node.inside, node.metadata, TantivyPlace(self.data / SEARCH))
        indexes.durable_end = lambda: self.store.log.durable
        node.search_by(indexes, indexes.start)
        node.scrubbing.indexes = IndexScrubbing(node.inside, indexes)
        options = TransportOptions(peer.address, config.ports.peer, config.name, tls.peers)
        self.transport = Transport(loop, options, node, world.note)
        self.bridge = Bridge(loop, node)
        world.node, world.disk, world.transport = node, self.disk, self.transport
        world.on_reply = self.bridge.on_reply
        world.shorten()
        self.bridge.on_bug = lambda request, error: self._complain(f"a {type(request).__name__}", error)
        self.rest = RestService(node, self.bridge, self.metrics, self._complain, self.about)
        ports = (config.ports.cql, config.ports.peer)
        self.cql = CqlService(node, self.bridge, self.metrics, self._complain, ports)
        self.rest.take_cql(self.cql)
        host = f"[{peer.address}]" if ":" in peer.address else peer.address
        me = f"{peer.name}/{self.identity.start:x}"
        url = f"http{'' if tls.clients is None else 's'}://{host}:{config.ports.rest}"
        process = config.process
        terms = Terms(private=process.sink_private_addresses, secrets=process.sink_secrets, tls=tls.itself)
        self.sinks = Sinks(url, me, process.sink_folder or self.data / SINKS, self._sink_noted, terms)
        self.metrics.ask(self.sinks.samples)
        self.rest.take_sinks(self.sinks)
        self.rest.on_restart, self.rest.cannot_restart = self._restart, self.cannot_restart
        self.rest.take_snapshots(Snapshots(self.engine, self.data))
        self.metrics.ask(self._samples)
        self.metrics.ask(self.node.groups.samples)

    async def _until_ready(self) -> None:
        self.journal.info(
            f"listening at {self.peer.address}",
            rest_port=self.config.ports.rest,
            cql_port=self.config.ports.cql,
            peer_port=self.config.ports.peer,
            code="listening",
            pid=os.getpid(),
            start=self.identity.start,
            version=version(),
        )
        while not self._stop.is_set():
            ready, _ = self.node.ready()
            if ready:
                took_s = time.monotonic() - self._started_s
                self.journal.info(
                    "ready", code="ready", epoch=self.node.metadata.state.epoch, after_s=round(took_s, 3)
                )
                return
            try:
                async with asyncio.timeout(READY_POLL_S):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _take_down(self) -> int:
        self.journal.info("stopping", code="stopping")
        await self.sinks.stop()
        await asyncio.gather(self.rest.stop(FINISH_S), self.cql.stop(FINISH_S))
        self.node.on_stop()
        await self.transport.stop()
        self.world.stop_timers()
        self._probe_handle.cancel()
        self._quiet_handle.cancel()
        self.jobs.close()
        try:
            self.disk.close()
        except StoreError as error:
            if not self._mending:
                self.journal.critical(f"closing the store: {error}", code="not_synced")
                return EXIT_DISK
        if self._mending:
            return MEND
        self.journal.info("stopped", code="stopped")
        return RESTART if self._restarting else EXIT_OK

    # --- damage

    def _look_for_damage(self, loop: asyncio.AbstractEventLoop, waited_s: float) -> None:
        """Stop in order when damage was met, as soon as all siblings are there to serve meanwhile."""
        damaged = next(iter(self.store.damaged.values()), None)
        if damaged is None or self._stop.is_set():
            loop.call_later(DAMAGE_POLL_S, self._look_for_damage, loop, 0.0)
            return
        node = self.node
        siblings = node.metadata.state.neighbours(self.identity.peer)
        if all(node.swim.is_alive(peer) for peer in siblings) or waited_s >= ALONE_S:
            self._note_damage(damaged.text)
            self._mending = True
            self._stop.set()
        else:
            loop.call_later(DAMAGE_POLL_S, self._look_for_damage, loop, waited_s + DAMAGE_POLL_S)

    def _note_damage(self, text: str) -> None:
        self.journal.error(f"the store is damaged and will be mended: {text}", code="store_damaged")
        note_damage(self.data, text)

    # --- what must not go on

    def _restart(self) -> int:
        """Somebody asked for it: stop in order, then start again. Which start this one is."""
        self._restarting = True
        asyncio.get_running_loop().call_soon(self._stop.set)  # the answer is on its way first
        return self.identity.start

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals > 1:
            self.journal.warning("stopped at once by a second signal", code="stopped_at_once")
            _exit_now(EXIT_OK)
        self._stop.set()

    def _disk_failed(self, text: str) -> None:
        self.journal.critical(
            f"{text}; what was being written is unknown, so this peer ends: check the disk, then start again",
            code="disk_failed",
        )
        _exit_now(EXIT_DISK)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception reached the event loop: of the network, or a bug of ours, which ends the process."""
        error = context.get("exception")
        if error is None or isinstance(error, (OSError, asyncio.CancelledError)):
            self.journal.warning(f"{context.get('message')}: {error}", code="event_loop")
            return
        self.fatal(error)

    def _complain(self, doing: str, error: BaseException | None) -> None:
        """Bad input; or a bug outside the node: that is answered with 500, and the process goes on."""
        if error is None:
            self.world.note_limited("malformed_request", doing)
            return
        text = "".join(traceback.format_exception(error))
        self.journal.error(f"a bug in answering {doing}: {error!r}", code="request_bug", exception=text)

    def _sink_noted(self, name: str, text: str) -> None:
        self.journal.info(f"sink {name}: {text}", code="sink", sink=name)

    def fatal(self, error: BaseException) -> None:
        """End the process because of a bug."""
        text = "".join(traceback.format_exception(error))
        self.journal.critical(f"a bug, so this peer ends: {error!r}", code="bug", exception=text)
        _exit_now(EXIT_BUG)

    # --- looking at itself

    def _probe(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        now_s = loop.time()
        self.metrics.lagged(max(0, int((now_s - due_s) * 1e6)))
        self._probe_handle = loop.call_later(LAG_PROBE_S, self._probe, loop, now_s + LAG_PROBE_S)

    def _give_back(self, loop: asyncio.AbstractEventLoop, syncs: int) -> None:
        is_quiet = self.disk.syncs - syncs <= QUIET_SYNCS
        if is_quiet:
            self.disk.rest()
        if is_quiet or resident_bytes() - self._kept_bytes > GROWN_BYTES:
            loop.run_in_executor(None, self._give_back_now)
        self._quiet_handle = loop.call_later(GIVE_BACK_S, self._give_back, loop, self.disk.syncs)

    def _give_back_now(self) -> None:
        allocator.give_back()
        self._kept_bytes = resident_bytes()

    def about(self) -> dict[str, Any]:
        """What only the process knows of this peer, for its status."""
        health = self.engine.health()
        return {
            "pid": os.getpid(),
            "version": version(),
            "load_bytes": health["sst_bytes"] + health["memtable_bytes"],
            "disk_free_bytes": self._disk_bytes()[0],
            "resident_bytes": resident_bytes(),
            "clock_us": self.world.wall_us(),
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "connected_peers": self.transport.connected(),
        }

    def _disk_bytes(self) -> tuple[int, int]:
        """Free and in all, where this peer's data lies."""
        found = os.statvfs(self.data)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def _samples(self) -> Iterator[Sample]:
        """What is asked for when the metrics page is read."""
        none: dict[str, str] = {}
        free, size = self._disk_bytes()
        yield "disk_free_bytes", none, free
        yield "disk_bytes", none, size
        yield "process_resident_bytes", none, resident_bytes()
        yield "clock_seconds", none, self.world.wall_us() / 1e6
        yield "ready", none, float(self.node.ready()[0])
        yield "epoch", none, self.node.metadata.state.epoch
        yield "requests_in_flight", none, self.node.admission.requests
        yield "request_bytes_in_flight", none, self.node.admission.bytes
        yield "store_queue", none, self.disk.queued
        yield "store_waiting_for_sync", none, self.disk.waiting
        yield "syncs_total", none, self.disk.syncs
        yield "syncs_by_kernel_total", none, self.disk.kernel_syncs
        for name, value in self.engine.health().items():
            yield f"store_{name}", none, value
        for part in ("following", "hints"):
            yield from self._admin_samples(part)
        transport = self.transport
        yield "peers_connected", none, transport.connected()
        yield "peer_strangers", none, transport.strangers()
        yield "peer_waiting_bytes", none, transport.waiting_bytes()
        for name in transport.counters.__slots__:
            yield f"peer_{name}_total", none, getattr(transport.counters, name)
        for lane, value in zip(("urgent", "small", "bulk"), transport.waiting_by_lane(), strict=True):
            yield "peer_lane_bytes", {"lane": lane}, value

    def _admin_samples(self, part: str) -> Iterator[Sample]:
        if part == "following":
            for name, sibling in self.node.admin.following()["siblings"].items():
                yield "following_lag_entries", {"sibling": name}, sibling["behind"] or 0
        else:
            for name, count in self.node.admin.hints()["hints"].items():
                yield "hints_kept", {"sibling": name}, count


def _exit_now(status: int) -> None:
    """End without a word to anybody: threads, sockets and buffers are the kernel's."""
    logs.finish()
    os._exit(status)
