"""Lists to which elements are appended: what a good history looks like, and each way to be a bad one."""

from __future__ import annotations

from jepsen_like.append_checker import Settled, appends
from jepsen_like.history import FAIL, INFO, OK, History, Operation


class Script:
    """A history of one list."""

    def __init__(self) -> None:
        self.history = History()
        self.settled: list[Settled] = []

    def begin(self, kind: str, value: int | None = None) -> Operation:
        return self.history.invoke(Operation(self.history.new_process(), kind, "k", value, 0), 0)

    def end(self, operation: Operation, status: str = OK, result: object = True) -> Operation:
        self.history.complete(operation, status, 0, result)
        return operation

    def append(self, value: int, status: str = OK) -> Operation:
        return self.end(self.begin("append", value), status)

    def read(self, *seen: int) -> Operation:
        return self.end(self.begin("read"), OK, seen)

    def names(self) -> list[str]:
        return [problem.name for problem in appends({"k": self.history.operations}, self.settled)]


def test_a_good_list() -> None:
    s = Script()
    s.read()
    s.append(1)
    unknown = s.append(2, INFO)
    s.settled.append(Settled(unknown, s.read(1)))
    slow, slower = s.begin("append", 3), s.begin("append", 4)
    s.read(1, 4)
    s.end(slow)
    s.end(slower)
    s.append(5, FAIL)
    s.append(6, INFO)
    s.read(1, 4, 3)
    s.read(1, 4, 3, 6)
    s.append(7)  # nobody has looked since
    assert s.names() == []


def test_two_orders_are_a_fork() -> None:
    s = Script()
    first, second = s.begin("append", 1), s.begin("append", 2)
    s.read(1, 2)
    s.read(2)
    s.end(first)
    s.end(second)
    assert s.names() == ["forked"]


def test_lost_doubled_and_invented_elements() -> None:
    s = Script()
    s.append(1)
    s.append(2)
    s.append(3, FAIL)
    s.read(2, 2, 3, 9)
    assert sorted(s.names()) == ["duplicated", "lost", "phantom", "phantom"]


def test_what_had_ended_comes_first() -> None:
    s = Script()
    s.append(1)
    s.append(2)
    s.read(2, 1)
    assert s.names() == ["stale"]
    back = Script()
    back.append(1, INFO)
    back.read(1)
    back.read()
    assert back.names() == ["stale"]


def test_nothing_is_seen_before_it_begins() -> None:
    s = Script()
    s.read(1)
    s.append(1)
    assert s.names() == ["phantom", "stale"]


def test_what_a_read_settled_stays_so() -> None:
    s = Script()
    unknown = s.append(1, INFO)
    s.settled.append(Settled(unknown, s.read()))
    s.read(1)
    assert s.names() == ["unsettled"]


def test_what_was_appended_after_the_last_read_is_not_judged() -> None:
    s = Script()
    s.append(1)
    s.read(1)
    s.append(2)
    s.begin("append", 3)
    assert s.names() == []
