"""The pure parts: whom to ask, when to try again, where a key is, what a path is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

import sullae
from ring.placement import NetworkTopologyStrategy, Peer as Member, Placement, Ring as TheirRing
from ring.tokens import token_of as their_token_of
from server.rest.problems import TITLES
from sullae import retrying
from sullae.calls import document_path, path_of
from sullae.edits import edit_of
from sullae.errors import error_of
from sullae.peers import Peers, beside, urls_of
from sullae.retrying import After, Backoff, Repeat
from sullae.ring import Ring, token_of

# --- peers


def test_failed_peers_rest_ever_longer_and_one_success_brings_them_back() -> None:
    peers = Peers(["http://a:1", "http://b:1"])
    a, b = peers.all
    rests = []
    for _ in range(12):
        a.failed(0.0, 1.0)
        rests.append(a.resting_until_s)
    assert rests == sorted(rests) and rests[0] <= 0.1 and rests[-1] == 5.0
    assert [peers.choose(1.0) for _ in range(4)] == [b] * 4
    a.succeeded()
    assert {peers.choose(1.0).url for _ in range(4)} == {a.url, b.url}


def test_where_all_rest_the_one_that_is_ready_soonest_is_asked() -> None:
    peers = Peers(["http://a:1", "http://b:1"])
    a, b = peers.all
    a.failed(10.0, 1.0)
    b.failed(0.0, 1.0)
    b.failed(0.0, 1.0)
    b.resting_until_s = 11.0
    assert peers.choose(9.0) is a


def test_replicas_come_before_others_but_not_when_they_rest_or_were_tried() -> None:
    peers = Peers(["http://a:1"])
    told = {"peers": [{"name": n, "address": n, "state": "up"} for n in ("a", "b", "c")]}
    peers.learn(told, peers.all[0])
    a, b, c = peers.all
    assert [peers.choose(0.0, (), ("c",)) for _ in range(4)] == [c] * 4
    assert peers.choose(0.0, [c], ("c", "a")) is a
    c.failed(0.0, 1.0)
    assert peers.choose(0.0, (), ("c",)) in (a, b)
    b.outstanding, a.outstanding = 1, 2
    assert peers.choose(0.0) is b


def test_a_given_address_that_is_no_member_is_used_when_no_member_answers() -> None:
    peers = Peers(["http://balancer:1"])
    peers.learn({"peers": [{"name": "a", "address": "10.0.0.1", "state": "up"}]}, peers.all[0])
    balancer, a = peers.all
    assert [peers.choose(0.0) for _ in range(4)] == [a] * 4
    a.failed(0.0, 1.0)
    assert peers.choose(0.0) is balancer


def test_members_that_left_are_dropped_but_not_the_addresses_that_were_given() -> None:
    def told(*addresses: str) -> dict[str, object]:
        return {"peers": [{"name": one, "address": one, "state": "up"} for one in addresses]}

    peers = Peers(["http://a:1"])
    peers.learn(told("a", "b"), peers.all[0])
    peers.learn(told("c"), peers.all[0])
    assert [(peer.url, peer.is_member) for peer in peers.all] == [("http://a:1", False), ("http://c:1", True)]


def test_what_a_cluster_that_is_not_born_says_changes_nothing() -> None:
    peers = Peers(["http://a:1"])
    peers.learn({"peers": []}, peers.all[0])
    assert [peer.url for peer in peers.all] == ["http://a:1"]


def test_addresses() -> None:
    assert urls_of("127.0.0.1, http://b:81/,https://c") == [
        "http://127.0.0.1:8080",
        "http://b:81",
        "https://c",
    ]
    assert urls_of("http://[::1]:5") == ["http://[::1]:5"]
    assert beside("http://a:5", "::2") == "http://[::2]:5"
    assert beside("https://a", "b") == "https://b"
    for bad in ("", " , ", "ftp://a", "http://a/path", "http://?x", "http://"):
        with pytest.raises(ValueError, match="http://127"):
            urls_of(bad)


# --- retrying

NEVER_WRITTEN = ("unavailable", "overloaded", "not-ready", "bucket-not-created", "collection-not-created")


@pytest.mark.parametrize("kind", NEVER_WRITTEN)
@pytest.mark.parametrize("repeat", Repeat)
def test_what_was_not_done_is_tried_again_whatever_it_is(kind: str, repeat: Repeat) -> None:
    verdict = retrying.refused(error_of(503, {"type": kind}), repeat, writes=True)
    assert verdict.after is not After.NEVER and not verdict.maybe_done


@pytest.mark.parametrize("kind", sorted(TITLES))
def test_every_problem_of_the_server_has_an_exception_and_a_verdict(kind: str) -> None:
    status, _ = TITLES[kind]
    error = error_of(status, {"type": kind, "status": status, "detail": "d"})
    assert isinstance(error, sullae.SullaeError)
    assert isinstance(error, sullae.RequestError) == (status < 500)
    verdict = retrying.refused(error, Repeat.HARMFUL, writes=True)
    if status < 500 and kind != "idempotency-key-in-use":
        assert verdict == retrying.Verdict(After.NEVER)
    assert verdict.maybe_done == (
        kind in ("outcome-unknown", "idempotency-key-in-use") or status in (500, 501)
    )


def test_what_may_have_been_done_is_tried_again_only_where_that_does_no_harm() -> None:
    unknown = error_of(504, {"type": "outcome-unknown"})
    verdicts = {repeat: retrying.refused(unknown, repeat, writes=True) for repeat in Repeat}
    assert verdicts[Repeat.HARMFUL].after is After.NEVER
    assert verdicts[Repeat.KEYED].after is verdicts[Repeat.HARMLESS].after is After.LATER
    assert all(verdict.maybe_done for verdict in verdicts.values())
    assert retrying.lost(Repeat.HARMFUL, writes=True) == retrying.Verdict(After.NEVER, maybe_done=True)
    assert retrying.lost(Repeat.HARMLESS, writes=False) == retrying.Verdict(After.ELSEWHERE)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_bound_and_are_spread(failures: int, chance: float) -> None:
    backoff = Backoff(first_s=0.1, most_s=2.0)
    bound = min(2.0, 0.1 * 2 ** min(failures - 1, 30))
    assert 0.25 * bound <= backoff.pause_s(failures, chance) <= bound


# --- the ring


@given(st.binary(min_size=1, max_size=70))
def test_tokens_are_those_of_the_cluster(key: bytes) -> None:
    assert token_of(key) == their_token_of(key)


@given(st.text(min_size=1, max_size=20), st.integers(1, 7), st.integers(1, 4), st.integers())
def test_replicas_are_those_of_the_cluster(key: str, count: int, racks: int, seed: int) -> None:
    chance = random.Random(seed)
    tokens = [chance.randrange(2**64 - 1) - 2**63 + 1 for _ in range(8 * count)]
    members = [
        Member(n, f"n{n}", "dc1", f"r{n % racks}", tuple(tokens[8 * n : 8 * n + 8])) for n in range(count)
    ]
    theirs = Placement(TheirRing(members), NetworkTopologyStrategy({"dc1": 3}))
    vnodes = [{"token": token, "peer": member.name} for member in members for token in member.tokens]
    cluster = {"peers": [{"name": m.name, "datacentre": m.datacentre, "rack": m.rack} for m in members]}
    ours = Ring.of(cluster, {"epoch": 3, "vnodes": vnodes})
    expected = {f"n{number}" for number in theirs.replicas(token_of(key.encode()))}
    assert {*ours.replicas(key)} == expected


def test_nothing_is_preferred_while_the_ring_is_not_known() -> None:
    assert Ring().replicas("k") == ()


# --- paths


@given(st.text(min_size=1, max_size=30))
def test_any_key_is_one_segment_of_a_path(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        with pytest.raises(sullae.Invalid):
            path_of("kv", "b", key)
        return
    path = path_of("kv", "b", key)
    assert path.count("/") == 4 and path.isascii() and not path.endswith(("/.", "/.."))


def test_ids_that_look_like_operations_are_ids() -> None:
    assert document_path("c", "_find") == "/v1/docs/c/%5Ffind"
    assert document_path("c", "a_b") == "/v1/docs/c/a_b"
    assert document_path("_c", "_") == "/v1/docs/_c/%5F"


def test_settings_are_checked_where_they_are_given() -> None:
    with pytest.raises(TypeError):
        sullae.connect("http://a", attempts=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="like http"):
        sullae.connect("nonsense://a")


# --- edits


@pytest.mark.parametrize(
    ("change", "kind", "repeatable"),
    [
        ([{"op": "add", "path": "/a", "value": 1}], "application/json-patch+json", False),
        ([], "application/json-patch+json", False),
        ([{"$set": {"n": "$m"}}, {"$unset": "m"}], "application/vnd.sullae.update+json", False),
        ({"$set": {"n": 1}}, "application/vnd.sullae.update+json", True),
        ({"n": 1}, "application/merge-patch+json", True),
    ],
)
def test_the_kind_of_an_edit_is_seen(change: Any, kind: str, repeatable: bool) -> None:
    found = edit_of(change)
    assert (found.content_type, found.is_repeatable) == (kind, repeatable)
