"""Planning: a statement and the schema as it is, to something that can be executed many times.

    planner_tables   tables as statements see them           planner_select   SELECT
    planner_terms    values                                  planner_source   where its rows come from
    planner_where    which partitions and slices             planner_modify   INSERT, UPDATE, DELETE
    planner_rows     cells to records                        planner_batch    BATCH
    planner_schema   the schema                              planner_results  requests, answers, results

A `Catalog` is the schema at one epoch. Plans hold views of tables, not names, so a plan is good as long as
the tables it is about are what they were; `Catalog.same` tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

from core.requests import AdminRequest
from core.schema import Table
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_batch import BatchPlan
from cql_lite.planner_counters import CounterPlan
from cql_lite.planner_describe import DescribePlan
from cql_lite.planner_modify import ModifyPlan
from cql_lite.planner_results import PEER_EPOCHS, Asked, Execution, KeyspaceResult, Options
from cql_lite.planner_roles import plan_roles
from cql_lite.planner_schema import SYSTEM_KEYSPACES, SchemaPlanner, writable
from cql_lite.planner_select import SelectPlan
from cql_lite.planner_tables import TableView, view_of
from cql_lite.planner_terms import Context, Markers, MarkerSpec
from cql_lite.system import TABLES, Place, State, virtual_rows
from cql_lite.types import ResolveUdt, UserType, parse_type

ABOUT_PEERS: Final = ("peers", "peers_v2")
"""Tables that say of others what may have changed just now."""


class Plan(Protocol):
    """What a statement became."""

    @property
    def markers(self) -> tuple[MarkerSpec, ...]:
        """What each bind marker stands for."""

    @property
    def key_markers(self) -> tuple[int, ...]:
        """The markers that are the partition key, in its order, or none."""

    def execute(self, context: Context, options: Options) -> Execution:
        """The requests of one execution."""


class UsePlan:
    """USE."""

    markers: tuple[MarkerSpec, ...] = ()
    key_markers: tuple[int, ...] = ()

    def __init__(self, keyspace: str) -> None:
        self._keyspace = keyspace

    def execute(self, context: Context, options: Options) -> Execution:
        """Nothing to ask."""
        yield from ()
        return KeyspaceResult(self._keyspace)


class Catalog:
    """Tables and types at one epoch, with what was made of them."""

    def __init__(self, state: State, place: Place) -> None:
        self.state = state
        self.place = place
        self._views: dict[int, TableView] = {}
        self._types: dict[tuple[str, str], UserType] = {}

    def table(self, keyspace: str, name: str) -> Table:
        """The table of that name; raises InvalidRequestError."""
        table = self.state.table(keyspace, name)
        if table is None:
            if keyspace not in self.state.keyspaces and keyspace not in SYSTEM_KEYSPACES:
                raise InvalidRequestError(f"keyspace {keyspace} does not exist")
            raise InvalidRequestError(
                f"unconfigured table {name}: table {name} does not exist in keyspace {keyspace}"
            )
        return table

    def view(self, keyspace: str, name: str) -> TableView:
        """The view of a stored table."""
        table = self.table(keyspace, name)
        view = self._views.get(table.id)
        if view is None:
            resolve = self.resolver(keyspace)
            types = {column.name: parse_type(column.type, resolve) for column in table.columns}
            view = self._views[table.id] = view_of(table, types)
        return view

    def resolver(self, keyspace: str) -> ResolveUdt:
        """Finds user types by name, in this keyspace if none is named."""

        def resolve(named: str, name: str) -> UserType | None:
            where = named or keyspace
            known = self._types.get((where, name))
            if known is None:
                found = self.state.keyspaces.get(where)
                of = None if found is None else found.type(name)
                if of is None:
                    return None
                inner = self.resolver(where)
                types = tuple(parse_type(field.type, inner) for field in of.fields)
                names = tuple(field.name for field in of.fields)
                known = UserType(types=types, keyspace=where, name=name, names=names, frozen=False)
                self._types[where, name] = known
            return known

        return resolve

    def noting(self, keyspace: str, used: list[UserType]) -> ResolveUdt:
        """A resolver that notes which types a statement names, as in casts: they are of no view."""
        plain = self.resolver(keyspace)

        def resolve(named: str, name: str) -> UserType | None:
            found = plain(named, name)
            if found is not None:
                used.append(found)
            return found

        return resolve

    def same(self, views: Sequence[TableView], used: Sequence[UserType] = ()) -> bool:
        """Whether these tables and types are what they were when they were viewed."""
        for view in views:
            if view.id < 0 or view.id not in self.state.tables or self.view(view.keyspace, view.name) != view:
                return False
        return all(self.resolver(of.keyspace)("", of.name) == of for of in used)


class Planned:
    """A plan with the tables it is about, the types that it names, and what is to be asked of the node before
    it is executed.
    """

    __slots__ = ("asks", "plan", "used", "views")

    def __init__(
        self, plan: Plan, views: Sequence[TableView], asks: Asked = (), used: Sequence[UserType] = ()
    ) -> None:
        self.plan = plan
        self.views = tuple(views)
        self.asks = asks
        self.used = tuple(used)


def plan_statement(
    statement: ast.Statement, catalog: Catalog, keyspace: str, text: str, now_us: int
) -> Planned:
    """Plan a statement; `keyspace` is for names that say none. Raises RequestError."""
    if isinstance(statement, ast.Select):
        return _plan_select(statement, catalog, keyspace, text)
    if isinstance(statement, (ast.Insert, ast.InsertJson, ast.Update, ast.Delete)):
        view = _writable_view(statement.table, catalog, keyspace)
        used: list[UserType] = []
        plan = _modification(statement, view, catalog.noting(view.keyspace, used), None)
        return Planned(plan, [view], used=used)
    if isinstance(statement, ast.Batch):
        return _plan_batch(statement, catalog, keyspace)
    if isinstance(statement, ast.Use):
        name = statement.keyspace.text
        if name not in catalog.state.keyspaces and name not in SYSTEM_KEYSPACES:
            raise InvalidRequestError(f"Keyspace '{name}' does not exist")
        return Planned(UsePlan(name), [])
    if isinstance(statement, ast.Describe):
        return Planned(DescribePlan(statement, catalog.state, keyspace), [])
    roles = plan_roles(statement, catalog.state, keyspace)
    if roles is not None:
        return Planned(roles, [])
    planner = SchemaPlanner(catalog.state, keyspace, catalog.resolver, now_us)
    planned = planner.plan(statement)
    if planned is None:
        raise InvalidRequestError(
            f"{type(statement).__name__} is understood, but there is nothing behind it yet in this version"
        )
    return Planned(planned, [])


def _modification(
    statement: ast.Modification, view: TableView, resolve_udt: ResolveUdt, markers: Markers | None
) -> ModifyPlan | CounterPlan:
    if view.is_counter and isinstance(statement, ast.Update):
        return CounterPlan(statement, view, resolve_udt, markers)
    return ModifyPlan(statement, view, resolve_udt, markers)


def _place(name: ast.QualifiedName, keyspace: str) -> str:
    found = name.keyspace or keyspace
    if not found:
        raise InvalidRequestError(
            f"No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.{name.name}"
        )
    return found


def _writable_view(name: ast.QualifiedName, catalog: Catalog, keyspace: str) -> TableView:
    place = _place(name, keyspace)
    writable(place)
    return catalog.view(place, name.name)


def _plan_select(statement: ast.Select, catalog: Catalog, keyspace: str, text: str) -> Planned:
    place = _place(statement.table, keyspace)
    computed = TABLES.get((place, statement.table.name))
    if computed is not None and catalog.state.table(place, statement.table.name) is None:
        rows = virtual_rows(computed, catalog.state, catalog.place)
        plan = SelectPlan(statement, computed.view, catalog.resolver(place), rows)
        asks = (AdminRequest(PEER_EPOCHS),) if statement.table.name in ABOUT_PEERS else ()
        return Planned(plan, [computed.view], asks)
    view = catalog.view(place, statement.table.name)
    used: list[UserType] = []
    plan = SelectPlan(statement, view, catalog.noting(place, used))
    plan.fingerprint = hashlib.blake2b(f"{_places(plan)} {text}".encode(), digest_size=8).digest()
    return Planned(plan, [view], used=used)


def _places(plan: SelectPlan) -> str:
    """What the places mean at which pages of it end.

    A key means the same after TRUNCATE, too; other places are of an index, or of a table while it lasts.
    """
    view = plan.view
    if plan.goes_by_key:
        keys = [(column.type.cql, column.descending) for column in (*view.partition, *view.clustering)]
        return f"{view.keyspace}.{view.name} {keys}"
    return f"{view.id} {sorted(index.id for index in view.indexes)}"


def _plan_batch(statement: ast.Batch, catalog: Catalog, keyspace: str) -> Planned:
    views = [_writable_view(one.table, catalog, keyspace) for one in statement.statements]
    place = (views[0].keyspace, views[0].name) if views else ("", "")
    markers = Markers(len(statement.markers), *place)
    plans = []
    used: list[UserType] = []
    for one, view in zip(statement.statements, views, strict=True):
        markers.about(view.keyspace, view.name)
        plans.append(_modification(one, view, catalog.noting(view.keyspace, used), markers))
    return Planned(BatchPlan(statement, plans, markers, catalog.noting(place[0], used)), views, used=used)
