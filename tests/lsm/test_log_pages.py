"""Pages of the change log hold what is durable, and wait for nothing else."""

from __future__ import annotations

from core.commands import AT_END, ChangesLogged, LogChanges
from core.ports import Ticket
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from tests.lsm.support import Client, cell, store_on

TOKENS = ((-(2**63), 2**63 - 1),)


class Bench:
    """An executor with one client and pages of its log."""

    def __init__(self, periodic: bool = False) -> None:
        self.engine = MemoryEngine()
        self.executor = Executor(store_on(self.engine), Commit(periodic))
        self.client = Client()
        self.table = self.executor.store.plan(self.client.put("first", cell(5, b"v"))).mutation
        self.executor.submit(("put",), self.client.put("a", cell(5, b"v")))
        self.executor.run()

    def put(self, key: str) -> None:
        self.executor.submit(("put",), self.client.put(key, cell(5, b"v")))
        self.executor.run()

    def page(self, after: int) -> ChangesLogged | None:
        """What is answered without a sync; None if the answer waits for one."""
        assert self.table is not None
        self.executor.submit(("page",), LogChanges(self.table.table, TOKENS, after, 100, 1 << 20))
        self.executor.run()
        found: list[tuple[Ticket, object]] = [
            (ticket, outcome) for ticket, outcome in self.executor.take_released() if ticket == ("page",)
        ]
        if not found:
            return None
        page = found[-1][1]
        assert isinstance(page, ChangesLogged)
        return page

    def sync(self, token: int | None) -> None:
        assert token is not None
        self.engine.sync()
        self.executor.end_sync(token)


def test_before_the_first_sync_a_page_waits_for_it() -> None:
    """What an earlier process wrote need not be durable, and may have been followed."""
    bench = Bench()
    assert bench.page(0) is None
    bench.sync(bench.executor.begin_sync())
    assert len(bench.executor.take_released()) == 2


def test_a_page_ends_where_the_log_is_durable_and_does_not_wait_for_more() -> None:
    bench = Bench()
    token = bench.executor.begin_sync()
    bench.put("b")  # after the sync began: it does not cover this
    bench.sync(token)
    page = bench.page(0)
    assert page is not None
    assert ([entry.offset for entry in page.entries], page.next_after, page.end) == ([1], 1, 1)
    page = bench.page(1)
    assert page is not None and page.entries == () and page.next_after == page.end == 1
    bench.sync(bench.executor.begin_sync())
    page = bench.page(1)
    assert page is not None and [entry.offset for entry in page.entries] == [2] and page.end == 2


def test_where_the_log_ends_is_told_when_it_is_durable() -> None:
    bench = Bench()
    bench.sync(bench.executor.begin_sync())
    bench.put("b")
    assert bench.page(AT_END) is None


def test_with_periodic_syncs_pages_go_to_the_end_as_everything_does() -> None:
    bench = Bench(periodic=True)
    bench.sync(bench.executor.begin_sync())
    bench.put("b")
    page = bench.page(0)
    assert page is not None and [entry.offset for entry in page.entries] == [1, 2]
