"""Options of Cassandra's tables that mean nothing here, and are kept so that tools read back what they wrote.

Who sets one wants what it does in Cassandra, and learns there at once of a slip of the pen. So what Cassandra
would refuse is refused here, too, in its words; what other versions of it, or ScyllaDB, know is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from cql_lite.errors import ConfigurationError, PropertyError

KEPT_OPTIONS: Final = (
    "additional_write_policy", "allow_auto_snapshot", "bloom_filter_fp_chance", "cdc", "crc_check_chance",
    "dclocal_read_repair_chance", "extensions", "incremental_backups", "max_index_interval", "memtable",
    "memtable_flush_period_in_ms", "min_index_interval", "read_repair", "read_repair_chance",
    "speculative_retry",
)  # fmt: skip
"""Options of Cassandra that are read back and mean nothing here."""

COMPACTIONS: Final = (
    "SizeTieredCompactionStrategy", "LeveledCompactionStrategy", "TimeWindowCompactionStrategy",
    "DateTieredCompactionStrategy", "UnifiedCompactionStrategy", "IncrementalCompactionStrategy",
)  # fmt: skip
_COMPRESSORS: Final = (
    "", "LZ4Compressor", "SnappyCompressor", "DeflateCompressor", "ZstdCompressor", "NoopCompressor",
    "ZstdDictionaryCompressor", "LZ4WithDictsCompressor", "ZstdWithDictsCompressor",
)  # fmt: skip
_FRACTIONS: Final = (
    "bloom_filter_fp_chance",
    "crc_check_chance",
    "read_repair_chance",
    "dclocal_read_repair_chance",
)
_LEAST: Final = {
    "min_index_interval": 1,
    "max_index_interval": 1,
    "memtable_flush_period_in_ms": 0,
    "min_threshold": 2,
    "max_threshold": 2,
}
_INDEX_INTERVALS: Final = (("min_index_interval", 128), ("max_index_interval", 2048))
_THRESHOLDS: Final = (("min_threshold", 4), ("max_threshold", 32))
"""What must not exceed what, and Cassandra's defaults."""
_DIGITS: Final = 20
"""Of whole numbers in options."""
_BOOLEANS: Final = ("cdc", "allow_auto_snapshot", "incremental_backups")
_ONE_POLICY: Final = r"[0-9.]+(?:p|percentile|ms)"
_POLICY: Final = re.compile(
    rf"(?:never|none|always|{_ONE_POLICY}|(?:min|max)\(\s*{_ONE_POLICY}\s*,\s*{_ONE_POLICY}\s*\))?",
    re.IGNORECASE,
)
_CACHING: Final = "Invalid value for caching sub-option '{}': only 'ALL'{} 'NONE'{} are allowed"


def check_kept(name: str, value: object) -> None:
    """Refuse what Cassandra would refuse of an option that means nothing here.

    Raises:
        ConfigurationError: The value cannot be; the text says which can.
        PropertyError: It is of another kind.
    """
    if name in _FRACTIONS:
        _check_fraction(name, str(value))
    elif name in _LEAST:
        if not _is_whole(str(value)):
            raise PropertyError(f"Invalid integer value {value} for '{name}'")
        _check_whole(name, str(value))
    elif name in _BOOLEANS and str(value).lower() not in ("true", "false", "0", "1", "yes", "no"):
        raise PropertyError(f"Invalid boolean value {value} for '{name}'")
    elif name in ("speculative_retry", "additional_write_policy") and not _is_policy(str(value)):
        raise ConfigurationError(
            f"Specified Speculative Retry Policy [{value}] is not supported: '99p', '50ms', 'ALWAYS' and "
            f"'NEVER' are values of {name}"
        )
    elif name == "read_repair" and str(value).upper() not in ("BLOCKING", "NONE"):
        raise ConfigurationError(
            f"Invalid value '{value}' for option 'read_repair': it is 'BLOCKING' or 'NONE'"
        )
    elif isinstance(value, tuple):
        options = dict(value)
        if name == "compaction":
            _check_compaction(options)
        elif name == "compression":
            _check_compression(options)
        elif name == "caching":
            _check_caching(options)


def _is_policy(text: str) -> bool:
    percentiles = re.findall(r"([0-9.]+)p", text.lower())
    try:
        return _POLICY.fullmatch(text) is not None and all(float(number) <= 100 for number in percentiles)
    except ValueError:
        return False


