"""The part of the parser that reads CREATE, ALTER, DROP, TRUNCATE, USE and DESCRIBE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn

from cql_lite import ast, lexer
from cql_lite.ast import ColumnDefinition, Name, Option
from cql_lite.errors import InvalidRequestError
from cql_lite.parse_roles import Roles

_ABSENT: Final = {
    "FUNCTION": "User-defined functions are disabled: there are none in this version",
    "AGGREGATE": "User-defined functions and aggregates are disabled: there are none in this version",
    "TRIGGER": "Triggers are disabled: there are none in this version; read the table's changes instead",
    "MATERIALIZED": "Materialized views are disabled: there are none in this version; make an index",
}
"""Why there is no such thing; the statements are CQL, so what refuses them is no syntax error."""
_COLLECTION_PARTS: Final = {
    "KEYS": ast.KEYS_INDEX,
    "VALUES": ast.VALUES_INDEX,
    "ENTRIES": ast.ENTRIES_INDEX,
    "FULL": ast.FULL_INDEX,
}
_KEYSPACE, _TABLE = ("KEYSPACE", "SCHEMA"), ("TABLE", "COLUMNFAMILY")
_MADE: Final = "KEYSPACE, TABLE, TYPE, INDEX, ROLE or USER"
_LISTED: Final = frozenset(["CLUSTER", "KEYSPACES", "TABLES", "TYPES", "INDEXES", "FUNCTIONS", "AGGREGATES"])
_DESCRIBED: Final = frozenset(["INDEX", "TYPE", "FUNCTION", "AGGREGATE"])


_AFTER_TYPE: Final = {
    "(": "types take no length: write text, or vector<float, 3>",
    "NOT": "any column outside the primary key may be null",
    "NULL": "any column outside the primary key may be null",
    "DEFAULT": "columns have no defaults",
    "UNIQUE": "there are no unique columns: make it the primary key, or INSERT ... IF NOT EXISTS",
    "AUTO_INCREMENT": "there are no sequences: use a uuid, made by uuid() or now()",
    "REFERENCES": "there are no foreign keys",
}


class SchemaParser(Roles):
    """Reads statements about the schema."""

    def create(self) -> ast.Statement:
        """CREATE, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        up = self.ups[self.index]
        self.index += 1
        if up in _KEYSPACE:
            return self._create_keyspace(at)
        if up in _TABLE:
            return self._create_table(at)
        if up == "TYPE":
            return self._create_type(at)
        if up == "INDEX":
            return self._create_index(at, custom=False)
        if up == "CUSTOM":
            self.expect("INDEX", "CREATE CUSTOM")
            return self._create_index(at, custom=True)
        if up in ("ROLE", "USER"):
            return self.create_role(at, user=up == "USER")
        if up == "OR":
            self.expect("REPLACE", "CREATE OR")
            up = self.ups[self.index]
            self.index += 1
        return self._no_such(up, f"{_MADE} after CREATE")

    def _no_such(self, up: str, expected: str) -> NoReturn:
        if up in _ABSENT:
            raise InvalidRequestError(_ABSENT[up])
        self.index -= 1
        self.fail(expected)

    # --- keyspaces

    def _create_keyspace(self, at: ast.At) -> ast.CreateKeyspace:
        if_not_exists = self.if_not_exists()
        name = self.name("a keyspace")
        self.expect("WITH", "the keyspace")
        return ast.CreateKeyspace(name, self._options(), if_not_exists, at)

    def _options(self) -> tuple[Option, ...]:
        self.following = "AND or "
        options = self.several(self._option, "AND")
        self._once(options)
        return options

    def _once(self, options: Iterable[Option]) -> None:
        """Each option is given once."""
        met: set[str] = set()
        for option in options:
            if option.name in met:
                self.wrong(option.at, f"Multiple definition for property '{option.name}'")
            met.add(option.name)

    def _option(self) -> Option:
        at = self.at()
        name = self.ident("an option")
        self.expect("=", f"the option {name}")
        if self.ups[self.index] == "{":
            return Option(name, self.pairs(), at)
        return Option(name, self._option_text(), at)

    def _option_text(self) -> str:
        if self.kinds[self.index] == lexer.WORD and self.ups[self.index] not in ("NAN", "INFINITY"):
            self.index += 1
            return self.texts[self.index - 1].lower()
        found = self.value()
        if not isinstance(found, ast.Literal):
            self.wrong(self.at(), "an option is text, a number, true, false or a map of these")
        return found.text

    # --- tables

    def _create_table(self, at: ast.At) -> ast.CreateTable:
        if_not_exists = self.if_not_exists()
        table = self.qualified("a table")
        if self.ups[self.index] == "LIKE":
            raise InvalidRequestError(
                "CREATE TABLE LIKE is not supported: DESCRIBE TABLE gives the statement to write"
            )
        self.expect("(", "the table")
        columns: list[ColumnDefinition] = []
        keys: list[tuple[tuple[Name, ...], tuple[Name, ...]]] = []
        while True:
            key = self._primary_key(columns)
            if key is not None:
                keys.append(key)
            if not self.accept(","):
                break
            if self.ups[self.index] == ")":
                break
        if self.ups[self.index] != ")":
            hint = _AFTER_TYPE.get(self.ups[self.index], "")
            self.fail("a comma, ), STATIC or PRIMARY KEY after the type of a column", hint)
        if len(keys) != 1:
            count = "Multiple PRIMARY KEYs" if keys else "No PRIMARY KEY"
            raise InvalidRequestError(
                f"{count} specifed for table '{table.name}' (exactly one required): every table has a "
                "primary key; list all its columns in one PRIMARY KEY (...)"
            )
        self.index += 1
        self.following = "WITH or "
        order, options, compact = self._properties() if self.accept("WITH") else ((), (), False)
        return ast.CreateTable(
            table,
            tuple(columns),
            keys[0][0],
            keys[0][1],
            order,
            options,
            compact_storage=compact,
            if_not_exists=if_not_exists,
            at=at,
        )

    def _primary_key(
        self, columns: list[ColumnDefinition]
    ) -> tuple[tuple[Name, ...], tuple[Name, ...]] | None:
        """Read a column into `columns`, or PRIMARY KEY (...); the key if there was one in either form."""
        if self.accept("PRIMARY"):
            self.expect("KEY", "PRIMARY")
            self.expect("(", "PRIMARY KEY")
            if self.accept("("):
                partition = self.several(lambda: self.name("a column"))
                self.expect(")", "the partition key")
            else:
                partition = (self.name("a column"),)
            clustering: tuple[Name, ...] = ()
            if self.accept(","):
                clustering = self.several(lambda: self.name("a column"))
            self.expect(")", "the primary key")
            return partition, clustering
        column = self._column()
        columns.append(column)
        if self.accept("PRIMARY"):
            self.expect("KEY", "PRIMARY")
            return (Name(column.name, column.at),), ()
        return None

    def _column(self) -> ColumnDefinition:
        at = self.at()
        name = self.ident("a column")
        type_ = self.type()
        static = self.accept("STATIC")
        self._not_masked()
        return ColumnDefinition(name, type_, static, at)

    def _not_masked(self) -> None:
        if self.ups[self.index] == "MASKED" and self.ups[self.index + 1] == "WITH":
            raise InvalidRequestError(
                "Cannot mask columns because dynamic data masking is not enabled: this version has none"
            )

    def _properties(self) -> tuple[tuple[ast.ClusteringOrder, ...], tuple[Option, ...], bool]:
        order: tuple[ast.ClusteringOrder, ...] = ()
        options: list[Option] = []
        compact = False
        while True:
            if self.accept_words("CLUSTERING", "ORDER"):
                self.expect("BY", "CLUSTERING ORDER")
                self.expect("(", "CLUSTERING ORDER BY")
                order += self.several(self._clustering)
                self.expect(")", "ASC or DESC")
            elif self.accept_words("COMPACT", "STORAGE"):
                compact = True
            else:
                options.append(self._option())
            if not self.accept("AND"):
                break
        self.following = "AND or "
        self._once(options)
        return order, tuple(options), compact

    def _clustering(self) -> ast.ClusteringOrder:
        at = self.at()
        column = self.ident("a clustering column")
        descending = self.accept("DESC")
        if not descending:
            self.expect("ASC", "the column, or DESC")
        return ast.ClusteringOrder(column, descending, at)

    # --- types and indexes

    def _create_type(self, at: ast.At) -> ast.CreateType:
        if_not_exists = self.if_not_exists()
        name = self.qualified("a type")
        self.expect("(", "the type")
        fields = [self._field()]
        while self.accept(",") and self.ups[self.index] != ")":
            fields.append(self._field())
        self._close(")", "a field")
        self.following = ""
        return ast.CreateType(name, tuple(fields), if_not_exists, at)

    def _field(self) -> ColumnDefinition:
        at = self.at()
        return ColumnDefinition(self.ident("a field"), self.type(), at=at)

    def _create_index(self, at: ast.At, *, custom: bool) -> ast.CreateIndex:
        if_not_exists = self.if_not_exists()
        name = "" if self.ups[self.index] == "ON" else self.ident("the index, or ON")
        self.expect("ON", "the index")
        table = self.qualified("a table after ON")
        self.expect("(", "the table")
        targets = self.several(self._index_target)
        self.expect(")", "the column")
        using = self.string("a kind of index after USING") if self.accept("USING") else ""
        options: tuple[tuple[str, str], ...] = ()
        if self.accept("WITH"):
            self.expect("OPTIONS", "WITH")
            self.expect("=", "OPTIONS")
            options = self.pairs()
        self.following = "" if options else ("WITH OPTIONS or " if using else "USING, WITH OPTIONS or ")
        return ast.CreateIndex(name, table, targets, using, options, custom, if_not_exists, at)

    def _index_target(self) -> ast.IndexTarget:
        at = self.at()
        kind = _COLLECTION_PARTS.get(self.ups[self.index])
        if kind is None or self.ups[self.index + 1] != "(":
            return ast.IndexTarget(self.ident("a column"), at=at)
        self.index += 2
        column = self.ident("a column")
        self.expect(")", "the column")
        return ast.IndexTarget(column, kind, at)

    # --- ALTER

    def alter(self) -> ast.Statement:
        """ALTER, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        up = self.ups[self.index]
        self.index += 1
        if up in _TABLE:
            return self._alter_table(at)
        if up == "TYPE":
            return self._alter_type(at)
        if up in _KEYSPACE:
            if_exists = self.if_exists()
            name = self.name("a keyspace")
            self.expect("WITH", "the keyspace")
            return ast.AlterKeyspace(name, self._options(), if_exists, at)
        if up in ("ROLE", "USER"):
            return self.alter_role(at, user=up == "USER")
        return self._no_such(up, "KEYSPACE, TABLE, TYPE, ROLE or USER after ALTER")

    def _alter_table(self, at: ast.At) -> ast.Statement:
        if_exists = self.if_exists()
        table = self.qualified("a table")
        self.following = ""
        if self.accept("ADD"):
            if_not_exists = self.if_not_exists()
            columns = self._either(self._column)
            return ast.AddColumns(table, columns, if_exists, if_not_exists, at)
        if self.accept("DROP"):
            if_column_exists = self.if_exists()
            names = self._either(lambda: self.name("a column"))
            timestamp = None
            if self.accept("USING"):
                self.expect("TIMESTAMP", "USING")
                timestamp = self.number("after TIMESTAMP")
                if self.markers:
                    self.wrong(self.markers[0].at, "nothing can be bound in ALTER", "write the number")
            return ast.DropColumns(table, names, if_exists, if_column_exists, timestamp, at)
        if self.accept("RENAME"):
            if_column_exists = self.if_exists()
            renames = self.several(lambda: self._rename("a column"), "AND")
            return ast.RenameColumns(table, renames, if_exists, if_column_exists, at)
        if self.accept("WITH"):
            return ast.AlterTable(table, self._options(), if_exists, at)
        if self.ups[self.index] == "ALTER":
            raise InvalidRequestError(
                "Altering column types is no longer supported (it cannot be changed): add another column"
            )
        return self.fail("ADD, DROP, RENAME or WITH after the table")

    def _rename(self, what: str) -> tuple[Name, Name]:
        old = self.name(what)
        self.expect("TO", "the old name")
        return old, self.name(what)

    def _alter_type(self, at: ast.At) -> ast.Statement:
        if_exists = self.if_exists()
        name = self.qualified("a type")
        self.following = ""
        if self.accept("ADD"):
            if_not_exists = self.if_not_exists()
            return ast.AddFields(name, self._either(self._field), if_exists, if_not_exists, at)
        if self.accept("RENAME"):
            if_field_exists = self.if_exists()
            renames = self.several(lambda: self._rename("a field"), "AND")
            return ast.RenameFields(name, renames, if_exists, if_field_exists, at)
        if self.ups[self.index] == "ALTER":
            raise InvalidRequestError(
                "Altering field types is no longer supported (it cannot be changed): add another field"
            )
        return self.fail("ADD or RENAME after the type")

    # --- DROP, TRUNCATE, USE

    def drop(self) -> ast.Statement:
        """DROP, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        up = self.ups[self.index]
        self.index += 1
        self.following = ""
        if up in _KEYSPACE:
            if_exists = self.if_exists()
            return ast.DropKeyspace(self.name("a keyspace"), if_exists, at)
        if up in _TABLE:
            if_exists = self.if_exists()
            return ast.DropTable(self.qualified("a table"), if_exists, at)
        if up == "TYPE":
            if_exists = self.if_exists()
            return ast.DropType(self.qualified("a type"), if_exists, at)
        if up == "INDEX":
            if_exists = self.if_exists()
            return ast.DropIndex(self.qualified("an index"), if_exists, at)
        if up in ("ROLE", "USER"):
            if_exists = self.if_exists()
            return ast.DropRole(self.role(), if_exists, up == "USER", at)
        if up in _ABSENT:
            return self._drop_absent(up, at)
        return self._no_such(up, f"{_MADE} after DROP")

    def _drop_absent(self, up: str, at: ast.At) -> ast.DropAbsent:
        """DROP of a function, aggregate, trigger or view: there is none, which IF EXISTS takes."""
        if up == "MATERIALIZED":
            self.expect("VIEW", "MATERIALIZED")
        if_exists = self.if_exists()
        name = self.qualified(f"a {up.lower()}")
        if up == "TRIGGER":
            self.expect("ON", "the trigger")
            name = ast.QualifiedName(self.qualified("a table after ON").keyspace, name.name, name.at)
        elif up != "MATERIALIZED" and self.accept("("):
            if self.ups[self.index] != ")":
                self.several(self.type)
            self._close(")", "a type")
        what = {"MATERIALIZED": "Materialized view"}.get(up, up.capitalize())
        return ast.DropAbsent(what, name, if_exists, at)

    def truncate(self) -> ast.Truncate:
        """TRUNCATE, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        if self.ups[self.index] in _TABLE:
            self.index += 1
        self.following = ""
        return ast.Truncate(self.qualified("a table"), at)

    def use(self) -> ast.Use:
        """USE, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        self.following = ""
        return ast.Use(self.name("a keyspace"), at)

    # --- DESCRIBE

    def describe(self) -> ast.Describe:
        """DESCRIBE or DESC, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        found = self._described(at)
        self.following = "WITH INTERNALS or "
        if self.accept("WITH"):
            self.expect("INTERNALS", "WITH")
            self.following = ""
            return ast.Describe(found.what, found.name, found.full, internals=True, only=found.only, at=at)
        return found

    def _described(self, at: ast.At) -> ast.Describe:
        full, up = False, self.ups[self.index]
        if up in _LISTED and self.ups[self.index + 1] != ".":
            self.index += 1
            return ast.Describe(up.lower(), at=at)
        if up == "FULL":
            self.index += 1
            if self.ups[self.index] != "SCHEMA":
                self.fail("SCHEMA after FULL")
            full, up = True, "SCHEMA"
        if up == "SCHEMA":
            self.index += 1
            return ast.Describe("schema", full=full, at=at)
        if up == "KEYSPACE" or (up == "ONLY" and self.ups[self.index + 1] == "KEYSPACE"):
            self.index += 1 if up == "KEYSPACE" else 2
            keyspace = self.name("a keyspace") if self.is_name() else None
            name = None if keyspace is None else ast.QualifiedName("", keyspace.text, keyspace.at)
            return ast.Describe("keyspace", name, only=up == "ONLY", at=at)
        if up in _TABLE:
            self.index += 1
            return ast.Describe("table", self.qualified("a table"), at=at)
        if up == "MATERIALIZED":
            self.index += 1
            if self.accept("VIEWS"):
                return ast.Describe("materialized views", at=at)
            self.expect("VIEW", "MATERIALIZED")
            return ast.Describe("materialized view", self.qualified("a view"), at=at)
        if up in _DESCRIBED and self.is_name(1):
            self.index += 1
            return ast.Describe(up.lower(), self.qualified(f"the {up.lower()}"), at=at)
        what = "KEYSPACES, KEYSPACE, TABLES, TABLE, TYPES, TYPE, INDEX, SCHEMA, CLUSTER or a name"
        return ast.Describe("any", self.qualified(what), at=at)
