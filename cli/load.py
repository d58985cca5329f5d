"""`sullae load`: a file of records into a bucket or a collection, in constant memory, resumable, in parallel.

One thread reads; each of `WORKERS` threads puts batches through a connection of its own. A key always goes
to the same worker and occurs once in a batch, so of two records with one key the later in the file wins, as
it would one by one. What may be forgotten after a crash is a suffix of the file, never a hole: every batch
under way is known, the state file holds the smallest offset at which one of them begins, and a load that is
started again repeats from there (puts may be repeated). The state file names the file by size and hash, and
is removed when the load is complete.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli import records as reading
from cli.bulk import BulkWriter, Place
from cli.output import Failure, count_text
from cli.records import Record, Reject, Source
from cli.rest import Cluster, expect

if TYPE_CHECKING:
    from rich.console import Console

WORKERS: Final = 4
BATCH_ROWS_MAX: Final = 200
BATCH_BYTES_MAX: Final = 512 * 1024
QUEUED_BATCHES_MAX: Final = 2
SAVE_PAUSE_S: Final = 1.0
PATIENCE_S: Final = 60.0
STATE_VERSION: Final = 2
NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class Job:
    """What to load, where to, and where to note how far it got."""

    file: Path
    place: Place
    key: str = "id"
    kind: str = "ndjson"
    consistency: str | None = None
    state: Path = Path()
    rejects: Path = Path()

    def identity(self) -> dict[str, str]:
        """What must be the same for a load to go on."""
        return {
            "file": reading.fingerprint(self.file),
            "place": str(self.place),
            "key": self.key,
            "kind": self.kind,
        }


@dataclass(slots=True)
class Tally:
    """What happened so far. `bytes_read` and `bytes_total` count the file as it lies on disk."""

    read: int = 0
    loaded: int = 0
    rejected: int = 0
    resumed_at_line: int = 0
    bytes_read: int = 0
    bytes_total: int = 0
    seconds: float = 0.0


Progress = Callable[[Tally], None]


@dataclass(slots=True, eq=False)
class _Batch:
    """Records on their way to one worker."""

    offset: int
    line: int
    records: list[Record] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    bytes: int = 0

    def full_for(self, record: Record) -> bool:
        """Whether this record belongs into a later batch."""
        too_large = self.bytes + len(record.value) > BATCH_BYTES_MAX and bool(self.records)
        return too_large or len(self.records) >= BATCH_ROWS_MAX or record.key in self.keys

    def add(self, record: Record) -> None:
        """Take a record in."""
        self.records.append(record)
        self.keys.add(record.key)
        self.bytes += len(record.value)


_Batches = queue.Queue["_Batch | None"]


class Loader:
    """One load. `run` reads and blocks; `stop` may be called from another thread."""

    def __init__(
        self, urls: Sequence[str], job: Job, progress: Progress, *, patience_s: float = PATIENCE_S
    ) -> None:
        """`progress` is called now and then from the thread that runs."""
        self._urls = urls
        self._job = job
        self._progress = progress
        self._patience_s = patience_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[int, _Batch] = {}
        self._failure: Exception | None = None
        self._tally = Tally()
        self._saved_s = 0.0
        self._next = (0, 1)
        """Where the record begins that is to be read next: those before it are in batches, or rejected."""
        self._identity: dict[str, str] = {}

    def stop(self) -> None:
        """End soon, noting how far it got."""
        self._stopped.set()

    def run(self) -> Tally:
        """Load the file. Raises `Failure` when it cannot go on; run again, it goes on from there."""
        job, tally, began_s = self._job, self._tally, time.monotonic()
        with Source(job.file) as source:
            self._identity = job.identity()
            offset, line = self._next = self._resume()
            tally.bytes_total = source.size
            queues: list[_Batches] = [queue.Queue(QUEUED_BATCHES_MAX) for _ in range(WORKERS)]
            threads = [
                threading.Thread(target=self._work, args=(number, source_queue), daemon=True)
                for number, source_queue in enumerate(queues)
            ]
            for thread in threads:
                thread.start()
            try:
                self._read(source, queues, (offset, line))
            finally:
                for source_queue in queues:
                    source_queue.put(None)
                for thread in threads:
                    while thread.is_alive():
                        thread.join(0.1)
                        self._report(source, began_s)
                self._save()
        self._report(source, began_s)
        if self._failure is not None:
            raise self._failure
        if self._stopped.is_set():
            raise Failure("stopped", hint="the same command goes on where it stopped", code="stopped")
        forget(job.state)
        return tally

    # -------------------------------------------------------------------------------------------- reading

    def _read(self, source: Source, queues: list[_Batches], begin: tuple[int, int]) -> None:
        filling: list[_Batch | None] = [None] * len(queues)
        began_s = time.monotonic()
        for item in reading.read_records(source, self._job.kind, self._job.key, *begin):
            if self._ending:
                return
            self._tally.read += 1
            if isinstance(item, Reject):
                self._reject(item)
                self._next = (source.offset, source.line)
                continue
            worker = zlib.crc32(item.key.encode()) % len(queues)
            batch = filling[worker]
            if batch is not None and batch.full_for(item):
                queues[worker].put(batch)  # waits while the worker has enough to do: memory stays bounded
                batch = None
            if batch is None:
                batch = filling[worker] = self._begin(item)
            batch.add(item)
            self._next = (source.offset, source.line)
            if time.monotonic() - self._saved_s > SAVE_PAUSE_S:
                self._save()
            if self._tally.read % BATCH_ROWS_MAX == 0:
                self._report(source, began_s)
        for worker, batch in enumerate(filling):
            if batch is not None:
                queues[worker].put(batch)

    @property
    def _ending(self) -> bool:
        return self._failure is not None or self._stopped.is_set()

    def _begin(self, record: Record) -> _Batch:
        batch = _Batch(record.offset, record.line)
        with self._lock:
            self._open[id(batch)] = batch
        return batch

    def _report(self, source: Source, began_s: float) -> None:
        with contextlib.suppress(ValueError):  # the file is closed at the very end
            self._tally.bytes_read = source.bytes_read
        self._tally.seconds = time.monotonic() - began_s
        self._progress(self._tally)

    # -------------------------------------------------------------------------------------------- writing

    def _work(self, number: int, batches: _Batches) -> None:
        """One worker: put batch after batch; after a failure only empty the queue, so that nobody waits."""
        query = f"?consistency={self._job.consistency}" if self._job.consistency else ""
        writer = BulkWriter(
            self._urls,
            self._job.place,
            query=query,
            first=number,
            patience_s=self._patience_s,
            stop=self._stopped,
        )
        while (batch := batches.get()) is not None:
            if self._ending:
                continue
            try:
                refused = writer.put(batch.records)
                for one in refused:
                    record = one.record
                    self._reject(Reject(record.offset, record.line, one.reason, record.value.decode()))
            except Exception as failure:  # noqa: BLE001 - a worker that ended would be waited for without end
                self._failure = self._failure or failure
                continue
            with self._lock:
                del self._open[id(batch)]
                self._tally.loaded += len(batch.records) - len(refused)
        writer.close()

    def _reject(self, reject: Reject) -> None:
        with self._lock:
            self._tally.rejected += 1
            try:
                with self._job.rejects.open("ab") as file:
                    file.write(reading.reject_line(reject))
            except OSError as error:
                hint = "say where rejected lines may be kept: --rejects FILE"
                what = f"{self._job.rejects}: {error.strerror or error}"
                raise Failure(what, hint=hint, code="bad_rejects") from None

    # ---------------------------------------------------------------------------------------------- state

    def _resume(self) -> tuple[int, int]:
        """Where to begin: offset and line."""
        state = read_state(self._job.state)
        if state is None:
            forget(self._job.rejects)
            return 0, 1
        if state["identity"] != self._identity:
            raise Failure(
                f"{self._job.state} is of another load: the file, the place or the key has changed since",
                hint="begin again: --restart",
                code="other_load",
            )
        offset, line = int(state["offset"]), int(state["line"])
        self._tally.resumed_at_line = line if offset else 0
        keep_rejects_before(self._job.rejects, line)
        return offset, line

    def _save(self) -> None:
        """Note the smallest offset from which everything may be missing."""
        with self._lock:
            marks = [(batch.offset, batch.line) for batch in self._open.values()]
            offset, line = min(marks, default=self._next)
        self._saved_s = time.monotonic()
        state: dict[str, object] = {"identity": self._identity, "offset": offset, "line": line}
        write_state(self._job.state, state, STATE_HINT)


def note_begin(job: Job) -> None:
    """Note that this load is under way, before anything of it is done."""
    write_state(job.state, {"identity": job.identity(), "offset": 0, "line": 1}, STATE_HINT)


def read_state(path: Path) -> dict[str, Any] | None:
    """What a state file says, None if there is none; `Failure` if it is something else."""
    state: Any = None
    try:
        state = json.loads(path.read_bytes())
        good = state["version"] == STATE_VERSION and {"identity", "offset", "line"} <= state.keys()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}", code="bad_state") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise Failure(f"{path} is no state of a load", hint="begin again: --restart", code="bad_state")
    return dict(state)


STATE_HINT: Final = "say where it may be kept: --state FILE"


def write_state(path: Path, state: dict[str, object], hint: str = "") -> None:
    """Replace the state file in one step; `hint` is of the Failure where it cannot be written."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"version": STATE_VERSION, **state}))
        fresh.replace(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}", hint=hint, code="bad_state") from None


