"""What a statement can be refused for, before or instead of asking the cluster: one class per error code of
the native protocol that we raise ourselves. What the cluster answers (Unavailable, Timeout...) becomes the
others in cql_lite/outcomes.py.
"""

from __future__ import annotations

from core.errors import RequestError


class InvalidRequestError(RequestError):
    """The statement is CQL, but means nothing here; the text says what to do (code 0x2200)."""


class ConfigurationError(RequestError):
    """Options of a keyspace or table that cannot be (code 0x2300)."""


class PropertyError(RequestError):
    """An option that there is none of, or whose value is of another kind: a number, a map (code 0x2000)."""


class AlreadyExistsError(RequestError):
    """What is to be created is there (code 0x2400); `table` is empty for a keyspace."""

    def __init__(self, text: str, keyspace: str, table: str) -> None:
        super().__init__(text)
        self.keyspace = keyspace
        self.table = table


class UnpreparedError(RequestError):
    """The statement of this id is not known here: the driver prepares it again (code 0x2500)."""

    def __init__(self, statement_id: bytes) -> None:
        super().__init__(f"no statement is prepared here under the id {statement_id.hex()}: prepare it again")
        self.statement_id = statement_id


class FunctionError(RequestError):
    """A function or an operation has no result for the values that it met (code 0x1400)."""

    def __init__(self, text: str, function: str = "", argument_types: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.function = function
        self.argument_types = argument_types


class UnauthorizedError(RequestError):
    """System tables are read only (code 0x2100)."""
