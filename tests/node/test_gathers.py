"""Gathers when things go wrong: siblings out of reach, peers that die or are slow, epochs that pass."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from core.commands import Failed, Find, Why
from core.consistency import Level
from core.gathering import Gathered, GatherRequest
from core.messages import GatherTold
from core.metadata import AlterTable, DropTable
from core.requests import Answer, Changed, Invalid, MetadataRequest, Timeout, Unavailable
from core.schema import TableOptions
from documents.finding import CountFold
from node import gather_serving, gathers
from sim.cluster import Reply, SimCluster
from sim.real import node_of
from tests.documents.whole import SECOND, ask, cluster_of, count, gather, movies, put, settle

COUNT = 40


@pytest.fixture
def cluster() -> SimCluster:
    made = cluster_of(3)
    for n in range(COUNT):
        put(made, f"m{n}", {"n": n}, n % 3)
    return made


def begin(cluster: SimCluster, index: int, fold: CountFold, timeout_us: int = 20 * SECOND) -> list[Reply]:
    """Ask, and give the list in which the reply will be."""
    got: list[Reply] = []
    request = GatherRequest(movies(cluster, index).table, Level.QUORUM, fold)
    cluster.request(index, request, timeout_us, got.append)
    return got


def answer_of(cluster: SimCluster, got: list[Reply]) -> Answer | None:
    assert cluster.run_until(lambda: bool(got), 60 * SECOND)
    return got[0].answer


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The messages that peers serve, as they come."""
    seen: list[Any] = []
    serve = gather_serving.GatherServing.serve

    def serving(self: Any, message: Any, answer: Callable[..., None]) -> None:
        seen.append((self.inside.identity.name, message))
        serve(self, message, answer)

    monkeypatch.setattr(gather_serving.GatherServing, "serve", serving)
    return seen


def test_one_peer_serves_all_where_every_peer_holds_all(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch)
    assert count(cluster, 1, {}) == COUNT
    assert [name for name, _ in seen] == ["n2"]
    assert len(seen[0][1].follow) == 1


def test_a_sibling_that_cannot_be_followed_is_replaced_by_another(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch)
    node = node_of(cluster, 0)
    assert count(cluster, 0, {}) == COUNT
    first = seen[0][1].follow
    other = next(n for n in (1, 2) if cluster.machines[n].peer in first)
    cluster.cut([0], [other])  # and nobody knows yet
    assert count(cluster, 0, {"n": {"$gte": 0}}) == COUNT
    followed = {peer for _, message in seen[1:] for peer in message.follow}
    assert cluster.machines[3 - other].peer in followed
    assert node.gathers.under_way == {}


def test_a_coordinator_that_is_cut_off_says_that_it_was_too_late(cluster: SimCluster) -> None:
    cluster.isolate(0)
    got = begin(cluster, 0, CountFold(b"{}"), 3 * SECOND)
    assert cluster.run_until(lambda: bool(got), 10 * SECOND)
    cluster.run_for(5 * SECOND)
    assert not node_of(cluster, 0).gathers.under_way
    answer = got[0].answer
    assert answer is None or isinstance(answer, Timeout | Unavailable)


def test_pieces_go_on_where_the_last_one_stopped(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathers, "PIECE_ROWS_MAX", 7)
    seen = watched(monkeypatch)
    fold = CountFold(b"{}")
    answer = gather(cluster, 2, fold)
    assert isinstance(answer, Gathered)
    assert fold.count == COUNT
    assert len(seen) == answer.served[0].pieces == 6
    assert [bool(message.follow) for _, message in seen] == [True, *[False] * 5]
    assert answer.served[0].examined == COUNT


def test_an_epoch_that_passes_meanwhile_does_not_count_twice(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathers, "PIECE_ROWS_MAX", 5)
    fold = CountFold(b"{}")
    absorb, parts = fold.absorb, []

    def absorbing(server: bytes, part: bytes) -> bool:
        parts.append(part)
        if len(parts) == 3:
            change = AlterTable("docs", "movies", TableOptions(default_ttl_s=9))
            cluster.request(1, MetadataRequest(change), 20 * SECOND, lambda reply: None)
            cluster.run_for(0)
        return absorb(server, part)

    fold.absorb = absorbing  # type: ignore[method-assign]
    got = begin(cluster, 0, fold)
    assert isinstance(answer_of(cluster, got), Gathered)
    assert fold.count == COUNT


def test_a_table_that_is_dropped_ends_the_work(cluster: SimCluster) -> None:
    table = movies(cluster).table
    dropped = ask(cluster, 1, MetadataRequest(DropTable("docs", "movies")))
    assert isinstance(dropped, Changed) and not dropped.error
    settle(cluster)
    answer = ask(cluster, 0, GatherRequest(table, Level.QUORUM, CountFold(b"{}")))
    assert isinstance(answer, Invalid)
    assert answer.code == "no_such_table"


def test_a_table_that_others_have_dropped_is_not_waited_for(cluster: SimCluster) -> None:
    request = GatherRequest(movies(cluster).table, Level.QUORUM, CountFold(b"{}"))
    ask(cluster, 1, MetadataRequest(DropTable("docs", "movies")))
    got: list[Reply] = []
    for peer in range(3):  # who has heard of it, and who has not
        cluster.request(peer, request, 20 * SECOND, got.append)
    assert cluster.run_until(lambda: len(got) == 3, SECOND)
    assert [getattr(reply.answer, "code", "") for reply in got] == ["no_such_table"] * 3


