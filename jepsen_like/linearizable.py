"""Is there an order of all operations on a register that explains what everybody saw?

Wing and Gong's search (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory of where it has
been (Testing for Linearizability, 2017): states that were reached with the same operations done are not
looked at twice. An operation whose end is unknown may take effect at any time after it began, or never. Of
several such with the same effect only the one that began first is tried: whatever another explains, it does.

The search is exponential at worst, so it counts its steps; over the limit the verdict is that there is none,
which is a failure of the test and never a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jepsen_like.checkers import PROBLEMS_MAX, Problem
from jepsen_like.history import FAIL, NEVER, OK, Operation

STEPS_MAX = 1_000_000
"""Of one key: seconds, and below 300 MB for what is remembered (a test measures both)."""

State = int | None
"""What a register holds; None: nothing."""


class Cas(NamedTuple):
    """The value of a `cas` operation: its result says whether the register held `old`."""

    old: int
    new: int


class Step(NamedTuple):
    """One operation as the search sees it; `needed`: it is known to have happened."""

    invoked: int
    completed: int
    needed: bool
    kind: str
    value: Any
    result: Any


NO = "no"
"""Not a state: the operation cannot happen here."""


def after(step: Step, state: State) -> State | str:
    """The state after an operation, or NO if it could not have ended as it did."""
    if step.kind == "read":
        return state if step.result == state else NO
    if step.kind == "write":
        found: State = step.value
        return found
    cas: Cas = step.value
    if not step.needed:
        return cas.new if state == cas.old else NO  # if it changes nothing, it may as well not happen
    if step.result:
        return cas.new if state == cas.old else NO
    return state if state != cas.old else NO


def steps_of(operations: Iterable[Operation]) -> list[Step]:
    """What is to be ordered: all but reads of unknown end, and what certainly did nothing."""
    steps = []
    for op in operations:
        needed = op.status == OK
        if op.status == FAIL or (not needed and op.kind == "read"):
            continue
        completed = op.completed if needed else NEVER
        steps.append(Step(op.invoked, completed, needed, op.kind, op.value, op.result))
    return sorted(steps, key=lambda step: step.invoked)


class Search:
    """The search over one register's operations, by ascending invocation."""

    def __init__(self, steps: Sequence[Step], initial: State = None, steps_max: int = STEPS_MAX) -> None:
        self.steps = steps
        self.initial = initial
        self.left = steps_max
        self.furthest = 0
        self.stuck: list[Step] = []
        self._needed = sum(step.needed for step in steps)

    def run(self) -> bool | None:
        """Whether there is an order; None if that was not found out in time."""
        trail = [(0, self.initial, 0, iter(self._candidates(0, self.initial)))]
        seen = {(0, self.initial)}
        while trail:
            done, _, count, candidates = trail[-1]
            if count == self._needed:
                return True
            for index, following in candidates:
                self.left -= 1
                if self.left < 0:
                    return None
                reached = (done | 1 << index, following)
                if reached not in seen:
                    seen.add(reached)
                    more = count + self.steps[index].needed
                    trail.append((*reached, more, iter(self._candidates(*reached))))
                    break
            else:
                if count >= self.furthest:
                    self.furthest = count
                    self.stuck = self._open(done)
                trail.pop()
        return False

    def _open(self, done: int) -> list[Step]:
        """Operations that could be next in time: those that began before the first of the others ended."""
        bound, found = NEVER, []
        for index, step in enumerate(self.steps):
            if step.invoked > bound:
                break
            if not done >> index & 1:
                found.append(step)
                bound = min(bound, step.completed)
        return [step for step in found if step.invoked < bound]

    def _candidates(self, done: int, state: State) -> list[tuple[int, State]]:
        """(operation, state after it) of those that could be next: known ones first, by their end."""
        bound = NEVER
        known: list[tuple[int, int, State]] = []
        unknown: list[tuple[int, State]] = []
        tried: dict[tuple[str, Any], bool] = {}
        for index, step in enumerate(self.steps):
            if step.invoked > bound:
                break
            if done >> index & 1:
                continue
            if step.needed:
                bound = min(bound, step.completed)
            elif tried.setdefault((step.kind, step.value), False):
                continue
            following = after(step, state)
            if not step.needed:
                tried[step.kind, step.value] = True
                if following != state and not isinstance(following, str):
                    unknown.append((index, following))
            elif not isinstance(following, str):
                known.append((step.completed, index, following))
        chosen = [(index, following) for _, index, following in sorted(known, key=lambda item: item[:2])]
        found = [item for item in [*chosen, *unknown] if self.steps[item[0]].invoked < bound]
        for index, following in chosen:
            step = self.steps[index]
            if following == state and step.kind != "write" and step.invoked < bound:
                return [(index, following)]  # what never changes anything and fits now may as well be first
        return found


def linearizable(by_key: dict[object, list[Operation]], steps_max: int = STEPS_MAX) -> list[Problem]:
    """Judge registers, each by itself: `read`, `write` and `cas` (its `value` a Cas) as in `after`."""
    problems: list[Problem] = []
    for key, operations in by_key.items():
        search = Search(steps_of(operations), None, steps_max)
        verdict = search.run()
        if verdict is None:
            problems.append(Problem("gave_up", f"{key}: {len(operations)} operations in {steps_max} steps"))
        elif not verdict:
            text = f"{key}: after {search.furthest} operations none of these fits: {search.stuck[:10]}"
            problems.append(Problem("not_linearizable", text))
    return problems[:PROBLEMS_MAX]
