"""Paxos at one replica: what each step answers, and what is left of it after any crash."""

from __future__ import annotations

import msgspec
import pytest

from core.cell import NO_VERSION
from core.commands import (
    NO_BALLOT,
    Applied,
    Apply,
    Ballot,
    Failed,
    Outcome,
    PaxosAccept,
    PaxosAccepted,
    PaxosCommit,
    PaxosFetch,
    PaxosFetched,
    PaxosPrepare,
    PaxosRefused,
    Promised,
    Why,
)
from core.mutation import decode_mutation, encode_mutation
from lsm import keys, writing
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.paxos import PROPOSAL_BYTES_TOLD_MAX
from lsm.store import Store
from tests.lsm.support import PLAIN, WIDE, Client, cell, point_slice, read, store_on, stored

P = keys.partition_prefix(WIDE.id, 5, b"p")
B1, B2, B3 = (10, 1), (10, 2), (20, 1)


def prepare(store: Store, ballot: Ballot, *names: str, ids: tuple[tuple[int, int, int], ...] = ()) -> Outcome:
    return store.execute(PaxosPrepare(WIDE.id, P, ballot, tuple(point_slice(name) for name in names), ids))


def promised(store: Store, ballot: Ballot, *names: str) -> Promised:
    outcome = prepare(store, ballot, *names)
    assert isinstance(outcome, Promised), outcome
    return outcome


def accept(store: Store, ballot: Ballot, proposal: bytes = b"") -> Outcome:
    return store.execute(PaxosAccept(WIDE.id, P, ballot, proposal))


def commit(store: Store, ballot: Ballot, mutation: bytes = b"") -> Outcome:
    return store.execute(PaxosCommit(WIDE.id, P, ballot, mutation))


def test_a_promise_holds_against_lower_and_equal_ballots_and_comes_with_the_rows() -> None:
    store, client = store_on(), Client()
    store.execute(client.put("a", cell(5, b"v")))
    first = promised(store, B2, "a", "b")
    assert first.before == first.accepted == first.committed == NO_BALLOT
    assert first.version == NO_VERSION
    assert [len(rows.rows) for rows in first.rows] == [1, 0]
    for ballot in (B1, B2):
        assert prepare(store, ballot) == PaxosRefused(B2, NO_BALLOT)
    assert accept(store, B1, client.put("a", cell(9, b"x")).mutation) == PaxosRefused(B2, NO_BALLOT)
    assert promised(store, B3).before == B2


def test_a_look_promises_and_writes_nothing() -> None:
    store = store_on()
    before = store.engine.written()
    assert promised(store, NO_BALLOT).before == NO_BALLOT
    assert store.engine.written() == before
    assert isinstance(prepare(store, B1), Promised)
    assert promised(store, NO_BALLOT).before == B1


def test_what_is_accepted_is_told_and_what_is_committed_is_applied_once() -> None:
    store, client = store_on(), Client()
    put = client.put("a", cell(50, b"v"))
    assert isinstance(accept(store, B1, put.mutation), PaxosAccepted)
    assert read(store, point_slice("a")).rows == ()
    told = promised(store, B2)
    assert (told.before, told.accepted, told.committed, told.proposal) == (B1, B1, NO_BALLOT, put.mutation)
    assert isinstance(accept(store, B2, put.mutation), PaxosAccepted)
    assert commit(store, B2, put.mutation) == Applied(None, fresh=True)
    assert commit(store, B2, put.mutation) == Applied(None, fresh=False)
    assert commit(store, B1, put.mutation) == Applied(None, fresh=False)  # a late one
    told = promised(store, B3)
    assert (told.accepted, told.committed, told.proposal) == (NO_BALLOT, B2, b"")
    assert told.version == (50, 7)
    assert store.log.end == 1
    assert accept(store, B2, put.mutation) == PaxosRefused(B3, B2)


def test_a_commit_that_was_followed_first_still_notes_its_ballot() -> None:
    store, client = store_on(), Client()
    put = client.put("a", cell(50, b"v"))
    store.execute(put)
    told = prepare(store, NO_BALLOT, ids=(decode_mutation(put.mutation).id, (1, 2, 3)))
    assert isinstance(told, Promised) and told.holds == (True, False)
    assert commit(store, B1, put.mutation) == Applied(None, fresh=False)
    assert promised(store, NO_BALLOT).committed == B1
    assert store.log.end == 1


