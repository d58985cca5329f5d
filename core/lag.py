"""How far somebody is behind in a change log: the words for asking a store, and another peer."""

from __future__ import annotations

import msgspec


class Lag(msgspec.Struct, frozen=True, array_like=True):
    """How much is still to be read: `oldest_us` is when the first of it was admitted (0: there is none)."""

    entries: int
    bytes: int
    oldest_us: int
    at_least: bool = False


class LogLag(msgspec.Struct, frozen=True):
    """How much the log has of a table behind each of `wants` (an offset and the ranges that stand there).

    Answered with LogLagged. Only so many entries are looked at: what is counted then is the least.
    """

    table: int
    wants: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class LogLagged(msgspec.Struct, frozen=True):
    """Of each of the wants, in their order."""

    lags: tuple[Lag, ...]


class AskLag(msgspec.Struct, frozen=True, array_like=True, tag=102):
    """How much your log has of a table behind these offsets, each in its ranges. Answered with LagTold."""

    op: int
    table: int
    wants: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class LagTold(msgspec.Struct, frozen=True, array_like=True, tag=103):
    """Of each of the wants, in their order."""

    op: int
    lags: tuple[Lag, ...]
