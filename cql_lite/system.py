"""The system tables that drivers and tools read, computed from the metadata state when they are read.

They say what a Cassandra 4.1 says, as far as it is true here. Every peer tells the same story of all
members, its own row in `system.local` and the others in `system.peers` and `system.peers_v2`, so drivers
find the whole ring and route by token. `schema_version` names the state that a peer has adopted: all are the
same only if all are at one epoch.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from core.roles import Role
from core.schema import (
    CLUSTERING,
    PARTITION,
    REGULAR,
    SIMPLE,
    Column,
    Index,
    Keyspace,
    Member,
    Table,
    TableOptions,
)
from cql_lite import system_auth, system_more
from cql_lite.connection import CQL_VERSION
from cql_lite.describe import shown
from cql_lite.formatting import identifier
from cql_lite.planner_kept import shown_class, shown_policy
from cql_lite.planner_schema import SYSTEM_KEYSPACES
from cql_lite.planner_select import Virtual
from cql_lite.planner_tables import TableView, view_of
from cql_lite.types import parse_type

RELEASE_VERSION: Final = "4.1.7"
"""The release whose system tables these are: tools look at it to know what they may ask."""
PARTITIONER: Final = "org.apache.cassandra.dht.Murmur3Partitioner"
NATIVE_PROTOCOL_VERSION: Final = "5"
VIRTUAL: Final = ("system_views", "system_virtual_schema")
"""Keyspaces that drivers are told of as virtual; other computed ones are ordinary, as in Cassandra."""

MARSHAL: Final = "org.apache.cassandra"
COMPACTION: Final = (
    ("class", f"{MARSHAL}.db.compaction.SizeTieredCompactionStrategy"),
    ("max_threshold", "32"),
    ("min_threshold", "4"),
)  # fmt: skip
COMPRESSION: Final = (("chunk_length_in_kb", "16"), ("class", f"{MARSHAL}.io.compress.LZ4Compressor"))
CACHING: Final = (("keys", "ALL"), ("rows_per_partition", "NONE"))


class State(Protocol):
    """What is read of the metadata state."""

    @property
    def digest(self) -> bytes:
        """16 bytes that name the state."""

    @property
    def cluster(self) -> bytes:
        """The cluster's id."""

    @property
    def name(self) -> str:
        """The cluster's name."""

    @property
    def epoch(self) -> int:
        """The last epoch adopted."""

    @property
    def members(self) -> Sequence[Member]:
        """All members."""

    @property
    def keyspaces(self) -> Mapping[str, Keyspace]:
        """All keyspaces by name."""

    @property
    def tables(self) -> Mapping[int, Table]:
        """All tables by id."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """All roles by name."""

    def table(self, keyspace: str, name: str) -> Table | None:
        """The table of that name."""


class Place(NamedTuple):
    """Where this peer is: its id, and the ports that every peer has.

    `epochs` are those that the others are known to have adopted, as it is now. `clients` tells who is
    connected, as rows of `system_views.clients`.
    """

    peer: bytes
    native_port: int
    peer_port: int
    start: int
    epochs: Mapping[bytes, int] = {}
    clients: Callable[[], Iterable[dict[str, Any]]] = tuple


Row = dict[str, Any]
MakeRows = Callable[[State, Place], Iterator[Row]]


def uuid_of(data: bytes) -> bytes:
    """16 bytes as a random-looking uuid (version 4)."""
    value = bytearray(data[:16])
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)


def host_id(member: Member) -> bytes:
    """The uuid by which drivers know a peer."""
    return uuid_of(member.peer)


def schema_version(state: State) -> bytes:
    """The uuid of the state that this peer has adopted."""
    return uuid_of(state.digest)


def version_at(state: State, peer: bytes, place: Place) -> bytes:
    """The uuid of the state that a peer has adopted: ours only if it is where we are.

    Of whom nothing was ever heard (it was never up while we were) nobody waits to agree: ours will do.
    """
    epoch = place.epochs.get(peer, state.epoch)
    if peer == place.peer or epoch == state.epoch:
        return schema_version(state)
    return uuid_of(hashlib.blake2b(state.cluster + b"epoch %d" % epoch, digest_size=16).digest())


def table_id(state: State, table: Table) -> bytes:
    """The uuid of a table: another one after TRUNCATE."""
    return uuid_of(hashlib.blake2b(state.cluster + b"table %d" % table.id, digest_size=16).digest())


def address_of(member: Member) -> bytes:
    """A member's address as 4 or 16 bytes."""
    host = member.address
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return ipaddress.ip_address(host).packed


