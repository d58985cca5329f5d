"""What tests of search over REST share: the real routes before a simulated cluster, and films in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import orjson

from core.requests import Answer, Request
from server.bridge import Bridge
from server.rest.bodies import Budget
from server.rest.collections import Collections
from server.rest.search import SearchRoutes
from tests.node.search_world import SearchScenario

MOVIES: list[dict[str, Any]] = [
    {"title": "2001: A Space Odyssey", "year": 1968, "genres": ["sf"], "plot": "A monolith on the moon"},
    {"title": "Solaris", "year": 1972, "genres": ["sf", "drama"], "plot": "A space station above an ocean"},
    {"title": "Alien", "year": 1979, "genres": ["sf", "horror"], "plot": "In space no one can hear you"},
    {"title": "기생충", "year": 2019, "genres": ["drama"], "plot": "반지하 가족의 이야기"},
    {"title": "Psycho", "year": 1960, "genres": ["horror"], "plot": "A motel, and a shower"},
]


EXACT = 123456789012345678901234567890


class Content:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        return self._data

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._data


class FakeRequest:
    """As much of a request as the routes look at."""

    def __init__(self, method: str, body: Any) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        self.method = method
        self.headers: dict[str, str] = {}
        self.content_length = len(data)
        self.content = Content(data)


class SimBridge:
    def __init__(self, s: SearchScenario, at: int) -> None:
        self.s, self.at = s, at

    async def ask(self, request: Request, timeout_us: int) -> Answer:
        answer = self.s.ask(request, self.at, timeout_us / 1e6 + 1).answer
        assert answer is not None
        return answer


Call = Callable[..., Any]


def filled() -> SearchScenario:
    """Three peers with films, a book, and long numbers."""
    s = SearchScenario(3)
    s.start()
    s.collect()
    s.collect("books")
    s.collect("numbers")
    for i, movie in enumerate(MOVIES):
        s.store(f"m{i}", movie)
    s.store("b0", {"title": "Solaris", "author": "Lem"}, "books")
    for i in range(3):
        s.store(f"n{i}", {"n": EXACT + i, "few": i}, "numbers")
    return s


def asked(world: SearchScenario, method: str, path: str, body: Any = None, at: int = 1) -> Any:
    """What a peer answers."""
    node = world.node(at)
    bridge = cast("Bridge", SimBridge(world, at))
    routes = SearchRoutes(node, bridge, Collections(node, bridge), Budget(1 << 20), node.inside.settings)
    path, _, query = path.partition("?")
    request = cast("Any", FakeRequest(method, body))
    response = asyncio.run(routes.respond(request, "/v1/search/" + path, query))
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def ids(answer: Any) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]