def test_an_answer_that_comes_twice_or_late_counts_once(cluster: SimCluster) -> None:
    made = cluster_of(5, seed=2)
    for n in range(COUNT):
        put(made, f"m{n}", {"n": n}, n % 5)
    node = node_of(made, 0)
    deliver = node.on_message
    told: list[Any] = []

    def delivering(peer: bytes, message: Any) -> None:
        deliver(peer, message)
        if isinstance(message, GatherTold):
            told.append((peer, message))
            deliver(peer, message)

    node.on_message = delivering  # type: ignore[method-assign]
    assert count(made, 0, {}) == COUNT
    assert told, "somebody else had a share"
    for peer, message in told:
        deliver(peer, message)


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_exact_while_peers_die_and_links_break(seed: int) -> None:
    random = Random(f"gathers:{seed}")
    made = cluster_of(5, seed=seed)
    for n in range(COUNT):
        put(made, f"m{n}", {"n": n, "odd": n % 2}, n % 5)
    pieces = 0
    for turn in range(12):
        fold = CountFold(b'{"odd":1}')
        got = begin(made, turn % 4, fold)
        made.run_for(random.randrange(3_000))
        victim = random.choice([n for n in range(5) if n != turn % 4])
        fault = random.choice(["kill", "isolate", "pause", "none"])
        if fault == "kill":
            made.kill(victim)
        elif fault == "isolate":
            made.isolate(victim)
        elif fault == "pause":
            made.pause(victim)
        answer = answer_of(made, got)
        assert isinstance(answer, Gathered), (turn, fault, answer)
        assert fold.count == COUNT // 2, (turn, fault)
        pieces += sum(one.pieces for one in answer.served)
        made.heal()
        made.resume(victim)
        made.start(victim)
        ready = lambda: all(node_of(made, n).ready()[0] for n in range(5))  # noqa: E731
        assert made.run_until(ready, 60 * SECOND)
        settle(made)
    assert pieces >= 12


def test_a_slow_program_takes_turns_with_others(cluster: SimCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    node = node_of(cluster, 0)
    world = node.inside.world
    real, slept = world.monotonic_us, [0]

    def slow() -> int:
        slept[0] += gather_serving.TURN_US // 2
        return real() + slept[0]

    monkeypatch.setattr(world, "monotonic_us", slow)
    turns: list[int] = []
    on_timer = node.on_timer

    def timed(timer: tuple[Any, ...]) -> None:
        turns.extend([1] if timer[0] == "gather_turn" else [])
        on_timer(timer)

    monkeypatch.setattr(node, "on_timer", timed)
    assert count(cluster, 0, {"n": {"$gte": 0}}) == COUNT
    assert len(turns) > COUNT // 5


def test_what_a_gather_finds_damaged_is_mended_and_counted_elsewhere(cluster: SimCluster) -> None:
    node = node_of(cluster, 0)
    damaged: list[tuple[int, int, int]] = []
    node.inside.on_damage = lambda table, first, last: damaged.append((table, first, last))
    serving, submit = node.gathers.serving, node.inside.submit

    def failing(ticket: Any, command: Any) -> None:
        if isinstance(command, Find):
            serving.on_candidates(Failed(Why.CORRUPT, "a block does not have its checksum"), ticket[1])
        else:
            submit(ticket, command)

    node.inside.submit = failing  # type: ignore[method-assign]
    assert count(cluster, 0, {}) == COUNT
    assert damaged and damaged[0][0] == movies(cluster).table
    assert not serving.runs


def _poisoned(*_: Any) -> Any:
    raise AssertionError("nobody thought of this")


@pytest.mark.parametrize("where", ["at the replica", "at the coordinator"])
def test_a_bug_ends_that_question_alone(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Not the peer, and then the next one that is asked. Where nobody is told, as in tests, it is raised."""

    told: list[tuple[str, str]] = []
    with monkeypatch.context() as patch:
        if where == "at the replica":
            patch.setattr("documents.programs._Counting.take", _poisoned)
        else:
            patch.setattr(gathers.GatherOperation, "on_message", _poisoned)
        for number in range(3):
            node_of(cluster, number).inside.on_bug = lambda what, error: told.append((what, str(error)))
        failed = answer_of(cluster, begin(cluster, 1, CountFold(b"{}"), 2 * SECOND))
        for number in range(3):
            node_of(cluster, number).inside.on_bug = None
        assert told and {error for _, error in told} == {"nobody thought of this"}
        assert not any(node_of(cluster, number).gathers.serving.runs for number in range(3))
        patch.undo()
        assert count(cluster, 1, {}) == COUNT
    assert isinstance(failed, Invalid) == (where == "at the replica")  # else the deadline ends it
    assert not node_of(cluster, 1).gathers.under_way


def test_without_anybody_to_tell_a_bug_is_raised(
    cluster: SimCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathers.GatherOperation, "on_message", _poisoned)
    with pytest.raises(AssertionError, match="nobody thought"):
        answer_of(cluster, begin(cluster, 0, CountFold(b"{}")))
