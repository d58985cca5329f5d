"""Reads by predicate over whole clusters: who is asked, who takes over, what is refused; building indexes."""

from __future__ import annotations

from typing import Any

import pytest

from core import limits
from core.commands import Find, IndexBuild
from core.consistency import Level
from core.finding import OPEN, Check, Cursor, Drive, FindRequest, Found, Piece, decode_cursor, encode_cursor
from core.messages import FindSlice, Follow, Message, OperationFailed, SliceFound
from core.metadata import CreateIndex, CreateTable, DropIndex
from core.requests import (
    Answer,
    BatchRequest,
    Changed,
    Invalid,
    MetadataRequest,
    RowWrite,
    Timeout,
    Unavailable,
    Write,
    WriteRequest,
    Written,
)
from core.schema import (
    CLUSTERING,
    PARTITION,
    REGULAR,
    STATIC,
    Column,
    Index,
    IndexTarget,
    Table,
    TableOptions,
)
from cql_lite.types import BLOB
from jepsen_like.scenarios import Scenario
from lsm import keys
from lsm.store import Store
from node.index_building import IndexBuilding
from sim.real import node_of
from tests.scenarios.telling import QUIET, UNFOLLOWED, table_of

ANY = ((b"", OPEN),)


def point(value: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return ((BLOB.key(value), b""),)


def fill(s: Scenario, table: Table, count: int, value: bytes = b"x", first: int = 0) -> None:
    """Rows `k0`, `k1`, ... all with this value."""
    for start in range(first, first + count, 200):
        writes = tuple(
            WriteRequest(
                table.id,
                b"k%d" % number,
                (RowWrite(keys.ROW_SUFFIX, (Write(1, (), 0, value),)),),
                Level.ALL,
                1,
            )
            for number in range(start, min(start + 200, first + count))
        )
        assert isinstance(s.ask(BatchRequest(writes, Level.ALL, logged=False)).answer, Written)


def create_index(s: Scenario, column: str = "v") -> int:
    """Known to all running peers, built or not."""
    name = f"by_{column}"
    answer = s.ask(MetadataRequest(CreateIndex("kv", "t", Index(0, name, column)))).answer
    assert isinstance(answer, Changed) and not answer.error, answer
    assert s.until(lambda: all(s.state(peer).index("kv", name) for peer in s.cluster.running()))
    found = s.state(s.cluster.running()[0]).index("kv", name)
    assert found is not None
    return found[1].id


def built(s: Scenario, index: int) -> bool:
    return all(s.node(peer).building.is_built(index) for peer in s.cluster.running())


def ask(s: Scenario, table: Table, index: int, at: int = 0, **more: Any) -> Answer | None:
    check = Check(IndexTarget("v"), more.pop("spans", point(b"x")))
    drive = Drive(index, check.spans) if index else None
    level = more.pop("level", Level.QUORUM)
    return s.ask(FindRequest(table.id, level, (check,), drive, **more), at=at).answer


def all_pages(s: Scenario, table: Table, index: int, **more: Any) -> list[bytes]:
    """The partition keys of all rows found, page by page, each page through the next peer."""
    found, cursor, at = [], b"", 0
    while True:
        answer = ask(s, table, index, at=at % len(s.cluster.machines), cursor=cursor, **more)
        assert isinstance(answer, Found), answer
        found += [keys.split_row_key(row.key)[2] for row in answer.rows]
        if not answer.more:
            return found
        cursor, at = answer.cursor, at + 1


def keys_of(count: int) -> list[bytes]:
    return sorted(b"k%d" % number for number in range(count))


@pytest.fixture(scope="module")
def five() -> tuple[Scenario, Table, int]:
    """Five peers, 700 rows with one value, indexed."""
    s = Scenario(peers=5, settings=UNFOLLOWED)
    s.start()
    table = table_of(s, "t", ("v",))
    fill(s, table, 700)
    index = create_index(s)
    assert s.until(lambda: built(s, index))
    return s, table, index


@pytest.mark.parametrize("rows_max", [1_000, 200, 37])
@pytest.mark.parametrize("spans", [point(b"x"), ANY])
def test_pages_through_any_peer_hold_each_row_once(
    five: tuple[Scenario, Table, int], rows_max: int, spans: Any
) -> None:
    s, table, index = five
    for drive in (index, 0):
        found = all_pages(s, table, drive, rows_max=rows_max, spans=spans)
        assert sorted(found) == keys_of(700)


def test_few_messages_ask_for_all_ranges(five: tuple[Scenario, Table, int]) -> None:
    s, table, index = five
    asked: list[FindSlice] = []

    def note(source: int, target: int, message: Message) -> bool:
        if isinstance(message, FindSlice):
            asked.append(message)
        return False

    s.lose(note)
    assert isinstance(ask(s, table, index, spans=point(b"absent")), Found)
    s.heal()
    assert 1 <= len(asked) <= 4
    assert sum(len(message.pieces) for message in asked) > 10
    assert all(message.follow for message in asked)


def test_a_server_that_says_nothing_is_replaced_where_it_stopped(five: tuple[Scenario, Table, int]) -> None:
    s, table, index = five
    answers: list[int] = []

    def lose(source: int, target: int, message: Message) -> bool:
        if isinstance(message, SliceFound):
            answers.append(source)
            return answers.index(source) < len(answers) - 1 and source == answers[0]  # all but its first
        return False

    s.lose(lose)
    found = all_pages(s, table, index, rows_max=1_000)
    s.heal()
    assert sorted(found) == keys_of(700)


@pytest.mark.parametrize("lost", [Follow, FindSlice, SliceFound])
def test_lost_messages_cost_time_and_no_rows(five: tuple[Scenario, Table, int], lost: type) -> None:
    s, table, index = five
    count = iter(range(10**6))
    s.lose(lambda _source, _target, message: isinstance(message, lost) and next(count) % 2 == 0)
    found = all_pages(s, table, index, rows_max=300)
    s.heal()
    assert sorted(found) == keys_of(700)


def test_a_range_that_is_not_held_is_refused_and_never_answered_empty(
    five: tuple[Scenario, Table, int],
) -> None:
    s, table, index = five
    told: list[Message] = []
    node = s.node(0)
    everything = Piece(keys.TOKEN_MIN, keys.TOKEN_MAX)
    find = Find(table.id, index, point(b"x"), 0, 0, b"", b"", b"", 10, 10**6, 1)
    message = FindSlice(1, node.metadata.state.epoch, 10**6, (), find, (everything,), ())
    node.finds.serving.serve(message, told.append)
    (refusal,) = told
    assert isinstance(refusal, OperationFailed) and refusal.why == "not_a_replica"


def test_what_cannot_be_asked_is_refused_in_words(five: tuple[Scenario, Table, int]) -> None:
    s, table, index = five
    damaged = ask(s, table, index, cursor=b"nonsense")
    assert isinstance(damaged, Invalid) and damaged.code == "bad_cursor"
    serial = ask(s, table, index, level=Level.SERIAL)
    assert isinstance(serial, Invalid) and "QUORUM" in serial.detail
    unknown = s.ask(FindRequest(table.id, Level.ONE, (), Drive(index + 1_000, ANY))).answer
    assert isinstance(unknown, Invalid) and "does not know the index" in unknown.detail
    strange = Check(IndexTarget("v", "from_the_future"), ANY)
    assert isinstance(s.ask(FindRequest(table.id, Level.ONE, (strange,))).answer, Invalid)
    assert isinstance(s.ask(FindRequest(10_000, Level.ONE, ())).answer, Invalid)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    "forged",
    [
        Cursor((Piece(2**64 - 1, 2**64 - 1),), None),
        Cursor((Piece(2**63, 2**63),), None),
        Cursor((Piece(5, 1),), None),
        Cursor((), 2**63),
        Cursor((Piece(0, 10, b"t", b"k"),), None),
        Cursor((Piece(0, 10, b"t", b"R" * 40),), None),
        Cursor((Piece(0, 10, b"t", keys.row_key(999, 5, b"of another table")),), None),
        Cursor((Piece(1, 2),) * 100_000, None),
    ],
)
def test_a_cursor_that_somebody_made_up_is_refused(
    five: tuple[Scenario, Table, int], forged: Cursor, index: int
) -> None:
    """Its checksum is no secret, and places that there are not would end the peer that looks there."""
    s, table, number = five
    answer = ask(s, table, number * index, cursor=encode_cursor(forged))
    assert isinstance(answer, Invalid) and answer.code == "bad_cursor"


