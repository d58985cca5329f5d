"""Nothing leaves before it is durable; what is durable leaves at once; cold records hold up one partition."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from core.commands import (
    Applied,
    Command,
    Done,
    Failed,
    Find,
    LogRead,
    Read,
    Rows,
    SystemScan,
    SystemWrite,
    Why,
)
from core.errors import CorruptionError, DurabilityError
from core.ports import Ticket
from lsm import keys
from lsm.commit import Commit, Unsynced
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Plan
from tests.lsm.support import (
    EVERYTHING,
    TABLES,
    Client,
    cell,
    check_tree,
    partition_slice,
    point_slice,
    row,
    store_on,
    token_slice,
)


def executor_on(engine: MemoryEngine, periodic: bool = False) -> Executor:
    return Executor(store_on(engine), Commit(periodic))


def names(released: list[tuple[Ticket, Any]]) -> list[Any]:
    return [ticket[0] for ticket, _ in released]


def synced(executor: Executor, engine: MemoryEngine) -> None:
    token = executor.begin_sync()
    assert token is not None
    engine.sync()
    executor.end_sync(token)


def test_a_read_of_what_is_not_durable_waits_and_others_do_not() -> None:
    """Counterexample 10: what a power cut could take back must not have been answered."""
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    executor.submit(("old",), client.put("old", cell(5, b"v")))
    executor.run()
    synced(executor, engine)
    executor.take_released()
    for name, command in (
        ("write", client.put("new", cell(5, b"v"))),
        ("read it", Read(point_slice("new"), False)),
        ("scan it", Read(partition_slice(), True)),
        ("scan all", Read(token_slice(), False)),
        ("read other", Read(point_slice("old"), False)),
    ):
        executor.submit((name,), command)
    executor.run()
    assert names(executor.take_released()) == ["read other"]
    synced(executor, engine)
    assert names(executor.take_released()) == ["write", "read it", "scan it", "scan all"]
    executor.submit(("read it",), Read(point_slice("new"), False))
    executor.run()
    assert names(executor.take_released()) == ["read it"]


def test_a_point_read_waits_for_the_tombstone_that_masks_it() -> None:
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    executor.submit(("put",), client.put("a", cell(5, b"v")))
    executor.run()
    synced(executor, engine)
    executor.submit(("delete",), client.delete_partition(9))
    executor.submit(("read",), Read(point_slice("a"), False))
    executor.run(2)
    assert names(executor.take_released()) == ["put"]
    synced(executor, engine)
    released = executor.take_released()
    assert names(released) == ["delete", "read"]
    assert isinstance(released[1][1], Rows) and released[1][1].rows == ()


def test_a_sync_covers_only_what_was_written_before_it_began() -> None:
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    executor.submit(("1",), client.put("a", cell(5, b"v")))
    executor.run()
    token = executor.begin_sync()
    assert token is not None and executor.begin_sync() is None
    executor.submit(("2",), client.put("b", cell(5, b"v")))
    executor.submit(("read b",), Read(point_slice("b"), False))
    executor.run()
    engine.finish_sync(token)
    executor.end_sync(token)
    assert names(executor.take_released()) == ["1"]
    assert engine.unsynced() == 1
    synced(executor, engine)
    assert names(executor.take_released()) == ["2", "read b"]
    assert executor.begin_sync() is None


def test_periodic_releases_at_once() -> None:
    executor = executor_on(MemoryEngine(), periodic=True)
    executor.submit(("w",), Client().put("a", cell(5, b"v")))
    executor.run()
    assert executor.take_released() == [(("w",), Applied(None, True))]
    assert executor.begin_sync() is not None


def test_a_failed_sync_releases_nothing_and_later_writes_raise() -> None:
    """Counterexample 45: unknown, never failed; the process ends."""
    engine = MemoryEngine()
    executor = executor_on(engine)
    executor.submit(("w",), SystemWrite(((b"a", b"b"),)))
    executor.run()
    engine.sync_fails = True
    assert executor.begin_sync() is not None
    with pytest.raises(DurabilityError):
        engine.sync()
    executor.submit(("w2",), SystemWrite(((b"a", b"c"),)))
    with pytest.raises(DurabilityError):
        executor.run()
    assert executor.take_released() == []


def test_a_refused_write_is_answered_without_a_sync() -> None:
    engine = MemoryEngine()
    executor = executor_on(engine)
    engine.disk_full = True
    executor.submit(("w",), SystemWrite(((b"a", b"b"),)))
    executor.run()
    assert [o.why for _, o in executor.take_released() if isinstance(o, Failed)] == [Why.DISK_FULL]
    engine.disk_full = False
    executor.submit(("w",), SystemWrite(((b"a", b"b"),)))
    executor.submit(("s",), SystemScan(b"", b"", 9, 99))
    executor.run()
    assert executor.take_released() == []
    synced(executor, engine)
    assert isinstance(executor.take_released()[0][1], Done)


def takes_no_writes(operation: str, _key: bytes) -> None:
    """As RocksDB after a compaction met a damaged block."""
    if operation == "write":
        raise CorruptionError("block checksum mismatch")


@pytest.mark.parametrize("why", [Why.DISK_FULL, Why.CORRUPT])
def test_who_wrote_or_saw_what_the_engine_refused_is_told_and_nobody_else(why: Why) -> None:
    """Point reads and writes share a batch; what it carried is gone, in the engine and in memory."""
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    store = executor.store
    executor.submit(("old",), client.put("old", cell(5, b"v")))
    executor.run()
    synced(executor, engine)
    executor.take_released()
    before, log_end = dict(engine.scan(b"", b"\xff")), store.log.end
    again = client.put("new", cell(6, b"v"))
    engine.disk_full = why == Why.DISK_FULL
    engine.hook = takes_no_writes if why == Why.CORRUPT else None
    for name, command in (
        ("write", again),
        ("repeat", again),
        ("read it", Read(point_slice("new"), False)),
        ("read other", Read(point_slice("old"), False)),
    ):
        executor.submit((name,), command)
    executor.run()
    outcomes = {ticket[0]: outcome for ticket, outcome in executor.take_released()}
    refused = {name for name, o in outcomes.items() if isinstance(o, Failed) and o.why == why}
    assert refused == {"write", "repeat", "read it"}
    assert isinstance(outcomes["read other"], Rows) and len(outcomes["read other"].rows) == 1
    assert dict(engine.scan(b"", b"\xff")) == before and store.log.end == log_end
    check_tree(store)
    assert bool(store.damaged) == (why == Why.CORRUPT)  # and so the process mends it
    engine.disk_full, engine.hook = False, None
    executor.submit(("write",), again)
    executor.submit(("read it",), Read(point_slice("new"), False))
    executor.run()
    assert executor.take_released() == []
    synced(executor, engine)
    (_, wrote), (_, found) = executor.take_released()
    assert wrote == Applied(None, True) and isinstance(found, Rows) and len(found.rows) == 1
    assert store.log.end == log_end + 1
    check_tree(store)


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "other", "delete", "read", "scan", "log"]), st.integers(0, 3)),
        max_size=12,
    ),
    st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_together_or_one_by_one_commands_come_out_alike(steps: list[tuple[str, int]], at_once: int) -> None:
    """Sharing a batch is no difference to what is stored, logged, summed up, or answered."""
    client = Client()
    commands: list[Command] = []
    for at, (what, n) in enumerate(steps):
        if what == "put":
            commands.append(client.put(f"{n}", cell(5 + at, b"v")))
        elif what == "other":
            rows = {client.suffix(f"{n}"): row(cell(5 + at, b"v"))}
            commands.append(client.mutation(rows, partition=b"q", token=6))
        elif what == "delete":
            commands.append(client.delete_range(f"{n}", "9", 5 + at))
        elif what == "log":
            commands.append(LogRead(0, 99, EVERYTHING))
        else:
            wanted = point_slice(f"{n}") if what == "read" else partition_slice()
            commands.append(Read(wanted, False))
    together, alone = executor_on(MemoryEngine(), periodic=True), store_on()
    answers = []
    for first in range(0, len(commands), at_once):
        for command in commands[first : first + at_once]:
            together.submit((), command)
        together.run(at_once)
        answers += [outcome for _, outcome in together.take_released()]
    assert answers == [alone.execute(command) for command in commands]
    assert dict(together.store.engine.scan(b"", b"\xff")) == dict(alone.engine.scan(b"", b"\xff"))
    check_tree(together.store)


def test_cold_records_hold_up_their_partition_only_and_keep_its_order() -> None:
    engine = MemoryEngine()
    executor = executor_on(engine, periodic=True)
    client = Client()
    cold = {point_slice("cold").first}
    engine.cold = cold.__contains__
    other = client.mutation({client.suffix("x"): row(cell(5, b"v"))}, partition=b"q", token=6)
    executor.submit(("1",), client.put("cold", cell(5, b"1")))
    executor.submit(("2",), Read(point_slice("warm"), False))
    executor.submit(("3",), client.put("cold", cell(6, b"2")))
    executor.submit(("4",), other)
    executor.run()
    assert names(executor.take_released()) == ["4"] and executor.queued == 3
    (fetch,) = executor.take_fetches()
    assert executor.take_fetches() == [] and not executor.ready
    engine.fetch(fetch.keys)
    executor.end_fetch(fetch)
    executor.submit(("5",), Read(point_slice("cold"), False))
    executor.run()
    assert names(executor.take_released()) == ["1", "2"]
    (fetch,) = executor.take_fetches()
    cold.clear()
    executor.end_fetch(fetch)
    executor.run()
    assert names(executor.take_released()) == ["3", "5"] and executor.queued == 0


def is_idle_with_work(executor: Executor) -> bool:
    return not executor.ready and executor.store.next_sweep() is not None


def test_what_waited_for_cold_records_while_its_range_was_given_up_is_refused() -> None:
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    engine.cold = lambda key: key.startswith(keys.ROW)
    for name in "ab":
        executor.submit((name,), client.put(name, cell(5, b"v")))
    executor.run()
    (fetch,) = executor.take_fetches()
    executor.store.owns = lambda table, token: False
    engine.cold = None
    executor.end_fetch(fetch)
    executor.run()
    refused = [outcome for _, outcome in executor.take_released()]
    assert [o.why for o in refused if isinstance(o, Failed)] == [Why.NOT_A_REPLICA] * 2
    assert engine.keys(keys.ROW, keys.successor(keys.ROW)) == []


def test_what_waits_behind_cold_records_is_looked_at_when_it_is_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not all of it whenever one of them goes on: there may be thousands."""
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    engine.cold = lambda key: key.startswith(keys.ROW)
    for number in range(50):
        executor.submit((number,), client.put("a", cell(5 + number, b"v")))
    plan, planned = executor.store.plan, Counter[Command]()

    def counted(command: Command) -> Plan:
        planned[command] += 1
        return plan(command)

    monkeypatch.setattr(executor.store, "plan", counted)
    executor.run()
    while fetches := executor.take_fetches():
        assert len(fetches) == 1 and executor.queued == 50 - fetches[0].number + 1
        executor.end_fetch(fetches[0])
        executor.run()
    assert max(planned.values()) <= 3 and executor.queued == 0
    synced(executor, engine)
    assert names(executor.take_released()) == list(range(50))