# --- system


def _common(state: State, member: Member, place: Place) -> Row:
    return {
        "data_center": member.datacentre,
        "rack": member.rack,
        "host_id": host_id(member),
        "release_version": RELEASE_VERSION,
        "schema_version": version_at(state, member.peer, place),
        "tokens": [str(token) for token in sorted(member.tokens)],
    }


def _local(state: State, place: Place) -> Iterator[Row]:
    for member in state.members:
        if member.peer == place.peer:
            address = address_of(member)
            yield {
                **_common(state, member, place),
                "key": "local",
                "bootstrapped": "COMPLETED",
                "broadcast_address": address,
                "broadcast_port": place.peer_port,
                "cluster_name": state.name,
                "cql_version": CQL_VERSION,
                "gossip_generation": place.start & 0x7FFFFFFF,
                "listen_address": address,
                "listen_port": place.peer_port,
                "native_protocol_version": NATIVE_PROTOCOL_VERSION,
                "partitioner": PARTITIONER,
                "rpc_address": address,
                "rpc_port": place.native_port,
            }


def _others(state: State, place: Place) -> Iterator[tuple[Member, Row]]:
    for member in state.members:
        if member.peer != place.peer:
            yield member, {"peer": address_of(member), **_common(state, member, place)}


def _peers(state: State, place: Place) -> Iterator[Row]:
    for member, row in _others(state, place):
        yield {**row, "rpc_address": address_of(member)}


def _peers_v2(state: State, place: Place) -> Iterator[Row]:
    for member, row in _others(state, place):
        yield {
            **row,
            "peer_port": place.peer_port,
            "native_address": address_of(member),
            "native_port": place.native_port,
        }


def _none(_state: State, _place: Place) -> Iterator[Row]:
    yield from ()


# --- the schema


def _ordered(state: State) -> list[Table]:
    return sorted(state.tables.values(), key=lambda table: (table.keyspace, table.name))


def replication_map(keyspace: Keyspace) -> dict[str, str]:
    """A replication as its options, with the strategy's Java class."""
    replication = keyspace.replication
    options = {"class": f"{MARSHAL}.locator.{replication.strategy}"}
    for name, factor in replication.factors:
        options[name if replication.strategy != SIMPLE else "replication_factor"] = str(factor)
    return options


def _keyspaces(state: State, _place: Place) -> Iterator[Row]:
    for name in sorted(state.keyspaces):
        keyspace = state.keyspaces[name]
        yield {
            "keyspace_name": name,
            "durable_writes": keyspace.durable_writes,
            "replication": replication_map(keyspace),
        }
    for name in sorted({table.keyspace for table in _computed_there(state)} - set(state.keyspaces)):
        local = {"class": f"{MARSHAL}.locator.LocalStrategy"}
        yield {"keyspace_name": name, "durable_writes": True, "replication": local}


def _computed_there(state: State) -> list[Table]:
    """Computed tables that Cassandra keeps in ordinary ones, and that are not kept here either."""
    computed = [TABLES[place].table for place in sorted(TABLES) if place[0] not in VIRTUAL]
    return [table for table in computed if state.table(table.keyspace, table.name) is None]


def _tables(state: State, _place: Place) -> Iterator[Row]:
    for table in _ordered(state):
        yield {
            "keyspace_name": table.keyspace,
            "table_name": table.name,
            "id": table_id(state, table),
            "flags": ["compound"],
            **options_row(table.options),
        }
    for table in _computed_there(state):
        name = f"{table.keyspace}.{table.name}".encode()
        yield {
            "keyspace_name": table.keyspace,
            "table_name": table.name,
            "id": uuid_of(hashlib.blake2b(name, digest_size=16).digest()),
            "flags": ["compound"],
            **options_row(table.options),
        }


