"""minimum_should_match: how many of n optional clauses must match, in Elasticsearch's notation.

`3` is that many, `-1` all but one, `75%` that share rounded down, `-25%` all but that share (rounded down);
`2<75%` is all up to 2 clauses and 75 % above; several such conditions are separated by blanks.
"""

from __future__ import annotations

import re

_AMOUNT = re.compile(r"(-?)(\d{1,4})(%?)", re.ASCII)
_CONDITION = re.compile(r"(\d{1,4})<(-?\d{1,4}%?)", re.ASCII)


def is_minimum(text: str) -> bool:
    """Whether this is such a text."""
    if _AMOUNT.fullmatch(text):
        return True
    return bool(text.split()) and all(_CONDITION.fullmatch(part) for part in text.split())


def needed(text: str, clauses: int) -> int:
    """How many of so many clauses must match, 0 to `clauses` (one more than there are if the text says
    more).
    """
    if _AMOUNT.fullmatch(text):
        return _amount(text, clauses)
    found = clauses
    for part in text.split():
        match = _CONDITION.fullmatch(part)
        assert match is not None, "is_minimum"
        if clauses > int(match[1]):
            found = _amount(match[2], clauses)
    return found


def _amount(text: str, clauses: int) -> int:
    match = _AMOUNT.fullmatch(text)
    assert match is not None, "is_minimum"
    number = int(match[2])
    amount = clauses * number // 100 if match[3] else number
    return max(0, clauses - amount) if match[1] else amount
