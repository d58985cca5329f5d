"""WITH of CREATE TABLE and ALTER TABLE: options that mean something here, and those of Cassandra that are
kept so that tools read back what they wrote. What Cassandra would refuse is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core import limits
from core.schema import TableOptions
from cql_lite import ast
from cql_lite.errors import ConfigurationError

KEPT_OPTIONS: Final = (
    "additional_write_policy", "allow_auto_snapshot", "bloom_filter_fp_chance", "cdc", "crc_check_chance",
    "dclocal_read_repair_chance", "extensions", "incremental_backups", "max_index_interval", "memtable",
    "memtable_flush_period_in_ms", "min_index_interval", "read_repair", "read_repair_chance",
    "speculative_retry",
)  # fmt: skip
"""Options of Cassandra that are read back and mean nothing here."""


CHANGES: Final = ("none", "keys", "new", "old", "new_and_old")
"""What a table's change events carry."""

COMPACTIONS: Final = (
    "SizeTieredCompactionStrategy", "LeveledCompactionStrategy", "TimeWindowCompactionStrategy",
    "DateTieredCompactionStrategy", "UnifiedCompactionStrategy", "IncrementalCompactionStrategy",
)  # fmt: skip
_FRACTIONS: Final = (
    "bloom_filter_fp_chance",
    "crc_check_chance",
    "read_repair_chance",
    "dclocal_read_repair_chance",
)
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
        raise ConfigurationError(f"Invalid integer value {text} for '{option.name}'")
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
        _check_kept(name, value)
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
            raise ConfigurationError(_no_option(name, value))
        only.append(field)
    return msgspec.structs.replace(found, other=tuple(other.items())), tuple(dict.fromkeys(only))


def _check_kept(name: str, value: object) -> None:
    """Refuse what Cassandra would refuse of options that mean nothing here."""
    if name in _FRACTIONS:
        try:
            fine = 0.0 <= float(str(value)) <= 1.0 and (name != _FRACTIONS[0] or float(str(value)) > 0.0)
        except ValueError:
            raise ConfigurationError(f"Invalid double value {value} for '{name}'") from None
        if not fine:
            raise ConfigurationError(
                f"{name} must be larger than or equal to 0 and smaller than or equal to 1.0 (got {value})"
            )
    if name == "compaction" and isinstance(value, tuple):
        strategy = dict(value).get("class", "")
        if not strategy:
            raise ConfigurationError("Missing sub-option 'class' for the 'compaction' option.")
        if strategy.rpartition(".")[2] not in COMPACTIONS:
            raise ConfigurationError(f"Unable to find compaction strategy class '{strategy}'")
