"""The synchronous face of `sullae.docs_bulk`, written by `generate_sync.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sullae import docs_bulk
from sullae.sync.running import BulkWriter


class DocsBulk(BulkWriter[docs_bulk.DocsBulk]):
    """Puts, patches and deletes in one collection; see `Collection.bulk`."""

    def put(self, document_id: str, document: Any, *, ttl_s: int | None=None) -> None:
        """Have the document be this soon; waits while too much is under way."""
        self._runner.run(self._it.put(document_id, document, ttl_s=ttl_s))

    def insert(self, document: Any, *, ttl_s: int | None=None) -> str:
        """Add a document soon, under an id that is made; gives the id."""
        return self._runner.run(self._it.insert(document, ttl_s=ttl_s))

    def patch(
        self, document_id: str, change: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, ttl_s: int |
        None=None
    ) -> None:
        """Edit the document soon, as `Collection.patch` does; what is not the same twice is done once."""
        self._runner.run(self._it.patch(document_id, change, ttl_s=ttl_s))

    def delete(self, document_id: str) -> None:
        """Have there be no document soon."""
        self._runner.run(self._it.delete(document_id))
