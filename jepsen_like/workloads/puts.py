"""What workloads on one bucket have in common that write values which are used once."""

from __future__ import annotations

from functools import partial

from core.consistency import Level
from jepsen_like.session import Session
from kv.buckets import Bucket


class Puts:
    """Puts and gets of a few keys, through whichever peer."""

    keys: int
    """How many keys there are."""
    session: Session
    bucket: Bucket
    written: int
    """The last value that was tried."""

    def probe(self, peer: int) -> None:
        """A put and a get."""
        self._put("probe_write", peer)
        self._get("probe_read", peer)

    def _key(self) -> str:
        return f"k{self.session.random.randrange(self.keys)}"

    def _ttl_s(self) -> int | None:
        """How long a value is to live: for ever."""
        return None

    def _put(self, kind: str, peer: int) -> None:
        session = self.session
        self.written += 1
        operation = session.begin(kind, self._key(), self.written, peer)
        item = (operation.key, b"%d" % self.written)
        then = partial(session.end, operation)
        session.door.put(operation.peer, self.bucket, item, Level.QUORUM, then, ttl_s=self._ttl_s())

    def _get(self, kind: str, peer: int) -> None:
        session = self.session
        operation = session.begin(kind, self._key(), None, peer)
        then = partial(session.end, operation)
        session.door.get(operation.peer, self.bucket, operation.key, Level.QUORUM, then)
