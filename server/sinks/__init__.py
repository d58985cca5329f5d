"""Sinks: a table's changes delivered to files or elsewhere by the cluster itself, at least once."""
