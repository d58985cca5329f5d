"""Time zones: `Z`, `+09:00`, or a name of the tz database (`Asia/Seoul`), as how far they are ahead of UTC.

A zone is a table of moments from which on it is so far ahead, so that whoever coordinates a search looks its
zone up once, and all peers count by that table: their machines may know different editions of the database.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * SECOND_US
"""No clocks are put back or forth by more."""
_FIXED = re.compile(r"([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGIN: Final = int((datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())
_END: Final = int((datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())
_FIRST_US: Final = int((datetime(1, 1, 3, tzinfo=UTC) - _EPOCH).total_seconds()) * SECOND_US
_LAST_US: Final = int((datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH).total_seconds()) * SECOND_US
_STEP: Final = 20 * 86_400
"""No zone changes back and forth within so many seconds, but for a few in a Ramadan of one year."""

Zone = tuple[tuple[int, int], ...]
"""(from when on, how far ahead), ascending, in microseconds; the first from the beginning of time."""

UTC_ZONE: Final[Zone] = ((-(2**62), 0),)


@lru_cache(200)
def zone_of(text: str) -> Zone | None:
    """The zone of this text; None if there is none."""
    fixed_us = _fixed_us(text)
    if fixed_us is not None:
        return ((-(2**62), fixed_us),)
    named = _named(text)
    return None if named is None else _table(named)


Clock = Callable[[int], int]
"""How far a zone's clocks are ahead of UTC at an instant, in microseconds."""


def clock_of(text: str) -> Clock | None:
    """The same without a table, which takes a hundredth of a second to make."""
    fixed_us = _fixed_us(text)
    if fixed_us is not None:
        return lambda at_us: fixed_us  # noqa: ARG005
    named = _named(text)
    if named is None:
        return None

    def ahead(at_us: int) -> int:
        at = _EPOCH + timedelta(microseconds=min(max(at_us, _FIRST_US), _LAST_US))
        offset = at.astimezone(named).utcoffset()
        assert offset is not None, "a zone has an offset"
        return int(offset.total_seconds()) * SECOND_US

    return ahead


def _fixed_us(text: str) -> int | None:
    if text in ("", "Z", "UTC"):
        return 0
    match = _FIXED.fullmatch(text)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return None if minutes > 18 * 60 else minutes * 60 * SECOND_US * (1 if match[1] == "+" else -1)


@lru_cache(1_000)
def _named(text: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(text) if _NAME.fullmatch(text) else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _table(zone: ZoneInfo) -> Zone:
    def ahead(at: int) -> int:
        offset = (_EPOCH + timedelta(seconds=at)).astimezone(zone).utcoffset()
        assert offset is not None, "a zone has an offset"
        return int(offset.total_seconds()) * SECOND_US

    found = [(-(2**62), ahead(_BEGIN))]
    for begin in range(_BEGIN, _END, _STEP):
        low, high = begin, begin + _STEP
        after = ahead(high)
        if after == found[-1][1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if ahead(middle) == found[-1][1] else (low, middle)
        found.append((high * SECOND_US, after))
    return tuple(found)


def ahead_us(zone: Zone, at_us: int) -> int:
    """How far the zone is ahead of UTC at this instant."""
    return zone[0][1] if len(zone) == 1 else zone[max(0, bisect_right(zone, (at_us, 2**62)) - 1)][1]


def instant_of(zone: Zone, local_us: int) -> int:
    """The instant at which clocks of the zone show this; of two the second, of none the end of the gap."""
    if len(zone) == 1:
        return local_us - zone[0][1]
    before, after = ahead_us(zone, local_us - _DAY_US), ahead_us(zone, local_us + _DAY_US)
    for ahead in (after, before):
        if ahead_us(zone, local_us - ahead) == ahead:
            return local_us - ahead
    return zone[bisect_right(zone, (local_us - before, 2**62)) - 1][0]


def first_instant_of(zone: Zone, local_us: int) -> int:
    """The same; of two the first."""
    if len(zone) == 1:
        return local_us - zone[0][1]
    before = ahead_us(zone, local_us - _DAY_US)
    first_us = local_us - before
    return first_us if ahead_us(zone, first_us) == before else instant_of(zone, local_us)


def instant_at(clock: Clock, local_us: int) -> int:
    """The instant at which a clock shows this; of two the first, of none as much after the gap as it lies in
    it. No zone changes twice in two days.
    """
    before_us, after_us = clock(local_us - _DAY_US), clock(local_us + _DAY_US)
    first_us = local_us - max(before_us, after_us)
    return first_us if clock(first_us) == max(before_us, after_us) else local_us - min(before_us, after_us)


def begun_at(clock: Clock, at_us: int, local_us: int) -> int:
    """The instant at which something less than a day began that the clock shows at an instant, and that began
    when it showed `local_us`: an hour that comes twice begins twice.
    """
    ahead = clock(at_us)
    return local_us - ahead if clock(local_us - ahead) == ahead else instant_at(clock, local_us)