def test_a_cursor_is_read_back_and_damage_is_seen() -> None:
    s_cursor = b"".join([encode_cursor(decode_cursor(encode_cursor(_cursor())) or _cursor())])
    assert decode_cursor(s_cursor) == _cursor()
    assert all(
        decode_cursor(s_cursor[:at] + b"?" + s_cursor[at + 1 :]) is None for at in range(len(s_cursor))
    )


def _cursor() -> Any:
    return Cursor((Piece(1, 2, b"term", b"key"), Piece(3, 4)), 5, 6)


# --- levels


@pytest.mark.parametrize(
    ("level", "followed"),
    [(Level.ONE, 0), (Level.TWO, 1), (Level.QUORUM, 1), (Level.ALL, 2), (Level.LOCAL_QUORUM, 1)],
)
def test_as_many_siblings_are_followed_as_the_level_needs(level: Level, followed: int) -> None:
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v",))
    follows: list[int] = []

    def note(source: int, target: int, message: Message) -> bool:
        if isinstance(message, Follow) and source == 0:
            follows.append(target)
        return False

    s.run(1)
    s.lose(note)
    assert isinstance(ask(s, table, 0, level=level), Found)
    assert len(set(follows)) == followed


@pytest.mark.parametrize(
    ("level", "here", "there"),
    [(Level.EACH_QUORUM, 1, 2), (Level.LOCAL_QUORUM, 1, 0), (Level.LOCAL_ONE, 0, 0), (Level.QUORUM, 2, 1)],
)
def test_siblings_of_other_datacentres_count_as_the_level_says(level: Level, here: int, there: int) -> None:
    s = Scenario(peers=6, datacentres=2, settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v",))
    follows: list[int] = []

    def note(source: int, target: int, message: Message) -> bool:
        if isinstance(message, Follow) and source == 0:
            follows.append(target)
        return False

    s.run(1)
    s.lose(note)
    assert isinstance(ask(s, table, 0, level=level), Found)
    local = s.cluster.machines[0].place.datacentre
    places = [s.cluster.machines[peer].place.datacentre == local for peer in sorted(set(follows))]
    assert (sum(places), len(places) - sum(places)) == (here, there)


def test_without_enough_replicas_it_is_unavailable_and_at_one_it_works() -> None:
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v",))
    fill(s, table, 5)
    s.kill(1, 2)
    assert s.until(lambda: s.sees_dead(0, 1, 2))
    assert ask(s, table, 0) == Unavailable(2, 1, Level.QUORUM)
    answer = ask(s, table, 0, level=Level.ONE)
    assert isinstance(answer, Found) and len(answer.rows) == 5


def test_siblings_that_cannot_be_followed_in_time_are_a_timeout() -> None:
    s = Scenario(settings=QUIET | {"read_timeout_us": 500_000})
    s.start()
    table = table_of(s, "t", ("v",))
    s.lose(lambda _source, _target, message: isinstance(message, Follow))
    check = (Check(IndexTarget("v"), ANY),)
    reply = s.ask(FindRequest(table.id, Level.QUORUM, check), timeout_s=2.0)
    assert reply.unknown or isinstance(reply.answer, Timeout)
    s.heal()
    assert isinstance(ask(s, table, 0), Found)


# --- building


def test_a_read_waits_for_an_index_that_is_nearly_built_and_is_refused_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v", "w"))
    fill(s, table, 10)
    step = IndexBuilding._step
    monkeypatch.setattr(IndexBuilding, "_step", lambda self: None)
    index = create_index(s)
    refused = ask(s, table, index)
    assert isinstance(refused, Invalid) and refused.code == "index_building"
    assert "n1: 0 % built" in refused.detail and "n3: 0 % built" in refused.detail
    step(s.node(2).building)  # one slice is all there is
    assert s.until(lambda: s.node(2).building.is_built(index))
    answer = ask(s, table, index)
    assert isinstance(answer, Found) and len(answer.rows) == 10, "one replica is enough"
    monkeypatch.setattr(IndexBuilding, "_step", step)
    other = create_index(s, "w")  # it may not be built yet when it is asked for at once
    assert isinstance(ask(s, table, other), Found)


def test_building_goes_on_after_a_restart_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v",))
    fill(s, table, 1_000)
    begun: list[tuple[int, bytes]] = []
    build = Store._index_build

    def noted(self: Store, command: IndexBuild) -> Any:
        begun.append((id(self), command.after))
        return build(self, command)

    monkeypatch.setattr(Store, "_index_build", noted)
    index = create_index(s)
    assert s.until(lambda: 0 < s.node(1).building.progress(index) < 1)
    s.power_cut(1)
    monkeypatch.setattr(Store, "_index_build", noted)
    before = len(begun)
    s.start(1)
    assert s.until(lambda: built(s, index))
    known = [store for store, _ in begun[:before]]
    first_after_restart = next(after for store, after in begun[before:] if store not in known)
    assert first_after_restart, "it did not begin anew"
    assert s.node(1).building.status()[0]["rows"] == 1_000
    answer = ask(s, table, index, at=1, level=Level.ONE, rows_max=2_000)
    assert isinstance(answer, Found) and len(answer.rows) == 1_000


def test_dropping_an_index_removes_its_entries_everywhere_even_while_it_is_built() -> None:
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v",))
    fill(s, table, 600)
    index = create_index(s)
    assert s.until(lambda: s.node(0).building.progress(index) > 0)
    answer = s.ask(MetadataRequest(DropIndex("kv", "by_v"))).answer
    assert isinstance(answer, Changed) and not answer.error

    def entries() -> int:
        end = keys.successor(keys.ENTRY)
        return sum(len(machine.engine.keys(keys.ENTRY, end)) for machine in s.cluster.machines)

    def records() -> int:
        first = keys.system_key(b"index/")
        return sum(len(machine.engine.keys(first, keys.successor(first))) for machine in s.cluster.machines)

    assert s.until(lambda: entries() == 0 and records() == 0)
    refused = ask(s, table, index)
    assert isinstance(refused, Invalid)


def test_a_damaged_entry_is_read_elsewhere_and_its_index_built_anew() -> None:
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("v",))
    fill(s, table, 300)
    index = create_index(s)
    assert s.until(lambda: built(s, index))
    engine = s.cluster.machines[0].engine
    engine.damage(engine.keys(keys.ENTRY, keys.successor(keys.ENTRY))[150])
    answer = ask(s, table, index, level=Level.ONE, rows_max=500)
    assert isinstance(answer, Found) and len(answer.rows) == 300, "another replica serves"
    machine = s.cluster.machines[0]
    assert s.until(lambda: machine.start > 1 and machine.process is not None), "its store is mended"
    assert s.until(lambda: built(s, index))
    s.kill(1, 2)
    assert s.until(lambda: s.sees_dead(0, 1, 2))
    answer = ask(s, table, index, level=Level.ONE, rows_max=500)
    assert isinstance(answer, Found) and len(answer.rows) == 300
    assert "index_rebuilt" in [event.name for _, _, event in s.cluster.log]


