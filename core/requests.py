"""What a client asks of a node (`Node.on_request`) and what it gets (`World.reply`), whatever door it came
through.

A door (REST keys, CQL, documents) plans its operation as one of these; the coordinator gives versions, counts
answers, and replies with a value: refusals are values too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from core.cell import Path, Version
from core.consistency import Level
from core.finding import FindRequest, Found
from core.gathering import Gathered, GatherRequest
from core.row import Row
from core.searching import ExpandAnswer, ExpandRequest, SearchAnswer, SearchRequest
from core.streaming import ChangesPart, ChangesRequest, GroupRequest
from core.trace import Trace

# --- requests


class Write(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A cell to be written, before it has a version; `value` None deletes it.

    `ttl_s` is its own time to live (0: the request's). `worthless` says that nobody is to read the value: it
    is dead from its admission, and only hides what is older below it. `older`, of a deletion, makes it one
    microsecond older than the write: it takes what was there before, not what comes with it (a collection
    that is replaced).
    """

    column: int
    path: Path
    kind: int
    value: bytes | None
    ttl_s: int = 0
    worthless: bool = False
    older: bool = False


class RowWrite(msgspec.Struct, frozen=True, array_like=True):
    """What to do to the row with this key suffix: cells, and whether the older row is deleted first.

    With `replace` the row tombstone is one microsecond older than the cells, so the row holds just these
    cells. With no cells and `replace` the row is deleted.
    """

    suffix: bytes
    writes: tuple[Write, ...]
    replace: bool = False


class WriteRequest(msgspec.Struct, frozen=True):
    """Write rows of one partition of one table.

    `ranges` are [first, end) of key suffixes to delete; `partition_delete` deletes all rows of the partition.
    `timestamp_us` 0 means: the coordinator stamps. `ttl_s` 0 means: for ever (a door applies a table's
    default); it runs from `now_us` (0: from the stamp).
    """

    table: int
    partition: bytes
    rows: tuple[RowWrite, ...]
    level: Level
    operation: int
    ttl_s: int = 0
    timestamp_us: int = 0
    partition_delete: bool = False
    ranges: tuple[tuple[bytes, bytes], ...] = ()
    trace: Trace | None = None
    now_us: int = 0


class BulkRequest(msgspec.Struct, frozen=True):
    """Plain writes to one table that have nothing to do with each other; their own `level` is not used.

    No two are to one partition. Answered with BulkAnswered when all of them have answers. What a replica
    has no time for is tried again under its id until the deadline, so Overloaded and Timeout come late.
    """

    table: int
    writes: tuple[WriteRequest, ...]
    level: Level


class CounterRequest(msgspec.Struct, frozen=True):
    """Add to counters of one partition: per row (its key suffix) pairs of column and delta (signed 64 bits).

    Not idempotent: after a Timeout or Broken(unknown) it may be counted or not, and one that is tried again
    may count twice. What is read is summed by core.counter.counter_value, which tells about deletes too.
    """

    table: int
    partition: bytes
    rows: tuple[tuple[bytes, tuple[tuple[int, int], ...]], ...]
    level: Level
    trace: Trace | None = None


class OperationId(msgspec.Struct, frozen=True):
    """The id that a client gave to a request, a hash of what it asks for, and how long it is remembered."""

    id: bytes
    fingerprint: bytes
    remember_us: int

    def part(self, number: int) -> OperationId:
        """The id of one of several writes that a request makes."""
        return msgspec.structs.replace(self, id=self.id + b"\x00%d" % number) if number else self


