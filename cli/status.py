"""`sullae status` and `sullae ring`: what the peers say of themselves and of each other.

One reachable peer says who there is and who it believes alive. Then each peer is asked about itself, all at
the same time and with little patience, because only it knows its process, its version and what it holds.

"Holds" is the share of all tokens that a peer replicates: with three replicas on three peers all of them.
"""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cli.output import ANSWERED_NO_EXIT, Failure, bytes_text, duration_text, print_json, print_table, say
from cli.places import urls_to_try
from cli.rest import Answer, Cluster, Peer, UnreachableError, beside, expect
from core.limits import KIB, MIB

ASK_TIMEOUT_S: Final = 2.0
UNKNOWN: Final = "-"
ANOTHER: Final = "another peer"
"""At this address answers one that is not the member: a wiped directory, mostly."""
NOT_READY: Final = "not ready"
WHOM_TIMEOUT_S: Final = 5.0
"""A peer that is connected to and silent so long (it stands still, mostly) is passed over for the next."""
CLOCK_OFF_S: Final = ASK_TIMEOUT_S
"""So far apart clocks are said to be; less may be the time that an answer took."""
DISK_LOW_BYTES: Final = 256 * MIB
"""Less than this is said."""
DISK_FULL_BYTES: Final = 64 * KIB
"""With less than this a write-ahead log hardly grows."""


def status(urls: Sequence[str], config: Path, *, as_json: bool) -> int:
    """Show the peers; the exit status says whether all are up."""
    answer, told = ask(urls_to_try(urls, config), "status")
    peers = told.get("peers", [])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        own = list(pool.map(lambda peer: about_itself(beside(answer.url, str(peer["address"]))), peers))
    rows = [row_of(peer, itself) for peer, itself in zip(peers, own, strict=True)]
    _compare_clocks(rows)
    good = bool(rows) and all(row["state"] == "up" for row in rows)
    head = {key: told.get(key) for key in ("cluster", "cluster_id", "epoch", "ready", "why_not")}
    if as_json:
        print_json({**head, "asked": answer.url, "peers": rows})
        return 0 if good else ANSWERED_NO_EXIT
    print(f"cluster {told.get('cluster')}, epoch {told.get('epoch')}, as {told.get('name')} sees it")
    if not told.get("ready", True):
        print(f"not ready: {told.get('why_not')}")
    columns = ("peer", "address", "pid", "state", "load", "tokens", "holds", "version", "rack")
    print_table(columns, [texts_of(row) for row in rows], ("pid", "load", "tokens", "holds"))
    for row in rows:
        if advice := advice_on(row):
            say(advice)
    return 0 if good else ANSWERED_NO_EXIT


def _compare_clocks(rows: list[dict[str, Any]]) -> None:
    """Against ours becomes against the peers' usual one: that of who asks may be the one that is wrong."""
    told = [row for row in rows if row["clock_off_s"] is not None]
    if told:
        usual_s = statistics.median_low([row["clock_off_s"] for row in told])
        for row in told:
            row["clock_off_s"] = round(row["clock_off_s"] - usual_s, 1)


def ask(urls: Sequence[str], verb: str) -> tuple[Answer, dict[str, Any]]:
    """What the first reachable peer answers to an admin verb."""
    answer = expect(Cluster(urls, WHOM_TIMEOUT_S).request("GET", f"/v1/admin/{verb}"))
    told = answer.json()
    if not isinstance(told, dict):
        raise Failure(f"{answer.url} answered to {verb} with something unknown", code="bad_answer")
    return answer, told


def about_itself(url: str) -> dict[str, Any]:
    """What a peer says of itself, empty if it does not answer; `clock_off_s` is against our clock."""
    peer = Peer(url, ASK_TIMEOUT_S)
    began_s = time.time()
    try:
        answer = expect(peer.request("GET", "/v1/admin/status"))
        told = answer.json()
        if isinstance(told, dict) and "clock_us" in told:
            told["clock_off_s"] = told["clock_us"] / 1e6 - (began_s + time.time()) / 2
    except (UnreachableError, Failure):
        return {}
    finally:
        peer.close()
    return told if isinstance(told, dict) else {}


