"""What a quorum's promises say, taken together. Pure.

The view decides what a round may do next. In a *settled* view every replica of the quorum has the same last
commit and nothing is left to finish. Then the rows they sent, merged, hold every update that was ever
decided: a proposal was made only after each replica of some quorum had all that came before it, and that
quorum shares a replica with ours. If replicas differ, whoever lacks the commit gets it and *all is read
again*: the rows that were sent before may lack more than that commit.

In a *quiet* view, moreover, nobody was promised a ballot above the last commit: no proposal can be under way
that could still be decided without this quorum's help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from core.cell import NO_VERSION, Version
from core.commands import NO_BALLOT, Ballot, Promised, Rows
from core.ports import PeerId
from core.row import decode_header, decode_row, newest_version


class View(msgspec.Struct, frozen=True):
    """`committed` is the last commit, `ahead` a replica that has it, `behind` those that lack it.

    `unfinished` is the ballot of a proposal that may have been decided, held by `holder` (NO_BALLOT: there is
    none). `version` is the greatest of all commits that this quorum knows.
    """

    committed: Ballot
    ahead: PeerId
    behind: tuple[PeerId, ...]
    unfinished: Ballot
    holder: PeerId
    quiet: bool
    version: Version

    @property
    def settled(self) -> bool:
        """Whether the rows may be judged."""
        return not self.behind and self.unfinished == NO_BALLOT


def view_of(promises: Mapping[PeerId, Promised]) -> View:
    """The view of a quorum of at least one."""
    committed = max(promise.committed for promise in promises.values())
    leaders = [peer for peer, promise in promises.items() if promise.committed == committed]
    holder = max(promises, key=lambda peer: promises[peer].accepted)
    accepted = promises[holder].accepted
    unfinished = accepted if accepted > committed else NO_BALLOT
    return View(
        committed=committed,
        ahead=max(leaders, key=lambda peer: promises[peer].version),
        behind=tuple(peer for peer in promises if peer not in leaders),
        unfinished=unfinished,
        holder=holder,
        quiet=unfinished == NO_BALLOT and all(p.before <= committed for p in promises.values()),
        version=max(promise.version for promise in promises.values()),
    )


def newest_read(answers: Iterable[Rows]) -> Version:
    """The greatest version in rows and headers, dead ones included."""
    version = NO_VERSION
    for answer in answers:
        for _, data in answer.rows:
            version = max(version, newest_version(decode_row(data)))
        if answer.header is not None:
            header = decode_header(answer.header)
            tombstones = (*header.ranges, *((header.deletion,) if header.deletion else ()))
            version = max([version, *(tombstone.version for tombstone in tombstones)])
    return version
