"""Rows of a snapshot come as they were; what no peer can have written is refused."""

from __future__ import annotations

import pytest

from core.cell import VALUE, Cell
from core.consistency import Level
from core.requests import Invalid, Restored, RestoreRequest, Written
from core.row import Header, Row, Tombstone, encode_header, encode_row
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from lsm.keys import ROW_SUFFIX

MINUTE_US = 60_000_000


@pytest.fixture(scope="module")
def s() -> Scenario:
    scenario = Scenario()
    scenario.start()
    scenario.bucket("b")
    return scenario


def restore(s: Scenario, key: bytes, timestamp_us: int, *, deleted: bool = False) -> object:
    row = encode_row(Row(None, (Cell(1, (), VALUE, timestamp_us, 1, 0, b"v"),)))
    header = encode_header(Header(Tombstone(timestamp_us, 1, 1), ()))
    one = Restored(s.buckets["b"].table, key, *((header, ()) if deleted else (b"", ((ROW_SUFFIX, row),))))
    return s.ask(RestoreRequest((one,), Level.QUORUM)).answer


def now_us(s: Scenario) -> int:
    return s.cluster.machines[0].clock.read_us()


def test_what_is_a_little_ahead_is_taken(s: Scenario) -> None:
    assert isinstance(restore(s, b"k", now_us(s) + MINUTE_US // 2), Written)


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("ahead_us", [2 * MINUTE_US, 2**63 - 1 - 1_800_000_000_000_000, None])
def test_what_is_far_ahead_of_all_clocks_is_refused(s: Scenario, ahead_us: int | None, deleted: bool) -> None:
    """Clocks follow what they meet, and a ceiling beyond 64 bits ended the next peer that wrote there."""
    timestamp_us = 2**64 - 1 if ahead_us is None else now_us(s) + ahead_us
    answer = restore(s, b"k", timestamp_us, deleted=deleted)
    assert isinstance(answer, Invalid) and answer.code == "timestamp_ahead"
    assert s.put("b", "k", b"w").status == OK


@pytest.mark.parametrize("key", [b"", b"k" * 65_536])
def test_keys_are_as_long_as_any(s: Scenario, key: bytes) -> None:
    answer = restore(s, key, 1)
    assert isinstance(answer, Invalid) and answer.code == "bad_key"
