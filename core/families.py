"""Families of tables: what buckets and collections, which a door makes on first use, have in common.

A family is a keyspace (`kv`, `docs`) and those beside it for other replication factors (`kv_rf1`, ...). A
name is unique across a family. A cursor of a listing says after which key of which table to go on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from core import limits
from core.requests import Invalid
from core.schema import CHANGES, NETWORK_TOPOLOGY, Keyspace, Member, Replication, Table, TableOptions

DEFAULT_FACTOR: Final = 3
FACTOR_MAX: Final = 16
CURSOR_CHARS_MAX: Final = 2 * limits.KEY_BYTES_MAX


class Schema(Protocol):
    """What is read of the metadata state."""

    @property
    def tables(self) -> Mapping[int, Table]:
        """All tables by id."""

    @property
    def keyspaces(self) -> Mapping[str, Keyspace]:
        """All keyspaces by name."""

    def table_across(self, family: str, name: str) -> Table | None:
        """The table of that name in any keyspace of a family."""


def check_ttl(ttl_s: int) -> Invalid | None:
    """Why `ttl_s` is no time to live, or None. 0 means for ever."""
    if 0 <= ttl_s <= limits.TTL_S_MAX:
        return None
    return Invalid("bad_ttl", f"a ttl is 0 (for ever) to {limits.TTL_S_MAX} seconds; found {ttl_s}")


def check_kept(kept_s: int | None, kept_bytes: int | None) -> Invalid | None:
    """Why changes cannot be kept for so long, or so many bytes of them, or None. None leaves it as it is, 0
    is what the peers' logs hold.
    """
    detail = ""
    if kept_s is not None and not 0 <= kept_s <= limits.CHANGES_KEPT_S_MAX:
        detail = f"changes_retention_s is 0 to {limits.CHANGES_KEPT_S_MAX} seconds; found {kept_s}"
    elif kept_bytes is not None and not 0 <= kept_bytes <= limits.CHANGES_KEPT_BYTES_MAX:
        detail = f"changes_retention_bytes is 0 to {limits.CHANGES_KEPT_BYTES_MAX}; found {kept_bytes}"
    return Invalid("bad_changes", detail) if detail else None


def kept_options(
    base: TableOptions, changes: str | None, kept_s: int | None, kept_bytes: int | None
) -> TableOptions:
    """`base` with what is said about changes: what, how long, how many bytes; None leaves each as it is."""
    said = (("changes", changes), ("changes_kept_s", kept_s), ("changes_kept_bytes", kept_bytes))
    return msgspec.structs.replace(base, **{name: value for name, value in said if value is not None})


def kept_fields(changes: str | None, kept_s: int | None, kept_bytes: int | None) -> tuple[str, ...]:
    """The names of the options that `kept_options` sets."""
    said = (("changes", changes), ("changes_kept_s", kept_s), ("changes_kept_bytes", kept_bytes))
    return tuple(name for name, value in said if value is not None)


def check_changes(changes: str | None) -> Invalid | None:
    """Why this is not what a table may keep for subscribers, or None. None leaves it as it is."""
    if changes is None or changes in CHANGES:
        return None
    return Invalid("bad_changes", f"changes is {', '.join(CHANGES)}; found {changes[:60]!r}")


def keyspace_of(family: str, factor: int | None, default_factor: int) -> str:
    """The keyspace of a family where tables with this replication factor live; None is the default."""
    return family if factor in (None, default_factor) else f"{family}_rf{factor}"


def replication_of(members: Sequence[Member], factor: int) -> Replication:
    """`factor` replicas in each datacentre, or as many as it has members."""
    sizes: dict[str, int] = {}
    for member in members:
        sizes[member.datacentre] = sizes.get(member.datacentre, 0) + 1
    return Replication(NETWORK_TOPOLOGY, tuple((name, min(factor, sizes[name])) for name in sorted(sizes)))


def factor_of(factor: int | None, members: Sequence[Member], default_factor: int) -> int | Invalid:
    """The replication factor of a new table, if there can be one with so many replicas."""
    if factor is None:
        return default_factor
    largest = max((n for _, n in replication_of(members, FACTOR_MAX).factors), default=0)
    if 1 <= factor <= largest:
        return factor
    detail = f"a replication factor is 1 to {largest}, the peers of a datacentre; found {factor}"
    return Invalid("bad_replication_factor", detail)


def cursor(table: int, key: str) -> str:
    """Where a listing goes on after this key: opaque, and of this table only."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((table, key))).decode().rstrip("=")


def key_of_cursor(table: int, text: str) -> str | None:
    """The key in a cursor of a listing of this table; None if it is no such cursor."""
    if len(text) > CURSOR_CHARS_MAX or not text.isascii():
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        of, key = msgspec.msgpack.decode(data, type=tuple[int, str])
    except (binascii.Error, msgspec.DecodeError):
        return None
    return key if of == table else None
