"""The threads around a store: one sync for many, none that blocks the loop, and the end when one fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from core import limits
from core.commands import Command, Done, Failed, Outcome, Read, Rows, Slice, SystemWrite, Why
from core.errors import CorruptionError, DurabilityError
from core.ports import Ticket
from core.schema import Column, Table, TableOptions
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Store
from server import disk as disk_module
from server.clock import WallClock
from server.disk import Disk
from server.log_limit import LINES_MAX, WINDOW_S, LogLimit
from server.metrics import Metrics
from tests.server.harness import needs_the_kernel, run, until

COLUMNS = (Column(0, "key", "text", "partition"), Column(1, "value", "blob", "regular"))
TABLE = Table(1, "kv", "b", COLUMNS, TableOptions(), 1)


class SlowEngine(MemoryEngine):
    """Syncs when it is let, or fails to; counts."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.syncs = self.log_syncs = self.tended = 0
        self.log: int | None = None
        self.broken = ""
        self.fetch_gate = threading.Event()
        self.fetched: list[Sequence[bytes]] = []

    def sync(self) -> None:
        self.gate.wait(20)
        if self.broken:
            raise DurabilityError(self.broken)
        super().sync()
        self.syncs += 1

    def newest_log(self) -> int | None:
        return self.log

    def log_synced(self, sequence: int, error: Exception | None) -> None:
        self.log_syncs += 1
        if self.broken:
            raise DurabilityError(self.broken)

    def tend(self) -> None:
        self.tended += 1

    def fetch(self, keys: Sequence[bytes]) -> None:
        self.fetched.append(keys)
        self.fetch_gate.wait(20)
        raise CorruptionError("cannot be read")


class Bench:
    """A disk on a slow engine."""

    def __init__(self, periodic_us: int = 0) -> None:
        self.engine = SlowEngine()
        self.outcomes: list[tuple[Ticket, Outcome]] = []
        self.fatal: list[str] = []
        executor = Executor(Store(self.engine, lambda _: TABLE), Commit(periodic=periodic_us > 0))
        self.disk = Disk(
            asyncio.get_running_loop(),
            executor,
            lambda ticket, outcome: self.outcomes.append((ticket, outcome)),
            on_fatal=self.fatal.append,
            sync_pause_us=periodic_us,
        )

    def write(self, number: int) -> None:
        self.disk.submit(("t", number), put(number))


def put(number: int) -> Command:
    return SystemWrite(((b"k%d" % number, b"v"),))


def test_nothing_is_told_before_its_sync_and_one_sync_is_for_all() -> None:
    async def work() -> None:
        bench = Bench()
        bench.engine.gate.clear()
        bench.write(0)
        await asyncio.sleep(0.01)  # the first sync is under way; what comes now shares the next
        for number in range(1, 1_000):
            bench.write(number)
        worst_s, end_s = 0.0, time.monotonic() + 0.3
        while time.monotonic() < end_s:
            before_s = time.monotonic()
            await asyncio.sleep(0.001)
            worst_s = max(worst_s, time.monotonic() - before_s)
        assert not bench.outcomes
        assert worst_s < 0.2  # a sync that takes long holds up nobody else
        bench.engine.gate.set()
        await until(lambda: len(bench.outcomes) == 1_000)
        assert bench.outcomes == [(("t", number), Done()) for number in range(1_000)]
        assert bench.engine.syncs <= 4
        bench.disk.close()

    run(work())


@needs_the_kernel
def test_where_one_file_is_enough_the_kernel_syncs_it(tmp_path: Path) -> None:
    async def work() -> None:
        with (tmp_path / "log").open("wb") as log:
            bench = Bench()
            bench.engine.gate.clear()  # the engine's own sync would never end
            bench.engine.log = log.fileno()
            for number in range(100):
                bench.write(number)
                await until(lambda number=number: len(bench.outcomes) == number + 1)  # type: ignore[misc]
            await until(lambda: bench.engine.tended)
            assert bench.outcomes == [(("t", number), Done()) for number in range(100)]
            assert bench.engine.syncs == 0
            assert 100 <= bench.engine.log_syncs <= 101
            assert bench.engine.tended < 100
            bench.engine.log = None
            bench.write(100)
            await asyncio.sleep(0.02)
            assert len(bench.outcomes) == 100
            bench.engine.gate.set()
            await until(lambda: len(bench.outcomes) == 101)
            bench.disk.close()

    run(work())


