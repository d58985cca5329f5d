"""One thing under one name: what keys of buckets and documents of collections have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sullae.calls import Call, Consistency, Reply, query_of
from sullae.errors import NotFound
from sullae.requests import conditions, repeat_of, wanted_level
from sullae.transport import Transport


@dataclass(frozen=True)
class Limits:
    """How many must answer, and for how long they are waited for."""

    consistency: Consistency | None
    timeout_s: float | None


@dataclass(frozen=True)
class Items:
    """Those of one bucket or collection."""

    transport: Transport
    family: str
    """kv or docs: where the names of operations begin."""
    name: str
    path: Callable[[str], str]
    missing: str
    """The kind of problem that says that there is no such thing."""

    def call(self, verb: str, method: str, key: str, limits: Limits) -> Call:
        """A request about one of them."""
        return Call(
            f"{self.family}.{verb}",
            method,
            self.path(key),
            wanted_level(self.transport, limits.consistency),
            target=self.name,
            key=key,
            timeout_s=limits.timeout_s,
            takes_timeout=True,
        )

    async def get(self, key: str, if_none_match: str | None, limits: Limits) -> Reply | None:
        """What is there; None if nothing is."""
        call = self.call("get", "GET", key, limits)
        try:
            return await self.transport.request(replace(call, headers=conditions(None, if_none_match)))
        except NotFound as error:
            if error.kind == self.missing:
                return None
            raise

    async def exists(self, key: str, limits: Limits) -> bool:
        """Whether something is there; False, too, if there is nothing that it could be in."""
        try:
            await self.transport.request(self.call("exists", "HEAD", key, limits))
        except NotFound:
            return False
        return True

    async def put(
        self,
        call: Call,
        content: tuple[str, bytes],
        ttl_s: int | None,
        *,
        if_match: str | None,
        if_none_match: str | None,
    ) -> str:
        """Have this be there, as (content type, body); gives the entity tag."""
        content_type, body = content
        reply = await self.transport.request(
            replace(
                call,
                query=(*call.query, *query_of(ttl=ttl_s)),
                headers={"Content-Type": content_type, **conditions(if_match, if_none_match)},
                body=body,
                writes=True,
                repeat=repeat_of(if_match, if_none_match),
            )
        )
        return reply.etag

    async def delete(self, key: str, if_match: str | None, limits: Limits) -> None:
        """Have nothing be there."""
        call = self.call("delete", "DELETE", key, limits)
        headers, repeat = conditions(if_match, None), repeat_of(if_match, None)
        await self.transport.request(replace(call, headers=headers, writes=True, repeat=repeat))
