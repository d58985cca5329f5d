"""What CQL's modifications do to a partition, as a user of Cassandra sees it: slow and obvious.

Nothing is ever merged or dropped. A partition is the list of all cells that were ever written and of all
deletions, in any order; a reader looks at the cells that no deletion covers, takes of each address the one
that wins, and leaves out what is deleted or expired. The rules, from Cassandra's documentation:

- a deletion covers what has its timestamp or an older one;
- of two cells the later timestamp wins; of equal ones the deletion, then the one that expires (of two the one
  that expires later), then the greater bytes;
- INSERT writes a row marker, UPDATE none; a row is there while its marker or any of its values lives;
- who writes the whole of a collection, null too, first deletes what is older than the write;
- statements of a batch look at what was there before it.

Time is a number that goes up when the history says so; what the peer stamps itself is later than all it
stamped before and than the client's timestamps, which are small.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

MARKER = ""
"""The name under which a row marker is kept."""
STAMPED = 10**9
"""Timestamps from here on are given by the peer."""

MOMENT = 2.0**-20
"""How much of the time goes by with each statement, so that of two equal TTLs the later one ends later."""


class Unset(enum.Enum):
    """What is bound to a marker to say: leave it."""

    UNSET = "unset"


UNSET = Unset.UNSET


class Refused(Exception):
    """The statement is answered by an error, and does nothing."""


@dataclass(frozen=True)
class Column:
    """A column that is no key."""

    name: str
    type: str
    static: bool = False

    @property
    def is_multicell(self) -> bool:
        """Whether its parts are written one by one."""
        return self.type in ("list<int>", "set<text>", "map<text, int>", "u")


@dataclass(frozen=True)
class Shape:
    """A table: its name, its clustering columns (type, is it descending) and the others."""

    name: str
    clustering: tuple[tuple[str, bool], ...]
    columns: tuple[Column, ...]
    default_life: int = 0

    def column(self, name: str) -> Column:
        """The column of this name."""
        return next(column for column in self.columns if column.name == name)

    def ordered(self, rows: Iterable[Row]) -> list[Row]:
        """Rows in the table's order."""
        found = list(rows)
        for number, (_, descending) in reversed(list(enumerate(self.clustering))):
            found.sort(key=lambda row: row[number], reverse=descending)
        return found


Row = tuple[Any, ...]
"""The values of the clustering columns."""


@dataclass(frozen=True)
class Assign:
    """A change of a column: `=`, `+`, `-`, `prepend`; `at` a key, an index or a field sets only that part.

    In a DELETE the value is None.
    """

    column: str
    how: str
    value: Any = None
    at: Any = None


@dataclass(frozen=True)
class Condition:
    """A part of IF."""

    column: str
    how: str
    value: Any
    at: Any = None


@dataclass(frozen=True)
class Bound:
    """What DELETE says of clustering columns: the ones behind the first `skip` are compared.

    `how` is `=`, `IN` or an inequality; `values` are tuples, one value for each column that is compared.
    """

    skip: int
    how: str
    values: tuple[Row, ...]

    def holds(self, row: Row) -> bool:
        """Whether a row is meant."""
        width = len(self.values[0])
        part = row[self.skip : self.skip + width]
        return any(COMPARED[self.how](part, value) for value in self.values)


COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "IN": lambda a, b: bool(a == b),
}


@dataclass(frozen=True)
class Write:
    """INSERT, UPDATE or DELETE.

    `rows` are the rows it names, none at all where it is about static columns or the partition alone; a
    DELETE with `bounds` means the rows for which all of them hold. `life` None is the table's own, -1 a
    TTL of null; `sent` is the timestamp that a driver gives to what has no other; `exists` is IF EXISTS or
    IF NOT EXISTS.
    """

    verb: str
    partitions: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    assigns: tuple[Assign, ...] = ()
    bounds: tuple[Bound, ...] = ()
    stamp: int | Unset | None = None
    life: int | Unset | None = None
    sent: int | None = None
    exists: bool | None = None
    conditions: tuple[Condition, ...] = ()
    json: str = ""
    """Of INSERT JSON what DEFAULT says: NULL or UNSET."""
    bound: bool = False
    """Whether its values are bound to markers."""

    @property
    def is_conditional(self) -> bool:
        """Whether there is an IF."""
        return self.exists is not None or bool(self.conditions)


