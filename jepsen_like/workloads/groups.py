"""A consumer group under faults: every acknowledged write is worked on by some member, whoever dies.

Three members share one bucket's changes. Members die with what they hold, stand still and wake with an
acknowledgement that is no longer theirs to give, come back and are joined by others; peers do what the
nemesis does. At the end all that was acknowledged must have been worked on (jepsen_like/group_member.py), and
nothing that was never written.
"""

from __future__ import annotations

from core.consistency import Level
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.group_member import Group, GroupMember
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads.puts import Puts
from kv.buckets import BucketSpec
from node.group_records import BEATS, BUCKET

KEYS = 60
PARTS = 6
MEMBERS = 3
DRAIN_US = 20 * SECOND
OPENED_US = 30 * SECOND
HEALTHY_US = 3 * SECOND
TROUBLE_US = (SECOND, 4 * SECOND)
AWAY_US = (SECOND // 2, 6 * SECOND)


class GroupsWorkload(Puts):
    """See above."""

    keys = KEYS
    kinds: tuple[str, ...] = ("put", "get")

    def setup(self, session: Session) -> bool:
        """A bucket, and three members that have parts."""
        self.session = session
        self.written = 0
        factor = session.cluster.options.replication
        spec = BucketSpec("grouped", None if factor == 3 else factor, changes="new")
        bucket = session.make_bucket(spec)
        records = session.make_bucket(BucketSpec(BUCKET, spec.replication_factor))
        beats = session.make_bucket(BucketSpec(BEATS, spec.replication_factor, ordered=True))
        if bucket is None or records is None or beats is None:
            return False
        self.bucket = bucket
        self.group = Group(session.cluster, bucket, "etl", PARTS)
        self.members = [GroupMember(self.group, f"m{number}") for number in range(MEMBERS)]
        for member in self.members:
            member.open()
        self._drain_until_us = 0
        self._final = 0
        cluster = session.cluster
        opened = cluster.run_until(lambda: all(member.parts for member in self.members), OPENED_US)
        cluster.scheduler.after(HEALTHY_US, self._trouble)
        return opened

    def _trouble(self) -> None:
        """A member dies, or one more comes; without load there are none, as their beats are writes."""
        if not self.session.loading:
            for member in self.members if not self._drain_until_us else ():
                member.die()  # but for the end, when they are back to work on what is left
            return
        random, scheduler = self.session.random, self.session.cluster.scheduler
        alive = [member for member in self.members if member.alive]
        if len(self.members) < 2 * MEMBERS and random.randrange(8) == 0:
            self.members.append(GroupMember(self.group, f"m{len(self.members)}"))
            self.members[-1].open()
        elif len(alive) > 1:
            member = alive[random.randrange(len(alive))]
            member.die(random.choice((0, 3 * SECOND, 8 * SECOND)), vanish=random.randrange(4) == 0)
            scheduler.after(random.randint(*AWAY_US), self._back, member)
        scheduler.after(random.randint(*TROUBLE_US), self._trouble)

    def _back(self, member: GroupMember) -> None:
        if not member.alive and (self.session.loading or self._drain_until_us):
            member.open()

    def step(self) -> None:
        """Mostly puts."""
        if self.session.random.randrange(10) < 9:
            self._put("put", -1)
        else:
            self._get("get", -1)

    # --- the end

    def final(self) -> None:
        """All members are back; one read, so that there is a final one."""
        cluster = self.session.cluster
        self._drain_until_us = cluster.now_us + DRAIN_US
        for member in self.members:
            self._back(member)
        self._final_get()

    def _final_get(self) -> None:
        operation = self.session.begin("final_get", "k0", None, 0)

        def done(end: End) -> None:
            self.session.end(operation, end)
            if end.status == OK:
                self._final += 1
            else:
                self.session.cluster.scheduler.after(SECOND, self._final_get)

        self.session.door.get(0, self.bucket, "k0", Level.ALL, done)

    def finished(self) -> bool:
        """All that was acknowledged was worked on, or there was time enough for it."""
        now_us = self.session.cluster.now_us
        return self._final > 0 and (now_us >= self._drain_until_us or not self._lost())

    def problems(self) -> list[Problem]:
        """What was lost or invented, and what was seen on the way."""
        for member in self.members:
            member.die()
        found = self.group.problems + self._lost() + self._invented()
        if not self.group.acks:
            found.append(Problem("idle", "nothing was ever acknowledged"))
        return found

    def _writes(self) -> list[Operation]:
        kinds = ("put", "probe_write")
        return [op for op in self.session.history.operations if op.kind in kinds]

    def _lost(self) -> list[Problem]:
        lost = [
            op
            for op in self._writes()
            if op.status == OK
            and (op.key, b"%d" % op.value) not in self.group.done
            and not self.group.misses(op.key)
        ]
        return [Problem("lost", f"no member worked on {op}") for op in lost[:5]]

    def _invented(self) -> list[Problem]:
        tried = {(op.key, b"%d" % op.value): op.status for op in self._writes()}
        strange = [
            item
            for item in self.group.done
            if item[1] is not None and tried.get(item) in (None, FAIL)  # type: ignore[arg-type]
        ]
        return [Problem("invented", f"{key}: {value!r}") for key, value in strange[:5]]
