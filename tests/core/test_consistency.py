"""What a level needs of one, and of two, datacentres."""

from __future__ import annotations

import pytest

from core.consistency import Level, Need, need, quorum, valid_for_reads, valid_for_writes

ONE_DC = (("", 3),)
TWO_DCS = (("east", 3), ("west", 5))


@pytest.mark.parametrize(
    ("level", "total"),
    [
        (Level.ANY, 1), (Level.ONE, 1), (Level.TWO, 2), (Level.THREE, 3), (Level.QUORUM, 2), (Level.ALL, 3),
        (Level.LOCAL_ONE, 1), (Level.LOCAL_QUORUM, 2), (Level.EACH_QUORUM, 2), (Level.SERIAL, 2),
        (Level.LOCAL_SERIAL, 2),
    ],
)  # fmt: skip
def test_simple_strategy_counts_all_replicas(level: Level, total: int) -> None:
    assert need(level, ONE_DC, "east") == Need(total)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.QUORUM, Need(5)),
        (Level.ALL, Need(8)),
        (Level.LOCAL_ONE, Need(1, local=True)),
        (Level.LOCAL_QUORUM, Need(3, local=True)),
        (Level.LOCAL_SERIAL, Need(3, local=True)),
        (Level.SERIAL, Need(5)),
        (Level.EACH_QUORUM, Need(5, each=(("east", 2), ("west", 3)))),
    ],
)
def test_two_datacentres(level: Level, expected: Need) -> None:
    assert need(level, TWO_DCS, "west") == expected


def test_who_counts_and_when_it_is_enough() -> None:
    local = need(Level.LOCAL_QUORUM, TWO_DCS, "west")
    assert local.counts("west", "west") and not local.counts("east", "west")
    assert not local.met({"east": 3, "west": 2}, "west") and local.met({"west": 3}, "west")
    each = need(Level.EACH_QUORUM, TWO_DCS, "west")
    assert not each.met({"west": 5, "east": 1}, "west") and each.met({"west": 3, "east": 2}, "west")
    assert need(Level.QUORUM, TWO_DCS, "west").met({"west": 2, "east": 3}, "west")


def test_a_local_level_where_no_replica_is_cannot_be_met() -> None:
    assert not need(Level.LOCAL_QUORUM, TWO_DCS, "north").met({"east": 3, "west": 5}, "north")


def test_majorities_meet() -> None:
    for n in range(1, 20):
        assert 2 * quorum(n) > n >= quorum(n)
    assert (
        not valid_for_reads(Level.ANY) and not valid_for_writes(Level.SERIAL) and valid_for_writes(Level.ANY)
    )