def test_idle_runs_sweep_and_a_full_disk_does_not_make_them_spin() -> None:
    engine = MemoryEngine()
    executor, client = executor_on(engine, periodic=True), Client()
    for i in range(3):
        executor.submit((i,), client.put(f"{i}", cell(5, b"v")))
    executor.submit(("d",), client.delete_partition(9))
    executor.run()
    assert executor.ready
    engine.disk_full = True
    executor.run()
    assert is_idle_with_work(executor)
    engine.disk_full = False
    executor.submit(("r",), Read(point_slice("0"), False))
    for _ in range(3):
        executor.run()
    assert executor.store.next_sweep() is None and not executor.ready


def test_what_a_refused_write_was_to_replace_is_no_more_durable_than_before() -> None:
    engine = MemoryEngine()
    executor, client = executor_on(engine), Client()
    executor.submit(("w",), client.put("x", cell(5, b"v")))
    executor.run()
    engine.disk_full = True
    executor.submit(("refused",), client.put("x", cell(6, b"w")))
    executor.submit(("r",), Read(point_slice("x"), False))
    executor.run()
    executor.submit(("later",), Read(point_slice("x"), False))
    executor.run()
    assert "later" not in names(executor.take_released())
    synced(executor, engine)
    assert "later" in names(executor.take_released())


