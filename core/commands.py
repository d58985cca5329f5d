"""What a node asks of its store (`World.submit`), and what comes back (`Node.on_stored`).

Each command is atomic, and commands on one partition run in the order of submission. An outcome comes only
when all that its command wrote or read is durable. `Failed` is the outcome of any command that the store
could not do.
"""

from __future__ import annotations

import enum

import msgspec

from core.cell import Version
from core.expiring import Expired, ExpireRows
from core.healing import HealingCommand, HealingOutcome
from core.lag import LogLag, LogLagged
from core.moving import DropRange, ForgetTables, LogForget, TakeFloors
from core.mutation import MutationId
from core.row import Passed
from core.trimming import LogTrim, Trimmed


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one table in [first, end) of the store's key order (see lsm/keys.py), at most so many.

    `partition` is the key prefix of a single partition whose header is wanted too, or b"" for a range of
    tokens: then headers come as rows of their own, but for that of a partition inside which the slice begins.
    `point` says that `first` is one exact row key (`end` is not used). With `live_us` not 0, rows of one
    partition before the first that lives at that time may be summed up.
    """

    table: int
    first: bytes
    end: bytes
    partition: bytes
    point: bool
    rows_max: int
    bytes_max: int
    reverse: bool = False
    live_us: int = 0


# --- commands


class Apply(msgspec.Struct, frozen=True):
    """Merge a mutation (its bytes) into its rows, log it under its id; one already logged changes nothing.

    Refused at or below what was promised of floors; one that was `followed` (a sibling has logged it) only at
    or below the floor itself. One that `moved` here with its range is logged all the same, as superseded.
    """

    mutation: bytes
    followed: bool = False
    moved: bool = False


class ApplyMany(msgspec.Struct, frozen=True):
    """Apply each of these mutations, as if they were so many commands; answered once, with AppliedMany."""

    mutations: tuple[bytes, ...]


class MergeRows(msgspec.Struct, frozen=True):
    """Merge cells that arrive without their mutation: (row key, row or header bytes).

    Logged as `repaired`. Rows with a floor above `settled_us` (lsm/floors.py) are refused (Why.FENCED).
    """

    table: int
    rows: tuple[tuple[bytes, bytes], ...]
    settled_us: int = 0


class Read(msgspec.Struct, frozen=True):
    """Read a slice; `digest` asks for its hash alone, `lost_too` for what may lack rows (lsm/lost.py)."""

    slice: Slice
    digest: bool
    lost_too: bool = False


class LogRead(msgspec.Struct, frozen=True):
    """The ids of entries of the log above the offset `after`, of kinds event and superseded, at most so many.

    Only entries whose token lies in one of `ranges` (inclusive pairs, per table id) are returned.
    """

    after: int
    entries_max: int
    ranges: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class LogMissing(msgspec.Struct, frozen=True):
    """Which of these mutation ids the log has never held."""

    ids: tuple[MutationId, ...]


class LogFetch(msgspec.Struct, frozen=True):
    """The mutations (their bytes) logged at these offsets, as many as fit `bytes_max`, in order."""

    offsets: tuple[int, ...]
    bytes_max: int


class LogRows(msgspec.Struct, frozen=True):
    """The rows that log entries above `after` changed, as they are now: for what follows this peer's log.

    Of each of `tables` (id, offset) only entries above its offset count. At most `entries_max` entries are
    looked at, and no more once the rows have `bytes_max`. Answered with ChangedRows.
    """

    tables: tuple[tuple[int, int], ...]
    after: int
    entries_max: int
    bytes_max: int


class LogChanges(msgspec.Struct, frozen=True):
    """What log entries above `after` did to rows of one table in token ranges (inclusive), with images.

    Ends after `entries_max` of them, or `bytes_max`, or as many looked at as one step allows. What was
    admitted before `since_us` is passed over. `after` AT_END only asks where the log ends. Answered with
    ChangesLogged.
    """

    table: int
    ranges: tuple[tuple[int, int], ...]
    after: int
    entries_max: int
    bytes_max: int
    since_us: int = 0


AT_END = -1
"""As `after` of LogChanges: behind everything that is logged by now."""


class TreeHashes(msgspec.Struct, frozen=True):
    """The hashes of `parts` equal parts (all leaves if they are fewer) of each of these runs [first, end)."""

    table: int
    spans: tuple[tuple[int, int], ...]
    parts: int
    lost_too: bool = False


class SystemWrite(msgspec.Struct, frozen=True):
    """Write or delete (None) system records: metadata, hints, positions. All or nothing."""

    puts: tuple[tuple[bytes, bytes | None], ...]


class SystemScan(msgspec.Struct, frozen=True):
    """System records with a prefix, after a key, at most so many and so many bytes."""

    prefix: bytes
    after: bytes
    rows_max: int
    bytes_max: int


class Sweep(msgspec.Struct, frozen=True):
    """Remove rows that the header of this partition covers, from `after` on, at most `rows_max` looked at."""

    table: int
    partition: bytes
    after: bytes
    rows_max: int


class CounterAdd(msgspec.Struct, frozen=True):
    """Add to this replica's shards of counters: `increments` is a mutation (bytes) with deltas for values.

    Answered with CounterAdded. One whose mutation id is logged already is not added again.
    """

    increments: bytes


class Find(msgspec.Struct, frozen=True, array_like=True):
    """Rows that an index (0: the table itself) leads to, after a position; answered with Candidates.

    `spans` are terms of the index in [first, end), or the one term `first` if `end` is empty: ascending and
    disjoint. Only rows with tokens from `first_token` to `last_token` count, and of `partition` (its key
    prefix) if that is given. `expand`: an entry leads to a static row and stands for its whole partition.
    `statics` wants the static row of each partition, and as a row of its own where no row lives at `now_us`.
    The position is the last row looked at, with its term; `also` are ranges of tokens for after this one.
    """

    table: int
    index: int
    spans: tuple[tuple[bytes, bytes], ...]
    first_token: int
    last_token: int
    partition: bytes
    term: bytes
    key: bytes
    rows_max: int
    bytes_max: int
    now_us: int
    expand: bool = False
    statics: bool = False
    also: tuple[tuple[int, int], ...] = ()


class EntryCount(msgspec.Struct, frozen=True):
    """How many entries lie in the spans of each of these indexes (id, spans): `most` of each are counted."""

    table: int
    indexes: tuple[tuple[int, tuple[tuple[bytes, bytes], ...]], ...]
    most: int


class IndexBuild(msgspec.Struct, frozen=True):
    """Write the entries of an index for so many rows after a key; answered with IndexBuilt.

    How far it got (an IndexBuilt) is kept in the system record `record`, in the same batch.
    """

    table: int
    index: int
    after: bytes
    rows: int
    rows_max: int
    bytes_max: int
    record: bytes


class IndexDrop(msgspec.Struct, frozen=True):
    """Remove all entries of an index, and its system record."""

    table: int
    index: int
    record: bytes


Ballot = tuple[int, int]
"""(hybrid-logical-clock microseconds, start number of the coordinator), compared as tuples; never repeats."""

NO_BALLOT: Ballot = (0, 0)
"""Before any ballot."""


class PaxosPrepare(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Promise a ballot for a partition (its key prefix), and read slices of it; answered with Promised.

    NO_BALLOT only looks: nothing is promised or written. `ids` are mutations whose presence in the log is
    told. Refused unless the ballot is above all that was promised and committed.
    """

    table: int
    partition: bytes
    ballot: Ballot
    slices: tuple[Slice, ...]
    ids: tuple[MutationId, ...] = ()


