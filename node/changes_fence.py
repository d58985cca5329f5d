"""When `changes` of a table is switched on: what is written after that has its events, with exact images.

A replica that has not adopted the new epoch logs a write without images, and a coordinator that has not
adopted it does not know better. Two rules see to it that no write is acknowledged at a quorum by such
replicas alone, once the change of the schema is acknowledged:

    the change is answered when of each range a quorum of the replicas in each datacentre has adopted it; so
    of those who acknowledge a write one refuses a coordinator that is behind, and has it adopt the epoch
    a write that was planned under other `changes`, and refused for that, is stamped again (node/writes.py):
    who had taken it before it adopted the epoch logs it a second time, as it then must be

If a quorum cannot be reached, the change is decided all the same, and the answer says that it is. Who asks
once more waits for the same, though nothing changes any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.metadata import AlterTable, Change
from core.requests import Answer, Changed, Unready

if TYPE_CHECKING:
    from core.schema import Table
    from node.inside import Inside
    from node.metadata import Metadata
    from node.peer_epochs import PeerEpochs

AGAIN_US = 50_000

Reply = Callable[[Answer], None]


class ChangesFence:
    """Has changes of the schema decided, and some of them waited for."""

    def __init__(self, inside: Inside, metadata: Metadata, epochs: PeerEpochs) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._epochs = epochs
        self._waiting: dict[int, tuple[AlterTable, Changed, int, Reply]] = {}
        inside.on_timer("changes_fence", self._look)

    def change(self, change: Change, reply: Reply, deadline_us: int) -> None:
        """As Metadata.change; `reply` is called once."""
        if not isinstance(change, AlterTable) or not self._is_fenced(change):
            self._metadata.change(change, reply, deadline_us)
            return

        def decided(answer: Changed | Unready) -> None:
            if isinstance(answer, Unready) or answer.error:
                reply(answer)
                return
            number = self._inside.new_op()
            self._waiting[number] = change, answer, deadline_us, reply
            self._look(number)

        self._metadata.change(change, decided, deadline_us)

    def _table(self, change: AlterTable) -> Table | None:
        return self._metadata.state.table(change.keyspace, change.name)

    def _is_fenced(self, change: AlterTable) -> bool:
        """Whether it asks for changes; they may be on already, and who asks not know it."""
        if self._table(change) is None or (change.only and "changes" not in change.only):
            return False
        return change.options.changes != "none"

    def _look(self, number: int) -> None:
        self._epochs.ask(lambda _: self._judge(number))

    def _judge(self, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is None:
            return
        change, changed, deadline_us, reply = waiting
        table = self._table(change)
        if table is None or self._is_adopted(table.id, changed.epoch):
            del self._waiting[number]
            reply(changed)
        elif self._inside.world.monotonic_us() + 2 * AGAIN_US >= deadline_us:
            del self._waiting[number]
            name = f"{change.keyspace}.{change.name}"
            reply(
                Unready(
                    f"the changes of {name} are switched on, but not every quorum of its replicas knows yet: "
                    "what is written until they do may be in the stream without images"
                )
            )
        else:
            self._inside.timer(AGAIN_US, "changes_fence", number)

    def _is_adopted(self, table: int, epoch: int) -> bool:
        """Whether of each range a quorum of the replicas in each datacentre is known to be there."""
        state, me = self._metadata.state, self._inside.identity.peer
        placement = state.placement(table)
        if placement is None:
            return True
        where = {member.peer: member.datacentre for member in state.members}
        for replicas in dict.fromkeys(tuple(sorted(peers)) for _, peers in placement.ranges()):
            sizes: dict[str, int] = {}
            adopted: dict[str, int] = {}
            for peer in replicas:
                place = where.get(peer, "")
                sizes[place] = sizes.get(place, 0) + 1
                if (state.epoch if peer == me else self._epochs.known.get(peer, 0)) >= epoch:
                    adopted[place] = adopted.get(place, 0) + 1
            if any(adopted.get(place, 0) <= size // 2 for place, size in sizes.items()):
                return False
        return True
