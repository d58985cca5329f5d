"""The part of the parser that reads SELECT, INSERT, UPDATE, DELETE and BATCH."""

from __future__ import annotations

from typing import Final

from core import limits
from cql_lite import ast, lexer
from cql_lite.ast import (
    ColumnTuple,
    Condition,
    Expression,
    InList,
    Ordering,
    QualifiedName,
    Relation,
    Selector,
    Target,
    TokenOf,
    Using,
)
from cql_lite.formatting import column_title
from cql_lite.parse_base import TIMEOUT_HINT
from cql_lite.parse_terms import Terms

_COMPARISONS: Final = frozenset([ast.EQ, ast.NE, ast.LT, ast.LE, ast.GT, ast.GE])
_AFTER_STAR: Final = frozenset(["FROM", "AS", ",", ".", "[", "+", "-", "/", "%", ")", ""])
_AFTER_COLUMN: Final = _COMPARISONS | {"[", ".", "IN", "CONTAINS", "LIKE", "MATCH", "IS", "NOT", "BETWEEN"}
_OPERATORS: Final = "=, !=, <, <=, >, >=, IN, BETWEEN, CONTAINS, NOT, LIKE or MATCH"
_NO_BETWEEN: Final = "conditions have no BETWEEN: write >= and <="
_NO_OR: Final = "there is no OR in CQL: use IN for several values of a column, or several statements"
_PATH_MAX: Final = limits.JSON_DEPTH_MAX


