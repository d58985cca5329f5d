"""One coordinator of conditional updates, played message by message."""

from __future__ import annotations

from typing import Any

import pytest

from core import limits
from core.cell import NO_VERSION, VALUE, Cell
from core.commands import (
    NO_BALLOT,
    Applied,
    Ballot,
    PaxosAccept,
    PaxosAccepted,
    PaxosCommit,
    PaxosFetch,
    PaxosFetched,
    PaxosPrepare,
    PaxosRefused,
    Promised,
    Rows,
)
from core.consistency import Level
from core.messages import MutationApplied, OperationFailed, PaxosAsk, PaxosTold
from core.mutation import INSERT, decode_mutation
from core.requests import (
    Broken,
    ConditionalRequest,
    Invalid,
    Judged,
    Overloaded,
    PartRead,
    ReadRequest,
    RowsRead,
    RowWrite,
    Timeout,
    Unavailable,
    Write,
    WriteRequest,
)
from core.row import Row, encode_row
from lsm import keys
from node.paxos_view import newest_read, view_of
from ring.tokens import token_of
from tests.node.stage import ME, PEERS, START_US, B, C, Stage, cluster_state

FLAT = 1
KEY = keys.row_key(FLAT, token_of(b"k"), b"k")


def rows(value: bytes | None = None, at: int = 5) -> tuple[Rows, ...]:
    row = Row(None, (Cell(1, (), VALUE, at, 7, 0, value),))
    return (Rows(() if value is None else ((KEY, encode_row(row)),), None, False),)


def promise(
    before: Ballot = NO_BALLOT,
    accepted: Ballot = NO_BALLOT,
    committed: Ballot = NO_BALLOT,
    *,
    version: tuple[int, int] = NO_VERSION,
    holds: tuple[bool, ...] = (),
    value: bytes | None = None,
    at: int = 5,
    proposal: bytes = b"",
) -> Promised:
    return Promised(before, accepted, committed, version, holds, rows(value, at), proposal)


def request(
    old: bytes | None = None, new: bytes = b"new", level: Level = Level.QUORUM, **more: Any
) -> ConditionalRequest:
    """Write `new` if the value is `old`."""

    def decide(reads: tuple[RowsRead, ...]) -> WriteRequest | None:
        found = reads[0].rows[0].row.cells[0].value if reads[0].rows else None
        write = RowWrite(keys.ROW_SUFFIX, (Write(1, (), VALUE, new),))
        return WriteRequest(FLAT, b"k", (write,), Level.ONE, INSERT) if found == old else None

    return ConditionalRequest(FLAT, b"k", (PartRead(keys.ROW_SUFFIX),), decide, level, **more)


class Play(Stage):
    """The stage with a conditional update on it."""

    def begin(self, asked: ConditionalRequest | None = None) -> None:
        self.paxos.begin(asked or request(), self.deadline_us, self.answer)

    def read(self) -> None:
        asked = ReadRequest(FLAT, b"k", keys.ROW_SUFFIX, b"", True, Level.SERIAL)
        self.scans.read(asked, self.deadline_us, self.answer)

    def asked(self, kind: type) -> Any:
        """What B and C are asked now (equal), taken; and ourselves."""
        messages = [
            (peer, message) for peer, message in self.take(PaxosAsk) if isinstance(message.step, kind)
        ]
        assert messages, self.answers
        self.last: Any = messages[-1][1]
        return self.last

    def tell(self, peer: bytes, outcome: Any) -> None:
        """A replica answers what was asked last."""
        op = self.last.op
        if isinstance(outcome, Applied):
            self.message(peer, MutationApplied(op, None))
        elif isinstance(outcome, OperationFailed):
            self.message(peer, OperationFailed(op, outcome.why, outcome.detail))
        else:
            self.message(peer, PaxosTold(op, outcome))


def test_two_round_trips_decide_and_the_commit_is_waited_for() -> None:
    play = Play()
    play.begin()
    ballot = play.asked(PaxosPrepare).step.ballot
    assert ballot == (START_US, 1 << 32 | 7)
    play.tell(B, promise())
    play.tell(C, promise())
    accept = play.asked(PaxosAccept).step
    assert accept.ballot == ballot
    mutation = decode_mutation(accept.proposal)
    assert not mutation.stamped
    play.tell(ME, PaxosAccepted())
    assert not play.answers
    play.tell(C, PaxosAccepted())
    play.asked(PaxosCommit)
    play.tell(B, Applied(None, True))
    assert not play.answers
    play.tell(ME, Applied(None, True))
    (answer,) = play.answers
    assert answer.applied and answer.version == (START_US + 1, 1 << 32 | 7)
    play.tell(C, Applied(None, True))
    assert not play.inside.operations
    play.pass_time(60_000_000)
    assert len(play.answers) == 1


