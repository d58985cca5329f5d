"""`sullae sinks`: what the cluster delivers to files by itself; see server/sinks/ for how."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="Deliver a table's changes to files, by the cluster.", rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Url = Annotated[
    list[str] | None,
    typer.Option("--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."),
]
Name = Annotated[str, typer.Argument(help="The sink's name.", show_default=False)]
CONFIG = Path("cluster.yml")


def _asked(place: tuple[Sequence[str] | None, Path], method: str, name: str, body: Any = None) -> Any:
    """The JSON that a peer answers; raises Failure."""
    from cli.places import urls_to_try
    from cli.rest import Cluster, expect, segment

    urls, config = place
    data = None if body is None else json_module.dumps(body).encode()
    target = f"/v1/sinks/{segment(name)}" if name else "/v1/sinks"
    headers = {"Content-Type": "application/json"}
    answer = expect(Cluster(urls_to_try(urls or [], config)).request(method, target, data, headers))
    return answer.json() if answer.body else {}


@app.command("add")
def add(
    name: Name,
    table: Annotated[str, typer.Argument(help="As keyspace.table: docs.movies.", show_default=False)],
    *,
    kind: Annotated[str, typer.Option("--kind", help="parquet, ndjson or webhook.")] = "parquet",
    to: Annotated[str | None, typer.Option("--to", metavar="URL", help="Where a webhook posts to.")] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="10m|TIME|start|snapshot", help="From when on; default: now.")
    ] = "now",
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="How much time a file is about.")
    ] = 5.0,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have a table's changes be delivered to files, at least once, whichever peers live.

    They are in sinks/NAME of the data directory of the peer that owns the sink (`sullae sinks list`), by
    date. When that peer dies, another goes on in its own.

    \b
    Examples:
      sullae sinks add films docs.movies
      sullae sinks add raw docs.movies --kind ndjson --since start --every 60
      sullae sinks add hook docs.movies --to https://example.com/changes --every 1
    """
    body: dict[str, Any] = {"table": table, "kind": kind, "from": since, "every_s": every}
    if to is not None:
        body |= {"kind": "webhook", "url": to}
    found = _asked((url, config), "PUT", name, body)
    if json:
        print_json(found)
    else:
        place = found["url"] if found["kind"] == "webhook" else f"{found['kind']} files"
        say(f"{name}: {found['table']} to {place}, from {found['from']} on")
        if "secret" in found:
            say(f"  its requests are signed with this secret, which is told only now: {found['secret']}")


@app.command("list")
def list_(*, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Show all sinks: whose they are and how far.

    \b
    Examples:
      sullae sinks list
      sullae sinks list --json | jq '.sinks[].delivered'
    """
    found = _asked((url, config), "GET", "")
    if json:
        print_json(found)
        return
    rows = [
        (
            sink["name"], sink["table"], sink["kind"],
            "paused" if sink["paused"] else sink["owner"] or "nobody yet",
            f"{sink['delivered']:,}", sink["delivered_at"] or "-", sink["error"],
        )
        for sink in found["sinks"]
    ]  # fmt: skip
    print_table(("name", "table", "kind", "owner", "events", "up to", "error"), rows, ("events",))


@app.command("pause")
def pause(
    name: Name,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was.")] = False,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have a sink rest, or go on: it loses nothing that the table's log still has.

    \b
    Examples:
      sullae sinks pause films
      sullae sinks pause films --resume
    """
    found = _asked((url, config), "PUT", name, {"paused": not resume})
    if json:
        print_json(found)
    else:
        say(f"{name} {'goes on' if resume else 'is paused'}")


@app.command("remove")
def remove(name: Name, *, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """End a sink. The files that it wrote stay.

    \b
    Examples:
      sullae sinks remove films
    """
    _asked((url, config), "DELETE", name)
    if json:
        print_json({"removed": name})
    else:
        say(f"{name} is no more; its files stay")
