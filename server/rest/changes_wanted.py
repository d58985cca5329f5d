"""What a request for a change stream asks for: its query, each parameter checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from core.json_values import JsonError, parse
from core.streaming import CURSOR, NOW, SNAPSHOT, START
from query.document_filter import cost_of, parse_filter
from query.document_match import predicate
from query.document_projection import ID
from query.refusals import Refusal
from server.rest.problems import ProblemError
from server.rest.targets import decoded, number
from streams.cursor import Cursor, decode_cursor, laid_over
from streams.formats import FORMS, PLAIN
from streams.groups import NAME_CHARS_MAX, PARTS, PARTS_MAX

NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
PARAMETERS: Final = ("from", "format", "envelope", "key", "prefix", "op", "filter", "part", "limit")
MEMBER_PARAMETERS: Final = ("group", "member", "ack", "session", "parts")
OPERATIONS: Final = ("insert", "update", "delete", "expire", "truncate", "read")
FILTER_CHARS_MAX: Final = 64 * 1024


_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}")
_AGO = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Judge = Callable[[Any, str | None], bool]
"""Whether an image matches a filter; of a document its id is given, too."""


class Wanted(msgspec.Struct, frozen=True):
    """What a request asks for."""

    start: str = NOW
    cursor: Cursor | None = None
    since_us: int = 0
    form: str = "ndjson"
    envelope: str = PLAIN
    key: str | None = None
    prefix: str | None = None
    operations: tuple[str, ...] = ()
    condition: Judge | None = None
    part: tuple[int, int] = (1, 1)
    limit: int = 0
    joining: tuple[str, str, int, int, bool] | None = None
    """Of a member of a group: group, its own name ("": any), parts of a new group, its session in
    microseconds, and whether what it takes counts as acknowledged."""


def wanted_of(query: str, headers: Mapping[str, str], now_us: int) -> Wanted:
    """The parameters; a ProblemError for one that is unknown, twice there or not to be understood."""
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        name = decoded(name, "query")
        if name not in PARAMETERS and name not in MEMBER_PARAMETERS:
            there = ", ".join((*PARAMETERS, *MEMBER_PARAMETERS))
            raise ProblemError("bad-query", f"unknown parameter {name[:60]!r}; there are: {there}")
        if name in found:
            raise ProblemError("bad-query", f"the parameter {name} is there twice")
        found[name] = decoded(value if name == "from" else value.replace("+", " "), "query")
    last_id = headers.get("Last-Event-ID", "")
    start, cursor, since_us = _start(last_id or found.get("from", NOW), now_us)
    accept = "sse" if SSE in headers.get("Accept", "") else "ndjson"
    return Wanted(
        start=start,
        cursor=cursor,
        since_us=since_us,
        form=_among("format", found.get("format", accept), ("ndjson", "sse")),
        envelope=_among("envelope", found.get("envelope", PLAIN), tuple(FORMS)),
        key=found.get("key"),
        prefix=found.get("prefix"),
        operations=_operations(found.get("op", "")),
        condition=_condition(found["filter"]) if "filter" in found else None,
        part=_part(found["part"]) if "part" in found else (1, 1),
        limit=number("limit", found["limit"]) if "limit" in found else 0,
        joining=_joining(found, start),
    )


def _joining(found: Mapping[str, str], start: str) -> tuple[str, str, int, int, bool] | None:
    """What is said about being a member of a group; a ProblemError for what a member cannot ask."""
    if "group" not in found:
        lonely = [name for name in MEMBER_PARAMETERS if name in found]
        if lonely:
            raise ProblemError("bad-query", f"{lonely[0]} is for members of a group: give `group`, too")
        return None
    if "part" in found:
        raise ProblemError("bad-query", "parts are shared out by the group: leave `part` out")
    if start not in (NOW, START, SNAPSHOT):
        raise ProblemError(
            "bad-query", "a group begins at now, start, snapshot, a time or 10m, and keeps its own cursor"
        )
    member = checked_name("member", found["member"]) if "member" in found else ""
    session_s = number("session", found.get("session", "0"))
    auto = _among("ack", found.get("ack", "manual"), ("manual", "auto")) == "auto"
    parts = number("parts", found.get("parts", str(PARTS)))
    return checked_name("group", found["group"]), member, parts, session_s * 1_000_000, auto


def checked_name(what: str, text: str) -> str:
    """A group's or member's name, or a ProblemError."""
    if _NAME.fullmatch(text) is None:
        rule = f"1 to {NAME_CHARS_MAX} letters, digits, -, _ or ., the first a letter or digit"
        raise ProblemError("bad-group", f"the name of a {what} is {rule}; found {text[:60]!r}")
    return text


def parts_of(number: int) -> int:
    """Into how many parts a group may divide the ring, or a ProblemError."""
    if not 1 <= number <= PARTS_MAX:
        raise ProblemError("bad-group", f"a group has 1 to {PARTS_MAX} parts; found {number}")
    return number


def start_of(text: str, now_us: int) -> tuple[str, int]:
    """Where a group begins (NOW, START, SNAPSHOT), and what is passed over as older; or a ProblemError."""
    start, _, since_us = _start(text, now_us)
    if start not in (NOW, START, SNAPSHOT):
        raise ProblemError("bad-query", "a group begins at now, start, snapshot, a time or 10m")
    return start, since_us


def _start(text: str, now_us: int) -> tuple[str, Cursor | None, int]:
    """(where to start, the cursor, what is passed over as older)."""
    if text in (NOW, START, SNAPSHOT):
        return text, None, 0
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return START, None, max(0, now_us - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000)
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return START, None, _time_us(text)
    cursor: Cursor | None = None
    for each in text.split(","):
        one = decode_cursor(each)
        if isinstance(one, str):
            raise ProblemError("bad-cursor", f"from is now, start, snapshot, a time, 10m or a cursor; {one}")
        cursor = one if cursor is None else laid_over(cursor, one)
    return CURSOR, cursor, 0


def _time_us(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ProblemError("bad-query", f"from is no time (2026-01-31T12:00:00Z): {error}") from None
    if at.tzinfo is None:
        raise ProblemError("bad-query", "a time has its zone: 2026-01-31T12:00:00Z")
    return max(0, int(at.timestamp() * 1_000_000))


def _among(name: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise ProblemError("bad-query", f"{name} is {' or '.join(known)}; found {text[:60]!r}")
    return text


def _operations(text: str) -> tuple[str, ...]:
    return tuple(_among("op", name, OPERATIONS) for name in text.split(",")) if text else ()


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ProblemError("bad-query", f"part is one of so many, as 2/3; found {text[:60]!r}")
    return int(match[1]), int(match[2])


@lru_cache(64)
def _condition(text: str) -> Judge:
    if len(text) > FILTER_CHARS_MAX:
        raise ProblemError("bad-filter", f"a filter has at most {FILTER_CHARS_MAX} characters here")
    try:
        value = parse(text.encode())
    except JsonError as error:
        raise ProblemError("bad-filter", f"the filter is no JSON: {error}") from None
    condition = parse_filter(value)
    if isinstance(condition, Refusal):
        raise ProblemError("bad-filter", condition.text)
    cost, matches = cost_of(condition), predicate(condition)

    def judge(image: Any, document_id: str | None) -> bool:
        """One that is too costly to judge is shown: a stream leaves nothing out in silence."""
        text = msgspec.json.encode(image)
        if cost.problem(text) is not None:
            return True
        value = parse(text)
        if document_id is not None and isinstance(value, dict):
            value[ID] = document_id
        return matches(value)

    return judge