def test_a_damaged_row_comes_back_from_others_and_does_not_cost_the_index() -> None:
    s = Scenario()
    s.start()
    table = table_of(s, "t", ("v",))
    fill(s, table, 50)
    fill(s, table, 5, b"y", first=50)
    index = create_index(s)
    assert s.until(lambda: built(s, index))
    engine = s.cluster.machines[0].engine
    rows = engine.keys(keys.table_prefix(table.id), keys.successor(keys.table_prefix(table.id)))
    engine.damage(next(row for row in rows if keys.split_row_key(row)[2] == b"k7"))
    assert found(ask(s, table, index, level=Level.ONE)) == 50, "another replica serves"
    machine = s.cluster.machines[0]
    assert s.until(lambda: machine.start > 1 and machine.process is not None), "its store is mended"
    assert s.until(lambda: node_of(s.cluster, 0).mending.left == 0), "and what was lost is given back"
    assert built(s, index)
    s.kill(1, 2)
    assert s.until(lambda: s.sees_dead(0, 1, 2))
    assert found(ask(s, table, index, level=Level.ONE)) == 50
    assert found(ask(s, table, index, level=Level.ONE, spans=point(b"y"))) == 5


def found(answer: Answer | None) -> int:
    assert isinstance(answer, Found), answer
    return len(answer.rows)