def shown_policy(text: str) -> str:
    """A policy of speculative retries as Cassandra shows it: `99p`, `50ms`, `ALWAYS`, `MIN(99p,50ms)`."""
    upper = text.upper().replace("PERCENTILE", "P").replace(" ", "") or "NEVER"
    if upper == "NONE":
        return "NEVER"
    return re.sub(r"([0-9.]+)(P|MS)", lambda found: _plain(found[1]) + found[2].lower(), upper)


def _plain(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def shown_class(options: Iterable[tuple[str, str]], package: str) -> dict[str, str]:
    """Options whose `class` says its package, as Cassandra shows it."""
    return {
        name: f"{package}.{value}" if name == "class" and value and "." not in value else value
        for name, value in options
    }


def check_together(other: Mapping[str, str]) -> None:
    """Refuse kept options that cannot be beside each other.

    Raises:
        ConfigurationError: They cannot.
    """
    _check_order(other, _INDEX_INTERVALS)


def _check_fraction(name: str, text: str) -> None:
    try:
        fine = 0.0 <= float(text) <= 1.0 and (name != _FRACTIONS[0] or float(text) > 0.0)
    except ValueError:
        raise PropertyError(f"Invalid double value {text} for '{name}'") from None
    if not fine:
        raise ConfigurationError(
            f"{name} must be larger than or equal to 0 and smaller than or equal to 1.0 (got {text})"
        )


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()


def _check_whole(name: str, text: str) -> None:
    if not _is_whole(text):
        raise ConfigurationError(f"Invalid integer value {text} for '{name}'")
    if len(text) > _DIGITS or int(text) >= 2**31:
        raise PropertyError(f"Invalid integer value {text[:60]} for '{name}': it is below {2**31}")
    if int(text) < _LEAST[name]:
        raise ConfigurationError(f"{name} must be greater than or equal to {_LEAST[name]} (got {text})")


def _check_order(options: Mapping[str, str], pair: Iterable[tuple[str, int]]) -> None:
    (low, least), (high, most) = ((name, int(options.get(name, default))) for name, default in pair)
    if most < least:
        raise ConfigurationError(f"{high} must be greater than or equal to {low} ({least}) (got {most})")


def _check_compaction(options: Mapping[str, str]) -> None:
    strategy = options.get("class", "")
    if not strategy:
        raise ConfigurationError("Missing sub-option 'class' for the 'compaction' option.")
    if strategy.rpartition(".")[2] not in COMPACTIONS:
        raise ConfigurationError(f"Unable to find compaction strategy class '{strategy}'")
    given = [name for name, _ in _THRESHOLDS if name in options]
    for name in given:
        _check_whole(name, options[name])
    if given:
        _check_order(options, _THRESHOLDS)


def _check_compression(options: Mapping[str, str]) -> None:
    if options.get("enabled", "true").lower() == "false":
        if len(options) > 1:
            raise ConfigurationError(
                "If the 'enabled' option is set to false no other options must be specified"
            )
        return
    class_ = options.get("class", options.get("sstable_compression"))
    if options and class_ is None:
        raise ConfigurationError("Missing sub-option 'class' for the 'compression' option.")
    if (class_ or "").rpartition(".")[2] not in _COMPRESSORS:
        raise ConfigurationError(f"Could not create Compression for type {class_}: there is no such class")
    for name in ("chunk_length_in_kb", "chunk_length_kb"):
        length = options.get(name, "1")
        is_whole = length.isascii() and length.isdecimal() and len(length) <= _DIGITS
        if not is_whole or not 0 < int(length) <= 1 << 20:
            raise ConfigurationError(f"Invalid value {length} for {name}")
        if int(length) & (int(length) - 1):
            raise ConfigurationError(f"{name} must be a power of 2 (got {length})")


def _check_caching(options: Mapping[str, str]) -> None:
    unknown = [name for name in options if name not in ("keys", "rows_per_partition", "enabled")]
    if unknown:
        raise ConfigurationError(
            f"Invalid caching sub-options [{', '.join(unknown)}]: only 'keys' and 'rows_per_partition' are "
            "allowed"
        )
    if options.get("keys", "ALL").upper() not in ("ALL", "NONE"):
        raise ConfigurationError(_CACHING.format("keys", " and", ""))
    rows = options.get("rows_per_partition", "NONE")
    if rows.upper() not in ("ALL", "NONE") and not (rows.isascii() and rows.isdecimal()):
        raise ConfigurationError(_CACHING.format("rows_per_partition", ",", ", and integer values"))
