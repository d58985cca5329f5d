"""Is there an order of transactions on lists that explains what everybody saw? If not: the shortest cycle.

The idea is Elle's (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
Observations", VLDB 2020). Elements are unique and lists only grow, so a read of a list shows the order of all
its writes, and with it which transaction must come before which:

    ww  it appended the element before the other's
    wr  the other's read ends with its element
    rw  its read ends before the other's element: it did not see it
    rt  it had ended before the other began
    pr  one process did it before the other

Edges that a serial order in real time would keep have no cycle. A cycle is an anomaly (Adya): of ww alone G0,
with wr G1c, with one rw G-single (read skew, lost update), with more G2; if it needs rt or pr, the order is
serializable but not strictly so. Beside cycles: reads of what failed (G1a), of what is between two writes of
one transaction (G1b), doubled elements, and two reads of one list of which neither begins the other.

Linear in the history: real-time edges go through marks (one per completion, each before the next), so that
there are no more edges than operations. Cycles are searched only inside strongly connected components.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.history import FAIL, OK, Operation

APPEND, READ = "append", "r"

WW, WR, RW, RT, PR = "ww", "wr", "rw", "rt", "pr"

KINDS_TRIED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("G0", (WW,)),
    ("G1c", (WW, WR)),
    ("G-single", (WW, WR, RW)),
    ("G2", (WW, WR, RW)),
    ("process", (WW, WR, RW, PR)),
    ("realtime", (WW, WR, RW, PR, RT)),
)
"""Anomalies from the worst to the mildest, with the edges of which each is made."""


class Micro(NamedTuple):
    """A step of a transaction: `append` of an element to a key's list, or `r` with what it saw (or None)."""

    kind: str
    key: Any
    value: Any


class Edge(NamedTuple):
    """From a transaction to one that must come after it."""

    kind: str
    target: int
    why: str


Graph = list[list[Edge]]


def transactions(operations: Sequence[Operation]) -> list[Problem]:
    """Judge transactions: the `value` of each is a tuple of `Micro`, and so is the `result` of an ok one.

    A `fail` did nothing; of an `info` only what others saw is known. Reads see what their own transaction
    appended before them.
    """
    known = [op for op in operations if op.status != FAIL]
    order, problems = _version_orders(operations)
    problems += _reads_of_what_is_not_there(operations)
    if not problems:
        problems = _cycles(known, order)
    return problems[:PROBLEMS_MAX]


# --- what reads say about the order of versions


def _reads(operation: Operation) -> list[Micro]:
    if operation.status != OK:
        return []
    return [step for step in operation.result if step.kind == READ and step.value is not None]


def _version_orders(operations: Sequence[Operation]) -> tuple[dict[Any, tuple[Any, ...]], list[Problem]]:
    longest: dict[Any, tuple[Any, ...]] = {}
    for op in operations:
        for step in _reads(op):
            if len(step.value) > len(longest.get(step.key, ())):
                longest[step.key] = step.value
    problems = []
    for key, elements in longest.items():
        if len({*elements}) < len(elements):
            problems.append(Problem("duplicated", f"{key}: {elements}"))
    for op in operations:
        for step in _reads(op):
            whole = longest.get(step.key, ())
            if step.value != whole[: len(step.value)]:
                text = f"{step.key}: {step.value} in {op!r} is no beginning of {whole}"
                problems.append(Problem("incompatible_order", text))
    return longest, problems


def _reads_of_what_is_not_there(operations: Sequence[Operation]) -> list[Problem]:
    writer: dict[tuple[Any, Any], tuple[Operation, Any]] = {}
    for op in operations:
        last: dict[Any, Any] = {}
        for step in op.value:
            if step.kind == APPEND:
                last[step.key] = step.value
        for step in op.value:
            if step.kind == APPEND:
                writer[step.key, step.value] = op, last[step.key]
    problems = []
    for op in operations:
        for step in _reads(op):
            end = len(step.value) - 1
            for place, element in enumerate(step.value):
                source, final = writer.get((step.key, element), (None, None))
                if source is None or source.invoked > op.completed:
                    problems.append(Problem("phantom", f"{element} of {step.key} in {op!r} is of nobody"))
                elif source.status == FAIL:
                    problems.append(Problem("G1a", f"{op!r} read {element} of {source!r}, which failed"))
                elif place == end and element != final and source is not op:
                    problems.append(Problem("G1b", f"{op!r} read {element}, in the middle of {source!r}"))
    return problems


# --- the graph


def _cycles(operations: Sequence[Operation], order: Mapping[Any, tuple[Any, ...]]) -> list[Problem]:
    graph = _graph(operations, order)
    for name, kinds in KINDS_TRIED:
        cycle = _shortest_cycle(graph, kinds, 1 if name == "G-single" else None)
        if cycle:
            return [Problem(name, _told(operations, cycle))]
    return []


def _graph(operations: Sequence[Operation], order: Mapping[Any, tuple[Any, ...]]) -> Graph:
    graph: Graph = [[] for _ in operations]
    writer = {
        (step.key, step.value): number
        for number, op in enumerate(operations)
        for step in op.value
        if step.kind == APPEND
    }
    for key, elements in order.items():
        for one, next_one in pairwise(elements):
            _add(graph, WW, writer[key, one], writer[key, next_one], f"{key}: {one} before {next_one}")
    for number, op in enumerate(operations):
        for step in _reads(op):
            own = {own.value for own in op.value if own.kind == APPEND and own.key == step.key}
            seen = [element for element in step.value if element not in own]
            if seen:
                _add(graph, WR, writer[step.key, seen[-1]], number, f"{step.key}: read {seen[-1]}")
            missed = _first_missed(order.get(step.key, ()), len(step.value), own)
            if missed is not None:
                _add(graph, RW, number, writer[step.key, missed], f"{step.key}: did not see {missed}")
    _add_lost(graph, operations, order)
    _add_processes(graph, operations)
    _add_real_time(graph, operations)
    return graph


