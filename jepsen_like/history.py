"""What clients did and what came of it: the only thing that checkers look at.

An operation is invoked and ends in one of three ways: `ok`; `fail`, which says that it certainly was not
and never will be applied; `info`, which says that nobody knows (a timeout, a lost connection, a coordinator
that died). The process whose operation ended in info is retired: its operation may still take effect at any
later time, so the client goes on under a new process id.

`invoked` and `completed` are positions in one total order of all invocations and completions, so "before"
in real time is a comparison of two integers.
"""

from __future__ import annotations

from typing import Any

OK, FAIL, INFO, PENDING = "ok", "fail", "info", "pending"

NEVER = 1 << 62
"""The completion of an operation that has none: later than everything."""


class Operation:
    """One operation. `kind` says what (add, read, write...), `key` on what, `value` what it wrote.

    `result` is what it brought; `completed` is NEVER unless `status` is ok or fail.
    """

    __slots__ = (
        "completed",
        "detail",
        "invoked",
        "invoked_us",
        "key",
        "kind",
        "latency_us",
        "peer",
        "process",
        "result",
        "status",
        "value",
    )

    def __init__(self, process: int, kind: str, key: Any, value: Any, peer: int) -> None:
        self.process = process
        self.kind = kind
        self.key = key
        self.value = value
        self.peer = peer
        self.status = PENDING
        self.result: Any = None
        self.detail = ""
        self.invoked = self.invoked_us = self.latency_us = 0
        self.completed = NEVER

    def __repr__(self) -> str:
        end = "" if self.completed == NEVER else str(self.completed)
        what = f"{self.kind} {self.key} {self.value if self.value is not None else ''}".rstrip()
        result = f" -> {self.result!r}" if self.result is not None else ""
        detail = f" ({self.detail})" if self.detail else ""
        return (
            f"[{self.invoked}..{end}] p{self.process}@{self.peer} {self.invoked_us / 1e6:.3f}s "
            f"{what} {self.status}{result}{detail}"
        )


class History:
    """All operations in the order of their invocation."""

    def __init__(self, also: History | None = None) -> None:
        """`also` is another history in which all operations of this one are told, too.

        It gives the processes their ids; positions are this one's.
        """
        self.operations: list[Operation] = []
        self.also = also
        self._position = 0
        self._next_process = 0

    def new_process(self) -> int:
        """A process id that nobody had."""
        if self.also is not None:
            return self.also.new_process()
        self._next_process += 1
        return self._next_process

    def invoke(self, operation: Operation, now_us: int) -> Operation:
        """It begins."""
        self._position += 1
        operation.invoked = self._position
        operation.invoked_us = now_us
        self.operations.append(operation)
        if self.also is not None:
            self.also.operations.append(operation)
        return operation

    def complete(self, operation: Operation, status: str, now_us: int, result: Any = None) -> None:
        """It ended: ok, fail or info."""
        assert operation.status == PENDING
        assert status in (OK, FAIL, INFO)
        self._position += 1
        operation.status = status
        operation.result = result
        operation.latency_us = now_us - operation.invoked_us
        if status != INFO:
            operation.completed = self._position

    def counts(self) -> dict[str, dict[str, int]]:
        """How many of each kind ended how."""
        table: dict[str, dict[str, int]] = {}
        for operation in self.operations:
            row = table.setdefault(operation.kind, {OK: 0, FAIL: 0, INFO: 0, PENDING: 0})
            row[operation.status] += 1
        return table
