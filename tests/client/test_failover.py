"""What the client does when peers refuse, vanish, hang or are slow: tried again where that is safe."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from aiohttp import web

import sullae
from tests.client.fake import Asked, FakePeer, always, client, cut, hang, in_turn, ok, peers, problem

WRITTEN = always(lambda: ok(ETag='"1-1"'))
CUT = always(cut)
ROWS: dict[str, object] = {"columns": [], "rows": [], "page_state": None}


def nobody() -> FakePeer:
    """A peer at an address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return FakePeer(WRITTEN, port=probe.getsockname()[1])


async def test_a_peer_that_is_not_there_is_passed_over_and_not_asked_again_soon() -> None:
    events: list[sullae.Event] = []
    async with peers(WRITTEN) as [there], client(nobody(), there, on_event=events.append) as db:
        for _ in range(10):
            assert await db.kv("b").put("k", b"v") == '"1-1"'
    failed = [event for event in events if event.error is not None]
    assert len(there.asked) == 10
    assert 1 <= len(failed) <= 3
    assert all(isinstance(event.error, sullae.ConnectionFailed) and event.will_retry for event in failed)


async def test_where_no_peer_is_there_the_error_says_that_nothing_was_done() -> None:
    async with client(nobody(), nobody(), timeout_s=0.3) as db:
        with pytest.raises(sullae.ConnectionFailed):
            await db.kv("b").put("k", b"v")


@pytest.mark.parametrize("kind", ["not-ready", "overloaded"])
async def test_a_refusal_of_one_peer_goes_to_another_at_once(kind: str) -> None:
    async with (
        peers(always(lambda: problem(kind, 503)), always(lambda: ok(ROWS))) as [first, second],
        client(first, second) as db,
    ):
        await db.cql("INSERT INTO t (id) VALUES (1)")
    assert len(second.asked) == 1


async def test_too_few_replicas_are_waited_for_with_pauses_until_attempts_are_used_up() -> None:
    async with (
        peers(always(lambda: problem("unavailable", 503, required=2, alive=1))) as [peer],
        client(peer, attempts_max=4) as db,
    ):
        with pytest.raises(sullae.Unavailable) as caught:
            await db.kv("b").put("k", b"v")
    assert caught.value.members == {"required": 2, "alive": 1}
    assert len(peer.asked) == 4


async def test_what_may_not_be_done_twice_is_sent_once_though_the_library_below_would_repeat_it() -> None:
    """A connection that was used before and is cut: aiohttp sends PUT and DELETE again by itself."""
    async with (
        peers(in_turn(lambda: ok({"buckets": []}), cut, lambda: problem("no-such-bucket", 404))) as [peer],
        client(peer) as db,
    ):
        await db.buckets()
        with pytest.raises(sullae.OutcomeUnknown):
            await db.kv("b").drop()
    assert [one.method for one in peer.asked] == ["GET", "DELETE"]


async def test_a_client_is_closed_right_after_its_peer_went_away() -> None:
    """The failure has the members be looked for again at the very moment at which that is to end."""

    async def script(asked: Asked) -> web.Response | None:
        return None if asked.target == "/v1/cql" else ok({"epoch": 1, "peers": []})

    async with peers(script) as [peer], asyncio.timeout(10):
        with pytest.raises(sullae.OutcomeUnknown):
            async with client(peer, discover=True) as db:
                await asyncio.sleep(0.05)
                await db.cql("INSERT INTO t (id) VALUES (1)")


async def test_a_plain_write_whose_answer_was_lost_is_written_again_without_a_key() -> None:
    async with peers(in_turn(cut, cut, lambda: ok(ETag='"1-1"'))) as [peer], client(peer) as db:
        await db.kv("b").put("k", b"v")
    assert len(peer.asked) >= 3
    assert {one.key for one in peer.asked} == {""}


@pytest.mark.parametrize("is_conditional", [True, False])
async def test_what_is_not_the_same_twice_is_sent_again_under_the_same_key_to_the_byte(
    is_conditional: bool,
) -> None:
    async with (
        peers(in_turn(cut, lambda: problem("idempotency-key-in-use", 409), ok)) as [first],
        peers(CUT) as [second],
        client(second, first) as db,
    ):
        if is_conditional:
            await db.kv("b").put("k", b"v", if_match='"1-1"')
        else:
            await db.collection("c").patch("d", {"$inc": {"n": 1}})
    asked = second.asked + first.asked
    assert len(second.asked) >= 1 and len(first.asked) >= 3
    assert len({(one.method, one.target, one.body, one.key) for one in asked}) == 1
    assert len(asked[0].key) > 30
    assert "timeout_ms=" in asked[0].target


