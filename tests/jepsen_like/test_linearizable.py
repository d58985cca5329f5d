"""The search for an order: histories that have one, histories that have none, and one that is too long."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from random import Random

import pytest

from jepsen_like.history import FAIL, INFO, NEVER, OK, History, Operation
from jepsen_like.linearizable import STEPS_MAX, Cas, Search, State, Step, after, linearizable, steps_of


class Script:
    """A history by hand: `begin` and `end` in any interleaving, or `did` for both."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, kind: str, value: object = None, key: str = "k") -> Operation:
        return self.history.invoke(Operation(self.history.new_process(), kind, key, value, 0), 0)

    def end(self, operation: Operation, result: object = None, status: str = OK) -> None:
        self.history.complete(operation, status, 0, result)

    def did(self, kind: str, value: object = None, result: object = None, status: str = OK) -> None:
        self.end(self.begin(kind, value), result, status)

    def names(self, steps_max: int = 100_000) -> list[str]:
        by_key: dict[object, list[Operation]] = {}
        for operation in self.history.operations:
            by_key.setdefault(operation.key, []).append(operation)
        return [problem.name for problem in linearizable(by_key, steps_max)]


def test_one_after_the_other() -> None:
    s = Script()
    s.did("read", None, None)
    s.did("write", 1, True)
    s.did("read", None, 1)
    s.did("cas", Cas(1, 2), True)
    s.did("cas", Cas(1, 3), False)
    s.did("read", None, 2)
    assert s.names() == []


@pytest.mark.parametrize(
    ("kind", "value", "result"), [("read", None, 0), ("cas", Cas(0, 1), True), ("cas", Cas(1, 3), False)]
)
def test_what_contradicts_a_finished_write(kind: str, value: object, result: object) -> None:
    s = Script()
    s.did("write", 0, True)
    s.did("write", 1, True)
    s.did(kind, value, result)
    assert s.names() == ["not_linearizable"]


def test_operations_that_overlap_may_be_in_any_order() -> None:
    s = Script()
    a, b = s.begin("write", 1), s.begin("write", 2)
    s.did("read", None, 2)
    s.did("read", None, 1)
    s.end(a, True)
    s.end(b, True)
    assert s.names() == []
    s.did("read", None, 2)
    assert s.names() == ["not_linearizable"]


def test_reads_may_not_go_back() -> None:
    s = Script()
    s.did("write", 1, True)
    write = s.begin("write", 2)
    s.did("read", None, 2)
    s.did("read", None, 1)
    s.end(write, True)
    assert s.names() == ["not_linearizable"]


def test_an_unknown_end_is_now_later_or_never() -> None:
    never = Script()
    never.did("write", 1, True)
    never.did("write", 2, None, INFO)
    never.did("read", None, 1)
    assert never.names() == []
    late = Script()
    late.did("write", 1, True)
    late.did("write", 2, None, INFO)
    late.did("read", None, 1)
    late.did("write", 3, True)
    late.did("read", None, 2)
    assert late.names() == []
    late.did("read", None, 3)  # it cannot be undone
    assert late.names() == ["not_linearizable"]


def test_two_unknown_ones_of_one_effect_count_as_two() -> None:
    s = Script()
    s.did("write", 0, True)
    for _ in range(2):
        s.did("cas", Cas(0, 1), None, INFO)
    for _ in range(2):
        s.did("read", None, 1)
        s.did("write", 0, True)
    assert s.names() == []
    s.did("read", None, 1)
    assert s.names() == ["not_linearizable"]


def test_what_failed_never_happened() -> None:
    s = Script()
    s.did("write", 1, True)
    s.did("write", 2, None, FAIL)
    s.did("read", None, 2)
    assert s.names() == ["not_linearizable"]


def test_a_rewrite_of_the_same_value_may_have_to_wait() -> None:
    s = Script()
    s.did("write", 1, True)
    rewrite = s.begin("write", 1)
    s.did("cas", Cas(1, 2), True)
    s.end(rewrite, True)
    s.did("read", None, 1)
    assert s.names() == []


def test_keys_are_judged_apart_and_a_search_without_end_is_no_pass() -> None:
    s = Script()
    s.end(s.begin("write", 1, "a"), True)
    s.end(s.begin("read", None, "b"), None)
    assert s.names() == []
    assert s.names(steps_max=0) == ["gave_up", "gave_up"]


def by_brute_force(steps: list[Step]) -> bool:
    """Whether some order of all known and of some unknown operations explains everything."""
    unknown = [step for step in steps if not step.needed]
    known = [step for step in steps if step.needed]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *some]):
                if _explains(order):
                    return True
    return False


def _explains(order: tuple[Step, ...]) -> bool:
    state: State = None
    for index, step in enumerate(order):
        if any(later.completed < step.invoked for later in order[index + 1 :]):
            return False
        following = after(step, state)
        if isinstance(following, str):
            return False
        state = following
    return True


def test_the_search_agrees_with_trying_everything() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(600):
        draw = Random(seed)
        s = Script()
        waiting: list[Operation] = []
        for _ in range(12):
            if waiting and draw.random() < 0.5:
                operation = waiting.pop(draw.randrange(len(waiting)))
                results = {"read": draw.choice((None, 0, 1)), "write": True, "cas": draw.random() < 0.5}
                s.end(operation, results[operation.kind], INFO if draw.random() < 0.25 else OK)
            elif len(s.history.operations) < 6:
                kind = draw.choice(("read", "write", "cas"))
                cas = Cas(draw.randrange(2), draw.randrange(2))
                waiting.append(s.begin(kind, {"read": None, "write": draw.randrange(2), "cas": cas}[kind]))
        steps = steps_of(s.history.operations)
        verdict = Search(steps).run()
        assert verdict is by_brute_force(steps), seed
        verdicts[bool(verdict)] += 1
    assert min(verdicts.values()) > 50, verdicts


def test_a_search_that_gives_up_has_a_bound_on_time_and_memory() -> None:
    """Many writes that overlap and a read that none of them explains: as hard as it gets."""
    s = Script()
    writes = [s.begin("write", number) for number in range(18)]
    reads = [s.begin("read") for _ in range(3)]
    for operation in [*writes, *reads]:
        s.end(operation, True if operation.kind == "write" else 0)
    s.did("read", None, 99)
    steps, limit = steps_of(s.history.operations), 30_000
    tracemalloc.start()
    began = time.process_time()
    search = Search(steps, steps_max=limit)
    assert search.run() is None
    seconds = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert search.left == -1
    assert peak / limit < 300, f"{peak / limit:.0f} bytes a step"
    assert seconds / limit * STEPS_MAX < 600, f"{seconds} s for {limit} steps, and memory was traced"


def test_a_long_history_of_many_clients_is_judged_quickly() -> None:
    draw = Random(1)
    s = Script()
    state: State = None
    waiting: list[tuple[Operation, object]] = []
    for _ in range(400):
        if len(waiting) == 12 or (waiting and draw.random() < 0.4):
            operation, result = waiting.pop(draw.randrange(len(waiting)))
            s.end(operation, result, INFO if draw.random() < 0.1 else OK)
            continue
        if draw.random() < 0.5:
            waiting.append((s.begin("read"), state))
        elif draw.random() < 0.5:
            state = draw.randrange(5)
            waiting.append((s.begin("write", state), True))
        else:
            cas = Cas(draw.randrange(5), draw.randrange(5))
            hit = state == cas.old
            waiting.append((s.begin("cas", cas), hit))
            state = cas.new if hit else state
    assert s.names(steps_max=200_000) == []
    assert all(step.completed == NEVER or step.needed for step in steps_of(s.history.operations))
