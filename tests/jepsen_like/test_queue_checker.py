"""The judge of a queue's ends: what is fine, and each way to be wrong."""

from __future__ import annotations

from jepsen_like.checkers import Problem
from jepsen_like.history import INFO, OK, History, Operation
from jepsen_like.workloads.queue import END, PROBES_FROM, judge


class Script:
    """A history by hand."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, kind: str, item: int | None = None, value: int | None = None) -> Operation:
        """An operation is invoked."""
        return self.history.invoke(Operation(self.history.new_process(), kind, item, value, 0), 0)

    def end(self, operation: Operation, result: object = None, status: str = OK) -> None:
        """It ends."""
        self.history.complete(operation, status, 0, result)

    def did(self, kind: str, item: int, status: str = OK) -> None:
        """Both."""
        self.end(self.begin(kind, item), None, status)

    def head(self, *items: int, more: bool = False) -> None:
        """A read that saw these."""
        self.end(self.begin("head"), (items, more))

    def tail(self, *items: int, more: bool = False, before: int = END) -> None:
        """A read in reverse that saw these."""
        self.end(self.begin("tail", None, before), (items, more))

    def found(self) -> list[str]:
        """What is wrong."""
        problems: list[Problem] = judge(self.history.operations)
        return [problem.name for problem in problems]


def test_a_queue_that_is_used_as_one_is_fine() -> None:
    s = Script()
    s.head()
    for item in (10, 20, 30):
        s.did("put", item)
    s.head(10, more=True)
    s.head(10, 20, 30, PROBES_FROM + 1)
    deleting = s.begin("delete", 10)
    s.head(10, 20, more=True)
    s.head(20, more=True)
    s.end(deleting)
    s.head(20, 30)
    putting = s.begin("put", 15)
    s.head(20, 30)
    s.head(15, 20, 30)
    s.end(putting, None, INFO)
    assert s.found() == []


def test_what_is_there_may_not_be_passed() -> None:
    s = Script()
    s.did("put", 10)
    s.did("put", 20)
    s.head(20)
    assert s.found() == ["lost"]


def test_what_was_seen_once_is_there_though_its_put_was_not_acknowledged() -> None:
    s = Script()
    s.did("put", 10, INFO)
    s.head()
    s.head(10)
    s.head()
    assert s.found() == ["lost"]


def test_a_page_says_nothing_of_what_comes_after_it() -> None:
    s = Script()
    s.did("put", 10)
    s.did("put", 20)
    s.head(10, more=True)
    assert s.found() == []


def test_what_was_deleted_may_not_come_back() -> None:
    s = Script()
    s.did("put", 10)
    s.did("delete", 10)
    s.head(10)
    assert s.found() == ["back"]


def test_nor_what_a_reader_did_not_see_any_more_though_its_deletion_is_not_acknowledged() -> None:
    s = Script()
    s.did("put", 10)
    s.did("delete", 10, INFO)
    s.head(10)
    s.head()
    s.head(10)
    assert s.found() == ["back"]


def test_nobody_may_see_what_was_not_put() -> None:
    s = Script()
    s.head(10)
    s.did("put", 10)
    assert s.found() == ["unexpected"]


def test_a_tail_that_is_read_in_reverse_is_fine() -> None:
    s = Script()
    s.tail()
    for item in (10, 20, 30, 40):
        s.did("put", item)
    s.tail(40, 30, more=True)
    s.tail(PROBES_FROM + 1, 40, 30, 20, 10)
    s.tail(20, 10, before=30)
    s.tail(20, more=True, before=30)
    s.tail(more=True, before=30)
    s.did("delete", 20)
    s.tail(30, 10, before=40)
    assert s.found() == []


def test_a_tail_may_not_pass_what_is_there_nor_say_anything_of_what_it_does_not_reach() -> None:
    s = Script()
    for item in (10, 20, 30, 40):
        s.did("put", item)
    s.tail(40, 20, more=True)
    s.tail(20, before=30)
    assert s.found() == ["lost", "lost"]


def test_ends_bind_each_other() -> None:
    s = Script()
    s.did("put", 10, INFO)
    s.did("put", 20, INFO)
    s.tail(20, 10)
    s.head(10)
    s.did("delete", 10, INFO)
    s.tail(20)
    s.head(10, 20)
    assert s.found() == ["lost", "back"]


def test_no_item_comes_twice_or_in_the_wrong_order() -> None:
    s = Script()
    for item in (10, 20):
        s.did("put", item)
    s.head(20, 10)
    s.tail(10, 20)
    s.head(10, 20, 20)
    s.tail(20, 20, 10)
    assert s.found() == ["disordered"] * 4
