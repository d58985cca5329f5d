"""Collections as REST has them: found by name, made on first use, described, altered, dropped."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import orjson

from core import limits
from core.families import DEFAULT_FACTOR
from core.requests import Changed, Invalid, MetadataRequest
from documents import collections as documents
from documents.collections import Collection, CollectionSettings, CollectionSpec
from documents.schemas import schema_problem
from index.mapping import MappingFault, compile_mapping, parse_mapping
from node.metadata_state import State
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import decoded_body
from server.rest.buckets import kept
from server.rest.problems import ProblemError, invalid, problem_of

METADATA_TIMEOUT_US: Final = 10_000_000
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


class Collections:
    """The collections of the cluster, as this node's metadata has them."""

    def __init__(self, node: Node, bridge: Bridge) -> None:
        self._node = node
        self._bridge = bridge
        self._state: State | None = None
        self._found: dict[str, Collection] = {}
        self._creating: dict[str, asyncio.Task[Collection]] = {}

    def find(self, name: str) -> Collection | None:
        """The collection, or None; looked up once per epoch."""
        state = self._node.metadata.state
        if state is not self._state:
            self._state = state
            self._found = {}
        collection = self._found.get(name)
        if collection is None:
            collection = documents.find(state, name)
            if collection is not None:  # names that are not there are the client's to invent
                self._found[name] = collection
        return collection

    def known(self, name: str) -> Collection:
        """The collection, or a ProblemError."""
        collection = self.find(name)
        if collection is None:
            problem = documents.check_name(name)
            if problem is not None:
                raise invalid(problem)
            self._must_serve()
            raise ProblemError(
                "no-such-collection", f"there is no collection {name}; the first document put makes it"
            )
        return collection

    def _must_serve(self) -> None:
        """Who is not ready does not know which collections there are."""
        ready, why = self._node.ready()
        if not ready:
            raise ProblemError("not-ready", why)

    async def used(self, name: str) -> Collection:
        """The collection, made with the defaults if it is not there; who wants it meanwhile shares that."""
        collection = self.find(name)
        if collection is not None:
            return collection
        task = self._creating.get(name)
        if task is None:
            task = self._creating[name] = asyncio.ensure_future(self._first_use(name))
            task.add_done_callback(lambda _: self._creating.pop(name, None))
        return await asyncio.shield(task)

    async def _first_use(self, name: str) -> Collection:
        try:
            await self._change(self._creation(CollectionSpec(name)))
        except ProblemError as error:
            if error.status < 500:
                raise
            detail = f"the collection {name} could not be made, so nothing was written: {error.detail}"
            raise ProblemError("collection-not-created", detail) from error
        return self._made(name)

    def _made(self, name: str) -> Collection:
        collection = self.find(name)
        if collection is None:
            raise ProblemError("collection-exists", f"a table {name} that is no collection has this name")
        return collection

    def _creation(self, spec: CollectionSpec) -> MetadataRequest | Invalid:
        state = self._node.metadata.state
        keyspace = state.keyspaces.get(documents.KEYSPACE)
        factors = () if keyspace is None else keyspace.replication.factors
        default = max((n for _, n in factors), default=DEFAULT_FACTOR)
        return documents.create_collection(spec, state.members, default)

    async def _change(self, request: MetadataRequest | Invalid) -> None:
        if isinstance(request, Invalid):
            raise invalid(request)
        answer = await self._bridge.ask(request, METADATA_TIMEOUT_US)
        if not isinstance(answer, Changed) or answer.error:
            if isinstance(answer, Changed) and answer.code == "already_exists":
                raise ProblemError("collection-exists", answer.error)
            raise problem_of(answer)

    # --- /v1/collections

    async def put(self, name: str, body: bytes) -> tuple[bool, dict[str, Any]]:
        """Have a collection be so: whether it is new, and its description."""
        wanted = decoded_body(_decoder, body, "a collection's description") if body.strip() else _Body()
        self._must_serve()
        collection = self.find(name)
        spec = _spec(name, wanted, None if collection is None else collection.settings)
        is_new = collection is None
        if collection is None:
            await self._change(self._creation(spec))
            collection = self._made(name)
        problem = documents.conflict(collection, spec)
        if problem is not None:
            raise invalid(problem)
        if not documents.is_set_so(collection, spec):
            await self._change(documents.alter_collection(collection, spec))
            collection = self.find(name) or collection
        return is_new, describe(collection)

    async def drop(self, name: str) -> None:
        """Remove a collection and all that it holds."""
        await self._change(documents.drop_collection(self.known(name)))

    def listed(self) -> list[dict[str, Any]]:
        """All collections."""
        self._must_serve()
        return [describe(collection) for collection in documents.every(self._node.metadata.state)]


def _spec(name: str, wanted: _Body, there: CollectionSettings | None) -> CollectionSpec:
    """What is wanted of a collection that is set as `there` says."""
    said: dict[str, Any] = {}
    if wanted.max_document_bytes is not None:
        said["max_document_bytes"] = wanted.max_document_bytes
    if wanted.schema is not msgspec.UNSET:
        said["schema"] = wanted.schema
    if wanted.mapping is not msgspec.UNSET:
        said["mapping"] = wanted.mapping
    kept = wanted.changes, wanted.changes_retention_s, wanted.changes_retention_bytes
    if not said:
        return CollectionSpec(name, wanted.replication_factor, wanted.default_ttl_s, None, *kept)
    settings = msgspec.structs.replace(there or documents.DEFAULTS, **said)
    _check_settings(settings)
    return CollectionSpec(name, wanted.replication_factor, wanted.default_ttl_s, settings, *kept)


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
        found = parse_mapping(orjson.loads(settings.mapping_text))
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
