"""What the library gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sullae import json_values


@dataclass(frozen=True)
class Value:
    """What a key holds."""

    key: str
    value: bytes
    content_type: str
    etag: str

    @property
    def text(self) -> str:
        """The value as UTF-8 text; raises UnicodeDecodeError."""
        return self.value.decode()

    @property
    def json(self) -> Any:
        """The value as JSON, numbers exact; raises ValueError."""
        return json_values.loads(self.value)


@dataclass(frozen=True)
class KeyInfo:
    """A key in a listing."""

    key: str
    bytes: int
    content_type: str
    etag: str


@dataclass(frozen=True)
class Bucket:
    """What a bucket is."""

    name: str
    table: str
    replication_factor: int
    default_ttl_s: int
    ordered: bool
    changes: str = "none"
    changes_retention_s: int = 0
    changes_retention_bytes: int = 0


@dataclass(frozen=True)
class Document:
    """A document: `document["title"]` is short for `document.value["title"]`."""

    id: str
    etag: str
    value: Any

    def __getitem__(self, name: str) -> Any:
        """A member of a document that is an object."""
        return self.value[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A member, or the default."""
        return self.value.get(name, default)

    @property
    def row(self) -> dict[str, Any]:
        """As a row of a table: its members, and the id as `_id`."""
        members = self.value if isinstance(self.value, dict) else {"value": self.value}
        return {"_id": self.id, **members}


@dataclass(frozen=True)
class Patched:
    """What an edit came to: the entity tag if the cluster looked at the document, its value if asked for."""

    etag: str | None
    value: Any = None


@dataclass(frozen=True)
class Changed:
    """What an update of many came to."""

    matched: int
    modified: int
    upserted: str | None = None
    """The id of the document that was made, where none met the filter."""


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection is."""

    name: str
    table: str
    replication_factor: int
    default_ttl_s: int
    max_document_bytes: int
    schema: Any
    mapping: Any
    changes: str = "none"
    changes_retention_s: int = 0
    changes_retention_bytes: int = 0


@dataclass(frozen=True)
class Index:
    """A secondary index, and how far it is built at the peer that was asked."""

    name: str
    paths: Mapping[str, int]
    filter: Any
    built: bool
    progress: float
    unique: bool = False
    expire_after_s: int | None = None
    """Documents go so long after the date at the path; None: they stay."""
    state: str = ""
    """Of a unique index: building, built or failed."""
    duplicates: Sequence[Sequence[str]] = ()
    """Of a unique index that failed: some of the documents that share a value, by their ids."""


@dataclass(frozen=True)
class Hit:
    """A document that a search found."""

    collection: str
    id: str
    score: float | None
    value: Any
    sort: tuple[Any, ...] = ()
    highlight: Mapping[str, Any] = field(default_factory=dict)
    explanation: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The values of the `fields` that were asked for beside `query`."""
    matched_queries: Sequence[str] = ()
    """The names (`_name`) of the queries that it matches."""

    def __getitem__(self, name: str) -> Any:
        """A member of the document."""
        return self.value[name]

    @property
    def row(self) -> dict[str, Any]:
        """As a row of a table: the document's members, `_id` and `_score`."""
        members = self.value if isinstance(self.value, dict) else {}
        return {"_id": self.id, "_score": self.score, **members}


@dataclass(frozen=True)
class Column:
    """A column of a result of CQL."""

    name: str
    type: str


@dataclass(frozen=True)
class PeerStatus:
    """A peer as another one sees it."""

    name: str
    address: str
    state: str
    datacentre: str
    rack: str
    voter: bool
    owns: float
    """The share of the ring that it owns, 0 to 1."""


@dataclass(frozen=True)
class Health:
    """Whether the peer that was asked serves."""

    ready: bool
    why_not: str
