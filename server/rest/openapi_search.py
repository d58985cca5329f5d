"""The part of the API's description that is about search."""

from __future__ import annotations

from typing import Any

from index.aggregation_dsl import AGGREGATIONS
from index.body_members import ONLY_FALSE, WITHOUT_EFFECT
from index.bounds import WINDOW_MAX
from index.query_dsl import QUERIES
from server.rest.openapi_parts import FILLED, TEXT, answer, content, parameter, problems, refs
from server.rest.targets import TIMEOUT_MS_MAX

ABOUT = f"""
Every collection is searched, without declaring anything: strings as text and as keywords (`name.keyword`),
numbers, dates and booleans by value. A search finds every write that was acknowledged before it began, on any
peer; `refresh=false` trades that for speed: it may miss those of the last second or so. Words weigh what they
weigh in the whole cluster, and ties break by key, so one query has one order wherever it is asked. A document
of which a value is just what was asked for, word by word (a name, a title), scores more than one that only
mentions it.

The query string is
`title:space -horror "exact phrase"~2 year:[1990 TO 2000] fuzzy~1 pre* /reg.x/ (a OR b)^2`; bodies are those
of Elasticsearch's query DSL. Pages beyond {WINDOW_MAX} hits go on by `search_after`, with the
`next` of the page before. An answer is whole, or an error: only with `allow_partial` one that is not, and
then it says so (`timed_out`, `partial`).
"""

_JSON = "application/json"
_OBJECT = {"type": "object"}
_BOOLEAN = {"type": "boolean"}
_SIZE = {"type": "integer", "minimum": 0, "maximum": WINDOW_MAX}
_REFUSED = (
    "bad-query",
    "bad-cursor",
    "no-such-collection",
    "timeout",
    "unavailable",
    "overloaded",
    "not-ready",
)

PARAMETERS = {
    "collections": parameter("collections", "path", "Names with commas between them; `*` is any text.", TEXT),
    "q": parameter("q", "query", "The query string; without it, every document.", TEXT),
    "search_size": parameter("size", "query", "Hits at most.", {**_SIZE, "default": 10}),
    "search_from": parameter("from", "query", "Hits to pass over.", {**_SIZE, "default": 0}),
    "search_sort": parameter("sort", "query", "Fields with commas between them; `-year` descends.", TEXT),
    "search_after": parameter("search_after", "query", "The `next` of the page before.", TEXT),
    "search_fields": parameter("fields", "query", "Where words are searched: `title^2,plot`.", TEXT),
    "default_operator": parameter(
        "default_operator",
        "query",
        "Between words.",
        {"type": "string", "enum": ["or", "and"], "default": "or"},
    ),
    "lenient": parameter("lenient", "query", "Forgive errors of the query string.", _BOOLEAN),
    "highlight": parameter("highlight", "query", "Fields in which to mark what matched.", FILLED),
    "source": parameter("_source", "query", "Fields of documents to show; true or false.", TEXT),
    "search_ids": parameter("ids", "query", "Only these documents: only their replicas are asked.", TEXT),
    "explain": parameter("explain", "query", "Say how each score comes about.", _BOOLEAN),
    "refresh": parameter(
        "refresh",
        "query",
        "false: what indexes hold, without waiting for them.",
        {**_BOOLEAN, "default": True},
    ),
    "allow_partial": parameter(
        "allow_partial", "query", "An answer that lacks ranges nobody served is better than none.", _BOOLEAN
    ),
}


def _found(description: str, name: str) -> dict[str, Any]:
    return {"200": answer(description, content(_JSON, {"$ref": f"#/components/schemas/{name}"}))}


def _operation(name: str, summary: str, description: str, shapes: tuple[str, str]) -> dict[str, Any]:
    body, told = shapes
    return {
        "parameters": refs("collection"),
        "post": {
            "operationId": name,
            "summary": summary,
            "description": description,
            "requestBody": {
                "required": True,
                "content": content(_JSON, {"$ref": f"#/components/schemas/{body}"}),
            },
            "responses": {**_found("What came of it.", told), **problems(*_REFUSED, "bad-body")},
        },
    }


