"""Filters, limits, groups and aggregates over streams of rows: written once, used by every door."""
