"""What a replica keeps of Paxos for a range of tokens, page by page, and how another's is merged into ours.

A replica that is new to a range, or has lost something in it, must know what the others promised, accepted
and committed before it takes part: else a proposal that two of three accepted may be unknown to two of three.
It merges the state of so many others that every quorum it may have been part of shares one with them, *and
then* their rows (a commit is noted only with what it wrote), before it answers any step.

Merging takes the greater of each: promised, committed, the proposal accepted above what is committed, the
version of commits with the bytes of that commit. It is commutative, associative and idempotent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from core.commands import NO_BALLOT
from core.healing import PaxosMerge, PaxosPage, PaxosScan, PaxosState
from lsm import keys
from lsm.paxos import EMPTY, PaxosRecord, decode_record, encode_record

if TYPE_CHECKING:
    from core.ports import Engine

Puts = list[tuple[bytes, bytes | None]]


def paxos_page(engine: Engine, wanted: PaxosScan) -> PaxosPage:
    """The state of the partitions that follow. Raises CorruptionError for damaged bytes."""
    first, end = keys.paxos_bounds(keys.PAXOS, wanted.table, wanted.first_token, wanted.last_token)
    if wanted.after:
        first = keys.successor(keys.paxos_key(wanted.after, b""))
    found: list[PaxosState] = []
    size = 0
    ballots: dict[bytes, bytes] = {}
    more = False
    for key, value in engine.scan(first, end):
        partition = keys.partition_of_paxos(key)
        if partition not in ballots and (len(ballots) >= wanted.rows_max or size >= wanted.bytes_max):
            more = True
            break
        ballots.setdefault(partition, b"")
        if key.endswith(keys.PAXOS_RECORD):
            ballots[partition] = value
        size += len(key) + len(value)
    for partition, record in ballots.items():
        proposal = engine.get(keys.paxos_key(partition, keys.PAXOS_PROPOSAL)) or b""
        commit = engine.get(keys.paxos_key(partition, keys.PAXOS_COMMIT)) or b""
        if record:
            found.append(PaxosState(partition, record, proposal, commit))
    after = next(reversed(ballots)) if more else b""
    return PaxosPage(tuple(found), after)


def paxos_merged(engine: Engine, command: PaxosMerge) -> Puts:
    """What to write so that ours knows all that these states say. Raises CorruptionError for bytes that are
    no
    state.
    """
    puts: Puts = []
    for state in command.states:
        key = keys.paxos_key(state.partition, keys.PAXOS_RECORD)
        stored = engine.get(key)
        ours = EMPTY if stored is None else decode_record(key, stored)
        theirs = decode_record(key, state.ballots)
        accepted = max(ours.accepted, theirs.accepted)
        committed = max(ours.committed, theirs.committed)
        if accepted <= committed:
            accepted = NO_BALLOT
        merged = PaxosRecord(
            max(ours.promised, theirs.promised), accepted, committed, max(ours.version, theirs.version)
        )
        if merged == ours:
            continue
        puts.append((key, encode_record(merged)))
        slot = keys.paxos_key(state.partition, keys.PAXOS_PROPOSAL)
        if accepted == NO_BALLOT and ours.accepted != NO_BALLOT:
            puts.append((slot, None))
        elif accepted > ours.accepted:
            puts.append((slot, state.proposal))
        if theirs.version > ours.version and state.commit:
            puts.append((keys.paxos_key(state.partition, keys.PAXOS_COMMIT), state.commit))
    return puts


def no_fault(states: tuple[PaxosState, ...]) -> bool:
    """Whether these decode: they may come from a damaged peer, or a newer one."""
    try:
        for state in states:
            msgspec.msgpack.decode(state.ballots, type=PaxosRecord)
            if keys.prefix_end(state.partition) != len(state.partition):
                return False
    except (msgspec.DecodeError, ValueError):
        return False
    return True
