"""Statements by their ids, bounded in number and in the memory that they take.

A number alone bounds nothing: ten thousand INs of a thousand markers each would take gigabytes. What a plan
takes is estimated by its text; measured, it is between half and four times of that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

BASE_BYTES: Final = 8_192
BYTES_PER_CHARACTER: Final = 32
BYTES_PER_COMMA: Final = 512
"""Of an expression, column or bind marker of a list."""


class Texted(Protocol):
    """What has a text."""

    @property
    def text(self) -> str:
        """It."""


def estimated_bytes(text: str) -> int:
    """What the plan of a statement takes, about."""
    return BASE_BYTES + BYTES_PER_CHARACTER * len(text) + BYTES_PER_COMMA * text.count(",")


One = TypeVar("One", bound=Texted)


class StatementCache(Generic[One]):
    """The one used longest ago goes first; the newest always stays."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[bytes, One] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> One | None:
        """The statement of this id, which counts as used."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def peek(self, key: bytes) -> One | None:
        """The statement of this id."""
        return self._kept.get(key)

    def put(self, key: bytes, one: One) -> None:
        """Keep one that was not here; others may go for it."""
        assert key not in self._kept, "it is kept already"
        self._kept[key] = one
        self._bytes += estimated_bytes(one.text)
        while len(self._kept) > 1 and (len(self._kept) > self._count_max or self._bytes > self._bytes_max):
            _, gone = self._kept.popitem(last=False)
            self._bytes -= estimated_bytes(gone.text)

    def take(self, key: bytes) -> One | None:
        """The statement of this id, which is not kept any more."""
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= estimated_bytes(found.text)
        return found