async def test_a_large_body_has_more_time() -> None:
    async with peers(always(ok)) as [peer], client(peer, attempt_timeout_s=3, timeout_s=4) as db:
        await db.kv("b").put("k", b"v")
        await db.kv("b").put("k", bytes(5 * 1024 * 1024))
        await db.kv("b").put("k", bytes(5 * 1024 * 1024), timeout_s=6)
    waits = [one.target.partition("timeout_ms=")[2] for one in peer.asked if one.method == "PUT"]
    assert waits == ["3000", "8000", "6000"]


async def test_every_operation_has_a_key_of_its_own() -> None:
    async with peers(always(ok)) as [peer], client(peer) as db:
        for _ in range(3):
            await db.collection("c").patch("d", {"$push": {"n": 1}})
    assert len({one.key for one in peer.asked}) == 3


@pytest.mark.parametrize("change", [{"a": 1}, {"$set": {"a": 1}}, {"$unset": {"a": 1}}])
async def test_edits_that_are_the_same_twice_need_no_key(change: dict[str, object]) -> None:
    async with peers(always(ok)) as [peer], client(peer) as db:
        await db.collection("c").patch("d", change)
        assert peer.asked[0].key == ""
        await db.collection("c").patch("d", change, if_match="*")
        assert peer.asked[1].key != ""


async def test_a_statement_whose_answer_was_lost_is_not_sent_twice() -> None:
    async with peers(CUT, WRITTEN) as [first, second], client(first, second) as db:
        with pytest.raises(sullae.OutcomeUnknown):
            await db.cql("UPDATE t SET n = n + 1 WHERE id = 1")
    assert len(first.asked) == 1 and second.asked == []


@pytest.mark.parametrize("how", ["select", "idempotent", "once"])
async def test_a_statement_that_may_be_repeated_is(how: str) -> None:
    async with peers(CUT, always(lambda: ok(ROWS))) as [first, second], client(first, second) as db:
        if how == "select":
            await db.cql("-- all\nselect * from t")
        elif how == "idempotent":
            await db.cql("INSERT INTO t (id) VALUES (1)", idempotent=True)
        else:
            await db.cql("UPDATE t SET n = n + 1 WHERE id = 1", once=True)
    assert [one.key for one in first.asked] == [one.key for one in second.asked]
    assert bool(second.asked[0].key) is (how == "once")


async def test_no_later_refusal_takes_back_that_a_write_may_have_been_done() -> None:
    script = in_turn(cut, lambda: problem("unavailable", 503))
    async with peers(script) as [peer], client(peer, attempts_max=3) as db:
        with pytest.raises(sullae.OutcomeUnknown) as caught:
            await db.collection("c").patch("d", {"$inc": {"n": 1}})
    assert isinstance(caught.value.__cause__, sullae.Unavailable)


async def test_a_read_of_which_nothing_is_known_is_no_unknown_write() -> None:
    async with peers(CUT) as [peer], client(peer, attempts_max=3) as db:
        with pytest.raises(sullae.ConnectionFailed):
            await db.kv("b").get("k")
    assert len(peer.asked) >= 3


async def test_a_peer_that_hangs_is_left_for_another() -> None:
    async with (
        peers(hang, WRITTEN) as [first, second],
        client(first, second, attempt_timeout_s=0.05) as db,
    ):
        begun_s = time.monotonic()
        await db.kv("b").put("k", b"v")
        assert time.monotonic() - begun_s < 3.0
    assert len(second.asked) == 1


async def test_a_statement_that_writes_rows_leaves_a_peer_that_hangs_as_soon() -> None:
    async with (
        peers(hang, always(lambda: ok(ROWS))) as [first, second],
        client(first, second, attempt_timeout_s=0.05) as db,
    ):
        begun_s = time.monotonic()
        await db.cql("-- one\nINSERT INTO t (id) VALUES (1)", idempotent=True)
        assert time.monotonic() - begun_s < 3.0
    assert len(second.asked) == 1


async def test_an_operation_ends_at_its_deadline_whatever_peers_do() -> None:
    async with peers(hang, hang) as those, client(*those, attempt_timeout_s=0.05) as db:
        begun_s = time.monotonic()
        with pytest.raises(sullae.OutcomeUnknown):
            await db.kv("b").put("k", b"v", timeout_s=0.3)
        with pytest.raises(sullae.ReadTimeout):
            await db.kv("b").get("k", timeout_s=0.3)
        assert time.monotonic() - begun_s < 4.0


async def test_a_cancelled_operation_leaves_nothing_outstanding() -> None:
    async with peers(hang) as [peer], client(peer) as db:
        task = asyncio.create_task(db.kv("b").get("k"))
        while not peer.asked:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [one.outstanding for one in db._transport.peers.all] == [0]


