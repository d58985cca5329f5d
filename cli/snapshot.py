"""`sullae snapshot`: backups of a cluster in a folder or a bucket; see cli/snapshots/ for how."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ANSWERED_NO_EXIT, Failure, bytes_text, count_text, print_json, print_table, say

if TYPE_CHECKING:
    from cli.snapshots.folder import Folder, Snapshot
    from cli.snapshots.reading import Opened

app = typer.Typer(
    no_args_is_help=True, help="Back up a whole cluster, and restore it.", rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Url = Annotated[
    list[str] | None,
    typer.Option("--url", envvar="SULLAE_URL", metavar="URL", help="A peer's REST address; may be repeated."),
]
In = Annotated[
    str,
    typer.Option(
        "--folder", "-f", metavar="DIR|s3://BUCKET/PREFIX", help="Where backups are.", show_default=False
    ),
]
Endpoint = Annotated[
    str,
    typer.Option(
        "--endpoint-url",
        envvar="AWS_ENDPOINT_URL",
        metavar="URL",
        help="The address of S3-compatible storage; default: Amazon's.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(help="The snapshot's name.", show_default=False)]
CONFIG = Path("cluster.yml")
_TOLD_BYTES = 64 * 1024 * 1024


def _folder(where: str, endpoint: str) -> Folder:
    from cli.snapshots.folder import Folder
    from cli.snapshots.places import place_of

    return Folder(place_of(where, endpoint))


def _told(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "at": _time(snapshot.at_us),
        "cluster": snapshot.cluster,
        "peers": list(snapshot.peers),
        "missing": list(snapshot.missing),
        "bytes": snapshot.bytes,
    }


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@app.command("create")
def create(
    folder: In,
    name: Annotated[
        str | None, typer.Argument(help="Its name; default: the time.", show_default=False)
    ] = None,
    *,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="PEER", help="Leave out a peer that is down.")
    ] = None,
    endpoint_url: Endpoint = "",
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Take a snapshot of all peers, and copy into a folder what it does not have yet.

    It holds every write that was acknowledged before it began. Peers go on serving meanwhile. Table files
    never change, so the next snapshot in the same folder brings only what is new.

    \b
    Examples:
      sullae snapshot create --folder /backups/films
      sullae snapshot create --folder /backups/films before-upgrade
      sullae snapshot create --folder /backups/films --without n3
      sullae snapshot create --folder s3://backups/films --endpoint-url https://s3.example.org
    """
    from cli.places import urls_to_try
    from cli.snapshots.creating import create as take

    chosen = name or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    copied = take(
        _folder(folder, endpoint_url), chosen, urls_to_try(url or [], config), without or [], _progress(json)
    )
    if json:
        left = [{"peer": peer, "name": name} for peer, name in copied.left]
        more = {"new_bytes": copied.new_bytes, "new_files": copied.new_files, "left": left}
        print_json({**_told(copied.snapshot), **more})
        return
    size, new = bytes_text(copied.snapshot.bytes), bytes_text(copied.new_bytes)
    peers = count_text(len(copied.snapshot.peers), "peer")
    say(f"snapshot {chosen} of {peers} is in {folder}: {size}, of which {new} are new there")
    for peer in copied.snapshot.missing:
        say(f"  without {peer}: what only {peer} holds (a table with one replica) is not in it")
    for peer, other in copied.left:
        say(f"  {peer} holds a snapshot {other}, which takes space: sullae snapshot forget {other}")