@dataclass(frozen=True)
class Batch:
    """Several at one timestamp, or each at its own."""

    writes: tuple[Write, ...]
    stamp: int | None = None
    sent: int | None = None
    is_frame: bool = False
    """Whether it is sent as a batch of the protocol."""


@dataclass(frozen=True)
class Tick:
    """Time goes by."""

    by: int


Statement = Write | Batch | Tick


@dataclass(frozen=True)
class Cell:
    """What was once written: None is a deletion, `row` None the static columns."""

    row: Row | None
    column: str
    path: Any
    stamp: int
    dead_from: float | None
    value: Any
    data: bytes

    @property
    def rank(self) -> tuple[int, int, float, bytes]:
        """The greatest is the one that counts."""
        if self.value is None:
            return (self.stamp, 2, 0, b"")
        return (self.stamp, int(self.dead_from is not None), self.dead_from or 0, self.data)


@dataclass(frozen=True)
class Deletion:
    """Hides the cells it covers if they are as old or older."""

    stamp: int
    covers: Callable[[Cell], bool]


Seen = dict[Row | None, dict[str, dict[Any, Cell]]]
"""Live cells by row, column and path."""


@dataclass
class Partition:
    """All that ever happened to a partition."""

    cells: list[Cell] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)

    def seen(self, now: int) -> Seen:
        """What is alive."""
        best: dict[Any, Cell] = {}
        for cell in self.cells:
            if any(one.stamp >= cell.stamp and one.covers(cell) for one in self.deletions):
                continue
            address = (cell.row, cell.column, cell.path)
            if address not in best or best[address].rank < cell.rank:
                best[address] = cell
        found: Seen = {}
        for (row, column, path), cell in best.items():
            if cell.value is not None and (cell.dead_from is None or now < cell.dead_from):
                found.setdefault(row, {}).setdefault(column, {})[path] = cell
        return found


def as_bytes(value: Any) -> bytes:
    """How a value that is one cell is kept."""
    if isinstance(value, int):
        return struct.pack(">i", value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):  # a frozen user type
        return b"".join(_sized(value[name]) for name in ("a", "b"))
    return struct.pack(">i", len(value)) + b"".join(_sized(one) for one in value)


def _sized(value: Any) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    data = as_bytes(value)
    return struct.pack(">i", len(data)) + data


def whole(column: Column, cells: dict[Any, Cell] | None) -> Any:
    """The value of a column from its live cells."""
    if not cells:
        return None
    if not column.is_multicell:
        return cells[None].value
    if column.type == "u":
        return {name: cells[name].value if name in cells else None for name in ("a", "b")}
    if column.type == "map<text, int>":
        return {key: cells[key].value for key in sorted(cells)}
    if column.type == "set<text>":
        return frozenset(cells)
    return [cells[path].value for path in sorted(cells)]


