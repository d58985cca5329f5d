"""`sullae cluster recover-metadata`: other voters, when most of them are lost for good.

It shows what would be given up and what that costs, and does it only with the cluster's name as confirmation.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.cluster import CONFIG, Config, Json, Url, ask_verb
from cli.output import Failure, print_json, say

app = typer.Typer()


@app.command("recover-metadata")
def recover_metadata(
    lost: Annotated[
        list[str] | None,
        typer.Option("--lost", metavar="NAME", help="Who is lost for good; default: all that are down."),
    ] = None,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="CLUSTER", help="The cluster's name: do it, not only show it.")
    ] = "",
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have others vote on the metadata when most voters are lost for good.

    All who remain have to be up, and agree. Whoever is given up is refused should it come back, and what only
    it held is lost. Without --confirm nothing is done but looking.

    \b
    Examples:
      sullae cluster recover-metadata
      sullae cluster recover-metadata --lost n1 --lost n2 --confirm films
    """
    place = (url, config)
    arguments: dict[str, Any] = {"lost": lost or []}
    view = ask_verb(place, "recover_plan", arguments)
    if view["problem"]:
        raise Failure(f"the metadata cannot be recovered: {view['problem']}", code="not_recoverable")
    if not confirm:
        if json:
            print_json(view)
        else:
            _show(view)
        return
    told = ask_verb(place, "recover_commit", {"lost": view["lost"], "cluster": confirm})
    if json:
        print_json(told)
        return
    say(f"generation {told['generation']}, epoch {told['epoch']}; voters are {', '.join(told['voters'])}")
    for name in told["lost"]:
        say(
            f"{name} is given up: start it with an empty directory, then `sullae cluster plan replace {name}`"
        )


def _show(view: dict[str, Any]) -> None:
    say(f"given up for good: {', '.join(view['lost'])}")
    remaining = ", ".join(f"{one['name']} (epoch {one['epoch']})" for one in view["remaining"])
    say(f"who remains, and has to agree: {remaining}")
    say(f"voters then: {', '.join(view['voters'])}")
    for keyspace, part in view["data"].items():
        if part["no_quorum"]:
            text = f"keyspace {keyspace}: {part['no_quorum']:.1%} answers at ONE alone till they are replaced"
            text += ", without what only those given up had"
            say(text + (f"; {part['none']:.1%} IS LOST" if part["none"] else ""))
    lost = " ".join(f"--lost {name}" for name in view["lost"])
    say(f"nothing is done yet: sullae cluster recover-metadata {lost} --confirm {view['cluster']}")
