"""`cluster.yml`: read, checked, and turned into frozen values.

A configuration file is written by people, at night, under stress; so each error names the file, the line,
what is wrong there and what would be right. That needs the line of every value, so the file is *composed*
into a tree of marked nodes (YAML 1.2) and walked by hand, and never constructed: no tag in it makes an
object, no `yes` a boolean, no `1e3` a float. What a place means is decided here by the text found there.

Invariants:
- Whatever the bytes of the file are, the outcome is a `ClusterConfig` or a `ConfigError` with a line.
- A key that is not known is an error with the nearest known one, never silently ignored.
- Units are written in the file (`3h`, `128MiB`) and in the names of the fields (`_us`, `_bytes`).
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import MappingEndEvent, MappingStartEvent, SequenceEndEvent, SequenceStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from core.limits import KIB, MIB, NAME_CHARS_MAX, SECOND_US, VALUE_BYTES_MAX
from core.settings import Settings
from server.certificate_files import CLIENTS, TlsConfig

FILE_BYTES_MAX: Final = 1 << 20
"""A larger configuration file is refused unread."""

NESTING_MAX: Final = 8
"""Levels of lists and mappings; the deepest legal file has three."""

VOTER_COUNTS: Final = (5, 3, 1)
"""How many peers may decide metadata: odd, since an even one more tolerates no more faults."""

GIB: Final = 1024 * MIB
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

CommitlogSync = Literal["group", "periodic"]


class ConfigError(ValueError):
    """`cluster.yml` cannot be used. The text is one line: file, line, what is wrong, what is allowed."""

    def __init__(self, source: str, line: int, problem: str) -> None:
        super().__init__(f"{source}:{line}: {problem}")
        self.source = source
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True)
class PortsConfig:
    """TCP ports, the same on every peer's address."""

    rest: int = 8080
    cql: int = 9042
    peer: int = 7000


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One founding peer: its name, the IP address it listens on, where it stands, where it keeps its data."""

    name: str
    address: str
    datacentre: str = "dc1"
    rack: str = "r1"
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What the process around a node keeps to: disk, memory, logs, and what is decided once, at birth."""

    commitlog_sync: CommitlogSync = "group"
    commitlog_sync_period_us: int = 10 * SECOND_US
    num_tokens: int = 16
    replication_factor: int = 3
    block_cache_bytes: int = 64 * MIB
    memtable_bytes: int = 16 * MIB
    log_level: str = "info"
    sink_private_addresses: bool = False
    sink_folder: Path | None = None
    sink_secrets: Path | None = None


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """A declared sink: its name, and what a PUT of it would say (server/rest/sinks.py)."""

    name: str
    wanted: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One parsed `cluster.yml`. `peers` has at least one member, `voters` 1, 3 or 5 of their names.

    The file's `settings` are two things here: `settings` are the node's own, `process` those around it.
    """

    name: str
    peers: tuple[PeerConfig, ...]
    voters: tuple[str, ...]
    ports: PortsConfig = field(default_factory=PortsConfig)
    settings: Settings = field(default_factory=Settings)
    process: ProcessSettings = field(default_factory=ProcessSettings)
    tls: TlsConfig | None = None
    sinks: tuple[SinkConfig, ...] = ()

    def peer(self, name: str) -> PeerConfig:
        """The peer called `name`; `KeyError` with the names there are if none is."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        known = ", ".join(peer.name for peer in self.peers)
        raise KeyError(f"no peer is named {name!r}; there are {known}")

    @property
    def replication_factor(self) -> int:
        """Replicas of each row of `kv` and `docs`: as set, or as many as there are founding peers."""
        return min(self.process.replication_factor, len(self.peers))

    @property
    def on_loopback_only(self) -> bool:
        """Whether nothing outside this machine can reach any peer."""
        return all(ipaddress.ip_address(peer.address).is_loopback for peer in self.peers)


