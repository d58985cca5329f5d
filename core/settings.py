"""The settings of a node that an operator may change, with their defaults.

Times in microseconds, sizes in bytes.
"""

from __future__ import annotations

import msgspec

from core import limits


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What server/config.py reads from cluster.yml, and what a simulation draws from its seed."""

    write_timeout_us: int = 2_000_000
    read_timeout_us: int = 5_000_000
    speculative_retry_us: int = 20_000
    read_repair: bool = True
    hints: bool = True
    hint_window_us: int = 3 * 3600 * 1_000_000
    hint_bytes_max: int = limits.HINT_BYTES_MAX
    hint_replay_pause_us: int = 20_000
    follow_pause_us: int = 500_000
    follow_idle_us: int = 2_000_000
    anti_entropy_pause_us: int = 5_000_000
    scrub_every_us: int = 7 * 24 * 3600 * 1_000_000
    """Everything stored is read so often; 0: only when somebody asks."""
    scrub_bytes_per_s: int = 4 * limits.MIB
    purge_interval_us: int = 5_000_000
    """Between two rounds that raise the floor, where there is something to purge; 0: none."""
    purge_slack_us: int = 5_000_000
    """How far floors stay behind all clocks: what takes longer on its way is stamped again."""
    batch_replay_us: int = 10_000_000
    batch_log_bytes_max: int = limits.BATCH_LOG_BYTES_MAX
    log_retention_us: int = 24 * 3600 * 1_000_000
    log_bytes_max: int = 1024 * limits.MIB
    log_held_us: int = 3 * 24 * 3600 * 1_000_000
    log_held_bytes_max: int = 4 * 1024 * limits.MIB
    """How much longer, and more, is kept as long as a consumer group has not read it."""
    requests_in_flight_max: int = limits.REQUESTS_IN_FLIGHT_MAX
    request_bytes_in_flight_max: int = limits.REQUEST_BYTES_IN_FLIGHT_MAX
    ping_pause_us: int = 1_000_000
    ping_timeout_us: int = 400_000
    suspicion_multiplier: int = 4
    operation_ids_us: int = 24 * 3600 * 1_000_000
    documents_scanned_max: int = 10_000
    value_bytes_max: int = limits.VALUE_BYTES_MAX
    num_tokens: int = 16
    move_bytes_per_s: int = 32 * limits.MIB
    replication_factor: int = 3
