"""Leases: one owner at a time as far as records tell, moved when it is silent, by no clock but one's own."""

from __future__ import annotations

import random

import pytest

from node.leases import LEAVE, OWN, TAKE, Lease, LeaseWatch, released, renewed

EXPIRY_US = 6_000_000


def test_the_life_of_a_lease() -> None:
    one, two = LeaseWatch("n1/1", EXPIRY_US), LeaseWatch("n2/1", EXPIRY_US)
    assert one.decide("s", Lease(), 0) == two.decide("s", Lease(), 0) == TAKE
    held = one.taken(Lease())
    assert held == Lease("n1/1", 1, 0)
    assert one.decide("s", held, 10) == OWN
    assert two.decide("s", held, 1_000) == LEAVE
    assert two.decide("s", held, 999 + EXPIRY_US) == LEAVE
    held = renewed(held)
    assert two.decide("s", held, 1_000 + EXPIRY_US) == LEAVE
    assert two.decide("s", held, 1_000 + 2 * EXPIRY_US) == TAKE
    moved = two.taken(held)
    assert moved == Lease("n2/1", 2, 0)
    assert one.decide("s", moved, 20) == LEAVE
    assert one.decide("s", released(moved), 30) == TAKE
    assert one.taken(released(moved)).fence == 3


def test_a_peer_that_was_restarted_waits_for_its_own_old_lease_like_others() -> None:
    again = LeaseWatch("n1/2", EXPIRY_US)
    assert again.decide("s", Lease("n1/1", 1, 5), 0) == LEAVE
    assert again.decide("s", Lease("n1/1", 1, 5), EXPIRY_US) == TAKE


def test_what_was_forgotten_is_watched_anew() -> None:
    watch = LeaseWatch("n2/1", EXPIRY_US)
    held = Lease("n1/1", 1, 0)
    assert watch.decide("s", held, 0) == LEAVE
    watch.forget("s")
    assert watch.decide("s", held, EXPIRY_US) == LEAVE


@pytest.mark.parametrize("seed", range(20))
def test_a_live_owner_keeps_it_and_a_dead_one_is_replaced_by_one(seed: int) -> None:
    """Peers with clocks of any offset look each second at a record that changes by compare-and-set."""
    chance = random.Random(seed)
    watches = {f"n{n}/1": LeaseWatch(f"n{n}/1", EXPIRY_US) for n in range(3)}
    offsets = {name: chance.randrange(10**12) for name in watches}
    dead_until = dict.fromkeys(watches, 0)
    record, last_beat_us = Lease(), 0
    for now_us in range(0, 200_000_000, 200_000):
        for name, watch in watches.items():
            if now_us < dead_until[name] or chance.random() < 0.7:
                continue
            if chance.random() < 0.01:
                dead_until[name] = now_us + chance.randrange(20_000_000)
                continue
            decision = watch.decide("s", record, now_us + offsets[name])
            if decision == TAKE:
                before, record = record, watch.taken(record)
                assert record.fence == before.fence + 1
                # Whoever is replaced was silent for as long as its successor's clock says.
                assert not before.owner or now_us - last_beat_us >= EXPIRY_US
                last_beat_us = now_us
            elif decision == OWN:
                assert record.owner == name
                record, last_beat_us = renewed(record), now_us
        assert now_us - last_beat_us < EXPIRY_US + 25_000_000
    assert record.fence > 1
