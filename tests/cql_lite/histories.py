"""Random tables and histories of modifications (tests/models/cql_writes.py), and their text."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from cql_lite import wire
from tests.models.cql_writes import (
    UNSET,
    Assign,
    Batch,
    Bound,
    Column,
    Condition,
    Row,
    Shape,
    Statement,
    Tick,
    Unset,
    Write,
)

TICK_S = 100
"""Seconds of a tick; what lives for n ticks has a TTL that ends in the middle between two."""
TYPES = (
    "int",
    "text",
    "list<int>",
    "set<text>",
    "map<text, int>",
    "u",
    "frozen<list<int>>",
    "frozen<u>",
    "json",
)
INTEGERS = (-1, 0, 1, 2)
TEXTS = ("a", "b", "c")
DOCUMENTS = ("1", "2", "true", '"x"')
PARTITIONS = ("x", "y")
STAMPS = (1, 2, 3, 4, 5)


def ttl_s(life: int) -> int:
    """The TTL that means so many ticks."""
    return life * TICK_S - TICK_S // 2 if life else 0


# --- drawing


def shape(random: Random, name: str) -> Shape:
    """A table."""
    clustering = tuple(
        (random.choice(("int", "text")), random.random() < 0.4) for _ in range(random.choice((0, 1, 2, 2)))
    )
    columns = [Column(f"v{n}", of) for n, of in enumerate(random.sample(TYPES, 5))]
    if clustering:
        columns += [Column("s0", "int", static=True)]
        columns += [Column("s1", random.choice(TYPES), static=True)]
    return Shape(name, clustering, tuple(columns), random.choice((0, 0, 3)))


def value(random: Random, of: str) -> Any:
    """A value of a type."""
    if of == "int":
        return random.choice(INTEGERS)
    if of == "text":
        return random.choice(TEXTS)
    if of == "json":
        return random.choice(DOCUMENTS)
    if of.endswith("list<int>") or of == "frozen<list<int>>":
        return [random.choice(INTEGERS) for _ in range(random.randint(0, 3))]
    if of == "set<text>":
        return frozenset(random.sample(TEXTS, random.randint(0, 2)))
    if of == "map<text, int>":
        return {key: random.choice(INTEGERS) for key in sorted(random.sample(TEXTS, random.randint(0, 2)))}
    assert of in ("u", "frozen<u>"), of
    a, b = (random.choice((1, 2, None)), random.choice((*TEXTS, None)))
    return {"a": a, "b": b} if of == "frozen<u>" or (a, b) != (None, None) else {"a": 1, "b": None}


class Drawing:
    """Draws statements on one table."""

    def __init__(self, random: Random, table: Shape, *, is_stamped: bool = False) -> None:
        """With `is_stamped` all timestamps are left to the peers."""
        self.random = random
        self.table = table
        self.is_stamped = is_stamped
        self.partial = [column for column in table.columns if column.is_multicell]
        self.statics = [column for column in table.columns if column.static]
        self.regular = [column for column in table.columns if not column.static]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def statement(self) -> Statement:
        """Any."""
        drawn = self.random.random()
        if drawn < 0.12:
            return Tick(self.random.choice((1, 1, 2)))
        if drawn < 0.27:
            return self.batch()
        return self.write(conditional=self.chance(0.25), plain=self.is_stamped)

    def batch(self) -> Batch:
        conditional = self.chance(0.4)
        key = self.random.choice(PARTITIONS)
        count = self.random.randint(1, 4)
        if conditional:
            flags = [n == 0 or self.chance(0.4) for n in range(count)]
            writes = [self.write(conditional=flag, key=key, plain=True) for flag in flags]
            if _mixed(writes):
                writes = writes[:1]
            return Batch(tuple(writes), None, self.sent(), is_frame=self.chance(0.5))
        stamp = None if self.is_stamped else self.random.choice((None, None, *STAMPS))
        plain = stamp is not None or self.is_stamped
        writes = [self.write(conditional=False, plain=plain) for _ in range(count)]
        return Batch(tuple(writes), stamp, self.sent(), is_frame=stamp is None and self.chance(0.5))

    def sent(self) -> int | None:
        return self.random.choice(STAMPS) if self.chance(0.2) and not self.is_stamped else None

    def row(self) -> Row:
        return tuple(
            self.random.choice(INTEGERS if of == "int" else TEXTS) for of, _ in self.table.clustering
        )

    def write(self, *, conditional: bool, key: str = "", plain: bool = False) -> Write:
        """One; a `plain` one has no timestamp."""
        random = self.random
        verb = random.choice(("INSERT", "UPDATE", "UPDATE", "DELETE"))
        bound = self.chance(0.5)
        stamp = None if plain or conditional or self.chance(0.4) else random.choice(STAMPS)
        life = random.choice((0, 1, 2, 3, *[-1] * bound)) if verb != "DELETE" and self.chance(0.35) else None
        partitions: tuple[str, ...] = (key or random.choice(PARTITIONS),)
        if not key and not conditional and verb != "INSERT" and self.chance(0.1):
            partitions = PARTITIONS
        only_static = bool(self.statics) and self.chance(0.15)
        rows: tuple[Row, ...] = () if only_static else (self.row(),)
        if not conditional and verb != "INSERT" and rows and self.table.clustering and self.chance(0.15):
            rows = tuple(dict.fromkeys((*rows, self.row())))
            if len(self.table.clustering) == 2:  # one column is IN
                rows = tuple(dict.fromkeys((rows[0][0], row[1]) for row in rows))
        made = Write(verb, partitions, rows, stamp=stamp, life=life, sent=self.sent(), bound=bound)
        if bound and self.chance(0.1):
            made = _with(made, life=None if verb == "DELETE" else UNSET)
        if bound and not (plain or conditional) and self.chance(0.1):
            made = _with(made, stamp=UNSET)
        columns = self.statics if only_static else list(self.table.columns)
        if conditional:
            made = self.with_conditions(made, only_static)
        if verb == "INSERT":
            return self.insert(made, columns, only_static)
        if verb == "UPDATE":
            if not only_static and self.statics:
                columns = self.regular if self.chance(0.7) else columns
            assigns = self.assigns(columns, bound, is_delete=False)
            if not only_static and all(self.table.column(a.column).static for a in assigns):
                assigns += self.assigns(self.regular, bound, is_delete=False)[:1]
            return _with(made, assigns=tuple(assigns))
        return self.delete(made, columns, only_static)

    def insert(self, made: Write, columns: list[Column], only_static: bool) -> Write:
        some = [c for c in columns if self.chance(0.4)] or columns[:1] * only_static
        assigns = tuple(Assign(c.name, "=", self.value(c.type, made.bound)) for c in some)
        if not only_static and self.chance(0.15):
            kept = tuple(a for a in assigns if a.value is not UNSET)
            return _with(made, assigns=kept, json=self.random.choice(("NULL", "UNSET")))
        return _with(made, assigns=assigns)

    def delete(self, made: Write, columns: list[Column], only_static: bool) -> Write:
        if not only_static and self.table.clustering and not made.is_conditional and self.chance(0.3):
            return _with(made, rows=(), bounds=self.bounds())
        if not only_static and self.chance(0.35):
            return made
        if not made.is_conditional and only_static and self.chance(0.4):
            return made  # the partition
        if not only_static:
            columns = self.regular
        return _with(made, assigns=tuple(self.assigns(columns, made.bound, is_delete=True)))

    def bounds(self) -> tuple[Bound, ...]:
        random, width = self.random, len(self.table.clustering)
        skip = random.randrange(width)
        row = self.row()
        prefix = (Bound(0, "=", (row[:skip],)),) if skip else ()
        if skip and self.chance(0.3):
            prefix = (Bound(0, "IN", tuple(dict.fromkeys((row[:skip], self.row()[:skip])))),)
        if skip == 0 and width == 2 and self.chance(0.25):
            return (Bound(0, "=", (row[:1],)),)
        over = random.randint(skip + 1, width)
        values = [self.row()[skip:over] for _ in range(2)]
        how = random.choice(("IN", "<", "<=", ">", ">=", "both", "both"))
        if how == "IN":
            return (*prefix, Bound(skip, "IN", tuple(dict.fromkeys(values))))
        if how != "both":
            return (*prefix, Bound(skip, how, (values[0],)))
        low, high = sorted(values)
        return (
            *prefix,
            Bound(skip, random.choice((">", ">=")), (low,)),
            Bound(skip, random.choice(("<", "<=")), (high,)),
        )

    def value(self, of: str, bound: bool) -> Any:
        drawn = self.random.random()
        if drawn < 0.2:
            return None
        return UNSET if bound and drawn < 0.3 else value(self.random, of)

    def assigns(self, columns: list[Column], bound: bool, *, is_delete: bool) -> list[Assign]:
        """What SET says, or what is deleted: of each column one thing, of some two parts."""
        chosen = self.random.sample(columns, min(len(columns), self.random.choice((1, 1, 2, 3))))
        found: list[Assign] = []
        for column in chosen:
            found.append(self.assign(column, bound, is_delete=is_delete))
            if column.type == "map<text, int>" and found[-1].at is not None and self.chance(0.3):
                found.append(self.at(column, bound, is_delete=is_delete))
            if column.type == "u" and found[-1].at == "a" and self.chance(0.4):
                found.append(Assign(column.name, "=", None if is_delete else self.value("text", bound), "b"))
        return found

    def assign(self, column: Column, bound: bool, *, is_delete: bool) -> Assign:
        if column.is_multicell and self.chance(0.35) and (is_delete or column.type != "set<text>"):
            return self.at(column, bound, is_delete=is_delete)
        if is_delete:
            return Assign(column.name, "=")
        if not column.is_multicell or column.type == "u" or self.chance(0.4):
            return Assign(column.name, "=", self.value(column.type, bound))
        how = self.random.choice(("+", "-", "prepend") if column.type == "list<int>" else ("+", "-"))
        of = "set<text>" if how == "-" and column.type == "map<text, int>" else column.type
        return Assign(column.name, how, self.value(of, bound))

    def at(self, column: Column, bound: bool, *, is_delete: bool) -> Assign:
        at, of = self.place(column)
        return Assign(column.name, "=", None if is_delete else self.value(of, bound), at)

    def place(self, column: Column) -> tuple[Any, str]:
        """A part of a column, and its type."""
        if column.type == "u":
            return self.random.choice((("a", "int"), ("b", "text")))
        if column.type == "list<int>":
            return self.random.choice((0, 0, 1, 2)), "int"
        return self.random.choice(TEXTS), "int"

    def with_conditions(self, made: Write, only_static: bool) -> Write:
        if made.verb == "INSERT":
            return _with(made, exists=False)
        if self.chance(0.3):
            return _with(made, exists=True)
        columns = self.statics if only_static else list(self.table.columns)
        columns = [column for column in columns if column.type != "json"]
        some = self.random.sample(columns, min(len(columns), self.random.choice((1, 1, 2))))
        return _with(made, conditions=tuple(self.condition(column) for column in some))

    def condition(self, column: Column) -> Condition:
        random, at, of = self.random, None, column.type
        if column.is_multicell and column.type != "set<text>" and self.chance(0.5):
            at, of = self.place(column)
        if of == "set<text>" and self.chance(0.3):
            return Condition(column.name, "CONTAINS", random.choice(TEXTS))
        if of == "map<text, int>" and self.chance(0.3):
            return Condition(column.name, "CONTAINS KEY", random.choice(TEXTS))
        if "list" in of and self.chance(0.3):
            return Condition(column.name, "CONTAINS", random.choice(INTEGERS))
        if of in ("u", "frozen<u>"):
            how = random.choice(("=", "!=", "IN"))
        else:
            how = random.choice(("=", "=", "!=", "<", "<=", ">", ">=", "IN"))
        if how == "IN":
            return Condition(column.name, how, [self.value(of, False) for _ in range(2)], at)
        nullable = how in ("=", "!=")
        wanted = self.value(of, False) if nullable else value(random, of)
        return Condition(column.name, how, wanted, at)


def _with(made: Write, **changes: Any) -> Write:
    return Write(**{**{name: getattr(made, name) for name in made.__dataclass_fields__}, **changes})


def _mixed(writes: list[Write]) -> bool:
    """Whether a batch would be refused: IF NOT EXISTS beside other conditions."""
    kinds = {str(write.exists) for write in writes if write.is_conditional}
    return "False" in kinds and len(kinds) > 1


# --- text


def literal(one: Any, of: str) -> str:
    """A value in CQL."""
    if one is None:
        return "null"
    if isinstance(one, str):
        return f"'{one}'"
    if isinstance(one, list):
        return f"[{', '.join(literal(each, 'int') for each in one)}]"
    if isinstance(one, frozenset):
        return f"{{{', '.join(literal(each, 'text') for each in sorted(one))}}}"
    if isinstance(one, dict):
        quoted = not of.endswith("u") and of != "frozen<u>"
        parts = [f"{literal(key, 'text') if quoted else key}: {literal(v, '')}" for key, v in one.items()]
        return f"{{{', '.join(parts)}}}"
    return str(one)


def given(one: Any, of: str) -> Any:
    """A value as a driver binds it."""
    if one is UNSET:
        return wire.UNSET
    if isinstance(one, dict) and of in ("u", "frozen<u>"):
        return (one["a"], one["b"])
    return sorted(one) if isinstance(one, frozenset) else one


class Text:
    """The text of one statement and its bound values."""

    def __init__(self, table: Shape, history: int) -> None:
        self.table = table
        self.history = history
        self.values: list[Any] = []

    def term(self, one: Any, of: str, bound: bool) -> str:
        if one is not UNSET and not bound:
            return literal(one, of)
        self.values.append(given(one, of))
        return "?"

    def of(self, statement: Statement) -> str:
        """The text."""
        if isinstance(statement, Batch):
            using = "" if statement.stamp is None else f" USING TIMESTAMP {statement.stamp}"
            return f"BEGIN BATCH{using} {'; '.join(self.write(w) for w in statement.writes)}; APPLY BATCH"
        assert isinstance(statement, Write)
        return self.write(statement)

    def write(self, one: Write) -> str:
        if one.verb == "INSERT":
            return self.insert_json(one) if one.json else self.insert(one)
        name = self.table.name
        if one.verb == "UPDATE":
            head = f"UPDATE {name}{self.using(one)} SET "
            head += ", ".join(self.assign(a, one.bound) for a in one.assigns)
        else:
            targets = ", ".join(self.target(a, one.bound) for a in one.assigns)
            head = f"DELETE {targets}{' ' * bool(targets)}FROM {name}{self.using(one)}"
        return f"{head} WHERE {self.where(one)}{self.condition(one)}"

    def using(self, one: Write) -> str:
        parts = []
        if one.stamp is not None:
            parts.append(f"TIMESTAMP {self.term(one.stamp, 'bigint', one.bound)}")
        if one.life is not None:
            life = one.life if isinstance(one.life, Unset) else None if one.life < 0 else ttl_s(one.life)
            parts.append(f"TTL {self.term(life, 'int', one.bound)}")
        return f" USING {' AND '.join(parts)}" if parts else ""

    def insert(self, one: Write) -> str:
        keys = [("h", self.history, "int"), ("p", one.partitions[0], "text")]
        for row in one.rows:
            keys += [(f"c{n}", row[n], of) for n, (of, _) in enumerate(self.table.clustering)]
        named = [*keys, *((a.column, a.value, self.table.column(a.column).type) for a in one.assigns)]
        names = ", ".join(name for name, _, _ in named)
        terms = ", ".join(self.term(v, of, one.bound) for _, v, of in named)
        absent = " IF NOT EXISTS" if one.exists is False else ""
        return f"INSERT INTO {self.table.name} ({names}) VALUES ({terms}){absent}{self.using(one)}"

    def insert_json(self, one: Write) -> str:
        (row,) = one.rows
        members = {"h": self.history, "p": one.partitions[0]}
        members |= {f"c{n}": v for n, v in enumerate(row)}
        for a in one.assigns:
            members[a.column] = sorted(a.value) if isinstance(a.value, frozenset) else a.value
            if self.table.column(a.column).type == "json" and a.value is not None:
                members[a.column] = json.loads(a.value)
        text = self.term(json.dumps(members), "text", one.bound)
        absent = " IF NOT EXISTS" if one.exists is False else ""
        return f"INSERT INTO {self.table.name} JSON {text} DEFAULT {one.json}{absent}{self.using(one)}"

    def assign(self, a: Assign, bound: bool) -> str:
        of = self.table.column(a.column).type
        if a.at is not None:
            target = self.target(a, bound)
            part = {"a": "int", "b": "text"}[a.at] if of == "u" else "int"
            return f"{target} = {self.term(a.value, part, bound)}"
        if a.how == "=":
            return f"{a.column} = {self.term(a.value, of, bound)}"
        of = "set<text>" if a.how == "-" and of == "map<text, int>" else of
        term = self.term(a.value, of, bound)
        if a.how == "prepend":
            return f"{a.column} = {term} + {a.column}"
        return f"{a.column} = {a.column} {a.how} {term}"

    def target(self, a: Assign | Condition, bound: bool) -> str:
        if a.at is None:
            return a.column
        of = self.table.column(a.column).type
        if of == "u":
            return f"{a.column}.{a.at}"
        return f"{a.column}[{self.term(a.at, 'int' if of == 'list<int>' else 'text', bound)}]"

    def where(self, one: Write) -> str:
        parts = [f"h = {self.term(self.history, 'int', one.bound)}"]
        if len(one.partitions) > 1:
            keys = ", ".join(self.term(key, "text", one.bound) for key in one.partitions)
            parts.append(f"p IN ({keys})")
        else:
            parts.append(f"p = {self.term(one.partitions[0], 'text', one.bound)}")
        for number, (of, _) in enumerate(self.table.clustering):
            options = list(dict.fromkeys(row[number] for row in one.rows))
            terms = [self.term(v, of, one.bound) for v in options]
            if len(terms) > 1:
                parts.append(f"c{number} IN ({', '.join(terms)})")
            elif terms:
                parts.append(f"c{number} = {terms[0]}")
        parts += [self.bound(b, one.bound) for b in one.bounds]
        return " AND ".join(parts)

    def bound(self, b: Bound, bound: bool) -> str:
        width = len(b.values[0])
        names = [f"c{n}" for n in range(b.skip, b.skip + width)]
        types = [self.table.clustering[n][0] for n in range(b.skip, b.skip + width)]
        found = []
        for row in b.values:
            terms = [self.term(v, of, bound) for v, of in zip(row, types, strict=True)]
            found.append(terms[0] if width == 1 else f"({', '.join(terms)})")
        left = names[0] if width == 1 else f"({', '.join(names)})"
        return f"{left} IN ({', '.join(found)})" if b.how == "IN" else f"{left} {b.how} {found[0]}"

    def condition(self, one: Write) -> str:
        if one.exists:
            return " IF EXISTS"
        parts = []
        for c in one.conditions:
            column = self.table.column(c.column)
            of = column.type
            if c.at is not None:
                of = {"a": "int", "b": "text"}[c.at] if of == "u" else "int"
            target = self.target(c, one.bound)
            if c.how == "IN":
                parts.append(f"{target} IN ({', '.join(self.term(v, of, one.bound) for v in c.value)})")
            else:
                of = of if "CONTAINS" not in c.how else "int"
                parts.append(f"{target} {c.how} {self.term(c.value, of, one.bound)}")
        return f" IF {' AND '.join(parts)}" if parts else ""


def create(table: Shape) -> str:
    """CREATE TABLE."""
    keys = [f"c{n}" for n in range(len(table.clustering))]
    columns = [f"c{n} {of}" for n, (of, _) in enumerate(table.clustering)]
    columns += [f"{c.name} {c.type}{' static' * c.static}" for c in table.columns]
    orders = [f"c{n} {'DESC' if desc else 'ASC'}" for n, (_, desc) in enumerate(table.clustering)]
    options = [f"CLUSTERING ORDER BY ({', '.join(orders)})"] if orders else []
    options += [f"default_time_to_live = {ttl_s(table.default_life)}"] if table.default_life else []
    return (
        f"CREATE TABLE {table.name} (h int, p text, {', '.join(columns)}, "
        f"PRIMARY KEY ({', '.join(['(h, p)', *keys])})){' WITH ' * bool(options)}{' AND '.join(options)}"
    )
