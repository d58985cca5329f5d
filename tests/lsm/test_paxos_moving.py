"""What a replica keeps of Paxos, page by page, and how another's is merged into it."""

from __future__ import annotations

from random import Random

from core.commands import (
    NO_BALLOT,
    Done,
    Failed,
    PaxosAccept,
    PaxosCommit,
    PaxosPrepare,
    PaxosRefused,
    Promised,
    Why,
)
from core.healing import PaxosMerge, PaxosPage, PaxosScan, PaxosState
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Row
from lsm import keys
from lsm.memory import MemoryEngine
from lsm.store import Store
from ring.tokens import token_of
from tests.lsm.support import PLAIN, TABLES, cell

NAMES = [f"p{number}".encode() for number in range(12)]


def prefix(name: bytes) -> bytes:
    return keys.partition_prefix(PLAIN.id, token_of(name), name)


def proposal(name: bytes, at: int) -> bytes:
    rows = ((keys.ROW_SUFFIX, Row(None, (cell(at, b"v%d" % at),))),)
    return encode_mutation(Mutation(7, at, 0, at, True, UPDATE, PLAIN.id, token_of(name), name, None, rows))


def random_store(seed: int) -> Store:
    """Steps at random, as rivals would take them."""
    draw, store = Random(seed), Store(MemoryEngine(), TABLES.get)
    for at in range(1, 80):
        name, ballot = draw.choice(NAMES), (draw.randint(1, 80), draw.randint(1, 3))
        dice = draw.randrange(3)
        if dice == 0:
            store.execute(PaxosPrepare(PLAIN.id, prefix(name), ballot, ()))
        elif dice == 1:
            store.execute(PaxosAccept(PLAIN.id, prefix(name), ballot, proposal(name, at)))
        else:
            store.execute(PaxosCommit(PLAIN.id, prefix(name), ballot, proposal(name, at)))
    return store


def states(store: Store, rows_max: int = 1_000) -> tuple[PaxosState, ...]:
    found: list[PaxosState] = []
    after = b""
    while True:
        scan = PaxosScan(PLAIN.id, keys.TOKEN_MIN, keys.TOKEN_MAX, after, rows_max, 10**6)
        outcome = store.execute(scan)
        assert isinstance(outcome, PaxosPage)
        found += outcome.states
        after = outcome.after
        if not after:
            return tuple(found)


def look(store: Store, name: bytes) -> Promised:
    outcome = store.execute(PaxosPrepare(PLAIN.id, prefix(name), NO_BALLOT, ()))
    assert isinstance(outcome, Promised)
    return outcome


def test_pages_hold_each_partition_once_whatever_their_size() -> None:
    store = random_store(1)
    assert states(store, 1) == states(store, 5) == states(store)
    assert len({state.partition for state in states(store)}) == len(states(store))


def test_whoever_merged_another_keeps_what_that_one_promised_accepted_and_committed() -> None:
    for seed in range(40):
        one, other = random_store(seed), random_store(seed + 1_000)
        before = {name: (look(one, name), look(other, name)) for name in NAMES}
        assert one.execute(PaxosMerge(PLAIN.id, states(other))) == Done()
        for name, (a, b) in before.items():
            now = look(one, name)
            assert now.before == max(a.before, b.before)
            assert now.committed == max(a.committed, b.committed)
            assert now.version == max(a.version, b.version)
            accepted = max(a.accepted, b.accepted)
            assert now.accepted == (accepted if accepted > now.committed else NO_BALLOT)
            if now.accepted != NO_BALLOT:
                assert now.proposal == (a if a.accepted == accepted else b).proposal
            assert (now.accepted == NO_BALLOT) == (not now.proposal)
            if now.before != NO_BALLOT:
                late = PaxosPrepare(PLAIN.id, prefix(name), now.before, ())
                assert isinstance(one.execute(late), PaxosRefused)
        merged = states(one)
        assert one.execute(PaxosMerge(PLAIN.id, states(other))) == Done()
        assert states(one) == merged


def test_what_is_no_state_is_refused() -> None:
    store = Store(MemoryEngine(), TABLES.get)
    for state in (PaxosState(prefix(b"p"), b"\xc1", b"", b""), PaxosState(b"R", b"", b"", b"")):
        outcome = store.execute(PaxosMerge(PLAIN.id, (state,)))
        assert isinstance(outcome, Failed) and outcome.why is Why.MALFORMED
