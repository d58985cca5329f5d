"""Statements and requests as a client might send them that knows CQL, but not what goes with what.

Nearly each is grammatical, and names what is there; types, operators, functions and places are drawn without
asking which of them go together. What a peer answers to them is its own affair: it answers.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

SCALARS: Final = (
    "ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "int",
    "smallint", "text", "time", "timestamp", "timeuuid", "tinyint", "uuid", "varint", "json",
)  # fmt: skip
NESTED: Final = (
    "list<int>", "set<text>", "map<text, int>", "map<int, frozen<u>>", "frozen<list<text>>",
    "frozen<map<text, int>>", "frozen<set<timeuuid>>", "tuple<int, text, double>", "u", "frozen<u>", "w",
    "list<frozen<tuple<int, text>>>", "vector<float, 2>", "vector<text, 2>", "frozen<tuple<int, frozen<u>>>",
    "map<text, json>", "list<duration>", "vector<frozen<list<int>>, 2>",
)  # fmt: skip
COLUMNS: Final = {f"v{n}": of for n, of in enumerate((*SCALARS, *NESTED))}
TABLES: Final = {
    "wide": {"k": "int", "c": "text", "d": "int", "s": "map<text, int>", "sj": "json", **COLUMNS},
    "narrow": {
        "k": "text",
        "a": "int",
        "b": "u",
        "e": "vector<float, 2>",
        "j": "json",
        "m": "map<text, int>",
    },
    "keyed": {"k": "frozen<u>", "l": "timeuuid", "c": "frozen<tuple<int, text>>", "d": "decimal", "v": "int"},
    "counted": {"k": "int", "c": "int", "n": "counter", "m": "counter", "s": "counter"},
}
KEYED: Final = (
    "CREATE TABLE keyed (k frozen<u>, l timeuuid, c frozen<tuple<int, text>>, d decimal, v int, "
    "PRIMARY KEY ((k, l), c, d)) WITH CLUSTERING ORDER BY (c ASC, d DESC)"
)
SCHEMA: Final = (
    "CREATE TYPE u (a int, b text)",
    "CREATE TYPE w (x frozen<u>, y frozen<list<int>>, z frozen<map<text, u>>)",
    "CREATE TABLE wide (k int, c text, d int, s map<text, int> static, sj json static, "
    + ", ".join(f"{name} {of}" for name, of in COLUMNS.items())
    + ", PRIMARY KEY (k, c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC)",
    "CREATE TABLE narrow (k text PRIMARY KEY, a int, b u, e vector<float, 2>, j json, m map<text, int>)",
    KEYED,
    "CREATE TABLE counted (k int, c int, n counter, m counter, s counter static, PRIMARY KEY (k, c))",
    "CREATE INDEX ON narrow (a)", "CREATE INDEX ON narrow (e)", "CREATE INDEX ON narrow (entries(m))",
    "CREATE INDEX ON keyed (v)", "CREATE INDEX ON keyed (c)", "CREATE INDEX ON wide (v12)",
    "CREATE INDEX ON wide (v20)", "CREATE INDEX ON wide (v21)", "CREATE INDEX ON wide (keys(v22))",
    "CREATE INDEX ON wide (full(v24))", "CREATE INDEX ON wide (v27)", "CREATE INDEX ON wide (values(s))",
)  # fmt: skip
CONSTANTS: Final = (
    "0", "1", "-1", "2147483647", "-2147483648", "2147483648", "9223372036854775807",
    "-9223372036854775808", "99999999999999999999999", "1.5", "-0.0", "1e400", "1e-400", "NaN", "-NaN",
    "Infinity", "-Infinity", "1e2147483647", "'a'", "''", "'b'", "'é'", "'\U0001f600'", "'1'",
    "'2020-02-30'", "'2020-02-28'", "'24:00'", "'23:59:59.999999999'", "'2020-01-01T00:00:00Z'",
    "'-5877641-06-23'", "'127.0.0.1'", "'::1'", "true", "false", "null", "0x", "0x00", "0xff",
    "0x0102030405060708", "1h", "-1mo2d3ns", "P1Y2M", "1y", "9223372036854775807ns",
    "550e8400-e29b-11d4-a716-446655440000", "00000000-0000-0000-0000-000000000000",
    "50554d6e-29bb-11e5-b345-feff819cdc9f", "'{\"a\": 1}'", "'[1, null, {}]'", "'\"\\ud800\"'", "'1e999'",
    "'{\"a\": {\"b\": [1, 2]}}'", "'NaN'", "'\"x\"'", "$$it's$$", "\x00", "'\x00'", "2020", "-2", "31",
    "65536",
)  # fmt: skip
FUNCTIONS: Final = (
    "now", "uuid", "current_date", "current_time", "current_timestamp", "current_timeuuid", "to_date",
    "to_timestamp", "to_unix_timestamp", "dateOf", "unixTimestampOf", "min_timeuuid", "max_timeuuid",
    "toJson", "to_json", "fromJson", "from_json", "abs", "exp", "log", "log10", "round", "collection_count",
    "collection_min", "collection_max", "collection_sum", "collection_avg", "map_keys", "map_values",
    "similarity_cosine", "similarity_euclidean", "similarity_dot_product", "token", "writetime", "ttl",
    "maxwritetime", "min", "max", "sum", "avg", "count", "mask_default", "mask_null", "mask_inner",
    "mask_outer", "mask_hash", "mask_replace", "intAsBlob", "int_as_blob", "blobAsInt", "blob_as_text",
    "blobAsVarint", "blob_as_decimal", "blobAsTimeuuid", "blob_as_duration", "blob_as_boolean", "floor",
    "textAsBlob", "nope", "system.now", "elsewhere.f",
)  # fmt: skip
ARITY: Final = {name: 2 for name in FUNCTIONS if name.startswith(("similarity", "mask_replace"))}
OPERATORS: Final = (
    "=", "=", "=", "<", "<=", ">", ">=", "!=", "IN", "NOT IN", "CONTAINS", "CONTAINS KEY", "NOT CONTAINS",
    "NOT CONTAINS KEY", "LIKE", "BETWEEN", "IS NOT NULL", "MATCH", ":",
)  # fmt: skip
KEYS: Final = ("k", "l", "c", "d")
PLACES: Final = ("'a'", "'b'", "'c'", "?", "''")
FIELDS: Final = ("a", "b", "x", "y", "z", "q")


class Drawing:
    """Draws texts."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.wild = random.choice((0.0, 0.02, 0.1, 0.4))
        """The share of what does not go with its place."""

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def one(self, *options: Any) -> Any:
        return self.random.choice(options)

    def statement(self) -> str:
        """Any."""
        drawn = self.random.random()
        if drawn < 0.5:
            return self.select()
        if drawn < 0.9:
            return self.write()
        if drawn < 0.96:
            writes = "; ".join(self.write() for _ in range(self.random.randint(0, 3)))
            kind = self.one("", "", "UNLOGGED ", "COUNTER ")
            return f"BEGIN {kind}BATCH{self.using()} {writes}; APPLY BATCH"
        return self.schema()

    def table(self) -> str:
        self.name: str = self.random.choices(tuple(TABLES), (4, 3, 2, 1))[0]
        self.columns = TABLES[self.name]
        return self.name

    def column(self) -> str:
        if self.chance(self.wild / 10):
            return "nope"
        return str(self.random.choice(list(self.columns)))

    def value_column(self) -> str:
        """One that is no key."""
        return str(self.random.choice([name for name in self.columns if name not in KEYS]))

    # --- terms

    def term(self, depth: int = 0, of: str = "") -> str:
        """Of a type, if one is given; mostly."""
        drawn = self.random.random()
        if drawn < 0.12:
            return str(self.one("?", "?", "?", ":name"))
        if of and not self.chance(self.wild):
            return self.literal(of) if drawn < 0.9 else self.fitting(of)
        if drawn < 0.7 or depth > 3:
            return str(self.random.choice(CONSTANTS))

        def inner() -> str:
            return self.term(depth + 1)

        forms = (
            lambda: f"[{inner()}, {inner()}]",
            lambda: f"{{{inner()}, {inner()}}}",
            lambda: "{}",
            lambda: "[]",
            lambda: f"{{{inner()}: {inner()}}}",
            lambda: f"({inner()}, {inner()})",
            lambda: f"({inner()})",
            lambda: f"{{a: {inner()}, b: {inner()}}}",
            lambda: f"{inner()} {self.one(*'+-*/%')} {inner()}",
            lambda: f"-{inner()}",
            lambda: f"({self.type()}){inner()}",
            lambda: self.call(inner),
            lambda: f"cast({inner()} as {self.type()})",
        )
        return str(self.random.choice(forms)())

    def fitting(self, of: str) -> str:
        """What is computed to be of a type, or might be."""
        one = self.literal(of)
        return str(
            self.one(
                f"({of}){one}",
                f"cast({one} as {of})",
                f"from_json({self.literal('text')})",
                f"-{one}",
                f"{one} {self.one(*'+-*/%')} {self.literal(of)}",
                self.call(lambda: self.literal(of)),
            )
        )

    def literal(self, of: str) -> str:
        """A value of a type."""
        random = self.random
        if of.startswith("frozen<"):
            return self.literal(of[7:-1])
        if "<" in of:
            kind, inner = of.split("<", 1)
            parts = split(inner[:-1])
            if kind == "tuple":
                return f"({', '.join(map(self.literal, parts))})"
            if kind == "vector":
                return f"[{', '.join(self.literal(parts[0]) for _ in range(int(parts[1])))}]"
            some = range(random.randint(0, 2))
            if kind == "map":
                pairs = ", ".join(f"{self.literal(parts[0])}: {self.literal(parts[1])}" for _ in some)
                return f"{{{pairs}}}"
            items = ", ".join(self.literal(parts[0]) for _ in some)
            return f"[{items}]" if kind == "list" else f"{{{items}}}"
        known: dict[str, tuple[str, ...]] = {
            "text": ("'a'", "'b'", "''", "'é'"),
            "ascii": ("'a'", "'b'"),
            "boolean": ("true", "false"),
            "blob": ("0x", "0x00ff"),
            "date": ("'2020-02-28'", "'1969-12-31'"),
            "inet": ("'127.0.0.1'", "'::1'"),
            "time": ("'23:59:59'", "'00:00:00.000000001'"),
            "timestamp": ("'2020-01-01'", "-1", "0"),
            "timeuuid": ("50554d6e-29bb-11e5-b345-feff819cdc9f", "now()"),
            "duration": ("1h", "-1mo2d"),
            "uuid": ("550e8400-e29b-11d4-a716-446655440000", "uuid()"),
            "decimal": ("1.50", "-3", "1e10"),
            "float": ("1.5", "NaN", "0", "-Infinity"),
            "double": ("1.5", "-0.0", "NaN", "1e308"),
            "u": ("{a: 1, b: 'x'}", "{a: null}", "{b: ''}"),
            "w": ("{x: {a: 1}, y: [1, 2]}", "{z: {'k': {a: 2}}}"),
            "json": ('\'{"a": {"b": 1}}\'', "'[1, 2]'", "'null'", "'\"x\"'"),
        }
        return random.choice(known.get(of, ("0", "1", "2", "-1", "127")))

    def type(self) -> str:
        return str(
            self.random.choice((*SCALARS, *NESTED, "counter", "nope", "frozen<int>", "vector<int, 0>"))
        )

    def call(self, inner: Any) -> str:
        name = self.random.choice(FUNCTIONS)
        if not self.chance(self.wild):
            name = self.random.choice(FUNCTIONS[FUNCTIONS.index("abs") :])
        count = self.random.choice((0, 1, 1, 1, 2, 3)) if self.chance(self.wild) else ARITY.get(name, 1)
        return f"{name}({', '.join(inner() for _ in range(count))})"

    def target(self) -> str:
        """A column, or a place in one."""
        column = self.column() if self.chance(self.wild) else self.value_column()
        return self.within(column)

    def within(self, column: str) -> str:
        """A column of this name, or a place in it."""
        drawn, of = self.random.random(), self.columns.get(column, "")
        if drawn < 0.5:
            return column
        if not self.chance(self.wild):
            if of == "json":
                return column + "".join(f"[{self.one(*PLACES)}]" for _ in range(self.one(1, 1, 2, 3)))
            if of.startswith(("map", "list")):
                keys = split(of[of.index("<") + 1 : -1])[0] if of.startswith("map") else "int"
                return f"{column}[{self.term(3, keys)}]"
            return f"{column}.{self.random.choice('ab' if of == 'u' else 'xyz')}" if of in "uw" else column
        if drawn < 0.8:
            places = "".join(
                f"[{self.term(3, self.one('text', 'int'))}]" for _ in range(self.one(1, 1, 1, 2, 3))
            )
            return column + places
        if drawn < 0.95:
            return f"{column}.{'.'.join(self.random.choice(FIELDS) for _ in range(self.one(1, 1, 2)))}"
        return f"{column}[{self.term(3)}].a"

    # --- SELECT

    def selector(self, depth: int = 0) -> str:
        drawn = self.random.random()
        if drawn < 0.5 and not depth and not self.chance(self.wild):
            return self.within(self.column())
        if drawn < 0.4 or depth > 2:
            return self.target()
        if drawn < 0.45:
            first, last = (self.one("", self.term(3)) for _ in range(2))
            return f"{self.column()}[{first}..{last}]"

        def inner() -> str:
            return self.selector(depth + 1)

        if drawn < 0.75:
            return self.call(inner)
        if drawn < 0.8:
            return self.term(2)
        if drawn < 0.85:
            return f"cast({inner()} as {self.type()})"
        if drawn < 0.9:
            return f"{inner()} {self.one(*'+-*/%')} {inner()}"
        return str(
            self.one(
                f"[{inner()}]",
                f"({inner()}, {inner()})",
                f"{{{inner()}: {inner()}}}",
                "count(*)",
                f"({self.type()}){inner()}",
                f"-{inner()}",
                f"{{a: {inner()}}}",
                f"{{{inner()}}}",
            )
        )

    def select(self) -> str:
        table = self.table()
        if self.chance(0.15):
            shown = "*"
        else:
            some = [self.selector() + self.one("", "", "", " AS x") for _ in range(self.one(1, 1, 2, 3))]
            shown = ", ".join(some)
        text = f"SELECT {self.one('', '', '', '', '', 'DISTINCT ', 'JSON ')}{shown} FROM {table}"
        relations = [self.relation() for _ in range(self.one(0, 1, 1, 2, 3))]
        if self.chance(0.5):
            relations = [*self.key(0.6), *relations[:1]]
        text += f" WHERE {' AND '.join(relations)}" if relations else ""
        if self.chance(0.15):
            groups = [self.one(self.column(), "k", "c", "d") for _ in range(self.one(1, 2))]
            text += f" GROUP BY {', '.join(groups)}"
        if self.chance(0.2):
            orders = (
                f"{self.column()} DESC",
                "c DESC, d ASC",
                "c",
                "d DESC",
                "c ASC",
                "c ASC, d DESC",
                f"{self.column()} ANN OF {self.term(1, 'vector<float, 2>')}",
            )
            text += f" ORDER BY {self.one(*orders)}"
        if self.chance(0.1):
            text += f" PER PARTITION LIMIT {self.one('1', '2', '?', '0', '-1')}"
        if self.chance(0.3):
            text += f" LIMIT {self.one('1', '2', '?', '0', '2147483647')}"
        return text + " ALLOW FILTERING" * self.chance(0.7)

    def key(self, share: float) -> list[str]:
        """Relations of the primary key."""
        names = [name for name in KEYS if name in self.columns]
        names = names[:-1] if self.chance((1 - share) * min(1, 4 * self.wild)) and len(names) > 1 else names
        found = []
        for name in names:
            of = self.columns[name]
            if self.chance(0.15):
                found.append(
                    f"{name} IN ({', '.join(self.term(3, of) for _ in range(self.one(0, 1, 2, 3)))})"
                )
            else:
                found.append(f"{name} {'>' if self.chance(self.wild / 4) else '='} {self.term(3, of)}")
        return found

    def relation(self) -> str:
        operator = self.random.choice(OPERATORS)
        drawn = self.random.random()
        if not self.chance(self.wild) and self.chance(0.8):
            operator = self.one(*OPERATORS[:7], "IN")
        if drawn < 0.06:
            return f"token({self.one('k', 'k, l', 'c')}) {operator} {self.one('token(1)', self.term(2))}"
        if drawn < 0.12:
            columns = self.one("c", "c, d", "d", "d, c", "c, c")
            value = self.one(f"({self.term(3)}, {self.term(3, 'int')})", "?", "('a', 1)", "(?, 2)")
            return f"({columns}) {operator} {f'({value})' if operator.endswith('IN') else value}"
        target = self.target()
        of = self.columns.get(target, "")
        if "CONTAINS" in operator and "<" in of:
            of = split(of[of.index("<") + 1 : -1])[0 if operator.endswith("KEY") else -1]
        if operator == "IS NOT NULL":
            return f"{target} IS NOT NULL"
        if operator == "BETWEEN":
            return f"{target} BETWEEN {self.term(2, of)} AND {self.term(2, of)}"
        if operator.endswith("IN"):
            values = ", ".join(self.term(2, of) for _ in range(self.one(0, 1, 2, 3)))
            return f"{target} {operator} {self.one('?', f'({values})', f'({values})')}"
        return f"{target} {operator} {self.term(1, of)}"

    # --- writes

    def using(self) -> str:
        if self.chance(0.85):
            return ""
        values = (
            "?",
            "1",
            "0",
            "-1",
            "100",
            "9223372036854775807",
            "-9223372036854775808",
            "630720001",
            "null",
        )
        parts = self.random.sample(
            [f"TIMESTAMP {self.one(*values)}", f"TTL {self.one(*values)}"], self.one(1, 2)
        )
        return f" USING {' AND '.join(parts)}"

    def write(self) -> str:
        table = self.table()
        verb = self.random.choice(("INSERT", "INSERT", "UPDATE", "UPDATE", "DELETE"))
        if table == "counted" and verb == "INSERT" and not self.chance(self.wild):
            verb = "UPDATE"
        if verb == "INSERT":
            return self.insert(table)
        where = [*self.key(0.8), *([self.relation()] if self.chance(0.05) else [])]
        changes = ", ".join(self.change() for _ in range(self.one(1, 1, 2, 3)))
        text = f"UPDATE {table}{self.using()} SET {changes}"
        if verb == "DELETE":
            targets = ", ".join(self.target() for _ in range(self.one(0, 0, 1, 2)))
            text = f"DELETE {targets} FROM {table}{self.using()}"
        return f"{text} WHERE {' AND '.join(where)}{self.condition()}"

    def insert(self, table: str) -> str:
        absent = " IF NOT EXISTS" * self.chance(0.15)
        if self.chance(0.2):
            members = {name: self.random.choice(JSON) for name in self.columns if self.chance(0.3)}
            members |= {name: self.one("1", '"a"', "null") for name in "kcd" if name in self.columns}
            document = ", ".join(f'"{name}": {value}' for name, value in members.items()).replace("'", "''")
            default = self.one("", " DEFAULT NULL", " DEFAULT UNSET")
            return f"INSERT INTO {table} JSON '{{{document}}}'{default}{absent}{self.using()}"
        names: list[str] = [name for name in KEYS if name in self.columns and not self.chance(self.wild / 10)]
        others: list[str] = [name for name in self.columns if name not in KEYS]
        names += self.random.sample(others, min(len(others), self.one(0, 1, 2, 3)))
        terms = ", ".join(self.term(0, self.columns[name]) for name in names)
        return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({terms}){absent}{self.using()}"

    def change(self) -> str:
        target = self.target()
        of = self.columns.get(target, "")
        if self.chance(0.3) or (self.name == "counted" and not self.chance(self.wild)):
            column = self.column() if self.chance(self.wild) else self.value_column()
            of = self.columns.get(column, "")
            sign = self.one("+", "+", "-", "+=", "-=", "pre")
            if "<" not in of and of != "counter" and not self.chance(self.wild):
                return f"{column} = {self.term(0, of)}"
            if sign == "pre":
                return f"{column} = {self.term(1, of)} + {column}"
            if "=" in sign:
                return f"{column} {sign} {self.term(1, of)}"
            return f"{column} = {column} {sign} {self.term(1, of)}"
        if not of and target[-1] == "]" and not self.chance(self.wild):
            of = inner_of(self.columns.get(target.split("[")[0], "int"))
        return f"{target} = {self.term(0, of)}"

    def condition(self) -> str:
        drawn = self.random.random()
        if drawn < 0.6:
            return ""
        if drawn < 0.7:
            return " IF EXISTS"
        return f" IF {' AND '.join(self.relation() for _ in range(self.one(1, 1, 2)))}"

    # --- schema

    def schema(self) -> str:
        """Nothing that takes what the others name."""
        table = self.table()
        one, name = self.one, f"x{self.random.randrange(10)}"
        option = one("comment", "default_time_to_live", "nope", "caching")
        index = f"{name} ON {table} ({one('keys', 'values', 'entries', 'full', '')}({self.column()}))"
        options = f"WITH OPTIONS = {{'similarity_function': {self.term(5)}}}"
        forms = (
            f"CREATE TABLE {name} (k {self.type()}, c {self.type()}, v {self.type()}, PRIMARY KEY (k, c))",
            f"CREATE TYPE {name} (a {self.type()}, b {self.type()})",
            f"CREATE INDEX {index}",
            f"CREATE CUSTOM INDEX {name} ON {table} ({self.column()}) USING '{one('sai', 'nope')}' {options}",
            f"ALTER TABLE {name} {one('ADD', 'DROP', 'RENAME')} a {self.type()}",
            f"ALTER TYPE {one('u', name)} {one('ADD', 'RENAME')} {name} {one('TO y', self.type())}",
            f"ALTER TABLE {table} WITH {option} = {self.term(4)}",
            f"DROP {one('TABLE', 'TYPE', 'INDEX')} IF EXISTS {name}",
            f"CREATE KEYSPACE {name} WITH replication = {self.term(2)}",
            f"DESCRIBE {one('TABLE', 'TYPE', 'INDEX', '')} {one(table, name, 'u')}",
            f"LIST {one('ROLES', 'ALL PERMISSIONS', 'USERS')}",
            f"CREATE ROLE IF NOT EXISTS {name} WITH {one('PASSWORD', 'LOGIN', 'OPTIONS')} = {self.term(4)}",
            f"TRUNCATE {name}",
            self.of_system(),
        )
        return str(self.random.choice(forms))

    def of_system(self) -> str:
        """What the peer tells of itself."""
        table = self.one("system.local", "system.peers", "system_schema.columns", "system_views.clients")
        where = f"{self.one('key', 'keyspace_name', 'token(key)')} {self.random.choice(OPERATORS)}"
        return f"SELECT {self.one('*', 'count(*)', 'nope')} FROM {table} WHERE {where} {self.term(2)}"


