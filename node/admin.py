"""What an operator asks of a running node: a verb, arguments, and a JSON-able answer.

The CLI's commands are its clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.requests import AdminRequest, Answer, Invalid, Told
from core.schema import Member, Replication
from node.move_verbs import MoveVerbs
from node.repair_verbs import RepairVerbs

if TYPE_CHECKING:
    from node.node import Node

STATES = ("up", "suspect", "down")
LOST = "given up"
"""The state of a member that was given up when the metadata was recovered."""
PEER_EPOCHS = "peer_epochs"
"""The one verb that asks others: which epoch each peer has adopted."""


class Admin:
    """Verbs, each a function of this node's state."""

    def __init__(self, node: Node) -> None:
        """`node` is only read."""
        self._node = node
        self.repairing = RepairVerbs(node)
        self.moving = MoveVerbs(node)
        self._verbs: dict[str, Callable[[], dict[str, Any]]] = {
            "status": self.status,
            "ring": self.ring,
            "schema": self.schema,
            "hints": self.hints,
            "following": self.following,
            "indexes": self.indexes,
        }

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs there are."""
        return (*self._verbs, *self.repairing.verbs, *self.moving.verbs, *self._node.metadata.recovery.verbs)

    def begin(self, request: AdminRequest, reply: Callable[[Answer], None]) -> None:
        """Answer a verb."""
        verb = self._verbs.get(request.verb)
        if self.moving.begin(request.verb, request.arguments, reply):
            return
        if self._node.metadata.recovery.begin(request.verb, request.arguments, reply):
            return
        about_repair = self.repairing.answer(request.verb, request.arguments)
        if about_repair is not None:
            reply(about_repair)
            return
        if request.verb == PEER_EPOCHS and not request.arguments:
            self._node.peer_epochs.ask(reply)
            return
        if verb is None:
            reply(Invalid("no_such_verb", f"no such verb; there are: {', '.join(self.verbs)}"))
            return
        if request.arguments:
            reply(Invalid("bad_argument", f"{request.verb} takes no arguments"))
            return
        reply(Told(verb()))

    def status(self) -> dict[str, Any]:
        """This peer, and all peers as this one sees them."""
        node = self._node
        identity, state = node.inside.identity, node.metadata.state
        ready, why = node.ready()
        owned = state.ownership()
        return {
            "name": identity.name,
            "peer": identity.peer.hex(),
            "ready": ready,
            "why_not": why,
            "cluster": state.name if node.metadata.born else node.inside.cluster_name,
            "cluster_id": state.cluster.hex(),
            "epoch": state.epoch,
            "starts": identity.start,
            "requests_in_flight": node.admission.requests,
            "request_bytes_in_flight": node.admission.bytes,
            "peers": [
                {
                    "name": member.name,
                    "address": member.address,
                    "peer": member.peer.hex(),
                    "datacentre": member.datacentre,
                    "rack": member.rack,
                    "state": LOST if member.peer in state.lost else STATES[node.swim.state_of(member.peer)],
                    "voter": member.peer in state.voters,
                    "vnodes": len(member.tokens),
                    "owns": round(owned.get(member.peer, 0.0), 4),
                }
                for member in state.members
            ],
        }

    def hints(self) -> dict[str, Any]:
        """How many writes are kept here for each peer that missed them, and how many logged batches."""
        node = self._node
        return {
            "hints": {m.name: node.hints.pending(m.peer) for m in node.metadata.state.members},
            "batches": node.batch_log.count,
        }

    def following(self) -> dict[str, Any]:
        """How far each sibling's log is known to be followed, and how many entries are known to be behind."""
        node = self._node
        return {
            "siblings": {
                member.name: {
                    "offset": node.following.position(member.peer).after,
                    "behind": node.following.lag(member.peer),
                }
                for member in self._siblings()
            }
        }

    def indexes(self) -> dict[str, Any]:
        """How far each secondary index is built at this peer."""
        return {"indexes": self._node.building.status()}

    def _siblings(self) -> list[Member]:
        node = self._node
        peers = node.metadata.state.neighbours(node.inside.identity.peer)
        return [member for member in node.metadata.state.members if member.peer in peers]

    def ring(self) -> dict[str, Any]:
        """Every vnode: the last token of its range, and who owns it."""
        state = self._node.metadata.state
        vnodes = sorted((token, member.name) for member in state.members for token in member.tokens)
        return {"epoch": state.epoch, "vnodes": [{"token": token, "peer": name} for token, name in vnodes]}

    def schema(self) -> dict[str, Any]:
        """Keyspaces and tables."""
        state = self._node.metadata.state
        return {
            "epoch": state.epoch,
            "keyspaces": [
                {"name": keyspace.name, "replication": replication_dict(keyspace.replication)}
                for keyspace in state.keyspaces.values()
            ],
            "tables": [
                {
                    "id": table.id,
                    "name": f"{table.keyspace}.{table.name}",
                    "columns": [{"name": c.name, "type": c.type, "kind": c.kind} for c in table.columns],
                }
                for table in state.tables.values()
            ],
        }


def replication_dict(replication: Replication) -> dict[str, Any]:
    """As CQL writes it."""
    factors = {name or "replication_factor": factor for name, factor in replication.factors}
    return {"class": replication.strategy, **factors}
