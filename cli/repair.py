"""`sullae repair` and `sullae scrub`: how equal replicas are, what deletions wait for, and whether disks are
sound.

Each peer knows its own share: what it compared with whom, the floors that it leads, what it has to mend. So
all peers are asked, and what they say is put together.
"""

from __future__ import annotations

import json as json_module
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ANSWERED_NO_EXIT, bytes_text, count_text, duration_text, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

app = typer.Typer(
    no_args_is_help=True, help="How equal replicas are, and what deletions wait for.", rich_markup_mode=None
)
top = typer.Typer(rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Url = Annotated[
    list[str] | None,
    typer.Option("--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."),
]
CONFIG = Path("cluster.yml")
ASK_TIMEOUT_S = 10.0
POLL_S = 0.5
PAUSE_MAX_S, PAUSE_GROWS = 30.0, 1.2
"""A scrub takes seconds or hours: it is said ever less often how far it is."""
AGAIN_S = 60.0
"""So long a peer that does not answer any more is waited for: who meets damage starts again to mend it."""
SHOWN_MAX = 20

Answers = dict[str, dict[str, Any] | None]
"""What each peer says, by name; None for one that does not answer."""


def _peers(urls: Sequence[str] | None, config: Path) -> list[tuple[str, str]]:
    """(name, URL) of all members; raises Failure."""
    from cli.members import members_of
    from cli.places import urls_to_try

    return [*members_of(urls_to_try(urls or [], config))[0]]


def _ask_all(
    peers: Sequence[tuple[str, str]], verb: str, body: Any = None
) -> dict[str, dict[str, Any] | None]:
    """What each peer answers, by name; None for one that does not."""

    def ask(peer: tuple[str, str]) -> tuple[str, dict[str, Any] | None]:
        from cli.rest import Peer, UnreachableError, expect

        name, url = peer
        asked = Peer(url, ASK_TIMEOUT_S)
        data = None if body is None else json_module.dumps(body).encode()
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            return name, expect(asked.request(method, f"/v1/admin/{verb}", data, headers)).json()
        except UnreachableError:
            return name, None
        finally:
            asked.close()

    with ThreadPoolExecutor(16) as pool:
        return dict(pool.map(ask, peers))


@app.command("status")
def status(*, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Show when replicas were last proven equal, how far deletions are purged, and what is being mended.

    Exit status 4 if a peer does not answer, or something is not proven equal, waits or has to be mended.

    \b
    Examples:
      sullae repair status
      sullae repair status --json | jq '.floors[] | select(.waiting != "")'
    """
    told = _ask_all(_peers(url, config), "repair")
    floors = [floor for answer in told.values() if answer for floor in answer["floors"]]
    mending = [{"peer": name, **one} for name, answer in told.items() if answer for one in answer["mending"]]
    silent = [name for name, answer in told.items() if answer is None]
    if json:
        print_json({"peers": told, "floors": floors, "mending": mending, "silent": silent})
    else:
        _show(told, floors, mending, silent)
    unproven = any(None in one["equal_s"].values() for a in told.values() if a for one in a["ranges"])
    if silent or unproven or mending or any(floor["waiting"] for floor in floors):
        raise typer.Exit(ANSWERED_NO_EXIT)


def _show(
    told: dict[str, dict[str, Any] | None],
    floors: list[dict[str, Any]],
    mending: list[dict[str, Any]],
    silent: list[str],
) -> None:
    by_table: dict[str, list[float | None]] = {}
    for answer in told.values():
        for one in answer["ranges"] if answer else ():
            by_table.setdefault(one["table"], []).extend(one["equal_s"].values())
    waiting = {floor["table"]: floor for floor in floors if floor["waiting"]}
    oldest: dict[str, float] = {}
    for floor in floors:
        if floor["floor_age_s"] is not None:
            oldest[floor["table"]] = max(oldest.get(floor["table"], 0.0), floor["floor_age_s"])
    rows = []
    for table, ages in sorted(by_table.items()):
        known = [age for age in ages if age is not None]
        proven = f"{len(known)} of {len(ages)}"
        since = duration_text(max(known)) + " ago" if known else "not yet"
        floor_text = duration_text(oldest[table]) + " ago" if table in oldest else "-"
        reason = ""
        if table in waiting:
            one = waiting[table]
            waited = f", for {duration_text(one['waiting_s'])}" if one.get("waiting_s") is not None else ""
            reason = f"{one['waiting']} ({count_text(one['ranges'], 'range')}{waited})"
        rows.append((table, proven, since, floor_text, reason))
    print_table(("table", "ranges proven equal", "since", "floor", "the floor waits for"), rows)
    for one in mending[:SHOWN_MAX]:
        why = ", ".join(f"{name} ({text})" for name, text in one["waiting"].items())
        say(f"{one['peer']} lost something of {one['table']} to damage and waits for {why}")
    if silent:
        say(f"no answer from {', '.join(silent)}: nothing is proven equal with who is down (sullae status)")


@app.command("run")
def run(
    table: Annotated[
        str | None, typer.Argument(help="As keyspace.table; default: all.", show_default=False)
    ] = None,
    *,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have all replicas compared now; they do it all the time, this only puts it first.

    \b
    Examples:
      sullae repair run
      sullae repair run docs.movies
    """
    body = {} if table is None else {"table": table}
    told = _ask_all(_peers(url, config), "repair_run", body)
    if json:
        print_json({"peers": told})
        return
    for name, answer in told.items():
        text = "no answer" if answer is None else count_text(answer["comparisons"], "comparison") + " to make"
        say(f"{name}: {text}")
    say("see `sullae repair status` for how far they are")


@app.command("accept-loss")
def accept_loss(
    *,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Serve ranges again of which damage took something that no other replica can give back now.

    Only if those other replicas are gone for good: what they alone still had is lost then.

    \b
    Examples:
      sullae repair accept-loss --yes
    """
    if not yes:
        typer.confirm("What was only on the damaged disks will be lost. Go on?", abort=True, err=True)
    told = _ask_all(_peers(url, config), "accept_loss", {})
    if json:
        print_json({"peers": told})
        return
    for name, answer in told.items():
        text = "no answer" if answer is None else count_text(answer["given_up"], "range") + " given up"
        say(f"{name}: {text}")


@top.command("scrub")
def scrub(
    peer: Annotated[
        str | None, typer.Argument(help="A peer's name; default: all.", show_default=False)
    ] = None,
    *,
    pace: Annotated[int, typer.Option("--pace", metavar="MIB_PER_S", min=0, help="0: as configured.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show progress until it is done.")] = True,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Read everything stored, check it, and put right what rows can put right.

    Checksums of blocks, records that do not decode; hash trees, entries of indexes and inverted indexes
    against rows. A peer that meets damage stops in order, copies what can be read, and gets the rest from
    other replicas.

    \b
    Examples:
      sullae scrub
      sullae scrub n2 --pace 50
    """
    from cli.output import Failure

    peers = [one for one in _peers(url, config) if peer in (None, one[0])]
    if not peers:
        raise Failure(f"there is no peer {peer}", code="no_such_peer")
    told = _ask_all(peers, "scrub", {"bytes_per_s": pace * 2**20})
    if wait:
        told = _watch(peers, told, (lambda _: None) if json else say)
    if json:
        print_json({"peers": told})
    else:
        for name, answer in told.items():
            say(_result(name, answer))
    bad = [a for a in told.values() if a is None or a["last"] is None or a["last"].get("problems")]
    if wait and bad:
        raise typer.Exit(ANSWERED_NO_EXIT)


def _watch(peers: Sequence[tuple[str, str]], told: Answers, tell: Callable[[str], None]) -> Answers:
    """Until no peer scrubs any more, and whoever met damage is there again."""
    begun = [name for name, answer in told.items() if answer]
    until_s, pause_s = 0.0, POLL_S
    while True:
        missing = [name for name in begun if told[name] is None]
        if any(answer and answer["running"] for answer in told.values()):
            until_s = time.monotonic() + AGAIN_S
        elif not missing or time.monotonic() > until_s:
            return told
        tell("  ".join(_progress(name, answer) for name, answer in told.items()))
        time.sleep(pause_s)
        pause_s = min(PAUSE_MAX_S, pause_s * PAUSE_GROWS)
        told = _ask_all(peers, "scrub_status")


def _progress(name: str, answer: dict[str, Any] | None) -> str:
    if answer is None:
        return f"{name}: no answer; one that met damage starts again to mend it"
    return f"{name}: {bytes_text(answer['bytes'])} read, {count_text(answer['problems'], 'problem')}"


def _result(name: str, answer: dict[str, Any] | None) -> str:
    last = (answer or {}).get("last")
    if last is None:
        if answer is None or answer["running"]:
            return f"{name}: no answer" if answer is None else _progress(name, answer)
        return (
            f"{name}: started again meanwhile. If it met damage (see its log), the others give back what was "
            "lost: see `sullae repair status`, and scrub it once more"
        )
    found = "".join(f"\n  {text}" for text in last["found"][:SHOWN_MAX])
    what = f"{count_text(last['records'], 'record')}, {bytes_text(last['bytes'])}"
    what += f", {count_text(last.get('documents', 0), 'document')} compared with their index"
    problems = count_text(last["problems"], "problem")
    return f"{name}: {what} in {duration_text(last['seconds'])}, {problems}{found}"
