"""Phrases in one document: how often terms stand in the order asked for, or near it.

With terms at offsets o_i asked for and found at positions p_i, the places q_i = p_i - o_i are all the same
where the phrase stands exactly. Where they are not, max(q) - min(q) is how many moves of terms, in sum, would
make it fit; a match within the slop counts 1 / (1 + moves), an exact one 1 (as in Lucene). Each place of the
first term is counted once, with the best fit of the others; no two terms take the same position.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from index.query import Phrase

COMBINATIONS_MAX: Final = 4_096
"""Combinations looked at for one place of a phrase with slop."""


def phrase_frequency(query: Phrase, positions: dict[str, list[int]]) -> float:
    """How often the phrase occurs; 0.0 if it does not."""
    slots = _slots(query, positions)
    if slots is None:
        return 0.0
    if not query.slop:
        return float(_exact(slots))
    return _sloppy(slots, query.slop)


def _slots(query: Phrase, positions: dict[str, list[int]]) -> list[tuple[int, list[int]]] | None:
    """Per offset of the phrase, where any of its terms stands; None if one does not."""
    if not query.terms:
        return None
    asked: dict[int, list[str]] = {}
    for offset, term in query.terms:
        asked.setdefault(offset, []).append(term)
    last = max(asked)
    slots: list[tuple[int, list[int]]] = []
    for offset in sorted(asked):
        terms = asked[offset]
        if query.prefix and offset == last:
            terms = [term for term in positions if term.startswith(tuple(terms))]
        places = [positions[term] for term in terms if term in positions]
        if not places:
            return None
        merged = places[0] if len(places) == 1 else sorted({at: None for some in places for at in some})
        slots.append((offset, merged))
    return slots


def _exact(slots: list[tuple[int, list[int]]]) -> int:
    first_offset, first = slots[0]
    rest = [(offset - first_offset, frozenset(places)) for offset, places in slots[1:]]
    return sum(all(at + moved in places for moved, places in rest) for at in first)


def _sloppy(slots: list[tuple[int, list[int]]], slop: int) -> float:
    total = 0.0
    first_offset, first = slots[0]
    for at in first:
        moves = _best(slots, at - first_offset, slop)
        if moves is not None:
            total += 1 / (1 + moves)
    return total


def _best(slots: list[tuple[int, list[int]]], anchor: int, slop: int) -> int | None:
    """The fewest moves of a match whose first term is at place `anchor`, None if they are more than slop."""
    near = [_around(places, anchor + offset, slop) for offset, places in slots[1:]]
    if not all(near):
        return None
    best: int | None = None
    looked_at = 0
    stack: list[tuple[int, int, int, tuple[int, ...]]] = [(0, anchor, anchor, (anchor + slots[0][0],))]
    while stack and looked_at < COMBINATIONS_MAX:
        depth, low, high, taken = stack.pop()
        looked_at += 1
        if depth == len(near):
            best = high - low if best is None else min(best, high - low)
            continue
        offset = slots[depth + 1][0]
        for at in near[depth]:
            place = at - offset
            widest = max(high, place) - min(low, place)
            if at not in taken and widest <= slop and (best is None or widest < best):
                stack.append((depth + 1, min(low, place), max(high, place), (*taken, at)))
    return best


def _around(places: list[int], at: int, slop: int) -> list[int]:
    first = bisect_left(places, at - slop)
    last = bisect_left(places, at + slop + 1)
    return places[first:last]
