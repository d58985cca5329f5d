"""A workload of one's own: each user's shopping cart keeps every article that was acknowledged.

    sullae simulate --workload docs/examples/my_workload.py --seeds 5
    sullae jepsen --workload docs/examples/my_workload.py --minutes 2 --peers 3

Three things make a workload: what clients do (`step`), how it is seen afterwards (`final`), and what must
hold (`problems`). It knows nothing of faults. An operation is begun with `session.begin` and ended with
`session.end`; the door calls back with how it ended: ok, fail (certainly not done), or info (nobody knows).
"""

from __future__ import annotations

from core.consistency import Level
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, OK
from jepsen_like.session import SECOND, Session
from kv.buckets import BucketSpec

CARTS = 8


class Carts:
    """Articles are added by conditional updates, since two devices of one user may add at once."""

    kinds = ("add", "look")
    """Of each of these one must have worked, or the run proves nothing."""

    def __init__(self) -> None:
        self.articles = 0
        self.left = -1
        self.carts: dict[int, list[int]] = {}

    def setup(self, session: Session) -> bool:
        """Make what is needed; nothing is wrong with the cluster yet."""
        self.session = session
        bucket = session.make_bucket(BucketSpec("carts"))
        if bucket is not None:
            self.bucket = bucket
        return bucket is not None

    def step(self) -> None:
        """One operation, drawn from the session's own dice so that a seed repeats it."""
        user = self.session.random.randrange(CARTS)
        if self.session.random.randrange(3):
            self.add("add", user, peer=-1)
        else:
            self.look("look", user, peer=-1)

    def probe(self, peer: int) -> None:
        """A write and a read at this peer: shows that it serves again after everything healed."""
        self.add("probe_write", CARTS + peer, peer)
        self.look("probe_read", CARTS + peer, peer)

    def add(self, kind: str, user: int, peer: int) -> None:
        """Put one more article into a cart."""
        self.articles += 1
        article = self.articles
        operation = self.session.begin(kind, user, article, peer)
        self.session.door.update(
            operation.peer,
            self.bucket,
            f"cart-{user}",
            lambda cart: (cart or b"") + b" %d" % article,
            lambda end: self.session.end(operation, end),
        )

    def look(self, kind: str, user: int, peer: int) -> None:
        """Read a cart."""
        operation = self.session.begin(kind, user, None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                end = end._replace(result=self.articles_in(end))
            self.session.end(operation, end)

        self.session.door.get(operation.peer, self.bucket, f"cart-{user}", Level.QUORUM, done)

    @staticmethod
    def articles_in(end: End) -> list[int]:
        """What a read brought."""
        return [] if end.result is None else [int(article) for article in end.result.value.split()]

    def final(self) -> None:
        """Read every cart once more; each read is repeated until it works."""
        self.left = CARTS
        for user in range(CARTS):
            self.read_at_last(user)

    def read_at_last(self, user: int) -> None:
        """One final read."""

        def done(end: End) -> None:
            if end.status == OK:
                self.carts[user] = self.articles_in(end)
                self.left -= 1
            else:
                self.session.cluster.scheduler.after(SECOND, self.read_at_last, user)

        self.session.door.get(user % 3, self.bucket, f"cart-{user}", Level.SERIAL, done)

    def finished(self) -> bool:
        """Whether all final reads are there."""
        return self.left == 0

    def problems(self) -> list[Problem]:
        """What was acknowledged is there once, what failed is not, what is unknown may be."""
        found = []
        for operation in self.session.history.operations:
            if operation.kind != "add":
                continue
            times = self.carts[operation.key].count(operation.value)
            if times > 1:
                found.append(Problem("doubled", f"{operation!r} is there {times} times"))
            elif times == 0 and operation.status == OK:
                found.append(Problem("lost", f"{operation!r} is not there"))
            elif times == 1 and operation.status == FAIL:
                found.append(Problem("unexpected", f"{operation!r} is there all the same"))
        return found


WORKLOAD = Carts
