"""Random tables, writes and SELECTs, as CQL and for the model of tests/models/cql_select.py.

All of them are valid with ALLOW FILTERING: what Cassandra refuses is not drawn. Values come from small pools,
so that conditions meet rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import cycle
from math import inf, isnan, nan
from random import Random
from typing import Any, Final

from tests.models.cql_select import (
    CLUSTERING,
    LEAST_TOKEN,
    PARTITION,
    REGULAR,
    STATIC,
    Column,
    Float,
    Query,
    Relation,
    Table,
)

POOLS: Final[dict[str, tuple[Any, ...]]] = {
    "int": (-3, -1, 0, 1, 2, 7, 300),
    "bigint": (-(2**63), -1, 0, 1, 2**33, 2**63 - 1),
    "smallint": (-3, -1, 0, 1, 2, 300),
    "timestamp": (-1, 0, 1, 1_700_000_000_000),
    "varint": (-(2**70), -256, -1, 0, 1, 255, 2**70),
    "float": tuple(map(Float, (-inf, -1.5, -0.0, 0.0, 1.5, inf, nan))),
    "double": (-2.5, -1.0, 0.0, 0.5, 1e10),
    "decimal": (Decimal("-1.5"), Decimal(0), Decimal("0.25"), Decimal("12")),
    "boolean": (False, True),
    "text": ("", "a", "ab", "AB", "a b", "b", "B", "Z", "é", "it's"),
    "blob": (b"\x00", b"\x00\xff", b"a", b"\xff", b"\xff\xff"),
}
OF_PARTITION: Final = ("int", "smallint", "timestamp", "text", "bigint", "boolean", "blob", "double")
SCALARS: Final = (
    "int", "bigint", "smallint", "timestamp", "float", "varint", "double", "decimal", "boolean", "text",
    "blob", "tuple<int, text>", "frozen<pair>",
)  # fmt: skip
OF_CLUSTERING: Final = (*SCALARS, "frozen<list<int>>", "frozen<set<text>>")
PAIR: Final = "frozen<pair>"
PAIR_TYPE: Final = "CREATE TYPE IF NOT EXISTS pair (a int, b text)"
NUMBERS: Final = ("int", "smallint", "varint", "double")
COLLECTIONS: Final = (
    "set<text>", "set<int>", "list<int>", "list<text>", "map<text, int>", "map<int, text>",
    "frozen<list<int>>", "frozen<set<text>>", "frozen<map<text, int>>",
)  # fmt: skip
TTL_S: Final = 1
"""Of writes that expire: they do when the queries begin."""
RANGES: Final = ("<", "<=", ">", ">=")


def parts_of(of: str) -> list[str]:
    """The types within a collection."""
    if of == PAIR:
        return ["int", "text"]
    inner = of[of.rindex("<") + 1 :].rstrip(">")
    return inner.split(", ")


def value_of(random: Random, of: str) -> Any:
    """A value of a type, not null."""
    if "<" not in of:
        return random.choice(POOLS[of])
    if of.startswith("tuple") or of == PAIR:
        return tuple(value_of(random, part) for part in parts_of(of))
    values = [value_of(random, parts_of(of)[-1]) for _ in range(random.randint(1, 3))]
    if "set<" in of:
        return tuple(sorted(set(values)))
    if "map<" in of:
        return tuple(sorted({value_of(random, parts_of(of)[0]): value for value in values}.items()))
    return tuple(values)


def literal(value: Any, of: str) -> str:
    """A value as CQL writes it."""
    if value is None:
        return "null"
    if "<" in of:
        parts = parts_of(of)
        if of == PAIR:
            return f"{{a: {literal(value[0], 'int')}, b: {literal(value[1], 'text')}}}"
        if of.startswith("tuple"):
            return f"({', '.join(literal(item, part) for item, part in zip(value, parts, strict=True))})"
        if "map<" in of:
            pairs = [f"{literal(key, parts[0])}: {literal(item, parts[1])}" for key, item in value]
            return f"{{{', '.join(pairs)}}}"
        items = ", ".join(literal(item, parts[0]) for item in value)
        return f"{{{items}}}" if "set<" in of else f"[{items}]"
    if of == "text":
        doubled = str(value).replace("'", "''")
        return f"'{doubled}'"
    if of == "blob":
        return f"0x{bytes(value).hex()}"
    if of == "float":
        return {inf: "Infinity", -inf: "-Infinity"}.get(float(value), "NaN" if isnan(value) else str(value))
    return str(value).lower()


def bound(value: Any, of: str) -> Any:
    """A value as it is bound to a marker."""
    if isinstance(value, Float):
        return float(value)
    if isinstance(value, tuple) and "map<" not in of:
        return tuple(bound(item, part) for item, part in zip(value, cycle(parts_of(of))))
    return dict(value) if "map<" in of and value is not None else value


class Writing:
    """CQL in the making: values are markers or literals."""

    def __init__(self, random: Random, *, markers: bool) -> None:
        self.random = random
        self.markers = markers
        self.values: list[Any] = []

    def term(self, value: Any, of: str) -> str:
        """One value."""
        if not self.markers:
            return literal(value, of)
        self.values.append(bound(value, of))
        return "?"

    def terms(self, values: Sequence[Any], of: str) -> str:
        """What stands after IN."""
        if self.markers and self.random.random() < 0.5:
            self.values.append([bound(value, of) for value in values])
            return "?"
        return f"({', '.join(self.term(value, of) for value in values)})"

    def tuple(self, values: Sequence[Any], types: Sequence[str]) -> str:
        """Values of several columns."""
        if self.markers and self.random.random() < 0.5:
            self.values.append(tuple(map(bound, values, types)))
            return "?"
        return f"({', '.join(self.term(value, of) for value, of in zip(values, types, strict=True))})"

    def relation(self, relation: Relation, table: Table) -> str:
        """One relation."""
        types = [table.by_name[name].type for name in relation.columns]
        names, operator = ", ".join(relation.columns), relation.operator
        if relation.form == "token":
            return f"token({names}) {operator} {self.term(relation.value, 'bigint')}"
        if relation.form == "tuple":
            if operator != "IN":
                return f"({names}) {operator} {self.tuple(relation.value, types)}"
            return f"({names}) IN ({', '.join(self.tuple(value, types) for value in relation.value)})"
        of = types[0]
        if relation.form == "entry":
            keys, values = parts_of(of)
            return f"{names}[{self.term(relation.key, keys)}] {operator} {self.term(relation.value, values)}"
        if operator.endswith("IN"):
            return f"{names} {operator} {self.terms(relation.value, of)}"
        if operator == "BETWEEN":
            first, last = relation.value
            return f"{names} BETWEEN {self.term(first, of)} AND {self.term(last, of)}"
        if "CONTAINS" in operator:
            of = parts_of(of)[0 if operator.endswith("KEY") else -1]
        return f"{names} {operator} {self.term(relation.value, of)}"

    def where(self, relations: Sequence[Relation], table: Table) -> str:
        """A WHERE, with the space before it; empty of no relations."""
        if not relations:
            return ""
        return " WHERE " + " AND ".join(self.relation(relation, table) for relation in relations)

    def select(self, query: Query, table: Table, name: str, *, filtering: bool) -> str:
        """The whole statement."""
        selectors = [f"{function}({of})" if function else of for function, of in query.selectors]
        text = f"SELECT {'DISTINCT ' * query.distinct}{', '.join(selectors)} FROM {name}"
        text += self.where(query.where, table)
        if query.group:
            text += f" GROUP BY {', '.join(query.group)}"
        if query.order:
            text += f" ORDER BY {', '.join(f'{of} DESC' if down else of for of, down in query.order)}"
        if query.per_partition is not None:
            text += f" PER PARTITION LIMIT {self.term(query.per_partition, 'int')}"
        if query.limit is not None:
            text += f" LIMIT {self.term(query.limit, 'int')}"
        return text + " ALLOW FILTERING" * filtering


# --- tables


def table_of(random: Random) -> Table:
    """A table without rows."""
    kinds = [(PARTITION, random.choice((1, 1, 2, 2, 3))), (CLUSTERING, random.choice((0, 1, 2, 2, 3)))]
    columns = []
    for kind, count in kinds:
        for number in range(count):
            of = random.choice(OF_PARTITION if kind == PARTITION else OF_CLUSTERING)
            down = kind == CLUSTERING and random.random() < 0.4
            columns.append(Column(f"{kind[0]}{number}", kind, of, down))
    for number in range(random.randint(0, 2) if kinds[1][1] else 0):
        of = random.choice(SCALARS + COLLECTIONS[:1] + COLLECTIONS[4:5])
        columns.append(Column(f"s{number}", STATIC, of))
    for number in range(random.randint(0, 5)):
        of = random.choice(SCALARS if random.random() < 0.5 else COLLECTIONS)
        columns.append(Column(f"v{number}", REGULAR, of))
    return Table(columns)


def create(table: Table, name: str) -> str:
    """The CREATE TABLE."""
    shown = [f"{c.name} {c.type}{' STATIC' * (c.kind == STATIC)}" for c in table.columns]
    partition = ", ".join(c.name for c in table.of_kind(PARTITION))
    clustering = table.of_kind(CLUSTERING)
    key = ", ".join([f"({partition})", *(c.name for c in clustering)])
    order = ", ".join(f"{c.name} {'DESC' if c.descending else 'ASC'}" for c in clustering)
    options = f" WITH CLUSTERING ORDER BY ({order})" if order else ""
    return f"CREATE TABLE {name} ({', '.join(shown)}, PRIMARY KEY ({key})){options}"


def indexes_of(random: Random, table: Table) -> list[tuple[str, str]]:
    """Indexes as (kind, column); the kind is empty, keys, values, entries or full."""
    possible: list[tuple[str, str]] = []
    for column in table.columns:
        if column.kind == PARTITION and len(table.of_kind(PARTITION)) == 1:
            continue
        kinds = [""]
        if column.type.startswith("frozen") and column.type != PAIR:
            kinds = ["full"]
        elif column.type.startswith("map"):
            kinds = ["keys", "values", "entries"]
        elif column.is_collection:
            kinds = ["values"]
        possible += [(kind, column.name) for kind in kinds]
    share = random.choice((0.2, 0.5, 0.9))
    return [one for one in possible if random.random() < share]


# --- writes


class Writer:
    """Draws writes: each is applied to the model, and comes back as CQL with {} for the table's name."""

    def __init__(self, random: Random, table: Table) -> None:
        self._random = self.random = random
        self._table = table
        pool = random.choice((2, 3, 6))
        self._keys = {
            c.name: [value_of(random, c.type) for _ in range(pool)]
            for c in table.of_kind(PARTITION, CLUSTERING)
        }
        if len(table.of_kind(PARTITION)) == 1:  # a key of no bytes is none
            name = table.of_kind(PARTITION)[0].name
            self._keys[name] = [value or "x" if value == "" else value for value in self._keys[name]]

    def key(self, *kinds: str) -> dict[str, Any]:
        """Values of key columns."""
        return {c.name: self._random.choice(self._keys[c.name]) for c in self._table.of_kind(*kinds)}

    def key_value(self, name: str) -> Any:
        """A value that a key column may have."""
        return self._random.choice(self._keys[name])

    def write(self) -> str:
        """One write."""
        draw = self._random.random()
        statics = self._table.of_kind(STATIC)
        if draw < 0.5 or not self._table.of_kind(STATIC, REGULAR):
            return self._insert(self.key(PARTITION, CLUSTERING), self._table.of_kind(STATIC, REGULAR))
        if draw < 0.6 and statics:
            return self._insert(self.key(PARTITION), statics, at_least=1)
        return self._delete() if draw > 0.85 else self._update()

    def _text(self, of: dict[str, Any], joint: str) -> str:
        return joint.join(f"{n} = {literal(v, self._table.by_name[n].type)}" for n, v in of.items())

    def _some(self, columns: Sequence[Column], at_least: int) -> list[Column]:
        return self._random.sample(columns, self._random.randint(at_least, len(columns)))

    def _value(self, column: Column) -> Any:
        return None if self._random.random() < 0.15 else value_of(self._random, column.type)

    def _insert(self, key: dict[str, Any], columns: Sequence[Column], at_least: int = 0) -> str:
        values = key | {column.name: self._value(column) for column in self._some(columns, at_least)}
        shown = ", ".join(literal(value, self._table.by_name[name].type) for name, value in values.items())
        text = f"INSERT INTO {{}} ({', '.join(values)}) VALUES ({shown})"
        if self._random.random() < 0.1:
            self._table.write(values, inserts=True, expires=True)
            return f"{text} USING TTL {TTL_S}"
        self._table.write(values, inserts=True)
        return text

    def _update(self) -> str:
        key = self.key(PARTITION, CLUSTERING)
        columns = self._table.of_kind(REGULAR) or self._table.of_kind(STATIC)
        if columns[0].kind == STATIC:
            key = self.key(PARTITION)
        column = self._random.choice(columns)
        where = self._text(key, " AND ")
        if column.is_collection and not column.type.startswith("frozen") and self._random.random() < 0.5:
            more = value_of(self._random, column.type)
            old = self._table.value(key, column.name) or ()
            new = old + more if column.type.startswith("list") else tuple(sorted({*old, *more}))
            if column.type.startswith("map"):
                new = tuple(sorted((dict(old) | dict(more)).items()))
            if "list<" not in column.type and self._random.random() < 0.5:
                return self._take(key, column, more)
            self._table.write(key | {column.name: new}, inserts=False)
            shown = literal(more, column.type)
            return f"UPDATE {{}} SET {column.name} = {column.name} + {shown} WHERE {where}"
        values = {each.name: self._value(each) for each in self._some(columns, 1)}
        expires = self._random.random() < 0.1
        self._table.write(key | values, inserts=False, expires=expires)
        using = f" USING TTL {TTL_S}" if expires else ""
        return f"UPDATE {{}}{using} SET {self._text(values, ', ')} WHERE {where}"

    def _take(self, key: dict[str, Any], column: Column, less: Any) -> str:
        """Elements of a set or keys of a map are taken out."""
        keyed, old = column.type.startswith("map"), self._table.value(key, column.name) or ()
        gone = [item[0] for item in less] if keyed else less
        new = tuple(item for item in old if (item[0] if keyed else item) not in gone)
        self._table.write(key | {column.name: new}, inserts=False)
        shown = ", ".join(literal(item, parts_of(column.type)[0]) for item in gone)
        where = self._text(key, " AND ")
        return f"UPDATE {{}} SET {column.name} = {column.name} - {{{shown}}} WHERE {where}"

    def _delete(self) -> str:
        clustering = self._table.of_kind(CLUSTERING)
        depth = self._random.randint(0, len(clustering))
        partition, suffix = self.key(PARTITION), self.key(CLUSTERING)
        given = {column.name: suffix[column.name] for column in clustering[:depth]}
        where = self._text(partition | given, " AND ")
        columns = self._table.of_kind(REGULAR)
        if depth == len(clustering) and columns and self._random.random() < 0.5:
            names = [column.name for column in self._some(columns, 1)]
            self._table.delete(partition, lambda row: row == given, names)
            return f"DELETE {', '.join(names)} FROM {{}} WHERE {where}"
        if not depth and clustering and self._random.random() < 0.7:
            name = clustering[0].name
            end = suffix[name]
            self._table.delete(partition, lambda row: bool(row[name] > end), [])
            return f"DELETE FROM {{}} WHERE {where} AND {name} > {literal(end, clustering[0].type)}"
        if not depth:
            self._table.delete_partition(tuple(partition.values()))
        else:
            self._table.delete(partition, lambda row: all(row[n] == v for n, v in given.items()), [])
        return f"DELETE FROM {{}} WHERE {where}"


