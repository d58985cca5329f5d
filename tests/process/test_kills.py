"""Real peers are killed, stopped, paused and wiped: nothing that was acknowledged goes with them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator

import pytest

from cli.output import Failure
from cli.restarting import restart
from tests.process.cluster import (
    Account,
    Cluster,
    Known,
    lost,
    more_writes,
    running,
    until,
    workers,
    write,
)

pytestmark = [pytest.mark.process, pytest.mark.slow]

NAMES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kills")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def all_up(cluster: Cluster) -> Iterator[None]:
    """Each test begins with three peers, and its logs are shown if it failed."""
    down = [peer.name for peer in cluster.peers if not peer.running]
    if down:
        cluster.up(*down)
    yield
    print(cluster.tails())


def test_a_value_put_through_one_peer_is_read_from_all_byte_for_byte(cluster: Cluster) -> None:
    value = bytes(range(256)) * 300
    with cluster.client("n1") as client:
        assert client.put("a/b", value).status in (200, 201, 204)
    for name in NAMES:
        with cluster.client(name) as client:
            reply = client.get("a/b")
            assert (reply.status, reply.body) == (200, value)


def test_kill_9_of_each_peer_in_turn_loses_nothing(cluster: Cluster) -> None:
    with workers(cluster) as crew:
        more_writes(crew, 100)
        for name in NAMES:
            cluster.kill(name)
            more_writes(crew, 100)
            cluster.up(name)
            more_writes(crew, 50)
        account = Account.of([worker.finish() for worker in crew])
    assert account.wrong == []
    assert account.reads > 100
    assert account.slowest[0] < 2.5, f"with one peer down QUORUM answers within 2 s: {account.slowest}"
    assert len(account.acknowledged) >= 450
    assert lost(cluster, account.acknowledged, NAMES) == []


def test_a_peer_that_stands_still_now_and_then_makes_nothing_wrong(cluster: Cluster) -> None:
    with workers(cluster, names=("n1", "n2")) as crew:
        for _ in range(8):
            cluster.pause("n3")
            more_writes(crew, 20)
            cluster.resume("n3")
            more_writes(crew, 5)
        account = Account.of([worker.finish() for worker in crew])
    assert account.wrong == []
    assert account.slowest[0] < 2.5, account.slowest
    assert lost(cluster, account.acknowledged, NAMES) == []


def test_with_two_of_three_down_the_third_refuses_at_once_and_is_soon_well_again(cluster: Cluster) -> None:
    with cluster.client("n1") as client:
        assert write(client, "here", b"before")[0] is Known.ACKNOWLEDGED
        cluster.kill("n2", "n3")
        until(lambda: client.put("probe", b"").status == 503, "n1 knows that too few replicas live", 30.0)
        reply = client.put("never", b"written")
        assert reply.status == 503
        assert reply.seconds < 0.5
        assert client.get("here", consistency="one").status == 200
        cluster.up("n2", "n3")
        until(lambda: client.get("here").status == 200, "QUORUM is back", 30.0)
        assert client.get("never").status == 404, "what was refused is nowhere"


def test_sigterm_stops_in_order_and_the_peer_comes_back_as_itself(cluster: Cluster) -> None:
    with cluster.client("n2") as client:
        assert write(client, "before", b"the stop")[0] is Known.ACKNOWLEDGED
    before = cluster["n2"].data
    began = time.monotonic()
    assert cluster.stop("n2") == [0]
    assert time.monotonic() - began < 10
    assert before.exists()
    with workers(cluster, names=("n1", "n3")) as crew:
        more_writes(crew, 50)
        seconds = cluster.up("n2")
        account = Account.of([worker.finish() for worker in crew])
    assert seconds < 10
    with cluster.client("n2") as client:
        assert client.get("before").body == b"the stop"
    assert account.wrong == []
    assert account.unknown == {}
    assert lost(cluster, account.acknowledged, ["n2"]) == []


def test_a_rolling_restart_loses_nothing_and_quorums_are_there_all_the_time(cluster: Cluster) -> None:
    urls = [f"http://{peer.address}:{peer.rest}" for peer in cluster.peers]
    pids = {peer.name: peer.pid for peer in cluster.peers}
    told: list[str] = []
    with workers(cluster) as crew:
        more_writes(crew, 50)
        done = restart(urls, [], 60.0, told.append)
        more_writes(crew, 50)
        account = Account.of([worker.finish() for worker in crew])
    assert [each["peer"] for each in done] == list(NAMES)
    assert len(told) == len(NAMES)
    assert {peer.name: peer.pid for peer in cluster.peers} == pids, "the process becomes another in its place"
    assert account.wrong == []
    assert account.slowest[0] < 2.5, account.slowest
    assert lost(cluster, account.acknowledged, NAMES) == []


def test_a_restart_stops_where_a_peer_is_missing(cluster: Cluster) -> None:
    urls = [f"http://{peer.address}:{peer.rest}" for peer in cluster.peers]
    cluster.kill("n3")
    with pytest.raises(Failure, match=r"not fit to restart a peer: .*n3"):
        restart(urls, ["n1"], 1.0, print)
    with pytest.raises(Failure, match="no peer called n9"):
        restart(urls, ["n9"], 1.0, print)


def test_a_wiped_peer_is_refused_by_name_and_the_others_go_on(cluster: Cluster) -> None:
    with wiped(cluster, "n3"):
        _is_refused_by_name(cluster)


@contextlib.contextmanager
def wiped(cluster: Cluster, name: str) -> Iterator[None]:
    """Start a peer over an empty folder; afterwards it is given back its own."""
    data = cluster[name].data
    aside = data.with_name(f"{name}-aside")
    cluster.kill(name)
    data.rename(aside)
    cluster.start(name)
    try:
        yield
    finally:
        cluster.kill(name)
        shutil.rmtree(data, ignore_errors=True)
        aside.rename(data)


def _is_refused_by_name(cluster: Cluster) -> None:
    said = "member with another identity"
    until(lambda: said in str(cluster["n3"].health()), "n3 says why it is refused", 30.0)
    assert cluster["n3"].health()["ready"] is False
    assert "'n3'" in cluster["n3"].log.read_text()
    assert any("'n3'" in cluster[name].log.read_text() for name in ("n1", "n2")), "named by who refused it"
    with cluster.client("n3") as client:
        assert client.put("through", b"a wiped peer").status == 503
    with workers(cluster, names=("n1", "n2")) as crew:
        more_writes(crew, 50)
        account = Account.of([worker.finish() for worker in crew])
    assert account.wrong == []
    assert lost(cluster, account.acknowledged, ("n1", "n2")) == []
