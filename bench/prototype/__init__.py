"""What to measure against: quorum writes by the barest Python that keeps the promise of durability.

No errors, timeouts, hints, clocks, metadata, HTTP: three replicas, one read-merge-write per write with an
entry of a change log in the same batch, fsync by group commit before each acknowledgement.
"""
