"""One peer, inside: it decides and never waits (coordinator, replica, metadata, liveness, following)."""
