"""Search over REST.

    GET  /v1/search/{collections}?q=...          the query string, and a few options
    POST /v1/search/{collections}                 a body in Elasticsearch's words (index/search_body.py)
    POST /v1/search/{collection}/_analyze         what an analyzer makes of a text
    POST /v1/search/{collection}/_suggest         other spellings, completions
    POST /v1/search/{collection}/_explain         why a document has its score, or does not match

Several collections are named with commas between them.
"""

from __future__ import annotations

import asyncio
import math
import time
from decimal import Decimal
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from msgspec.structs import replace

from core import limits
from core.consistency import Level
from core.json_values import JsonError, checked, parse
from core.searching import ExpandAnswer, ExpandRequest, SearchAnswer, SearchRequest
from core.settings import Settings
from documents.collections import Collection
from index.analysis.analyzers import AnalyzerFault
from index.analysis.tokens import token_type
from index.analysis.words import standard_terms
from index.bounds import TEXT_CHARS_MAX, QueryError, RefusedError
from index.explaining import explain
from index.fields import INT_END
from index.judging import Held
from index.mapping import Rules
from index.query import ALL, TEXT, All, Bool, DocumentIds
from index.search_body import PARTITIONS_MAX, SearchBody, parse_body, resolve_after
from index.suggesting import CANDIDATES_MAX, WORDS_MAX, SuggestBody, parse_suggest, spellings
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body
from server.rest.collections import Collections
from server.rest.problems import ProblemError, not_allowed, problem_of
from server.rest.search_shown import Shown
from server.rest.targets import decoded, number, options

SEARCH: Final = "/v1/search/"
BODY_BYTES_MAX: Final = 1 * limits.MIB
COLLECTIONS_MAX: Final = 100
DEPTH_MAX: Final = 300
"""Levels of a body that are looked at for numbers; what is deeper than a search may be is refused later."""
_OF_WORDS: Final = ("standard", "korean")
"""Analyzers whose indexes hold whole words beside their parts."""
_FLAGS: Final = ("lenient", "explain", "refresh", "allow_partial")
_NUMBERS: Final = ("size", "from", "timeout_ms")
_LISTS: Final = ("fields", "sort", "_source", "ids")
_TEXTS: Final = ("q", "default_operator", "consistency", "search_after")


class Planned(NamedTuple):
    """A search by a query string: what is asked, and of what."""

    names: str
    body: SearchBody
    collections: dict[int, Collection]
    request: SearchRequest
    timeout_us: int


