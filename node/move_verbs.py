"""What an operator asks about moving ranges: the verbs moves, move_plan, move_commit and move_abort.

A plan is kept by the peer that made it until another takes its place; committing names it. It says on which
ring
it was made, so it can be looked at for as long as one likes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.metadata import AlterKeyspace, BeginMove, StepMove
from core.requests import Answer, Changed, Invalid, Told, Unready
from core.schema import NETWORK_TOPOLOGY, Replication
from node import move_plans
from node.move_plans import Newcomer, PlanError
from node.moving_ring import ABORTED, PREPARE

if TYPE_CHECKING:
    from core.moving_messages import MoveTold
    from node.node import Node

COMMIT_US = 8 * limits.SECOND_US
ARGUMENTS = {
    "moves": (),
    "move_plan": ("kind", "names", "by", "keyspace", "replication"),
    "move_commit": ("plan",),
    "move_abort": (),
}

Reply = Callable[[Answer], None]


class MoveVerbs:
    """Functions of a node."""

    verbs = tuple(ARGUMENTS)

    def __init__(self, node: Node) -> None:
        """`node` is asked and told."""
        self._node = node
        self._plan: BeginMove | None = None
        self._plan_id = ""

    def begin(self, verb: str, arguments: dict[str, Any], reply: Reply) -> bool:
        """Answer one of these verbs; False for any other."""
        allowed = ARGUMENTS.get(verb)
        if allowed is None:
            return False
        for name in arguments:
            if name not in allowed:
                takes = f"the arguments {', '.join(allowed)}" if allowed else "no arguments"
                reply(Invalid("bad_argument", f"{verb} takes {takes}"))
                return True
        if verb == "moves":
            self._node.moving.inquire(lambda told: reply(Told(self.status(told))))
        elif verb == "move_plan":
            try:
                reply(Told(self._planned(arguments)))
            except PlanError as error:
                reply(Invalid("bad_argument", str(error)))
        elif verb == "move_commit":
            self._commit(arguments, reply)
        else:
            self._abort(reply)
        return True

    # --- status

    def status(self, told: dict[bytes, MoveTold]) -> dict[str, Any]:
        """What moves and how far it is, what moved last, and who waits to be admitted."""
        state = self._node.metadata.state
        move, last = state.move, state.last_move
        names = {member.peer: member.name for member in state.members}
        found: dict[str, Any] = {
            "waiting": [
                {
                    "name": hello.name,
                    "address": hello.address,
                    "rack": hello.rack,
                    "peer": hello.peer.hex(),
                    "verb": "replace" if state.by_name(hello.name) is not None else "add",
                }
                for hello in self._node.identity.waiting.values()
                if state.member(hello.peer) is None
            ],
            "move": None,
            "last": None if last is None else {"id": last.id, "kind": last.kind, "phase": last.phase},
        }
        if move is not None:
            found["move"] = {
                "id": move.id,
                "kind": move.kind,
                "phase": move.phase,
                "peers": [
                    {
                        "name": names.get(peer, peer.hex()),
                        "epoch": one.epoch,
                        "merged": one.merged == move.id,
                        "drained": one.drained == move.id,
                        "bytes": one.bytes_done,
                        "ranges_done": one.ranges_done,
                        "ranges": one.ranges,
                        "differing": one.differing,
                        "why": one.why,
                        "waits": [{"text": text, "seconds": seconds} for text, seconds in one.waits],
                    }
                    for peer, one in told.items()
                ],
            }
        return found

    # --- planning

    def _planned(self, arguments: dict[str, Any]) -> dict[str, Any]:
        node = self._node
        state = node.metadata.state
        if node.metadata.unready:
            raise PlanError(node.metadata.unready)
        plan = self._make(arguments)
        ranges, copies = move_plans.share(state, plan)
        whole = sum(state.ownership().values())
        self._plan = plan
        self._plan_id = f"{state.moved_epoch}-{abs(hash_of(plan)):08x}"
        tokens = dict(plan.tokens)
        newcomers = {member.peer: member.name for member in plan.admit}
        return {
            "plan": self._plan_id,
            "kind": plan.kind,
            "ranges": ranges,
            "copies": round(copies, 4),
            "fraction": round(copies / whole, 6) if whole else 0.0,
            "bytes_per_s": node.inside.settings.move_bytes_per_s,
            "admit": [m.name for m in plan.admit],
            "remove": [state_name(node, peer) for peer in plan.remove],
            "vnodes": {state_name(node, peer) or peer.hex()[:8]: len(t) for peer, t in tokens.items()},
            "voters": [state_name(node, peer) or newcomers[peer] for peer in plan.voters],
        }

    def _make(self, arguments: dict[str, Any]) -> BeginMove:
        node = self._node
        state, vnodes = node.metadata.state, node.inside.settings.num_tokens
        kind, names = arguments.get("kind"), arguments.get("names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PlanError("names is a list of names of peers")
        if kind == "add":
            waiting = self._waiting()
            chosen = list(dict.fromkeys(names)) or list(waiting)
            absent = [name for name in chosen if name not in waiting]
            if absent:
                raise PlanError(
                    f"{', '.join(absent)} does not wait to be admitted: start it with the same cluster.yml "
                    f"and an empty directory first; who waits: {', '.join(waiting) or 'nobody'}"
                )
            return move_plans.add(state, [waiting[name] for name in chosen], vnodes)
        if kind == "replicate":
            return self._replicate(arguments)
        if not names:
            raise PlanError("name a peer")
        if kind == "remove":
            return move_plans.remove(state, names)
        if kind == "move":
            return move_plans.move(state, names[0], vnodes)
        if kind == "replace":
            by = arguments.get("by") or names[0]
            waiting = self._waiting()
            if not isinstance(by, str) or by not in waiting:
                raise PlanError(f"{by} does not wait to be admitted: start it with an empty directory first")
            return move_plans.replace(state, names[0], waiting[by])
        raise PlanError("kind is add, remove, replace, move or replicate")

    def _replicate(self, arguments: dict[str, Any]) -> BeginMove:
        state = self._node.metadata.state
        name, wanted = arguments.get("keyspace"), arguments.get("replication")
        keyspace = state.keyspaces.get(str(name))
        if keyspace is None:
            raise PlanError(f"there is no keyspace {name}; there are {', '.join(state.keyspaces)}")
        if not isinstance(wanted, dict) or not all(type(n) is int and n >= 0 for n in wanted.values()):
            raise PlanError("replication is a number of replicas for each datacentre")
        factors = tuple(sorted((str(dc), n) for dc, n in wanted.items() if n))
        return move_plans.replicate(state, str(name), Replication(NETWORK_TOPOLOGY, factors))

    def _waiting(self) -> dict[str, Newcomer]:
        state = self._node.metadata.state
        former = {peer for peer, _ in state.former}
        return {
            hello.name: Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
            for hello in self._node.identity.waiting.values()
            if state.member(hello.peer) is None and hello.peer not in former
        }

    def alter(self, change: Any, reply: Reply) -> bool:
        """ALTER KEYSPACE: where there are rows, another replication is a move; False if it is none."""
        node = self._node
        plan = move_plans.as_move(node.metadata.state, change)
        if plan is None:
            return False
        move = plan

        def begin(answer: Changed | Unready) -> None:
            if isinstance(answer, Unready) or answer.error:
                reply(answer)
            else:
                self._begin(move, reply, lambda answer: answer)

        if change.durable_writes is None:
            self._begin(move, reply, lambda answer: answer)
        else:  # what else it asks for comes first
            deadline_us = node.inside.world.monotonic_us() + COMMIT_US
            rest = AlterKeyspace(change.name, durable_writes=change.durable_writes)
            node.metadata.change(rest, begin, deadline_us)
        return True

    # --- committing

    def _commit(self, arguments: dict[str, Any], reply: Reply) -> None:
        plan = self._plan
        if plan is None or arguments.get("plan", self._plan_id) != self._plan_id:
            reply(Invalid("bad_argument", "this peer has no such plan (any more): plan it again, here"))
            return
        state = self._node.metadata.state
        if state.move is not None:
            reply(Invalid("bad_argument", "ranges move already: wait until that is finished, or abort it"))
            return
        if plan.base != state.moved_epoch:  # who it admits may be a member by now: it fits this ring no more
            reply(Invalid("bad_argument", "the ring has changed since this was planned: plan it again"))
            return
        self._begin(plan, reply, self._told)

    def _begin(self, plan: BeginMove, reply: Reply, told: Callable[[Changed | Unready], Answer]) -> None:
        """Once nobody who is given ranges holds anything of what it gave up."""
        node = self._node

        def cleaned(why: str) -> None:
            if why:
                reply(Unready(why))
                return
            deadline_us = node.inside.world.monotonic_us() + COMMIT_US
            node.metadata.change(plan, lambda answer: reply(told(answer)), deadline_us)

        node.moving.are_clean(move_plans.targets(node.metadata.state, plan), cleaned)

    def _abort(self, reply: Reply) -> None:
        node = self._node
        move = node.metadata.state.move
        if move is None:
            reply(Invalid("bad_argument", "nothing moves"))
        elif move.phase != PREPARE:
            reply(Invalid("bad_argument", "it is handed over already, and about to be finished"))
        else:
            deadline_us = node.inside.world.monotonic_us() + COMMIT_US
            step = StepMove(move.id, ABORTED)
            node.metadata.change(step, lambda answer: reply(self._told(answer)), deadline_us)

    def _told(self, answer: Changed | Unready) -> Answer:
        if isinstance(answer, Unready):
            return answer
        if answer.error:
            return Invalid("bad_argument", answer.error)
        if answer.code:
            return Invalid("bad_argument", "it was over before")
        return Told({"epoch": answer.epoch})


def hash_of(plan: BeginMove) -> int:
    """A number that names a plan."""
    data = msgspec.msgpack.encode(plan)
    found = 0
    for byte in data:
        found = (found * 257 + byte) % (2**31 - 1)
    return found


def state_name(node: Node, peer: bytes) -> str:
    """The name of a member; "" of anybody else."""
    member = node.metadata.state.member(peer)
    return "" if member is None else member.name
