"""The `sullae` command: its whole surface in one place. What a command does is in the module it names.

Modules are imported when their command runs, so that `sullae version` does not wait for what only `sullae up`
needs. Every command has `--json`, and examples in its `--help`.

Exit status: 0 done; 1 could not be done; 2 wrong usage; 4 the answer is no (no such key, a check failed); 130
interrupted by Ctrl-C.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import cluster, jepsen, recovering, repair, restarting, sinks, snapshot, streams
from cli.ending import run as run_to_the_end

app = typer.Typer(
    name="sullae",
    help="Sullae: a distributed NoSQL store of equal peers on a consistent-hash ring.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
kv = typer.Typer(no_args_is_help=True, help="Put, get, delete and list keys.", rich_markup_mode=None)
app.add_typer(kv, name="kv")
app.add_typer(sinks.app, name="sinks")
app.add_typer(cluster.app, name="cluster")
app.add_typer(repair.app, name="repair")
app.add_typer(repair.top)
app.add_typer(jepsen.app)
app.add_typer(streams.app, name="streams")
app.add_typer(snapshot.app, name="snapshot")
cluster.app.registered_commands += restarting.app.registered_commands + recovering.app.registered_commands

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The cluster's configuration.")]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Where the peers' data directories lie.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Listen off loopback without certificates.")]
Url = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        envvar="SULLAE_URL",
        metavar="URL",
        help="A peer's REST address; may be repeated. Default: the peers of the configuration.",
    ),
]
Consistency = Annotated[
    str | None,
    typer.Option(
        "--consistency", metavar="LEVEL", help="one, two, three, quorum (default), all, any, local_quorum..."
    ),
]
Bucket = Annotated[str, typer.Argument(help="The bucket's name.", show_default=False)]
Key = Annotated[str, typer.Argument(help="The key as it is, slashes included.", show_default=False)]

Tls = Annotated[
    bool | None, typer.Option("--ssl/--no-ssl", help="Speak TLS; default: as the configuration has it.")
]
TlsCa = Annotated[Path | None, typer.Option("--ssl-ca", metavar="FILE", help="Whom to trust.")]
TlsCert = Annotated[Path | None, typer.Option("--ssl-cert", metavar="FILE", help="Our certificate.")]
TlsKey = Annotated[Path | None, typer.Option("--ssl-key", metavar="FILE", help="Its key.")]
ProtocolVersion = Annotated[
    int, typer.Option("--protocol-version", min=3, max=5, metavar="3|4|5", help="The highest to try.")
]
TlsVerify = Annotated[
    bool, typer.Option("--ssl-verify/--ssl-no-verify", help="Check the peer's certificate.")
]

ContinueOnError = Annotated[
    bool, typer.Option("--continue-on-error", help="Go on after a statement that failed.")
]
AnswerTimeout = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait for an answer.")
]
Password = Annotated[
    str | None,
    typer.Option("--password", "-p", envvar="SULLAE_PASSWORD", help="Default: asked for."),
]
PageSize = Annotated[
    int | None,
    typer.Option("--page-size", min=0, max=2**31 - 1, metavar="ROWS", help="0: all rows at once."),
]

CONFIG = Path("cluster.yml")
DATA = Path("data")


# ------------------------------------------------------------------------------------------------- serving


@app.command()
def up(
    *,
    config: Config = CONFIG,
    data: Data = DATA,
    sample: Annotated[bool, typer.Option("--sample/--no-sample", help="Load it on the first start.")] = True,
    restart: Annotated[bool, typer.Option("--restart", help="Restart a peer that died.")] = False,
    insecure: Insecure = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all that the peers log.")] = False,
    json: Json = False,
) -> None:
    """Start all peers on this machine.

    Every peer of the configuration runs as a process of its own until Ctrl-C; a second Ctrl-C kills. The
    sample is loaded once. What a peer logs goes to DATA/NAME.log.

    \b
    Examples:
      sullae up                            three peers, data in ./data, the sample loaded once
      sullae up --no-sample --verbose      nothing loaded, every line of log shown
      sullae up --config my.yml --data d   other peers, other data
    """
    from cli.up import Options, up as run

    options = Options(config, data, sample, restart, insecure, verbose=verbose, as_json=json)
    raise typer.Exit(run(options))


@app.command()
def node(
    name: Annotated[str, typer.Argument(help="A peer of the configuration.", show_default=False)],
    *,
    config: Config = CONFIG,
    data: Data = DATA,
    insecure: Insecure = False,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="text|json", help="Default: text on a terminal.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --log-format json.")] = False,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Run one peer in the foreground.

    Ctrl-C or SIGTERM stops it. Its data is in DATA/NAME unless the configuration says where.

    \b
    Examples:
      sullae node n2                                     start again what died under `sullae up`
      sullae node n1 --config /etc/sullae/cluster.yml --data /var/lib/sullae --log-format json
    """
    from cli.node import become_node

    chosen = "json" if json else log_format
    raise typer.Exit(become_node(name, config, data, insecure=insecure, log_format=chosen, parent=parent))


