"""A search's answer as JSON, in Elasticsearch's form: hits with their documents and marks, aggregations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from core.json_values import JsonError, parse, render
from core.row import Row
from core.searching import SearchAnswer, SearchHit, TableSearched
from documents.collections import Collection
from documents.values import cells_of, id_of, text_of
from index.aggregation import TopHitsOf
from index.explaining import explain
from index.finishing import finish
from index.highlighting import Marker
from index.judging import Held
from index.mapping import Rules
from index.merging import merge_all
from index.ordering import sorted_hits
from index.query import ALL, SCORE, Hit
from index.search_body import SearchBody, encode_cursor
from index.showing import field_values, filtered
from index.sort_dsl import Source


class Shown:
    """Shows one answer."""

    def __init__(
        self,
        body: SearchBody,
        answer: SearchAnswer,
        collections: Mapping[int, Collection],
        rules: Callable[[int], Rules],
        name_of: Callable[[bytes], str],
    ) -> None:
        """`collections` are those searched, by table; `rules` and `name_of` know mappings and peers."""
        self._body = body
        self._answer = answer
        self._collections = collections
        self._rules = rules
        self._name_of = name_of
        self._searched = {each.table: each for each in answer.tables}
        self._markers: dict[int, Marker] = {}
        self.matched: dict[bytes, list[str]] = {}
        """By key, the names of the queries that a hit matches."""
        self.suggested: dict[str, Any] = {}
        """By name, what is suggested."""

    def json(self, took_us: int, aggregated: Mapping[str, Any]) -> bytes:
        """The whole answer, with these aggregations."""
        body, answer = self._body, self._answer
        by_score = not body.sort or any(key.field == SCORE for key in body.sort)
        hits = [self._hit(hit, by_score) for hit in answer.hits]
        found: dict[str, Any] = {
            "took": took_us // 1_000,
            "took_us": took_us,
            "timed_out": bool(answer.missing),
            "hits": {
                "total": {"value": answer.total, "relation": "gte" if answer.missing else "eq"},
                "max_score": answer.score_max if by_score and answer.total and body.size else None,
                "hits": hits,
            },
        }
        if body.aggregations:
            found["aggregations"] = {name: aggregated[name] for name, _ in body.aggregations}
        if self.suggested:
            found["suggest"] = self.suggested
        if answer.hits and body.size and len(answer.hits) == body.size and not body.collapse:
            last = answer.hits[-1]
            at = (last.sort if body.sort else (last.score,), last.key)
            found["next"] = encode_cursor(tuple(self._collections), body, at)
        found["peers"] = [self._name_of(peer) for peer in answer.peers]
        if answer.missing:
            found["partial"] = {"ranges_missing": len(answer.missing)}
        warnings: list[dict[str, Any]] = [
            {"detail": problem.detail, "position": problem.position} for problem in body.problems
        ]
        if not answer.total:
            warnings += [{"detail": f"no document has text in a field {name!r}"} for name in self._unknown()]
        if warnings:
            found["warnings"] = warnings
        return orjson.dumps(found)

    def _unknown(self) -> list[str]:
        """Fields whose text was searched, and that no document has: most likely another spelling is meant."""
        lengths = [(name, of) for each in self._answer.tables for name, of in each.statistics.lengths.items()]
        there = {name for name, of in lengths if of.documents}
        return sorted({name: None for name, _ in lengths if name not in there and name != ALL})

    def _hit(self, hit: SearchHit, by_score: bool) -> dict[str, Any]:
        found = self._head(hit.table, hit.key, hit.score if by_score else None)
        text = self._text_of(hit)
        if self._body.source is not False and text is not None:
            found["_source"] = shown_source(text, self._body.source)
        if self._body.sort:
            found["sort"] = list(hit.sort)
        if self._body.named:
            found["matched_queries"] = self.matched.get(hit.key, [])
        fields = (*self._body.shown, *((self._body.collapse,) if self._body.collapse else ()))
        if fields and text is not None:
            found["fields"] = orjson.Fragment(render(field_values(parse(text), fields)))
        if text is None or (self._body.highlight is None and not self._body.explain):
            return found
        try:
            document = parse(text)
        except JsonError:
            return found
        if self._body.highlight is not None:
            marks = self._marker(hit.table).highlight(document, self._body.highlight)
            if marks:
                found["highlight"] = marks
        if self._body.explain:
            searched = self._searched[hit.table]
            held = Held(hit.key, document, self._rules(hit.table))
            found["_explanation"] = explain(searched.query, searched.statistics, held)
        return found

    def text_of(self, hit: SearchHit) -> bytes:
        """The document of a hit that came with it."""
        text = self._text_of(hit)
        assert text is not None, "a row with a document"
        return text

    def _head(self, table: int, key: bytes, score: float | None) -> dict[str, Any]:
        return {"_index": self._collections[table].name, "_id": id_of(key), "_score": score}

    def _text_of(self, hit: SearchHit) -> bytes | None:
        return self._text(hit.table, hit.row) if hit.text is None else hit.text

    def _text(self, table: int, row: Row | None) -> bytes | None:
        if row is None:
            return None
        return text_of(cells_of(self._collections[table], row), self._answer.now_us)

    def _marker(self, table: int) -> Marker:
        marker = self._markers.get(table)
        if marker is None:
            marker = self._markers[table] = Marker(self._searched[table].query, self._rules(table))
        return marker

    # --- aggregations

    def aggregations(self) -> list[tuple[str, Any]]:
        """Those that this answer has, by name; raises RefusedError for what cannot be shown."""
        tables = self._answer.tables
        asked = tables[0].aggregations
        merged = merge_all(asked, [each.partials for each in tables])
        return list(finish(asked, merged, self._show_top).items())

    def _show_top(self, asked: TopHitsOf, hits: tuple[Hit, ...]) -> list[dict[str, Any]]:
        found = []
        for hit in sorted_hits(hits, asked.sort, asked.offset + asked.size):
            searched = self._table_of(hit.key)
            one = self._head(searched.table, hit.key, None if asked.sort else hit.score)
            text = self._text(searched.table, searched.shown.get(hit.key))
            if text is not None and asked.source is not False:
                one["_source"] = shown_source(text, asked.source)
            if asked.sort:
                one["sort"] = list(hit.sort)
            found.append(one)
        return found

    def _table_of(self, key: bytes) -> TableSearched:
        return self._searched[int.from_bytes(key[1:5], "big")]


def shown_source(text: bytes, source: Source) -> orjson.Fragment:
    """A document's text: as it is, or what is left of it."""
    if isinstance(source, bool):
        return orjson.Fragment(text)
    return orjson.Fragment(render(filtered(parse(text), source)))
