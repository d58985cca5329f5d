"""The bundled sample: loaded by `sullae up` on the first start, in a thread of its own.

Each file goes into a bucket and into a collection of its name: the same records as values and as documents.
One is loaded if it is not there, or if an earlier load of it did not come to its end (its state file
in the data directory is still there). Whatever fails here is told and stops nothing: a cluster without its
sample is a cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.bulk import Place
from cli.load import Job, Loader, is_there, make_place, note_begin, progress_bar, read_state, summary
from cli.output import Failure

if TYPE_CHECKING:
    from rich.console import Console

FOLDER: Final = Path(__file__).resolve().parent.parent / "sample"
FILES: Final = ("movies", "cities")
PLACES: Final = tuple(Place(name, documents) for name in FILES for documents in (False, True))


class Sample:
    """Loads what is missing of the sample; `done` is called at the end with what there is to say."""

    def __init__(
        self, urls: Sequence[str], data: Path, console: Console, done: Callable[[str], None]
    ) -> None:
        """`data` keeps the state of loads that did not end."""
        self._urls = urls
        self._data = data
        self._console = console
        self._done = done
        self._loader: Loader | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopped = True
        if self._loader is not None:
            self._loader.stop()

    def join(self) -> None:
        """Wait for the end, for a while."""
        self._thread.join(5)

    def _run(self) -> None:
        said = []
        try:
            said += [text for place in PLACES if not self._stopped and (text := self._load(place))]
        except Failure as failure:
            said.append(f"the sample is not loaded: {failure.text}")
        if not self._stopped:
            self._done("\n".join(said))

    def _load(self, place: Place) -> str:
        file = FOLDER / f"{place.name}.ndjson.gz"
        note = f"sample-{place.name}{'-documents' if place.documents else ''}"
        job = Job(file, place, state=self._data / f"{note}.loading", rejects=self._data / f"{note}.rejects")
        there = is_there(self._urls, place)
        if there and not job.state.exists():
            return ""
        if not file.exists():
            return f"the sample is not loaded: this installation has no {file.name}"
        if not there or not self._is_of(job):
            note_begin(job)
        with progress_bar(f"sample, {place}", self._console) as progress:
            self._loader = Loader(self._urls, job, progress)
            make_place(self._urls, place)
            return summary(self._loader.run(), job)

    def _is_of(self, job: Job) -> bool:
        """Whether the noted state is of this very file, not of the sample of another version."""
        state = read_state(job.state)
        return state is not None and state["identity"] == job.identity()