def forget(path: Path) -> None:
    """Remove a file if there is one: on a read-only file system even to remove nothing is refused."""
    if path.exists():
        path.unlink(missing_ok=True)


def keep_rejects_before(path: Path, line: int) -> None:
    """Drop the rejects of lines that will be read again."""
    if not path.exists():
        return
    kept = [text for text in path.read_bytes().splitlines() if _line_of(text) < line]
    path.write_bytes(b"".join(text + b"\n" for text in kept))
    if not kept:
        path.unlink()


def _line_of(text: bytes) -> float:
    """The line that a reject is of; of one that is cut short, as by a full disk, one that comes again."""
    try:
        return int(json.loads(text)["line"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def dry_run(job: Job, progress: Progress) -> tuple[Tally, list[Reject]]:
    """Read the whole file and send nothing; the first rejects come along."""
    tally, began_s = Tally(), time.monotonic()
    first: list[Reject] = []
    with Source(job.file) as source:
        tally.bytes_total = source.size
        for item in reading.read_records(source, job.kind, job.key, 0, 1):
            tally.read += 1
            if isinstance(item, Reject):
                tally.rejected += 1
                if len(first) < 10:
                    first.append(item)
            else:
                tally.loaded += 1
            if tally.read % BATCH_ROWS_MAX == 0:
                tally.bytes_read, tally.seconds = source.bytes_read, time.monotonic() - began_s
                progress(tally)
    tally.seconds = time.monotonic() - began_s
    return tally, first


def make_place(urls: Sequence[str], place: Place) -> None:
    """Have the bucket or collection, so that many connections at once do not each ask for it."""
    if not is_there(urls, place):
        expect(Cluster(urls).request("PUT", place.settings_path, b"{}", {"Content-Type": "application/json"}))


def is_there(urls: Sequence[str], place: Place) -> bool:
    """Whether there is such a bucket or collection; a `Failure` if there can be none."""
    answer = Cluster(urls).request("GET", place.settings_path)
    return answer.status != NOT_FOUND and bool(expect(answer))


@contextlib.contextmanager
def progress_bar(label: str, console: Console | None = None) -> Iterator[Progress]:
    """A bar with rate and time to go on a terminal; nothing where output is a file or a pipe."""
    from rich.progress import BarColumn, Progress as Bar, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from cli.output import console as new_console

    target = console or new_console(stderr=True)
    if not target.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]} at {task.fields[rate]}/s, to go"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=target, transient=True) as bar:
        task = bar.add_task(label, total=None, count="0", rate="0")

        def show(tally: Tally) -> None:
            rate = tally.loaded / tally.seconds if tally.seconds else 0.0
            bar.update(
                task,
                total=tally.bytes_total,
                completed=tally.bytes_read,
                count=f"{tally.loaded:,}",
                rate=f"{rate:,.0f}",
            )

        yield show


def summary(tally: Tally, job: Job) -> str:
    """What a load did, in a sentence or two."""
    rate = tally.loaded / tally.seconds if tally.seconds else 0.0
    text = f"{job.place}: {count_text(tally.loaded, 'record')} loaded"
    text += f" in {tally.seconds:.1f} s ({rate:,.0f}/s)"
    if tally.resumed_at_line:
        text += f", going on at line {tally.resumed_at_line:,}"
    if tally.rejected:
        text += f"; {count_text(tally.rejected, 'line')} rejected, see {job.rejects}"
    return text


def default_state(file: Path) -> Path:
    """Beside the file."""
    return Path(os.fspath(file) + ".loading")


def default_rejects(file: Path) -> Path:
    """Beside the file."""
    return Path(os.fspath(file) + ".rejects")
