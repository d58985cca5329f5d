"""`sullae cluster restart`: every peer once, one after the other, so that quorums are there all the time.

A peer is asked to start again (it finishes what it is doing, closes its store, and becomes a new process of
the version that is installed by then, under the same process id). The next one's turn comes when the last is
ready, every other peer sees all peers up, and nobody holds hints for it any more: then each row is where it
was before. If that does not come true in time, the command stops there and says at which peer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.members import Member, members_of
from cli.output import Failure, print_json, say
from cli.places import urls_to_try
from cli.rest import Peer, UnreachableError, expect

POLL_S: Final = 0.2
ASK_TIMEOUT_S: Final = 5.0

Say = Callable[[str], None]

app = typer.Typer(no_args_is_help=True, help="Operate the cluster as a whole.", rich_markup_mode=None)
CONFIG = Path("cluster.yml")


@app.callback()
def cluster() -> None:
    """Operate the cluster as a whole."""


@app.command("restart")
def restart_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PEER]...", help="Which; default: all, in turn.", show_default=False),
    ] = None,
    *,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long each may take to be back.")
    ] = 120.0,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."
        ),
    ] = None,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")
    ] = CONFIG,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Restart peers one after the other: after an upgrade, or a change of cluster.yml.

    Reads and writes at QUORUM go on all the time. The next peer is restarted when the last one is ready, seen
    by all, and has been given what it missed; if that takes too long, the command stops there. A peer whose
    cluster.yml or certificates would not let it start again says so, and goes on.

    \b
    Examples:
      sullae cluster restart
      sullae cluster restart n2 n3 --timeout 600
    """
    done = restart(urls_to_try(url or [], config), names or [], timeout_s, (lambda _: None) if json else say)
    if json:
        print_json({"restarted": done})


def restart(urls: Sequence[str], names: Sequence[str], timeout_s: float, tell: Say) -> list[dict[str, Any]]:
    """Restart the peers of these names, or all; for each its name, its start and the seconds it took."""
    members, _ = members_of(urls)
    unknown = [name for name in names if name not in [member.name for member in members]]
    if unknown:
        raise Failure(f"there is no peer called {', '.join(unknown)}", code="no_such_peer")
    chosen = [member for member in members if not names or member.name in names]
    done: list[dict[str, Any]] = []
    _wait(partial(unfit, members, ""), timeout_s, "the cluster is not fit to restart a peer:", done)
    for member in chosen:
        began_s = time.monotonic()
        try:
            starts = int(_told(member, "POST", "restart")["starts"])
        except (Failure, UnreachableError) as error:
            raise _stopped(f"{member.name} was to start again: {error}", done) from None
        what = f"{member.name} was told to start again, but"
        _wait(partial(_not_back, member, starts), timeout_s, what, done)
        _wait(partial(unfit, members, member.name), timeout_s, f"{member.name} is back, but", done)
        took_s = round(time.monotonic() - began_s, 1)
        done.append({"peer": member.name, "starts": starts + 1, "seconds": took_s})
        tell(f"{member.name} started again in {took_s} s")
    return done


def unfit(members: Sequence[Member], restarted: str) -> str:
    """Why another peer must not stop now; nothing if it may. Hints count for the peer that was restarted."""
    for member in members:
        try:
            status, hints = _told(member, "GET", "status"), _told(member, "GET", "hints")["hints"]
        except (Failure, UnreachableError) as error:
            return f"{member.name} does not answer: {error}"
        if not status["ready"]:
            return f"{member.name} is not ready: {status['why_not']}"
        for peer in status["peers"]:
            if peer["state"] != "up":
                return f"{member.name} sees {peer['name']} {peer['state']}"
        if hints.get(restarted):
            return f"{member.name} has {hints[restarted]} hints for {restarted} left"
    return ""


def _not_back(member: Member, starts: int) -> str:
    try:
        status = _told(member, "GET", "status")
    except (Failure, UnreachableError) as error:
        return f"it does not answer yet: {error}"
    return "" if status["starts"] > starts else "it has not stopped yet"


def _wait(problem: Callable[[], str], timeout_s: float, what: str, done: list[dict[str, Any]]) -> None:
    until_s = time.monotonic() + timeout_s
    while why := problem():
        if time.monotonic() > until_s:
            raise _stopped(f"{what} {why} (after {timeout_s:.0f} s)", done)
        time.sleep(POLL_S)


def _stopped(text: str, done: list[dict[str, Any]]) -> Failure:
    restarted = ", ".join(each["peer"] for each in done) or "none"
    hint = f"restarted so far: {restarted}; go on with the others by naming them"
    return Failure(text, hint=hint, code="not_fit")


def _told(member: Member, method: str, verb: str) -> dict[str, Any]:
    """What a peer answers to a verb; raises UnreachableError or Failure."""
    peer = Peer(member.url, ASK_TIMEOUT_S)
    try:
        told = expect(peer.request(method, f"/v1/admin/{verb}")).json()
    finally:
        peer.close()
    if not isinstance(told, dict):
        raise Failure(f"{member.name} answered to {verb} with something unknown", code="bad_answer")
    return told
