"""Who is in the cluster, for commands that ask every peer themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cli.rest import beside
from cli.status import ask


class Member(NamedTuple):
    """A peer's name and its REST URL."""

    name: str
    url: str


def members_of(urls: Sequence[str]) -> tuple[list[Member], str]:
    """All peers in the order of their names, as the first that answers knows them, and the cluster's name.

    All have the same REST port. Raises Failure if nobody answers.
    """
    answer, told = ask(urls, "status")
    peers = told.get("peers", [])
    found = [Member(str(peer["name"]), beside(answer.url, str(peer["address"]))) for peer in peers]
    return sorted(found), str(told.get("cluster", ""))
