"""What peers say to each other, and the one codec for it (msgpack, tagged by a small number, array-like).

Messages about data carry `op`, which is the coordinator's number for the operation (never reused, restarts
included), and `epoch`, the metadata epoch under which it was planned. A replica behind that epoch pulls and
then serves; a coordinator behind one that touched this table is refused with `Stale`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core.bulk_messages import ApplyEach, ApplyMutations, MutationsTold
from core.cell import Version
from core.commands import Find, LogEntryId, LoggedChange, PaxosOutcome, PaxosStep, Slice
from core.finding import Check, Piece
from core.healing_messages import (
    BoundAsk,
    BoundTold,
    FloorAsk,
    FloorTold,
    FloorWanted,
    PaxosStateAsk,
    PaxosStateTold,
    Repair,
    RowsAsk,
    RowsTold,
    TreeAnswer,
    TreeAsk,
)
from core.lag import AskLag, LagTold
from core.metadata import Entry, Epoch, Proposal
from core.moving_messages import FloorsAsk, FloorsTold, MoveAsk, MoveTold, TailAsk
from core.ports import PeerId
from core.recovery_messages import RecoverAsk, RecoverTold
from core.row import Passed

PROTOCOL_VERSIONS = (1, 1)
"""The oldest and the newest protocol version spoken; of two peers the lower newest is used."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first frame in each direction of a connection."""

    oldest: int
    newest: int
    cluster_name: str
    cluster: bytes
    peer: PeerId
    start: int
    name: str
    address: str
    datacentre: str
    rack: str
    epoch: int
    generation: int = 0
    lineage: bytes = b""
    """How often the metadata was recovered, and the digest of the state that the last time led to."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer to a hello that is not accepted; `final` says that trying again cannot help.

    `code` is a stable word (node/identity.py); some say that the one refused must not serve at all.
    """

    reason: str
    final: bool
    code: str = ""


# --- membership (SWIM)