def _first_missed(elements: tuple[Any, ...], after: int, own: set[Any]) -> Any:
    for element in elements[after:]:
        if element not in own:
            return element
    return None


def _add_lost(graph: Graph, operations: Sequence[Operation], order: Mapping[Any, tuple[Any, ...]]) -> None:
    """An acknowledged append that no read shows comes after whoever read the list, if there is an order."""
    last_read: dict[Any, list[int]] = {}
    for number, op in enumerate(operations):
        for step in _reads(op):
            last_read.setdefault(step.key, []).append(number)
    for number, op in enumerate(operations):
        for step in op.value:
            if step.kind != APPEND or op.status != OK or step.value in order.get(step.key, ()):
                continue
            for reader in last_read.get(step.key, ()):
                _add(graph, RW, reader, number, f"{step.key}: did not see {step.value}")


def _add(graph: Graph, kind: str, source: int, target: int, why: str) -> None:
    if source != target:
        graph[source].append(Edge(kind, target, why))


def _add_processes(graph: Graph, operations: Sequence[Operation]) -> None:
    last: dict[int, int] = {}
    for number, op in enumerate(operations):  # by invocation; a process does one thing at a time
        before = last.get(op.process)
        if before is not None and operations[before].status == OK:
            _add(graph, PR, before, number, f"process {op.process}")
        last[op.process] = number


def _add_real_time(graph: Graph, operations: Sequence[Operation]) -> None:
    """operation -> its mark -> later marks; a mark -> what began after it, before the next mark."""
    ended = sorted((op.completed, number) for number, op in enumerate(operations) if op.status == OK)
    first = len(graph)
    graph.extend([] for _ in ended)
    for place, (_, number) in enumerate(ended):
        graph[number].append(Edge(RT, first + place, "ended"))
        if place + 1 < len(ended):
            graph[first + place].append(Edge(RT, first + place + 1, "then"))
    place = -1
    for number, op in sorted(enumerate(operations), key=lambda item: item[1].invoked):
        while place + 1 < len(ended) and ended[place + 1][0] < op.invoked:
            place += 1
        if place >= 0:
            graph[first + place].append(Edge(RT, number, "began after that"))


# --- cycles


def _shortest_cycle(graph: Graph, kinds: tuple[str, ...], rw_exactly: int | None) -> list[tuple[int, Edge]]:
    """The shortest cycle of edges of these kinds, as (source, edge); [] if there is none.

    With `rw_exactly` 1 one that has a single rw edge.
    """
    best: list[tuple[int, Edge]] = []
    for component in components(graph, kinds):
        inside = dict.fromkeys(component, True)
        for start in component:
            for edge in graph[start]:
                if edge.kind not in kinds or edge.target not in inside:
                    continue
                if rw_exactly is not None and edge.kind != RW:
                    continue
                rest = tuple(kind for kind in kinds if kind != RW) if rw_exactly is not None else kinds
                path = _path(graph, edge.target, start, rest, inside)
                if path is not None and (not best or len(path) + 1 < len(best)):
                    best = [(start, edge), *path]
                if best and len(best) <= 2:
                    return best
    return best


def _path(
    graph: Graph, start: int, goal: int, kinds: tuple[str, ...], inside: Mapping[int, bool]
) -> list[tuple[int, Edge]] | None:
    came: dict[int, tuple[int, Edge]] = {}
    waiting = deque([start])
    while waiting:
        at = waiting.popleft()
        if at == goal:
            path: list[tuple[int, Edge]] = []
            while at != start:
                source, edge = came[at]
                path.append((source, edge))
                at = source
            return path[::-1]
        for edge in graph[at]:
            if edge.kind in kinds and edge.target in inside and edge.target not in came:
                if edge.target != start:
                    came[edge.target] = at, edge
                    waiting.append(edge.target)
    return None


def components(graph: Graph, kinds: tuple[str, ...]) -> list[list[int]]:
    """Strongly connected components of more than one node (Tarjan 1972, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: dict[int, bool] = {}
    found: list[list[int]] = []
    for root in range(len(graph)):
        if root in index:
            continue
        work = [(root, 0)]
        while work:
            node, at = work.pop()
            if at == 0:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack[node] = True
            edges = graph[node]
            while at < len(edges):
                target, kind = edges[at].target, edges[at].kind
                at += 1
                if kind not in kinds:
                    continue
                if target not in index:
                    work.append((node, at))
                    work.append((target, 0))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                _close(node, work, (index, low, stack, on_stack), found)
    return found


def _close(
    node: int,
    work: list[tuple[int, int]],
    state: tuple[dict[int, int], dict[int, int], list[int], dict[int, bool]],
    found: list[list[int]],
) -> None:
    """All edges of a node are done: its component, if it is the root of one."""
    index, low, stack, on_stack = state
    if low[node] == index[node]:
        component = []
        while True:
            member = stack.pop()
            del on_stack[member]
            component.append(member)
            if member == node:
                break
        if len(component) > 1:
            found.append(sorted(component))
    if work:
        parent = work[-1][0]
        low[parent] = min(low[parent], low[node])


def _told(operations: Sequence[Operation], cycle: list[tuple[int, Edge]]) -> str:
    """The cycle for people: each transaction, and why the next comes after it. Marks are left out."""
    said = []
    for source, edge in cycle:
        if source < len(operations):
            said.append(f"{operations[source]!r} --{edge.kind} ({edge.why})-->")
    return " ".join(said) + " the first again"
