"""The language of golden scripts: commands in, what they say out.

A script is a text of `# comments`, commands (lines that begin with `> `) and their output below each. It
plays on a simulated cluster of whole nodes on which nothing goes wrong but what the script says: one
millisecond between peers, no loss, exact clocks. Peers are named n1, n2, ...

    start 3 rf=3 seed=5 hints=off follow=off trees=off     machines, processes, until all serve
    machines 3 ...                                         the same, but nothing runs yet
    boot n1 n2           start processes, wait for nothing
    restart n2           start a process and say whether it serves, or why not
    crash n1             kill -9                     power-cut n1 | all   what was not synced is lost
    wipe n3              kill, and empty its disk
    cut n1 | n2 n3       nobody hears across          lose KIND [to n3]    such messages are lost
    heal                 ends cuts and losses         skew n1 +5s          its clock is ahead (or behind)
    hold-syncs n1        its syncs take an hour       run 2s               time passes
    create BUCKET [at n1]
    put n1 BUCKET KEY VALUE LEVEL       delete n1 BUCKET KEY LEVEL      get n1 BUCKET KEY LEVEL
    rows BUCKET KEY      what each disk holds         status n1            what a peer knows of all
    hints n1             how many it owes to whom     log n1               kinds of entries in its log
    down n3 at n1        wait until n1 thinks so
    equal                wait until replicas are      counts NAME ...      metrics, since they were last asked
    messages on | off    show what arrives (without the background's chatter) while commands are at work
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.consistency import Level
from core.healing_messages import TreeAnswer, TreeAsk
from core.messages import Fetch, Fetched, Follow, Followed, Message, Ping, PingAck, PingNack, PingRequest
from core.mutation import DELETE
from core.requests import (
    Broken,
    Changed,
    Invalid,
    Overloaded,
    ReadRequest,
    RowsRead,
    Timeout,
    Unavailable,
    Unready,
    WriteRequest,
    Written,
)
from core.row import decode_row
from jepsen_like import convergence
from jepsen_like.scenarios import Scenario
from kv import buckets, operations
from kv.buckets import BucketSpec
from lsm import keys
from lsm.log import EVENT, REPAIRED, SUPERSEDED
from sim.clock import EPOCH_US
from sim.cluster import Reply
from sim.world import SimWorld

BACKGROUND = (
    Ping,
    PingAck,
    PingNack,
    PingRequest,
    Follow,
    Followed,
    Fetch,
    Fetched,
    TreeAsk,
    TreeAnswer,
)
HOUR_US = 3_600_000_000
OFF: dict[str, dict[str, Any]] = {
    "hints": {"hints": False},
    "follow": {"follow_idle_us": HOUR_US, "follow_pause_us": HOUR_US},
    "trees": {"anti_entropy_pause_us": HOUR_US},
}
AT_ONCE_US = 50_000
NOTICED_US = 10_000
"""Stamps that differ by less from the time at which a write began say nothing."""


def play(script: str) -> str:
    """The script with its commands' output as it is now."""
    player = Player()
    lines: list[str] = []
    for line in script.splitlines():
        if line.startswith("> "):
            lines.append(line)
            lines += player.do(line[2:])
        elif not line.strip() or line.startswith("#"):
            lines.append(line)
    text = "\n".join(lines).strip() + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