@app.command("forget")
def forget(name: Name, *, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Have all peers forget their part of a snapshot that was never fetched, as when `create` was killed.

    Until then a peer keeps the files that the snapshot needs, also those that it has compacted away.
    What is in backup folders stays.

    \b
    Examples:
      sullae snapshot forget before-upgrade
    """
    from cli.places import urls_to_try
    from cli.snapshots.creating import forget as forget_at_peers

    peers = forget_at_peers(name, urls_to_try(url or [], config))
    if json:
        print_json({"name": name, "peers": peers})
        return
    if not peers:
        raise Failure(f"no peer holds a snapshot called {name!r}", code="no_snapshot")
    say(f"forgotten by {', '.join(peers)}")


@app.command("list")
def list_(folder: In, *, endpoint_url: Endpoint = "", json: Json = False) -> None:
    """Show the snapshots in a folder, the oldest first.

    \b
    Examples:
      sullae snapshot list --folder /backups/films
    """
    there = _folder(folder, endpoint_url)
    found = [there.snapshot(name) for name in there.names()]
    if json:
        print_json([_told(one) for one in found])
        return
    if not found:
        say(f"no snapshots in {folder}")
        return
    rows = [
        [one.name, _time(one.at_us), one.cluster, " ".join(one.peers), bytes_text(one.bytes)] for one in found
    ]
    print_table(["name", "taken", "cluster", "peers", "size"], rows, ["size"])


@app.command("verify")
def verify(name: Name, folder: In, *, endpoint_url: Endpoint = "", json: Json = False) -> None:
    """Read every file of a snapshot and compare it with its hash.

    Exit status 4 if something is missing or damaged.

    \b
    Examples:
      sullae snapshot verify before-upgrade --folder /backups/films
    """
    there = _folder(folder, endpoint_url)
    wrong = there.damaged(there.manifests(name))
    if json:
        print_json({"name": name, "ok": not wrong, "problems": wrong})
    else:
        for text in wrong:
            say(text)
        say(f"snapshot {name} is {'damaged' if wrong else 'whole'}")
    if wrong:
        raise typer.Exit(ANSWERED_NO_EXIT)


@app.command("delete")
def delete(name: Name, folder: In, *, endpoint_url: Endpoint = "", json: Json = False) -> None:
    """Delete a snapshot, and the files that no other snapshot needs.

    \b
    Examples:
      sullae snapshot delete before-upgrade --folder /backups/films
    """
    freed = _folder(folder, endpoint_url).delete(name)
    if json:
        print_json({"name": name, "freed_bytes": freed})
    else:
        say(f"snapshot {name} is deleted, {bytes_text(freed)} are free")


@app.command("restore")
def restore(
    folder: In,
    name: Annotated[
        str | None, typer.Argument(help="The snapshot; default: the last, or that before --until.")
    ] = None,
    *,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="What was written later is left out (needs a later snapshot)."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="A keyspace, or a table as keyspace.table."),
    ] = None,
    into_existing: Annotated[
        bool, typer.Option("--into-existing", help="Merge into tables that are there; also: go on.")
    ] = False,
    endpoint_url: Endpoint = "",
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Restore a snapshot into a running cluster, of whatever size.

    Schema, rows, indexes and roles come back; rows have the versions they had. If it is interrupted, give the
    same command with --into-existing. With --until the cluster is as it was at that moment: an earlier
    snapshot, and what the change logs of a later one say of the time between.

    \b
    Examples:
      sullae snapshot restore --folder /backups/films
      sullae snapshot restore before-upgrade --folder /backups/films --only docs.movies
      sullae snapshot restore --folder /backups/films --until 2026-11-22T03:14:00Z
    """
    from cli.places import urls_to_try

    moment_us = _moment(until) if until is not None else 0
    urls = urls_to_try(url or [], config)
    found = _restore(
        _folder(folder, endpoint_url), name, moment_us, (only or [], urls, into_existing), quiet=json
    )
    if json:
        print_json(found)
        return
    rows, tables = count_text(found["rows"], "row"), count_text(found["tables"], "table")
    say(f"restored {rows} of {tables} from {found['name']}")
    for keyspace in found["fewer_replicas"]:
        say(f"  {keyspace} has fewer replicas than it had, as there are fewer peers (see ALTER KEYSPACE)")
    if found["later"]:
        replayed = count_text(found["replayed_rows"], "row")
        say(f"  and {replayed} written after it, up to {until}, from the logs in {found['later']}")


def _restore(
    there: Folder, name: str | None, until_us: int, into: tuple[list[str], list[str], bool], *, quiet: bool
) -> dict[str, Any]:
    """Restore into (these names only, the cluster at these URLs, whether its tables may be there)."""
    from cli.snapshots.restoring import Between, Target, check_free, check_logs, plan_of, replay, restore

    only, urls, into_existing = into
    base, later = _chosen(there, name, until_us)
    target = Target(urls)
    with ExitStack() as stack:
        scratch = Path(tempfile.mkdtemp(prefix=".restoring-", dir=there.place.scratch()))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        opened = _opened(stack, there, base, scratch)
        after = _opened(stack, there, later, scratch) if later else None
        if after is not None:
            check_logs(opened, after)
        plan = plan_of(opened.state, only, target.sizes())
        if not into_existing:
            check_free(plan, target)
        rows = restore(plan, opened, target, _rows_told(quiet))
        replayed = 0
        if after is not None:
            replayed = replay(plan, Between(opened, after, until_us), target, _rows_told(quiet))
        target.change(plan.afterwards)
    return {
        "name": base,
        "later": later,
        "tables": len(plan.tables),
        "rows": rows,
        "replayed_rows": replayed,
        "fewer_replicas": list(plan.fewer),
    }


def _opened(stack: ExitStack, there: Folder, name: str, scratch: Path) -> Opened:
    from cli.snapshots.reading import Opened

    opened = Opened(there, there.manifests(name), scratch / name)
    stack.callback(opened.close)
    return opened


def _chosen(there: Folder, name: str | None, until_us: int) -> tuple[str, str]:
    """The snapshot to restore, and the later one whose logs are needed, or nothing."""
    names = there.names()
    if not names:
        raise Failure(f"no snapshots in {there.place}", code="no_snapshot")
    if not until_us:
        return there.snapshot(name or names[-1]).name, ""
    taken = {one: there.snapshot(one) for one in names}
    earlier = [one for one in names if taken[one].done_us <= until_us]
    if name is not None and there.snapshot(name).name not in earlier:
        raise Failure(f"{name} was taken after that time", code="bad_time")
    later = [one for one in names if taken[one].at_us >= until_us]
    if not earlier or not later:
        side = "before" if not earlier else "after"
        raise Failure(
            f"no snapshot in {there.place} was taken {side} that time",
            hint="a moment is restored from a snapshot before it and the logs in one after it",
            code="bad_time",
        )
    return name or earlier[-1], later[0]


def _moment(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time with its zone."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Failure(
            f"not a time with its zone: {text}", hint="such as 2026-11-22T03:14:00Z", code="bad_time"
        )
    return int(when.timestamp() * 1_000_000)


def _progress(quiet: bool) -> Any:
    last = [0]

    def tell(done: int, total: int) -> None:
        if not quiet and done - last[0] >= max(_TOLD_BYTES, total // 20):
            last[0] = done
            say(f"  {bytes_text(done)} of {bytes_text(total)}")

    return tell


def _rows_told(quiet: bool) -> Any:
    last = [0]

    def tell(rows: int) -> None:
        if not quiet and rows - last[0] >= 10_000:
            last[0] = rows
            say(f"  {rows:,} rows")

    return tell
