"""The first hits from estimates: never wrong while estimates are within their bounds."""

from __future__ import annotations

from random import Random

from hypothesis import given, strategies as st

from index.candidates import JUDGED_MAX, Bounds, Candidate, first_hits
from index.ordering import is_after
from index.query import After, Hit


@given(st.integers(0, 10_000), st.integers(1, 8), st.booleans())
def test_the_first_hits_are_those_of_looking_at_all(seed: int, limit: int, is_page: bool) -> None:
    random = Random(seed)
    low, high = random.uniform(0.5, 1.0), random.uniform(1.0, 1.5)
    exact = {b"%03d" % n: float(random.randint(1, 12)) for n in range(60)}
    estimates = {key: score / random.uniform(low, high) for key, score in exact.items()}
    candidates = sorted((Candidate(e, 0, key) for key, e in estimates.items()), reverse=True)
    ordered = sorted((Hit(key, score) for key, score in exact.items()), key=lambda hit: (-hit.score, hit.key))
    after = None
    if is_page:
        last = random.choice(ordered)
        after = After((last.score,), last.key)

    def judge(candidate: Candidate) -> Hit | None:
        key = candidate.place
        assert isinstance(key, bytes)
        hit = Hit(key, exact[key])
        return None if after is not None and not is_after(hit, after, ()) else hit

    wanted = [hit for hit in ordered if after is None or is_after(hit, after, ())][:limit]
    assert first_hits(candidates, judge, limit, Bounds(low, high), after) == wanted


def test_no_more_are_judged_than_are_needed() -> None:
    judged = []

    def judge(candidate: Candidate) -> Hit:
        judged.append(candidate)
        return Hit(b"%05d" % candidate.token, candidate.estimate)

    falling = [Candidate(1000.0 - n, n, None) for n in range(1000)]
    assert len(first_hits(falling, judge, 10, Bounds(1.0, 1.0))) == 10
    assert len(judged) < 20
    judged.clear()
    equals = [Candidate(1.0, n, None) for n in range(100_000)]
    found = first_hits(equals, judge, 10, Bounds(0.9, 1.1))
    assert [hit.key for hit in found] == [b"%05d" % n for n in range(10)]
    assert len(judged) <= JUDGED_MAX + 1
