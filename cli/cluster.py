"""`sullae cluster`: peers come and go, and ranges move.

sullae cluster plan add n4       what would move, and about how long it takes
sullae cluster commit            do it
sullae cluster status            how far it is
sullae cluster abort             give it up, as long as nothing is handed over
sullae cluster recover-metadata  when most voters are lost for good (cli/recovering.py)
"""

from __future__ import annotations

import json as json_module
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ANSWERED_NO_EXIT, Failure, bytes_text, duration_text, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(no_args_is_help=True, help="Peers come and go, and ranges move.", rich_markup_mode=None)
plan = typer.Typer(
    no_args_is_help=True, help="What a change would move; nothing is done yet.", rich_markup_mode=None
)
app.add_typer(plan, name="plan")

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Url = Annotated[
    list[str] | None,
    typer.Option("--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."),
]
CONFIG = Path("cluster.yml")
POLL_S = 1.0
ENDS = {"finish": "is finished", "aborted": "was given up"}
"""How a move ended, by its last phase."""

Place = tuple["Sequence[str] | None", Path]


def ask_verb(place: Place, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON that the first peer that answers says; raises Failure."""
    from cli.places import urls_to_try
    from cli.rest import Cluster, expect

    urls, config = place
    cluster = Cluster(urls_to_try(urls or [], config))
    if arguments is None:
        answer = expect(cluster.request("GET", f"/v1/admin/{verb}"))
    else:
        body = json_module.dumps(arguments).encode()
        headers = {"Content-Type": "application/json"}
        answer = expect(cluster.request("POST", f"/v1/admin/{verb}", body, headers))
    told = answer.json()
    if not isinstance(told, dict):
        raise Failure(f"{answer.url} answered to {verb} with something unknown", code="bad_answer")
    return told


def _held_bytes(place: Place) -> int | None:
    """What all peers hold, as far as they answer."""
    from cli.places import urls_to_try
    from cli.rest import beside
    from cli.status import about_itself, ask

    urls, config = place
    answer, told = ask(urls_to_try(urls or [], config), "status")
    peers = told.get("peers", [])
    sizes = [about_itself(beside(answer.url, str(p["address"]))).get("load_bytes") for p in peers]
    known = [int(size) for size in sizes if size is not None]
    return sum(known) * len(sizes) // len(known) if known else None


def _plan(place: Place, arguments: dict[str, Any], *, as_json: bool) -> None:
    told = ask_verb(place, "move_plan", arguments)
    held = _held_bytes(place)
    size = None if held is None else int(held * told["fraction"])
    seconds = None if size is None else size / max(1, told["bytes_per_s"])
    if as_json:
        print_json({**told, "bytes": size, "seconds": seconds})
        return
    text = f"{told['kind']}: {told['ranges']} ranges move, {100 * told['fraction']:.1f} % of what is held"
    say(text + ("" if size is None or seconds is None else f", about {bytes_text(size)}"))
    if seconds is not None:
        say(f"about {duration_text(max(1.0, seconds))} at {bytes_text(told['bytes_per_s'])}/s to each peer")
    for name, what in (("admitted", "admit"), ("removed", "remove"), ("voters then", "voters")):
        if told[what]:
            say(f"{name}: {', '.join(told[what])}")
    say(f"plan {told['plan']}: nothing is done yet; `sullae cluster commit` begins it")


@plan.command("add")
def plan_add(
    names: Annotated[list[str] | None, typer.Argument(help="Peers that wait; default: all.")] = None,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Admit peers that were started with this cluster's cluster.yml and an empty directory.

    \b
    Examples:
      sullae node n4 &
      sullae cluster plan add n4
      sullae cluster commit
    """
    _plan((url, config), {"kind": "add", "names": names or []}, as_json=json)


@plan.command("remove")
def plan_remove(
    names: Annotated[list[str], typer.Argument(help="Members.", show_default=False)],
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have members hand over all they hold, and leave.

    \b
    Examples:
      sullae cluster plan remove n4
    """
    _plan((url, config), {"kind": "remove", "names": names}, as_json=json)


@plan.command("replace")
def plan_replace(
    name: Annotated[str, typer.Argument(help="The member that will not come back.", show_default=False)],
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who waits to take its place; default: the same name.")
    ] = "",
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have a new peer, at the same address or another, take the place of one whose disk is lost.

    \b
    Examples:
      sullae cluster plan replace n2
      sullae cluster plan replace n2 --by n7
    """
    _plan((url, config), {"kind": "replace", "names": [name], "by": by or name}, as_json=json)


@plan.command("move")
def plan_move(
    name: Annotated[str, typer.Argument(help="A member.", show_default=False)],
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Give a member tokens as if it joined now, which evens out a ring.

    \b
    Examples:
      sullae cluster plan move n1
    """
    _plan((url, config), {"kind": "move", "names": [name]}, as_json=json)


@plan.command("replicate")
def plan_replicate(
    keyspace: Annotated[str, typer.Argument(help="A keyspace.", show_default=False)],
    factors: Annotated[list[str], typer.Argument(metavar="DC=N...", help="Replicas for each datacentre.")],
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Give a keyspace another number of replicas, with its rows.

    \b
    Examples:
      sullae cluster plan replicate kv dc1=1
    """
    wanted: dict[str, int] = {}
    for pair in factors:
        name, sign, number = pair.partition("=")
        if not sign or not re.fullmatch(r"[0-9]{1,9}", number):
            raise Failure(f"{pair!r} is not DATACENTRE=NUMBER", code="bad_argument")
        wanted[name] = int(number)
    arguments = {"kind": "replicate", "keyspace": keyspace, "replication": wanted}
    _plan((url, config), arguments, as_json=json)


@app.command("commit")
def commit(
    plan_id: Annotated[
        str | None, typer.Argument(metavar="PLAN", help="Default: what was planned last.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until it is finished.")] = False,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Begin what was planned at the same peer.

    \b
    Examples:
      sullae cluster commit
      sullae cluster commit --wait
    """
    place = (url, config)
    told = ask_verb(place, "move_commit", {} if plan_id is None else {"plan": plan_id})
    if wait:
        _watch(place)
        _tell(place, as_json=json)
    elif json:
        print_json(told)
    else:
        say(f"it has begun, epoch {told['epoch']}: see `sullae cluster status`")


@app.command("abort")
def abort(url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Give up what moves, as long as nothing is handed over; a newcomer then needs an empty directory.

    \b
    Examples:
      sullae cluster abort
    """
    told = ask_verb((url, config), "move_abort", {})
    if json:
        print_json(told)
    else:
        say(f"given up, epoch {told['epoch']}: all is as before; newcomers need an empty directory now")


@app.command("status")
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until nothing moves.")] = False,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """What moves and how far it is, and who waits to be admitted. Exit status 4 if the last was given up.

    \b
    Examples:
      sullae cluster status
      sullae cluster status --watch
    """
    place = (url, config)
    if watch:
        _watch(place)
    _tell(place, as_json=json)


def _tell(place: Place, *, as_json: bool) -> None:
    told = ask_verb(place, "moves")
    if as_json:
        print_json(told)
    else:
        _show(told)
    last = told.get("last")
    if told.get("move") is None and last is not None and last["phase"] == "aborted":
        raise typer.Exit(ANSWERED_NO_EXIT)


def _watch(place: Place) -> None:
    began, before = time.monotonic(), -1
    while True:
        told = ask_verb(place, "moves")
        move = told.get("move")
        if move is None:
            return
        done, all_ranges = progress(move)
        if done != before:
            left = left_s(done, all_ranges, time.monotonic() - began)
            ranges = f"{done} of {all_ranges} ranges" if all_ranges else "nothing merged yet"
            say(f"{move['phase']}: {ranges}, {bytes_text(bytes_of(move))}" + (f", {left}" if left else ""))
            before = done
        time.sleep(POLL_S)


def progress(move: dict[str, Any]) -> tuple[int, int]:
    """Ranges merged by all peers, and how many there are."""
    done = sum(p["ranges"] if p["merged"] else p["ranges_done"] for p in move["peers"])
    return done, sum(p["ranges"] for p in move["peers"])


def bytes_of(move: dict[str, Any]) -> int:
    """What all peers were sent since they last began."""
    return sum(int(p["bytes"]) for p in move["peers"])


def left_s(done: int, all_ranges: int, spent_s: float) -> str:
    """About how much longer, by how long it took so far; "" as long as that says nothing."""
    if not 0 < done < all_ranges or spent_s < 1:
        return ""
    return f"about {duration_text(spent_s * (all_ranges - done) / done)} left"


def _show(told: dict[str, Any]) -> None:
    move, last = told.get("move"), told.get("last")
    if move is None:
        ended = "" if last is None else f"; the last move ({last['kind']}) {ENDS[last['phase']]}"
        say(f"nothing moves{ended}")
    else:
        done, all_ranges = progress(move)
        say(f"{move['kind']}: {move['phase']}, {done} of {all_ranges} ranges, {bytes_text(bytes_of(move))}")
        rows = [
            (
                p["name"],
                str(p["epoch"]),
                f"{p['ranges_done']}/{p['ranges']}" if p["ranges"] else "-",
                bytes_text(int(p["bytes"])),
                "yes" if p["merged"] else "no",
                p["why"] or "-",
            )
            for p in move["peers"]
        ]
        print_table(("peer", "epoch", "ranges", "sent", "merged", "waits for"), rows, ("epoch", "sent"))
        for peer in move["peers"]:
            for wait in peer.get("waits", []):
                say(f"{peer['name']} waits {duration_text(wait['seconds'])}: {wait['text']}")
    for one in told.get("waiting", []):
        advice = f"sullae cluster plan {one.get('verb', 'add')} {one['name']}"
        say(f"{one['name']} at {one['address']} waits to be admitted: {advice}")
