"""Statements and frames of the Cassandra Query Language (it arrives in a later version)."""
