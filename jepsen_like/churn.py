"""Membership churn: peers come, go, are replaced, ranges move, and somebody is killed at each of the three
epochs.

    n5 = add            a machine with an empty directory knocks, is admitted, gets its share
    remove              the last machine hands over and is switched off
    replace             a machine loses its directory; another peer under the same name takes its place
    elsewhere           as replace, but under another name and address
    move                a machine gets other tokens
    replicate           the bucket's keyspace goes from RF 3 to 1 and back

One after the other, as long as the nemesis runs, beside all its other faults; what is under way when it
stops has to come to its end by itself. Whenever a move goes from one phase to the next, somebody may
be killed, and comes back after a while. While there is one replica, no directory is emptied and no bit
flips: nobody else has what it holds.

Any workload can be run so: `NAME+churn` is one (jepsen_like/simulate.py), whose seed draws the shape of the
cluster (one datacentre or two), the kinds of moves and how often somebody is killed. Such a run begins with a
tour: an add, a replace with the same address, one with another, RF to 1 and back, in an order that the seed
draws, and a kill at each of the three epochs; at each of them a second move is asked for, which has to be
refused. It lasts until it has seen all of them; one that has not after
a while ends all the same, and says what it has not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import msgspec

from core.metadata import BeginMove, StepMove
from core.requests import Changed, MetadataRequest
from core.schema import NETWORK_TOPOLOGY, Replication
from jepsen_like.checkers import Problem
from jepsen_like.nemesis import Nemesis, Undo, is_damaged
from jepsen_like.run import TWO_DATACENTRES, Run, Verdict, options_of, verdict_of_run
from lsm import keys
from node import move_plans
from node.metadata_state import State
from node.move_plans import Newcomer, PlanError
from node.moving import complement
from node.moving_ring import FINISH, HAND_OVER, PREPARE
from node.node import Node
from sim.cluster import Reply, SimCluster
from sim.options import Options
from sim.real import RealSoftware, node_of

SECOND = 1_000_000
LOOK_US = SECOND // 10
SETTLE_US = 400 * SECOND
CLEAN_US = 60 * SECOND
OWED_US = 300 * SECOND
"""What was owed to a peer that is gone is delivered to all its successors, page by page: at least half of it
in this time.
"""
KINDS = ("add", "remove", "replace", "elsewhere", "move", "replicate")
REPLACING = ("replace", "elsewhere")
PHASES = (PREPARE, HAND_OVER, FINISH)
TOUR_US = 480 * SECOND
"""So much longer a run lasts, at the most, until its tour is over."""
LONE = ("set-any",)
"""Workloads to which one disk's word is enough: no directory is emptied, as it might be the only one."""
MACHINES_MAX = 7
"""In one datacentre; in more of them each may have one more than at the beginning."""