JSON: Final = (
    "1", "-1", "1.5", "1e400", "null", "true", '""', '"a"', '"\\ud800"', '"\\u0000"', "[]", "[1, 2]",
    "[null]", '["a", 1]', "{}", '{"a": 1}', '{"a": 1, "b": "x"}', '{"A": 1}', '{"1": 2}', '"0x00"',
    '"2020-01-01"', '"1h"', '"127.0.0.1"', '"50554d6e-29bb-11e5-b345-feff819cdc9f"', "[1.5, 2.5]",
    '[1, "a", 2.5]', '"NaN"', "1e2147483648", '{"x": {"a": 1}, "y": [1]}', "123456789012345678901234567890",
    '[[1], [2]]', '{"a": {"a": {"a": []}}}', "NaN", "-",
)  # fmt: skip


def inner_of(of: str) -> str:
    """The type of an element."""
    return split(of[of.index("<") + 1 : -1])[-1] if "<" in of else "text" if of == "json" else of


def split(inner: str) -> list[str]:
    """The parameters of a type."""
    found, depth, at = [], 0, 0
    for number, sign in enumerate(inner):
        depth += {"<": 1, ">": -1}.get(sign, 0)
        if sign == "," and not depth:
            found.append(inner[at:number].strip())
            at = number + 1
    return [*found, inner[at:].strip()]
