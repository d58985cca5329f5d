"""Pipelines that read several collections: step by step, each step a question to one of them.

What is joined is as its collection was when its step began; the steps are not one snapshot. All reads are at
the level of the request.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from core.json_values import Value
from core.requests import Invalid
from documents.finding import refused, rendered
from query.joins import Joined
from query.refusals import Refusal
from server.rest.problems import invalid

Ask = Callable[[str, list[Value]], Awaitable[list[Value]]]
"""Run stages over the collection of a name; no documents if it is not there."""


async def joined(plan: Joined, documents: list[Value], ask: Ask) -> bytes:
    """The documents that come out, as JSON; `documents` are those of the stages before the first join."""
    for step in plan.steps:
        found: list[Value] = []
        for stages in _good(await asyncio.to_thread(step.asks, documents)):
            found += await ask(step.collection, stages)
        documents = _good(await asyncio.to_thread(step.done, documents, found, secrets.randbelow))
    text = await asyncio.to_thread(rendered, documents)
    if isinstance(text, Invalid):
        raise invalid(text)
    return text


def _good(found: Any) -> Any:
    if isinstance(found, Refusal):
        raise invalid(refused("bad_query", found))
    return found
