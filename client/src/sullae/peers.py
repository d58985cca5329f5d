"""The peers that a client knows, and which of them is asked next.

Every peer answers for all, so the choice is about speed only: peers that failed lately come last, replicas of
the key before others, and among equals the one with the fewest requests of ours under way. A peer that fails
rests for a while that doubles with each failure; when it is over, one request is enough to bring it back.
Where all rest, the one that has rested longest is asked all the same: a client never gives up by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

REST_FIRST_S: Final = 0.1
REST_MOST_S: Final = 5.0
PORT: Final = 8080


@dataclass(eq=False)
class Peer:
    """One peer: where it is, and how it did lately."""

    url: str
    """Scheme, host and port, without a slash at the end."""
    name: str = ""
    is_member: bool = False
    """Whether the cluster said so; addresses that only the user gave come after those."""
    said_down: bool = False
    """Whether another peer sees it down."""
    outstanding: int = 0
    failures: int = 0
    resting_until_s: float = field(default=0.0)

    def succeeded(self) -> None:
        """It answered."""
        self.failures = 0
        self.resting_until_s = 0.0
        self.said_down = False

    def failed(self, now_s: float, chance: float) -> None:
        """It did not, or does not serve: let it rest."""
        self.failures += 1
        rest_s = min(REST_MOST_S, REST_FIRST_S * 2.0 ** min(self.failures - 1, 20))
        self.resting_until_s = now_s + rest_s * (0.5 + 0.5 * chance)


class Peers:
    """All of them."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.all: list[Peer] = [Peer(url) for url in dict.fromkeys(urls)]
        self._given = tuple(peer.url for peer in self.all)
        self._turn = itertools.count()

    def choose(self, now_s: float, tried: Sequence[Peer] = (), preferred: Sequence[str] = ()) -> Peer:
        """Whom to ask; `tried` were asked for this and failed, `preferred` are names, best first."""
        members = [peer for peer in self.all if peer.is_member]
        awake = any(peer.resting_until_s <= now_s for peer in members)
        known = members if awake else self.all
        turn = next(self._turn)
        ranked = [(self._rank(peer, now_s, tried, preferred), (i + turn) % len(known), peer)
                  for i, peer in enumerate(known)]  # fmt: skip
        return min(ranked, key=lambda one: one[:2])[2]

    @staticmethod
    def _rank(
        peer: Peer, now_s: float, tried: Sequence[Peer], preferred: Sequence[str]
    ) -> tuple[bool, float, bool, bool, int]:
        resting = peer.resting_until_s > now_s
        return (
            peer in tried,
            peer.resting_until_s if resting else 0.0,
            peer.said_down,
            bool(preferred) and peer.name not in preferred,
            peer.outstanding,
        )

    def learn(self, cluster: Mapping[str, Any], asked: Peer) -> None:
        """Take what `/v1/cluster` says of the members; `asked` is the peer that said it."""
        found: dict[str, tuple[str, bool]] = {}
        for member in cluster.get("peers", []):
            url = beside(asked.url, str(member["address"]))
            found[url] = str(member.get("name", "")), member.get("state") == "down"
        if not found:
            return
        there = {peer.url: peer for peer in self.all}
        for url, (name, is_down) in found.items():
            peer = there.get(url)
            if peer is None:
                peer = Peer(url)
                self.all.append(peer)
            peer.name, peer.is_member = name, True
            peer.said_down = is_down and peer is not asked
        for peer in self.all:
            peer.is_member = peer.url in found
        self.all = [peer for peer in self.all if peer.is_member or peer.url in self._given]


def beside(url: str, address: str) -> str:
    """The URL of another member: the same scheme and port at its address."""
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return urlunsplit((parts.scheme, host if parts.port is None else f"{host}:{parts.port}", "", "", ""))


def urls_of(text: str) -> list[str]:
    """The peers in `http://a:8080,b:8080`; scheme and port may be left out. Raises ValueError."""
    found = []
    for part in text.split(","):
        one = part.strip()
        if not one:
            continue
        parts = urlsplit(one if "://" in one else f"http://{one}")
        is_more = bool(parts.path.strip("/") or parts.query)
        if parts.scheme not in ("http", "https") or not parts.hostname or is_more:
            raise ValueError(f"a peer is like http://127.0.0.1:8080; found {one[:100]!r}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port or (PORT if parts.scheme == "http" else None)
        found.append(f"{parts.scheme}://{host}" + (f":{port}" if port else ""))
    if not found:
        raise ValueError("give at least one peer, like http://127.0.0.1:8080")
    return found
