"""Several workloads at once at one cluster, each with clients, rows and a judge of its own.

What disturbs one may be what another does: a batch log that is replayed while a partition is fought for,
hints of a set beside the tombstones of deletes. Only workloads that keep to their own buckets can be parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jepsen_like.checkers import Problem, stats
from jepsen_like.session import Session
from jepsen_like.workloads import Workload
from jepsen_like.workloads.append import AppendWorkload
from jepsen_like.workloads.bank import BankWorkload
from jepsen_like.workloads.batches import BatchesWorkload
from jepsen_like.workloads.cas_register import CasRegisterWorkload
from jepsen_like.workloads.deletes import DeletesWorkload
from jepsen_like.workloads.monotonic import MonotonicWorkload
from jepsen_like.workloads.register import RegisterWorkload
from jepsen_like.workloads.set_workload import SetWorkload
from jepsen_like.workloads.txn import TxnWorkload

PARTS: Mapping[str, Callable[[], Workload]] = {
    "set": SetWorkload,
    "register": RegisterWorkload,
    "deletes": DeletesWorkload,
    "cas-register": CasRegisterWorkload,
    "append": AppendWorkload,
    "batches": BatchesWorkload,
    "txn": TxnWorkload,
    "bank": BankWorkload,
    "monotonic": MonotonicWorkload,
}


class CompositeWorkload:
    """See above. Kinds of operations are looked at part by part."""

    kinds: tuple[str, ...] = ()

    def __init__(self, parts: Mapping[str, Callable[[], Workload]] = PARTS) -> None:
        self.parts = {name: make() for name, make in parts.items()}
        self.sessions: dict[str, Session] = {}
        self._order = list(parts)

    def setup(self, session: Session) -> bool:
        """Each part's own."""
        self.session = session
        for name, part in self.parts.items():
            self.sessions[name] = session.sibling(name)
            if not part.setup(self.sessions[name]):
                session.why_not = f"{name}: {self.sessions[name].why_not}"
                return False
        return True

    def step(self) -> None:
        """One operation of some part."""
        self.parts[self._order[self.session.random.randrange(len(self._order))]].step()

    def probe(self, peer: int) -> None:
        """A write and a read of every part."""
        for part in self.parts.values():
            part.probe(peer)

    def final(self) -> None:
        """All final reads."""
        for part in self.parts.values():
            part.final()

    def finished(self) -> bool:
        """Whether all parts are done."""
        return all(part.finished() for part in self.parts.values())

    def problems(self) -> list[Problem]:
        """What is wrong with any part, by its name."""
        found: list[Problem] = []
        for name, part in self.parts.items():
            problems = [*part.problems(), *stats(self.sessions[name].history, part.kinds)]
            found += [Problem(problem.name, f"{name}: {problem.text}") for problem in problems]
        return found
