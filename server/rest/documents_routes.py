"""Paths of documents and collections: which is what.

    /v1/collections, /v1/collections/{collection}
    /v1/docs/{collection}              GET lists, POST makes a document
    /v1/docs/{collection}/{id}         one document; the id is percent-encoded, slashes may be left
    /v1/docs/{collection}/_name...     operations on the collection

A path whose third part begins with `_`, as it was sent, is an operation; an id that begins so is written with
`%5F`. Operations are found in `DocumentRoutes.operations`, where others add theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web

from core.settings import Settings
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body
from server.rest.bulk import Bulk, Room
from server.rest.collections import BODY_BYTES_MAX, Collections, describe
from server.rest.docs_indexes import DocumentIndexes
from server.rest.docs_query import DocumentQueries
from server.rest.documents import Documents
from server.rest.documents_bulk import DocumentLines
from server.rest.documents_listing import DocumentsListing
from server.rest.problems import ProblemError, not_allowed
from server.rest.targets import DOCUMENTS_PARAMETERS, WRITE_PARAMETERS, decoded, options

DOCS: Final = "/v1/docs/"
COLLECTIONS: Final = "/v1/collections"
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "PUT")

Operation = Callable[[web.BaseRequest, str, str, str], Awaitable[web.StreamResponse]]
"""Takes the request, the collection's name, what follows the operation's name and a slash as it was sent, and
the query."""


class DocumentRoutes:
    """Dispatches what is below these paths."""

    def __init__(self, node: Node, bridge: Bridge, budget: Budget, settings: Settings, room: Room) -> None:
        self._bridge = bridge
        self._budget = budget
        self._room = room
        self._settings = settings
        self.collections = Collections(node, bridge)
        self.documents = Documents(bridge, self.collections, budget, settings)
        queries = DocumentQueries(node, bridge, self.collections, budget, settings)
        self.operations: dict[str, Operation] = {"_bulk": self._bulk, **queries.operations()}
        self.operations["_indexes"] = DocumentIndexes(node, bridge, self.collections, budget).respond

    @staticmethod
    def takes(path: str) -> bool:
        """Whether a path is one of these."""
        return path.startswith((DOCS, COLLECTIONS + "/")) or path == COLLECTIONS

    @staticmethod
    def label(method: str, path: str) -> str:
        """What a request is called in the metrics."""
        if not path.startswith(DOCS):
            return "other"
        _, slash, rest = path[len(DOCS) :].partition("/")
        if rest[:1] == "_":
            return "docs_bulk" if rest == "_bulk" else "docs_operation"
        if not slash:
            return "docs_list" if method == "GET" else "docs_post" if method == "POST" else "other"
        return f"docs_{method.lower()}" if method in METHODS else "other"

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        """Answer a request for a path that this takes."""
        if not path.startswith(DOCS):
            return await self._collection(request, path[len(COLLECTIONS) + 1 :], query)
        raw_name, slash, rest = path[len(DOCS) :].partition("/")
        name = decoded(raw_name)
        if not slash:
            return await self._whole(request, name, query)
        if rest[:1] == "_":
            operation, _, below = rest.partition("/")
            act = self.operations.get(operation)
            if act is None:
                known = ", ".join(sorted(self.operations))
                detail = f"there are {known}; an id that begins with _ is written with %5F"
                raise ProblemError("not-found", f"there is no operation {operation[:60]}: {detail}")
            return await act(request, name, below, query)
        return await self._document(request, name, rest, query)

    async def _document(
        self, request: web.BaseRequest, name: str, raw_id: str, query: str
    ) -> web.StreamResponse:
        method, documents = request.method, self.documents
        if method in {"GET", "HEAD"}:
            return await documents.get(request, name, raw_id, query)
        if method == "PUT":
            return await documents.put(request, name, raw_id, query)
        if method == "PATCH":
            return await documents.patch(request, name, raw_id, query)
        if method == "DELETE":
            return await documents.delete(request, name, raw_id, query)
        raise not_allowed(", ".join(METHODS))

    async def _whole(self, request: web.BaseRequest, name: str, query: str) -> web.StreamResponse:
        if request.method == "POST":
            return await self.documents.post(request, name, query)
        if request.method in {"GET", "HEAD"}:
            wanted = options(query, DOCUMENTS_PARAMETERS)
            known = self.collections.known(name)
            return await DocumentsListing(self._bridge, known, wanted, self._settings).respond(request)
        raise not_allowed("GET, HEAD, POST")

    async def _bulk(self, request: web.BaseRequest, name: str, below: str, query: str) -> web.StreamResponse:
        if below:
            raise ProblemError("not-found", "nothing is below _bulk")
        if request.method != "POST":
            raise not_allowed("POST")
        wanted = options(query, WRITE_PARAMETERS)
        lines = DocumentLines(self.collections, name, wanted, self._settings)
        return await Bulk(self._bridge, lines, self._room, wanted, self._settings).respond(request)

    async def _collection(self, request: web.BaseRequest, raw_name: str, query: str) -> web.Response:
        options(query, ())
        name, method = decoded(raw_name), request.method
        if not name:
            if method not in {"GET", "HEAD"}:
                raise not_allowed("GET, HEAD")
            return _json({"collections": self.collections.listed()})
        if method in {"GET", "HEAD"}:
            return _json(describe(self.collections.known(name)))
        if method == "PUT":
            body = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
            is_new, described = await self.collections.put(name, body)
            return _json(described, 201 if is_new else 200)
        if method == "DELETE":
            await self.collections.drop(name)
            return web.Response(status=204, headers={"Server": "sullae"})
        raise not_allowed("DELETE, GET, HEAD, PUT")


def _json(body: Any, status: int = 200) -> web.Response:
    headers = {"Server": "sullae", "Content-Type": "application/json"}
    return web.Response(status=status, body=orjson.dumps(body), headers=headers)
