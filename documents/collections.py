"""Collections: what a collection of documents is among keyspaces and tables.

A collection is a table whose rows are documents, so every other door (CQL, the change stream, an index,
search) sees the same data:

    docs.NAME (id text PRIMARY KEY, doc json)

A collection with another replication factor than the cluster's default lives in the keyspace `docs_rfN`;
its name is unique across all of these. `unique_across` has the metadata log see to that, so two peers that
create a collection at once make one. What is set for a collection beyond the options of any table (a JSON
Schema, a mapping for search, the size of documents) is JSON text in the table's option `documents`.

A table that CQL made is a collection too if it has these two columns; more columns do no harm: a document is
the cells of `doc`, and only deleting a document deletes the whole row.

    collection = find(state, "movies")            # state: node.metadata.state; None if there is none
    document_of(collection, row, now_us)          # documents/values.py: of a ReadRow of any answer
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from core import limits
from core.families import (
    DEFAULT_FACTOR,
    Schema,
    check_changes,
    check_kept,
    check_ttl,
    factor_of,
    kept_fields,
    kept_options,
    keyspace_of,
    replication_of,
)
from core.metadata import AlterTable, CreateTable, DropTable
from core.requests import Invalid, MetadataRequest
from core.schema import (
    CLUSTERING,
    PARTITION,
    REGULAR,
    Column,
    Keyspace,
    Member,
    Table,
    TableOptions,
)

KEYSPACE = "docs"
ID_COLUMN, DOCUMENT_COLUMN = "id", "doc"

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
_KEYSPACE = re.compile(r"docs(?:_rf([1-9][0-9]?))?")
_NOTHING = msgspec.Raw(b"null")


class CollectionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a collection is set to beyond the options of any table.

    `schema` (a JSON Schema) and `mapping` (for search) are JSON text; `null` is none.
    """

    schema: msgspec.Raw = _NOTHING
    mapping: msgspec.Raw = _NOTHING
    max_document_bytes: int = limits.DOCUMENT_BYTES_MAX

    @property
    def schema_text(self) -> bytes | None:
        """The JSON Schema that every document of the collection meets; None if there is none."""
        return _text_of(self.schema)

    @property
    def mapping_text(self) -> bytes | None:
        """How documents are indexed for search; None for the default."""
        return _text_of(self.mapping)


def _text_of(raw: msgspec.Raw) -> bytes | None:
    text = bytes(raw)
    return None if text == b"null" else text


DEFAULTS = CollectionSettings()
_decode_settings = msgspec.json.Decoder(CollectionSettings).decode


@lru_cache(1024)
def settings_of(options: TableOptions) -> CollectionSettings:
    """What a table's options say of its documents."""
    return _decode_settings(options.documents) if options.documents else DEFAULTS


class Collection(msgspec.Struct, frozen=True, gc=False):
    """A collection as operations need it: the table, and the id of the column that holds documents."""

    name: str
    keyspace: str
    table: int
    document_column: int
    options: TableOptions
    factors: tuple[tuple[str, int], ...]
    settings: CollectionSettings
    renews: bool = False
    """Whether every edit is to write the whole document, as a TTL index asks for."""

    @property
    def default_ttl_s(self) -> int:
        """The TTL of a write that names none; 0 is for ever."""
        return self.options.default_ttl_s

    @property
    def replication_factor(self) -> int:
        """Replicas per row in the datacentre that has most."""
        return max((n for _, n in self.factors), default=0)


class CollectionSpec(msgspec.Struct, frozen=True):
    """What a collection is to be. None: whatever it is; of a new one, the default."""

    name: str
    replication_factor: int | None = None
    default_ttl_s: int | None = None
    settings: CollectionSettings | None = None
    changes: str | None = None
    changes_kept_s: int | None = None
    changes_kept_bytes: int | None = None

    @property
    def kept(self) -> tuple[str | None, int | None, int | None]:
        """What is said about changes."""
        return self.changes, self.changes_kept_s, self.changes_kept_bytes

    def options(self, base: TableOptions) -> TableOptions:
        """`base` with what this says."""
        found = kept_options(base, *self.kept)
        if self.default_ttl_s is not None:
            found = msgspec.structs.replace(found, default_ttl_s=self.default_ttl_s)
        if self.settings is None:
            return found
        text = msgspec.json.encode(self.settings).decode()
        return msgspec.structs.replace(found, documents="" if self.settings == DEFAULTS else text)


def check_name(name: str) -> Invalid | None:
    """Why `name` is no collection's name, or None."""
    if _NAME.fullmatch(name):
        return None
    rule = f"1 to {limits.NAME_CHARS_MAX} letters, digits, - or _, the first a letter or digit"
    return Invalid("bad_collection_name", f"a collection's name is {rule}; found {name[:60]!r}")


