"""The REST port: which path is what, and whose connections are kept.

aiohttp's low-level server is used with a dispatch of its own: paths hold keys, which no router may normalise,
and the hot path is one comparison away. The protocol work (framing, chunks, header limits) is aiohttp's.

Nothing untrusted costs more than it may: the target and headers are bounded, bodies have a budget,
connections are counted, and those that neither finish a request's head nor its body are closed after a while.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
from aiohttp import web

from core import limits
from core.consistency import Level
from core.requests import AdminRequest, Told
from node.node import Node
from server.bridge import Bridge
from server.client_tls import ClientTls
from server.cql import CqlService
from server.descriptors import connections_max
from server.metrics import CONTENT_TYPE as METRICS_TYPE, Metrics
from server.rest import browsers, buckets as buckets_module
from server.rest.bodies import Budget, check_encoding, object_of, read_body, written_out
from server.rest.buckets import Buckets
from server.rest.bulk import Bulk, Room
from server.rest.changes import CHANGES, ChangesRoute
from server.rest.cql import CqlRoute
from server.rest.docs import page as docs_page
from server.rest.documents_routes import DocumentRoutes
from server.rest.http_server import HttpServer
from server.rest.kv_bulk import KvLines
from server.rest.listing import Listing
from server.rest.openapi import document as openapi_document
from server.rest.problems import ProblemError, not_allowed, problem_of
from server.rest.quick import Quick
from server.rest.quick_search import QuickSearch
from server.rest.search import SearchRoutes
from server.rest.sessions import request_factory, session_of
from server.rest.sinks import SINKS, SinksRoute
from server.rest.snapshots import SnapshotRoutes, is_snapshots
from server.rest.streams import STREAMS, StreamsRoute
from server.rest.targets import LIST_PARAMETERS, WRITE_PARAMETERS, decoded, options
from server.rest.values import Values
from server.sinks.running import Sinks
from server.snapshots.taking import Snapshots
from streams.cursor import CURSOR_CHARS_MAX

TARGET_BYTES_MAX: Final = 3 * limits.KEY_BYTES_MAX + CURSOR_CHARS_MAX
"""A key with every byte percent-encoded, and a query with a cursor."""
HEADER_BYTES_MAX: Final = 16 * limits.KIB
HEADERS_MAX: Final = 100
IDLE_S: Final = 75.0
"""A connection on which nothing was asked, or a body did not come to its end, for so long is closed."""
LINGER_S: Final = 2.0
"""So long the rest of a refused body is still taken, so that its sender gets to read the refusal."""
PROGRESS_BYTES: Final = limits.KIB
"""A body gets anywhere if at least so many bytes of it came."""
SWEEP_S: Final = 5.0
ADMIN_TIMEOUT_US: Final = 30_000_000
ADMIN_BODY_BYTES_MAX: Final = 64 * limits.KIB

_KV = "/v1/kv/"
_BUCKETS = "/v1/buckets"
_ADMIN = "/v1/admin/"
_RESTART = "/v1/admin/restart"
_CQL = "/v1/cql"
_QUESTIONS = ("/_find", "/_count", "/_distinct", "/_aggregate")


class RestService:
    """REST on one node."""

    def __init__(
        self,
        node: Node,
        bridge: Bridge,
        metrics: Metrics,
        complain: Callable[[str, BaseException | None], None],
        about: Callable[[], dict[str, Any]],
    ) -> None:
        """`complain` logs bad input, or an error of ours; `about` is what the process adds to status."""
        settings = node.inside.settings
        self._node = node
        self._bridge = bridge
        self._metrics = metrics
        self._complain = complain
        self._about = about
        self._settings = settings
        self._budget = Budget(settings.request_bytes_in_flight_max)
        self._buckets = Buckets(node, bridge)
        self._values = Values(bridge, self._buckets, self._budget, settings)
        self._room = Room()
        self._documents = DocumentRoutes(node, bridge, self._budget, settings, self._room)
        self._search = SearchRoutes(node, bridge, self._documents.collections, self._budget, settings)
        self._changes = ChangesRoute(node, bridge)
        self._streams = StreamsRoute(node, bridge, self._budget)
        self._cql: CqlRoute | None = None
        self._sinks: SinksRoute | None = None
        self._snapshots: SnapshotRoutes | None = None
        self._busy: dict[object, web.BaseRequest | None] = {}
        """Connections with a request in work: which (None: one whose body is here)."""
        self._seen: dict[object, tuple[float, int]] = {}
        """Of each connection: when it last got anywhere, and how much of a body was there then."""
        self._stopping = False
        self._connections_max = connections_max()
        self.on_restart: Callable[[], int] | None = None
        """Is called when an operator wants this peer to start again; tells which start this one is."""
        self.cannot_restart: Callable[[], str] = str
        """Why it would not start again; nothing if it would."""
        self._on_loopback = True
        self._runner: web.ServerRunner | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    def take_cql(self, service: CqlService) -> None:
        """Answer CQL too, as this service does."""
        self._cql = CqlRoute(service, self._budget)

    def take_sinks(self, sinks: Sinks) -> None:
        """Answer for the cluster's sinks too."""
        self._sinks = SinksRoute(self._node, sinks, self._budget)

    def take_snapshots(self, snapshots: Snapshots) -> None:
        """Answer for this peer's snapshots too."""
        self._snapshots = SnapshotRoutes(self._node, self._bridge, snapshots, self._budget)

    # --- life

    async def start(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen, with TLS if it is given; raises OSError if the address or port cannot be had."""
        self._on_loopback = ipaddress.ip_address(address).is_loopback
        quick = Quick(self._bridge, self._buckets, self._settings, self._metrics, self._complain)
        quick.on_loopback = self._on_loopback
        quick.search = QuickSearch(self._bridge, self._search, self._metrics, self._complain)
        server = HttpServer(
            self._handle,
            self._malformed,
            quick=quick,
            tls=None if tls is None else ClientTls(tls, self._malformed),
            request_factory=request_factory,
            connections_max=self._connections_max * 3 // 2,
            began=self._began,
            ended=self._ended,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=TARGET_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
        )
        self._server = server
        self._runner = web.ServerRunner(server, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port, backlog=1024, reuse_address=True).start()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    @property
    def port(self) -> int:
        """The port listened on (of use when 0 was asked for)."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more; let requests in work finish for so long, then end them."""
        self._stopping = True
        self._changes.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._runner is None:
            return
        for site in list(self._runner.sites):
            await site.stop()
        self._server.pre_shutdown()
        end_s = time.monotonic() + grace_s
        while self._busy and time.monotonic() < end_s:  # noqa: ASYNC110 - the end of many requests
            await asyncio.sleep(0.01)
        await self._runner.shutdown()
        await self._runner.cleanup()

    def _sweep(self) -> None:
        """Close connections that are held open for nothing, and those that are too many."""
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        now_s = time.monotonic()
        alive = self._server.connections
        seen = self._seen
        self._seen = {one: seen.get(one, (now_s, 0)) for one in alive}
        waiting = []
        for index, one in enumerate(alive):
            if one in self._busy:
                request = self._busy[one]
                if request is None or request.content.is_eof() or getattr(request, "is_held_up", False):
                    continue  # we are working on it
                received = request.content.total_bytes
                if received >= self._seen[one][1] + PROGRESS_BYTES:
                    self._seen[one] = (now_s, received)
            waiting.append((self._seen[one][0], index))
        too_many = max(0, len(alive) - self._connections_max)
        for rank, (since_s, index) in enumerate(sorted(waiting)):
            transport = alive[index].transport
            if transport is not None and (rank < too_many or now_s - since_s > IDLE_S):
                transport.abort()

    def _began(self, connection: object) -> None:
        self._busy[connection] = None

    def _ended(self, connection: object) -> None:
        self._busy.pop(connection, None)
        self._seen[connection] = (time.monotonic(), 0)

    def _malformed(self, text: str) -> None:
        self._metrics.count("rest_malformed")
        self._complain(text, None)

    # --- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        begun_ns = time.perf_counter_ns()
        protocol = request.protocol
        self._busy[protocol] = request
        self._seen[protocol] = (time.monotonic(), 0)
        operation, level, status = "other", "", 499
        response: web.StreamResponse | None = None
        try:
            authority = getattr(request, "authority", None)
            browsers.check(request.method, request.headers, self._on_loopback, authority)
            check_encoding(request)
            path, _, query = request.raw_path.partition("?")
            async with session_of(request, self._node):
                if path.startswith(_KV):
                    bucket, slash, key = path[len(_KV) :].partition("/")
                    operation = _operation(request.method, slash, key)
                    level = _level_label(query)
                    response = await self._kv(request, (decoded(bucket), slash, key), query)
                elif self._documents.takes(path):
                    operation = self._documents.label(request.method, path)
                    level = _level_label(query)
                    response = await self._documents.respond(request, path, query)
                elif self._search.takes(path):
                    operation = self._search.label(path)
                    level = _level_label(query)
                    response = await self._search.respond(request, path, query)
                else:
                    operation = _other(path)
                    response = await self._elsewhere(request, path, query)
            if isinstance(response, web.Response) and not response.prepared:
                size = response.content_length or 0
                await written_out(request, response, size, self._budget, must=not _reads(request, path))
            status = response.status
        except ProblemError as error:
            response = _methods(request, error) or error.response()
            status = response.status
            if not request.content.at_eof():
                response.force_close()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - one request fails; the log says why, and a test looks there
            self._complain(f"{request.method} {request.raw_path[:200]}", error)
            status = 500
            response = ProblemError("internal-error", "this peer's log says more").response()
        finally:
            if response is not None and request.content.exception() is not None:
                response.force_close()
            del self._busy[protocol]
            self._seen[protocol] = (time.monotonic(), 0)
            us = (time.perf_counter_ns() - begun_ns) // 1000
            self._metrics.latency(operation, level, status, us)
        return response

    async def _kv(
        self, request: web.BaseRequest, place: tuple[str, str, str], query: str
    ) -> web.StreamResponse:
        bucket, slash, key = place
        method = request.method
        if slash:
            if method in {"GET", "HEAD"}:
                return await self._values.get(request, bucket, key, query)
            if method == "PUT":
                return await self._values.put(request, bucket, key, query)
            if method == "DELETE":
                return await self._values.delete(request, bucket, key, query)
            if method == "POST" and key == "_bulk":
                wanted = options(query, WRITE_PARAMETERS)
                lines = KvLines(self._buckets, bucket, wanted, self._settings)
                return await Bulk(self._bridge, lines, self._room, wanted, self._settings).respond(request)
            raise not_allowed("DELETE, GET, HEAD, PUT" + (", POST" if key == "_bulk" else ""))
        if method in {"GET", "HEAD"}:
            wanted = options(query, LIST_PARAMETERS)
            known = self._buckets.known(bucket)
            return await Listing(self._bridge, known, wanted, self._settings).respond(request)
        raise not_allowed("GET, HEAD")

    async def _elsewhere(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        if path == _BUCKETS or path.startswith(_BUCKETS + "/"):
            return await self._bucket(request, path[len(_BUCKETS) + 1 :], query)
        if path.startswith(CHANGES):
            if request.method != "GET":
                raise not_allowed("GET")
            return await self._changes.respond(request, decoded(path[len(CHANGES) :]), query)
        if path == STREAMS or path.startswith(STREAMS + "/"):
            return await self._streams.respond(request, path, query)
        if path == SINKS or path.startswith(SINKS + "/"):
            if self._sinks is None:
                raise ProblemError("not-ready", "this peer does not look after sinks yet")
            return await self._sinks.respond(request, path, query)
        if is_snapshots(path):
            if self._snapshots is None:
                raise ProblemError("not-ready", "this peer takes no snapshots yet")
            return await self._snapshots.respond(request, path, query)
        if path == _RESTART:
            return self._restarted(request, query)
        if path.startswith(_ADMIN):
            return await self._admin(request, decoded(path[len(_ADMIN) :]), query)
        if path == _CQL:
            options(query, ())
            if request.method != "POST":
                raise not_allowed("POST")
            if self._cql is None:
                raise ProblemError("not-ready", "this peer does not answer CQL yet")
            return await self._cql.respond(request)
        page = self._pages().get(path)
        if page is None:
            raise ProblemError("not-found", "the API is described at /openapi.json, for people at /docs")
        if request.method not in {"GET", "HEAD"}:
            raise not_allowed("GET, HEAD")
        options(query, ())
        return page()

    def _pages(self) -> dict[str, Callable[[], web.Response]]:
        return {
            "/v1/health": self._health,
            "/v1/cluster": lambda: _json(self._node.status()),
            "/metrics": lambda: _content(self._metrics.page(), METRICS_TYPE),
            "/openapi.json": lambda: _json(openapi_document()),
            "/docs": lambda: _content(docs_page(), "text/html; charset=utf-8"),
        }

    def _health(self) -> web.Response:
        ready, why = self._node.ready()
        if ready and self._stopping:
            ready, why = False, "this peer is stopping: use another"
        return _json({"live": True, "ready": ready, "why_not": why}, 200 if ready else 503)

    async def _bucket(self, request: web.BaseRequest, raw_name: str, query: str) -> web.Response:
        options(query, ())
        name, method = decoded(raw_name), request.method
        if not name:
            if method not in {"GET", "HEAD"}:
                raise not_allowed("GET, HEAD")
            return _json({"buckets": self._buckets.listed()})
        if method in {"GET", "HEAD"}:
            return _json(buckets_module.describe(self._buckets.known(name)))
        if method == "PUT":
            body = await read_body(request, buckets_module.BODY_BYTES_MAX, self._budget, "body-too-large")
            is_new, described = await self._buckets.put(name, body)
            return _json(described, 201 if is_new else 200)
        if method == "DELETE":
            await self._buckets.drop(name)
            return web.Response(status=204, headers={"Server": "sullae"})
        raise not_allowed("DELETE, GET, HEAD, PUT")

    def _restarted(self, request: web.BaseRequest, query: str) -> web.Response:
        """Have this peer stop in order and start again; who asks sees by `starts` when it has."""
        options(query, ())
        if request.method != "POST":
            raise not_allowed("POST")
        if self.on_restart is None:
            raise ProblemError("not-ready", "this peer does not start again by itself yet")
        if why := self.cannot_restart():
            raise ProblemError("cannot-restart", why)
        return _json({"starts": self.on_restart()}, 202)

    async def _admin(self, request: web.BaseRequest, verb: str, query: str) -> web.Response:
        options(query, ())
        if request.method not in {"GET", "HEAD", "POST"}:
            raise not_allowed("GET, HEAD, POST")
        arguments: Any = {}
        if request.method == "POST":
            body = await read_body(request, ADMIN_BODY_BYTES_MAX, self._budget, "body-too-large")
            arguments = object_of(body, "the arguments") if body.strip() else {}
        answer = await self._bridge.ask(AdminRequest(verb, arguments), ADMIN_TIMEOUT_US)
        if not isinstance(answer, Told):
            raise problem_of(answer)
        extra = self._about() if verb == "status" else {}
        return _json({**answer.body, **extra})


def _methods(request: web.BaseRequest, error: ProblemError) -> web.Response | None:
    """The answer to OPTIONS: what methods there are, which a method that is not there is told anyway.

    And nothing more: pages of elsewhere have no business here.
    """
    if request.method != "OPTIONS":
        return None
    every = "DELETE, GET, HEAD, PATCH, POST, PUT"
    allowed = every if request.raw_path == "*" else error.headers.get("Allow")
    if allowed is None:
        return None
    return web.Response(status=204, headers={"Server": "sullae", "Allow": allowed})


def _reads(request: web.BaseRequest, path: str) -> bool:
    """Whether it surely changes nothing, so that its answer may be refused."""
    return request.method in {"GET", "HEAD"} or SearchRoutes.takes(path) or path.endswith(_QUESTIONS)


def _other(path: str) -> str:
    """What a request on neither keys nor documents is called in the metrics."""
    return "cql" if path == _CQL else "changes" if path.startswith(CHANGES) else "other"


def _operation(method: str, slash: str, key: str) -> str:
    """What a request on keys is called in the metrics."""
    if not slash:
        return "list"
    if method == "POST":
        return "bulk" if key == "_bulk" else "other"
    return method.lower() if method in {"GET", "HEAD", "PUT", "DELETE"} else "other"


_LEVELS = {f"consistency={level.value}": level.value for level in Level}


def _level_label(query: str) -> str:
    """The level in a query for the metrics: one of those that exist, whatever the query says."""
    if not query:
        return Level.QUORUM.value
    for pair in query[:200].split("&"):
        if pair.startswith("consistency="):
            return _LEVELS.get(pair.lower(), "unknown")
    return Level.QUORUM.value


def _json(body: Any, status: int = 200) -> web.Response:
    data = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    headers = {"Server": "sullae", "Content-Type": "application/json"}
    return web.Response(status=status, body=data, headers=headers)


def _content(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers={"Server": "sullae", "Content-Type": content_type})
