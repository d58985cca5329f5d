"""What keeps statements: the ones used longest ago go, for their number or their size."""

from __future__ import annotations

import pytest

from cql_lite import session, wire
from cql_lite.statement_cache import BASE_BYTES, StatementCache, estimated_bytes
from tests.cql_lite.whole import Cql, cluster_of, settle


class Some:
    """A statement."""

    def __init__(self, text: str) -> None:
        self.text = text


def test_the_one_used_longest_ago_goes_first() -> None:
    cache: StatementCache[Some] = StatementCache(3, 2**40)
    for name in "abc":
        cache.put(name.encode(), Some(name))
    assert cache.get(b"a") is not None
    assert cache.peek(b"b") is not None
    cache.put(b"d", Some("d"))
    assert [cache.peek(name.encode()) is not None for name in "abcd"] == [True, False, True, True]
    taken = cache.take(b"a")
    assert taken is not None and taken.text == "a"
    assert (cache.take(b"a"), len(cache)) == (None, 2)


def test_long_ones_make_others_go_and_stay_themselves() -> None:
    cache: StatementCache[Some] = StatementCache(100, 4 * BASE_BYTES)
    for name in "abc":
        cache.put(name.encode(), Some(name))
    assert len(cache) == 3
    cache.put(b"long", Some("," * 10_000))
    assert (len(cache), cache.get(b"long") is not None) == (1, True)
    cache.put(b"d", Some("d"))
    assert (len(cache), cache.get(b"long")) == (1, None)
    assert estimated_bytes(", ?" * 60_000) > 30_000_000


def test_a_client_that_prepares_without_end_takes_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PREPARED_BYTES_MAX", 20 * BASE_BYTES)
    cql = Cql(cluster_of(1))
    cql.run("CREATE TABLE ks.t (k int PRIMARY KEY)")
    settle(cql.cluster)
    ids = []
    for number in range(30):
        markers = ", ".join("?" * (number + 1))
        prepared = cql.good(wire.Prepare(f"SELECT k FROM ks.t WHERE k IN ({markers})"))
        assert isinstance(prepared, wire.Prepared)
        ids.append(prepared.id)
    known = [cql.statements.known(key) is not None for key in ids]
    assert known == sorted(known) and 2 < sum(known) < 15
    error = cql.send(wire.Execute(ids[0], cql.parameters([bytes(4)])))
    assert isinstance(error, wire.Unprepared), "the driver prepares it again"
