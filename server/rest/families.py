"""Buckets and collections as REST has them: found by name, made on first use, altered, dropped.

What there is is looked up in this node's metadata, once per epoch and name; who wants the same new one at
the same time shares one schema change.
"""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

from core.families import DEFAULT_FACTOR, Family, FamilyTable, TableSpec
from core.requests import Changed, Invalid, MetadataRequest
from node.metadata_state import State
from node.node import Node
from server.bridge import Bridge
from server.rest.problems import ProblemError, invalid, problem_of

METADATA_TIMEOUT_US: Final = 10_000_000

T = TypeVar("T", bound=FamilyTable)
Spec = TypeVar("Spec", bound=TableSpec)


class RestFamily(Generic[T, Spec]):
    """The tables of one family, as this node's metadata has them."""

    made_by: str
    """What makes one that is not there."""

    def __init__(self, node: Node, bridge: Bridge, family: Family[T]) -> None:
        self._node = node
        self._bridge = bridge
        self._family = family
        self._state: State | None = None
        self._found: dict[str, T] = {}
        self._creating: dict[str, asyncio.Task[T]] = {}

    # --- what each family says

    def spec(self, name: str) -> Spec:
        """What one is to be that is made on first use."""
        raise NotImplementedError

    def creation(self, spec: Spec, default_factor: int) -> MetadataRequest | Invalid:
        """The schema change that makes one."""
        raise NotImplementedError

    def conflict(self, there: T, spec: Spec) -> Invalid | None:
        """Why one that is there cannot become so."""
        return self._family.conflict(there, spec)

    # --- finding

    def find(self, name: str) -> T | None:
        """The one of this name, or None."""
        state = self._node.metadata.state
        if state is not self._state:
            self._state = state
            self._found = {}
        try:
            return self._found[name]
        except KeyError:
            found = self._family.find(state, name)
            if found is not None:  # names that are not there are the client's to invent
                self._found[name] = found
            return found

    def known(self, name: str) -> T:
        """The one of this name, or a ProblemError."""
        found = self.find(name)
        if found is None:
            problem = self._family.check_name(name)
            if problem is not None:
                raise invalid(problem)
            self.must_serve()
            what = self._family.what
            raise ProblemError(f"no-such-{what}", f"there is no {what} {name}; {self.made_by} makes it")
        return found

    def every(self) -> list[T]:
        """All, by name."""
        self.must_serve()
        return list(self._family.every(self._node.metadata.state))

    def must_serve(self) -> None:
        """Who is not ready does not know what there is."""
        ready, why = self._node.ready()
        if not ready:
            raise ProblemError("not-ready", why)

    # --- making, altering, dropping

    async def used(self, name: str) -> T:
        """The one of this name, made with the defaults if it is not there."""
        found = self.find(name)
        if found is not None:
            return found
        task = self._creating.get(name)
        if task is None:
            task = self._creating[name] = asyncio.ensure_future(self._first_use(name))
            task.add_done_callback(lambda done: self._created(name, done))
        return await asyncio.shield(task)

    def _created(self, name: str, task: asyncio.Task[T]) -> None:
        del self._creating[name]
        if not task.cancelled():
            task.exception()  # all who wanted it may be gone: then nobody asks why there is none

    async def _first_use(self, name: str) -> T:
        try:
            return await self._made(self.spec(name))
        except ProblemError as error:
            if error.status < 500:
                raise
            what = self._family.what
            detail = f"the {what} {name} could not be made, so nothing was written: {error.detail}"
            raise ProblemError(f"{what}-not-created", detail) from error

    async def _made(self, spec: Spec) -> T:
        await self._change(self.creation(spec, self._default_factor()))
        found = self.find(spec.name)
        if found is None:
            what = self._family.what
            raise ProblemError(f"{what}-exists", f"a table {spec.name} that is no {what} has this name")
        return found

    async def be(self, there: T | None, spec: Spec) -> T:
        """Have one be so; `there` it is now, or None."""
        found = await self._made(spec) if there is None else there
        problem = self.conflict(found, spec)
        if problem is not None:
            raise invalid(problem)
        if spec.options(found.options) == found.options:
            return found
        await self._change(self._family.alter(found, spec))
        return self.find(spec.name) or found

    async def drop(self, name: str) -> None:
        """Remove one and all that it holds."""
        await self._change(self._family.drop(self.known(name)))

    def _default_factor(self) -> int:
        keyspace = self._node.metadata.state.keyspaces.get(self._family.keyspace)
        factors = () if keyspace is None else keyspace.replication.factors
        return max((n for _, n in factors), default=DEFAULT_FACTOR)

    async def _change(self, request: MetadataRequest | Invalid) -> None:
        if isinstance(request, Invalid):
            raise invalid(request)
        answer = await self._bridge.ask(request, METADATA_TIMEOUT_US)
        if isinstance(answer, Changed) and answer.code == "already_exists":
            raise ProblemError(f"{self._family.what}-exists", answer.error)
        if not isinstance(answer, Changed) or answer.error:
            raise problem_of(answer)
