"""The short way (server/rest/quick.py) for a search by a query string in one collection.

What HTTP takes of such a search through a library can be spared. Parsing, asking and showing are those of
server/rest/search.py; whatever they refuse before the node was asked goes to aiohttp, which says it again to
the client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.requests import Answer
from core.searching import SearchAnswer
from server.bridge import Bridge
from server.metrics import Metrics
from server.rest.problems import ProblemError, problem_of

if TYPE_CHECKING:
    from server.rest.search import Planned, SearchRoutes

SEARCH_HEAD: Final = re.compile(
    rb"(GET) /v1/search/([A-Za-z0-9_-]{1,64})()\?([A-Za-z0-9._~!$'()*+,;=:@/?%&-]{1,1000}) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z][A-Za-z-]{0,40}: [\x21-\x7e](?:[\x20-\x7e]{0,300}[\x21-\x7e])?\r\n){1,12})\r\n"
)
"""The groups are those of the head of a plain request: method, name, nothing, query, headers."""


class QuickSearch:
    """Searches of one service."""

    def __init__(
        self,
        bridge: Bridge,
        routes: SearchRoutes,
        metrics: Metrics,
        complain: Callable[[str, BaseException | None], None],
    ) -> None:
        """`complain` logs an error of ours."""
        self._bridge = bridge
        self._routes = routes
        self._metrics = metrics
        self._complain = complain

    def begin(self, name: str, query: str, told: Callable[[bytes | ProblemError], None]) -> int | None:
        """Search; `told` hears of its end, perhaps before this returns. The number of the request for
        `Bridge.forget`; None if it is left to aiohttp.
        """
        begun_ns = time.perf_counter_ns()
        try:
            planned = self._routes.planned(name, query)
        except Exception:  # noqa: BLE001 - of planning: the other way meets it again, and tells of it
            return None

        def answered(answer: Answer) -> None:
            us = (time.perf_counter_ns() - begun_ns) // 1000
            found, status = self._worded(planned, answer, us)
            us = (time.perf_counter_ns() - begun_ns) // 1000
            self._metrics.latency("search", planned.body.level.value, status, us)
            told(found)

        return self._bridge.call(planned.request, planned.timeout_us, answered)

    def _worded(self, planned: Planned, answer: Answer, us: int) -> tuple[bytes | ProblemError, int]:
        try:
            if isinstance(answer, SearchAnswer):
                return self._routes.shown(planned, answer, us), 200
            problem = problem_of(answer)
        except Exception as error:  # noqa: BLE001 - one search fails; the log says why
            self._complain(f"a search in {planned.names}", error)
            problem = ProblemError("internal-error", "this peer's log says more")
        return problem, problem.status
