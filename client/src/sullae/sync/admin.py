"""The synchronous face of `sullae.admin`, written by `generate_sync.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sullae import admin
from sullae.models import Health, PeerStatus
from sullae.sync.running import Runner


class Admin:
    """The state of the cluster, as the peer that is asked sees it."""

    def __init__(self, runner: Runner, it: admin.Admin) -> None:
        self._runner = runner
        self._it = it

    def health(self) -> Health:
        """Whether some peer serves; where none does, what the last one that was asked says."""
        return self._runner.run(self._it.health())

    def status(self) -> dict[str, Any]:
        """A peer, and all peers as it sees them."""
        return self._runner.run(self._it.status())

    def peers(self) -> Sequence[PeerStatus]:
        """All peers."""
        return self._runner.run(self._it.peers())

    def ring(self) -> dict[str, Any]:
        """Every vnode: the last token of its range, and who owns it."""
        return self._runner.run(self._it.ring())

    def schema(self) -> dict[str, Any]:
        """Keyspaces and tables."""
        return self._runner.run(self._it.schema())

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """What any other verb says: hints, following, repair, indexes, ..."""
        return self._runner.run(self._it.ask(verb))

    def metrics(self) -> str:
        """A peer's numbers in Prometheus's form."""
        return self._runner.run(self._it.metrics())
