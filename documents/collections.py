"""Collections: what a collection of documents is among keyspaces and tables.

A collection is a table whose rows are documents, so every other door (CQL, the change stream, an index,
search) sees the same data:

    docs.NAME (id text PRIMARY KEY, doc json)

A collection with another replication factor than the cluster's default lives in the keyspace `docs_rfN`. What
buckets and collections have in common is in core/families.py. What is set for a collection beyond the options
of any table (a JSON Schema, a mapping for search, the size of documents) is JSON text in the table's option
`documents`.

A table that CQL made is a collection too if it has these two columns; more columns do no harm: a document is
the cells of `doc`, and only deleting a document deletes the whole row.

    collection = find(state, "movies")            # state: node.metadata.state; None if there is none
    document_of(collection, row, now_us)          # documents/values.py: of a ReadRow of any answer
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from core import limits
from core.families import DEFAULT_FACTOR, Family, FamilyTable, TableSpec
from core.requests import Invalid, MetadataRequest
from core.schema import CLUSTERING, PARTITION, REGULAR, Column, Keyspace, Member, Table, TableOptions
from documents.combined import Combined, combined_of

KEYSPACE = "docs"
ID_COLUMN, DOCUMENT_COLUMN = "id", "doc"

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


class Collection(FamilyTable, frozen=True, gc=False, kw_only=True):
    """A collection as operations need it: the table, and the id of the column that holds documents."""

    document_column: int
    settings: CollectionSettings
    renews: bool = False
    """Whether every edit is to write the whole document, as a TTL index asks for."""
    combined: tuple[Combined, ...] = ()

    @property
    def expires(self) -> bool:
        """Whether an edit is to look how long the document lives, lest a part of it outlives the rest."""
        return self.options.documents_expire


class CollectionSpec(TableSpec, frozen=True):
    """What a collection is to be. None: whatever it is; of a new one, the default."""

    settings: CollectionSettings | None = None
    expires: bool = False
    """True: documents may have a time to live of their own from now on. False says nothing."""

    def said(self) -> dict[str, int | str]:
        """The options of a table that this says."""
        said = super().said()
        if self.settings is not None:
            text = msgspec.json.encode(self.settings).decode()
            said["documents"] = "" if self.settings == DEFAULTS else text
        if self.expires or self.default_ttl_s:
            said["documents_expire"] = True
        return said

    def check(self) -> Invalid | None:
        """Why a collection's options cannot be so, or None."""
        return super().check() or (None if self.settings is None else check_settings(self.settings))


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


def create_collection(
    spec: CollectionSpec, members: Sequence[Member], default_factor: int = DEFAULT_FACTOR
) -> MetadataRequest | Invalid:
    """The schema change that makes this collection if it is not there (whatever it is: see `conflict`)."""
    columns = (Column(0, ID_COLUMN, "text", PARTITION), Column(0, DOCUMENT_COLUMN, "json", REGULAR))
    return FAMILY.create(spec, columns, members, default_factor)


def _recognised(table: Table, keyspace: Keyspace) -> Collection | None:
    keys = tuple((c.name, c.type, c.kind) for c in table.columns if c.kind in (PARTITION, CLUSTERING))
    document = table.column(DOCUMENT_COLUMN)
    if keys != ((ID_COLUMN, "text", PARTITION),) or document is None or document.type != "json":
        return None
    return Collection(
        name=table.name,
        keyspace=table.keyspace,
        table=table.id,
        options=table.options,
        factors=keyspace.replication.factors,
        document_column=document.id,
        settings=settings_of(table.options),
        renews=any(index.expire_after_s >= 0 for index in table.indexes),
        combined=combined_of(table.indexes),
    )


FAMILY = Family(KEYSPACE, "collection", _recognised)
check_name, conflict = FAMILY.check_name, FAMILY.conflict
alter_collection, drop_collection = FAMILY.alter, FAMILY.drop
collection_of, find, every = FAMILY.of, FAMILY.find, FAMILY.every
