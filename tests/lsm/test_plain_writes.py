"""The short way of plain writes and the general one leave the same bytes, answers and sums."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings, strategies as st

from core.cell import MARKER, VALUE, Cell
from core.commands import Applied, Apply, ChangedRows, Failed, LogRows
from core.limits import VALUE_BYTES_MAX
from core.row import OPERATION_SUFFIX
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.memory import MemoryEngine
from lsm.store import Store
from tests.lsm.support import PLAIN, Client, cell, check_tree, row, store_on

SUFFIXES = (keys.ROW_SUFFIX, keys.STATIC_SUFFIX, OPERATION_SUFFIX + b"id")


def expiring(made: Cell) -> st.SearchStrategy[Cell]:
    """The cell, or one like it that has run out when it comes, or will."""
    if made.value is None:
        return st.just(made)
    return st.sampled_from((0, 60, 150)).map(lambda at_us: msgspec.structs.replace(made, dead_from_us=at_us))


CELLS = st.lists(
    st.builds(
        cell,
        st.integers(1, 9),
        st.sampled_from([None, b"", b"x", b"y" * 5000]),
        st.integers(1, 3),
        st.sampled_from([7, 8]),
    ).flatmap(expiring),
    max_size=3,
)
WRITES = st.tuples(
    st.sampled_from(SUFFIXES), st.integers(-2, 2), CELLS, st.none() | st.integers(1, 9), st.booleans()
)


def general(store: Store) -> Store:
    """The same store without the short way."""
    info = store.info(PLAIN.id)
    assert info is not None and info.plain
    info.plain = False
    return store


def everything(store: Store) -> list[tuple[bytes, bytes]]:
    return list(store.engine.scan(b"", b"\xff"))


def changed(store: Store) -> list[ChangedRows]:
    """The rows that the log changed, in pages, with what follows one of its entries."""
    pages: list[ChangedRows] = []
    while not pages or pages[-1].next_after < pages[-1].end:
        after = pages[-1].next_after if pages else 0
        page = store.execute(LogRows(((PLAIN.id, 2),), after, 3, 6_000))
        assert isinstance(page, ChangedRows), page
        pages.append(page)
    return pages


def keeping(store: Store, changes: str) -> Store:
    """The same store, whose table keeps these changes."""
    info = store.info(PLAIN.id)
    assert info is not None
    info.changes = changes
    return store


@settings(max_examples=120, deadline=None)
@given(
    st.lists(WRITES, max_size=12), st.integers(1, 4), st.sampled_from(["none", "keys", "new", "new_and_old"])
)
def test_plain_writes_come_out_as_the_general_way_has_them(
    writes: list[tuple],  # type: ignore[type-arg]
    at_once: int,
    changes: str,
) -> None:
    client, commands = Client(PLAIN), []
    for suffix, token, cells, deleted, again in writes:
        commands.append(client.mutation({suffix: row(*cells, deleted=deleted)}, token=token << 60))
        commands += commands[-1:] if again else []
    found = []
    for store in (keeping(store_on(), changes), keeping(general(store_on()), changes)):
        executor = Executor(store, Commit(periodic=True))
        for at in range(0, len(commands), at_once):
            for number, command in enumerate(commands[at : at + at_once], start=at):
                executor.submit(("w", number), command)
            executor.run()
        told = changed(store)
        found.append((executor.take_released(), everything(store), store.log.end, told))
        check_tree(store)
        store.log.rest()
        assert changed(store) == told, "by what is in memory or by what is written"
    assert found[0] == found[1]


def test_what_is_too_large_is_refused_the_short_way_too() -> None:
    client, half = Client(PLAIN), b"v" * (VALUE_BYTES_MAX // 2 + 1)
    outcomes = []
    marker = Cell(1, (), MARKER, 1, 7, 0, b"")
    commands = [client.put("a", marker, Cell(1, (name,), VALUE, 1, 7, 0, half)) for name in (b"a", b"b")]
    for store in (store_on(), general(store_on())):
        outcomes.append([store.execute(Apply(command.mutation)) for command in commands])
        outcomes[-1].append(everything(store))  # type: ignore[arg-type]
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0][0], Applied) and isinstance(outcomes[0][1], Failed)


def test_a_full_disk_leaves_nothing_the_short_way_either() -> None:
    engine = MemoryEngine()
    store, client = store_on(engine), Client(PLAIN)
    store.execute(client.put("a", cell(1, b"v")))
    held, second = everything(store), client.put("a", cell(2, b"w"))
    engine.disk_full = True
    assert isinstance(store.execute(second), Failed) and everything(store) == held
    engine.disk_full = False
    store.execute(second)
    check_tree(store)
    assert store.log.end == 2