class Model:
    """The partitions of one table, and a clock."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.now = 0
        self.partitions: dict[str, Partition] = {}
        self._count = 0
        self._elements = 0

    def partition(self, key: str) -> Partition:
        """A partition by its key."""
        return self.partitions.setdefault(key, Partition())

    # --- reading

    def select(self, key: str) -> list[dict[str, Any]]:
        """SELECT * of a partition: rows by name of column, clustering columns as `c0`, `c1`, ..."""
        seen = self.partition(key).seen(self.now)
        rows = self.shape.ordered(row for row in seen if row is not None)
        if not rows and None in seen:
            return [self.shown(key, seen, None)]
        return [self.shown(key, seen, row) for row in rows]

    def shown(self, key: str, seen: Seen, row: Row | None) -> dict[str, Any]:
        """A row, or of a partition that has none its static columns."""
        found: dict[str, Any] = {"p": key}
        for number in range(len(self.shape.clustering)):
            found[f"c{number}"] = None if row is None else row[number]
        for column in self.shape.columns:
            cells = seen.get(None if column.static else row, {}).get(column.name)
            found[column.name] = whole(column, cells) if column.static or row is not None else None
        return found

    def lives(self, key: str, row: Row | None, column: Column) -> dict[Any, Cell]:
        """The live cells of a column, by path."""
        at = None if column.static else row
        if at is None and not column.static:
            return {}
        return self.partition(key).seen(self.now).get(at, {}).get(column.name, {})

    # --- writing

    def do(self, statement: Statement) -> list[dict[str, Any]] | None:
        """Do it; raises Refused. Of a conditional one the result, `[applied]` and what else it shows."""
        if isinstance(statement, Tick):
            self.now += statement.by
            return None
        self._count += 1
        writes = statement.writes if isinstance(statement, Batch) else (statement,)
        result = None
        if any(write.is_conditional for write in writes):
            result = self._judged(writes, is_batch=isinstance(statement, Batch))
            if not result[0]["[applied]"]:
                return result
        stamped = STAMPED + 10 * self._count
        shared = [statement.stamp, None if result else statement.sent, stamped]
        before = {key: self.partition(key).seen(self.now) for write in writes for key in write.partitions}
        drafted: list[tuple[str, Cell | Deletion]] = []
        for write in writes:
            stamp = next(one for one in (write.stamp, *shared) if isinstance(one, int))
            for key in write.partitions:
                drafted += [(key, one) for one in self._drafted(write, stamp, before[key])]
        for key, one in drafted:
            partition = self.partition(key)
            if isinstance(one, Cell):
                partition.cells.append(one)
            else:
                partition.deletions.append(one)
        return result

    def _drafted(self, write: Write, stamp: int, before: Seen) -> list[Cell | Deletion]:
        found: list[Cell | Deletion] = []
        if write.verb == "DELETE" and not write.assigns:
            return [Deletion(stamp, _scope(write))]
        life = write.life if isinstance(write.life, int) else self.shape.default_life
        life = 0 if write.verb == "DELETE" else max(0, life)
        dead_from = self.now + life - 0.5 + self._count * MOMENT if life else None
        if write.verb == "INSERT":
            found += [Cell(row, MARKER, None, stamp, dead_from, True, b"") for row in write.rows]
        for assign in self._assigns(write):
            column = self.shape.column(assign.column)
            rows: tuple[Row | None, ...] = (None,) if column.static else write.rows
            for row in rows:
                cells = before.get(row, {}).get(column.name, {})
                made = self._assigned(column, assign, cells, is_delete=write.verb == "DELETE")
                for path, value in made:
                    if path in (OLDER, ALL):
                        until = stamp - 1 if path == OLDER else stamp
                        found.append(Deletion(until, _column_scope(row, column.name)))
                    else:
                        data = b"" if value is None else as_bytes(value)
                        dead = None if value is None else dead_from
                        found.append(Cell(row, column.name, path, stamp, dead, value, data))
        return found

    def _assigns(self, write: Write) -> list[Assign]:
        if write.json != "NULL":
            return list(write.assigns)
        named = {assign.column for assign in write.assigns}
        others = [Assign(c.name, "=", None) for c in self.shape.columns if c.name not in named]
        return [*write.assigns, *others]

    def _assigned(
        self, column: Column, assign: Assign, cells: dict[Any, Cell], *, is_delete: bool
    ) -> list[tuple[Any, Any]]:
        """Paths and values that an assignment writes."""
        value = assign.value
        if assign.at is not None:
            return self._part_assigned(column, assign, cells)
        if value is UNSET:
            return []
        if assign.how == "=":
            if not column.is_multicell:
                return [(None, value)]
            if is_delete:
                return [(ALL, None)]
            return [(OLDER, None), *self._added(column, value, 1)]
        if assign.how == "-":
            if value is None:
                return []
            if column.type == "list<int>":
                return [(path, None) for path, cell in cells.items() if cell.value in value]
            return [(element, None) for element in value]
        return self._added(column, value, -1 if assign.how == "prepend" else 1)

    def _part_assigned(self, column: Column, assign: Assign, cells: dict[Any, Cell]) -> list[tuple[Any, Any]]:
        if column.type != "list<int>":
            return [] if assign.value is UNSET else [(assign.at, assign.value)]
        if assign.value is UNSET:
            return []
        if not 0 <= assign.at < len(cells):
            raise Refused("index")
        return [(sorted(cells)[assign.at], assign.value)]

    def _added(self, column: Column, value: Any, side: int) -> list[tuple[Any, Any]]:
        if value is None:
            return []
        if column.type == "list<int>":
            self._elements += 1
            return [((side * self._elements, number), one) for number, one in enumerate(value)]
        if column.type == "set<text>":
            return [(element, "") for element in value]
        return [(key, one) for key, one in value.items() if one is not None]

    # --- conditions

    def _judged(self, writes: tuple[Write, ...], *, is_batch: bool) -> list[dict[str, Any]]:
        """The result of conditions: applied, or the rows that they were about."""
        (key,) = {key for write in writes for key in write.partitions}
        seen = self.partition(key).seen(self.now)
        conditional = [write for write in writes if write.is_conditional]
        if all(self._holds(write, seen) for write in conditional):
            return [{"[applied]": True}]
        every = [*self.shown(key, seen, None)]
        compared = [c.column for write in conditional for c in write.conditions]
        keys = every[: 1 + len(self.shape.clustering)] if is_batch else []
        names = every if any(write.exists is not None for write in conditional) else [*keys, *compared]
        found: dict[Row | None, dict[str, Any]] = {}
        for write in conditional:
            row = write.rows[0] if write.rows else None
            statics = any(self.shape.column(c.column).static for c in write.conditions)
            if row not in seen and not (statics and None in seen):
                continue
            at = row if row in seen else None
            shown = self.shown(key, seen, at)
            found[at] = {"[applied]": False, **{name: shown[name] for name in names}}
        rows = self.shape.ordered(row for row in found if row is not None)
        if rows:
            return [found[row] for row in rows]
        return [*found.values()] or [{"[applied]": False}]

    def _holds(self, write: Write, seen: Seen) -> bool:
        row = write.rows[0] if write.rows else None
        if write.exists is not None:
            return (row in seen) == write.exists
        return all(self._meets(condition, row, seen) for condition in write.conditions)

    def _meets(self, condition: Condition, row: Row | None, seen: Seen) -> bool:
        column = self.shape.column(condition.column)
        cells = seen.get(None if column.static else row, {}).get(column.name, {})
        value = whole(column, cells)
        if condition.at is not None:
            value = part(column, value, condition.at)
        elif value is None and column.is_multicell and column.type != "u":
            value = "nothing"
        if condition.how in ("CONTAINS", "CONTAINS KEY"):
            return value not in (None, "nothing") and condition.value in _parts(value, condition.how)
        wanted = condition.value if condition.how == "IN" else [condition.value]
        return any(_compares(value, condition.how, one, column.type) for one in wanted)


OLDER, ALL = "\0older", "\0all"
"""Instead of a path: all parts of the column that are older than the write, or as old too."""


def _scope(write: Write) -> Callable[[Cell], bool]:
    if write.bounds:
        return lambda cell: cell.row is not None and all(bound.holds(cell.row) for bound in write.bounds)
    if write.rows:
        return lambda cell: cell.row in write.rows
    return lambda _: True


def _column_scope(row: Row | None, column: str) -> Callable[[Cell], bool]:
    return lambda cell: cell.row == row and cell.column == column


def part(column: Column, value: Any, at: Any) -> Any:
    """An element or a field of a value."""
    if value is None:
        return None
    if column.type == "list<int>":
        return value[at] if at < len(value) else None
    return value.get(at)


def _parts(value: Any, how: str) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) and how == "CONTAINS" else [*value]


def _compares(value: Any, how: str, wanted: Any, of: str) -> bool:
    if wanted is None:
        return COMPARED[how](value in (None, "nothing"), True)
    if value == "nothing":
        value = {} if of.startswith("map") else []
    elif value is None:
        return how == "!="
    return COMPARED[how](_sortable(value, of), _sortable(wanted, of))


def _sortable(value: Any, of: str) -> Any:
    if of in ("u", "frozen<u>"):
        return [(one is not None, one) for one in value.values()] if isinstance(value, dict) else value
    if isinstance(value, dict):
        return sorted(value.items())
    return sorted(value) if isinstance(value, (set, frozenset)) else value
