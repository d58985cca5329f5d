"""ORDER BY v ANN OF [...] LIMIT n: the rows whose vectors are most alike to one that is given.

The rows of the table (or those that the WHERE leaves) are all read and compared, and the n nearest kept: what
is found is exact, not approximate, at a cost that grows with the table. How alike two vectors are is said by
the `similarity_function` of an index on the column; cosine, if there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_functions import SIMILARITY_MEASURES
from cql_lite.planner_rows import Layout, Record
from cql_lite.planner_tables import TableView
from cql_lite.planner_terms import Context, Scope, compile_term
from cql_lite.planner_where import column_of, required
from cql_lite.types import FLOAT, VectorType

LIMIT_MAX: Final = 1_000
"""The greatest LIMIT, as in Cassandra."""
SIMILARITY: Final = "similarity_function"

Score = Callable[[Record], "float | None"]


class Near:
    """The order of one statement."""

    def __init__(self, statement: ast.Select, layout: Layout, scope: Scope) -> None:
        """Compile; raises InvalidRequestError."""
        (ordering, *more) = statement.order_by
        assert ordering.near is not None
        column = column_of(layout.view, ordering.column)
        of = column.type
        if more or ordering.descending:
            raise InvalidRequestError("ANN ordering stands alone, and knows no DESC: the nearest come first")
        if not isinstance(of, VectorType) or of.element != FLOAT:
            raise InvalidRequestError(
                f"ANN ordering is only supported on float vector columns; {column.name} is a {of}"
            )
        if statement.limit is None:
            raise InvalidRequestError(
                f"Use of ANN OF in an ORDER BY clause requires a LIMIT that is not greater than {LIMIT_MAX}. "
                "LIMIT was NO LIMIT"
            )
        if statement.group_by or statement.distinct or statement.per_partition_limit is not None:
            raise InvalidRequestError(
                "ANN queries take neither GROUP BY nor DISTINCT nor PER PARTITION LIMIT"
            )
        self._of = of
        self._name = column.name
        self._slot = layout.slot(column)
        self._term = compile_term(ordering.near, of, column.name, scope)
        self._measure = SIMILARITY_MEASURES[_function(layout.view, column.name)]

    def check(self, limit: int | None) -> int:
        """The limit of one execution; raises InvalidRequestError."""
        if limit is None or limit > LIMIT_MAX:
            raise InvalidRequestError(
                f"Use of ANN OF in an ORDER BY clause requires a LIMIT that is not greater than {LIMIT_MAX}. "
                f"LIMIT was {'NO LIMIT' if limit is None else limit}"
            )
        return limit

    def score(self, context: Context) -> Score:
        """How alike a record's vector is to the one of this execution; None if no number says it."""
        wanted = self._of.decode(required(self._term(context), self._name))
        decode, slot, measure = self._of.decode, self._slot, self._measure
        if math.isnan(measure(wanted, wanted)):  # refused at once, as is one of zeros by its cosine
            raise InvalidRequestError(
                f"nothing is near to the vector given for {self._name}: NaN and infinity have no distance"
            )

        def score(record: Record) -> float | None:
            value = record[slot]
            if value is None:
                return None
            try:
                alike = measure(decode(value), wanted)
            except InvalidRequestError:  # a vector of zeros, which has no direction
                return None
            return None if math.isnan(alike) else alike

        return score


def _function(view: TableView, column: str) -> str:
    for index in view.indexes:
        if index.column == column:
            return dict(index.options).get(SIMILARITY, "cosine")
    return "cosine"
