"""Many results, a page at a time, fetched as they are taken.

    async for document in movies.find({"year": 1999}):     one by one
    documents = await movies.find({"year": 1999}).all()    all in one list
    async for page in movies.find().pages():               as they came
    frame = await movies.find().to_pandas()                as a table

A page is a request of its own that is tried again at another peer like every read: what one peer's cursor
says, every peer understands. So a long listing survives the end of the peer that it began with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sullae import tables

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")
Fetch = Callable[[Any, int], Awaitable[tuple[list[T], Any]]]
"""Takes a cursor (None at first) and how many are wanted at most, gives a page and the cursor of the next."""


class Paged(Generic[T]):
    """Results that are fetched while they are iterated over; each iteration asks anew."""

    def __init__(
        self, fetch: Fetch[T], row: Callable[[T], Mapping[str, Any]], limit: int | None, page_size: int
    ) -> None:
        """`row` makes a result a row of a table."""
        self._fetch = fetch
        self._row = row
        self._limit = limit
        self._page_size = page_size

    async def pages(self) -> AsyncIterator[list[T]]:
        """The pages; none is empty."""
        cursor, left = None, self._limit
        while left is None or left > 0:
            wanted = self._page_size if left is None else min(self._page_size, left)
            page, cursor = await self._fetch(cursor, wanted)
            page = page[:left]
            left = None if left is None else left - len(page)
            if page:
                yield page
            if cursor is None:
                return

    async def __aiter__(self) -> AsyncIterator[T]:
        """The results."""
        async for page in self.pages():
            for one in page:
                yield one

    async def all(self) -> list[T]:
        """All of them."""
        return [one async for one in self]

    async def first(self) -> T | None:
        """The first, or None."""
        async for page in Paged(self._fetch, self._row, 1, 1).pages():
            return page[0]
        return None

    async def _rows(self) -> list[Mapping[str, Any]]:
        return [self._row(one) async for one in self]

    async def to_pandas(self) -> pandas.DataFrame:
        """All of them as a DataFrame; raises ImportError without pandas."""
        return tables.to_pandas(await self._rows())

    async def to_arrow(self) -> pyarrow.Table:
        """All of them as an Arrow table; raises ImportError without pyarrow."""
        return tables.to_arrow(await self._rows())

    async def to_polars(self) -> polars.DataFrame:
        """All of them as a DataFrame of polars; raises ImportError without polars."""
        return tables.to_polars(await self._rows())
