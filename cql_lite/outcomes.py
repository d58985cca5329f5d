"""What the cluster answered, and what was wrong with a statement, as errors of the native protocol."""

from __future__ import annotations

from typing import Final

from core.consistency import Level
from core.errors import RequestError
from core.requests import Broken, Invalid, Overloaded, Timeout, Unavailable, Unready
from cql_lite import wire
from cql_lite.errors import (
    AlreadyExistsError,
    ConfigurationError,
    FunctionError,
    PropertyError,
    UnauthorizedError,
    UnpreparedError,
)
from cql_lite.parser import CqlSyntaxError
from cql_lite.planner_results import FailedError

_LEVELS: Final = {
    "ANY is for writes": "ANY ConsistencyLevel is only supported for writes",
    "conditional updates": "You must use conditional updates for serializable writes",
    "is for one partition": "SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a "
    "time",
}
"""What Cassandra says where the node says this of a level."""


def error_of_request(error: RequestError) -> wire.Error:
    """A statement that cannot be done as it says."""
    text = str(error)
    if isinstance(error, (CqlSyntaxError, PropertyError)):
        return wire.SyntaxFault(message=text)
    if isinstance(error, AlreadyExistsError):
        return wire.AlreadyExists(message=text, keyspace=error.keyspace, table=error.table)
    if isinstance(error, UnpreparedError):
        return wire.Unprepared(message=text, id=error.statement_id)
    if isinstance(error, FunctionError):
        return wire.FunctionFailure(
            message=text, keyspace="system", function=error.function, argument_types=error.argument_types
        )
    if isinstance(error, ConfigurationError):
        return wire.ConfigError(message=text)
    if isinstance(error, UnauthorizedError):
        return wire.Unauthorized(message=text)
    return wire.Invalid(message=text)


def error_of_failure(failed: FailedError, level: Level) -> wire.Error:
    """A statement that the cluster could not do."""
    answer, write_type = failed.answer, failed.write_type or "SIMPLE"
    if isinstance(answer, Unavailable):
        return wire.Unavailable(
            message=f"Cannot achieve consistency level {answer.level.name}: it needs {answer.required} "
            f"replicas, and {answer.alive} are alive",
            consistency=answer.level,
            required=answer.required,
            alive=answer.alive,
        )
    if isinstance(answer, Timeout):
        return _timeout(answer, write_type)
    if isinstance(answer, Broken):
        return _broken(answer, write_type, level)
    if isinstance(answer, Overloaded):
        return wire.Overloaded(message=answer.detail)
    if isinstance(answer, Unready):
        return wire.IsBootstrapping(message=answer.detail)
    assert isinstance(answer, Invalid), answer
    return wire.Invalid(message=_known_words(answer))


def _known_words(answer: Invalid) -> str:
    """The node's words, behind those of Cassandra where it has some."""
    if answer.code != "bad_level":
        return answer.detail
    known = next((words for sign, words in _LEVELS.items() if sign in answer.detail), "")
    return f"{known}: {answer.detail}" if known else answer.detail


def _timeout(answer: Timeout, write_type: str) -> wire.Error:
    counted = f"Operation timed out - received only {answer.received} of {answer.required} responses"
    if answer.write and answer.write_type == "CAS":
        return wire.CasWriteUnknown(
            message=f"{counted}: whether it was applied is unknown; a SERIAL read settles it",
            consistency=answer.level,
            received=answer.received,
            required=answer.required,
        )
    if answer.write_type == "CAS" and write_type == "CAS":  # not a SERIAL read: that is no write
        return wire.WriteTimeout(
            message=f"{counted}: nothing was proposed, so it was certainly not applied; try again",
            consistency=answer.level,
            received=answer.received,
            required=answer.required,
            write_type="CAS",
        )
    if answer.write:
        return wire.WriteTimeout(
            message=f"{counted}: the write may be there all the same, now or later",
            consistency=answer.level,
            received=answer.received,
            required=answer.required,
            write_type=write_type if answer.write_type == "SIMPLE" else answer.write_type,
        )
    return wire.ReadTimeout(
        message=counted,
        consistency=answer.level,
        received=answer.received,
        required=answer.required,
        data_present=False,
    )


def _broken(answer: Broken, write_type: str, level: Level) -> wire.Error:
    text = f"{answer.received} of {answer.required} replicas could: {answer.detail}"
    if answer.write:
        return wire.WriteFailure(
            message=text,
            consistency=level,
            received=answer.received,
            required=answer.required,
            reasons=(),
            write_type=write_type,
        )
    return wire.ReadFailure(
        message=text,
        consistency=level,
        received=answer.received,
        required=answer.required,
        reasons=(),
        data_present=False,
    )