@given(st.lists(st.tuples(st.sampled_from(["write", "sync", "read"]), st.sampled_from([b"a", b"b"]))))
@settings(max_examples=60)
def test_unsynced_names_are_forgotten_exactly_when_durable(steps: list[tuple[str, bytes]]) -> None:
    unsynced, model, sequence = Unsynced(), {b"a": 0, b"b": 0}, 0
    begun = 0
    for step, name in steps:
        if step == "write":
            sequence += 1
            unsynced.wrote([name], sequence)
            model[name] = sequence
        elif step == "sync":
            unsynced.on_synced(begun)
            model = {n: at if at > begun else 0 for n, at in model.items()}
            begun = sequence
        assert {n: unsynced.newest(n) for n in model} == model


def test_a_look_at_a_place_that_nobody_foresaw_fails_alone() -> None:
    """The next replica would be asked the same. Where nobody is told of it, in tests, it is raised."""
    look = Find(next(iter(TABLES)), 0, (), 2**64, 2**64, b"", b"", b"", 1, 1, 0)  # no such token
    engine = MemoryEngine()
    told: list[tuple[Command, type]] = []
    executor, client = executor_on(engine), Client()
    executor.submit(("look",), look)
    with pytest.raises(struct.error):
        executor.run()
    executor.on_bug = lambda command, error: told.append((command, type(error)))
    executor.submit(("write",), client.put("k", cell(5, b"v")))
    executor.submit(("look",), look)
    executor.submit(("read",), Read(point_slice("k"), False))
    executor.run()
    synced(executor, engine)
    outcomes = {ticket[0]: outcome for ticket, outcome in executor.take_released()}
    read, failed = outcomes["read"], outcomes["look"]
    assert isinstance(outcomes["write"], Applied) and isinstance(read, Rows) and len(read.rows) == 1
    assert isinstance(failed, Failed) and failed.why is Why.MALFORMED
    assert told == [(look, struct.error)]

