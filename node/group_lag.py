"""How far a consumer group is behind: what the logs of replicas have of its table after its cursors.

For each place of a part one replica is asked, the one that was followed last if it lives, and one message per
replica has all of its questions. What cannot be told now is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Failed, Outcome
from core.lag import AskLag, Lag, LagTold, LogLag, LogLagged
from core.messages import OperationFailed
from streams.cursor import Cursor, decode_cursor
from streams.groups import Group

if TYPE_CHECKING:
    from core.ports import PeerId
    from node.inside import Inside
    from node.metadata import Metadata
    from node.swim import Swim

TIMEOUT_US = 2 * limits.SECOND_US
WANTS_MAX = 10_000

Lags = dict[int, Lag | None]
Place = tuple[int, tuple[tuple[int, int], ...]]


class GroupLag:
    """Asks for, and answers."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._swim = swim
        self._asked: dict[int, _Question] = {}
        inside.on_message(AskLag, self._on_ask)
        inside.on_stored("group_lag", self._on_counted)
        inside.on_timer("group_lag", self._on_timeout)

    def ask(self, group: Group, done: Callable[[Lags], None]) -> None:
        """How much is behind each part; None where it is not known."""
        keyspace, _, name = group.table.partition(".")
        table = self._metadata.state.table(keyspace, name)
        wants: dict[PeerId, list[tuple[int, Place]]] = {}
        unknown: list[int] = []
        for number, part in enumerate(group.parts):
            cursor = decode_cursor(part.cursor)
            if table is None or not isinstance(cursor, Cursor):
                unknown.append(number)
                continue
            stands: dict[tuple[PeerId | None, int], list[tuple[int, int]]] = {}
            for place in cursor.places:
                stands.setdefault(self._server(place), []).append((place.first, place.last))
            for (peer, offset), ranges in stands.items():
                if peer is None:
                    unknown.append(number)
                else:
                    wants.setdefault(peer, []).append((number, (offset, tuple(ranges))))
        question = _Question(len(group.parts), unknown, done)
        for peer, asked in wants.items():
            self._send(question, peer, table.id if table is not None else 0, asked[:WANTS_MAX])
        question.is_asking = False
        question.settle()

    def _server(self, place: Any) -> tuple[PeerId | None, int]:
        """Who is asked about a place, and where its log is delivered up to."""
        state = self._metadata.state
        numbers = {state.number_of(member.peer): member.peer for member in state.members}
        order = sorted(place.offsets, key=lambda pair: pair[0] != place.server)
        for number, offset in order:
            peer = numbers.get(number)
            if peer is not None and (peer == self._inside.identity.peer or self._swim.is_alive(peer)):
                return peer, offset
        return None, 0

    def _send(self, question: _Question, peer: PeerId, table: int, asked: list[tuple[int, Place]]) -> None:
        op = self._inside.new_op()
        question.asked[op] = [number for number, _ in asked]
        self._asked[op] = question
        self._inside.operations[op] = self
        self._inside.timer(TIMEOUT_US, "group_lag", op)
        wants = tuple(place for _, place in asked)
        if peer == self._inside.identity.peer:
            self._inside.submit(("group_lag", peer, op), LogLag(table, wants))
        elif not self._inside.send(peer, AskLag(op, table, wants)):
            self._answered(op, None)

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer."""
        del peer
        self._answered(message.op, message.lags if isinstance(message, LagTold) else None)

    def _on_timeout(self, op: int) -> None:
        self._answered(op, None)

    def _answered(self, op: int, lags: tuple[Lag, ...] | None) -> None:
        self._inside.operations.pop(op, None)
        question = self._asked.pop(op, None)
        if question is not None:
            question.take(op, lags)
            question.settle()

    # --- at a replica

    def _on_ask(self, peer: PeerId, message: AskLag) -> None:
        if len(message.wants) > WANTS_MAX:
            self._inside.send(peer, OperationFailed(message.op, "overloaded", "too many places at once"))
        else:
            self._inside.submit(("group_lag", peer, message.op), LogLag(message.table, message.wants))

    def _on_counted(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        if peer == self._inside.identity.peer:
            self._answered(op, outcome.lags if isinstance(outcome, LogLagged) else None)
        elif isinstance(outcome, LogLagged):
            self._inside.send(peer, LagTold(op, outcome.lags))
        else:
            assert isinstance(outcome, Failed), outcome
            self._inside.send(peer, OperationFailed(op, outcome.why, outcome.detail))


class _Question:
    """One group, while replicas are asked."""

    def __init__(self, parts: int, unknown: list[int], done: Callable[[Lags], None]) -> None:
        self.asked: dict[int, list[int]] = {}
        self.is_asking = True
        """Not all are asked yet: what cannot be sent is answered at once."""
        self._lags: Lags = {number: Lag(0, 0, 0) for number in range(parts)}
        self._done: Callable[[Lags], None] | None = done
        for number in unknown:
            self._lags[number] = None

    def take(self, op: int, lags: tuple[Lag, ...] | None) -> None:
        """What a replica said of the parts it was asked about."""
        numbers = self.asked.pop(op)
        for number, lag in zip(numbers, lags or (None,) * len(numbers), strict=True):
            known = self._lags[number]
            self._lags[number] = None if lag is None or known is None else sum_of((known, lag))

    def settle(self) -> None:
        """Tell, when all have answered."""
        if not (self.asked or self.is_asking) and self._done is not None:
            done, self._done = self._done, None
            done(self._lags)


def sum_of(lags: tuple[Lag, ...]) -> Lag:
    """Several lags as one."""
    oldest = [lag.oldest_us for lag in lags if lag.oldest_us]
    entries, size = sum(lag.entries for lag in lags), sum(lag.bytes for lag in lags)
    return Lag(entries, size, min(oldest, default=0), any(lag.at_least for lag in lags))