class Player:
    """One script's cluster."""

    def __init__(self) -> None:
        self.s = Scenario()
        self._messages: list[tuple[str, str, str]] = []
        self._showing = False
        self._counted: dict[str, float] = {}

    def do(self, command: str) -> list[str]:
        """Execute a command; returns its output."""
        name, *words = command.split()
        action: Callable[..., list[str]] | None = getattr(self, "do_" + name.replace("-", "_"), None)
        assert action is not None, f"no such command: {command}"
        self._messages.clear()
        said = action(*words)
        return [*_compact(self._messages), *said]

    # --- machines

    def do_machines(self, peers: str, *words: str) -> list[str]:
        """A new cluster; nothing runs."""
        settings: dict[str, Any] = {}
        named = dict(word.split("=") for word in words)
        seed = int(named.pop("seed", "1"))
        if "rf" in named:
            settings["replication_factor"] = int(named.pop("rf"))
        for name, value in named.items():
            assert value == "off", f"{name} can be off"
            settings |= OFF[name]
        self.s = Scenario(int(peers), seed, settings)
        watch = self.s.cluster.network.watch
        assert watch is not None

        def watched(world: SimWorld, source: bytes, message: Message) -> None:
            watch(world, source, message)
            if self._showing and not isinstance(message, BACKGROUND):
                self._messages.append((self._name(source), world.identity.name, type(message).__name__))

        self.s.cluster.network.watch = watched
        return []

    def do_start(self, peers: str, *words: str) -> list[str]:
        """A new cluster, until all serve."""
        self.do_machines(peers, *words)
        self.s.start()
        return [f"{' '.join(self._names())} serve, epoch {self.s.state(0).epoch}"]

    def do_boot(self, *names: str) -> list[str]:
        """Start processes."""
        for peer in self._peers(names):
            self.s.cluster.start(peer)
        return []

    def do_restart(self, name: str) -> list[str]:
        """Start a process, wait for its verdict on itself."""
        peer = _peer(name)
        self.s.cluster.start(peer)
        node = self.s.node(peer)
        self.s.until(lambda: bool(node.ready()[0] or node.identity.refused), 10)
        ready, why = node.ready()
        if ready:
            self.s.until(lambda: all(self.s.sees_all(other) for other in self.s.cluster.running()), 10)
        return [f"{name} serves" if ready else f"{name} does not serve: {why}"]

    def do_crash(self, *names: str) -> list[str]:
        """Kill -9."""
        self.s.kill(*self._peers(names))
        return []

    def do_power_cut(self, *names: str) -> list[str]:
        """Lose what is not synced, to the last batch."""
        lost = 0
        for peer in self._peers(names):
            lost += self.s.cluster.machines[peer].engine.unsynced()
            self.s.power_cut(peer)
        return [f"{lost} batches were not synced" if lost else "everything was synced"]

    def do_wipe(self, *names: str) -> list[str]:
        """An empty directory."""
        self.s.wipe(*self._peers(names))
        return []

    def do_cut(self, *names: str) -> list[str]:
        """Two groups, parted by a bar."""
        bar = names.index("|")
        self.s.cut(self._peers(names[:bar]), self._peers(names[bar + 1 :]))
        return []

    def do_lose(self, kind: str, *to: str) -> list[str]:
        """Messages of a kind are lost."""
        targets = self._peers(to[1:]) if to else self._peers(("all",))
        self.s.lose(lambda _, target, message: type(message).__name__ == kind and target in targets)
        return []

    def do_heal(self) -> list[str]:
        """Everything passes again, syncs are as they were."""
        self.s.heal()
        return []

    def do_hold_syncs(self, *names: str) -> list[str]:
        """From now on nothing becomes durable there."""
        for peer in self._peers(names):
            self.s.hold_syncs(peer)
        return []

    def do_skew(self, name: str, ahead: str) -> list[str]:
        """Set a clock."""
        self.s.set_clock(_peer(name), _seconds(ahead))
        return []

    def do_run(self, duration: str) -> list[str]:
        """Time passes."""
        self.s.run(_seconds(duration))
        return []

    def do_messages(self, what: str) -> list[str]:
        """Show them or not."""
        self._showing = what == "on"
        return []

    # --- clients

    def do_create(self, bucket: str, _: str = "at", name: str = "n1") -> list[str]:
        """A bucket, known everywhere it can be known."""
        peer = _peer(name)
        request = buckets.create_bucket(BucketSpec(bucket), self.s.state(peer).members)
        answer = self.s.ask(request, peer, 8).answer  # type: ignore[arg-type]
        if not isinstance(answer, Changed):
            return [_refusal(answer)]
        found = buckets.find(self.s.state(peer), bucket)
        assert found is not None
        self.s.buckets[bucket] = found
        running = self.s.cluster.running()
        self.s.until(lambda: all(found.table in self.s.state(p).tables for p in running), 2)
        return [f"created, epoch {answer.epoch}" if answer.code != "exists" else "exists"]

    def do_put(self, name: str, bucket: str, key: str, value: str, level: str) -> list[str]:
        """Write a key."""
        request = operations.put(
            self.s.buckets[bucket], key, value.encode(), "text/plain", Level[level.upper()]
        )
        assert isinstance(request, WriteRequest)
        return self._written(name, request)

    def do_delete(self, name: str, bucket: str, key: str, level: str) -> list[str]:
        """Delete a key."""
        request = operations.delete(self.s.buckets[bucket], key, Level[level.upper()])
        assert isinstance(request, WriteRequest) and request.operation == DELETE
        return self._written(name, request)

    def _written(self, name: str, request: WriteRequest) -> list[str]:
        began_us = self.s.cluster.now_us
        reply = self.s.ask(request, _peer(name), 10)
        answer = reply.answer
        if not isinstance(answer, Written):
            return [self._refused(began_us, reply)]
        ahead_us = answer.version[0] - EPOCH_US - began_us
        noticed = f", stamped {ahead_us / 1e6:+.1f} s from now" if abs(ahead_us) > NOTICED_US else ""
        return ["ok" + noticed]

    def do_get(self, name: str, bucket: str, key: str, level: str) -> list[str]:
        """Read a key."""
        request = operations.get(self.s.buckets[bucket], key, Level[level.upper()])
        assert isinstance(request, ReadRequest)
        began_us = self.s.cluster.now_us
        reply = self.s.ask(request, _peer(name), 10)
        if not isinstance(reply.answer, RowsRead):
            return [self._refused(began_us, reply)]
        value = operations.value_of(self.s.buckets[bucket], reply.answer)
        return ["nothing" if value is None else value.value.decode()]

    def _refused(self, began_us: int, reply: Reply) -> str:
        """Why not, and after how long."""
        if reply.refused:
            return "nobody runs there"
        took_us = self.s.cluster.now_us - began_us
        when = f"after {took_us / 1e6:.1f} s" if took_us > AT_ONCE_US else "at once"
        return f"{when}: {_refusal(reply.answer)}"

    # --- looking

    def do_rows(self, bucket: str, key: str) -> list[str]:
        """What each disk holds."""
        column = self.s.buckets[bucket].value_column
        said = []
        for machine in self.s.cluster.machines:
            rows = self.s.stored(machine.index, bucket)
            found = [data for at, data in rows.items() if keys.split_row_key(at)[2] == key.encode()]
            said.append(f"{machine.place.name}: {_shown(found[0], column) if found else '-'}")
        return ["   ".join(said)]

    def do_status(self, name: str) -> list[str]:
        """What a peer says of itself and the others."""
        status = self.s.node(_peer(name)).status()
        peers = " ".join(f"{peer['name']}:{peer['state']}" for peer in status["peers"])
        ready = "ready" if status["ready"] else f"not ready: {status['why_not']}"
        return [f"epoch {status['epoch']}, {ready}", *([peers] if peers else [])]

    def do_hints(self, name: str) -> list[str]:
        """Writes kept for others."""
        owed = self.s.node(_peer(name)).admin.hints()["hints"]
        return [" ".join(f"{peer}:{count}" for peer, count in owed.items() if count) or "none"]

    def do_log(self, name: str) -> list[str]:
        """What kinds of entries a peer's log holds."""
        process = self.s.cluster.machines[_peer(name)].process
        assert process is not None, f"{name} does not run"
        kinds = [entry.kind for _, entry in process.disk.executor.store.log.entries(0, 10_000)]
        named = (("events", EVENT), ("superseded", SUPERSEDED), ("repaired", REPAIRED))
        return ["   ".join(f"{word}: {kinds.count(kind)}" for word, kind in named)]

    def do_counts(self, *names: str) -> list[str]:
        """Metrics over all peers since they were asked for the last time."""
        said = []
        for name in names:
            now = self.s.cluster.events.get(name, 0)
            said.append(f"{name} {now - self._counted.get(name, 0):g}")
            self._counted[name] = now
        return said

    def do_down(self, name: str, _: str, at: str) -> list[str]:
        """Wait until a peer is taken for dead."""
        node = self.s.node(_peer(at))
        member = node.metadata.state.by_name(name)
        assert member is not None
        assert self.s.until(lambda: not node.swim.is_alive(member.peer)), "never"
        return []

    def do_equal(self) -> list[str]:
        """Wait until all replicas hold the same."""
        if self.s.equal_within(60):
            return ["all replicas are equal"]
        return [f"not within a minute: {problem.text}" for problem in convergence.differences(self.s.cluster)]

    # --- names

    def _names(self) -> list[str]:
        return [machine.place.name for machine in self.s.cluster.machines]

    def _name(self, peer: bytes) -> str:
        return next(m.place.name for m in self.s.cluster.machines if m.peer == peer)

    def _peers(self, names: tuple[str, ...]) -> list[int]:
        return [_peer(name) for name in (self._names() if names == ("all",) else names)]