def load_config(path: Path) -> ClusterConfig:
    """Read and check the file at `path`. Relative folders in it are taken from the file's own folder.

    Raises `ConfigError`, also where the file is missing, too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(str(path), 1, f"cannot be read: {error.strerror or error}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(str(path), 1, f"larger than {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), line, "not UTF-8 text") from error
    return parse_config(text, source=str(path), folder=path.parent)


def parse_config(text: str, source: str = "cluster.yml", folder: Path | None = None) -> ClusterConfig:
    """Check `text` and turn it into values; `source` is named in errors, relative folders start at `folder`.

    Raises `ConfigError` for the first thing that is wrong.
    """
    try:
        return _cluster(_compose(text), folder if folder is not None else Path())
    except _WrongError as error:
        raise ConfigError(source, error.line, error.problem) from None


class _WrongError(Exception):
    """A `ConfigError` that does not know its file's name yet."""

    def __init__(self, place: Node | int, problem: str) -> None:
        super().__init__(problem)
        self.line = place if isinstance(place, int) else place.start_mark.line + 1
        self.problem = problem


# ------------------------------------------------------------------------------------------ text to nodes


def _compose(text: str) -> Node:
    """The document's root node. Nesting is bounded first, because composing recurses."""
    _refuse_tabs(text)
    try:
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                depth += 1
                if depth > NESTING_MAX:
                    raise _WrongError(event.start_mark.line + 1, f"nested deeper than {NESTING_MAX} levels")
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                depth -= 1
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _WrongError(line, f"not YAML: {error.problem or error.context}{_advice(text, line)}") from None
    except (YAMLError, ValueError) as error:
        # The reader (characters that may not occur) and number conversions in directives have no marks.
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        raise _WrongError(line, f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(root, Node):
        raise _WrongError(1, "the file is empty; it must name at least `cluster` and `peers`")
    return root


def _advice(text: str, line: int) -> str:
    """What is likely wrong on this line, or before it, in words of one who wrote the file."""
    lines = [each.partition(" #")[0].rstrip() for each in text.split("\n")]
    for number in range(1, min(line, len(lines)) + 1):
        content = lines[number - 1].lstrip()
        if _NO_KEY.fullmatch(content):
            return f"; is line {number} without a colon and a space after its key?"
        if content.count('"') % 2 or (content.count("'") % 2 and '"' not in content):
            return f"; is a quotation mark open on line {number}?"
    return "; is the line indented as those beside it, with every bracket closed?"


def _refuse_tabs(text: str) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        content = line.lstrip()
        if "\t" in line[: len(line) - len(content)] and content and not content.startswith("#"):
            raise _WrongError(number, "a tab indents this line; YAML allows only spaces")


def _mapping(node: Node, what: str, keys: Sequence[str]) -> dict[str, Node]:
    """The values of a mapping by key; every key must be one of `keys` and occur once."""
    if not isinstance(node, MappingNode):
        known = ", ".join(keys)
        raise _WrongError(node, f"{what} must be a mapping with the keys {known}; found {_found(node)}")
    values: dict[str, Node] = {}
    for key_node, value in node.value:
        if not isinstance(key_node, ScalarNode):
            raise _WrongError(key_node, f"a key of {what} must be text; found {_found(key_node)}")
        key = str(key_node.value)
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            known = ", ".join(keys)
            raise _WrongError(key_node, f"unknown key {_quoted(key)} in {what}{hint}; known are {known}")
        if key in values:
            raise _WrongError(key_node, f"{what} has the key {key} twice")
        if isinstance(value, ScalarNode) and value.value == "":
            value.start_mark = key_node.start_mark  # a missing value is marked where the next thing begins
        values[key] = value
    return values


def _sequence(node: Node, what: str) -> list[Node]:
    if not isinstance(node, SequenceNode):
        raise _WrongError(node, f"{what} must be a list; found {_found(node)}")
    return list(node.value)


def _text(node: Node, what: str) -> str:
    if not isinstance(node, ScalarNode):
        raise _WrongError(node, f"{what} must be a single value; found {_found(node)}")
    value = str(node.value)
    if value == "" or (value in {"~", "null"} and not node.style):
        raise _WrongError(node, f"{what} has no value")
    return value


def _found(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    return _quoted(str(node.value)) if node.value else "nothing"


def _quoted(text: str) -> str:
    """`text` in quotes, on one line and not endless."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


# ---------------------------------------------------------------------------------------- text to values

Parser = Callable[[Node, str], Any]
"""What a setting's text means: takes the node and the setting's name, raises `_WrongError`."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{NAME_CHARS_MAX - 1}}}")
_NO_KEY = re.compile(r"[A-Za-z_]+(?: +[^:]*|:[^ \t].*)")
"""A line that was meant to be a key and its value, but lacks the colon, or the space after it."""
_AMOUNT = re.compile(r"([0-9]{1,15}) ?([A-Za-z]{1,3})")
_DURATIONS_US: Final = {"ms": 1_000, "s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US}
_SIZES_BYTES: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}


def _name(node: Node, what: str) -> str:
    value = _text(node, what)
    if not _NAME.fullmatch(value):
        rule = f"1 to {NAME_CHARS_MAX} letters, digits, - or _, the first a letter or digit"
        raise _WrongError(node, f"{what} must be {rule}; found {_quoted(value)}")
    return value


def _integer(low: int, high: int) -> Parser:
    def parse(node: Node, what: str) -> int:
        value = _text(node, what)
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            rule = f"a whole number from {low} to {high}"
            raise _WrongError(node, f"{what} must be {rule}; found {_quoted(value)}")
        return int(value)

    return parse


def _one_of(*choices: str) -> Parser:
    def parse(node: Node, what: str) -> str:
        value = _text(node, what)
        if value not in choices:
            raise _WrongError(node, f"{what} must be {' or '.join(choices)}; found {_quoted(value)}")
        return value

    return parse


def _amount(units: dict[str, int], low: str, high: str) -> Parser:
    """A whole number with one of `units`, between `low` and `high`, which are written the same way."""

    def value_of(text: str) -> int | None:
        match = _AMOUNT.fullmatch(text)
        return int(match[1]) * units[match[2]] if match and match[2] in units else None

    least, most = value_of(low), value_of(high)
    assert least is not None and most is not None, "the limits are written as in the file"

    def parse(node: Node, what: str) -> int:
        text = _text(node, what)
        value = value_of(text)
        if value is None:
            raise _WrongError(
                node,
                f"{what} must be a whole number and a unit ({', '.join(units)}), such as {low}; "
                f"found {_quoted(text)}",
            )
        if not least <= value <= most:
            raise _WrongError(node, f"{what} must be from {low} to {high}; found {_quoted(text)}")
        return value

    return parse


def _duration_us(low: str, high: str) -> Parser:
    return _amount(_DURATIONS_US, low, high)


def _size_bytes(low: str, high: str) -> Parser:
    return _amount(_SIZES_BYTES, low, high)


def _address(node: Node, what: str) -> str:
    value = _text(node, what)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise _WrongError(
            node, f"{what} must be an IP address, such as 127.0.0.1 or ::1; found {_quoted(value)}"
        ) from None
    if address.is_unspecified or address.is_multicast:
        raise _WrongError(node, f"{what} must be an address that other peers can reach; found {value}")
    return str(address)


def _switch(node: Node, what: str) -> bool:
    value = _text(node, what)
    if value not in {"true", "false"}:
        raise _WrongError(node, f"{what} must be true or false; found {_quoted(value)}")
    return value == "true"


_PROCESS_SETTINGS: Final[dict[str, tuple[str, Parser]]] = {
    "commitlog_sync": ("commitlog_sync", _one_of("group", "periodic")),
    "commitlog_sync_period": ("commitlog_sync_period_us", _duration_us("10ms", "10m")),
    "num_tokens": ("num_tokens", _integer(1, 256)),
    "replication_factor": ("replication_factor", _integer(1, 16)),
    "block_cache_size": ("block_cache_bytes", _size_bytes("1MiB", "256GiB")),
    "memtable_size": ("memtable_bytes", _size_bytes("1MiB", "4GiB")),
    "sink_private_addresses": ("sink_private_addresses", _switch),
    "sink_folder": ("sink_folder", lambda node, what: _path(node, what, Path())),
    "sink_secrets": ("sink_secrets", lambda node, what: _path(node, what, Path())),
    "log_level": ("log_level", _one_of("debug", "info", "warning", "error")),
}
"""Settings of the process: the field of `ProcessSettings` each fills, and how it is read."""

_NODE_SETTINGS: Final[dict[str, tuple[str, Parser]]] = {
    "write_request_timeout": ("write_timeout_us", _duration_us("10ms", "10m")),
    "read_request_timeout": ("read_timeout_us", _duration_us("10ms", "10m")),
    "speculative_retry": ("speculative_retry_us", _duration_us("1ms", "1m")),
    "read_repair": ("read_repair", _switch),
    "hinted_handoff": ("hints", _switch),
    "max_hint_window": ("hint_window_us", _duration_us("0s", "7d")),
    "max_hints_size": ("hint_bytes_max", _size_bytes("1MiB", "64GiB")),
    "follow_interval": ("follow_pause_us", _duration_us("10ms", "10m")),
    "repair_interval": ("anti_entropy_pause_us", _duration_us("100ms", "1d")),
    "scrub_interval": ("scrub_every_us", _duration_us("1s", "365d")),
    "scrub_throughput": ("scrub_bytes_per_s", _size_bytes("1KiB", "4GiB")),
    "move_throughput": ("move_bytes_per_s", _size_bytes("1KiB", "4GiB")),
    "purge_interval": ("purge_interval_us", _duration_us("0s", "1d")),
    "purge_slack": ("purge_slack_us", _duration_us("100ms", "1d")),
    "change_log_retention": ("log_retention_us", _duration_us("1m", "365d")),
    "change_log_size": ("log_bytes_max", _size_bytes("16MiB", "1024GiB")),
    "change_log_group_retention": ("log_held_us", _duration_us("1m", "365d")),
    "change_log_group_size": ("log_held_bytes_max", _size_bytes("16MiB", "1024GiB")),
    "ping_interval": ("ping_pause_us", _duration_us("100ms", "1m")),
    "ping_timeout": ("ping_timeout_us", _duration_us("10ms", "1m")),
    "max_requests": ("requests_in_flight_max", _integer(1, 1_000_000)),
    "max_requests_size": ("request_bytes_in_flight_max", _size_bytes("32MiB", "64GiB")),
    "operation_id_retention": ("operation_ids_us", _duration_us("1m", "30d")),
    "batchlog_replay_delay": ("batch_replay_us", _duration_us("100ms", "1h")),
    "max_batchlog_size": ("batch_log_bytes_max", _size_bytes("1MiB", "64GiB")),
    "max_documents_scanned": ("documents_scanned_max", _integer(1, 1_000_000_000)),
    "max_value_size": ("value_bytes_max", _size_bytes("1KiB", f"{VALUE_BYTES_MAX // MIB}MiB")),
}
"""Settings of the node: the field of `core.settings.Settings` each fills, and how it is read."""


# --------------------------------------------------------------------------------------- nodes to values


def _cluster(root: Node, folder: Path) -> ClusterConfig:
    values = _mapping(root, "the file", ("cluster", "peers", "voters", "ports", "tls", "settings", "sinks"))
    for required in ("cluster", "peers"):
        if required not in values:
            raise _WrongError(root, f"the file must have the key {required}")
    peers = _peers(values["peers"], folder)
    settings, process = _settings(values.get("settings"))
    return ClusterConfig(
        name=_name(values["cluster"], "cluster"),
        peers=peers,
        voters=_voters(values.get("voters"), peers),
        ports=_ports(values["ports"]) if "ports" in values else PortsConfig(),
        settings=settings,
        process=_beside(process, folder),
        sinks=_sinks(values["sinks"]) if "sinks" in values else (),
        tls=_tls(values["tls"], folder) if "tls" in values else None,
    )


def _peers(node: Node, folder: Path) -> tuple[PeerConfig, ...]:
    nodes = _sequence(node, "peers")
    if not nodes:
        raise _WrongError(node, "peers must name at least one peer")
    names: dict[str, Node] = {}
    addresses: dict[str, Node] = {}
    folders: dict[str, Node] = {}
    peers = []
    for peer_node in nodes:
        peer = _peer(peer_node, folder)
        _refuse_second(names, peer.name, peer_node, "is the name of two peers")
        _refuse_second(addresses, peer.address, peer_node, "is the address of two peers (ports are shared)")
        if peer.data is not None:
            _refuse_second(folders, str(peer.data), peer_node, "is the data directory of two peers")
        peers.append(peer)
    return tuple(peers)


def _refuse_second(seen: dict[str, Node], value: str, node: Node, problem: str) -> None:
    if value in seen:
        raise _WrongError(node, f"{value} {problem}; the first is on line {seen[value].start_mark.line + 1}")
    seen[value] = node


def _peer(node: Node, folder: Path) -> PeerConfig:
    values = _mapping(node, "a peer", ("name", "address", "datacentre", "rack", "data"))
    for required in ("name", "address"):
        if required not in values:
            raise _WrongError(node, f"a peer must have the key {required}")
    return PeerConfig(
        name=_name(values["name"], "name"),
        address=_address(values["address"], "address"),
        datacentre=_name(values["datacentre"], "datacentre") if "datacentre" in values else "dc1",
        rack=_name(values["rack"], "rack") if "rack" in values else "r1",
        data=_path(values["data"], "data", folder) if "data" in values else None,
    )


def _path(node: Node, what: str, folder: Path) -> Path:
    value = _text(node, what)
    if "\0" in value:
        raise _WrongError(node, f"{what} must be a path; found {_quoted(value)}")
    return folder / value


def _voters(node: Node | None, peers: tuple[PeerConfig, ...]) -> tuple[str, ...]:
    known = [peer.name for peer in peers]
    if node is None:
        count = next(count for count in VOTER_COUNTS if count <= len(known))
        return tuple(known[:count])
    seen: dict[str, Node] = {}
    for voter_node in _sequence(node, "voters"):
        name = _name(voter_node, "a voter")
        if name not in known:
            raise _WrongError(voter_node, f"the voter {name} is not among the peers {', '.join(known)}")
        _refuse_second(seen, name, voter_node, "votes twice")
    if len(seen) not in VOTER_COUNTS:
        raise _WrongError(node, f"voters must be 1, 3 or 5 peers; found {len(seen)}")
    return tuple(seen)


def _ports(node: Node) -> PortsConfig:
    values = _mapping(node, "ports", ("rest", "cql", "peer"))
    parse = _integer(1, 65535)
    ports = {key: parse(value, f"the port {key}") for key, value in values.items()}
    config = PortsConfig(**ports)
    if len({config.rest, config.cql, config.peer}) < 3:
        raise _WrongError(node, f"ports must differ; found {config.rest}, {config.cql} and {config.peer}")
    return config


def _settings(node: Node | None) -> tuple[Settings, ProcessSettings]:
    if node is None or (isinstance(node, ScalarNode) and node.value == ""):
        return Settings(), ProcessSettings()  # every line below the key may be commented out
    values = _mapping(node, "settings", (*_PROCESS_SETTINGS, *_NODE_SETTINGS))
    settings = Settings(**_fields(values, _NODE_SETTINGS))
    if settings.request_bytes_in_flight_max < 2 * settings.value_bytes_max:
        raise _WrongError(node, "max_requests_size must be at least twice max_value_size")
    if settings.ping_timeout_us >= settings.ping_pause_us:
        raise _WrongError(node, "ping_timeout must be shorter than ping_interval")
    return settings, ProcessSettings(**_fields(values, _PROCESS_SETTINGS))


def _beside(process: ProcessSettings, folder: Path) -> ProcessSettings:
    """With relative folders taken from the file's own folder."""
    files, secrets = process.sink_folder, process.sink_secrets
    return replace(
        process,
        sink_folder=None if files is None else folder / files,
        sink_secrets=None if secrets is None else folder / secrets,
    )


def _sinks(node: Node) -> tuple[SinkConfig, ...]:
    if isinstance(node, ScalarNode) and node.value == "":
        return ()
    keys = ("name", "table", "kind", "from", "every", "url", "user", "secret", "mechanism", "envelope")
    names: dict[str, Node] = {}
    sinks = []
    for sink_node in _sequence(node, "sinks"):
        values = _mapping(sink_node, "a sink", keys)
        for required in ("name", "table", "kind"):
            if required not in values:
                raise _WrongError(sink_node, f"a sink must have the key {required}")
        name = _name(values.pop("name"), "the name of a sink")
        _refuse_second(names, name, sink_node, "is the name of two sinks")
        every = values.pop("every", None)
        wanted: dict[str, Any] = {key: _text(value, key) for key, value in values.items()}
        if every is not None:
            wanted["every_s"] = _duration_us("100ms", "1h")(every, "every") / SECOND_US
        sinks.append(SinkConfig(name, wanted))
    return tuple(sinks)


def _fields(values: dict[str, Node], known: dict[str, tuple[str, Parser]]) -> dict[str, Any]:
    """The values of those keys that are in `known`, read, under the names of their fields."""
    return {known[key][0]: known[key][1](node, key) for key, node in values.items() if key in known}


def _tls(node: Node, folder: Path) -> TlsConfig:
    values = _mapping(node, "tls", ("folder", "clients"))
    if "folder" not in values:
        raise _WrongError(node, "tls must have the key folder")
    place = _path(values["folder"], "folder", folder)
    if "clients" not in values:
        return TlsConfig(place)
    return TlsConfig(place, _one_of(*CLIENTS)(values["clients"], "clients"))
