"""`sullae tail`: what happens to a table, as it happens, through whichever peer answers.

The stream is `GET /v1/changes/{table}` as NDJSON. When a peer dies, hangs (heartbeats come each second) or
stops, the next one goes on from the last whole cursor; that may repeat events, which are known by their ids
and dropped. Nothing is passed over: a cursor is taken only from a heartbeat, which covers all before it.
Before the first one, a stream that asked for `now` goes on from the time of its first line.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cli.output import Failure, console, say
from cli.records import whole
from cli.rest import (
    ERROR_BYTES_MAX,
    NOT_FOUND,
    REFUSED_AT,
    Peer,
    UnreachableError,
    nobody_answers,
    reason_of,
    refusal_of,
    segment,
)
from core.json_values import render

if TYPE_CHECKING:
    from rich.text import Text

SILENCE_S: Final = 10.0
"""A stream on which not even heartbeats come for so long is taken for dead."""
IDS_MAX: Final = 200_000
"""Ids remembered to know repeats by."""
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
PAUSES_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
PASSING: Final = frozenset(["not-ready", "overloaded", "unavailable", "timeout"])
"""Refusals after which another peer, or the same a little later, may serve."""
VALUE_CHARS_MAX: Final = 60
MEMBERS_MAX: Final = 8
STYLES: Final = {"insert": "green", "update": "yellow", "delete": "red", "truncate": "bold red"}


@dataclass(frozen=True, slots=True)
class Watched:
    """What to watch; `start` as the stream's `from`, `filter` as JSON, `limit` 0 for no end."""

    table: str
    start: str = "now"
    filter: str = ""
    key: str | None = None
    prefix: str | None = None
    operations: str = ""
    limit: int = 0


class Line(dict[str, Any]):
    """A line, and its very text: there numbers have all their digits, however many."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError if this is no JSON object."""
        super().__init__(json.loads(data, parse_float=_exactly, parse_int=whole))
        self.text = data.decode().strip()


def _exactly(text: str) -> float | Decimal:
    near = float(text)
    try:
        number = Decimal(text)
    except ArithmeticError:
        return near
    return near if Decimal(repr(near)) == number else number


class LostStreamError(Exception):
    """The stream ended; another peer may go on."""