def _others() -> dict[str, Any]:
    return {
        "/v1/search/{collections}/_search": {
            "parameters": refs("collections"),
            "post": {
                "operationId": "searchAsElsewhere",
                "summary": "The same as without _search",
                "requestBody": {"content": content(_JSON, {"$ref": "#/components/schemas/SearchBody"})},
                "responses": {**_found("Hits, best first.", "Hits"), **problems(*_REFUSED, "bad-body")},
            },
        },
        "/v1/search/{collections}/_count": {
            "parameters": refs("collections"),
            "get": {
                "operationId": "countByText",
                "summary": "How many documents a query string finds",
                "parameters": refs("q", "default_operator", "lenient", "refresh", "allow_partial"),
                "responses": {**_found("The count.", "SearchCount"), **problems(*_REFUSED)},
            },
            "post": {
                "operationId": "countMatches",
                "summary": "How many documents a query finds",
                "requestBody": {"content": content(_JSON, _OBJECT)},
                "responses": {**_found("The count.", "SearchCount"), **problems(*_REFUSED, "bad-body")},
            },
        },
        "/v1/search/_msearch": {
            "post": {
                "operationId": "searchSeveral",
                "summary": "Several searches, one after the other",
                "description": (
                    'Two lines for each: `{"index": "movies"}`, or a list of collections, and the body of a '
                    "search. `responses` has an answer or a problem for each, in their order."
                ),
                "requestBody": {"required": True, "content": content("application/x-ndjson", _OBJECT)},
                "responses": {**_found("The answers.", "SeveralHits"), **problems("bad-query", "bad-body")},
            },
        },
    }


def paths() -> dict[str, Any]:
    """What there is, by path."""
    return {
        "/v1/search/{collections}": {
            "parameters": refs("collections"),
            "get": {
                "operationId": "searchByText",
                "summary": "Find documents by a query string",
                "parameters": refs(*[name for name in PARAMETERS if name != "collections"])
                + refs("consistency", "timeout_ms"),
                "responses": {**_found("Hits, best first.", "Hits"), **problems(*_REFUSED)},
            },
            "post": {
                "operationId": "search",
                "summary": "Find documents by a query in JSON",
                "description": (
                    f"The body has what the GET has as parameters, and `query` ({', '.join(QUERIES)}), "
                    f"`aggs` ({', '.join(AGGREGATIONS)}, within each other), `post_filter`, `highlight` "
                    "and `search_after`. What is not known is refused, with its path."
                ),
                "requestBody": {"content": content(_JSON, {"$ref": "#/components/schemas/SearchBody"})},
                "responses": {**_found("Hits, best first.", "Hits"), **problems(*_REFUSED, "bad-body")},
            },
        },
        **_others(),
        "/v1/search/{collection}/_analyze": _operation(
            "analyze",
            "What an analyzer makes of a text",
            'The body is `{"text", "analyzer"}` or `{"text", "field"}`, `"search": true`: as searches do. '
            "Each token has `token`, `start_offset`, `end_offset` (characters), `type` and `position`.",
            ("Analyzed", "Tokens"),
        ),
        "/v1/search/{collection}/_suggest": _operation(
            "suggest",
            "Other spellings of words, or how a word goes on",
            'The body is `{"text", "field"}` or `{"prefix", "field"}`, and perhaps `size`, and '
            '`"refresh": true` to see what was written a moment ago. Of a text the answer has `suggestions`, '
            "per word its `options`, the likeliest first; of a prefix `completions`; each with its number of "
            "`documents`.",
            ("SuggestBody", "Suggestions"),
        ),
        "/v1/search/{collection}/_explain": _operation(
            "explainScore",
            "Why a document has its score",
            "The body is that of a search, with the document's `id`.",
            ("ExplainBody", "Explanation"),
        ),
    }


