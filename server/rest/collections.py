"""Collections as REST has them: found by name, made on first use, described, altered, dropped."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson

from core import limits
from core.requests import Invalid, MetadataRequest
from documents import collections as documents
from documents.collections import Collection, CollectionSettings, CollectionSpec
from documents.schemas import schema_problem
from index.mapping import MappingFault, compile_mapping, parse_mapping
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import decoded_body
from server.rest.buckets import kept
from server.rest.families import RestFamily
from server.rest.problems import ProblemError, invalid

BODY_BYTES_MAX: Final = 2 * limits.COLLECTION_SETTINGS_BYTES_MAX


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /v1/collections/{collection}. What is not said stays; a `null` takes away."""

    replication_factor: int | None = None
    default_ttl_s: int | None = None
    max_document_bytes: int | None = None
    schema: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    mapping: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    changes: str | None = None
    changes_retention_s: int | None = None
    changes_retention_bytes: int | None = None


_decoder = msgspec.json.Decoder(_Body)


class Collections(RestFamily[Collection, CollectionSpec]):
    """The collections of the cluster."""

    made_by = "the first document put"

    def __init__(self, node: Node, bridge: Bridge) -> None:
        super().__init__(node, bridge, documents.FAMILY)

    def spec(self, name: str) -> CollectionSpec:
        """A collection with the defaults."""
        return CollectionSpec(name)

    def creation(self, spec: CollectionSpec, default_factor: int) -> MetadataRequest | Invalid:
        """The schema change that makes a collection."""
        return documents.create_collection(spec, self._node.metadata.state.members, default_factor)

    async def expiring(self, collection: Collection, ttl_s: int | None) -> Collection:
        """The collection, of which it is known that documents of it may die by themselves if one with this
        time to live is about to be written.
        """
        if not ttl_s or collection.expires:
            return collection
        return await self.be(collection, CollectionSpec(collection.name, expires=True))

    # --- /v1/collections

    async def put(self, name: str, body: bytes) -> tuple[bool, dict[str, Any]]:
        """Have a collection be so: whether it is new, and its description."""
        wanted = decoded_body(_decoder, body, "a collection's description") if body.strip() else _Body()
        self.must_serve()
        there = self.find(name)
        spec = _spec(name, wanted, None if there is None else there.settings)
        return there is None, describe(await self.be(there, spec))

    def listed(self) -> list[dict[str, Any]]:
        """All collections."""
        return [describe(collection) for collection in self.every()]


def _spec(name: str, wanted: _Body, there: CollectionSettings | None) -> CollectionSpec:
    """What is wanted of a collection that is set as `there` says."""
    said: dict[str, Any] = {}
    if wanted.max_document_bytes is not None:
        said["max_document_bytes"] = wanted.max_document_bytes
    if wanted.schema is not msgspec.UNSET:
        said["schema"] = wanted.schema
    if wanted.mapping is not msgspec.UNSET:
        said["mapping"] = wanted.mapping
    settings = None
    if said:
        settings = msgspec.structs.replace(there or documents.DEFAULTS, **said)
        _check_settings(settings)
    return CollectionSpec(
        name,
        replication_factor=wanted.replication_factor,
        default_ttl_s=wanted.default_ttl_s,
        changes=wanted.changes,
        changes_kept_s=wanted.changes_retention_s,
        changes_kept_bytes=wanted.changes_retention_bytes,
        settings=settings,
    )


def _check_settings(settings: CollectionSettings) -> None:
    """A ProblemError for what a collection cannot be set to."""
    problem = documents.check_settings(settings)
    if problem is not None:
        raise invalid(problem)
    text = settings.schema_text
    detail = None if text is None else schema_problem(text)
    if detail is not None:
        raise ProblemError("bad-collection", f"the schema cannot be used: {detail}")
    if settings.mapping_text is not None:
        try:
            given = orjson.loads(settings.mapping_text)
        except orjson.JSONDecodeError as error:  # a number beyond all floats
            raise ProblemError("bad-collection", f"the mapping cannot be used: {error}") from None
        found = parse_mapping(given)
        rules = found if isinstance(found, MappingFault) else compile_mapping(found)
        if isinstance(rules, MappingFault):
            where = f"{rules.path}: " if rules.path else ""
            raise ProblemError("bad-collection", f"the mapping cannot be used: {where}{rules.detail}")


def describe(collection: Collection) -> dict[str, Any]:
    """A collection as JSON."""
    settings = collection.settings
    return {
        "collection": collection.name,
        "table": f"{collection.keyspace}.{collection.name}",
        "replication_factor": collection.replication_factor,
        "default_ttl_s": collection.default_ttl_s,
        "max_document_bytes": settings.max_document_bytes,
        "changes": collection.options.changes,
        **kept(collection.options),
        "schema": orjson.Fragment(settings.schema_text or b"null"),
        "mapping": orjson.Fragment(settings.mapping_text or b"null"),
    }
