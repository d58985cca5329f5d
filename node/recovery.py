"""A new majority of voters when the old one is lost for good: the metadata's way out, by an operator's word.

Without a majority of its voters the metadata log stands still: nobody may join, and so nobody can take the
place of those who are lost. Whether they are lost no peer can know; an operator says it (`sullae cluster
recover-metadata`) and confirms it. Then *all* members that remain, voters or not, decide the next epoch, in
the rounds of ballots of any other epoch (node/metadata_proposer.py): `Recover` names who is given up and who
votes now.

    check    each of them is asked which epoch it knows, and whether it takes one of the lost for living:
    then, or
             if one of them does not answer, nothing is done
    catch up the longest log among them is adopted
    finish   what one of them has accepted for the next epoch, before, may have been decided: it is decided
    first recover  the epoch with a new generation

What makes it safe. All who remain have to accept, so of two recoveries that have a member in common, from two
sides or run twice, one is decided, and the other finishes it or is refused. From the moment of accepting,
durably, a peer listens to none of the lost any more: should they live all the same, and decide something for
the same epoch, it reaches nobody here. They are refused by name from then on and stop serving as soon as they
hear it, whatever they hold; what only they held is lost. Two halves that were recovered each without the
other have nobody in common, name each other as lost, and refuse each other (node/identity.py): two clusters,
one of which has to be emptied.

Data stay where they are. Who is lost stays the owner of its ranges until it is replaced or removed by an
ordinary move, which then waits for nobody who is lost: it needs one of every quorum of a range's replicas, or
all that remain (node/moving_stream.py `meets_quorums`). Until then ranges without a quorum of replicas answer
at ONE, not at QUORUM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.consistency import quorum
from core.limits import SECOND_US
from core.metadata import ChangeId, Changes, Entry, Proposal, Recover
from core.ports import URGENT, PeerId
from core.recovery_messages import RecoverAsk, RecoverTold
from core.requests import Answer, Invalid, Told, Unready
from node.metadata_proposer import Ballotting

if TYPE_CHECKING:
    from node.inside import Inside
    from node.metadata_log import MetadataLog
    from node.metadata_state import State

ASK_US: Final = SECOND_US
COMMIT_US: Final = 8 * SECOND_US
AGAIN_US: Final = 500_000
VOTERS_MAX: Final = 5
ARGUMENTS: Final = {"recover_plan": ("lost",), "recover_commit": ("lost", "cluster")}

Reply = Callable[[Answer], None]


class _Asking(msgspec.Struct):
    lost: tuple[PeerId, ...]
    done: Callable[[dict[PeerId, RecoverTold]], None]
    told: dict[PeerId, RecoverTold]
    others: tuple[PeerId, ...]


class _Wanted(msgspec.Struct):
    generation: int
    epoch: int
    source: PeerId
    lost: tuple[PeerId, ...]
    reply: Reply
    until_us: int
    why: str = ""


class Recovery:
    """This peer's part in recovering the metadata, as who is asked to and as one of those who remain."""

    verbs = tuple(ARGUMENTS)

    def __init__(
        self,
        inside: Inside,
        log: MetadataLog,
        given_up: Callable[[], tuple[PeerId, ...]],
        propose: Callable[[], None],
    ) -> None:
        """`given_up` are those that this peer has agreed to give up and does not know to be; `propose` wakes
        us.
        """
        self._inside = inside
        self._log = log
        self._me = inside.identity.peer
        self._given_up = given_up
        self._propose = propose
        self.alive: Callable[[PeerId], bool] = lambda _: True
        self.next_id: Callable[[], ChangeId]
        self._connected: dict[PeerId, None] = {}
        self._asking: dict[int, _Asking] = {}
        self._wanted: _Wanted | None = None
        inside.on_message(RecoverAsk, self._on_ask)
        inside.on_message(RecoverTold, self._on_told)
        inside.on_peer(self._on_peer)
        inside.on_timer("recovery.asked", self._asked)
        inside.on_timer("recovery.again", self._again)
        log.on_adopted(self._on_adopted)

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        if connected:
            self._connected[peer] = None
        else:
            self._connected.pop(peer, None)

    # --- one of those who remain

    def may_vote(self, peer: PeerId, lost: tuple[PeerId, ...]) -> bool:
        """Whether we vote on what `peer` proposes while it gives these up."""
        remains = peer in remaining(self._log.state, lost)
        return remains and not self.objection(lost) and not self._living(lost)

    def objection(self, lost: tuple[PeerId, ...]) -> str:
        """Why this peer does not give these up, whether they live or not; "" if it would."""
        state = self._log.state
        if self._me in lost or self._me in state.lost:
            return "it is one of them"
        if not lost or any(state.member(peer) is None for peer in lost):
            return "one of them is no member"
        voters = [peer for peer in state.voters if peer not in lost]
        if len(voters) >= quorum(len(state.voters)):
            names = ", ".join(_name(state, peer) for peer in voters)
            return f"{names} remain and are a majority of the voters: replace or remove the others as usual"
        begun = self._given_up()
        if any(peer not in lost for peer in begun):
            names = ", ".join(_name(state, peer) for peer in begun)
            return f"it has agreed to give up {names}: what was begun has to be finished, with the same"
        return ""

    def _living(self, lost: Sequence[PeerId]) -> tuple[PeerId, ...]:
        return tuple(peer for peer in lost if peer in self._connected or self.alive(peer))

    def _on_ask(self, peer: PeerId, message: RecoverAsk) -> None:
        self._inside.send(peer, self._told(message), URGENT)

    def _told(self, message: RecoverAsk) -> RecoverTold:
        objection = self.objection(message.lost)
        return RecoverTold(message.op, self._log.state.epoch, self._living(message.lost), objection)

    # --- who is asked to

    def _ask(self, lost: tuple[PeerId, ...], done: Callable[[dict[PeerId, RecoverTold]], None]) -> None:
        """Ask all who remain; `done` gets what came within a moment."""
        op = self._inside.new_op()
        message = RecoverAsk(op, lost)
        others = remaining(self._log.state, lost)
        self._asking[op] = _Asking(lost, done, {self._me: self._told(message)}, others)
        for peer in others:
            if peer != self._me:
                self._inside.send(peer, message, URGENT)
        self._inside.timer(ASK_US if len(others) > 1 else 0, "recovery.asked", op)

    def _on_told(self, peer: PeerId, message: RecoverTold) -> None:
        asking = self._asking.get(message.op)
        if asking is not None and peer in asking.others:
            asking.told[peer] = message
            if len(asking.told) == len(asking.others):
                self._asked(message.op)

    def _asked(self, op: int) -> None:
        asking = self._asking.pop(op, None)
        if asking is not None:
            asking.done(asking.told)

    def begin(self, verb: str, arguments: dict[str, Any], reply: Reply) -> bool:
        """Answer one of the two verbs; False for any other."""
        allowed = ARGUMENTS.get(verb)
        if allowed is None:
            return False
        state = self._log.state
        wrong = [name for name in arguments if name not in allowed]
        names = arguments.get("lost", [])
        if wrong or not isinstance(names, list) or any(state.by_name(str(name)) is None for name in names):
            reply(Invalid("bad_argument", f"{verb} takes {', '.join(allowed)}; lost is a list of members"))
        elif verb == "recover_commit" and arguments.get("cluster") != state.name:
            text = f"to confirm it, name the cluster ({state.name}): what only the lost hold will be lost"
            reply(Invalid("bad_argument", text))
        else:
            lost = self._chosen(names)
            commit = verb == "recover_commit"
            self._ask(lost, lambda told: self._judge(lost, told, reply, commit=commit))
        return True

    def _chosen(self, names: list[Any]) -> tuple[PeerId, ...]:
        """Who is to be given up: those named, or all that are not alive as far as we know."""
        state = self._log.state
        begun = self._given_up()
        members = [m for m in state.members if m.peer not in state.lost]
        if names:
            return tuple(m.peer for m in members if m.name in names or m.peer in begun)
        return tuple(m.peer for m in members if m.peer in begun or not self.alive(m.peer))

    def _judge(
        self, lost: tuple[PeerId, ...], told: dict[PeerId, RecoverTold], reply: Reply, *, commit: bool
    ) -> None:
        view = self._view(lost, told)
        if not commit:
            reply(Told(view))
        elif view["problem"]:
            reply(Invalid("bad_argument", view["problem"]))
        elif self._wanted is not None:
            reply(Unready("this peer recovers the metadata already"))
        else:
            source, longest = max(told.items(), key=lambda item: (item[1].epoch, item[0]))
            now_us = self._inside.world.monotonic_us()
            generation = len(self._log.state.lineages) + 1
            self._wanted = _Wanted(generation, longest.epoch, source, lost, reply, now_us + COMMIT_US)
            self._inside.log("warning", "recovering", f"metadata: gives up {', '.join(view['lost'])}")
            self._again()

    def _view(self, lost: tuple[PeerId, ...], told: dict[PeerId, RecoverTold]) -> dict[str, Any]:
        """What an operator is shown before, and why it cannot be (`problem`, "" if it can)."""
        state = self._log.state
        others = remaining(state, lost)
        problem = "nobody is lost, as far as this peer knows: name those that are" if not lost else ""
        if lost and self._me not in others:
            name = self._inside.identity.name
            problem = f"{name}, which is asked, does not remain itself: ask a peer that does"
        for peer in others:
            answer = told.get(peer)
            name = _name(state, peer)
            if problem:
                break
            if answer is None:
                problem = f"{name} does not answer: all who remain have to be up, or be given up, too"
            elif answer.living:
                living = ", ".join(_name(state, one) for one in answer.living)
                problem = f"{name} takes {living} for alive: stop it (that is believed after a while)"
            elif answer.objection:
                problem = f"{name} refuses: {answer.objection}"
        return {
            "cluster": state.name,
            "generation": len(state.lineages) + 1,
            "lost": [_name(state, peer) for peer in lost],
            "remaining": [
                {"name": _name(state, peer), "epoch": told[peer].epoch if peer in told else None}
                for peer in others
            ],
            "voters": [_name(state, peer) for peer in voters_after(state, lost)],
            "data": losses(state, (*lost, *state.lost)),
            "problem": problem,
        }

    # --- deciding

    def ballotting(self) -> Ballotting | None:
        """The round that is to be begun now; None if there is none."""
        wanted, state = self._wanted, self._log.state
        if wanted is None or state.epoch < wanted.epoch:
            return None
        others = remaining(state, wanted.lost)
        rank = state.number_of(self._me)
        assert rank is not None and self._me in others
        return Ballotting(
            state.epoch + 1, others, len(others), rank, self._entry, self._may_finish, lost=wanted.lost
        )

    def _entry(self) -> Entry | None:
        wanted, state = self._wanted, self._log.state
        if wanted is None:
            return None
        change = Recover(wanted.generation, wanted.lost, voters_after(state, wanted.lost))
        return Changes((Proposal(self.next_id(), change),))

    def _may_finish(self, entry: Entry) -> str:
        """Whether what somebody has accepted before can be decided by those who remain."""
        if self._wanted is None or not isinstance(entry, Changes):
            return "there is nothing to recover"
        for proposal in entry.proposals:
            given_up = proposal.change.lost if isinstance(proposal.change, Recover) else ()
            if any(peer not in self._wanted.lost for peer in given_up):
                names = ", ".join(_name(self._log.state, peer) for peer in given_up)
                self._wanted.why = f"a recovery that gives up {names} was begun: give up the same"
                return self._wanted.why
        return ""

    def _again(self) -> None:
        wanted = self._wanted
        if wanted is None:
            return
        if self._inside.world.monotonic_us() >= wanted.until_us:
            self._wanted = None
            why = wanted.why or "somebody who remains did not answer"
            wanted.reply(Unready(f"not decided in time: {why}; run it again, it goes on where it was"))
            return
        self._log.behind(wanted.source, wanted.epoch)
        self._inside.timer(AGAIN_US, "recovery.again")
        self._propose()

    def _on_adopted(self) -> None:
        wanted, state = self._wanted, self._log.state
        if wanted is not None and len(state.lineages) >= wanted.generation:
            self._wanted = None
            names = [_name(state, peer) for peer in state.lost]
            text = f"metadata: generation {len(state.lineages)}, without {', '.join(names)}"
            self._inside.log("warning", "recovered", text)
            voters = [_name(state, peer) for peer in state.voters]
            told = {"epoch": state.epoch, "generation": len(state.lineages), "lost": names, "voters": voters}
            wanted.reply(Told(told))


