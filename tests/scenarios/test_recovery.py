"""Most voters are lost for good: who remains decides, at an operator's word, and the lost stay away."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.messages import Accept, Decided, Message, Prepare, decode_message, encode_message
from core.metadata import Changes, CreateTable, Proposal, Recover
from core.recovery_messages import RecoverAsk, RecoverTold
from core.requests import AdminRequest, Answer, Changed, Invalid, MetadataRequest, Told, Unready
from core.schema import PARTITION, REGULAR, Column, TableOptions
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from node import move_plans
from node.metadata import Metadata
from node.move_plans import Newcomer
from tests.scenarios.telling import QUIET, WRITE_FAST

SETTINGS: dict[str, Any] = QUIET | WRITE_FAST | {"purge_interval_us": 0}
COLUMNS = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))
Patch = pytest.MonkeyPatch


def a_cluster(peers: int = 5, voters: int = 3, lost: tuple[int, ...] = (0, 1)) -> Scenario:
    """A cluster with a bucket `b` that has lost these of its voters, which are its first peers."""
    s = Scenario(peers=peers, settings=SETTINGS, voters=voters)
    s.start()
    s.bucket("b")
    s.kill(*lost)
    rest = [peer for peer in range(peers) if peer not in lost]
    assert s.until(lambda: all(s.sees_dead(peer, *lost) for peer in rest))
    return s


def create(s: Scenario, at: int, name: str) -> Answer | None:
    change = CreateTable("kv", name, COLUMNS, TableOptions())
    return s.ask(MetadataRequest(change), at=at).answer


def name_of(s: Scenario, peer: int) -> str:
    return s.cluster.machines[peer].place.name


def recover(s: Scenario, at: int, lost: tuple[int, ...], verb: str = "recover_commit") -> Answer | None:
    """Have the metadata recovered without these."""
    arguments: dict[str, Any] = {"lost": [name_of(s, peer) for peer in lost]}
    if verb == "recover_commit":
        arguments["cluster"] = s.state(at).name
    return s.ask(AdminRequest(verb, arguments), at=at).answer


def told(answer: Answer | None) -> dict[str, Any]:
    assert isinstance(answer, Told), answer
    return answer.body


def one_log(s: Scenario, *peers: int) -> bool:
    return s.until(lambda: len({s.state(peer).digest for peer in peers}) == 1)


def test_who_remains_goes_on_and_who_was_given_up_is_refused_by_name() -> None:
    s = a_cluster()
    assert isinstance(create(s, 2, "before"), Unready), "nobody decides"
    view = told(recover(s, 3, (0, 1), "recover_plan"))
    assert view["problem"] == "" and view["lost"] == [name_of(s, 0), name_of(s, 1)]
    assert view["voters"] == [name_of(s, 2), name_of(s, 3), name_of(s, 4)]
    found = told(recover(s, 3, (0, 1)))
    assert (found["generation"], found["voters"]) == (1, view["voters"])
    assert one_log(s, 2, 3, 4)
    after = create(s, 4, "after")
    assert isinstance(after, Changed) and not after.error

    s.cluster.start(0)
    assert s.until(lambda: bool(s.node(0).identity.refused))
    assert "given up for lost" in s.node(0).ready()[1] and name_of(s, 0) in s.node(0).ready()[1]
    s.run(5)
    assert s.state(2).table("kv", "after") is not None and s.state(0).table("kv", "after") is None
    assert not s.node(0).ready()[0]


def test_twice_is_once() -> None:
    s = a_cluster()
    assert told(recover(s, 2, (0, 1)))["generation"] == 1
    again = recover(s, 3, (0, 1))
    assert isinstance(again, Invalid), again
    assert len(s.state(2).lineages) == 1 and one_log(s, 2, 3, 4)


def test_two_at_a_time_are_one() -> None:
    s = a_cluster()
    replies: list[Any] = []
    arguments = {"lost": [name_of(s, 0), name_of(s, 1)], "cluster": s.state(2).name}
    for peer in (2, 3, 4):
        s.cluster.request(peer, AdminRequest("recover_commit", arguments), 20_000_000, replies.append)
    assert s.until(lambda: len(replies) == 3)
    assert [told(reply.answer)["generation"] for reply in replies] == [1, 1, 1]
    assert one_log(s, 2, 3, 4)
    assert len(s.state(3).lineages) == 1


def test_nothing_is_recovered_while_it_need_not_be() -> None:
    s = a_cluster(lost=(0,))
    majority = recover(s, 1, (0,))
    assert isinstance(majority, Invalid) and "majority of the voters" in majority.detail
    living = recover(s, 4, (0, 1))
    assert isinstance(living, Invalid) and "alive" in living.detail
    unnamed = s.ask(AdminRequest("recover_commit", {"lost": [name_of(s, 0)]}), at=1).answer
    assert isinstance(unnamed, Invalid) and "name the cluster" in unnamed.detail
    assert not s.state(1).lineages


def test_who_remains_and_does_not_answer_keeps_it_from_being_done() -> None:
    s = a_cluster()
    s.kill(4)
    assert s.until(lambda: s.sees_dead(2, 4))
    refused = recover(s, 2, (0, 1))
    assert isinstance(refused, Invalid) and f"{name_of(s, 4)} does not answer" in refused.detail
    assert told(recover(s, 2, (0, 1, 4)))["generation"] == 1, "unless it is given up, too"


def test_the_longest_log_is_taken() -> None:
    """A change that reached one of those who remain, and of the others only those who are lost."""
    s = Scenario(peers=5, settings=SETTINGS, voters=3)
    s.start()
    s.cut([2, 3], [0, 1, 4])
    made = create(s, 4, "late")
    assert isinstance(made, Changed)
    s.kill(0, 1)
    s.heal()
    s.lose(lambda _, __, message: isinstance(message, Decided))
    assert s.until(lambda: all(s.sees_dead(peer, 0, 1) for peer in (2, 3, 4)))
    s.heal()
    assert told(recover(s, 2, (0, 1)))["generation"] == 1
    assert one_log(s, 2, 3, 4)
    assert s.state(2).table("kv", "late") is not None


def accepted_by_one(s: Scenario) -> None:
    """A recovery that stops when 3 has accepted it and nobody else has: its coordinator dies."""

    def only_to_three(_: int, target: int, message: Message) -> bool:
        return isinstance(message, Accept) and target != 3

    s.lose(only_to_three)
    replies: list[Any] = []
    arguments = {"lost": [name_of(s, 0), name_of(s, 1)], "cluster": s.state(2).name}
    s.cluster.request(2, AdminRequest("recover_commit", arguments), 20_000_000, replies.append)
    acceptor = s.node(3).metadata._acceptor
    assert s.until(lambda: bool(acceptor.given_up.peers))
    s.run(1)
    s.power_cut(2)


def test_what_was_begun_is_finished_by_another() -> None:
    s = a_cluster()
    accepted_by_one(s)
    s.heal()
    s.power_cut(3)
    s.start(2, 3)
    assert s.until(lambda: all(s.sees_dead(peer, 0, 1) for peer in (2, 3, 4)))
    assert not s.state(4).lineages
    found = told(recover(s, 4, (0, 1)))
    assert found["generation"] == 1
    assert one_log(s, 2, 3, 4)


def the_lost_come_back_half_way(patch: Patch, *, remembers: bool) -> bool:
    """3 has accepted to give 0 and 1 up, which come back and decide something. Does 3 believe them?"""
    if not remembers:
        patch.setattr(Metadata, "_given_up", lambda _: ())
    s = a_cluster()
    accepted_by_one(s)
    s.heal()
    s.cut([0, 1], [2, 4])
    s.start(0, 1, serving=False)
    assert s.until(lambda: s.node(0).ready()[0] and s.node(1).ready()[0])
    assert isinstance(create(s, 0, "theirs"), Changed)
    s.run(5)
    return s.state(3).table("kv", "theirs") is not None


def test_who_accepted_it_does_not_listen_to_the_lost_any_more(monkeypatch: Patch) -> None:
    assert not the_lost_come_back_half_way(monkeypatch, remembers=True)


def test_without_that_memory_it_would(monkeypatch: Patch) -> None:
    assert the_lost_come_back_half_way(monkeypatch, remembers=False)


def test_two_halves_that_were_each_recovered_refuse_each_other() -> None:
    s = Scenario(peers=5, settings=SETTINGS, voters=5)
    s.start()
    s.bucket("b")
    s.kill(4)
    left, right = (0, 1), (2, 3)
    s.cut(list(left), list(right))
    assert s.until(lambda: all(s.sees_dead(peer, *right, 4) for peer in left))
    assert s.until(lambda: all(s.sees_dead(peer, *left, 4) for peer in right))
    assert told(recover(s, 0, (*right, 4)))["generation"] == 1
    assert told(recover(s, 2, (*left, 4)))["generation"] == 1
    assert isinstance(create(s, 0, "left"), Changed) and isinstance(create(s, 3, "right"), Changed)
    s.heal()
    s.run(30)
    for peer in (*left, *right):
        names = [name for name in ("left", "right") if s.state(peer).table("kv", name) is not None]
        assert names == ["left" if peer in left else "right"], "no log holds what the other decided"
        assert s.node(peer).ready()[0], "which of the two is kept is for an operator to say"
    text = "these are two clusters now"
    assert any(text in event.text for _, _, event in s.cluster.log)


def test_who_is_lost_is_replaced_although_no_quorum_of_the_old_replicas_is_left() -> None:
    """Three peers, two lost: what the third holds is what there is, and a newcomer for each takes it over."""
    s = Scenario(peers=3, settings=SETTINGS)
    s.start()
    s.bucket("b")
    assert s.put("b", "k", b"v").status == OK
    s.run(5)
    s.kill(0, 1)
    assert s.until(lambda: s.sees_dead(2, 0, 1))
    view = told(recover(s, 2, (0, 1), "recover_plan"))
    assert view["data"]["kv"] == {"none": 0.0, "no_quorum": 1.0}
    assert told(recover(s, 2, (0, 1)))["voters"] == [name_of(s, 2)]
    assert s.get("b", "k", at=2, level=Level.ONE).result.value == b"v"
    assert s.get("b", "k", at=2).status != OK, "half a truth is not given for a whole one"
    for victim in (0, 1):
        s.wipe(victim)
        s.cluster.start(victim)
        replace_by_itself(s, victim)
    assert s.until(lambda: s.state(2).lost == ())
    assert s.until(lambda: all(s.node(peer).ready()[0] for peer in range(3)))
    assert s.get("b", "k", at=0).result.value == b"v"
    assert len(s.state(2).voters) == 3
    assert s.put("b", "k2", b"w", at=1).status == OK


def replace_by_itself(s: Scenario, victim: int) -> None:
    """The wiped machine takes its own place."""
    name = name_of(s, victim)
    waiting = s.node(2).identity.waiting
    assert s.until(lambda: name in waiting)
    hello = waiting[name]
    one = Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
    begun = s.ask(MetadataRequest(move_plans.replace(s.state(2), name, one)), at=2).answer
    assert isinstance(begun, Changed) and not begun.error, begun
    assert s.until(lambda: s.state(2).move is None and s.state(2).by_name(name).peer == hello.peer, 60)  # type: ignore[union-attr]


def test_what_is_said_for_it_travels() -> None:
    entry = Changes((Proposal((1, 2), Recover(1, (b"a",), (b"b",))),))
    for message in (
        RecoverAsk(1, (b"a",)),
        RecoverTold(1, 2, (b"a",), "why not"),
        Prepare(2, 3, (b"a",)),
        Accept(2, 3, entry, (b"a",)),
    ):
        assert decode_message(encode_message(message)) == message
