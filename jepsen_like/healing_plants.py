"""Planted bugs of healing: deletions that come back; jepsen_like/plants.py says what a plant is.

Runs purge every few seconds (sim/options.py). Plants of damage, and of single rules of floors, are stories
(tests/scenarios/test_healing.py) and a model (tests/models/purge.py): they need an interleaving that a run
meets too rarely.
"""

from __future__ import annotations

from typing import Any

from core.commands import Outcome
from core.healing import FloorStep, RaiseFloor
from jepsen_like.plants import Plant
from lsm.dead_runs import Chunks
from lsm.floors import Floors
from lsm.writing import Writer
from node.floors import FloorRounds

SECOND_US = 1_000_000


def _purge_by_clock(self: Any, outcome: Outcome) -> None:
    """What is dead for a second goes, whoever has not heard of it."""
    del outcome
    until_us = self._inside.clock.now_us() - SECOND_US
    for group in (*self._groups, *self._others):
        for step in FloorStep:
            command = RaiseFloor(step, until_us, group.parts)
            self._inside.submit(("floor_step", command, lambda _: None), command)
    self._next_pass()


def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _not_followed(self: Any, message: Any, say: Any) -> None:
    self._take(message, say)


HEALING_PLANTS = (
    Plant(
        "deletions purged by the clock alone",
        (
            (FloorRounds, "_on_due", _purge_by_clock),
            (Floors, "refuses", _nothing),
            (Writer, "_floor_us", _nothing),
        ),
        "deletes",
        1,
        ("ghost", "stale", "diverged", "back", "phantom"),
        20,
    ),
    Plant(
        "floors raised without following",
        ((FloorRounds, "_settle", _not_followed),),
        "deletes",
        7,
        ("ghost", "stale", "diverged", "back", "phantom", "unfollowed"),
        20,
    ),
    Plant(
        "a sum of dead rows stands for what is put between them",
        ((Chunks, "wrote", _nothing),),
        "queue",
        1,
        ("lost",),
        60,
    ),
)
