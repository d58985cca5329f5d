"""Counterexamples 42 to 45: disks that are slow, damaged or full of lies, and a wire that is narrow.

What RocksDB itself does with a damaged log, table or block is shown on real files in tests/lsm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from core.consistency import Level
from core.errors import CorruptionError, DurabilityError
from core.requests import Broken, RowsRead, ScanRequest
from jepsen_like.history import INFO, OK
from jepsen_like.scenarios import Scenario
from lsm import keys
from lsm.memory import MemoryEngine
from ring.tokens import token_of
from sim.disk import SimDisk
from sim.options import DiskOptions, NetworkOptions
from tests.scenarios.telling import QUIET, held, ping_answers_us

Patch = pytest.MonkeyPatch
MS = 1_000


# --- 42: a cold block holds up nobody else


class Cold(NamedTuple):
    """What a cold block of 50 ms did to a peer: longest times in milliseconds."""

    cold_read: int
    other_read: int
    ping: int


def a_cold_block() -> Cold:
    """Two keys are read from one peer again and again; the record of one takes 50 ms to come."""
    disk = DiskOptions(
        execute_min_us=50,
        execute_max_us=50,
        sync_min_us=1_000,
        sync_max_us=1_000,
        cold_min_us=50_000,
        cold_max_us=50_000,
    )
    alone = {"speculative_retry_us": 1_000_000}  # no other replica helps out
    s = Scenario(settings=QUIET | alone | {"ping_pause_us": 10_000, "ping_timeout_us": 9_000}, disk=disk)
    s.start()
    bucket = s.bucket("b")
    for key in ("cold", "warm"):
        assert s.put("b", key, b"v", level=Level.ALL).status == OK
    cold_key = keys.row_key(bucket.table, token_of(b"cold"), b"cold")
    s.cluster.machines[0].engine.cold = lambda key: key == cold_key
    pings = ping_answers_us(s, 0)
    took: dict[str, list[int]] = {"cold": [], "warm": []}

    def again(key: str) -> None:
        began_us = s.cluster.now_us

        def ended(_: object) -> None:
            took[key].append(s.cluster.now_us - began_us)
            again(key)

        s.door.get(0, bucket, key, Level.ONE, ended)

    again("cold")
    again("warm")
    s.run(1)
    assert len(took["cold"]) >= 10 and len(pings) > 50
    return Cold(*(max(times) // MS for times in (took["cold"], took["warm"], pings)))


def test_counterexample_42_a_cold_block_delays_only_who_asked_for_it() -> None:
    worst = a_cold_block()
    assert worst.cold_read >= 50
    assert worst.other_read <= 2
    assert worst.ping <= 2


def test_counterexample_42_if_a_cold_read_blocks_everything_waits(monkeypatch: Patch) -> None:
    release = SimDisk._release

    def blocking(self: Any) -> None:
        for fetch in self.executor.take_fetches():
            self._world.pause()

            def done(fetch: Any = fetch) -> None:
                self._world.resume()
                self._fetched(fetch)

            self._scheduler.after(self._options.cold_max_us, done)
        release(self)

    monkeypatch.setattr(SimDisk, "_release", blocking)
    worst = a_cold_block()
    assert worst.other_read >= 45
    assert worst.ping >= 30


# --- 43: two connections


def large_values_on_a_narrow_wire(connections: int) -> tuple[bool, bool]:
    """Whether somebody was suspected and whether some ping took more than 100 ms while values were written.

    One sixteenth of 16 MiB values and of 1 Gbit/s: each is 134 ms of the wire.
    """
    wire = NetworkOptions(
        latency_min_us=1_000,
        latency_max_us=1_000,
        jitter_us=0,
        bytes_per_s=125_000_000 // 16,
        connections=connections,
    )
    s = Scenario(settings=QUIET, network=wire)
    s.start()
    bucket = s.bucket("b")
    suspicions = s.cluster.events.get("swim_suspicions", 0)
    pings = ping_answers_us(s, 1)
    ended: list[str] = []
    for number in range(20):
        item = (f"k{number}", bytes(1 << 20))
        s.door.patience_us = 60_000_000
        s.door.put(0, bucket, item, Level.ONE, lambda end: ended.append(end.status))
    s.run(6)
    assert ended == [OK] * 20
    assert len(pings) >= 4
    return s.cluster.events.get("swim_suspicions", 0) > suspicions, max(pings) > 100 * MS


def test_counterexample_43_large_values_do_not_stand_in_front_of_pings() -> None:
    assert large_values_on_a_narrow_wire(connections=2) == (False, False)


def test_counterexample_43_on_a_single_connection_they_do() -> None:
    assert large_values_on_a_narrow_wire(connections=1) == (True, True)


# --- 44: damage is never the silent end of a scan


def a_damaged_record_among_thirty() -> tuple[int, int]:
    """How many keys a listing at ONE through the damaged peer gives, and one at QUORUM.

    -1: an error.
    """
    s = Scenario(settings={"follow_pause_us": 200_000, "anti_entropy_pause_us": 500_000})
    s.start()
    bucket = s.bucket("b")
    for number in range(30):
        assert s.put("b", f"k{number}", b"v", level=Level.ALL).status == OK
    first = keys.table_prefix(bucket.table)
    engine = s.cluster.machines[0].engine
    stored = engine.keys(first, keys.successor(first))
    engine.damage(stored[10])
    counts = []
    for level in (Level.ONE, Level.QUORUM):
        reply = s.ask(ScanRequest(bucket.table, b"", 1_000, level))
        parts = [answer for answer in reply.answers if isinstance(answer, RowsRead)]
        broken = isinstance(reply.answer, Broken)
        assert broken or len(parts) == len(reply.answers)
        counts.append(-1 if broken else sum(len(part.rows) for part in parts))
    s.run(20)
    for peer in (1, 2):
        assert len(held(s, peer, "b")) == 30, "nothing is deleted elsewhere"
    assert len([s.get("b", f"k{number}", at=1).result.value for number in range(30)]) == 30
    return counts[0], counts[1]


def test_counterexample_44_a_damaged_record_is_never_the_silent_end_of_a_scan() -> None:
    one, quorum = a_damaged_record_among_thirty()
    assert one in (-1, 30)
    assert quorum == 30


def test_counterexample_44_if_a_scan_ends_early_rows_are_missing_without_an_error(monkeypatch: Patch) -> None:
    scan = MemoryEngine.scan

    def ending_early(self: Any, first: bytes, end: bytes, reverse: bool = False) -> Any:
        try:
            yield from scan(self, first, end, reverse)
        except CorruptionError:
            return

    monkeypatch.setattr(MemoryEngine, "scan", ending_early)
    one, _ = a_damaged_record_among_thirty()
    assert one == 10


# --- 45: a failed sync


def a_sync_that_fails_once(then: str) -> tuple[str, bool, str]:
    """How the write ended for its client, whether the process did, and what is there after the next start."""
    s = Scenario(peers=1, voters=1, replication=1)
    s.start()
    s.bucket("b")
    assert s.put("b", "before", b"v").status == OK
    s.run(0.1)
    s.cluster.machines[0].engine.sync_fails = True
    end = s.put("b", "k", b"v")
    ended = not s.cluster.running()
    if then == "power":
        s.power_cut(0)
    else:
        s.kill(0)
    s.start(0)
    assert s.get("b", "before").result.value == b"v"
    found = s.get("b", "k").result
    return end.status, ended, "nothing" if found is None else found.value.decode()


def test_counterexample_45_a_failed_sync_ends_the_process_and_the_write_is_unknown() -> None:
    """It may be there afterwards, or not: to call it failed, or done, would be wrong once."""
    assert a_sync_that_fails_once("kill") == (INFO, True, "v")


def test_counterexample_45_if_a_failed_sync_is_tried_again_an_acknowledged_write_is_lost(
    monkeypatch: Patch,
) -> None:
    """The kernel has dropped the pages, the second fsync succeeds."""

    def try_again(self: Any, sequence: int) -> None:
        try:
            self._engine.finish_sync(sequence)
        except DurabilityError:
            self._engine._failed = False
        self.executor.end_sync(sequence)
        self._release()

    monkeypatch.setattr(SimDisk, "_synced", try_again)
    assert a_sync_that_fails_once("power") == (OK, False, "nothing")
