"""Searches by words and by values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sullae import tables
from sullae.calls import path_of
from sullae.errors import Invalid
from sullae.models import Hit
from sullae.paging import Paged
from sullae.requests import Requests
from sullae.transport import Transport

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Body = Mapping[str, Any]


@dataclass(frozen=True)
class SearchResult:
    """A page of hits, best first; iterating over it gives the hits."""

    hits: Sequence[Hit]
    total: int
    """How many documents match, on this page or not."""
    max_score: float | None
    aggregations: Mapping[str, Any]
    next: str | None
    """For `search_after`, if there may be more."""
    is_partial: bool
    """Whether ranges are missing, which only happens with `allow_partial`."""
    took_us: int
    warnings: Sequence[Any]
    suggestions: Mapping[str, Any] = field(default_factory=dict)
    """By the names under which `suggest` of a body asked for them."""

    def __iter__(self) -> Iterator[Hit]:
        """The hits."""
        return iter(self.hits)

    def __len__(self) -> int:
        """The number of hits on this page."""
        return len(self.hits)

    def to_pandas(self) -> pandas.DataFrame:
        """The hits as a DataFrame; raises ImportError without pandas."""
        return tables.to_pandas([hit.row for hit in self.hits])

    def to_arrow(self) -> pyarrow.Table:
        """The hits as an Arrow table; raises ImportError without pyarrow."""
        return tables.to_arrow([hit.row for hit in self.hits])

    def to_polars(self) -> polars.DataFrame:
        """The hits as a DataFrame of polars; raises ImportError without polars."""
        return tables.to_polars([hit.row for hit in self.hits])


class Search:
    """Searches of collections."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._requests = Requests(transport)

    async def ask(
        self, collections: str | Sequence[str], body: Body, timeout_s: float | None
    ) -> SearchResult:
        """One page."""
        names = collections if isinstance(collections, str) else ",".join(collections)
        return result_of(await self._post(names, "", body, timeout_s, "search"))

    def pages(
        self, collections: str | Sequence[str], body: Body, limit: int | None, how: tuple[int, float | None]
    ) -> Paged[Hit]:
        """All hits, page after page."""
        page_size, timeout_s = how

        async def fetch(cursor: Any, count: int) -> tuple[list[Hit], Any]:
            asked = {**body, "size": min(count, 10_000)}
            if cursor is not None:
                asked["search_after"] = cursor
            found = await self.ask(collections, asked, timeout_s)
            return list(found.hits), found.next

        return Paged(fetch, _row, limit, page_size)

    async def analyze(self, collection: str, body: Body) -> list[Any]:
        """The tokens of a text."""
        return list((await self._post(collection, "/_analyze", body, None, "search.analyze"))["tokens"])

    async def suggest(self, collection: str, body: Body) -> list[Any]:
        """Other spellings of the words of a text, or completions of a prefix."""
        found = await self._post(collection, "/_suggest", body, None, "search.suggest")
        return list(found.get("completions", found.get("suggestions", [])))

    async def explain(self, collection: str, body: Body) -> Any:
        """Why a document has its score."""
        return await self._post(collection, "/_explain", body, None, "search.explain")

    async def _post(self, names: str, below: str, body: Body, timeout_s: float | None, operation: str) -> Any:
        settings = self._transport.settings
        asked = {name: value for name, value in body.items() if value is not None}
        if not below:
            total_s = timeout_s or settings.scan_timeout_s
            asked["timeout_ms"] = max(1, min(600_000, int(total_s * 500)))
            if "consistency" not in asked and settings.consistency is not None:
                asked["consistency"] = settings.consistency
        place = "/v1/search/" + ",".join(path_of(name)[len("/v1/") :] for name in names.split(",")) + below
        return await self._requests.ask(
            operation, "POST", place, asked, target=names, timeout_s=timeout_s, is_scan=True
        )


def body_of(more: Body | None = None, /, **given: Any) -> dict[str, Any]:
    """The members that are not None, and `more`; `from_` is `from`. Raises Invalid for what is in both."""
    named = {name.rstrip("_") if name == "from_" else name: v for name, v in given.items() if v is not None}
    twice = sorted(named.keys() & (more or {}).keys())
    if twice:
        raise Invalid(f"{', '.join(twice)}: said by an argument and in more", kind="bad-body")
    return {**named, **(more or {})}


def result_of(found: Mapping[str, Any]) -> SearchResult:
    """An answer as a result."""
    hits = found["hits"]
    return SearchResult(
        tuple(_hit(hit) for hit in hits["hits"]),
        hits["total"]["value"],
        hits["max_score"],
        found.get("aggregations", {}),
        found.get("next"),
        "partial" in found,
        found["took_us"],
        found.get("warnings", []),
        found.get("suggest", {}),
    )


def _hit(hit: Mapping[str, Any]) -> Hit:
    return Hit(
        hit["_index"],
        hit["_id"],
        hit["_score"],
        hit.get("_source"),
        tuple(hit.get("sort", ())),
        hit.get("highlight", {}),
        hit.get("_explanation"),
        hit.get("fields", {}),
        tuple(hit.get("matched_queries", ())),
    )


def _row(hit: Hit) -> Mapping[str, Any]:
    return hit.row