@dataclass(slots=True)
class Follower:
    """Lines of a stream that goes on when a peer does not."""

    urls: Sequence[str]
    watched: Watched
    told: Callable[[str], None]
    pauses_s: Sequence[float] = PAUSES_S
    silence_s: float = SILENCE_S
    cursor: str = ""
    _first_time: str = ""
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _was_served: bool = False

    def lines(self) -> Iterator[Line]:
        """Events and notices, each event once; for ever. Raises Failure for what no peer will serve."""
        failed = at = 0
        reasons: list[UnreachableError] = []
        while True:
            url = self.urls[at % len(self.urls)]
            at += 1
            lost = ""
            try:
                for line in self._stream(url):
                    if failed:
                        self.told(f"going on at {url}")
                    failed, reasons = 0, []
                    if self._is_new(line):
                        yield line
                lost = "the stream ended"
            except LostStreamError as error:
                lost = str(error)
            except UnreachableError as error:
                lost = error.reason
                reasons.append(error)
            if not self._was_served and len(reasons) >= len(self.urls):
                raise nobody_answers(reasons)
            if not failed or failed % len(self.urls) == 0:
                self.told(f"{url}: {lost}; trying {self.urls[at % len(self.urls)]}")
            if failed >= len(self.urls) - 1 or len(self.urls) == 1:
                time.sleep(self.pauses_s[min(failed // len(self.urls), len(self.pauses_s) - 1)])
            failed += 1

    def _target(self) -> str:
        watched = self.watched
        start = self.cursor or watched.start
        if not self.cursor and start == "now" and self._first_time:
            start = self._first_time
        asked = {"from": start, "format": "ndjson", "filter": watched.filter, "op": watched.operations}
        pairs = [(name, value) for name, value in asked.items() if value]
        pairs += [(n, v) for n, v in (("key", watched.key), ("prefix", watched.prefix)) if v is not None]
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
        return f"/v1/changes/{segment(watched.table)}?{query}"

    def _stream(self, url: str) -> Iterator[Line]:
        peer = Peer(url, self.silence_s)
        try:
            with peer.stream("GET", self._target()) as response, closing(response):
                if response.status >= REFUSED_AT:
                    body = response.read(ERROR_BYTES_MAX)
                    self._refused(url, response.status, body)
                self._was_served = True
                while data := response.readline(LINE_BYTES_MAX):
                    if not data.endswith(b"\n"):
                        raise LostStreamError("the stream broke off")
                    line = Line(data)
                    if line["type"] == "error":
                        self._refused(url, int(line.get("status", 500)), data)
                    yield line
        except (OSError, HTTPException, ValueError) as error:
            raise LostStreamError(reason_of(error)) from error
        finally:
            peer.close()

    def _refused(self, url: str, status: int, body: bytes) -> None:
        """Raise: LostStreamError where another peer may serve, else Failure."""
        failure = refusal_of(url, status, body)
        if failure.code in PASSING or (status >= 500 and failure.code != "changes-off"):
            raise LostStreamError(failure.text)
        if status == NOT_FOUND:
            failure.hint = "tables are named keyspace.table: docs.NAME of a collection, kv.NAME of a bucket"
        raise failure

    def _is_new(self, line: dict[str, Any]) -> bool:
        self._first_time = self._first_time or str(line.get("time", ""))
        kind = line["type"]
        if kind == "heartbeat":
            self.cursor = line.get("cursor") or self.cursor
            return False
        if kind != "event":
            return True
        name = line["id"]
        if name in self._seen:
            self._seen.move_to_end(name)
            return False
        self._seen[name] = None
        if len(self._seen) > IDS_MAX:
            self._seen.popitem(last=False)
        return True


def tail(urls: Sequence[str], watched: Watched, *, as_json: bool) -> int:
    """Show events until Ctrl-C, or `limit` of them; the exit status."""
    follower = Follower(urls, watched, lambda text: say(f"sullae tail: {text}"))
    shown = 0
    drawn = None if as_json else console()
    try:
        for line in follower.lines():
            if drawn is None:
                print(line.text, flush=True)
            else:
                drawn.print(drawn_line(line), overflow="ellipsis" if drawn.is_terminal else None)
                sys.stdout.flush()
            shown += line["type"] == "event"
            if shown == watched.limit > 0:
                return 0
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        sys.stdout = None  # whoever read has gone: nothing is left to flush to it
        return 0
    return 0


def where_filter(text: str) -> str:
    """The filter of a --where, "" for none; raises Failure."""
    if not text:
        return ""
    from cli.where import WhereError, filter_of

    try:
        return filter_of(text)
    except WhereError as error:
        hint = "such as: year > 2000 and genre in ('drama', 'crime'); or a filter as JSON"
        raise Failure(str(error), hint=hint, code="bad_where", exit_status=2) from None


# --- what people see


def drawn_line(line: dict[str, Any]) -> Text:
    """One event or notice on one line."""
    from rich.text import Text

    at = _clock(str(line.get("time", "")))
    if line["type"] != "event":
        about = {"restart": "dim", "gap": "bold red"}.get(line["type"], "")
        count = len(line.get("ranges", ()))
        words = f"{at}  {line['type']:<8} {line.get('why', '')} ({count} ranges)"
        return Text(words, style=about)
    operation = str(line["op"])
    found = Text(f"{at}  ", style="dim")
    found.append(f"{operation:<8} ", style=STYLES.get(operation, ""))
    found.append(_plain(line.get("key")), style="bold cyan")
    if "scope" in line:
        found.append(f" ({line['scope']})", style="magenta")
    for flag in ("late", "superseded", "restart"):
        if line.get(flag):
            found.append(f" {flag}", style="magenta")
    for name, value in _members(line):
        found.append(f"  {name}", style="blue")
        found.append(f" {value}")
    return found


def _members(line: dict[str, Any]) -> list[tuple[str, str]]:
    """What to show of the images: of an update what changed, else the first members of the row."""
    before, after = line.get("before"), line.get("after")
    changed = [str(path) for path in line.get("changed") or () if path]
    if line["op"] == "update" and not changed and isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys([*before, *after])  # all of it was written: show what is other than before
        changed = ["/" + _escaped(name) for name in names if before.get(name) != after.get(name)]
    if line["op"] == "update" and changed:
        found = []
        for path in changed:
            old, new = (_at(image, path) for image in (before, after))
            value = _short(new) if "after" in line else ""
            if "before" in line and old != new:
                value = f"{_short(old)} → {value}" if "after" in line else f"was {_short(old)}"
            found.append((path.lstrip("/"), value))
    else:
        image = after if after is not None else before
        members = image.items() if isinstance(image, dict) else [("", image)] if image is not None else []
        found = [(str(name), _short(value)) for name, value in members]
    more = len(found) - MEMBERS_MAX
    return found if more <= 0 else [*found[:MEMBERS_MAX], (f"and {more} more", "")]


def _at(image: Any, path: str) -> Any:
    """What an image has at a column's name or a JSON pointer; None if nothing."""
    if not path.startswith("/"):
        column, slash, rest = path.partition("/")
        image = image.get(column) if isinstance(image, dict) else None
        path = f"/{rest}" if slash else ""
    for step in path.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        image = image.get(key) if isinstance(image, dict) else None
    return image


def _escaped(name: str) -> str:
    """A member's name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _short(value: Any) -> str:
    text = render(value).decode()
    text = text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"
    return _printable(text)


def _plain(value: Any) -> str:
    return _printable(value if isinstance(value, str) else render(value).decode())


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _clock(time_text: str) -> str:
    """The time of day of RFC 3339, to milliseconds."""
    match = re.match(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)(\.\d+)?", time_text)
    return match[1] + (match[2] or ".0").ljust(4, "0")[:4] if match else time_text