@pytest.mark.parametrize("by_kernel", [False, pytest.param(True, marks=needs_the_kernel)])
def test_a_failed_sync_is_the_end_and_nothing_is_told(tmp_path: Path, by_kernel: bool) -> None:
    async def work() -> None:
        with (tmp_path / "log").open("wb") as log:
            bench = Bench()
            bench.engine.log = log.fileno() if by_kernel else None
            bench.engine.broken = "the disk said no"
            bench.write(1)
            await until(lambda: bench.fatal)
            assert bench.fatal == ["the disk said no"]
            assert bench.engine.log_syncs == by_kernel
            bench.engine.broken = ""
            bench.write(2)
            await asyncio.sleep(0.02)
            assert not bench.outcomes

    run(work())


def test_a_sync_that_ends_by_a_bug_is_the_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread would be gone, and whoever waits for a sync would wait for ever."""

    async def work() -> None:
        bench = Bench()
        monkeypatch.setattr(bench.engine, "sync", lambda: 1 // 0)
        bench.write(1)
        await until(lambda: bench.fatal)
        assert "ZeroDivisionError" in bench.fatal[0] and not bench.outcomes

    run(work())


def test_what_is_cold_is_fetched_in_a_thread_and_overtaken() -> None:
    async def work() -> None:
        bench = Bench()
        bench.engine.cold = lambda key: b"cold" in key
        reads = [Slice(1, keys.row_key(1, 7, name), b"", b"", True, 1, 1_000) for name in (b"cold", b"warm")]
        for ticket, part in enumerate((reads[0], reads[0], reads[1])):
            bench.disk.submit(("t", ticket), Read(part, False))
        await until(lambda: bench.outcomes)
        assert bench.outcomes == [(("t", 2), Rows((), None, False))]
        assert len(bench.engine.fetched) == 1
        bench.engine.fetch_gate.set()
        await until(lambda: len(bench.outcomes) == 3 or len(bench.engine.fetched) == 2)
        await until(lambda: len(bench.outcomes) == 3)
        assert [ticket for ticket, _ in bench.outcomes] == [("t", 2), ("t", 0), ("t", 1)]
        bench.disk.close()

    run(work())


class Clock:
    """A clock for disk.py, and how much a thread has read, both as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.worked_s, self.blocks = 100.0, 0.0, 0
        clocks = SimpleNamespace(monotonic=lambda: self.now_s, thread_time=lambda: self.worked_s)
        monkeypatch.setattr(disk_module, "time", clocks)
        monkeypatch.setattr(disk_module, "_blocks_read", lambda: self.blocks)


class ColdEngine(MemoryEngine):
    """All is cold until it is fetched; notes in which thread that was."""

    def __init__(self, on_fetch: Callable[[], None]) -> None:
        super().__init__()
        self.warmed: set[bytes] = set()
        self.cold = lambda key: key not in self.warmed
        self.here: list[bool] = []
        self._on_fetch = on_fetch

    def fetch(self, keys: Sequence[bytes]) -> None:
        self.here.append(threading.current_thread() is threading.main_thread())
        self._on_fetch()
        self.warmed.update(keys)


