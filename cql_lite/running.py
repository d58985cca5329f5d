"""Driving an execution: its requests go out, a bounded number at a time, and their answers go back in order.

No I/O and no loop of its own: `ask(request, answered)` is the caller's, `answered` may be called at once or
later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Generic, TypeVar

from core.requests import Answer, Request, RowsRead
from cql_lite import wire
from cql_lite.planner_results import Asked

T = TypeVar("T")

Answering = Generator[Asked, "list[Answer]", wire.Response]
"""A client's request on its way: what it asks of the node, and in the end its response."""

REQUESTS_AT_ONCE_MAX: Final = 32
"""Requests of one statement that are under way at once."""

Ask = Callable[[Request, Callable[[Answer], None]], None]


class Run(Generic[T]):
    """One execution on its way; `done(result)` is called once, unless it is abandoned."""

    __slots__ = ("_answers", "_ask", "_asked", "_done", "_execution", "_left", "_next", "_stepping")

    def __init__(
        self, execution: Generator[Asked, list[Answer], T], ask: Ask, done: Callable[[T], None]
    ) -> None:
        self._execution = execution
        self._ask = ask
        self._done = done
        self._asked: Asked = ()
        self._answers: list[Any] = []
        self._left = 0
        self._next = 0
        self._stepping = False

    def start(self) -> None:
        """Run up to the first answer that is waited for."""
        self._step(None)

    def abandon(self) -> None:
        """Nobody waits for the result any more."""
        self._execution.close()
        self._left = -1

    def _step(self, answers: list[Answer] | None) -> None:
        """Go on as long as answers are there at once."""
        while True:
            try:
                self._asked = next(self._execution) if answers is None else self._execution.send(answers)
            except StopIteration as stop:
                self._done(stop.value)
                return
            self._answers = [None] * len(self._asked)
            self._left, self._next = len(self._asked), 0
            self._stepping = True
            for _ in range(min(REQUESTS_AT_ONCE_MAX, len(self._asked))):
                self._ask_next()
            self._stepping = False
            if self._left:
                return
            answers = self._answers

    def _ask_next(self) -> None:
        index = self._next
        self._next = index + 1
        self._ask(self._asked[index], lambda answer: self._answered(index, answer))

    def _answered(self, index: int, answer: Answer) -> None:
        if self._left <= 0:
            return
        self._answers[index] = answer
        self._left -= 1
        if self._next < len(self._asked):
            self._ask_next()
        if not self._left and not self._stepping:
            self._step(self._answers)


def merged(parts: Sequence[Answer]) -> Answer:
    """A streamed answer as one; its last part says whether it went well."""
    last = parts[-1]
    if len(parts) == 1 or not isinstance(last, RowsRead):
        return last
    rows = tuple(row for part in parts if isinstance(part, RowsRead) for row in part.rows)
    dead = sum(part.dead for part in parts if isinstance(part, RowsRead))
    return RowsRead(rows, last.now_us, last.more, last.after, dead)
