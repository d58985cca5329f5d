"""Rows that one peer alone holds: the short way answers as the general one, and hands over what it cannot."""

from __future__ import annotations

import copy

import pytest

from core.commands import Failed, Read, Rows, Why
from core.consistency import Level
from core.metadata import Changes, CreateKeyspace, CreateTable, Epoch, Proposal
from core.requests import Broken, ReadRequest, RowsRead, Timeout, Unavailable
from core.row import encode_row
from core.schema import PARTITION, REGULAR, SIMPLE, Column, Replication, TableOptions
from lsm.keys import ROW_SUFFIX, partition_prefix
from node.metadata_state import State, apply
from ring.tokens import token_of
from tests.node.stage import ME, Stage, cluster_state
from tests.node.test_reads import NEW

LONE = 3
LEVELS = (Level.ONE, Level.QUORUM, Level.ALL, Level.LOCAL_ONE, Level.LOCAL_QUORUM)


def lone_state() -> State:
    """The stage's cluster with a table of replication factor 1."""
    one = CreateKeyspace("lone", Replication(SIMPLE, (("", 1),)))
    columns = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))
    table = CreateTable("lone", "one", columns, TableOptions())
    return apply(cluster_state(), Epoch(3, Changes((Proposal((1, 3), one), Proposal((1, 4), table)))))


def key_of(stage: Stage, mine: bool = True) -> bytes:
    """A partition key that we hold, or not."""
    placement = stage.metadata.state.placement(LONE)
    assert placement is not None
    keys = (b"key-%d" % number for number in range(100))
    return next(key for key in keys if (placement.replicas(token_of(key)) == (ME,)) is mine)


def asked(stage: Stage, level: Level = Level.QUORUM, mine: bool = True) -> bytes:
    """Ask for a row; its key in the store."""
    key = key_of(stage, mine)
    request = ReadRequest(LONE, key, ROW_SUFFIX, b"", True, level)
    stage.scans.read(request, stage.deadline_us, stage.answer)
    return partition_prefix(LONE, token_of(key), key) + ROW_SUFFIX


def answered(stage: Stage) -> object:
    (answer,) = stage.answers
    stage.answers.clear()
    return answer


def known(level: Level = Level.QUORUM) -> Stage:
    """A stage that has read such a row before, the general way."""
    stage = Stage(state=lone_state())
    key = asked(stage, level)
    assert stage.submitted[0][0][0] == "read"
    stage.stored(Rows(((key, encode_row(NEW)),), None, False), "read")
    stage.answers.clear()
    return stage


@pytest.mark.parametrize("level", LEVELS)
def test_the_second_read_is_one_command_and_says_the_same(level: Level) -> None:
    stage = Stage(state=lone_state())
    found = []
    for name in ("read", "lone_read"):
        key = asked(stage, level)
        ((ticket, command),) = stage.submitted
        assert ticket[0] == name and isinstance(command, Read) and not command.digest
        stage.stored(Rows(((key, encode_row(NEW)),), None, False))
        found.append(answered(stage))
    assert found[0] == found[1] and isinstance(found[0], RowsRead) and found[0].rows[0].row == NEW
    asked(stage, level)
    stage.stored(Rows((), None, False))
    nothing = answered(stage)
    assert isinstance(nothing, RowsRead) and nothing.rows == ()
    assert stage.inside.operations == {} and stage.sent == []


def test_rows_of_others_and_levels_that_ask_for_more_go_the_general_way() -> None:
    stage = known()
    asked(stage, Level.TWO)
    assert isinstance(answered(stage), Unavailable)
    asked(stage, mine=False)
    assert stage.submitted == [] and len(stage.sent) == 1


def test_what_the_store_cannot_read_is_told_by_the_general_way() -> None:
    stage = known()
    asked(stage)
    stage.stored(Failed(Why.CORRUPT, "damaged"), "lone_read")
    stage.stored(Failed(Why.CORRUPT, "damaged"), "read")
    broken = answered(stage)
    assert isinstance(broken, Broken) and "damaged" in str(broken)
    assert stage.inside.operations == {}


def test_a_read_answered_before_rows_moved_is_asked_anew() -> None:
    stage = known()
    key = asked(stage)
    stage.metadata.state = copy.copy(stage.metadata.state)
    stage.metadata.state.moved_epoch += 1
    stage.stored(Rows((), None, False), "lone_read")
    assert stage.answers == [], "it may have been written elsewhere meanwhile"
    stage.stored(Rows(((key, encode_row(NEW)),), None, False), "read")
    again = answered(stage)
    assert isinstance(again, RowsRead) and again.rows[0].row == NEW


def test_a_store_that_hangs_is_not_waited_for_beyond_the_deadline() -> None:
    stage = known()
    asked(stage)
    stage.pass_time(1_000)
    asked(stage)
    stage.pass_time(stage.inside.settings.write_timeout_us - 2_000)
    assert stage.answers == []
    stage.pass_time(30_000)
    assert stage.answers == [Timeout(0, 1, Level.QUORUM, write=False)] * 2
    for _ in range(2):
        stage.stored(Rows((), None, False), "lone_read")
    assert len(stage.answers) == 2, "late outcomes find nobody"
    stage.pass_time(100_000)
    assert stage.timers == {}, "who waits for nothing looks for nothing"