class Churn:
    """One operation after another."""

    def __init__(self, cluster: SimCluster, kinds: tuple[str, ...], kill: float) -> None:
        """Whoever takes part is killed at a change of phase with this probability."""
        self.cluster = cluster
        self.kinds = kinds
        self.random = Random(f"{cluster.options.seed}:churn")
        self._rivals = Random(f"{cluster.options.seed}:rivals")
        self.kill = kill
        self.done: list[str] = []
        self.kills: dict[str, int] = {}
        """How many were killed as a phase began."""
        self.tour: list[str] = []
        """Kinds that come first, in this order."""
        self.sights: tuple[str, ...] = ("add", *REPLACING, "replicate")
        """What a tour has to see."""
        self._is_toured = False
        self._running = False
        self._plan: Callable[[Node], BeginMove | None] | None = None
        self._kind = ""
        self._asked_us = 0
        self._phase = ""
        self._after: Callable[[], None] | None = None
        self._next_us = 0
        self._before = 0
        self._rival: BeginMove | None = None
        self.overlaps: list[str] = []
        """Second moves that were begun while one was under way."""
        self.retired = -1
        """A machine whose peer was removed; -1: none."""

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._look()

    def stop(self) -> None:
        """Begin nothing more; what has begun comes to its end."""
        self._running = False

    def plan_tour(self) -> None:
        """Begin with each kind that any workload has to live through, in an order of the seed's."""
        draw = Random(f"{self.cluster.options.seed}:tour")
        order = list(self.sights)
        draw.shuffle(order)
        for kind in order:
            self.tour.append(kind)
            if kind == "replicate":
                self.tour += ["move"] * draw.randrange(2) + ["replicate"]
        self._is_toured = True

    @property
    def missed(self) -> list[str]:
        """What a tour has to see and has not seen yet; empty if there is none."""
        if not self._is_toured:
            return []
        kinds = [kind for kind in self.sights if kind not in (*self.done, "replicate")]
        fewer = any(kind.endswith(">1") for kind in self.done)
        more = any(kind.startswith("replicate 1>") for kind in self.done)
        kinds += ["fewer replicas"] * (not fewer) + ["more replicas"] * (not more)
        return kinds + [f"a kill at {phase}" for phase in PHASES if phase not in self.kills]

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._plan is None

    @property
    def lacks_a_copy(self) -> bool:
        """Whether a directory was emptied whose place is not filled yet, or is about to be, or there is but
        one copy.
        """
        kind = self._kind if self._plan is not None else self.tour[0] if self.tour else ""
        return kind in REPLACING or self._is_single()

    def _is_single(self) -> bool:
        """Whether some rows have, or are about to have, one replica in a datacentre."""
        node = self._best()
        if node is None or (self._plan is not None and self._kind.startswith("replicate")):
            return True
        keyspaces = node.metadata.state.keyspaces.values()
        return any(n == 1 for keyspace in keyspaces for _, n in keyspace.replication.factors)

    # --- one operation

    def _look(self) -> None:
        cluster = self.cluster
        if self._running or not self.idle:
            cluster.scheduler.after(LOOK_US, self._look)
        node = self._best()
        if node is None:
            return
        if self._plan is not None:
            self._go_on(node)
        elif self._running and cluster.now_us >= self._next_us:
            self._begin(self._next_kind())

    def _next_kind(self) -> str:
        """That of the tour; then any, with one replica mostly the way back, so that a run sees both."""
        if self.tour:
            return self.tour[0]
        back = "replicate" in self.kinds and self._is_single() and self.random.random() < 0.5
        return "replicate" if back else self.random.choice(self.kinds)

    def _best(self) -> Node | None:
        """A running node that knows most."""
        nodes = [node_of(self.cluster, i) for i in self.cluster.running()]
        ready = [node for node in nodes if node.metadata.born and not node.metadata.unready]
        return max(ready, key=lambda node: node.metadata.state.epoch, default=None)

    def _begin(self, kind: str) -> None:
        cluster, machines = self.cluster, self.cluster.machines
        vnodes = cluster.options.settings.num_tokens
        members = len(machines) - (self.retired >= 0)
        if kind == "remove" and (self.retired >= 0 or not self._can_spare_the_last()):
            return
        if kind == "add" and members >= max(
            MACHINES_MAX, cluster.options.peers + cluster.options.datacentres
        ):
            return
        replaces = kind in REPLACING
        if replaces and (self._is_single() or any(is_damaged(machine) for machine in machines)):
            return  # two copies would be lost at once, and of what these two acknowledged nobody had any
        node = self._best()
        if kind == "replicate" and (node is None or self._is_behind(node)):
            return
        self.tour = self.tour[1:]
        self._kind, self._phase, self._asked_us, self._after = kind, "", 0, None
        before = node.metadata.state.last_move if node is not None else None
        if before is not None:  # it may be one that does not know yet of the end that was seen last
            self._before = max(self._before, before.id)
        if kind == "add":
            index = self.retired
            if index >= 0:
                cluster.wipe(index)
                self.retired = -1
            else:
                index = cluster.add_machine()
            cluster.start(index)
            name = machines[index].place.name
            self._plan = lambda node: self._with(
                node, name, lambda n: move_plans.add(node.metadata.state, [n], vnodes)
            )
        elif kind == "remove":
            last = machines[-1]
            self._plan = lambda node: move_plans.remove(node.metadata.state, [last.place.name])
            self._after = lambda: self._switch_off(last.index)
        elif replaces:
            victim = self.random.randrange(members)
            name = machines[victim].place.name
            cluster.wipe(victim)
            if kind == "elsewhere":
                cluster.rename(victim)
            cluster.start(victim)
            new = machines[victim].place.name
            self._plan = lambda node: self._with(
                node, new, lambda n: move_plans.replace(node.metadata.state, name, n)
            )
        elif kind == "move":
            name = machines[self.random.randrange(members)].place.name
            self._plan = lambda node: move_plans.move(node.metadata.state, name, vnodes)
        else:
            assert node is not None
            _, now, wanted = self._factors(node.metadata.state)
            self._kind = f"{kind} {now}>{wanted}"
            self._plan = lambda node: self._replicate(node, wanted)

    def _with(self, node: Node, name: str, plan: Callable[[Newcomer], BeginMove]) -> BeginMove | None:
        """A plan for who knocks under this name, if it does yet, at whomever it knows."""
        doors = (node_of(self.cluster, index).identity.waiting for index in self.cluster.running())
        hello = next((waiting[name] for waiting in doors if name in waiting), None)
        if hello is None or node.metadata.state.member(hello.peer) is not None:
            return None
        return plan(Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack))

    def _is_behind(self, node: Node) -> bool:
        """Whether a node does not know yet of the end that was seen last, and so not how many replicas there
        are.
        """
        last = node.metadata.state.last_move
        return (0 if last is None else last.id) < self._before

    def _can_spare_the_last(self) -> bool:
        """Whether its datacentre has enough peers without it."""
        cluster = self.cluster
        there = cluster.machines[-1].place.datacentre
        left = sum(machine.place.datacentre == there for machine in cluster.machines) - 1
        fewest = 3 if cluster.options.datacentres == 1 else 1
        return left >= max(fewest, cluster.options.replication)

    def _factors(self, state: State) -> tuple[str, int, int]:
        """The keyspace with most tables, how many replicas it has in a datacentre, and how many are next."""
        tables = state.tables.values()
        name = max(state.keyspaces, key=lambda each: sum(t.keyspace == each for t in tables))
        now = max(n for _, n in state.keyspaces[name].replication.factors)
        return name, now, 1 if now > 1 else self.cluster.options.replication

    def _replicate(self, node: Node, wanted: int) -> BeginMove:
        """RF 3 to 1, or back."""
        state = node.metadata.state
        name, _, _ = self._factors(state)
        factors = tuple((datacentre, wanted) for datacentre, _ in state.keyspaces[name].replication.factors)
        return move_plans.replicate(state, name, Replication(NETWORK_TOPOLOGY, factors))

    def _switch_off(self, index: int) -> None:
        """It stays on the list, as faults may be under way that speak of it; the next newcomer is put
        there.
        """
        assert index == len(self.cluster.machines) - 1
        self.cluster.kill(index)
        self.retired = index

    def end(self) -> None:
        """Take away who was removed last."""
        if self.retired >= 0:
            self.cluster.kill(self.retired)
            self.cluster.machines.pop()
            self.retired = -1

    def _go_on(self, node: Node) -> None:
        assert self._plan is not None
        state, now_us = node.metadata.state, self.cluster.now_us
        ended = state.last_move.id if state.last_move is not None else 0
        if state.move is not None:
            if state.move.phase != self._phase:
                self._phase = state.move.phase
                self._ask_for_a_second(node)
                self._maybe_kill(node)
            return
        if ended > self._before:
            self._before = ended
            self._maybe_kill(node)
            self.done.append(self._kind)
            if self._after is not None:
                self._after()
            self._plan = None
            self._next_us = now_us + self.random.randrange(1, 4 * SECOND)
        elif now_us >= self._asked_us + 2 * SECOND:
            self._ask(node, now_us)

    def _ask(self, node: Node, now_us: int) -> None:
        assert self._plan is not None
        self._asked_us = now_us
        try:
            begin = self._plan(node)
        except PlanError:
            return
        if begin is None or not self._may_begin(node, begin):
            return
        index = next(m.index for m in self.cluster.machines if m.peer == node.inside.identity.peer)
        self.cluster.request(index, MetadataRequest(begin), 5 * SECOND, lambda _: None)
        name = self._rivals.choice(node.metadata.state.members).name
        self._rival = move_plans.move(node.metadata.state, name, self.cluster.options.settings.num_tokens)

    def _ask_for_a_second(self, node: Node) -> None:
        """A move that overlaps the one under way, which has to be refused."""
        state, rival = node.metadata.state, self._rival
        if rival is None or not self._is_toured:
            return
        phase = self._phase

        def told(reply: Reply) -> None:
            if isinstance(reply.answer, Changed) and not reply.answer.code:
                self.overlaps.append(f"{rival.kind} was begun in epoch {reply.answer.epoch}, while {phase}")

        index = next(m.index for m in self.cluster.machines if m.peer == node.inside.identity.peer)
        again = msgspec.structs.replace(rival, base=state.moved_epoch)
        self.cluster.request(index, MetadataRequest(again), 5 * SECOND, told)

    def _may_begin(self, node: Node, begin: BeginMove) -> bool:
        """Whether who is given ranges has deleted what it gave up before."""
        last = node.metadata.state.last_move
        nodes = {m.peer: m.index for m in self.cluster.machines}
        for peer in move_plans.targets(node.metadata.state, begin):
            if peer not in nodes or self.cluster.machines[nodes[peer]].process is None:
                return False
            told = node_of(self.cluster, nodes[peer]).moving.tell(0)
            if last is not None and told.cleaned < last.since:
                return False
        return True

    def _maybe_kill(self, node: Node) -> None:
        phase = self._phase if node.metadata.state.move is not None else FINISH
        likely = max(self.kill, 0.7) if f"a kill at {phase}" in self.missed else self.kill
        if not self._running or self.random.random() >= likely:
            return
        victim = self.random.randrange(len(self.cluster.machines))
        if self._after is not None and victim == len(self.cluster.machines) - 1:
            return
        if self.cluster.machines[victim].process is None:
            return
        self.kills[phase] = self.kills.get(phase, 0) + 1
        self.cluster.kill(victim)
        self.cluster.scheduler.after(self.random.randrange(1, 3 * SECOND), self._back, victim)

    def _back(self, index: int) -> None:
        if index < len(self.cluster.machines):
            self.cluster.start(index)

    def abort(self) -> None:
        """Ask for the end of what has not been handed over yet."""
        node = self._best()
        if node is not None and node.metadata.state.move is not None:
            move = node.metadata.state.move
            if move.phase == PREPARE:
                index = next(m.index for m in self.cluster.machines if m.peer == node.inside.identity.peer)
                change = StepMove(move.id, "aborted")
                self.cluster.request(index, MetadataRequest(change), 5 * SECOND, lambda _: None)