# ------------------------------------------------------------------------------------------------- looking


@app.command()
def status(*, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Show the peers and how they are.

    Any reachable peer is asked who there is, then each peer about itself. "Tokens" are a peer's vnodes,
    "holds" the share of all data that it replicates. Exit status 4 if a peer is not up.

    \b
    Examples:
      sullae status
      sullae status --url http://10.0.0.7:8080 --json
    """
    from cli.status import status as run

    raise typer.Exit(run(url or [], config, as_json=json))


@app.command()
def ring(*, url: Url = None, config: Config = CONFIG, json: Json = False) -> None:
    """Show who owns which tokens.

    One line for each vnode: the last token of its range, the peer, its share of the ring.

    \b
    Examples:
      sullae ring
      sullae ring --json | jq '.vnodes | length'
    """
    from cli.status import ring as run

    raise typer.Exit(run(url or [], config, as_json=json))


# ---------------------------------------------------------------------------------------------------- keys


@kv.command("put")
def kv_put(
    bucket: Bucket,
    key: Key,
    value: Annotated[
        str | None, typer.Argument(help="The value; - is standard input.", show_default=False)
    ] = None,
    *,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Take the value from a file.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", "-t", metavar="TYPE", help="Default: guessed.")
    ] = None,
    ttl: Annotated[
        int | None, typer.Option("--ttl", metavar="SECONDS", help="Forget it after so long.")
    ] = None,
    consistency: Consistency = None,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Have a key hold a value.

    \b
    Examples:
      sullae kv put demo a/b 'hello, ring'
      sullae kv put demo logo --file logo.png --consistency all
      date | sullae kv put demo now - --ttl 60
    """
    from cli.kv import Target, put, read_value

    data, guessed = read_value(value, file)
    target = Target(url or [], config, bucket, key, consistency)
    raise typer.Exit(put(target, data, content_type or guessed, ttl_s=ttl, as_json=json))


@kv.command("get")
def kv_get(
    bucket: Bucket,
    key: Key,
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the value to a file.")] = None,
    consistency: Consistency = None,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Write what a key holds to standard output, byte for byte. Exit status 4 if it holds nothing.

    \b
    Examples:
      sullae kv get demo a/b
      sullae kv get movies the-land-girls-1998 | jq .Title
      sullae kv get demo logo --out logo.png --consistency one
    """
    from cli.kv import Target, get

    raise typer.Exit(get(Target(url or [], config, bucket, key, consistency), out, as_json=json))


@kv.command("del")
def kv_del(
    bucket: Bucket, key: Key, *, consistency: Consistency = None, url: Url = None, config: Config = CONFIG,
    json: Json = False,
) -> None:  # fmt: skip
    """Have a key hold nothing.

    \b
    Examples:
      sullae kv del demo a/b
    """
    from cli.kv import Target, delete

    raise typer.Exit(delete(Target(url or [], config, bucket, key, consistency), as_json=json))


@kv.command("list")
def kv_list(
    bucket: Bucket,
    *,
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so.")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="KEYS", help="At most so many.")
    ] = None,
    after: Annotated[
        str, typer.Option("--after", metavar="CURSOR", help="Go on where a listing ended.")
    ] = "",
    consistency: Consistency = None,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """List keys: in token order, or in key order in a bucket created as ordered.

    \b
    Examples:
      sullae kv list cities --prefix KR/ --limit 10
      sullae kv list movies --json | wc -l
    """
    from cli.kv import Target, listing

    target = Target(url or [], config, bucket, None, consistency)
    raise typer.Exit(listing(target, prefix=prefix, after=after, limit=limit, as_json=json))


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="NDJSON, CSV or TSV, also gzipped.", show_default=False)],
    *,
    bucket: Annotated[str | None, typer.Option("--bucket", "-b", help="Default: the file's name.")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Load documents, into this collection.")
    ] = None,
    key: Annotated[
        str, typer.Option("--key", "-k", metavar="FIELD", help="The field that is the key.")
    ] = "id",
    kind: Annotated[
        str | None, typer.Option("--format", help="ndjson, csv or tsv; default: by name.")
    ] = None,
    consistency: Consistency = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin again from the first line.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check the file, send nothing.")
    ] = False,
    state: Annotated[Path | None, typer.Option("--state", help="Default: FILE.loading.")] = None,
    rejects: Annotated[Path | None, typer.Option("--rejects", help="Default: FILE.rejects.")] = None,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Load a file of records into a bucket, or into a collection as documents.

    A record's key is one of its fields, its value (or document) the JSON. A load that was interrupted
    goes on when the same command is given again. Lines that are no record, or that the cluster refuses, go
    to FILE.rejects with the reason; then the exit status is 4. CSV values are kept as text.

    \b
    Examples:
      sullae load sample/movies.ndjson.gz
      sullae load people.csv --bucket people --key email --consistency all
      sullae load sample/movies.ndjson.gz --collection films
      sullae load big.ndjson --dry-run
    """
    from cli.bulk import Place
    from cli.loading import Wanted, load_file

    if bucket is not None and collection is not None:
        raise typer.BadParameter("a load goes into a bucket or a collection, not both")
    name = bucket if collection is None else collection
    wanted = Wanted(
        file,
        None if name is None else Place(name, collection is not None),
        key,
        kind,
        consistency,
        restart=restart,
        dry_run=dry_run,
        state=state,
        rejects=rejects,
    )
    raise typer.Exit(load_file(wanted, url or [], config, as_json=json))


@app.command()
def tail(
    table: Annotated[str, typer.Argument(help="As keyspace.table: docs.movies.", show_default=False)],
    *,
    since: Annotated[
        str, typer.Option("--since", metavar="10m|TIME|start|snapshot", help="From when on; default: now.")
    ] = "now",
    where: Annotated[
        str, typer.Option("--where", "-w", metavar="CONDITION", help="Only rows like this.")
    ] = "",
    op: Annotated[str, typer.Option("--op", help="insert, update, delete, truncate; with commas.")] = "",
    key: Annotated[str | None, typer.Option("--key", help="Only of this key or id.")] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only of keys that begin so.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, metavar="EVENTS", help="0: no end.")] = 0,
    url: Url = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Show what happens to a table, as it happens, until Ctrl-C.

    The table's `changes` says what is kept of each change; conditions look at the row after it (of a
    deletion: before it), so they need `new` or `new_and_old`. When a peer dies, another goes on.

    \b
    Examples:
      sullae tail docs.movies --since 10m --where 'year > 2000'
      sullae tail kv.sessions --prefix user/ --op delete
      sullae tail docs.movies -w "genres in ('drama') and not (cast.name ~ '^Kim')" --json | jq .key
      sullae tail docs.movies -w '{"tags": {"$all": ["a", "b"]}}'
    """
    from cli.places import urls_to_try
    from cli.tail import Watched, tail as run, where_filter

    watched = Watched(table, since, where_filter(where), key, prefix, op, limit)
    raise typer.Exit(run(urls_to_try(url or [], config), watched, as_json=json))


@app.command()
def export(
    table: Annotated[str, typer.Argument(help="As keyspace.table: docs.movies.", show_default=False)],
    *,
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the files go.")],
    kind: Annotated[str, typer.Option("--format", help="parquet, ndjson or csv.")] = "parquet",
    parts: Annotated[int, typer.Option("--parts", metavar="FILES", help="As how many files.")] = 16,
    consistency: Consistency = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin again, without what is there.")] = False,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST[:PORT],...", help="Peers' CQL addresses.")
    ] = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Write a table into a folder of files, ranges of it in parallel.

    Every write acknowledged at QUORUM before it began is in it. A file appears when it is whole; an export
    that was interrupted goes on when the same command is given again.

    \b
    Examples:
      sullae export docs.movies -o movies
      sullae export shop.orders --format ndjson -o orders --parts 64
    """
    from cli.export import Wanted, export as run
    from cli.places import cql_endpoints
    from cli.shell.app import level_of

    level = level_of(consistency or "quorum")
    wanted = Wanted(table, kind, folder, parts, level, restart)
    raise typer.Exit(run(wanted, cql_endpoints(host, config), as_json=json))