def test_a_commit_at_a_replica_that_promised_nothing_refuses_older_ballots() -> None:
    store, client = store_on(), Client()
    commit(store, B2, client.put("a", cell(50, b"v")).mutation)
    late = client.put("a", cell(60, b"x")).mutation
    for step in (prepare(store, B1), accept(store, B1, late), prepare(store, B2), accept(store, B2, late)):
        assert step == PaxosRefused(B2, B2)


def test_what_could_never_be_committed_is_not_accepted() -> None:
    """Else it might be decided, and everybody after it would have it to finish first, for ever."""
    store, client = store_on(), Client()
    good = decode_mutation(client.put("a", cell(50, b"v")).mutation)
    strange = msgspec.structs.replace(good, rows=((b"\x09", good.rows[0][1]),))
    for proposal in (b"x", encode_mutation(strange)):
        outcome = accept(store, B1, proposal)
        assert isinstance(outcome, Failed) and outcome.why is Why.MALFORMED, outcome
    assert promised(store, NO_BALLOT).accepted == NO_BALLOT


def test_what_is_decided_is_applied_though_it_is_a_range_tombstone_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "RANGE_TOMBSTONES_MAX", 2)
    store, client = store_on(), Client()
    for first in "ac":
        assert isinstance(store.execute(client.delete_range(first, first + "a", 40)), Applied)
    proposal = client.delete_range("e", "ea", 50).mutation
    plain = store.execute(Apply(proposal))
    assert isinstance(plain, Failed) and plain.why is Why.TOO_LARGE
    assert accept(store, B1, proposal) == PaxosAccepted()
    assert commit(store, B1, proposal) == Applied(None, fresh=True)
    assert promised(store, NO_BALLOT).accepted == NO_BALLOT


def test_a_newer_acceptance_outlives_an_older_commit() -> None:
    store, client = store_on(), Client()
    old, new = client.put("a", cell(50, b"v")), client.put("a", cell(60, b"w"))
    accept(store, B3, new.mutation)
    commit(store, B1, old.mutation)
    told = promised(store, NO_BALLOT)
    assert (told.accepted, told.committed, told.proposal) == (B3, B1, new.mutation)


def test_an_empty_proposal_ends_all_before_it() -> None:
    store, client = store_on(), Client()
    accept(store, B1, client.put("a", cell(50, b"v")).mutation)
    assert isinstance(accept(store, B2), PaxosAccepted)
    told = promised(store, NO_BALLOT)
    assert (told.accepted, told.committed, told.before) == (NO_BALLOT, B2, B2)
    assert accept(store, B2) == PaxosRefused(B2, B2)
    assert len(stored(store, keys.PAXOS)) == 1


def test_bytes_are_fetched_under_their_ballot_alone() -> None:
    store, client = store_on(), Client()
    old, new = client.put("a", cell(50, b"v")), client.put("a", cell(60, b"w"))
    commit(store, B1, old.mutation)
    accept(store, B2, new.mutation)

    def fetch(ballot: Ballot, committed: bool) -> bytes | None:
        outcome = store.execute(PaxosFetch(WIDE.id, P, ballot, committed))
        assert isinstance(outcome, PaxosFetched)
        return outcome.data

    assert fetch(B1, True) == old.mutation
    assert fetch(B2, False) == new.mutation
    assert fetch(B2, True) is fetch(B1, False) is None
    accept(store, B3)
    assert fetch(B3, True) == old.mutation  # the last that changed anything
    assert store.execute(
        PaxosFetch(WIDE.id, keys.partition_prefix(2, 5, b"q"), NO_BALLOT, True)
    ) == PaxosFetched(b"")


def test_a_large_proposal_does_not_come_with_the_promise() -> None:
    store, client = store_on(), Client()
    accept(store, B1, client.put("a", cell(50, b"v" * PROPOSAL_BYTES_TOLD_MAX)).mutation)
    told = promised(store, B2)
    assert (told.accepted, told.proposal) == (B1, b"")


def test_partitions_and_tables_do_not_know_each_other() -> None:
    store = store_on()
    promised(store, B3)
    other = keys.partition_prefix(WIDE.id, 5, b"p\x00")
    assert isinstance(store.execute(PaxosPrepare(WIDE.id, other, B1, ())), Promised)
    plain = keys.partition_prefix(PLAIN.id, 5, b"p")
    assert isinstance(store.execute(PaxosPrepare(PLAIN.id, plain, B1, ())), Promised)


