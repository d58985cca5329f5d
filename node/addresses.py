"""A peer that was started at another address: the others learn it, and the metadata log keeps it.

An address is an attribute of a peer, not its identity: whoever has the directory is the peer, wherever it
runs. Its hello says where that is, so those that it calls call back there at once (server/transport.py). For
all others, and for good, it has its new address decided as an epoch: a change like any other, which needs a
majority of the voters.

If many have moved at the same time nobody is where the log says. So whoever is not connected is called at the
address that `cluster.yml` has for its name, too. What an outdated file says does no harm: whoever answers
there says who it is.
"""

from __future__ import annotations

from typing import Final

from core.limits import SECOND_US
from core.metadata import ChangeAddress
from core.ports import PeerId
from core.requests import Changed, Unready
from node.inside import Inside
from node.metadata_changes import CHANGE_TIMEOUT_US, Origin
from node.metadata_log import MetadataLog
from node.metadata_moves import REPLACED

PAUSE_US: Final = 2 * SECOND_US
TIMER: Final = "metadata.address"


class OwnAddress:
    """Has the log say where this peer is, and calls those who may be elsewhere."""

    def __init__(self, inside: Inside, log: MetadataLog, origin: Origin) -> None:
        """Nothing is done before `start`."""
        self._inside = inside
        self._log = log
        self._origin = origin
        self._me = inside.identity.peer
        self._connected: dict[PeerId, None] = {}
        self._is_asked = False
        self._refused = ""
        inside.on_timer(TIMER, self._on_tick)
        inside.on_peer(self._on_peer)

    def start(self) -> None:
        """Begin, in a cluster that is born; whatever there is to do is done within some seconds."""
        self._on_tick()

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        if connected:
            self._connected[peer] = None
        else:
            self._connected.pop(peer, None)

    def _on_tick(self) -> None:
        """Again and again while there is something to do; a peer does not move while it runs."""
        elsewhere = self._elsewhere()
        for address in elsewhere:
            self._inside.world.dial(address)
        if self._is_wrong():
            taken = self._taken()
            if taken:
                self._say(taken)
            else:
                self._ask()
        elif not elsewhere:
            return
        self._inside.timer(PAUSE_US + self._inside.world.below(PAUSE_US // 2), TIMER)

    def _elsewhere(self) -> list[str]:
        """Where those may be whom we do not reach at the address that the log has."""
        state = self._log.state
        found = []
        for peer in self._inside.initial:
            member = state.by_name(peer.name)
            if member is None or member.peer == self._me or member.address == peer.address:
                continue
            if member.peer not in self._connected:
                found.append(peer.address)
        return found

    def _is_wrong(self) -> bool:
        member = self._log.state.member(self._me)
        return member is not None and member.address != self._inside.identity.address

    def _taken(self) -> str:
        """Who the log has where we are, if it has another there: the change would be refused, and each that
        is refused is an epoch.
        """
        for member in self._log.state.members:
            is_there = member.address == self._inside.identity.address and member.peer != self._me
            if is_there and not member.name.endswith(REPLACED):
                return f"{member.name} is known to be at {member.address}"
        return ""

    def _ask(self) -> None:
        if self._is_asked:
            return
        self._is_asked = True
        address = self._inside.identity.address
        until_us = self._inside.world.monotonic_us() + CHANGE_TIMEOUT_US
        self._origin.change(ChangeAddress(self._me, address), self._on_outcome, until_us)

    def _on_outcome(self, outcome: Changed | Unready) -> None:
        self._is_asked = False
        address = self._inside.identity.address
        if isinstance(outcome, Changed) and not outcome.error:
            self._inside.log("info", "address_changed", f"this peer is known to be at {address} now")
            return
        self._say(outcome.error if isinstance(outcome, Changed) else outcome.detail)

    def _say(self, why: str) -> None:
        """Why the log does not have our address; once."""
        if why != self._refused:
            self._refused = why
            address = self._inside.identity.address
            text = f"the cluster does not know yet that this peer is at {address}: {why}"
            self._inside.log("warning", "address_not_changed", text)
