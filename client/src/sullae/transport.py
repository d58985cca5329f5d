"""One operation, through whichever peers it takes.

An operation has a deadline. Within it attempts are made: a peer is chosen, asked, and given up on when it
does not answer for `attempt_timeout_s`. What may follow a failed attempt says `retrying.py`; whom to ask
next, `peers.py`. The request is the same in every attempt, to the byte and to its `Idempotency-Key`: that is
what makes the cluster know it again.

Whether anything of a request left this machine is not guessed from the kind of error but noted when its head
is written. Only what never left is surely not done.
"""

from __future__ import annotations

import asyncio
import copy
import io
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from sullae import json_values, retrying
from sullae.calls import Call, Event, Reply, Settings, target_of
from sullae.errors import ConnectionFailed, OutcomeUnknown, ReadTimeout, SullaeError, error_of
from sullae.peers import Peer, Peers
from sullae.retrying import After, Repeat, Verdict
from sullae.ring import Ring
from sullae.tokens import HEADER, SessionTokens, Tokens, header_of
from sullae.tracing import Span, Tracing

GRACE_S: Final = 0.5
"""A peer that was told how long to wait is given so much more to say that it did."""
KEEP_ALIVE_S: Final = 60.0
LARGE_BYTES: Final = 1024 * 1024
REFRESH_PAUSE_S: Final = 0.5
DOWN_REFRESH_S: Final = 2.0
"""While a peer is said to be down, others are asked so often whether it is back."""
BEHIND_ATTEMPTS_MAX: Final = 5
PER_MIB_S: Final = 1.0
"""So much longer a peer may take for each MiB that it is sent (a peer of itself gives writes as much)."""


def _more_s(call: Call) -> float:
    """How much longer than others a request may take for its size."""
    return len(call.body or b"") // LARGE_BYTES * PER_MIB_S


@dataclass(frozen=True)
class _Lost:
    """An attempt without an answer."""

    why: str
    sent: bool
    timed_out: bool


@dataclass
class _Tries:
    """The attempts of one operation so far."""

    deadline_s: float
    count: int = 0
    failed: list[Peer] = field(default_factory=list)
    maybe_done: bool = False


