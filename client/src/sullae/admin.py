"""What an operator asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sullae.calls import Call, path_of
from sullae.errors import SullaeError
from sullae.models import Health, PeerStatus
from sullae.requests import Requests
from sullae.transport import Transport


class Admin:
    """The state of the cluster, as the peer that is asked sees it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._requests = Requests(transport)

    async def health(self) -> Health:
        """Whether some peer serves; where none does, what the last one that was asked says."""
        try:
            found = await self._requests.ask("admin.health", "GET", "/v1/health")
        except SullaeError as error:
            return Health(False, str(error.members.get("why_not") or error.detail))
        return Health(found["ready"], found["why_not"])

    async def status(self) -> dict[str, Any]:
        """A peer, and all peers as it sees them."""
        return await self.ask("status")

    async def peers(self) -> Sequence[PeerStatus]:
        """All peers."""
        found = await self._requests.ask("admin.peers", "GET", "/v1/cluster")
        return [
            PeerStatus(
                peer["name"],
                peer["address"],
                peer["state"],
                peer["datacentre"],
                peer["rack"],
                peer["voter"],
                peer["owns"],
            )
            for peer in found["peers"]
        ]

    async def ring(self) -> dict[str, Any]:
        """Every vnode: the last token of its range, and who owns it."""
        return await self.ask("ring")

    async def schema(self) -> dict[str, Any]:
        """Keyspaces and tables."""
        return await self.ask("schema")

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """What any other verb says: hints, following, repair, indexes, ..."""
        place = path_of("admin", verb)
        if arguments:
            return dict(await self._requests.ask(f"admin.{verb}", "POST", place, arguments))
        return dict(await self._requests.ask(f"admin.{verb}", "GET", place))

    async def metrics(self) -> str:
        """A peer's numbers in Prometheus's form."""
        reply = await self._transport.request(Call("admin.metrics", "GET", "/metrics"))
        return reply.body.decode()
