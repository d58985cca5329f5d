"""One list of operations, two engines, equal answers; and what a power cut leaves of the one in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from core.errors import CorruptionError, DiskFullError, DurabilityError, StallError
from core.ports import Engine
from lsm.memory import FailNth, MemoryEngine
from lsm.rocks import RocksEngine

KEYS = st.lists(st.sampled_from([b"\x00", b"a", b"b", b"\xff"]), min_size=1, max_size=3).map(b"".join)
VALUES = st.sampled_from([b"", b"1", b"2" * 3_000])
WRITE = st.tuples(st.just("write"), st.lists(st.tuples(KEYS, VALUES | st.none()), min_size=1, max_size=4))
LOOK = st.tuples(st.just("warm and get"), st.lists(KEYS, min_size=1, max_size=3))
OPERATIONS = st.one_of(
    st.tuples(st.just("group"), st.lists(WRITE | LOOK, max_size=4)),
    st.tuples(st.just("write"), st.lists(st.tuples(KEYS, VALUES | st.none()), min_size=1, max_size=4)),
    st.tuples(st.just("delete_range"), KEYS, KEYS),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("warm and get"), st.lists(KEYS, min_size=1, max_size=3)),
    st.tuples(st.just("fetch"), st.lists(KEYS, min_size=1, max_size=3)),
    st.tuples(st.just("scan"), KEYS, KEYS, st.booleans(), st.integers(0, 5)),
    st.tuples(st.just("sync")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("compact")),
    st.tuples(st.just("reopen")),
)


class Rocks:
    """A RocksDB engine that can be closed and opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = RocksEngine.open(path, lambda: 0)

    def reopen(self) -> None:
        self.engine.close()
        self.engine = RocksEngine.open(self.path, lambda: 0)


@contextmanager
def rocks() -> Iterator[Rocks]:
    with tempfile.TemporaryDirectory() as path:
        holder = Rocks(Path(path))
        try:
            yield holder
        finally:
            holder.engine.close()


def do(engine: Engine, operation: tuple[Any, ...]) -> Any:
    """What an engine answers, in a form that compares."""
    name, *arguments = operation
    if name == "write":
        return engine.write(arguments[0]) == engine.written()
    if name == "delete_range":
        return engine.delete_range(*arguments) >= 0
    if name == "get":
        return engine.get(arguments[0])
    if name == "warm and get":
        engine.warm(arguments[0])
        return [engine.get(key) for key in (*arguments[0], *arguments[0])]
    if name == "group":
        engine.begin_group()
        answers = [do(engine, operation) for operation in arguments[0]]
        inside = engine.written()
        engine.end_group()
        return answers, inside <= engine.written()
    if name == "fetch":
        engine.fetch(arguments[0])
        return engine.warm(arguments[0])
    if name == "scan":
        first, end, reverse, limit = arguments
        records = engine.scan(first, end, reverse)
        return [record for record, _ in zip(records, range(limit), strict=False)] if limit else list(records)
    if name == "sync":
        return engine.sync()
    return None


@given(st.lists(OPERATIONS, max_size=25))
@settings(max_examples=25, deadline=None)
def test_both_engines_answer_alike(operations: list[tuple[Any, ...]]) -> None:
    memory = MemoryEngine()
    with rocks() as holder:
        for operation in operations:
            if operation[0] == "flush":
                holder.engine.flush()
            elif operation[0] == "compact":
                holder.engine.compact()
            elif operation[0] == "reopen":
                written = holder.engine.written()
                holder.reopen()
                assert holder.engine.written() == written
            assert do(memory, operation) == do(holder.engine, operation), operation
        everything = do(memory, ("scan", b"", b"\xff\xff\xff\xff", False, 0))
        assert do(holder.engine, ("scan", b"", b"\xff\xff\xff\xff", False, 0)) == everything
        assert do(holder.engine, ("scan", b"", b"\xff\xff\xff\xff", True, 0)) == everything[::-1]
        assert holder.engine.health()["background_errors"] == 0


@given(st.lists(st.tuples(KEYS, VALUES | st.none()), min_size=1, max_size=12), st.data())
@settings(max_examples=80)
def test_a_power_cut_keeps_what_was_synced_and_any_prefix_after_it(
    writes: list[tuple[bytes, bytes | None]], data: st.DataObject
) -> None:
    engine = MemoryEngine()
    states: list[dict[bytes, bytes]] = [{}]
    token, covered = engine.begin_sync(), 0
    durable = 0
    for write in writes:
        engine.write([write])
        states.append(dict(engine.scan(b"", b"\xff\xff\xff\xff")))
        step = data.draw(st.sampled_from(["go on", "begin", "finish"]))
        if step == "begin":
            token, covered = engine.begin_sync(), len(states) - 1
        elif step == "finish":
            engine.finish_sync(token)
            durable = max(durable, covered)
    assert engine.unsynced() == len(states) - 1 - durable
    keep = data.draw(st.integers(0, engine.unsynced()))
    engine.crash(keep)
    assert dict(engine.scan(b"", b"\xff\xff\xff\xff")) == states[durable + keep]
    assert engine.synced() == engine.written() == durable + keep and engine.unsynced() == 0


def test_a_group_that_is_refused_leaves_nothing_and_hides_nothing() -> None:
    engine = MemoryEngine()
    engine.write([(b"a", b"1"), (b"b", b"2")])
    engine.begin_group()
    engine.write([(b"a", b"new"), (b"c", b"3")])
    engine.write([(b"b", None), (b"c", b"4")])
    assert [engine.get(key) for key in (b"a", b"b", b"c")] == [b"new", None, b"4"]
    engine.disk_full = True
    with pytest.raises(DiskFullError):
        engine.end_group()
    assert dict(engine.scan(b"", b"\xff")) == {b"a": b"1", b"b": b"2"} and engine.written() == 1


def test_a_power_cut_keeps_a_group_whole_or_not_at_all() -> None:
    for keep in (0, 1):
        engine = MemoryEngine()
        engine.begin_group()
        engine.write([(b"a", b"1")])
        engine.write([(b"b", b"2")])
        engine.end_group()
        assert engine.unsynced() == 1
        engine.crash(keep)
        assert len(engine.keys()) == 2 * keep


def test_faults_of_the_engine_in_memory() -> None:
    engine = MemoryEngine()
    engine.write([(b"a", b"1"), (b"b", b"2")])
    engine.damage(b"b")
    assert engine.get(b"a") == b"1"
    for reverse in (False, True):
        with pytest.raises(CorruptionError, match="62"):
            list(engine.scan(b"a", b"c", reverse))
    with pytest.raises(CorruptionError):
        engine.get(b"b")
    engine.write([(b"b", b"3")])
    assert engine.get(b"b") == b"3"
    engine.disk_full = True
    with pytest.raises(DiskFullError):
        engine.write([(b"a", None)])
    engine.disk_full = False
    engine.hook = FailNth("write", 2, StallError("busy"))
    engine.write([(b"c", b"")])
    with pytest.raises(StallError):
        engine.delete_range(b"a", b"z")
    assert len(engine.keys()) == 3
    engine.sync_fails = True
    with pytest.raises(DurabilityError):
        engine.sync()
    with pytest.raises(DurabilityError):
        engine.write([(b"d", b"")])
    engine.crash()
    assert engine.keys() == [] and engine.health()["records"] == 0
