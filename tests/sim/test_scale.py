"""A smaller sibling of `python -m bench.scale`: what holds for 1,000 peers in ten minutes, for 200 in one."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench import scale, scale_moves
from bench.figures import dots, nice_maximum, stacked_bars
from bench.scale import Crash, Measured

SECONDS = 60.0


@pytest.fixture(scope="module")
def measured() -> dict[int, Measured]:
    return {peers: scale.measure(peers, seed=3, loss=0.01, idle_s=SECONDS, crashes=4) for peers in (10, 200)}


def test_nobody_is_declared_dead_who_lives(measured: dict[int, Measured]) -> None:
    assert [one.false_deaths for one in measured.values()] == [0, 0]


def test_a_crash_and_a_return_are_known_everywhere_soon(measured: dict[int, Measured]) -> None:
    for one in measured.values():
        assert [crash.silent for crash in one.crashes] == [False, True, False, True]
        for crash in one.crashes:
            assert 0.5 < crash.first_s <= crash.known_s <= scale.KNOWN_EVERYWHERE_S_MAX
            assert 0 < crash.back_s <= scale.KNOWN_EVERYWHERE_S_MAX


def test_each_kind_of_idle_traffic_is_constant_per_peer(measured: dict[int, Measured]) -> None:
    """Handshakes are made once, so they count in the long run only: bounded by who talks to whom at all."""
    few, many = measured[10].bytes_by_purpose, measured[200].bytes_by_purpose
    for purpose in scale.PURPOSE_NAMES:
        if purpose != scale.HANDSHAKES:
            assert many[purpose] <= scale.TRAFFIC_RATIO_MAX * few[purpose], purpose
    assert few["liveness"] > 10
    assert measured[200].messages_per_peer_s <= 1.1 * measured[10].messages_per_peer_s
    assert measured[200].connections_per_peer <= 120


@pytest.fixture(scope="module")
def grown() -> dict[int, scale_moves.Measured]:
    return {peers: scale_moves.measure(peers, seed=1, loss=0.01) for peers in (6, 24)}


def test_a_newcomer_is_given_as_much_however_many_peers_there_are(
    grown: dict[int, scale_moves.Measured],
) -> None:
    assert scale_moves.broken_promises(list(grown.values())) == []
    for one in grown.values():
        seconds = list(one.changes.phases_s.values())
        assert list(one.changes.phases_s) == ["prepared", "handed over", "ended"]
        assert 0 < seconds[0] <= seconds[1] <= seconds[2]
        held = scale_moves.ROWS_PER_PEER * scale_moves.ROW_BYTES / 1024
        assert one.changes.join.kib[scale_moves.ROWS] > held, (
            "a share of three replicas, and the log beside it"
        )
        assert 0 < one.changes.table_s <= one.changes.table_known_s
    slow = msgspec.structs.replace(grown[24].changes, phases_s={"ended": scale_moves.JOINED_S_MAX + 1})
    named = scale_moves.broken_promises([grown[6], msgspec.structs.replace(grown[24], changes=slow)])
    assert named == [f"24 peers: a newcomer was in only after {scale_moves.JOINED_S_MAX + 1} s"]
    assert "| join: how far are you, KiB |" in scale_moves.table(list(grown.values()))
    for figure in scale_moves.figures(list(grown.values())).values():
        assert _parsed(figure).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_broken_promise_is_named() -> None:
    crash = Crash(silent=True, first_s=2, known_s=4, back_s=1)
    good = Measured(
        peers=10, seed=1, loss=0.01, idle_s=600, birth_s=1, birth_cpu_s=1, birth_kib_per_peer=1,
        birth_kib_busiest=1, bytes_by_purpose={}, bytes_per_peer_s=100, bytes_busiest_s=110,
        messages_per_peer_s=3, connections_per_peer=9, suspicions=0, false_deaths=0, crashes=[crash],
        idle_cpu_s=1, virtual_s_per_s=1, memory_mib=1, memory_kib_per_peer=1,
    )  # fmt: skip
    replace = msgspec.structs.replace
    assert scale.broken_promises([good, replace(good, peers=100, bytes_per_peer_s=160)]) == []
    loud = scale.broken_promises([good, replace(good, peers=100, bytes_per_peer_s=161)])
    assert loud == ["100 peers: 1.61 times the traffic per peer of 10"]
    assert scale.broken_promises([replace(good, false_deaths=2)]) == ["10 peers: 2 false deaths"]
    slow = replace(good, crashes=[crash, replace(crash, known_s=10.5)])
    assert scale.broken_promises([slow]) == ["10 peers: a crash was known everywhere only after 10.5 s"]


def _parsed(figure: str) -> ET.Element:
    return ET.fromstring(figure)  # noqa: S314  our own


def test_figures_are_well_formed_and_to_scale(measured: dict[int, Measured]) -> None:
    for name, figure in scale.figures(list(measured.values())).items():
        assert name.endswith(".svg")
        assert _parsed(figure).tag == "{http://www.w3.org/2000/svg}svg"
    bars = _parsed(stacked_bars("t", "u", {"a": {"x": 3, "y": 1}, "b": {"x": 6, "y": 0}}))
    blue = [rect for rect in bars.iter("{http://www.w3.org/2000/svg}rect") if rect.get("fill") == "#2b6cb0"]
    heights = [float(rect.get("height", "0")) for rect in blue[1:]]  # the first is the legend's
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)
    circles = dots("t", "u", {"a": {"x": [1.0, 2.0], "y": []}}, limit=4).count("<circle")
    assert circles == 2
    assert [nice_maximum(value) for value in (0.3, 1, 7, 21, 78.6)] == [0.5, 1, 10, 25, 100]
