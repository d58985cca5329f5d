"""Where rows live while ranges move, and what is planned."""

from __future__ import annotations

import pytest

from core.consistency import Level, need
from core.metadata import BeginMove, Birth, Changes, CreateTable, Epoch, Proposal, Recover, StepMove
from core.moving_messages import FloorsTold
from core.ports import InitialPeer
from core.schema import NETWORK_TOPOLOGY, PARTITION, REGULAR, Column, Member, Replication, TableOptions
from node import move_plans, recovery
from node.birth import initial_tokens
from node.metadata_state import UNBORN, State, apply
from node.move_plans import Newcomer, PlanError
from node.moving import complement
from node.moving_ring import ABORTED, FINISH, HAND_OVER
from node.moving_stream import AskAll, Stream, choose_sources, meets_quorums, must_merge
from node.tally import Tally

PEERS = tuple(bytes([n]) * 16 for n in (1, 2, 3))
NEW = Newcomer(b"new" * 5 + b"!", "n9", "10.0.0.9:7000", "dc1", "r9")


def cluster_state() -> State:
    """Three peers in three racks that hold everything, and a table."""
    initial = tuple(InitialPeer(f"n{n}", f"10.0.0.{n}:7000", "dc1", f"r{n}", voter=True) for n in (1, 2, 3))
    tokens = initial_tokens(initial, 16, 3)
    members = tuple(
        Member(peer, n, place.name, place.address, place.datacentre, place.rack, tokens[n - 1])
        for n, (peer, place) in enumerate(zip(PEERS, initial, strict=True), 1)
    )
    state = apply(UNBORN, Epoch(1, Birth(b"c" * 16, "moving", members, PEERS)))
    columns = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))
    return after(state, CreateTable("kv", "flat", columns, TableOptions()))


def after(state: State, change: object) -> State:
    """The state after an epoch with this change, which must apply."""
    number = state.epoch + 1
    found = apply(state, Epoch(number, Changes((Proposal((9, number), change),))))  # type: ignore[arg-type]
    result = found.result((9, number))
    assert result is not None and not result.error, result
    return found


def joining() -> State:
    state = cluster_state()
    return after(state, move_plans.add(state, [NEW], 16))


