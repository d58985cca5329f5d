"""What a client remembers so that the next peer knows what the last one did: the header `Sullae-Session`.

A client always carries what it needs for the *schema*: who made a bucket, a collection or a table through one
peer finds it at every other. The answer to such a change has a token; it goes with the next request to each
peer, which then waits until it has heard of the change, and never again to that peer.

A *session* (`Database.session`) carries a token with every request and takes a new one from every answer.
Requests that run at the same time get one each, so several may be held; the cluster makes one of them. What
is in a token is the cluster's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sullae.peers import Peer

HEADER: Final = "Sullae-Session"
NEW: Final = "new"
HELD_MAX: Final = 32
"""So many tokens a request may name."""
CHANGES_MAX: Final = 8
"""Of the schema: what came later includes what came before it, but for changes made at the same time."""


def header_of(tokens: Sequence[str]) -> dict[str, str]:
    """The headers that name these tokens."""
    return {HEADER: ",".join(tokens)} if tokens else {}


class Tokens:
    """Those of a client: changes of the schema that peers may not have heard of."""

    def __init__(self) -> None:
        self._changes: dict[str, None] = {}
        self._heard: dict[str, dict[str, None]] = {}
        """By address of a peer."""

    def for_peer(self, peer: Peer) -> tuple[str, ...]:
        """What to tell this peer."""
        if not self._changes:
            return ()
        heard = self._heard.get(peer.url, {})
        return tuple(token for token in self._changes if token not in heard)

    def answered(self, peer: Peer, sent: Sequence[str], token: str | None, status: int) -> None:
        """A peer answered to what it was told, perhaps with a new token."""
        if token is not None:
            self._changes[token] = None
            if len(self._changes) > CHANGES_MAX:
                del self._changes[next(iter(self._changes))]
        if status < 500 and (sent or token is not None):
            known = dict.fromkeys(sent) if token is None else {**dict.fromkeys(sent), token: None}
            known.update(self._heard.get(peer.url, {}))
            self._heard[peer.url] = {one: None for one in known if one in self._changes}


class SessionTokens(Tokens):
    """Those of a session."""

    def __init__(self, text: str | None) -> None:
        """`text` is where a session goes on; None begins one."""
        super().__init__()
        self._held = dict.fromkeys(text.split(",") if text else [NEW])

    @property
    def text(self) -> str:
        """All that the session knows, to go on with elsewhere."""
        return ",".join(self._held)

    def for_peer(self, peer: Peer) -> tuple[str, ...]:
        """What to tell any peer."""
        return tuple(self._held)[:HELD_MAX]

    def answered(self, peer: Peer, sent: Sequence[str], token: str | None, status: int) -> None:
        """The new token says all that those that were sent did."""
        if token is not None:
            for one in sent:
                self._held.pop(one, None)
            self._held[token] = None
