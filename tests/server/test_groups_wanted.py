"""What a member of a group may ask, and what is refused by name."""

from __future__ import annotations

import pytest

from core.streaming import NOW, SNAPSHOT, START
from server.rest.changes_wanted import start_of, wanted_of
from server.rest.problems import ProblemError

NOW_US = 1_700_000_000_000_000


def test_what_a_member_says() -> None:
    wanted = wanted_of("group=etl&member=a.b-1&ack=auto&session=5&parts=4&from=10m", {}, NOW_US)
    assert wanted.joining == ("etl", "a.b-1", 4, 5_000_000, True)
    assert (wanted.start, wanted.since_us) == (START, NOW_US - 600_000_000)
    assert wanted_of("group=etl", {}, NOW_US).joining == ("etl", "", 16, 0, False)
    assert wanted_of("", {}, NOW_US).joining is None


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("group=", "bad-group"),
        ("group=a/b", "bad-group"),
        (f"group={'a' * 49}", "bad-group"),
        ("group=etl&member=%20", "bad-group"),
        ("group=etl&parts=0", "bad-group"),
        ("group=etl&parts=257", "bad-group"),
        ("group=etl&session=301", "bad-query"),
        ("group=etl&session=x", "bad-query"),
        ("group=etl&ack=perhaps", "bad-query"),
        ("group=etl&part=1/2", "bad-query"),
        ("member=a", "bad-query"),
        ("ack=auto", "bad-query"),
    ],
)
def test_what_is_refused(query: str, kind: str) -> None:
    with pytest.raises(ProblemError) as refused:
        wanted_of(query, {}, NOW_US)
    assert refused.value.kind == kind


def test_where_a_group_begins() -> None:
    assert start_of("now", NOW_US) == (NOW, 0)
    assert start_of("1h", NOW_US) == (START, NOW_US - 3_600_000_000)
    assert start_of("snapshot", NOW_US) == (SNAPSHOT, 0)
    with pytest.raises(ProblemError):
        start_of("yesterday", NOW_US)