def row_of(peer: dict[str, Any], itself: dict[str, Any]) -> dict[str, Any]:
    """One peer as programs get it. A peer that is believed alive but does not serve says why."""
    state = str(peer.get("state", UNKNOWN))
    is_it = itself.get("peer") == peer.get("peer")
    mine = itself if is_it else {}
    if itself and not is_it:
        state = ANOTHER
    elif not mine.get("ready", True):
        state = NOT_READY
    elif state == "up" and not itself:
        state = "up, silent"
    return {
        "name": peer.get("name"),
        "address": peer.get("address"),
        "peer": peer.get("peer"),
        "pid": mine.get("pid"),
        "state": state,
        "why_not": itself.get("why_not") or "",
        "load_bytes": mine.get("load_bytes"),
        "disk_free_bytes": mine.get("disk_free_bytes"),
        "clock_off_s": mine.get("clock_off_s"),
        "vnodes": peer.get("vnodes"),
        "owns": peer.get("owns"),
        "version": mine.get("version"),
        "datacentre": peer.get("datacentre"),
        "rack": peer.get("rack"),
        "voter": peer.get("voter"),
    }


def advice_on(row: dict[str, Any]) -> str:
    """What to do about a peer; "" if there is nothing."""
    name, free, off_s = row["name"], row["disk_free_bytes"], row["clock_off_s"]
    if row["state"] == NOT_READY:
        return f"{name} is not ready: {row['why_not']}"
    if row["state"] == "down":
        return (
            f"{name} is down: the end of its log says why; start it again (sullae node {name}), or if its "
            f"disk is lost, give its place to another (sullae cluster plan replace {name})"
        )
    if row["state"] == ANOTHER:
        return f"{name}: another peer answers at its address: {row['why_not']}"
    if off_s is not None and abs(off_s) > CLOCK_OFF_S:
        off = f"{duration_text(abs(off_s))} {'ahead of' if off_s > 0 else 'behind'} the other peers'"
        return (
            f"{name}'s clock is {off}: set it right (timedatectl set-ntp true). No write is lost by it, but "
            "through this peer rows expire at the wrong time"
        )
    if free is not None and free < DISK_LOW_BYTES:
        when = "it refuses writes" if free < DISK_FULL_BYTES else "when that is full it refuses writes"
        return (
            f"{name} has {bytes_text(free)} left on its disk: {when}, and takes them again as soon as there "
            "is room; what it missed comes from the others"
        )
    return ""


def texts_of(row: dict[str, Any]) -> list[str]:
    """The same as people get it."""
    load, owns = row["load_bytes"], row["owns"]
    return [
        str(row["name"]),
        str(row["address"]),
        text_of(row["pid"]),
        str(row["state"]),
        UNKNOWN if load is None else bytes_text(load),
        text_of(row["vnodes"]),
        UNKNOWN if owns is None else f"{owns:.1%}",
        text_of(row["version"]),
        f"{row['datacentre']}/{row['rack']}",
    ]


def text_of(value: object) -> str:
    """A value, or a dash where nothing is known."""
    return UNKNOWN if value is None else str(value)


def ring(urls: Sequence[str], config: Path, *, as_json: bool) -> int:
    """Show every vnode in ring order."""
    _, told = ask(urls_to_try(urls, config), "ring")
    if as_json:
        print_json(told)
        return 0
    vnodes = told.get("vnodes", [])
    rows, before = [], (int(vnodes[-1]["token"]) - 2**64 if vnodes else 0)
    for vnode in vnodes:
        token = int(vnode["token"])
        rows.append([str(token), str(vnode["peer"]), f"{(token - before) / 2**64:.2%}"])
        before = token
    print_table(("last token", "peer", "of the ring"), rows, ("last token", "of the ring"))
    return 0