def first_moving(state: State) -> tuple[int, tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
    placement = state.placement(1)
    assert placement is not None and placement.moving is not None
    pair, sides = placement.moving.moving()[0]
    return pair[1], sides


def test_a_newcomer_is_written_from_the_first_epoch_read_from_the_second_and_alone_after_the_third() -> None:
    state = joining()
    assert state.move is not None
    token, (old, new) = first_moving(state)
    move = state.move
    for phase, readers in (("", old), (HAND_OVER, new)):
        if phase:
            state = after(state, StepMove(move.id, phase))
        placement = state.placement(1)
        assert placement is not None and state.move is not None
        assert placement.replicas(token) == readers
        assert sorted(placement.writers(token)) == sorted({*old, *new})
    state = after(state, StepMove(move.id, FINISH))
    placement = state.placement(1)
    assert placement is not None and state.move is None and placement.moving is None
    assert placement.replicas(token) == placement.writers(token) == new
    assert state.member(NEW.peer) is not None and len(state.members) == len(PEERS) + 1


def test_a_level_is_met_among_old_and_new_and_one_answer_counts_in_both() -> None:
    state = joining()
    placement = state.placement(1)
    assert placement is not None
    token, (old, new) = first_moving(state)
    tally = Tally(placement.need(Level.QUORUM, token, "dc1"), placement, "dc1")
    (leaving,) = [peer for peer in old if peer not in new]
    (coming,) = [peer for peer in new if peer not in old]
    both = [peer for peer in old if peer in new]
    assert not tally.add(leaving) and not tally.add(coming)
    assert tally.received == 1
    assert tally.add(both[0])
    for peers in ([leaving, both[0]], [coming, both[0]]):
        tally = Tally(placement.need(Level.QUORUM, token, "dc1"), placement, "dc1")
        assert not any(tally.add(peer) for peer in peers)
    assert placement.need(Level.QUORUM, token, "dc1").sides[0][0] == need(
        Level.QUORUM, placement.factors, "dc1"
    )


def test_overlapping_moves_and_outdated_plans_are_refused() -> None:
    state = joining()
    with pytest.raises(PlanError, match="move already"):
        move_plans.remove(state, ["n1"])
    second = apply(state, Epoch(state.epoch + 1, Changes((Proposal((9, 99), BeginMove("move", 1)),))))
    result = second.result((9, 99))
    assert result is not None and result.code == "move_under_way"
    assert state.move is not None
    done = after(after(state, StepMove(state.move.id, HAND_OVER)), StepMove(state.move.id, FINISH))
    late = apply(done, Epoch(done.epoch + 1, Changes((Proposal((9, 98), BeginMove("move", 1)),))))
    result = late.result((9, 98))
    assert result is not None and result.code == "plan_outdated"


def test_a_step_taken_twice_changes_nothing_and_none_is_left_out() -> None:
    state = joining()
    assert state.move is not None
    step = StepMove(state.move.id, FINISH)
    skipped = apply(state, Epoch(state.epoch + 1, Changes((Proposal((9, 97), step),))))
    assert skipped.move == state.move
    over = after(state, StepMove(state.move.id, HAND_OVER))
    again = apply(
        over, Epoch(over.epoch + 1, Changes((Proposal((9, 96), StepMove(state.move.id, HAND_OVER)),)))
    )
    assert again.move == over.move and again.moved_epoch == over.moved_epoch
    aborted = apply(over, Epoch(over.epoch + 1, Changes((Proposal((9, 95), StepMove(over.epoch, ABORTED)),))))
    assert aborted.move == over.move


def test_what_is_aborted_is_as_before_and_its_newcomer_stays_out() -> None:
    before = cluster_state()
    state = joining()
    assert state.move is not None
    state = after(state, StepMove(state.move.id, ABORTED))
    assert [m.peer for m in state.members] == [m.peer for m in before.members] and state.move is None
    placement, old = state.placement(1), before.placement(1)
    assert placement is not None and old is not None and placement.ranges() == old.ranges()
    again = move_plans.add(state, [NEW], 16)
    refused = apply(state, Epoch(state.epoch + 1, Changes((Proposal((9, 94), again),))))
    result = refused.result((9, 94))
    assert result is not None and "empty" in result.error


def test_a_table_made_while_ranges_move_is_written_to_both() -> None:
    state = joining()
    columns = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))
    state = after(state, CreateTable("kv", "late", columns, TableOptions()))
    table = state.table("kv", "late")
    assert table is not None
    placement = state.placement(table.id)
    assert placement is not None
    token, (old, new) = first_moving(state)
    assert sorted(placement.writers(token)) == sorted({*old, *new})


def test_a_replacement_under_the_same_name_and_address_takes_tokens_and_vote() -> None:
    state = cluster_state()
    dead = state.members[0]
    newcomer = Newcomer(NEW.peer, dead.name, dead.address, dead.datacentre, dead.rack)
    state = after(state, move_plans.replace(state, dead.name, newcomer))
    assert state.by_name(dead.name) == state.member(NEW.peer)
    assert (NEW.peer, dead.address) in state.addresses and (dead.peer, dead.address) not in state.addresses
    assert state.move is not None
    state = after(after(state, StepMove(state.move.id, HAND_OVER)), StepMove(state.move.id, FINISH))
    member = state.member(NEW.peer)
    assert member is not None and member.tokens == dead.tokens and state.member(dead.peer) is None
    assert NEW.peer in state.voters and dead.peer not in state.voters
    assert (dead.peer, dead.name + " (replaced)") in state.former


def test_a_keyspace_that_would_have_too_few_peers_hinders_a_removal() -> None:
    with pytest.raises(PlanError, match="ALTER KEYSPACE"):
        move_plans.remove(cluster_state(), ["n1"])


