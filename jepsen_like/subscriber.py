"""A subscriber of a simulated cluster, and what it judges as it reads.

It reads one bucket's changes, goes away and comes back at another peer with its last whole cursor, and keeps
what a careful consumer would: images by key, as of its last whole cursor too, so that after coming back it
stands exactly where the cursor says. What must hold of a stream is judged at once:

    chain       an event's image before is the last image after (or what a purge of what is dead in it left),
                unless a restart was told for its token
    reorder     versions of a key do not go back, unless the event says that it is late
    id_changed  one id, one write; doubled: one write, one id
    gap         nothing is said to be missing, where nothing was forgotten; a disk that lost its log to
                damage may say so, and then nothing more is asked of these tokens
"""

from __future__ import annotations

from random import Random

from core.cell import NO_VERSION, Version
from core.mutation import decode_mutation
from core.requests import Answer
from core.row import OPERATION_SUFFIX, Row
from core.streaming import CURSOR, GAP, NOW, RESTART, START, ChangesPart, ChangesRequest, Place, TokenRange
from jepsen_like.checkers import Problem
from kv.buckets import Bucket
from ring.tokens import token_of
from sim.cluster import Reply, SimCluster
from streams.cursor import Cursor, decode_cursor, encode_cursor
from streams.events import ENDED, Event, events_of, restarted

SECOND = 1_000_000
SILENCE_US = 4 * SECOND
"""After so long without a word a reader tries another peer."""

RETRY_US = SECOND // 5
STAY_US = (2 * SECOND, 7 * SECOND)
PROBLEMS_MAX = 10


def may_lose_logs(cluster: SimCluster) -> bool:
    """Whether a disk may lose what it had synced, and its log with it."""
    return "bit_flip" in cluster.options.faults + cluster.options.more_faults


def follows(before: Row | None, image: Row | None) -> bool:
    """Whether an image before an event is `image`, but for dead parts that may have been purged meanwhile.

    A row that runs out as a whole is told to be gone before it is.
    """
    if before == image:
        return True
    if image is None:
        return False
    left = before if before is not None else Row(None, ())
    kept = dict.fromkeys(left.cells, True)
    gone = [cell for cell in image.cells if cell not in kept]
    has_values = any(cell.value is not None for cell in left.cells)
    return (
        left.deletion in (None, image.deletion)
        and len(gone) + len(left.cells) == len(image.cells)
        and all(cell.value is None or (cell.dead_from_us and has_values) for cell in gone)
    )


class Held:
    """What a consumer has of one key."""

    __slots__ = ("image", "known", "version")

    def __init__(self, image: Row | None = None, version: Version = NO_VERSION, known: bool = False) -> None:
        self.image = image
        self.version = version
        self.known = known
        """False: the chain of images begins anew."""


