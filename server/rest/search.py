"""Search over REST.

    GET  /v1/search/{collections}?q=...          the query string, and a few options
    POST /v1/search/{collections}                 a body in Elasticsearch's words (index/search_body.py)
    POST /v1/search/{collection}/_analyze         what an analyzer makes of a text
    POST /v1/search/{collection}/_suggest         other spellings, completions
    POST /v1/search/{collection}/_explain         why a document has its score, or does not match
    ...  /v1/search/{collections}/_search         as without it
    ...  /v1/search/{collections}/_count          how many documents match
    POST /v1/search/_msearch                      several searches, as lines

Several collections are named with commas between them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
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
from index.body_members import WITHOUT_EFFECT
from index.bounds import TEXT_CHARS_MAX, QueryError, RefusedError
from index.explaining import explain
from index.fields import INT_END
from index.finishing import with_meta
from index.globs import fits, parts_of
from index.judging import Held
from index.mapping import Rules
from index.query import ALL, TEXT, All, Bool, DocumentIds
from index.search_body import PARTITIONS_MAX, SearchBody, parse_body, resolve_after
from index.suggesting import (
    CANDIDATES_MAX,
    WORDS_MAX,
    SuggestBody,
    Suggestion,
    parse_suggest,
    spellings,
)
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body
from server.rest.collections import Collections
from server.rest.problems import ProblemError, not_allowed, problem_of
from server.rest.search_hits import collapsed, counting, matched_queries
from server.rest.search_shown import Shown
from server.rest.search_suggestions import suggested
from server.rest.targets import decoded, number, options

SEARCH: Final = "/v1/search/"
BODY_BYTES_MAX: Final = 1 * limits.MIB
COLLECTIONS_MAX: Final = 100
SEARCHES_MAX: Final = 100
"""Searches of one request, done one after the other."""
TEXTS_APART: Final = 101
DEPTH_MAX: Final = 300
"""Levels of a body that are looked at for numbers; what is deeper than a search may be is refused later."""
_OF_WORDS: Final = ("standard", "korean")
"""Analyzers whose indexes hold whole words beside their parts."""
_FLAGS: Final = ("lenient", "explain", "refresh", "allow_partial")
_NUMBERS: Final = ("size", "from", "timeout_ms")
_LISTS: Final = ("fields", "sort", "_source", "ids")
_OF_COUNTS: Final = (
    *("query", "q", "default_operator", "lenient", "fields", "min_score", "ids"),
    *("consistency", "timeout", "timeout_ms", "refresh", "allow_partial"),
)
_OF_HEADS: Final = ("index", "search_type", "preference", "request_cache", "ignore_unavailable")
_OF_SOURCE: Final = ("_source_includes", "_source_excludes")
_WITHOUT_EFFECT: Final = (*WITHOUT_EFFECT, "track_total_hits", "analyze_wildcard")
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
        _, _, operation = path[len(SEARCH) :].partition("/")
        return "search" if operation in ("", "_search") else "search_operation"

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """Answer a request for a path that this takes."""
        raw_names, _, operation = path[len(SEARCH) :].partition("/")
        act = {"_analyze": self._analyze, "_suggest": self._suggest, "_explain": self._explain}.get(operation)
        many = "_msearch" in (raw_names, operation) and operation in ("", "_msearch")
        if act is None and not many and operation not in ("", "_search", "_count"):
            raise ProblemError(
                "not-found", "there are _search, _count, _msearch, _analyze, _explain and _suggest"
            )
        if (act is not None or many) and request.method != "POST":
            raise not_allowed("POST")
        if many:
            options(query, ())
            return await self._many(decoded(raw_names) if operation else "", request)
        if request.method in {"GET", "HEAD"}:
            given = body_of_query(query)
        elif request.method == "POST":
            options(query, ())
            given = await self._body(request)
        else:
            raise not_allowed("GET, HEAD, POST")
        names = decoded(raw_names)
        if act is not None:
            return await act(self._collections.known(names), given)
        return _json(await (self._counted if operation == "_count" else self._searched)(names, given))

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
        return Shown(planned.body, answer, planned.collections, self._rules, self._name_of).json(took_us, {})

    def _named(self, names: str) -> dict[int, Collection]:
        listed = list(dict.fromkeys(one for name in names.split(",") for one in self._meant(name)))
        if len(listed) > COLLECTIONS_MAX:
            raise ProblemError("bad-query", f"at most {COLLECTIONS_MAX} collections are searched at once")
        return {known.table: known for known in map(self._collections.known, listed)}

    def _meant(self, name: str) -> list[str]:
        """The collections that a name means, in which `*` is any text; `_all` are all."""
        if "*" not in name and name != "_all":
            return [name]
        parts = parts_of("*" if name == "_all" else name, plain=True)
        found = [one.name for one in self._collections.every() if fits(parts, one.name)]
        if not found:
            raise ProblemError("no-such-collection", f"there is no collection {name[:60]}")
        return found

    async def _searched(self, names: str, given: Any) -> bytes:
        begun_ns = time.perf_counter_ns()
        collections = self._named(names)
        body = self._parsed(given)

        def ask(one: SearchBody) -> Awaitable[SearchAnswer]:
            return self._ask(one, collections)

        hits, *others = _questions(body)
        first = collapsed(ask, hits) if body.collapse else ask(hits)
        answers = await asyncio.gather(first, *map(ask, others))
        shown = Shown(body, answers[0], collections, self._rules, self._name_of)
        if body.named:
            shown.matched = await matched_queries(ask, body, answers[0])
        took_us = (time.perf_counter_ns() - begun_ns) // 1_000
        aggregating = answers[1:] if body.collapse else answers
        aggregated = [Shown(body, each, collections, self._rules, self._name_of) for each in aggregating]
        try:
            found = dict(one for each in aggregated for one in each.aggregations())
            shown.suggested = {
                one.name: await self._suggested(one, collections) for one in body.suggestions
            }
            with_meta(given.get("aggs", given.get("aggregations")) or {}, found)
            return shown.json(took_us, found)
        except RefusedError as refused:
            raise _refused(refused.error) from None

    async def _counted(self, names: str, given: Any) -> bytes:
        """How many documents match; of the members of a body those that say which."""
        collections = self._named(names)
        if not isinstance(given, dict):
            raise ProblemError("bad-body", 'a body is {"query": {...}}')
        for name in given:
            if name not in _OF_COUNTS:
                detail = f"a count has no {str(name)[:60]!r}; there are: {', '.join(_OF_COUNTS)}"
                raise ProblemError("bad-query", detail)
        body = replace(self._parsed(given), size=0, source=False)
        return orjson.dumps({"count": (await self._ask(body, collections)).total})

    async def _many(self, names: str, request: web.BaseRequest) -> web.Response:
        """Searches as lines: what is searched, then the body, and so on."""
        begun_ns = time.perf_counter_ns()
        data = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
        lines = [line for line in data.split(b"\n") if line.strip()]
        if not lines or len(lines) % 2 or len(lines) > 2 * SEARCHES_MAX:
            detail = f'1 to {SEARCHES_MAX} searches, each as two lines: {{"index": "..."}} and a body'
            raise ProblemError("bad-body", detail)
        found: list[bytes] = []
        for at in range(0, len(lines), 2):
            try:
                listed = _collections_of(_line(lines[at]), names)
                found.append(await self._searched(listed, _line(lines[at + 1])))
            except ProblemError as problem:
                found.append(orjson.dumps(problem.body()))
        took_us = (time.perf_counter_ns() - begun_ns) // 1_000
        told = b'{"took":%d,"took_us":%d,"responses":[%s]}' % (took_us // 1_000, took_us, b",".join(found))
        return _json(told)

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
        needs_rows = needs_rows or bool(body.shown)
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
        texts = given.get("text") if isinstance(given, dict) else None
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts):
            raise ProblemError(
                "bad-body", 'a body is {"text": "...", "analyzer": "..."} or {"text", "field"}'
            )
        unknown = [name for name in given if name not in ("text", "analyzer", "field", "search")]
        field, name = given.get("field", ALL), given.get("analyzer")
        if unknown or sum(map(len, texts)) > TEXT_CHARS_MAX or not isinstance(field, str):
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
        shown: list[dict[str, Any]] = []
        start, position = 0, 0
        for text in texts:  # several are as the values of an array: far apart
            tokens = analyzer.query_tokens(text) if is_search else analyzer.tokens(text)
            shown += [
                {
                    "token": token.term,
                    "start_offset": start + token.start,
                    "end_offset": start + token.end,
                    "type": token_type(token.term),
                    "position": position + token.position,
                }
                for token in tokens
            ]
            start, position = (
                start + len(text) + 1,
                position + TEXTS_APART + max((token.position for token in tokens), default=0),
            )
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

    async def _suggested(self, one: Suggestion, collections: dict[int, Collection]) -> list[dict[str, Any]]:
        async def expand(
            asked: Suggestion, prefixes: tuple[str, ...], limit: int
        ) -> list[tuple[tuple[str, int], ...]]:
            body = SuggestBody(asked.field, asked.view, None, None, limit, fresh=True)
            lists = [await self._expanded(each, body, prefixes, limit) for each in collections.values()]
            merged: list[tuple[tuple[str, int], ...]] = []
            for terms in zip(*lists, strict=True):
                counts: dict[str, int] = {}
                for term, count in (pair for each in terms for pair in each):
                    counts[term] = counts.get(term, 0) + count
                ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
                merged.append(tuple(ordered[:limit]))
            return merged

        rules = self._rules(next(iter(collections)))
        analyzer = rules.field(one.field).search_analyzer
        if analyzer.name in _OF_WORDS:
            whole_words = rules.analyzer("standard")
            analyzer = analyzer if isinstance(whole_words, AnalyzerFault) else whole_words
        return await suggested(one, analyzer.query_tokens(one.text), expand)

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
    if not local or (body.post is None and not body.collapse):
        found = [replace(body, aggregations=local)]
    else:
        found = [replace(body, aggregations=()), replace(counting(body), aggregations=local)]
    if beyond:
        found.append(replace(counting(body), query=All(), ids=(), aggregations=beyond))
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
        elif name == "df":
            found.setdefault("fields", [value])
        elif name in _OF_SOURCE:
            others = found.get("_source")
            shown = others if isinstance(others, dict) else {}
            found["_source"] = {**shown, name.removeprefix("_source_"): _listed(name, value)}
        elif name not in _WITHOUT_EFFECT:
            known = ", ".join((*_TEXTS, *_NUMBERS, *_FLAGS, *_LISTS, *_OF_SOURCE, "highlight", "df"))
            raise ProblemError("bad-query", f"unknown parameter {name[:60]!r}; there are: {known}")
    return found


def _line(data: bytes) -> Any:
    try:
        return _askable(checked(data, BODY_BYTES_MAX))
    except JsonError as error:
        raise ProblemError("bad-body", f"this line is no JSON: {error}") from None


def _collections_of(head: Any, names: str) -> str:
    """What the line before a search says: its collections, or those of the path."""
    index = head.get("index", names) if isinstance(head, dict) else None
    listed = ",".join(index) if isinstance(index, list) and all(isinstance(n, str) for n in index) else index
    unknown = [name for name in head if name not in _OF_HEADS] if isinstance(head, dict) else []
    if not isinstance(listed, str) or not listed or unknown:
        raise ProblemError("bad-body", 'the line before a search is {"index": "..."}, or {} for the path\'s')
    return listed


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
