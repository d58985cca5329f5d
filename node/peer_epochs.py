"""Which epoch each peer has adopted, as far as it is known here: for clients that wait until all agree.

Every ping and its answer names its sender's epoch. That is news of a second ago, and a client that has just
changed the schema wants to know now: `ask` pings whoever is not known to be where we are, and waits for a
moment. In a large cluster, where each peer pings few others, it is the only way in which most are heard of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.messages import Ping, PingAck
from core.ports import URGENT, PeerId
from core.requests import Answer, Told

if TYPE_CHECKING:
    from node.inside import Inside, MessageHandler
    from node.metadata import Metadata
    from node.swim import Swim

ASK_AGAIN_US = 25_000
"""Who is behind pulls when it is asked, and is asked again after this."""
TRIES_MAX = 10


class PeerEpochs:
    """The last epoch heard of each peer (`known`), and who waits for better news."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim) -> None:
        """Listen to what `swim` handles."""
        self.known: dict[PeerId, int] = {}
        self._inside = inside
        self._metadata = metadata
        self._swim = swim
        self._waiting: list[Callable[[Answer], None]] = []
        self._timer = 0
        self._tries = 0
        for kind in (Ping, PingAck):
            inside.message_handlers[kind] = self._listening(inside.message_handlers[kind])
        inside.on_timer("peer_epochs", self._on_timer)

    def _listening(self, handler: MessageHandler) -> MessageHandler:
        def handle(peer: PeerId, message: Any) -> None:
            self.known[peer] = message.epoch
            handler(peer, message)
            if self._waiting and not self._behind():
                self._tell()

        return handle

    def ask(self, reply: Callable[[Answer], None]) -> None:
        """Ask the live peers that are not known to have adopted our epoch; answered when they have told."""
        if not self._behind():
            reply(self._told())
            return
        self._waiting.append(reply)
        if len(self._waiting) == 1:  # else they are asked already
            self._tries = 0
            self._ping()

    def _ping(self) -> None:
        self._tries += 1
        self._timer = self._inside.timer(ASK_AGAIN_US, "peer_epochs")
        epoch = self._metadata.state.epoch
        for peer in self._behind():
            number = self._metadata.state.number_of(peer)
            assert number is not None, "a member has a number"
            self._inside.send(peer, Ping(0, number, epoch, ()), URGENT)

    def _behind(self) -> list[PeerId]:
        """Live members not known to be where we are."""
        state, me = self._metadata.state, self._inside.identity.peer
        return [
            member.peer
            for member in state.members
            if member.peer != me
            and self.known.get(member.peer, 0) != state.epoch
            and self._swim.is_alive(member.peer)
        ]

    def _on_timer(self) -> None:
        """Ask again, or tell what is known by now."""
        if self._waiting and self._tries < TRIES_MAX:
            self._ping()
        elif self._waiting:
            self._tell()

    def _tell(self) -> None:
        self._inside.world.cancel_timer(self._timer)
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            reply(self._told())

    def _told(self) -> Told:
        return Told({"epochs": {peer.hex(): epoch for peer, epoch in self.known.items()}})
