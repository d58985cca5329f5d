"""Workloads, faults and checkers for whole clusters, simulated or real."""
