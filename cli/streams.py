"""`sullae streams`: consumer groups of change streams, their members and parts, and how far they lag."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="Show consumer groups of change streams, and set them.", rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Url = Annotated[
    list[str] | None,
    typer.Option("--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."),
]
Table = Annotated[str, typer.Argument(help="As keyspace.table: docs.movies.", show_default=False)]
Group = Annotated[str, typer.Argument(help="The group's name.", show_default=False)]
CONFIG = Path("cluster.yml")


def _asked(
    place: tuple[Sequence[str] | None, Path], method: str, names: Sequence[str], body: Any = None
) -> Any:
    """The JSON that a peer answers; raises Failure."""
    from cli.places import urls_to_try
    from cli.rest import Cluster, expect, segment

    urls, config = place
    data = None if body is None else json_module.dumps(body).encode()
    target = "/".join(("/v1/streams", *(segment(name) for name in names)))
    headers = {"Content-Type": "application/json"}
    answer = expect(Cluster(urls_to_try(urls or [], config)).request(method, target, data, headers))
    return answer.json() if answer.body else {}


@app.command("list")
def list_(*, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Show all groups with their members and how far they are behind.

    \b
    Examples:
      sullae streams list
      sullae streams list --json | jq '.groups[] | {group, lag}'
    """
    place = url, config
    groups = _asked(place, "GET", ())["groups"]
    found = [_asked(place, "GET", (group["table"], group["group"])) for group in groups]
    if json:
        print_json({"groups": found})
        return
    rows = [
        (
            group["table"], group["group"], str(len(group["members"])), str(len(group["parts"])),
            *_lag(group["lag"]),
        )
        for group in found
    ]  # fmt: skip
    numbers = ("members", "parts", "events", "bytes", "seconds")
    print_table(("table", "group", "members", "parts", "events", "bytes", "seconds"), rows, numbers)


@app.command("show")
def show(table: Table, group: Group, *, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Show a group: who reads which parts, and how far each is behind what was written.

    \b
    Examples:
      sullae streams show docs.movies etl
    """
    found = _asked((url, config), "GET", (table, group))
    if json:
        print_json(found)
        return
    peers = {member["member"]: member["peer"] for member in found["members"]}
    rows = [
        (
            str(part["part"]), part["member"] or "nobody", peers.get(part["member"], ""),
            *_lag(part["lag"]), part["acknowledged_at"] or "-",
        )
        for part in found["parts"]
    ]  # fmt: skip
    numbers = ("part", "events", "bytes", "seconds")
    print_table(("part", "member", "peer", "events", "bytes", "seconds", "acknowledged"), rows, numbers)
    idle = [member["member"] for member in found["members"] if not member["parts"]]
    if idle:
        say(f"without a part: {', '.join(idle)}")


def _lag(lag: dict[str, Any] | None) -> tuple[str, str, str]:
    """Events, bytes and seconds behind, as people read them."""
    if lag is None:
        return "?", "?", "?"
    more = "+" if lag["at_least"] else ""
    return f"{lag['events']:,}{more}", f"{lag['bytes']:,}{more}", f"{lag['seconds']:.1f}"


@app.command("set")
def set_(
    table: Table,
    group: Group,
    *,
    since: Annotated[
        str, typer.Option("--since", metavar="10m|TIME|start|now", help="From when on.")
    ] = "now",
    parts: Annotated[int, typer.Option("--parts", help="Into how many parts members share the table.")] = 16,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Make a group before its first member comes, or set one without members to another place.

    \b
    Examples:
      sullae streams set docs.movies etl --since start
    """
    found = _asked((url, config), "PUT", (table, group), {"from": since, "parts": parts})
    if json:
        print_json(found)
    else:
        say(f"{group} reads {found['table']} from {since} on, in {len(found['parts'])} parts")


@app.command("forget")
def forget(
    table: Table, group: Group, *, url: Url = None, config: Config = CONFIG, json: Json = False
) -> None:
    """Forget a group and how far it was; its members' streams end.

    \b
    Examples:
      sullae streams forget docs.movies etl
    """
    _asked((url, config), "DELETE", (table, group))
    if json:
        print_json({"forgotten": group})
    else:
        say(f"{group} is forgotten")
