"""Each judge against histories made by hand: good ones pass, each kind of bad one is named."""

from __future__ import annotations

from core.cell import NO_VERSION, Version
from jepsen_like.checkers import Problem, Seen, Sighting, register, set_full, stats
from jepsen_like.history import FAIL, INFO, NEVER, OK, History, Operation


class Script:
    """A history by hand: `begin` and `end` in any interleaving."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, kind: str, key: object = "k", value: object = None) -> Operation:
        return self.history.invoke(Operation(self.history.new_process(), kind, key, value, 0), 0)

    def end(self, operation: Operation, status: str = OK, result: object = None) -> Operation:
        self.history.complete(operation, status, 0, result)
        return operation

    def did(self, kind: str, value: object = None, status: str = OK, result: object = None) -> Operation:
        return self.end(self.begin(kind, "k", value), status, result)

    def add(self, element: int, status: str = OK) -> Operation:
        return self.did("add", element, status)

    def saw(self, *seen: int, kind: str = "page", first: int = 0, end: int = NEVER) -> Sighting:
        return Sighting(self.did(kind), first, end, seen)

    def wrote(self, value: int, version: Version, status: str = OK) -> Operation:
        return self.did("write", value, status, version)

    def read(self, value: int | None, version: Version) -> Operation:
        return self.did("read", None, OK, Seen(value, version))


def names(problems: list[Problem]) -> list[str]:
    return [problem.name for problem in problems]


# --- set_full


def test_a_good_set_passes_and_is_counted() -> None:
    s = Script()
    adds = [s.add(0), s.add(1, INFO), s.add(2, INFO), s.add(3, FAIL)]
    early = s.saw(0)
    final = s.saw(0, 1, kind="final_quorum")
    result = set_full(adds, [early], [final])
    assert result.problems == []
    assert (result.acknowledged, result.unknown, result.present, result.recovered) == (1, 2, 2, 1)


def test_an_acknowledged_element_missing_at_the_end_is_lost() -> None:
    s = Script()
    adds = [s.add(0), s.add(1)]
    result = set_full(adds, [], [s.saw(1, kind="final_quorum")])
    assert names(result.problems) == ["lost"]


def test_an_unknown_element_that_was_seen_may_not_vanish() -> None:
    s = Script()
    adds = [s.add(0, INFO)]
    seen = s.saw(0)
    assert names(set_full(adds, [seen], [s.saw(kind="final_quorum")]).problems) == ["lost"]
    assert names(set_full(adds, [seen, s.saw()], [s.saw(0, kind="final_quorum")]).problems) == ["stale"]


def test_a_read_that_began_before_the_acknowledgement_owes_nothing() -> None:
    s = Script()
    add, read = s.begin("add", value=0), s.begin("page")
    s.end(add)
    s.end(read)
    late = Sighting(s.begin("page"), 0, NEVER, ())
    s.end(late.operation)
    final = s.saw(0, kind="final_quorum")
    assert set_full([add], [Sighting(read, 0, NEVER, ())], [final]).problems == []
    assert names(set_full([add], [late], [final]).problems) == ["stale"]


def test_a_read_owes_only_what_it_looked_at() -> None:
    s = Script()
    adds = [s.add(element) for element in range(6)]
    final = s.saw(*range(6), kind="final_quorum")
    assert set_full(adds, [s.saw(2, 3, first=2, end=4)], [final]).problems == []
    assert names(set_full(adds, [s.saw(3, first=2, end=4)], [final]).problems) == ["stale"]


def test_invented_failed_and_doubled_elements() -> None:
    s = Script()
    adds = [s.add(0), s.add(1, FAIL)]
    assert names(set_full(adds, [s.saw(0, 0)], []).problems) == ["duplicated"]
    assert names(set_full(adds, [s.saw(0, 1)], []).problems) == ["unexpected"]
    assert names(set_full(adds, [s.saw(0, 7)], []).problems) == ["unexpected"]


def test_elements_nobody_looked_for_make_the_test_worthless() -> None:
    s = Script()
    assert names(set_full([s.add(0)], [], []).problems) == ["never_read"]


# --- register


def test_good_registers_pass() -> None:
    s = Script()
    s.read(None, NO_VERSION)
    s.wrote(1, (10, 1))
    s.read(1, (10, 1))
    s.wrote(2, (0, 0), INFO)
    s.read(1, (10, 1))  # an unknown write may be seen late
    s.read(2, (20, 1))
    overlapping = s.begin("write", value=3)
    s.read(3, (30, 1))
    s.end(overlapping, OK, (30, 1))
    s.read(3, (30, 1))
    assert register(s.history.operations) == []


def test_a_read_must_see_the_last_acknowledged_write() -> None:
    s = Script()
    s.wrote(1, (10, 1))
    s.wrote(2, (20, 1))
    s.read(1, (10, 1))
    assert names(register(s.history.operations)) == ["stale", "back"]


def test_a_clock_ahead_does_not_excuse_an_old_value() -> None:
    s = Script()
    s.wrote(1, (1_000_500, 1))
    s.wrote(2, (1_000_000, 2))
    s.read(1, (1_000_500, 1))
    assert names(register(s.history.operations)) == ["stale"]


def test_an_empty_register_after_a_write_is_stale() -> None:
    s = Script()
    s.wrote(1, (10, 1))
    s.read(None, NO_VERSION)
    assert names(register(s.history.operations)) == ["stale", "back"]


def test_reads_may_not_go_back_even_behind_an_unknown_write() -> None:
    s = Script()
    s.wrote(1, (10, 1))
    s.wrote(2, (0, 0), INFO)
    s.read(2, (20, 1))
    s.read(1, (10, 1))
    assert names(register(s.history.operations)) == ["back"]


def test_values_from_nowhere() -> None:
    s = Script()
    s.wrote(1, (10, 1), FAIL)
    s.read(1, (10, 1))
    s.read(9, (90, 1))
    assert names(register(s.history.operations)) == ["phantom", "phantom"]


def test_keys_are_judged_apart() -> None:
    s = Script()
    s.end(s.begin("write", "a", 1), OK, (10, 1))
    s.end(s.begin("read", "b"), OK, Seen(None, NO_VERSION))
    assert register(s.history.operations) == []


# --- stats and histories


def test_a_kind_that_never_worked_is_a_failure() -> None:
    s = Script()
    s.did("read")
    s.did("write", status=INFO)
    assert names(stats(s.history, ("read", "write", "cas"))) == ["stats", "stats"]
    assert s.history.counts()["write"] == {"ok": 0, "fail": 0, "info": 1, "pending": 0}
