"""Histories as files in Jepsen's form, so that outside checkers can read them.

One map per line: `index`, `time` (nanoseconds), `process`, `type` (invoke, ok, fail, info), `f`, `value`.
Values of single keys are `[key value]`, transactions are vectors of `[:append k v]` and `[:r k [...]]`.
What a nemesis does is there under the process `nemesis`. Knossos and Elle read the EDN; the JSON says the
same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jepsen_like.checkers import Seen
from jepsen_like.cycles import Micro
from jepsen_like.history import FAIL, INFO, OK, PENDING, Operation
from jepsen_like.linearizable import Cas

NEMESIS = "nemesis"
LATE = 1 << 61


class FaultSpan(NamedTuple):
    """A fault, from its beginning to its end."""

    name: str
    from_us: int
    to_us: int


class Keyword(str):
    """A word that EDN writes with a colon."""

    __slots__ = ()


Entry = dict[str, Any]


def entries(operations: Sequence[Operation], faults: Iterable[FaultSpan]) -> list[Entry]:
    """All beginnings and ends in their order."""
    events: list[tuple[int, int, Entry]] = []
    for op in operations:
        events.append((op.invoked_us, op.invoked, _entry(op, "invoke", op.invoked_us)))
        if op.status != PENDING:
            at_us = op.invoked_us + op.latency_us
            position = op.completed if op.status != INFO else LATE
            events.append((at_us, position, _entry(op, _type(op), at_us)))
    for fault in faults:
        for at_us, word in ((fault.from_us, "start"), (fault.to_us, "stop")):
            entry = {
                "process": Keyword(NEMESIS),
                "type": Keyword(INFO),
                "f": Keyword(f"{word}-{fault.name.replace('_', '-')}"),
                "value": None,
                "time": at_us * 1_000,
            }
            events.append((at_us, LATE, entry))
    events.sort(key=lambda event: event[:2])
    return [{"index": index, **entry} for index, (_, _, entry) in enumerate(events)]


def _type(op: Operation) -> str:
    """A comparison that was false is a failure to Jepsen."""
    return FAIL if op.kind == "cas" and op.status == OK and not op.result else op.status


def _entry(op: Operation, kind: str, at_us: int) -> Entry:
    entry = {
        "process": op.process,
        "type": Keyword(kind),
        "f": Keyword(op.kind),
        "value": _value(op, kind),
        "time": at_us * 1_000,
        "peer": op.peer,
    }
    if kind in (FAIL, INFO) and op.detail:
        entry["error"] = op.detail
    return entry


def _value(op: Operation, kind: str) -> Any:
    steps = op.result if kind == OK else op.value
    if isinstance(op.value, tuple) and op.value and isinstance(op.value[0], Micro):
        return [[Keyword(step.kind), plain(step.key), plain(step.value)] for step in steps]
    writes = op.value is not None
    return [plain(op.key), plain(op.value if writes else op.result if kind == OK else None)]


def plain(value: Any) -> Any:
    """Made of None, booleans, integers, text and lists alone."""
    match value:
        case Seen(value=seen):
            return seen
        case Cas(old=old, new=new):
            return [old, new]
        case None | bool() | int() | Keyword():
            return value
        case float() | str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _:
            return repr(value)


def edn(value: Any) -> str:
    """Extensible data notation of what `plain` gives."""
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case Keyword():
            return f":{value}"
        case str():
            return json.dumps(value)
        case dict():
            pairs = (f":{key} {edn(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple():
            return "[" + " ".join(edn(item) for item in value) + "]"
        case _:
            return str(value)


def save(folder: Path, operations: Sequence[Operation], faults: Iterable[FaultSpan]) -> None:
    """`history.edn` and `history.json` in a folder."""
    told = entries(operations, faults)
    with (folder / "history.edn").open("w") as file:
        file.writelines(f"{edn(entry)}\n" for entry in told)
    with (folder / "history.json").open("w") as file:
        file.writelines(_json_lines(told))


def _json_lines(told: list[Entry]) -> Iterator[str]:
    for number, entry in enumerate(told):
        head, tail = ("[" if number == 0 else ""), (",\n" if number < len(told) - 1 else "]\n")
        yield head + json.dumps(entry) + tail
    if not told:
        yield "[]\n"
