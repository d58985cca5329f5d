"""A consumer group of three over three peers, and how soon parts are handed over: five seconds at most, by
any of the ways in which a member may go.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.json import encode
from msgspec.structs import replace

from core.consistency import Level
from core.requests import Invalid, Told, WriteRequest, Written
from core.streaming import ACK, FORGET, LIST, MAKE, SHOW, SNAPSHOT, START, GroupRequest, Place
from core.trimming import LogTrim
from jepsen_like.group_member import SESSION_US, Group, GroupMember
from jepsen_like.scenarios import SECOND, Scenario
from kv import buckets, operations
from lsm.keys import TOKEN_MAX, TOKEN_MIN, row_key
from node.group_records import BEATS, BUCKET, SINKS
from streams.cursor import Cursor, decode_cursor, encode_cursor, name_of

HAND_OVER_S = 5.0
PARTS = 6


class Story:
    """Three peers, three members of one group, and a key that is written every tenth of a second."""

    def __init__(self, settings: dict[str, int] | None = None) -> None:
        self.s = Scenario(settings=settings)
        self.s.start()
        bucket = self.s.bucket("b", changes="new")
        self.group = Group(self.s.cluster, bucket, "etl", PARTS)
        self.members = [GroupMember(self.group, f"m{number}") for number in range(3)]
        for number, member in enumerate(self.members):
            member.open(number)
        assert self.s.until(self.shared)
        self.written = 0
        self.writer = 0
        self.write(6)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.written += 1
            end = self.s.put("b", f"k{self.written}", b"%d" % self.written, at=self.writer)
            assert end.status == "ok", end
            self.s.run(0.1)

    def shared(self) -> bool:
        """Whether the members that live have all parts, and about as many each."""
        counts = [len(member.parts) for member in self.members if member.alive]
        return sum(counts) == PARTS and max(counts) - min(counts) <= 1

    def lost(self) -> list[int]:
        return [n for n in range(1, self.written + 1) if (f"k{n}", b"%d" % n) not in self.group.done]

    def handed_over(self, within_s: float = HAND_OVER_S) -> None:
        """Parts change hands in time, and nothing is lost then."""
        began_us = self.s.cluster.now_us
        assert self.s.until(self.shared, within_s), [(m.alive, m.parts) for m in self.members]
        assert self.s.cluster.now_us - began_us < within_s * SECOND
        self.write(6)
        assert self.s.until(lambda: not self.lost(), HAND_OVER_S), self.lost()
        assert not self.group.problems, self.group.problems


def a_member_dies(story: Story) -> None:
    story.members[0].die()


def its_peer_is_killed_too(story: Story) -> None:
    story.writer = 2
    story.members[1].die(vanish=True)
    story.s.kill(1)


def its_peer_stands_still(story: Story) -> None:
    story.writer = 2
    story.members[1].die(vanish=True)
    story.s.pause(1)


@pytest.mark.parametrize("event", [a_member_dies, its_peer_is_killed_too, its_peer_stands_still])
def test_who_goes_is_replaced_in_time(event: Callable[[Story], None]) -> None:
    story = Story()
    event(story)
    story.handed_over()


def test_a_member_whose_machine_is_gone_is_missed_after_its_session() -> None:
    story = Story()
    story.members[0].die(vanish=True)
    story.handed_over(SESSION_US / SECOND + HAND_OVER_S)


def test_members_go_come_and_move() -> None:
    story = Story()
    its_peer_is_killed_too(story)
    story.handed_over()
    story.s.start(1)
    story.members[1].open(1)
    story.handed_over()
    story.members.append(GroupMember(story.group, "m3"))
    story.members[-1].open()
    story.handed_over()
    assert story.group.handed_over > 0


def test_who_stood_still_acknowledges_nothing() -> None:
    story = Story()
    its_peer_stands_still(story)
    story.handed_over()
    before = dict(story.group.done)
    refused = story.group.refused
    story.members[0].die(stands_still_us=3 * SECOND)
    story.handed_over()
    story.s.resume(1)
    assert story.s.until(lambda: story.group.refused > refused, 10)
    story.s.run(2)
    assert not story.group.problems and set(before) <= set(story.group.done)


def log_of(story: Story, peer: int) -> tuple[int, int]:
    """The first and the last offset that a peer's log holds."""
    process = story.s.cluster.machines[peer].process
    assert process is not None
    log = process.disk.executor.store.log
    return log.first, log.end


def told(story: Story, verb: str, **more: object) -> Told:
    request = GroupRequest(verb, "kv.b", "etl", **more)  # type: ignore[arg-type]
    answer = story.s.ask(request).answer
    assert isinstance(answer, Told), answer
    return answer