def test_static_rows_count_towards_what_an_answer_may_hold() -> None:
    """They come along, one for each partition that is found: rows alone fit in an answer that they do not."""
    s = Scenario(peers=5, settings=QUIET)
    s.start()
    columns = (
        Column(0, "key", "text", PARTITION),
        Column(0, "at", "text", CLUSTERING),
        Column(0, "s", "blob", STATIC),
        Column(0, "v", "blob", REGULAR),
    )
    answer = s.ask(MetadataRequest(CreateTable("kv", "wide", columns, TableOptions()))).answer
    assert isinstance(answer, Changed) and not answer.error
    assert s.until(lambda: all(s.state(peer).table("kv", "wide") for peer in s.cluster.running()))
    table = s.state(0).table("kv", "wide")
    assert table is not None
    static, value = (column.id for column in table.columns if column.kind in (STATIC, REGULAR))
    for number in range(120):
        rows = (
            RowWrite(keys.STATIC_SUFFIX, (Write(static, (), 0, b"s" * 40_000),)),
            RowWrite(keys.ROW_SUFFIX + b"a\x00\x00", (Write(value, (), 0, b"x"),)),
        )
        request = WriteRequest(table.id, b"k%d" % number, rows, Level.ALL, 1)
        assert isinstance(s.ask(request).answer, Written)
    sizes: list[int] = []

    def note(_source: int, _target: int, message: Message) -> bool:
        if isinstance(message, SliceFound):
            sizes.append(sum(len(data) for _, data in message.statics))
        return False

    s.lose(note)
    found: list[bytes] = []
    cursor = b""
    check = Check(IndexTarget("v"), point(b"x"))
    while True:
        request_ = FindRequest(table.id, Level.QUORUM, (check,), cursor=cursor, statics=True)
        page = s.ask(request_, at=0).answer
        assert isinstance(page, Found), page
        assert all(any(key.startswith(row.key[:-4]) for key, _ in page.statics) for row in page.rows)
        assert len(page.statics) == len(page.rows) < 60
        found += [keys.split_row_key(row.key)[2] for row in page.rows]
        if not page.more:
            break
        cursor = page.cursor
    assert sorted(found) == keys_of(120)
    assert sizes and all(size < limits.SLICE_BYTES_MAX + 50_000 for size in sizes), sizes
