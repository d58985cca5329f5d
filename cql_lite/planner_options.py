"""WITH of CREATE TABLE and ALTER TABLE: options that mean something here, and those of Cassandra that are
kept so that tools read back what they wrote (planner_kept.py). What Cassandra would refuse is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core import limits
from core.schema import TableOptions
from cql_lite import ast
from cql_lite.errors import ConfigurationError, PropertyError
from cql_lite.planner_kept import KEPT_OPTIONS, check_kept, check_together

CHANGES: Final = ("none", "keys", "new", "old", "new_and_old")
"""What a table's change events carry."""

_DIGITS: Final = 20
"""Of whole numbers: more are none that an option may have."""
_NOT_KEPT: Final = ("id",)
"""Told by DESCRIBE ... WITH INTERNALS; tables have ids of their own here."""


def _no_option(name: str, value: object) -> str:
    known = (*KEPT_OPTIONS, "comment", "changes", "compaction", "compression", "caching")
    if name in known:
        return f"Invalid value for option '{name}': {value}"
    return f"Unknown property '{name}': a table has no option {name}"


def _whole(option: ast.Option, most: int) -> int:
    text = option.value
    if not isinstance(text, str) or not text.isascii() or not text.removeprefix("-").isdecimal():
        raise PropertyError(f"Invalid integer value {text} for '{option.name}'")
    if len(text) > _DIGITS:
        raise ConfigurationError(f"{option.name} must be less than or equal to {most} (got {text[:60]})")
    if int(text) < 0:
        raise ConfigurationError(f"{option.name} must be greater than or equal to 0 (got {text})")
    if int(text) > most:
        raise ConfigurationError(f"{option.name} must be less than or equal to {most} (got {text})")
    return int(text)


def table_options(
    options: Sequence[ast.Option], before: TableOptions
) -> tuple[TableOptions, tuple[str, ...]]:
    """Options of WITH on top of others, and the names of the fields that they are in."""
    found, only, other = before, [], dict(before.other)
    for option in options:
        name, value = option.name, option.value
        if name in _NOT_KEPT:
            continue
        check_kept(name, value)
        if name == "default_time_to_live":
            field, kept = "default_ttl_s", _whole(option, limits.TTL_S_MAX)
            found = msgspec.structs.replace(found, default_ttl_s=kept)
        elif name == "gc_grace_seconds":
            field = "gc_grace_s"
            found = msgspec.structs.replace(found, gc_grace_s=_whole(option, 2**31 - 1))
        elif name == "comment" and isinstance(value, str):
            field = "comment"
            found = msgspec.structs.replace(found, comment=value)
        elif name == "changes" and value in CHANGES:
            field = "changes"
            found = msgspec.structs.replace(found, changes=value)
        elif name == "changes_retention":
            field = "changes_kept_s"
            kept = _whole(option, limits.CHANGES_KEPT_S_MAX)
            found = msgspec.structs.replace(found, changes_kept_s=kept)
        elif name == "changes_retention_bytes":
            field = "changes_kept_bytes"
            kept = _whole(option, limits.CHANGES_KEPT_BYTES_MAX)
            found = msgspec.structs.replace(found, changes_kept_bytes=kept)
        elif name in ("compaction", "compression", "caching") and isinstance(value, tuple):
            field = name
            found = msgspec.structs.replace(found, **{name: value})
        elif name in KEPT_OPTIONS and isinstance(value, str):
            field = "other"
            other[name] = value
        elif name in KEPT_OPTIONS:
            continue
        else:
            raise PropertyError(_no_option(name, value))
        only.append(field)
    check_together(other)
    return msgspec.structs.replace(found, other=tuple(other.items())), tuple(dict.fromkeys(only))
