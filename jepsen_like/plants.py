"""Planted bugs: does the suite see what it is there to see?

A plant is a patch to product code (an attribute, replaced in this process for a while) and the workload and
seed that catch it. Without the patch the same run is green; with it, one of the named problems must be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import msgspec

import lsm.writing
import node.metadata_state
import node.reads
from core.cell import NO_VERSION
from core.commands import Digest
from core.consistency import Need, need
from jepsen_like.run import Verdict, options_of, run, without_later
from lsm.commit import Commit
from lsm.plain import PlainReads
from lsm.reading import digest_of, read_slice
from lsm.store import Store
from node.anti_entropy import AntiEntropy
from node.following import Following
from node.hints import Hints
from node.metadata_acceptor import Acceptor
from node.metadata_state import TablePlacement
from node.reads import ReadOperation
from node.slices import merge_slices
from node.writes import Writes

Patch = tuple[Any, str, Any]
"""(owner, attribute, replacement)."""


class Plant(NamedTuple):
    """A bug, and what catches it."""

    name: str
    patches: tuple[Patch, ...]
    workload: str
    seed: int
    problems: tuple[str, ...]
    seconds: int = 10
    shape: tuple[tuple[str, Any], ...] = ()
    """Options of the run (sim/options.py) that are not the seed's: where it takes a fault of its own."""


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """The bug is there while this is open.

    States of metadata that this process remembers are forgotten: what the bug made would be met again.
    """
    before = [(owner, name, owner.__dict__[name]) for owner, name, _ in plant.patches]
    for owner, name, replacement in plant.patches:
        setattr(owner, name, replacement)
    forget_states()
    try:
        yield
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)
        forget_states()


def forget_states() -> None:
    """Forget the states of metadata that this process remembers."""
    node.metadata_state._apply_birth.cache_clear()
    node.metadata_state._apply_changes.cache_clear()


def verdict_of(plant: Plant, seed: int, with_bug: bool) -> Verdict:
    """The plant's run under a seed, with or without the bug.

    Faults of kinds that came later are left out: recorded seeds stay what they are.
    """
    if not with_bug:
        return _sound(plant.workload, seed, plant.seconds, plant.shape)
    with planted(plant):
        return _run(plant.workload, seed, plant.seconds, plant.shape)


Shape = tuple[tuple[str, Any], ...]


def _run(workload: str, seed: int, seconds: int, shape: Shape) -> Verdict:
    options = msgspec.structs.replace(without_later(options_of(seed, workload)), **dict(shape))
    return run(seed, workload, seconds, options=options)


@cache
def _sound(workload: str, seed: int, seconds: int, shape: Shape) -> Verdict:
    """Without a bug: one run for all plants of this workload, seed and shape."""
    return _run(workload, seed, seconds, shape)


def catch(plant: Plant, seeds_max: int = 20) -> Verdict | None:
    """The verdict that names the bug: under the recorded seed or, as code moves on, one of those after it."""
    for seed in range(plant.seed, plant.seed + seeds_max):
        verdict = verdict_of(plant, seed, with_bug=True)
        if any(problem.name in plant.problems for problem in verdict.problems):
            return verdict
    return None


# --- the bugs


def _release_at_once(self: Any, ticket: Any, outcome: Any, _: int) -> None:
    self._released.append((ticket, outcome))


def _release_all_at_once(self: Any, outcomes: Any) -> None:
    self._released += [(ticket, outcome) for ticket, outcome, _ in outcomes]


def _read_undurable(self: Any, command: Any) -> Any:
    rows = read_slice(self.engine, command.slice, self.info(command.slice.table).has_clustering)
    return (Digest(digest_of(rows)) if command.digest else rows), 0


def _merge_without_repair(self: Any) -> None:
    merged, _ = merge_slices(self.part, self._rows, self._placement.table.has_clustering)
    self._end(merged)


def _pretend_to_keep(*arguments: Any) -> None:
    done: Callable[[bool], None] | None = arguments[4] if len(arguments) > 4 else None
    if done is not None:
        done(True)


def _vote_without_writing(self: Any, number: int, vote: Any, peer: Any, answer: Any) -> None:
    self._votes[number] = vote
    self._reply(peer, answer)


def _do_nothing(*_: Any) -> None:
    return None


def _always(*_: Any) -> bool:
    return True


def _one_less(*arguments: Any) -> Need:
    wanted = need(*arguments)
    return msgspec.structs.replace(wanted, total=max(1, wanted.total - 1))


_written = TablePlacement.need


def _one_less_written(*arguments: Any) -> Need:
    wanted = _written(*arguments)
    return msgspec.structs.replace(wanted, total=max(1, wanted.total - 1))


def _sum_of_datacentres(*arguments: Any) -> Need:
    return msgspec.structs.replace(_written(*arguments), each=())


def _number_without_start(self: Any) -> int:
    number = self.metadata.state.number_of(self.me)
    assert number is not None
    return int(number) << 32


def _no_conflict(*_: Any) -> Any:
    return NO_VERSION


PLANTS = (
    Plant(
        "acknowledged before the sync",
        ((Commit, "add", _release_at_once), (Commit, "add_all", _release_all_at_once)),
        "set",
        3,
        ("lost", "stale"),
    ),
    Plant(
        "read before it is durable",
        ((Store, "_read", _read_undurable), (PlainReads, "read", _do_nothing)),
        "register",
        44,
        ("stale", "back"),
    ),
    Plant(
        "read repair skipped", ((ReadOperation, "_repair", _merge_without_repair),), "register", 5, ("back",)
    ),
    Plant("digests ignored", ((ReadOperation, "_agree", _always),), "register", 1, ("stale", "back")),
    Plant("hints dropped", ((Hints, "add", _pretend_to_keep),), "set-any", 2, ("lost",)),
    Plant(
        "votes not written",
        ((Acceptor, "_answer_when_durable", _vote_without_writing),),
        "metadata",
        1,
        ("two_won", "lost", "diverged", "unknown", "phantom", "not_live", "crash"),
    ),
    Plant(
        "row write ignores the partition's tombstones",
        ((lsm.writing, "covered", _no_conflict),),
        "deletes",
        1,
        ("diverged", "ghost", "stale"),
    ),
    Plant("logs not followed", ((Following, "_begin", _do_nothing),), "set", 2, ("unfollowed", "diverged")),
    Plant("not stamped again", ((lsm.writing, "newer_met", _no_conflict),), "register", 1, ("stale", "back")),
    Plant(
        "acknowledged by one less",
        ((TablePlacement, "need", _one_less_written),),
        "register",
        1,
        ("stale", "back"),
    ),
    Plant(
        "read from one less",
        ((node.reads, "need", _one_less),),
        "register",
        1,
        ("stale", "back"),
    ),
    Plant(
        "EACH_QUORUM counted as a sum over datacentres",
        ((TablePlacement, "need", _sum_of_datacentres),),
        "register-each",
        5,
        ("stale", "back"),
    ),
    Plant(
        "mutation ids repeat after a restart",
        ((Writes, "writer", property(_number_without_start)),),
        "set",
        1,
        ("lost", "stale"),
    ),
    Plant(
        "replicas never compared nor followed",
        ((Following, "_begin", _do_nothing), (AntiEntropy, "start", _do_nothing)),
        "set",
        1,
        ("diverged",),
    ),
)
