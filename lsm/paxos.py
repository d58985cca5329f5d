"""Paxos at one replica: what a partition has promised, accepted and committed, as steps of the store.

Per partition of a table there is a record (promised, accepted and committed ballot, the greatest version that
a commit had) and, beside it, the bytes of the proposal that is accepted and of the last commit. They live in
a region of their own in the order of the rows, so a token range of them is one contiguous scan, and are
written in the batch of whatever goes with them: a commit applies its mutation, logs it and notes its ballot
in one.

There is one chain of ballots per partition, not one instance per update: a ballot that is committed ends all
before it. Three rules keep it right.

- Nothing is promised or accepted at or below a committed ballot, nor accepted below a promised one.
- A proposal that is accepted and newer than the last commit may have been decided; whoever sees it in a
  quorum finishes it.
- An empty proposal, once accepted, is committed: its proposer saw a quorum in which nothing was left to
  finish, so what is below its ballot and not decided by now can never be.

(Lamport, Paxos Made Simple, 2001; one register per partition as in Cassandra's lightweight transactions.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from core.cell import NO_VERSION, Version
from core.commands import (
    NO_BALLOT,
    Ballot,
    Outcome,
    PaxosAccept,
    PaxosAccepted,
    PaxosCommit,
    PaxosFetch,
    PaxosFetched,
    PaxosPrepare,
    PaxosRefused,
    Promised,
    Slice,
)
from core.errors import CorruptionError
from core.limits import KIB
from core.row import newest_version
from lsm import keys
from lsm.reading import read_slice

if TYPE_CHECKING:
    from core.mutation import Mutation
    from core.ports import Engine
    from lsm.commit import Unsynced
    from lsm.writing import Info, Writer

PROPOSAL_BYTES_TOLD_MAX = 16 * KIB
"""An accepted proposal up to this size comes with the promise."""

Puts = list[tuple[bytes, bytes | None]]


class PaxosRecord(msgspec.Struct, frozen=True, array_like=True):
    """What one partition's replica must not forget. `accepted` is above `committed`, or NO_BALLOT."""

    promised: Ballot
    accepted: Ballot
    committed: Ballot
    version: Version


EMPTY = PaxosRecord(NO_BALLOT, NO_BALLOT, NO_BALLOT, NO_VERSION)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PaxosRecord)


def check_record(key: bytes, value: bytes) -> None:
    """Raises CorruptionError for a record of ballots that is none; the others are not looked at."""
    if key.endswith(keys.PAXOS_RECORD) and key.startswith(keys.PAXOS):
        decode_record(key, value)


def encode_record(record: PaxosRecord) -> bytes:
    """The value of a record of ballots."""
    return _encoder.encode(record)


