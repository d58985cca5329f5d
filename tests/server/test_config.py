"""`cluster.yml`: the shipped file, and what is said about every way to get it wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from core.settings import Settings
from server.config import (
    ClusterConfig,
    ConfigError,
    PeerConfig,
    PortsConfig,
    ProcessSettings,
    load_config,
    parse_config,
)

GOOD = """\
cluster: dance
peers:
  - name: n1
    address: 127.0.0.1
    rack: r1
  - name: n2
    address: 127.0.0.2
    rack: r2
  - {name: n3, address: "::1", datacentre: seoul, rack: r3, data: disks/n3}
voters: [n3]
ports: {rest: 18080}
tls: {folder: certificates}
settings:
  commitlog_sync: periodic
  write_request_timeout: 500ms
  max_value_size: 1 MiB
  read_repair: false
"""


def test_every_value_arrives() -> None:
    config = parse_config(GOOD, folder=Path("base"))
    assert config.name == "dance"
    assert config.peers == (
        PeerConfig("n1", "127.0.0.1", "dc1", "r1"),
        PeerConfig("n2", "127.0.0.2", "dc1", "r2"),
        PeerConfig("n3", "::1", "seoul", "r3", Path("base/disks/n3")),
    )
    assert config.voters == ("n3",)
    assert config.ports == PortsConfig(rest=18080, cql=9042, peer=7000)
    assert config.tls is not None
    assert config.tls.folder == Path("base/certificates")
    assert config.settings == Settings(write_timeout_us=500_000, value_bytes_max=1 << 20, read_repair=False)
    assert config.process == ProcessSettings(commitlog_sync="periodic")
    assert config.peer("n2").address == "127.0.0.2"
    with pytest.raises(KeyError, match="n1, n2, n3"):
        config.peer("n4")


def test_the_shipped_file_is_three_equal_peers_on_loopback(project: Path) -> None:
    config = load_config(project / "cluster.yml")
    assert [(peer.name, peer.address, peer.rack) for peer in config.peers] == [
        ("n1", "127.0.0.1", "r1"),
        ("n2", "127.0.0.2", "r2"),
        ("n3", "127.0.0.3", "r3"),
    ]
    assert {peer.datacentre for peer in config.peers} == {"dc1"}
    assert config.voters == ("n1", "n2", "n3")
    assert config.ports == PortsConfig(rest=8080, cql=9042, peer=7000)
    assert config.settings == Settings()
    assert config.process == ProcessSettings()
    assert config.replication_factor == 3
    assert config.on_loopback_only


def test_the_shipped_file_documents_every_setting_with_its_default(project: Path) -> None:
    text = (project / "cluster.yml").read_text()
    head, settings = text.split("settings:\n")
    settings, sinks = settings.split("# sinks: ")
    uncommented = re.sub(r"^  # (\w+: )", r"  \1", settings, flags=re.MULTILINE)
    config = parse_config(f"{head}settings:\n{uncommented}")
    listed = "".join(f"{line[2:]}\n" for line in sinks.splitlines()[1:])
    declared = parse_config(f"{head}sinks:\n{listed}")
    assert [sink.name for sink in declared.sinks] == ["films", "bus"]
    assert config.settings == Settings()
    unset = replace(config.process, sink_folder=None, sink_secrets=None)  # these are shown by examples
    assert unset == ProcessSettings()
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{head}settings:\n  nothing: 1\n")
    known = caught.value.problem.rsplit("known are ", 1)[1].split(", ")
    assert set(re.findall(r"^  (\w+): ", uncommented, flags=re.MULTILINE)) == set(known)


@pytest.mark.parametrize(("count", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (9, 5)])
def test_the_first_one_three_or_five_vote(count: int, voters: int) -> None:
    peers = "".join(f"  - {{name: p{i}, address: 127.0.0.{i}}}\n" for i in range(1, count + 1))
    config = parse_config(f"cluster: c\npeers:\n{peers}")
    assert config.voters == tuple(f"p{i}" for i in range(1, voters + 1))
    assert config.replication_factor == min(3, count)


WRONG = [
    ("", 1, "empty"),
    ("# only this\n", 1, "empty"),
    ("just text\n", 1, "must be a mapping"),
    ("cluster: [\n", 2, "not YAML"),
    ("cluster: a\n\tpeers: []\n", 2, "tab"),
    ("cluster: a\x01\n", 1, "not YAML"),
    ("cluster: " + "[" * 50_000, 1, "nested deeper"),
    ("cluster: a\n", 1, "must have the key peers"),
    ("cluster: a\n---\ncluster: b\n", 2, "not YAML"),
    (GOOD.replace("    rack: r2", "   rack: r2"), 8, "is the line indented as those beside it"),
    (GOOD.replace("cluster: dance", "cluster dance"), 2, "is line 1 without a colon"),
    (GOOD.replace("cluster: dance", "cluster:dance"), 2, "is line 1 without a colon"),
    (GOOD.replace("cluster: dance", 'cluster: "dance'), 9, "is a quotation mark open on line 1"),
    (
        "cluster: a\npeers:\n" + "".join(f"- {{name: n{n}, address: 127.0.0.{n}, data: d}}\n" for n in "12"),
        4,
        "d is the data directory of two peers; the first is on line 3",
    ),
    (GOOD.replace("cluster: dance", "cluster: ../x"), 1, "1 to 48 letters"),
    (GOOD.replace("cluster: dance", "cluster:"), 1, "cluster has no value"),
    (GOOD.replace("voters:", "voter:"), 10, "did you mean voters?"),
    (GOOD.replace("    rack: r2", "    rakc: r2"), 8, "did you mean rack?"),
    (GOOD.replace("name: n2", "name: n1"), 6, "n1 is the name of two peers; the first is on line 3"),
    (GOOD.replace("127.0.0.2", "127.0.0.1"), 6, "127.0.0.1 is the address of two peers"),
    (GOOD.replace("127.0.0.2", "127.0.0.256"), 7, "must be an IP address"),
    (GOOD.replace("127.0.0.2", "example.org"), 7, "must be an IP address"),
    (GOOD.replace("127.0.0.2", "0.0.0.0"), 7, "that other peers can reach"),
    (GOOD.replace("    address: 127.0.0.2\n", ""), 6, "a peer must have the key address"),
    (GOOD.replace("    rack: r2", "    rack: r2\n    rack: r2"), 9, "has the key rack twice"),
    (GOOD.replace("18080", "70000"), 11, "rest must be a whole number from 1 to 65535; found '70000'"),
    (GOOD.replace("18080", "http"), 11, "the port rest must be a whole number"),
    (GOOD.replace("18080", "7000"), 11, "ports must differ"),
    (GOOD.replace("[n3]", "[n4]"), 10, "the voter n4 is not among the peers n1, n2, n3"),
    (GOOD.replace("[n3]", "[n1, n2]"), 10, "voters must be 1, 3 or 5 peers; found 2"),
    (GOOD.replace("[n3]", "[n1, n1, n2]"), 10, "n1 votes twice"),
    (GOOD.replace("periodic", "always"), 14, "must be group or periodic; found 'always'"),
    (GOOD.replace("write_request_timeout", "write_request_timout"), 15, "mean write_request_timeout?"),
    (GOOD.replace("500ms", "500"), 15, "a whole number and a unit (ms, s, m, h, d)"),
    (GOOD.replace("500ms", "500parsec"), 15, "a whole number and a unit"),
    (GOOD.replace("500ms", "2d"), 15, "must be from 10ms to 10m; found '2d'"),
    (GOOD.replace("1 MiB", "1 MB"), 16, "a whole number and a unit (B, KiB, MiB, GiB)"),
    (GOOD.replace("1 MiB", "17MiB"), 16, "must be from 1KiB to 16MiB"),
    (GOOD.replace("false", "no"), 17, "must be true or false"),
    (GOOD.replace("peers:\n", "peers: &p\n").replace("[n3]", "*p"), 3, "a voter must be a single value"),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_an_error_names_the_line_and_what_is_allowed(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="some.yml")
    assert said in caught.value.problem
    assert str(caught.value).startswith(f"some.yml:{line}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yml")
    path = tmp_path / "cluster.yml"
    path.write_bytes(b"cluster: a\n# \xff\n")
    with pytest.raises(ConfigError, match=r"cluster\.yml:2: not UTF-8"):
        load_config(path)
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(path)


def outcome(text: str) -> ClusterConfig | ConfigError:
    try:
        return parse_config(text)
    except ConfigError as error:
        return error


@given(st.text())
def test_any_text_gives_a_config_or_a_line(text: str) -> None:
    result = outcome(text)
    assert isinstance(result, ConfigError)  # no text this short names peers
    assert 1 <= result.line <= len(text.splitlines()) + 1


FRAGMENTS = st.sampled_from(
    ["", "\n", "\n  ", " ", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!!python/name:os.system "]
    + ["? ", "|\n", ">-\n", "'", '"', "\\", "%YAML 1.1\n", "%YAML 99999999999999999999.1\n", "---\n", "...\n"]
    + ["~", "null", "#", "\t", "\x85", "\u2028", "\ufeff", "\ud800", "9" * 40, "1e999", "강강술래", "::1"]
)


@given(st.data())
def test_any_damage_to_a_good_file_gives_a_config_or_a_line(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(FRAGMENTS | st.text(max_size=4)) + text[end:]
    result = outcome(text)
    if isinstance(result, ConfigError):
        assert 1 <= result.line <= len(text.splitlines()) + 2
        assert result.problem
    else:
        assert len(result.voters) in {1, 3, 5}
        assert {peer.name for peer in result.peers} >= set(result.voters)
