"""A machine of a real cluster: one peer's process, its disk, its clock, and what a nemesis may do to each.

It has the names of sim/machine.py, so that the same faults work on both.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from jepsen_like.real import priority
from jepsen_like.real.janitor import Janitor, unmount

MIB = 1 << 20
IMAGE_BYTES = 160 * MIB
SLOW_SYNC_MS = 3
"""A disk that is slow by a factor n takes n times this longer for each sync."""
REAP_S = 60.0
"""A machine that has no time takes a while even to end what was killed."""


class Place(NamedTuple):
    """Where a peer is reached."""

    name: str
    address: str
    port: int


class RealClock:
    """The offset of a peer's wall clock, in a file that the peer reads."""

    def __init__(self, file: Path) -> None:
        self.offset_us = 0
        self._file = file
        self._write()

    def jump(self, by_us: int) -> None:
        """Jump forward or, with a negative number, back."""
        self.offset_us += by_us
        self._write()

    def read_us(self) -> int:
        """What the peer takes for the time."""
        return time.time_ns() // 1_000 + self.offset_us

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self.offset_us}\n")
        fresh.replace(self._file)


class Disk:
    """Where a peer's data lies: a folder, or a file system of its own in an image on a loop device.

    Only an image can be filled, and lose what was not synced. `may_mount` False leaves it a folder.
    """

    def __init__(self, folder: Path, name: str, janitor: Janitor, may_mount: bool) -> None:
        self.data = folder / "data" / name
        self._janitor = janitor
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self._image = folder / f"{name}.img"
        self._mounted = self._full = False
        self._changing = threading.Lock()
        """Images are exchanged in a thread."""
        self.is_image = may_mount and self._make()

    def _make(self) -> bool:
        maker = shutil.which("mkfs.ext4")
        if maker is None or os.geteuid() != 0:
            return False
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        made = subprocess.run([maker, "-q", "-F", str(self._image)], capture_output=True, check=False)
        self.data.mkdir(exist_ok=True)
        return made.returncode == 0 and self.mount()

    def mount(self) -> bool:
        """Mount the image; False if that is not permitted."""
        self._janitor.knows("mount", self.data)
        command = ["mount", "-o", "loop", str(self._image), str(self.data)]
        self._mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self._mounted

    def unmount(self) -> None:
        """Take it away, whoever uses it."""
        if self._mounted:
            unmount(str(self.data))
            self._mounted = False

    @property
    def folder(self) -> Path:
        """The peer's data directory."""
        return self.data / "peer" if self.is_image else self.data

    def copy_image(self) -> Path:
        """The image as a power cut would leave it."""
        copy = self._image.with_suffix(".cut")
        subprocess.run(["cp", "--sparse=always", str(self._image), str(copy)], check=True)
        return copy

    def replace_image(self, copy: Path) -> None:
        """Go on with a copy; nobody may be using the old one. Full is what is to be full now, not then."""
        with self._changing:
            self.unmount()
            copy.replace(self._image)
            self.mount()
            self._set_ballast()

    @property
    def full(self) -> bool:
        """Whether no byte is free, also of the images that take its place."""
        return self._full

    @full.setter
    def full(self, full: bool) -> None:
        with self._changing:  # in which it may have no file system for a moment, or one copied before
            self._full = full
            self._set_ballast()

    def _set_ballast(self) -> None:
        ballast = self.data / "ballast"
        if not self._full:
            ballast.unlink(missing_ok=True)
            return
        with ballast.open("ab", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"b" * size) == size:
                        pass


class Engine:
    """The faults of a disk under the names that the simulated engine has."""

    def __init__(self, machine: RealMachine) -> None:
        self._machine = machine
        self._fails = False

    @property
    def disk_full(self) -> bool:
        """Whether the disk is full; on a disk that is a mere folder this does nothing."""
        return self._machine.disk.full

    @disk_full.setter
    def disk_full(self, full: bool) -> None:
        disk = self._machine.disk
        if full != disk.full and disk.is_image:
            disk.full = full

    @property
    def sync_fails(self) -> bool:
        """Whether the next sync fails."""
        return self._fails

    @sync_fails.setter
    def sync_fails(self, fails: bool) -> None:
        self._fails = fails
        self._machine.tell_shim()


