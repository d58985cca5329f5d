"""Takes the steps of a generator (node/moving_stream.py) one at a time: brings what it asks for, or ends it.

A question to one peer is put again a few times and then given up. A question to several is put again to who
has not answered, or not as is needed, until enough have: who is down or slow then holds nobody up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.commands import Outcome
from core.messages import Stale
from core.ports import SMALL, PeerId
from node.moving_stream import Ask, AskAll, Own, Pause, Steps, StreamError

if TYPE_CHECKING:
    from node.moving import Moving

ANSWER_US = 1_000_000
RETRIES = 3
ASK_AGAIN_US = 100_000
"""Between two questions to who has not answered, of several."""


class Runner:
    """Takes steps, one at a time."""

    def __init__(self, parent: Moving, steps: Steps) -> None:
        """Nothing is done before `begin`."""
        self._parent = parent
        self._steps = steps
        self._number = parent.inside.new_op()
        self._want: Any = None
        self._outcomes: list[Outcome] = []
        self._answers: dict[PeerId, Any] = {}
        self._asked_us = 0
        self._retries = 0
        self._timer = 0

    def begin(self) -> None:
        """Take the first."""
        self._go_on(None)

    def stop(self) -> None:
        """No answer is listened to any more."""
        self._close()
        self._steps.close()

    def _close(self) -> None:
        inside = self._parent.inside
        inside.operations.pop(self._number, None)
        if self._timer:
            inside.world.cancel_timer(self._timer)
            self._timer = 0
        self._number = inside.new_op()

    def _go_on(self, value: Any, failure: StreamError | None = None) -> None:
        self._close()
        try:
            self._want = self._steps.send(value) if failure is None else self._steps.throw(failure)
        except StopIteration:
            self._parent.ended("")
            return
        except StreamError as error:
            self._parent.ended(str(error))
            return
        self._retries = RETRIES
        self._take()

    def _take(self) -> None:
        inside, want, number = self._parent.inside, self._want, self._number
        if isinstance(want, Pause):
            self._timer = inside.timer(want.delay_us, "move_pause", number)
        elif isinstance(want, AskAll):
            self._answers = {}
            self._asked_us = inside.world.monotonic_us()
            inside.operations[number] = self
            self._ask_rest()
        elif isinstance(want, Own):
            self._outcomes = []
            for command in want.commands:
                inside.submit(("move_own", number), command)
        else:
            assert isinstance(want, Ask), want
            inside.operations[number] = self
            self._timer = inside.timer(ANSWER_US << (RETRIES - self._retries), "move_timeout", number)
            inside.send(want.peer, want.make(number, self._parent.metadata.state.epoch), SMALL)

    def _ask_rest(self) -> None:
        """Of several: who has not answered yet, or not as is needed."""
        inside, want, number = self._parent.inside, self._want, self._number
        self._timer = inside.timer(ASK_AGAIN_US, "move_timeout", number)
        epoch = self._parent.metadata.state.epoch
        for peer in want.peers:
            if peer not in self._answers:
                inside.send(peer, want.make(number, epoch), SMALL)

    def _end_if_enough(self) -> None:
        want = self._want
        late = self._parent.inside.world.monotonic_us() >= self._asked_us + want.patience_us
        if len(self._answers) == len(want.peers) or (late and want.enough(tuple(self._answers))):
            self._go_on(self._answers)

    def on_own(self, outcome: Outcome, number: int) -> None:
        """Our store has done it."""
        if number != self._number:
            return
        want = self._want
        if not isinstance(outcome, want.kind):
            self._go_on(None, StreamError(f"own store: {outcome}"))
            return
        self._outcomes.append(outcome)
        if len(self._outcomes) == len(want.commands):
            self._go_on(self._outcomes)

    def on_pause(self, number: int) -> None:
        """Time to go on."""
        if number == self._number:
            self._timer = 0
            self._go_on(None)

    def on_timeout(self, number: int) -> None:
        """No answer: ask again, a few times."""
        if number != self._number:
            return
        self._timer = 0
        if isinstance(self._want, AskAll):
            self._end_if_enough()
            if number == self._number:
                self._ask_rest()
        elif self._retries:
            self._retries -= 1
            self._close()
            self._take()
        else:
            self._go_on(None, StreamError(f"{self._name(self._want.peer)} does not answer"))

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer to the question of now."""
        if isinstance(self._want, AskAll):
            if message.op == self._number and isinstance(message, self._want.kind):
                if self._want.accepts(message):
                    self._answers[peer] = message
                    self._end_if_enough()
            return
        if not isinstance(self._want, Ask) or peer != self._want.peer or message.op != self._number:
            return
        if isinstance(message, self._want.kind):
            self._go_on(message)
        elif isinstance(message, Stale) and self._retries:
            self._retries -= 1
            self._close()
            self._take()
        else:
            self._fail(peer, getattr(message, "detail", "another answer than asked"))

    def _fail(self, peer: PeerId, why: str) -> None:
        self._go_on(None, StreamError(f"{self._name(peer)}: {why}"))

    def _name(self, peer: PeerId) -> str:
        member = self._parent.metadata.state.member(peer)
        return peer.hex()[:8] if member is None else member.name
