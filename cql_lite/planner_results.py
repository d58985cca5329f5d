"""What executing a statement asks for on the way, and what it comes to.

An execution is a generator: it yields tuples of core requests, which may run side by side, and is sent
their answers in the same order; it returns a `Result`. So everything that takes several requests (IN,
scans, batches) is plain code that knows no I/O, and whoever drives it (cql_lite/running.py) decides how
many run at once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Final

import msgspec

from core.consistency import Level
from core.limits import MIB
from core.requests import Answer, Broken, Invalid, Overloaded, Request, Timeout, Unavailable, Unready
from cql_lite.errors import InvalidRequestError
from cql_lite.types_base import Type

ANSWER_BYTES_MAX: Final = 128 * MIB
"""What is selected of the rows of one answer."""
PEER_EPOCHS: Final = "peer_epochs"
"""The request (node/peer_epochs.py) that is answered once the live peers have our epoch, or are late."""


class ResultColumn(msgspec.Struct, frozen=True):
    """A column of a result."""

    keyspace: str
    table: str
    name: str
    type: Type


class RowsResult(msgspec.Struct, frozen=True):
    """Rows of wire values; `paging_state` is None at the end."""

    columns: tuple[ResultColumn, ...]
    rows: Sequence[Sequence[bytes | None]]
    paging_state: bytes | None = None


class VoidResult(msgspec.Struct, frozen=True):
    """Done."""


class KeyspaceResult(msgspec.Struct, frozen=True):
    """USE."""

    keyspace: str


class SchemaResult(msgspec.Struct, frozen=True):
    """The schema changed: CREATED, UPDATED or DROPPED; of a KEYSPACE, TABLE or TYPE."""

    change: str
    target: str
    keyspace: str
    name: str = ""


Result = RowsResult | VoidResult | KeyspaceResult | SchemaResult
Asked = tuple[Request, ...]
Execution = Generator[Asked, "list[Answer]", Result]


class Options(msgspec.Struct, frozen=True):
    """What a request says beside statement and values. `timestamp_us` None: the coordinator stamps.

    `warnings` is where an execution puts what its client is to be warned of.
    """

    level: Level = Level.ONE
    serial_level: Level = Level.SERIAL
    page_rows: int = 0
    paging_state: bytes | None = None
    timestamp_us: int | None = None
    warnings: list[str] | None = None

    def warn(self, text: str) -> None:
        """Have the client read this with its answer."""
        if self.warnings is not None:
            self.warnings.append(text)


Failure = Unavailable | Timeout | Overloaded | Unready | Invalid | Broken


class FailedError(Exception):
    """The cluster did not do what was asked; `write_type` is the protocol's word if it was a write."""

    def __init__(self, answer: Failure, write_type: str = "") -> None:
        super().__init__(type(answer).__name__)
        self.answer = answer
        self.write_type = write_type


def in_bounds(rows: Iterable[list[bytes | None]]) -> list[list[bytes | None]]:
    """The rows of a result; raises InvalidRequestError as soon as they take too much: one column can be
    selected a thousand times.
    """
    found, left = [], ANSWER_BYTES_MAX
    for row in rows:
        left -= sum(map(len, filter(None, row)))
        if left < 0:
            mib = ANSWER_BYTES_MAX // MIB
            raise InvalidRequestError(f"the result takes more than {mib} MiB: select less of each row")
        found.append(row)
    return found


def unless_failed(answer: Answer, write_type: str = "") -> Answer:
    """The answer, if it is a good one; raises FailedError."""
    if isinstance(answer, Failure):
        raise FailedError(answer, write_type)
    return answer