# --------------------------------------------------------------------------------------------------- CQL


@app.command()
def shell(
    host: Annotated[
        str | None,
        typer.Argument(help="A peer, or several with commas. Default: those of the configuration."),
    ] = None,
    port: Annotated[int | None, typer.Argument(help="Default: the configuration's, or 9042.")] = None,
    *,
    keyspace: Annotated[str, typer.Option("--keyspace", "-k", help="USE it first.")] = "",
    execute: Annotated[
        str | None, typer.Option("--execute", "-e", metavar="CQL", help="Run these statements.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Run a file's statements; - is standard input.")
    ] = None,
    result_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="table, json, ndjson or csv.")
    ] = "table",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    consistency: Annotated[
        str, typer.Option("--consistency", metavar="LEVEL", help="one, quorum, all, local_quorum...")
    ] = "quorum",
    page_size: PageSize = None,
    expand: Annotated[bool, typer.Option("--expand", help="One value a line.")] = False,
    continue_on_error: ContinueOnError = False,
    timeout: AnswerTimeout = 60.0,
    username: Annotated[str, typer.Option("--username", "-u", metavar="NAME", help="Log in.")] = "",
    password: Password = None,
    protocol_version: ProtocolVersion = 5,
    tls: Tls = None,
    ca: TlsCa = None,
    cert: TlsCert = None,
    key: TlsKey = None,
    verify: TlsVerify = True,
    color: Annotated[bool | None, typer.Option("--color/--no-color", help="Default: on a terminal.")] = None,
    config: Config = CONFIG,
) -> None:
    """CQL at a terminal, or from -e, -f or standard input.

    It speaks the native protocol, so it also works with a Cassandra. HELP within it shows what there is.
    Exit status 1 if a statement failed.

    \b
    Examples:
      sullae shell                                     a prompt at a peer of cluster.yml
      sullae shell -k shop -e "SELECT * FROM users"
      sullae shell -f schema.cql 10.0.0.7 9042
      echo "SELECT * FROM shop.users;" | sullae shell --format ndjson
    """
    from cli.shell.app import TlsAsked, access_of, checked_format, level_of, reached, run
    from cli.shell.options import Options

    endpoints, context = reached(host, port, config, TlsAsked(tls, ca, cert, key, verify))
    options = Options(
        endpoints,
        access_of(username, password, context, protocol_version),
        keyspace=keyspace,
        execute=execute,
        file=file,
        format="json" if json else checked_format(result_format),
        consistency=level_of(consistency),
        page_size=page_size,
        expand="on" if expand else None,
        timeout_s=timeout,
        continue_on_error=continue_on_error,
        colour=color,
    )
    raise typer.Exit(run(options))


