"""What `sullae doctor` makes of machines that this is not."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from cli import doctor


@pytest.mark.parametrize(
    ("holder", "state"),
    [
        ("sullae node n1 (pid 7)", doctor.OK),
        ("sullae node n10 (pid 7)", doctor.BAD),
        ("nginx (pid 7)", doctor.BAD),
    ],
)
def test_a_port_that_this_very_peer_holds_is_as_good_as_free(
    monkeypatch: pytest.MonkeyPatch, holder: str, state: str
) -> None:
    def why_not(_: str, port: int) -> str:
        return f"the port is in use by {holder}" if port else ""

    monkeypatch.setattr(doctor, "why_not_bindable", why_not)
    assert doctor.address("n1", "127.0.0.1", {"REST": 8080}).state == state


def test_a_machine_that_does_not_say_whether_its_clock_is_kept_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*command: Any, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 5)

    monkeypatch.setattr("shutil.which", lambda _: "timedatectl")
    monkeypatch.setattr("subprocess.run", hangs)
    assert doctor.synchronized().text == "unknown"
