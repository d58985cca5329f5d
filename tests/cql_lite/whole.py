"""A whole simulated cluster, and a client that speaks CQL to its peers without sockets or frames."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from core.consistency import Level
from core.requests import Answer, Request, Unready
from cql_lite import wire
from cql_lite.running import Run, merged
from cql_lite.session import Session, Statements
from cql_lite.system import Place, State
from sim.cluster import Reply, SimCluster
from sim.options import Options
from sim.real import RealSoftware, node_of

SECOND = 1_000_000
TIMEOUT_US = 10 * SECOND


class SimPeer:
    """What a session needs of the peer it is on."""

    def __init__(self, cluster: SimCluster, index: int) -> None:
        self._cluster = cluster
        self._index = index
        self._random = Random(f"cql:{index}")

    @property
    def state(self) -> State:
        return node_of(self._cluster, self._index).metadata.state

    @property
    def place(self) -> Place:
        node = node_of(self._cluster, self._index)
        identity = node.inside.identity
        return Place(identity.peer, 9042, 7000, identity.start, node.peer_epochs.known)

    @property
    def operation_ids_us(self) -> int:
        return node_of(self._cluster, self._index).inside.settings.operation_ids_us

    def now_us(self) -> int:
        return self._cluster.machines[self._index].clock.read_us()

    def token_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)


class Error(Exception):
    """The peer answered with an error."""

    def __init__(self, error: wire.Error) -> None:
        super().__init__(f"{type(error).__name__}: {error.message}")
        self.error = error


class Cql:
    """A connection to one peer; values go in and come out in their Python forms."""

    def __init__(self, cluster: SimCluster, index: int = 0) -> None:
        self.cluster = cluster
        self.index = index
        self.statements = Statements(SimPeer(cluster, index))
        self.session = Session(self.statements)
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.quick = 0
        """Statements that had a quick way (cql_lite/quick.py), which did the same."""
        self.level = Level.QUORUM

    def send(self, request: wire.Request, payload: wire.Payload | None = None) -> wire.Response:
        """A request, and its response."""
        got: list[wire.Response] = []
        self.warnings: list[str] = []
        asked_before, answered_before = len(self.requests), len(self.answers)
        quick = self.session.quick(request) if isinstance(request, wire.Execute) and not payload else None
        Run(self.session.answer(request, payload, self.warnings), self._ask, got.append).start()
        assert self.cluster.run_until(lambda: bool(got), 10 * TIMEOUT_US), "every request is answered"
        if quick is not None and not quick.is_void(
            self.answers[answered_before]
        ):  # it is another way to the same
            self.quick += 1
            assert [quick.asked] == self.requests[asked_before:]
            assert quick.response(self.answers[-1]) == got[0]
        return got[0]

    def _ask(self, request: Request, answered: Any) -> None:
        self.requests.append(request)

        def on_reply(reply: Reply) -> None:
            parts: Sequence[Answer] = reply.answers or (Unready("nobody there"),)
            self.answers.append(merged(parts))
            answered(self.answers[-1])

        self.cluster.request(self.index, request, TIMEOUT_US, on_reply)

    def good(self, request: wire.Request) -> wire.Response:
        """A response that is no error."""
        response = self.send(request)
        if isinstance(response, wire.Error):
            raise Error(response)
        return response

    def parameters(self, values: Sequence[wire.BoundValue] = (), **more: Any) -> wire.Parameters:
        return wire.Parameters(**{"consistency": self.level, "values": tuple(values), **more})

    def run(self, text: str, *values: Any, **more: Any) -> list[dict[str, Any]]:
        """Execute a text: prepared if it has values."""
        if not values:
            return rows(self.good(wire.Query(text, self.parameters(**more))))
        prepared = self.good(wire.Prepare(text))
        assert isinstance(prepared, wire.Prepared)
        return rows(self.good(self.execute(prepared, values, **more)))

    def execute(self, prepared: wire.Prepared, values: Sequence[Any], **more: Any) -> wire.Execute:
        """An EXECUTE of Python values."""
        wired = [
            value if value is None or value is wire.UNSET else column.type.encode(value)
            for column, value in zip(prepared.variables.columns, values, strict=True)
        ]
        return wire.Execute(prepared.id, self.parameters(wired, **more), prepared.result.id)

    def pages(self, text: str, page_size: int, *values: Any) -> list[list[dict[str, Any]]]:
        """All pages of a query; each is asked of the next peer, by the paging state alone."""
        found, state, client = [], None, self
        while True:
            prepared = client.good(wire.Prepare(text))
            assert isinstance(prepared, wire.Prepared)
            request = client.execute(prepared, values, page_size=page_size, paging_state=state)
            response = client.good(request)
            assert isinstance(response, wire.Rows)
            found.append(rows(response))
            state = response.paging_state
            if state is None:
                return found
            client = Cql(self.cluster, (client.index + 1) % len(self.cluster.machines))
            client.session.keyspace = self.session.keyspace

    def error(self, text: str, *values: Any, **more: Any) -> wire.Error:
        """The error that a text is answered with."""
        try:
            found = self.run(text, *values, **more)
        except Error as error:
            return error.error
        raise AssertionError(f"{text!r} went well: {found}")


def rows(response: wire.Response) -> list[dict[str, Any]]:
    """Rows as dictionaries of Python values."""
    if not isinstance(response, wire.Rows):
        return []
    columns = response.metadata.columns
    return [
        {
            column.name: None if value is None else column.type.decode(value)
            for column, value in zip(columns, row, strict=True)
        }
        for row in response.rows
    ]


def cluster_of(peers: int = 3, seed: int = 1, **changes: Any) -> SimCluster:
    """A cluster that is born, with a keyspace ks of replication factor 3 (or as many as there are peers)."""
    options = msgspec.structs.replace(Options(seed=seed, peers=peers, voters=min(peers, 3)), **changes)
    cluster = SimCluster(options, RealSoftware())
    cluster.start_all()
    ready = lambda: all(node_of(cluster, index).ready()[0] for index in range(peers))  # noqa: E731
    assert cluster.run_until(ready, 30 * SECOND)
    Cql(cluster).run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', "
        f"'replication_factor': {min(peers, 3)}}}"
    )
    settle(cluster)
    return cluster


def settle(cluster: SimCluster) -> None:
    """Let every peer adopt what was decided."""

    def agreed() -> bool:
        return len({node_of(cluster, index).metadata.state.epoch for index in cluster.running()}) == 1

    assert cluster.run_until(agreed, 30 * SECOND)
