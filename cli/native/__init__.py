"""A client of the CQL protocol: `protocol` without I/O, `connection` on asyncio, `client` the session."""
