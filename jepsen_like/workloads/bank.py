"""A bank of two branches, whose money is neither made nor lost.

Within a branch, which is one partition, money moves by conditional batches: at every moment a SERIAL read of
its accounts adds up to the same sum, and no account is ever below zero. Between branches it moves by logged
batches that write one slip in each: in the end either both lie there or neither.

Reads at QUORUM are counted where they do not add up (`skewed`) but are no violation: reading a partition
while it changes is isolated at SERIAL only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from core.consistency import Level
from jepsen_like.checkers import Problem
from jepsen_like.door import End, Found
from jepsen_like.history import FAIL, OK, Operation
from jepsen_like.session import PROBES, SECOND, Session
from kv.buckets import Bucket, BucketSpec

BRANCHES = 2
ACCOUNTS = 5
BEGIN = 100
AMOUNT_MAX = 30
WAITING_MAX = 10
PAGE_ROWS = 500
FINAL_PATIENCE_US = 30 * SECOND
SETUP_US = 60 * SECOND
NAMES = tuple(f"a{number}" for number in range(ACCOUNTS))

Move = tuple[int, int, int]
"""(from, to, amount): accounts of a branch, or, of a slip, branches."""


class BankWorkload:
    """See above. The key of an operation is its branch, or -1 for one between branches."""

    kinds: tuple[str, ...] = ("transfer", "send", "read", "read_quorum")

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self.skewed = 0
        self._slips = 0
        self._waiting = [0] * BRANCHES
        self._final_left = 0
        self._finals: dict[int, dict[str, bytes]] = {}

    def setup(self, session: Session) -> bool:
        """A bucket for each branch, and money in its accounts."""
        self.session = session
        factor = session.cluster.options.replication
        for number in range(BRANCHES):
            spec = BucketSpec(f"bank-{number}", None if factor == 3 else factor, ordered=True)
            bucket = session.make_bucket(spec)
            if bucket is None:
                return False
            self.buckets.append(bucket)
        probes = session.make_bucket(BucketSpec(f"bank-{PROBES}", None if factor == 3 else factor))
        if probes is None:
            return False
        self._probes = probes
        endowed: dict[int, bool] = {}
        for branch in range(BRANCHES):
            self._endow(branch, endowed)
        return session.cluster.run_until(lambda: len(endowed) == BRANCHES, SETUP_US)

    def _endow(self, branch: int, endowed: dict[int, bool]) -> None:
        def change(values: tuple[bytes | None, ...]) -> Mapping[str, bytes] | None:
            return None if values[0] is not None else dict.fromkeys(NAMES, str(BEGIN).encode())

        def done(end: End) -> None:
            if end.status == OK:
                endowed[branch] = True
            else:
                self.session.cluster.scheduler.after(SECOND // 5, self._endow, branch, endowed)

        self.session.door.transact(0, self.buckets[branch], NAMES, change, done)

    # --- load

    def step(self) -> None:
        """Half of the operations move money, the others look."""
        draw = self.session.random.randrange
        branch, dice = draw(BRANCHES), draw(10)
        if dice < 4:
            if self._waiting[branch] >= WAITING_MAX:
                self._read("read", branch, Level.SERIAL, -1)
            else:
                one = draw(ACCOUNTS)
                other = (one + 1 + draw(ACCOUNTS - 1)) % ACCOUNTS
                self._transfer("transfer", branch, (one, other, 1 + draw(AMOUNT_MAX)), -1)
        elif dice < 6:
            self._send("send", (branch, 1 - branch, 1 + draw(AMOUNT_MAX)), -1)
        elif dice < 9:
            self._read("read", branch, Level.SERIAL, -1)
        else:
            self._read("read_quorum", branch, Level.QUORUM, -1)

    def probe(self, peer: int) -> None:
        """An update and a read beside the branches that all fight for."""
        self.session.probe_update(self._probes, peer)

    def _transfer(self, kind: str, branch: int, move: Move, peer: int) -> None:
        session, (source, target, amount) = self.session, move
        operation = session.begin(kind, branch, move, peer)
        self._waiting[branch] += 1
        names = (NAMES[source], NAMES[target])

        def change(values: tuple[bytes | None, ...]) -> Mapping[str, bytes] | None:
            one, other = (int(value or b"-1000000") for value in values)
            if one < amount:
                return None
            return {names[0]: b"%d" % (one - amount), names[1]: b"%d" % (other + amount)}

        def done(end: End) -> None:
            self._waiting[branch] -= 1
            session.end(operation, end._replace(result=end.result and end.result.applied))

        session.door.transact(operation.peer, self.buckets[branch], names, change, done)

    def _send(self, kind: str, move: Move, peer: int) -> None:
        session, (source, target, amount) = self.session, move
        self._slips += 1
        operation = session.begin(kind, -1, (*move, self._slips), peer)
        name = _slip(self._slips)
        items = [
            (self.buckets[source], name, b"%d" % -amount),
            (self.buckets[target], name, b"%d" % amount),
        ]
        session.door.put_across(operation.peer, items, Level.QUORUM, partial(session.end, operation))

    def _read(self, kind: str, branch: int, level: Level, peer: int) -> None:
        session = self.session
        operation = session.begin(kind, branch, None, peer)

        def done(end: End) -> None:
            if end.status == OK:
                rows: Sequence[Found] = end.result[0]
                end = end._replace(result=tuple(int(row.value) for row in rows))
            session.end(operation, end)

        session.door.page(operation.peer, self.buckets[branch], ("a", "", ACCOUNTS + 1), level, done)

    # --- the end

    def final(self) -> None:
        """Everything in both branches, once nothing is under way."""
        self._final_left = 1
        self.session.door.patience_us = FINAL_PATIENCE_US
        self._read_when_idle()

    def _read_when_idle(self) -> None:
        if any(self._waiting):
            self.session.cluster.scheduler.after(SECOND // 5, self._read_when_idle)
            return
        self._final_left = BRANCHES
        for branch in range(BRANCHES):
            self._page(branch, {}, "")

    def _page(self, branch: int, rows: dict[str, bytes], after: str) -> None:
        session = self.session
        operation = session.begin("final", branch, after, branch)

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end)
                session.cluster.scheduler.after(SECOND, self._page, branch, rows, after)
                return
            found, more = end.result
            rows.update((row.key, row.value) for row in found)
            session.end(operation, end._replace(result=len(rows)))
            if more and found:
                self._page(branch, rows, found[-1].key)
                return
            self._finals[branch] = rows
            self._final_left -= 1

        window = ("", after, PAGE_ROWS)
        session.door.page(operation.peer, self.buckets[branch], window, Level.QUORUM, done)

    def finished(self) -> bool:
        """Both branches were read."""
        return self._final_left == 0

    def problems(self) -> list[Problem]:
        """Sums of reads, slips, and what is in the accounts at the end."""
        operations = self.session.history.operations
        self.skewed = sum(
            op.kind == "read_quorum" and op.status == OK and not _adds_up(op.result) for op in operations
        )
        serial = [op for op in operations if op.kind == "read" and op.status == OK]
        problems = judge_reads(serial)
        sends = [op for op in operations if op.kind == "send"]
        problems += judge_slips(sends, [self._finals.get(branch, {}) for branch in range(BRANCHES)])
        for branch in range(BRANCHES):
            transfers = [op for op in operations if op.kind == "transfer" and op.key == branch]
            problems += judge_accounts(transfers, self._finals.get(branch, {}))
        return problems


def _slip(number: int) -> str:
    return f"s{number:07d}"


def _adds_up(balances: Sequence[int]) -> bool:
    return len(balances) == ACCOUNTS and sum(balances) == ACCOUNTS * BEGIN


def judge_reads(reads: Iterable[Operation]) -> list[Problem]:
    """`wrong_sum`: a read of a branch does not add up; `negative`: an account is below zero."""
    problems = []
    for read in reads:
        if not _adds_up(read.result):
            problems.append(Problem("wrong_sum", f"{read!r} adds up to {sum(read.result)}"))
        if min(read.result, default=0) < 0:
            problems.append(Problem("negative", repr(read)))
    return problems


def judge_slips(sends: Iterable[Operation], branches: Sequence[Mapping[str, bytes]]) -> list[Problem]:
    """`torn`: one slip of two; `lost`: both, though acknowledged; `unexpected`: of a send that failed."""
    problems = []
    for send in sends:
        source, target, amount, number = send.value
        found = branches[source].get(_slip(number)), branches[target].get(_slip(number))
        if found == (b"%d" % -amount, b"%d" % amount):
            if send.status == FAIL:
                problems.append(Problem("unexpected", repr(send)))
        elif found != (None, None):
            problems.append(Problem("torn", f"{send!r} left {found}"))
        elif send.status == OK:
            problems.append(Problem("lost", repr(send)))
    return problems


def judge_accounts(transfers: Iterable[Operation], rows: Mapping[str, bytes]) -> list[Problem]:
    """What each account may hold in the end, by the acknowledged transfers and those of unknown end."""
    low = dict.fromkeys(NAMES, BEGIN)
    high = dict.fromkeys(NAMES, BEGIN)
    for transfer in transfers:
        if transfer.status == FAIL or (transfer.status == OK and not transfer.result):
            continue
        source, target, amount = transfer.value
        known = transfer.status == OK
        low[NAMES[source]] -= amount
        high[NAMES[target]] += amount
        high[NAMES[source]] -= amount if known else 0
        low[NAMES[target]] += amount if known else 0
    problems = []
    for name in NAMES:
        balance = int(rows.get(name, b"-1"))
        if not low[name] <= balance <= high[name]:
            span = f"{low[name]} to {high[name]}"
            problems.append(Problem("lost", f"{name} holds {balance}, not {span}"))
    if not _adds_up([int(rows.get(name, b"-1")) for name in NAMES]):
        problems.append(Problem("wrong_sum", f"in the end: {[rows.get(name) for name in NAMES]}"))
    return problems
