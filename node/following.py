"""Following: the replicas of a range read each other's logs, so that what one holds all come to hold.

Nothing else makes replicas equal by itself: a coordinator may die before its hint is written, and nobody
may ever read the key. Following brings *mutations*, under their own ids and in the bytes of their
coordinator, so a change stream served by whoever lagged has the same events as the others.

A **round** with a sibling asks for a page of the ids that it logged after the position we have reached,
asks our store which of them it never held, fetches those, applies them, and only then moves the position.
All steps may be repeated: a mutation is applied once, whoever brings it, so positions are written down
lazily and lost answers are asked again.

Rounds begin in two ways. *In the background* one sibling after the other is asked, one every
`follow_idle_us` whatever their number, and again after `follow_pause_us` as long as there is news, after a
hundredth of it while a page or more is left: who falls behind a load reads ids that neither has in memory any
more, which costs a hundred times as much, and whoever waits for it then waits for all of them. A
mutation seen missing is given `GRACE_US` to arrive from its coordinator. *On demand* (`follow_now`) a round
goes on to the end of the log as the sibling states it in answer to a question asked after the call; all who
wait share it.

A sibling that trimmed entries we have not seen, or a mutation that hits damaged bytes here, leaves a
**gap**: the position moves on, but whoever asks is told that the sibling was not reached until hash trees
have made both equal (`on_gap`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core import limits
from core.commands import Applied, Apply, Done, Failed, LogMissing, Missing, Outcome, SystemWrite, Why
from core.messages import Fetch, Fetched, Follow, Followed, OperationFailed, Stale
from core.mutation import MutationId, decode_mutation
from core.ports import Event, PeerId, TimerId
from node.inside import Inside
from node.log_serving import LogServing
from node.views import MetadataView, SwimView

PREFIX = b"follow/"

UNTOLD_MAX = 256

GRACE_US = 50_000
"""How long a missing mutation may take to arrive by itself, when nobody waits for it."""

SAVE_US = 5 * limits.SECOND_US
"""How long a position may be newer in memory than in the store."""

TIMEOUT_US = 1 * limits.SECOND_US
"""After this a question is taken for lost."""

TRIMMED = "were trimmed before they were followed"

BEYOND_FOLLOWING = (Why.CORRUPT, Why.TOO_LARGE, Why.MALFORMED)
"""Why a mutation cannot be applied, now or later: one damaged row must not hold up all that was logged
after.
"""

NOT_WANTED = (Why.NO_TABLE, Why.MENDING, Why.BELOW_FLOOR)
"""Its table was dropped; it is merged, only not to be believed; all have it, or had and deleted it."""

RETRIES = 3
"""How often one round asks again, after a timeout or with a newer epoch."""

Reached = Callable[[frozenset[PeerId]], None]


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far a log is known to be followed; `gap`: but for entries that were trimmed before, still to be
    mended.
    """

    log: int = 0
    after: int = 0
    gap: bool = False
    expired: tuple[tuple[int, int], ...] = ()
    """Entries up to `after` of what ran out (offset, when), of which our own log may not tell yet."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody who called `follow_now`."""

    number: int
    missing: list[PeerId]
    done: Reached
    reached: list[PeerId] = field(default_factory=list)
    timer: TimerId = 0
    closed: bool = False


@dataclass(slots=True, eq=False)
class _Sibling:
    """What is known of one sibling's log, and the round with it, if one is under way."""

    peer: PeerId
    position: Position
    end: int = 0
    round: _Round | None = None
    waiting: list[_Waiter] = field(default_factory=list)
    planned: bool = False
    failing: str = ""
    gaps: int = 0


