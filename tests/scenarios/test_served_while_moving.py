"""Questions that wait at a replica while it gives up the range that they are about."""

from __future__ import annotations

import pytest

from core import limits
from core.consistency import Level
from core.finding import Check, FindRequest, Found
from core.messages import ApplyMutation, AskChanges, FindSlice, Follow, Message, Stale
from core.requests import Answer, Written
from core.schema import NETWORK_TOPOLOGY, IndexTarget, Replication
from jepsen_like.scenarios import Scenario
from lsm import keys
from node import move_plans
from node.moving import Moving
from tests.node.test_finds import keys_of, point
from tests.scenarios.telling import QUIET, WRITE_FAST, table_of, update
from tests.scenarios.test_counterexamples_moving import begin, ended

Patch = pytest.MonkeyPatch
SERVES = 2


def test_who_gives_up_a_range_while_it_follows_does_not_say_what_is_there(monkeypatch: Patch) -> None:
    """What 0 and 1 acknowledged before the question came is among what 2 waits for."""
    monkeypatch.setattr(Moving, "_drain", lambda self, _, move: setattr(self, "_drained", move.id))
    s = Scenario(settings=QUIET | {"hints": False, "purge_interval_us": 0, "speculative_retry_us": 1_000_000})
    s.start()
    table = table_of(s, "t", ("v",))
    s.lose(lambda source, target, message: isinstance(message, ApplyMutation) and target == SERVES)
    for key in keys_of(20):
        assert isinstance(s.ask(update(table, {1: b"x"}, partition=key)).answer, Written)
    following = True

    def lose(source: int, target: int, message: Message) -> bool:
        if isinstance(message, Follow) and source == SERVES:
            return following
        return isinstance(message, FindSlice) and source == SERVES

    s.lose(lose)
    answers: list[Answer | None] = []
    check = Check(IndexTarget("v"), point(b"x"))
    request = FindRequest(table.id, Level.QUORUM, (check,), None)
    s.cluster.request(SERVES, request, 30 * limits.SECOND_US, lambda reply: answers.append(reply.answer))
    s.run(0.1)
    two = Replication(NETWORK_TOPOLOGY, (("dc1", 2),))
    begin(s, lambda state: move_plans.replicate(state, table.keyspace, two), at=0)
    assert ended(s, 0)
    assert s.until(lambda: s.state(SERVES).move is None and s.state(SERVES).last_move is not None)
    following = False
    assert s.until(lambda: bool(answers), 40)
    (answer,) = answers
    assert not isinstance(answer, Found) or len(answer.rows) == len(keys_of(20))


def test_who_gives_up_a_range_while_a_stream_waits_does_not_say_how_far_others_are_followed() -> None:
    """By then it follows them for other ranges, and passes over what they log of this one."""
    s = Scenario(settings=WRITE_FAST | {"purge_interval_us": 0})
    s.start()
    bucket = s.bucket("b", changes="new")
    before = s.state(SERVES)
    told: list[Message] = []
    everything = ((keys.TOKEN_MIN, keys.TOKEN_MAX),)
    question = AskChanges(1, before.epoch, bucket.table, everything, 0, 0, 2 * limits.SECOND_US)
    s.node(SERVES).change_serving.serve(question, told.append)
    keyspace = before.tables[bucket.table].keyspace
    two = Replication(NETWORK_TOPOLOGY, (("dc1", 2),))
    begin(s, lambda state: move_plans.replicate(state, keyspace, two), at=0)
    assert ended(s, 0)
    assert s.until(lambda: s.state(SERVES).move is None and s.state(SERVES).last_move is not None)
    assert s.until(lambda: bool(told))
    assert isinstance(told[0], Stale)
