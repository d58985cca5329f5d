"""A whole simulated cluster with a collection, and a client of each of its peers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from core.consistency import Level
from core.gathering import Gathered, GatherRequest
from core.requests import Answer, Changed, Judged, Request, Written
from core.settings import Settings
from documents import operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.finding import AggregateFold, CountFold, FindQuery, aggregate_query, filter_query, find_query
from documents.finding_plans import SCAN, Plan
from documents.values import id_of
from sim.cluster import Reply, SimCluster
from sim.options import NetworkOptions, Options
from sim.real import RealSoftware, node_of

SECOND = 1_000_000
TIMEOUT_US = 20 * SECOND
HOUR_US = 3_600 * SECOND
ALONE = Settings(
    hints=False,
    read_repair=False,
    follow_idle_us=HOUR_US,
    follow_pause_us=HOUR_US,
    anti_entropy_pause_us=HOUR_US,
)
"""Nothing makes replicas equal but what a read asks for."""


def cluster_of(peers: int = 3, seed: int = 1, settings: Settings = ALONE) -> SimCluster:
    """A cluster that is born, with the collection `movies`."""
    network = NetworkOptions(codec=True)
    options = Options(seed=seed, peers=peers, voters=min(peers, 3), settings=settings, network=network)
    cluster = SimCluster(options, RealSoftware())
    cluster.start_all()
    assert cluster.run_until(lambda: all(node_of(cluster, n).ready()[0] for n in range(peers)), 60 * SECOND)
    members = node_of(cluster, 0).metadata.state.members
    request = create_collection(CollectionSpec("movies"), members)
    made = ask(cluster, 0, request)  # type: ignore[arg-type]
    assert isinstance(made, Changed) and not made.error
    settle(cluster)
    return cluster


def settle(cluster: SimCluster) -> None:
    """Let every peer adopt what was decided and see every other."""

    def agreed() -> bool:
        nodes = [node_of(cluster, n) for n in cluster.running()]
        peers = [machine.peer for machine in cluster.machines if machine.process is not None]
        same = len({node.metadata.state.epoch for node in nodes}) == 1
        return same and all(node.swim.is_alive(peer) for node in nodes for peer in peers)

    assert cluster.run_until(agreed, 120 * SECOND)


def ask(cluster: SimCluster, index: int, request: Request, timeout_us: int = TIMEOUT_US) -> Answer:
    """What a peer answers."""
    got: list[Reply] = []
    cluster.request(index, request, timeout_us, got.append)
    assert cluster.run_until(lambda: bool(got), timeout_us + SECOND)
    assert got[0].answer is not None, got[0]
    return got[0].answer


def movies(cluster: SimCluster, index: int = 0) -> Collection:
    """The collection, as a peer knows it."""
    found = find(node_of(cluster, index).metadata.state, "movies")
    assert found is not None
    return found


def put(cluster: SimCluster, document_id: str, document: Any, index: int = 0) -> None:
    """Have a document be so, at QUORUM."""
    planned = operations.put(movies(cluster, index), document_id, json.dumps(document).encode())
    assert isinstance(planned, operations.Operation), planned
    answer = ask(cluster, index, planned.request)
    assert isinstance(answer, Written | Judged), answer


def gather(cluster: SimCluster, index: int, fold: Any, plan: Plan = SCAN, **more: Any) -> Answer:
    """Run a fold's program."""
    table = movies(cluster, index).table
    request = GatherRequest(table, more.pop("level", Level.QUORUM), fold, plan.drive, **more)
    return ask(cluster, index, request)


def page(cluster: SimCluster, index: int, body: dict[str, Any], plan: Plan = SCAN) -> tuple[list[str], Any]:
    """The ids of a page, and its cursor."""
    query = find_query(movies(cluster, index), body)
    assert isinstance(query, FindQuery), query
    fold = query.fold(plan.drive is None or plan.exact)
    after = query.after.key if query.after is not None and not query.order else b""
    if plan.first is not None:
        first = gather(cluster, index, fold, msgspec.structs.replace(plan, drive=plan.first))
        assert isinstance(first, Gathered), first
        fold.by_index = True
    answer = gather(cluster, index, fold, plan, after=after)
    assert isinstance(answer, Gathered), answer
    if plan.lacks and not fold.is_full():
        fold.by_index = False
        assert isinstance(gather(cluster, index, fold), Gathered)
    documents, cursor = fold.result()
    return [id_of(one.key) for one in documents], cursor


def count(cluster: SimCluster, index: int, wanted: Any, **more: Any) -> int:
    """How many documents meet a filter."""
    query = filter_query({"filter": wanted})
    fold = CountFold(query.filter)  # type: ignore[union-attr]
    answer = gather(cluster, index, fold, **more)
    assert isinstance(answer, Gathered), answer
    assert fold.refused is None
    return fold.count


def aggregate(cluster: SimCluster, index: int, stages: Any) -> Any:
    """What a pipeline gives."""
    query = aggregate_query({"pipeline": stages})
    fold = AggregateFold(query.pipeline, query.stages, lambda n: n - 1)  # type: ignore[union-attr]
    answer = gather(cluster, index, fold)
    assert isinstance(answer, Gathered), answer
    return fold.result()
