"""The command line in terminals and locales that are not as one would wish: words, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROGRAM = """
import sys, typer
from cli import ending
from cli.output import Failure

app = typer.Typer()

@app.command()
def work(name: str, fails: bool = False) -> None:
    if fails:
        raise Failure(f"{name} is missing", exit_status=4)
    print(name)
    print(name.encode())

ending.run(app)
"""


def ended(*arguments: bytes | str, **how: object) -> subprocess.CompletedProcess[bytes]:
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=HERE,
        env={**os.environ, **ASCII},
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        **how,  # type: ignore[call-overload]
    )
    return done


def test_a_locale_that_knows_only_ascii_escapes_and_takes_arguments_as_utf_8() -> None:
    done = ended("열쇠", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [rb"\uc5f4\uc1e0", repr("열쇠".encode()).encode()]
    failed = ended("열쇠", "--fails", stdout=subprocess.PIPE)
    assert (failed.returncode, failed.stderr) == (4, rb"sullae: \uc5f4\uc1e0 is missing" + b"\n")


def test_an_argument_that_is_no_text_is_said_to_be_none() -> None:
    done = ended(b"k\xff", stdout=subprocess.PIPE)
    assert done.returncode == 1 and b"no text" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_a_failure_in_words() -> None:
    with open("/dev/full", "wb") as full:
        done = ended("a" * 100_000, stdout=full)
        short = ended("a", stdout=full)
    for each in (done, short):
        assert each.returncode == 1, each
        assert b"cannot be written: No space left on device" in each.stderr
        assert b"Traceback" not in each.stderr


def test_a_file_that_cannot_be_made_is_named() -> None:
    command = [sys.executable, "-m", "cli.main", "jepsen", "--simulated", "--minutes", "0.05", "--out"]
    done = subprocess.run([*command, "/proc/nowhere"], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sullae: /proc/nowhere: No such file or directory\n"