class Rumour(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is said of a peer: state 0 alive, 1 suspect, 2 dead, with the incarnation it speaks of.

    An incarnation is (start counter, refutations) in one number, so a restart refutes everything said before.
    `by` is the number of the peer that suspects.
    """

    number: int
    state: int
    incarnation: int
    by: int


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Are you there? Answered with PingAck; `target` guards against an address that changed hands."""

    sequence: int
    target: int
    epoch: int
    rumours: tuple[Rumour, ...]


class PingAck(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """I am here."""

    sequence: int
    epoch: int
    rumours: tuple[Rumour, ...]


class PingRequest(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Ping `target` for me: answered with PingAck, or PingNack after a while (Lifeguard)."""

    sequence: int
    target: int
    epoch: int
    rumours: tuple[Rumour, ...]


class PingNack(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """I am here, but the peer that you asked me to ping is silent."""

    sequence: int


# --- metadata log


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Phase 1 for epoch `number`; ballots are round << 32 | peer's rank, compared as integers.

    `lost`, if any, are members that are given up (node/recovery.py).
    """

    number: int
    ballot: int
    lost: tuple[PeerId, ...] = ()


class Promise(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """A promise, with what was accepted before (`accepted_ballot` 0: nothing)."""

    number: int
    ballot: int
    accepted_ballot: int
    accepted: Entry | None


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Phase 2; `lost` as in phase 1."""

    number: int
    ballot: int
    entry: Entry
    lost: tuple[PeerId, ...] = ()


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """This entry is accepted under this ballot, durably."""

    number: int
    ballot: int


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """Not promised or accepted: `ballot` was promised to another.

    Or the epoch is decided already (`decided`).
    """

    number: int
    ballot: int
    decided: Epoch | None


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """Epochs in order, from a pull or as news."""

    epochs: tuple[Epoch, ...]


class Pull(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """Send me the epochs after this one."""

    after: int


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=28):
    """Have this decided, voter. Repeated until the proposer sees an epoch with it."""

    proposals: tuple[Proposal, ...]


# --- data


class ApplyMutation(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """Apply a mutation (core.mutation bytes).

    `left_us` is how much longer its coordinator waits (0: unknown): a remaining time, as clocks differ.
    """

    op: int
    epoch: int
    table: int
    mutation: bytes
    left_us: int = 0


class MutationApplied(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """It is durable here; `newer` as in commands.Applied."""

    op: int
    newer: Version | None


class MutationsApplied(msgspec.Struct, frozen=True, array_like=True, tag=57):
    """What a sync made durable, told to its coordinator at once: a MutationApplied for each, with no `newer`.

    Transports join these, and take them apart; nodes neither send nor get them.
    """

    ops: tuple[int, ...]


class ReadSlice(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """Read a slice, or its digest; `left_us` as in ApplyMutation."""

    op: int
    epoch: int
    slice: Slice
    digest: bool
    left_us: int = 0


class SliceRead(msgspec.Struct, frozen=True, array_like=True, tag=43):
    """The rows of a slice, as in commands.Rows."""

    op: int
    rows: tuple[tuple[bytes, bytes], ...]
    header: bytes | None
    more: bool
    settled_us: int = 0
    passed: tuple[Passed, ...] = ()


class DigestRead(msgspec.Struct, frozen=True, array_like=True, tag=44):
    """The digest of a slice."""

    op: int
    digest: bytes


class Stale(msgspec.Struct, frozen=True, array_like=True, tag=46):
    """Not done: the operation was planned before an epoch that touched its table.

    The epochs it lacks come along.
    """

    op: int
    epochs: tuple[Epoch, ...]


class OperationFailed(msgspec.Struct, frozen=True, array_like=True, tag=47):
    """Not done (or, for why "unknown", perhaps).

    Commands.Why, or "overloaded", "not_a_replica", "no_such_table". `floor_us` as in commands.Failed.
    """

    op: int
    why: str
    detail: str
    floor_us: int = 0


# --- conditional updates


class PaxosAsk(msgspec.Struct, frozen=True, array_like=True, tag=50):
    """Do a step of a conditional update.

    Prepare and accept of a ballot carry one epoch. Answered with PaxosTold, a commit with MutationApplied.
    """

    op: int
    epoch: int
    step: PaxosStep


class PaxosTold(msgspec.Struct, frozen=True, array_like=True, tag=51):
    """What came of it, durably."""

    op: int
    outcome: PaxosOutcome


# --- the batch log


class BatchStore(msgspec.Struct, frozen=True, array_like=True, tag=52):
    """Keep a logged batch until it is done: (table, mutation bytes) of each partition it writes.

    `batch` names it (start number of the coordinator, sequence). A higher `attempt` replaces what is kept of
    a lower one. `holders` are who is asked to keep it too. `rank` counts them: the first begins to replay
    before the others. Answered with BatchStored, or OperationFailed.
    """

    op: int
    batch: tuple[int, int]
    attempt: int
    rank: int
    holders: tuple[PeerId, ...]
    mutations: tuple[tuple[int, bytes], ...]


class BatchStored(msgspec.Struct, frozen=True, array_like=True, tag=53):
    """This attempt or a later one is durable here."""

    op: int


class BatchDone(msgspec.Struct, frozen=True, array_like=True, tag=54):
    """All that this batch writes up to this attempt is where it belongs: forget it. Not answered."""

    batch: tuple[int, int]
    attempt: int


# --- counters


class AddToCounters(msgspec.Struct, frozen=True, array_like=True, tag=55):
    """Lead an increment: add (column, delta) pairs, row by row, to your shards. Answered with CountersAdded.

    The mutation gets this id (start, sequence, attempt); an id that was done is answered as it was then.
    """

    op: int
    epoch: int
    table: int
    partition: bytes
    id: tuple[int, int, int]
    rows: tuple[tuple[bytes, tuple[tuple[int, int], ...]], ...]


class CountersAdded(msgspec.Struct, frozen=True, array_like=True, tag=56):
    """The mutation (its bytes) that the leader applied, durably: for the other replicas."""

    op: int
    mutation: bytes


# --- following, hash trees


class Follow(msgspec.Struct, frozen=True, array_like=True, tag=60):
    """Which mutations did you log after `after`, in the ranges that I replicate too?

    `log` names the log (the storage generation of the peer that owns it), 0 if not known yet.
    """

    op: int
    epoch: int
    log: int
    after: int


class Followed(msgspec.Struct, frozen=True, array_like=True, tag=61):
    """Ids in log order; `next_after` continues, `end` is the end of the log, `first` its oldest entry.

    `expired`: as in LogIds.
    """

    op: int
    log: int
    entries: tuple[LogEntryId, ...]
    next_after: int
    first: int
    end: int
    expired: tuple[tuple[int, int], ...] = ()


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=62):
    """Send me the mutations at these offsets of your log."""

    op: int
    offsets: tuple[int, ...]


class Fetched(msgspec.Struct, frozen=True, array_like=True, tag=63):
    """(offset, mutation bytes) of as many as fit; the rest is to be asked for again."""

    op: int
    mutations: tuple[tuple[int, bytes], ...]


# --- traces


class TraceThis(msgspec.Struct, frozen=True, array_like=True, tag=70):
    """The next message with this operation is traced: say what it took, with TraceTold."""

    op: int


class TraceTold(msgspec.Struct, frozen=True, array_like=True, tag=71):
    """What a replica did for a traced operation, `elapsed_us` after it heard of it. Not answered."""

    op: int
    elapsed_us: int
    activity: str


# --- reads by predicate


class FindSlice(msgspec.Struct, frozen=True, array_like=True, tag=80):
    """Follow these siblings to their end, then send rows of these ranges that satisfy all checks.

    `pieces` are ranges that you replicate, with the place to go on after in each; `find` says all else.
    Answered with SliceFound, or OperationFailed: why is "not_followed" (detail: hex ids of who was not
    reached, separated by blanks) or "index_building".
    """

    op: int
    epoch: int
    timeout_us: int
    follow: tuple[PeerId, ...]
    find: Find
    pieces: tuple[Piece, ...]
    checks: tuple[Check, ...]


class FoundPart(msgspec.Struct, frozen=True, array_like=True):
    """What a piece gave: (term, row key, row bytes); if there is `more`, go on after `term` and `key`."""

    rows: tuple[tuple[bytes, bytes, bytes], ...]
    term: bytes
    key: bytes
    more: bool


class SliceFound(msgspec.Struct, frozen=True, array_like=True, tag=81):
    """A part for each of the first pieces, in their order; and static rows of the rows' partitions."""

    op: int
    parts: tuple[FoundPart, ...]
    statics: tuple[tuple[bytes, bytes], ...]


class Gather(msgspec.Struct, frozen=True, array_like=True, tag=82):
    """Follow these siblings to their end, then run a program over rows of ranges that you replicate.

    `ranges` are (first token, last token, term, key) in the order in which to look: of each range what is
    after that term and key. `index` and `spans` as in commands.Find. Stops after `examined_max` rows, or when
    it took long enough; answered with GatherTold, or OperationFailed as FindSlice.
    """

    op: int
    epoch: int
    timeout_us: int
    table: int
    follow: tuple[PeerId, ...]
    ranges: tuple[tuple[int, int, bytes, bytes], ...]
    index: int
    spans: tuple[tuple[bytes, bytes], ...]
    examined_max: int
    now_us: int
    program: bytes


class GatherTold(msgspec.Struct, frozen=True, array_like=True, tag=83):
    """What the program made of `examined` rows; `ranges` are what is left, as in Gather."""

    op: int
    part: bytes
    ranges: tuple[tuple[int, int, bytes, bytes], ...]
    examined: int
    took_us: int


# --- search


class Search(msgspec.Struct, frozen=True, array_like=True, tag=90):
    """Do this work (index/asking.py) on your inverted index of a table, in token ranges that you replicate.

    If `fresh`, first follow these siblings to their end and have the index catch up with your log. Answered
    with Searched, or OperationFailed as FindSlice. `mapping` names the index that the work was planned for.
    """

    op: int
    epoch: int
    table: int
    ranges: tuple[tuple[int, int], ...]
    follow: tuple[PeerId, ...]
    fresh: bool
    timeout_us: int
    work: bytes
    mapping: str = ""


class Searched(msgspec.Struct, frozen=True, array_like=True, tag=91):
    """What came of it (index/asking.py)."""

    op: int
    result: bytes


# --- change streams


class AskChanges(msgspec.Struct, frozen=True, array_like=True, tag=100):
    """What your log says about a table in these ranges (inclusive) after an offset (core/commands.py).

    Answered with ChangesTold: at once if there is something, else when there is, or empty after `wait_us`.
    """

    op: int
    epoch: int
    table: int
    ranges: tuple[tuple[int, int], ...]
    after: int
    since_us: int
    wait_us: int


class ChangesTold(msgspec.Struct, frozen=True, array_like=True, tag=101):
    """A page of a log, complete up to `next_after`; `first` is the oldest offset that is still held.

    All that the siblings with these numbers had logged up to these offsets is in this log up to `next_after`.
    `hole`: the last offset up to which something may be missing that siblings have forgotten, too.
    """

    op: int
    entries: tuple[LoggedChange, ...]
    next_after: int
    first: int
    followed: tuple[tuple[int, int], ...]
    hole: int = 0


Message = (
    Hello
    | Refused
    | Ping | PingAck | PingRequest | PingNack
    | Prepare
    | Promise
    | Accept | Accepted
    | Rejected
    | Decided
    | Pull
    | Propose
    | ApplyMutation | MutationApplied | MutationsApplied | ApplyMutations | MutationsTold | ApplyEach
    | ReadSlice | SliceRead | DigestRead
    | Repair
    | Stale
    | OperationFailed
    | PaxosAsk
    | PaxosTold
    | BatchStore
    | BatchStored
    | BatchDone
    | AddToCounters
    | CountersAdded
    | Follow
    | Followed
    | Fetch
    | Fetched
    | TreeAsk | TreeAnswer | RowsAsk | RowsTold
    | PaxosStateAsk
    | PaxosStateTold
    | BoundAsk
    | BoundTold
    | FloorAsk
    | FloorTold
    | MoveAsk
    | MoveTold
    | TailAsk
    | FloorsAsk
    | FloorsTold
    | FloorWanted
    | FindSlice
    | SliceFound
    | Gather
    | GatherTold
    | TraceThis
    | TraceTold
    | Search
    | Searched
    | AskChanges
    | ChangesTold
    | AskLag
    | LagTold
    | RecoverAsk
    | RecoverTold
)

encode_message: Callable[[Message], bytes] = msgspec.msgpack.Encoder().encode
"""The body of a frame."""

decode_message: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode
"""The message of a frame's body; raises msgspec.DecodeError (or ValidationError) for anything else."""
