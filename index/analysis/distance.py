"""How far apart two terms are: insertions, deletions, substitutions and (if asked for) transpositions of
neighbours, each character moved once (optimal string alignment).
"""

from __future__ import annotations


def within(one: str, other: str, most: int, transpositions: bool) -> bool:
    """Whether the distance is at most `most`."""
    if abs(len(one) - len(other)) > most:
        return False
    if one == other:
        return True
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if transpositions and i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most and (not before or min(last) > most):
            return False
        before, last = last, row
    return last[-1] <= most