def test_the_log_waits_for_a_slow_group_up_to_a_cap_and_beyond_it_there_is_a_gap() -> None:
    story = Story({"log_retention_us": 10 * SECOND, "log_held_us": 400 * SECOND})
    for member in story.members:
        member.die()
    story.s.run(5)
    story.write(30)
    lag = told(story, SHOW).body["lag"]
    behind = lag["events"]
    assert 30 <= behind <= 36 and 0 < lag["seconds"] < 10 and lag["bytes"] > 30 and not lag["at_least"]
    story.s.run(200)  # far beyond the retention, and two looks at the log's end
    assert told(story, SHOW).body["lag"]["events"] == behind
    for number, member in enumerate(story.members):
        member.open(number)
    assert story.s.until(lambda: not story.lost(), 10) and not story.group.problems
    # what was read is forgotten at the next look
    story.s.run(130)
    first, end = log_of(story, 0)
    assert 36 < first <= end
    # beyond the cap
    for member in story.members:
        member.die()
    story.s.run(5)
    story.write(10)
    story.s.run(600)
    for number, member in enumerate(story.members):
        member.open(number)
    assert story.s.until(lambda: bool(story.group.problems), 10)
    assert {problem.name for problem in story.group.problems} == {"gap"}
    story.write(5)
    wanted = range(story.written - 4, story.written + 1)
    assert story.s.until(lambda: not set(wanted) & set(story.lost()), 10), "and goes on"


def test_groups_are_listed_made_and_forgotten() -> None:
    story = Story()
    assert [group["group"] for group in told(story, LIST).body["groups"]] == ["etl"]
    assert story.s.ask(GroupRequest(MAKE, "kv.b", "etl", parts=2)).answer is not None
    shown = told(story, SHOW).body
    assert len(shown["parts"]) == PARTS and len(shown["members"]) == 3, "it has members: nothing is set"
    for member in story.members:
        member.die()
    assert story.s.until(lambda: not told(story, SHOW).body["members"], 5)
    assert len(told(story, MAKE, parts=2, start=START).body["parts"]) == 2
    assert told(story, SHOW).body["lag"] is None, "where it begins is not known before it is read"
    told(story, FORGET)
    assert not told(story, LIST).body["groups"]


@pytest.mark.parametrize("scanned", [b"R", row_key(1_000, 5, b"of another table")])
def test_a_snapshot_is_not_acknowledged_up_to_where_it_has_no_row(scanned: bytes) -> None:
    """It would go on from there, where nobody can read it."""
    s = Scenario()
    s.start()
    bucket = s.bucket("b", changes="new")
    cursor = Cursor(name_of(s.state(0).cluster, "kv.b"), bucket.table, 0, (), scanned=scanned)
    cursor = replace(cursor, places=(Place(TOKEN_MIN, TOKEN_MAX, 1, ((1, 1),)),))
    request = GroupRequest(ACK, "kv.b", "etl", session="s", acks=((0, 1),), cursor=encode_cursor(cursor))
    refused = s.ask(request).answer
    assert isinstance(refused, Invalid) and refused.code == "bad_cursor", refused


@pytest.mark.parametrize(("slot", "word"), [("7", b"\xff"), ("9" * 5_000, b"x"), ("\u00b2", b"x")])
def test_beats_that_are_none_end_nobody(slot: str, word: bytes) -> None:
    """They are kept in a bucket, where everybody who may can put what he likes."""
    story = Story()
    beats = buckets.find(story.s.state(0), BEATS)
    assert beats is not None
    put = operations.put(beats, f"kv.b/etl/{slot}", word, "text/plain", Level.QUORUM)
    assert isinstance(put, WriteRequest) and isinstance(story.s.ask(put).answer, Written)
    story.s.run(3)
    a_member_dies(story)
    story.handed_over()