class PaxosAccept(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Accept a proposal (mutation bytes) under a ballot; an empty one ends all that was before the ballot.

    `again`: another replica has accepted it before, and it has to be finished.
    """

    table: int
    partition: bytes
    ballot: Ballot
    proposal: bytes
    again: bool = False


class PaxosCommit(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Apply what was decided under a ballot (b"": nothing), as `Apply` does, and note the ballot with it."""

    table: int
    partition: bytes
    ballot: Ballot
    mutation: bytes


class PaxosFetch(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The mutation that was accepted, or committed, under this very ballot."""

    table: int
    partition: bytes
    ballot: Ballot
    committed: bool


PaxosStep = PaxosPrepare | PaxosAccept | PaxosCommit | PaxosFetch
"""One step of a conditional update at one replica: reading, deciding and writing are one command."""

Command = (
    Apply
    | ApplyMany
    | MergeRows
    | Read
    | LogRead
    | LogMissing
    | LogFetch
    | LogRows
    | LogChanges
    | LogTrim
    | LogLag
    | LogForget
    | DropRange
    | ForgetTables
    | TakeFloors
    | ExpireRows
    | TreeHashes
    | SystemWrite
    | SystemScan
    | Sweep
    | PaxosPrepare
    | PaxosAccept
    | PaxosCommit
    | PaxosFetch
    | CounterAdd
    | Find
    | EntryCount
    | IndexBuild
    | IndexDrop
    | HealingCommand
)


# --- outcomes


class Applied(msgspec.Struct, frozen=True):
    """`newer`: a version that was met and hides something the mutation wrote.

    `fresh`: it was not logged before.
    """

    newer: Version | None
    fresh: bool


class AppliedMany(msgspec.Struct, frozen=True):
    """What became of each mutation, in their order."""

    outcomes: tuple[Applied | Failed, ...]


class Merged(msgspec.Struct, frozen=True):
    """`changed` rows of those given were different from what was stored."""

    changed: int


class Rows(msgspec.Struct, frozen=True, array_like=True):
    """A slice: (row key, row bytes) in order, the partition's header if there is one, whether more follow.

    `passed` are dead rows before them. `more` means that the limit cut the slice: rows beyond the last key
    are unknown, not absent. `settled_us`: all that was admitted up to then is taken account of.
    """

    rows: tuple[tuple[bytes, bytes], ...]
    header: bytes | None
    more: bool
    settled_us: int = 0
    passed: tuple[Passed, ...] = ()


class Digest(msgspec.Struct, frozen=True, array_like=True):
    """The hash (16 bytes) of a slice's rows, header and `more`."""

    digest: bytes


class LogEntryId(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a mutation is logged here, and which one it is."""

    offset: int
    start: int
    sequence: int
    attempt: int


class LogIds(msgspec.Struct, frozen=True):
    """Entries found; `next_after` continues; `end` is the last offset; `first` the oldest offset still held.

    `first > after + 1` says that entries were trimmed: what they held must be compared by hash tree.
    `expired` are entries of what ran out by itself, which are nobody's mutations: (offset, when).
    """

    entries: tuple[LogEntryId, ...]
    next_after: int
    first: int
    end: int
    expired: tuple[tuple[int, int], ...] = ()


class ChangedRows(msgspec.Struct, frozen=True):
    """(row key, row bytes or None for one that is gone) of rows changed by entries up to `next_after`.

    `end` is the last offset; `first` the oldest still held: above `after + 1`, entries are missing here.
    """

    rows: tuple[tuple[bytes, bytes | None], ...]
    next_after: int
    first: int
    end: int


class LoggedChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry as subscribers need it (streams/events.py makes events of it).

    `data` is the mutation, or for cells that came without one (`kind` REPAIRED of lsm/log.py) the row's key,
    or where rows were lost (BROKEN) the first and the last token between which they lie, as msgpack;
    `images` is what was logged of rows before and after, b"" if nothing was.
    """

    offset: int
    kind: int
    token: int
    data: bytes
    images: bytes


class ChangesLogged(msgspec.Struct, frozen=True):
    """Entries in order; all others up to `next_after` are not of this table and these ranges.

    `end` is the last offset; `first` the oldest that is still held.
    """

    entries: tuple[LoggedChange, ...]
    next_after: int
    first: int
    end: int


class Missing(msgspec.Struct, frozen=True):
    """The ids not held, in the order asked."""

    ids: tuple[MutationId, ...]


class Mutations(msgspec.Struct, frozen=True):
    """(offset, mutation bytes) for those of the offsets asked that are still held and fitted."""

    mutations: tuple[tuple[int, bytes], ...]


class Hashes(msgspec.Struct, frozen=True):
    """One 64-bit hash per part, 0 for one without rows; and in about how many places each has rows."""

    hashes: tuple[int, ...]
    filled: tuple[int, ...] = ()


class Records(msgspec.Struct, frozen=True):
    """System records in key order, and whether more follow."""

    records: tuple[tuple[bytes, bytes], ...]
    more: bool


class Swept(msgspec.Struct, frozen=True):
    """`removed` rows; continue after `after`, or done if it is empty."""

    removed: int
    after: bytes


class Promised(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A promise, or a look: what was promised `before`, what is accepted and not committed, the last commit.

    `accepted` is NO_BALLOT if nothing is; `proposal` its bytes, if they are few (else PaxosFetch). `version`
    is the greatest that a commit here ever had. `holds` says of each id asked about whether its mutation is
    logged; `rows` answers each slice.
    """

    before: Ballot
    accepted: Ballot
    committed: Ballot
    version: Version
    holds: tuple[bool, ...]
    rows: tuple[Rows, ...]
    proposal: bytes = b""


class PaxosRefused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Neither promised nor accepted: the ballot is not above these."""

    promised: Ballot
    committed: Ballot


class PaxosAccepted(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The proposal is accepted, durably."""


class PaxosFetched(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The bytes asked for (b"" for a commit without any); None if the replica has gone on since."""

    data: bytes | None


PaxosOutcome = Promised | PaxosRefused | PaxosAccepted | PaxosFetched


class CounterAdded(msgspec.Struct, frozen=True):
    """The mutation that the increments became, applied and logged here: other replicas apply it as it is."""

    mutation: bytes


class Candidates(msgspec.Struct, frozen=True):
    """(term, row key, row bytes) in order; the static rows of their partitions where wanted.

    `term` and `key` are the position after which to go on, if there is `more`.
    """

    rows: tuple[tuple[bytes, bytes, bytes], ...]
    statics: tuple[tuple[bytes, bytes], ...]
    term: bytes
    key: bytes
    more: bool


class EntriesCounted(msgspec.Struct, frozen=True):
    """One number per index asked about."""

    counts: tuple[int, ...]


class IndexBuilt(msgspec.Struct, frozen=True, array_like=True):
    """`rows` have their entries by now; go on after the key `after`, unless it is `done`."""

    after: bytes
    rows: int
    done: bool


class Done(msgspec.Struct, frozen=True):
    """It is done and durable."""


class Why(enum.StrEnum):
    """Why a store command failed."""

    CORRUPT = "corrupt"
    DISK_FULL = "disk_full"
    STALLED = "stalled"
    UNKNOWN = "unknown"
    TOO_LARGE = "too_large"
    NO_TABLE = "no_such_table"
    MALFORMED = "malformed"
    MENDING = "mending"
    BELOW_FLOOR = "below_floor"
    FENCED = "fenced"
    NOT_A_REPLICA = "not_a_replica"


class Failed(msgspec.Struct, frozen=True):
    """The store could not do it; nothing was written unless `why` is UNKNOWN. BELOW_FLOOR says up to when."""

    why: Why
    detail: str
    floor_us: int = 0


class EntriesDamaged(Failed, frozen=True):
    """The entries of an index could not be read; its rows may be fine."""


Outcome = (
    Applied
    | AppliedMany
    | Merged
    | Rows
    | Digest
    | LogIds
    | ChangedRows
    | LogLagged
    | Expired
    | ChangesLogged
    | Missing
    | Mutations
    | Hashes
    | Records
    | Swept
    | Trimmed
    | Promised
    | PaxosRefused
    | PaxosAccepted
    | PaxosFetched
    | CounterAdded
    | Candidates
    | EntriesCounted
    | IndexBuilt
    | Done
    | Failed
    | HealingOutcome
)
