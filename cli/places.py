"""Where things are: the configuration, the data directories, the peers' URLs, who holds a port.

Everything the commands have in common about this machine is here, so that `up`, `node`, `status` and `doctor`
mean the same by the same words.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.output import Failure
from cli.rest import DEFAULT_URL, checked_url, url_of

if TYPE_CHECKING:
    from server.config import ClusterConfig, PeerConfig

CONFIG: Final = Path("cluster.yml")
DATA: Final = Path("data")
LISTENING: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def read_config(path: Path) -> ClusterConfig:
    """The cluster's configuration, or a `Failure` that names the line."""
    from server.config import ConfigError, load_config

    if not path.exists():
        hint = "run it in the folder that holds cluster.yml, or say where it is: --config FILE"
        raise Failure(f"there is no {path} here", hint=hint, code="no_config")
    try:
        return load_config(path)
    except ConfigError as error:
        raise Failure(str(error), code="bad_config") from None


def peer_of(config: ClusterConfig, name: str) -> PeerConfig:
    """The peer called `name`, or a `Failure` that says which there are."""
    try:
        return config.peer(name)
    except KeyError as error:
        raise Failure(str(error.args[0]), code="no_such_peer") from None


def data_of(peer: PeerConfig, data: Path) -> Path:
    """The data directory of a peer."""
    return peer.data if peer.data is not None else data / peer.name


def urls_to_try(given: Sequence[str], config: Path) -> list[str]:
    """Where peers may be found: what was given, else every peer of the configuration, else this machine."""
    if given:
        if config.exists() and any(url.startswith("https:") for url in given):
            urls_of(read_config(config))  # whose certificates lie there
        return [checked_url(url) for url in given]
    if config.exists():
        return urls_of(read_config(config))
    if config != CONFIG:
        read_config(config)  # a file that was asked for by name and is not there is an error
    return [DEFAULT_URL]


def urls_of(config: ClusterConfig) -> list[str]:
    """The REST URL of each founding peer."""
    from cli import https

    tls = https.go_by(config.tls)
    return [url_of(peer.address, config.ports.rest, tls=tls) for peer in config.peers]


def cql_endpoints(given: str | None, config: Path, port: int | None = None) -> list[tuple[str, int]]:
    """Where peers speak CQL: what was given, else every peer of the configuration, else this machine.

    Notes the certificates of the configuration if it is a peer of it that was given, or nobody.
    """
    from cli import https
    from cli.shell.app import endpoints_of

    if not config.exists() and config == CONFIG:
        return endpoints_of(given, port)
    cluster = read_config(config)
    addresses = [peer.address for peer in cluster.peers]
    found = endpoints_of(given or ",".join(f"[{one}]" for one in addresses), port or cluster.ports.cql)
    if any(host in addresses for host, _ in found):
        https.go_by(cluster.tls)
    elif port is None:
        return endpoints_of(given, None)
    return found


# ------------------------------------------------------------------------------------------------- ports


def why_not_bindable(address: str, port: int) -> str:
    """Why a server cannot listen at an address and port, in words that help; "" if it can. Port 0: any."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                holder = holder_of(address, port)
                return f"the port is in use{f' by {holder}' if holder else ''}"
            if error.errno == errno.EADDRNOTAVAIL:
                return f"this machine has no such address{_alias_hint(address)}"
            if error.errno == errno.EACCES:
                return "ports below 1024 need more rights"
            return error.strerror or str(error)
    return ""


def _alias_hint(address: str) -> str:
    if sys.platform == "darwin" and address.startswith("127."):
        return f"; give it one: sudo ifconfig lo0 alias {address} up"
    return ""


def holder_of(address: str, port: int) -> str:
    """The process that listens there, as 'name (pid 12)'; "" where that cannot be known (Linux only)."""
    inodes = _listening_inodes(address, port)
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in sorted(path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            if any(_link_of(file) in wanted for file in (process / "fd").iterdir()):
                return f"{_words(process)} (pid {process.name})"
        except OSError:
            continue  # it ended, or belongs to somebody else
    return ""


def _link_of(file: Path) -> str:
    """What a descriptor stands for, "" if it is closed by now."""
    try:
        return str(file.readlink())
    except FileNotFoundError:
        return ""


def _words(process: Path) -> str:
    """What runs there, short: `sullae node n1`, `nginx`."""
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    for name in ("sullae", "cli.main", "cli.node"):
        place = next((i for i, word in enumerate(words) if word == name or word.endswith("/" + name)), None)
        if place is not None:
            return " ".join(["sullae", *words[place + 1 : place + 3]]).strip()
    return (process / "comm").read_text().strip()


def _listening_inodes(address: str, port: int) -> list[str]:
    """The sockets listening at a port on this address or on all, from /proc/net; none on other systems."""
    wanted = {_proc_address(address), _proc_address("::" if ":" in address else "0.0.0.0")}
    found = []
    table = Path("/proc/net/tcp6" if ":" in address else "/proc/net/tcp")
    if not table.exists():
        return []
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        host, _, hexadecimal = fields[1].partition(":")
        if fields[3] == LISTENING and int(hexadecimal, 16) == port and host in wanted:
            found.append(fields[9])
    return found


def _proc_address(address: str) -> str:
    """An IP address as /proc/net writes it: 32-bit words in the machine's byte order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", packed))
