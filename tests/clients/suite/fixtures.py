"""What every check shares: connections to the cluster that the tests started, and a keyspace of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.metadata import Murmur3Token
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    TokenAwarePolicy,
    WhiteListRoundRobinPolicy,
)

PEERS = dict(pair.split("=") for pair in os.environ.get("SULLAE_PEERS", "").split(",") if pair)
PORT = int(os.environ.get("SULLAE_CQL_PORT", "9042"))
os.environ.setdefault("CQLENG_ALLOW_SCHEMA_MANAGEMENT", "1")
KEYSPACE = f"drivers_{os.getpid()}"


def profile(**options: Any) -> ExecutionProfile:
    """Token-aware, at QUORUM, patient: what the checks do unless they say otherwise."""
    return ExecutionProfile(
        **{
            "load_balancing_policy": TokenAwarePolicy(DCAwareRoundRobinPolicy("dc1"), shuffle_replicas=False),
            "consistency_level": ConsistencyLevel.QUORUM,
            "request_timeout": 20,
            **options,
        }
    )


def only(address: str, **options: Any) -> ExecutionProfile:
    """A profile whose coordinator is one peer."""
    return profile(load_balancing_policy=WhiteListRoundRobinPolicy([address]), **options)


@contextlib.contextmanager
def connected(keyspace: str | None = None, **options: Any) -> Iterator[Session]:
    """A session of a cluster object of its own."""
    profiles = {EXEC_PROFILE_DEFAULT: profile(), **options.pop("profiles", {})}
    cluster = Cluster(
        list(PEERS.values()),
        port=PORT,
        execution_profiles=profiles,
        reconnection_policy=ConstantReconnectionPolicy(0.2, max_attempts=None),
        **options,
    )
    try:
        yield cluster.connect(keyspace)
    finally:
        cluster.shutdown()


def joined(session: Session) -> Session:
    """The session once it is connected with every peer; it comes up with the first."""
    until(lambda: len(list(session.get_pools())) == len(PEERS), "connections with every peer")
    return session


def until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"never seen: {what}"
        time.sleep(0.02)


def ask(what: str, name: str) -> None:
    """Have the tests `kill` a peer, bring it `up`, `pause` it in mid-air or `resume` it."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(60)
        asking.connect(os.environ["SULLAE_CONTROL"])
        asking.sendall(f"{what} {name}\n".encode())
        assert asking.recv(100) == b"done\n"


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    """The connection that most checks use, in a keyspace of three replicas."""
    with connected() as session:
        session.execute(
            f"CREATE KEYSPACE {KEYSPACE} WITH replication = "
            "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
        )
        joined(session).set_keyspace(KEYSPACE)
        assert session.cluster.metadata.token_map.token_class is Murmur3Token
        yield session