def options_row(options: TableOptions) -> Row:
    """A table's options as `system_schema.tables` has them."""
    other = dict(options.other)
    return {
        "additional_write_policy": shown_policy(other.get("additional_write_policy", "99p")),
        "bloom_filter_fp_chance": float(other.get("bloom_filter_fp_chance", "0.01")),
        "caching": dict(options.caching or CACHING),
        "cdc": None,
        "comment": options.comment,
        "compaction": shown_class(options.compaction or COMPACTION, f"{MARSHAL}.db.compaction"),
        "compression": shown_class(options.compression or COMPRESSION, f"{MARSHAL}.io.compress"),
        "crc_check_chance": float(other.get("crc_check_chance", "1.0")),
        "dclocal_read_repair_chance": 0.0,
        "default_time_to_live": options.default_ttl_s,
        "extensions": {},
        "gc_grace_seconds": options.gc_grace_s,
        "max_index_interval": _int_of(other.get("max_index_interval", "2048")),
        "memtable_flush_period_in_ms": _int_of(other.get("memtable_flush_period_in_ms", "0")),
        "min_index_interval": _int_of(other.get("min_index_interval", "128")),
        "read_repair": other.get("read_repair", "BLOCKING").upper(),
        "read_repair_chance": 0.0,
        "speculative_retry": shown_policy(other.get("speculative_retry", "99p")),
    }


def _int_of(text: str) -> int:
    """A number that is kept as text, as an int: what was kept before it was checked may be none."""
    return min(int(text[:20]), 2**31 - 1)


_KINDS: Final = {PARTITION: "partition_key", CLUSTERING: "clustering", "static": "static", REGULAR: "regular"}
_JSON: Final = re.compile(r'\bjson\b(?=([^"]*"[^"]*")*[^"]*$)')


def shown_type(cql: str) -> str:
    """A type as drivers know it: a document is a text to them, and a tuple always frozen."""
    shown, begins, depth = "", [], 0
    for part in re.split(r'((?<![a-z_0-9])tuple<|<|>|"(?:[^"]|"")*")', _JSON.sub("text", cql)):
        if part == "tuple<" and not shown.endswith("frozen<"):
            shown += "frozen<"
            begins.append(depth)
        shown += part
        depth += part[-1:] == "<" and part[0] != '"'
        if part == ">":
            depth -= 1
            if begins and begins[-1] == depth:
                begins.pop()
                shown += ">"
    return shown


def _columns_of(keyspace: str, table: str, columns: Sequence[Column]) -> Iterator[Row]:
    positions = {PARTITION: 0, CLUSTERING: 0}
    rows = []
    for column in columns:
        position = -1
        if column.kind in positions:
            position = positions[column.kind]
            positions[column.kind] += 1
        order = "none"
        if column.kind == CLUSTERING:
            order = "desc" if column.descending else "asc"
        rows.append(
            {
                "keyspace_name": keyspace,
                "table_name": table,
                "column_name": column.name,
                "column_name_bytes": column.name.encode(),
                "clustering_order": order,
                "kind": _KINDS[column.kind],
                "position": position,
                "type": shown_type(column.type),
            }
        )
    yield from sorted(rows, key=lambda row: str(row["column_name"]))


def _columns(state: State, _place: Place) -> Iterator[Row]:
    for table in (*_ordered(state), *_computed_there(state)):
        yield from _columns_of(table.keyspace, table.name, table.columns)


def _dropped_columns(state: State, _place: Place) -> Iterator[Row]:
    for table in _ordered(state):
        for column in table.dropped:
            yield {
                "keyspace_name": table.keyspace,
                "table_name": table.name,
                "column_name": column.name,
                "dropped_time": column.dropped_us // 1000,
                "kind": _KINDS[column.kind],
                "type": shown_type(column.type),
            }


def _types(state: State, _place: Place) -> Iterator[Row]:
    for name in sorted(state.keyspaces):
        for of in sorted(state.keyspaces[name].types, key=lambda of: of.name):
            yield {
                "keyspace_name": name,
                "type_name": of.name,
                "field_names": [field.name for field in of.fields],
                "field_types": [shown_type(field.type) for field in of.fields],
            }