class Rows(Terms):
    """Reads statements about rows."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.following = ""
        """What might have followed the statement read last."""

    # --- SELECT

    def select(self) -> ast.Select:
        """SELECT, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        json = self._leads("JSON")
        distinct = self._leads("DISTINCT")
        selectors: tuple[Selector, ...] = ()
        if self.ups[self.index] == "*":
            self.index += 1
        else:
            selectors = self.several(self._selector)
        if self.ups[self.index] != "FROM":
            self.fail("FROM or a comma after what is selected")
        self.index += 1
        table = self.qualified("a table after FROM")
        where = self._where() if self.accept("WHERE") else ()
        group_by: tuple[Expression, ...] = ()
        order_by: tuple[Ordering, ...] = ()
        per_partition = limit = None
        if self.accept("GROUP"):
            self.expect("BY", "GROUP")
            group_by = self.several(self.selected)
        if self.accept("ORDER"):
            self.expect("BY", "ORDER")
            order_by = self.several(self._ordering)
        if self.accept("PER"):
            self.expect("PARTITION", "PER")
            self.expect("LIMIT", "PER PARTITION")
            per_partition = self.number("after PER PARTITION LIMIT")
        if self.accept("LIMIT"):
            limit = self.number("after LIMIT")
        filtering = self.accept("ALLOW")
        if filtering:
            self.expect("FILTERING", "ALLOW")
        if self.accept("BYPASS"):  # a hint of ScyllaDB's, which changes no result
            self.expect("CACHE", "BYPASS")
        self.following = (
            "AND, GROUP BY, ORDER BY, PER PARTITION LIMIT, LIMIT, ALLOW FILTERING (in this order) or "
            if where
            else "WHERE, GROUP BY, ORDER BY, PER PARTITION LIMIT, LIMIT, ALLOW FILTERING (in this order) or "
        )
        return ast.Select(
            table,
            selectors,
            where,
            group_by,
            order_by,
            per_partition,
            limit,
            allow_filtering=filtering,
            distinct=distinct,
            json=json,
            markers=tuple(self.markers),
            at=at,
        )

    def _leads(self, up: str) -> bool:
        """Whether JSON or DISTINCT is the keyword here, not a column of that name."""
        if self.ups[self.index] != up:
            return False
        index = self.index + 1
        if self.ups[index] in _AFTER_STAR and self.kinds[index] in (lexer.WORD, lexer.SYMBOL, lexer.END):
            return False
        self.index = index
        return True

    def _selector(self) -> Selector:
        at = self.at()
        expression = self.selected()
        alias = self.ident("an alias after AS") if self.accept("AS") else ""
        return Selector(expression, alias, column_title(expression), at)

    def _ordering(self) -> Ordering:
        at = self.at()
        column = self.ident("a column to order by")
        near = None
        if self.accept("ANN"):
            self.expect("OF", "ANN")
            near = self.value()
        descending = self.accept("DESC")
        if not descending:
            self.accept("ASC")
        return Ordering(column, descending, near, at)

    # --- WHERE and IF

    def _where(self) -> tuple[Relation, ...]:
        relations: list[Relation] = []
        self._relation(relations)
        while self.accept("AND"):
            self._relation(relations)
        if self.ups[self.index] == "OR":
            self.fail("AND or the rest of the statement", _NO_OR)
        return tuple(relations)

    def _relation(self, relations: list[Relation]) -> None:
        at = self.at()
        if self.ups[self.index] == "(":
            if not (self.is_name(1) and self.ups[self.index + 2] in (",", ")")):
                self.enter()
                self.index += 1
                relations += self._where()
                self.expect(")", "what is in parentheses")
                self.depth -= 1
                return
            columns = self._columns("a column")
            if not self._between(relations, ColumnTuple(columns, at), at):
                operator = self._operator()
                relations.append(Relation(ColumnTuple(columns, at), operator, self._right(operator), at))
            return
        if self.ups[self.index] == "TOKEN":
            self.index += 1
            columns = self._columns("a column of the partition key")
            if self._between(relations, TokenOf(columns, at), at):
                return
            operator = self.ups[self.index]
            if operator not in _COMPARISONS:
                self.fail("=, <, <=, > or >= after token(...)")
            self.index += 1
            relations.append(Relation(TokenOf(columns, at), operator, self.value(), at))
            return
        target = self._target("a column to compare")
        if self._between(relations, target, at):
            return
        operator = self._operator()
        if operator == ast.IS_NOT_NULL:
            relations.append(Relation(target, operator, ast.Literal(ast.NULL, "null"), at))
        else:
            relations.append(Relation(target, operator, self._right(operator), at))

    def _between(self, relations: list[Relation], left: Target | ColumnTuple | TokenOf, at: ast.At) -> bool:
        """Read BETWEEN a AND b, if it comes next: the relations >= and <=."""
        if not self.accept("BETWEEN"):
            return False
        relations.append(Relation(left, ast.GE, self.value(), at))
        self.expect("AND", "BETWEEN and a value")
        relations.append(Relation(left, ast.LE, self.value(), at))
        return True

    def _columns(self, what: str) -> tuple[ast.Name, ...]:
        self.expect("(")
        columns = self.several(lambda: self.name(what))
        self.expect(")", "the columns")
        return columns

    def _operator(self) -> str:
        up = self.ups[self.index]
        if up in _COMPARISONS or up in (ast.IN, ast.LIKE, ast.MATCH):
            self.index += 1
            return up
        if up == "CONTAINS":
            self.index += 1
            return ast.CONTAINS_KEY if self.accept("KEY") else ast.CONTAINS
        if up == "IS":
            self.index += 1
            self.expect("NOT", "IS")
            self.expect("NULL", "IS NOT")
            return ast.IS_NOT_NULL
        if up == "NOT":
            self.index += 1
            if self.accept(ast.IN):
                return ast.NOT_IN
            self.expect("CONTAINS", "NOT, or IN")
            return ast.NOT_CONTAINS_KEY if self.accept("KEY") else ast.NOT_CONTAINS
        if up == "BETWEEN":  # of a condition: WHERE has read it
            return self.fail("another operator", _NO_BETWEEN)
        return self.fail(_OPERATORS)

    def _right(self, operator: str) -> Expression | InList:
        if operator not in (ast.IN, ast.NOT_IN):
            return self.value()
        if self.ups[self.index] in ("?", ":"):
            return self.marker()
        at = self.at()
        if not self.accept("("):
            self.fail("( or ? after IN", "its values stand in parentheses: IN (1, 2)")
        if self.accept(")"):
            return InList((), at)
        items = self.several(self.value)
        self._close(")", "a value of IN")
        return InList(items, at)

    def _target(self, what: str) -> Target:
        at = self.at()
        column = self.ident(what)
        path: list[ast.Step] = []
        while (up := self.ups[self.index]) in ("[", "."):
            step_at = self.at()
            self.index += 1
            if up == ".":
                path.append(ast.Field(self.ident("a field after the point"), step_at))
            else:
                path.append(ast.Key(self.value(), step_at))
                self.expect("]", "the key")
            if len(path) > _PATH_MAX:
                self.wrong(step_at, f"this path has more than {_PATH_MAX} steps")
        return Target(column, tuple(path), at)

    def _conditions(self) -> tuple[bool, tuple[Condition, ...]]:
        """What follows in IF, if that comes next: whether it is EXISTS, or the conditions."""
        if not self.accept("IF"):
            return False, ()
        if self.ups[self.index] == "EXISTS" and self.ups[self.index + 1] not in _AFTER_COLUMN:
            self.index += 1
            return True, ()
        if self.ups[self.index] == "NOT":
            self.fail("EXISTS or a condition after IF", "IF NOT EXISTS is for INSERT")
        conditions = [self._condition()]
        while self.accept("AND"):
            conditions.append(self._condition())
        return False, tuple(conditions)

    def _condition(self) -> Condition:
        at = self.at()
        target = self._target("a column to compare")
        operator = self._operator()
        if operator in (ast.NOT_IN, ast.NOT_CONTAINS, ast.NOT_CONTAINS_KEY):
            self.wrong(at, f"{operator} is no condition", "IF compares by =, !=, <, <=, >, >=, IN, CONTAINS")
        if operator == ast.IS_NOT_NULL:
            self.wrong(at, "IS NOT NULL is no condition", "write column != null")
        return Condition(target, operator, self._right(operator), at)

    # --- INSERT, UPDATE, DELETE

    def modification(self) -> ast.Modification:
        """One of these, inside a batch."""
        for up, read in (("INSERT", self.insert), ("UPDATE", self.update), ("DELETE", self.delete)):
            if self.accept(up):
                return read()
        return self.fail("INSERT, UPDATE, DELETE or APPLY BATCH")

    def insert(self) -> ast.Insert | ast.InsertJson:
        """INSERT, of which the first word was read."""
        at, first = self.lexemes.at(self.index - 1), len(self.markers)
        self.expect("INTO", "INSERT")
        table = self.qualified("a table after INTO")
        self.following = "IF NOT EXISTS, USING or "
        if self.accept("JSON"):
            return self._insert_json(table, first, at)
        if self.ups[self.index] != "(":
            self.fail("( with the names of columns, or JSON, after the table")
        columns = self._columns("a column")
        self.expect("VALUES", "the columns")
        self.expect("(", "VALUES")
        values = self.several(self.value)
        self._close(")", "a value")
        if_not_exists, using = self.if_not_exists(), self._using(("TTL", "TIMESTAMP"))
        markers = tuple(self.markers[first:])
        return ast.Insert(table, columns, values, if_not_exists, using, markers, at)

    def _insert_json(self, table: QualifiedName, first: int, at: ast.At) -> ast.InsertJson:
        json: Expression
        if self.ups[self.index] in ("?", ":"):
            json = self.marker()
        else:
            json_at = self.at()
            json = ast.Literal(ast.STRING, self.string("a JSON object as text, or ?, after JSON"), json_at)
        unset = False
        if self.accept("DEFAULT"):
            unset = self.accept("UNSET")
            if not unset:
                self.expect("NULL", "DEFAULT")
        if_not_exists, using = self.if_not_exists(), self._using(("TTL", "TIMESTAMP"))
        markers = tuple(self.markers[first:])
        return ast.InsertJson(table, json, unset, if_not_exists, using, markers, at)

    def _using(self, allowed: tuple[str, ...]) -> Using:
        if not self.accept("USING"):
            return ast.NOTHING
        found: dict[str, Expression] = {}
        while True:
            up = self.ups[self.index]
            if up not in allowed:
                hint = TIMEOUT_HINT if up == "TIMEOUT" else ""
                self.fail(f"{' or '.join(allowed)} after USING", hint)
            if up in found:
                self.fail(f"one {up}")
            self.index += 1
            found[up] = self.number(f"after {up}")
            if not self.accept("AND"):
                return Using(found.get("TIMESTAMP"), found.get("TTL"))

    def update(self) -> ast.Update:
        """UPDATE, of which the first word was read."""
        at, first = self.lexemes.at(self.index - 1), len(self.markers)
        table = self.qualified("a table after UPDATE")
        using = self._using(("TTL", "TIMESTAMP"))
        self.expect("SET", "the table" if using == ast.NOTHING else "USING")
        assignments = self.several(self._assignment)
        if not self.accept("WHERE"):
            self.fail("WHERE or a comma after what is set", "an UPDATE names the rows it changes")
        where = self._where()
        if_exists, conditions = self._conditions()
        self.following = "AND, IF or "
        markers = tuple(self.markers[first:])
        return ast.Update(table, assignments, where, if_exists, conditions, using, markers, at)

    def _assignment(self) -> ast.Assignment:
        at = self.at()
        target = self._target("a column to set")
        up = self.ups[self.index]
        if up in ("+=", "-="):
            if target.path:
                self.fail("= after a place in a column", "elements and fields are set, not added to")
            self.index += 1
            operation = ast.ADD if up == "+=" else ast.SUBTRACT
            return ast.Assignment(target, operation, self.value(), at)
        if up != "=":
            self.fail("=, += or -= after the column")
        self.index += 1
        if self.is_name() and self.ups[self.index + 1] in ("+", "-"):
            self._same(target)
            operation = ast.ADD if self.ups[self.index] == "+" else ast.SUBTRACT
            self.index += 1
            return ast.Assignment(target, operation, self.value(), at)
        value = self.value()
        if self.accept("+"):
            self._same(target)
            return ast.Assignment(target, ast.PREPEND, value, at)
        return ast.Assignment(target, ast.SET, value, at)

    def _same(self, target: Target) -> None:
        """Read the column that is set: the only one that may stand on the right."""
        at = self.at()
        name = self.ident("the column")
        if target.path or name != target.column:
            what = f"{name} stands on the right of {target.column}{'[...]' if target.path else ''}"
            self.wrong(at, what, "a column is set to a value, or to itself with something added or removed")

    def delete(self) -> ast.Delete:
        """DELETE, of which the first word was read."""
        at, first = self.lexemes.at(self.index - 1), len(self.markers)
        targets: tuple[Target, ...] = ()
        if self.ups[self.index] == "*":
            self.fail("FROM or columns after DELETE", "without columns DELETE removes whole rows")
        if self.ups[self.index] != "FROM":
            targets = self.several(lambda: self._target("FROM or a column after DELETE"))
        if not self.accept("FROM"):
            self.fail("FROM or a comma after what is deleted")
        table = self.qualified("a table after FROM")
        using = self._using(("TIMESTAMP",))
        if not self.accept("WHERE"):
            self.fail("WHERE or USING after the table", "to remove everything, use TRUNCATE")
        where = self._where()
        if_exists, conditions = self._conditions()
        self.following = "AND, IF or "
        markers = tuple(self.markers[first:])
        return ast.Delete(table, where, targets, if_exists, conditions, using, markers, at)

    # --- BATCH

    def batch(self) -> ast.Batch:
        """BEGIN BATCH, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        kind = ast.LOGGED
        if self.ups[self.index] in (ast.UNLOGGED, ast.COUNTER, ast.LOGGED):
            kind = self.ups[self.index]
            self.index += 1
        self.expect("BATCH", "BEGIN")
        using = self._using(("TIMESTAMP",))
        statements: list[ast.Modification] = []
        while not self.accept("APPLY"):
            if len(statements) == limits.CQL_BATCH_STATEMENTS_MAX:
                self.fail(f"APPLY BATCH after {limits.CQL_BATCH_STATEMENTS_MAX} statements")
            statements.append(self.modification())
            self.accept(";")
        self.expect("BATCH", "APPLY")
        self.following = ""
        return ast.Batch(kind, tuple(statements), using, tuple(self.markers), at)
