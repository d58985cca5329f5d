"""A cluster whose clients show certificates, from `sullae cert` to data: every door, by real processes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Up, free_ports

pytestmark = pytest.mark.process

CONFIG = """
cluster: c
peers: [{name: n1, address: 127.0.0.1}]
ports: {rest: %d, cql: %d, peer: %d}
tls: {folder: certificates, clients: certificate}
sinks: [{name: s, table: kv.b, kind: ndjson, from: snapshot, every: 100ms}]
"""


def sullae(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_every_door_is_for_who_shows_a_certificate(tmp_path: Path) -> None:
    rest, cql, peer = free_ports(["127.0.0.1"], 3)
    (tmp_path / "cluster.yml").write_text(CONFIG % (rest, cql, peer))
    assert "client-shop.pem" in sullae(tmp_path, "cert", "--client", "shop").stdout
    with Up(tmp_path, "--json", "--no-sample") as running:
        ready = running.wait_for("ready")
        assert [one["url"] for one in ready["peers"]] == [f"https://127.0.0.1:{rest}"]
        (tmp_path / "b.ndjson").write_text('{"id":"k","v":1}\n')
        loaded = sullae(tmp_path, "load", "b.ndjson", "--json")
        assert json.loads(loaded.stdout)["loaded"] == 1, loaded
        assert sullae(tmp_path, "export", "kv.b", "-o", "out", "--format", "ndjson").returncode == 0
        rows = "".join(file.read_text() for file in (tmp_path / "out").glob("*.ndjson"))
        assert json.loads(rows)["key"] == "k"
        files = [f"certificates/{name}" for name in ("ca.pem", "client-shop.pem", "client-shop.key")]
        shown = zip(("--ssl-ca", "--ssl-cert", "--ssl-key"), files, strict=True)
        select = ["shell", "127.0.0.1", str(cql), "-e", "SELECT key FROM kv.b", "--json"]
        found = sullae(tmp_path, *select, *(text for pair in shown for text in pair))
        assert json.loads(found.stdout) == [{"key": "k"}]
        by_configuration = sullae(tmp_path, "shell", "-e", "SELECT key FROM kv.b", "--json")
        assert by_configuration.stdout == found.stdout
        plainly = sullae(tmp_path, "shell", "--no-ssl", "-e", "SELECT key FROM kv.b")
        assert plainly.returncode == 1 and "TLS" in plainly.stderr, plainly
        with socket.create_connection(("127.0.0.1", cql)) as plain:
            plain.sendall(b"\x04\x00\x00\x00\x05" * 4)
            assert b"CQL" not in plain.recv(100)
    other = CONFIG.replace("cluster: c", "cluster: other") % (rest, cql, peer)
    (tmp_path / "cluster.yml").write_text(other)
    refused = sullae(tmp_path, "node", "n1")
    assert refused.returncode == 78 and "of the cluster c, not of n1 of other" in refused.stderr
    (tmp_path / "cluster.yml").write_text(re.sub("tls: .*", "", other))
    refused = sullae(tmp_path, "node", "n1")
    assert refused.returncode == 65 and "this directory is of the cluster c, not of other" in refused.stderr
    renamed = CONFIG.replace("name: n1", "name: n2").replace("tls:", "# tls:") % (rest, cql, peer)
    (tmp_path / "cluster.yml").write_text(renamed)
    (tmp_path / "data" / "n1").rename(tmp_path / "data" / "n2")
    refused = sullae(tmp_path, "node", "n2")
    assert refused.returncode == 65 and "this directory is of the peer n1, not of n2" in refused.stderr
    log = (tmp_path / "data" / "n1.log").read_text()
    assert re.search("cluster.yml declares cannot be applied yet: [45]", log), "a peer asks itself by TLS"
    assert "CQL: 127.0.0.1: it does not speak TLS; connection closed" in log