class SearchRoutes:
    """Answers what is below /v1/search."""

    def __init__(
        self, node: Node, bridge: Bridge, collections: Collections, budget: Budget, settings: Settings
    ) -> None:
        self._node = node
        self._bridge = bridge
        self._collections = collections
        self._budget = budget
        self._settings = settings

    @staticmethod
    def takes(path: str) -> bool:
        """Whether a path is one of these."""
        return path.startswith(SEARCH)

    @staticmethod
    def label(path: str) -> str:
        """What a request is called in the metrics."""
        return "search" if "/" not in path[len(SEARCH) :] else "search_operation"

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """Answer a request for a path that this takes."""
        raw_names, slash, operation = path[len(SEARCH) :].partition("/")
        if slash:
            act = {"_analyze": self._analyze, "_suggest": self._suggest, "_explain": self._explain}.get(
                operation
            )
            if act is None:
                raise ProblemError("not-found", "there are _analyze, _explain and _suggest")
            if request.method != "POST":
                raise not_allowed("POST")
            options(query, ())
            return await act(self._collections.known(decoded(raw_names)), await self._body(request))
        if request.method in {"GET", "HEAD"}:
            given = body_of_query(query)
        elif request.method == "POST":
            options(query, ())
            given = await self._body(request)
        else:
            raise not_allowed("GET, HEAD, POST")
        return await self._search(decoded(raw_names), given)

    async def _body(self, request: web.BaseRequest) -> Any:
        data = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
        try:
            return _askable(checked(data, BODY_BYTES_MAX)) if data.strip() else {}
        except JsonError as error:
            raise ProblemError("bad-body", f"the search is no JSON: {error}") from None

    def _rules(self, table: int) -> Rules:
        searches = self._node.searches
        if searches is None:
            raise ProblemError("not-ready", "this peer does not search yet")
        return searches.serving.host.rules(table)

    # --- searching

    def planned(self, name: str, query: str) -> Planned:
        """What a query string asks of one collection. Raises ProblemError."""
        known = self._collections.known(name)
        collections = {known.table: known}
        body = self._parsed(body_of_query(query))
        (question,) = _questions(body)  # a query string has no aggregations
        return Planned(
            name, body, collections, self._request(question, collections), self._timeout_us(body.timeout_ms)
        )

    def shown(self, planned: Planned, answer: SearchAnswer, took_us: int) -> bytes:
        """The JSON of its answer."""
        return Shown(planned.body, answer, planned.collections, self._rules, self._name_of).json(took_us, ())

    async def _search(self, names: str, given: Any) -> web.Response:
        begun_ns = time.perf_counter_ns()
        listed = list(dict.fromkeys(names.split(",")))
        if len(listed) > COLLECTIONS_MAX:
            raise ProblemError("bad-query", f"at most {COLLECTIONS_MAX} collections are searched at once")
        collections = {known.table: known for known in map(self._collections.known, listed)}
        body = self._parsed(given)
        answers = await asyncio.gather(*(self._ask(each, collections) for each in _questions(body)))
        took_us = (time.perf_counter_ns() - begun_ns) // 1_000
        shown = Shown(body, answers[0], collections, self._rules, self._name_of)
        aggregated = [Shown(body, each, collections, self._rules, self._name_of) for each in answers]
        try:
            return _json(shown.json(took_us, [one for each in aggregated for one in each.aggregations()]))
        except RefusedError as refused:
            raise _refused(refused.error) from None

    def _parsed(self, given: Any) -> SearchBody:
        body = parse_body(given, now_us=self._node.inside.clock.now_us())
        if isinstance(body, QueryError):
            raise _refused(body)
        return body

    async def _ask(self, body: SearchBody, collections: dict[int, Collection]) -> SearchAnswer:
        request = self._request(body, collections)
        answer = await self._bridge.ask(request, self._timeout_us(body.timeout_ms))
        if not isinstance(answer, SearchAnswer):
            raise problem_of(answer)
        return answer

    def _request(self, body: SearchBody, collections: dict[int, Collection]) -> SearchRequest:
        tables = tuple(sorted(collections))
        for table in tables:
            self._rules(table)
        after = resolve_after(tables, body)
        if isinstance(after, QueryError):
            raise _refused(after, "bad-cursor")
        needs_rows = body.source is not False or body.highlight is not None or body.explain
        query = body.query
        if body.post is not None:
            query = Bool(must=(query,), filter=(body.post,))
        if body.ids:
            query = Bool(must=(query,), filter=(DocumentIds(body.ids),))
        return SearchRequest(
            tables,
            query,
            body.level,
            body.size,
            body.offset,
            body.sort,
            after,
            body.locals,
            tuple(each.encode("utf-8", "surrogatepass") for each in body.ids),
            body.fresh,
            body.allow_partial,
            needs_rows,
            texts=True,
        )

    def _timeout_us(self, timeout_ms: int) -> int:
        return timeout_ms * 1_000 or self._settings.read_timeout_us

    def _name_of(self, peer: bytes) -> str:
        member = self._node.metadata.state.member(peer)
        return peer.hex() if member is None else member.name

    # --- beside searching

    async def _analyze(self, collection: Collection, given: Any) -> web.Response:
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            raise ProblemError(
                "bad-body", 'a body is {"text": "...", "analyzer": "..."} or {"text", "field"}'
            )
        unknown = [name for name in given if name not in ("text", "analyzer", "field", "search")]
        text, field, name = given["text"], given.get("field", ALL), given.get("analyzer")
        if unknown or len(text) > TEXT_CHARS_MAX or not isinstance(field, str):
            detail = f"there are text (to {TEXT_CHARS_MAX} characters), analyzer, field and search"
            raise ProblemError("bad-body", detail)
        rules = self._rules(collection.table)
        is_search = given.get("search", False) is True
        rule = rules.field(field)
        analyzer: Any = rule.search_analyzer if is_search else rule.analyzer
        if name is not None:
            analyzer = rules.analyzer(str(name))
            if isinstance(analyzer, AnalyzerFault):
                raise ProblemError("bad-query", analyzer.detail)
        tokens = analyzer.query_tokens(text) if is_search else analyzer.tokens(text)
        shown = [
            {
                "token": token.term,
                "start_offset": token.start,
                "end_offset": token.end,
                "type": token_type(token.term),
                "position": token.position,
            }
            for token in tokens
        ]
        return _json(orjson.dumps({"analyzer": analyzer.name, "tokens": shown}))

    async def _suggest(self, collection: Collection, given: Any) -> web.Response:
        body = parse_suggest(given)
        if isinstance(body, QueryError):
            raise _refused(body)
        if body.prefix is not None:
            prefix = body.prefix.lower() if body.view == TEXT else body.prefix
            found = await self._expanded(collection, body, (prefix,), body.size)
            shown = [{"text": term, "documents": count} for term, count in found[0]]
            return _json(orjson.dumps({"completions": shown}))
        assert body.text is not None, "text or prefix"
        analyzer = self._rules(collection.table).field(body.field).search_analyzer
        if analyzer.name in _OF_WORDS:  # what is searched for may be parts of words: nobody misspells those
            found_words = standard_terms(body.text)
        else:
            found_words = [token.term for token in analyzer.query_tokens(body.text)]
        words = list(dict.fromkeys(found_words))[:WORDS_MAX]
        known = await self._expanded(collection, body, tuple(word[:1] for word in words), CANDIDATES_MAX)
        listed = []
        for word, terms in zip(words, known, strict=True):
            near = [{"text": term, "documents": n} for term, n in spellings(word, terms, body.size)]
            listed.append({"word": word, "options": near})
        return _json(orjson.dumps({"suggestions": listed}))

    async def _expanded(
        self, collection: Collection, body: SuggestBody, prefixes: tuple[str, ...], limit: int
    ) -> tuple[tuple[tuple[str, int], ...], ...]:
        self._rules(collection.table)
        if not prefixes:
            return ()
        level = Level.QUORUM if body.fresh else Level.ONE
        request = ExpandRequest(
            collection.table, body.field, body.view, prefixes, limit, level, fresh=body.fresh
        )
        answer = await self._bridge.ask(request, self._timeout_us(0))
        if not isinstance(answer, ExpandAnswer):
            raise problem_of(answer)
        return answer.terms

    async def _explain(self, collection: Collection, given: Any) -> web.Response:
        document_id = given.pop("id", None) if isinstance(given, dict) else None
        if not isinstance(document_id, str) or not document_id:
            raise ProblemError("bad-body", 'a body is {"id": "...", "query": {...}} or {"id", "q"}')
        body = self._parsed(given)
        only = Bool(filter=(DocumentIds((document_id,)),), should=(body.query,))
        collections = {collection.table: collection}
        answer = await self._ask(replace(body, query=only, size=1, source=True), collections)
        if not answer.hits:
            raise ProblemError("no-such-document", f"there is no document {document_id[:100]!r}")
        hit, searched = answer.hits[0], answer.tables[0]
        text = Shown(body, answer, collections, self._rules, self._name_of).text_of(hit)
        held = Held(hit.key, parse(text), self._rules(hit.table))
        reason = explain(searched.query.should[0], searched.statistics, held)
        return _json(orjson.dumps({"_id": document_id, "matched": reason["matches"], "explanation": reason}))


