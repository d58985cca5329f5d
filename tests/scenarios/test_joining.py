"""A peer joins while others search, and while a consumer group works: both go on throughout, and the newcomer
takes its part.
"""

from __future__ import annotations

from index.query import Match
from jepsen_like.group_member import GroupMember
from jepsen_like.scenarios import Scenario
from node import move_plans
from node.move_plans import Newcomer
from node.moving_ring import HAND_OVER, PREPARE
from tests.node.search_world import SearchScenario
from tests.scenarios.test_counterexamples_moving import begin
from tests.scenarios.test_groups import Story

NEWCOMER = 3
ENDED = "ended"


def joins(s: Scenario) -> None:
    """A fourth peer knocks and is admitted; what it is given takes a while."""
    assert s.cluster.add_machine() == NEWCOMER
    s.start(NEWCOMER, serving=False)
    name = s.cluster.machines[NEWCOMER].place.name
    assert s.until(lambda: name in s.node(0).identity.waiting)
    hello = s.node(0).identity.waiting[name]
    one = Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
    begin(s, lambda state: move_plans.add(state, [one], 16), at=0)


def phase(s: Scenario) -> str:
    """That of the move, as peer 0 knows it."""
    state = s.state(0)
    if state.move is not None:
        return state.move.phase
    return ENDED if state.last_move is not None else ""


def test_each_search_sees_what_was_stored_before_it_while_a_peer_joins() -> None:
    s = SearchScenario(settings={"move_bytes_per_s": 20_000})
    s.start()
    s.collect()
    stored: list[str] = []

    def store_and_search() -> None:
        at = len(stored) % 3
        stored.append(f"d{len(stored):03}")
        s.store(stored[-1], {"title": "space", "n": len(stored)}, at=at)
        assert sorted(s.found(Match("title", "space"), at=(at + 1) % 3, size=200)) == stored

    for _ in range(20):
        store_and_search()
    joins(s)
    seen = dict.fromkeys([phase(s)], 0)
    for _ in range(100):
        now = phase(s)
        seen[now] = seen.get(now, 0) + 1
        if now == ENDED:
            break
        store_and_search()
    assert seen[PREPARE] > 1 and seen.get(HAND_OVER, 0) >= 1 and seen.get(ENDED), seen
    assert s.until(lambda: s.node(NEWCOMER).ready()[0])
    for _ in range(5):
        store_and_search()
    assert sorted(s.found(Match("title", "space"), at=NEWCOMER, size=200)) == stored


def test_a_consumer_group_works_on_everything_while_a_peer_joins() -> None:
    story = Story({"move_bytes_per_s": 20_000})
    story.write(20)
    joins(story.s)
    seen = [phase(story.s)]
    while phase(story.s) != ENDED and len(seen) < 200:
        story.write(1)
        seen.append(phase(story.s))
    assert {PREPARE, HAND_OVER, ENDED} <= {*seen}, seen
    assert story.s.until(lambda: story.s.node(NEWCOMER).ready()[0])
    story.handed_over()
    story.members.append(GroupMember(story.group, "m3"))
    story.members[-1].open(NEWCOMER)
    story.handed_over()
    story.members[0].die()
    story.s.kill(0)
    story.writer = 1
    story.handed_over()