def decode_record(key: bytes, data: bytes) -> PaxosRecord:
    """The ballots kept at this key; raises CorruptionError for bytes that are none."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise CorruptionError(f"Paxos record {key.hex()} does not decode: {error}") from error


def mutation_version(mutation: Mutation) -> Version:
    """The greatest version in a mutation."""
    version = max((newest_version(row) for _, row in mutation.rows), default=NO_VERSION)
    header = mutation.header
    if header is not None:
        tombstones = (*header.ranges, *((header.deletion,) if header.deletion else ()))
        version = max([version, *(tombstone.version for tombstone in tombstones)])
    return version


def needs(step: PaxosPrepare | PaxosAccept | PaxosCommit | PaxosFetch, has_clustering: bool) -> list[bytes]:
    """The records that a step reads one by one (a commit also those of its mutation)."""
    found = [keys.paxos_key(step.partition, keys.PAXOS_RECORD)]
    if isinstance(step, PaxosPrepare):
        found += [part.first for part in step.slices if part.point]
        if has_clustering and step.slices:
            found.append(step.partition + keys.HEADER_SUFFIX)
        found += [keys.mutation_id_key(mutation_id) for mutation_id in step.ids]
    return found


class PaxosSteps:
    """The steps, on one engine."""

    def __init__(
        self,
        engine: Engine,
        unsynced: Unsynced,
        writer: Writer,
        newest_in: Callable[[Slice, bool], int],
    ) -> None:
        """`newest_in` says on which sequence number reading a slice depends."""
        self._engine = engine
        self._unsynced = unsynced
        self._writer = writer
        self._newest_in = newest_in

    def prepare(self, step: PaxosPrepare, has_clustering: bool) -> tuple[Outcome, int]:
        """Promise, and read; or only look, with NO_BALLOT."""
        key, record = self._record(step.partition)
        ballot = step.ballot
        if ballot != NO_BALLOT and ballot <= max(record.promised, record.committed):
            return self._refused(key, record)
        rows = tuple(read_slice(self._engine, part, has_clustering) for part in step.slices)
        holds = tuple(self._engine.get(keys.mutation_id_key(one)) is not None for one in step.ids)
        promised = Promised(
            record.promised,
            record.accepted,
            record.committed,
            record.version,
            holds,
            rows,
            self._small_proposal(step.partition, record),
        )
        if ballot != NO_BALLOT:
            return promised, self._keep(key, msgspec.structs.replace(record, promised=ballot))
        read = [self._newest_in(part, has_clustering) for part in step.slices]
        return promised, max([self._unsynced.newest(key), *read])

    def accept(self, step: PaxosAccept) -> tuple[Outcome, int]:
        """Accept a proposal; an empty one is a commit of nothing."""
        key, record = self._record(step.partition)
        ballot = step.ballot
        if ballot < record.promised or ballot <= record.committed:
            return self._refused(key, record)
        proposal = keys.paxos_key(step.partition, keys.PAXOS_PROPOSAL)
        if step.proposal:
            record = msgspec.structs.replace(record, promised=ballot, accepted=ballot)
            return PaxosAccepted(), self._keep(key, record, [(proposal, step.proposal)])
        beside: Puts = [(proposal, None)] if record.accepted != NO_BALLOT else []
        record = msgspec.structs.replace(record, promised=ballot, accepted=NO_BALLOT, committed=ballot)
        return PaxosAccepted(), self._keep(key, record, beside)

    def commit(self, step: PaxosCommit, mutation: Mutation | None, info: Info) -> tuple[Outcome, int]:
        """Apply a decided mutation (None: it was empty), and note its ballot unless a later one is."""
        key, record = self._record(step.partition)
        puts: Puts = []
        if step.ballot > record.committed:
            version, accepted = record.version, record.accepted
            if mutation is not None and mutation_version(mutation) >= version:
                version = mutation_version(mutation)
                puts.append((keys.paxos_key(step.partition, keys.PAXOS_COMMIT), step.mutation))
            if NO_BALLOT < accepted <= step.ballot:
                accepted = NO_BALLOT
                puts.append((keys.paxos_key(step.partition, keys.PAXOS_PROPOSAL), None))
            promised = max(record.promised, step.ballot)
            puts.append((key, _encoder.encode(PaxosRecord(promised, accepted, step.ballot, version))))
        return self._writer.apply_beside(mutation, step.mutation, info, step.partition, beside=puts)

    def fetch(self, step: PaxosFetch) -> tuple[Outcome, int]:
        """The bytes that are kept under this very ballot."""
        key, record = self._record(step.partition)
        depends_on = self._unsynced.newest(key)
        if step.ballot != (record.committed if step.committed else record.accepted):
            return PaxosFetched(None), depends_on
        slot = keys.PAXOS_COMMIT if step.committed else keys.PAXOS_PROPOSAL
        return PaxosFetched(self._engine.get(keys.paxos_key(step.partition, slot)) or b""), depends_on

    def _small_proposal(self, partition: bytes, record: PaxosRecord) -> bytes:
        if record.accepted == NO_BALLOT:
            return b""
        data = self._engine.get(keys.paxos_key(partition, keys.PAXOS_PROPOSAL)) or b""
        return data if len(data) <= PROPOSAL_BYTES_TOLD_MAX else b""

    def _record(self, partition: bytes) -> tuple[bytes, PaxosRecord]:
        key = keys.paxos_key(partition, keys.PAXOS_RECORD)
        data = self._engine.get(key)
        return key, EMPTY if data is None else decode_record(key, data)

    def _refused(self, key: bytes, record: PaxosRecord) -> tuple[Outcome, int]:
        return PaxosRefused(record.promised, record.committed), self._unsynced.newest(key)

    def _keep(self, key: bytes, record: PaxosRecord, beside: Puts | None = None) -> int:
        sequence = self._engine.write([*(beside or ()), (key, _encoder.encode(record))])
        self._unsynced.wrote((key,), sequence)
        return sequence
