"""Rows that are lost to damage break the chain of images, and the log says so where it happens."""

from __future__ import annotations

from core.commands import Apply, ChangesLogged, Failed, LogChanges, LogIds, LogRead, Why
from core.lag import LogLag
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Row
from lsm import keys
from lsm.log import BROKEN, ChangeLog
from lsm.memory import MemoryEngine
from lsm.salvage import Salvaged, salvage
from lsm.store import Store
from ring.tokens import token_of
from streams.events import Event, events_of, restarted
from tests.lsm.support import IMAGED, PLAIN, TABLES, cell, suffix

NAMES = sorted((b"key-%d" % number for number in range(20)), key=token_of)
"""In the order of their tokens."""
LOST = NAMES[10]
ALL = (keys.TOKEN_MIN, keys.TOKEN_MAX)
ROW = suffix("a")


class Damaged:
    """A store of one row in each partition, the row of LOST damaged, copied."""

    def __init__(self, *damaged: bytes) -> None:
        self.engine = MemoryEngine()
        self.store = Store(self.engine, TABLES.get)
        self.sequence = 0
        for name in NAMES:
            self.write(name, b"1")
        for key in damaged or (keys.partition_prefix(IMAGED.id, token_of(LOST), LOST) + ROW,):
            self.engine.damage(key)
        copy = MemoryEngine()
        self.salvaged: Salvaged = salvage(self.engine, copy)
        self.store = Store(copy, TABLES.get)

    def write(self, name: bytes, value: bytes) -> object:
        """A mutation of one row."""
        self.sequence += 1
        rows = ((ROW, Row(None, (cell(100 + self.sequence, value),))),)
        made = Mutation(9, self.sequence, 0, 100, True, UPDATE, IMAGED.id, token_of(name), name, None, rows)
        return self.store.execute(Apply(encode_mutation(made)))

    def page(self, after: int = 0, tokens: tuple[int, int] = ALL, table: int = IMAGED.id) -> ChangesLogged:
        """The log above an offset."""
        page = self.store.execute(LogChanges(table, (tokens,), after, 100, 1 << 20))
        assert isinstance(page, ChangesLogged)
        return page


def judged(page: ChangesLogged) -> tuple[list[str], int]:
    """As a careful reader has it: keys whose chain of images broke unsaid; how many restarts there were."""
    images: dict[bytes, Row | None] = {}
    broken, restarts = [], 0
    for entry in page.entries:
        tokens = restarted(entry)
        if tokens is not None:
            restarts += 1
            for name in [name for name in images if tokens[0] <= token_of(name) <= tokens[1]]:
                del images[name]
        event: Event
        for event in events_of(entry, "new_and_old"):
            if event.before != images.get(event.partition, event.before):
                broken.append(event.partition.decode())
            images[event.partition] = event.after
    return broken, restarts


def test_what_is_written_where_rows_were_lost_follows_a_restart() -> None:
    damaged = Damaged()
    assert damaged.salvaged.lost and not damaged.salvaged.log_forgotten
    outcome = damaged.write(LOST, b"2")
    assert isinstance(outcome, Failed) and outcome.why is Why.MENDING, "merged, and not acknowledged"
    damaged.write(NAMES[0], b"2")
    page = damaged.page()
    anew, beside = (events_of(entry, "new_and_old")[0] for entry in page.entries[-2:])
    assert anew.before is None and beside.before is not None
    assert judged(page) == ([], 1)


def test_only_readers_of_what_was_lost_are_told_and_who_has_passed_it_is_not() -> None:
    damaged = Damaged()
    page = damaged.page()
    mark = page.entries[-1]
    assert mark.kind == BROKEN and mark.offset == page.end == len(NAMES) + 1
    tokens = restarted(mark)
    assert tokens is not None and tokens[0] <= token_of(LOST) <= tokens[1]
    assert not tokens[0] <= token_of(NAMES[0]) <= tokens[1]
    assert damaged.page(len(NAMES), tokens=(keys.TOKEN_MIN, tokens[0] - 1)).entries == ()
    assert damaged.page(len(NAMES), tokens=(tokens[1] + 1, keys.TOKEN_MAX)).entries == ()
    assert damaged.page(len(NAMES), table=PLAIN.id).entries == ()
    assert damaged.page(len(NAMES), tokens=(token_of(LOST),) * 2).entries == (mark,)
    assert damaged.page(page.end).entries == ()


def test_the_mark_is_no_mutation() -> None:
    damaged = Damaged()
    end = damaged.store.log.end
    ids = damaged.store.execute(LogRead(end - 1, 10, ((IMAGED.id, (ALL,)), (0xFFFFFFFF, (ALL,)))))
    assert isinstance(ids, LogIds) and ids.entries == () and ids.next_after == end
    lag = damaged.store.log.lag(LogLag(IMAGED.id, ((end - 1, (ALL,)),)))
    assert lag.lags[0].entries == 0
    damaged.write(NAMES[0], b"2")
    assert damaged.store.log.end == end + 1
    assert ChangeLog(damaged.store.engine).size_bytes == damaged.store.log.size_bytes


def test_ids_that_are_made_anew_are_those_of_mutations() -> None:
    twice = Damaged()
    first = twice.store.engine
    assert isinstance(first, MemoryEngine)
    held = first.keys(keys.MUTATION_ID, keys.successor(keys.MUTATION_ID))
    first.damage(held[3])
    copy = MemoryEngine()
    assert not salvage(first, copy).log_forgotten
    assert copy.keys(keys.MUTATION_ID, keys.successor(keys.MUTATION_ID)) == held
