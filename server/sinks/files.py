"""Batches of events as files: NDJSON, or Parquet partitioned by the date of the event.

    FOLDER/NAME/date=2026-01-31/00000007-0003-000.parquet

A batch is what came between two cursors; its number is kept with them. A file is written under a hidden
name, synced and renamed: one that can be seen is whole. Its name has the batch, the fence of the owner's
lease, and the piece. A batch that the same owner delivers again replaces its files; one that the next owner
delivers again (or a peer that was started again) is there twice, since two owners may write to one shared
folder for a moment, and the late one must not replace what the other has written. Either way who counts
drops ids that it has seen.

What cannot be written as asked (no row of ours can be refused by a file, but what a sink does not understand
can) goes to FOLDER/NAME/_refused.ndjson with the reason.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from server.sinks.envelopes import Line, about

NO_DATE: Final = "unknown"
REFUSED: Final = "_refused.ndjson"
_DATE: Final = re.compile(r"(\d{4}-\d\d-\d\d)T")
_TEXTS: Final = ("id", "table", "op", "scope", "key", "before", "after", "cursor")
_FLAGS: Final = ("late", "superseded", "restart")


class MissingError(Exception):
    """What a kind of sink needs is not installed."""


def arrow() -> Any:
    """pyarrow with its Parquet; raises MissingError."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        text = "Parquet needs pyarrow on every peer: pip install 'sullae-server[parquet]'"
        raise MissingError(text) from None


class FileSink:
    """Writes batches below one folder. Blocks: call it in a thread."""

    def __init__(self, folder: Path, kind: str, fence: int = 0) -> None:
        self._folder = folder
        self._kind = kind
        self._fence = fence

    def deliver(self, sequence: int, piece: int, events: Sequence[Line]) -> int:
        """Write one piece of a batch; how many events were refused. Raises OSError, MissingError."""
        by_date: dict[str, list[Line]] = {}
        refused: list[Line] = []
        for event in events:
            told = about(event)
            if told.id is None:
                refused.append({"why": "an event without an id", "event": event})
                continue
            found = _DATE.match(told.time)
            by_date.setdefault(found[1] if found else NO_DATE, []).append(event)
        for date, its in sorted(by_date.items()):
            path = self._folder / f"date={date}" / f"{sequence:08}-{self._fence:04}-{piece:03}.{self._kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            hidden = path.with_name(f".{path.name}.writing")
            if self._kind == "parquet":
                _write_parquet(hidden, its)
            else:
                hidden.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in its))
            _settle(hidden, path)
        if refused:
            self.refuse(refused)
        return len(refused)

    def refuse(self, lines: Sequence[Line]) -> None:
        """Add to the dead-letter file: {"why", "event"} each. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / REFUSED).open("ab") as file:
            file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _write_parquet(path: Path, events: Sequence[Line]) -> None:
    pa = arrow()
    columns: dict[str, Any] = {name: [_text(event.get(name)) for event in events] for name in _TEXTS}
    columns = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    times = [_time(event.get("time")) for event in events]
    columns["time"] = pa.array(times, pa.timestamp("us", tz="UTC"))
    columns["timestamp_us"] = pa.array([event.get("timestamp_us") for event in events], pa.int64())
    columns["epoch"] = pa.array([event.get("epoch") for event in events], pa.int64())
    columns["changed"] = pa.array([event.get("changed") for event in events], pa.list_(pa.string()))
    for name in _FLAGS:
        columns[name] = pa.array([bool(event.get(name)) for event in events], pa.bool_())
    pa.parquet.write_table(pa.table(columns), str(path))


def _text(value: Any) -> str | None:
    """Texts as they are, all else as JSON."""
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _settle(hidden: Path, path: Path) -> None:
    """Have a whole file be seen under its name, and be there after a power cut."""
    with hidden.open("rb") as file:
        os.fsync(file.fileno())
    hidden.replace(path)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
