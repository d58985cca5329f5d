"""Hits that take several questions: one per value of a field (`collapse`), and by which of the queries that
have a name they were found (`_name`).

A collapsed page is asked for in two steps: the best hit of each value, by an aggregation; then those of the
page, as any others. What changed in between and no longer matches is left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from core.searching import SearchAnswer
from documents.values import id_of
from index.aggregation import BUCKETS_MAX, Buckets, TermsOf, Top, TopHitsOf, Without
from index.merging import merge_all
from index.ordering import sorted_hits
from index.query import Bool, DocumentIds, Hit
from index.search_body import SearchBody
from server.rest.problems import ProblemError

Ask = Callable[[SearchBody], Awaitable[SearchAnswer]]

COLLAPSED_MAX: Final = 1_000
"""Hits of one collapsed page, and before it."""


def counting(body: SearchBody) -> SearchBody:
    """The question without its hits."""
    found = replace(body, post=None, size=0, offset=0, sort=(), after=None, source=False, collapse="")
    return replace(found, highlight=None, explain=False, aggregations=(), named=(), shown=(), suggestions=())


async def collapsed(ask: Ask, body: SearchBody) -> SearchAnswer:
    """The hits of a body, one per value of the field; those without a value are one, too."""
    if body.offset + body.size > COLLAPSED_MAX:
        detail = f"collapse: from and size are at most {COLLAPSED_MAX} in sum"
        raise ProblemError("bad-query", detail, path="collapse")
    top = (("top", TopHitsOf(1, body.sort, False)),)
    groups = (("some", TermsOf(body.collapse, size=1, inside=top)), ("none", Without(body.collapse, top)))
    asked = replace(counting(body), post=body.post, aggregations=groups)
    answer = await ask(asked)
    merged = merge_all(answer.tables[0].aggregations, [each.partials for each in answer.tables])
    some, none = merged["some"], merged["none"]
    assert isinstance(some, Buckets) and isinstance(none, Buckets)
    if some.others:
        detail = f"collapse: {body.collapse[:60]} has more than {BUCKETS_MAX} values: search for less"
        raise ProblemError("bad-query", detail, path="collapse")
    tops = [bucket.inside["top"] for bucket in (*some.buckets, *none.buckets)]
    firsts: dict[bytes, Hit] = {}  # a document of several values may be the best of more than one
    for each in tops:
        if isinstance(each, Top):
            firsts.update({hit.key: hit for hit in each.hits})
    best = max((hit.score for hit in firsts.values()), default=0.0)
    page = sorted_hits(firsts.values(), body.sort, body.offset + body.size)[body.offset :]
    if not page:
        return replace(answer, score_max=best)
    only = _only(body, [hit.key for hit in page], len(answer.tables))
    found = await ask(replace(only, shown=(*body.shown, body.collapse)))
    keys = {hit.key: True for hit in page}
    hits = tuple(hit for hit in found.hits if hit.key in keys)
    return replace(found, hits=hits, total=answer.total, score_max=best)


def _only(body: SearchBody, keys: list[bytes], tables: int) -> SearchBody:
    """The same about these documents (of whichever collection has them), which weigh as among all."""
    ids = tuple(dict.fromkeys(map(id_of, keys)))
    query = Bool(must=(body.query,), filter=(DocumentIds(ids),))
    size = len(ids) * tables
    return replace(body, query=query, offset=0, size=size, aggregations=(), collapse="", after=None)


async def matched_queries(ask: Ask, body: SearchBody, answer: SearchAnswer) -> dict[bytes, list[str]]:
    """By key of a hit, the names of the queries that it matches."""
    found: dict[bytes, list[str]] = {hit.key: [] for hit in answer.hits}
    if not found:
        return found
    for name, query in body.named:
        plain = replace(counting(body), query=Bool(filter=(query,)))
        for hit in (await ask(_only(plain, list(found), len(answer.tables)))).hits:
            if hit.key in found:
                found[hit.key].append(name)
    return found
