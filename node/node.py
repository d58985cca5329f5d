"""A node: one peer's inside. It constructs the parts, wires them, and is a table of who handles what.

    on_request  -> writes.py (stamp, send, count)  -> on_stored / on_message -> reply
                   scans.py -> reads.py (slices, digests, repair)            -> reply
                   paxos.py (conditions, SERIAL reads)                       -> reply
                   metadata.py (schema changes)                              -> reply
                   admin.py (what operators ask)                             -> reply
    on_message  -> replica.py (serve a coordinator), swim.py, metadata.py, following.py, anti_entropy.py
                   answers to operations, by their number

It is given a World and is called by it (core/ports.py); it has no I/O, no clock, no entropy of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.bulk_messages import MutationsTold
from core.finding import FindRequest
from core.gathering import GatherRequest
from core.healing_messages import PaxosStateTold, RowsTold, TreeAnswer
from core.hlc import HybridClock
from core.lag import LagTold
from core.messages import (
    BatchStored,
    ChangesTold,
    CountersAdded,
    DigestRead,
    Fetched,
    Followed,
    GatherTold,
    Hello,
    Message,
    MutationApplied,
    OperationFailed,
    PaxosTold,
    Ping,
    PingAck,
    Refused,
    Searched,
    SliceFound,
    SliceRead,
    Stale,
)
from core.moving_messages import FloorsTold, MoveTold
from core.ports import Identity, InitialPeer, PeerId, World
from core.requests import (
    AdminRequest,
    Answer,
    BatchRequest,
    BulkRequest,
    ConditionalRequest,
    CounterRequest,
    MetadataRequest,
    ReadRequest,
    Request,
    RestoreRequest,
    ScanRequest,
    Unready,
    WriteRequest,
)
from core.searching import ExpandRequest, SearchRequest
from core.settings import Settings
from core.streaming import ChangesRequest, GroupRequest
from index.entries import Indexed
from node.admin import Admin
from node.admission import Admission
from node.anti_entropy import AntiEntropy
from node.batch_log import BatchLog
from node.batches import Batches
from node.bulk_writes import BulkWrites
from node.change_serving import ChangeServing
from node.changes_fence import ChangesFence
from node.compared import Compared
from node.counters import Counters
from node.expiring import Expiring
from node.expiry_events import ExpiryEvents
from node.find_serving import FindServing
from node.finds import Finds
from node.floors import FloorRounds
from node.following import Following
from node.gather_serving import GatherServing
from node.gathers import Gathers
from node.gone_tables import GoneTables
from node.group_lag import GroupLag
from node.group_records import GroupRecords
from node.groups import Groups
from node.hints import Hints
from node.index_building import IndexBuilding
from node.index_types import types_from
from node.inside import Inside
from node.mending import Mending
from node.metadata import Metadata
from node.moving import Moving
from node.moving_ring import HAND_OVER
from node.paxos import Paxos
from node.peer_epochs import PeerEpochs
from node.reads import Reads
from node.replica import Replica
from node.restoring import Restoring
from node.retention import Retention
from node.scans import Scans
from node.scrubbing import Scrubbing
from node.search_ports import IndexHost
from node.search_serving import SearchServing
from node.searches import Searches
from node.sessions import Sessions
from node.stamps import Stamps, ceiling_of
from node.subscriptions import Subscriptions
from node.swim import Swim
from node.tracing import Tracing
from node.unique_building import UniqueBuilding
from node.uniques import Uniques
from node.writes import Writes

if TYPE_CHECKING:
    from node.metadata_state import State

SETTLE_US = 1_000_000
"""How long a peer that starts again waits for word of the present epoch before it serves by what it knows."""

ANSWERS = (
    SliceRead,
    DigestRead,
    MutationApplied,
    MutationsTold,
    Stale,
    OperationFailed,
    BatchStored,
    CountersAdded,
    Followed,
    Fetched,
    TreeAnswer,
    RowsTold,
    PaxosStateTold,
    PaxosTold,
    Searched,
    SliceFound,
    GatherTold,
    ChangesTold,
    MoveTold,
    FloorsTold,
    LagTold,
)


class Node:
    """One peer. See core.ports.NodePort for what its World calls."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        *,
        initial: tuple[InitialPeer, ...],
        cluster_name: str,
        settings: Settings,
        boot: dict[bytes, bytes],
    ) -> None:
        """`boot` is all system records but hints that were durable when the store was opened."""
        clock = HybridClock(world.wall_us, ceiling_of(boot))
        self.inside = Inside(
            world, identity, cluster_name=cluster_name, initial=initial, settings=settings, clock=clock
        )
        self.metadata = Metadata(self.inside, boot)
        self.tracing = Tracing(self.inside, self.metadata)
        self.identity = self.metadata.identity
        self.swim = Swim(self.inside, self.metadata)
        self.metadata.set_alive(self.swim.is_alive)
        self.peer_epochs = PeerEpochs(self.inside, self.metadata, self.swim)
        self.stamps = Stamps(self.inside)
        self.hints = Hints(self.inside, self.metadata, self.swim)
        self.replica = Replica(self.inside, self.metadata)
        self._build_writing()
        self._build_reading(boot)
        self._build_background(boot)
        self.admission = Admission(settings)
        self.admin = Admin(self)
        self._stopping = False
        self._settling = False
        self._serves: State | None = None
        """The metadata under which clients are served: `ready` is asked again when there is newer."""
        self._register()

    def _build_writing(self) -> None:
        """What coordinates writes."""
        self.writes = Writes(self.inside, self.metadata, self.swim, self.hints, self.stamps)
        self.batch_log = BatchLog(self.inside, self.metadata, self.swim, self.writes)
        self.counters = Counters(self.inside, self.metadata, self.swim, self.writes, stamps=self.stamps)
        self.paxos = Paxos(self.inside, self.metadata, self.swim, self.hints, self.writes)
        self.batches = Batches(
            self.inside,
            self.metadata,
            self.swim,
            self.writes,
            stamps=self.stamps,
            log=self.batch_log,
            counters=self.counters,
            paxos=self.paxos,
        )
        self.restoring = Restoring(self.inside, self.metadata, self.swim, self.writes, self.stamps)

    def _build_reading(self, boot: dict[bytes, bytes]) -> None:
        """What coordinates and serves reads, of whatever kind."""
        self.reads = Reads(self.inside, self.metadata, self.swim)
        self.scans = Scans(self.reads, self.paxos)
        self.following = Following(self.inside, self.metadata, self.swim, boot)
        self.indexed = Indexed(types_from(lambda: self.metadata))
        self.building = IndexBuilding(self.inside, self.metadata, boot)
        self.uniques = Uniques(self.inside, self.metadata, self.paxos, self.indexed)
        self.bulk_writes = BulkWrites(self.writes, self.uniques)
        self.unique_building = UniqueBuilding(self.uniques, self.swim, self.scans)
        self.expiring = Expiring(self.unique_building, self.writes, self.building)
        serving = FindServing(self.inside, self.metadata, self.following, self.building, self.indexed)
        self.finds = Finds(self.reads, serving)
        self.searches: Searches | None = None
        self._start_indexes: Callable[[], None] | None = None
        gathering = GatherServing(self.inside, self.metadata, self.following, self.building, self.indexed)
        self.gathers = Gathers(self.reads, gathering)

    def _build_background(self, boot: dict[bytes, bytes]) -> None:
        """What keeps replicas equal, moves ranges, and serves the change stream."""
        self.anti_entropy = AntiEntropy(self.inside, self.metadata, self.swim, self.following)
        self.compared = Compared(self.inside, self.metadata, self.following, self.anti_entropy, boot)
        self.mending = Mending(self.inside, self.metadata, self.swim, self.anti_entropy, boot)
        self.mending.on_unmerged = self.compared.owe
        self.scrubbing = Scrubbing(self.inside)
        self.floors = FloorRounds(
            self.inside,
            self.metadata,
            self.swim,
            self.following,
            hints=self.hints,
            batch_log=self.batch_log,
            paxos=self.paxos,
            boot=boot,
        )
        self.floors.is_uncompared = self.compared.owes
        self.change_serving = ChangeServing(self.inside, self.metadata, self.following, boot)
        self.expiry_events = ExpiryEvents(self.inside, self.metadata, self.following)
        self.gone_tables = GoneTables(self.inside, self.metadata)
        self.changes_fence = ChangesFence(self.inside, self.metadata, self.peer_epochs)
        self.subscriptions = Subscriptions(self.reads, self.change_serving)
        records = GroupRecords(self.inside, self.metadata, self.writes, self.paxos, self.scans)
        lag = GroupLag(self.inside, self.metadata, self.swim)
        self.groups = Groups(self.metadata, self.subscriptions, records, lag)
        self.retention = Retention(self.inside, self.metadata, records.readers)
        self.moving = Moving(self.inside, self.metadata, self.swim, self.following, boot)
        self.moving.hints, self.moving.batch_log = self.hints, self.batch_log
        self.moving.mending = self.mending
        self.sessions = Sessions(self.inside, self.metadata, self.swim)
        self.inside.on_damage = self.anti_entropy.request

    def _register(self) -> None:
        """What the node itself handles: answers to operations, and the end of settling."""
        self.inside.on_timer("settled", self._settled)
        for kind in ANSWERS:
            self.inside.message_handlers[kind] = self.inside.contained(kind, self._on_answer)
        self.inside.message_handlers[Stale] = self._on_stale

    def search_by(self, host: IndexHost, start: Callable[[], None] | None = None) -> None:
        """Serve and coordinate searches, by these inverted indexes, which `start` when the node does."""
        if self.searches is not None:  # a test's own instead
            self.searches.serving.host = host
            return
        self._start_indexes = start
        self.bulk_writes.behind = host.behind
        serving = SearchServing(
            self.inside, self.metadata, self.following, host, self.mending.is_missing
        )
        self.searches = Searches(self.reads, serving)

    # --- connections

    def hello(self) -> Hello:
        """What we say first on a connection."""
        return self.identity.hello()

    def on_hello(self, hello: Hello) -> Refused | None:
        """Judge who wants to talk to us; None accepts."""
        return self.identity.on_hello(hello)

    def on_refused(self, who: str, refused: Refused) -> None:
        """Somebody (a name or an address) does not accept us."""
        self.identity.on_refused(who, refused)

    # --- what the world calls

    def on_start(self) -> None:
        """Begin: liveness, birth or catching up, the background parts."""
        for part in (self.metadata, self.swim, self.hints):
            part.start()
        self.batch_log.start()
        self.expiry_events.start()
        self.gone_tables.start()
        self.building.start()
        self.unique_building.start()
        self.expiring.start()
        if self._start_indexes is not None:
            self._start_indexes()
        self.moving.start()
        self.compared.start()
        background = (self.following, self.anti_entropy, self.retention, self.mending)
        for part in (*background, self.scrubbing, self.floors):  # type: ignore[assignment]
            part.start()
        if len(self.metadata.state.members) > 1:
            self._settling = True
            self.inside.timer(SETTLE_US, "settled")

    def _settled(self) -> None:
        """Nobody said so, but we have waited: serve by what we know, as the voters may be away for long."""
        self._settling = False

    def on_message(self, peer: PeerId, message: Message) -> None:
        """A message from a peer whose hello was accepted; a node that was refused for good takes no part."""
        if self.identity.refused and not self.identity.joining:
            return
        self.inside.message_handlers[type(message)](peer, message)
        if self._settling and isinstance(message, Ping | PingAck):
            self._settling = message.epoch > self.metadata.state.epoch

    def _on_answer(self, peer: PeerId, message: Any) -> None:
        if self.inside.traces:
            self.tracing.answered(peer, message)
        operation = self.inside.operations.get(message.op)
        if operation is not None:
            operation.on_message(peer, message)

    def _on_stale(self, peer: PeerId, message: Stale) -> None:
        self.metadata.adopt(message.epochs, peer)
        self._on_answer(peer, message)

    def on_peer(self, peer: PeerId, connected: bool) -> None:
        """A connection is up or gone."""
        for listener in self.inside.peer_listeners:
            listener(peer, connected)

    def on_timer(self, timer: tuple[Any, ...]) -> None:
        """A timer fired."""
        self.inside.timer_fired(timer)

    def on_stored(self, ticket: tuple[Any, ...], outcome: Any) -> None:
        """The store has done something, durably."""
        self.inside.stored(ticket, outcome)

    def on_done(self, ticket: tuple[Any, ...], result: Any) -> None:
        """A job is done."""
        self.inside.job_done(ticket, result)

    def on_request(self, request_id: int, request: Request, deadline_us: int) -> None:
        """A client asks."""
        reply = self.inside.world.reply
        if self._stopping or self._settling or self.metadata.state is not self._serves:
            ready, why = self.ready()
            if not ready and not isinstance(request, AdminRequest):
                reply(request_id, Unready(why), True)
                return
            self._serves = self.metadata.state if ready else None
        elif self.identity.refused and not isinstance(request, AdminRequest):
            reply(request_id, Unready(self.identity.refused), True)
            return
        overloaded = self.admission.enter(request_id, request)
        if overloaded is not None:
            self.inside.count("requests_shed")
            reply(request_id, overloaded, True)
            return

        def answer(value: Answer, last: bool = True) -> None:
            if last and not self.admission.leave(request_id):
                return  # abandoned
            reply(request_id, value, last)

        if self.uniques.concern(request):
            self.uniques.begin(request, deadline_us, answer)
        elif isinstance(request, WriteRequest):
            self.writes.begin(request, deadline_us, answer)
        elif isinstance(request, BulkRequest):
            self.bulk_writes.begin(request, deadline_us, answer)
        elif isinstance(request, BatchRequest):
            self.batches.begin(request, deadline_us, answer)
        elif isinstance(request, RestoreRequest):
            self.restoring.begin(request, deadline_us, answer)
        elif isinstance(request, CounterRequest):
            self.counters.begin(request, deadline_us, answer)
        elif isinstance(request, ConditionalRequest):
            self.paxos.begin(request, deadline_us, answer)
        elif isinstance(request, ReadRequest):
            self.scans.read(request, deadline_us, answer)
        elif isinstance(request, ScanRequest):
            self.scans.scan(request_id, request, deadline_us, answer)
        elif isinstance(request, FindRequest):
            self.finds.begin(request, deadline_us, answer)
        elif isinstance(request, GatherRequest):
            self.gathers.begin(request_id, request, deadline_us, answer)
        elif isinstance(request, SearchRequest | ExpandRequest):
            assert self.searches is not None, "a peer without inverted indexes"
            self.searches.serve(request, deadline_us, answer)
        elif isinstance(request, ChangesRequest):
            readers = self.subscriptions if request.join is None else self.groups
            readers.begin(request_id, request, answer)
        elif isinstance(request, GroupRequest):
            self.groups.ask(request, answer)
        elif isinstance(request, MetadataRequest):
            if not self.admin.moving.alter(request.change, answer):
                self.changes_fence.change(request.change, answer, deadline_us)
        else:
            self.admin.begin(request, answer)

    def on_want(self, request_id: int, parts: int) -> None:
        """The client takes more parts."""
        self.scans.want(request_id, parts)
        self.subscriptions.want(request_id, parts)
        self.groups.want(request_id, parts)

    def on_cancel(self, request_id: int) -> None:
        """The client is gone: its answer is not sent; what was begun goes on."""
        self.scans.cancel(request_id)
        self.gathers.cancel(request_id)
        self.subscriptions.cancel(request_id)
        self.groups.cancel(request_id)
        self.admission.leave(request_id)

    def on_stop(self) -> None:
        """The process ends: requests are refused from now on."""
        self._stopping = True

    # --- what the outside may look at

    def ready(self) -> tuple[bool, str]:
        """Whether clients are served, and if not, why."""
        if self._stopping:
            return False, "this peer is stopping: use another"
        if self.identity.refused:
            return False, self.identity.refused
        if self._settling:
            return False, "this peer has just started and asks what it missed: try again in a second"
        if self.metadata.unready and self.metadata.born:
            return False, self.metadata.unready
        move = self.metadata.state.move
        if move is not None and move.phase == HAND_OVER and self.inside.identity.peer in move.remove:
            return False, "this peer is being removed from the cluster: use another"
        if not self.metadata.born and not self.identity.joining:
            return False, "there is no cluster yet: all its initial voters have to be up once"
        return (True, "") if self.metadata.born else (False, self.metadata.unready)

    def owns(self, table: int, token: int) -> bool:
        """Whether this peer is written to at a token; while nothing ever moved it is not asked twice."""
        state = self.metadata.state
        if state.moved_epoch <= 1:
            return True
        return self.moving.may_hold(table, token)

    def status(self) -> dict[str, Any]:
        """What this node knows of itself and the others, JSON-able."""
        return self.admin.status()
