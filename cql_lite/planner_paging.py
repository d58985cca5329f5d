"""Where a page ended, as bytes that any peer can go on from.

The state names the last row that was consumed and how much of the limits is left; nothing is
kept where the page was made. A checksum tells a state that was damaged, or made by something else, from one
of ours; that it belongs to the same query (statement and bound values) is checked by a fingerprint.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

import msgspec

from core.limits import KEY_BYTES_MAX
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_tables import TableView
from cql_lite.types import InvalidValueError
from lsm.keys import STATIC_SUFFIX

_SUM_BYTES: Final = 4


class PagingState(msgspec.Struct, frozen=True, array_like=True):
    """`partition` and `suffix` are of the last row consumed; -1 is no limit.

    `taken` counts what `partition` gave towards PER PARTITION LIMIT. For reads by predicate `request` and
    `cursor` say where to go on (cql_lite/planner_find.py).
    """

    fingerprint: bytes
    partition: bytes
    suffix: bytes
    left: int
    taken: int
    request: int = 0
    cursor: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PagingState)


def encode(state: PagingState) -> bytes:
    """The opaque bytes."""
    data = _encoder.encode(state)
    return _sum(data) + data


def decode(data: bytes, fingerprint: bytes, view: TableView) -> PagingState:
    """The state in these bytes; raises InvalidRequestError if they are none of this query on this table."""
    body = data[_SUM_BYTES:]
    if _sum(body) != data[:_SUM_BYTES]:
        raise InvalidRequestError(
            "Invalid value for the paging state: it is damaged: run the query from its beginning"
        )
    try:
        state = _decoder.decode(body)
    except msgspec.DecodeError:
        raise none_of_ours() from None
    if state.fingerprint != fingerprint:
        raise InvalidRequestError(
            "Invalid value for the paging state: it is of another query, or the table was emptied or its "
            "indexes have changed since: run the query from its beginning"
        )
    if state.left < -1 or state.taken < 0 or state.request < 0 or not _is_key(state, view):
        raise none_of_ours()
    return state


def none_of_ours() -> InvalidRequestError:
    """The error of a state that no peer has given: its checksum is right, and what it says cannot be."""
    return InvalidRequestError(
        "Invalid value for the paging state: it is none of ours: run the query from its beginning"
    )


def _is_key(state: PagingState, view: TableView) -> bool:
    """Whether a row of this table may have such a key."""
    partition, suffix = state.partition, state.suffix
    try:
        of_partition = view.partition_values(partition)
        for column, value in zip(view.partition, of_partition, strict=True):
            column.type.check(value)
        if view.partition_key(of_partition) != partition or not 0 < len(partition) <= KEY_BYTES_MAX:
            return False
        return suffix == STATIC_SUFFIX or view.prefix(view.clustering_values(suffix)) == suffix
    except (InvalidValueError, struct.error, ValueError, IndexError):
        return False


def _sum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SUM_BYTES).digest()
