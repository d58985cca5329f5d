"""Webhooks: signed, tried again, refused for good, and into no private network unless allowed."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from server.sinks import webhook
from server.sinks.files import REFUSED, FileSink
from server.sinks.running import Sinks
from server.sinks.webhook import PrivateAddressError, Webhook, WebhookAwayError, is_global, url_problem
from tests.server.test_sinks import EVENTS, FAST, World, event, serving, until


class Receiver:
    """Notes what it takes; answers with what `statuses` has, then 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.asked += 1
        at, digest = (part.split("=")[1] for part in request.headers["Sullae-Signature"].split(","))
        expected = hmac.new(b"secret", at.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(digest, expected)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.taken.append(json.loads(body))
        return web.Response(status=status, text="no", headers={"Location": self.url})


@asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(receiver.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield
    finally:
        await runner.cleanup()


def hook(receiver: Receiver, folder: Path, *, private: bool = True) -> Webhook:
    return Webhook("s", (receiver.url, "secret"), FileSink(folder, "webhook"), private=private)


async def test_delivered_in_order_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSE_S", 0.001)
    monkeypatch.setattr(webhook, "REQUEST_EVENTS", 4)
    receiver = Receiver()
    async with receiving(receiver):
        receiver.statuses = [503, 200, 429, 500]
        target = hook(receiver, tmp_path)
        assert await target.deliver(3, 1, [event(number) for number in range(10)]) == 0
        await target.close()
    assert [len(body["events"]) for body in receiver.taken] == [4, 4, 2]
    assert [line["key"] for body in receiver.taken for line in body["events"]] == [f"k{n}" for n in range(10)]
    assert (receiver.taken[0]["sink"], receiver.taken[0]["sequence"], receiver.taken[0]["piece"]) == (
        "s",
        3,
        1,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [400, 410, 302])
async def test_what_is_refused_for_good_goes_to_the_dead_letters(tmp_path: Path, status: int) -> None:
    receiver = Receiver()
    async with receiving(receiver):
        receiver.statuses = [status]
        target = hook(receiver, tmp_path / "s")
        assert await target.deliver(0, 0, [event(1), event(2)]) == 2
        assert await target.deliver(1, 0, [event(3)]) == 0
        await target.close()
    assert receiver.asked == 2  # a redirect is not followed
    lines = [json.loads(line) for line in (tmp_path / "s" / REFUSED).read_text().splitlines()]
    assert [(line["why"], line["event"]["key"]) for line in lines] == [
        (f"answered {status}: no", "k1"),
        (f"answered {status}: no", "k2"),
    ]


async def test_one_that_stays_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSE_S", 0.001)
    receiver = Receiver()
    async with receiving(receiver):
        receiver.statuses = [503] * webhook.ATTEMPTS
        target = hook(receiver, tmp_path)
        with pytest.raises(WebhookAwayError, match="answered 503"):
            await target.deliver(0, 0, [event(1)])
    with pytest.raises(WebhookAwayError, match="ClientConnector"):
        await target.deliver(0, 0, [event(1)])
    await target.close()
    assert not list(tmp_path.iterdir())


async def test_private_addresses_are_not_connected_to(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiving(receiver):
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
            receiver.url = url
            target = hook(receiver, tmp_path, private=False)
            with pytest.raises(PrivateAddressError, match="private"):
                await target.deliver(0, 0, [event(1)])
            await target.close()
    assert receiver.asked == 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("10.1.2.3", False), ("127.0.0.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("240.0.0.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::", False),
        ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("2002:a00:1::", False), ("ff02::1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_everybodys(address: str, expected: bool) -> None:
    assert is_global(address) is expected


def test_urls_that_are_refused() -> None:
    assert url_problem("https://example.com/a?b=c", private=False) == ""
    assert url_problem("http://10.0.0.1/", private=True) == ""
    for url in (
        "ftp://example.com", "example.com", "http://", "http://u:p@example.com", "http://a b/", "http://[::1",
        "http://10.0.0.1/", "http://[::1]:80/", "https://example.com:99999/", "http://e/#f",
        "http://e/" + "a" * 3000,
    ):  # fmt: skip
        assert url_problem(url, private=False), url


async def test_a_sink_delivers_all_to_a_receiver_that_fails_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "PAUSE_S", 0.001)
    world, receiver = World(5), Receiver()
    receiver.statuses = [500, 200, 200, 503, 400, 200, 429]
    terms = type(FAST)(FAST.poll_s, FAST.expiry_s, private=True)
    async with serving(world), receiving(receiver):
        monkeypatch.setenv("SULLAE_SINK_HOOK", "secret")
        world.add("webhook", url=receiver.url, secret="env:SULLAE_SINK_HOOK")

        sinks = Sinks(world.url, "n1/1", tmp_path, lambda name, text: None, terms)
        sinks.start()
        await until(lambda: world.record().cursor == f"c{EVENTS}")
        await sinks.stop()
    taken = [line["key"] for body in receiver.taken for line in body["events"]]
    dead = [json.loads(line)["event"]["key"] for line in (tmp_path / "s" / REFUSED).read_text().splitlines()]
    assert sorted(taken + dead) == sorted(f"k{number}" for number in range(EVENTS))
    assert world.record().refused == len(dead) > 0
