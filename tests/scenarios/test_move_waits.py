"""A move that does not go on says for whom it waits, why, and since when; so does a floor."""

from __future__ import annotations

from typing import Any

import pytest

from core.requests import AdminRequest, Changed, MetadataRequest, Told
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from node import move_plans
from node.moving import Moving
from node.moving_ring import HAND_OVER, PREPARE
from tests.scenarios.telling import QUIET, WRITE_FAST

SETTINGS: dict[str, Any] = QUIET | WRITE_FAST | {"purge_interval_us": 0}
LEAVING = 3
Patch = pytest.MonkeyPatch


def told(s: Scenario, verb: str = "moves", at: int = 1) -> dict[str, Any]:
    answer = s.ask(AdminRequest(verb, {}), at=at).answer
    assert isinstance(answer, Told), answer
    return answer.body


def waits(s: Scenario, at: int = 1) -> list[tuple[str, int]]:
    """Of all peers, what is waited for and how long."""
    move = told(s, at=at)["move"]
    return [(wait["text"], wait["seconds"]) for peer in move["peers"] for wait in peer["waits"]]


def name_of(s: Scenario, peer: int) -> str:
    return s.cluster.machines[peer].place.name


def leave(s: Scenario) -> None:
    """Begin to remove the last of four peers."""
    change = move_plans.remove(s.state(0), [name_of(s, LEAVING)])
    answer = s.ask(MetadataRequest(change)).answer
    assert isinstance(answer, Changed) and not answer.error, answer


def four() -> Scenario:
    s = Scenario(peers=4, settings=SETTINGS)
    s.start()
    s.bucket("b")
    return s


def test_a_removal_that_waits_for_hints_names_who_refuses_them_and_why(monkeypatch: Patch) -> None:
    may: list[bool] = []
    whole = Moving._may_hand_over
    monkeypatch.setattr(Moving, "_may_hand_over", lambda *given: bool(may) and whole(*given))
    s = four()
    leave(s)
    assert s.until(lambda: all(s.node(peer).moving.tell(0).merged for peer in range(3)))
    s.cluster.machines[1].engine.disk_full = True
    for number in range(40):
        assert s.put("b", f"k{number}", b"v", at=LEAVING).status == OK
    assert s.until(lambda: s.node(LEAVING).hints.pending(s.cluster.machines[1].peer) > 3)
    may.append(True)
    assert s.until(lambda: (move := s.state(0).move) is None or move.phase == HAND_OVER)
    leaver, refuser = name_of(s, LEAVING), name_of(s, 1)
    assert s.until(lambda: any(f"for {leaver} to deliver" in text for text, _ in waits(s, at=2)))
    s.run(10)
    found = waits(s)
    (delivering,) = [wait for wait in found if f"for {leaver} to deliver" in wait[0]]
    assert delivering[1] >= 9
    (refusing,) = [text for text, _ in found if f"kept for {refuser}: {refuser} refuses them: " in text]
    assert "no space left" in refusing and "(kv.b, token " in refusing

    s.cluster.machines[1].engine.disk_full = False
    assert s.until(lambda: s.state(0).move is None, 120)
    assert told(s)["move"] is None


def test_a_move_whose_peers_are_down_names_them_and_the_ranges() -> None:
    s = four()
    for number in range(20):
        assert s.put("b", f"k{number}", b"v").status == OK
    s.kill(1)
    assert s.until(lambda: all(s.sees_dead(peer, 1) for peer in (0, 2, 3)))
    leave(s)
    s.run(10)
    move = s.state(0).move
    assert move is not None and move.phase == PREPARE, "who is down has to merge what it is given"
    found = waits(s, at=2)
    assert any(
        text.startswith(f"for {name_of(s, 1)} (down) to merge what it is given (tokens ") for text, _ in found
    )
    assert max(seconds for _, seconds in found) >= 5
    s.start(1)
    assert s.until(lambda: s.state(0).move is None, 120)


def test_a_floor_that_waits_says_for_whom_since_when_and_where() -> None:
    s = Scenario(settings=QUIET | WRITE_FAST | {"purge_interval_us": 1_000_000, "purge_slack_us": 100_000})
    s.start()
    s.bucket("b")
    assert s.put("b", "k", b"v").status == OK
    assert s.delete("b", "k").status == OK
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2) and s.sees_dead(1, 2))
    s.run(20)
    floors = [one for at in (0, 1) for one in told(s, "repair", at)["floors"] if one["waiting"]]
    assert floors and all(f"{name_of(s, 2)} down" in one["waiting"] for one in floors)
    assert all(one["waiting_s"] > 5 and one["tokens"] for one in floors)