async def test_of_equal_peers_the_one_with_the_least_to_do_is_asked() -> None:
    release = asyncio.Event()

    async def slow(_: Asked) -> object:
        await release.wait()
        return ok()

    async with peers(slow, WRITTEN) as [first, second], client(first, second) as db:  # type: ignore[arg-type]
        begun = asyncio.create_task(db.kv("b").put("k", b"v"))
        while not first.asked:
            await asyncio.sleep(0)
        for _ in range(10):
            await db.kv("b").put("k", b"v")
        assert len(first.asked) == 1 and len(second.asked) == 10
        release.set()
        await begun


async def test_members_are_found_and_those_that_leave_are_forgotten() -> None:
    members = [{"name": "n1", "address": "127.0.0.1", "state": "up"}]

    async def script(asked: Asked) -> object:
        if asked.target == "/v1/cluster":
            return ok({"epoch": 1, "peers": members})
        return ok({"epoch": 1, "vnodes": []})

    async with peers(script) as [peer]:  # type: ignore[arg-type]
        members.append({"name": "n2", "address": "127.0.0.9", "state": "down"})
        async with client(peer, discover=True) as db:
            assert db.peers == [peer.url, f"http://127.0.0.9:{peer.port}"]
            members.pop()
            await db._transport._refresh()
            assert db.peers == [peer.url]


async def test_a_client_that_finds_nobody_does_not_open() -> None:
    with pytest.raises(sullae.ConnectionFailed):
        async with client(nobody(), discover=True, timeout_s=0.2):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("bad-key", 400, sullae.Invalid),
        ("not-permitted", 403, sullae.NotPermitted),
        ("no-such-bucket", 404, sullae.NotFound),
        ("method-not-allowed", 405, sullae.Invalid),
        ("bucket-exists", 409, sullae.Conflict),
        ("too-many-cells", 409, sullae.TooLarge),
        ("precondition-failed", 412, sullae.PreconditionFailed),
        ("value-too-large", 413, sullae.TooLarge),
        ("idempotency-key-reused", 422, sullae.Invalid),
        ("internal-error", 500, sullae.ServerError),
        ("unavailable", 503, sullae.Unavailable),
        ("overloaded", 503, sullae.Overloaded),
        ("outcome-unknown", 504, sullae.OutcomeUnknown),
    ],
)
async def test_problems_are_exceptions(kind: str, status: int, error: type[sullae.SullaeError]) -> None:
    async with (
        peers(always(lambda: problem(kind, status, more=1))) as [peer],
        client(peer, attempts_max=1) as db,
    ):
        with pytest.raises(error) as caught:
            await db.kv("b").put("k", b"v")
    assert type(caught.value) is error
    assert (caught.value.kind, caught.value.status, caught.value.members) == (kind, status, {"more": 1})
    assert peer.url in str(caught.value)
    assert len(peer.asked) == 1


async def test_what_the_cluster_refuses_for_good_is_asked_once() -> None:
    async with peers(always(lambda: problem("bad-key", 400))) as [peer], client(peer) as db:
        with pytest.raises(sullae.Invalid):
            await db.kv("b").put("k", b"v")
    assert len(peer.asked) == 1


async def test_an_answer_of_a_proxy_is_understood() -> None:
    async with (
        peers(in_turn(lambda: ok("<html>", 502), lambda: ok("<html>", 503), ok)) as [peer],
        client(peer) as db,
    ):
        await db.kv("b").put("k", b"v")
    assert len(peer.asked) == 3


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_peer_that_does_not_know_yet_what_was_made_through_another_is_not_believed(
    is_ours: bool,
) -> None:
    def missing() -> web.Response:
        return problem("no-such-bucket", 404)

    async with peers(in_turn(ok, missing, missing, ok)) as [peer], client(peer) as db:
        if is_ours:
            await db.kv("b").put("k", b"v")
            assert await db.kv("b").get("k") is not None
        else:
            await db.kv("other").put("k", b"v")
            with pytest.raises(sullae.NotFound):
                await db.kv("b").get("k")
    assert len(peer.asked) == (4 if is_ours else 2)


async def test_a_bucket_that_is_gone_is_gone_all_the_same() -> None:
    async with peers(in_turn(ok, lambda: problem("no-such-bucket", 404))) as [peer], client(peer) as db:
        await db.kv("b").put("k", b"v")
        with pytest.raises(sullae.NotFound):
            await db.kv("b").get("k")
    assert len(peer.asked) == 6


async def test_a_result_says_what_it_is() -> None:
    told = [{"columns": [{"name": "id", "type": "int"}], "rows": [{"id": 1}], "page_state": None}, ROWS]
    async with peers(always(lambda: ok(told.pop(0), 200))) as [peer], client(peer) as db:
        assert repr(await db.cql("SELECT id FROM t")) == "CqlResult(id: 1 rows)"
        assert "applied" in repr(await db.cql("INSERT INTO t (id) VALUES (1)"))