def test_however_many_groups_there_are_all_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs wait for groups that are known, and for no others."""
    monkeypatch.setattr("node.group_records.PAGE_ROWS", 3)
    s = Scenario()
    s.start()
    s.bucket("b", changes="new")
    for number in range(10):
        made = s.ask(GroupRequest(MAKE, "kv.b", f"g{number}", start=START, parts=1)).answer
        assert isinstance(made, Told), made
    listed = s.ask(GroupRequest(LIST, "", "")).answer
    assert isinstance(listed, Told)
    assert [group["group"] for group in listed.body["groups"]] == [f"g{number}" for number in range(10)]


def test_the_log_waits_for_a_sink_as_for_a_group() -> None:
    story = Story({"log_retention_us": 10 * SECOND, "log_held_us": 400 * SECOND})
    for member in story.members:
        member.die()
    story.s.run(5)
    standing = told(story, SHOW).body["parts"]
    cursors = [decode_cursor(part["cursor"]) for part in standing]
    told(story, FORGET)
    places = tuple(place for cursor in cursors if isinstance(cursor, Cursor) for place in cursor.places)
    assert isinstance(cursors[0], Cursor)
    cursor = encode_cursor(replace(cursors[0], places=tuple(sorted(places))))
    story.s.bucket(SINKS)

    def delivered(record: dict[str, object]) -> None:
        data = encode({"name": "files", "kind": "ndjson", **record})
        assert story.s.put(SINKS, "files", data).status == "ok"

    delivered({"cursor": cursor})
    story.write(30)
    story.s.run(200)
    first, end = log_of(story, 0)
    assert end - first >= 30, "what it has still to read"
    delivered({"cursor": cursor, "removed": True})
    story.s.run(130)
    assert log_of(story, 0)[0] > end, "nobody waits any more"


def test_what_a_client_puts_where_records_are_kept_ends_nobody() -> None:
    story = Story({"log_retention_us": 10 * SECOND})
    s, state = story.s, story.s.state(0)
    there = {name: found for name in (BUCKET, BEATS) if (found := buckets.find(state, name)) is not None}
    assert len(there) == 2
    s.buckets.update(there)
    s.bucket(SINKS)
    for number, value in enumerate((b'{"name":"\xff"}', b'{"x":' + b"[" * 5_000, b"\xff")):
        for name in (BUCKET, BEATS, SINKS):
            assert s.put(name, f"kv.b/etl/{number}", value).status == "ok"
    assert [group["group"] for group in told(story, LIST).body["groups"]] == ["etl"]
    s.run(130)  # logs ask who waits for them
    story.write(2)
    assert s.until(lambda: not story.lost(), HAND_OVER_S)


def test_the_log_is_trimmed_as_ever_where_nobody_waits() -> None:
    story = Story({"log_retention_us": 10 * SECOND})
    for member in story.members:
        member.die()
    story.s.run(5)
    told(story, FORGET)
    story.s.run(130)
    first, end = log_of(story, 0)
    assert first == end + 1
    assert LogTrim(0, 0).held > end


def test_a_peer_that_cannot_reach_the_record_gives_its_members_up() -> None:
    story = Story()
    story.s.cut([1], [0, 2])
    story.writer = 0
    began_us = story.s.cluster.now_us

    def elsewhere() -> bool:
        return story.members[1].peer != 1 and story.shared()

    assert story.s.until(elsewhere, 10), [(m.peer, m.parts) for m in story.members]
    others = [part for member in (story.members[0], story.members[2]) for part in member.parts]
    assert others and story.s.cluster.now_us - began_us < 10 * SECOND
    story.s.heal()
    story.handed_over(10)


def test_a_member_without_parts_is_not_taken_for_dead() -> None:
    story = Story()
    story.members += [GroupMember(story.group, f"m{number}") for number in range(3, PARTS + 1)]
    for member in story.members[3:]:
        member.open()
    assert story.s.until(story.shared, 20)
    sessions = [member.sessions for member in story.members]
    story.s.run(3 * SESSION_US / SECOND)
    assert [member.sessions for member in story.members] == sessions, "nobody had to come back"
    assert sum(not member.parts for member in story.members) == 1


def test_a_group_that_begins_with_a_snapshot_works_on_every_row_whoever_dies() -> None:
    s = Scenario()
    s.start()
    bucket = s.bucket("b", changes="new")
    written: dict[str, bytes] = {}

    def write(number: int, value: bytes) -> None:
        assert s.put("b", f"k{number}", value, at=number % 3).status == "ok"
        written[f"k{number}"] = value

    for number in range(240):
        write(number, b"old")
    s.run(5)  # siblings have followed
    for peer in range(3):  # no log has these any more: only the rows do
        s.node(peer).inside.submit(("log_trimmed",), LogTrim(2**60, 0))
    s.run(1)
    group = Group(s.cluster, bucket, "etl", PARTS, SNAPSHOT)
    members = [GroupMember(group, f"m{number}") for number in range(3)]
    for number, member in enumerate(members):
        member.open(number)
    assert s.until(lambda: group.acks > 0 and group.rows > 0, 20)
    members[0].die()  # with what it held, in the middle of the rows
    for number in range(0, 240, 3):
        write(number, b"new%d" % number)
    s.kill(1)
    assert s.until(lambda: group.rows >= 240, 30)
    s.start(1)
    members[0].open(2)
    write(240, b"last")

    def lost() -> list[str]:
        return [key for key, value in written.items() if (key, value) not in group.done]

    assert s.until(lambda: not lost(), 20), lost()
    assert group.rows < 480 and not group.problems, (group.rows, group.problems)
    # who comes later begins where the group is, not with the rows
    rows = group.rows
    members.append(GroupMember(group, "m3"))
    members[-1].open()
    s.run(5)
    assert members[-1].parts and group.rows == rows
