"""What runs out by its time to live is an event of the log: once, in order, and with images that chain."""

from __future__ import annotations

from core.cell import VALUE, Cell
from core.commands import Apply, Failed, LogChanges, LogIds, LogRead, MergeRows
from core.expiring import Expired, ExpireRows
from core.moving import TakeFloors
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Row
from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from lsm import keys
from lsm.expiring import AHEAD_MAX
from lsm.floors import FloorRange, encode_ranges
from lsm.hash_tree import LEAVES
from lsm.keys import ROW_SUFFIX
from lsm.memory import MemoryEngine
from lsm.salvage import salvage
from lsm.store import Store
from ring.tokens import token_of
from streams.events import ENDED, Event, events_of

COLUMNS = (
    Column(1, "key", "text", PARTITION),
    Column(2, "a", "blob", REGULAR),
    Column(3, "b", "blob", REGULAR),
)
TABLE = Table(7, "kv", "t", COLUMNS, TableOptions(changes="new_and_old"), 1)
EVERYTHING = ((-(2**63), 2**63 - 1),)


class Log:
    """One store, and what its log says."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.store = Store(self.engine, {7: TABLE}.get)
        self.sequence = 0
        self.moves = False
        """Whether what is written comes with the log of a range that moved here."""

    def write(self, at_us: int, a: int | None = None, b: int | None = None, key: str = "k") -> None:
        """Write columns that die at these times (0: never), admitted at `at_us`."""
        self.sequence += 1
        given = [(column, dead) for column, dead in ((2, a), (3, b)) if dead is not None]
        cells = tuple(Cell(column, (), VALUE, at_us, 9, dead, b"%d" % at_us) for column, dead in given)
        rows = ((ROW_SUFFIX, Row(None, cells)),)
        token, partition = token_of(key.encode()), key.encode()
        place = UPDATE, 7, token, partition
        mutation = Mutation(9, self.sequence, 0, at_us, True, *place, None, rows)
        self.apply(encode_mutation(mutation))

    def add(self, at_us: int, *dying: int) -> None:
        """Write elements of a collection that die at these times, admitted at `at_us`."""
        self.sequence += 1
        cells = tuple(Cell(2, (b"%06d" % dead,), VALUE, at_us, 9, dead, b"") for dead in dying)
        rows = ((ROW_SUFFIX, Row(None, cells)),)
        place = UPDATE, 7, token_of(b"k"), b"k"
        self.apply(encode_mutation(Mutation(9, self.sequence, 0, at_us, True, *place, None, rows)))

    def apply(self, data: bytes) -> None:
        self.store.execute(Apply(data, followed=self.moves, moved=self.moves))

    def sweep(self, now_us: int, rows_max: int = 100) -> Expired:
        found = self.store.execute(ExpireRows(now_us, rows_max))
        assert isinstance(found, Expired), found
        return found

    def events(self) -> list[Event]:
        page = self.store.log.changes(LogChanges(7, EVERYTHING, 0, 1_000, 2**30))
        return [event for entry in page.entries for event in events_of(entry, "new_and_old")]

    def told(self) -> list[tuple[str, int, bool, bool]]:
        """(operation, when, whether there was a row, whether there is) of each event."""
        return [
            (e.operation, e.admitted_us, e.before is not None, e.after is not None) for e in self.events()
        ]

    def ended(self) -> list[int]:
        """When something ran out, as the log tells it."""
        return [event.admitted_us for event in self.events() if event.operation == ENDED]


def test_a_row_that_runs_out_is_told_once() -> None:
    log = Log()
    log.write(10, a=100)
    assert log.sweep(99) == Expired(0, False, 99)
    assert log.sweep(100) == Expired(1, False, 100)
    assert log.sweep(200) == Expired(0, False, 200)
    assert log.told() == [("insert", 10, False, True), (ENDED, 100, True, False)]
    ended = log.events()[-1]
    assert ended.changed == ((2, ()),) and ended.before == log.events()[0].after and not ended.remains


def test_replicas_give_one_event_one_id() -> None:
    logs = [Log(), Log()]
    for log in logs:
        log.write(10, a=100)
    logs[0].sweep(100)
    logs[1].write(150, a=0)  # before any sweep
    ids = [next(e.id for e in log.events() if e.operation == ENDED) for log in logs]
    assert ids[0] == ids[1]


def test_what_ran_out_before_a_write_is_told_before_it() -> None:
    log = Log()
    log.write(10, a=100)
    log.write(150, a=0)
    assert [e.operation for e in log.events()][1:] == [ENDED, "insert"]
    assert log.told()[1:] == [(ENDED, 100, True, False), ("insert", 150, False, True)]
    assert log.sweep(200) == Expired(0, False, 200)


def test_a_write_that_comes_late_finds_the_row_gone() -> None:
    log = Log()
    log.write(10, a=100)
    log.sweep(120)
    log.write(90, b=0)
    assert log.told()[1:] == [(ENDED, 100, True, False), ("insert", 90, False, True)]


def test_a_later_write_had_told_of_it() -> None:
    log = Log()
    log.write(10, a=100)
    log.write(150, b=105)  # dead when it came
    log.write(90, b=0, a=None)
    assert [event.operation for event in log.events()].count(ENDED) == 1
    assert log.told()[-1][2] is False, "the row was told to be gone, so it was not there before this write"


def test_what_was_told_to_be_gone_stays_so_when_the_row_is_repaired() -> None:
    """It was written by a coordinator whose clock had been set back: dead by its own stamp when it came."""
    log = Log()
    log.write(150, a=105)
    stored = tuple(log.engine.scan(keys.ROW, keys.successor(keys.ROW)))
    log.store.execute(MergeRows(7, stored))  # as a repair that brings nothing new
    log.sweep(200)
    assert log.told() == [("update", 150, False, False)]


def test_a_log_that_moved_here_does_not_bring_back_what_was_told_to_be_gone() -> None:
    """Its mutations from below the floor are logged with the row as it is, which has run out by now."""
    swept, written, late = Log(), Log(), Log()
    for log in (swept, written, late):
        log.write(10, a=100)
    swept.sweep(120)
    written.write(150, b=105)  # dead as it came, after it was told that `a` ran out
    floor = TakeFloors(((7, encode_ranges((FloorRange(0, LEAVES, 130, 130, 130),))),))
    for log in (swept, written, late):
        log.store.execute(floor)
        log.moves = True
    for log in (swept, written):
        log.write(90, b=0)
        last = log.events()[-1]
        assert last.superseded and last.before is None and last.after is None
    late.write(120, b=0)
    assert late.told()[1:] == [(ENDED, 100, True, False), ("update", 120, False, False)]


def test_what_is_replaced_or_deleted_does_not_run_out() -> None:
    log = Log()
    log.write(10, a=100)
    log.write(20, a=0)
    assert log.sweep(200) == Expired(0, False, 200)


def test_a_part_of_a_row_runs_out() -> None:
    log = Log()
    log.write(10, a=100, b=0)
    log.sweep(100)
    ended = log.events()[-1]
    assert ended.operation == ENDED and ended.remains and ended.changed == ((2, ()),)
    assert ended.before is not None and ended.after is not None


def test_many_are_told_piece_by_piece_and_a_restart_goes_on() -> None:
    log = Log()
    for number in range(25):
        log.write(10, a=100 + number // 10, key=f"k{number}")
    assert log.sweep(200, 7) == Expired(7, True, 99), "those of one moment are cut apart"
    log.store = Store(log.engine, {7: TABLE}.get)
    assert log.sweep(200, 10) == Expired(10, True, 100)
    assert log.sweep(200, 10) == Expired(8, False, 200)
    ended = [event.id for event in log.events() if event.operation == ENDED]
    assert len(ended) == len(set(ended)) == 25


def test_what_a_slice_has_told_is_not_told_again_for_a_write_that_comes_late_before_the_next_slice() -> None:
    log = Log()
    log.write(20, a=73, b=81)
    assert log.sweep(110, 1) == Expired(1, True, 80)
    log.write(40, b=90)
    while log.sweep(110, 1).more:
        pass
    assert log.ended() == [73, 90] and log.told()[-1][2:] == (True, False)


def test_siblings_are_told_where_it_was_logged() -> None:
    log = Log()
    log.write(10, a=100)
    log.sweep(100)
    for store in (log.store, Store(log.engine, {7: TABLE}.get)):
        page = store.execute(LogRead(0, 100, ((7, EVERYTHING),)))
        assert page.expired == ((2, 100),) and len(page.entries) == 1  # type: ignore[union-attr]


def test_more_elements_than_are_noted_at_once_are_told_once_each() -> None:
    dying = tuple(range(1_000, 2_600, 10))
    for times in ((1_700, 9_000), range(1_000, 2_700, 100), (5_000,)):
        log = Log()
        log.add(10, *dying)
        for now_us in times:
            while log.sweep(now_us, 50).more:
                pass
            assert log.sweep(now_us) == Expired(0, False, now_us)
            if now_us in (1_700, times[-1]):
                assert log.ended() == [at_us for at_us in dying if at_us <= now_us]
        assert list(log.engine.scan(keys.EXPIRY, keys.successor(keys.EXPIRY))) == []


def test_a_write_tells_of_more_elements_than_are_noted_and_those_after_it_are_told_in_time() -> None:
    dying = tuple(range(1_000, 3_000, 10))
    log = Log()
    log.add(10, *dying)
    log.write(2_000, b=0)
    assert log.ended() == [at_us for at_us in dying if at_us <= 2_000]
    while log.sweep(5_000).more:
        pass
    assert log.ended() == list(dying)


def test_what_was_staged_before_a_damaged_row_leaves_no_hole_in_the_offsets() -> None:
    log = Log()
    log.write(10, a=100, key="k")
    log.write(10, a=100, key="l")
    log.engine.damage(max(keys.row_key(7, token_of(key), key) for key in (b"k", b"l")))
    for _ in range(3):
        assert isinstance(log.store.execute(ExpireRows(200, 100)), Failed)
    log.write(20, a=0, key="m")
    offsets = [keys.offset_of(key) for key, _ in log.engine.scan(keys.LOG, keys.successor(keys.LOG))]
    assert offsets == [1, 2, 3] and log.store.log.end == 3
    told = log.store.execute(LogRead(0, 100, ((7, EVERYTHING),)))
    assert isinstance(told, LogIds) and (told.next_after, told.expired) == (3, ())


def test_a_write_does_not_look_at_all_moments_of_a_large_collection() -> None:
    """Else a window of elements with a time to live would cost each write a look at every one of them."""
    log = Log()
    log.add(10, *range(10_000, 510_000, 1_000))
    looked_at: list[bytes] = []
    log.engine.hook = lambda operation, key: looked_at.append(key) if operation == "get" else None
    log.add(20, 5_000_000)
    log.engine.hook = None
    assert len(looked_at) < 3 * AHEAD_MAX
    while log.sweep(6_000_000, 1_000).more:
        pass
    assert log.ended() == [*range(10_000, 510_000, 1_000), 5_000_000]


def test_where_a_note_is_damaged_all_are_made_anew_from_the_rows() -> None:
    log = Log()
    for number, key in enumerate(("k", "l", "m")):
        log.write(10, a=100 + number, key=key)
    log.sweep(100)
    noted = log.engine.keys(keys.EXPIRY, keys.successor(keys.EXPIRY))
    assert len(noted) == 2
    log.engine.damage(noted[0])
    source, log.engine = log.engine, MemoryEngine()
    assert not salvage(source, log.engine).lost
    log.store = Store(log.engine, {7: TABLE}.get)
    log.sweep(200)
    assert log.ended() == [100, 101, 102]
