"""Instants against the standard library's calendar, which the inside does without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from index.fields import fields_of
from index.instants import (
    CALENDAR,
    add_months,
    begin_of,
    format_instant,
    next_begin,
    parse_instant,
    resolve_date,
)
from index.mapping import DEFAULT, Rules, compile_mapping
from query.zones import ahead_us, clock_of, zone_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


moments = st.datetimes(datetime(1, 1, 1), datetime(9990, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments)
def test_what_the_standard_library_writes_is_read_and_written_back(moment: datetime) -> None:
    assert parse_instant(moment.isoformat()) == us(moment)
    assert parse_instant(format_instant(us(moment))) == us(moment)


@given(moments, st.sampled_from(CALENDAR))
def test_an_instant_lies_in_its_calendar_unit(moment: datetime, unit: str) -> None:
    at_us = us(moment)
    begin_us, next_us = begin_of(at_us, unit), next_begin(at_us, unit)
    assert begin_us <= at_us < next_us
    assert begin_of(next_us - 1, unit) == begin_us and begin_of(next_us, unit) == next_us
    begin = EPOCH + timedelta(microseconds=begin_us)
    if unit == "week":
        assert begin.weekday() == 0
    if unit in ("month", "quarter", "year"):
        assert begin.day == 1 and begin.hour == 0


def test_months_are_added_with_the_last_day_kept_in() -> None:
    last = parse_instant("2024-01-31")
    assert last is not None
    assert format_instant(add_months(last, 1)) == "2024-02-29T00:00:00.000Z"
    assert format_instant(add_months(last, 11)) == "2024-12-31T00:00:00.000Z"
    assert format_instant(add_months(last, -2)) == "2023-11-30T00:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "zone", "up", "shown"),
    [
        ("2024", "", False, "2024-01-01T00:00:00.000Z"),
        ("2024", "", True, "2024-12-31T23:59:59.999999Z"),
        ("2024-02", "", True, "2024-02-29T23:59:59.999999Z"),
        ("2024-02-03", "+09:00", False, "2024-02-02T15:00:00.000Z"),
        ("2024-02-03T10:20:30.5+01:00", "", False, "2024-02-03T09:20:30.500Z"),
        ("2024-02-03", "Asia/Seoul", False, "2024-02-02T15:00:00.000Z"),
        ("2024-07-01", "Europe/Berlin", False, "2024-06-30T22:00:00.000Z"),
        ("2024-01-01||+6M/d", "Europe/Berlin", False, "2024-06-30T22:00:00.000Z"),
        ("now", "", False, "2024-05-15T12:30:00.000Z"),
        ("now-1d/d", "", False, "2024-05-14T00:00:00.000Z"),
        ("now/M", "", True, "2024-05-31T23:59:59.999999Z"),
        ("2024-05-31||+1M", "", False, "2024-06-30T00:00:00.000Z"),
        ("2024-05-31||/y", "", False, "2024-01-01T00:00:00.000Z"),
        ("2026-11-01", "America/Havana", False, "2026-11-01T04:00:00.000Z"),
        ("2026-10-25T02:30", "Europe/Berlin", False, "2026-10-25T00:30:00.000Z"),
        ("2026-10-25T02:30", "Europe/Berlin", True, "2026-10-25T01:30:59.999999Z"),
    ],
)
def test_date_mathematics(text: str, zone: str, up: bool, shown: str) -> None:
    now_us = parse_instant("2024-05-15T12:30:00Z")
    assert now_us is not None
    of = zone_of(zone)
    assert of is not None
    found = resolve_date(text, now_us, zone=of, up=up)
    assert found is not None
    assert format_instant(found) == shown


@pytest.mark.parametrize("text", ["", "x", "2024-13-01", "2024-02-30", "now+", "now+1q", "2024||1d", "20240"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert resolve_date(text, 0) is None
    assert parse_instant("2024") is None


@given(st.text(max_size=30))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert isinstance(resolve_date(text, 0), int | None)


@given(moments, st.sampled_from(("%b %d %Y", "%B %d, %Y", "%d %b %Y", "%b. %d, %Y")))
def test_dates_with_english_months_are_read(moment: datetime, form: str) -> None:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    text = day.strftime(form).replace(f"{day.year}", f"{day.year:04}")
    assert parse_instant(text) == us(day)
    assert parse_instant(text.upper(), up=True) == us(day) + 86_400_000_000 - 1


@pytest.mark.parametrize(
    "text", ["Jun 31 1998", "Foo 12 1998", "Jun 1998", "Jun 12 98", "on Jun 12 1998", "Apollo 13 1995"]
)
def test_what_only_looks_like_a_date_is_none(text: str) -> None:
    assert parse_instant(text) is None


def test_they_are_dates_of_documents_and_still_text() -> None:
    rules = compile_mapping(DEFAULT)
    assert isinstance(rules, Rules)
    values = fields_of({"when": "Jun 12 1998", "title": "Blade Runner 2049"}, rules)
    assert values["when"].dates == [parse_instant("1998-06-12")]
    assert values["when"].text == values["when"].exact == ["Jun 12 1998"]
    assert values["title"].dates == [] and values["title"].text == ["Blade Runner 2049"]


@pytest.mark.parametrize("name", ["Asia/Seoul", "America/New_York", "Africa/Casablanca", "+05:30", "UTC"])
def test_a_zone_is_the_same_with_and_without_a_table(name: str) -> None:
    zone, clock = zone_of(name), clock_of(name)
    assert zone is not None and clock is not None
    for day in range(-20_000, 40_000, 37):
        at_us = day * 86_400_000_000 + 12_345_678
        assert clock(at_us) == ahead_us(zone, at_us)
    assert clock(-(10**18)) is not None and clock(10**18) is not None, "beyond all calendars"
    assert clock_of("Asia/Soul") is None is clock_of("../etc/passwd")


@pytest.mark.parametrize(
    ("of", "at", "unit", "begin", "end"),
    [
        ("Europe/Berlin", "2026-10-25T00:30", "h", "2026-10-25T00:00", "2026-10-25T01:00"),
        ("Europe/Berlin", "2026-10-25T01:30", "h", "2026-10-25T01:00", "2026-10-25T02:00"),
        ("Europe/Berlin", "2026-10-25T00:30", "m", "2026-10-25T00:30", "2026-10-25T00:31"),
        ("Europe/Berlin", "2026-10-25T00:30", "d", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("America/Havana", "2026-11-01T04:30", "d", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("America/Havana", "2026-11-01T05:30", "d", "2026-11-01T04:00", "2026-11-02T05:00"),
    ],
)
def test_what_is_rounded_where_clocks_are_put_back_holds_the_instant(
    of: str, at: str, unit: str, begin: str, end: str
) -> None:
    zone = zone_of(of)
    assert zone is not None
    for up, wanted in ((False, begin), (True, end)):
        found = resolve_date(f"{at}:00Z||/{unit}", 0, zone=zone, up=up)
        expected = parse_instant(f"{wanted}:00Z")
        assert found is not None and expected is not None
        assert found + up == expected, format_instant(found)
