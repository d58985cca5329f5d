"""`sullae sinks`: what the cluster delivers by itself; see server/sinks/ for how."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Deliver a table's changes to files, webhooks, Kafka, MQTT, by the cluster.",
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Url = Annotated[
    list[str] | None,
    typer.Option("--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."),
]
Name = Annotated[str, typer.Argument(help="The sink's name.", show_default=False)]
CONFIG = Path("cluster.yml")
KINDS = {"kafka": "kafka", "kafkas": "kafka", "mqtt": "mqtt", "mqtts": "mqtt"}
"""Kinds of sinks by the scheme of their URL."""


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
    kind: Annotated[
        str | None, typer.Option("--kind", help="parquet (the default) or ndjson; else --to says it.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="URL", help="https://..., kafka://broker:9092/topic, mqtt://broker/topic."
        ),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Whom to be at a broker.")] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            "--secret",
            metavar="env:SULLAE_SINK_NAME|file:NAME",
            help="What signs a webhook's requests, or a broker's password: by reference, never itself.",
        ),
    ] = None,
    mechanism: Annotated[
        str | None, typer.Option("--mechanism", help="Of Kafka: PLAIN (the default), SCRAM-SHA-256 or -512.")
    ] = None,
    envelope: Annotated[
        str | None, typer.Option("--envelope", help="plain (the default), debezium or cloudevents.")
    ] = None,
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
    """Have a table's changes be delivered, at least once, whichever peers live.

    Files are in sinks/NAME of the data directory of the peer that owns the sink (`sullae sinks list`), by
    date, and when that peer dies another goes on in its own; with `sink_folder` in cluster.yml all of them
    are in one folder that peers share.

    \b
    Examples:
      sullae sinks add films docs.movies
      sullae sinks add raw docs.movies --kind ndjson --since start --every 60
      sullae sinks add hook docs.movies --to https://example.com/changes --secret env:SULLAE_SINK_HOOK
      sullae sinks add bus docs.movies --to kafka://broker1:9092,broker2:9092/movies --every 0.5
      sullae sinks add live docs.movies --to mqtt://broker:1883/shop/movies --every 0.5
    """
    body: dict[str, Any] = {"table": table, "kind": kind or "parquet", "from": since, "every_s": every}
    if to is not None:
        body |= {"kind": kind or KINDS.get(to.partition(":")[0], "webhook"), "url": to}
    more = {"user": user, "secret": secret, "mechanism": mechanism, "envelope": envelope}
    body |= {name: value for name, value in more.items() if value is not None}
    found = _asked((url, config), "PUT", name, body)
    if json:
        print_json(found)
    else:
        place = found.get("url") or f"{found['kind']} files"
        say(f"{name}: {found['table']} to {place}, from {found['from']} on")


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
            f"{sink['delivered']:,}", _lag(sink["lag_s"]), sink["error"],
        )
        for sink in found["sinks"]
    ]  # fmt: skip
    print_table(("name", "table", "kind", "owner", "events", "behind", "error"), rows, ("events", "behind"))


def _lag(lag_s: float | None) -> str:
    """How far behind a sink is, for people."""
    if lag_s is None:
        return "-"
    return f"{lag_s:.0f} s" if lag_s < 120 else f"{lag_s / 60:.0f} min"


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