def _peer(name: str) -> int:
    return int(name.removeprefix("n")) - 1


def _seconds(text: str) -> float:
    number = float(text.rstrip("ms"))
    return number / 1000 if text.endswith("ms") else number


def _shown(data: bytes, column: int) -> str:
    row = decode_row(data)
    value = next((cell.value for cell in row.cells if cell.column == column), None)
    return "tombstone" if value is None else value.decode()


def _refusal(answer: Any) -> str:
    match answer:
        case Unavailable(required=required, alive=alive):
            return f"unavailable, {required} replicas needed, {alive} alive"
        case Timeout(received=received, required=required, write=write):
            outcome = "outcome unknown" if write else "timeout"
            return f"{outcome}, {received} of {required} answered"
        case Broken(detail=detail, unknown=unknown):
            return f"{'outcome unknown' if unknown else 'failed'}, {detail}"
        case Unready(detail=detail):
            return f"not ready, {detail}"
        case Overloaded(detail=detail):
            return f"overloaded, {detail}"
        case Invalid(code=code):
            return f"invalid: {code}"
        case None:
            return "outcome unknown, no answer"
        case _:
            raise AssertionError(answer)


def _compact(messages: list[tuple[str, str, str]]) -> list[str]:
    """One line for messages of a kind that one peer sent, or that one peer got, in a row."""
    said: list[tuple[list[str], list[str], str]] = []
    for source, target, kind in messages:
        if said and said[-1][2] == kind:
            sources, targets, _ = said[-1]
            if sources == [source]:
                targets.append(target)
                continue
            if targets == [target]:
                sources.append(source)
                continue
        said.append(([source], [target], kind))
    return [f"  {' '.join(a)} -> {' '.join(b)}  {kind}" for a, b, kind in said]
