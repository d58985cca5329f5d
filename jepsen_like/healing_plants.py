"""Planted bugs of healing: deletions that come back; jepsen_like/plants.py says what a plant is.

Runs purge every few seconds (sim/options.py). Plants of damage, and of single rules of floors, are stories
(tests/scenarios/test_healing.py) and a model (tests/models/purge.py): they need an interleaving that a run
meets too rarely.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lsm.purge
from core.commands import Outcome
from core.healing import FloorStep, RaiseFloor
from core.ports import Engine
from jepsen_like.plants import Plant
from lsm.dead_runs import Chunks, DeadRuns
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


class _Reversed:
    """An engine that only scans, and in reverse."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """From the end."""
        return self._engine.scan(first, end, reverse=True)


class _OwnRuns:
    """Floors with dead runs of one scan."""

    def __init__(self, floors: Floors) -> None:
        self.dead_runs = DeadRuns()
        self.at = floors.at


_UNPURGED: Any = lsm.purge._unpurged


def _unpurged_with_runs(
    engine: Engine, floors: Floors, first: bytes, end: bytes, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    if reverse:
        yield from _UNPURGED(_Reversed(engine), _OwnRuns(floors), first, end, False)
    else:
        yield from _UNPURGED(engine, floors, first, end, False)


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
    Plant(
        "slices in reverse remember dead runs",
        ((lsm.purge, "_unpurged", _unpurged_with_runs), (lsm.purge, "RUN_ROWS_MIN", 2)),
        "queue",
        8,
        ("disordered", "lost"),
        60,
    ),
)