@pytest.mark.parametrize("keep", [False, True])
def test_a_step_leaves_only_when_it_is_durable_and_is_whole_after_a_power_cut(keep: bool) -> None:
    engine = MemoryEngine()
    executor = Executor(store_on(engine), Commit())
    client = Client()
    put = client.put("a", cell(50, b"v"))
    executor.submit(("p",), PaxosPrepare(WIDE.id, P, B1, (point_slice("a"),)))
    executor.submit(("a",), PaxosAccept(WIDE.id, P, B1, put.mutation))
    executor.submit(("c",), PaxosCommit(WIDE.id, P, B1, put.mutation))
    executor.submit(("l",), PaxosPrepare(WIDE.id, P, NO_BALLOT, ()))
    executor.run()
    assert executor.take_released() == []
    if keep:
        sequence = executor.begin_sync()
        assert sequence is not None
        engine.sync()
        executor.end_sync(sequence)
        assert [ticket for ticket, _ in executor.take_released()] == [("p",), ("a",), ("c",), ("l",)]
    engine.crash(keep=0)
    after = store_on(engine)
    told = promised(after, NO_BALLOT)
    assert told.committed == (B1 if keep else NO_BALLOT)
    assert len(read(after, point_slice("a")).rows) == after.log.end == int(keep)


def test_every_prefix_of_what_was_written_is_a_state_that_was() -> None:
    for cut in range(5):
        engine = MemoryEngine()
        store, client = store_on(engine), Client()
        put = client.put("a", cell(50, b"v"))
        engine.sync()
        promised(store, B1)
        accept(store, B1, put.mutation)
        commit(store, B1, put.mutation)
        accept(store, B2)
        engine.crash(keep=min(cut, engine.unsynced()))
        after = store_on(engine)
        told = promised(after, NO_BALLOT)
        states = [
            (NO_BALLOT, NO_BALLOT),
            (NO_BALLOT, NO_BALLOT),
            (B1, NO_BALLOT),
            (NO_BALLOT, B1),
            (NO_BALLOT, B2),
        ]
        assert (told.accepted, told.committed) == states[cut]
        assert len(read(after, point_slice("a")).rows) == (cut >= 3)


def test_steps_keep_their_place_among_the_commands_of_their_partition() -> None:
    store, client = store_on(), Client()
    put = client.put("a", cell(50, b"v"))
    assert isinstance(put, Apply)
    for step in (
        PaxosPrepare(WIDE.id, P, B1, ()),
        PaxosAccept(WIDE.id, P, B1, put.mutation),
        PaxosCommit(WIDE.id, P, B1, put.mutation),
        PaxosFetch(WIDE.id, P, B1, True),
    ):
        assert store.plan(step).order == store.plan(put).order == P
        assert keys.paxos_key(P, keys.PAXOS_RECORD) in store.needs(step)


def test_what_is_malformed_is_refused_and_damage_is_not_absence() -> None:
    store, client = store_on(), Client()
    put = client.put("a", cell(50, b"v")).mutation
    elsewhere = keys.partition_prefix(WIDE.id, 5, b"q")
    for step in (
        PaxosPrepare(WIDE.id, P[:-1], B1, ()),
        PaxosPrepare(WIDE.id, b"", B1, ()),
        PaxosPrepare(PLAIN.id, P, B1, ()),
        PaxosPrepare(WIDE.id, elsewhere, B1, (point_slice("a"),)),
        PaxosCommit(WIDE.id, elsewhere, B1, put),
        PaxosCommit(WIDE.id, P, B1, b"\x00"),
    ):
        outcome = store.execute(step)
        assert isinstance(outcome, Failed) and outcome.why is Why.MALFORMED, step
    missing = store.execute(PaxosPrepare(99, keys.partition_prefix(99, 5, b"p"), B1, ()))
    assert isinstance(missing, Failed) and missing.why is Why.NO_TABLE
    store.engine.write([(keys.paxos_key(P, keys.PAXOS_RECORD), b"\xc1")])
    damaged = prepare(store, B1)
    assert isinstance(damaged, Failed) and damaged.why is Why.CORRUPT
