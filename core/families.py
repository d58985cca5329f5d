"""Families of tables: what buckets and collections, which a door makes on first use, have in common.

A family is a keyspace (`kv`, `docs`) and those beside it for other replication factors (`kv_rf1`, ...). A
name is unique across a family: `unique_across` has the metadata log see to that, so two peers that create a
table of one name at once make one. A cursor of a listing says after which key of which table to go on.

    FAMILY = Family("kv", "bucket", recognised)
    request = FAMILY.create(spec, columns, members)     # a MetadataRequest, or why there can be no such table
    bucket = FAMILY.find(state, "movies")               # state: node.metadata.state; None if there is none
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from core import limits
from core.metadata import AlterTable, CreateTable, DropTable
from core.requests import Invalid, MetadataRequest
from core.schema import CHANGES, NETWORK_TOPOLOGY, Column, Keyspace, Member, Replication, Table, TableOptions

DEFAULT_FACTOR: Final = 3
FACTOR_MAX: Final = 16
CURSOR_CHARS_MAX: Final = 2 * limits.KEY_BYTES_MAX

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{limits.NAME_CHARS_MAX - 1}}}")


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


class FamilyTable(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A table of a family as operations need it. `table` is its id."""

    name: str
    keyspace: str
    table: int
    options: TableOptions
    factors: tuple[tuple[str, int], ...]

    @property
    def default_ttl_s(self) -> int:
        """The TTL of a write that names none; 0 is for ever."""
        return self.options.default_ttl_s

    @property
    def replication_factor(self) -> int:
        """Replicas per row in the datacentre that has most."""
        return max((n for _, n in self.factors), default=0)


class TableSpec(msgspec.Struct, frozen=True):
    """What a table of a family is to be. None: whatever it is; of a new one, the default."""

    name: str
    replication_factor: int | None = None
    default_ttl_s: int | None = None
    changes: str | None = None
    changes_kept_s: int | None = None
    changes_kept_bytes: int | None = None

    def said(self) -> dict[str, int | str]:
        """The options of a table that this says."""
        named = {name: getattr(self, name) for name in _OPTIONS}
        return {name: value for name, value in named.items() if value is not None}

    def options(self, base: TableOptions) -> TableOptions:
        """`base` with what this says."""
        return msgspec.structs.replace(base, **self.said())

    def check(self) -> Invalid | None:
        """Why a table's options cannot be so, or None."""
        problem = None if self.default_ttl_s is None else check_ttl(self.default_ttl_s)
        problem = problem or check_changes(self.changes)
        return problem or check_kept(self.changes_kept_s, self.changes_kept_bytes)


_OPTIONS: Final = ("default_ttl_s", "changes", "changes_kept_s", "changes_kept_bytes")

T = TypeVar("T", bound=FamilyTable)


class Family(Generic[T]):
    """One family, and how its tables are made, found, altered and dropped."""

    def __init__(self, keyspace: str, what: str, recognised: Callable[[Table, Keyspace], T | None]) -> None:
        """`what` people call one of its tables; `recognised` tells what a table in its keyspaces is."""
        self.keyspace = keyspace
        self.what = what
        self._recognised = recognised
        self._keyspaces = re.compile(rf"{keyspace}(?:_rf([1-9][0-9]?))?")

    def check_name(self, name: str) -> Invalid | None:
        """Why `name` is no name of one of its tables, or None."""
        if _NAME.fullmatch(name):
            return None
        rule = f"1 to {limits.NAME_CHARS_MAX} letters, digits, - or _, the first a letter or digit"
        return Invalid(f"bad_{self.what}_name", f"a {self.what}'s name is {rule}; found {name[:60]!r}")

    def create(
        self,
        spec: TableSpec,
        columns: tuple[Column, ...],
        members: Sequence[Member],
        default_factor: int = DEFAULT_FACTOR,
    ) -> MetadataRequest | Invalid:
        """The schema change that makes this table if it is not there (whatever it is: see `conflict`)."""
        problem = self.check_name(spec.name) or spec.check()
        if problem is not None:
            return problem
        factor = factor_of(spec.replication_factor, members, default_factor)
        if isinstance(factor, Invalid):
            return factor
        change = CreateTable(
            keyspace_of(self.keyspace, spec.replication_factor, default_factor),
            spec.name,
            columns,
            spec.options(TableOptions()),
            if_not_exists=True,
            unique_across=self.keyspace,
            replication=replication_of(members, factor),
        )
        return MetadataRequest(change)

    def conflict(self, there: T, spec: TableSpec) -> Invalid | None:
        """Why a table that is there cannot become what `spec` says; None if at most its options differ."""
        if spec.replication_factor in (None, there.replication_factor):
            return None
        detail = f"the {self.what} {there.name} exists with the replication factor {there.replication_factor}"
        return Invalid(f"{self.what}_exists", detail)

    def alter(self, there: T, spec: TableSpec) -> MetadataRequest | Invalid:
        """The schema change that gives a table the options of `spec` (for later writes)."""
        problem = spec.check()
        if problem is not None:
            return problem
        only = tuple(spec.said())
        assert only, "something is said"
        return MetadataRequest(AlterTable(there.keyspace, there.name, spec.options(there.options), only))

    def drop(self, there: T) -> MetadataRequest:
        """The schema change that removes a table and all that it holds."""
        return MetadataRequest(DropTable(there.keyspace, there.name, if_exists=True))

    def of(self, table: Table, keyspace: Keyspace | None) -> T | None:
        """What this table is in the family, or None for something else (made by CQL in another shape)."""
        if keyspace is None or self._keyspaces.fullmatch(table.keyspace) is None:
            return None
        return self._recognised(table, keyspace)

    def find(self, schema: Schema, name: str) -> T | None:
        """The table of that name, in whichever keyspace it lives."""
        table = schema.table_across(self.keyspace, name)
        return None if table is None else self.of(table, schema.keyspaces.get(table.keyspace))

    def every(self, schema: Schema) -> Iterable[T]:
        """All tables of the family, by name."""
        found = (self.of(table, schema.keyspaces.get(table.keyspace)) for table in schema.tables.values())
        return sorted((each for each in found if each is not None), key=lambda each: each.name)


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
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return key if of == table else None