def check_settings(settings: CollectionSettings) -> Invalid | None:
    """Why a collection cannot be set so, or None. (What a schema says is checked in documents/schemas.py.)"""
    if not 1 <= settings.max_document_bytes <= limits.VALUE_BYTES_MAX:
        text = f"max_document_bytes is 1 to {limits.VALUE_BYTES_MAX}; found {settings.max_document_bytes}"
        return Invalid("bad_collection", text)
    size = len(msgspec.json.encode(settings))
    if size > limits.COLLECTION_SETTINGS_BYTES_MAX:
        text = f"schema and mapping have {size} bytes; {limits.COLLECTION_SETTINGS_BYTES_MAX} are the limit"
        return Invalid("bad_collection", text)
    for name, text_of in (("schema", settings.schema_text), ("mapping", settings.mapping_text)):
        if text_of is not None and text_of.lstrip()[:1] != b"{" and (name == "mapping" or text_of != b"true"):
            return Invalid("bad_collection", f"the {name} is a JSON object; found {text_of[:60].decode()!r}")
    return None


def _check(spec: CollectionSpec) -> Invalid | None:
    problem = None if spec.default_ttl_s is None else check_ttl(spec.default_ttl_s)
    if spec.settings is not None:
        problem = problem or check_settings(spec.settings)
    return problem or check_changes(spec.changes) or check_kept(*spec.kept[1:])


def create_collection(
    spec: CollectionSpec, members: Sequence[Member], default_factor: int = DEFAULT_FACTOR
) -> MetadataRequest | Invalid:
    """The schema change that makes this collection if it is not there (whatever it is: see `conflict`)."""
    problem = check_name(spec.name) or _check(spec)
    if problem is not None:
        return problem
    factor = factor_of(spec.replication_factor, members, default_factor)
    if isinstance(factor, Invalid):
        return factor
    columns = (Column(0, ID_COLUMN, "text", PARTITION), Column(0, DOCUMENT_COLUMN, "json", REGULAR))
    change = CreateTable(
        keyspace_of(KEYSPACE, spec.replication_factor, default_factor),
        spec.name,
        columns,
        spec.options(TableOptions()),
        if_not_exists=True,
        unique_across=KEYSPACE,
        replication=replication_of(members, factor),
    )
    return MetadataRequest(change)


def conflict(collection: Collection, spec: CollectionSpec) -> Invalid | None:
    """Why an existing collection cannot become what `spec` says, or None."""
    if spec.replication_factor in (None, collection.replication_factor):
        return None
    factor = collection.replication_factor
    detail = f"the collection {collection.name} exists with the replication factor {factor}"
    return Invalid("collection_exists", detail)


def alter_collection(collection: Collection, spec: CollectionSpec) -> MetadataRequest | Invalid:
    """The schema change that has a collection be set so (for later writes)."""
    problem = _check(spec)
    if problem is not None:
        return problem
    said = {"default_ttl_s": spec.default_ttl_s, "documents": spec.settings}
    only = (*(name for name, value in said.items() if value is not None), *kept_fields(*spec.kept))
    assert only, "something is said"
    return MetadataRequest(
        AlterTable(collection.keyspace, collection.name, spec.options(collection.options), only)
    )


def is_set_so(collection: Collection, spec: CollectionSpec) -> bool:
    """Whether a collection is already what `spec` says."""
    return spec.options(collection.options) == collection.options


def drop_collection(collection: Collection) -> MetadataRequest:
    """The schema change that removes a collection and all that it holds."""
    return MetadataRequest(DropTable(collection.keyspace, collection.name, if_exists=True))


def collection_of(table: Table, keyspace: Keyspace | None) -> Collection | None:
    """The collection that this table is, or None if it is something else (made by CQL in another shape)."""
    if _KEYSPACE.fullmatch(table.keyspace) is None or keyspace is None:
        return None
    keys = tuple((c.name, c.type, c.kind) for c in table.columns if c.kind in (PARTITION, CLUSTERING))
    document = table.column(DOCUMENT_COLUMN)
    if keys != ((ID_COLUMN, "text", PARTITION),) or document is None or document.type != "json":
        return None
    return Collection(
        table.name,
        table.keyspace,
        table.id,
        document.id,
        table.options,
        keyspace.replication.factors,
        settings_of(table.options),
        any(index.expire_after_s >= 0 for index in table.indexes),
    )


def find(schema: Schema, name: str) -> Collection | None:
    """The collection of that name, in whichever keyspace it lives."""
    table = schema.table_across(KEYSPACE, name)
    return None if table is None else collection_of(table, schema.keyspaces.get(table.keyspace))


def every(schema: Schema) -> Iterable[Collection]:
    """All collections, by name."""
    found = (collection_of(table, schema.keyspaces.get(table.keyspace)) for table in schema.tables.values())
    return sorted((each for each in found if each is not None), key=lambda each: each.name)
