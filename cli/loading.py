"""`sullae load FILE`: from the command's options to a load, and what is said about it."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli import load
from cli.bulk import Place
from cli.output import ANSWERED_NO_EXIT, Failure, count_text, print_json
from cli.places import urls_to_try
from cli.records import kind_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `sullae load` was asked for."""

    file: Path
    place: Place | None
    key: str
    kind: str | None
    consistency: str | None
    restart: bool = False
    dry_run: bool = False
    state: Path | None = None
    rejects: Path | None = None

    def job(self) -> load.Job:
        """The load that this is. Raises `Failure` where the file is not there or of no known kind."""
        if not self.file.is_file():
            raise Failure(f"there is no file {self.file}", code="bad_file")
        return load.Job(
            self.file,
            self.place or Place(self.file.name.split(".")[0]),
            self.key,
            kind_of(self.file, self.kind),
            self.consistency,
            self.state or load.default_state(self.file),
            self.rejects or load.default_rejects(self.file),
        )


def load_file(wanted: Wanted, urls: Sequence[str], config: Path, *, as_json: bool) -> int:
    """Load a file, or only read it."""
    job = wanted.job()
    if wanted.dry_run:
        return _dry_run(job, as_json=as_json)
    places = urls_to_try(urls, config)
    if wanted.restart:
        load.forget(job.state)
    load.make_place(places, job.place)
    with load.progress_bar(str(job.place)) as progress:
        loader = load.Loader(places, job, progress)
        before = signal.signal(signal.SIGINT, lambda *_: loader.stop())
        try:
            tally = loader.run()
        except Failure as failure:
            if failure.code in ("bad_header", "no_key_column"):
                load.forget(job.state)  # nothing of it can be loaded
            elif job.state.exists() and not failure.hint:
                failure.hint = "what is loaded is noted: the same command goes on from there"
            raise
        finally:
            signal.signal(signal.SIGINT, before)
    if as_json:
        print_json({**_where(job), "complete": True, **dataclasses.asdict(tally)})
    else:
        print(load.summary(tally, job))
    return ANSWERED_NO_EXIT if tally.rejected else 0


def _where(job: load.Job) -> dict[str, str]:
    return {"collection" if job.place.documents else "bucket": job.place.name}


def _dry_run(job: load.Job, *, as_json: bool) -> int:
    with load.progress_bar(f"reading {job.file.name}") as progress:
        tally, first = load.dry_run(job, progress)
    if as_json:
        rejects = [{"line": reject.line, "reason": reject.reason} for reject in first]
        facts = {**_where(job), "dry_run": True, **dataclasses.asdict(tally)}
        print_json({**facts, "first_rejects": rejects})
    else:
        for reject in first:
            print(f"line {reject.line}: {reject.reason}", file=sys.stderr)
        print(f"{job.file}: {count_text(tally.loaded, 'record')} would go to the {job.place}, "
              f"{count_text(tally.rejected, 'line')} would be rejected")  # fmt: skip
    return ANSWERED_NO_EXIT if tally.rejected else 0