# --- queries


class Asker:
    """Draws SELECTs.

    `likes`: columns whose index serves LIKE; `folded`: columns with an index to which capitals are small.
    """

    def __init__(self, table: Table, writer: Writer, likes: Sequence[str], folded: Sequence[str]) -> None:
        self._random = writer.random
        self._table = table
        self._writer = writer
        self._likes = likes
        self._folded = folded

    def query(self) -> Query:
        """One SELECT."""
        random, table = self._random, self._table
        distinct = bool(table.of_kind(CLUSTERING)) and random.random() < 0.1
        where = self._partition()
        named = table.names_partitions(Query((), tuple(where)))
        if not distinct:
            where += self._clustering(named=named)
        where += self._values(STATIC) if distinct else self._values(STATIC, REGULAR)
        random.shuffle(where)
        draw = random.random()
        group = self._group(where) if not distinct and draw < 0.2 else ()
        if distinct and draw < 0.3:
            group = tuple(column.name for column in table.of_kind(PARTITION))
        aggregates = (bool(group) and not distinct) or (not distinct and draw > 0.85)
        order: tuple[tuple[str, bool], ...] = ()
        if named and table.of_kind(CLUSTERING) and not distinct and random.random() < 0.4:
            order = self._order(where)
        most = (1, 2, 3, 5, 20)
        return Query(
            self._selectors(distinct=distinct, aggregates=aggregates, group=group, named=named),
            tuple(where),
            order,
            group,
            random.choice(most) if random.random() < 0.3 else None,
            random.choice(most)
            if random.random() < 0.2 and not distinct and (group or not aggregates)
            else None,
            distinct,
        )

    def _selectors(
        self, *, distinct: bool, aggregates: bool, group: tuple[str, ...], named: bool
    ) -> tuple[tuple[str, str], ...]:
        random, columns = self._random, list(self._table.columns)
        if distinct:
            statics = self._table.of_kind(STATIC)
            columns = self._table.of_kind(PARTITION) + random.sample(statics, random.randint(0, len(statics)))
            return tuple(("", column.name) for column in columns)
        if not aggregates:
            some = random.sample(columns, random.randint(1, len(columns)))
            return tuple(("", column.name) for column in (some if random.random() < 0.5 else columns))
        found = [("count", "*")] if random.random() < 0.5 else []
        for column in random.sample(columns, random.randint(1, len(columns))):
            functions = ["count"]
            if "<" not in column.type:
                functions += ["min", "max"]
            if column.type in NUMBERS:
                functions += ["sum", "avg"]
            if (group or named) and random.random() < 0.4:
                functions = [""]
            found.append((random.choice(functions), column.name))
        if not any(function for function, _ in found):
            found.append(("count", "*"))
        return tuple(found)

    # --- WHERE

    def _key_value(self, column: Column) -> Any:
        if self._random.random() < 0.8:
            return self._writer.key_value(column.name)
        value = value_of(self._random, column.type)
        return "y" if value == "" else value

    def _partition(self) -> list[Relation]:
        random, columns = self._random, self._table.of_kind(PARTITION)
        draw = random.random()
        if draw < 0.2:
            return []
        if draw < 0.35:
            token = self._table.token(tuple(self._key_value(column) for column in columns))
            names = tuple(column.name for column in columns)
            if random.random() < 0.2:
                return [Relation(names, "=", token, "token")]
            found = [Relation(names, random.choice((">", ">=")), token, "token")]
            other = self._table.token(tuple(self._key_value(column) for column in columns))
            other = LEAST_TOKEN if random.random() < 0.1 else other
            found.append(Relation(names, random.choice(("<", "<=")), other, "token"))
            return random.sample(found, random.randint(1, 2))
        if draw < 0.8:
            return [self._chosen(column) for column in columns]
        return [
            self._chosen(column) if random.random() < 0.6 else self._bound(column)
            for column in columns
            if random.random() < 0.6
        ]

    def _chosen(self, column: Column) -> Relation:
        if self._random.random() < 0.65:
            return Relation((column.name,), "=", self._key_value(column))
        count = self._random.choice((0, 1, 2, 2, 3, 4))
        return Relation((column.name,), "IN", tuple(self._key_value(column) for _ in range(count)))

    def _bound(self, column: Column) -> Relation:
        return Relation((column.name,), self._random.choice(RANGES), self._key_value(column))

    def _clustering(self, *, named: bool) -> list[Relation]:
        random, columns = self._random, self._table.of_kind(CLUSTERING)
        if not columns or random.random() < 0.4:
            return []
        if named and random.random() < 0.35:
            return self._several(columns)
        found: list[Relation] = []
        skips = random.random() < 0.2
        for column in columns:
            draw = random.random()
            if draw < 0.5:
                found.append(self._chosen(column))
            elif draw < 0.8:
                found += self._slice(column)
                if not skips:
                    break
            elif not skips:
                break
        return found

    def _slice(self, column: Column) -> list[Relation]:
        random = self._random
        if random.random() < 0.15:
            ends = (self._key_value(column), self._key_value(column))
            return [Relation((column.name,), "BETWEEN", ends)]
        lower = Relation((column.name,), random.choice((">", ">=")), self._key_value(column))
        upper = Relation((column.name,), random.choice(("<", "<=")), self._key_value(column))
        return random.sample([lower, upper], random.randint(1, 2))

    def _several(self, columns: list[Column]) -> list[Relation]:
        """Relations of several columns, that the key serves where partitions are named."""
        random = self._random
        if random.random() < 0.3:
            first = random.randint(0, len(columns) - 1)
            found = [self._chosen(column) for column in columns[:first]]
            columns = columns[first:]
        else:
            found = []
        names = tuple(c.name for c in columns[: random.randint(1, len(columns))])
        one: Callable[[], tuple[Any, ...]] = lambda: tuple(  # noqa: E731
            self._key_value(self._table.by_name[name]) for name in names
        )
        draw = random.random()
        if draw < 0.25:
            return [*found, Relation(names, "=", one(), "tuple")]
        if draw < 0.5:
            return [*found, Relation(names, "IN", tuple(one() for _ in range(random.randint(1, 4))), "tuple")]
        lower = Relation(names, random.choice((">", ">=")), one(), "tuple")
        names = (
            names
            if random.random() < 0.6
            else tuple(c.name for c in columns[: random.randint(1, len(columns))])
        )
        upper = Relation(names, random.choice(("<", "<=")), one(), "tuple")
        return found + random.sample([lower, upper], random.randint(1, 2))

    def _values(self, *kinds: str) -> list[Relation]:
        """Relations of columns that are no key."""
        columns = self._table.of_kind(*kinds)
        if not columns or self._random.random() < 0.35:
            return []
        return [self._value(self._random.choice(columns)) for _ in range(self._random.choice((1, 1, 2, 3)))]

    def _value(self, column: Column) -> Relation:
        random, names, of = self._random, (column.name,), column.type
        if column.is_collection and (not of.startswith("frozen") or random.random() < 0.3):
            return self._part(column)
        if column.name in self._likes and random.random() < 0.3:
            body = random.choice(("a", "b", "a b", "é", "'"))
            return Relation(names, "LIKE", random.choice(("{}", "{}%", "%{}", "%{}%")).format(body))
        if column.name in self._folded:
            operator = random.choice(("=", "=", "IN", *RANGES))
        else:
            operator = random.choice(("=", "=", "=", "IN", *RANGES, "!=", "NOT IN", "BETWEEN"))
        if operator == "BETWEEN":
            return Relation(names, operator, (value_of(random, of), value_of(random, of)))
        if operator.endswith("IN"):
            return Relation(names, operator, tuple(value_of(random, of) for _ in range(random.randint(1, 3))))
        return Relation(names, operator, value_of(random, of))

    def _part(self, column: Column) -> Relation:
        random, names, parts = self._random, (column.name,), parts_of(column.type)
        keyed = "map<" in column.type
        if keyed and not column.type.startswith("frozen") and random.random() < 0.4:
            key, value = value_of(random, parts[0]), value_of(random, parts[1])
            return Relation(names, random.choice(("=", "=", *RANGES, "!=")), value, "entry", key)
        negated = "NOT " * (random.random() < 0.2)
        if keyed and random.random() < 0.5:
            return Relation(names, f"{negated}CONTAINS KEY", value_of(random, parts[0]))
        return Relation(names, f"{negated}CONTAINS", value_of(random, parts[-1]))

    # --- what comes after

    def _group(self, where: Sequence[Relation]) -> tuple[str, ...]:
        columns = self._table.of_kind(PARTITION, CLUSTERING)
        least = len(self._table.of_kind(PARTITION))
        some = columns[: self._random.randint(least, len(columns))]
        fixed = {r.columns[0] for r in where if r.operator == "=" and r.form == "column"}
        left = [c for c in some if c.name not in fixed or self._random.random() < 0.5]
        if not any(c.kind == CLUSTERING for c in left):  # the end of the partition key is always said
            left = left if columns[least - 1] in left else some[:least]
        return tuple(column.name for column in left)

    def _order(self, where: Sequence[Relation]) -> tuple[tuple[str, bool], ...]:
        columns = self._table.of_kind(CLUSTERING)
        turned = self._random.random() < 0.7
        fixed = {r.columns[0] for r in where if r.operator == "=" and r.form == "column"}
        some = columns[: self._random.randint(1, len(columns))]
        left = [c for c in some if c.name not in fixed or self._random.random() < 0.5]
        return tuple((column.name, column.descending != turned) for column in left)
