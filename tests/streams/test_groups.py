"""What must hold of a group's record, whatever happens in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings, strategies as st

from core.streaming import Place
from streams import groups
from streams.cursor import Cursor, decode_cursor
from streams.groups import (
    Ack,
    Group,
    Member,
    Part,
    decode_ack,
    decode_group,
    encode_ack,
    encode_group,
    part_range,
)

NAMES = ("a", "b", "c", "d")


def cursor(number: int, count: int, offset: int, server: int = 1, table: int = 7) -> Cursor:
    return Cursor("c:docs.t", table, 0, (Place(*part_range(number, count), server, ((server, offset),)),))


def offset_of(part: Part, server: int = 1) -> int:
    found = decode_cursor(part.cursor)
    assert isinstance(found, Cursor)
    return dict(found.places[0].offsets)[server]


@dataclass
class World:
    """A group, and all that was ever true of it."""

    group: Group
    sessions: int = 0
    offset: int = 0
    fences: list[int] = field(default_factory=list)
    seen: list[tuple[str, int, int]] = field(default_factory=list)
    """(session, part, fence) of every ownership there ever was."""

    def check(self, before: Group) -> None:
        now = self.group
        sessions = [member.session for member in now.members]
        assert len({member.slot for member in now.members}) == len(sessions)
        assert len({member.name for member in now.members}) == len(sessions)
        assert now.generation >= before.generation
        for number, (old, part) in enumerate(zip(before.parts, now.parts, strict=True)):
            assert part.fence >= old.fence
            assert part.owner == old.owner or part.fence > old.fence, "another owner has a higher fence"
            assert bool(part.owner) == bool(sessions) and (not part.owner or part.owner in sessions)
            assert not part.to or (part.to in sessions and part.to != part.owner)
            assert not old.cursor or offset_of(part) >= offset_of(old), "a cursor goes back"
            self.seen.append((part.owner, number, part.fence))
        claims = [[part.claim for part in now.parts].count(session) for session in sessions]
        assert not claims or max(claims) - min(claims) <= 1, claims
        assert decode_group(encode_group(now)) == now


STEPS = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(NAMES)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("ack"), st.integers(0, 200)),
)


def step(world: World, kind: str, which: str | int) -> None:
    group = world.group
    if kind == "join":
        world.sessions += 1
        world.group = groups.joined(group, Member(str(which), f"s{world.sessions}", "n1"))
        assert groups.joined(world.group, Member(str(which), f"s{world.sessions}", "n1")) == world.group
    elif kind == "leave" and group.members:
        session = group.members[int(which) % len(group.members)].session
        world.group = groups.left(group, (session,))
    elif kind == "release" and group.members:
        session = group.members[int(which) % len(group.members)].session
        world.group = groups.released(group, session, range(len(group.parts)))
    elif kind == "ack" and world.seen:
        session, number, fence = world.seen[int(which) % len(world.seen)]
        world.offset += 1
        moved = cursor(number, len(group.parts), world.offset)
        after = groups.committed(group, session, {number: (fence, moved)}, 5)
        is_current = (group.parts[number].owner, group.parts[number].fence) == (session, fence)
        assert (number in after.accepted) == is_current and (number in after.refused) != is_current
        assert is_current or after.group.parts == group.parts, "a stale owner moved a cursor"
        assert not is_current or offset_of(after.group.parts[number]) == world.offset
        world.group = after.group


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 7), st.lists(STEPS, max_size=30))
def test_a_group_stays_sound(parts: int, steps: list[tuple[str, str | int]]) -> None:
    world = World(Group("docs.t", "g", 1, (Part(),) * parts))
    for kind, which in steps:
        before = world.group
        step(world, kind, which)
        world.check(before)


def test_what_is_released_ends_even() -> None:
    group = Group("docs.t", "g", 1, (Part(),) * 6)
    for number in range(3):
        group = groups.joined(group, Member(f"m{number}", f"s{number}", "n1"))
    for session in ("s0", "s1", "s2"):
        group = groups.released(group, session, range(6))
    assert sorted(len(group.owned(f"s{number}")) for number in range(3)) == [2, 2, 2]
    assert all(not part.to for part in group.parts)


def test_a_member_that_comes_again_gets_its_parts_at_once() -> None:
    group = groups.joined(Group("docs.t", "g", 1, (Part(),) * 4), Member("a", "s1", "n1"))
    group = groups.released(groups.joined(group, Member("b", "s2", "n1")), "s1", range(4))
    had = group.owned("s1")
    again = groups.joined(group, Member("a", "s3", "n2"))
    assert list(again.owned("s3")) == list(had) and not again.owned("s1")
    late = groups.committed(
        again, "s1", {part: (fence, cursor(part, 4, 9)) for part, fence in had.items()}, 1
    )
    assert late.refused == tuple(had) and late.group.parts == again.parts


def test_cursors_of_two_replicas_add_up() -> None:
    group = groups.joined(Group("docs.t", "g", 1, (Part(),)), Member("a", "s1", "n1"))
    for server, offset in ((1, 10), (2, 5), (1, 8)):
        moved = cursor(0, 1, offset, server)
        group = groups.committed(group, "s1", {0: (1, moved)}, 1).group
    assert (offset_of(group.parts[0], 1), offset_of(group.parts[0], 2)) == (10, 5)


def test_a_truncated_table_takes_the_cursor_along_and_never_back() -> None:
    group = groups.joined(Group("docs.t", "g", 1, (Part(),)), Member("a", "s1", "n1"))
    for table, offset in ((7, 10), (8, 4), (7, 12)):
        group = groups.committed(group, "s1", {0: (1, cursor(0, 1, offset, table=table))}, 1).group
    found = decode_cursor(group.parts[0].cursor)
    assert isinstance(found, Cursor) and (found.table, offset_of(group.parts[0])) == (8, 4)


@given(st.text(max_size=60))
def test_what_is_no_acknowledgement_is_refused(text: str) -> None:
    assert decode_ack(text) is None or encode_ack(decode_ack(text) or Ack("", (), "")) == text


def test_acknowledgements_are_text() -> None:
    ack = Ack("s", ((1, 2), (3, 4)), "cursor")
    assert decode_ack(encode_ack(ack)) == ack
    assert decode_ack(encode_ack(ack)[:-3] + "AAA") is None
