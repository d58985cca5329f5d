"""Up to when a peer says that it keeps nothing to be delivered: only what it will know after a crash."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from core.commands import Done, Failed, Why
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
