"""What a run leaves behind, and what a fault leaves on a disk that is exchanged meanwhile: nothing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from jepsen_like.real.cluster import RealCluster
from jepsen_like.real.janitor import Janitor, unmount
from jepsen_like.real.machine import Disk

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


class Images(Disk):
    """A disk whose images are folders: what is written while one is mounted stays in it."""

    def mount(self) -> bool:
        self.data.mkdir(exist_ok=True)
        return True

    def unmount(self) -> None:
        for file in self.data.iterdir():
            file.unlink()

    def _set_ballast(self) -> None:
        ballast = self.data / "ballast"
        if self.full:
            ballast.write_bytes(b"b")
        else:
            super()._set_ballast()


@pytest.fixture
def disk(tmp_path: Path) -> Images:
    disk = Images(tmp_path, "n1", Nobody(), may_mount=False)
    disk.mount()
    return disk


def test_a_machine_whose_power_is_cut_stands_still_whatever_ends_meanwhile() -> None:
    sent: list[signal.Signals] = []

    def signalled(number: signal.Signals) -> bool:
        sent.append(number)
        return True

    machine = SimpleNamespace(busy=True, paused=True, signal=signalled)
    cluster = SimpleNamespace(machines=[machine])
    RealCluster.resume(cast("RealCluster", cluster), 0)
    assert sent == [] and machine.paused
    machine.busy = False
    RealCluster.resume(cast("RealCluster", cluster), 0)
    assert sent == [signal.SIGCONT] and not machine.paused


class Nobody(Janitor):
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def knows(self, kind: str, what: object) -> None:
        self.told.append((kind, str(what)))


def test_a_disk_that_is_free_again_stays_free_when_its_image_of_before_takes_its_place(
    disk: Images, tmp_path: Path
) -> None:
    disk.full = True
    assert (disk.data / "ballast").exists()
    copy = tmp_path / "copy"
    copy.write_bytes(b"")
    disk.full = False  # after the image was taken, before it takes the disk's place
    (disk.data / "ballast").write_bytes(b"as it is in the copy")
    disk.unmount = lambda: None  # type: ignore[method-assign]
    disk.replace_image(copy)
    assert not (disk.data / "ballast").exists()


def test_a_disk_that_is_full_is_full_after_its_image_was_exchanged(disk: Images, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(b"")
    disk.full = True
    disk.replace_image(copy)
    assert (disk.data / "ballast").exists()


def test_processes_end_with_the_run_that_made_them_even_those_that_stand_still() -> None:
    sleeper = subprocess.Popen(SLEEPER, start_new_session=True)
    sleeper.send_signal(signal.SIGSTOP)
    keeper = Janitor()
    keeper.knows("process", sleeper.pid)
    keeper.knows("mount", "/nowhere/at all")
    keeper.knows("namespace", "none-of-this-name")
    keeper.close()
    assert sleeper.wait(20) == -signal.SIGKILL


def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "from jepsen_like.real.janitor import Janitor\n"
        "sleeper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "keeper = Janitor()\n"
        "keeper.knows('process', sleeper.pid)\n"
        "print(sleeper.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    number = int(run.stdout.readline())
    handle = os.pidfd_open(number)
    run.kill()
    run.communicate()
    readable, _, _ = select.select([handle], [], [], 20)
    assert readable, "the process that it started has ended"


def test_what_is_mounted_twice_is_taken_away_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted, done = [True, True], []

    def run(command: list[str], **_: bool) -> None:
        mounted.pop()
        done.append(command)

    monkeypatch.setattr("os.path.ismount", lambda _: bool(mounted))
    monkeypatch.setattr("subprocess.run", run)
    unmount("/somewhere")
    assert done == [["umount", "--lazy", "/somewhere"]] * 2
