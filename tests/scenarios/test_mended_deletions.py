"""A deletion that a damaged replica has lost, and that those who give its rows back have not heard of."""

from __future__ import annotations

import pytest

from core.consistency import Level
from core.messages import ApplyMutation, Follow, Message
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from node.compared import Compared
from tests.scenarios.telling import held
from tests.scenarios.test_healing import damage_row, mended
from tests.scenarios.test_moved_deletions import SETTINGS

Patch = pytest.MonkeyPatch
DAMAGED, HOLDS = 0, 4


def what_is_held_in_the_end() -> list[bytes | None]:
    """Of five replicas two have logged a deletion; one of these loses its rows while the other is away."""
    s = Scenario(peers=5, settings=SETTINGS)
    s.start()
    s.bucket("b", factor=5)
    assert s.put("b", "k", b"old", level=Level.ALL).status == OK

    def lose(source: int, target: int, message: Message) -> bool:
        if target in (DAMAGED, HOLDS) or source not in (DAMAGED, HOLDS):
            return isinstance(message, Follow) and source not in (DAMAGED, HOLDS)
        return isinstance(message, ApplyMutation)

    s.lose(lose)
    assert s.delete("b", "k", at=HOLDS, level=Level.TWO).status == OK
    s.run(5)
    assert [held(s, peer, "b")["k"] for peer in range(5)] == [None, b"old", b"old", b"old", None]
    s.kill(HOLDS)
    damage_row(s, DAMAGED, "b")
    s.get("b", "k", at=DAMAGED, level=Level.ONE)
    assert s.until(lambda: mended(s, DAMAGED, 2))
    assert held(s, DAMAGED, "b")["k"] == b"old"
    s.heal()
    s.start(HOLDS)
    s.run(60)
    return [held(s, peer, "b").get("k") for peer in range(5)]


def test_a_deletion_that_damage_took_is_not_purged_before_it_is_back() -> None:
    assert what_is_held_in_the_end() == [None] * 5


def test_if_rows_are_not_compared_after_mending_the_deletion_is_purged_and_its_key_is_back(
    monkeypatch: Patch,
) -> None:
    monkeypatch.setattr(Compared, "_owe", lambda *_: None)
    assert what_is_held_in_the_end() == [b"old", None, None, None, None]
