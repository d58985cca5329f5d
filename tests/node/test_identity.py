"""Who is let in, and who learns why not."""

from __future__ import annotations

import msgspec
import pytest

from core.messages import Hello, Refused
from node.identity import BARRING, judge
from node.metadata_state import UNBORN
from tests.node.test_metadata_state import born
from tests.node.tiny_world import CLUSTER_NAME, TinyCluster, configuration

INITIAL = configuration(3, 3)


def hello(number: int = 1, **changes: object) -> Hello:
    made = Hello(
        1, 1, CLUSTER_NAME, b"", bytes([number]) * 16, 1, f"n{number}", f"10.0.0.{number}", "dc1", "r1", 0
    )
    return msgspec.structs.replace(made, **changes)


def verdict(theirs: Hello, is_born: bool = True, highest: int = 0) -> Refused | None:
    state = born(3) if is_born else UNBORN
    mine = hello(1, cluster=state.cluster, epoch=state.epoch)
    return judge(mine, theirs, state, INITIAL, highest)


def test_a_member_is_let_in_whatever_its_address() -> None:
    assert verdict(hello(2)) is None
    assert verdict(hello(2, address="10.9.9.9")) is None
    assert verdict(hello(2, start=4), highest=4) is None


@pytest.mark.parametrize(
    "theirs, code, words",
    [
        (hello(1), "self", "same peer"),
        (hello(1, name="n2"), "copy", "copy of the other's directory"),
        (hello(2, oldest=2, newest=3), "protocol", "none in common"),
        (hello(2, cluster_name="other"), "cluster", "'other'"),
        (hello(2, cluster=b"x" * 16), "cluster", "different clusters"),
        (hello(9, name="n2"), "wiped", "'n2' is a member with another identity: this directory is empty"),
        (hello(9, cluster=born(3).cluster), "stranger", "'n9' is no member"),
        (hello(2, name="n3"), "misplaced", "'n3' runs on the directory of peer 'n2'"),
    ],
)
def test_others_are_refused_for_good_with_the_reason(theirs: Hello, code: str, words: str) -> None:
    refused = verdict(theirs)
    assert refused is not None
    assert (refused.code, refused.final) == (code, True)
    assert words in refused.reason


def test_a_lower_start_counter_is_refused() -> None:
    refused = verdict(hello(2, start=3), highest=5)
    assert refused is not None
    assert refused.code == "rolled_back"
    assert refused.code in BARRING
    assert "3" in refused.reason and "5" in refused.reason


def test_before_birth_founders_are_let_in_and_others_may_try_again() -> None:
    assert verdict(hello(2), is_born=False) is None
    assert verdict(hello(9, cluster=b"c" * 16), is_born=False) is None
    refused = verdict(hello(9), is_born=False)
    assert refused is not None
    assert not refused.final


def test_a_rolled_back_directory_is_refused_even_when_its_counter_catches_up() -> None:
    cluster = TinyCluster(seed=1)
    cluster.start()
    assert cluster.run_until(cluster.born)
    machine = cluster.machines[1]
    backup, start = dict(machine.disk), machine.start
    for _ in range(2):
        cluster.run(2)
        cluster.crash(1)
        cluster.start(1)
    cluster.run(2)
    cluster.crash(1)
    machine.disk, machine.start = backup, start
    for _ in range(4):
        cluster.start(1)
        assert cluster.run_until(lambda: "old copy" in cluster.node(1).metadata.unready)
        cluster.run(0.1)
        cluster.crash(1)


def test_the_highest_start_is_remembered_across_restarts() -> None:
    cluster = TinyCluster(seed=2)
    cluster.start()
    assert cluster.run_until(cluster.born)
    cluster.crash(1)
    cluster.machines[1].start = 40
    cluster.start(1)
    cluster.run(2)
    for index in range(3):
        cluster.crash(index)
    cluster.machines[1].start = 20
    cluster.start()
    assert cluster.run_until(lambda: "old copy" in cluster.node(1).metadata.unready)
    assert cluster.said("refused by", level="error")