class Transport:
    """Sends requests; opened and closed once."""

    def __init__(self, urls: list[str], settings: Settings) -> None:
        self.settings = settings
        self.peers = Peers(urls)
        self.ring = Ring()
        self._tracing = Tracing(wanted=settings.tracing)
        self._chance = random.Random()
        self._session: aiohttp.ClientSession | None = None
        self._refresher: asyncio.Task[None] | None = None
        self._look_again = asyncio.Event()
        self._written: dict[str, None] = {}
        """Buckets and collections that this client wrote to: a peer that has none of that name is behind."""
        self.tokens = Tokens()
        self._root = self
        self.loads = json_values.loads if settings.exact_numbers else json_values.loads_as_floats

    def in_session(self, tokens: SessionTokens) -> Transport:
        """The same connections, for the requests of one session."""
        other = copy.copy(self)
        other.tokens = tokens
        return other

    # --- life

    async def open(self) -> None:
        """Find the peers; raises ConnectionFailed if none answers."""
        assert self._session is None, "opened once"
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self.settings.connections_per_peer,
            keepalive_timeout=KEEP_ALIVE_S,
            ssl=self.settings.ssl or True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "sullae-python", **self.settings.headers},
            skip_auto_headers=["Content-Type"],
            trace_configs=[trace],
        )
        self._session._retry_connection = False  # what may be sent again is decided here
        if not self.settings.discover:
            return
        try:
            await self.request(Call("cluster", "GET", "/v1/cluster"))
            await self._refresh()
        except BaseException:
            await self.close()
            raise
        self._refresher = asyncio.create_task(self._refresh_for_ever())

    async def close(self) -> None:
        """End all connections; may be called twice."""
        if self._refresher is not None:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
            self._refresher = None
        if self._session is not None:
            await self._session.close()

    def forget(self, target: str) -> None:
        """A bucket or collection is no more."""
        self._written.pop(target, None)

    async def _refresh_for_ever(self) -> None:
        while True:
            wait_s = self.settings.refresh_s
            if any(peer.said_down for peer in self.peers.all):
                wait_s = min(wait_s, DOWN_REFRESH_S)
            looking = asyncio.ensure_future(self._look_again.wait())
            try:  # wait_for of Python 3.11 would forget that it is cancelled at the moment of an event
                await asyncio.wait((looking,), timeout=wait_s)
            finally:
                looking.cancel()
            await self._refresh()
            await asyncio.sleep(REFRESH_PAUSE_S)
            self._look_again.clear()

    async def _refresh(self) -> None:
        """Ask a peer for the members, and where keys are; what fails is tried again next time."""
        peer = self.peers.choose(self._now_s())
        cluster = await self._told(peer, "/v1/cluster")
        if cluster is None or not cluster.get("peers"):
            return
        self.peers.learn(cluster, peer)
        if not self.settings.prefer_replicas or self.ring.epoch == cluster.get("epoch"):
            return
        ring = await self._told(peer, "/v1/admin/ring")
        if ring is not None:
            self.ring = Ring.of(cluster, ring)

    async def _told(self, peer: Peer, path: str) -> dict[str, Any] | None:
        deadline_s = self._now_s() + self.settings.attempt_timeout_s
        answer = await self._attempt(peer, Call("cluster", "GET", path), path, deadline_s)
        if isinstance(answer, _Lost) or answer.status != 200:
            return None
        found = _problem(answer.body)
        return found or None

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()

    def _open_session(self) -> aiohttp.ClientSession:
        session = self._root._session
        if session is None or session.closed:
            raise RuntimeError("the client is not open: use `async with`, or open() before and close() after")
        return session

    # --- requests

    async def request(self, call: Call) -> Reply:
        """The answer, of a status below 300; raises the exceptions of `errors.py`."""
        with self._tracing.span(call) as span:
            return await self._request(self._whole(call), span)

    def _whole(self, call: Call) -> Call:
        """With what all requests have: how long a peer may wait, and a key if one is needed."""
        settings = self.settings
        total_s = call.timeout_s or (
            settings.scan_timeout_s if call.is_scan else settings.timeout_s + _more_s(call)
        )
        headers = dict(call.headers)
        query = call.query
        if call.takes_timeout:
            timeout_ms = max(1, min(600_000, int(self._attempt_s(call, total_s) * 1000)))
            query = (*query, ("timeout_ms", str(timeout_ms)))
        if call.repeat is Repeat.KEYED and "Idempotency-Key" not in headers:
            headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
        return replace(call, headers=headers, query=query, timeout_s=total_s)

    def _attempt_s(self, call: Call, total_s: float) -> float:
        """How long one attempt may take: of a scan half of all, so that another peer still can."""
        if call.goes_on:
            return total_s
        return total_s / 2 if call.is_scan else min(total_s, self.settings.attempt_timeout_s + _more_s(call))

    async def _request(self, call: Call, span: Span) -> Reply:
        assert call.timeout_s is not None
        target = target_of(call.path, call.query)
        tries = _Tries(self._now_s() + call.timeout_s)
        preferred = self._root.ring.replicas(call.key) if call.key is not None else ()
        while True:
            begun_s = self._now_s()
            if call.goes_on:
                tries.deadline_s = begun_s + call.timeout_s
            peer = self.peers.choose(begun_s, tries.failed, preferred)
            tries.count += 1
            answer = await self._attempt(peer, call, target, tries.deadline_s)
            if isinstance(answer, Reply) and answer.status < 300:
                peer.succeeded()
                span.set_attribute("server.address", peer.url)
                if call.writes and call.target:
                    self._written[call.target] = None
                self._tell(call, peer, tries, (answer.status, begun_s, None, False))
                return answer
            if call.goes_on:
                tries.deadline_s = self._now_s() + call.timeout_s
            error, verdict = self._judged(call, peer, answer)
            tries.maybe_done |= verdict.maybe_done
            pause_s = self._pause_s(peer, tries, verdict, is_behind=error.status == 404)
            status = answer.status if isinstance(answer, Reply) else 0
            self._tell(call, peer, tries, (status, begun_s, error, pause_s is not None))
            if pause_s is None:
                span.set_attribute("sullae.attempts", tries.count)
                raise _final(error, tries, writes=call.writes)
            tries.failed.append(peer)
            await asyncio.sleep(pause_s)

    def _judged(self, call: Call, peer: Peer, answer: Reply | _Lost) -> tuple[SullaeError, Verdict]:
        if isinstance(answer, _Lost):
            peer.failed(self._now_s(), self._chance.random())
            self._look_again.set()
            if not answer.sent:
                return ConnectionFailed(answer.why, peer=peer.url), retrying.NOT_SENT
            verdict = retrying.lost(call.repeat, writes=call.writes)
            if call.writes:
                return OutcomeUnknown(answer.why, peer=peer.url), verdict
            kind = ReadTimeout if answer.timed_out else ConnectionFailed
            return kind(answer.why, peer=peer.url), verdict
        error = error_of(answer.status, {} if not answer.body else _problem(answer.body), peer.url)
        verdict = retrying.refused(error, call.repeat, writes=call.writes)
        if error.kind in ("no-such-bucket", "no-such-collection") and call.target in self._written:
            verdict = Verdict(After.LATER)
        if verdict.after is After.ELSEWHERE:
            peer.failed(self._now_s(), self._chance.random())
        else:
            peer.succeeded()
        return error, verdict

    def _pause_s(
        self, peer: Peer, tries: _Tries, verdict: Verdict, *, is_behind: bool = False
    ) -> float | None:
        """How long to wait before the next attempt; None if there is none."""
        settings = self.settings
        attempts_max = min(settings.attempts_max, BEHIND_ATTEMPTS_MAX) if is_behind else settings.attempts_max
        if verdict.after is After.NEVER or tries.count >= attempts_max:
            return None
        left_s = tries.deadline_s - self._now_s()
        there_is_another = any(one is not peer and one not in tries.failed for one in self.peers.all)
        if verdict.after is After.ELSEWHERE and there_is_another:
            return 0.0 if left_s > 0 else None
        pause_s = settings.backoff.pause_s(len(tries.failed) + 1, self._chance.random())
        return pause_s if pause_s < left_s else None

    async def _attempt(self, peer: Peer, call: Call, target: str, deadline_s: float) -> Reply | _Lost:
        session = self._open_session()
        left_s = max(0.001, deadline_s - self._now_s())
        patience_s = self._attempt_s(call, call.timeout_s or left_s) + GRACE_S
        timeout = aiohttp.ClientTimeout(
            total=None if call.goes_on else left_s + GRACE_S,
            sock_connect=min(left_s, self.settings.connect_timeout_s),
            sock_read=patience_s,
        )
        body = call.body
        sent = SimpleNamespace(flag=False)
        tokens = self.tokens.for_peer(peer)
        peer.outstanding += 1
        try:
            async with session.request(
                call.method,
                URL(peer.url + target, encoded=True),
                data=io.BytesIO(body) if body is not None and len(body) > LARGE_BYTES else body,
                headers={**call.headers, **header_of(tokens)},
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=sent,
            ) as response:
                data = await response.read()
                self.tokens.answered(peer, tokens, response.headers.get(HEADER), response.status)
                return Reply(response.status, response.headers, data, peer.url)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            timed_out = isinstance(error, asyncio.TimeoutError)
            why = f"no answer within {patience_s:.1f} s" if timed_out else str(error) or type(error).__name__
            return _Lost(why, sent.flag, timed_out)
        finally:
            peer.outstanding -= 1

    async def lines(self, call: Call, silence_s: float) -> AsyncGenerator[bytes, None]:
        """The lines of an answer without end, from one peer; ConnectionFailed when it is silent or gone."""
        session = self._open_session()
        peer = self.peers.choose(self._now_s())
        target = target_of(call.path, call.query)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self.settings.connect_timeout_s, sock_read=silence_s
        )
        tokens = self.tokens.for_peer(peer)
        peer.outstanding += 1
        try:
            async with session.request(
                call.method,
                URL(peer.url + target, encoded=True),
                headers=header_of(tokens),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                self.tokens.answered(peer, tokens, response.headers.get(HEADER), response.status)
                if response.status >= 300:
                    body = await response.read()
                    error, _ = self._judged(call, peer, Reply(response.status, {}, body, peer.url))
                    raise error
                peer.succeeded()
                async for line in _split(response.content):
                    yield line
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            peer.failed(self._now_s(), self._chance.random())
            self._look_again.set()
            raise ConnectionFailed(str(error) or type(error).__name__, peer=peer.url) from error
        finally:
            peer.outstanding -= 1

    def _tell(
        self, call: Call, peer: Peer, tries: _Tries, what: tuple[int, float, SullaeError | None, bool]
    ) -> None:
        if self.settings.on_event is not None:
            status, begun_s, error, will_retry = what
            seconds = self._now_s() - begun_s
            self.settings.on_event(
                Event(call.operation, call.target, peer.url, tries.count, status, seconds, error, will_retry)
            )


def _final(error: SullaeError, tries: _Tries, *, writes: bool) -> SullaeError:
    """What to raise: no refusal can take back that an earlier attempt may have been done."""
    says_nothing = error.status in (0, 502, 503, 504) or error.kind == "idempotency-key-in-use"
    if writes and tries.maybe_done and says_nothing and not isinstance(error, OutcomeUnknown):
        unknown = OutcomeUnknown(
            f"an earlier of {tries.count} attempts may have been done; the last: {error.detail}",
            kind="outcome-unknown",
            peer=error.peer,
        )
        unknown.__cause__ = error
        return unknown
    return error


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; one without an end was cut off and is no line."""
    held = bytearray()
    async for part in content.iter_any():
        *whole, rest = part.split(b"\n")
        for line in whole:
            held += line
            if held:
                yield bytes(held)
            held.clear()
        held += rest


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    noted = context.trace_request_ctx
    if noted is not None:
        noted.flag = True