# --------------------------------------------------------------------------------------------- the project


@app.command()
def simulate(
    *,
    workload: Annotated[
        str, typer.Option("--workload", "-w", metavar="NAME[+churn]|FILE.py|all", help="Which, or your own.")
    ] = "all",
    seed: Annotated[int | None, typer.Option("--seed", help="The first seed; default: by the clock.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", "-n", min=1, help="How many.")] = 1,
    seconds: Annotated[int, typer.Option("--seconds", min=1, help="Virtual seconds with faults.")] = 60,
    trace: Annotated[bool, typer.Option("--trace", help="Show a hash over all that happened.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; default: one a core.")] = None,
    json: Json = False,
) -> None:
    """Simulate whole clusters under faults.

    Everything in a run comes from its seed: peers, network, disks, clocks, faults, clients. The same seed
    does the same again, byte for byte. Exit status 4 if a run found something wrong.

    \b
    Examples:
      sullae simulate                             every workload once
      sullae simulate --workload set --seeds 20
      sullae simulate --workload txn+churn        peers come, go, are replaced, ranges move meanwhile
      sullae simulate --workload my_workload.py --seed 12345 --trace
    """
    import time

    from cli.simulate import simulate as run

    first = int(time.time()) if seed is None else seed
    chosen = range(first, first + seeds)
    raise typer.Exit(run(workload, chosen, seconds, trace=trace, workers=workers, as_json=json))


@app.command()
def cert(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")] = Path("certificates"),
    *,
    client: Annotated[
        list[str] | None, typer.Option("--client", metavar="NAME", help="Of a client; may be repeated.")
    ] = None,
    config: Config = CONFIG,
    json: Json = False,
) -> None:
    """Make the certificates of the cluster.

    That is an authority of its own and a certificate for each peer of the configuration. What is there is
    never overwritten: run it again after adding a peer, or to make one for a client of REST and CQL.

    \b
    Examples:
      sullae cert
      sullae cert --client shop
      sullae cert /etc/sullae/tls --config /etc/sullae/cluster.yml
    """
    from cli.cert import cert as run

    raise typer.Exit(run(folder, config, client or [], as_json=json))


@app.command()
def doctor(*, config: Config = CONFIG, data: Data = DATA, json: Json = False) -> None:
    """Check this machine.

    Looks at clock, descriptors, memory, disk, addresses and ports. Exit status 4 if something would keep
    a peer from working.

    \b
    Examples:
      sullae doctor
      sullae doctor --data /var/lib/sullae --json
    """
    from cli.doctor import doctor as run

    raise typer.Exit(run(config, data, as_json=json))


@app.command()
def version(*, json: Json = False) -> None:
    """Show the version.

    \b
    Examples:
      sullae version
    """
    from cli.version import version as run

    raise typer.Exit(run(as_json=json))


def main() -> None:
    """The entry point: run the command, end with its exit status."""
    run_to_the_end(app)


if __name__ == "__main__":
    main()
