"""How `sullae node` becomes a process that holds nothing but the peer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import node
from cli.main import app

CONFIG = "cluster: test\npeers:\n  - {name: n1, address: 127.0.0.1}\n"
HEAVY = ("typer", "click", "pydantic", "rich", "pygments", "prometheus_client", "pyarrow")


class Became(BaseException):
    """The process is another program now."""


def test_arguments_survive_the_change_and_mistakes_are_told_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "cluster.yml"
    config.write_text(CONFIG)
    became: list[list[str]] = []

    def execv(_program: str, command: list[str]) -> None:
        became.append(command)
        raise Became

    monkeypatch.setattr(os, "execv", execv)
    wanted = ["node", "n1", "--config", str(config), "--data", str(tmp_path), "--insecure"]
    wrong = CliRunner().invoke(app, ["node", "n9", *wanted[2:]])
    assert wrong.exit_code and not became
    with pytest.raises(Became):
        CliRunner().invoke(app, [*wanted, "--json", "--parent", "7"], catch_exceptions=False)
    (command,) = became
    assert command[:4] == [sys.executable, "-P", "-m", "cli.node"]
    ran: list[object] = []

    def run_node(*arguments: object, **named: object) -> int:
        ran.append((arguments, named))
        return 5

    monkeypatch.setattr(node, "run_node", run_node)
    assert node.main(command[4:]) == 5
    assert ran == [(("n1", config, tmp_path), {"insecure": True, "log_format": "json", "parent": 7})]


def test_a_peer_does_not_load_what_only_commands_need() -> None:
    program = "import json, sys, cli.node, server.process; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & set(HEAVY)


def test_a_peer_is_not_stopped_by_a_configuration_that_would_not_start_it(tmp_path: Path) -> None:
    config = tmp_path / "cluster.yml"
    config.write_text(CONFIG)
    assert node.cannot_start("n1", config, False) == ""
    assert "no peer is named 'n2'" in node.cannot_start("n2", config, False)
    config.write_text(CONFIG + "settings:\n  read_repiar: true\n")
    assert "cluster.yml:5: unknown key 'read_repiar'" in node.cannot_start("n1", config, False)
    config.write_text(CONFIG + "tls:\n  folder: certificates\n")
    assert "certificates/ca.pem" in node.cannot_start("n1", config, False)
    config.write_text(CONFIG.replace("127.0.0.1", "10.0.0.1"))
    assert "--insecure" in node.cannot_start("n1", config, False)
    assert node.cannot_start("n1", config, True) == ""
    config.unlink()
    assert "there is no" in node.cannot_start("n1", config, False)