class BatchRequest(msgspec.Struct, frozen=True):
    """Writes that belong together; each one's own `level` is not used.

    They share one stamp, but for those with a timestamp of their own, and those to one partition of one
    table become one mutation, which is atomic and isolated; cells of one batch at one address merge as cells
    of one version do. A `logged` batch that was begun is applied wholly, whoever dies: per cell the last
    writer wins, everywhere the same. Without the log each partition is a write of its own. At level ANY a
    logged batch is answered when it is in the batch log. Bounded by limits.BATCH_MUTATIONS_MAX and
    BATCH_BYTES_MAX. A batch of counters, which holds nothing else, is never logged: each partition is an
    increment of its own. A logged batch of several partitions may carry the `operation` that it is: done
    once, however often it is retried.
    """

    writes: tuple[WriteRequest, ...] | tuple[CounterRequest, ...]
    level: Level
    logged: bool = True
    trace: Trace | None = None
    operation: OperationId | None = None


class ReadRequest(msgspec.Struct, frozen=True):
    """Read rows of one partition with key suffixes in [first, end), at most `rows_max`.

    A `point` reads `first` only. Beyond `bytes_max` (0: any number) an answer ends early, with `more`. What
    is alive is judged at `now_us` (0: when the request came).
    """

    table: int
    partition: bytes
    first: bytes
    end: bytes
    point: bool
    level: Level
    rows_max: int = 1
    reverse: bool = False
    trace: Trace | None = None
    bytes_max: int = 0
    now_us: int = 0


class PartRead(msgspec.Struct, frozen=True):
    """Rows of a partition with suffixes in [first, end), at most `rows_max`; a `point` is `first` alone."""

    first: bytes
    end: bytes = b""
    point: bool = True
    rows_max: int = 1
    reverse: bool = False


Decide = Callable[[tuple["RowsRead", ...]], "WriteRequest | Invalid | None"]


class ConditionalRequest(msgspec.Struct, frozen=True):
    """Read parts of one partition, judge them, and write there or not, in one: linearizable per partition.

    `decide` is given what was read, part by part, with the `now_us` at which to look at it. It returns what
    to write (of its WriteRequest the level and the timestamp are not used), None for "not applied", or why
    it cannot be done. It must be pure: when rivals come first it is called again. A door reads the rows that
    it writes, so that the new version lies above theirs. `serial_level` (SERIAL or LOCAL_SERIAL) decides, at
    `level` the write is waited for. `bytes_held` is about what `decide` keeps in memory. `uniques` are the
    unique indexes of the table that `decide` keeps: if the table gets others before it is decided, the answer
    is Invalid("unique_changed"), and it is to be planned anew.
    """

    table: int
    partition: bytes
    reads: tuple[PartRead, ...]
    decide: Decide
    level: Level
    serial_level: Level = Level.SERIAL
    bytes_held: int = 0
    trace: Trace | None = None
    now_us: int = 0
    uniques: tuple[int, ...] = ()


class ScanRequest(msgspec.Struct, frozen=True):
    """Read rows in token order from the whole ring, streamed in parts (`RowsRead`), at most `rows_max` rows.

    `after` is the row key (lsm/keys.py) to go on after, or b"" to begin. Rows beyond `last_token` are not
    read. `bytes_max` and `now_us` as in ReadRequest.
    """

    table: int
    after: bytes
    rows_max: int
    level: Level
    trace: Trace | None = None
    last_token: int = 2**63 - 1
    bytes_max: int = 0
    now_us: int = 0


class MetadataRequest(msgspec.Struct, frozen=True):
    """Change the schema: decided by the voters, answered when this node has adopted the epoch."""

    change: Any  # a core.metadata.Change


class AdminRequest(msgspec.Struct, frozen=True):
    """What an operator asks of this node: a verb of node/admin.py and its arguments."""

    verb: str
    arguments: dict[str, Any] = {}