def _questions(body: SearchBody) -> list[SearchBody]:
    """What the cluster is asked for one body: hits, with aggregations of the same documents; aggregations of
    what `post_filter` does not narrow; and those of all documents.
    """
    local, beyond = body.locals, body.globals
    counting = replace(body, post=None, size=0, offset=0, sort=(), after=None, source=False)
    counting = replace(counting, highlight=None, explain=False)
    if body.post is None or not local:
        found = [replace(body, aggregations=local)]
    else:
        found = [replace(body, aggregations=()), replace(counting, aggregations=local)]
    if beyond:
        found.append(replace(counting, query=All(), ids=(), aggregations=beyond))
    return found


def body_of_query(query: str) -> dict[str, Any]:
    """The body that a query's parameters mean; a ProblemError for one that is unknown, or there twice."""
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=50
        )
    except ValueError as error:
        raise ProblemError("bad-query", f"the query is malformed: {error}") from None
    for name, value in pairs:
        if name in found:
            raise ProblemError("bad-query", f"the parameter {name[:60]} is there twice")
        if name in _FLAGS:
            if value not in ("true", "false", ""):
                raise ProblemError("bad-query", f"{name} is true or false; found {value[:60]!r}")
            found[name] = value != "false"
        elif name in _NUMBERS:
            found[name] = number(name, value, "bad-query")
        elif name in _LISTS:
            found[name] = _listed(name, value)
        elif name == "highlight":
            found[name] = {"fields": {field: {} for field in value.split(",")}}
        elif name in _TEXTS:
            found[name] = value
        else:
            known = ", ".join((*_TEXTS, *_NUMBERS, *_FLAGS, *_LISTS, "highlight"))
            raise ProblemError("bad-query", f"unknown parameter {name[:60]!r}; there are: {known}")
    return found


def _listed(name: str, value: str) -> Any:
    if name == "_source" and value in ("true", "false"):
        return value == "true"
    return [each for each in value.split(",") if each][: PARTITIONS_MAX + 1]


def _refused(error: QueryError, kind: str = "bad-query") -> ProblemError:
    members: dict[str, Any] = {"path": error.path} if error.path else {}
    if error.position >= 0:
        members["position"] = error.position
    return ProblemError(kind, error.told(), **members)


def _askable(value: Any, depth: int = 0) -> Any:
    """The value with numbers as searches take them: whole ones that messages do not hold as text (which the
    number of a field is compared with exactly), fractions as floats. What is too deep to be a search stays.

    Raises JsonError for a number beyond all floats.
    """
    if depth > DEPTH_MAX:
        return value
    if isinstance(value, dict):
        return {name: _askable(member, depth + 1) for name, member in value.items()}
    if isinstance(value, list):
        return [_askable(member, depth + 1) for member in value]
    if type(value) is int:
        return value if -INT_END <= value < 2 * INT_END else str(value)
    if not isinstance(value, Decimal):
        return value
    if math.isinf(number := float(value)):
        raise JsonError("malformed", f"{value} is too large a number to search for")
    return number


def _json(data: bytes) -> web.Response:
    return web.Response(body=data, headers={"Server": "sullae", "Content-Type": "application/json"})
