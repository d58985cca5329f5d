"""Where a page ended, as bytes that any peer can go on from.

The state names the last row that was consumed and how much of the limits is left; nothing is
kept where the page was made. A checksum tells a state that was damaged, or made by something else, from one
of ours; that it belongs to the same query (statement and bound values) is checked by a fingerprint.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from cql_lite.errors import InvalidRequestError

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


def decode(data: bytes, fingerprint: bytes) -> PagingState:
    """The state in these bytes; raises InvalidRequestError if they are none of this query."""
    body = data[_SUM_BYTES:]
    if _sum(body) != data[:_SUM_BYTES]:
        raise InvalidRequestError(
            "Invalid value for the paging state: it is damaged: run the query from its beginning"
        )
    try:
        state = _decoder.decode(body)
    except msgspec.DecodeError:
        raise InvalidRequestError(
            "Invalid value for the paging state: it is none of ours: run the query from its beginning"
        ) from None
    if state.fingerprint != fingerprint:
        raise InvalidRequestError(
            "Invalid value for the paging state: it is of another query, or the table was emptied or its "
            "indexes have changed since: run the query from its beginning"
        )
    return state


def _sum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SUM_BYTES).digest()
