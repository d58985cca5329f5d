"""Sinks that cluster.yml declares.

Whoever starts with a declaration has it applied by a request to itself, like anybody's: the first peer makes
the sink, the others find it as it is wanted. What was applied last is kept with the sink as a hash, and
that decides which wins: **what was said last**. A declaration that is new or was changed in the file is
applied when a peer starts with it; what `sullae sinks` says afterwards counts until the declaration changes
again. So a declared sink that was paused stays paused over restarts, and one that was removed stays
removed. Taking a declaration out of the file ends nothing: `sullae sinks remove` does.

What cannot be applied yet (its table is not there, the cluster is not) is tried again; why is noted once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec

from server.config import SinkConfig

AGAIN_S: Final = 5.0
TIMEOUT: Final = aiohttp.ClientTimeout(total=20)


def hash_of(declared: SinkConfig) -> str:
    """Tells a declaration from another one of the same name."""
    data = msgspec.json.encode(dict(sorted(declared.wanted.items())))
    return hashlib.sha256(data).hexdigest()[:16]


class Declarations:
    """Those that are not applied yet."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        declared: Sequence[SinkConfig],
        note: Callable[[str, str], None],
    ) -> None:
        """`url` is our own REST address."""
        self._session = session
        self._url = f"{url}/v1/sinks/"
        self._left = {each.name: each for each in declared}
        self._note = note
        self._said: dict[str, str] = {}
        self._next_s = 0.0

    async def apply(self) -> None:
        """Apply what can be, not more often than every few seconds."""
        if not self._left or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + AGAIN_S
        for name, each in list(self._left.items()):
            why = await self._applied(each)
            if not why:
                del self._left[name]
            elif self._said.get(name) != why:
                self._said[name] = why
                self._note(name, f"what cluster.yml declares cannot be applied yet: {why}")

    async def _applied(self, declared: SinkConfig) -> str:
        """Why it was not; "" if it was."""
        body = msgspec.json.encode({**declared.wanted, "declared": hash_of(declared)})
        try:
            async with self._session.put(
                self._url + quote(declared.name, safe=""),
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=TIMEOUT,
            ) as answer:
                said = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if answer.status in (200, 201) else f"{answer.status} {said[:300].decode(errors='replace')}"
