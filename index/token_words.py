"""The words of an analyzed text: tokens that are parts of one word, or alternatives at one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class TokenLike(Protocol):
    """A term with its place in the text and its position."""

    @property
    def term(self) -> str:
        """As it stands in the index."""

    @property
    def start(self) -> int:
        """First character."""

    @property
    def end(self) -> int:
        """After the last character."""

    @property
    def position(self) -> int:
        """Which word it is; tokens at one position are alternatives."""


def words_of(tokens: Sequence[TokenLike]) -> list[list[list[TokenLike]]]:
    """Tokens by word, by position, by alternative: positions whose places in the text overlap without being
    the same are parts of one word, and wanted together.
    """
    positions: dict[int, list[TokenLike]] = {}
    for token in tokens:
        same = positions.setdefault(token.position, [])
        if all(token.term != other.term for other in same):
            same.append(token)
    words: list[list[list[TokenLike]]] = []
    end = -1
    for position in sorted(positions):
        group = positions[position]
        start = min(token.start for token in group)
        if words and start < end and all(_place(words[-1][-1]) != _place([token]) for token in group):
            words[-1].append(group)
        else:
            words.append([group])
        end = max(end, *(token.end for token in group))
    return words


def _place(tokens: Sequence[TokenLike]) -> tuple[int, int]:
    return tokens[0].start, tokens[0].end
