"""Golden scripts say what they said when they were recorded, whatever the interpreter's hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.play import play

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted(HERE.glob("*.txt"))

PLAY_ALL = """
import sys
from pathlib import Path
from tests.golden.play import play
for name in sys.argv[1:]:
    sys.stdout.write(play(Path(name).read_text()))
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_script_says_what_it_said(script: Path, request: pytest.FixtureRequest) -> None:
    recorded = script.read_text()
    said = play(recorded)
    if request.config.getoption("--rewrite", default=False):
        script.write_text(said)
    else:
        assert said == recorded


def test_another_hash_seed_says_the_same() -> None:
    names = [str(script) for script in SCRIPTS]
    said = subprocess.run(
        [sys.executable, "-c", PLAY_ALL, *names],
        cwd=HERE.parents[1],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "".join(play(script.read_text()) for script in SCRIPTS)


def test_a_changed_line_is_noticed() -> None:
    recorded = (HERE / "hinted_handoff.txt").read_text()
    assert "all replicas are equal" in recorded
    assert play(recorded.replace("all replicas are equal", "some replicas are equal")) == play(recorded)


def test_who_sends_and_who_gets_is_told_in_few_lines() -> None:
    text = play("> start 3\n> create b\n> messages on\n> put n1 b k v all\n> run 10ms\n")
    assert "  n1 -> n2 n3  ApplyMutation\n  n2 n3 -> n1  MutationApplied\nok\n" in text
