"""What a CQL statement says, as a tree: the parser makes it, the planner reads it.

The tree keeps what was written and decides nothing: literals keep their kind and exact text, types are their
CQL text, names are as CQL means them (lowered unless quoted), options are pairs of text. Nothing here knows
which tables exist.

Every node that can be wrong about something says where it stood (`at`). Positions do not take part in
comparisons: two statements are equal if they say the same, however they are laid out.

Used as `from cql_lite import ast`; ast_terms.py and ast_schema.py hold parts of it.
"""

from __future__ import annotations

from typing import Final

from cql_lite.ast_schema import *  # noqa: F403  one vocabulary, in three files for its size
from cql_lite.ast_schema import (
    AddColumns,
    AddFields,
    AlterKeyspace,
    AlterRole,
    AlterTable,
    CreateIndex,
    CreateKeyspace,
    CreateRole,
    CreateTable,
    CreateType,
    Describe,
    DropAbsent,
    DropColumns,
    DropIndex,
    DropKeyspace,
    DropRole,
    DropTable,
    DropType,
    Grant,
    GrantRole,
    ListPermissions,
    ListRoles,
    RenameColumns,
    RenameFields,
    Revoke,
    RevokeRole,
    Truncate,
    Use,
)
from cql_lite.ast_terms import *  # noqa: F403
from cql_lite.ast_terms import (
    START,
    At,
    Condition,
    Expression,
    Marker,
    Name,
    Node,
    QualifiedName,
    Relation,
    Target,
)


class Selector(Node, frozen=True, gc=False):
    """One projection; `text` is what it is called without an alias (spaces and case normal)."""

    expression: Expression
    alias: str = ""
    text: str = ""
    at: At = START


class Ordering(Node, frozen=True, gc=False):
    """One part of an ORDER BY; with `near` it is `column ANN OF near` (by distance to a vector)."""

    column: str
    descending: bool = False
    near: Expression | None = None
    at: At = START


class Select(Node, frozen=True, gc=False):
    """SELECT. No selectors means `*`; the limits are literals or markers."""

    table: QualifiedName
    selectors: tuple[Selector, ...] = ()
    where: tuple[Relation, ...] = ()
    group_by: tuple[Expression, ...] = ()
    order_by: tuple[Ordering, ...] = ()
    per_partition_limit: Expression | None = None
    limit: Expression | None = None
    allow_filtering: bool = False
    distinct: bool = False
    json: bool = False
    markers: tuple[Marker, ...] = ()
    at: At = START


class Using(Node, frozen=True, gc=False):
    """USING TIMESTAMP (microseconds) and TTL (seconds): literals or markers."""

    timestamp: Expression | None = None
    ttl: Expression | None = None


NOTHING: Final = Using()


class Insert(Node, frozen=True, gc=False):
    """INSERT INTO table (columns) VALUES (values); there are as many values as columns."""

    table: QualifiedName
    columns: tuple[Name, ...]
    values: tuple[Expression, ...]
    if_not_exists: bool = False
    using: Using = NOTHING
    markers: tuple[Marker, ...] = ()
    at: At = START


class InsertJson(Node, frozen=True, gc=False):
    """INSERT INTO table JSON json: a string literal or a marker.

    Columns that the JSON does not name become null, or with `default_unset` stay as they are.
    """

    table: QualifiedName
    json: Expression
    default_unset: bool = False
    if_not_exists: bool = False
    using: Using = NOTHING
    markers: tuple[Marker, ...] = ()
    at: At = START


SET, ADD, SUBTRACT, PREPEND = "set", "add", "subtract", "prepend"


class Assignment(Node, frozen=True, gc=False):
    """One part of an UPDATE's SET.

    `operation` is set (`t = v`), add (`c = c + v`, `c += v`: counters, append, put into a set or map),
    subtract (`c = c - v`, `c -= v`) or prepend (`c = v + c`). Only set has a target with a path.
    """

    target: Target
    operation: str
    value: Expression
    at: At = START


class Update(Node, frozen=True, gc=False):
    """UPDATE. `conditions` are those of IF; with `if_exists` there are none."""

    table: QualifiedName
    assignments: tuple[Assignment, ...]
    where: tuple[Relation, ...]
    if_exists: bool = False
    conditions: tuple[Condition, ...] = ()
    using: Using = NOTHING
    markers: tuple[Marker, ...] = ()
    at: At = START


class Delete(Node, frozen=True, gc=False):
    """DELETE. No targets means whole rows."""

    table: QualifiedName
    where: tuple[Relation, ...]
    targets: tuple[Target, ...] = ()
    if_exists: bool = False
    conditions: tuple[Condition, ...] = ()
    using: Using = NOTHING
    markers: tuple[Marker, ...] = ()
    at: At = START


Modification = Insert | InsertJson | Update | Delete

LOGGED, UNLOGGED, COUNTER = "LOGGED", "UNLOGGED", "COUNTER"


class Batch(Node, frozen=True, gc=False):
    """BEGIN BATCH ... APPLY BATCH.

    `markers` are those of all its statements, whose own markers are their part, with indexes of the whole.
    """

    kind: str
    statements: tuple[Modification, ...]
    using: Using = NOTHING
    markers: tuple[Marker, ...] = ()
    at: At = START


Statement = (
    Select
    | Modification
    | Batch
    | CreateKeyspace
    | AlterKeyspace
    | DropKeyspace
    | CreateTable
    | AddColumns
    | DropColumns
    | RenameColumns
    | AlterTable
    | DropTable
    | Truncate
    | CreateType
    | AddFields
    | RenameFields
    | DropType
    | CreateIndex
    | DropIndex
    | DropAbsent
    | Use
    | Describe
    | CreateRole
    | AlterRole
    | DropRole
    | GrantRole
    | RevokeRole
    | Grant
    | Revoke
    | ListRoles
    | ListPermissions
)
