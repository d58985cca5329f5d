"""Measurements of a running cluster: operations per second, latencies, processor time and memory."""
