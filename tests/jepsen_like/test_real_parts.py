"""Parts of the real target: the switch, histories as files, the shortest failing part, the report."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.cell import NO_VERSION
from jepsen_like.checkers import Problem, Seen, register
from jepsen_like.cycles import APPEND, READ, Micro
from jepsen_like.history import FAIL, INFO, OK, History, Operation
from jepsen_like.linearizable import Cas, linearizable
from jepsen_like.own import OwnError, own_workload
from jepsen_like.real.run import undone
from jepsen_like.real.switch import CLIENTS, RST, Faults, Switch, tcp_reset
from jepsen_like.report import Told, report
from jepsen_like.run import Verdict, run
from jepsen_like.saved import FaultSpan, edn, entries, save
from jepsen_like.shortest import shortest, until

TOP = Path(__file__).resolve().parents[2]
EXAMPLE = TOP / "docs" / "examples" / "my_workload.py"


# --- the switch


class Wires:
    """Three peers and the clients at a switch, by sockets in the place of devices."""

    def __init__(self) -> None:
        self.pairs = {n: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for n in (1, 2, 3, CLIENTS)}
        for one, other in self.pairs.values():
            one.setblocking(False)
            other.setblocking(False)
        self.switch = Switch({n: pair[0].fileno() for n, pair in self.pairs.items()})
        self.now = 100.0

    def close(self) -> None:
        for pair in self.pairs.values():
            for end in pair:
                end.close()

    def send(self, source: int, target: int, text: bytes = b"data") -> None:
        self.switch.packet(_packet(source, target, text), self.now)

    def heard(self, number: int) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(os.read(self.pairs[number][1].fileno(), 2_000))
            except BlockingIOError:
                return found


def _packet(source: int, target: int, text: bytes = b"data") -> bytes:
    head = bytes([0x45, 0, 0, 40 + len(text), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, source, 10, 0, 0, target])
    return (
        head + struct.pack(">HHIIBBHHH", 7_000 + source, 7_000 + target, 11, 22, 5 << 4, 16, 0, 0, 0) + text
    )


@pytest.fixture
def wires() -> Iterator[Wires]:
    wires = Wires()
    yield wires
    wires.close()


def test_packets_go_where_they_are_meant_to(wires: Wires) -> None:
    wires.send(1, 2)
    wires.send(3, CLIENTS)
    wires.send(1, 9)  # nobody
    wires.switch.packet(b"\x60 no IPv4", wires.now)
    assert (len(wires.heard(1)), len(wires.heard(2)), len(wires.heard(3)), len(wires.heard(CLIENTS))) == (
        0,
        1,
        0,
        1,
    )


def test_a_cut_is_one_pair_and_clients_are_never_cut(wires: Wires) -> None:
    wires.switch.take(Faults(blocked=[(1, 2), (1, CLIENTS)], loss=0.0))
    for source, target in ((1, 2), (2, 1), (1, 3), (1, CLIENTS)):
        wires.send(source, target)
    assert [len(wires.heard(n)) for n in (1, 2, 3, CLIENTS)] == [1, 0, 1, 1]
    wires.switch.take(Faults())
    wires.send(1, 2)
    assert len(wires.heard(2)) == 1


def test_loss_duplication_and_delay(wires: Wires) -> None:
    wires.switch.take(Faults(loss=0.5, seed=3))
    for _ in range(200):
        wires.send(1, 2)
    assert 60 <= len(wires.heard(2)) <= 140
    wires.switch.take(Faults(duplication=1.0, reorder_us=0))
    wires.send(1, 2)
    assert len(wires.heard(2)) == 2
    wires.switch.take(Faults(delay_us=5_000, slow_us={2: 10_000}))
    wires.send(1, 2)
    wires.send(1, 3)
    assert wires.heard(2) == wires.heard(3) == []
    assert wires.switch.due(wires.now + 0.006) == pytest.approx(0.009)
    assert (len(wires.heard(2)), len(wires.heard(3))) == (0, 1)
    assert wires.switch.due(wires.now + 0.016) is None
    assert len(wires.heard(2)) == 1


def test_reordering_lets_later_packets_pass(wires: Wires) -> None:
    wires.switch.take(Faults(reordering=0.5, reorder_us=10_000, seed=1))
    for number in range(50):
        wires.send(1, 2, b"%04d" % number)
    wires.switch.due(wires.now + 1)
    order = [packet[-4:] for packet in wires.heard(2)]
    assert sorted(order) == [b"%04d" % number for number in range(50)] != order


def test_a_reset_tells_both_ends_that_the_connection_is_over(wires: Wires) -> None:
    wires.switch.take(Faults(reset=[(1, 2)]))
    wires.send(1, 2)
    (there,), (back,) = wires.heard(2), wires.heard(1)
    assert there[33] & RST and back[33] & RST
    assert struct.unpack_from(">HHI", there, 20) == (7_001, 7_002, 11)
    assert struct.unpack_from(">HHI", back, 20) == (7_002, 7_001, 22)
    wires.send(1, 2)
    assert wires.heard(2)[0].endswith(b"data"), "only once"


def test_the_checksums_of_a_reset_are_right() -> None:
    packet = tcp_reset(bytes([10, 0, 0, 1, 10, 0, 0, 2]), 1_234, 5_678, 99)
    pseudo = packet[12:20] + bytes([0, 6, 0, 20])
    for covered in (packet[:20], pseudo + packet[20:]):
        total = sum(struct.unpack(f">{len(covered) // 2}H", covered))
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


# --- histories


class Script:
    """A history by hand, in which each position is a millisecond."""

    def __init__(self) -> None:
        self.history = History()
        self.now_us = 0

    def begin(self, kind: str, key: Any, value: Any = None) -> Operation:
        self.now_us += 1_000
        return self.history.invoke(Operation(self.history.new_process(), kind, key, value, 0), self.now_us)

    def end(self, operation: Operation, result: Any = None, status: str = OK) -> Operation:
        self.now_us += 1_000
        self.history.complete(operation, status, self.now_us, result)
        return operation

    def did(self, kind: str, key: Any, value: Any = None, result: Any = None, status: str = OK) -> Operation:
        return self.end(self.begin(kind, key, value), result, status)


def test_a_history_in_jepsens_form(tmp_path: Path) -> None:
    s = Script()
    unknown = s.begin("write", 1, 5)
    s.did("read", 1, None, Seen(5, NO_VERSION))
    s.end(unknown, None, INFO)
    s.did("cas", 1, Cas(5, 6), False)
    steps = (Micro(APPEND, "x", 3), Micro(READ, "x", (1, 3)))
    s.did("txn", 0, steps, steps)
    s.did("write", 1, 7, None, FAIL)
    told = entries(s.history.operations, [FaultSpan("one_way", 1_500, 3_500)])
    assert [(str(e["type"]), str(e["f"])) for e in told[:6]] == [
        ("invoke", "write"),
        ("info", "start-one-way"),
        ("invoke", "read"),
        ("ok", "read"),
        ("info", "stop-one-way"),
        ("info", "write"),
    ]
    assert [e["index"] for e in told] == list(range(len(told)))
    assert told[3]["value"] == [1, 5]
    assert (str(told[7]["type"]), told[7]["value"]) == ("fail", [1, [5, 6]]), (
        "a false comparison fails in Jepsen"
    )
    assert edn(told[9]["value"]) == '[[:append "x" 3] [:r "x" [1 3]]]'
    save(tmp_path, s.history.operations, [])
    lines = (tmp_path / "history.edn").read_text().splitlines()
    assert (
        lines[0] == "{:index 0, :process 1, :type :invoke, :f :write, :value [1 5], :time 1000000, :peer 0}"
    )
    assert len(json.loads((tmp_path / "history.json").read_text())) == len(lines)


def test_the_shortest_part_of_a_register_history_is_what_contradicts_itself() -> None:
    s = Script()
    for number in range(1, 40):
        for key in range(3):
            version = (number, key)
            s.did("write", key, 100 * number + key, version)
            s.did("read", key, None, Seen(100 * number + key, version))
    stale = s.did("read", 1, None, Seen(3_801, (38, 1)))
    s.did("read", 2, None, Seen(3_902, (39, 2)))
    left = shortest(s.history.operations, lambda part: register(list(part)), "stale")
    assert stale in left
    assert {op.key for op in left} == {1}
    assert [op for op in left if op.kind == "read"] == [stale]
    assert len(left) == 40


def test_the_shortest_part_of_what_is_not_linearizable() -> None:
    s = Script()

    def judge(part: object) -> list[Problem]:
        assert isinstance(part, list)
        return linearizable({"k": part})

    for number in range(4):
        s.did("write", "k", number, True)
        s.did("read", "k", None, number)
    wrong = s.did("read", "k", None, 1)
    for number in range(4):
        s.did("write", "k", number, True)
    left = shortest(s.history.operations, judge, "not_linearizable")
    assert [op.kind for op in left] == ["write"] * 4 + ["read"]
    assert left[-1] is wrong


def test_a_history_that_does_not_fail_is_left_alone() -> None:
    s = Script()
    s.did("write", 1, 1, (1, 0))
    assert shortest(s.history.operations, lambda part: register(list(part)), "stale") == s.history.operations


def test_what_had_not_ended_by_then_is_unknown() -> None:
    s = Script()
    first, second = s.begin("write", 1, 1), s.begin("write", 1, 2)
    s.end(first, (1, 0))
    s.end(second, (2, 0))
    s.did("read", 1, None, Seen(2, (2, 0)))
    known = until(s.history.operations, first.completed)
    assert [(op.value, op.status) for op in known] == [(1, OK), (2, INFO)]
    assert second.status == OK, "the history itself is not touched"


# --- the report


def test_a_report_holds_all_that_it_shows() -> None:
    s = Script()
    for number in range(30):
        s.did("write", 1, number, (number, 0))
    bad = s.did("read", 1, None, Seen(3, (3, 0)))
    verdict = Verdict(
        seed=7,
        workload="register",
        options="seed=7 <&>",
        safety_s=1,
        problems=[Problem("stale", "a <read>")],
        problem_count=1,
        operations=31,
        counts=s.history.counts(),
    )
    faults = [FaultSpan("kill", 5_000, 9_000), FaultSpan("halves", 20_000, 21_000)]
    page = report(Told(verdict, s.history.operations, faults, [bad], "sullae jepsen --seed 7", ["a note"]))
    for text in ("not valid", "a &lt;read&gt;", "sullae jepsen --seed 7", "<title>kill</title>", "a note"):
        assert text in page
    assert page.count("<svg") == page.count("</svg>") == 3
    assert page.count("<circle") == 31
    assert "The shortest failing history" in page
    assert "http:" not in page and "https:" not in page and "<script" not in page and "url(" not in page


def test_a_report_of_nothing_is_one_too() -> None:
    verdict = Verdict(seed=1, workload="set", options="", safety_s=1)
    page = report(Told(verdict, [], [], [], "again"))
    assert "Every checker is content" in page


# --- one's own workload


def test_the_example_of_the_documentation_runs_and_finds_what_it_is_for(tmp_path: Path) -> None:
    verdict = run(1, str(EXAMPLE), 10)
    assert verdict.green, verdict.problems
    forgetful = EXAMPLE.read_text().replace('(cart or b"") + ', "")
    assert forgetful != EXAMPLE.read_text()
    (tmp_path / "forgetful.py").write_text(forgetful)
    assert "lost" in [problem.name for problem in run(1, str(tmp_path / "forgetful.py"), 10).problems]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no workload"),
        ("class A: pass\nWORKLOAD = A", "has no method setup, step"),
        ("import nothing_of_that_name", "cannot be read: ModuleNotFoundError"),
        ("(", "cannot be read: SyntaxError"),
    ],
)
def test_a_file_that_is_no_workload_says_why(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(OwnError, match=says.replace("(", r"\(")):
        own_workload(str(tmp_path / "mine.py"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OwnError, match="there is no Python file"):
        own_workload(str(tmp_path / "gone.py"))


def test_who_keeps_anything_or_has_not_compared_since_the_load_is_not_done() -> None:
    hints = {"hints": {"n1": 0, "n2": 0}, "batches": 0}
    repair = {"proven_equal_s": {"n2": {"docs.a": 2.0}}}
    assert undone("n1", hints, repair, stopped_s=3.0) == []
    assert undone("n1", hints | {"batches": 1}, repair, 3.0) == ["n1 keeps logged batches, so many: 1"]
    assert undone("n1", hints | {"hints": {"n2": 4}}, repair, 3.0) == ["n1 keeps hints for {'n2': 4}"]
    assert undone("n1", hints, repair, stopped_s=1.0) == ["n1 has not proven docs.a equal to n2"]
    assert undone("n1", hints, {"proven_equal_s": {"n2": {"docs.a": None}}}, 3.0) != []
    assert undone("n1", None, repair, 3.0) == ["n1 does not answer"]