def index_target(index: Index) -> str:
    """What an index is on, as it stands in CREATE INDEX: drivers write that statement of it."""
    column = identifier(index.column)
    return column if index.kind == "simple" else f"{index.kind}({column})"


def _indexes(state: State, _place: Place) -> Iterator[Row]:
    for table in _ordered(state):
        for index in map(shown, sorted(table.indexes, key=lambda index: index.name)):
            yield {
                "keyspace_name": table.keyspace,
                "table_name": table.name,
                "index_name": index.name,
                "kind": "CUSTOM" if index.using else "COMPOSITES",
                "options": {
                    **dict(index.options),
                    **({"class_name": index.using} if index.using else {}),
                    "target": index_target(index),
                },
            }


def _virtual_keyspaces(_state: State, _place: Place) -> Iterator[Row]:
    for name in VIRTUAL:
        yield {"keyspace_name": name}


def _virtual_tables(_state: State, _place: Place) -> Iterator[Row]:
    for keyspace, name in sorted(TABLES):
        if keyspace in VIRTUAL:
            yield {"keyspace_name": keyspace, "table_name": name, "comment": TABLES[keyspace, name].comment}


def _virtual_columns(_state: State, _place: Place) -> Iterator[Row]:
    for keyspace, name in sorted(TABLES):
        if keyspace in VIRTUAL:
            yield from _columns_of(keyspace, name, TABLES[keyspace, name].table.columns)


# --- their shapes


class Computed(NamedTuple):
    """A table that is computed: how it looks, and its rows."""

    table: Table
    view: TableView
    rows: MakeRows
    comment: str


_NAMES = "keyspace_name text pk, table_name text ck"
_COLUMNS = (
    f"{_NAMES}, column_name text ck, clustering_order text, column_name_bytes blob, kind text, "
    "position int, type text"
)
_MEMBER = (
    "data_center text, host_id uuid, rack text, release_version text, schema_version uuid, tokens set<text>"
)
_TEXTS = "frozen<map<text, text>>"
_TABLE_OPTIONS = (
    f"additional_write_policy text, bloom_filter_fp_chance double, caching {_TEXTS}, "
    f"cdc boolean, comment text, compaction {_TEXTS}, compression {_TEXTS}, crc_check_chance double, "
    "dclocal_read_repair_chance double, default_time_to_live int, extensions frozen<map<text, blob>>, "
    "gc_grace_seconds int, id uuid, max_index_interval int, memtable_flush_period_in_ms int, "
    "min_index_interval int, read_repair text, read_repair_chance double, speculative_retry text"
)

