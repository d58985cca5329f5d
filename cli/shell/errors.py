"""What went wrong, in words: the server's message, and where in the statement it points.

Positions come from messages ("line 1, column 8" of ours, "line 1:7" of Cassandra), or from the name that a
message says does not exist, where the statement has it once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from cli.native.client import NobodyError
from cli.native.connection import LostError
from cli.shell.tables import width
from cql_lite import wire

NAMES: Final[dict[type[wire.Error], str]] = {
    wire.SyntaxFault: "Syntax error",
    wire.Invalid: "Invalid request",
    wire.AlreadyExists: "Already exists",
    wire.ConfigError: "Invalid options",
    wire.Unauthorized: "Not allowed",
    wire.BadCredentials: "Login failed",
    wire.Unavailable: "Unavailable",
    wire.Overloaded: "Overloaded",
    wire.IsBootstrapping: "Not ready",
    wire.TruncateError: "Truncate failed",
    wire.WriteTimeout: "Write timeout",
    wire.ReadTimeout: "Read timeout",
    wire.ReadFailure: "Read failure",
    wire.WriteFailure: "Write failure",
    wire.CasWriteUnknown: "Outcome unknown",
    wire.FunctionFailure: "Function failed",
    wire.ProtocolFault: "Protocol error",
    wire.Unprepared: "Not prepared",
    wire.ServerError: "Server error",
}

_OURS: Final = re.compile(r"line (\d+), column (\d+)")
_CASSANDRAS: Final = re.compile(r"^line (\d+):(\d+) ")
_MISSING: Final = re.compile(
    r"(?:(?:there is|has) no|[Uu]nknown|[Uu]ndefined|unconfigured) "
    r"(keyspace|table|column|type|function|index|field|role)"
    r"(?: name)? ['\"]?([\w.]+)"
)
_ABSENT: Final = re.compile(
    r"\b([Kk]eyspace|[Tt]able|[Tt]ype|[Ii]ndex) '?([\w.]+)'? (?:does not|doesn't) exist"
)
_TABLE_OF_COLUMN: Final = re.compile(r"table (\S+) has no column|in table (\S+)")
_KEYSPACE_OF_TABLE: Final = re.compile(r"does not exist in keyspace (\w+)")
_TYPES_ELSEWHERE: Final = {
    "string": "text", "char": "text", "character": "text", "nvarchar": "text", "clob": "text", "str": "text",
    "integer": "int", "int4": "int", "serial": "int", "long": "bigint", "int8": "bigint", "short": "smallint",
    "byte": "tinyint", "bool": "boolean", "datetime": "timestamp", "number": "decimal", "numeric": "decimal",
    "real": "double", "float8": "double", "bytes": "blob", "binary": "blob", "bytea": "blob", "jsonb": "json",
    "array": "list<...>", "object": "map<..., ...>", "dict": "map<..., ...>", "interval": "duration",
}  # fmt: skip
"""What types are called elsewhere."""
_SHOWN_COLUMNS: Final = 100


class UsageError(Exception):
    """A command of the shell cannot be done as it stands; `hint` says what can."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


def file_called(name: str) -> Path:
    """The file of that name, ~ as in a shell; raises UsageError where no file can be called so."""
    if "\0" in name:
        raise UsageError(f"{name!r} is no name of a file")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(f"{name}: whose home ~ means is not known") from None


class Spot(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int


def spot_of(message: str, statement: str) -> Spot | None:
    """Where in the statement a message points, if anywhere."""
    match = _OURS.search(message)
    if match:
        return Spot(int(match[1]), int(match[2]))
    match = _CASSANDRAS.search(message)
    if match:
        return Spot(int(match[1]), int(match[2]) + 1)
    match = _MISSING.search(message) or _ABSENT.search(message)
    if match:
        name = match[2].rstrip(".").rpartition(".")[2]
        places = list(re.finditer(rf"(?<![\w]){re.escape(name)}(?![\w])", statement, re.IGNORECASE))
        if len(places) == 1:
            before = statement[: places[0].start()]
            return Spot(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    return None


def missing_name(message: str) -> tuple[str, str, str] | None:
    """What a message says does not exist: its kind, its name, and for a column the table."""
    match = _MISSING.search(message) or _ABSENT.search(message)
    if match is None:
        return None
    table, keyspace = _TABLE_OF_COLUMN.search(message), _KEYSPACE_OF_TABLE.search(message)
    name = match[2].rstrip(".")
    if keyspace and "." not in name:
        name = f"{keyspace[1]}.{name}"
    return match[1].lower(), name, (table[1] or table[2]) if table else ""


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that a mistyped one is closest to, "" if none is close."""
    elsewhere = _TYPES_ELSEWHERE.get(name.lower())
    candidates = list(known)
    if elsewhere is not None and "text" in candidates:
        return elsewhere
    close = difflib.get_close_matches(name.lower(), candidates, 1, 0.6)
    return close[0] if close and close[0] != name else ""


def pointed(statement: str, spot: Spot) -> list[str]:
    """The line of the statement and a caret below the column; nothing if there is no such line."""
    lines = statement.split("\n")
    if not 1 <= spot.line <= len(lines):
        return []
    line, column = lines[spot.line - 1].replace("\t", " ").rstrip("\r"), spot.column - 1
    start = max(0, column - _SHOWN_COLUMNS * 2 // 3) if len(line) > _SHOWN_COLUMNS else 0
    shown = line[start : start + _SHOWN_COLUMNS]
    head = "…" if start else ""
    tail = "…" if start + _SHOWN_COLUMNS < len(line) else ""
    space = " " * width(head + line[start : max(column, 0)])
    return [f"  {head}{shown}{tail}", f"  {space}^"]


def told(error: Exception) -> list[str]:
    """An error as lines."""
    if isinstance(error, UsageError):
        return [error.text, *([f"  {error.hint}"] if error.hint else [])]
    if isinstance(error, NobodyError):
        return ["no peer can be reached:", *(f"  {lost}" for lost in error.tried)]
    if isinstance(error, LostError):
        return [str(error)]
    return [str(error) or type(error).__name__]


def refused(error: wire.Error, statement: str) -> list[str]:
    """A server's error as lines, with the place in the statement."""
    name = NAMES.get(type(error), "Error")
    first = f"{name}: {error.message}{_details(error)}"
    spot = spot_of(error.message, statement) if statement else None
    lines = [first, *(pointed(statement, spot) if spot is not None else [])]
    if isinstance(error, wire.SyntaxFault) and spot == (1, 1):
        lines += _meant(statement)
    return lines


def _meant(statement: str) -> list[str]:
    """The word that a mistyped first word was perhaps to be."""
    from cli.shell.commands import COMMANDS
    from cli.shell.words import STATEMENTS

    word = re.match(r"\w*", statement.strip())
    known = [*COMMANDS, *(name.split()[0] for name in STATEMENTS)]
    close = difflib.get_close_matches(word[0].upper() if word else "", known, 1, 0.7)
    return [f"  did you mean {close[0]}?"] if close else []


def _details(error: wire.Error) -> str:
    """The fields of an error that its message may lack: Cassandra's say little, ours say it all."""
    if isinstance(error, wire.Unavailable):
        numbers = f"{error.required} required, {error.alive} alive"
    elif isinstance(error, wire.WriteTimeout | wire.ReadTimeout | wire.WriteFailure | wire.ReadFailure):
        numbers = f"{error.received} of {error.required}"
    else:
        return ""
    if str(error.message).count(str(getattr(error, "required", ""))):
        return f" [{error.consistency.name}]" if error.consistency.name not in error.message else ""
    return f" [{error.consistency.name}: {numbers}]"
