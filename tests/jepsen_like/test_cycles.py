"""The search for cycles: histories that some order explains, and one for each way in which there is none."""

from __future__ import annotations

from random import Random

import pytest

from jepsen_like.cycles import APPEND, READ, WW, Edge, Graph, Micro, components, transactions
from jepsen_like.history import FAIL, INFO, OK, History, Operation

Steps = tuple[Micro, ...]


def a(key: str, element: int) -> Micro:
    return Micro(APPEND, key, element)


def r(key: str, *seen: int) -> Micro:
    return Micro(READ, key, seen)


class Script:
    """Transactions by hand: `begin` and `end` in any interleaving, or `did` for both."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, *steps: Micro, process: int = 0) -> Operation:
        asked = tuple(step._replace(value=None) if step.kind == READ else step for step in steps)
        operation = Operation(process or self.history.new_process(), "txn", 0, asked, 0)
        operation.result = steps
        return self.history.invoke(operation, 0)

    def end(self, operation: Operation, status: str = OK) -> None:
        self.history.complete(operation, status, 0, operation.result if status == OK else None)

    def did(self, *steps: Micro, status: str = OK, process: int = 0) -> None:
        self.end(self.begin(*steps, process=process), status)

    def at_once(self, *all_steps: Steps) -> None:
        """Transactions that overlap, by which real time says nothing of their order."""
        operations = [self.begin(*steps) for steps in all_steps]
        for operation in operations:
            self.end(operation)

    def names(self) -> list[str]:
        return [problem.name for problem in transactions(self.history.operations)]


def test_one_after_the_other_is_fine() -> None:
    s = Script()
    s.did(r("x"), a("x", 1))
    s.did(r("x", 1), a("y", 2), a("x", 3))
    s.did(r("x", 1, 3), r("y", 2))
    assert s.names() == []


def test_any_order_of_what_overlaps_will_do() -> None:
    s = Script()
    s.at_once((a("x", 1),), (a("x", 2),), (r("x", 2, 1),), (r("x"),), (r("x", 2),))
    assert s.names() == []


def test_an_unknown_end_may_be_seen_or_not() -> None:
    s = Script()
    s.did(a("x", 1), status=INFO)
    s.did(a("x", 2), status=INFO)
    s.did(r("x", 2))
    s.did(r("x", 2, 1))
    assert s.names() == []


def test_a_write_cycle_is_g0() -> None:
    s = Script()
    s.at_once((a("x", 1), a("y", 2)), (a("x", 3), a("y", 4)), (r("x", 1, 3), r("y", 4, 2)))
    assert s.names() == ["G0"]


def test_circular_information_is_g1c() -> None:
    s = Script()
    s.at_once((a("x", 1), r("y", 2)), (a("y", 2), r("x", 1)))
    assert s.names() == ["G1c"]


def test_a_read_of_what_failed_is_g1a() -> None:
    s = Script()
    s.did(a("x", 1), status=FAIL)
    s.did(r("x", 1))
    assert s.names() == ["G1a"]


def test_a_read_in_the_middle_of_a_transaction_is_g1b() -> None:
    s = Script()
    s.at_once((a("x", 1), a("x", 2)), (r("x", 1),))
    s.did(r("x", 1, 2))
    assert s.names() == ["G1b"]


def test_a_lost_update_and_a_skewed_read_are_g_single() -> None:
    s = Script()
    s.at_once((r("x"), a("x", 1)), (r("x"), a("x", 2)), (r("x", 1, 2),))
    assert s.names() == ["G-single"]
    s = Script()
    s.at_once((a("x", 1), a("y", 2)), (r("x", 1), r("y")), (r("y", 2),))
    assert s.names() == ["G-single"]


def test_write_skew_is_g2() -> None:
    s = Script()
    s.at_once((r("x"), a("y", 1)), (r("y"), a("x", 2)), (r("x", 2), r("y", 1)))
    assert s.names() == ["G2"]


def test_what_had_ended_comes_first() -> None:
    s = Script()
    s.did(a("x", 1))
    s.did(r("x"))
    s.did(r("x", 1))
    assert s.names() == ["realtime"]


def test_an_acknowledged_append_that_nobody_sees_is_one_that_came_last() -> None:
    s = Script()
    late = s.begin(a("x", 1))
    s.did(r("x"))
    s.end(late)
    assert s.names() == []
    s.did(r("x"))
    assert s.names() == ["realtime"]


def test_a_process_sees_what_it_did() -> None:
    s = Script()
    overlapping = s.begin(a("x", 9))
    s.did(a("x", 1), process=77)
    s.did(r("x"), process=77)
    s.end(overlapping)
    s.did(r("x", 9, 1))
    assert s.names() == ["process"]


def test_two_orders_doubled_and_invented_elements() -> None:
    s = Script()
    s.at_once((a("x", 1),), (a("x", 2),), (r("x", 1),), (r("x", 2, 1),))
    assert s.names() == ["incompatible_order"]
    s = Script()
    s.at_once((a("x", 1),), (r("x", 1, 1),))
    assert "duplicated" in s.names()
    s = Script()
    s.did(r("x", 5))
    assert s.names() == ["phantom"]
    s = Script()
    s.did(r("x", 5))
    s.did(a("x", 5))
    assert s.names() == ["phantom"]


def test_the_cycle_that_is_told_is_the_shortest() -> None:
    s = Script()
    s.at_once((a("x", 1), r("z", 3)), (a("y", 2), r("x", 1)), (a("z", 3), r("y", 2)))
    s.at_once((a("v", 4), r("w", 5)), (a("w", 5), r("v", 4)))
    (problem,) = transactions(s.history.operations)
    assert problem.name == "G1c"
    assert problem.text.count("-->") == 2


def random_history(seed: int, count: int) -> Script:
    """A serial execution, of which each transaction's begin and end are told a little off its moment."""
    random, s = Random(seed), Script()
    lists: dict[str, tuple[int, ...]] = {}
    moments: list[tuple[float, int, Operation]] = []
    element = 0
    for number in range(count):
        steps: list[Micro] = []
        for _ in range(random.randint(1, 4)):
            key = random.choice("abc")
            if random.random() < 0.5:
                element += 1
                lists[key] = (*lists.get(key, ()), element)
                steps.append(a(key, element))
            else:
                steps.append(r(key, *lists.get(key, ())))
        asked = tuple(step._replace(value=None) if step.kind == READ else step for step in steps)
        operation = Operation(number + 1, "txn", 0, asked, 0)
        operation.result = tuple(steps)
        moments += [
            (number - 5 * random.random(), 0, operation),
            (number + 5 * random.random(), 1, operation),
        ]
    for _, end, operation in sorted(moments, key=lambda item: item[:2]):
        if end:
            s.end(operation, INFO if random.random() < 0.1 else OK)
        else:
            s.history.invoke(operation, 0)
    return s


@pytest.mark.parametrize("seed", range(30))
def test_what_a_serial_execution_made_is_fine(seed: int) -> None:
    assert random_history(seed, 60).names() == []


@pytest.mark.parametrize("seed", range(30))
def test_a_read_that_misses_what_was_there_long_ago_is_found(seed: int) -> None:
    s = random_history(seed, 60)
    reads = [
        op
        for op in s.history.operations[30:]
        if op.status == OK
        and len(op.value) == 1
        and op.value[0].kind == READ
        and len(op.result[0].value) > 12
    ]
    if not reads:
        s.did(r("a"))
    else:
        step = reads[0].result[0]
        reads[0].result = (step._replace(value=step.value[:-12]),)
    assert s.names() != []


def test_a_long_history_is_judged_quickly() -> None:
    assert random_history(1, 5_000).names() == []


def test_components_of_a_graph() -> None:
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 5), (5, 0)]
    graph: Graph = [[] for _ in range(6)]
    for source, target in edges:
        graph[source].append(Edge(WW, target, ""))
    assert sorted(components(graph, (WW,))) == [[0, 1, 2], [3, 4]]
    assert components(graph, ()) == []