_SHAPES: Final[tuple[tuple[str, str, str, MakeRows], ...]] = (
    (
        "system", "local",
        (f"key text pk, bootstrapped text, broadcast_address inet, broadcast_port int, cluster_name text, "
        f"cql_version text, gossip_generation int, listen_address inet, listen_port int, "
        f"native_protocol_version text, partitioner text, rpc_address inet, rpc_port int, "
        f"truncated_at map<uuid, blob>, {_MEMBER}"),
        _local,
    ),
    ("system", "peers", f"peer inet pk, preferred_ip inet, rpc_address inet, {_MEMBER}", _peers),
    (
        "system", "peers_v2",
        (f"peer inet pk, peer_port int ck, native_address inet, native_port int, preferred_ip inet, "
        f"preferred_port int, {_MEMBER}"),
        _peers_v2,
    ),
    (
        "system", "size_estimates",
        (f"{_NAMES}, range_start text ck, range_end text ck, mean_partition_size bigint, "
        "partitions_count bigint"),
        _none,
    ),
    (
        "system_schema", "keyspaces",
        f"keyspace_name text pk, durable_writes boolean, replication {_TEXTS}", _keyspaces,
    ),
    (
        "system_schema", "tables",
        f"{_NAMES}, flags frozen<set<text>>, {_TABLE_OPTIONS}",
        _tables,
    ),
    ("system_schema", "columns", _COLUMNS, _columns),
    (
        "system_schema", "dropped_columns",
        f"{_NAMES}, column_name text ck, dropped_time timestamp, kind text, type text", _dropped_columns,
    ),
    (
        "system_schema", "types",
        ("keyspace_name text pk, type_name text ck, field_names frozen<list<text>>, "
        "field_types frozen<list<text>>"),
        _types,
    ),
    ("system_schema", "indexes", f"{_NAMES}, index_name text ck, kind text, options {_TEXTS}", _indexes),
    (
        "system_schema", "views",
        (f"keyspace_name text pk, view_name text ck, base_table_id uuid, base_table_name text, "
        f"include_all_columns boolean, where_clause text, {_TABLE_OPTIONS}"),
        _none,
    ),
    (
        "system_schema", "functions",
        ("keyspace_name text pk, function_name text ck, argument_types frozen<list<text>> ck, "
        "argument_names frozen<list<text>>, body text, called_on_null_input boolean, language text, "
        "return_type text"),
        _none,
    ),
    (
        "system_schema", "aggregates",
        ("keyspace_name text pk, aggregate_name text ck, argument_types frozen<list<text>> ck, "
        "final_func text, initcond text, return_type text, state_func text, state_type text"),
        _none,
    ),
    ("system_schema", "triggers", f"{_NAMES}, trigger_name text ck, options {_TEXTS}", _none),
    ("system_virtual_schema", "keyspaces", "keyspace_name text pk", _virtual_keyspaces),
    ("system_virtual_schema", "tables", f"{_NAMES}, comment text", _virtual_tables),
    ("system_virtual_schema", "columns", _COLUMNS, _virtual_columns),
    (
        "system_auth", "roles",
        "role text pk, can_login boolean, is_superuser boolean, member_of set<text>, salted_hash text",
        system_auth.roles,
    ),
    ("system_auth", "role_members", "role text pk, member text ck", system_auth.role_members),
    (
        "system_auth", "role_permissions", "role text pk, resource text ck, permissions set<text>",
        system_auth.role_permissions,
    ),
    ("system_auth", "network_permissions", "role text pk, dcs set<text>", system_auth.network_permissions),
    (
        "system_traces", "sessions",
        ("session_id uuid pk, client inet, command text, coordinator inet, coordinator_port int, "
        "duration int, parameters map<text, text>, request text, started_at timestamp"),
        _none,
    ),
    (
        "system_traces", "events",
        ("session_id uuid pk, event_id timeuuid ck, activity text, source inet, source_elapsed int, "
        "source_port int, thread text"),
        _none,
    ),
)  # fmt: skip

_NEXT_COLUMN: Final = re.compile(r", (?=\w+ )")


def _defined(text: str) -> tuple[str, str, str]:
    """Name, type and kind of key of a column."""
    name, _, of = text.partition(" ")
    key = of[-2:] if of.endswith((" pk", " ck")) else ""
    return name, of.removesuffix(" " + key) if key else of, key


def _computed(number: int, shape: tuple[str, str, str, MakeRows]) -> Computed:
    keyspace, name, text, rows = shape
    columns = tuple(
        Column(0 if key else index + 1, column, of, {"pk": PARTITION, "ck": CLUSTERING}.get(key, REGULAR))
        for index, (column, of, key) in enumerate(map(_defined, _NEXT_COLUMN.split(text)))
    )
    table = Table(-1 - number, keyspace, name, columns, TableOptions(), 0)
    view = view_of(table, {column.name: parse_type(column.type) for column in columns})
    return Computed(table, view, rows, "computed when it is read")


TABLES: Final[dict[tuple[str, str], Computed]] = {
    (shape[0], shape[1]): _computed(number, shape)
    for number, shape in enumerate((*_SHAPES, *system_more.SHAPES))
}
"""Every computed table by (keyspace, name)."""

assert all(keyspace in SYSTEM_KEYSPACES for keyspace, _ in TABLES)


def virtual_rows(computed: Computed, state: State, place: Place) -> Virtual:
    """The rows of a computed table as wire values."""
    types = {column.name: column.type for column in computed.view.columns}

    def rows() -> list[dict[str, bytes | None]]:
        return [
            {name: None if value is None else types[name].encode(value) for name, value in row.items()}
            for row in computed.rows(state, place)
        ]

    return rows