class ChurnNemesis(Nemesis):
    """All faults, and churn beside them."""

    churn: Churn

    def last(self, duration_us: int) -> None:
        """As Nemesis; and until what the churn has to see is seen."""
        super().last(duration_us)
        self.cluster.run_until(lambda: not self.churn.missed or bool(self.churn.overlaps), TOUR_US)

    def start(self, duration_us: int, **more: Any) -> None:
        """As Nemesis."""
        self.churn.start()
        super().start(duration_us, **more)

    def begin(self, name: str) -> Undo:
        """As Nemesis; but a replaced peer's rows and bits of another one are not lost at the same time."""
        self.spared = self.churn.lacks_a_copy
        return super().begin(name)

    def heal(self) -> None:
        """As Nemesis; and what moves comes to its end."""
        super().heal()
        self.churn.stop()
        # Who is removed stays until all it owes has arrived, so nothing may be lost for ever on purpose.
        self.cluster.network.drop = None
        self.cluster.run_until(lambda: self.churn.idle, SETTLE_US)
        self.churn.end()


class ChurnRun(Run):
    """A run of any workload with churn."""

    def churn(self, kinds: tuple[str, ...], kill: float = 0.3) -> Churn:
        """Have peers come and go in this run."""
        nemesis = ChurnNemesis(self.cluster, self._ready)
        nemesis.churn = Churn(self.cluster, kinds, kill)
        self.nemesis = nemesis
        return nemesis.churn

    def convergence(self) -> list[Problem]:
        """As Run; and moves have ended, and nobody holds what it gave up."""
        assert isinstance(self.nemesis, ChurnNemesis)
        overlaps = self.nemesis.churn.overlaps
        if overlaps:
            return [Problem("overlapped", f"two moves at once: {overlaps}")]
        if not self.nemesis.churn.idle:
            states = [node_of(self.cluster, i).metadata.state for i in self.cluster.running()]
            moves = [(s.epoch, s.move.phase if s.move else "-") for s in states]
            told = [
                {str(state_name(self.cluster, p)): t for p, t in node_of(self.cluster, i).moving.told.items()}
                for i in self.cluster.running()
            ]
            return [Problem("stuck", f"a move does not end: {moves} {told}")]
        left = owed(self.cluster)
        while left:
            self.cluster.run_until(lambda: not owed(self.cluster), OWED_US)
            before, left = left, owed(self.cluster)
            if left > before // 2:
                break  # it does not arrive
        problems = super().convergence()
        if problems:
            return problems
        self.cluster.run_until(lambda: not foreign_rows(self.cluster), CLEAN_US)
        return foreign_rows(self.cluster)


