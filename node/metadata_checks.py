"""What is checked before a change of the schema is applied, and how it is refused.

A check raises `RefusedError` with the code and the text of the answer, or `NothingToDoError`; both stay
inside node/metadata_apply.py, which makes answers of them. Types are CQL text here: which names in it are
user types is all that is asked of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from core import limits
from core.schema import (
    CLUSTERING,
    NETWORK_TOPOLOGY,
    PARTITION,
    REGULAR,
    SIMPLE,
    STATIC,
    Column,
    Index,
    Replication,
    Table,
    TableOptions,
    TypeField,
)

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_FACTOR_MAX: Final = 1_000
_KINDS: Final = (PARTITION, CLUSTERING, STATIC, REGULAR)
KEYS: Final = (PARTITION, CLUSTERING)

BUILT_IN: Final = frozenset(
    ["ascii", "bigint", "blob", "boolean", "counter", "date", "decimal", "double", "duration", "empty"]
    + ["float", "frozen", "inet", "int", "json", "list", "map", "set", "smallint", "text", "time"]
    + ["timestamp", "timeuuid", "tinyint", "tuple", "uuid", "varchar", "varint", "vector"]
)
RESERVATION_COLUMNS: Final = (
    Column(0, "value", "blob", PARTITION),
    Column(1, "holder", "text", REGULAR),
    Column(2, "fence", "bigint", REGULAR),
    Column(3, "note", "text", REGULAR),
)
_TYPE_WORD: Final = re.compile(r"'[^']*'|\"((?:[^\"]|\"\")+)\"|([A-Za-z_][A-Za-z0-9_]*)|(\.)")


class RefusedError(Exception):
    """Why a change is not applied. Raised by checks, which all come before anything is changed."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class NothingToDoError(Exception):
    """IF EXISTS, and it does not; IF NOT EXISTS, and it does."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def reservation_table(keyspace: str, index: Index, epoch: int) -> Table:
    """The table that a unique index keeps: who has the value of a hash, and a note on how far it is built."""
    return Table(0, keyspace, index.name, RESERVATION_COLUMNS, TableOptions(), epoch, reserves=index.id)


def user_types(text: str) -> Iterator[tuple[str, str]]:
    """The user types that a type's CQL text names: (keyspace, or "" if it names none, name)."""
    keyspace, words = "", list(_TYPE_WORD.finditer(text))
    for position, word in enumerate(words):
        quoted, bare, _ = word.groups()
        if quoted is None and bare is None:
            continue
        name = bare.lower() if quoted is None else quoted.replace('""', '"')
        if position + 1 < len(words) and words[position + 1][3] is not None:
            keyspace = name
            continue
        if quoted is not None or keyspace or name not in BUILT_IN:
            yield keyspace, name
        keyspace = ""


def there(is_fine: bool, code: str, text: str) -> None:
    """Something is there already: fine with IF NOT EXISTS, else refused."""
    raise NothingToDoError("exists") if is_fine else RefusedError(code, text)


def missing(is_fine: bool, code: str, text: str) -> None:
    """Something is not there: fine with IF EXISTS, else refused."""
    raise NothingToDoError("absent") if is_fine else RefusedError(code, text)


def no_keyspace(name: str) -> RefusedError:
    """The refusal of what names an unknown keyspace."""
    return RefusedError("no_such_keyspace", f"there is no keyspace {name}")


def no_column(table: Table, name: str) -> RefusedError:
    """The refusal of what names an unknown column."""
    names = some([column.name for column in table.columns])
    text = f"the table {table.keyspace}.{table.name} has no column {name}; it has {names}"
    return RefusedError("no_such_column", text)


def some(names: list[str]) -> str:
    """The first few names of many."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def names_type(text: str, user_type: str) -> bool:
    """Whether a type's text names this user type."""
    return any(name == user_type for _, name in user_types(text))