def test_a_false_condition_is_answered_at_once_only_if_nothing_is_newer() -> None:
    quiet = Play()
    quiet.begin(request(old=b"other"))
    quiet.asked(PaxosPrepare)
    for peer in (B, C):
        quiet.tell(peer, promise((3, 1), NO_BALLOT, (4, 1), version=(5, 7), value=b"v"))
    (answer,) = quiet.answers
    assert isinstance(answer, Judged) and not answer.applied and answer.version is None
    assert answer.reads[0].rows[0].row.cells[0].value == b"v"
    for newer in (promise((9, 1), NO_BALLOT, (4, 1), version=(5, 7), value=b"v"), promise(value=b"v")):
        play = Play()
        play.begin(request(old=b"other"))
        play.asked(PaxosPrepare)
        play.tell(B, newer)
        play.tell(C, newer)
        assert not play.answers
        assert play.asked(PaxosAccept).step.proposal == b""
        play.tell(B, PaxosAccepted())
        play.tell(C, PaxosAccepted())
        assert isinstance(play.answers[0], Judged) and not play.answers[0].applied


def test_an_unfinished_proposal_is_finished_as_it_is_before_ours() -> None:
    play = Play()
    play.begin()
    ballot = play.asked(PaxosPrepare).step.ballot
    play.tell(B, promise((3, 1), (3, 1)))
    play.tell(C, promise((2, 1), (2, 1), proposal=b"an older one"))
    fetch = play.asked(PaxosFetch).step
    assert (fetch.ballot, fetch.committed) == ((3, 1), False)
    play.tell(B, PaxosFetched(b"somebody's"))
    accept = play.asked(PaxosAccept).step
    assert accept.proposal == b"somebody's" and accept.ballot == ballot
    play.tell(B, PaxosAccepted())
    play.tell(C, PaxosAccepted())
    sent = [message.step for _, message in play.sent if isinstance(message, PaxosAsk)]
    assert next(step for step in sent if isinstance(step, PaxosCommit)).mutation == b"somebody's"
    assert play.asked(PaxosPrepare).step.ballot > ballot


def test_who_accepts_after_somebodys_proposal_was_settled_is_not_heard() -> None:
    """Settled after the deadline, before the timer says so: the third acceptance finds nobody."""
    play = Play()
    play.paxos.begin(request(), play.monotonic + 1_000_000, play.answer)
    play.asked(PaxosPrepare)
    play.tell(B, promise((3, 1), (3, 1), proposal=b"somebody's"))
    play.tell(C, promise())
    play.asked(PaxosAccept)
    play.tell(B, PaxosAccepted())
    play.monotonic += 1_000_000
    play.tell(C, PaxosAccepted())
    play.submitted = [item for item in play.submitted if isinstance(item[1], PaxosAccept)]
    play.stored(PaxosAccepted())
    assert play.asked(PaxosCommit).step.mutation == b"somebody's"
    assert [type(answer) for answer in play.answers] == [Timeout]
    play.pass_time(10_000_000)
    assert len(play.answers) == 1 and not play.inside.operations and not play.timers


def test_who_was_stopped_while_it_was_accepted_leaves_its_turn() -> None:
    """Both timers are late when the process goes on: what was asked is given up, and the next one's turn."""
    play = Play()
    play.paxos.begin(request(), play.monotonic + 1_000_000, play.answer)
    play.asked(PaxosPrepare)
    play.tell(B, promise())
    play.tell(C, promise())
    play.asked(PaxosAccept)
    play.tell(B, PaxosAccepted())
    play.monotonic += 5_000_000
    late = sorted(play.timers.values())
    play.timers.clear()
    for _, timer in late:
        play.inside.timer_fired(timer)
    (answer,) = play.answers
    assert isinstance(answer, Timeout) and answer.write, "one replica has accepted it"
    assert not play.paxos._turns and not play.inside.operations
    play.begin()
    play.asked(PaxosPrepare)


def test_who_lacks_the_latest_commit_gets_it_and_all_is_read_again() -> None:
    play = Play()
    play.begin()
    play.asked(PaxosPrepare)
    play.tell(B, promise(committed=(4, 1)))
    play.tell(C, promise(committed=(2, 1)))
    fetch = play.asked(PaxosFetch).step
    assert (fetch.ballot, fetch.committed) == ((4, 1), True)
    play.tell(B, PaxosFetched(b"the latest"))
    assert [peer for peer, _ in play.sent] == [C]
    assert play.asked(PaxosCommit).step.mutation == b"the latest"
    play.tell(C, Applied(None, True))
    play.asked(PaxosPrepare)


