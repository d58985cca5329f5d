"""Workloads go on while peers come, go and are replaced, and bugs of moving ranges are caught by them."""

from __future__ import annotations

import pytest

from jepsen_like.moving_plants import caught


@pytest.mark.parametrize(
    ("workload", "seed", "kinds"),
    [
        ("set", 12, ("add", "remove")),
        ("register", 8, ("replace", "move")),
        ("append", 3, ("add", "move")),
        ("cas-register", 300, ("replicate", "add")),
    ],
)
def test_nothing_is_lost_while_ranges_move(workload: str, seed: int, kinds: tuple[str, ...]) -> None:
    assert caught("", workload, seed, kinds, 12) == []


@pytest.mark.parametrize(
    ("plant", "kinds", "problems"),
    [
        ("at once", ("add", "move"), {"lost", "diverged", "stale"}),
        ("kept", ("add",), {"foreign"}),
        ("met among the new", ("add", "move"), {"stale", "lost", "diverged"}),
    ],
)
def test_a_planted_bug_is_caught(plant: str, kinds: tuple[str, ...], problems: set[str]) -> None:
    found: list[str] = []
    for seed in range(1, 9):
        found = caught(plant, "set", seed, kinds, 12)
        if problems & {*found}:
            return
    pytest.fail(f"nothing sees it: {found}")
