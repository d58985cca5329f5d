"""Planted bugs of sessions; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import node.sessions
from core.consistency import Level
from core.session import Token
from jepsen_like.plants import Plant
from node.sessions import Sessions


def _as_asked(token: Token, level: Level, *_: Any, **__: Any) -> tuple[Level, Token]:
    return level, token


def _do_not_wait(*arguments: Any) -> None:
    then: Callable[[bool], None] = arguments[3]
    then(True)


SESSION_PLANTS = (
    Plant(
        "levels of a session as asked",
        ((node.sessions, "session_level", _as_asked),),
        "session",
        1,
        ("back",),
    ),
    Plant("schema not waited for", ((Sessions, "reach", _do_not_wait),), "session", 1, ("unseen_schema",)),
)