def test_voters_stay_odd_and_are_three_as_soon_as_there_are_three() -> None:
    state = cluster_state()
    assert move_plans.voters_after(state, state.members) == ()
    assert len(move_plans.voters_after(state, state.members[:2])) == 1
    assert len(move_plans.voters_after(state, state.members[:1])) == 1


def test_fewer_replicas_have_every_remaining_one_merge_a_quorum() -> None:
    state = cluster_state()
    one = Replication(NETWORK_TOPOLOGY, (("dc1", 1),))
    state = after(state, move_plans.replicate(state, "kv", one))
    placement = state.placement(1)
    assert placement is not None and placement.moving is not None
    for _, sides in placement.moving.moving():
        (stays,) = sides[1]
        assert must_merge(stays, sides, placement.moving)
        others = choose_sources(stays, sides, sides[0], placement)
        assert others is not None and meets_quorums([stays, *others], sides[0], placement)
        assert choose_sources(stays, sides, [stays], placement) is None


def test_a_newcomer_merges_of_those_who_hold_the_plan_durably() -> None:
    """Who forgot it in a crash would acknowledge anew what is planned without the newcomer."""
    state = joining()
    assert state.move is not None
    (want,) = [next(Stream(lambda: state, NEW.peer, 1).steps())]
    assert isinstance(want, AskAll)
    known = [want.accepts(FloorsTold(1, (), state.move.id + later)) for later in (-1, 0, 1)]
    assert known == [False, True, True]


def recovered_while_joining(*lost: int) -> State:
    """A newcomer is being added when these are given up for lost, and so it votes."""
    state = joining()
    gone = tuple(PEERS[number] for number in lost)
    return after(state, Recover(1, gone, recovery.voters_after(state, gone)))


def test_a_newcomer_that_was_made_a_voter_votes_no_more_if_it_is_not_added() -> None:
    state = recovered_while_joining(0)
    assert state.voters == (*PEERS[1:], NEW.peer) and state.move is not None
    state = after(state, StepMove(state.move.id, ABORTED))
    assert state.voters == PEERS[1:2] and state.member(NEW.peer) is None
    state = recovered_while_joining(0, 1)
    assert state.voters == PEERS[2:] and state.move is not None
    assert after(state, StepMove(state.move.id, ABORTED)).voters == PEERS[2:]


def test_who_is_added_stays_if_nobody_else_is_left() -> None:
    state = recovered_while_joining(0, 1, 2)
    assert state.voters == (NEW.peer,) and state.move is not None
    abort = Changes((Proposal((9, 93), StepMove(state.move.id, ABORTED)),))
    refused = apply(state, Epoch(state.epoch + 1, abort))
    result = refused.result((9, 93))
    assert result is not None and "nobody would remain" in result.error and refused.move == state.move


def test_who_is_to_be_replaced_stays_if_nobody_else_is_left() -> None:
    state = cluster_state()
    state = after(state, move_plans.replace(state, "n1", NEW))
    assert state.move is not None
    state = after(state, StepMove(state.move.id, HAND_OVER))
    lost = (*PEERS[1:], NEW.peer)
    state = after(state, Recover(1, lost, recovery.voters_after(state, lost)))
    assert state.voters == PEERS[:1] and state.move is not None
    finish = Changes((Proposal((9, 92), StepMove(state.move.id, FINISH)),))
    refused = apply(state, Epoch(state.epoch + 1, finish))
    result = refused.result((9, 92))
    assert result is not None and "nobody would remain" in result.error and refused.voters == PEERS[:1]


def test_all_tokens_are_owned_or_foreign() -> None:
    first, last = -(2**63), 2**63 - 1
    assert complement(()) == ((first, last),)
    assert complement(((first, last),)) == ()
    assert complement(((0, 9), (20, 29))) == ((first, -1), (10, 19), (30, last))
