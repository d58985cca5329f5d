"""The change stream as a total queue: what was acknowledged comes out, once identifiable, in order.

Keys are few and written over and over, with values that are used once, and deleted. Two subscribers read
from the beginning, moving from peer to peer with their cursors; at the end others read everything from the
start, one at each peer. Of each: nothing acknowledged is lost, nothing is invented, and its last image of
each key is the row. What holds within a stream is judged while it is read (jepsen_like/subscriber.py). Some
values have a time to live: none is read after it.
"""

from __future__ import annotations

from functools import partial

from core.consistency import Level
from core.row import live_cells
from core.streaming import NOW, START
from jepsen_like.checkers import Problem
from jepsen_like.door import End, Found
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import SECOND, Session
from jepsen_like.subscriber import Subscriber
from jepsen_like.workloads.puts import Puts
from kv.buckets import BucketSpec

KEYS = 24
DRAIN_US = 40 * SECOND
OPENED_US = 20 * SECOND
TTL_S_MAX = 4
FINAL_PATIENCE_US = 30 * SECOND


class ChangesWorkload(Puts):
    """See above."""

    keys = KEYS
    kinds: tuple[str, ...] = ("put", "delete", "get")

    def setup(self, session: Session) -> bool:
        """A bucket with images, and two readers that are listening."""
        self._start(session)
        factor = session.cluster.options.replication
        spec = BucketSpec("changes", None if factor == 3 else factor, changes="new_and_old")
        bucket = session.make_bucket(spec)
        if bucket is None:
            return False
        self.bucket = bucket
        self.readers += [self._reader(f"reader-{n}", NOW) for n in range(2)]
        cluster = session.cluster
        return cluster.run_until(lambda: all(reader.cursor for reader in self.readers), OPENED_US)

    def _start(self, session: Session) -> None:
        self.session = session
        self.written = 0
        self.finals: dict[str, Found | None] = {}
        self.readers: list[Subscriber] = []
        self._lives_s: dict[int, int] = {}
        """Values with a time to live."""
        self._immortal: list[Problem] = []
        self._drain_until_us = 0

    def _reader(self, name: str, start: str, peer: int = -1) -> Subscriber:
        reader = Subscriber(self.session.cluster, self.bucket, name, start)
        reader.open(peer)
        return reader

    def step(self) -> None:
        """Mostly puts."""
        dice = self.session.random.randrange(10)
        if dice < 7:
            self._put("put", -1)
        elif dice < 9:
            self._delete()
        else:
            self._get("get", -1)

    def _ttl_s(self) -> int | None:
        random = self.session.random
        if random.randrange(6):
            return None
        self._lives_s[self.written] = random.randint(1, TTL_S_MAX)
        return self._lives_s[self.written]

    def _delete(self) -> None:
        session = self.session
        operation = session.begin("delete", self._key())
        then = partial(session.end, operation)
        session.door.delete(operation.peer, self.bucket, operation.key, Level.QUORUM, then)

    # --- the end

    def final(self) -> None:
        """Every key, and everything from the start at each peer."""
        cluster = self.session.cluster
        self.session.door.patience_us = FINAL_PATIENCE_US
        self._drain_until_us = cluster.now_us + DRAIN_US
        for machine in cluster.machines[:3]:
            self.readers.append(self._reader(f"late-{machine.index}", START, machine.index))
        # what has a time to live is to have run out by every clock, and to have been told
        clock = cluster.options.clock
        wait_us = TTL_S_MAX * SECOND + 2 * clock.skew_us + cluster.now_us * clock.drift_ppm // 500_000
        self._drain_until_us += wait_us
        for number in range(KEYS):
            cluster.scheduler.after(wait_us, self._final_get, f"k{number}")

    def _final_get(self, key: str) -> None:
        operation = self.session.begin("final_get", key, None, 0)
        asked_us = self.session.cluster.machines[0].clock.read_us()

        def done(end: End) -> None:
            self.session.end(operation, end)
            if end.status == OK:
                self.finals[key] = end.result
                self._judge_life(end.result, asked_us)
            else:
                self.session.cluster.scheduler.after(SECOND, self._final_get, key)

        self.session.door.get(0, self.bucket, key, Level.ALL, done)

    def _judge_life(self, found: Found | None, asked_us: int) -> None:
        """A value is dead its time to live after its version at the latest, by the clock of who reads."""
        lives_s = None if found is None else self._lives_s.get(int(found.value))
        if found is not None and lives_s and found.version[0] + lives_s * SECOND <= asked_us:
            text = f"{found} was to live for {lives_s} s, and is read at {asked_us}"
            self._immortal.append(Problem("immortal", text))

    def finished(self) -> bool:
        """All reads are there, and readers have all they should have, or had time enough for it."""
        if len(self.finals) < KEYS:
            return False
        return self.session.cluster.now_us >= self._drain_until_us or not any(
            self._lost(reader) or self._unlike(reader) for reader in self.readers
        )

    def problems(self) -> list[Problem]:
        """All readers judged."""
        found: list[Problem] = [*self._immortal]
        written = self._writes(("put", "probe_write", "delete"), OK)
        for reader in self.readers:
            reader.close()
            found += reader.problems + self._lost(reader) + self._unlike(reader) + self._invented(reader)
            # who begins with a log that was forgotten late reads nothing, and cannot say so
            missed = all(reader.misses(f"k{number}") for number in range(KEYS))
            if written and not reader.events and not missed:
                found.append(Problem("idle", f"{reader.name} read no event"))
        return found

    def _writes(self, kinds: tuple[str, ...], status: str) -> list[Operation]:
        return [op for op in self.session.history.operations if op.kind in kinds and op.status == status]

    def _lost(self, reader: Subscriber) -> list[Problem]:
        """What was acknowledged and not delivered."""
        lost = [
            op
            for op in self._writes(("put", "probe_write"), OK)
            if (op.key, b"%d" % op.value) not in reader.of_value
        ]
        lost += [op for op in self._writes(("delete",), OK) if (op.key, op.result) not in reader.deletes]
        lost = [op for op in lost if not reader.misses(op.key)]
        return [Problem("lost", f"{reader.name} never got {op}") for op in lost[:5]]

    def _invented(self, reader: Subscriber) -> list[Problem]:
        """What was delivered and never written, or certainly not."""
        tried = {
            (op.key, b"%d" % op.value): op.status
            for op in self.session.history.operations
            if op.kind in ("put", "probe_write")
        }
        found = []
        for key, value in reader.of_value:
            status = tried.get((key, value))
            if status is None or status == FAIL:
                found.append(Problem("invented", f"{reader.name} got {value!r} of {key}: {status}"))
        return found[:5]

    def _is_told(self, key: str) -> bool:
        """Whether the stream is to have what the row of this key is."""
        del key
        return True

    def _unlike(self, reader: Subscriber) -> list[Problem]:
        """Keys of which the reader's last image is not the row: what ran out must have been told, too."""
        found = []
        slowest_us = min(machine.clock.read_us() for machine in self.session.cluster.machines)
        for key, row in sorted(self.finals.items()):
            image = reader.image(key)
            cells = () if image is None else live_cells(image, 0)
            values = [cell for cell in cells if cell.column == self.bucket.value_column]
            held = values[0].value if values else None
            wanted = None if row is None else row.value
            if row is not None and reader.ended.get(key) == row.version:
                continue  # it has run out by another clock than the one that read it
            if row is None and values and values[0].dead_from_us > slowest_us:
                continue  # replicas tell of it by their own clocks: a fault may have set one back by minutes
            if held != wanted and not reader.misses(key) and self._is_told(key):
                found.append(Problem("unlike", f"{reader.name} has {held!r} of {key}, the row {wanted!r}"))
        return found[:5]
