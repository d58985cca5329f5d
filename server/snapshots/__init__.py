"""Snapshots of a peer's store, taken by the peer, and how they are put together again. See taking.py."""
