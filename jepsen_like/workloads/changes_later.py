"""The change stream of a bucket whose `changes` are switched on while it is written to, under faults.

The request that switches them on is sent to one peer after another until one says that it is done. What was
begun after that and acknowledged is in the stream, with both images, at every replica; readers that begin
with the log miss nothing of it, and the last image of a key that was written since is its row. What was begun
before may be there without images: then the next event of its key need not continue the one before.
"""

from __future__ import annotations

import msgspec

from core.requests import MetadataRequest
from core.streaming import START
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import NEVER, OK, Operation
from jepsen_like.session import SECOND, Session
from jepsen_like.subscriber import Subscriber
from jepsen_like.workloads.changes import ChangesWorkload
from kv.buckets import BucketSpec, alter_bucket
from streams.events import ENDED, Event

SWITCHED_US = (2 * SECOND, 20 * SECOND)
AGAIN_US = SECOND // 5


class LaterSubscriber(Subscriber):
    """A reader for whom an event without images says nothing but that images begin anew."""

    def _judge(self, event: Event, value: bytes | None) -> None:
        if all(event.imaged) or event.operation == ENDED:
            super()._judge(event, value)
        else:
            self._held.pop(event.partition.decode(), None)
            self._forgotten.append((event.token, event.token))


class ChangesLaterWorkload(ChangesWorkload):
    """See above."""

    kinds: tuple[str, ...] = ("put", "delete", "get", "switch")

    def setup(self, session: Session) -> bool:
        """A bucket that keeps nothing for subscribers, and when that is to change."""
        self._start(session)
        self._since = NEVER
        """What is invoked after this is in the stream."""
        factor = session.cluster.options.replication
        self.spec = BucketSpec("changes", None if factor == 3 else factor)
        bucket = session.make_bucket(self.spec)
        if bucket is None:
            return False
        self.bucket = bucket
        session.cluster.scheduler.after(session.random.randint(*SWITCHED_US), self._switch)
        return True

    def _switch(self) -> None:
        session = self.session
        request = alter_bucket(self.bucket, msgspec.structs.replace(self.spec, changes="new_and_old"))
        assert isinstance(request, MetadataRequest), request
        operation = session.begin("switch", "changes")

        def done(end: End) -> None:
            session.end(operation, end)
            if end.status != OK:
                session.cluster.scheduler.after(AGAIN_US, self._switch)
            elif self._since == NEVER:
                self._since = operation.completed
                self.readers += [self._reader(f"reader-{n}", START) for n in range(2)]

        session.door.ask(operation.peer, request, done)

    def finished(self) -> bool:
        """As ever; and it is switched on by now, or had time enough for it."""
        is_on = self._since != NEVER or self.session.cluster.now_us >= self._drain_until_us
        return is_on and super().finished()

    def problems(self) -> list[Problem]:
        """As ever; and that it could be switched on."""
        if self._since == NEVER:
            return [Problem("not_live", "the changes could not be switched on")]
        return super().problems()

    def _reader(self, name: str, start: str, peer: int = -1) -> Subscriber:
        reader = LaterSubscriber(self.session.cluster, self.bucket, name, start)
        reader.open(peer)
        return reader

    def _writes(self, kinds: tuple[str, ...], status: str) -> list[Operation]:
        return [op for op in super()._writes(kinds, status) if op.invoked > self._since]

    def _is_told(self, key: str) -> bool:
        return any(op.key == key for op in self._writes(("put", "probe_write", "delete"), OK))