CHURN = "+churn"
"""What the name of a workload ends in that is run with churn."""


class ChurnShape(NamedTuple):
    """What a seed draws besides the options of the run."""

    options: Options
    kinds: tuple[str, ...]
    kill: float


def shape_of(seed: int, workload: str) -> ChurnShape:
    """The options with one datacentre or two, the kinds of moves, and how likely a kill is at each phase."""
    draw = Random(f"{seed}:options:churn")
    options = options_of(seed, workload)
    factor = draw.choice((0, 0, 0, 2, 3))
    if factor and options.datacentres == 1:
        options = msgspec.structs.replace(options, **TWO_DATACENTRES | {"replication": factor})
    kinds = tuple(kind for kind in KINDS if draw.random() < 0.5) or KINDS
    if "remove" in kinds and "add" not in kinds:
        kinds = ("add", *kinds)  # who was removed comes back, and the next can be
    if workload.removesuffix(CHURN) in LONE:
        kinds = tuple(kind for kind in kinds if kind not in REPLACING) or ("add",)
    return ChurnShape(options, kinds, draw.choice((0.3, 0.5, 0.7)))


def run_with_churn(seed: int, workload: str, seconds: int = 60, trace: bool = False) -> Verdict:
    """One seed of `NAME+churn`."""
    shape = shape_of(seed, workload.removesuffix(CHURN))
    began = time.process_time()
    this = ChurnRun(shape.options, workload.removesuffix(CHURN), RealSoftware(), trace)
    churn = this.churn(shape.kinds, shape.kill)
    if workload.removesuffix(CHURN) in LONE:
        churn.sights = tuple(kind for kind in churn.sights if kind not in REPLACING)
    churn.plan_tour()
    problems = this.go(seconds * SECOND)
    verdict = verdict_of_run(this, problems, seconds, time.process_time() - began)
    moves = {kind: churn.done.count(kind) for kind in sorted(churn.done)}
    kills = {phase: churn.kills[phase] for phase in PHASES if phase in churn.kills}
    return msgspec.structs.replace(
        verdict,
        workload=workload,
        options=f"{verdict.options} kinds={','.join(shape.kinds)}",
        moves=moves,
        phase_kills=kills,
        missed=churn.missed,
    )


def owed(cluster: SimCluster) -> int:
    """How many hints are kept for peers that are no members any more."""
    found = 0
    for index in cluster.running():
        node = node_of(cluster, index)
        members = [member.peer for member in node.metadata.state.members]
        former = [peer for peer, _ in node.metadata.state.former if peer not in members]
        found += sum(node.hints.pending(peer) for peer in former)
    return found


def state_name(cluster: SimCluster, peer: bytes) -> str:
    """The name of the machine of a peer."""
    return next((m.place.name for m in cluster.machines if m.peer == peer), peer.hex()[:6])


def foreign_rows(cluster: SimCluster) -> list[Problem]:
    """Rows that machines hold and do not own."""
    problems = []
    for index in cluster.running():
        machine = cluster.machines[index]
        state = node_of(cluster, index).metadata.state
        for table in state.tables:
            placement = state.placement(table)
            assert placement is not None
            for first, last in complement(placement.common_ranges(machine.peer, machine.peer)):
                held = machine.engine.keys(*keys.token_range_bounds(table, first, last))
                if held:
                    text = (
                        f"{machine.place.name} holds {len(held)} rows of table {table} that are not its own"
                    )
                    problems.append(Problem("foreign", text))
    return problems
