"""Up to when a peer says that it keeps nothing to be delivered: only what it will know after a crash."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from core.commands import Done, Failed, Why
from core.healing import Purge, Purged
from core.healing_messages import BoundAsk, BoundTold
from node.floors import BOUND_KEY, FloorRounds
from tests.node.stage import B, C, Stage


class Rounds:
    """A peer that is asked, and keeps one batch."""

    def __init__(self, boot: dict[bytes, bytes] | None = None) -> None:
        self.stage = Stage()
        log: Any = SimpleNamespace(bound_us=0, oldest_admitted_us=1_001, is_known=True)
        hints: Any = SimpleNamespace(oldest_relied_on_us=lambda: None)
        unused: Any = None
        self.floors = FloorRounds(
            self.stage.inside,
            self.stage.metadata,
            self.stage.swim,
            unused,
            hints=hints,
            batch_log=log,
            paxos=self.stage.paxos,
            boot=boot or {},
        )
        self.log = log

    def ask(self, peer: bytes, op: int) -> None:
        self.stage.inside.message_handlers[BoundAsk](peer, BoundAsk(op))

    def told(self) -> list[tuple[bytes, int]]:
        return [(peer, message.bound_us) for peer, message in self.stage.take(BoundTold)]


def test_a_bound_is_told_to_nobody_before_it_is_durable() -> None:
    rounds = Rounds()
    rounds.ask(B, 1)
    rounds.ask(C, 2)
    assert rounds.told() == [] and rounds.log.bound_us == 1_000
    rounds.stage.stored(Done(), "floor_bound")
    assert rounds.told() == [(B, 1_000)]
    rounds.stage.stored(Done(), "floor_bound")
    assert rounds.told() == [(C, 1_000)]
    rounds.ask(B, 3)
    assert rounds.told() == [(B, 1_000)] and not rounds.stage.submitted


def test_what_could_not_be_written_is_not_told_the_next_time_either() -> None:
    rounds = Rounds({BOUND_KEY: (500).to_bytes(8, "big")})
    rounds.ask(B, 1)
    rounds.stage.stored(Failed(Why.DISK_FULL, "full"), "floor_bound")
    rounds.ask(B, 2)
    assert rounds.told() == []
    rounds.stage.stored(Done(), "floor_bound")
    assert rounds.told() == [(B, 1_000)]


def test_what_is_to_be_purged_is_planned_once_in_order_and_in_no_time() -> None:
    """With a thousand tables it is looked for whether fifty thousand ranges are planned already."""
    rounds = Rounds()
    pairs = tuple((first, first + 9) for first in range(0, 490, 10))
    parts = tuple((table, pairs) for table in range(1, 1_001))
    began_s = time.process_time()
    for _ in range(2):
        rounds.floors._plan_purge(parts)
    assert time.process_time() - began_s < 1
    asked = []
    for _ in range(60):
        rounds.stage.pass_time(1_000)
        ((_, command),) = rounds.stage.submitted
        assert isinstance(command, Purge)
        asked.append((command.table, command.first_token))
        rounds.stage.stored(Purged(b"", 0, 0), "purged")
    assert asked == [(table, first) for table in (1, 2) for first, _ in pairs][:60]