class RealMachine:
    """See the top of the file."""

    def __init__(
        self,
        index: int,
        place: Place,
        folder: Path,
        janitor: Janitor,
        *,
        shim: Path | None,
        may_mount: bool,
    ) -> None:
        self.index = index
        self.place = place
        self.log = folder / f"{place.name}.log"
        self.disk = Disk(folder, place.name, janitor, may_mount)
        self.clock = RealClock(folder / f"{place.name}.clock")
        self.engine = Engine(self)
        self.environment: dict[str, str] = {}
        self.paused = False
        self.busy = False
        """Something is being done to its disk: it cannot be started now."""
        self.ended_by_us = True
        self._janitor = janitor
        self._popen: subprocess.Popen[bytes] | None = None
        self._slow_disk, self._slow_sync_us = 1, 0
        self._starts = 0
        self._shim_file = folder / f"{place.name}.fault" if shim is not None else None
        self.environment["SULLAE_CLOCK_OFFSET_FILE"] = str(folder / f"{place.name}.clock")
        if shim is not None:
            self.environment |= {"LD_PRELOAD": str(shim), "SULLAE_SHIM": str(self._shim_file)}

    # --- the process

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process, if it is there."""
        return self._popen if self._popen is not None and self._popen.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether it runs and is not paused."""
        return self.process is not None and not self.paused

    @property
    def died(self) -> int | None:
        """The exit status of a process that ended by itself."""
        if self.ended_by_us or self._popen is None:
            return None
        return self._popen.poll()

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def start(self, prefix: list[str], config: Path) -> bool:
        """Start it; False if it runs."""
        if self.process is not None or self.busy:
            return False
        # -P: a folder named like one of our packages in the working directory must not be taken for it
        command = [*prefix, sys.executable, "-P", "-m", "cli.main", "node", self.place.name, "--insecure"]
        command += ["--log-format", "json", "--config", str(config), "--data", str(self.disk.data.parent)]
        command += ["--parent", str(os.getpid())]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        self._starts += 1
        if (self.index + self._starts) % 2 and "SULLAE_SHIM_PORT" not in environment:
            # Where nothing is preloaded the kernel syncs (server/log_syncs.py): half of all are to do that.
            environment.pop("LD_PRELOAD", None)
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        self._janitor.knows("process", self._popen.pid)
        priority.pass_on(self._popen.pid)
        self.paused = self.ended_by_us = False
        return True

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if nobody is there."""
        process = self.process
        if process is None:
            return False
        process.send_signal(number)
        return True

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.ended_by_us = True
        if self.signal(signal.SIGKILL):
            assert self._popen is not None
            self._popen.wait(REAP_S)
        self.paused = False

    # --- the disk

    @property
    def slow_disk(self) -> int:
        """By which factor the disk is slow."""
        return self._slow_disk

    @slow_disk.setter
    def slow_disk(self, factor: int) -> None:
        self._slow_disk = factor
        self.tell_shim()

    @property
    def slow_sync_us(self) -> int:
        """How much longer a sync takes."""
        return self._slow_sync_us

    @slow_sync_us.setter
    def slow_sync_us(self, more_us: int) -> None:
        self._slow_sync_us = more_us
        self.tell_shim()

    def tell_shim(self) -> None:
        """Write for the preloaded library what is wrong with the disk now."""
        if self._shim_file is None:
            return
        slow_ms = self._slow_sync_us // 1_000 + (self._slow_disk - 1) * SLOW_SYNC_MS
        text = "fail" if self.engine.sync_fails else f"slow {slow_ms}" if slow_ms else ""
        if text:
            fresh = self._shim_file.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(self._shim_file)
        else:
            self._shim_file.unlink(missing_ok=True)


def compiled_shim(folder: Path) -> Path | None:
    """The preloaded library, compiled; None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    return library if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None
