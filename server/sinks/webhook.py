"""Batches of events as POST requests to somebody's URL.

The body is JSON: {"sink", "sequence", "piece", "events"}. If the sink has a secret, then
`Sullae-Signature: t=1769860800,v1=<hex>` is the HMAC-SHA256 of "<t>.<body>" under it, so the receiver knows
who sent it and when. 2xx is delivered. What may pass (no answer, 408, 425, 429, 5xx) is tried again with
growing pauses, then from the saved cursor; any other answer refuses for good, and those events go to the
dead-letter file with what was answered.

A peer stands inside a network that the outside does not reach, so it must not be made to call into it:
unless `sink_private_addresses` of cluster.yml allows it, only addresses that are global are connected to.
That is judged on the very addresses that a name gives when it is connected to (a name can change between a
check and its use), and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import random
import socket
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from server.sinks.envelopes import Line
from server.sinks.files import FileSink

REQUEST_EVENTS: Final = 500
REQUEST_BYTES: Final = 1024 * 1024
ATTEMPTS: Final = 6
PAUSE_S: Final = 0.5
TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5)
PASSING: Final = (408, 425, 429)
ANSWER_BYTES: Final = 500
URL_CHARS_MAX: Final = 2048


class WebhookAwayError(OSError):
    """The receiver did not take it now."""


class PrivateAddressError(OSError):
    """The URL leads into a network that is not everybody's."""


def url_problem(url: str, private: bool) -> str:
    """Why this is no URL to deliver to; "" if it is one."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return "the URL is malformed"
    if not good or len(url) > URL_CHARS_MAX or any(char.isspace() for char in url):
        return "a webhook's URL is as https://example.com/path"
    if parts.username is not None or parts.fragment:
        return "a webhook's URL has no user and no fragment"
    if not private and is_address(parts.hostname or "") and not is_global(parts.hostname or ""):
        return "this address is private; `sink_private_addresses: true` in cluster.yml allows those"
    return ""


def is_address(host: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_global(address: str) -> bool:
    """Whether everybody may reach an address: not private, loopback, link-local, multicast, reserved."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is not None:
            found = inner
        elif found in ipaddress.ip_network("64:ff9b::/96"):
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found.is_global and not found.is_multicast and not found.is_reserved


class GlobalResolver(AbstractResolver):
    """Gives only addresses that are global."""

    def __init__(self) -> None:
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; raises PrivateAddressError if none of them may be connected to."""
        found = await self._inner.resolve(host, port, family)
        allowed = [one for one in found if is_global(one["host"])]
        if not allowed:
            raise PrivateAddressError(f"{host} has private addresses only")
        return allowed

    async def close(self) -> None:
        """End the resolver within."""
        await self._inner.close()


def signature(secret: str, body: bytes, at_s: int) -> str:
    """The value of `Sullae-Signature`."""
    digest = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


class Webhook:
    """One sink's receiver. `dead` takes what is refused for good."""

    def __init__(self, name: str, place: tuple[str, str], dead: FileSink, *, private: bool) -> None:
        """`place` is (URL, secret); `private` allows any address."""
        self._name = name
        self._url, self._secret = place
        self._dead = dead
        self._private = private
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, sequence: int, piece: int, events: Sequence[Line]) -> int:
        """Post one piece of a batch; how many events were refused. Raises OSError."""
        problem = url_problem(self._url, self._private)
        if problem:
            raise PrivateAddressError(problem)
        refused = 0
        for part in _parts(events):
            body = msgspec.json.encode(
                {"sink": self._name, "sequence": sequence, "piece": piece, "events": part}
            )
            why = await self._post(body)
            if why:
                lines = [{"why": why, "event": event} for event in part]
                await asyncio.to_thread(self._dead.refuse, lines)
                refused += len(part)
        return refused

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> str:
        """Why it was refused for good, "" if it was taken; raises WebhookAwayError after some attempts."""
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1) * (0.5 + random.random()))
            try:
                status, text = await self._once(body)
            except PrivateAddressError:
                raise
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(error.__cause__, PrivateAddressError):
                    raise error.__cause__ from None
                why = f"{type(error).__name__}: {error}"
                continue
            if 200 <= status < 300:
                return ""
            why = f"answered {status}: {text}"
            if status not in PASSING and status < 500:
                return why
        raise WebhookAwayError(why)

    async def _once(self, body: bytes) -> tuple[int, str]:
        if self._session is None:
            resolver = None if self._private else GlobalResolver()
            connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=4)
            self._session = aiohttp.ClientSession(connector=connector)
        headers = {
            "Content-Type": "application/json",
            "Sullae-Sink": self._name,
        }
        if self._secret:
            headers["Sullae-Signature"] = signature(self._secret, body, int(time.time()))
        async with self._session.post(
            self._url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
        ) as answer:
            text = await answer.content.read(ANSWER_BYTES)
            return answer.status, text.decode(errors="replace")


def _parts(events: Sequence[Line]) -> list[list[Any]]:
    """Events as they go into one request each."""
    found: list[list[Any]] = []
    held = 0
    for event in events:
        raw = msgspec.Raw(msgspec.json.encode(event))
        size = len(bytes(raw))
        if not found or len(found[-1]) >= REQUEST_EVENTS or held + size > REQUEST_BYTES:
            found.append([])
            held = 0
        found[-1].append(raw)
        held += size
    return found