# --- pure


def remaining(state: State, lost: Sequence[PeerId]) -> tuple[PeerId, ...]:
    """All members but these, and those that were given up before."""
    return tuple(m.peer for m in state.members if m.peer not in lost and m.peer not in state.lost)


def voters_after(state: State, lost: Sequence[PeerId]) -> tuple[PeerId, ...]:
    """Who votes then: voters that remain, filled up by other members; an odd number, as many as before."""
    there = remaining(state, lost)
    kept = [peer for peer in state.voters if peer in there]
    wanted = min(max(3, len(state.voters)), len(there), VOTERS_MAX)
    wanted -= wanted % 2 == 0
    return tuple((kept + [peer for peer in there if peer not in kept])[:wanted])


def losses(state: State, lost: Sequence[PeerId]) -> dict[str, dict[str, float]]:
    """Per keyspace that has tables: the part of all tokens whose replicas are all lost (`none`), or too many.
    """
    found: dict[str, dict[str, float]] = {}
    for table in state.tables.values():
        placement = state.placement(table.id)
        if placement is None or table.keyspace in found:
            continue
        none = few = 0
        for (first, last), replicas in placement.ranges():
            left = sum(peer not in lost for peer in replicas)
            none += (last - first + 1) * (left == 0)
            few += (last - first + 1) * (left < quorum(len(replicas)))
        found[table.keyspace] = {"none": round(none / 2**64, 6), "no_quorum": round(few / 2**64, 6)}
    return found


def _name(state: State, peer: PeerId) -> str:
    member = state.member(peer)
    return peer.hex()[:8] if member is None else member.name
