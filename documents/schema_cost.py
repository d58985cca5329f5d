"""How often a JSON Schema looks at one place of a document: schemas that could look for ever are refused.

A few hundred bytes of schema can ask for more work than a peer does in a year: definitions that name one
another twice double the work with each step, `{"anyOf": [A, A]}` under a reference to itself with each level
of the document. What counts is how many subschemas are applied to one place, at most, wherever it is:

- those that are applied *here* (`allOf`, `anyOf`, `$ref`, ...), all counted, each as often as it is named;
- those applied *below*, by the label of the step (a property, an index, or any of them): for the place below,
  what all of them have in turn.

A schema may lead back to itself below (trees do), but only once for each step: then every level costs the
same. Labels are matched cautiously, so that a schema may be refused that would have been quick; never the
other way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

APPLIED_MAX: Final = 1_000
"""Subschemas that may be applied to one place of a document."""
SUBSCHEMAS_MAX: Final = 2_000

_HERE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_HERE: Final = ("not", "if", "then", "else")
_HERE_NAMED: Final = ("dependentSchemas", "dependencies")
_BELOW_ANY: Final = (
    ("additionalProperties", "*"),
    ("unevaluatedProperties", "*"),
    ("propertyNames", "(name)"),
    ("items", "#"),
    ("additionalItems", "#"),
    ("unevaluatedItems", "#"),
    ("contains", "#"),
)
_REFUSED: Final = ("$dynamicRef", "$recursiveRef")

_ESCAPES: Final = re.compile("(?:%[0-9A-Fa-f]{2})+")

Pointer = tuple[str, ...]
Steps = dict[str, Counter[Pointer]]


class CostError(ValueError):
    """The schema is refused; `str()` says why."""


def check(schema: Any) -> None:
    """Raises CostError if a schema could take too long, or refers to something else than its own parts."""
    _Costs(schema).of((), ())


class _Costs:
    """One schema being looked at; subschemas are named by where they stand."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._known: dict[Pointer, int] = {}
        self._below: dict[Pointer, tuple[int, Steps]] = {}

    def of(self, pointer: Pointer, above: tuple[Pointer, ...]) -> int:
        """How many subschemas it applies to one place at most; `above` led here from another place."""
        if pointer in above:
            return 0  # counted where it began: see _check_return
        known = self._known.get(pointer)
        if known is not None:
            return known
        if len(self._known) + len(above) > SUBSCHEMAS_MAX:
            raise CostError(f"the schema has more than {SUBSCHEMAS_MAX} parts")
        applied, steps = self._expanded(pointer)
        most = applied
        for label in steps:
            targets = _matching(steps, label)
            self._check_return(targets, (*above, pointer))
            total = sum(count * self.of(target, (*above, pointer)) for target, count in targets.items())
            most = max(most, total)
        if most > APPLIED_MAX:
            raise _too_much()
        self._known[pointer] = most
        return most

    def _check_return(self, targets: Counter[Pointer], above: tuple[Pointer, ...]) -> None:
        """One step may lead back once at most."""
        back = sum(count for target, count in targets.items() if self._leads_to(target, above))
        if back > 1:
            raise CostError(
                "the schema refers back to itself twice for one place, so each level of a document would "
                "double the work"
            )

    def _leads_to(self, start: Pointer, goals: tuple[Pointer, ...]) -> bool:
        """Whether a subschema leads to one of these, through any steps."""
        seen = {start: True}
        waiting = [start]
        while waiting:
            pointer = waiting.pop()
            if pointer in goals:
                return True
            for targets in self._expanded(pointer)[1].values():
                for target in targets:
                    if target not in seen:
                        seen[target] = True
                        waiting.append(target)
        return False

    def _expanded(self, pointer: Pointer) -> tuple[int, Steps]:
        """How many subschemas are applied at this place, and what they apply below, by label."""
        found = self._below.get(pointer)
        if found is not None:
            return found
        applied, steps = 0, dict[str, Counter[Pointer]]()
        waiting: list[tuple[Pointer, int]] = [(pointer, 0)]
        while waiting:
            here, references = waiting.pop()
            applied += 1
            if applied > APPLIED_MAX or references > APPLIED_MAX:
                raise _too_much()
            value = self._at(here)
            if type(value) is not dict:
                continue
            waiting += [(other, references + 1) for other in self._applied_here(here, value)]
            for label, below in _applied_below(here, value):
                steps.setdefault(label, Counter())[below] += 1
        self._below[pointer] = applied, steps
        return applied, steps

    def _applied_here(self, here: Pointer, value: dict[str, Any]) -> Iterator[Pointer]:
        for name in _REFUSED:
            if name in value:
                raise CostError(f"{name} is not supported: use $ref")
        if here and "$id" in value:
            raise CostError("only the whole schema may have an $id")
        if "$ref" in value:
            yield _referred(value["$ref"])
        for name in _HERE_LISTS:
            items = value.get(name)
            yield from ((*here, name, str(at)) for at in range(len(items) if type(items) is list else 0))
        yield from ((*here, name) for name in _HERE if name in value)
        for name in _HERE_NAMED:
            named = value.get(name)
            if type(named) is dict:
                yield from ((*here, name, key) for key, item in named.items() if type(item) is not list)

    def _at(self, pointer: Pointer) -> Any:
        here = self._schema
        for key in pointer:
            if type(here) is dict and key in here:
                here = here[key]
            elif type(here) is list and key.isascii() and key.isdigit() and int(key) < len(here):
                here = here[int(key)]
            else:
                raise CostError(f"the schema has no {'/'.join(('#', *pointer))[:100]}")
        return here


def _applied_below(here: Pointer, value: dict[str, Any]) -> Iterator[tuple[str, Pointer]]:
    properties, patterns = value.get("properties"), value.get("patternProperties")
    if type(properties) is dict:
        yield from ((f".{name}", (*here, "properties", name)) for name in properties)
    if type(patterns) is dict:
        yield from (("*", (*here, "patternProperties", name)) for name in patterns)
    for name in ("prefixItems", "items"):
        listed = value.get(name)
        if type(listed) is list:
            yield from ((f"#{at}", (*here, name, str(at))) for at in range(len(listed)))
    for name, label in _BELOW_ANY:
        if name in value and type(value[name]) is not list:
            yield label, (*here, name)


def _matching(steps: Steps, label: str) -> Counter[Pointer]:
    """What is applied to a place that is reached by this label: what names it, and what names any."""
    found = Counter(steps[label])
    for wild in ("*", "#"):
        if label != wild and label[:1] == {"*": ".", "#": "#"}[wild]:
            found += steps.get(wild, Counter())
    return found


def _referred(reference: Any) -> Pointer:
    if type(reference) is not str or not (reference == "#" or reference.startswith("#/")):
        raise CostError(f"a $ref leads to a part of the schema (# or #/...); found {str(reference)[:100]!r}")
    parts = _ESCAPES.sub(_unescaped, reference[1:]).split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _unescaped(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode(errors="replace")


def _too_much() -> CostError:
    return CostError(f"the schema would be applied more than {APPLIED_MAX} times to one place of a document")