def schemas() -> dict[str, Any]:
    """The shapes of bodies."""
    number = {"type": ["number", "null"]}
    listed = {"type": "array", "items": _OBJECT}
    hit = {"_index": TEXT, "_id": TEXT, "_score": number, "_source": {}, "sort": {"type": "array"}}
    hit |= {"fields": _OBJECT, "matched_queries": {"type": "array", "items": TEXT}}
    total = {"type": "object", "properties": {"value": {"type": "integer"}, "relation": TEXT}}
    hits = {"type": "array", "items": {"type": "object", "properties": {**hit, "highlight": _OBJECT}}}
    found = {
        "took": {"type": "integer", "description": "Milliseconds."},
        "took_us": {"type": "integer"},
        "timed_out": _BOOLEAN,
        "hits": {"type": "object", "properties": {"total": total, "max_score": number, "hits": hits}},
        "aggregations": _OBJECT,
        "suggest": _OBJECT,
        "next": TEXT,
        "peers": {"type": "array", "items": TEXT},
        "partial": _OBJECT,
        "warnings": listed,
    }
    asked = {
        "query": _OBJECT,
        "q": TEXT,
        "size": _SIZE,
        "from": _SIZE,
        "sort": {},
        "search_after": {},
        "min_score": {"type": "number", "minimum": 0},
        "default_operator": {"enum": ["or", "and"]},
        "lenient": _BOOLEAN,
        "fields": {"type": "array", "description": "Where q is searched; without q, fields to show."},
        "aggs": _OBJECT,
        "aggregations": _OBJECT,
        "post_filter": _OBJECT,
        "suggest": {**_OBJECT, "description": "By name: `text` with `term`, or `prefix` with `completion`."},
        "collapse": {**_OBJECT, "description": 'One hit per value: `{"field": "author"}`.'},
        "highlight": _OBJECT,
        "track_total_hits": {},
        **{name: {"enum": [False]} for name in ONLY_FALSE},
        **{name: {"description": "Changes nothing."} for name in WITHOUT_EFFECT},
        "timeout": TEXT,
        "_source": {},
        "explain": _BOOLEAN,
        "refresh": _BOOLEAN,
        "allow_partial": _BOOLEAN,
        "ids": {"type": "array", "items": TEXT},
        "consistency": TEXT,
        "timeout_ms": {"type": "integer", "minimum": 1, "maximum": TIMEOUT_MS_MAX},
    }
    return {
        "SearchBody": {"type": "object", "properties": asked},
        "SearchCount": {"type": "object", "properties": {"count": {"type": "integer"}}},
        "SeveralHits": {"type": "object", "properties": {"took": {"type": "integer"}, "responses": listed}},
        "Hits": {"type": "object", "properties": found},
        "Tokens": {"type": "object", "properties": {"analyzer": TEXT, "tokens": listed}},
        "Suggestions": {"type": "object", "properties": {"suggestions": listed, "completions": listed}},
        "Explanation": {
            "type": "object",
            "properties": {"_id": TEXT, "matched": _BOOLEAN, "explanation": _OBJECT},
        },
        **_smaller_bodies(asked),
    }


def _smaller_bodies(asked: dict[str, Any]) -> dict[str, Any]:
    """The bodies of what is about words; `asked` are the members of a search."""
    analyzed = {"text": TEXT, "analyzer": {"type": ["string", "null"]}, "field": FILLED, "search": _BOOLEAN}
    begun: dict[str, Any] = {"field": FILLED, "size": {"type": "integer", "minimum": 1}, "refresh": _BOOLEAN}
    return {
        "ExplainBody": {
            "type": "object",
            "properties": {"id": FILLED, **asked},
            "required": ["id"],
            "anyOf": [{"required": ["query"]}, {"required": ["q"]}],
        },
        "Analyzed": {
            "type": "object",
            "properties": analyzed,
            "required": ["text"],
            "additionalProperties": False,
        },
        "SuggestBody": {
            "type": "object",
            "properties": {"text": FILLED, "prefix": FILLED, **begun},
            "oneOf": [{"required": ["text"]}, {"required": ["prefix"]}],
        },
    }
