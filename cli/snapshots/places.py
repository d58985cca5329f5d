"""Where backups lie: a folder, or a bucket of S3-compatible storage (cli/snapshots/bucket.py); files by name.

Names are relative, with slashes. What is written is there as a whole or not at all, and durable on return.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from cli.output import Failure
from lsm.durable import sync_directory
from server.snapshots.taking import READ_BYTES

S3 = "s3://"


class Place(Protocol):
    """Files by name. `str` of it is what people call it. FileNotFoundError for what is not there."""

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a large one."""

    def exists(self, name: str) -> bool:
        """Whether it is there."""

    def below(self, prefix: str) -> list[tuple[str, int]]:
        """All files below a prefix that ends in a slash, in order, with their sizes."""

    def write(self, name: str, data: bytes) -> None:
        """Keep a small file."""

    def take(self, name: str, file: IO[bytes]) -> None:
        """Keep a large one: a local file, from where it stands."""

    def delete(self, names: list[str]) -> None:
        """Delete these."""

    def bring(self, name: str, target: Path, *, linked: bool) -> None:
        """Put it at a local path; `linked` if it will not be written to."""

    def scratch(self) -> Path | None:
        """Where large temporary files had best be, so that links work; None: wherever."""


class Disk:
    """A folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        return (self.path / name).read_bytes()

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a large one."""
        with (self.path / name).open("rb") as source:
            while part := source.read(READ_BYTES):
                yield part

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        return (self.path / name).exists()

    def below(self, prefix: str) -> list[tuple[str, int]]:
        """All files below."""
        files = [file for file in self.path.glob(f"{prefix}**/*") if file.is_file()]
        return sorted((file.relative_to(self.path).as_posix(), file.stat().st_size) for file in files)

    def write(self, name: str, data: bytes) -> None:
        """Written beside, then renamed."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.new")
        with partial.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        self._renamed(partial, target)

    def take(self, name: str, file: IO[bytes]) -> None:
        """The same."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as out:
                shutil.copyfileobj(file, out, READ_BYTES)
                out.flush()
                os.fsync(out.fileno())
            self._renamed(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def _renamed(self, partial: Path, target: Path) -> None:
        """Names are durable when the folders that they stand in are, each up to ours."""
        partial.replace(target)
        for folder in target.parents:
            sync_directory(folder)
            if folder == self.path:
                return

    def delete(self, names: list[str]) -> None:
        """Files, and the folders that are empty then."""
        for name in names:
            file = self.path / name
            file.unlink(missing_ok=True)
            if not any(file.parent.iterdir()):
                file.parent.rmdir()

    def bring(self, name: str, target: Path, *, linked: bool) -> None:
        """A link if that will do, else a copy."""
        if linked:
            try:
                os.link(self.path / name, target)
                return
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one that has no links
                pass
        shutil.copyfile(self.path / name, target)

    def scratch(self) -> Path | None:
        """In the folder itself."""
        return self.path


def place_of(where: str, endpoint: str) -> Place:
    """A folder, or s3://bucket/prefix; `endpoint` is the address of a storage that is not Amazon's, or ""."""
    if not where.startswith(S3):
        return Disk(Path(where))
    try:
        from cli.snapshots.bucket import Bucket
    except ModuleNotFoundError as error:
        hint = "install it: pip install 'sullae-server[s3]'"
        raise Failure("S3-compatible storage needs obstore", hint=hint, code="missing_extra") from error
    bucket, _, prefix = where.removeprefix(S3).partition("/")
    if not bucket:
        raise Failure(f"{where} names no bucket: s3://bucket/prefix", code="bad_argument")
    return Bucket(bucket, prefix.strip("/"), endpoint)
