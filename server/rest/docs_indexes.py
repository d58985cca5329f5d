"""`/v1/docs/{collection}/_indexes/{name}`: secondary indexes of a collection, made and removed while it is
in use.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from core.json_values import JsonError, checked, render
from core.requests import Changed, Invalid, MetadataRequest, RowsRead
from core.schema import Index
from documents import indexes
from documents.collections import Collection
from node.node import Node
from node.unique_building import BUILT, FAILED, Note, note_in, note_request
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body
from server.rest.collections import Collections
from server.rest.documents import JSON
from server.rest.families import METADATA_TIMEOUT_US
from server.rest.problems import ProblemError, invalid, not_allowed, problem_of
from server.rest.targets import decoded, options

BODY_BYTES_MAX: Final = 64 * 1024
FAILED_TEXT: Final = (
    "documents share values, some of which are listed under duplicates (a document alone holds an object): "
    "change or delete them, then DELETE this index and PUT it again"
)


class DocumentIndexes:
    """PUT, GET and DELETE of indexes."""

    def __init__(self, node: Node, bridge: Bridge, collections: Collections, budget: Budget) -> None:
        self._node = node
        self._bridge = bridge
        self._collections = collections
        self._budget = budget

    async def respond(
        self, request: web.BaseRequest, name: str, below: str, query: str
    ) -> web.StreamResponse:
        """Answer a request for `_indexes` or one below it."""
        options(query, ())
        index_name, method = decoded(below), request.method
        if method == "PUT" and index_name:
            return await self._put(request, name, index_name)
        collection = self._collections.known(name)
        if not index_name:
            if method not in {"GET", "HEAD"}:
                raise not_allowed("GET, HEAD")
            found = [await self._described(*one) for one in self._indexes(collection).items()]
            return _json({"indexes": found})
        if method in {"GET", "HEAD"}:
            return _json(await self._described(index_name, self._known(collection, index_name)))
        if method == "DELETE":
            self._known(collection, index_name)
            await self._change(indexes.drop_index(collection, index_name))
            return web.Response(status=204, headers={"Server": "sullae"})
        raise not_allowed("DELETE, GET, HEAD, PUT")

    def _indexes(self, collection: Collection) -> dict[str, Index]:
        return indexes.indexes_of(collection, self._node.metadata.state.tables[collection.table])

    def _known(self, collection: Collection, name: str) -> Index:
        found = self._indexes(collection).get(name)
        if found is None:
            raise ProblemError("no-such-index", f"{collection.name} has no index {name[:60]}")
        return found

    async def _described(self, name: str, index: Index) -> dict[str, Any]:
        """With how far it is built at this peer, and of a unique index, whether it is kept by now."""
        building = self._node.building
        progress = round(building.progress(index.id), 4)
        found = {**indexes.described(name, index), "built": building.is_built(index.id), "progress": progress}
        if index.unique:
            note = await self._note(index)
            found |= {"state": note.state, "documents_checked": note.documents}
            found["built"] = found["built"] and note.state == BUILT
            if note.duplicates:
                found["duplicates"] = [list(each.ids) for each in note.duplicates]
        return found

    async def _note(self, index: Index) -> Note:
        answer = await self._bridge.ask(note_request(index), METADATA_TIMEOUT_US)
        if not isinstance(answer, RowsRead):
            raise problem_of(answer)
        return note_in(answer)

    async def _put(self, request: web.BaseRequest, of: str, name: str) -> web.Response:
        """An index of the collection `of`, which is made if it is not there."""
        text = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
        try:
            spec = indexes.index_spec(name, checked(text))
        except JsonError as error:
            raise ProblemError("bad-body", str(error)) from None
        if isinstance(spec, Invalid):
            raise invalid(spec)
        collection = await self._collections.used(of)
        there = self._indexes(collection).get(name)
        if there is not None:
            if not indexes.is_so(there, spec):
                detail = f"the index {name} is on something else: drop it first, or take another name"
                raise ProblemError("index-exists", detail)
            described = await self._described(name, there)
            if described.get("state") == FAILED:
                raise ProblemError("unique-build-failed", FAILED_TEXT, **described)
            return _json(described)
        await self._change(indexes.create_index(collection, spec))
        return _json(await self._described(name, self._known(collection, name)), 201)

    async def _change(self, change: MetadataRequest) -> None:
        answer = await self._bridge.ask(change, METADATA_TIMEOUT_US)
        if not isinstance(answer, Changed) or answer.error:
            raise problem_of(answer)


def _json(body: Any, status: int = 200) -> web.Response:
    headers = {"Server": "sullae", "Content-Type": JSON}
    return web.Response(status=status, body=render(body), headers=headers)
