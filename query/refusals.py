"""Why a filter, projection, sort or pipeline cannot be taken: where in it, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Refusal(msgspec.Struct, frozen=True):
    """`where` is the place in what was given, as `filter.$and[2].year`; `reason` is for people."""

    where: str
    reason: str

    @property
    def text(self) -> str:
        """Both in one line."""
        return f"{self.where}: {self.reason}"


class RefusedError(Exception):
    """Carries a Refusal out of a parser; never leaves this folder."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(where, reason)


def refusable(parse: Callable[[], T]) -> T | Refusal:
    """What `parse` gives, or why it was refused."""
    try:
        return parse()
    except RefusedError as error:
        return error.refusal


def shown(value: object) -> str:
    """A value that somebody sent, short enough for a message."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of very many digits"
    return text if len(text) <= 60 else text[:57] + "..."


def member(where: str, key: str) -> str:
    """The place of a member in an object."""
    short = key if len(key) <= 60 else key[:57] + "..."
    return f"{where}.{short}"