def test_what_is_fetched_quickly_is_fetched_on_the_loop_until_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most of what is cold is in the kernel's cache; only who meets the disk needs a thread."""

    async def work() -> None:
        clock = Clock(monkeypatch)
        slow: list[float] = [0.0, 0, 0.0]

        def met() -> None:
            clock.now_s += slow[0]
            clock.blocks += int(slow[1])
            clock.worked_s += slow[2]

        engine, outcomes = ColdEngine(met), [0]
        executor = Executor(Store(engine, lambda _: TABLE), Commit())

        def stored(ticket: Ticket, outcome: Outcome) -> None:
            assert isinstance(outcome, Rows)
            outcomes[0] += 1

        disk = Disk(asyncio.get_running_loop(), executor, stored, on_fatal=lambda _: None)

        async def read(*names: bytes) -> list[bool]:
            """Read these at once; whether each fetch was on the loop."""
            engine.here.clear()
            wanted = outcomes[0] + len(names)
            for name in names:
                part = Slice(1, keys.row_key(1, 7, name), b"", b"", True, 1, 1_000)
                disk.submit(("t",), Read(part, False))
            await until(lambda: outcomes[0] == wanted)
            return engine.here[:]

        assert await read(b"a") == [False]  # nothing is known yet
        assert await read(b"b", b"c", b"d") == [True]  # it was quick: all of a tick at once
        slow[:] = [1.0, 0, 0.0]  # it took long, but nothing was read: there was no processor for it
        assert await read(b"e") == [True]
        slow[:] = [0.02, 8, 0.0]
        assert await read(b"f") == [True]
        slow[:] = [0.0, 8, 0.0]
        assert await read(b"g") == [False]  # in threads for a while, however quick it is there
        clock.now_s += disk_module.ASIDE_FIRST_S
        assert await read(b"h") == [False]
        assert await read(b"i") == [True]
        slow[:] = [0.02, 8, 0.0]
        for aside in (1, 2, 4):  # each time for twice as long
            assert await read(b"j%d" % aside) == [True]
            slow[:] = [0.0, 8, 0.0]
            clock.now_s += 0.9 * 2 * aside * disk_module.ASIDE_FIRST_S / 2
            assert await read(b"k%d" % aside) == [False]
            clock.now_s += 0.2 * 2 * aside * disk_module.ASIDE_FIRST_S
            assert await read(b"l%d" % aside) == [False]
            slow[:] = [0.02, 8, 0.0]
        clock.now_s += disk_module.ASIDE_MAX_S
        slow[:] = [0.0, 0, 0.0]
        assert await read(b"m") == [True]
        slow[:] = [0.02, 0, 0.02]  # from memory, but much
        assert [await read(b"o"), await read(b"p"), await read(b"q")] == [[True], [False], [False]]
        disk.close()

    run(work())


def test_a_full_queue_refuses_and_says_so_later() -> None:
    async def work() -> None:
        bench = Bench()
        for number in range(limits.STORE_QUEUE_MAX):
            bench.write(number)
        bench.write(-1)
        assert not bench.outcomes  # never before submit returns
        await until(lambda: bench.outcomes)
        ticket, outcome = bench.outcomes[0]
        assert ticket == ("t", -1)
        assert isinstance(outcome, Failed)
        assert outcome.why is Why.STALLED
        assert bench.disk.queued > limits.STORE_QUEUE_MAX - 10 * disk_module.COMMANDS_PER_TICK
        bench.disk.close()

    run(work())


def test_periodic_syncs_tell_at_once() -> None:
    async def work() -> None:
        bench = Bench(periodic_us=20_000)
        bench.engine.gate.clear()
        bench.write(1)
        await until(lambda: bench.outcomes)
        assert bench.engine.syncs == 0
        bench.engine.gate.set()
        bench.write(2)
        await until(lambda: bench.engine.syncs >= 2)
        bench.disk.close()

    run(work())


def test_log_lines_of_one_name_are_limited() -> None:
    now_s = [0.0]
    limit = LogLimit(lambda: now_s[0])
    kept = [limit.allowed("a", f"line {n}") for n in range(50)]
    assert [line for line in kept if line] == [f"line {n}" for n in range(LINES_MAX)]
    assert limit.allowed("b", "another") == "another"
    now_s[0] += WINDOW_S
    assert limit.allowed("a", "again") == f"again (and {50 - LINES_MAX} more like it before)"


def test_metrics_are_counted_and_asked_for() -> None:
    metrics = Metrics()
    metrics.count("hints_added")
    metrics.count("hints_added", 2)
    metrics.count("peers_dead_now", 3)
    metrics.count("peers_dead_now", 1)
    metrics.latency("put", "quorum", 204, 3_000)
    metrics.latency("put", "quorum", 204, 70_000_000)
    metrics.lagged(12_000)
    metrics.ask(lambda: [("queue", {"lane": "bulk"}, 5.0), ("things_total", {}, 6.0)])
    page = metrics.page().decode().splitlines()
    for line in (
        "sullae_hints_added_total 3.0",
        "sullae_peers_dead 1.0",
        'sullae_request_seconds_bucket{le="0.004",level="quorum",operation="put",status="204"} 1.0',
        'sullae_request_seconds_bucket{le="+Inf",level="quorum",operation="put",status="204"} 2.0',
        "sullae_loop_lag_max_seconds 0.012",
        'sullae_queue{lane="bulk"} 5.0',
        "sullae_things_total 6.0",
    ):
        assert line in page, line


def test_the_wall_clock_is_that_of_the_machine() -> None:
    before_us = time.time_ns() // 1000
    read_us = WallClock(None).read_us()
    assert before_us <= read_us <= time.time_ns() // 1000
