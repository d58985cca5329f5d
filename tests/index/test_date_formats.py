"""Forms of dates: what is read and shown, and that both agree with the standard library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from index.date_formats import DateFormat, date_format
from index.instants import format_instant
from query.zones import Zone, ahead_us, instant_of, zone_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_ONLY = zone_of("UTC") or ()
BERLIN = zone_of("Europe/Berlin") or ()


def form(text: str) -> DateFormat:
    found = date_format(text)
    assert isinstance(found, DateFormat), found
    return found


@pytest.mark.parametrize(
    ("how", "text", "first", "last"),
    [
        ("dd/MM/yyyy", "15/02/2024", "2024-02-15T00:00:00.000Z", "2024-02-15T23:59:59.999999Z"),
        ("yyyy", "2024", "2024-01-01T00:00:00.000Z", "2024-12-31T23:59:59.999999Z"),
        ("yyyy-MM||yyyy", "2024", "2024-01-01T00:00:00.000Z", "2024-12-31T23:59:59.999999Z"),
        ("basic_date", "20240229", "2024-02-29T00:00:00.000Z", "2024-02-29T23:59:59.999999Z"),
        ("epoch_second", "1706000000", "2024-01-23T08:53:20.000Z", "2024-01-23T08:53:20.000Z"),
        ("epoch_millis", "1706000000123", "2024-01-23T08:53:20.123Z", "2024-01-23T08:53:20.123Z"),
        (
            "MMM d, yyyy h:mm a",
            "Feb 5, 2024 3:07 PM",
            "2024-02-05T15:07:00.000Z",
            "2024-02-05T15:07:59.999999Z",
        ),
        ("d MMMM yy", "5 February 24", "2024-02-05T00:00:00.000Z", "2024-02-05T23:59:59.999999Z"),
        ("D yyyy", "60 2024", "2024-02-29T00:00:00.000Z", "2024-02-29T23:59:59.999999Z"),
        ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2024-02-15T01:02:03.456+09:00", "2024-02-14T16:02:03.456Z", None),
        ("strict_date_optional_time", "2024-02", "2024-02-01T00:00:00.000Z", "2024-02-29T23:59:59.999999Z"),
    ],
)
def test_what_is_read(how: str, text: str, first: str, last: str | None) -> None:
    for up, expected in ((False, first), (True, last or first)):
        found = form(how).read(text, UTC_ONLY, up)
        assert found is not None
        assert format_instant(found) == expected


@pytest.mark.parametrize(("how", "text"), [("EEE", "Mon"), ("a", "AM"), ("XXX", "Z"), ("'x'", "x")])
def test_a_form_that_names_no_part_of_a_date_is_read_all_the_same(how: str, text: str) -> None:
    assert form(how).read(text, UTC_ONLY, False) == form(how).read(text, UTC_ONLY, True) == 0


@pytest.mark.parametrize("text", ["366 2023", "367 2024", "0 2024", "999 2024"])
def test_a_year_has_no_more_days_than_it_has(text: str) -> None:
    assert form("D yyyy").read("366 2024", UTC_ONLY, False) is not None
    assert form("D yyyy").read(text, UTC_ONLY, False) is None


@pytest.mark.parametrize("text", ["31/02/2024", "1/2/2024", "15-02-2024", "15/02/2024 ", ""])
def test_what_is_not_of_the_form_is_none(text: str) -> None:
    assert form("dd/MM/yyyy").read(text, UTC_ONLY, False) is None


@pytest.mark.parametrize("text", ["", "foo", "yyyy'x", "yyyyy-qq", "dd dd", "x" * 300])
def test_what_is_no_form_is_told(text: str) -> None:
    assert isinstance(date_format(text), str)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(10**15), 4 * 10**15), st.sampled_from(["Europe/Berlin", "Asia/Seoul", "America/New_York"])
)
def test_zones_and_forms_are_those_of_the_standard_library(at_us: int, name: str) -> None:
    zone: Zone = zone_of(name) or ()
    here = (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(name))
    offset = here.utcoffset()
    assert offset is not None
    assert ahead_us(zone, at_us) == int(offset.total_seconds()) * 1_000_000
    assert form("yyyy-MM-dd HH:mm:ss").show(at_us, zone) == f"{here.year:04}" + here.strftime(
        "-%m-%d %H:%M:%S"
    )
    again = instant_of(zone, at_us + ahead_us(zone, at_us))
    assert abs(again - at_us) in (0, 3_600_000_000)  # an hour that comes twice


def test_what_is_no_zone_is_none() -> None:
    for text in ("Moon", "+25:00", "../../etc/passwd", "x" * 200, "Europe/"):
        assert zone_of(text) is None
    assert zone_of("+9") == zone_of("+09:00")
    assert len(BERLIN) > 100
