"""S3-compatible storage as a place for backups: the only file that knows obstore.

Who may is read from the environment, as all such programs do: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION (and web identities and instance profiles, as obstore knows them). An object is
there when its upload has ended, whole; so nothing needs to be renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from cli.output import Failure

READ_BYTES = 8 * 1024 * 1024
T = TypeVar("T")


class Bucket:
    """Implements cli.snapshots.places.Place."""

    def __init__(self, bucket: str, prefix: str, endpoint: str) -> None:
        """`endpoint` "" is Amazon's, or what AWS_ENDPOINT_URL says."""
        self._name = f"s3://{bucket}" + (f"/{prefix}" if prefix else "")
        more: dict[str, Any] = {}
        if endpoint:
            more = {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
        self._store = self._guarded(lambda: S3Store(bucket, prefix=prefix or None, **more))

    def __str__(self) -> str:
        return self._name

    def read(self, name: str) -> bytes:
        """The bytes of an object."""
        return self._guarded(lambda: bytes(obstore.get(self._store, name).bytes()))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The same, in parts."""
        parts = iter(self._guarded(lambda: obstore.get(self._store, name).stream(READ_BYTES)))
        while (part := self._guarded(lambda: next(parts, None))) is not None:
            yield bytes(part)

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        try:
            self._guarded(lambda: obstore.head(self._store, name))
        except FileNotFoundError:
            return False
        return True

    def below(self, prefix: str) -> list[tuple[str, int]]:
        """All objects below, in order."""
        pages = self._guarded(lambda: list(obstore.list(self._store, prefix.strip("/") or None)))
        return sorted((str(one["path"]), int(one["size"])) for page in pages for one in page)

    def write(self, name: str, data: bytes) -> None:
        """An object."""
        self._guarded(lambda: obstore.put(self._store, name, data))

    def take(self, name: str, file: IO[bytes]) -> None:
        """The same; in parts, if it is large."""
        self._guarded(lambda: obstore.put(self._store, name, file))

    def delete(self, names: list[str]) -> None:
        """All at once."""
        if names:
            self._guarded(lambda: obstore.delete(self._store, names))

    def bring(self, name: str, target: Path, *, linked: bool) -> None:
        """A copy."""
        with target.open("wb") as out:
            for part in self.chunks(name):
                out.write(part)

    def scratch(self) -> Path | None:
        """Wherever temporary files are."""
        return None

    def _guarded(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(f"{self._name}: {_first_line(error)}") from error
        except BaseError as error:
            refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
            if refused or "403 Forbidden" in str(error) or "401 Unauthorized" in str(error):
                raise Failure(
                    f"{self._name} refuses: {_first_line(error)}",
                    hint="who may is said by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
                    code="storage_refused",
                ) from error
            text = f"{self._name} cannot be used: {_first_line(error)}"
            hint = "see --endpoint-url, AWS_REGION, and AWS_ACCESS_KEY_ID in the environment"
            raise Failure(text, hint=hint, code="storage_failed") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]
