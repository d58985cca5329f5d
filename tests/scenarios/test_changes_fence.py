"""Changes that are switched on while a replica does not hear of it: what is written later has its images."""

from __future__ import annotations

from typing import Any

import pytest

from core.messages import Decided
from core.requests import Changed, MetadataRequest, Unready
from core.row import live_cells
from core.streaming import CURSOR, ChangesPart, ChangesRequest, Place
from jepsen_like.scenarios import SECOND, Scenario
from kv import buckets
from kv.buckets import Bucket, BucketSpec
from lsm.log import Image
from node.changes_fence import ChangesFence
from node.writes import WriteOperation
from streams.events import Event, events_of
from tests.scenarios.telling import QUIET, executor

Patch = pytest.MonkeyPatch


def story() -> tuple[Scenario, Bucket]:
    """Three peers, and a bucket that keeps nothing for subscribers."""
    s = Scenario(settings=QUIET)
    s.start()
    bucket = s.bucket("b")
    s.put("b", "k", b"old")
    return s, bucket


def switch_on(s: Scenario, bucket: Bucket, timeout_s: float = 30.0) -> Any:
    """ALTER through the first peer: its answer."""
    request = buckets.alter_bucket(bucket, BucketSpec("b", changes="new_and_old"))
    assert isinstance(request, MetadataRequest)
    return s.ask(request, timeout_s=timeout_s).answer


def deaf(s: Scenario, *peers: int) -> None:
    """These peers are not told of epochs, but for what refusals bring."""
    s.lose(lambda source, target, message: target in peers and isinstance(message, Decided))


def images(s: Scenario, peer: int) -> list[tuple[Image, ...]]:
    """Of each mutation in a peer's log."""
    log = executor(s, peer).store.log
    return [log.images(offset) for offset, entry in log.entries(0, 1_000) if entry.start]


def events_at(s: Scenario, bucket: Bucket, peer: int) -> list[Event]:
    """What a stream of everything says that follows this peer alone."""
    number = s.state(0).number_of(s.cluster.machines[peer].peer)
    assert number is not None
    found: list[Event] = []
    done: list[bool] = []

    def part(answer: Any) -> None:
        assert isinstance(answer, ChangesPart), answer
        for entry in answer.entries:
            found.extend(events_of(entry, "new_and_old"))
        done.extend([True] if answer.whole else [])

    place = Place(-(2**63), 2**63 - 1, number, ((number, 0),))
    call = s.cluster.stream(0, ChangesRequest(bucket.table, CURSOR, (place,)), part, lambda _: None)
    assert s.until(lambda: len(done) > 1)
    s.cluster.leave(call)
    return found


def written_by_who_lags() -> tuple[list[Event], bytes]:
    """The events of a write through a peer that lags, as its own log has them, and their id."""
    s, bucket = story()
    deaf(s, 2)
    assert isinstance(switch_on(s, bucket), Changed)
    assert s.state(2).epoch < s.state(0).epoch, "it does not know"
    end = s.put("b", "k", b"new", at=2)
    assert end.status == "ok", end
    assert s.state(2).epoch == s.state(0).epoch, "who refused it told it"
    s.heal()
    s.run(1)
    for peer in (0, 1):
        before, after = images(s, peer)[-1][0].before, images(s, peer)[-1][0].after
        assert before is not None and after is not None, "who knew has logged both"
    return events_at(s, bucket, 2), b"new"


def test_who_took_it_before_it_knew_logs_it_again() -> None:
    events, value = written_by_who_lags()
    last = events[-1]
    assert last.imaged == (True, True) and last.after is not None
    assert value in [cell.value for cell in live_cells(last.after, 2**62)]
    assert len({event.id for event in events}) == 2, "under the same id"


def test_else_it_would_have_no_images_there(monkeypatch: Patch) -> None:
    monkeypatch.setattr(WriteOperation, "_is_logged_otherwise_now", lambda _: False)
    events, _ = written_by_who_lags()
    assert events[-1].imaged == (False, False)


def written_by_two_who_lag() -> tuple[Any, list[bool]]:
    """What ALTER answers while two of three do not hear of it, and who then logs a write through one of them
    with images."""
    s, bucket = story()
    deaf(s, 1, 2)
    answer = switch_on(s, bucket, 3.0)
    s.cut([0], [1, 2])
    s.run(0.1)
    if isinstance(answer, Changed):
        assert s.put("b", "k", b"new", at=1).status == "ok"
    return answer, [bool(images(s, peer)[-1]) for peer in (1, 2)]


def test_it_is_not_answered_before_a_quorum_knows() -> None:
    answer, _ = written_by_two_who_lag()
    assert isinstance(answer, Unready) and "switched on" in answer.detail


def test_who_asks_once_more_waits_for_the_same(monkeypatch: Patch) -> None:
    s, bucket = story()
    monkeypatch.setattr(ChangesFence, "_is_adopted", lambda *_: False)
    assert isinstance(switch_on(s, bucket, 2.0), Unready)
    assert isinstance(switch_on(s, bucket, 2.0), Unready)
    monkeypatch.undo()
    assert isinstance(switch_on(s, bucket), Changed)


def test_else_what_is_written_after_it_has_no_images(monkeypatch: Patch) -> None:
    monkeypatch.setattr(ChangesFence, "_is_fenced", lambda *_: False)
    answer, imaged = written_by_two_who_lag()
    assert isinstance(answer, Changed) and imaged == [False, False]


def test_it_is_answered_as_soon_as_a_quorum_knows() -> None:
    s, bucket = story()
    deaf(s, 2)
    began_us = s.cluster.now_us
    assert isinstance(switch_on(s, bucket), Changed)
    assert s.cluster.now_us - began_us < SECOND