class Following:
    """Follows the logs of all neighbours, and serves ours to them."""

    def __init__(
        self, inside: Inside, metadata: MetadataView, swim: SwimView, boot: Mapping[bytes, bytes]
    ) -> None:
        """`boot` holds the system records as of the start; those at `follow/` are read."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.me = inside.identity.peer
        self.serving = LogServing(inside, metadata)
        self.on_gap: Callable[[PeerId, Callable[[], None]], None] | None = None
        self.told_us = 0
        """Our own log tells of all that ran out by then (node/expiry_events.py)."""
        self.on_hole: Callable[[], None] | None = None
        """Told that mutations were missed for good, so that readers of our log can be."""
        self._siblings: dict[PeerId, _Sibling] = {}
        self._turn = 0
        self._waiters: dict[int, _Waiter] = {}
        self._next_waiter = 0
        self._unsaved: dict[PeerId, None] = {}
        self._saving = False
        for key, value in boot.items():
            if key.startswith(PREFIX):
                peer = key[len(PREFIX) :]
                self._siblings[peer] = _Sibling(peer, msgspec.msgpack.decode(value, type=Position))
        inside.on_timer("follow_tick", self._on_tick)
        inside.on_timer("follow_again", self._on_again)
        inside.on_timer("follow_deadline", self._on_deadline)
        inside.on_timer("follow_timeout", lambda op: self._step(op, _Round.on_timeout))
        inside.on_timer("follow_grace", lambda op: self._step(op, _Round.on_grace))
        inside.on_timer("follow_save", self._save)
        inside.on_stored("follow_missing", lambda outcome, op: self._step(op, _Round.on_missing, outcome))
        inside.on_stored(
            "follow_applied", lambda outcome, op, offset: self._step(op, _Round.on_applied, outcome, offset)
        )
        inside.on_stored("follow_saved", self._on_saved)
        swim.on_change(self._on_liveness)

    def start(self) -> None:
        """Begin to follow, and to mend what was a gap before the restart."""
        idle_us = self.inside.settings.follow_idle_us
        self.inside.timer(1 + self.inside.world.below(idle_us), "follow_tick")
        for sibling in self._siblings.values():
            if sibling.position.gap:
                self.mend(sibling)

    def position(self, peer: PeerId) -> Position:
        """How far the log of this peer is followed, durably here."""
        sibling = self._siblings.get(peer)
        return sibling.position if sibling else Position()

    def lag(self, peer: PeerId) -> int:
        """Entries of this peer's log that are not followed yet, as far as is known."""
        sibling = self._siblings.get(peer)
        return max(0, sibling.end - sibling.position.after) if sibling else 0

    # --- on demand

    def follow_now(self, peers: Sequence[PeerId], done: Reached, deadline_us: int) -> None:
        """Follow each of these siblings to the end its log has after this call; `done(those reached)`, once.

        `done` may be called at once (nobody to follow), and is called at `deadline_us` (monotonic) at the
        latest.
        """
        self._next_waiter += 1
        waiter = _Waiter(self._next_waiter, [peer for peer in peers if peer != self.me], done)
        waiter.reached = [peer for peer in peers if peer == self.me]
        if not waiter.missing:
            done(frozenset(waiter.reached))
            return
        self._waiters[waiter.number] = waiter
        delay_us = max(1, deadline_us - self.inside.world.monotonic_us())
        waiter.timer = self.inside.timer(delay_us, "follow_deadline", waiter.number)
        for peer in tuple(waiter.missing):
            sibling = self._sibling(peer)
            sibling.waiting.append(waiter)
            if sibling.round is None:
                self._begin(sibling)
            else:
                sibling.round.hurry()

    def _on_deadline(self, number: int) -> None:
        waiter = self._waiters.get(number)
        if waiter is not None:
            self._close(waiter)

    def _close(self, waiter: _Waiter) -> None:
        waiter.closed = True
        del self._waiters[waiter.number]
        self.inside.world.cancel_timer(waiter.timer)
        waiter.done(frozenset(waiter.reached))

    def settle(self, sibling: _Sibling, waiters: Sequence[_Waiter], reached: bool) -> None:
        """Tell those who waited for this sibling."""
        for waiter in waiters:
            if not waiter.closed and sibling.peer in waiter.missing:
                waiter.missing.remove(sibling.peer)
                if reached:
                    waiter.reached.append(sibling.peer)
                if not waiter.missing:
                    self._close(waiter)

    # --- rounds

    def _sibling(self, peer: PeerId) -> _Sibling:
        sibling = self._siblings.get(peer)
        if sibling is None:
            sibling = self._siblings[peer] = _Sibling(peer, Position())
        return sibling

    def _begin(self, sibling: _Sibling) -> None:
        assert sibling.round is None, "one round per sibling"
        waiters = [waiter for waiter in sibling.waiting if not waiter.closed]
        sibling.waiting = []
        sibling.round = _Round(self, sibling, waiters)
        sibling.round.ask()

    def ended(self, sibling: _Sibling, more: bool) -> None:
        """A round is over: begin the next one for those who came meanwhile, or soon if there may be more."""
        if not all(waiter.closed for waiter in sibling.waiting):
            self._begin(sibling)
            return
        sibling.waiting = []
        if more and not sibling.planned:
            sibling.planned = True
            pause_us = self.inside.settings.follow_pause_us
            behind = sibling.end - sibling.position.after
            if behind > 0:
                pause_us //= 10 if behind <= limits.FOLLOW_IDS_MAX else 100
            self.inside.timer(pause_us, "follow_again", sibling.peer)

    def _on_again(self, peer: PeerId) -> None:
        sibling = self._sibling(peer)
        sibling.planned = False
        if sibling.round is None and self._may_ask(peer):
            self._begin(sibling)

    def _on_tick(self) -> None:
        """Ask the next live sibling whose turn it is; whatever their number, one per tick."""
        self.inside.timer(self.inside.settings.follow_idle_us, "follow_tick")
        state = self.metadata.state
        neighbours = () if self.metadata.unready else state.neighbours(self.me)
        for _ in neighbours:
            peer = neighbours[self._turn % len(neighbours)]
            self._turn += 1
            sibling = self._sibling(peer)
            if sibling.round is None and not sibling.planned and self._may_ask(peer):
                self._begin(sibling)
                return

    def _may_ask(self, peer: PeerId) -> bool:
        ready = not self.metadata.unready and self.swim.is_alive(peer)
        return ready and bool(self.serving.shared_with(peer))

    def _on_liveness(self, peer: PeerId, state: int) -> None:
        """Whoever comes back may have logged something before it went, or lacks nothing: find out soon."""
        sibling = self._siblings.get(peer)
        if sibling is not None and self.swim.is_alive(peer) and not sibling.planned:
            sibling.planned = True
            self.inside.timer(self.inside.settings.follow_pause_us, "follow_again", peer)

    def _step(self, op: int, call: Callable[..., None], *arguments: Any) -> None:
        operation = self.inside.operations.get(op)
        if operation is not None:
            call(operation, *arguments)

    def failing(self, sibling: _Sibling, why: str) -> None:
        """Say once what keeps a sibling's log from being followed; it is tried again in its turn."""
        if why and why != sibling.failing:
            text = f"the log cannot be followed for now: {why}"
            self.inside.log("warning", "following_failed", text, sibling.peer.hex())
        sibling.failing = why

    # --- positions

    def still_untold(self, expired: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Those that our own log need not tell of yet; neighbours are joined where they are many."""
        left = [pair for pair in dict.fromkeys(expired) if pair[1] > self.told_us]
        while len(left) > UNTOLD_MAX:
            (offset, at_us), (_, other_us) = left[-2:]
            left[-2:] = [(offset, max(at_us, other_us))]
        return tuple(left)

    def move(self, sibling: _Sibling, position: Position, end: int) -> None:
        """All up to this position is durable here."""
        if sibling.position != position:
            sibling.position = position
            self._save_soon(sibling.peer)
        if end != sibling.end or position.after < end:
            lag = max(0, end - position.after)
            self.inside.world.note(Event("following_lag_now", "count", "", lag, sibling.peer.hex()))
        sibling.end = end

    def mend(self, sibling: _Sibling) -> None:
        """Have hash trees make up for what was trimmed; the gap is closed when they have, if it is the last
        one.
        """
        self.inside.count("following_gaps")
        sibling.gaps += 1
        number = sibling.gaps

        def mended() -> None:
            if sibling.gaps == number:
                sibling.position = msgspec.structs.replace(sibling.position, gap=False)
                self._save_soon(sibling.peer)

        if self.on_gap is not None:
            self.on_gap(sibling.peer, mended)

    def _save_soon(self, peer: PeerId) -> None:
        if not self._unsaved and not self._saving:
            self.inside.timer(SAVE_US, "follow_save")
        self._unsaved[peer] = None

    def _save(self) -> None:
        self._saving = True
        records = tuple(
            (PREFIX + peer, msgspec.msgpack.encode(self._siblings[peer].position)) for peer in self._unsaved
        )
        self._unsaved = {}
        self.inside.submit(("follow_saved", tuple(key for key, _ in records)), SystemWrite(records))

    def _on_saved(self, outcome: Outcome, keys: tuple[bytes, ...]) -> None:
        self._saving = False
        if not isinstance(outcome, Done):
            for key in keys:
                self._unsaved[key[len(PREFIX) :]] = None
        if self._unsaved:
            self.inside.timer(SAVE_US, "follow_save")


class _Round:
    """Pages of one sibling's log: one in the background, as many as it takes if somebody waits.

    Each question has an operation number of its own and one kind of answer that it `expects`; everything
    else that arrives (late, repeated) finds no operation or is not expected.
    """

    __slots__ = (
        "_applying",
        "_expects",
        "_failure",
        "_grace",
        "_lacking",
        "_news",
        "_op",
        "_page",
        "_parent",
        "_retries",
        "_sibling",
        "_skipped",
        "_target",
        "_timer",
        "_waiters",
    )

    def __init__(self, parent: Following, sibling: _Sibling, waiters: list[_Waiter]) -> None:
        """Nothing is asked before `ask`."""
        self._parent = parent
        self._sibling = sibling
        self._waiters = waiters
        self._op = 0
        self._timer: TimerId = 0
        self._expects: type | None = None
        self._page: Followed | None = None
        self._target: int | None = None
        self._lacking: dict[int, MutationId] = {}
        self._applying = 0
        self._failure = ""
        self._skipped = ""
        self._grace = not waiters
        self._news = False
        self._retries = RETRIES

    def ask(self) -> None:
        """Ask for the next page."""
        position = self._sibling.position
        op = self._question(Followed)
        epoch = self._parent.metadata.state.epoch
        if not self._parent.inside.send(self._sibling.peer, Follow(op, epoch, position.log, position.after)):
            self._fail("")

    def _question(self, expects: type) -> int:
        """A new operation number, with its timeout."""
        self._close_question()
        inside = self._parent.inside
        self._op = op = inside.new_op()
        self._expects = expects
        inside.operations[op] = self
        self._timer = inside.timer(TIMEOUT_US, "follow_timeout", op)
        return op

    def _close_question(self) -> None:
        inside = self._parent.inside
        if inside.operations.pop(self._op, None) is not None:
            inside.world.cancel_timer(self._timer)
        self._expects = None

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer to the present question; others are not for us."""
        kind = type(message)
        if peer != self._sibling.peer or self._expects is None:
            return
        if kind is not self._expects and kind is not Stale and kind is not OperationFailed:
            return
        self._expects = None
        self._parent.inside.world.cancel_timer(self._timer)
        if kind is Followed:
            self._on_page(message)
        elif kind is Fetched:
            self._on_fetched(message)
        elif kind is Stale and self._retries:
            self._retries -= 1
            self.ask()  # the epochs that we lacked are adopted by now
        else:
            self._fail("" if kind is Stale else f"{message.why}: {message.detail}")

    # --- a page

    def _on_page(self, page: Followed) -> None:
        position = self._sibling.position
        after = position.after if page.log == position.log else 0
        if page.end < after:
            self._parent.inside.log(
                "error",
                "log_shorter",
                f"the log ends at {page.end}, where {after} was read before",
                self._sibling.peer.hex(),
            )
            after = 0
        if page.log != position.log or after != position.after:
            self._sibling.position = Position(page.log, 0, position.gap)
            if page.log == position.log:  # what came was counted from a position that is not there any more
                self.ask()
                return
        if page.first > after + 1:
            self._gap(page, TRIMMED)
        self._page = page
        self._target = page.end if self._target is None else self._target
        self._news = self._news or bool(page.entries)
        self._lacking = {}
        if page.entries:
            self._find_missing(tuple([(e.start, e.sequence, e.attempt) for e in page.entries]))
        else:
            self._advance()

    def _find_missing(self, ids: tuple[MutationId, ...]) -> None:
        self._parent.inside.submit(("follow_missing", self._op), LogMissing(ids))

    def on_missing(self, outcome: Outcome) -> None:
        """Our store said which of the page's mutations it never held."""
        if not isinstance(outcome, Missing):
            assert isinstance(outcome, Failed), outcome
            self._fail(f"own log: {outcome.detail}")
            return
        if not outcome.ids:
            self._advance()
            return
        assert self._page is not None, "ids of a page"
        missing = dict.fromkeys(outcome.ids)
        for entry in self._page.entries:
            mutation_id = (entry.start, entry.sequence, entry.attempt)
            if mutation_id in missing:
                self._lacking[entry.offset] = mutation_id
        if self._grace:
            self._timer = self._parent.inside.timer(GRACE_US, "follow_grace", self._op)
        else:
            self._fetch()

    def on_grace(self) -> None:
        """What was missing had its time to arrive by itself."""
        if self._grace:
            self._grace = False
            ids, self._lacking = tuple(self._lacking.values()), {}
            self._find_missing(ids)

    def hurry(self) -> None:
        """Somebody waits for this round to end so that the next can begin."""
        if self._grace and self._lacking:
            self._parent.inside.world.cancel_timer(self._timer)
            self.on_grace()
        self._grace = False

    def _fetch(self) -> None:
        op = self._question(Fetched)
        if not self._parent.inside.send(self._sibling.peer, Fetch(op, tuple(self._lacking))):
            self._fail("")

    def _on_fetched(self, message: Fetched) -> None:
        wanted = [(offset, data) for offset, data in message.mutations if offset in self._lacking]
        if not wanted:  # trimmed since the page was read
            assert self._page is not None, "offsets of a page"
            self._gap(self._page, TRIMMED)
            self._advance()
            return
        tables = self._parent.metadata.state.tables
        inside = self._parent.inside
        self._applying = 1
        for offset, data in wanted:
            if decode_mutation(data).table in tables:
                self._applying += 1
                inside.submit(("follow_applied", self._op, offset), Apply(data, followed=True))
            else:  # dropped since: see node/log_serving.py
                del self._lacking[offset]
        self._applied_one()

    def on_applied(self, outcome: Outcome, offset: int) -> None:
        """A fetched mutation is durable here, or could not be made so."""
        if isinstance(outcome, Applied):
            del self._lacking[offset]
            if outcome.fresh:
                self._parent.inside.count("following_applied")
        else:
            assert isinstance(outcome, Failed), outcome
            text = f"own store: {outcome.why}: {outcome.detail}"
            if outcome.why in NOT_WANTED:
                del self._lacking[offset]
            elif outcome.why in BEYOND_FOLLOWING:
                del self._lacking[offset]
                self._skipped = text
            else:
                self._failure = text
        self._applied_one()

    def _applied_one(self) -> None:
        self._applying -= 1
        if self._applying:
            return
        if self._failure:
            self._fail(self._failure)
            return
        if self._skipped:
            assert self._page is not None, "mutations of a page"
            self._parent.failing(self._sibling, self._skipped)
            self._gap(self._page, "could not be applied here")
            self._skipped = ""
        if self._lacking:
            self._fetch()
        else:
            self._advance()

    def _gap(self, page: Followed, why: str) -> None:
        after = self._sibling.position.after
        text = f"log entries after {after} {why}: hash trees mend what they held"
        self._parent.inside.log("info", "following_gap", text, self._sibling.peer.hex())
        expired = self._sibling.position.expired
        self._parent.move(self._sibling, Position(page.log, after, True, expired), page.end)
        if self._parent.on_hole is not None:
            self._parent.on_hole()
        self._parent.mend(self._sibling)

    def _advance(self) -> None:
        """All of the page is durable here."""
        page = self._page
        assert page is not None and self._target is not None, "a page to move over"
        gap = self._sibling.position.gap
        expired = self._parent.still_untold((*self._sibling.position.expired, *page.expired))
        self._parent.move(self._sibling, Position(page.log, page.next_after, gap, expired), page.end)
        if not gap:
            self._parent.failing(self._sibling, "")
        if self._waiters and page.next_after < self._target:
            self.ask()
        else:
            more = self._news or page.next_after < page.end
            self._end(page.next_after >= self._target, more)

    # --- the end

    def on_timeout(self) -> None:
        """No answer: lost, or the sibling is gone. Somebody who waits has it asked again."""
        if self._expects is None:
            return
        if self._retries and not all(waiter.closed for waiter in self._waiters):
            self._retries -= 1
            self.ask()
        else:
            self._fail("")

    def _fail(self, why: str) -> None:
        self._parent.failing(self._sibling, why)
        self._end(reached=False, more=False)

    def _end(self, reached: bool, more: bool) -> None:
        self._close_question()
        sibling = self._sibling
        sibling.round = None
        self._parent.settle(sibling, self._waiters, reached and not sibling.position.gap)
        if sibling.round is None:
            self._parent.ended(sibling, more)
