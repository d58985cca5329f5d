"""CQL from text to tree: a hand-written parser, one function per form.

    statement = parse("SELECT v FROM ks.t WHERE k = ?")      # cql_lite/ast.py; statement.markers
    for piece in split(script): parse(piece.text)

It reads lexemes (lexer.py) from left to right and never goes back: where CQL is ambiguous, a look at the next
two or three decides. It is made of layers, each reading with what the one below reads: a place in the text,
names and types (parse_base.py), expressions (parse_terms.py), rows (parse_rows.py), roles (parse_roles.py),
the schema (parse_schema.py). Each place that fails says what it expected, which no generated parser can say
as well; docs/dependencies.md has the figures.

Nothing but `CqlSyntaxError` comes out, whatever goes in. Length, nesting and height of expressions are
bounded (core/limits.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cql_lite import ast
from cql_lite.lexer import CqlSyntaxError, Piece, split
from cql_lite.parse_schema import SchemaParser

__all__ = ["CqlSyntaxError", "Piece", "parse", "split"]


def parse(text: str) -> ast.Statement:
    """The statement that a text is; a semicolon may follow.

    Raises:
        CqlSyntaxError: It is none; the text says where, what was found and what was expected.
        InvalidRequestError: It is one of what this version has not, such as CREATE FUNCTION.
    """
    parser = SchemaParser(text)
    read = _STATEMENTS.get(parser.ups[0])
    if read is None:
        parser.fail(f"a statement ({', '.join(_STATEMENTS)})", _ELSEWHERE.get(parser.ups[0], ""))
    parser.index = 1
    statement = read(parser)
    parser.end(parser.following)
    return statement


_STATEMENTS: Final[dict[str, Callable[[SchemaParser], ast.Statement]]] = {
    "SELECT": SchemaParser.select,
    "INSERT": SchemaParser.insert,
    "UPDATE": SchemaParser.update,
    "DELETE": SchemaParser.delete,
    "BEGIN": SchemaParser.batch,
    "CREATE": SchemaParser.create,
    "ALTER": SchemaParser.alter,
    "DROP": SchemaParser.drop,
    "TRUNCATE": SchemaParser.truncate,
    "USE": SchemaParser.use,
    "DESCRIBE": SchemaParser.describe,
    "DESC": SchemaParser.describe,
    "GRANT": SchemaParser.grant,
    "REVOKE": SchemaParser.revoke,
    "LIST": SchemaParser.list,
}

_NO_TRANSACTION: Final = (
    "there are no transactions: BEGIN BATCH writes all or nothing, IF says under which condition"
)
_OF_SHELLS: Final = "that is a word of the shell, not of the server: sullae shell and cqlsh know it"
_ELSEWHERE: Final = {
    "SHOW": "DESCRIBE TABLES lists tables, DESCRIBE TABLE shows one",
    "EXPLAIN": "what a statement does is told by its trace: TRACING ON in the shell, a driver's trace flag",
    **dict.fromkeys(("UPSERT", "REPLACE", "MERGE"), "INSERT writes over what is there"),
    **dict.fromkeys(("START", "COMMIT", "ROLLBACK"), _NO_TRANSACTION),
    **dict.fromkeys(("COPY", "CONSISTENCY", "TRACING", "PAGING", "EXPAND", "SOURCE", "CAPTURE"), _OF_SHELLS),
    "PRUNE": "there are no materialized views in this version",
}
"""Where what begins with these words of SQL, of shells or of other stores is found."""