class Restored(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one partition as a snapshot has them: (key suffix, row bytes) pairs, and the header's bytes."""

    table: int
    partition: bytes
    header: bytes
    rows: tuple[tuple[bytes, bytes], ...]


class RestoreRequest(msgspec.Struct, frozen=True):
    """Write rows of a snapshot, with the versions they have; at most limits.BATCH_MUTATIONS_MAX of them."""

    partitions: tuple[Restored, ...]
    level: Level


Request = (
    WriteRequest
    | BulkRequest
    | BatchRequest
    | CounterRequest
    | ReadRequest
    | ConditionalRequest
    | ScanRequest
    | FindRequest
    | GatherRequest
    | SearchRequest
    | ExpandRequest
    | ChangesRequest
    | GroupRequest
    | RestoreRequest
    | MetadataRequest
    | AdminRequest
    | GroupRequest
)


# --- answers


class Written(msgspec.Struct, frozen=True):
    """Acknowledged at the level asked; `version` is what its cells carry."""

    version: Version


class BulkAnswered(msgspec.Struct, frozen=True):
    """The answer to each write of a BulkRequest, in their order."""

    answers: tuple[Any, ...]


class ReadRow(msgspec.Struct, frozen=True):
    """A row: its full store key and its merged content with all versions (dead cells included)."""

    key: bytes
    row: Row


class RowsRead(msgspec.Struct, frozen=True):
    """Rows in key order that exist at `now_us`.

    `more` says that rows after the last (or `after`) may follow. `dead` rows were read, too, of which nothing
    is left but tombstones.
    """

    rows: tuple[ReadRow, ...]
    now_us: int
    more: bool
    after: bytes = b""
    dead: int = 0


class Judged(msgspec.Struct, frozen=True):
    """A conditional update is decided: `applied` or not, for ever.

    `reads` is what it was judged by; `version` what the cells carry if it was applied, else None.
    """

    applied: bool
    reads: tuple[RowsRead, ...]
    version: Version | None


class Changed(msgspec.Struct, frozen=True):
    """A schema change was decided at `epoch`.

    `error` is empty, or why it was not applied; `name` what it is about.
    """

    epoch: int
    error: str
    code: str = ""


class Told(msgspec.Struct, frozen=True):
    """The answer of an admin verb: JSON-able."""

    body: dict[str, Any]


class Unavailable(msgspec.Struct, frozen=True):
    """Not tried: too few replicas are alive. Nothing was written."""

    required: int
    alive: int
    level: Level


class Timeout(msgspec.Struct, frozen=True):
    """Too few answers in time.

    For a write the outcome is *unknown*: it may or may not be there, now or later. `write_type` is that of
    CQL: after BATCH it is certain to come, after BATCH_LOG nobody knows whether any of it will; after CAS a
    SERIAL read settles it. A conditional update that proposed nothing in time was certainly not applied: then
    `write` is False.
    """

    received: int
    required: int
    level: Level
    write: bool
    write_type: str = "SIMPLE"


class Overloaded(msgspec.Struct, frozen=True):
    """Not tried: this node (or too many replicas) has too much to do, or a full disk.

    Try again later, elsewhere.
    """

    detail: str


class Unready(msgspec.Struct, frozen=True):
    """This node does not serve: there is no cluster yet, or it was refused.

    Or the voters' majority is away.
    """

    detail: str


class Invalid(msgspec.Struct, frozen=True):
    """The request cannot be done as asked.

    `code` is a stable word (no_such_table, too_large, bad_level...). `about` says what programs want to know
    beside it, such as the index that a value is taken in.
    """

    code: str
    detail: str
    about: tuple[tuple[str, str], ...] = ()


class Broken(msgspec.Struct, frozen=True):
    """Replicas answered with failures (damaged data, full disks): `received` good answers of `required`.

    `write_type` as in Timeout.

    `unknown`: a write may be there all the same, now or later; False: it is certainly nowhere.
    """

    received: int
    required: int
    failures: int
    detail: str
    write: bool
    unknown: bool
    write_type: str = "SIMPLE"


Answer = (
    Written
    | BulkAnswered
    | RowsRead
    | Found
    | Gathered
    | SearchAnswer
    | ExpandAnswer
    | ChangesPart
    | Judged
    | Changed
    | Told
    | Unavailable
    | Timeout
    | Overloaded
    | Unready
    | Invalid
    | Broken
)
