"""The words of the house: cells, rows, mutations, schema, consistency, messages, ports, errors, limits.

Imports nothing of ours.
"""