class Subscriber:
    """One reader."""

    def __init__(
        self, cluster: SimCluster, bucket: Bucket, name: str, start: str = NOW, moves: bool = True
    ) -> None:
        """Nothing is asked before `open`. `moves`: it changes peers now and then."""
        self.name = name
        self._moves = moves
        self._cluster = cluster
        self._bucket = bucket
        self._random = Random(f"{cluster.options.seed}:subscriber:{name}")
        self._start = start
        self._call = 0
        self._epoch = 0
        self._heard_us = 0
        self._held: dict[str, Held] = {}
        self._kept: dict[str, Held] = {}
        self._forgotten: list[TokenRange] = []
        self.cursor = ""
        self.ended: dict[str, Version] = {}
        """Of each key: the version of what ran out last."""
        self.gaps: list[TokenRange] = []
        self.ids: dict[str, tuple[str, bytes | None]] = {}
        """Of each event id: the key, and what was written (None: a deletion)."""
        self.of_value: dict[tuple[str, bytes], str] = {}
        self.deletes: dict[tuple[str, Version], str] = {}
        self.problems: list[Problem] = []
        self.events = self.repeats = self.restarts = self.resumes = 0
        self.closed = False

    # --- coming and going

    def open(self, peer: int = -1) -> None:
        """Subscribe at a peer (-1: any that runs), and again elsewhere whenever that ends."""
        if self.closed:
            return
        running = self._cluster.running()
        self._epoch += 1
        self._heard_us = self._cluster.now_us
        if not running:
            self._later(RETRY_US)
            return
        if peer < 0:
            peer = running[self._random.randrange(len(running))]
        self._held = {key: Held(held.image, held.version, held.known) for key, held in self._kept.items()}
        self.resumes += 1
        epoch = self._epoch

        def part(answer: Answer) -> None:
            if epoch == self._epoch:
                assert isinstance(answer, ChangesPart), answer
                self._take(answer)

        def ended(reply: Reply) -> None:
            del reply
            if epoch == self._epoch:
                self._later(RETRY_US)

        self._call = self._cluster.stream(peer, self._request(), part, ended)
        self._cluster.scheduler.after(SILENCE_US, self._watch, epoch)
        if self._moves:
            self._cluster.scheduler.after(self._random.randint(*STAY_US), self._move, epoch)

    def _request(self) -> ChangesRequest:
        if not self.cursor:
            return ChangesRequest(self._bucket.table, self._start)
        cursor = decode_cursor(self.cursor)
        assert isinstance(cursor, Cursor), cursor
        return ChangesRequest(
            self._bucket.table, CURSOR, cursor.places, cursor.since_us, began_us=cursor.began_us
        )

    def _later(self, delay_us: int) -> None:
        self._epoch += 1
        epoch = self._epoch
        self._cluster.scheduler.after(delay_us, self._again, epoch)

    def _again(self, epoch: int) -> None:
        if epoch == self._epoch:
            self.open()

    def _watch(self, epoch: int) -> None:
        if epoch != self._epoch or self.closed:
            return
        if self._cluster.now_us >= self._heard_us + SILENCE_US:
            self._move(epoch)
        else:
            self._cluster.scheduler.after(SILENCE_US, self._watch, epoch)

    def _move(self, epoch: int) -> None:
        """Go away, and come back elsewhere."""
        if epoch == self._epoch and not self.closed:
            self._cluster.leave(self._call)
            self.open()

    def leave(self) -> None:
        """Go away, until `open`."""
        self._epoch += 1
        self._cluster.leave(self._call)

    def close(self) -> None:
        """No more."""
        self.closed = True
        self.leave()

    # --- reading

    def _take(self, part: ChangesPart) -> None:
        self._heard_us = self._cluster.now_us
        for notice in part.notices:
            if notice.kind == GAP and may_lose_logs(self._cluster):
                self.gaps += notice.ranges
                self._forget(notice.ranges)
            elif notice.kind == GAP:
                self._problem("gap", f"{notice.why} ({notice.ranges})")
            if notice.kind == RESTART:
                self.restarts += 1
                self._forget(notice.ranges)
        for entry in part.entries:
            tokens = restarted(entry)
            if tokens is not None:
                self._forget((tokens,))
            events = events_of(entry, "new_and_old")
            mutation = decode_mutation(entry.data) if events and events[0].operation != ENDED else None
            values = {}
            for suffix, row in mutation.rows if mutation is not None else ():
                if suffix[:1] != OPERATION_SUFFIX:
                    cells = {cell.column: cell.value for cell in row.cells}
                    values[suffix] = cells.get(self._bucket.value_column)
            for event in events:
                self._judge(event, values.get(event.suffix))
        if part.whole:
            self.cursor = self._cursor(part.places, part)
            self._kept = {key: Held(held.image, held.version, held.known) for key, held in self._held.items()}

    def _cursor(self, places: tuple[Place, ...], part: ChangesPart) -> str:
        return encode_cursor(Cursor("kv.changes", part.table, part.since_us, places, part.began_us))

    def _forget(self, ranges: tuple[TokenRange, ...]) -> None:
        self._forgotten += ranges
        for key, held in self._held.items():
            token = token_of(key.encode())
            if any(first <= token <= last for first, last in ranges):
                held.known = False
                held.version = NO_VERSION

    def _judge(self, event: Event, value: bytes | None) -> None:
        key = event.partition.decode()
        self.events += 1
        known = self.ids.get(event.id)
        if known is not None:
            self.repeats += 1
            if known != (key, value):
                self._problem("id_changed", f"{event.id} was {known}, is {(key, value)}")
        self.ids[event.id] = (key, value)
        if event.operation == ENDED:
            self.ended[key] = event.version
        elif value is None:
            self.deletes[key, event.version] = event.id
        elif self.of_value.setdefault((key, value), event.id) != event.id:
            self._problem("doubled", f"{value!r} of {key} under {event.id} and {self.of_value[key, value]}")
        held = self._held.get(key)
        if held is None:
            token = event.token
            is_new = self._start == NOW and not any(a <= token <= b for a, b in self._forgotten)
            held = self._held[key] = Held(known=is_new)
        if held.known and not follows(event.before, held.image):
            self._problem("chain", f"{key} {event.id}: before {event.before}, after last was {held.image}")
        if event.superseded and not follows(event.before, event.after):
            self._problem("chain", f"{key} {event.id} is superseded, but {event.before} became {event.after}")
        if event.version < held.version and not event.late:
            self._problem("reorder", f"{key} {event.id}: {event.version} after {held.version}, not late")
        held.image, held.known = event.after, True
        held.version = max(held.version, event.version)

    def _problem(self, name: str, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            at_s = self._cluster.now_us / SECOND
            self.problems.append(Problem(name, f"{self.name} at {at_s:.3f} s: {text}"))

    # --- the end

    def misses(self, key: str) -> bool:
        """Whether the stream has said that something of this key may be missing, or could not say it: who
        begins with the log knows nothing of what it lost.
        """
        if self._start == START and may_lose_logs(self._cluster):
            return True
        token = token_of(key.encode())
        return any(first <= token <= last for first, last in self.gaps)

    def image(self, key: str) -> Row | None:
        """What this reader has of a key."""
        held = self._held.get(key)
        return None if held is None else held.image
