"""Queries as JSON, in the words of Elasticsearch's query DSL: `{"bool": {"must": [{"match": {"title":
"space"}}]}}`.

A reader per kind of query takes its body and its path; a path (`query.bool.must[0].match`) is in every error.
What is not known is an error, never ignored: a misspelt option that does nothing is the worst answer. Depth
and clauses are bounded before anything else looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from index.bounds import (
    DEPTH_MAX,
    TERMS_MAX,
    TEXT_CHARS_MAX,
    QueryError,
    RefusedError,
    check_size,
)
from index.function_dsl import read_function_score
from index.options import Body, check_field, check_value
from index.query import (
    ALL,
    All,
    AnyOf,
    AtLeast,
    Bool,
    Boosting,
    Compare,
    Constant,
    DisMax,
    DocumentIds,
    Equals,
    Exists,
    Match,
    MatchPhrase,
    MoreLike,
    Nested,
    Nothing,
    Pattern,
    Query,
    Value,
)
from index.query_string import SLOP_MAX, Options, parse_query_string
from index.regexes import FLAGS as REGEX_FLAGS, term_regex
from index.simple_query_string import FLAGS as SIMPLE_FLAGS, parse_simple

_PLACES: Final = "there is no search by place"
_JOINS: Final = "there are no joins: keep what belongs together in one document, and ask nested"
_VECTORS: Final = "there is no search by vectors"
REFUSED: Final = {
    "span": "use match_phrase with slop",
    "intervals": "use match_phrase with slop",
    "terms_set": "use bool with should and minimum_should_match",
    "pinned": "use bool with should: ids with a boost, and the query",
    "distance_feature": "use function_score with gauss, exp or linear",
    "rank_feature": "use function_score with field_value_factor",
    "wrapper": "write the query itself",
    "percolate": "search when documents come: the change stream tells of them",
    "has_child": _JOINS,
    "has_parent": _JOINS,
    "parent_id": _JOINS,
    "geo": _PLACES,
    "shape": _PLACES,
    "knn": _VECTORS,
    "sparse_vector": _VECTORS,
    "semantic": _VECTORS,
    "common": "use match",
    "type": "name the collection in the path",
}
"""Queries that are not there, and what to do instead."""

KINDS: Final = ("best_fields", "most_fields", "cross_fields", "phrase", "phrase_prefix", "bool_prefix")


def parse_query(body: Any, path: str = "query") -> Query | QueryError:
    """The query that this JSON (decoded) means, or what is wrong with it and where."""
    try:
        query = read_query(body, path, 0)
        check_size(query)
    except RefusedError as refused:
        return refused.error
    return query


def read_query(body: Any, path: str, depth: int) -> Query:
    """As parse_query, inside another; raises RefusedError."""
    if depth > DEPTH_MAX:
        raise RefusedError(f"queries are nested more than {DEPTH_MAX} deep", path[:200])
    if not isinstance(body, dict) or len(body) != 1:
        raise RefusedError('a query is an object with one member, such as {"match": {...}}', path)
    ((kind, inner),) = body.items()
    kind = str(kind)
    reader = _script if kind in ("script_score", "script") else _READERS.get(kind)
    if reader is None:
        why = REFUSED.get(kind.partition("_")[0] if kind.startswith(("span_", "geo_")) else kind)
        if why is not None:
            raise RefusedError(f"the query {kind[:40]} is not supported: {why}", path)
    if reader is None:
        raise RefusedError(f"there is no query {kind[:40]!r}; there are: {', '.join(_READERS)}", path)
    options = Body(inner, f"{path}.{kind}", depth)
    return reader(options)


def _queries(body: Body, name: str) -> tuple[Query, ...]:
    """An option that is a query or a list of them."""
    value = body.take(name, ())
    if isinstance(value, dict):
        return (read_query(value, f"{body.path}.{name}", body.depth + 1),)
    if not isinstance(value, list | tuple):
        raise RefusedError(f"{name} is a query or a list of queries", body.path)
    return tuple(read_query(each, f"{body.path}.{name}[{i}]", body.depth + 1) for i, each in enumerate(value))


def _query(body: Body, name: str) -> Query:
    """An option that is one query."""
    return read_query(body.need(name), f"{body.path}.{name}", body.depth + 1)


# --- full text


def _match(body: Body) -> Query:
    field, options = body.field("query")
    query = Match(
        field,
        options.text("query", needed=True),
        options.one_of("operator", ("or", "and"), "or"),
        options.minimum(),
        options.fuzziness(),
        options.integer("prefix_length", 0, 0, 100),
        options.text("analyzer"),
        transpositions=options.boolean("fuzzy_transpositions", True),
        zero_terms=options.zero_terms(),
    )
    options.without_effect(*_OF_EXECUTION)
    return options.done(query)


_OF_EXECUTION: Final = ("lenient", "max_expansions", "fuzzy_rewrite", "auto_generate_synonyms_phrase_query")


def _match_bool_prefix(body: Body) -> Query:
    field, options = body.field("query")
    text = options.text("query", needed=True)
    query = Match(
        field,
        text,
        options.one_of("operator", ("or", "and"), "or"),
        options.minimum(),
        options.fuzziness(),
        options.integer("prefix_length", 0, 0, 100),
        options.text("analyzer"),
        prefix=True,
        transpositions=options.boolean("fuzzy_transpositions", True),
    )
    options.without_effect(*_OF_EXECUTION)
    return options.done(query)


def _match_phrase(body: Body) -> Query:
    return _phrase(body, is_prefix=False)


def _match_phrase_prefix(body: Body) -> Query:
    return _phrase(body, is_prefix=True)


def _phrase(body: Body, is_prefix: bool) -> Query:
    field, options = body.field("query")
    text = options.text("query", needed=True)
    slop = options.integer("slop", 0, 0, SLOP_MAX)
    if is_prefix:
        options.without_effect("max_expansions")
    zero_terms = options.zero_terms()
    return options.done(MatchPhrase(field, text, slop, is_prefix, options.text("analyzer"), zero_terms))


def _multi_match(body: Body) -> Query:
    fields = body.fields() or ((ALL, 1.0),)
    body.without_effect(*_OF_EXECUTION)
    return body.done(
        AnyOf(
            fields,
            body.text("query", needed=True),
            body.one_of("type", KINDS, "best_fields"),
            body.one_of("operator", ("or", "and"), "or"),
            body.minimum(),
            body.fuzziness(),
            body.integer("prefix_length", 0, 0, 100),
            body.integer("slop", 0, 0, SLOP_MAX),
            body.number("tie_breaker", -1.0, -1.0, 1.0),
            body.text("analyzer"),
            body.boolean("fuzzy_transpositions", True),
            body.zero_terms(),
        )
    )


def _combined_fields(body: Body) -> Query:
    fields = body.fields()
    if not fields:
        raise RefusedError("fields is missing", body.path)
    operator, minimum = body.one_of("operator", ("or", "and"), "or"), body.minimum()
    body.without_effect("auto_generate_synonyms_phrase_query")
    text, zero = body.text("query", needed=True), body.zero_terms()
    return body.done(AnyOf(fields, text, "cross_fields", operator, minimum, zero_terms=zero))


def _string_options(body: Body, lenient: bool) -> Options:
    default = body.take("default_field")
    fields = body.fields() or ((check_field(default or ALL, body.path), 1.0),)
    operator = body.one_of("default_operator", ("or", "and"), "or")
    analyzer, minimum = body.text("analyzer"), body.minimum()
    return Options(fields, operator, lenient, analyzer, minimum=minimum)


_OF_STRINGS: Final = ("analyze_wildcard", "fuzzy_max_expansions", "enable_position_increments")


def _query_string(body: Body) -> Query:
    lenient = body.boolean("lenient", False)
    options = _string_options(body, lenient)
    kind = body.one_of("type", KINDS, "best_fields")
    slop, zone = body.integer("phrase_slop", 0, 0, SLOP_MAX), body.zone()
    body.without_effect(*_OF_EXECUTION, *_OF_STRINGS, "max_determinized_states", "rewrite")
    body.only(False, "escape")
    tie = body.number("tie_breaker", -1.0, -1.0, 1.0)
    text = body.text("query", needed=True)
    parsed = parse_query_string(
        text,
        Options(
            options.fields,
            options.operator,
            lenient,
            options.analyzer,
            slop,
            body.fuzziness("AUTO"),
            body.integer("fuzzy_prefix_length", 0, 0, 100),
            minimum=options.minimum,
            zone=zone,
            leading_wildcard=body.boolean("allow_leading_wildcard", True),
            transpositions=body.boolean("fuzzy_transpositions", True),
            kind=kind,
            tie_breaker=tie,
        ),
    )
    if isinstance(parsed, QueryError):
        raise RefusedError(parsed.detail, f"{body.path}.query", parsed.position)
    return body.done(parsed.query)


def _simple_query_string(body: Body) -> Query:
    options = _string_options(body, lenient=True)
    body.without_effect(*_OF_EXECUTION, *_OF_STRINGS)
    options = replace(
        options,
        flags=body.flags(SIMPLE_FLAGS),
        prefix_length=body.integer("fuzzy_prefix_length", 0, 0, 100),
        transpositions=body.boolean("fuzzy_transpositions", True),
    )
    return body.done(parse_simple(body.text("query", needed=True), options))


def _more_like_this(body: Body) -> Query:
    fields = tuple(name for name, _ in body.fields()) or (ALL,)
    liked = body.need("like")
    texts: list[str] = []
    ids: list[str] = []
    for i, each in enumerate(liked if isinstance(liked, list) else [liked]):
        if isinstance(each, str) and len(each) <= TEXT_CHARS_MAX:
            texts.append(each)
        elif isinstance(each, dict) and isinstance(each.get("_id"), str) and each.keys() <= {"_id", "_index"}:
            ids.append(each["_id"])
        else:
            raise RefusedError('like is text or {"_id": "..."}, or a list of those', f"{body.path}.like[{i}]")
    if len(texts) + len(ids) > 100:
        raise RefusedError("like has at most 100 texts and documents", body.path)
    return body.done(
        MoreLike(
            fields,
            tuple(texts),
            tuple(ids),
            body.integer("max_query_terms", 25, 1, 100),
            body.integer("min_term_freq", 2, 1, 1_000_000),
            body.integer("min_doc_freq", 5, 1, 2**31 - 1),
            body.integer("min_word_length", 0, 0, 1000),
            body.minimum() or "30%",
            body.boolean("include", False),
            body.integer("max_doc_freq", 0, 0, 2**31 - 1),
            body.integer("max_word_length", 0, 0, 1000),
            _texts(body, "stop_words"),
            _texts(body, "unlike"),
        )
    )


def _texts(body: Body, name: str) -> tuple[str, ...]:
    value = body.take(name, [])
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > 1_000 or not all(isinstance(one, str) for one in listed):
        raise RefusedError(f"{name} is text, or a list of at most 1000 texts", body.path)
    return tuple(listed)


# --- terms


def _term(body: Body) -> Query:
    field, options = body.field("value")
    ignore_case = options.boolean("case_insensitive", False)
    value = check_value(options.need("value"), options.path)
    if ignore_case and isinstance(value, str):
        escaped = "".join("\\" + c if c in "*?\\" else c for c in value)
        return options.done(Pattern(field, "wildcard", escaped, ignore_case=True))
    return options.done(Equals(field, (value,)))


def _terms(body: Body) -> Query:
    given = body.object()
    names = [name for name in given if name not in ("boost", "_name")]
    if len(names) != 1:
        raise RefusedError("exactly one field is named here", body.path)
    field = check_field(names[0], body.path)
    values = body.take(field)
    path = f"{body.path}.{field}"
    if isinstance(values, dict) and values.keys() & {"id", "path"}:
        raise RefusedError("values are not looked up in another document: GET it, and list them here", path)
    if not isinstance(values, list) or len(values) > TERMS_MAX:
        raise RefusedError(f"terms is a list of at most {TERMS_MAX} values", path)
    checked = tuple(check_value(value, f"{path}[{i}]") for i, value in enumerate(values))
    return body.done(Constant(Equals(field, checked)) if checked else Nothing())


def _range(body: Body) -> Query:
    field, options = body.field("")
    low, include_low = _bound(options, ("gt", "gte"), "from", "include_lower")
    high, include_high = _bound(options, ("lt", "lte"), "to", "include_upper")
    options.one_of("relation", ("intersects", "within", "contains"), "intersects")
    zone, form = options.zone(), options.date_format()
    return options.done(Compare(field, low, high, include_low, include_high, zone, form))


def _bound(options: Body, names: tuple[str, str], old: str, includes: str) -> tuple[Value | None, bool]:
    (strict, included), before = names, options.take(old)
    outside, inside = options.take(strict), options.take(included)
    if before is not None or includes in options.object():  # as it was called in older versions
        if outside is not None or inside is not None:
            raise RefusedError(f"either {strict}, {included} or {old}, not both", options.path)
        inside, outside = (before, None) if options.boolean(includes, True) else (None, before)
    if outside is not None and inside is not None:
        raise RefusedError(f"either {strict} or {included}, not both", options.path)
    value = inside if outside is None else outside
    return None if value is None else check_value(value, options.path), outside is None


def _pattern(kind: str, short: str) -> Callable[[Body], Query]:
    def read(body: Body) -> Query:
        field, options = body.field(short)
        name = short if options.object().get(short) is not None else "wildcard"
        text = options.text(name, needed=True)
        options.without_effect("rewrite")
        return options.done(
            Pattern(field, kind, text, ignore_case=options.boolean("case_insensitive", False))
        )

    return read


def _regexp(body: Body) -> Query:
    field, options = body.field("value")
    text, flags = options.text("value", needed=True), options.flags(REGEX_FLAGS)
    options.without_effect("max_determinized_states", "rewrite")
    try:
        expression = term_regex(text, ignore_case=options.boolean("case_insensitive", False), flags=flags)
    except RefusedError as refused:
        raise RefusedError(refused.error.detail, options.path, refused.error.position) from None
    return options.done(Pattern(field, "regexp", expression))


def _fuzzy(body: Body) -> Query:
    field, options = body.field("value")
    options.without_effect("max_expansions", "rewrite")
    text = options.text("value", needed=True)
    distance = options.fuzziness("AUTO")
    prefix_length = options.integer("prefix_length", 0, 0, 100)
    transpositions = options.boolean("transpositions", True)
    return options.done(Pattern(field, "fuzzy", text, distance, prefix_length, transpositions))


def _exists(body: Body) -> Query:
    return body.done(Exists(check_field(body.need("field"), body.path)))


def _ids(body: Body) -> Query:
    values = body.need("values")
    listed = [values] if isinstance(values, str) else values
    if not isinstance(listed, list) or len(listed) > TERMS_MAX:
        raise RefusedError(f"values is a list of at most {TERMS_MAX} ids", body.path)
    for i, value in enumerate(listed):
        if not isinstance(value, str):
            raise RefusedError("an id is text", f"{body.path}.values[{i}]")
    return body.done(DocumentIds(tuple(listed)))


# --- compounds


def _bool(body: Body) -> Query:
    must, should = _queries(body, "must"), _queries(body, "should")
    must_not, filters = _queries(body, "must_not"), _queries(body, "filter")
    minimum = body.minimum()
    body.only(True, "adjust_pure_negative")
    if minimum and should:
        return body.done(Bool((*must, AtLeast(should, minimum)), (), must_not, filters))
    needed = 1 if should and not must and not filters else 0
    return body.done(Bool(must, should, must_not, filters, needed))


def _dis_max(body: Body) -> Query:
    queries = _queries(body, "queries")
    if not queries:
        raise RefusedError("queries is missing", body.path)
    return body.done(DisMax(queries, body.number("tie_breaker", 0.0, 0.0, 1.0)))


def _boosting(body: Body) -> Query:
    positive, negative = _query(body, "positive"), _query(body, "negative")
    body.need("negative_boost")
    return body.done(Boosting(positive, negative, body.number("negative_boost", 1.0, 0.0, 1.0)))


def _function_score(body: Body) -> Query:
    return read_function_score(body, read_query)


def _script(body: Body) -> Query:
    raise RefusedError("there are no scripts: function_score has weights, fields and decay", body.path)


def _nested(body: Body) -> Query:
    path = check_field(body.need("path"), body.path)
    mode = body.one_of("score_mode", ("avg", "max", "min", "sum", "none"), "avg")
    body.without_effect("ignore_unmapped")
    if body.take("inner_hits") is not None:
        raise RefusedError("inner_hits is not supported: look at _source", body.path)
    return body.done(Nested(path, _query(body, "query"), mode))


def _constant_score(body: Body) -> Query:
    return body.done(Constant(_query(body, "filter")))


def _match_all(body: Body) -> Query:
    return body.done(All())


def _match_none(body: Body) -> Query:
    return body.done(Nothing())


_READERS: Final[Mapping[str, Callable[[Body], Query]]] = {
    "match": _match,
    "multi_match": _multi_match,
    "combined_fields": _combined_fields,
    "match_phrase": _match_phrase,
    "match_phrase_prefix": _match_phrase_prefix,
    "match_bool_prefix": _match_bool_prefix,
    "match_all": _match_all,
    "match_none": _match_none,
    "query_string": _query_string,
    "simple_query_string": _simple_query_string,
    "term": _term,
    "terms": _terms,
    "range": _range,
    "prefix": _pattern("prefix", "value"),
    "wildcard": _pattern("wildcard", "value"),
    "regexp": _regexp,
    "fuzzy": _fuzzy,
    "exists": _exists,
    "ids": _ids,
    "bool": _bool,
    "dis_max": _dis_max,
    "boosting": _boosting,
    "constant_score": _constant_score,
    "nested": _nested,
    "function_score": _function_score,
    "more_like_this": _more_like_this,
}

QUERIES: Final = tuple(_READERS)
"""The kinds of queries."""
