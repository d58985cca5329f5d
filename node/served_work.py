"""What serving a read by predicate and serving a gather have in common: wait, follow, look, say how it ended.

Work is begun only when the index that it goes by is built here, and the siblings named have been followed to
the ends that their logs had after the question came. What the store finds damaged is mended, whoever asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from core.commands import Candidates, EntriesDamaged, Failed, Find, Outcome, Why
from core.errors import unforeseen
from core.messages import FindSlice, Gather, Message, OperationFailed
from core.ports import PeerId
from node.serving import unless_moved

if TYPE_CHECKING:
    from core.schema import Table
    from index.entries import Compiled, Indexed
    from node.following import Following
    from node.index_building import IndexBuilding
    from node.inside import Inside
    from node.metadata import Metadata

NOT_FOLLOWED: Final = "not_followed"
BUILDING: Final = "index_building"

Answer = Callable[[Message], None]


class Serving:
    """Serves coordinators, this peer's own among them; `runs` are what it does now, by number."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        following: Following,
        building: IndexBuilding,
        indexed: Indexed,
    ) -> None:
        self.inside = inside
        self.metadata = metadata
        self.following = following
        self.building = building
        self.indexed = indexed
        self.runs: dict[int, Any] = {}

    def index_of(self, table: Table, index: int) -> Compiled | None:
        """The index of this id (0: none); raises ValueError for one that this peer does not understand."""
        if not index:
            return None
        found = next((one for one in self.indexed.of(table) if one.id == index), None)
        if found is None:
            raise ValueError("this peer does not know the index, or not how to read it")
        return found

    def begin(self, run: Work) -> None:
        """Have it run."""
        self.runs[run.number] = run
        self.step(run, run.start)

    def on_candidates(self, outcome: Outcome, number: int) -> None:
        """What the store says to a run that may be over."""
        run = self.runs.get(number)
        if run is not None:
            self.step(run, run.on_candidates, outcome)

    def step(self, run: Work, step: Callable[..., None], *arguments: Any) -> None:
        """Have a run do something; a bug that it meets ends that run (node/inside.py)."""
        try:
            step(*arguments)
        except Exception as error:  # noqa: BLE001 - raised again, unless there is somebody to be told
            self.inside.tell_bug(type(run).__name__, error)
            run.fail(error)


class Work(ABC):
    """One piece of work. `index` is the one that it goes by, if it does."""

    def __init__(
        self, parent: Serving, message: FindSlice | Gather, index: Compiled | None, answer: Answer
    ) -> None:
        self.number = parent.inside.new_op()
        self._parent = parent
        self._index = index
        self._question = message
        self._answer = answer

    def start(self) -> None:
        """Wait for the index to be built, then follow."""
        if self._index is None:
            self._follow("")
        else:
            follow = partial(self._parent.step, self, self._follow)
            self._parent.building.when_built(self._index.id, self._until_us(), follow)

    def _until_us(self) -> int:
        return self._parent.inside.world.monotonic_us() + self._question.timeout_us

    def _follow(self, why_not: str) -> None:
        if why_not:
            self._end(OperationFailed(self._question.op, BUILDING, why_not))
        else:
            followed = partial(self._parent.step, self, self._followed)
            self._parent.following.follow_now(self._question.follow, followed, self._until_us())

    def _followed(self, reached: frozenset[PeerId]) -> None:
        missing = [peer.hex() for peer in self._question.follow if peer not in reached]
        if missing:
            self._end(OperationFailed(self._question.op, NOT_FOLLOWED, " ".join(missing)))
        else:
            self.look()

    @abstractmethod
    def look(self) -> None:
        """All is followed: look at the next rows, or answer."""

    def on_candidates(self, outcome: Outcome) -> None:
        """What the store found; what it could not read is mended, and told."""
        if isinstance(outcome, Candidates):
            self.take(outcome)
            return
        assert isinstance(outcome, Failed), outcome
        inside = self._parent.inside
        inside.count("replica_failures")
        self._have_mended(outcome, self.asked_of_store)
        detail = f"{inside.identity.name}: {outcome.detail}"
        self._end(OperationFailed(self._question.op, outcome.why, detail))

    @property
    @abstractmethod
    def asked_of_store(self) -> Find:
        """The last command."""

    @abstractmethod
    def take(self, found: Candidates) -> None:
        """Rows came."""

    def _have_mended(self, outcome: Failed, find: Find) -> None:
        """Entries that cannot be read are made anew, rows compared with the siblings'."""
        on_damage = self._parent.inside.on_damage
        if isinstance(outcome, EntriesDamaged):
            self._parent.building.rebuild(find.index)
        elif outcome.why is Why.CORRUPT and on_damage is not None:
            on_damage(find.table, find.first_token, find.last_token)

    def fail(self, error: Exception) -> None:
        """It met a bug."""
        if self.number in self._parent.runs:
            self._end(OperationFailed(self._question.op, Why.MALFORMED, unforeseen(error)))

    def _end(self, told: Message) -> None:
        self._parent.runs.pop(self.number, None)
        question = self._question
        self._answer(unless_moved(self._parent.metadata, question.op, question.epoch, told))
