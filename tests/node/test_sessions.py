"""Waiting for an epoch that a session has seen elsewhere: who is asked, and what becomes of who waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from core.consistency import Level
from core.messages import Pull
from core.requests import AdminRequest, BatchRequest, ReadRequest, WriteRequest
from core.searching import SearchRequest
from core.session import Token
from node import sessions
from node.sessions import ASK_AGAIN_US, Sessions, prepared

ME, VOTER, DEAD, OTHER = b"me", b"voter", b"dead", b"other"


class Stage:
    """A node with nothing but what sessions need; time passes when the test says so."""

    def __init__(self) -> None:
        self.now_us = 0
        self.asked: list[bytes] = []
        self.adopted: Any = None
        self.timer: Any = None
        members = tuple(SimpleNamespace(peer=peer) for peer in (ME, OTHER, VOTER, DEAD))
        state = SimpleNamespace(epoch=5, voters=(ME, DEAD, VOTER), members=members)
        self.metadata = SimpleNamespace(state=state, on_adopted=lambda one: setattr(self, "adopted", one))
        world = SimpleNamespace(monotonic_us=lambda: self.now_us)
        inside: Any = SimpleNamespace(
            world=world,
            identity=SimpleNamespace(peer=ME, datacentre="dc1"),
            on_timer=lambda name, handler: setattr(self, "timer", handler),
            timer=lambda delay_us, name: None,
            send=self.send,
        )
        swim: Any = SimpleNamespace(is_alive=lambda peer: peer != DEAD)
        metadata: Any = self.metadata
        self.sessions = Sessions(inside, metadata, swim)

    def send(self, peer: bytes, message: Any, lane: int) -> bool:
        assert message == Pull(5)
        self.asked.append(peer)
        return True

    def tick(self) -> None:
        self.now_us += ASK_AGAIN_US
        self.timer()

    def adopt(self, epoch: int) -> None:
        self.metadata.state.epoch = epoch
        self.adopted()


def test_voters_are_asked_first_and_then_the_others_until_it_is_there() -> None:
    stage = Stage()
    told: list[bool] = []
    stage.sessions.reach(5, 10**9, told.append)
    assert told == [True] and stage.asked == []
    stage.sessions.reach(7, 10**9, told.append)
    stage.sessions.reach(6, 10**9, told.append)
    stage.tick()
    stage.tick()
    assert stage.asked == [VOTER, OTHER, VOTER] and told == [True]
    stage.adopt(6)
    assert told == [True, True]
    stage.adopt(7)
    stage.tick()
    stage.tick()
    assert told == [True, True, True] and len(stage.asked) == 3, "nobody waits any more"


def test_who_waited_long_enough_is_told_so_and_too_many_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "WAITING_MAX", 1)
    stage = Stage()
    told: list[bool] = []
    stage.sessions.reach(9, 2 * ASK_AGAIN_US, told.append)
    stage.sessions.reach(9, 2 * ASK_AGAIN_US, told.append)
    assert told == [False]
    stage.tick()
    assert told == [False]
    stage.tick()
    assert told == [False, False]
    stage.adopt(9)
    assert told == [False, False]


def test_each_kind_of_request_is_raised_and_what_has_no_level_is_not() -> None:
    placement = SimpleNamespace(factors=(("dc1", 3),))
    state: Any = SimpleNamespace(placement=lambda table: placement if table else None)

    def level(request: Any) -> Level:
        done, _ = prepared(request, Token(), state, "dc1")
        return done.level  # type: ignore[union-attr]

    write = WriteRequest(1, b"p", (), Level.ANY, 0)
    assert level(write) is Level.QUORUM
    assert level(BatchRequest((write, write), Level.ONE)) is Level.QUORUM
    assert level(BatchRequest((write,), Level.ALL)) is Level.ALL
    assert level(ReadRequest(1, b"p", b"", b"", True, Level.LOCAL_ONE)) is Level.LOCAL_QUORUM
    search, token = prepared(SearchRequest((1,), None, Level.ONE, fresh=False), Token(), state, "dc1")
    assert isinstance(search, SearchRequest) and search.fresh and search.level is Level.QUORUM and token.wide
    gone = ReadRequest(0, b"p", b"", b"", True, Level.ONE)
    assert prepared(gone, Token(), state, "dc1") == (gone, Token()), (
        "the node says that there is no such table"
    )
    verb = AdminRequest("status")
    assert prepared(verb, Token(), state, "dc1") == (verb, Token())
    assert prepared(write, Token(full=False), state, "dc1")[0] is write
