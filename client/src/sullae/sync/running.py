"""What the synchronous face runs on: one event loop in a thread of its own, for one client.

A call hands its coroutine to that loop and waits for the outcome; any number of threads may do so at once,
and share the client's connections. Ctrl-C in a waiting thread cancels what it waits for. A function that the
library calls (`modify`, `on_event`) runs on the loop's thread and must not use the synchronous face there:
that would wait for itself, and is refused.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sullae import bulk, changes, cql, database, paging
from sullae.errors import BulkFailure
from sullae.models import Column

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")
B = TypeVar("B", bound="BulkWriter[Any]")
D = TypeVar("D", bound="DatabaseBase[Any]")
WriterT = TypeVar("WriterT", bound=bulk.BulkWriter)
DatabaseT = TypeVar("DatabaseT", bound=database.Database)


class Runner:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._loop is not None and not self._loop.is_closed()

    def start(self) -> None:
        """Start the thread."""
        assert self._loop is None, "a client is opened once"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sullae", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; may be called twice."""
        if not self.is_running:
            return
        assert self._loop is not None and self._thread is not None
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Awaitable[T]) -> T:
        """The outcome of an awaitable."""
        if self._loop is None or not self.is_running:
            _forget(work)
            raise RuntimeError("the client is not open: use `with`, or open() before and close() after")
        if threading.current_thread() is self._thread:
            _forget(work)
            raise RuntimeError("a function that the library calls cannot use the synchronous client")
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator."""
        try:
            while True:
                try:
                    item = self.run(items.__anext__())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._close(items)

    def _close(self, items: object) -> None:
        """Close what was left early; where that cannot be waited for, the loop does it when it ends."""
        close = getattr(items, "aclose", None)
        if close is not None and self.is_running and threading.current_thread() is not self._thread:
            self.run(close())


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _forget(work: Any) -> None:
    """A coroutine that will not be run is closed, or Python complains."""
    close = getattr(work, "close", None)
    if close is not None:
        close()


class Paged(Generic[T]):
    """Results that are fetched while they are iterated over; each iteration asks anew."""

    def __init__(self, runner: Runner, it: paging.Paged[T]) -> None:
        self._runner = runner
        self._it = it

    def pages(self) -> Iterator[list[T]]:
        """The pages; none is empty."""
        return self._runner.iterate(self._it.pages())

    def __iter__(self) -> Iterator[T]:
        """The results."""
        for page in self.pages():
            yield from page

    def all(self) -> list[T]:
        """All of them."""
        return self._runner.run(self._it.all())

    def first(self) -> T | None:
        """The first, or None."""
        return self._runner.run(self._it.first())

    def to_pandas(self) -> pandas.DataFrame:
        """All of them as a DataFrame; raises ImportError without pandas."""
        return self._runner.run(self._it.to_pandas())

    def to_arrow(self) -> pyarrow.Table:
        """All of them as an Arrow table; raises ImportError without pyarrow."""
        return self._runner.run(self._it.to_arrow())

    def to_polars(self) -> polars.DataFrame:
        """All of them as a DataFrame of polars; raises ImportError without polars."""
        return self._runner.run(self._it.to_polars())


class CqlResult:
    """What a statement came to. `rows` is the first page; `for row in result` goes through all."""

    def __init__(self, runner: Runner, it: cql.CqlResult) -> None:
        self._runner = runner
        self._it = it

    @property
    def columns(self) -> Sequence[Column]:
        """Names and types."""
        return self._it.columns

    @property
    def rows(self) -> Sequence[cql.Row]:
        """The rows of the first page, as dicts."""
        return self._it.rows

    @property
    def page_state(self) -> str | None:
        """Where the next page begins; None if this is the last one."""
        return self._it.page_state

    @property
    def applied(self) -> bool | None:
        """Whether a conditional update was done; None for any other statement."""
        return self._it.applied

    @property
    def warnings(self) -> Sequence[str]:
        """What the cluster advises."""
        return self._it.warnings

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """What of the schema was changed, if anything."""
        return self._it.schema

    def pages(self) -> Iterator[Sequence[cql.Row]]:
        """The pages, from the first; none is empty."""
        return self._runner.iterate(self._it.pages())

    def __iter__(self) -> Iterator[cql.Row]:
        """All rows, of this page and of those after it."""
        for page in self.pages():
            yield from page

    def all(self) -> list[cql.Row]:
        """All rows."""
        return self._runner.run(self._it.all())

    def one(self) -> cql.Row | None:
        """The first row, or None."""
        return self._it.one()

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a DataFrame; raises ImportError without pandas."""
        return self._runner.run(self._it.to_pandas())

    def to_arrow(self) -> pyarrow.Table:
        """All rows as an Arrow table; raises ImportError without pyarrow."""
        return self._runner.run(self._it.to_arrow())

    def to_polars(self) -> polars.DataFrame:
        """All rows as a DataFrame of polars; raises ImportError without polars."""
        return self._runner.run(self._it.to_polars())


class ChangeStream:
    """Iterating over it gives changes, without end unless `limit` is given."""

    def __init__(self, runner: Runner, it: changes.ChangeStream) -> None:
        self._runner = runner
        self._it = it

    @property
    def cursor(self) -> str | None:
        """Where to `start` a later stream: all before it was given out. None until the first heartbeat."""
        return self._it.cursor

    @property
    def parts(self) -> Sequence[int]:
        """In a group: the parts of the table that this member reads now."""
        return self._it.parts

    def acknowledge(self) -> bool:
        """In a group: have the cluster keep that all changes given out so far are done with.

        False if some belong to another member by now, who gets them again. Only needed where `acknowledge`
        is manual.
        """
        return self._runner.run(self._it.acknowledge())

    def __iter__(self) -> Iterator[changes.Change]:
        """The changes; raises what cannot be mended by asking another peer, for `patience_s` at most."""
        return self._runner.iterate(aiter(self._it))


class BulkWriter(Generic[WriterT]):
    """What writers of keys and of documents share. Use as a context manager."""

    def __init__(self, runner: Runner, it: WriterT) -> None:
        self._runner = runner
        self._it = it

    @property
    def done(self) -> int:
        """Operations that were acknowledged."""
        return self._it.done

    @property
    def failures(self) -> Sequence[BulkFailure]:
        """Those that were not."""
        return self._it.failures

    def flush(self) -> None:
        """Send what was gathered, and wait until all outcomes are known."""
        self._runner.run(self._it.flush())

    def __enter__(self: B) -> B:
        """The writer."""
        self._runner.run(self._it.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all; raises BulkError if an operation failed."""
        self._runner.run(self._it.__aexit__(kind, error, trace))


class DatabaseBase(Generic[DatabaseT]):
    """The life of a client. Use as a context manager, or `open` and `close` it."""

    def __init__(self, runner: Runner, it: DatabaseT) -> None:
        self._runner = runner
        self._it = it

    def open(self) -> None:
        """Find the peers; raises ConnectionFailed if none answers."""
        if self._it.is_session:
            return
        self._runner.start()
        try:
            self._runner.run(self._it.open())
        except BaseException:
            self._runner.stop()
            raise

    def close(self) -> None:
        """End all connections; may be called twice. A session has none of its own."""
        if self._it.is_session:
            return
        if self._runner.is_running:
            self._runner.run(self._it.close())
        self._runner.stop()

    def __enter__(self: D) -> D:
        """The client, connected; raises ConnectionFailed."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections."""
        self.close()
