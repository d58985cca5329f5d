"""`sullae jepsen`: a cluster of its own under faults, and whether its clients saw what is promised."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ANSWERED_NO_EXIT, Failure, print_json

if TYPE_CHECKING:
    from jepsen_like.campaign import Asked
    from jepsen_like.real.door import Statements

app = typer.Typer(rich_markup_mode=None)


@app.command()
def jepsen(
    *,
    workload: Annotated[
        str,
        typer.Option("--workload", metavar="NAME|FILE.py", help="What clients do; composite: all at once."),
    ] = "composite",
    nemesis: Annotated[
        str, typer.Option("--nemesis", metavar="all|none|KIND,...", help="What goes wrong.")
    ] = "all",
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.05, max=100_000, help="How long, with faults.")
    ] = 1.5,
    seed: Annotated[int, typer.Option("--seed", help="Decides what is drawn.")] = 1,
    peers: Annotated[int, typer.Option("--peers", min=1, max=20, help="Processes of the cluster.")] = 5,
    rate: Annotated[int, typer.Option("--rate", min=1, help="Client operations per second.")] = 130,
    period: Annotated[
        float, typer.Option("--period", min=0.5, help="Seconds from one fault to the next.")
    ] = 10.0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where report, history, logs and data go.")
    ] = None,
    door: Annotated[str, typer.Option("--door", metavar="rest|cql", help="How clients speak.")] = "rest",
    simulated: Annotated[
        bool, typer.Option("--simulated", help="In virtual time instead of processes.")
    ] = False,
    namespaces: Annotated[
        bool,
        typer.Option("--namespaces/--no-namespaces", help="A network namespace for each peer, if permitted."),
    ] = True,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="A disk of its own for each peer, if permitted.")
    ] = True,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Add the run to this ledger (docs/ledger.ndjson)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Attack a cluster and judge what its clients saw.

    Real processes are started for it: as root in network namespaces with a switch between them and a disk
    image each, otherwise on loopback with proxies. They are cut off, slowed, killed, paused, their disks
    filled, their clocks set wrong and their power cut. A line is printed each second, then the verdict;
    report.html, history.edn and history.json (in Jepsen's form) are in the folder. Exit status 4: not valid.

    \b
    Examples:
      sullae jepsen --workload register --nemesis all --minutes 10
      sullae jepsen --nemesis kill,pause,one_way --peers 3 --out attacked
      sullae jepsen --workload txn --simulated --seed 7
    """
    _check(workload, door, simulated)
    from jepsen_like.campaign import Asked

    asked = Asked(
        workload=workload,
        nemesis=nemesis,
        seconds=max(1, round(minutes * 60)),
        seed=seed,
        peers=peers,
        rate=rate,
        period_s=period,
        folder=(out or Path(tempfile.mkdtemp(prefix="sullae-jepsen-"))).resolve(),
        simulated=simulated,
        namespaces=namespaces,
        images=images,
        statements=_statements() if door == "cql" else None,
    )
    raise typer.Exit(_attack(asked, json, record))


def _check(workload: str, door: str, simulated: bool) -> None:
    from jepsen_like.campaign import REAL_WORKLOADS
    from jepsen_like.run import WORKLOADS

    known = list(WORKLOADS) if simulated else [*REAL_WORKLOADS, "composite"]
    if not workload.endswith(".py") and workload not in known:
        text = f"no workload is named {workload} here; there are {', '.join(known)}"
        raise Failure(text, code="no_such_workload")
    if door not in ("rest", "cql"):
        raise Failure(f"--door is rest or cql, not {door}", code="bad_option")


def _statements() -> Callable[[int], Statements]:
    from cli.jepsen_cql import NativeStatements

    return NativeStatements


def _attack(asked: Asked, as_json: bool, ledger: Path | None) -> int:
    from jepsen_like.campaign import run_one
    from jepsen_like.own import OwnError

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that namespaces and disks are taken away
    try:
        verdict, page = run_one(asked, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyError as error:
        raise Failure(f"no fault is named {error.args[0]}", code="no_such_fault") from None
    except OwnError as error:
        raise Failure(str(error), code="bad_workload") from None
    if ledger is not None and not asked.simulated:
        from jepsen_like.soak import record

        record(verdict, ledger, say=lambda _: None)
    if as_json:
        import msgspec

        told = {"green": verdict.green, **msgspec.to_builtins(verdict), "report": str(page)}
        print_json({**told, "replay": asked.command()})
    else:
        print(verdict.line())
        for problem in verdict.problems[:5]:
            print(f"    {problem.name}: {problem.text}")
        print(f"report: {page}\nagain:  {asked.command()}")
    return 0 if verdict.green else ANSWERED_NO_EXIT
