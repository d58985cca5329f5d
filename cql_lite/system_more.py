"""System tables that tools look into and nothing needs: indexes, clients, and some that stay empty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from core.schema import Table

Row = dict[str, Any]


class State(Protocol):
    """What is read of the metadata state."""

    @property
    def tables(self) -> Mapping[int, Table]:
        """All tables by id."""


class Place(Protocol):
    """What is read of the peer."""

    @property
    def clients(self) -> Callable[[], Iterable[Row]]:
        """Tells who is connected."""


def index_info(state: State, _place: object) -> Iterator[Row]:
    """`system."IndexInfo"`: indexes that queries may use, which wait for those that are being built.

    `table_name` is the keyspace's, as in Cassandra.
    """
    named = sorted((table.keyspace, index.name) for table in state.tables.values() for index in table.indexes)
    for keyspace, name in named:
        yield {"table_name": keyspace, "index_name": name, "value": None}


def clients(_state: State, place: Place) -> Iterator[Row]:
    """`system_views.clients`: who is connected with the peer that is asked."""
    yield from place.clients()


def nothing(_state: State, _place: object) -> Iterator[Row]:
    """No rows."""
    yield from ()


_NAMES = "keyspace_name text pk, table_name text"
SHAPES: Final[tuple[tuple[str, str, str, Callable[[Any, Any], Iterator[Row]]], ...]] = (
    ("system", "IndexInfo", "table_name text pk, index_name text ck, value blob", index_info),
    ("system", "built_views", "keyspace_name text pk, view_name text ck, status_replicated boolean", nothing),
    ("system", "available_ranges", "keyspace_name text pk, ranges set<blob>", nothing),
    ("system", "batches", "id timeuuid pk, mutations list<blob>, version int", nothing),
    (
        "system", "compaction_history",
        ("id uuid pk, bytes_in bigint, bytes_out bigint, columnfamily_name text, compacted_at timestamp, "
        "keyspace_name text"),
        nothing,
    ),
    ("system", "paxos", "row_key blob pk, cf_id uuid ck, in_progress_ballot timeuuid", nothing),
    (
        "system", "prepared_statements",
        "prepared_id blob pk, logged_keyspace text, query_string text",
        nothing,
    ),
    (
        "system_views", "clients",
        ("address inet pk, port int ck, client_options frozen<map<text, text>>, connection_stage text, "
        "driver_name text, driver_version text, hostname text, protocol_version int, request_count bigint, "
        "ssl_cipher_suite text, ssl_enabled boolean, ssl_protocol text, username text"),
        clients,
    ),
    ("system_views", "settings", "name text pk, value text", nothing),
    (
        "system", "table_estimates",
        (f"{_NAMES} ck, range_type text ck, range_start text ck, range_end text ck, "
        "mean_partition_size bigint, partitions_count bigint"),
        nothing,
    ),
)  # fmt: skip
"""Keyspace, name, columns and rows of each, as cql_lite/system.py has them."""