def test_a_rival_is_met_with_a_higher_ballot_after_a_while_and_a_slow_clock_at_once() -> None:
    play = Play()
    play.begin()
    play.asked(PaxosPrepare)
    ahead = (START_US + 5_000, 9)
    play.tell(B, PaxosRefused(ahead, NO_BALLOT))
    play.tell(C, PaxosRefused(ahead, NO_BALLOT))
    assert not play.take(PaxosAsk)
    play.pass_time(limits.SECOND_US // 3)
    assert play.asked(PaxosPrepare).step.ballot > ahead
    ahead = (START_US + 90_000, 9)
    play.tell(B, PaxosRefused(ahead, ahead))
    play.tell(C, PaxosRefused(ahead, ahead))
    assert play.asked(PaxosPrepare).step.ballot > ahead


def test_a_proposal_of_ours_that_a_rival_finished_is_applied_and_not_made_again() -> None:
    play = Play()
    play.begin()
    play.asked(PaxosPrepare)
    play.tell(B, promise())
    play.tell(C, promise())
    ours = play.asked(PaxosAccept).step.proposal
    ahead = (START_US + 5_000, 9)
    play.tell(B, PaxosRefused(ahead, NO_BALLOT))
    play.tell(C, PaxosRefused(ahead, NO_BALLOT))
    play.pass_time(limits.SECOND_US // 3)
    assert play.asked(PaxosPrepare).step.ids == (decode_mutation(ours).id,)
    play.tell(B, promise(committed=ahead, holds=(True,), value=b"later"))
    play.tell(C, promise(holds=(False,)))
    assert play.asked(PaxosCommit).step.mutation == ours
    play.tell(B, Applied(None, False))
    play.tell(C, Applied(None, False))
    assert play.answers[0].applied


def test_the_version_lies_above_everything_read_whatever_the_clock_says() -> None:
    play = Play()
    play.begin(request(old=b"v"))
    play.asked(PaxosPrepare)
    far = START_US + 20_000_000
    play.tell(B, promise(value=b"v", at=far))
    play.tell(C, promise(value=b"v", at=far))
    mutation = decode_mutation(play.asked(PaxosAccept).step.proposal)
    assert mutation.rows[0][1].cells[0].timestamp_us > far + 1


def test_a_timeout_is_unknown_only_if_something_was_proposed() -> None:
    before = Play()
    before.begin()
    before.pass_time(2_000_000)
    assert before.answers == [Timeout(0, 2, Level.SERIAL, write=False, write_type="CAS")]
    after = Play()
    after.begin()
    after.asked(PaxosPrepare)
    after.tell(B, promise())
    after.tell(C, promise())
    after.asked(PaxosAccept)
    after.pass_time(900_000)
    after.pass_time(1_100_000)
    assert after.answers == [Timeout(0, 2, Level.SERIAL, write=True, write_type="CAS")]
    decided = Play()
    decided.begin()
    decided.asked(PaxosPrepare)
    decided.tell(B, promise())
    decided.tell(C, promise())
    decided.asked(PaxosAccept)
    decided.tell(B, PaxosAccepted())
    decided.tell(C, PaxosAccepted())
    decided.asked(PaxosCommit)
    decided.tell(ME, Applied(None, True))
    decided.pass_time(2_000_000)
    assert decided.answers == [Timeout(1, 2, Level.QUORUM, write=True)]
    assert sorted(peer for peer, _ in decided.hints.owed) == [B, C]


def test_what_is_being_accepted_outlives_its_client() -> None:
    play = Play()
    play.begin()
    play.pass_time(1_200_000)
    play.asked(PaxosPrepare)
    play.tell(B, promise())
    play.tell(C, promise())
    play.asked(PaxosAccept)
    play.pass_time(800_000)
    assert isinstance(play.answers[0], Timeout)
    play.tell(B, PaxosAccepted())
    play.tell(C, PaxosAccepted())
    play.asked(PaxosCommit)
    play.pass_time(10_000_000)
    assert len(play.answers) == 1 and not play.inside.operations and not play.timers


def test_too_few_replicas_and_those_that_fail() -> None:
    play = Play()
    play.swim.dead = [B, C]
    play.begin()
    assert play.answers == [Unavailable(2, 1, Level.SERIAL)]
    play = Play()
    play.swim.dead = [C]
    play.begin(request(level=Level.ALL))
    assert play.answers == [Unavailable(3, 2, Level.ALL)]
    for why, kind in (("overloaded", Overloaded), ("disk_full", Broken)):
        play = Play()
        play.begin()
        play.asked(PaxosPrepare)
        play.tell(B, OperationFailed(0, why, "no"))
        play.tell(C, OperationFailed(0, why, "no"))
        (answer,) = play.answers
        assert isinstance(answer, kind)
        assert not (isinstance(answer, Broken) and answer.unknown)


def test_proposals_of_one_partition_queue_and_the_queue_is_bounded() -> None:
    play = Play()
    for _ in range(limits.PAXOS_QUEUE_MAX + 2):
        play.begin(request(old=b"other"))
    assert len(play.answers) == 1 and isinstance(play.answers[0], Overloaded)
    assert len([1 for peer, _ in play.take(PaxosAsk) if peer == B]) == 1
    play.pass_time(2_000_000)
    assert len(play.answers) == limits.PAXOS_QUEUE_MAX + 2
    assert not play.inside.operations and not play.paxos._turns and not play.paxos._queues


def test_one_refused_for_want_of_replicas_gives_its_turn_to_the_next() -> None:
    play = Play()
    for _ in range(100):
        play.begin()
    play.unreachable = [B, C]
    play.asked(PaxosPrepare)
    play.tell(B, OperationFailed(0, "overloaded", "gone"))
    play.tell(C, OperationFailed(0, "overloaded", "gone"))
    assert len(play.answers) == 100


def test_a_read_that_finds_nothing_newer_takes_no_ballot() -> None:
    play = Play()
    play.read()
    assert play.asked(PaxosPrepare).step.ballot == NO_BALLOT
    play.tell(B, promise((4, 1), NO_BALLOT, (4, 1), version=(5, 7), value=b"v"))
    play.tell(C, promise((4, 1), NO_BALLOT, (4, 1), version=(5, 7), value=b"v"))
    assert isinstance(play.answers[0], RowsRead)


@pytest.mark.parametrize("begun", [False, True])
def test_a_read_of_what_was_written_without_conditions_looks_twice(begun: bool) -> None:
    play = Play()
    play.read()
    play.asked(PaxosPrepare)
    play.tell(B, promise(value=b"v"))
    play.tell(C, promise(value=b"v"))
    again = play.asked(PaxosPrepare).step
    assert (again.ballot, again.slices) == (NO_BALLOT, ())
    play.tell(B, promise((9, 9) if begun else NO_BALLOT))
    play.tell(C, promise())
    assert bool(play.answers) is not begun
    if begun:
        assert play.asked(PaxosPrepare).step.ballot != NO_BALLOT


def test_accept_is_of_the_epoch_of_its_promise_or_there_is_another() -> None:
    play = Play()
    play.begin()
    ballot = play.asked(PaxosPrepare).step.ballot
    play.tell(B, promise())
    play.metadata.stale = ()  # this table changed meanwhile
    play.tell(C, promise())
    assert not play.take(PaxosAccept)
    play.metadata.stale = None
    assert play.asked(PaxosPrepare).step.ballot > ballot


def test_levels_that_make_no_sense() -> None:
    for asked in (
        request(level=Level.SERIAL),
        request(serial_level=Level.QUORUM),
        ConditionalRequest(FLAT, b"", (), lambda _: None, Level.QUORUM),
        ConditionalRequest(99, b"k", (), lambda _: None, Level.QUORUM),
    ):
        play = Play()
        play.begin(asked)
        assert isinstance(play.answers[0], Invalid)


def test_local_serial_asks_its_own_datacentre_alone() -> None:
    play = Play(state=cluster_state(("dc1", "dc1", "dc2")))
    play.begin(request(level=Level.LOCAL_QUORUM, serial_level=Level.LOCAL_SERIAL))
    assert [peer for peer, _ in play.sent] == [B]
    play.asked(PaxosPrepare)
    play.tell(ME, promise())
    play.tell(B, promise())
    play.asked(PaxosAccept)
    play.tell(ME, PaxosAccepted())
    play.tell(B, PaxosAccepted())
    assert sorted(peer for peer, _ in play.sent) == [B, C]  # the commit is for all
    play.asked(PaxosCommit)
    play.tell(C, Applied(None, True))
    play.tell(B, Applied(None, True))
    assert not play.answers
    play.tell(ME, Applied(None, True))
    assert play.answers[0].applied


def test_views() -> None:
    a, b, c = PEERS
    one = view_of({a: promise((3, 1), NO_BALLOT, (3, 1)), b: promise((3, 1), NO_BALLOT, (3, 1))})
    assert one.settled and one.quiet
    two = view_of({a: promise((5, 1), NO_BALLOT, (3, 1)), b: promise((3, 1), NO_BALLOT, (3, 1))})
    assert two.settled and not two.quiet
    three = view_of({a: promise((3, 1), NO_BALLOT, (3, 1)), b: promise((2, 1), (2, 1), (1, 1))})
    assert three.behind == (b,) and three.ahead == a and three.unfinished == NO_BALLOT and three.quiet
    four = view_of({a: promise(), b: promise((2, 1), (2, 1)), c: promise((4, 1), (4, 1))})
    assert (four.unfinished, four.holder, four.quiet) == ((4, 1), c, False)
    assert newest_read([]) == NO_VERSION
    assert newest_read(rows(b"v", 9)) == (9, 7)