def check_growing(name: str, tables: Iterable[Table], holds: Callable[[str], bool]) -> None:
    """Refuse a further field of a user type of which keys are made; `holds` tells types that consist of it.

    A key is its fields side by side: with one more it is another key, and those that were written stay.
    """
    users = [
        f"{table.name} ({column.name})"
        for table in tables
        for column in table.columns
        if (
            holds(column.type)
            if column.kind in KEYS or any(i.column == column.name for i in table.indexes)
            else holds(_addressing(column.type))
        )
    ]
    if users:
        raise RefusedError(
            "in_use",
            f"keys are made of the type {name} in {some(users)}: primary keys, elements of sets, keys of "
            "maps and indexes keep the fields they have; drop the index, or make another type",
        )


def _addressing(text: str) -> str:
    """What of a collection's type addresses its cells: the elements of a set, the keys of a map."""
    if text.startswith("set<"):
        return text[4:-1]
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "<") - (char == ">")
        if char == "," and depth == 1:
            return text[4:at] if text.startswith("map<") else ""
    return ""


def check_replication(replication: Replication, datacentres: tuple[str, ...]) -> None:
    """That there is such a strategy, with a factor for some of these datacentres."""
    factors = dict(replication.factors)
    if replication.strategy == SIMPLE:
        known: tuple[str, ...] = ("",)
    elif replication.strategy == NETWORK_TOPOLOGY:
        known = datacentres
    else:
        text = (
            f"there is no replication strategy {replication.strategy[:60]!r}: "
            f"use {SIMPLE} or {NETWORK_TOPOLOGY}"
        )
        raise RefusedError("invalid", text)
    for name in factors:
        if name not in known:
            text = f"there is no datacentre {name[:60]!r}; there are {', '.join(known)}"
            raise RefusedError("invalid", text)
    if len(factors) != len(replication.factors) or not 0 < sum(factors.values()) <= _FACTOR_MAX:
        text = "a keyspace has at least one replica, and one factor per datacentre"
        raise RefusedError("invalid", text)
    if min(factors.values()) < 0:
        raise RefusedError("invalid", "a replication factor is not negative")


def check_name(what: str, name: str, chars_max: int = limits.NAME_CHARS_MAX) -> None:
    """That it is a name for a keyspace, table, type or index."""
    if _NAME.fullmatch(name) is None or len(name) > chars_max:
        text = (
            f"a {what}'s name has 1 to {chars_max} letters, digits, - or _ "
            f"and does not begin with -; {name[:60]!r} is none"
        )
        raise RefusedError("invalid", text)


def check_columns(columns: Iterable[Column]) -> None:
    """That they make a table: names, kinds, and how many of each."""
    columns = list(columns)
    names = [column.name for column in columns]
    if len(dict.fromkeys(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusedError("invalid", f"two columns have one name: {twice[:60]}")
    unknown = [column.kind for column in columns if column.kind not in _KINDS]
    if unknown:
        raise RefusedError("invalid", f"there is no kind of column {unknown[0][:60]!r}")
    kinds = [column.kind for column in columns]
    if PARTITION not in kinds:
        raise RefusedError("invalid", "a table has at least one partition key column")
    if STATIC in kinds and CLUSTERING not in kinds:
        static = names[kinds.index(STATIC)]
        text = (
            f"{static} cannot be static: the table has no clustering column, its partitions are single rows"
        )
        raise RefusedError("invalid", text)
    _check_size("table", "columns", names)


def check_fields(fields: Iterable[TypeField]) -> None:
    """That they make a user type."""
    names = [field.name for field in fields]
    if not names:
        raise RefusedError("invalid", "a type has at least one field")
    if len(dict.fromkeys(names)) != len(names):
        raise RefusedError("invalid", "two fields have one name")
    _check_size("type", "fields", names)


def _check_size(what: str, parts: str, names: list[str]) -> None:
    if len(names) > limits.TABLE_COLUMNS_MAX:
        raise RefusedError("invalid", f"a {what} has at most {limits.TABLE_COLUMNS_MAX} {parts}")
    for name in names:
        if not 1 <= len(name) <= limits.COLUMN_NAME_CHARS_MAX:
            text = f"the names of {parts} have 1 to {limits.COLUMN_NAME_CHARS_MAX} characters: {name[:60]!r}"
            raise RefusedError("invalid", text)
